#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hiredis with TLS (hiredis_ssl) for the tests: Debian 12 has 0.14, which lacks it. Built from the C
# source inside the Python package of the same name (BSD licence), whose hash is pinned here, as is
# that of the tool that pip needs to look at it. Static, so that what is built against it runs
# anywhere; nothing is installed outside DIR and nothing of it is shipped.
#
#   hiredis.sh fetch DIR     downloads and builds once (needs python3-pip, cc and OpenSSL's headers)
#
# Then: PKG_CONFIG_PATH=DIR/lib/pkgconfig configure --with-hiredis-ssl

HIREDIS_SDIST='hiredis==3.5.0 --hash=sha256:c227592cc56b7df247abe4755c26723965be68972be2149fa441ac33d82131ba'
HIREDIS_TOOL='setuptools==80.9.0 --hash=sha256:062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922'
HIREDIS_CORE='alloc async hiredis net read sds'
HIREDIS_HEADERS='alloc.h async.h hiredis.h hiredis_ssl.h read.h sds.h'

# hiredis_download SCRATCH: leaves the source in SCRATCH/source. pip runs the package's setup.py to
# learn its name: with the pinned setuptools, and not with whatever is the latest.
hiredis_download() {
    pip="python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes"
    printf '%s\n' "$HIREDIS_SDIST" >"$1/sdist.txt"
    printf '%s\n' "$HIREDIS_TOOL" >"$1/tool.txt"
    mkdir "$1/tool" || return 1
    $pip --only-binary=:all: -d "$1" -r "$1/tool.txt" &&
        python3 -m zipfile -e "$1"/setuptools-*.whl "$1/tool" &&
        PYTHONPATH=$1/tool $pip --no-binary=:all: --no-build-isolation --use-pep517 \
            -d "$1" -r "$1/sdist.txt" &&
        tar xzf "$1"/hiredis-*.tar.gz -C "$1" && mv "$1"/hiredis-*/vendor/hiredis "$1/source"
}

# hiredis_archive OUT SOURCE NAME UNIT...: OUT/lib/libNAME.a
hiredis_archive() {
    out=$1 source=$2 name=$3
    shift 3
    objects=
    for unit in "$@"; do
        cc -std=c99 -O2 -g -fPIC -c -o "$source/$unit.o" "$source/$unit.c" || return 1
        objects="$objects $source/$unit.o"
    done
    # shellcheck disable=SC2086
    ar rcs "$out/lib/lib$name.a" $objects
}

# hiredis_pc OUT PREFIX VERSION NAME REQUIRES: what pkg-config says of a library. Its headers are not
# clean under our warnings: a system's are not looked at.
hiredis_pc() {
    cat >"$1/lib/pkgconfig/$4.pc" <<PC
prefix=$2
Name: $4
Description: Minimalistic C client for Redis
Version: $3
Requires: $5
Libs: -L\${prefix}/lib -l$4
Cflags: -isystem \${prefix}/include
PC
}

# hiredis_build SOURCE OUT PREFIX: fills OUT, which will be moved to PREFIX
hiredis_build() {
    version=$(sed -n 's/^#define HIREDIS_SONAME //p' "$1/hiredis.h")
    [ -n "$version" ] && mkdir -p "$2/include/hiredis" "$2/lib/pkgconfig" || return 1
    for header in $HIREDIS_HEADERS; do
        cp "$1/$header" "$2/include/hiredis/" || return 1
    done
    cp "$1/COPYING" "$2/" || return 1
    # shellcheck disable=SC2086
    hiredis_archive "$2" "$1" hiredis $HIREDIS_CORE && hiredis_archive "$2" "$1" hiredis_ssl ssl &&
        hiredis_pc "$2" "$3" "$version" hiredis '' &&
        hiredis_pc "$2" "$3" "$version" hiredis_ssl 'hiredis, libssl, libcrypto'
}

hiredis_fetch() {
    mkdir -p "$(dirname "$1")" || return 1
    dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") || return 1
    # Made anew when a pin, or this file, changes, and when the folder was moved.
    made="$dir $(sha256sum "$0" | cut -d' ' -f1)"
    [ "$(cat "$dir/made-of" 2>/dev/null)" = "$made" ] && return 0
    scratch=$(mktemp -d "$dir.XXXXXX") || return 1
    if hiredis_download "$scratch" && hiredis_build "$scratch/source" "$scratch/out" "$dir" &&
        echo "$made" >"$scratch/out/made-of"; then
        rm -rf "$dir"
        # Somebody who fetched at the same time may have been first; then theirs is as good.
        mv -T "$scratch/out" "$dir" 2>/dev/null || [ -f "$dir/made-of" ]
        status=$?
    else
        echo "hiredis.sh: cannot make hiredis in $dir" >&2
        status=1
    fi
    rm -rf "$scratch"
    return $status
}

if [ "${1:-}" != fetch ] || [ $# -ne 2 ]; then
    echo "usage: hiredis.sh fetch DIR" >&2
    exit 2
fi
hiredis_fetch "$2"
