#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Guards: what the compiler does not see. Each prints one TAP line, with what is wrong as comments below it; exit status 1
# when one failed. A tool that is missing fails the guard that needs it.
#
#   AIP_SRCDIR    repository (default: the folder above this file)
#   AIP_BUILDDIR  where make ran (default: AIP_SRCDIR)
#   APXS          apxs of the httpd built for (default: apxs)
set -u
export LC_ALL=C

src=${AIP_SRCDIR:-$(cd "$(dirname "$0")/.." && pwd)}
build=$(cd "${AIP_BUILDDIR:-$src}" && pwd) || exit 2
cd "$src" || exit 2
cc=${CC:-cc}
apxs=${APXS:-apxs}
dump=$build/t/tools/dump_fields
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
n=0
failed=0

core=(src/access src/balance src/chat src/embeddings src/history src/metrics src/net src/provider src/route src/secret src/trace src/vectordb)
read -r -a lib_flags <<<"$(pkg-config --cflags apr-1 apr-util-1 libcurl jansson hiredis libpq openssl 2>"$tmp/pkg")"
read -r -a httpd_flags <<<"$("$apxs" -q EXTRA_CPPFLAGS 2>/dev/null) -I$("$apxs" -q INCLUDEDIR 2>/dev/null)"
compile=("$cc" -std=gnu11 -Iinclude "${lib_flags[@]}")

# guard NAME COMMAND...: passes when the command prints nothing and succeeds
guard() {
    local name=$1 status
    shift
    "$@" >"$tmp/out" 2>&1
    status=$?
    n=$((n + 1))
    if [ $status -eq 0 ] && [ ! -s "$tmp/out" ]; then
        echo "ok $n - $name"
        return
    fi
    echo "not ok $n - $name"
    [ $status -eq 0 ] || echo "#   exit status $status"
    head -n 40 "$tmp/out" | sed 's/^/#   /'
    failed=$((failed + 1))
}

core_sources() {
    find "${core[@]}" -name '*.c' | sort
    echo src/config/fields.c
}

# Sources and scripts of ours, one a line; no generated file, no build output.
our_files() {
    find mod_ai_proxy_adv.c src include t scripts .ci -type f \( "$@" \) \
        ! -path 't/logs/*' ! -path 't/htdocs/*' ! -path 't/state/*' ! -path '*/__pycache__/*' ! -path '*/.libs/*' | sort
}

shell_scripts() {
    local file
    our_files ! -name '*.c' ! -name '*.h' ! -path 't/data/*' ! -path 't/fuzz/*' | while read -r file; do
        head -n 1 "$file" | tr -d '\0' | grep -Eq '^#!.*[/ ](ba)?sh( |$)' && echo "$file"
    done
}

# ---- 1: the core knows no httpd ----

core_includes() {
    local file
    core_sources | while read -r file; do
        "${compile[@]}" "${httpd_flags[@]}" -M "$file" >"$tmp/deps" || echo "$file does not preprocess"
        grep -Eo '[^ ]*/(httpd|ap_[a-z_]+|http_[a-z_]+|util_[a-z_]+|mod_[a-z_]+|mpm_common|scoreboard)\.h' "$tmp/deps" |
            sed "s|^|$file reaches |"
    done
}

core_symbols() {
    nm -u "$build/.libs/libaip.a" | awk '$1 == "U" && $2 ~ /^(ap_|apreq_|proxy_|ssl_proxy)/ {print "libaip calls " $2}' | sort -u
    core_sources | xargs grep -nE '\bap_[a-z_]+ *\('
    return 0
}

# ---- 2: headers compile on their own ----

