#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# llhttp, the HTTP parser of Node.js (MIT licence), which t/fuzz/fuzz_http1.c compares ours with. Built
# from the C source inside the Python package of the same name, whose hash is pinned here, as is that of
# the tool that pip needs to look at it. Nothing is installed outside DIR and nothing of it is shipped.
#
#   llhttp.sh fetch DIR     downloads and builds once (needs python3-pip and clang): DIR/llhttp.h, DIR/libllhttp.a
set -eu

sdist='llhttp==9.3.0.0 --hash=sha256:0d989363e7fb6f270b9d49956e7a3945c26778f8c70a166815264309ac6a8295'
tool='setuptools==80.9.0 --hash=sha256:062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922'

# download SCRATCH: leaves the source in SCRATCH/source
download() {
    local pip=(python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes)
    echo "$sdist" >"$1/sdist.txt"
    echo "$tool" >"$1/tool.txt"
    mkdir "$1/tool"
    "${pip[@]}" --only-binary=:all: -d "$1" -r "$1/tool.txt" &&
        python3 -m zipfile -e "$1"/setuptools-*.whl "$1/tool" &&
        PYTHONPATH=$1/tool "${pip[@]}" --no-binary=:all: --no-build-isolation --use-pep517 -d "$1" \
            -r "$1/sdist.txt" &&
        tar xzf "$1"/llhttp-*.tar.gz -C "$1" && mv "$1"/llhttp-*/lib "$1/source"
}

# build SOURCE OUT: under the sanitizers that the targets have; not for coverage, it is not what is looked at
build() {
    local unit
    mkdir "$2"
    for unit in api http llhttp; do
        clang -std=c11 -O1 -g -fsanitize=address -c -o "$1/$unit.o" "$1/$unit.c" || return
    done
    ar rcs "$2/libllhttp.a" "$1"/*.o && cp "$1/llhttp.h" "$2/"
}

fetch() {
    local dir made scratch status=0
    mkdir -p "$(dirname "$1")"
    dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") # pip looks for the tool from elsewhere
    # Made anew when a pin, or this file, changes.
    made=$(sha256sum "$0" | cut -d' ' -f1)
    [ "$(cat "$dir/made-of" 2>/dev/null)" = "$made" ] && return 0
    scratch=$(mktemp -d "$dir.XXXXXX")
    if download "$scratch" && build "$scratch/source" "$scratch/out" && echo "$made" >"$scratch/out/made-of"; then
        rm -rf "$dir"
        # Somebody who fetched at the same time may have been first; then theirs is as good.
        mv -T "$scratch/out" "$dir" 2>/dev/null || [ -f "$dir/made-of" ] || status=1
    else
        echo "llhttp.sh: cannot make llhttp in $dir" >&2
        status=1
    fi
    rm -rf "$scratch"
    return $status
}

if [ "${1:-}" != fetch ] || [ $# -ne 2 ]; then
    echo "usage: llhttp.sh fetch DIR" >&2
    exit 2
fi
fetch "$2"
