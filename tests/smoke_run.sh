#!/usr/bin/env bash
# `make run` as a newcomer does it: it starts, a click redirects, the demo plays, Ctrl-C leaves no process behind.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp)
make --no-print-directory run >"$out" 2>&1 &
make_pid=$!
trap 'pkill -INT -f "lastcookie up" || true; cat "$out"' EXIT
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
pkill -INT -f "lastcookie up"
wait "$make_pid" || true
sleep 0.5
if pgrep -f "tracker.app|console.engine|console.demo_shop|valkey-server unixsocket:$PWD" >/dev/null; then
  echo "processes left behind:"; pgrep -af "tracker.app|console.engine|console.demo_shop"; exit 1
fi
trap - EXIT
cat "$out"
echo "1 passed, 0 failed"
