#!/bin/sh
# The tests, by the Python $1: the `fast` ones, or the `slow` ones. What follows goes to one pytest;
# without any there are two side by side: those of the flows; and the rest. The fast ones of the engine
# run on their own, out of reach of every server and store, and those of the annotator's page at last.
# Fails if any does.
set -u

python=$1
speed=$2
shift 2
case $speed in
fast) marked='not slow' ;;
slow) marked=slow ;;
*) echo "test.sh: must be told fast or slow, got $speed" >&2 && exit 2 ;;
esac
if [ $# -gt 0 ]; then
    exec "$python" -m pytest -m "$marked" "$@"
fi

# Waits for one of several, and takes it along when it is told to stop itself.
one() {
    "$@" &
    running=$!
    wait "$running"
}

# The cache is the other's: two writers would lose what one of them found.
one_pytest() {
    one "$python" -m pytest -m "$marked" --durations 15 -p no:cacheprovider "$@"
}

fast_rest() {
    PYTHONPATH=tests/architecture one_pytest -p absent_packages tests/engine
    engine=$?
    one_pytest --ignore tests/engine --ignore tests/flows
    others=$?
    one sh "$(dirname "$0")/web.sh" test
    [ $? -eq 0 ] && [ "$engine" -eq 0 ] && [ "$others" -eq 0 ]
}

slow_rest() {
    one_pytest --ignore tests/flows
}

rest() {
    trap 'kill "$running" 2>/dev/null; exit 143' TERM
    "${speed}_rest"
}

log=$(mktemp)
rest >"$log" 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null; rm -f "$log"' EXIT
# Without this, a shell that is told to stop would leave both running.
trap 'exit 130' INT
trap 'exit 143' TERM

"$python" -m pytest -m "$marked" --durations 30 tests/flows
flows=$?
printf '\n==== the tests of the engine, and the rest\n'
wait "$beside"
rest=$?
cat "$log"
[ "$flows" -eq 0 ] && [ "$rest" -eq 0 ]
