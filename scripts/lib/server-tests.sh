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
# AIP_REDIS_DIR (redis.sh fetch), AIP_PGSQL_DIR (pgsql.sh fetch), AIP_VAULT_DIR (vault.sh fetch), AIP_BROWSER_DIR (npm ci), AIP_CLIENTS_DIR, AIP_AWS_DIR and AIP_OTLP_DIR
# (virtual environments) are handed on, as copies if need be. AIP_TEST_HTTPD is started in place of httpd, with httpd's arguments
# (a wrapper that puts a tool in front of it); AIP_TEST_ENV are assignments, apart by spaces, that everything inherits. A run that takes longer than AIP_TEST_LIMIT seconds (2400) is
# ended.
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

# Folders of .cache that tests use; a copy where the user cannot read them.
mkdir "$work/scripts"
cp -r "$src/scripts/lib" "$work/scripts/"
redis_dir=
clients_dir=
if [ -d "${AIP_REDIS_DIR:-}/dist" ]; then
    redis_dir=$work/redis
    mkdir "$redis_dir"
    cp -r "$AIP_REDIS_DIR/dist" "$redis_dir/"
fi
vault_dir=
if [ -d "${AIP_VAULT_DIR:-}/dist" ]; then
    vault_dir=$work/vault
    mkdir "$vault_dir"
    cp -r "$AIP_VAULT_DIR/dist" "$vault_dir/"
fi
pgsql_dir=
if [ -d "${AIP_PGSQL_DIR:-}/dist" ]; then
    pgsql_dir=$work/pgsql
    mkdir "$pgsql_dir"
    cp -r "$AIP_PGSQL_DIR/dist" "$pgsql_dir/"
fi
if [ -n "${AIP_CLIENTS_DIR:-}" ]; then
    clients_dir=$(echo "$AIP_CLIENTS_DIR"/lib/python3*/site-packages)
fi
aws_dir=
if [ -n "${AIP_AWS_DIR:-}" ]; then
    aws_dir=$(echo "$AIP_AWS_DIR"/lib/python3*/site-packages)
fi
otlp_dir=
if [ -n "${AIP_OTLP_DIR:-}" ]; then
    otlp_dir=$(echo "$AIP_OTLP_DIR"/lib/python3*/site-packages)
fi

browser_dir=
if [ -n "${AIP_BROWSER_DIR:-}" ]; then
    browser_dir=$AIP_BROWSER_DIR
fi

as_user=
if [ "$(id -u)" = 0 ]; then
    chown -R "$user:" "$work"
    as_user="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups --"
fi
# shellcheck disable=SC2086
if [ -n "$clients_dir" ] && ! $as_user test -r "$clients_dir/openai/__init__.py"; then
    cp -r "$clients_dir" "$work/clients"
    chmod -R a+rX "$work/clients"
    clients_dir=$work/clients
fi
# shellcheck disable=SC2086
if [ -n "$aws_dir" ] && ! $as_user test -r "$aws_dir/botocore/__init__.py"; then
    cp -r "$aws_dir" "$work/aws"
    chmod -R a+rX "$work/aws"
    aws_dir=$work/aws
fi
# shellcheck disable=SC2086
if [ -n "$otlp_dir" ] && ! $as_user test -r "$otlp_dir/google/protobuf/__init__.py"; then
    cp -r "$otlp_dir" "$work/otlp"
    chmod -R a+rX "$work/otlp"
    otlp_dir=$work/otlp
fi

# shellcheck disable=SC2086
if [ -n "$browser_dir" ] && ! $as_user test -r "$browser_dir/node_modules/axe-core/axe.min.js"; then
    cp -r "$browser_dir" "$work/browser"
    chmod -R a+rX "$work/browser"
    browser_dir=$work/browser
fi

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
    AIP_SOAK_SECONDS="${AIP_SOAK_SECONDS:-}" AIP_CLIENTS_DIR="$clients_dir" AIP_REDIS_DIR="$redis_dir" AIP_TEST_REDIS_PORT="${AIP_TEST_REDIS_PORT:-}" \
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
