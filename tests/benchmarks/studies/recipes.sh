#!/usr/bin/env bash
# Queues the default recipe and what one change of it does, six seeds each; `dvc exp run --run-all -j 3` then runs them all.
set -euo pipefail
queue() { dvc exp run -q --queue -S 'train.seed=range(1,7)' "$@"; }

queue -n plain
queue -n all-examples -S train.hard_example_fraction=1
queue -n fewer-hard -S train.hard_examples_per_error=4
queue -n all-augmented -S train.augmented_fraction=1
queue -n no-decay -S train.weight_decay=0
queue -n beta -S train.beta_2=0.999
queue -n small-batch -S train.batch_size=128 -S train.learning_rate=0.0057
queue -n slow -S train.learning_rate=0.004
queue -n all-3x3 -S 'train.kernel_sizes=[3,3]'
queue -n no-warmup -S train.warmup=0
queue -n dropout -S train.dropout=0.2
