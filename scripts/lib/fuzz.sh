#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzz targets with libFuzzer, AddressSanitizer and UBSan.
#
#   fuzz.sh replay DIR             builds in DIR and runs every seed of t/fuzz/corpus once; TAP
#   fuzz.sh run DIR UNIT SECONDS   looks for new inputs; they stay in DIR/found/UNIT
#   fuzz.sh record DIR SECONDS [UNIT ...]
#                                  the same for one unit after the other (all when none is named), with a line for each
#                                  in DIR/record.tsv: date, unit, seconds, executions, executions per second, edges,
#                                  inputs kept, failures (their inputs are in DIR/record/UNIT)
#   fuzz.sh merge DIR UNIT         adds to the seeds what of DIR/found/UNIT reaches something new
set -eu

src=$(cd "$(dirname "$0")/../.." && pwd)
verb=${1:-}
dir=${2:-}
[ -n "$dir" ] || {
    echo 'usage: fuzz.sh replay DIR | run DIR UNIT SECONDS | record DIR SECONDS [UNIT ...] | merge DIR UNIT' >&2
    exit 2
}
mkdir -p "$dir/obj"
dir=$(cd "$dir" && pwd)
cd "$src"

read -r -a flags <<<"$(pkg-config --cflags apr-1 apr-util-1 libcurl jansson hiredis libpq openssl)"
read -r -a libs <<<"$(pkg-config --libs apr-1 apr-util-1 libcurl jansson hiredis libpq openssl)"
compile=(clang -std=gnu11 -D_GNU_SOURCE -O1 -g -Iinclude "${flags[@]}" '-DAIP_VERSION="fuzz"' "-DAIP_EMBEDDER_DIR=\"$src/share/embedder\""
    '-fsanitize=address,undefined,fuzzer-no-link' -fno-sanitize-recover=undefined)

all=()
limits=(-rss_limit_mb=4096 -timeout=30)

# What fuzz_http1.c compares with.
scripts/lib/llhttp.sh fetch "$dir/llhttp"
compile+=(-isystem "$dir/llhttp")
libs+=("$dir/llhttp/libllhttp.a")

# outdated NEWEST SOURCE...: those whose object is older than themselves or than a header
outdated() {
    local newest=$1 source object
    shift
    for source in "$@"; do
        object=$dir/obj/$(echo "$source" | tr / _).o
        if [ ! -e "$object" ] || [ "$source" -nt "$object" ] || [ "$newest" -nt "$object" ]; then
            printf '%s\0-o\0%s\0' "$source" "$object"
        fi
    done
}

newest_header() {
    find "$@" -name '*.h' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2
}

# build UNIT...: what is older than what it is made of, on all cores
build() {
    local sources targets=() unit object name wrap
    mapfile -t sources < <(find src/access src/balance src/chat src/embeddings src/metrics src/net src/provider src/route \
        src/secret src/trace src/vectordb -name '*.c' | sort)
    for unit in "$@"; do
        targets+=("t/fuzz/fuzz_$unit.c")
    done
    {
        outdated "$(newest_header include src)" "${sources[@]}" src/config/fields.c
        outdated "$(newest_header include src t/fuzz)" "${targets[@]}"
    } | xargs -0 -r -n 3 -P "$(nproc)" "${compile[@]}" -c
    if [ -n "$(find "$dir"/obj/src_*.o -newer "$dir/libcore.a" 2>&1)" ]; then
        rm -f "$dir/libcore.a"
        ar rcs "$dir/libcore.a" "$dir"/obj/src_*.o
    fi
    for unit in "$@"; do
        object=$dir/obj/t_fuzz_fuzz_$unit.c.o
        [ "$dir/fuzz_$unit" -nt "$object" ] && [ "$dir/fuzz_$unit" -nt "$dir/libcore.a" ] && continue
        wrap=() # what a target puts in place of a function of ours, or of a library
        while read -r name; do
            wrap+=("-Wl,--wrap=${name#__wrap_}")
        done < <(grep -ohE '__wrap_\w+' "t/fuzz/fuzz_$unit.c" | sort -u)
        clang -fsanitize=address,undefined,fuzzer "${wrap[@]}" "$object" "$dir/libcore.a" "${libs[@]}" -lm \
            -o "$dir/fuzz_$unit"
    done
}

units() {
    local source
    for source in t/fuzz/fuzz_*.c; do
        source=${source##*/fuzz_}
        echo "${source%.c}"
    done
}

# All seeds of a unit in one process; when it fails, each in one of its own, to say which it was.
replay() {
    local n=0 failed=0 unit seed whole
    for unit in $(units); do
        if [ -z "$(ls "t/fuzz/corpus/$unit" 2>/dev/null)" ]; then
            n=$((n + 1)) failed=$((failed + 1))
            echo "not ok $n - $unit has no seeds"
            continue
        fi
        whole=yes
        "$dir/fuzz_$unit" "${limits[@]}" "t/fuzz/corpus/$unit"/* >"$dir/out" 2>&1 || whole=no
        for seed in "t/fuzz/corpus/$unit"/*; do
            n=$((n + 1))
            if [ $whole = yes ] || "$dir/fuzz_$unit" "${limits[@]}" "$seed" >"$dir/out" 2>&1; then
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

# record_unit UNIT SECONDS: in a copy, so that a build meanwhile changes nothing
record_unit() {
    local unit=$1 at=$dir/record/$1 found=$dir/found/$1 begin=$SECONDS
    rm -rf "$at"
    mkdir -p "$at" "$found"
    cp "$dir/fuzz_$unit" "$at/fuzz"
    "$at/fuzz" "${limits[@]}" -max_total_time="$2" -print_final_stats=1 -artifact_prefix="$at/" "$found" \
        "$src/t/fuzz/corpus/$unit" >"$at/log" 2>&1 || true
    awk -v OFS='\t' -v date="$(date -u +%Y-%m-%dT%H:%MZ)" -v unit="$unit" -v seconds=$((SECONDS - begin)) \
        -v failures="$(find "$at" -regex '.*/\(crash\|oom\|timeout\|leak\)-.*' | wc -l)" '
        /^#[0-9]/ { for (i = 1; i < NF; i++) { if ($i == "cov:") edges = $(i + 1); if ($i == "corp:") kept = $(i + 1) } }
        /^stat::number_of_executed_units/ { runs = $2 }
        END { sub("/.*", "", kept)
            print date, unit, seconds, runs + 0, seconds ? int(runs / seconds) : 0, edges + 0, kept + 0, failures }' \
        "$at/log" | tee -a "$dir/record.tsv"
}

case $verb in
replay)
    mapfile -t all < <(units)
    build "${all[@]}"
    replay
    ;;
record)
    seconds=${3:?seconds}
    shift 3
    [ $# -gt 0 ] || mapfile -t all < <(units)
    for unit in "${@:-${all[@]}}"; do
        build "$unit"
        record_unit "$unit" "$seconds"
    done
    ;;
merge)
    build "${3:?unit}"
    exec python3 scripts/lib/fuzz_merge.py "$dir/fuzz_$3" "$src/t/fuzz/corpus/$3" "$dir/found/$3"
    ;;
run)
    build "${3:?unit}"
    mkdir -p "$dir/found/$3"
    cd "$dir"
    exec "./fuzz_$3" "${limits[@]}" -max_total_time="${4:?seconds}" "found/$3" "$src/t/fuzz/corpus/$3"
    ;;
*)
    echo "fuzz.sh: no such verb: $verb" >&2
    exit 2
    ;;
esac
