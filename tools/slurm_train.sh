#!/usr/bin/env bash
# slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
# Environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, REQUEUE.
#
# With REQUEUE=1 the job goes through sbatch and is queued again when its time runs out: Slurm sends SIGUSR1 120 s
# before, training saves after the iteration and ends with code 138, and the next start continues with --resume.
set -eu
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
WORK_DIR=$4
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
HERE=$(cd "$(dirname "$0")" && pwd)
read -r -a EXTRA <<< "${SRUN_ARGS:-}"

RESOURCES=(-p "$PARTITION" --job-name="$JOB_NAME" --gres="gpu:$GPUS_PER_NODE" --ntasks="$GPUS"
    --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="$CPUS_PER_TASK" ${EXTRA[@]+"${EXTRA[@]}"})
TRAIN=(python -u "$HERE/train.py" "$CONFIG" --work-dir "$WORK_DIR" --launcher slurm "${@:5}")

if [ "${REQUEUE:-0}" != 1 ]; then
    exec srun "${RESOURCES[@]}" --kill-on-bad-exit=1 "${TRAIN[@]}"
fi

mkdir -p "$WORK_DIR"
JOB=$(printf '%q ' srun --kill-on-bad-exit=1 "${TRAIN[@]}" --resume)
exec sbatch "${RESOURCES[@]}" --requeue --signal=USR1@120 --open-mode=append --output="$WORK_DIR/slurm-%j.log" <<SCRIPT
#!/usr/bin/env bash
$JOB
CODE=\$?
# 138 = 128 + SIGUSR1, 143 = 128 + SIGTERM: saved and ready to go on
if [ \$CODE = 138 ] || [ \$CODE = 143 ]; then
    scontrol requeue "\$SLURM_JOB_ID"
fi
exit \$CODE
SCRIPT
