#!/bin/sh
# bench/gpu.sh [WHEELS]: installs what is missing from a folder of wheels, with no network, and measures this GPU.
# On a machine with a network, fill the folder for the GPU machine's Python with:
#   python3 -m pip download --dest WHEELS --no-deps -r requirements/cpu.lock
#   python3 -m pip download --dest WHEELS torch==2.13.0 cuda-bindings tensorrt-rtx-cu13==1.7.1.116
set -eu
cd "$(dirname "$0")/.."
mkdir -p build
# What the machine has already, torch above all, is used and not copied.
python3 -m venv --system-site-packages build/gpu-venv
if [ $# -gt 0 ]; then
  build/gpu-venv/bin/python -m pip install --quiet --no-index --find-links "$1" \
    torch==2.13.0 cuda-bindings tensorrt-rtx-cu13 "numpy<2" diffusers transformers accelerate onnx onnxruntime onnxscript \
    rich pillow openvino nvidia-pytriton pydantic-settings "tritonclient[grpc]" fastapi
fi
exec build/gpu-venv/bin/python -m bench.gpu
