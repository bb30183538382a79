#!/bin/sh
# Serves the model repository, once its engines are known to be made for this GPU and this TensorRT. Hardened as NVIDIA's guide
# for secure deployment says: nothing of the server can be changed, and no client's shared memory is read.
set -eu
code="$(dirname "$(dirname "$(readlink -f "$0")")")"
(cd "$code" && python3 -m backends.compatibility "$TRITOUCH_REPOSITORY" --served "$ENGINES")
# Restricted parts open to whoever sends this key, and nobody knows it.
key="$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
closed="shared-memory,model-repository,trace,logging:tritouch-key=$key"
cache="${TRITOUCH_TRITON_CACHE_BYTES:-67108864}"
shm="${TRITOUCH_TRITON_SHM_BYTES:-8388608}"
[ "$cache" = 0 ] || set -- "$@" "--cache-config=local,size=$cache"
exec tritonserver \
  "--model-repository=$TRITOUCH_REPOSITORY" \
  --model-control-mode=none \
  --disable-auto-complete-config \
  --strict-readiness=true \
  --exit-on-error=true \
  --exit-timeout-secs=30 \
  "--http-port=${TRITOUCH_TRITON_HTTP_PORT:-8000}" \
  "--grpc-port=${TRITOUCH_TRITON_GRPC_PORT:-8001}" \
  "--metrics-port=${TRITOUCH_TRITON_METRICS_PORT:-8002}" \
  "--http-restricted-api=$closed" \
  "--grpc-restricted-protocol=$closed" \
  --allow-sagemaker=false \
  --allow-vertex-ai=false \
  --backend-config=python,stub-timeout-seconds=300 \
  "--backend-config=python,shm-default-byte-size=$shm" \
  "--backend-config=python,shm-growth-byte-size=$shm" \
  "$@"
