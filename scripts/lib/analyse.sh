#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The analysers of "scripts/test analyse": gcc -fanalyzer, clang-tidy (.clang-tidy) and cppcheck over each C file of the
# module, of aipctl and of the mock.
#
#   analyse.sh DIR [FILE.c ...]     TAP, one line for each tool and file. What DIR holds of a former run is used again while
#                                   the file, all headers and the settings are as they were
#
# A finding fails. What is none has its reason in .clang-tidy, t/lanes/gcc-analyzer.supp, t/lanes/cppcheck.supp or, as
# NOLINT(check), beside the line.
set -eu

src=$(cd "$(dirname "$0")/../.." && pwd)
cd "$src"
dir=${1:?folder}
shift
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
tools='gcc clang-tidy cppcheck'
export LC_ALL=C

read -r -a flags <<<"$(pkg-config --cflags apr-1 apr-util-1 libcurl jansson hiredis libpq openssl)"
flags=(-std=gnu11 -Iinclude "${flags[@]}" "-I$(apxs -q INCLUDEDIR)" -D_GNU_SOURCE '-DAIP_VERSION="analysed"' '-DAIP_EMBEDDER_DIR="/x"'
    '-DAIP_HTTPD="/x"' '-DAIP_HTTPD_MODULES="/x"' '-DAIP_MODULE_PATH="/x"')

# Says what is found, and nothing when nothing is.
findings() {
    local tool=$1 file=$2
    case $tool in
    gcc)
        gcc -fanalyzer -O1 "${flags[@]}" -c "$file" -o /dev/null 2>"$dir/gcc.$$" || echo "gcc failed"
        # A warning counts, and the paths to it are shown, unless it is a known one.
        if grep -E '(warning|error):' "$dir/gcc.$$" | grep -vE -f <(grep -v '^#' t/lanes/gcc-analyzer.supp); then
            cat "$dir/gcc.$$"
        fi
        rm -f "$dir/gcc.$$"
        ;;
    clang-tidy)
        clang-tidy --quiet "$file" -- "${flags[@]}" 2>/dev/null || echo "clang-tidy failed"
        ;;
    cppcheck)
        cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr -Iinclude '-DAIP_VERSION="x"' \
            --suppressions-list="$dir/cppcheck.supp" "$file" 2>&1 || echo "cppcheck failed"
        ;;
    esac
}

out_of() {
    echo "$dir/$1-$(echo "$2" | tr / _)"
}

# Of one tool and one file, unless an older result stands.
look() {
    local out
    out=$(out_of "$1" "$2")
    [ ! -e "$out" ] || [ "$out" -ot "$2" ] || [ "$out" -ot "$dir/basis" ] || return 0
    findings "$1" "$2" >"$out.new"
    mv "$out.new" "$out"
}

if [ "${AIP_ANALYSE_ONE:-}" = yes ]; then
    look "$1" "$2"
    exit
fi

# Newer than every result when something changed that all of them stand on.
basis=$( (find include src t/mock -name '*.h' -print0 | sort -z | xargs -0 cat && cat .clang-tidy t/lanes/*.supp scripts/lib/analyse.sh &&
    gcc --version && clang-tidy --version && cppcheck --version) | sha256sum)
[ "$(cat "$dir/basis" 2>/dev/null)" = "$basis" ] || echo "$basis" >"$dir/basis"
grep -v '^#' t/lanes/cppcheck.supp >"$dir/cppcheck.supp"

[ $# -gt 0 ] || mapfile -t files < <(find mod_ai_proxy_adv.c src t/mock -name '*.c' | sort)
[ $# = 0 ] || files=("$@")
for tool in $tools; do
    for file in "${files[@]}"; do
        printf '%s\0%s\0' "$tool" "$file"
    done
done | AIP_ANALYSE_ONE=yes xargs -0 -n 2 -P "$(nproc)" "$0" "$dir" || echo "# an analyser ended early"

n=0
failed=0
for tool in $tools; do
    for file in "${files[@]}"; do
        n=$((n + 1))
        out=$(out_of "$tool" "$file")
        if [ -e "$out" ] && [ ! -s "$out" ]; then
            echo "ok $n - $tool $file"
        else
            failed=$((failed + 1))
            echo "not ok $n - $tool $file"
            sed 's/^/#   /' "$out" | head -n 60
        fi
    done
done
echo "1..$n"
[ $failed -eq 0 ]
