# syntax=docker/dockerfile:1
# Two images from one base, so that the TensorRT that compiles a plan is the TensorRT that serves it.
ARG TRITON_TAG=26.07-py3

FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG} AS triton
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1
COPY requirements/tools.lock requirements/triton.lock /app/requirements/
# uv knows where the CPU build of torch is; the Python models' tensors are small and stay on the processor.
ENV UV_TORCH_BACKEND=cpu UV_SYSTEM_PYTHON=1 UV_BREAK_SYSTEM_PACKAGES=1 UV_NO_CACHE=1
RUN python3 -m pip install -r /app/requirements/tools.lock \
 && python3 -m uv pip install torch==2.13.0 -r /app/requirements/triton.lock
COPY deploy/tensorrt_version.py /app/deploy/
# The bindings of the very TensorRT that lies in this image; the build fails where there are none, or where they differ.
RUN version="$(python3 /app/deploy/tensorrt_version.py)" \
 && python3 -m pip install --no-deps "tensorrt-cu13-bindings==${version}" \
 && python3 /app/deploy/tensorrt_version.py --same-as-bindings
COPY embedded/__init__.py embedded/fits.py embedded/gpu.py /app/embedded/
COPY deploy/triton.sh deploy/healthy.py /app/deploy/
# Triton's working directory is empty: Python models find modules there before any other.
RUN install -d -o 1000 -g 1000 /models /empty
USER 1000:1000
WORKDIR /empty
# NVIDIA's own entrypoint stays: it finds libraries for older drivers.
CMD ["/bin/sh", "/app/deploy/triton.sh"]

FROM triton AS export
USER root
COPY requirements/export.lock /app/requirements/
RUN python3 -m uv pip install torch==2.13.0 -r /app/requirements/export.lock
COPY embedded /app/embedded
COPY families /app/families
COPY model_repository /app/model_repository
COPY export /app/export
COPY deploy/export.sh /app/deploy/
RUN install -d -o 1000 -g 1000 /hub
USER 1000:1000
WORKDIR /app
CMD ["/bin/sh", "/app/deploy/export.sh"]
