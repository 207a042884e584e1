#!/usr/bin/env bash
#SBATCH --job-name=sap-table1-0a1b2c3d-4e5f6a7b
#SBATCH --comment=sap-sweep:0a1b2c3d-4e5f6a7b
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
#SBATCH --export=ALL
#SBATCH --output="/home/me/sap sweep/results/logs/slurm-%A_%a-0a1b2c3d-4e5f6a7b.log"
#SBATCH --signal=B:USR1@120
#SBATCH --exclude=n17

failed_starts='/home/me/sap sweep/results/slurm/failed_starts' failed_tag=0a1b2c3d-4e5f6a7b
# Called when a start failed at once: pauses, then requests a requeue on another node than those on which starts of this submission failed.
# The task gives up after three such starts, and where there is no other node. The folder may be missing on a broken node.
leave_node() {
    local node="${SLURMD_NODENAME:-$HOSTNAME}" known nodes own others excluded
    trap - TERM USR1
    { mkdir -p "$failed_starts" && printf '%s %s\n' "$node" "$SLURM_ARRAY_TASK_ID" >> "$failed_starts/$failed_tag"; } 2> /dev/null
    known=$(cut -d' ' -f1 "$failed_starts/$failed_tag" 2> /dev/null | sort -u)
    known=${known:-$node}
    nodes=$(paste -sd, <<< "$known")
    own=$(grep -c " $SLURM_ARRAY_TASK_ID\$" "$failed_starts/$failed_tag" 2> /dev/null)
    own=${own:-$((${SLURM_RESTART_COUNT:-0} + 1))}
    others=$(sinfo --noheader --Node --states=idle,alloc,mixed --partition="${SLURM_JOB_PARTITION:-}" --format=%N 2> /dev/null |
        sort -u | grep -cvxF "$known")
    echo "$(date -u +%FT%TZ) sap-slurm: the start failed at once on node $node (exit code $1)"
    sleep "${SAP_SWEEP_BACK_OFF_SECONDS:-60}"
    if [ "$own" -lt 3 ] && [ "${others:-0}" -gt 0 ]; then
        excluded=$(scontrol show job "$SLURM_JOB_ID" 2> /dev/null | sed -n 's/.*ExcNodeList=\([^ ]*\).*/\1/p' | grep -v null)
        echo "$(date -u +%FT%TZ) sap-slurm: requesting a requeue on another node than ${excluded:+$excluded,}$nodes"
        # Only a job that waits can be changed, so this shell has to outlive the requeue by a moment.
        trap '' TERM
        scontrol requeue "$SLURM_JOB_ID" &&
            scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="${excluded:+$excluded,}$nodes"
    fi
    exit "$1"
}
cd '/home/me/sap sweep' || { echo "error: node $HOSTNAME does not see this folder"; leave_node 2; }
setup_failed() {
    local code=$?
    set +eEux +o pipefail
    trap - EXIT ERR
    [ "$code" -le 128 ] || exit "$code"
    echo "error: the lines of setup ended with exit code $code on node $HOSTNAME"
    leave_node "${code/#0/2}"
}
trap setup_failed EXIT
trap 'exit 143' TERM
trap 'exit 138' USR1
module load cuda/12.4
[[ $(trap -p EXIT) != *setup_failed* ]] || trap - EXIT
set +eEx +o pipefail +o noclobber +f
trap - ERR DEBUG RETURN USR1 TERM INT HUP
IFS=$' \t\n'
set -u
cd '/home/me/sap sweep' || { echo "error: node $HOSTNAME does not see this folder"; leave_node 2; }
export TMPDIR="/scratch/$USER/sap-$SLURM_JOB_ID"
mkdir -p "$TMPDIR" && chmod 0700 "$TMPDIR" || { leave_node 2; }
trap 'rm -rf "$TMPDIR"' EXIT
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export SAP_SWEEP_HOME='/home/me/sap sweep'
export PYTHONPATH='/home/me/sap sweep'"${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1
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
    local state
    if [ -e "$cancelled/$tag" ] || [ -e "$cancelled/${tag}_${SLURM_ARRAY_TASK_ID:-}" ]; then
        log "cancelled; finished jobs are stored"
        exit 0
    fi
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

tag=0a1b2c3d-4e5f6a7b
cancelled='/home/me/sap sweep/results/slurm/cancelled'
attempt() { "${run[@]}" -m slurm.attempt "$1" '/home/me/sap sweep/results/slurm/plan-1.jsonl' --store '/home/me/sap sweep/results' --artifacts '/home/me/sap sweep/artifacts' --tag 0a1b2c3d-4e5f6a7b --job "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" "${@:2}"; }

while [ -z "$stop_signal" ]; do
    attempt begin --limit 3 --gpus 2 --cpus 8
    code=$?
    [ "$code" -ne 3 ] || exit 3
    [ "$code" -eq 0 ] || leave_node "$code"
    [ -z "$stop_signal" ] || break
    workers=()
    for ((k = 1; k <= 4; k++)); do
        "${run[@]}" -m sweeper.execute '/home/me/sap sweep/results/slurm/plan-1.jsonl' --data '/home/me/sap sweep/data' --store '/home/me/sap sweep/results' --artifacts '/home/me/sap sweep/artifacts' --order cells --device-jobs 2 --idle-timeout 600 --device "cuda:$(((k - 1) % 2))" \
            --shard "$(((4 + SLURM_ARRAY_TASK_ID) * 4 + k))/64" &
        workers+=($!)
    done
    [ -z "$stop_signal" ] || forward "$stop_signal"
    await_workers
    attempt end --code "$code"
    case $? in
        0) exit $((code == 1)) ;;  # all jobs are done
        4) leave_node "$code" ;;   # the workers ended at once and stored nothing
    esac
    [ "$code" -le 2 ] && [ -z "$stop_signal" ] && exit "$code"
    [ -n "$stop_signal" ] || log "a worker exited with code $code; restarting the workers"
done
requeue
exit 1
