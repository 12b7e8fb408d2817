#!/bin/sh
# Train each variant of configs/ablation.yaml with each seed, score it, and summarize all of them.
#
#   scripts/ablations.sh [key=value ...]
#   ONLY="base|chunk" SEEDS=0 scripts/ablations.sh train.steps=100
#
# Environment: SEEDS ("0 1 2"), JOBS side by side (1), OUT (runs/ablations), ONLY an extended regular
# expression for names (all), PYTHON (python). A run has one thread, so that JOBS changes no result.
#
# Started again, it leaves out what is finished in OUT and resumes what was stopped. It knows runs
# by name and seed, so settings of all runs belong to an OUT of their own.
set -eu
cd "$(dirname "$0")/.."
export PYTHON="${PYTHON:-python}" OUT="${OUT:-runs/ablations}" OMP_NUM_THREADS=1

variants() {
    sed 's/  */ /g' <<'END'
base
conformer       model.encoder=conformer
sanm            model.encoder=sanm
decoder_sanm    model.decoder=sanm
no_glancing     model.sampling_ratio=0
glancing_80     model.sampling_ratio=0.8
no_ctc          loss.ctc=0 model.ctc=false
ctc_60          loss.ctc=0.6
no_smoothing    loss.label_smoothing=0
no_stacking     features.stack=1 features.stride=1 data.batch_frames=1800
stack_5         features.stack=5 features.stride=4 data.batch_frames=450
no_bucketing    data.bucketing=false
chunk_5         model.stream.chunk=5 model.stream.left=20 model.stream.right=2
chunk_10        model.stream.chunk=10 model.stream.left=20 model.stream.right=5
END
}

# The folder of a run, finished or not: find_run NAME SEED
find_run() {
    for config in "$OUT"/*-"$1"-??????/config.yaml; do
        if [ -f "$config" ] && grep -qx "seed: $2" "$config"; then
            dirname "$config"
        fi
    done | tail -n 1
}

# Train and score what is not done yet: one NAME SEED [key=value ...]
one() {
    name=$1 seed=$2
    shift 2
    folder=$(find_run "$name" "$seed")
    if [ -z "$folder" ] || [ ! -f "$folder/checkpoints/last.pt" ]; then
        folder=$("$PYTHON" -m paraformer_asr train --quiet --config configs/ablation.yaml \
            "name=$name" "seed=$seed" "out=$OUT" train.device=cpu "$@" 2>>"$OUT/log.txt")
    elif [ ! -f "$folder/metrics.json" ]; then
        "$PYTHON" -m paraformer_asr train --quiet --resume "$folder" >/dev/null 2>>"$OUT/log.txt"
    fi
    if [ ! -f "$folder/evaluation_test.json" ]; then
        "$PYTHON" -m paraformer_asr evaluate --run "$folder" --device cpu >"$folder/report_test.txt"
    fi
    echo "$folder"
}

# xargs joins a line that ends in a blank to the next one; hence the sed before it.
mkdir -p "$OUT"
if [ "${1:-}" = --one ]; then
    shift
    one "$@"
    exit
fi
for seed in ${SEEDS:-0 1 2}; do
    variants | grep -E "^(${ONLY:-.*})" | while read -r name settings; do
        echo "$name $seed $settings $*"
    done
done | sed 's/ *$//' | xargs -L 1 -P "${JOBS:-1}" scripts/ablations.sh --one
"$PYTHON" -m paraformer_asr summarize "$OUT" --out "$OUT/summary" --baseline base
