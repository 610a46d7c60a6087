#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What t/bench/compare measures beside this module: Portkey's gateway (npm, versions of t/bench/portkey/package-lock.json) and
# LiteLLM's proxy (PyPI, versions of t/bench/requirements-litellm.txt). nginx is a Debian package, of `scripts/setup bench`.
# Nothing is installed outside DIR, no install script runs, and nothing of it is shipped: about 760 MB.
#
#   contenders.sh fetch DIR [NAME ...]   both, or those named (portkey, litellm), once for each state of their lists (needs npm,
#                                        node, python3-venv; Python 3.11 or newer, x86-64)

: "${AIP_SCRIPT_LIB:=$(dirname "$0")}"
CONTENDERS_LISTS=$(cd "$AIP_SCRIPT_LIB/../../t/bench" && pwd)

contenders_portkey() {
    dir=$1/portkey list=$CONTENDERS_LISTS/portkey
    cmp -s "$list/package-lock.json" "$dir/package-lock.json" && [ -e "$dir/complete" ] && return 0
    rm -rf "$dir"
    mkdir -p "$dir" && cp "$list/package.json" "$list/package-lock.json" "$dir/" &&
        (cd "$dir" && npm ci --no-audit --no-fund --ignore-scripts >&2) && touch "$dir/complete"
}

# Without dependencies of packages: the list is complete, but for what only LiteLLM's enterprise licence allows to be used.
contenders_litellm() {
    dir=$1/litellm list=$CONTENDERS_LISTS/requirements-litellm.txt
    cmp -s "$list" "$dir/requirements.txt" && return 0
    rm -rf "$dir"
    python3 -m venv "$dir" &&
        "$dir/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary=:all: -r "$list" &&
        "$dir/bin/pip" check --disable-pip-version-check && cp "$list" "$dir/requirements.txt"
}

contenders_fetch() {
    where=$1
    shift
    mkdir -p "$where" && where=$(cd "$where" && pwd) || return 1
    [ $# -gt 0 ] || set -- portkey litellm
    (
        flock -w 900 9 || exit 1
        for name in "$@"; do
            "contenders_$name" "$where" || exit 1
        done
    ) 9>"$where/fetch.lock" || {
        echo "contenders.sh: cannot fetch what was asked for into $where" >&2
        return 1
    }
}

contenders_usage() {
    echo "usage: contenders.sh fetch DIR [portkey] [litellm]" >&2
    return 2
}

contenders_main() {
    [ "${1:-}" = fetch ] && [ $# -ge 2 ] || contenders_usage || return
    shift
    where=$1
    shift
    for name in "$@"; do
        case $name in portkey | litellm) ;; *) contenders_usage || return ;; esac
    done
    contenders_fetch "$where" "$@"
}

case ${0##*/} in
contenders.sh) contenders_main "$@" ;;
esac
