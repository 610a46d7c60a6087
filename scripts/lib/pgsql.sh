#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A real PostgreSQL with pgvector for the tests. Debian 12 has no package of pgvector, so server and
# extension come out of a wheel whose hash is pinned here, as from an archive; nothing is installed
# outside DIR and nothing of it is shipped.
#
#   pgsql.sh fetch DIR              downloads and unpacks once (needs python3-pip; x86-64)
#   pgsql.sh start DIR PORT [ARG]   starts a server on 127.0.0.1:PORT, with a new cluster unless
#                                   there is one; each ARG goes to postgres
#   pgsql.sh sql DIR PORT SQL [DB]  psql on that port as administrator: values without decoration
#   pgsql.sh stop DIR [PORT]        stops the server on PORT, or all that were started from DIR
#   pgsql.sh remove DIR PORT        stops it and removes its cluster
#
# The administrator is gw with password s3cret-of-gw. PostgreSQL refuses root: then the server runs
# as nobody, who needs a way into the folder; its cluster is in DIR/run/PORT/data.
#
# May be sourced as well (set AIP_SCRIPT_LIB to this folder then): pgsql_fetch, pgsql_start,
# pgsql_sql, pgsql_stop and pgsql_remove take the same arguments.

: "${AIP_SCRIPT_LIB:=$(dirname "$0")}"
# shellcheck source=scripts/lib/common.sh
. "$AIP_SCRIPT_LIB/common.sh"

PGSQL_WHEEL='pgserver==0.1.4 --hash=sha256:d595789b47624a3d963aa9aa6359da9be31beb7e61f1a45541953242068b8813'
PGSQL_USER=gw
PGSQL_PASSWORD=s3cret-of-gw

pgsql_fetch() {
    dir=$1
    if [ -f "$dir/dist/wheel.txt" ] && [ "$(cat "$dir/dist/wheel.txt")" = "$PGSQL_WHEEL" ]; then
        return 0
    fi
    mkdir -p "$dir" || return 1
    scratch=$(mktemp -d "$dir/fetch.XXXXXX") || return 1
    printf '%s\n' "$PGSQL_WHEEL" >"$scratch/wheel.txt"
    if python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.11 --implementation cp --abi cp311 --platform manylinux2014_x86_64 \
        --require-hashes -d "$scratch" -r "$scratch/wheel.txt" &&
        python3 -m zipfile -e "$scratch"/pgserver-*.whl "$scratch/dist" &&
        chmod +x "$scratch"/dist/pgserver/pginstall/bin/* &&
        chmod -R a+rX "$scratch/dist" && mv "$scratch/wheel.txt" "$scratch/dist/"; then
        rm -rf "$dir/dist"
        # Somebody who fetched at the same time may have been first; then theirs is as good.
        mv -T "$scratch/dist" "$dir/dist" 2>/dev/null || [ -f "$dir/dist/wheel.txt" ]
        status=$?
    else
        echo "pgsql.sh: cannot fetch PostgreSQL into $dir" >&2
        status=1
    fi
    rm -rf "$scratch"
    return $status
}

# As the user that the server runs as, from a folder that it can read.
pgsql_as() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && exec runuser -u nobody -- "$@")
    else
        (cd / && exec "$@")
    fi
}

# nobody cannot read a checkout below /root: binaries and cluster are in a folder of its own then,
# of which DIR/run/PORT/home tells.
pgsql_home() {
    dir=$1 run=$2
    home=$run
    if [ "$(id -u)" = 0 ]; then
        home=$(cat "$run/home" 2>/dev/null) && [ -d "$home" ] && return 0
        home=$(mktemp -d "${TMPDIR:-/tmp}/aip-pgsql.XXXXXX") || return 1
        cp -r "$dir/dist" "$home/dist" && chown -R nobody: "$home" &&
            chmod 755 "$home" && echo "$home" >"$run/home"
    fi
}

pgsql_bin() {
    if [ -d "$1/dist" ]; then
        echo "$1/dist/pgserver/pginstall/bin"
    else
        echo "$2/dist/pgserver/pginstall/bin"
    fi
}

pgsql_sql() {
    dir=$1 port=$2
    PGPASSWORD=$PGSQL_PASSWORD "$dir/dist/pgserver/pginstall/bin/psql" -X -h 127.0.0.1 -p "$port" \
        -U $PGSQL_USER -v ON_ERROR_STOP=1 -Atqc "$3" "${4:-postgres}"
}

pgsql_cluster() {
    [ -f "$home/data/PG_VERSION" ] && return 0
    printf '%s\n' $PGSQL_PASSWORD >"$home/pw" && chmod 644 "$home/pw" || return 1
    pgsql_as "$bin/initdb" -D "$home/data" -U $PGSQL_USER -A scram-sha-256 --pwfile="$home/pw" \
        -E UTF8 --locale=C --no-sync >"$run/initdb.log" 2>&1 || {
        tail -n 5 "$run/initdb.log" >&2
        return 1
    }
    rm -f "$home/pw"
}

pgsql_start() {
    dir=$1 port=$2
    shift 2
    server_pid postgres "$dir" "$port" >/dev/null && return 0
    mkdir -p "$dir/run/$port" && dir=$(cd "$dir" && pwd) || return 1
    run=$dir/run/$port
    rm -f "$run/pid" "$run/log"
    pgsql_home "$dir" "$run" || return 1
    bin=$(pgsql_bin "$home" "$dir")
    pgsql_cluster || return 1
    pgsql_as "$bin/pg_ctl" -D "$home/data" -W -l "$home/log" -o "-h 127.0.0.1 -p $port -k '' \
-c fsync=off -c shared_buffers=16MB $*" start >/dev/null || return 1
    tries=150
    while [ $tries -gt 0 ]; do
        head -n 1 "$home/data/postmaster.pid" >"$run/pid" 2>/dev/null
        if server_pid postgres "$dir" "$port" >/dev/null &&
            pgsql_sql "$dir" "$port" 'SELECT 1' >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.1
        tries=$((tries - 1))
    done
    [ "$home" = "$run" ] || cp "$home/log" "$run/log"
    server_silent pgsql "$dir" "$port"
}

# The postmaster's TERM waits for clients, INT does not.
pgsql_stop() {
    for run in "$1/run/${2:-}"*; do
        port=${run##*/}
        [ -n "${2:-}" ] && [ "$port" != "$2" ] && continue
        pid=$(server_pid postgres "$1" "$port") && kill -INT "$pid" 2>/dev/null
    done
    server_stop postgres "$@"
}

pgsql_remove() {
    pgsql_stop "$1" "$2"
    home=$(cat "$1/run/$2/home" 2>/dev/null) && rm -rf "$home"
    rm -rf "$1/run/$2"
}

pgsql_usage() {
    echo "usage: pgsql.sh fetch DIR | start DIR PORT [ARG...] | sql DIR PORT SQL [DB]" \
        "| stop DIR [PORT] | remove DIR PORT" >&2
    return 2
}

pgsql_main() {
    verb=${1:-}
    [ $# -gt 0 ] && shift
    case $verb in
    fetch | stop) [ $# -ge 1 ] || pgsql_usage || return ;;
    start | remove) [ $# -ge 2 ] || pgsql_usage || return ;;
    sql) [ $# -ge 3 ] || pgsql_usage || return ;;
    *) pgsql_usage || return ;;
    esac
    "pgsql_$verb" "$@"
}

case ${0##*/} in
pgsql.sh) pgsql_main "$@" ;;
esac
