#!/usr/bin/env bash
# Queues the default recipe and what one change of it does, six seeds each; `dvc exp run --run-all -j 3` then runs them all.
set -euo pipefail
queue() { dvc exp run -q --queue -S 'train.seed=range(1,7)' "$@"; }

queue -n plain
queue -n no-augmentation -S train.shift=0 -S train.rotation=0 -S train.zoom=0
queue -n no-convolution -S 'train.filters=[]' -S 'train.kernel_sizes=[]'
queue -n wide -S 'train.filters=[[32],[64,128]]' -S 'train.dense_units=[256]'
queue -n dropout -S train.dropout=0.5
