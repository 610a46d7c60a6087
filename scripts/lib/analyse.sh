#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The analysers of "scripts/test analyse": gcc -fanalyzer, clang-tidy (.clang-tidy) and cppcheck over each C file of the
# module, of aipctl and of the mock.
#
#   analyse.sh DIR [FILE.c ...]     TAP, one line for each tool and file; results are kept in DIR and used again while
#                                   the file, all headers and the settings are the same
#
# A finding fails. What is left out has its reason in .clang-tidy, in t/lanes/cppcheck.supp or beside the line.
set -eu

src=$(cd "$(dirname "$0")/../.." && pwd)
cd "$src"
dir=${1:?folder}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

read -r -a flags <<<"$(pkg-config --cflags apr-1 apr-util-1 libcurl jansson hiredis libpq openssl)"
flags=(-std=gnu11 -Iinclude "${flags[@]}" "-I$(apxs -q INCLUDEDIR)" -D_GNU_SOURCE -D_LARGEFILE64_SOURCE '-DAIP_VERSION="analysed"'
    '-DAIP_EMBEDDER_DIR="/usr/share/embedder"' '-DAIP_HTTPD="/usr/sbin/apache2"' '-DAIP_HTTPD_MODULES="/usr/lib/apache2/modules"'
    '-DAIP_MODULE_PATH="/usr/lib/apache2/modules/mod_ai_proxy_adv.so"')

# one TOOL FILE: what it says goes to DIR/TOOL/FILE.out; a file .ok beside it when that is nothing
one() {
    local tool=$1 file=$2 out ok status=0
    out=$dir/$tool/$(echo "$file" | tr / _).out
    ok=${out%.out}.ok
    [ ! -e "$ok" ] || [ "$ok" -ot "$file" ] || [ "$ok" -ot "$dir/newest" ] || return 0
    rm -f "$ok"
    case $tool in
    gcc)
        gcc -fanalyzer -Werror -O1 -Wno-error=cpp "${flags[@]}" -c "$file" -o /dev/null >"$out" 2>&1 || status=1
        ;;
    clang-tidy)
        clang-tidy --quiet "$file" -- "${flags[@]}" >"$out" 2>&1 || status=1
        ;;
    cppcheck)
        cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
            --suppressions-list=t/lanes/cppcheck.supp --inconclusive -Iinclude -DAIP_VERSION='"x"' "$file" >"$out" 2>&1 || status=1
        ;;
    esac
    [ $status -ne 0 ] || touch "$ok"
}

if [ "${2:-}" = --one ]; then
    one "$3" "$4"
    exit
fi
