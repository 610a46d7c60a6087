#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build and tests on Debian 13, in a chroot below DIR: unit tests, and server tests that need no server but httpd and the mock.
# Needs root.
#
#   debian13.sh DIR [t/NN_topic.t ...]
#
# Prints what Check and server-tests.sh print. The chroot is made once; what it has installed stays.
set -eu

src=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:?folder}
shift
[ $# -gt 0 ] || set -- t/00_start.t t/10_config_values.t t/20_requests.t t/24_streaming.t t/31_failover.t t/34_restart.t t/35_http2.t \
    t/41_routing.t t/72_status_page.t
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
root=$dir/root

# From where this machine has its own packages.
mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(SITE) $(ORIGIN) $(SUITE)' 'Created-By: Packages' | awk '$2 == "Debian" { print $1; exit }'
}

if [ ! -e "$dir/complete" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$(mirror)" >&2
    touch "$dir/complete"
fi

# In a mount namespace of our own: what is mounted goes with it.
inside() {
    # shellcheck disable=SC2016
    unshare --mount --propagation private -- sh -c '
        mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" /usr/bin/env -i \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"' "$root" "$@"
}

cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
mkdir -p "$root/src"
find "$root/src" -mindepth 1 -maxdepth 1 ! -name .cache -exec rm -rf {} +
(cd "$src" && tar cf - --exclude=./.cache --exclude=./.git --exclude=./configure --exclude=./Makefile.in --exclude=./autom4te.cache \
    --exclude=./aclocal.m4 --exclude=./build-aux --exclude=./m4 .) | tar xf - -C "$root/src"
# shellcheck disable=SC2016
inside sh -c 'cd /src && scripts/setup units && scripts/build --enable-werror --with-check &&
    make -C .cache/build -j"$(nproc)" --no-print-directory t/unit/run t/unit/run_portable' >&2
status=0
inside sh -c 'cd /src/.cache/build && AIP_SRCDIR=/src t/unit/run' || status=1
inside sh -c 'cd /src/.cache/build && AIP_SRCDIR=/src t/unit/run_portable' || status=1
inside sh -c 'cd /src && scripts/lib/server-tests.sh .cache/build event "$@"' sh "$@" || status=1
exit $status
