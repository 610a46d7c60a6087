# SPDX-License-Identifier: Apache-2.0
"""What the test servers of cloud credentials share: HTTP on 127.0.0.1, counting, control, chats.

A server is an App with a method handle(request) that returns an Answer or raises Refused. Control,
for tests, on the same port:

    GET  /__cloud/state    {"count": {KIND: N}, "refused": [REASON, ...], "settings": {...}}
    POST /__cloud/set      {"NAME": VALUE, ...} changes settings; answers the state
    POST /__cloud/revoke   what was issued so far is no longer accepted
    POST /__cloud/reset    settings, counts and reasons as at the start; what was issued is revoked

Settings that every App has: "status" {KIND: STATUS} makes requests of a kind fail with that status,
"delay" {KIND: SECONDS} answers late, "body" {KIND: TEXT} answers that text instead.
"""

import argparse
import copy
import json
import signal
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY_BYTES = 16 << 20
CONTROL = "/__cloud/"


@dataclass
class Request:
    """As it arrived: target and header fields are not decoded."""

    method: str
    path: str
    query: str
    headers: list
    body: bytes

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name):
        """The only value of a header field, or None; a field sent twice is refused."""
        values = self.all(name)
        if len(values) > 1:
            raise Refused(400, f"{name} was sent {len(values)} times")
        return values[0] if values else None


@dataclass
class Answer:
    status: int = 200
    document: object = None
    text: str = None
    content_type: str = "application/json"
    headers: dict = field(default_factory=dict)
    pieces: list = None  # a body in chunks instead

    def body(self):
        if self.text is not None:
            return self.text.encode()
        return json.dumps(self.document).encode()


class Refused(Exception):
    """A request that is not good: the reason is kept for the test, the answer goes to the client."""

    def __init__(self, status, reason, answer=None):
        super().__init__(reason)
        self.reason = reason
        self.answer = answer or Answer(status, {"message": reason})


class App:
    """Settings, counts and reasons; one lock for all that requests change."""

    def __init__(self, settings):
        self.lock = threading.Lock()
        self.defaults = {"status": {}, "delay": {}, "body": {}, **settings}
        self.reset()

    def reset(self):
        with self.lock:
            self.settings = copy.deepcopy(self.defaults)
            self.count = {}
            self.refused = []
        self.revoke()

    def revoke(self):
        raise NotImplementedError

    def handle(self, request):
        raise NotImplementedError

    def counted(self, kind):
        """One more request of a kind; here it may be told to fail, to wait or to say other things."""
        with self.lock:
            self.count[kind] = self.count.get(kind, 0) + 1
            status, delay, text = (self.settings[name].get(kind) for name in
                                   ("status", "delay", "body"))
        if delay:
            time.sleep(delay)
        if status or text is not None:
            raise Refused(status, f"{kind}: as ordered",
                          Answer(status or 200, {"message": "as ordered"}, text=text))

    def state(self):
        with self.lock:
            return Answer(document={"count": self.count, "refused": self.refused,
                                    "settings": self.settings})

    def control(self, request):
        verb = request.path.removeprefix(CONTROL)
        if (request.method, verb) == ("GET", "state"):
            return self.state()
        if (request.method, verb) == ("POST", "set"):
            change = json.loads(request.body)
            unknown = set(change) - set(self.defaults)
            if unknown:
                return Answer(400, {"message": f"no such setting: {sorted(unknown)}"})
            with self.lock:
                self.settings.update(change)
            return self.state()
        if request.method == "POST" and verb in ("revoke", "reset"):
            getattr(self, verb)()
            return self.state()
        return Answer(404, {"message": "no such order"})

    def respond(self, request):
        if request.path.startswith(CONTROL):
            return self.control(request)
        try:
            return self.handle(request)
        except Refused as refused:
            with self.lock:
                self.refused.append(refused.reason)
            return refused.answer


def chat_answer(request, player):
    """OpenAI's chat completion, whole or as events, as a real model's endpoint would give it."""
    try:
        chat = json.loads(request.body)
        model, streams = chat["model"], chat.get("stream", False)
        chat["messages"][0]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise Refused(400, f"no chat: {error!r}", Answer(400, {"error": {
            "message": "no chat", "type": "invalid_request_error", "param": None,
            "code": None}})) from error
    text = f"I am {model}, played by {player}."
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    common = {"id": "chatcmpl-1", "created": int(time.time()), "model": model}
    if not streams:
        choice = {"index": 0, "message": {"role": "assistant", "content": text},
                  "finish_reason": "stop"}
        return Answer(document={**common, "object": "chat.completion", "choices": [choice],
                                "usage": usage})
    common["object"] = "chat.completion.chunk"
    events = [{**common, "choices": [{"index": 0, "delta": {"content": word + " "},
                                      "finish_reason": None}]} for word in text.split()]
    events.append({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (chat.get("stream_options") or {}).get("include_usage"):
        events.append({**common, "choices": [], "usage": usage})
    lines = [json.dumps(event) for event in events] + ["[DONE]"]
    return Answer(content_type="text/event-stream",
                  pieces=[f"data: {line}\n\n".encode() for line in lines])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60

    def serve(self):
        # self.path is no use: the library has changed it
        target = self.raw_requestline.decode("latin-1").split(" ")[1]
        path, _, query = target.partition("?")
        try:
            body = self.read_body()
        except ValueError as error:
            self.close_connection = True
            return self.send(Answer(400, {"message": str(error)}))
        request = Request(self.command, path, query, self.headers.items(), body)
        return self.send(self.server.app.respond(request))

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = serve

    def read_body(self):
        if "Transfer-Encoding" not in self.headers:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 <= length <= MAX_BODY_BYTES:
                raise ValueError("the body is too large")
            return self.rfile.read(length)
        body = b""
        while True:
            size = int(self.rfile.readline(100).split(b";")[0], 16)
            if size < 0 or len(body) + size > MAX_BODY_BYTES:
                raise ValueError("the body is too large")
            body += self.rfile.read(size)
            self.rfile.readline(100)
            if not size:
                return body

    def send(self, answer):
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        if answer.pieces is None:
            body = answer.body()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format, *args):
        """Silent: the tests read the state."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, cert=None, key=None):
        super().__init__(("127.0.0.1", port), Handler)
        self.app = None
        self.tls = None
        if cert:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(cert, key)

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:  # the handshake is made by the thread of the connection
            connection = self.tls.wrap_socket(connection, server_side=True,
                                              do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request, client_address):
        """A client that left is no event."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def arguments():
    """The options of every server; a port of 0 is chosen by the system."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls-port", type=int)
    parser.add_argument("--cert")
    parser.add_argument("--tls-key")
    return parser


def listen(options):
    """The plain server and, with --tls-port, one with TLS; they get their app in run()."""
    servers = [Server(options.port)]
    if options.tls_port is not None:
        servers.append(Server(options.tls_port, options.cert, options.tls_key))
    return servers


def run(servers, app):
    """Serves until it is told to end; says "ready PORT [TLS-PORT]" on standard output when it can."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for server in servers:
        server.app = app
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", *(server.server_port for server in servers), flush=True)
    servers[0].serve_forever()
