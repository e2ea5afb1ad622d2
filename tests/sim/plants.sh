#!/bin/sh
# plants.sh PROGRAM: each planted bug must be found by the simulator within SEEDS seeds, and none without a plant.
set -eu
program=$1
SEEDS=300
out=$(mktemp)
trap 'rm -f "$out"' EXIT
"$program" --seeds $SEEDS >"$out" || { echo "plants: a bug without a plant:" >&2; cat "$out" >&2; exit 1; }
names=$("$program" --plants)
for name in $names; do
  how=
  case $name in FORGET_FIELD | FORGET_TIMER) how=--handover ;; esac # of what is saved and loaded
  # An assertion of core_check that fires counts as found, too.
  if "$program" $how --plant "$name" --seeds $SEEDS >"$out" 2>&1; then
    echo "plants: $name was not found in $SEEDS seeds" >&2
    exit 1
  fi
  echo "plants: $name: $(grep -m1 -oE '(at [0-9.]+ s: .*|Assertion .* failed)' "$out" | cut -c1-110)"
done
