#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# AWS's published cases for Signature Version 4, out of a crate whose hash is pinned here; nothing of
# it is shipped.
#
#   sigv4.sh fetch DIR           downloads and unpacks once; the cases are in DIR/dist/v4
#   sigv4.sh run DIR PROGRAM     runs t/tools/sigv4_vectors on them; TAP. All 40 must be there

SIGV4_CRATE=aws-sigv4
SIGV4_VERSION=1.6.4
SIGV4_SHA256=f385da9b7757ed4c8214797ad663ff534fb622006143530aa80e21f8e06ff85c
SIGV4_CASES=40

sigv4_fetched() {
    [ "$(cat "$1/dist/sha256" 2>/dev/null)" = $SIGV4_SHA256 ]
}

# Only regular files below the suite's folder come out of the archive.
sigv4_unpack() {
    python3 - "$@" <<'PY'
import hashlib, pathlib, sys, tarfile, urllib.request

crate, version, sha256, out = sys.argv[1:]
url = f"https://static.crates.io/crates/{crate}/{crate}-{version}.crate"
out = pathlib.Path(out)
file = out / "crate"
with urllib.request.urlopen(url, timeout=60) as answer:
    file.write_bytes(answer.read(16 << 20))
found = hashlib.sha256(file.read_bytes()).hexdigest()
if found != sha256:
    sys.exit(f"sigv4.sh: {url} has the hash {found}")
top = f"{crate}-{version}/aws-signing-test-suite/v4/"
with tarfile.open(file) as archive:
    for member in archive:
        parts = member.name[len(top):].split("/")
        if member.isreg() and member.name.startswith(top) and len(parts) == 2 and ".." not in parts:
            path = out.joinpath("v4", *parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(member).read())
file.unlink()
(out / "sha256").write_text(sha256 + "\n")
PY
}

sigv4_fetch() {
    dir=$1
    sigv4_fetched "$dir" && return 0
    mkdir -p "$dir" || return 1
    scratch=$(mktemp -d "$dir/fetch.XXXXXX") || return 1
    if sigv4_unpack $SIGV4_CRATE $SIGV4_VERSION $SIGV4_SHA256 "$scratch"; then
        rm -rf "$dir/dist"
        # Somebody who fetched at the same time may have been first; then theirs is as good.
        mv -T "$scratch" "$dir/dist" 2>/dev/null || sigv4_fetched "$dir"
        status=$?
    else
        echo "sigv4.sh: cannot fetch the cases into $dir" >&2
        status=1
    fi
    rm -rf "$scratch"
    return $status
}

sigv4_run() {
    dir=$1 program=$2
    cases=$(find "$dir/dist/v4" -name request.txt | wc -l)
    "$program" "$dir/dist/v4"
    status=$?
    [ "$cases" -eq $SIGV4_CASES ] && return $status
    echo "not ok $((cases + 1)) - $SIGV4_CASES cases are there, found $cases"
    return 1
}

case ${1:-}:$# in
fetch:2 | run:3)
    verb=$1
    shift
    "sigv4_$verb" "$@"
    ;;
*)
    echo "usage: sigv4.sh fetch DIR | run DIR PROGRAM" >&2
    exit 2
    ;;
esac
