#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzz targets with libFuzzer, AddressSanitizer and UBSan.
#
#   fuzz.sh replay DIR             builds in DIR and runs every seed of t/fuzz/corpus once; TAP
#   fuzz.sh run DIR UNIT SECONDS   looks for new inputs; they stay in DIR/found/UNIT
set -eu

src=$(cd "$(dirname "$0")/../.." && pwd)
verb=${1:-}
dir=${2:-}
[ -n "$dir" ] || {
    echo 'usage: fuzz.sh replay DIR | run DIR UNIT SECONDS' >&2
    exit 2
}
mkdir -p "$dir/obj"
dir=$(cd "$dir" && pwd)
cd "$src"

read -r -a flags <<<"$(pkg-config --cflags apr-1 apr-util-1 libcurl jansson hiredis libpq openssl)"
read -r -a libs <<<"$(pkg-config --libs apr-1 apr-util-1 libcurl jansson hiredis libpq openssl)"
compile=(clang -std=gnu11 -O1 -g -Iinclude "${flags[@]}" '-DAIP_VERSION="fuzz"' "-DAIP_EMBEDDER_DIR=\"$src/share/embedder\""
    '-fsanitize=address,undefined,fuzzer-no-link' -fno-sanitize-recover=undefined)

# Objects that are older than their source or any header are made again, on all cores.
build() {
    local sources source object newest wrap name
    sources=$(find src/access src/balance src/chat src/embeddings src/net src/provider src/route src/secret src/vectordb -name '*.c' |
        sort)
    newest=$(find include src t/fuzz -name '*.h' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
    for source in $sources src/config/fields.c t/fuzz/fuzz_*.c; do
        object=$dir/obj/$(echo "$source" | tr / _).o
        if [ ! -e "$object" ] || [ "$source" -nt "$object" ] || [ "$newest" -nt "$object" ]; then
            printf '%s\0-o\0%s\0' "$source" "$object"
        fi
    done | xargs -0 -r -n 3 -P "$(nproc)" "${compile[@]}" -c
    for source in t/fuzz/fuzz_*.c; do
        object=$dir/obj/$(echo "$source" | tr / _).o
        wrap=() # what a target puts in place of our own
        while read -r name; do
            wrap+=("-Wl,--wrap=${name#__wrap_}")
        done < <(grep -ohE '__wrap_aip_\w+' "$source" | sort -u)
        clang -fsanitize=address,undefined,fuzzer "${wrap[@]}" "$object" "$dir"/obj/src_*.o "${libs[@]}" -lm \
            -o "$dir/$(basename "$source" .c)"
    done
}

replay() {
    local n=0 failed=0 source unit seed
    for source in t/fuzz/fuzz_*.c; do
        unit=$(basename "$source" .c)
        unit=${unit#fuzz_}
        if [ -z "$(ls "t/fuzz/corpus/$unit" 2>/dev/null)" ]; then
            n=$((n + 1)) failed=$((failed + 1))
            echo "not ok $n - $unit has no seeds"
            continue
        fi
        for seed in "t/fuzz/corpus/$unit"/*; do
            n=$((n + 1))
            if "$dir/fuzz_$unit" -rss_limit_mb=4096 -timeout=30 "$seed" >"$dir/out" 2>&1; then
                echo "ok $n - $unit ${seed##*/}"
            else
                failed=$((failed + 1))
                echo "not ok $n - $unit ${seed##*/}"
                sed 's/^/#   /' "$dir/out" | head -n 60
            fi
        done
    done
    echo "1..$n"
    [ $failed -eq 0 ]
}

case $verb in
replay)
    build
    replay
    ;;
run)
    build
    mkdir -p "$dir/found/${3:?unit}"
    cd "$dir"
    exec "./fuzz_$3" -max_total_time="${4:?seconds}" -rss_limit_mb=4096 "found/$3" "$src/t/fuzz/corpus/$3"
    ;;
*)
    echo "fuzz.sh: no such verb: $verb" >&2
    exit 2
    ;;
esac
