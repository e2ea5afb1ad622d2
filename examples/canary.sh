#!/bin/sh
# canary.sh: a new version of digits beside the old one, for a part of the requests; then for all of them; then one that
# does not come up.  To be run after `make`, anywhere.  More: docs/rollouts.md
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${HASUP_BUILD:-$root/build}
dir=$(mktemp -d) hasupd=
trap 'kill "$hasupd" 2>/dev/null && wait "$hasupd"; rm -rf "$dir"' EXIT
export HASUP_SOCKET="$dir/hasup.sock"

# configure VERSION COMMAND: what an editor would do.
configure() {
  cat >"$dir/supervisor.yaml" <<END
state_dir: $dir/state
runtime_dir: $dir
listen: {http: 127.0.0.1:0}
models:
  digits:
    command: [$2]
    version: $1
    workers: 2
    restart: {backoff_min: 10ms, start_limit: 2}
END
}

# ask N: so many requests; how many each version answered.
ask() {
  for _ in $(seq "$1"); do
    head -n 1 "$root/examples/data/digits_held_out.csv" | cut -d, -f1-64 |
      curl -sf -o /dev/null -D - --data-binary @- "$url" | tr -d '\r' | sed -n 's/^X-Hasup-Version: /answered by /p'
  done | sort | uniq -c
}

configure 1.0 "$build/examples/digits"
"$build/hasupd" -c "$dir/supervisor.yaml" 2>"$dir/log" & hasupd=$!
while ! "$build/hasupctl" status digits 2>/dev/null | grep -q "2 of 2 ready"; do
  kill -0 "$hasupd" || { cat "$dir/log"; exit 1; }
done
url=http://127.0.0.1:$("$build/hasupctl" status | sed -n 's/.*http port \([0-9]*\).*/\1/p')/models/digits/invoke
ask 10

configure 1.1 "$build/examples/digits"
"$build/hasupctl" canary digits --weight 20
while ! "$build/hasupctl" status digits | grep -q "3 of 2 ready"; do :; done
ask 40
"$build/hasupctl" promote digits --wait
ask 10

configure 1.2 "$root/examples/there_is_no_such_file"
"$build/hasupctl" reload --wait || echo "exit code $?: nobody noticed"
ask 10
