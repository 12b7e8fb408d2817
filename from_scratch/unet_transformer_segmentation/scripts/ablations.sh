#!/bin/sh
# Train every ablation of configs/ablation.yaml, one change at a time, and summarize them.
#
#   scripts/ablations.sh [key=value ...]          overrides of all runs, such as train.steps=50
#
# Environment: SEEDS ("0 1 2"), JOBS runs at a time (2), OUT (runs/ablations), ONLY (all variants).
# Each run uses one thread, so its result does not depend on the number of jobs. At the end
# OUT/summary holds summary.csv, summary.md and comparison.png.
set -eu
cd "$(dirname "$0")/.."
SEEDS=${SEEDS:-"0 1 2"}
JOBS=${JOBS:-2}
OUT=${OUT:-runs/ablations}
ONLY=${ONLY:-.}
PYTHON=${PYTHON:-python}
export OMP_NUM_THREADS=1 OUT PYTHON

variants() {
    cat <<'TABLE'
base
unet model.name=unet
depth_4 model.depth=4
window_4 model.window=4
plain_stages model.residual=false
norm_group model.norm=group
up_transpose model.up=transpose
stem_stride_1 model.stem_stride=1
deep_supervision model.deep_supervision=true
loss_ce loss.name=ce
loss_dice loss.name=dice
loss_focal loss.name=focal
loss_lovasz loss.name=lovasz
loss_ce_lovasz loss.name=ce_lovasz
no_average optim.ema_decay=null
sgd optim.name=sgd optim.lr=0.1
fp32 train.precision=fp32
flips data.augment.hflip=0.5 data.augment.vflip=0.5
images_64 data.toy.num_train=64
images_64_flips data.toy.num_train=64 data.augment.hflip=0.5 data.augment.vflip=0.5
TABLE
}

mkdir -p "$OUT"
variants | grep -E "$ONLY" | while read -r name overrides; do
    for seed in $SEEDS; do
        echo "name=$name seed=$seed out=$OUT $overrides $*"
    done
done | xargs -P "$JOBS" -I LINE sh -c \
    '"$PYTHON" -m unet_seg train --quiet --config configs/ablation.yaml LINE 2>>"$OUT/log.txt"'
"$PYTHON" -m unet_seg summarize "$OUT" --out "$OUT/summary"
