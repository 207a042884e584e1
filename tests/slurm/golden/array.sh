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

# Asked to end: by USR1 before the time limit, or by TERM (preemption, requeue, scancel, the limit itself). Each program stores its state.
asked=
workers=()
forward() {
    asked=$1
    say "$1: the programs are told to store their state and end"
    for pid in "${workers[@]}"; do kill -TERM "$pid" 2> /dev/null; done
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM
say() { printf '%s sap-slurm: %s\n' "$(date -u +%FT%TZ)" "$*"; }

# Waits for all workers; `code` is the highest exit code of theirs. A signal to this shell ends a `wait` early, so it waits again.
await() {
    code=0
    local pid got
    for pid in "${workers[@]}"; do
        wait "$pid"
        got=$?
        while kill -0 "$pid" 2> /dev/null; do
            wait "$pid"
            got=$?
        done
        [ "$got" -le "$code" ] || code=$got
    done
}

# Into the queue again, unless somebody cancelled the job. When that works Slurm ends this script. A job that Slurm is ending (COMPLETING)
# was cancelled, or is requeued by Slurm itself, unless the time limit or a preemption that cancels ended it: of that the log tells.
again() {
    local name state
    for name in "$SLURM_JOB_ID" "${SLURM_ARRAY_JOB_ID:-}" "${SLURM_ARRAY_JOB_ID:-}_${SLURM_ARRAY_TASK_ID:-}"; do
        if [ -n "$name" ] && [ -e "$cancelled/$name" ]; then
            say "cancelled: what was finished is stored"
            exit 0
        fi
    done
    state=$(scontrol show job "$SLURM_JOB_ID" 2> /dev/null)
    case $state in
        *Reason=TimeLimit*) ;;
        *JobState=CANCELLED* | *JobState=COMPLETING*)
            if ! tail -n 9 "$(sed -n 's/^ *StdOut=//p' <<< "$state")" 2> /dev/null | grep -q 'DUE TO PREEMPTION'; then
                say "Slurm ends this job, or starts it again, by itself: what was finished is stored"
                exit 0
            fi
            ;;
    esac
    say "asks for a requeue, to go on where it was"
    if scontrol requeue "$SLURM_JOB_ID"; then
        trap - TERM
        sleep 300 &
        wait
    fi
}

cancelled='/home/me/sap sweep/results/slurm/cancelled'
attempt() { "${run[@]}" -m slurm.attempt "$1" '/home/me/sap sweep/results/slurm/plan-1.jsonl' --store '/home/me/sap sweep/results' --artifacts '/home/me/sap sweep/artifacts' "${@:2}"; }

while [ -z "$asked" ]; do
    attempt begin --limit 3 --gpus 2 --cpus 8
    code=$?
    [ "$code" -eq 0 ] || exit "$code"
    [ -z "$asked" ] || break
    workers=()
    for ((k = 1; k <= 4; k++)); do
        "${run[@]}" -m sweeper.execute '/home/me/sap sweep/results/slurm/plan-1.jsonl' --data '/home/me/sap sweep/data' --store '/home/me/sap sweep/results' --artifacts '/home/me/sap sweep/artifacts' --order cells --device-jobs 2 --idle-timeout 600 --device "cuda:$(((k - 1) % 2))" \
            --shard "$(((4 + SLURM_ARRAY_TASK_ID) * 4 + k))/64" &
        workers+=($!)
    done
    [ -z "$asked" ] || forward "$asked"
    await
    attempt end --code "$code" && exit $((code == 1))  # nothing is left
    [ "$code" -le 2 ] && [ -z "$asked" ] && exit "$code"
    [ -n "$asked" ] || say "a program ended with exit code $code; starting it once more"
done
again
exit 1
