#!/usr/bin/env bash
# Checks that jobs would find all they need, then runs the command that starts them, with what experiment.sh reads in their environment.
#
#   [STUDY=name] submit.sh COMMAND...
#   submit.sh sbatch --array=1-12 stages/jobs/experiment.sh -S train.dropout=0.2
set -euo pipefail

fail() { echo "submit.sh: $1" >&2; exit 1; }
[ $# -gt 0 ] || fail "which command? As in: submit.sh sbatch --array=1-12 stages/jobs/experiment.sh"
[ -z "$(git status --porcelain)" ] || fail "there are changes that are not committed, which the jobs would lack: git status"
REPOSITORY=$(git remote get-url origin 2>&1) || fail "there is no git remote, origin, for the jobs to clone and to push to"
COMMIT=$(git rev-parse HEAD)
git fetch -q origin || fail "git cannot fetch from $REPOSITORY"
[ -n "$(git branch -r --contains HEAD)" ] || fail "$REPOSITORY lacks this commit: git push"
[ -n "$(dvc config core.remote 2>/dev/null)" ] || fail "DVC has no default remote for the results: see stages/README.md, Share results"
PROJECT=$(git rev-parse --show-prefix)
CONFIG=$PWD/.dvc/config.local
STUDY=${STUDY:-$(date +study-%m%d-%H%M%S)}
export REPOSITORY COMMIT PROJECT CONFIG STUDY
"$@"
echo "submit.sh: when they are done: dvc exp pull origin, then python -m stages.views.study '$STUDY-*'"
