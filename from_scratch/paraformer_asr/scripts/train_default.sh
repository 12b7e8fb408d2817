#!/bin/sh
# Train the default model on toy speech, then score it on the test split.
#
#   scripts/train_default.sh [key=value ...]
#
#   scripts/train_default.sh seed=1 train.steps=500
#
# The last line on stdout is the run folder; it holds the model, the curves and the scores.
# Another interpreter than `python`: PYTHON=.venv/bin/python scripts/train_default.sh
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

folder=$("$python" -m paraformer_asr train --quiet --config configs/default.yaml "$@")
"$python" -m paraformer_asr evaluate --run "$folder" >"$folder/report_test.txt"
cat "$folder/report_test.txt"
printf '%s\n' "$folder"
