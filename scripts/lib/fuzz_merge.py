#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds to a corpus what of a folder of inputs reaches the most code that the corpus does not.

usage: fuzz_merge.py TARGET CORPUS FOUND      (fuzz.sh merge calls it)

libFuzzer says which edges each input reaches; of these, the input with the most new ones is taken, again and again, until
the corpus has MOST files or there is nothing new.
"""
import hashlib
import pathlib
import subprocess
import sys
import tempfile

MOST = 59
MOST_BYTES = 190000


def edges(target, corpus, found):
    """Input -> the edges that it reaches, as libFuzzer's control file of a merge tells them."""
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        (scratch / "out").mkdir()
        subprocess.run([target, "-merge=1", "-use_counters=0", "-timeout=30", "-rss_limit_mb=4096",
                        f"-merge_control_file={scratch / 'control'}", scratch / "out", corpus, found],
                       check=True, stderr=subprocess.DEVNULL)
        lines = (scratch / "control").read_text().splitlines()
    count = int(lines[0])
    files = [pathlib.Path(line) for line in lines[2:2 + count]]
    reached = {}
    for line in lines[2 + count:]:
        kind, index, *rest = line.split()
        if kind in ("FT", "COV"):
            reached.setdefault(files[int(index)], set()).update(kind + edge for edge in rest)
    return reached


def main():
    target, corpus, found = sys.argv[1], *map(pathlib.Path, sys.argv[2:4])
    reached = edges(target, corpus, found)
    seeds = [path for path in reached if path.parent == corpus]
    known = set().union(*(reached[path] for path in seeds))
    size = sum(path.stat().st_size for path in corpus.iterdir())
    others = {path: reached[path] - known for path in reached if path.parent != corpus}
    n = len(list(corpus.iterdir()))
    while others and n < MOST:
        best = max(sorted(others), key=lambda path: len(others[path]))
        new, data = others.pop(best), best.read_bytes()
        if not new:
            break
        if size + len(data) > MOST_BYTES:
            continue
        (corpus / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)
        size, n = size + len(data), n + 1
        others = {path: rest - new for path, rest in others.items()}
    print(f"{corpus.name}: {n} files, {size} bytes")


if __name__ == "__main__":
    main()
