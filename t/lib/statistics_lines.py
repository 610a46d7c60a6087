# SPDX-License-Identifier: Apache-2.0
# Checks lines of a statistics log against its schema: statistics_lines.py SCHEMA FILE. Besides what JSON Schema says, no
# key may come twice, and keys must come in the order in which the schema has them. Prints what is wrong, one fault a line,
# and last "N lines".
import json
import sys

from jsonschema import Draft202012Validator

schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)


def resolve(part):
    while "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
    return part


def undescribed(part, where):
    for name, inner in part.get("properties", {}).items():
        if "description" not in inner and "description" not in resolve(inner):
            print(f"schema: {where}.{name} has no description")
    if part.get("type") == "object" and part.get("additionalProperties") is not False:
        print(f"schema: {where} takes any key")
    for name, inner in list(part.get("properties", {}).items()) + list(part.get("$defs", {}).items()):
        undescribed(inner, f"{where}.{name}")


def once(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"a key comes twice: {names}")
    return dict(pairs)


def out_of_order(value, part, where):
    part = resolve(part)
    if isinstance(value, dict):
        order = list(part.get("properties", {}))
        known = [order.index(name) for name in value if name in order]
        if known != sorted(known):
            yield f"{where}: order of {list(value)}"
        for name, inner in value.items():
            if name in order:
                yield from out_of_order(inner, part["properties"][name], f"{where}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from out_of_order(inner, part.get("items", {}), where + "[]")


undescribed(schema, "")
count = 0
for line in open(sys.argv[2], "rb"):
    count += 1
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=once)
    except ValueError as error:
        print(f"line {count}: {error}")
        continue
    for error in validator.iter_errors(value):
        print(f"line {count}: {'.'.join(map(str, error.absolute_path))}: {error.message[:200]}")
    for fault in out_of_order(value, schema, ""):
        print(f"line {count}: {fault}")
print(f"{count} lines")
