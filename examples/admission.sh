#!/bin/sh
# admission.sh: what is taken and what is refused, and how clients learn when to come again: a rate, a full queue, a
# deadline, a priority.  To be run after `make`, anywhere.  More: docs/admission.md
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${HASUP_BUILD:-$root/build}
dir=$(mktemp -d) hasupd=
trap 'kill "$hasupd" 2>/dev/null && wait "$hasupd"; rm -rf "$dir"' EXIT
export HASUP_SOCKET="$dir/hasup.sock"

cat >"$dir/supervisor.yaml" <<END
state_dir: $dir/state
runtime_dir: $dir
listen: {http: 127.0.0.1:0}
models:
  echo:
    command: [$build/examples/echo]
    rate: {client_per_second: 1, client_burst: 3}     # 3 at once, then one a second; each client for itself
  textgen:
    command: [$build/examples/textgen]
    concurrency_max: 1
    queue: {requests: 4}                              # more than 4 do not wait
END
"$build/hasupd" -c "$dir/supervisor.yaml" 2>"$dir/log" & hasupd=$!
while ! "$build/hasupctl" status textgen 2>/dev/null | grep -q "1 of 1 ready"; do
  kill -0 "$hasupd" || { cat "$dir/log"; exit 1; }
done
url=http://127.0.0.1:$("$build/hasupctl" status | sed -n 's/.*http port \([0-9]*\).*/\1/p')/models

# ask MODEL BODY [CURL-OPTION]...: the status, and when to come again.
ask() {
  model=$1 body=$2
  shift 2
  curl -s -o /dev/null -D - "$@" -d "$body" "$url/$model/invoke" | tr -d '\r' |
    sed -n 's/^HTTP.1.1 \([0-9]*\).*/\1/p; s/^Retry-After: \(.*\)/come again in \1 s/p' | paste -sd ' '
}

echo "five requests of one client, three at once allowed:"
for _ in 1 2 3 4 5; do ask echo hi -H "Authorization: Bearer anna"; done
echo "and one of another client:"
ask echo hi -H "Authorization: Bearer ben"

long='{"prompt": "The Light", "n": 20000}'
echo "eight at once, of which one runs and four wait:"
running=
for n in 1 2 3 4 5 6 7 8; do ask textgen "$long" >"$dir/$n" & running="$running $!"; done
# shellcheck disable=SC2086
wait $running
cut -c1-3 "$dir"/[1-8] | sort | uniq -c

echo "behind one that takes long, with 10 ms of time; then with priority 1, which nobody asks about its time:"
ask textgen "$long" >"$dir/9" & running=$!
while ! "$build/hasupctl" status textgen | grep -q "1 running"; do kill -0 "$running" || break; done
ask textgen '{"prompt": "The Light", "n": 1}' -H "X-Request-Timeout: 0.01"
ask textgen '{"prompt": "The Light", "n": 1}' -H "X-Priority: 1"
wait "$running"
