#!/usr/bin/env bash
# Train under SLURM: sbatch --gres=gpu:4 --ntasks=4 scripts/slurm_train.sh FILE.yml [arguments of kdsr/train.py]
# One task is one process is one GPU. A job that gets a signal to end saves its state; the same line resumes it.
#SBATCH --job-name=kdsr
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n 2,3p "$0" | cut -c3-
    exit 2
fi
file=$1
shift
srun "${PYTHON:-python}" kdsr/train.py -opt "$file" --launcher slurm --auto_resume "$@"
