#!/bin/sh
# The fast tests, by the Python $1. What follows goes to one pytest; without any there are two side by
# side: the engine's tests, out of reach of every server and store, and all others. Fails if either does.
set -u

python=$1
shift
if [ $# -gt 0 ]; then
    exec "$python" -m pytest "$@"
fi

log=$(mktemp)
# The cache is the other's: two writers would lose what one of them found.
PYTHONPATH=tests/architecture "$python" -m pytest -p absent_packages -p no:cacheprovider tests/engine >"$log" 2>&1 &
engine=$!
trap 'kill "$engine" 2>/dev/null; rm -f "$log"' EXIT
# Without this, a shell that is told to stop would leave both running.
trap 'exit 130' INT
trap 'exit 143' TERM

"$python" -m pytest --ignore tests/engine
others=$?
printf '\n==== the tests of the engine\n'
wait "$engine"
alone=$?
cat "$log"
[ "$others" -eq 0 ] && [ "$alone" -eq 0 ]
