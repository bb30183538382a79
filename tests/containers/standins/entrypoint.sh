#!/bin/sh
# As NVIDIA's: becomes the command.
exec "$@"
