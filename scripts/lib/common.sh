#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What redis.sh, minilm.sh and vault.sh share, which source it: servers that were started from a
# folder DIR, each with its pid and its log in DIR/run/PORT. NAME is the script's without .sh, WORD
# stands in the command line of its servers.

# server_pid WORD DIR PORT: the pid of the server on a port, if it runs and is ours (a pid may have
# been used again since).
server_pid() {
    pid=$(cat "$2/run/$3/pid" 2>/dev/null) || return 1
    grep -qs "$1" "/proc/$pid/cmdline" && echo "$pid"
}

# server_stop WORD DIR [PORT]: the server on that port, or all of the folder.
server_stop() {
    word=$1 dir=$2
    for run in "$dir/run/${3:-}"*; do
        port=${run##*/}
        [ -n "${3:-}" ] && [ "$port" != "$3" ] && continue
        pid=$(server_pid "$word" "$dir" "$port") || continue
        kill "$pid" 2>/dev/null
        tries=50
        while kill -0 "$pid" 2>/dev/null; do
            if [ $tries -eq 0 ]; then
                kill -9 "$pid" 2>/dev/null
                break
            fi
            sleep 0.1
            tries=$((tries - 1))
        done
        rm -f "$run/pid"
    done
    return 0
}

# server_silent NAME DIR PORT: says why a server that was just started does not answer, ends it, and
# fails.
server_silent() {
    echo "$1.sh: no answer on 127.0.0.1:$3; the end of its log:" >&2
    tail -n 5 "$2/run/$3/log" >&2
    "$1_stop" "$2" "$3"
    return 1
}
