#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# The one call of a Kubernetes API server that Vault's kubernetes method makes: it asks whether the token of a service account
# is genuine. Here the genuine ones are those that stand in FILE, one a line. Prints "ready". AIPTest::Vault starts it.
#
#   token_review.py PORT FILE REVIEWER CERT KEY      REVIEWER: the bearer token that may ask
import base64
import http.server
import json
import ssl
import sys

port, file, reviewer = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[4], sys.argv[5])


def claims(token):
    part = token.split('.')[1]
    return json.loads(base64.urlsafe_b64decode(part + '=' * (-len(part) % 4)))


def review(token, audiences):
    with open(file) as genuine:
        if token not in genuine.read().split():
            return {'authenticated': False, 'error': 'not one of ours'}
    audiences = [a for a in claims(token)['aud'] if a in audiences]
    if not audiences:
        return {'authenticated': False, 'error': 'not for these audiences'}
    who = claims(token)['kubernetes.io']
    name = f"system:serviceaccount:{who['namespace']}:{who['serviceaccount']['name']}"
    groups = ['system:serviceaccounts', 'system:serviceaccounts:' + who['namespace'], 'system:authenticated']
    return {'authenticated': True, 'audiences': audiences,
            'user': {'username': name, 'uid': who['serviceaccount']['uid'], 'groups': groups}}


def refusal(code, reason):
    return code, {'kind': 'Status', 'apiVersion': 'v1', 'status': 'Failure', 'reason': reason, 'code': code}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        spec = json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0))).get('spec')
        if self.path != '/apis/authentication.k8s.io/v1/tokenreviews':
            return self.answer(*refusal(404, 'NotFound'))
        if self.headers.get('Authorization') != 'Bearer ' + reviewer:
            return self.answer(*refusal(401, 'Unauthorized'))
        return self.answer(201, {'kind': 'TokenReview', 'apiVersion': 'authentication.k8s.io/v1', 'metadata': {},
                                 'spec': spec, 'status': review(spec['token'], spec.get('audiences', []))})

    def answer(self, status, what):
        text = json.dumps(what).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print('ready', flush=True)
server.serve_forever()
