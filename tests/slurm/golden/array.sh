#!/usr/bin/env bash
#SBATCH --job-name=sap-table1
#SBATCH --partition=long
#SBATCH --account=lab
#SBATCH --qos=high
#SBATCH --constraint=a100|h100
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --gres=gpu:a100:2
#SBATCH --time=1-00:00:00
#SBATCH --nodes=1
#SBATCH --array=0-7%4
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="/home/me/sap sweep/results/logs/slurm-%A_%a.log"
#SBATCH --signal=B:USR1@120
#SBATCH --exclude=n17

cd '/home/me/sap sweep' || exit 2
module load cuda/12.4
set -u
export TMPDIR="/scratch/$USER/sap-$SLURM_JOB_ID"
mkdir -p "$TMPDIR" || exit 2
trap 'rm -rf "$TMPDIR"' EXIT
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export PYTHONPATH='/home/me/sap sweep'"${PYTHONPATH:+:$PYTHONPATH}"
run=(apptainer exec --nv /images/sap.sif /home/me/venv/bin/python)

# Signals: USR1 comes before the time limit; TERM comes at preemption, requeue, scancel or the limit. Workers store a checkpoint and exit.
stop_signal=
workers=()
forward() {
    stop_signal=$1
    log "received $1; asking the workers to store their state and exit"
    for pid in "${workers[@]}"; do kill -TERM "$pid" 2> /dev/null; done
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM
log() { printf '%s sap-slurm: %s\n' "$(date -u +%FT%TZ)" "$*"; }

# Waits for all workers and sets `code` to their highest exit code. A signal interrupts `wait`, hence the inner loop.
await_workers() {
    code=0
    local pid status
    for pid in "${workers[@]}"; do
        wait "$pid"
        status=$?
        while kill -0 "$pid" 2> /dev/null; do
            wait "$pid"
            status=$?
        done
        [ "$status" -le "$code" ] || code=$status
    done
}

# Requeues this job unless it was cancelled. If the requeue succeeds, Slurm ends this script. The state COMPLETING does not tell a cancelled
# job from one that Slurm requeues itself; the job requests a requeue only if the reason is TimeLimit or the log reports a preemption.
requeue() {
    local name state
    for name in "$SLURM_JOB_ID" "${SLURM_ARRAY_JOB_ID:-}" "${SLURM_ARRAY_JOB_ID:-}_${SLURM_ARRAY_TASK_ID:-}"; do
        if [ -n "$name" ] && [ -e "$cancelled/$name" ]; then
            log "cancelled; finished jobs are stored"
            exit 0
        fi
    done
    state=$(scontrol show job "$SLURM_JOB_ID" 2> /dev/null)
    case $state in
        *Reason=TimeLimit*) ;;
        *JobState=CANCELLED* | *JobState=COMPLETING*)
            if ! tail -n 9 "$(sed -n 's/^ *StdOut=//p' <<< "$state")" 2> /dev/null | grep -q 'DUE TO PREEMPTION'; then
                log "Slurm is cancelling or requeueing this job; finished jobs are stored"
                exit 0
            fi
            ;;
    esac
    log "requesting a requeue to continue from the stored state"
    if scontrol requeue "$SLURM_JOB_ID"; then
        trap - TERM
        sleep 300 &
        wait
    fi
}

cancelled='/home/me/sap sweep/results/slurm/cancelled'
attempt() { "${run[@]}" -m slurm.attempt "$1" '/home/me/sap sweep/results/slurm/plan-1.jsonl' --store '/home/me/sap sweep/results' --artifacts '/home/me/sap sweep/artifacts' "${@:2}"; }

while [ -z "$stop_signal" ]; do
    attempt begin --limit 3 --gpus 2 --cpus 8
    code=$?
    [ "$code" -eq 0 ] || exit "$code"
    [ -z "$stop_signal" ] || break
    workers=()
    for ((k = 1; k <= 4; k++)); do
        "${run[@]}" -m sweeper.execute '/home/me/sap sweep/results/slurm/plan-1.jsonl' --data '/home/me/sap sweep/data' --store '/home/me/sap sweep/results' --artifacts '/home/me/sap sweep/artifacts' --order cells --device-jobs 2 --idle-timeout 600 --device "cuda:$(((k - 1) % 2))" \
            --shard "$(((4 + SLURM_ARRAY_TASK_ID) * 4 + k))/64" &
        workers+=($!)
    done
    [ -z "$stop_signal" ] || forward "$stop_signal"
    await_workers
    attempt end --code "$code" && exit $((code == 1))  # all jobs are done
    [ "$code" -le 2 ] && [ -z "$stop_signal" ] && exit "$code"
    [ -n "$stop_signal" ] || log "a worker exited with code $code; restarting the workers"
done
requeue
exit 1
