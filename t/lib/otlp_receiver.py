#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# A collector of traces: OTLP over HTTP, protobuf, read by protobuf's own parser and OpenTelemetry's own messages. What that
# cannot read, a field that it does not know and an id of another length or of zeros are answered with 400. Writes a line of JSON for each request into its log: status, headers,
# raw body, resource and spans (attributes as a plain object). AIPTest::Otlp starts it.
#
# How it answers stands in a file, one word for each request since the file was written, the last one for ever: ok, a status,
# STATUS:SECONDS with Retry-After, partial:N (refuses N spans), slow:SECONDS:STATUS, hang.
import argparse
import json
import os
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

parser = argparse.ArgumentParser()
parser.add_argument('--port', type=int, required=True)
parser.add_argument('--log', required=True)
parser.add_argument('--mode', required=True, help='file with the mode')
options = parser.parse_args()
lock = threading.Lock()
TYPE = 'application/x-protobuf'
state = {'file': None, 'asked': 0}


def mode():
    with lock:
        with open(options.mode) as source:
            seen = (os.fstat(source.fileno()).st_ino, source.read())
        if seen != state['file']:
            state.update(file=seen, asked=0)
        words = seen[1].split()
        state['asked'] += 1
        return words[min(state['asked'], len(words)) - 1]


def check_ids(span):
    for raw, size in (span.trace_id, 16), (span.span_id, 8), (span.parent_span_id or bytes([1] * 8), 8):
        if len(raw) != size or not any(raw):
            raise ValueError(f'id {raw.hex()}')


def plain(value):
    kind = value.WhichOneof('value')
    return [plain(item) for item in value.array_value.values] if kind == 'array_value' else getattr(value, kind)


def attributes(owner):
    result = {item.key: plain(item.value) for item in owner.attributes}
    if len(result) != len(owner.attributes):
        raise ValueError('an attribute twice')
    return result


def read(body):
    message = ExportTraceServiceRequest.FromString(body)
    known = ExportTraceServiceRequest.FromString(body)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise ValueError('unknown fields')
    spans, resource = [], {}
    for of_resource in message.resource_spans:
        resource = attributes(of_resource.resource)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                check_ids(span)
                spans.append({
                    'trace': span.trace_id.hex(), 'span': span.span_id.hex(), 'parent': span.parent_span_id.hex(),
                    'name': span.name, 'kind': span.kind, 'start': span.start_time_unix_nano, 'end': span.end_time_unix_nano,
                    'error': span.status.code == 2, 'attributes': attributes(span), 'scope': of_scope.scope.name})
    return resource, spans


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def note(self, **what):
        line = json.dumps(what) + '\n'
        with lock, open(options.log, 'a') as out:
            out.write(line)

    def answer(self, status, body=b'', **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Type', TYPE)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        word, *rest = mode().split(':')
        record = {'path': self.path, 'headers': dict(self.headers.items()), 'raw': body.decode('latin-1'), 'at': time.time()}
        try:
            if self.headers['Content-Type'] != TYPE:
                raise ValueError('content type')
            record['resource'], record['spans'] = read(body)
        except Exception as error:
            self.note(status=400, error=f'{type(error).__name__}: {error}', **record)
            return self.answer(400)
        if word == 'hang':
            self.note(status=0, **record)
            return time.sleep(60)
        if word == 'slow':
            self.note(status=0, **record)
            time.sleep(float(rest[0]))
            return self.answer(int(rest[1]))
        if word == 'partial':
            self.note(status=200, **record)
            refused = ExportTraceServiceResponse()
            refused.partial_success.rejected_spans = int(rest[0])
            refused.partial_success.error_message = 'not these'
            return self.answer(200, refused.SerializeToString())
        status = 200 if word == 'ok' else int(word)
        self.note(status=status, **record)
        return self.answer(status, **({'Retry_After': rest[0]} if rest else {}))


class Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server(('127.0.0.1', options.port), Handler)
print('ready', flush=True)
server.serve_forever()
