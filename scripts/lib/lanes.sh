#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The lanes of "scripts/test --full" that run the tests under a tool which looks for wrong memory and races.
#
#   lanes.sh asan|pool-debug|tsan|valgrind [units | t/NN_topic.t ...]
#
# Without more words a lane runs the unit tests and its choice of server tests. It builds in .cache/LANE. Prints what Check
# and server-tests.sh print and, last, "lane LANE: N passed, N failed" about the reports of the tool: any report fails
# it. Reports that are none of ours are listed with reasons in t/lanes/LANE.supp. Servers that tests need are handed over as
# scripts/lib/server-tests.sh says. Other things: analyse.sh, debian13.sh, apr-debug.sh.
#
# Functions are called by name:
# shellcheck disable=SC2317
set -eu -o pipefail

src=$(cd "$(dirname "$0")/../.." && pwd)
cd "$src"
lane=${1:?lane}
shift
dir=$src/.cache/$lane
mkdir -p "$dir"
case $lane in
asan | pool-debug) build=$src/.cache/asan ;;
valgrind) build=${AIP_BUILDDIR:-$src/.cache/build} ;;
*) build=$dir ;;
esac

# What of the server tests each lane runs: all that a request can pass, and what starts, restarts and ends threads and
# processes. The tools cost much more time than the tests.
requests='t/20_requests.t t/23_answers.t t/24_streaming.t t/31_failover.t t/41_routing.t'
state='t/25_statistics.t t/27_log.t t/34_restart.t t/34_stop.t t/70_metrics.t t/71_traces.t t/72_status_page.t'
edges='t/22_credentials.t t/26_usage.t t/30_faults.t t/35_http2.t t/42_embeddings.t t/43_redis.t
    t/46_sessions.t t/47_explain.t t/60_access.t t/62_vault.t t/63_redaction.t t/64_hostile.t t/64_hostile_upstream.t'
case $lane in
asan) files="$requests $state $edges" ;;
pool-debug) files="$requests $state t/35_http2.t" ;;
tsan) files="t/24_streaming.t t/71_traces.t" ;;
valgrind) files="t/20_requests.t t/24_streaming.t t/31_failover.t t/41_routing.t" ;;
esac

