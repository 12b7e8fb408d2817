#!/bin/sh
# Score a run on the images of its test split, with surface distances.
#
#   scripts/evaluate.sh RUN [option ...]            RUN: run folder or .pt file
#
# Options are those of `python -m unet_seg evaluate`, such as --split valid, --tta or --window 256.
# Prints a table per class and writes evaluation_test.json, per_class_test.csv, per_image_test.csv
# and examples_test.png into the run folder. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
: "${1:?usage: scripts/evaluate.sh RUN [option ...]}"
run=$1
shift
exec "${PYTHON:-python}" -m unet_seg evaluate --run "$run" --surface "$@"
