# SPDX-License-Identifier: Apache-2.0
"""Sends mixed requests to a gateway over kept-alive connections and tells what came back, as JSON.

    mixed_load.py PORT COUNT SEED THREADS KINDS.json

KINDS.json: a list of {"path", "body", "weight", "type", "abort_ms"}: `body` is JSON, or text that is sent as it is; with
`abort_ms` the client leaves so long after it has sent the request. The choice is random but depends on SEED alone.

Output: {"sent": {PATH: N}, "status": {PATH: {STATUS: N}}, "failed": [TEXT, ...]}; a request whose client left has the status
"left", an answer that broke off "STATUS cut".
"""
import http.client
import json
import random
import select
import socket
import sys
import threading
import time


class Client(threading.Thread):
    def __init__(self, port, kinds):
        super().__init__()
        self.port = port
        self.kinds = kinds
        self.connection = None
        self.used = False
        self.seen = []
        self.failed = []

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None
        self.used = False

    def send(self, kind):
        body = kind["body"] if isinstance(kind["body"], str) else json.dumps(kind["body"])
        if not self.connection:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            self.connection.connect()
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.request("POST", kind["path"], body, {"Content-Type": kind.get("type", "application/json")})

    def must_be_open(self):
        """Who leaves does not see that the server had closed the connection before the request came."""
        sock = self.connection.sock
        if select.select([sock], [], [], 0)[0] and not sock.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError

    def answer(self, kind):
        response = self.connection.getresponse()
        status = str(response.status)
        try:
            response.read()
        except (http.client.HTTPException, OSError):
            self.drop()
            return status + " cut"
        if response.will_close:
            self.drop()
        self.used = True
        return status

    def one(self, kind):
        """A connection that the server closed between two requests has lost nothing: then once more."""
        for again in (False, True):
            fresh = not self.used
            try:
                self.send(kind)
                if "abort_ms" in kind:
                    time.sleep(kind["abort_ms"] / 1000)
                    self.must_be_open()
                    self.drop()
                    return "left"
                return self.answer(kind)
            except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError):
                self.drop()
                if fresh or again:
                    raise
        raise AssertionError

    def run(self):
        for kind in self.kinds:
            try:
                self.seen.append((kind["path"], self.one(kind)))
            except Exception as error:  # whatever it is, the test has to see it
                self.failed.append(f"{kind['path']}: {error!r}")
                self.drop()
        self.drop()


def main():
    port, count, seed, threads = (int(word) for word in sys.argv[1:5])
    with open(sys.argv[5], encoding="utf-8") as file:
        kinds = json.load(file)
    chosen = random.Random(seed).choices(kinds, [kind["weight"] for kind in kinds], k=count)
    clients = [Client(port, chosen[i::threads]) for i in range(threads)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    result = {"sent": {}, "status": {}, "failed": [text for client in clients for text in client.failed]}
    for client in clients:
        for path, status in client.seen:
            result["sent"][path] = result["sent"].get(path, 0) + 1
            by_status = result["status"].setdefault(path, {})
            by_status[status] = by_status.get(status, 0) + 1
    json.dump(result, sys.stdout)


main()
