#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# A server for one certificate and one range of TLS versions. Answers every request alike, in JSON unless told otherwise, and
# writes a line of JSON for each request, and for each handshake that fails, into its log before it answers. Prints "ready".
# AIPTest::CA starts it.
import argparse
import http.server
import json
import ssl
import threading

parser = argparse.ArgumentParser()
parser.add_argument('--port', type=int, required=True)
parser.add_argument('--log', required=True)
parser.add_argument('--cert', help='none: no TLS')
parser.add_argument('--key')
parser.add_argument('--client-ca', help='clients must have a certificate of this authority')
parser.add_argument('--min', help='TLSv1, TLSv1.1, TLSv1.2, TLSv1.3')
parser.add_argument('--max')
parser.add_argument('--status', type=int, default=200)
parser.add_argument('--body', default='{"ok":true}')
parser.add_argument('--type', default='application/json')
options = parser.parse_args()

lock = threading.Lock()


def note(**what):
    line = json.dumps(what) + '\n'
    with lock, open(options.log, 'a') as out:
        out.write(line)


def name_asked_for(connection, name, _context):
    connection.asked_for = name


def tls_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    version = {v: getattr(ssl.TLSVersion, v.replace('.', '_')) for v in ('TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3')}
    # At its usual level OpenSSL 3 refuses the hashes that TLS 1.1 signs with, whatever the versions say.
    if options.max in ('TLSv1', 'TLSv1.1'):
        context.set_ciphers('DEFAULT:@SECLEVEL=0')
        context.minimum_version = version['TLSv1']
    if options.min:
        context.minimum_version = version[options.min]
    if options.max:
        context.maximum_version = version[options.max]
    context.load_cert_chain(options.cert, options.key)
    if options.client_ca:
        context.load_verify_locations(options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    context.sni_callback = name_asked_for
    return context


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    timeout = 60

    def setup(self):
        # The handshake belongs into the connection's thread: in the listener's it would hold up everybody else.
        if context:
            self.request.settimeout(10)
            self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self):
        super().finish()
        self.request.close()

    def answer(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        what = {'method': self.command, 'path': self.path, 'body': body.decode('latin-1'),
                'headers': {name.lower(): value for name, value in self.headers.items()}}
        if context:
            subject = dict(pair[0] for pair in (self.connection.getpeercert() or {}).get('subject', ()))
            what.update(tls=self.connection.version(), name=getattr(self.connection, 'asked_for', None),
                        client=subject.get('commonName'))
        note(**what)
        text = options.body.encode()
        self.send_response(options.status)
        self.send_header('Content-Type', options.type)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def finish_request(self, request, client_address):
        try:
            super().finish_request(request, client_address)
        except (ssl.SSLError, OSError) as error:
            note(error=str(error))


context = tls_context() if options.cert else None
server = Server(('127.0.0.1', options.port), Handler)
print('ready', flush=True)
server.serve_forever()
