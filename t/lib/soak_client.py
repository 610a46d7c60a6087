# SPDX-License-Identifier: Apache-2.0
"""A client of the soak: one raw connection, requests that may be cut anywhere, answers read as their framing says, fast or
slowly. Nothing is retried and nothing is hidden: what came is in Answer."""
import json
import socket
import struct
import time


class Ended(Exception):
    """The connection ended; .begun tells whether a byte of the answer had come."""

    def __init__(self, begun):
        super().__init__("ended in the answer" if begun else "ended before the answer")
        self.begun = begun


class Answer:
    def __init__(self):
        self.status = 0
        self.headers = {}
        self.body = b""
        self.whole = False  # it ended as its framing says


class Connection:
    def __init__(self, port, timeout=30, room=None):
        self.socket = socket.socket()
        if room:  # a small window: what is not read stays with the server
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.used = 0
        self.pause = 0.0
        self.piece = 65536

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (ConnectionError, BrokenPipeError):
            pass  # an answer may be there all the same

    def slow(self, piece, pause):
        self.piece, self.pause = piece, pause

    def fill(self):
        if self.pause:
            time.sleep(self.pause)
        try:
            data = self.socket.recv(self.piece)
        except ConnectionError:
            data = b""
        self.buffer += data
        return bool(data)

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def until(self, mark):
        while mark not in self.buffer:
            if not self.fill():
                raise Ended(bool(self.buffer))
        text, _, self.buffer = self.buffer.partition(mark)
        return text

    def exactly(self, n):
        while len(self.buffer) < n:
            if not self.fill():
                raise Ended(True)
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def head(self):
        self.used += 1
        answer = Answer()
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        answer.status = int(first.split(" ")[1])
        for line in lines:
            name, _, value = line.partition(":")
            answer.headers[name.lower()] = value.strip()
        return answer

    def pieces(self, answer):
        """The body as it comes; sets answer.whole at its proper end."""
        try:
            if answer.headers.get("transfer-encoding", "").lower() == "chunked":
                while True:
                    size = int(self.until(b"\r\n"), 16)
                    data = self.exactly(size + 2)[:size]
                    if not size:
                        break
                    yield data
            elif "content-length" in answer.headers:
                yield self.exactly(int(answer.headers["content-length"]))
            else:
                while self.fill():
                    pass
                yield self.exactly(len(self.buffer))
            answer.whole = True
        except Ended:
            return

    def read(self, answer):
        answer.body = b"".join(self.pieces(answer))
        return answer


def request(path, body, content_type="application/json", chunked=False, announce=None):
    """Head and body apart, so that a client can leave between the two."""
    head = f"POST {path} HTTP/1.1\r\nHost: soak\r\nContent-Type: {content_type}\r\n"
    if chunked:
        head += "Transfer-Encoding: chunked\r\n\r\n"
        parts = [body[i:i + 4000] for i in range(0, len(body), 4000)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        head += f"Content-Length: {announce or len(body)}\r\n\r\n"
    return head.encode(), body


def judge_json(answer, model):
    """What is wrong with the buffered 200 for a model of that name; None: nothing."""
    try:
        document = json.loads(answer.body)
        text = document["choices"][0]["message"]["content"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return f"no chat: {error!r} in {answer.body[:100]!r}"
    if not text.startswith(f"I am {model}, played by m") or document["model"] != model:
        return f"another one's answer: {text[:80]!r} for {model}"
    return None


def judge_stream(answer, model, pieces):
    """(how it ended, what is wrong): ended "done", or "error" by an event that says so. Order and completeness are checked."""
    events = [part[6:] for part in answer.body.decode("utf-8", "replace").split("\n\n") if part.startswith("data: ")]
    text, parts, finished = "", 0, False
    for i, event in enumerate(events):
        if event == "[DONE]":
            wanted = "".join(f" {n}" for n in range(1, pieces))
            if i != len(events) - 1 or not finished or parts != pieces:
                return "done", f"{parts} pieces, finished {finished}, event {i + 1} of {len(events)} is the end"
            if not text.startswith(f"I am {model}, played by m") or not text.endswith("." + wanted):
                return "done", f"not its text: {text[:80]!r}"
            return "done", None
        try:
            document = json.loads(event)
        except ValueError:
            return "done", f"no JSON: {event[:100]!r}"
        if "error" in document:
            return "error", None if i == len(events) - 1 else "events behind the error"
        for choice in document["choices"]:
            piece = choice["delta"].get("content", "")
            parts += bool(piece)
            text += piece
            finished = finished or choice["finish_reason"] is not None
    return "none", f"no end: {answer.body[-100:]!r}"
