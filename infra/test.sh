#!/bin/sh
# The tests, by the Python $1: those that are $2, fast or slow. What follows goes to one pytest; without
# any there are two side by side: those of the flows but for Prefect's servers and the report; and the
# rest, of which the engine's fast ones are first and out of reach of every server and store. Fails if
# any does.
set -u

python=$1
speed=$2
shift 2
case $speed in
fast) chosen="not slow" ;;
slow) chosen=slow ;;
*)
    echo "infra/test.sh: must be told fast or slow, but got $speed" >&2
    exit 2
    ;;
esac
if [ $# -gt 0 ]; then
    exec "$python" -m pytest -m "$chosen" "$@"
fi

# Waits for one pytest, and takes it along when it is told to stop itself.
one() {
    "$python" -m pytest -m "$chosen" --durations 30 -p no:cacheprovider "$@" &
    running=$!
    wait "$running"
}

# The cache is the other's: two writers would lose what one of them found.
rest() {
    trap 'kill "$running" 2>/dev/null; exit 143' TERM
    set -- --ignore tests/flows/cli --ignore-glob 'tests/flows/test_*.py'
    engine=0
    if [ "$speed" = fast ]; then
        PYTHONPATH=tests/architecture one -p absent_packages tests/engine
        engine=$?
        set -- "$@" --ignore tests/engine
    fi
    one "$@"
    [ $? -eq 0 ] && [ "$engine" -eq 0 ]
}

log=$(mktemp)
rest >"$log" 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null; rm -f "$log"' EXIT
# Without this, a shell that is told to stop would leave both running.
trap 'exit 130' INT
trap 'exit 143' TERM

"$python" -m pytest -m "$chosen" --durations 30 tests/flows \
    --ignore tests/flows/orchestration --ignore tests/flows/report
flows=$?
printf '\n==== the other half\n'
wait "$beside"
others=$?
cat "$log"
[ "$flows" -eq 0 ] && [ "$others" -eq 0 ]
