# SPDX-License-Identifier: Apache-2.0
"""Compares what the clients of the soak sent, what the upstream saw and what the statistics log says, request by request.

    soak_books.py DIRECTORY STATISTICS_LOG SAMPLE

DIRECTORY has `sent` and `seen` of soak_load.py. Writes every so many lines of the log to SAMPLE, for the schema. Prints JSON:
`faults` (texts, at most 50), `fault_count`, and counts: `requests`, `ends`, `good` and `good_200` of whole requests of healthy
kinds, `outcomes` of attempts, `late` (requests that failed because no target answered in time), `lines`, `seen`.
"""
import collections
import json
import sys

GOOD = ("plain", "stream", "slow", "big")
REFUSED = {"broken": 400, "type": 415, "long": 413, "long-chunked": 413}
NEVER_SENT = ("connect", "connect-timeout", "tls", "no-secret")
SAMPLE_LINES = 4000


class Books:
    def __init__(self):
        self.faults = []
        self.sent = {}
        self.lines = collections.defaultdict(list)
        self.seen = collections.defaultdict(list)
        self.outcomes = collections.Counter()
        self.late = 0

    def fault(self, name, text, line=None):
        self.faults.append(f"{name}: {text}" + (f": {json.dumps(line)}" if line else ""))

    # ---- reading ----

    def read_sent(self, path):
        with open(path, encoding="utf-8") as file:
            for record in map(json.loads, file):
                self.sent[record["id"]] = record

    def read_seen(self, path):
        with open(path, encoding="utf-8") as file:
            for record in map(json.loads, file):
                if record["path"].startswith("/embed"):
                    continue
                if record["malformed"]:
                    self.fault(record["id"], f"the upstream got a malformed request: {record}")
                if record["id"] is None and not record["complete"]:
                    continue  # it was cut before its id
                self.seen[record["id"]].append(record)

    def read_log(self, path, sample):
        with open(path, encoding="utf-8") as file:
            step = max(1, sum(1 for _ in file) // SAMPLE_LINES)
            file.seek(0)
            with open(sample, "w", encoding="utf-8") as out:
                for n, text in enumerate(file):
                    if n % step == 0:
                        out.write(text)
                    try:
                        line = json.loads(text)
                    except ValueError as error:
                        self.fault(f"line {n + 1}", f"{error}: {text[:200]}")
                        continue
                    tried = [(a["port"], a["outcome"], a["status"]) for a in line["ai"]["proxy"]["tried_targets"]]
                    self.outcomes.update(a[1] for a in tried)
                    self.lines[line["path"].rsplit("/", 1)[-1]].append(
                        {"path": line["path"], "status": line["status"], "error": line["error_type"], "tried": tried,
                         "cut": line["ai"]["proxy"].get("cut")})

    # ---- judging ----

    def one(self, name, record):
        end, kind, lines, seen = record["end"], record["kind"], self.lines[name], self.seen[name]
        if record.get("bad"):
            self.fault(name, f"wrong answer: {record}", lines)
        if end in ("lost", "failed"):
            self.fault(name, f"no answer: {record}", lines)
        if end == "dead":  # the connection was closed between two requests: nobody has read it
            if lines or seen:
                self.fault(name, f"no answer, and yet it was read: {record}, upstream {seen}", lines)
            return
        if len(lines) != 1 and not (kind == "left-reset" and not lines):  # a RST may take the request with it
            self.fault(name, f"{len(lines)} lines in the statistics log: {record}", lines)
        if lines:
            self.attempts(name, record, lines[0], seen)
            self.answer(name, record, lines[0])
        elif seen:
            self.fault(name, f"sent to the upstream without a line: {record}")

    def attempts(self, name, record, line, seen):
        """Each attempt that got an answer was seen once, each that got none at most once; nothing else was."""
        at_most, at_least = collections.Counter(), collections.Counter()
        for port, outcome, status in line["tried"]:
            at_most[port] += outcome not in NEVER_SENT
            at_least[port] += status > 0
        got = collections.Counter(r["port"] for r in seen)
        if any(got[p] > at_most[p] for p in got) or any(got[p] < at_least[p] for p in at_least):
            self.fault(name, f"the upstream saw {dict(got)}", line)
        withheld = sum(outcome == "withheld" for _, outcome, _ in line["tried"])
        if record["gateway"] != "again" and len(seen) - withheld > 1:
            self.fault(name, f"sent {len(seen)} times, though it must not be repeated", line)
        for r in seen:
            if r["complete"] and (r["key"] is not None) != (record["gateway"] == "vault") or r["key"] not in (None, "soak-secret"):
                self.fault(name, f"credential {r['key']!r} at {record['gateway']}", line)

    def answer(self, name, record, line):
        end, kind, status = record["end"], record["kind"], record.get("status")
        if kind.startswith("left"):
            return
        if status != line["status"]:
            self.fault(name, f"the client got {status}: {record}", line)
        if kind in REFUSED and (status != REFUSED[kind] or line["tried"]):
            self.fault(name, f"{kind} was not refused as such: {record}", line)
        if kind in GOOD and end in ("whole", "done") and status == 200 and line["error"]:
            self.fault(name, f"a good answer is told as a failure: {record}", line)
        if end == "cut" and not line["error"] or end == "error" and kind in GOOD and not line["cut"]:
            self.fault(name, f"a broken answer is not told: {record}", line)
        if record["gateway"] == "again" and kind in GOOD and status != 200:
            if any(outcome.endswith("timeout") for _, outcome, _ in line["tried"]):
                self.late += 1  # a busy machine: the target that lives has not answered in time
                return
            self.fault(name, f"lost although a target lives: {record}", line)

    def judge(self):
        for name, record in self.sent.items():
            self.one(name, record)
        for what in (self.lines, self.seen):
            for name, found in what.items():
                if found and name not in self.sent:
                    self.fault(name, f"nobody sent it: {found[:2]}")


def main():
    directory, log, sample = sys.argv[1:4]
    books = Books()
    books.read_sent(f"{directory}/sent")
    books.read_seen(f"{directory}/seen")
    books.read_log(log, sample)
    books.judge()
    sent = books.sent.values()
    good = [r for r in sent if r["kind"] in GOOD and r["end"] != "dead"]
    json.dump({
        "faults": books.faults[:50], "fault_count": len(books.faults), "requests": len(sent),
        "ends": collections.Counter(f"{r['kind']} {r['end']}" for r in sent), "good": len(good),
        "good_200": sum(r.get("status") == 200 and r["end"] in ("whole", "done") for r in good),
        "codes": collections.Counter(str(r.get("code")) for r in sent if r.get("status", 200) != 200),
        "outcomes": books.outcomes, "late": books.late, "lines": sum(map(len, books.lines.values())), "seen": sum(map(len, books.seen.values()))}, sys.stdout)


main()
