#!/bin/sh
# Train the U-Net with a transformer at its bottom, on toy shapes: configs/hybrid.yaml.
#
#   scripts/train_hybrid.sh [key=value ...]       overrides, such as train.steps=200 seed=1
#
# The last line printed is the run folder, where everything is. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m unet_seg train --config configs/hybrid.yaml "$@"
