#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes costs.tsv, which t/unit/test_cost.c compares aip_cost_pico() with: prices, usages, and what
they come to by Python's decimal, in 10^-12 of the currency, rounded half up, at most 2^63 - 1.

usage: t/data/costs.py > t/data/costs.tsv
"""
import decimal
import random
from decimal import Decimal as D

decimal.getcontext().prec = 200
MOST = D(2**63 - 1)
PICO = D(10)**12
COLUMNS = ("input output read write write_5m write_1h above in_factor out_factor tier factor "
           "prompt completion cached written of_5m of_1h reported pico").split()
rnd = random.Random(7)


def number(most, decimals):
    """Of any size, in one of the spellings of JSON."""
    value = D(rnd.randrange(int(most) * 10**decimals + 1)).scaleb(-decimals)
    value = (value * D(10)**-rnd.randrange(12)).quantize(D(1).scaleb(-rnd.randrange(decimals + 1)))
    spelling = rnd.randrange(4)
    if spelling == 0 and value:
        digits = "".join(map(str, value.as_tuple().digits))
        return f"{digits}{rnd.choice('eE')}{value.as_tuple().exponent}"
    if spelling == 1 and value:
        exponent = rnd.randrange(1, 5)
        return f"{value.scaleb(-exponent):f}e{rnd.choice(['', '+'])}{exponent}"
    return f"{value:f}"


def tokens():
    return rnd.randrange(10**rnd.randrange(1, 13))


def cost(row):
    left = D(row["prompt"])
    above = row["above"] != "-" and row["prompt"] > int(row["above"])
    tier = row["tier"] != "-" and row["tier"].lower() in row["reported"].lower()
    price = {name: D(row[name]) if row[name] != "-" else None for name in COLUMNS[:6]}
    price["read"] = price["input"] if price["read"] is None else price["read"]
    price["write"] = price["input"] if price["write"] is None else price["write"]
    total = D(0)
    cached = min(left, max(D(row["cached"]), 0))
    left -= cached
    written = min(left, max(D(row["written"]), 0))
    left -= written
    total += left * price["input"] + cached * price["read"]
    for name, count in (("write_5m", "of_5m"), ("write_1h", "of_1h")):
        part = min(written, max(D(row[count]), 0))
        written -= part
        total += part * (price["write"] if price[name] is None else price[name])
    total += written * price["write"]
    total *= D(row["in_factor"]) if above else 1
    total += row["completion"] * price["output"] * (D(row["out_factor"]) if above else 1)
    total *= D(row["factor"]) if tier else 1
    pico = (total / 10**6 * PICO).quantize(D(1), rounding=decimal.ROUND_HALF_UP)
    return min(pico, MOST)


def maybe(value, share=0.5):
    return value if rnd.random() < share else "-"


def main():
    print("# Made by t/data/costs.py; \"-\" is not set, -1 not told.")
    print("\t".join(COLUMNS))
    for _ in range(400):
        most = 10**rnd.randrange(1, 10)
        price = lambda: number(most, 9)
        row = {"input": price(), "output": price(), "read": maybe(price()), "write": maybe(price()),
               "write_5m": maybe(price()), "write_1h": maybe(price()), "above": maybe(1 + tokens()),
               "in_factor": number(1000, 6), "out_factor": number(1000, 6),
               "tier": maybe(rnd.choice(["flex", "PRIORITY", "batch"])), "factor": number(1000, 6),
               "prompt": tokens(), "completion": tokens(), "cached": rnd.choice([-1, tokens()]),
               "written": rnd.choice([-1, tokens()]), "of_5m": rnd.choice([-1, tokens()]),
               "of_1h": rnd.choice([-1, tokens()]),
               "reported": rnd.choice(["default", "flex", "x-Priority", "batch_2"])}
        if D(row["input"]) > 0 and D(row["output"]) > 0:
            print("\t".join(str(row[name]) for name in COLUMNS[:-1]) + f"\t{cost(row):f}")


if __name__ == "__main__":
    main()
