#!/bin/sh
# Segment images with a trained run.
#
#   scripts/infer.sh RUN IMAGE ... [option ...]     IMAGE: image file, folder or quoted glob
#
# Options are those of `python -m unet_seg infer`, such as --out FOLDER (predictions), --tta or
# --window 256. Writes NAME_mask.png, NAME_overlay.png and NAME.json for each image and prints the
# masks. PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")/.."
usage="usage: scripts/infer.sh RUN IMAGE ... [option ...]"
: "${1:?$usage}" "${2:?$usage}"
run=$1
shift
exec "${PYTHON:-python}" -m unet_seg infer --run "$run" "$@"
