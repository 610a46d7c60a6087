# SPDX-License-Identifier: Apache-2.0
"""The clients of t/80_soak.t: mixed requests until a file appears, each with an id of its own that the upstream receives.

    soak_load.py PORT MOCK_CONTROL_PORT SEED CLIENTS DIRECTORY

Each client chooses by SEED and its number alone. The test writes `stop` to DIRECTORY to end the load, and `idle` when nothing is
in flight any more. DIRECTORY gets `sent` (a JSON line for each request: id, gateway, kind,
what came back, what was wrong with it) and `seen` (one for each request that the mock recorded).
Prints the number of requests at its end.
"""
import http.client
import json
import os
import random
import re
import sys
import threading
import time

from soak_client import Connection, Ended, judge_json, judge_stream, request

GATEWAYS = {"turn": 6, "again": 5, "least": 4, "fast": 3, "shared": 2, "meaning": 5, "redis": 5, "vault": 4}
PROMPTS = ["why does my code not compile?", "a poem about the sea", "debug this source code", "axis:0 0.9", "axis:1 0.8", "what to cook tonight"]
FAULTS = ["429", "500", "503", "slow", "chunked", "close", "cut", "drop", "reset", "badjson", "html", "empty", "badheader", "hang", "stall"]
STREAM_FAULTS = ["sse-error", "sse-cut", "503", "stall"]
KINDS = {"plain": 40, "stream": 22, "fault": 8, "stream-fault": 3, "slow": 2, "left": 3, "left-reset": 2, "left-stream": 4,
         "left-body": 3, "broken": 2, "type": 1, "long": 2, "long-chunked": 1, "big": 2}
FLOOD = "soak-flood"  # the test has the mock answer this model with FLOOD_PIECES
FLOOD_PIECES = 1500


