#!/bin/sh
# Builds the model repository, or finds it up to date. Runs in the export image, in the folder that holds `export/`.
# What is not set, or empty, is left to the export's own defaults.
set -euf
# Engines are compiled on the first of the GPUs that are to serve, which are all of one model.
case ${TRITOUCH_GPUS:-all} in
  all) ;;
  *) export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES="${TRITOUCH_GPUS%%,*}" ;;
esac
for adapter in ${TRITOUCH_ADAPTERS:-}; do set -- "$@" --adapter "$adapter"; done
for own in ${TRITOUCH_ADAPTER_DEFAULTS:-}; do set -- "$@" --adapter-defaults "$own"; done
for option in ${TRITOUCH_OPTIONS:-}; do set -- "$@" --option "$option"; done
exec python3 -m export "$@" \
  --model "$TRITOUCH_MODEL" \
  ${TRITOUCH_REVISION:+--revision "$TRITOUCH_REVISION"} \
  --engine "$TRITOUCH_ENGINE" \
  ${TRITOUCH_PRECISION:+--precision "$TRITOUCH_PRECISION"} \
  ${TRITOUCH_MAX_PIXELS:+--max-pixels "$TRITOUCH_MAX_PIXELS"} \
  ${TRITOUCH_MAX_BATCH:+--max-batch "$TRITOUCH_MAX_BATCH"} \
  ${TRITOUCH_VAE_TILE_PIXELS:+--vae-tile-pixels "$TRITOUCH_VAE_TILE_PIXELS"} \
  ${TRITOUCH_EXPORT_MAX_IMAGES:+--max-images "$TRITOUCH_EXPORT_MAX_IMAGES"} \
  ${TRITOUCH_DEFAULT_STEPS:+--default-steps "$TRITOUCH_DEFAULT_STEPS"} \
  ${TRITOUCH_SHIFT:+--shift "$TRITOUCH_SHIFT"} \
  ${TRITOUCH_GUIDANCE_WHEN_ZERO:+--guidance-when-zero "$TRITOUCH_GUIDANCE_WHEN_ZERO"} \
  ${TRITOUCH_CACHE:+--cache "$TRITOUCH_CACHE"} \
  ${TRITOUCH_SAFETY_CHECKER:+--safety-checker "$TRITOUCH_SAFETY_CHECKER"} \
  ${TRITOUCH_PREVIEW_DECODER:+--preview-decoder "$TRITOUCH_PREVIEW_DECODER"} \
  ${TRITOUCH_CALIBRATION:+--calibration "$TRITOUCH_CALIBRATION"} \
  ${TRITOUCH_ACCEPT_QUALITY:+--accept-quality} \
  --repository "$TRITOUCH_REPOSITORY"