# The user of the server tests writes reports as well.
reports=$(mktemp -d "${TMPDIR:-/tmp}/aip-$lane.XXXXXX")
trap 'rm -rf "$reports"' EXIT
chmod 1777 "$reports"
cp t/lanes/*.supp "$reports/"
chmod 755 "$reports"/*.supp

build_with() {
    AIP_BUILDDIR=$build AIP_INSTALLDIR=$build/install CFLAGS=$1 scripts/build --enable-werror --with-check "${@:2}"
    make -C "$build" -j"$(nproc)" --no-print-directory t/unit/run t/unit/run_portable
}

# wrapper COMMAND...: what is started in httpd's place
wrapper() {
    printf '#!/bin/sh\nexec %s "$@"\n' "$*" >"$reports/httpd"
    chmod 755 "$reports/httpd"
}

preloads() {
    # shellcheck disable=SC2046
    cc -std=gnu11 -O1 -fPIC -shared $(pkg-config --cflags apr-1) -o "$reports/keep_loaded.so" t/tools/keep_loaded.c
}

httpd=$(apxs -q SBINDIR)/$(apxs -q PROGNAME)

prepare_asan() {
    build_with '-O1 -g' --enable-sanitizers
    preloads
    local options=detect_stack_use_after_return=1:check_initialization_order=1
    options=$options:malloc_context_size=15:abort_on_error=1:exitcode=0
    tool_env="ASAN_OPTIONS=$options:log_path=$reports/report"
    tool_env="$tool_env UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1"
    tool_env="$tool_env LSAN_OPTIONS=print_suppressions=0:log_path=$reports/report"
    [ "$lane" != asan ] || tool_env="$tool_env:suppressions=$reports/lsan.supp"
    # The mock, aipctl and the unit tests bring the library along; httpd is not made with it. Clocks of tests are preloaded too.
    # shellcheck disable=SC2016
    wrapper env "${1:-}" 'LD_PRELOAD="'"$(gcc -print-file-name=libasan.so) $reports/keep_loaded.so"' ${LD_PRELOAD:-}"' "$httpd"
}

# The same with an APR that takes and gives back memory at once instead of from its pools, so that what is used after its
# pool is seen.
prepare_pool_debug() {
    scripts/lib/apr-debug.sh "$src/.cache/apr-debug"
    tool_path=$src/.cache/apr-debug/lib
    if [ "$(id -u)" = 0 ]; then # the user of the server tests cannot look into the checkout
        cp -r "$tool_path" "$reports/apr"
        chmod -R a+rX "$reports/apr"
        tool_path=$reports/apr
    fi
    prepare_asan "LD_LIBRARY_PATH=$tool_path"
}

prepare_tsan() {
    build_with '-O1 -g' --enable-sanitizers=thread
    preloads
    # httpd and APR are not made with it: what they order among threads (mutexes, queues of connections) is seen through
    # pthread alone, and only accesses of our own code are looked at.
    tool_env="TSAN_OPTIONS=ignore_noninstrumented_modules=1:die_after_fork=0:suppressions=$reports/tsan.supp:print_suppressions=0"
    tool_env="$tool_env:halt_on_error=0:second_deadlock_stack=1:log_path=$reports/report"
    # shellcheck disable=SC2016
    wrapper env 'LD_PRELOAD="'"$(gcc -print-file-name=libtsan.so) $reports/keep_loaded.so"' ${LD_PRELOAD:-}"' "$httpd"
}

prepare_valgrind() {
    AIP_BUILDDIR=$build scripts/build --enable-werror --with-check
    make -C "$build" -j"$(nproc)" --no-print-directory t/unit/run t/unit/run_portable
    memcheck="valgrind -q --leak-check=full --show-leak-kinds=definite,indirect,possible"
    memcheck="$memcheck --errors-for-leak-kinds=definite,indirect,possible --keep-debuginfo=yes --num-callers=25"
    memcheck="$memcheck --suppressions=$reports/valgrind.supp --log-file=$reports/report.%p"
    tool_env=
    # Its malloc does not count, its own look for leaks does; two threads that wait for each other 50 000 times take it hours,
    # and comparing times of 120 MB of text a quarter of one.
    export CK_EXCLUDE_TAGS='counts-malloc lockstep timing'
    wrapper "$memcheck" "$httpd"
}

# Under a tool one process runs all unit tests: a look for leaks in each of them would take most of an hour.
units() {
    local before=()
    [ -z "$tool_env" ] || read -r -a before <<<"$tool_env"
    [ -z "${tool_path:-}" ] || before+=("LD_LIBRARY_PATH=$tool_path")
    # shellcheck disable=SC2086
    (
        cd "$build" || exit
        status=0
        for run in t/unit/run t/unit/run_portable; do
            env "${before[@]}" CK_FORK=no AIP_SRCDIR="$src" ${memcheck:-} $run 2>&1 || status=1
        done
        exit $status
    ) | tee "$reports/units"
}

servers() {
    mkdir "$reports/logs"
    AIP_LOGDIR=$reports/logs AIP_TEST_HTTPD=$reports/httpd AIP_TEST_ENV=$tool_env \
        scripts/lib/server-tests.sh "$build" event "$@" || return
}

verdict() {
    local report passed=1 failed=0
    # UBSan beside ASan writes to standard error: into the logs of httpd and mock, or our own output.
    grep -arhE -A 12 'runtime error:' "$reports/units" "$reports/logs" >"$reports/report.undefined" 2>/dev/null || :
    for report in "$reports"/report*; do
        [ -s "$report" ] || continue
        failed=$((failed + 1)) passed=0
        echo "---- ${report##*/}"
        cat "$report"
    done
    mkdir -p "${AIP_LOGDIR:-.cache/logs}/$lane"
    cp -r "$reports"/logs/. "${AIP_LOGDIR:-.cache/logs}/$lane/" 2>/dev/null || :
    echo "lane $lane: $passed passed, $failed failed"
    [ $failed -eq 0 ]
}

tool_env=
tool_path=
memcheck=
"prepare_${lane/-/_}" >&2
status=0
case ${1:-all} in
units) units || status=1 ;;
all)
    units || status=1
    # shellcheck disable=SC2086
    servers $files || status=1
    ;;
*) servers "$@" || status=1 ;;
esac
verdict || status=1
exit $status
