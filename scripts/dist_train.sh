#!/usr/bin/env bash
# Train with several processes, one a GPU: bash scripts/dist_train.sh GPUS FILE.yml [arguments of kdsr/train.py]
# PORT=29501 in front lets two runs share a machine; PYTHON names the interpreter.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n 2,3p "$0" | cut -c3-
    exit 2
fi
gpus=$1 file=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run --nproc_per_node="$gpus" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/../kdsr/train.py" -opt "$file" --launcher pytorch "$@"
