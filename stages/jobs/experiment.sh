#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out
# One experiment in a clone of its own, which shares nothing with other jobs: clone, run, push, remove.
#
#   experiment.sh SEED [OPTION of dvc exp run]...       SEED is not given, but the task's number, in a Slurm array
#
# REPOSITORY  is cloned, and the experiment pushed to it; its results go to DVC's default remote
# COMMIT      is what the experiment starts from
# PROJECT     is the project's folder there, if it is not the whole repository
# STUDY       and the seed are the experiment's name
# SCRATCH     is the folder for the clones (else TMPDIR); on a disk that the machines share, a job that is started again, on
#             any of them, resumes from its last epoch
set -euo pipefail

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  set -- "$SLURM_ARRAY_TASK_ID" "$@"
  export TF_NUM_INTEROP_THREADS=${SLURM_CPUS_PER_TASK:-1}
fi
: "${1:?which seed?}" "${STUDY:?start it by: stages/jobs/submit.sh}"
name=$STUDY-$1
folder=${SCRATCH:-${TMPDIR:-/tmp}}/$name
echo "$name: in $folder on $(hostname)"

exec 9>"$folder.lock" && flock 9  # of a worker that is gone, the job may live on
if git ls-remote --exit-code "$REPOSITORY" "refs/exps/${COMMIT:0:2}/${COMMIT:2}/$name" >/dev/null; then
  echo "$name: is there"
  exit
fi
if [ ! -e "$folder/.git/whole" ]; then
  rm -rf "$folder"
  git clone -q --no-checkout "$REPOSITORY" "$folder"
  git -C "$folder" checkout -q --detach "$COMMIT"
  [ ! -e "${CONFIG:-}" ] || cp "$CONFIG" "$folder/${PROJECT:-}.dvc/config.local"  # the keys of the remote
  touch "$folder/.git/whole"
fi
rm -f "$folder/.git/index.lock" "$folder/${PROJECT:-}.dvc/tmp/rwlock"  # which a killed job leaves
cd "$folder/${PROJECT:-}"
git config user.name experiment && git config user.email "experiment@$(hostname)"

if ! dvc exp list --name-only | grep -qx "$name"; then
  git checkout -q -f "$COMMIT"
  dvc exp run --name "$name" -S "train.seed=$1" "${@:2}"
fi
for wait in 10 60 300 0; do
  if dvc exp push -q origin "$name"; then
    cd / && rm -rf "$folder" "$folder.lock"
    echo "$name: pushed"
    exit
  fi
  sleep "$wait"
done
echo "$name: cannot be pushed; its clone is kept, so start it again: $folder" >&2
exit 1
