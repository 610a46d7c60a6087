#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# APR with pool debugging: every allocation is one of malloc(), freed when its pool is cleared or destroyed. Debian's own
# source of the installed version, built in DIR; DIR/lib takes the place of the installed library (LD_LIBRARY_PATH), with
# which it agrees in all that programs call.
#
#   apr-debug.sh DIR
set -eu

dir=${1:?folder}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
version=$(dpkg-query -W -f '${source:Version}' libapr1)
[ "$(cat "$dir/made-of" 2>/dev/null)" != "$version" ] || exit 0

# Sources from where the machine has its packages from, with lists of our own.
sources() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | while read -r site release component; do
        [ "${component%/*}" = main ] || continue
        echo "deb-src $site $release $component"
    done
}
rm -rf "${dir:?}"/*
mkdir -p "$dir/apt/lists/partial" "$dir/apt/parts" "$dir/src"
apt_options=(-o "Dir::Etc::SourceList=$dir/apt/sources.list" -o "Dir::Etc::SourceParts=$dir/apt/parts" -o "Dir::State::Lists=$dir/apt/lists"
    -o APT::Sandbox::User=root)
sources >"$dir/apt/sources.list"
apt-get "${apt_options[@]}" update -q >&2
cd "$dir/src"
apt-get "${apt_options[@]}" source -q "apr=$version" >&2
cd apr-*/
[ -x configure ] || ./buildconf >&2
./configure --prefix="$dir" --enable-pool-debug=yes --disable-static --libdir="$dir/lib" CFLAGS='-O1 -g' >&2
make -j"$(nproc)" >&2
make install >&2
cd "$dir"
[ -e lib/libapr-1.so.0 ]
rm -rf src apt
echo "$version" >"$dir/made-of"
