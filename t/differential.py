#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the local embedder in C with the public model2vec and tokenizers libraries.

Five comparisons, each on texts made from one seed; exit status 1 when there is a difference:
  texts     10 000 texts of many kinds on the shipped model: ids equal, vectors within 1e-5
  strings   100 000 further ones, ids only
  variants  the same model as F16 and F32, with added tokens and a max_length: ids equal (a
            max_length that is absent, small, or longer than the text); vectors against the
            library's float32
  points    every code point as a word and inside a word, many words to a text, on a model that has
            a token for every character: ids then show every step of normalizing and splitting
  marks     texts of combining marks, jamo and ideographs on that model: canonical reordering

usage: t/differential.py [--tool PATH] [--model DIR] [--seed N] [--count N] [--strings N] [--only NAME]
needs: pip install -r t/requirements-embedder.txt; PATH is t/tools/embed_ids, built.
"""
import argparse
import functools
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer

ROOT = pathlib.Path(os.environ.get("AIP_SRCDIR") or pathlib.Path(__file__).resolve().parent.parent)
TOLERANCE = 1e-5
NAMES = ["texts", "strings", "variants", "points", "marks"]
POINTS = 64  # in one text
MARKS = [c for c in [*range(0x300, 0x370), *range(0x483, 0x48A), *range(0x591, 0x5C8),
                     *range(0x64B, 0x660), *range(0x900, 0x904), 0x93C, 0x94D, 0xA953, 0xA9C0,
                     0x1B44, 0x1BAA, 0x1BAB, 0x1BF2, 0x1BF3, 0x302A, 0x302B, 0x302E, 0x302F, 0x3099,
                     0x20D0, 0x20DD, 0x20E0, 0x7FD, 0x898, 0x1DFA, 0x16FF0, 0x16FF1, 0x110B9,
                     0x111C0, 0x11235, 0x1134D, 0x11442, 0x114C2, 0x115BF, 0x116B6, 0x1193D,
                     0x1193E, 0x11A34, *range(0x1D165, 0x1D16A), *range(0x1D16D, 0x1D183), 0x1E8D0,
                     0x1E944, 0xAD, 0x200D]]


# ---- texts: bytes each, without NUL, which separates them ----

class Maker:
    def __init__(self, seed, vocabulary):
        self.rnd = random.Random(seed)
        self.pieces = [t for t in vocabulary if t.isascii()]
        self.kinds = [self.sentence, self.any_plane, self.one_block, self.emoji, self.controls,
                      self.accents, self.hangul, self.ideographs, self.bad_bytes, self.broken_text,
                      self.long_word, self.pieces_word, self.spaces, self.cases, self.literals,
                      self.marks, self.mutated]

    def scalar(self, low=1, high=0x10FFFF):
        while True:
            c = self.rnd.randint(low, high)
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    def some(self, make, most):
        return "".join(make() for _ in range(self.rnd.randint(1, most)))

    def word(self):
        w = self.rnd.choice(self.pieces).removeprefix("##")
        return self.rnd.choice([w, w, w, w.upper(), w.capitalize()])

    def sentence(self):
        glue = [" ", " ", " ", " ", ", ", ". ", "-", "'", "", "\n", "_", "@", "? ", "/"]
        return self.some(lambda: self.word() + self.rnd.choice(glue), 30)

    def any_plane(self):
        tops = [0x7F, 0x7FF, 0xFFFF, 0x1FFFF, 0x10FFFF]
        return self.some(lambda: self.scalar(1, self.rnd.choice(tops)), 40)

    def one_block(self):
        base = self.rnd.choice([self.rnd.randrange(0x80, 0x3100),
                                self.rnd.randrange(0xA000, 0xD700),
                                self.rnd.randrange(0xE000, 0xFB00),
                                self.rnd.randrange(0x10000, 0x1FB00)])
        glue = ["", "", "", " "]
        return self.some(lambda: self.scalar(base, base + 0x7F) + self.rnd.choice(glue), 40)

    def emoji(self):
        def one():
            face = chr(self.rnd.choice([self.rnd.randrange(0x1F300, 0x1FAF8),
                                        self.rnd.randrange(0x2600, 0x27C0),
                                        0x1F1E6 + self.rnd.randrange(26)]))
            return face + self.rnd.choice(["", "\ufe0f", "\u200d", "\U0001f3fd", "\u20e3", " ",
                                           "\U000e0067"])
        return self.some(lambda: self.rnd.choice([one, self.word])(), 20)

    def controls(self):
        odd = [chr(c) for c in [*range(1, 0x20), *range(0x7F, 0xA1), 0xAD, 0x200B, 0x200E, 0x202E,
                                0x2066, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0xE000, 0xF8FF, 0x10FFFF,
                                0xE0001, 0x600, 0x8E2, 0x70F, 0x180E, 0x110BD, 0x1BCA0]]
        return self.some(lambda: self.rnd.choice([lambda: self.rnd.choice(odd), self.word])(), 30)

    def accents(self):
        return self.some(lambda: self.scalar(0x41, 0x24F)
                         + self.some(lambda: self.scalar(0x300, 0x36F), 3)
                         + self.rnd.choice(["", "", " ", self.scalar(0x1E00, 0x1FFF)]), 20)

    def hangul(self):
        return self.some(lambda: self.rnd.choice([self.scalar(0xAC00, 0xD7A3),
                                                  self.scalar(0x1100, 0x11FF),
                                                  self.scalar(0x3131, 0x318E), " ", self.word()]),
                         20)

    def ideographs(self):
        ranges = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2FA1F), (0xF900, 0xFAFF),
                  (0x3000, 0x30FF), (0x2E80, 0x2FDF), (0x30000, 0x3134A), (0xFF00, 0xFFEF),
                  (0x2B700, 0x2B920)]
        return self.some(lambda: self.scalar(*self.rnd.choice(ranges))
                         + self.rnd.choice(["", "", self.word()]), 20)

    def bad_bytes(self):
        return bytes(self.rnd.choice([self.rnd.randrange(1, 256), self.rnd.randrange(0x80, 256),
                                      self.rnd.choice(b"aeiou ")])
                     for _ in range(self.rnd.randint(1, 60)))

    def broken_text(self):
        text = bytearray((self.any_plane() + self.sentence()).encode())
        for _ in range(self.rnd.randint(1, 6)):
            at = self.rnd.randrange(len(text))
            broken = self.rnd.choice([b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80",
                                      b"\xe2\x82", b"\xf0\x9f\x98", b"\xff", b"\x80",
                                      b"\xe0\x80\xaf", bytes([self.rnd.randrange(1, 256)])])
            text[at:at + self.rnd.randint(0, 3)] = broken
        return bytes(text)

    def long_word(self):
        n = self.rnd.choice([99, 100, 101, self.rnd.randint(80, 120), self.rnd.randint(1, 400)])
        one = self.rnd.choice([lambda: "a", lambda: self.rnd.choice("abcdefgh"),
                               lambda: self.scalar(0xC0, 0x24F),
                               lambda: self.scalar(0x10000, 0x103FF),
                               lambda: self.scalar(0xAC00, 0xD7A3)])
        return (self.word() + " " + "".join(one() for _ in range(n))
                + self.rnd.choice(["", " end", "!"]))

    def pieces_word(self):
        return self.some(lambda: self.rnd.choice(self.pieces).removeprefix("##"), 12)

    def spaces(self):
        odd = ("\t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2000\u2003\u200a\u200b\u2028\u2029\u202f"
               "\u205f\u3000\u180e ")
        return self.some(lambda: self.word() + self.some(lambda: self.rnd.choice(odd), 3), 12)

    def cases(self):
        odd = ("\u0130\u0131\u00df\u1e9e\u01c4\u01c5\u01f0\u03a3\u03c2\u0391\u1f88\u1fbc\ufb01"
               "\u2126\u212a\u212b\u0345\u10a0\u13a0\uab70\u0587\u1c80\u2c2f\ua7ae\U00010400"
               "\u2260\u037e\u0340\u0958\u0b5c\ufb1d")
        return self.some(lambda: self.rnd.choice([lambda: self.rnd.choice(odd), self.word,
                                                  lambda: self.scalar(0x370, 0x5FF)])(), 20)

    def literals(self):
        odd = ["[PAD]", "[UNK]", "[CLS]", "[MASK]", "##", "##ing", "[", "]", "[PAD", "UNK]",
               "[[UNK]]", "[pad]"]
        return self.some(lambda: self.rnd.choice([lambda: self.rnd.choice(odd), self.word,
                                                  lambda: " "])(), 20)

    def marks(self):
        base = "ax\u05d0\u0915\U0001d158\U0001d15f\U0001d1bb\uac00\u4e00! "
        return self.some(lambda: self.rnd.choice([chr(self.rnd.choice(MARKS)),
                                                  chr(self.rnd.choice(MARKS)),
                                                  self.rnd.choice(base)]), 60)

    def mutated(self):
        """A text of two other kinds, with bytes that are changed, gone, or there again."""
        parts = [self.rnd.choice(self.kinds[:-1])() for _ in range(2)]
        text = bytearray().join(p if isinstance(p, bytes) else p.encode() for p in parts)
        for _ in range(self.rnd.randint(0, 4)):
            at, n = self.rnd.randrange(len(text) + 1), self.rnd.randint(0, 4)
            text[at:at + n] = self.rnd.choice([b"", text[at:at + n] * 2, text[:n], text[-n:],
                                               bytes([self.rnd.randrange(1, 256)])])
        return bytes(text)

    def texts(self, count):
        fixed = [b"", b" ", b"\xff", b"a" * (1 << 20), b"\xc3\xa9" * (1 << 19), b"##", b"[UNK]",
                 "\U0001d16d\U0001d165".encode() * (1 << 13), ("a" * 100).encode(),
                 ("a" * 101).encode()]
        yield from fixed[:count]
        for i in range(max(0, count - len(fixed))):
            text = self.kinds[i % len(self.kinds)]()
            text = text if isinstance(text, bytes) else text.encode()
            yield text.replace(b"\0", b"")


# ---- the two sides ----

def run_tool(tool, model, texts, ids_only=False):
    """Yields a dict per text."""
    with tempfile.TemporaryFile() as stdin:
        for text in texts:
            stdin.write(text + b"\0")
        stdin.seek(0)
        with subprocess.Popen([tool, *(["-i"] if ids_only else []), str(model)], stdin=stdin,
                              stdout=subprocess.PIPE) as process:
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode:
            sys.exit(f"{tool} ended with {process.returncode}")


class Report:
    """Counts differences and shows the first few."""

    def __init__(self, name):
        self.name, self.checked, self.different, self.worst = name, 0, 0, 0.0

    def check(self, text, got, ids, vector=None):
        self.checked += 1
        why = None
        if got["ids"] != ids:
            at = next((i for i, (a, b) in enumerate(zip(got["ids"], ids)) if a != b), 0)
            at = max(0, at - 3)
            why = f"ids from {at} on {got['ids'][at:at + 20]}, library {ids[at:at + 20]}"
        if vector is not None:
            off = float(np.max(np.abs(np.asarray(got["vector"]) - vector)))
            self.worst = max(self.worst, off)
            if not off <= TOLERANCE:
                why = why or f"vectors differ by {off:.3g}"
        if why:
            self.different += 1
            if self.different <= 10:
                print(f"{self.name}: {text[:120]!r}: {why}")

    def close(self, expected):
        if self.checked != expected:
            sys.exit(f"{self.name}: {self.checked} answers for {expected} texts")
        print(f"{self.name}: {self.checked} texts, {self.different} differences, "
              f"largest vector difference {self.worst:.3g}")
        return self.different == 0


def decoded(text):
    return text.decode("utf-8", errors="replace")


def compare(name, tool, folder, library, texts):
    report = Report(name)
    # encode() cuts the text, then the tokens; tokenize() cuts the tokens only
    cut = library.max_length and library.max_length * library.median_token_length
    plain = [decoded(t)[:cut] for t in texts]
    ids, vectors = library.tokenize(plain), library.encode(plain).astype(np.float32)
    for i, got in enumerate(run_tool(tool, folder, texts)):
        report.check(texts[i], got, ids[i], vectors[i])
    return report.close(len(texts))


@functools.cache
def tokenizer_of(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def compare_ids(name, tool, folder, texts):
    report = Report(name)
    tokenizer = tokenizer_of(folder)
    unk = tokenizer.token_to_id("[UNK]")
    step = 50000
    answers = run_tool(tool, folder, texts, ids_only=True)
    for at in range(0, len(texts), step):
        part = texts[at:at + step]
        encoded = tokenizer.encode_batch_fast([decoded(t) for t in part], add_special_tokens=False)
        for text, one, got in zip(part, encoded, answers):
            report.check(text, got, [i for i in one.ids if i != unk])
    return report.close(len(texts))


# ---- models made for the comparison ----

def write_table(path, dtype, table):
    header = json.dumps({"embeddings": {"dtype": dtype, "shape": list(table.shape),
                                        "data_offsets": [0, table.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + table.tobytes())


def variant(source, folder, dtype, max_length, added):
    """The shipped model with another table type, max_length (None: absent) and added tokens."""
    folder.mkdir()
    kind, name = {"F16": (np.float16, "float16"), "F32": (np.float32, "float32")}[dtype]
    table = StaticModel.from_pretrained(source).embedding.astype(kind)
    write_table(folder / "model.safetensors", dtype, table)
    config = json.loads((source / "config.json").read_text())
    config["embedding_dtype"] = name
    config.pop("max_length")
    if max_length:
        config["max_length"] = max_length
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    for token in added:
        tokenizer["added_tokens"].append(
            dict(id=tokenizer["model"]["vocab"][token], content=token, single_word=False,
                 lstrip=False, rstrip=False, normalized=False, special=True))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def check_variants(tool, source, scratch, texts):
    good = True
    for dtype, max_length, added in [("F32", None, ["[PAD]", "[UNK]"]),
                                     ("F16", 7, ["[PAD]", "[UNK]"]),
                                     ("F32", 40, ["##ing", "the", "[PAD]", "there"])]:
        name = f"variant {dtype}, max_length {max_length}, added {' '.join(added)}"
        folder = scratch / f"{dtype}-{max_length}"
        variant(source, folder, dtype, max_length, added)
        library = StaticModel.from_pretrained(folder)
        # numpy sums float16 rows to float16 vectors; the values are whole numbers, so float32 is
        # exact
        library.embedding = library.embedding.astype(np.float32)
        good = compare(name, tool, folder, library, texts) and good
        shutil.rmtree(folder)
    return good


def every_character_model(source, folder):
    """A model whose vocabulary is every character that can come out of the normalizer, with and
    without ##."""
    folder.mkdir()
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    normalize = Tokenizer.from_file(str(source / "tokenizer.json")).normalizer.normalize_str
    chars = sorted({d for c in range(0x110000) if not 0xD800 <= c < 0xE000
                    for d in normalize(chr(c))} - {" "})
    tokens = ["[UNK]"] + chars + ["##" + c for c in chars]
    tokenizer["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_table(folder / "model.safetensors", "I8", np.ones((len(tokens), 1), dtype=np.int8))
    (folder / "config.json").write_text(json.dumps(
        dict(model_type="model2vec", normalize=True, max_length=None, hidden_dim=1)))


def point_texts():
    """Words do not see each other: what stands between blanks is a text of its own."""
    points = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    for at in range(0, len(points), POINTS):
        yield " ".join(f"{chr(c)} x{chr(c)}y" for c in points[at:at + POINTS]).encode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", default=str(ROOT / "t" / "tools" / "embed_ids"))
    parser.add_argument("--model", type=pathlib.Path,
                        default=ROOT / "share" / "embedder" / "aip-static-en-v1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--strings", type=int, default=100000)
    parser.add_argument("--only", choices=NAMES)
    args = parser.parse_args()
    wanted = [args.only] if args.only else NAMES
    library = StaticModel.from_pretrained(args.model)
    maker = Maker(args.seed, library.tokens)
    good = True
    if "texts" in wanted:
        texts = list(maker.texts(args.count))
        good = compare("texts", args.tool, args.model, library, texts) and good
    if "strings" in wanted:
        texts = list(Maker(args.seed + 1, library.tokens).texts(args.strings))
        good = compare_ids("strings", args.tool, args.model, texts) and good
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        if "variants" in wanted:
            texts = list(maker.texts(args.count // 5))
            good = check_variants(args.tool, args.model, scratch, texts) and good
        if "points" in wanted or "marks" in wanted:
            every_character_model(args.model, scratch / "every")
        if "points" in wanted:
            good = compare_ids("points", args.tool, scratch / "every", list(point_texts())) and good
        if "marks" in wanted:
            kinds = [maker.marks, maker.marks, maker.hangul, maker.ideographs, maker.any_plane,
                     maker.cases]
            texts = [kinds[i % len(kinds)]().encode() for i in range(args.count * 3)]
            good = compare_ids("marks", args.tool, scratch / "every", texts) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
