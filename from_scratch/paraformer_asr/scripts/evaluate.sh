#!/bin/sh
# Score trained models on one split, each by the data of its own configuration.
#
#   scripts/evaluate.sh RUN [RUN ...]
#   SPLIT=valid scripts/evaluate.sh runs/*-digits-*
#
# RUN is a run folder. Each gets evaluation_SPLIT.json, utterances_SPLIT.csv, confusions_SPLIT.csv
# and examples_SPLIT.png, and the report is printed. Environment: SPLIT (test), PYTHON (python).
set -eu
if [ $# -eq 0 ]; then
    echo "usage: scripts/evaluate.sh RUN [RUN ...]" >&2
    exit 2
fi
for folder in "$@"; do
    "${PYTHON:-python}" -m paraformer_asr evaluate --run "$folder" --split "${SPLIT:-test}"
done