headers_alone() {
    local header
    for header in include/aip/*.h; do
        echo "#include \"${header#include/}\"" >"$tmp/alone.c"
        "${compile[@]}" "${httpd_flags[@]}" -Wall -Wextra -Werror -fsyntax-only "$tmp/alone.c" || echo "$header"
    done
}

# ---- 3: what leaves the module, and what it asks for ----

one_symbol() {
    local so=$build/.libs/mod_ai_proxy_adv.so got
    got=$(nm -D --defined-only "$so" | awk '{print $NF}')
    [ "$got" = ai_proxy_adv_module ] || printf 'exported: %s\n' "${got:-nothing}"
    nm -D --undefined-only "$so" | awk '$NF ~ /^(ap_proxy_|proxy_|ssl_)/ {print "needs " $NF " when it is loaded"}'
}

# ---- 4: log tags ----

log_tags() {
    grep -rhoE 'AIP[0-9]{4}' src mod_ai_proxy_adv.c | sort >"$tmp/tags"
    [ -s "$tmp/tags" ] || echo "no tags found"
    uniq -d "$tmp/tags" | sed 's/$/ is used more than once/'
}

log_tags_documented() {
    grep -hoE 'AIP[0-9]{4}' docs/log-messages.md | sort -u >"$tmp/documented"
    sort -u "$tmp/tags" | comm -23 - "$tmp/documented" | sed 's/$/ is not in docs\/log-messages.md/'
    sort -u "$tmp/tags" | comm -13 - "$tmp/documented" | sed 's/$/ is documented, but nothing logs it/'
}

# Every message from DEBUG up begins with its tag; only TRACE goes without.
log_calls_tagged() {
    # shellcheck disable=SC2016
    find src mod_ai_proxy_adv.c -name '*.c' -print0 | xargs -0 perl -0777 -ne '
        while (/\bap_log_\w+\(\s*APLOG_MARK,\s*APLOG_(\w+)(?:(?!;\n).)*?"((?:[^"\\]|\\.)*)"/gs) {
            my ($level, $text, $line) = ($1, $2, 1 + (substr($_, 0, $-[0]) =~ tr/\n//));
            next if $level =~ /^TRACE/ || $text =~ /^(AIP\d{4}: |%s)/;
            print "$ARGV:$line: \"$text\" has no tag\n";
        }'
}

# ---- 5: table, reference configuration, documents, facts ----

table_names() {
    "$dump" names >"$tmp/names" || return
    cut -f1 "$tmp/names" | sort >"$tmp/directives"
    [ -s "$tmp/directives" ] || echo "the table is empty"
    uniq -d "$tmp/directives" | sed 's/$/ is in the table twice/'
    grep -vE '^AI([A-Z0-9][a-z0-9]*)+$' "$tmp/directives"
    # The rule for names: AI and the words of the path, without targets[]; "vault" for what is a vault's own.
    awk -F'\t' '$2 != "-" {
        path = $2; sub(/^targets\[\]\./, "", path); sub(/^vaults\.(config\.)?/, "vault.", path); n = split(path, words, /[._]/); want = "AI"
        for (i = 1; i <= n; i++) want = want toupper(substr(words[i], 1, 1)) substr(words[i], 2)
        if ($1 != want) print $1 " should be named " want
    }' "$tmp/names"
}

# compare_names FILE: names on stdin against the table, both ways
compare_names() {
    sort -u >"$tmp/there"
    comm -23 "$tmp/directives" "$tmp/there" | sed "s|\$| is not in $1|"
    comm -13 "$tmp/directives" "$tmp/there" | sed "s|\$| in $1 is not in the table|"
}

conf_names() {
    sed -nE 's/^# *(AI[A-Za-z0-9]+) [^ ].*/\1/p' conf/ai_proxy_adv.conf | grep -v '^AITarget$' | compare_names conf/ai_proxy_adv.conf
    [ "$(grep -cE '^# *<AITarget |^#</AITarget>' conf/ai_proxy_adv.conf)" = 2 ] || echo "<AITarget> is not shown"
    grep -nE '^[^#]' conf/ai_proxy_adv.conf | sed 's/$/: a line that is no comment/'
}

docs_names() {
    # shellcheck disable=SC2016
    sed -nE 's/^\| <a id="[a-z0-9]+"><\/a>`(AI[A-Za-z0-9]+)`.*/\1/p' docs/directives.md | compare_names docs/directives.md
}

generated() {
    diff -u "$1" <("$dump" "$2") | head -n 20
}

kong_facts() {
    grep -v '^#' t/data/kong-fields.tsv | tail -n +2 >"$tmp/kong"
    awk -F'\t' '
        function fail(text) { print $1 ": " text }
        function listed(list, word,    i, n, part) {
            n = split(list, part, /, */)
            for (i = 1; i <= n; i++) if (part[i] == word) return 1
            return 0
        }
        FNR == NR { kong[$1] = $0; next }
        $2 == "-" { next }
        !($2 in kong && !seen[$2]++) { fail("field " $2 " is no field of t/data/kong-fields.tsv, or stands there twice"); next }
        {
            split(kong[$2], k, "\t")                          # field directive where type default range flags ours
            value = k[5] == "true" ? "On" : k[5] == "false" ? "Off" : k[5]
            if (match(k[8], /default [^,]+/)) value = substr(k[8], RSTART + 8, RLENGTH - 8)
            if ($1 != k[2]) fail("directive of " $2 " is " k[2])
            if ($3 != k[3]) fail("legal in " $3 ", not " k[3])
            if ($4 != k[4]) fail("type " $4 ", not " k[4])
            if ($5 != value) fail("default \"" $5 "\", not \"" value "\"")
            if ($7 != k[7]) fail("flags \"" $7 "\", not \"" k[7] "\"")
            if (k[6] ~ /^[0-9]+\.\.[0-9]+$/) {
                if ($6 != k[6]) fail("range " $6 ", not " k[6])
            } else if (k[6] != "") {
                m = split($6, words, ", ")
                if (!m) fail("allows any text, not " k[6])
                for (i = 1; i <= m; i++)
                    if (!listed(k[6], words[i]) && !listed(k[8], "word " words[i])) fail("word " words[i] " is not among " k[6])
            }
        }
        END { for (f in kong) if (!seen[f]) print f " has no row in the table" }
    ' "$tmp/kong" "$tmp/names"
}

