#!/bin/sh
# The fast tests, by the Python $1. What follows goes to one pytest; without any there are two side by
# side: those of the flows; and the engine's, out of reach of every server and store, then the rest, at
# last those of the annotator's page.
# Fails if any does.
set -u

python=$1
shift
if [ $# -gt 0 ]; then
    exec "$python" -m pytest "$@"
fi

# Waits for one of several, and takes it along when it is told to stop itself.
one() {
    "$@" &
    running=$!
    wait "$running"
}

# The cache is the other's: two writers would lose what one of them found.
one_pytest() {
    one "$python" -m pytest --durations 15 -p no:cacheprovider "$@"
}

engine_and_rest() {
    trap 'kill "$running" 2>/dev/null; exit 143' TERM
    PYTHONPATH=tests/architecture one_pytest -p absent_packages tests/engine
    engine=$?
    one_pytest --ignore tests/engine --ignore tests/flows
    others=$?
    one sh "$(dirname "$0")/web.sh" test
    [ $? -eq 0 ] && [ "$engine" -eq 0 ] && [ "$others" -eq 0 ]
}

log=$(mktemp)
engine_and_rest >"$log" 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null; rm -f "$log"' EXIT
# Without this, a shell that is told to stop would leave both running.
trap 'exit 130' INT
trap 'exit 143' TERM

"$python" -m pytest --durations 30 tests/flows
flows=$?
printf '\n==== the tests of the engine, and the rest\n'
wait "$beside"
rest=$?
cat "$log"
[ "$flows" -eq 0 ] && [ "$rest" -eq 0 ]
