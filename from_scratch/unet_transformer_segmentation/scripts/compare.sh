#!/bin/sh
# Train baseline and hybrid over several seeds, score them on the test split and compare them.
#
#   scripts/compare.sh [key=value ...]              overrides of all runs, such as train.steps=500
#
# Environment: SEEDS ("0 1 2"), OUT (runs/compare), PYTHON (python). Both train on the same images
# with the same seeds, so the summary also has the differences seed by seed. Runs go one after the
# other, each on all cores. At the end OUT/summary holds summary.csv, summary.md and comparison.png;
# runs that were in OUT before are in it too.
set -eu
cd "$(dirname "$0")/.."
SEEDS=${SEEDS:-"0 1 2"}
OUT=${OUT:-runs/compare}
PYTHON=${PYTHON:-python}

for seed in $SEEDS; do
    for name in baseline hybrid; do
        run=$("$PYTHON" -m unet_seg train --quiet --config "configs/$name.yaml" \
            "seed=$seed" "out=$OUT" "$@")
        "$PYTHON" -m unet_seg evaluate --run "$run" >"$run/evaluation_test.txt"
        echo "$run"
    done
done
"$PYTHON" -m unet_seg summarize "$OUT" --baseline baseline --out "$OUT/summary"
