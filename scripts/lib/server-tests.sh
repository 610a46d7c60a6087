#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs server tests under one MPM. httpd under Apache::Test refuses to run as root, and nobody cannot read a checkout below
# /root: so all that is needed is copied to a folder of the unprivileged user, and the tests run there as that user.
#
#   server-tests.sh BUILDDIR MPM [t/NN_topic.t ...]     all tests when none is named, but not those with a line "# build: ...",
#                                                       which need another build than the usual one
#
# Prints TAP of all files and, last, "server MPM: P passed, F failed". A test that was skipped, a plan that was not kept
# and a file that died count as failed. The logs go to AIP_LOGDIR when it is set. AIP_TEST_USER names the user (nobody).
# AIP_REDIS_DIR (redis.sh fetch), AIP_PGSQL_DIR (pgsql.sh fetch), AIP_VAULT_DIR (vault.sh fetch), AIP_BROWSER_DIR (npm ci),
# AIP_CLIENTS_DIR, AIP_AWS_DIR and AIP_OTLP_DIR (virtual environments) are handed on, as copies if need be.
# AIP_TEST_HTTPD is started in place of httpd, with httpd's arguments (a wrapper that puts a tool in front of it); AIP_TEST_ENV
# are assignments, apart by spaces, that everything inherits. A run that takes longer than AIP_TEST_LIMIT seconds (2400) is ended.
set -eu

src=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${1:?build folder}" && pwd)
mpm=${2:?MPM}
shift 2
user=${AIP_TEST_USER:-nobody}
apxs=$(command -v "${APXS:-apxs}")

work=$(mktemp -d "${TMPDIR:-/tmp}/aip-server.XXXXXX")

# Whatever still runs out of our folder: servers of a test that was killed.
leftovers() {
    local process
    for process in /proc/[0-9]*; do
        [ "${process#/proc/}" != $$ ] || continue
        case "$(readlink "$process/cwd" 2>/dev/null):$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null)" in
        *"$work"*) echo "${process#/proc/}" ;;
        esac
    done 2>/dev/null
}

sweep() {
    local pids signal
    for signal in TERM TERM KILL; do
        pids=$(leftovers)
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086
        kill -$signal $pids 2>/dev/null || :
        for _ in $(seq 30); do
            [ -n "$(leftovers)" ] || return 0
            sleep 0.1
        done
    done
}

finish() {
    local private
    sweep
    if [ -n "${AIP_LOGDIR:-}" ]; then
        mkdir -p "$AIP_LOGDIR/server-$mpm"
        cp "$work"/t/logs/*_log "$AIP_LOGDIR/server-$mpm/" 2>/dev/null || :
        for private in "$work"/t/state/private.*/error_log; do
            [ ! -e "$private" ] || cp "$private" "$AIP_LOGDIR/server-$mpm/$(basename "${private%/error_log}").error_log"
        done
        cp "$work"/t/state/shots/*.png "$AIP_LOGDIR/server-$mpm/" 2>/dev/null || :
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir "$work/bin"
cp "$build/.libs/mod_ai_proxy_adv.so" "$build/t/mock/mock" "$build/aipctl" "$work/bin/"
(cd "$src" && tar cf - --exclude='t/logs' --exclude='t/state' --exclude='t/htdocs' --exclude='t/conf/*.conf' \
    --exclude='*.o' --exclude='t/unit' --exclude='t/fuzz' --exclude='t/vault' t share conf docs/access.md docs/metrics.md docs/statistics.schema.json) | tar xf - -C "$work"
chmod 755 "$work"

mkdir "$work/scripts"
cp -r "$src/scripts/lib" "$work/scripts/"

# programs NAME DIR: a copy of a server's programs, which keeps its data beside them; prints where it is
programs() {
    [ -d "${2:-}/dist" ] || return 0
    mkdir "$work/$1"
    cp -r "$2/dist" "$work/$1/"
    echo "$work/$1"
}
redis_dir=$(programs redis "${AIP_REDIS_DIR:-}")
vault_dir=$(programs vault "${AIP_VAULT_DIR:-}")
pgsql_dir=$(programs pgsql "${AIP_PGSQL_DIR:-}")

as_user=
if [ "$(id -u)" = 0 ]; then
    chown -R "$user:" "$work"
    as_user="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups --"
fi

# packages NAME DIR FILE: DIR itself where the user can read FILE in it, else a copy; prints where it is
packages() {
    [ -n "$2" ] || return 0
    # shellcheck disable=SC2086
    if $as_user test -r "$2/$3"; then
        echo "$2"
        return
    fi
    cp -r "$2" "$work/$1"
    chmod -R a+rX "$work/$1"
    echo "$work/$1"
}

# site DIR: the packages of a virtual environment
site() {
    [ -z "$1" ] || echo "$1"/lib/python3*/site-packages
}
clients_dir=$(packages clients "$(site "${AIP_CLIENTS_DIR:-}")" openai/__init__.py)
aws_dir=$(packages aws "$(site "${AIP_AWS_DIR:-}")" botocore/__init__.py)
otlp_dir=$(packages otlp "$(site "${AIP_OTLP_DIR:-}")" google/protobuf/__init__.py)
browser_dir=$(packages browser "${AIP_BROWSER_DIR:-}" node_modules/axe-core/axe.min.js)

