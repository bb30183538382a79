#!/bin/sh
# bench/gpu.sh [WHEELS]: installs what is missing from a folder of wheels, with no network, and measures this GPU.
# On a machine with a network, fill the folder for the GPU machine's Python with:
#   python3 -m pip wheel --wheel-dir WHEELS --no-deps -r requirements/cpu.lock
#   python3 -m pip wheel --wheel-dir WHEELS torch==2.13.0 cuda-bindings tensorrt-rtx-cu13==1.7.1.116
set -eu
[ $# -le 1 ] || { echo "usage: bench/gpu.sh [WHEELS]" >&2; exit 2; }
[ $# -eq 0 ] || [ -d "$1" ] || { echo "bench/gpu.sh: there is no folder $1" >&2; exit 2; }
wheels="${1:+$(cd "$1" && pwd)}"
cd "$(dirname "$0")/.."
mkdir -p build
# What the machine has already, torch above all, is used and not copied.
python3 -m venv --system-site-packages build/gpu-venv
if [ -n "$wheels" ]; then
  build/gpu-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-index --find-links "$wheels" \
    torch cuda-bindings tensorrt-rtx-cu13 -r requirements/cpu.lock
fi
exec build/gpu-venv/bin/python -m bench.gpu
