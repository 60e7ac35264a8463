#!/bin/sh
# Runs npm in annotator/web with what follows: with the Node.js of PATH, or where that is missing or too
# old with the one that set-up put into .venv.
set -eu

cd "$(dirname "$0")/.."

# What vite and vitest run on.
is_new_enough() {
    "$1" -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        const least = { 20: 19, 22: 12 }[major] ?? (major >= 24 ? 0 : Infinity);
        process.exit(minor >= least ? 0 : 1);
    ' 2>/dev/null
}

if ! is_new_enough node; then
    PATH=$(pwd)/.venv/bin:$PATH
    export PATH
    if ! is_new_enough node; then
        echo "no Node.js 20.19 or newer; run: make setup" >&2
        exit 69
    fi
fi
cd annotator/web
exec npm "$@"
