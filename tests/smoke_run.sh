#!/usr/bin/env bash
# `make run` as a newcomer does it: it starts, a click redirects, the demo plays, Ctrl-C leaves no process behind.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp)
make --no-print-directory run >"$out" 2>&1 &
make_pid=$!
# make runs lastcookie in its own place or as its child, by make's version
up_pid() { pgrep -P "$make_pid" -f "lastcookie up" || echo "$make_pid"; }
trap 'kill -INT "$(up_pid)" 2>/dev/null || true; cat "$out"' EXIT
for _ in $(seq 600); do
  if grep -q "is running" "$out"; then break; fi
  kill -0 "$make_pid" 2>/dev/null || exit 1
  sleep 0.1
done
grep -q "is running" "$out"
status=$(curl -s -o /dev/null -w '%{http_code}' http://localhost:8080/c/boots)
test "$status" = 302
make --no-print-directory demo
.venv/bin/lastcookie check
kill -INT "$(up_pid)"
wait "$make_pid" || true
sleep 0.5
if pgrep -f "config $PWD/config.toml|unixsocket:$PWD" >/dev/null; then
  echo "processes left behind:"; pgrep -af "$PWD"; exit 1
fi
trap - EXIT
cat "$out"
echo "1 passed, 0 failed"
