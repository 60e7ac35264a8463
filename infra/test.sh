#!/bin/sh
# The tests, by the Python $1: the `fast` ones, or the `slow` ones. What follows goes to one pytest;
# without any, each pytest gives its tests to as many processes as there are cores, at most four. The
# fast ones of the engine run first, out of reach of every server and store, and those of the
# annotator's page last. Fails if any does.
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

failed=0

side_by_side() {
    "$python" -m pytest -m "$marked" --durations 40 --numprocesses auto --maxprocesses 4 "$@" || failed=1
}

# Files stay whole, as their tests share servers; slow ones are few and long, and go one by one.
if [ "$speed" = fast ]; then
    PYTHONPATH=tests/architecture side_by_side --dist loadfile -p no:cacheprovider -p absent_packages tests/engine
    side_by_side --dist loadfile --ignore tests/engine
    sh "$(dirname "$0")/web.sh" test || failed=1
else
    side_by_side --dist worksteal
fi
exit "$failed"
