#!/bin/bash
# A network and its data to a barcode, in an array of jobs and one that joins what they computed:
#
#     bash docs/examples/slurm/barcode.sh mlp:64-16-10 digits --region plane --out runs/plane
#
# with whatever `topolandscape barcode` takes, and --out on a file system that all nodes share.
set -euo pipefail

parts=${PARTS:-8}
one=(--ntasks=1 --cpus-per-task="${CORES:-4}" --time="${TIME:-01:00:00}" --parsable)
# One GPU for each job: export GPUS=1, and give --device cuda.
if [ -n "${GPUS:-}" ]; then one+=(--gpus-per-task="$GPUS"); fi
command="topolandscape barcode $(printf '%q ' "$@")"

array=$(sbatch "${one[@]}" --array=0-$((parts - 1)) --requeue --open-mode=append --output=shard-%A_%a.log --wrap "$command --shard slurm")
# afterany: a part that is missing, whatever became of it, is computed by the job that joins.
sbatch "${one[@]}" --dependency=afterany:"${array%%;*}" --output=barcode-%j.log --wrap "$command"
