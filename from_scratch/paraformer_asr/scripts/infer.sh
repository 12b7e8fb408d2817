#!/bin/sh
# Write down recordings with the newest trained model of a name, or with a given one.
#
#   scripts/infer.sh MODEL INPUT [INPUT ...] [option ...]
#   scripts/infer.sh digits recordings/ --timestamps
#
# MODEL: a run folder, a .pt file, or the name of a configuration, which stands for its newest
# finished run in RUNS (runs). INPUT: .wav or .npy files, folders of them or quoted globs. Options
# are those of `python -m paraformer_asr infer`, such as --out FOLDER, --picture or --stream.
# Another interpreter than `python`: PYTHON=.venv/bin/python
set -eu
if [ $# -lt 2 ]; then
    echo "usage: scripts/infer.sh MODEL INPUT [INPUT ...] [option ...]" >&2
    exit 2
fi
model=$1
shift
if [ ! -e "$model" ]; then
    newest=
    for metrics in "${RUNS:-runs}"/*-"$model"-??????/metrics.json; do # names sort by time
        [ ! -f "$metrics" ] || newest=${metrics%/*}
    done
    if [ -z "$newest" ]; then
        echo "error: $model is no file, and ${RUNS:-runs} has no finished run of that name." >&2
        exit 1
    fi
    model=$newest
fi
exec "${PYTHON:-python}" -m paraformer_asr infer --run "$model" "$@"
