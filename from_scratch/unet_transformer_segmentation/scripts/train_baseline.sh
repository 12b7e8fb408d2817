#!/bin/sh
# Train the U-Net, the baseline, on toy shapes: configs/baseline.yaml.
#
#   scripts/train_baseline.sh [key=value ...]       overrides, such as train.steps=200 seed=1
#
# The last line printed is the run folder, where everything is. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m unet_seg train --config configs/baseline.yaml "$@"
