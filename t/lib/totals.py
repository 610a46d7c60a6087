# SPDX-License-Identifier: Apache-2.0
"""Sums up what the statistics log, a scrape of the metrics and the status page say, as JSON; amounts are decimal texts.

    totals.py STATISTICS_LOG METRICS_URL STATUS_URL

Output: {"log": B, "metrics": B, "page": B} with B = {"requests": {POOL: N}, "codes": {"POOL STATUS": N}, "target": {"POOL TARGET":
{"requests", "input", "output", "cost"}}, "attempts": {"POOL TARGET OUTCOME": N}}; a book leaves out what it does
not have, and targets that nothing went to.
"""
import json
import re
import sys
import urllib.request
from decimal import Decimal

SAMPLE = re.compile(r'^(\w+)\{(.*)\} (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def plain(amount):
    text = format(amount, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


class Book:
    def __init__(self):
        self.requests = {}
        self.codes = {}
        self.target = {}
        self.attempts = {}

    def add(self, table, key, n=1):
        table[key] = table.get(key, 0) + n

    def at(self, pool, target):
        return self.target.setdefault(f"{pool} {target}", {"requests": 0, "input": 0, "output": 0, "cost": Decimal(0)})

    def told(self):
        target = {key: {**entry, "cost": plain(entry["cost"])} for key, entry in self.target.items() if any(entry.values())}
        return {"requests": self.requests, "codes": self.codes, "target": target, "attempts": self.attempts}


def outcome(attempt):
    """The metrics tell withheld answers apart by their status."""
    if attempt["outcome"] != "withheld":
        return attempt["outcome"]
    return f"http_{attempt['status']}" if attempt["status"] >= 300 else "error_event"


def read_log(path):
    book = Book()
    with open(path, encoding="utf-8") as file:
        for text in file:
            line = json.loads(text, parse_float=Decimal, parse_int=Decimal)
            proxy, pool = line["ai"]["proxy"], line["pool"]
            book.add(book.requests, pool)
            book.add(book.codes, f"{pool} {line['status']}")
            for attempt in proxy["tried_targets"]:
                book.add(book.attempts, f"{pool} {attempt['target']} {outcome(attempt)}")
            if proxy["meta"]["target"] is None:
                continue
            entry, usage = book.at(pool, proxy["meta"]["target"]), proxy["usage"]
            entry["requests"] += 1
            entry["input"] += int(usage.get("prompt_tokens", 0))
            entry["output"] += int(usage.get("completion_tokens", 0))
            entry["cost"] += usage["cost"]
    return book.told()


def get(url, accept):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        return answer.read().decode()


def read_metrics(url):
    book = Book()
    for text in get(url, "text/plain").splitlines():
        match = SAMPLE.match(text)
        if not match:
            continue
        name, value = match.group(1), Decimal(match.group(3))
        label = dict(LABEL.findall(match.group(2)))
        pool, target = label.get("pool"), label.get("target")
        if name == "aiproxy_requests_total":
            book.add(book.requests, pool, int(value))
            book.add(book.codes, f"{pool} {label['code']}", int(value))
            if target:
                book.at(pool, target)["requests"] += int(value)
        elif name == "aiproxy_tokens_total":
            book.at(pool, target)[label["type"]] += int(value)
        elif name == "aiproxy_cost_total":
            book.at(pool, target)["cost"] += value
        elif name == "aiproxy_attempts_total" and value:
            book.add(book.attempts, f"{pool} {target} {label['outcome']}", int(value))
    return book.told()


def read_page(url):
    book = Book()
    for gateway in json.loads(get(url, "application/json"), parse_float=Decimal)["gateways"]:
        book.add(book.requests, gateway["path"], gateway["totals"]["all_requests"])
        for target in gateway["targets"]:
            entry, totals = book.at(gateway["path"], target["name"]), target["totals"]
            entry["requests"] += totals["requests"]
            entry["input"] += totals["prompt_tokens"]
            entry["output"] += totals["completion_tokens"]
            entry["cost"] += Decimal(totals["cost"])
    return book.told()


json.dump({"log": read_log(sys.argv[1]), "metrics": read_metrics(sys.argv[2]), "page": read_page(sys.argv[3])}, sys.stdout)
