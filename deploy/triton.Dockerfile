# Three images from one base, so that the TensorRT that compiles a plan is the TensorRT that serves it.
# COPY sets its own modes: a checkout made with umask 077 is unreadable for uid 1000.
ARG TRITON_TAG=26.07-py3

FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG} AS triton
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1
COPY --chmod=755 requirements/tools.lock requirements/triton.lock /app/requirements/
# uv knows where the CPU build of torch is; the Python models' tensors are small and stay on the processor.
# Modules are compiled here: a container can write none, and would compile them at every start, in every process.
ENV UV_TORCH_BACKEND=cpu UV_SYSTEM_PYTHON=1 UV_BREAK_SYSTEM_PACKAGES=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
# The image's own pip comes from Debian's packages and cannot replace itself.
RUN python3 -m pip install "$(grep '^uv==' /app/requirements/tools.lock)" \
 && python3 -m uv pip install torch==2.13.0 -r /app/requirements/triton.lock
COPY --chmod=755 deploy/tensorrt_version.py /app/deploy/
# The bindings of the very TensorRT that lies in this image; the build fails where there are none, or where they differ.
RUN version="$(python3 /app/deploy/tensorrt_version.py)" \
 && python3 -m pip install --no-deps "tensorrt-cu13-bindings==${version}" \
 && python3 /app/deploy/tensorrt_version.py --same-as-bindings
# The denoiser's own backend: CUDA's driver API, and what reads a plan.
COPY --chmod=755 requirements/export.lock /app/requirements/
RUN python3 -m uv pip install cuda-bindings --constraint /app/requirements/export.lock
COPY --chmod=755 backends/tensorrt_in_place /opt/tritonserver/backends/tensorrt_in_place/
COPY --chmod=755 backends/*.py /opt/tritonserver/backends/tensorrt_in_place/backends/
COPY --chmod=755 backends/__init__.py backends/compatibility.py backends/gpu.py backends/machine.py backends/processor.py /app/backends/
COPY --chmod=755 embedded/__init__.py embedded/command.py embedded/errors.py embedded/memory.py embedded/revival.py embedded/several.py embedded/shared_memory.py embedded/supervisor.py embedded/triton_settings.py /app/embedded/
COPY --chmod=755 gateway/__init__.py gateway/collector.py /app/gateway/
COPY --chmod=755 deploy/serve_triton.py deploy/healthy.py /app/deploy/
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
RUN python3 -m uv pip install openvino --constraint /app/requirements/export.lock \
 && rm -rf /opt/tritonserver/backends/openvino
COPY --chmod=755 backends/openvino /opt/tritonserver/backends/openvino/
COPY --chmod=755 backends/*.py /opt/tritonserver/backends/openvino/backends/
ENV ENGINES=openvino GLIBC_TUNABLES=glibc.malloc.hugetlb=1
USER 1000:1000

FROM triton AS export
USER root
RUN python3 -m uv pip install torch==2.13.0 -r /app/requirements/export.lock
COPY --chmod=755 backends /app/backends
COPY --chmod=755 families /app/families
COPY --chmod=755 model_repository /app/model_repository
COPY --chmod=755 export /app/export
COPY --chmod=755 deploy/export.sh /app/deploy/
RUN install -d -o 1000 -g 1000 /hub
USER 1000:1000
WORKDIR /app
CMD ["/bin/sh", "/app/deploy/export.sh"]
