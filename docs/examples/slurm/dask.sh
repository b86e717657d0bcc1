#!/bin/bash
# A dask cluster in one Slurm job, a worker for each task, and a barcode that it computes:
#
#     sbatch docs/examples/slurm/dask.sh mlp:64-16-10 digits --minima 64 --out runs/minima
#
# Queued again, as after the death of a node, it goes on where it was.
#SBATCH --ntasks=16
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=dask-%j.log
#SBATCH --open-mode=append
set -euo pipefail

port=$((20000 + SLURM_JOB_ID % 20000))
address="tcp://$(hostname):$port"
trap 'set +e; kill %srun; wait %srun; kill %dask' EXIT
dask scheduler --port "$port" --no-dashboard &
srun dask worker "$address" --nthreads 1 --no-dashboard --death-timeout 120 &
topolandscape barcode "$@" --executor "$address"