class Client(threading.Thread):
    def __init__(self, number, port, seed, directory, out):
        super().__init__()
        self.number, self.port, self.out = number, port, out
        self.random = random.Random(seed * 1000 + number)
        self.stop = os.path.join(directory, "stop")
        self.connection = None
        self.count = 0

    # ---- one request ----

    def body(self, name, model, **more):
        """The id comes first, so that it is there even where the rest is not."""
        prompt = self.random.choice(PROMPTS)
        if self.random.random() < 0.3:
            prompt += f" {self.random.randrange(10**6)}"  # one that no cache knows
        return json.dumps({"user": name, "model": model, "messages": [{"role": "user", "content": prompt}], **more}).encode()

    def drop(self, reset=False):
        if self.connection:
            self.connection.close(reset)
        self.connection = None

    def connect(self, fresh=False, room=None):
        if fresh or self.random.random() < 0.1:
            self.drop()
        if not self.connection:
            self.connection = Connection(self.port, room=room)
        return self.connection

    def keep(self, answer):
        if not answer.whole or answer.headers.get("connection", "").lower() == "close":
            self.drop()

    def exchange(self, record, head, body, judge):
        """Sends, reads, judges. A kept-alive connection may have been closed before the request: that request is dead."""
        c = self.connect()
        reused = c.used > 0
        c.send(head + body)
        try:
            answer = c.read(c.head())
        except Ended as error:
            self.drop()
            record["end"] = "dead" if reused and not error.begun else "lost"
            return
        record["status"] = answer.status
        record["end"] = "whole" if answer.whole else "cut"
        self.keep(answer)
        judge(record, answer)

    def judge(self, model, pieces=0):
        def code(record, answer):
            if answer.status != 200:
                if record["kind"] != "fault" and answer.whole:
                    try:
                        record["code"] = json.loads(answer.body)["error"]["code"]
                    except (ValueError, KeyError, TypeError) as error:
                        record["bad"] = f"{answer.status} without an error object: {error!r} {answer.body[:100]!r}"
            elif pieces:
                if answer.whole:
                    record["end"], bad = judge_stream(answer, model, pieces)
                    if bad:
                        record["bad"] = bad
            elif answer.whole and record["kind"] != "fault":
                bad = judge_json(answer, model)
                if bad:
                    record["bad"] = bad
        return code

    def leave(self, record, path, model):
        """After the request, with FIN or RST; in a body; in a stream."""
        kind, c = record["kind"], self.connect(fresh=True)
        stream = kind == "left-stream"
        head, body = request(path, self.body(record["id"], FLOOD if stream else model, stream=stream))
        if kind == "left-body":
            body = body[:len(body) // 2]
        c.send(head + body)
        record["end"] = "left"
        try:
            if stream:
                answer = c.head()
                record["status"] = answer.status
                for _ in c.pieces(answer):
                    if self.random.random() < 0.2:
                        break
            else:
                time.sleep(self.random.choice([0, 0.001, 0.01, 0.05]))
        except Ended as error:
            record["end"] = "lost" if not error.begun else "cut"
        self.drop(reset=kind == "left-reset")

    def slow(self, record, path):
        self.drop()
        c = self.connect(fresh=True, room=4096)
        head, body = request(path, self.body(record["id"], FLOOD, stream=True))
        c.send(head + body)
        try:
            answer = c.head()
            record["status"] = answer.status
            c.slow(2048, 0.01)
            until = time.monotonic() + 1
            parts = []
            for part in c.pieces(answer):
                parts.append(part)
                if time.monotonic() > until:
                    c.slow(65536, 0)
            answer.body = b"".join(parts)
            record["end"] = "whole" if answer.whole else "cut"
            self.judge(FLOOD, FLOOD_PIECES)(record, answer)
        except Ended as error:
            record["end"] = "cut" if error.begun else "lost"
        self.drop()

    def one(self):
        self.count += 1
        name = f"r{self.number}-{self.count}"
        gateway = self.random.choices(list(GATEWAYS), list(GATEWAYS.values()))[0]
        kind = self.random.choices(list(KINDS), list(KINDS.values()))[0]
        record = {"id": name, "gateway": gateway, "kind": kind, "at": time.time()}
        path, model = f"/{gateway}/{name}", f"m-{name}"
        if kind.startswith("left"):
            self.leave(record, path, model)
        elif kind == "slow":
            self.slow(record, path)
        else:
            options, pieces = {}, 5 if "stream" in kind else 0
            if kind == "fault":
                model = "mock-" + self.random.choice(FAULTS)
            elif kind == "stream-fault":
                model = "mock-" + self.random.choice(STREAM_FAULTS)
                pieces = 3 if model == "mock-sse-cut" else 5
            body = self.body(name, model, **({"stream": True} if pieces else {}))
            if kind == "broken":
                body = body[:-self.random.randrange(1, 30)]
            elif kind.startswith("long"):
                body += b" " * 300_000  # the limit is 256 KiB
                options["chunked"] = kind == "long-chunked"
            elif kind == "big":
                body = self.body(name, model, metadata={"x": "x" * 150_000})
            elif kind == "type":
                options["content_type"] = "text/plain"
            else:
                options["chunked"] = self.random.random() < 0.1
            self.exchange(record, *request(path, body, **options), self.judge(model, pieces))
        self.out(record)

    def run(self):
        while not os.path.exists(self.stop):
            number = self.count + 1
            try:
                self.one()
            except Exception as error:  # whatever it is, the test has to see it
                self.out({"id": f"r{self.number}-{number}", "gateway": "?", "kind": "?", "end": "failed", "bad": repr(error), "at": time.time()})
                self.drop()
            time.sleep(self.random.random() * 0.2)
        self.drop()


class Drain(threading.Thread):
    """Takes the mock's records away before it forgets them."""
    USER = re.compile(r'"user":\s*"([^"]+)"')

    def __init__(self, port, out):
        super().__init__()
        self.port, self.out, self.seq, self.over = port, out, 0, threading.Event()

    def take(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", f"/__mock/requests?after={self.seq}")
        for record in json.loads(connection.getresponse().read()):
            if not record["complete"] or not record["answered"] and not record["closed_early"]:
                if not self.over.is_set() and time.time() * 1000 - record["time_ms"] < 10_000:
                    break  # still going on: it is read again the next time
            self.seq = record["seq"]
            body = record.get("body", "")
            found = self.USER.search(body)
            headers = {name.lower(): value for name, value in record["headers"]}
            self.out({"id": found and found.group(1), "port": record["port"], "path": record["path"], "complete": record["complete"],
                      "malformed": record["malformed"], "key": headers.get("x-soak-key"), "length": len(body)})
        connection.close()

    def run(self):
        while not self.over.wait(0.5):
            self.take()
        self.take()


def writer(path):
    file, lock = open(path, "w", encoding="utf-8"), threading.Lock()

    def out(record):
        with lock:
            file.write(json.dumps(record) + "\n")
            file.flush()
    return out


def main():
    port, control, seed, n = (int(word) for word in sys.argv[1:5])
    directory = sys.argv[5]
    drain = Drain(control, writer(os.path.join(directory, "seen")))
    drain.start()
    sent = writer(os.path.join(directory, "sent"))
    clients = [Client(i, port, seed, directory, sent) for i in range(n)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    # What the gateway still has in flight is over before the drain is.
    while not os.path.exists(os.path.join(directory, "idle")):
        time.sleep(0.1)
    drain.over.set()
    drain.join()
    print(sum(client.count for client in clients))


main()
