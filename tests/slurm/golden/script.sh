#!/usr/bin/env bash
#SBATCH --job-name=table1
#SBATCH --partition=long
#SBATCH --account=lab-7
#SBATCH --qos=high
#SBATCH --constraint=a100
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=1-00:00:00
#SBATCH --gpus=2
#SBATCH --export=ALL
#SBATCH --output=table1-%j.log
#SBATCH --signal=B:TERM@120

set -euo pipefail
cd '/home/me/sap sweep'
export SAP_SWEEP_HOME='/home/me/sap sweep'
export PYTHONPATH='/home/me/sap sweep'"${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1
# Slurm sends TERM two minutes before the time limit: the sweep stores its state and exits; submit again to continue.
/home/me/venv/bin/python -m sweeper backend=local backend.device=cuda experiment=table1 'only=network=resnet18 method=sap,scrub' &
sweep=$!
trap 'kill -TERM "$sweep"; wait "$sweep"' TERM
wait "$sweep"
