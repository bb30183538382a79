#!/bin/sh
# bench/gpu.sh [WHEELS]: installs what is missing from a folder of wheels, with no network, and measures this GPU.
# On a machine with a network, fill the folder for the GPU machine's Python with:
#   python3 -m pip wheel --wheel-dir WHEELS --no-deps -r requirements/cpu.lock
#   python3 -m pip wheel --wheel-dir WHEELS torch==2.13.0 cuda-bindings
set -eu
[ $# -le 1 ] || { echo "usage: bench/gpu.sh [WHEELS]" >&2; exit 2; }
[ $# -eq 0 ] || [ -d "$1" ] || { echo "bench/gpu.sh: there is no folder $1" >&2; exit 2; }
wheels="${1:+$(cd "$1" && pwd)}"
cd "$(dirname "$0")/.."
mkdir -p build
python3 -m venv --clear build/gpu-venv
python=build/gpu-venv/bin/python
install() { "$python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$wheels" "$@"; }
if [ -n "$wheels" ]; then
  install --no-deps -r requirements/cpu.lock
  for package in torch cuda-bindings; do
    python3 -m pip show --quiet "$package" 2>/dev/null || install "$package"
  done
fi
# What the machine has already, torch above all, is used and not copied: linked, for its Python may be a venv, too, and
# Triton's models look into one folder of packages alone.
python3 bench/link_packages.py "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
exec "$python" -m bench.gpu
