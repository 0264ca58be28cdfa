#!/usr/bin/env bash
# Try every Python of this machine: install, run the tests and the smallest quickstart, and print a table.
#
#   bash scripts/try_pythons.sh                         # python3.10 to python3.14 on the PATH and in pyenv
#   bash scripts/try_pythons.sh python3.13 /opt/py/bin/python
#   SET=oldest bash scripts/try_pythons.sh python3.10   # the oldest versions that setup.py accepts
#   SET=newest bash scripts/try_pythons.sh python3.13   # the newest ones; TORCH='torch==2.14.1 torchvision==0.29.1'
#
# TESTS='-n 2' has the arguments of pytest (TESTS=none leaves the tests out), FOLDER the place of clones and
# environments (several GB each; they are removed at the end unless KEEP=1). The last commit is tried. With the FOLDER
# of an interrupted try, its environments are used again.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
set=${SET:-tested} tests=${TESTS:--n 2} folder=${FOLDER:-$(mktemp -d)}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PIP_DISABLE_PIP_VERSION_CHECK=1

find_pythons() {
    for minor in 10 11 12 13 14; do
        found=$(command -v "python3.$minor" || true)
        "${found:-false}" -c '' 2>/dev/null || found=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python 2>/dev/null | tail -1)
        [ -n "$found" ] && echo "$found"
    done
}

install_into() { # install_into PYTHON CLONE
    if [ "$set" = tested ]; then
        make -C "$2" lint PYTHON="$1"
        return
    fi
    "$1" -m venv "$2/.venv" || return
    "$2/.venv/bin/python" "$2/scripts/install_basicsr.py" || return
    local pins=()
    if [ "$set" = oldest ]; then
        mapfile -t pins < <(sed -n "/install_requires/,/]/s/.*'\(.*\)>=\([0-9.]*\).*'.*/\1==\2/p" "$2/setup.py")
    elif [ -n "${TORCH:-}" ]; then
        read -ra pins <<< "$TORCH"
    fi
    (cd "$2" && .venv/bin/python -m pip install "${pins[@]}" -e '.[dev]' && .venv/bin/python -m pip check)
}

versions() { # versions PYTHON: the cells of the table
    "$1" - <<'PY'
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
cells = [python_version()]
for name in ('torch', 'torchvision', 'numpy', 'scipy', 'opencv-python', 'pillow'):
    try:
        cells.append(version(name))
    except PackageNotFoundError:
        cells.append('-')
print(' | '.join(cells))
PY
}

clone_into() { # clone_into FOLDER: the last commit, whatever was there
    [ -d "$1" ] || git clone -q "$root" "$1" || return
    git -C "$1" fetch -q "$root" HEAD && git -C "$1" checkout -q --force --detach FETCH_HEAD
}

try() { # try PYTHON: one row of the table
    local name clone log python installed=failed tested=- ran=- arguments=$tests
    name=$("$1" -c 'import platform; print(platform.python_version())')-$set
    clone=$folder/$name log=$folder/$name.log
    clone_into "$clone" || return
    python=$clone/.venv/bin/python
    echo "== $1 ($set): $log" >&2
    if install_into "$1" "$clone" > "$log" 2>&1; then
        installed=yes
        if [ "$tests" != none ]; then
            # the newest pyparsing warns about the oldest matplotlib, and so on
            [ "$set" = oldest ] && arguments="$tests -W ignore::DeprecationWarning"
            # shellcheck disable=SC2086 # several arguments
            (cd "$clone" && KDSR_SHARED="${KDSR_SHARED:-}" "$python" -m pytest $arguments) >> "$log" 2>&1
            tested=$(grep -E '^=* ?[0-9]+ (passed|failed).* in ' "$log" | tail -1 | sed 's/^=* *//; s/ in .*//')
        fi
        sed -i 's/total_iter: .*/total_iter: 8/; s/^distillation:/&\n  health_check: false  # of teachers that learnt nothing/' "$clone"/options/quickstart/*.yml
        (cd "$clone" && "$python" -m kdsr quickstart) >> "$log" 2>&1 && ran=yes || ran=failed
    fi
    echo "| $(versions "$python" 2>/dev/null || echo "$1") | $installed | ${tested:-failed} | $ran |" | tee -a "$folder/rows" >&2
    [ -n "${KEEP:-}" ] || rm -rf "$clone"
}

if [ $# -eq 0 ]; then
    mapfile -t pythons < <(find_pythons)
    set -- "${pythons[@]}"
fi
: > "$folder/rows"
for python in "$@"; do
    try "$python"
done
echo
echo "$(date +%F), $(uname -s) $(uname -m), commit $(git -C "$root" rev-parse --short=10 HEAD), the $set versions:"
echo
echo '| Python | torch | torchvision | numpy | scipy | OpenCV | Pillow | install | tests | quickstart, shortened |'
echo '|---|---|---|---|---|---|---|---|---|---|'
cat "$folder/rows"
echo
echo "Logs: $folder"
grep -q failed "$folder/rows" && exit 1 || exit 0
