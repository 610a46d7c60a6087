#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A real HashiCorp Vault for the tests: its own core and HTTP API, built from t/vault. The first
# fetch takes minutes and some 3 GB while it lasts; what stays is one binary of 40 MB. Nothing is
# installed outside DIR and nothing of it is shipped.
#
#   vault.sh fetch DIR              builds once for each state of t/vault (needs Go >= 1.20, or takes
#                                   a pinned one from the Go proxy with python3; x86-64)
#   vault.sh start DIR PORT [ARG]   starts a server on 127.0.0.1:PORT; each ARG goes to the server
#                                   (-root-token, -tls-cert, -tls-key, -log, -unseal-key-file)
#   vault.sh stop DIR [PORT]        stops the server on PORT, or all that were started from DIR
#
# The binary is DIR/dist/testvault. May be sourced as well (set AIP_SCRIPT_LIB to this folder then):
# vault_fetch, vault_start and vault_stop take the same arguments.

: "${AIP_SCRIPT_LIB:=$(dirname "$0")}"
# shellcheck source=scripts/lib/common.sh
. "$AIP_SCRIPT_LIB/common.sh"

VAULT_GO=go1.26.8
VAULT_GO_SHA256=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7

# What the binary is made of, as one word.
vault_key() {
    (cd "$AIP_SCRIPT_LIB/../../t/vault" && find . -name '*.go' -o -name go.mod -o -name go.sum) |
        LC_ALL=C sort | (cd "$AIP_SCRIPT_LIB/../../t/vault" && xargs sha256sum) | sha256sum |
        cut -d' ' -f1
}

vault_fetched() {
    [ -x "$1/dist/testvault" ] && [ "$(cat "$1/dist/key" 2>/dev/null)" = "$(vault_key)" ]
}

# A go command that is new enough; Debian 12's is 1.19.
vault_go_here() {
    for go in "$(command -v go)" /usr/local/go/bin/go; do
        [ -x "$go" ] || continue
        # Not the one that a project or a user's settings would have it become.
        minor=$(GOTOOLCHAIN=local GOENV=off "$go" version 2>/dev/null |
            sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
        if [ "${minor:-0}" -ge 20 ]; then
            echo "$go"
            return 0
        fi
    done
    return 1
}

# vault_go_download SCRATCH: the pinned toolchain, which the Go proxy serves as a module.
vault_go_download() {
    proxy=${GOPROXY:-https://proxy.golang.org}
    proxy=${proxy%%[,|]*}
    case $proxy in http*) ;; *) proxy=https://proxy.golang.org ;; esac
    python3 - "$proxy/golang.org/toolchain/@v/v0.0.1-$VAULT_GO.linux-amd64.zip" \
        "$VAULT_GO_SHA256" "$1" <<'PYTHON' || return 1
import hashlib, io, sys, urllib.request, zipfile

url, wanted, folder = sys.argv[1:]
data = urllib.request.urlopen(url, timeout=120).read()
if hashlib.sha256(data).hexdigest() != wanted:
    sys.exit('vault.sh: ' + url + ' is not what it was')
zipfile.ZipFile(io.BytesIO(data)).extractall(folder)
PYTHON
    root=$1/golang.org/toolchain@v0.0.1-$VAULT_GO.linux-amd64
    # A module has no executable files; these are.
    chmod +x "$root"/bin/* "$root"/pkg/tool/*/* && echo "$root/bin/go"
}

# vault_build SCRATCH: SCRATCH/dist/testvault. The caller's settings of Go do not count, but for the
# proxy that it asks.
vault_build() {
    scratch=$1
    go=$(vault_go_here) || go=$(vault_go_download "$scratch") || return 1
    mkdir -p "$scratch/tmp" "$scratch/dist" || return 1
    # The module cache is read-only unless told otherwise, and could not be removed.
    (cd "$AIP_SCRIPT_LIB/../../t/vault" && nice env -u GOROOT -u GOOS -u GOARCH -u GOEXPERIMENT \
        HOME="$scratch" TMPDIR="$scratch/tmp" GOPATH="$scratch/go" GOCACHE="$scratch/cache" \
        GOMODCACHE="$scratch/modules" GOENV=off GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0 \
        GOFLAGS='-modcacherw -trimpath -buildvcs=false' \
        "$go" build -ldflags '-s -w' -o "$scratch/dist/testvault" .)
}

vault_fetch() {
    dir=$1
    vault_fetched "$dir" && return 0
    mkdir -p "$dir" && dir=$(cd "$dir" && pwd) || return 1
    # Nobody wants two such builds at a time; and whatever an interrupted one left is in the way.
    (
        flock -w 1800 9 || exit 1
        vault_fetched "$dir" && exit 0
        rm -rf "$dir"/fetch.*
        scratch=$(mktemp -d "$dir/fetch.XXXXXX") || exit 1
        key=$(vault_key)
        # Once more for the sake of a download that broke; what is there already is not fetched again.
        # The lock is not for the children: one that outlives us would keep it.
        { vault_build "$scratch" || vault_build "$scratch"; } 9>&- &&
            printf '%s\n' "$key" >"$scratch/dist/key" && rm -rf "$dir/dist" &&
            mv "$scratch/dist" "$dir/dist"
        status=$?
        rm -rf "$scratch"
        exit $status
    ) 9>"$dir/lock" || {
        echo "vault.sh: cannot build Vault in $dir" >&2
        return 1
    }
}

vault_start() {
    dir=$1 port=$2
    shift 2
    server_pid testvault "$dir" "$port" >/dev/null && return 0
    run=$dir/run/$port
    mkdir -p "$run" && rm -f "$run/pid" || return 1
    "$dir/dist/testvault" -listen "127.0.0.1:$port" "$@" >"$run/log" 2>&1 </dev/null &
    pid=$!
    echo $pid >"$run/pid"
    tries=300
    while [ $tries -gt 0 ] && kill -0 $pid 2>/dev/null; do
        grep -qsx ready "$run/log" && return 0
        sleep 0.1
        tries=$((tries - 1))
    done
    server_silent vault "$dir" "$port"
}

vault_stop() {
    server_stop testvault "$@"
}

vault_usage() {
    echo "usage: vault.sh fetch DIR | start DIR PORT [ARG...] | stop DIR [PORT]" >&2
    return 2
}

vault_main() {
    verb=${1:-}
    [ $# -gt 0 ] && shift
    case $verb in
    fetch | stop) [ $# -ge 1 ] || vault_usage || return ;;
    start) [ $# -ge 2 ] || vault_usage || return ;;
    *) vault_usage || return ;;
    esac
    "vault_$verb" "$@"
}

case ${0##*/} in
vault.sh) vault_main "$@" ;;
esac
