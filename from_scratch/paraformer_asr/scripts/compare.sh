#!/bin/sh
# Train several configurations with the same seeds, score each run, and set them side by side.
#
#   scripts/compare.sh NAME NAME [NAME ...] [key=value ...]
#   SEEDS="0 1 2" scripts/compare.sh default conformer sanm train.steps=1000
#
# NAME stands for configs/NAME.yaml; the first is what the others are compared with. Settings go to
# all runs. Environment: SEEDS ("0"), OUT (runs/compare), PYTHON (python). At the end OUT/summary
# holds summary.csv, summary.md and comparison.png of all runs in OUT.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
out=${OUT:-runs/compare}
names=
while [ $# -gt 0 ] && [ "${1#*=}" = "$1" ]; do
    names="$names $1"
    shift
done
if [ -z "$names" ]; then
    echo "usage: scripts/compare.sh NAME NAME [NAME ...] [key=value ...]" >&2
    exit 2
fi
for seed in ${SEEDS:-0}; do
    for name in $names; do
        folder=$("$python" -m paraformer_asr train --quiet --config "configs/$name.yaml" \
            "$@" "out=$out" "seed=$seed")
        "$python" -m paraformer_asr evaluate --run "$folder" >"$folder/report_test.txt"
        echo "$folder"
    done
done
first=${names# }
exec "$python" -m paraformer_asr summarize "$out" --out "$out/summary" --baseline "${first%% *}"
