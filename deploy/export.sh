#!/bin/sh
# Builds the model repository, or finds it up to date. Runs in the export image, in the folder that holds `export/`.
set -euf
for adapter in ${TRITOUCH_ADAPTERS:-}; do set -- "$@" --adapter "$adapter"; done
exec python3 -m export "$@" \
  --model "$TRITOUCH_MODEL" \
  ${TRITOUCH_REVISION:+--revision "$TRITOUCH_REVISION"} \
  --engine "$TRITOUCH_ENGINE" \
  --precision "${TRITOUCH_PRECISION:-auto}" \
  --max-pixels "${TRITOUCH_MAX_PIXELS:-262144}" \
  --max-batch "${TRITOUCH_MAX_BATCH:-12}" \
  --guidance-when-zero "${TRITOUCH_GUIDANCE_WHEN_ZERO:-7.5}" \
  --repository "$TRITOUCH_REPOSITORY"
