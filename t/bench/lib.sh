# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What run and route share, which source it: the private httpd, the mock upstream, one measurement, the rounds. The sourcing
# script sets `variants` and `cells` and defines `measure ROUND CELL... VARIANT`.

bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
module=
mock=$bench/../mock/mock
rounds=9
seconds=1
conns="1 16 64"
tsv=
check=no
mpm=${BENCH_MPM:-event}
variants=
cells=()
rotate=no
tmp=
mock_pid=
collector_pid=
httpd_pid=

die() {
    echo "bench: $*" >&2
    exit 2
}

need_value() {
    [ $# -ge 2 ] || die "$1 needs a value"
}

# take_option --NAME VALUE: into the variable of that name
take_option() {
    need_value "$@"
    local name=${1#--}
    printf -v "${name//-/_}" '%s' "$2"
}

wait_gone() {
    for _ in $(seq 100); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
}

# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    if [ -n "$httpd_pid" ]; then
        kill -TERM "$httpd_pid" 2>/dev/null || true
        wait_gone "$httpd_pid"
    fi
    if [ -n "$mock_pid" ]; then
        kill -TERM "$mock_pid" 2>/dev/null || true
    fi
    if [ -n "$collector_pid" ]; then
        kill -TERM "$collector_pid" 2>/dev/null || true
    fi
    rm -rf "$tmp"
}

# Checks what every benchmark needs, once the options are read.
begin() {
    local tool

    for tool in wrk curl awk; do
        command -v "$tool" >/dev/null || die "$tool is not installed"
    done
    [ -x "$mock" ] || die "no mock upstream at $mock (--mock)"
    if [ -n "$module" ]; then
        module=$(readlink -e "$module") || die "no such module (--module)"
    fi
    tmp=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT TERM
}

# ---- the mock
# start_mock N: with N ports, whose numbers are then in the array ports, and one more that only finds a free number for httpd
start_mock() {
    local args=() i

    for i in $(seq "$1"); do
        args+=(--port "$([ "$i" = 1 ] && echo "${BENCH_MOCK_PORT:-0}" || echo 0)")
    done
    "$mock" --record 0 "${args[@]}" --port 0 --control-port 0 >"$tmp/mock.out" &
    mock_pid=$!
    for _ in $(seq 100); do
        grep -q '^ready$' "$tmp/mock.out" && break
        kill -0 "$mock_pid" 2>/dev/null || die "the mock did not start"
        sleep 0.05
    done
    mapfile -t ports < <(awk '$1 == "port" { print $2 }' "$tmp/mock.out")
    mock_at=127.0.0.1:${ports[0]}
    control=http://127.0.0.1:$(awk '$1 == "control-port" { print $2 }' "$tmp/mock.out")/__mock
    curl -sSf -o /dev/null "$control/port" -d "{\"port\":${ports[$1]},\"listen\":false}"
    httpd_port=${BENCH_HTTPD_PORT:-${ports[$1]}}
}

behave() {
    curl -sSf -o /dev/null -X POST "$control/reset"
    curl -sSf -o /dev/null "$control/behave" -d "$1"
}

# ---- httpd
find_httpd() {
    local apxs=${APXS:-$(command -v apxs || command -v apxs2 || true)}

    httpd=${HTTPD:-}
    modules=/usr/lib/apache2/modules
    if [ -n "$apxs" ]; then
        httpd=${httpd:-$("$apxs" -q sbindir)/$("$apxs" -q progname)}
        modules=$("$apxs" -q libexecdir)
    fi
    httpd=${httpd:-/usr/sbin/apache2}
    [ -x "$httpd" ] || die "no httpd at $httpd (HTTPD)"
}

# load_modules NAME...: those that are not linked into httpd
load_modules() {
    local m

    for m in "$@"; do
        [ ! -e "$modules/mod_$m.so" ] || echo "LoadModule ${m}_module $modules/mod_$m.so"
    done
}

# Everything but the locations.
server_config() {
    local user=www-data

    id -u "$user" >/dev/null 2>&1 || user=nobody
    load_modules "mpm_$mpm" unixd authz_core proxy proxy_http
    [ -z "$module" ] || echo "LoadModule ai_proxy_adv_module $module"
    [ "$(id -u)" != 0 ] || printf 'User %s\nGroup %s\n' "$user" "$(id -gn "$user")"
    cat <<CONF
ServerRoot $tmp
DefaultRuntimeDir $tmp
PidFile $tmp/httpd.pid
ErrorLog $tmp/error.log
LogLevel warn
Mutex pthread
ServerName localhost
Listen 127.0.0.1:$httpd_port
DocumentRoot $tmp
<Directory />
    AllowOverride None
</Directory>
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
<IfModule !mpm_prefork_module>
    StartServers 2
    ServerLimit 2
    ThreadsPerChild 64
    MaxRequestWorkers 128
    MinSpareThreads 1
    MaxSpareThreads 128
</IfModule>
<IfModule mpm_prefork_module>
    StartServers 72
    MinSpareServers 1
    MaxSpareServers 72
    MaxRequestWorkers 72
</IfModule>
CONF
}

start_httpd() {
    chmod 755 "$tmp"
    "$httpd" -f "$tmp/httpd.conf" -t >"$tmp/t.out" 2>&1 || die "configuration: $(cat "$tmp/t.out")"
    "$httpd" -f "$tmp/httpd.conf" -k start
    for _ in $(seq 100); do
        [ -s "$tmp/httpd.pid" ] && curl -s -o /dev/null "http://127.0.0.1:$httpd_port/" && break
        sleep 0.1
    done
    httpd_pid=$(cat "$tmp/httpd.pid" 2>/dev/null) || die "httpd did not start: $(cat "$tmp/error.log")"
}

httpd_version() {
    "$httpd" -v | sed -n 's/^Server version: //p'
}

# log_lines LEVEL|...: the most frequent messages of these levels in httpd's log; fails when there are none
log_lines() {
    [ -s "$tmp/error.log" ] && grep -qE "\[[a-z_]*:($1)\]" "$tmp/error.log" || return
    echo "error log:"
    grep -E "\[[a-z_]*:($1)\]" "$tmp/error.log" | sort | uniq -c | sort -rn | head -5
}

# ---- one measurement
# CPU ticks of httpd's children so far
child_ticks() {
    local sum=0 pid stat children

    read -ra children <"/proc/$httpd_pid/task/$httpd_pid/children" || true
    for pid in "${children[@]}"; do
        stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
        # shellcheck disable=SC2086 # split on purpose: fields behind the command name
        set -- ${stat##*) }
        sum=$((sum + ${12} + ${13}))
    done
    echo "$sum"
}

# sample SCRIPT CONNS URL: runs wrk and prints requests/s, CPU us per request, p50 us, p99 us, errors, requests
sample() {
    local before after figures

    before=$(child_ticks)
    figures=$(wrk -t1 -c"$2" -d"${seconds}s" -s "$bench/$1" "$3" | grep ^FIGURES) || die "wrk gave no figures"
    after=$(child_ticks)
    printf '%s\n' "$figures $((after - before))" | awk -v tick="$(getconf CLK_TCK)" -v OFS='\t' '{ n = $2 ? $2 : 1
        print $2 / ($3 / 1e6), $7 / tick * 1e6 / n, $4, $5, $6, $2 }'
}

# order_of ROUND: every second round the other way round, so that no variant always runs on the warmer machine; with `rotate`
# each begins a round in its turn as well
order_of() {
    local list turn=0

    read -ra list <<<"$variants"
    [ $rotate = no ] || turn=$(($1 / 2 % ${#list[@]}))
    list=("${list[@]:turn}" "${list[@]:0:turn}")
    if [ $(($1 % 2)) = 1 ]; then
        echo "${list[*]}"
    else
        printf '%s\n' "${list[@]}" | tac | tr '\n' ' '
    fi
}

# Every cell with every variant, round by round; round 0 warms up and is not counted.
run_rounds() {
    local round cell v order

    for round in $(seq 0 "$rounds"); do
        order=$(order_of "$round")
        for cell in "${cells[@]}"; do
            for v in $order; do
                # shellcheck disable=SC2086 # a cell may have several words
                if [ "$round" = 0 ]; then
                    seconds=1 measure 0 $cell "$v"
                else
                    measure "$round" $cell "$v"
                fi
            done
        done
        [ "$round" = 0 ] || echo "bench: round $round of $rounds done, load $(cut -d' ' -f1 /proc/loadavg)" >&2
    done
}

# keep_figures COLUMN...: drops the warm-up round, and writes the others to the file of --tsv
keep_figures() {
    sed -i '/^0\t/d' "$tmp/figures"
    [ -z "$tsv" ] || {
        (
            IFS=$'\t'
            echo "$*"
        )
        cat "$tmp/figures"
    } >"$tsv"
}

note_load() {
    if awk -v cores="$(nproc)" '{ exit !($1 > cores) }' /proc/loadavg; then
        echo "note: others use this machine (load above the number of cores); look at the quartiles before trusting a $1"
    fi
}

# For awk programs that report: quantiles of lists of numbers, "1 2 3".
# shellcheck disable=SC2034 # used by the sourcing script
awk_quantiles='
    # the value below which the share q of a list lies, between neighbours in proportion
    function quantile(list, q,   a, n, i, j, t, at) {
        n = split(list, a, " ")
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && a[j - 1] + 0 > a[j] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
        at = 1 + (n - 1) * q
        i = int(at)
        return i < n ? a[i] + (at - i) * (a[i + 1] - a[i]) : a[n] + 0
    }
    function median(list) { return quantile(list, 0.5) }'
