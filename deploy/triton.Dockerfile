# syntax=docker/dockerfile:1
# Three images from one base, so that the TensorRT that compiles a plan is the TensorRT that serves it.
ARG TRITON_TAG=26.07-py3

FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG} AS triton
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1
COPY requirements/tools.lock requirements/triton.lock /app/requirements/
# uv knows where the CPU build of torch is; the Python models' tensors are small and stay on the processor.
ENV UV_TORCH_BACKEND=cpu UV_SYSTEM_PYTHON=1 UV_BREAK_SYSTEM_PACKAGES=1 UV_NO_CACHE=1
# The image's own pip comes from Debian's packages and cannot replace itself.
RUN python3 -m pip install "$(grep '^uv==' /app/requirements/tools.lock)" \
 && python3 -m uv pip install torch==2.13.0 -r /app/requirements/triton.lock
COPY deploy/tensorrt_version.py /app/deploy/
# The bindings of the very TensorRT that lies in this image; the build fails where there are none, or where they differ.
RUN version="$(python3 /app/deploy/tensorrt_version.py)" \
 && python3 -m pip install --no-deps "tensorrt-cu13-bindings==${version}" \
 && python3 /app/deploy/tensorrt_version.py --same-as-bindings
COPY backends/__init__.py backends/compatibility.py backends/gpu.py /app/backends/
COPY embedded/__init__.py embedded/command.py embedded/memory.py embedded/supervisor.py /app/embedded/
COPY deploy/serve_triton.py deploy/healthy.py /app/deploy/
# Triton's working directory is empty: Python models find modules there before any other.
RUN install -d -o 1000 -g 1000 /models /empty
USER 1000:1000
WORKDIR /empty
ENV ENGINES=tensorrt
# NVIDIA's own entrypoint stays: it finds libraries for older drivers.
CMD ["python3", "/app/deploy/serve_triton.py"]

# NVIDIA's OpenVINO backend takes calls of one number of rows alone, and chooses the precision by itself. In its place
# comes this project's own.
FROM triton AS triton-cpu
USER root
COPY requirements/export.lock /app/requirements/
RUN python3 -m uv pip install openvino --constraint /app/requirements/export.lock \
 && rm -rf /opt/tritonserver/backends/openvino
COPY backends/openvino /opt/tritonserver/backends/openvino/
COPY backends/*.py /opt/tritonserver/backends/openvino/backends/
ENV ENGINES=openvino GLIBC_TUNABLES=glibc.malloc.hugetlb=1
USER 1000:1000

FROM triton AS export
USER root
COPY requirements/export.lock /app/requirements/
RUN python3 -m uv pip install torch==2.13.0 -r /app/requirements/export.lock
COPY backends /app/backends
COPY families /app/families
COPY model_repository /app/model_repository
COPY export /app/export
COPY deploy/export.sh /app/deploy/
RUN install -d -o 1000 -g 1000 /hub
USER 1000:1000
WORKDIR /app
CMD ["/bin/sh", "/app/deploy/export.sh"]
