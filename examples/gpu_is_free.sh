#!/bin/sh
# gpu_is_free.sh [MIB]: succeeds when each GPU of this slot has at most MIB (500) of its memory in use.
# A pre_start command: hasupd tries it again until the memory of the worker before is really free.
set -eu
most=${1:-500}
used=$(nvidia-smi --id="$CUDA_VISIBLE_DEVICES" --query-gpu=memory.used --format=csv,noheader,nounits)
for mib in $used; do
  if [ "$mib" -gt "$most" ]; then
    echo "$HASUP_MODEL/$HASUP_SLOT: a GPU of $CUDA_VISIBLE_DEVICES has $mib MiB in use, more than $most" >&2
    exit 1
  fi
done