# Apache::Test takes whatever it finds.
if [ $# = 0 ]; then
    grep -lZ '^# build: ' "$work"/t/*.t | xargs -0r rm
fi

tests=()
for test in "$@"; do
    tests+=("t/${test##*/}")
done

# What a test inherits is chosen here: no proxy settings, no key of the caller's. In the background, because the shell
# would put a signal off until the run has ended.
read -r -a more <<<"${AIP_TEST_ENV:-}"
status=0
# shellcheck disable=SC2086
(cd "$work" && exec $as_user env -i PATH="$PATH" HOME=/nonexistent TMPDIR=/tmp LC_ALL=C.UTF-8 \
    AIP_MODULE="$work/bin/mod_ai_proxy_adv.so" AIP_MOCK="$work/bin/mock" AIP_AIPCTL="$work/bin/aipctl" AIP_APXS="$apxs" AIP_MPM="$mpm" \
    "${more[@]}" AIP_TEST_HTTPD="${AIP_TEST_HTTPD:-}" \
    AIP_SOAK_SECONDS="${AIP_SOAK_SECONDS:-}" AIP_SOAK_SEED="${AIP_SOAK_SEED:-}" AIP_CLIENTS_DIR="$clients_dir" AIP_REDIS_DIR="$redis_dir" AIP_TEST_REDIS_PORT="${AIP_TEST_REDIS_PORT:-}" \
    AIP_VAULT_DIR="$vault_dir" \
    AIP_AWS_DIR="$aws_dir" AIP_BROWSER_DIR="$browser_dir" CHROMIUM="${CHROMIUM:-$(command -v chromium || :)}" \
    AIP_OTLP_DIR="$otlp_dir" \
    AIP_PGSQL_DIR="$pgsql_dir" \
    AIP_TEST_MINILM_PORT="${AIP_TEST_MINILM_PORT:-}" AIP_TEST_MINILM_KEY="${AIP_TEST_MINILM_KEY:-}" \
    timeout --kill-after=20 "${AIP_TEST_LIMIT:-2400}" perl t/TEST.PL -verbose "${tests[@]}") </dev/null >"$work/tap" 2>&1 &
wait $! || status=$?
cat "$work/tap"

passed=$(grep -acE '^ok [0-9]+' "$work/tap" || :)
skipped=$(grep -aciE '^(ok [0-9]+.*# *skip|1\.\.0( |$))' "$work/tap" || :)
todo=$(grep -aciE '^not ok [0-9]+.*# *todo' "$work/tap" || :)
failed=$(grep -acE '^not ok [0-9]+' "$work/tap" || :)
passed=$((passed - $(grep -aciE '^ok [0-9]+.*# *skip' "$work/tap" || :)))
failed=$((failed + skipped))
[ "$todo" = 0 ] || echo "# $todo tests are marked as todo; they count as failed"
[ "$skipped" = 0 ] || echo "# $skipped tests were skipped; they count as failed"
if [ $status -ne 0 ] && [ $failed -eq 0 ]; then
    echo "# the run ended with status $status (124: after the time limit)"
    failed=1
fi
if [ $status -eq 0 ] && ! grep -aq '^Result: PASS' "$work/tap"; then
    echo "# no test was run"
    failed=$((failed + 1))
fi
echo "server $mpm: $passed passed, $failed failed"
[ $failed -eq 0 ]
