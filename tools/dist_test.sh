#!/usr/bin/env bash
# dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [arguments of test.py]
# One process per GPU; on a machine without a GPU the processes share the CPU.
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -eu
CONFIG=$1
CHECKPOINT=$2
PROCESSES=$3
HERE=$(cd "$(dirname "$0")" && pwd)

# Without a port of your own, a single machine takes a free one
if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    RENDEZVOUS=(--standalone)
else
    RENDEZVOUS=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "${PYTHON:-python}" "$HERE/launch.py" "${RENDEZVOUS[@]}" --nproc_per_node="$PROCESSES" \
    "$HERE/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