# ---- 6: scripts ----

shell_checked() {
    local file
    shell_scripts | xargs shellcheck -x
    shell_scripts | while read -r file; do
        case $file in scripts/lib/*) ;; *) [ -x "$file" ] || echo "$file is not executable" ;; esac
    done
}

# ---- 7: what must not be called, or be left behind ----

banned() {
    our_files -name '*.[ch]' | xargs grep -nE \
        '\b(v?sprintf|strcpy|strcat|strtok|ato[ifl]|atoll|alloca|gets|redisCommand|redisAppendCommand)[[:space:]]*\('
    our_files -name '*' | grep -vE '^t/(data|fuzz/corpus)/|^t/guards\.sh$' | xargs grep -nwE 'TODO|FIXME' --binary-files=without-match
    return 0
}

no_vla() {
    local file
    core_sources | while read -r file; do
        "${compile[@]}" -Wvla -Werror -fsyntax-only "$file" || echo "$file"
    done
}

# ---- 8: tests that nobody runs ----

tests_added() {
    local file name
    for file in t/unit/test_*.c; do
        sed '1,/^Suite \*.*)$/d' "$file" >"$tmp/suite"
        [ -s "$tmp/suite" ] || echo "$file has no suite"
        sed -nE 's/^START_TEST\(([a-zA-Z0-9_]+)\).*/\1/p' "$file" | while read -r name; do
            grep -qw -- "$name" "$tmp/suite" || echo "$file: $name is in no suite"
        done
        sed -nE 's/^Suite \*([a-z0-9_]+)\(void\)$/\1/p' "$file" | while read -r name; do
            grep -qw -- "$name" t/unit/main.c t/unit/main_redis.c t/unit/main_pgvector.c || echo "$name is run by no program"
        done
    done
}

# ---- 9, 10: every file ----

spdx() {
    local file
    {
        our_files -name '*.[ch]' -o -name '*.sh' -o -name '*.p[lmy]' -o -name '*.PL' -o -name '*.t' -o -name '*.in'
        shell_scripts
        find scripts .ci -type f ! -name '*.pyc'
        find conf -name '*.conf'
        ls configure.ac Makefile.am
    } | sort -u | while read -r file; do
        head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$file"
    done
}

# Above 600 lines a file wants to be two.
too_long() {
    our_files -name '*.[ch]' -o -name '*.sh' -o -name '*.p[lm]' -o -name '*.t' | grep -v '^src/embeddings/unicode_tables\.c$' |
        xargs wc -l | awk '$2 != "total" && $1 > 600 {print $2 " has " $1 " lines"}'
}

# ---- 11: directives that no server test uses ----

directives_tested() {
    local name
    while read -r name; do
        grep -qw -- "$name" t/*.t || echo "$name is in no t/*.t"
    done <"$tmp/directives"
}

guard 'libraries and httpd are found' sh -c "cat '$tmp/pkg'; '$apxs' -q INCLUDEDIR >'$tmp/apxs'"
guard 'core sources reach no header of httpd' core_includes
guard 'the core calls nothing of httpd' core_symbols
guard 'every header compiles on its own' headers_alone
guard 'the module exports one symbol and needs none of mod_proxy or mod_ssl' one_symbol
guard 'log tags are unique' log_tags
guard 'log tags are documented' log_tags_documented
guard 'every log message has a tag' log_calls_tagged
guard 'the table names directives by the rule' table_names
guard 'conf/ai_proxy_adv.conf has every directive' conf_names
guard 'docs/directives.md has every directive' docs_names
guard 'conf/ai_proxy_adv.conf is up to date' generated conf/ai_proxy_adv.conf conf
guard 'docs/directives.md is up to date' generated docs/directives.md directives
guard 'docs/kong-fields.md is up to date' generated docs/kong-fields.md fields
guard 'types, defaults and ranges are those of the fields' kong_facts
guard 'shellcheck is content and scripts are executable' shell_checked
guard 'no banned function, nothing left to do' banned
guard 'no variable-length array in the core' no_vla
guard 'every unit test is run' tests_added
guard 'every source names its licence' spdx
guard 'no file is too long' too_long
guard 'every directive is in a server test' directives_tested
echo "1..$n"
[ $failed -eq 0 ]
