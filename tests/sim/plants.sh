#!/bin/sh
# plants.sh PROGRAM: each planted bug must be found by the simulator within SEEDS seeds, and none without a plant.
set -eu
program=$1
SEEDS=300
names="- forget_requeue answer_twice not_ready keep_backoff position_off stale_reply tree_not_empty lose_replay answer_early queue_early trim_early skip_last_logged tell_keyed tell_stateful never_sync await_all load_error resume_at_start blame_mates no_breaker run_quarantined begin_in_the_middle join_in_the_middle keep_streams keep_results store_too_large run_twice asking_lengthens start_unprepared mix_batch replay_apart"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
"$program" --seeds $SEEDS >"$out" || { echo "plants: a bug without a plant:" >&2; cat "$out" >&2; exit 1; }
n=0
for name in $names; do
  if [ $n -gt 0 ]; then
    # An assertion of core_check that fires counts as found, too.
    if "$program" --plant $n --seeds $SEEDS >"$out" 2>&1; then
      echo "plants: $n ($name) was not found in $SEEDS seeds" >&2
      exit 1
    fi
    echo "plants: $name: $(grep -m1 -oE '(at [0-9.]+ s: .*|Assertion .* failed)' "$out" | cut -c1-110)"
  fi
  n=$((n + 1))
done
