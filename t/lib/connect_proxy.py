#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# An HTTP proxy that makes tunnels. Writes a line of JSON for each CONNECT into its log before it answers. How it answers
# stands in a file that is read for each of them: ok, auth (wants --auth), 403 or another status, garbage, early (bytes behind
# its head), huge (a head without end), hang, close, trickle (byte for byte). Prints "ready". AIPTest::ConnectProxy starts it.
import argparse
import base64
import json
import selectors
import socket
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument('--port', type=int, required=True)
parser.add_argument('--log', required=True)
parser.add_argument('--mode', required=True, help='file with the mode')
parser.add_argument('--auth', default='user:password')
options = parser.parse_args()
lock = threading.Lock()


def note(**what):
    line = json.dumps(what) + '\n'
    with lock, open(options.log, 'a') as out:
        out.write(line)


def read_head(client):
    data = b''
    while b'\r\n\r\n' not in data:
        piece = client.recv(4096)
        if not piece or len(data) > 65536:
            return None
        data += piece
    return data


def pump(one, two):
    selector = selectors.DefaultSelector()
    selector.register(one, selectors.EVENT_READ, two)
    selector.register(two, selectors.EVENT_READ, one)
    while True:
        for key, _ in selector.select():
            data = key.fileobj.recv(65536)
            if not data:
                return
            key.data.sendall(data)


def refuse(client, status):
    client.sendall(f'HTTP/1.1 {status} No\r\nContent-Length: 7\r\nConnection: close\r\n\r\nrefused'.encode())


def tunnel(client, authority, trickle):
    host, port = authority.rsplit(':', 1)
    try:
        upstream = socket.create_connection((host.strip('[]'), int(port)), 5)
    except OSError:
        return refuse(client, 502)
    with upstream:
        upstream.settimeout(None)
        answer = b'HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n'
        for i in range(0, len(answer), 1 if trickle else len(answer)):
            client.sendall(answer[i:i + (1 if trickle else len(answer))])
            if trickle:
                time.sleep(0.002)
        pump(client, upstream)


def serve(client):
    head = read_head(client)
    if head is None:
        return
    line, *fields = head.split(b'\r\n\r\n')[0].decode('latin-1').split('\r\n')
    headers = {k.lower(): v.strip() for k, v in (f.split(':', 1) for f in fields)}
    method, authority, _ = line.split(' ')
    with open(options.mode) as file:
        mode = file.read().strip()
    note(method=method, authority=authority, headers=headers)
    wanted = 'Basic ' + base64.b64encode(options.auth.encode()).decode()
    if method != 'CONNECT':
        refuse(client, 405)
    elif mode == 'auth' and headers.get('proxy-authorization') != wanted:
        refuse(client, 407)
    elif mode.isdigit():
        refuse(client, mode)
    elif mode == 'garbage':
        client.sendall(b'220 mail.example ESMTP\r\n\r\n')
    elif mode == 'early':
        client.sendall(b'HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}')
        client.recv(1)
    elif mode == 'huge':
        client.sendall(b'HTTP/1.1 200 OK\r\n' + b'X-Filler: ' + b'x' * 70000)
        client.recv(1)
    elif mode == 'hang':
        client.recv(1)
    elif mode != 'close':
        tunnel(client, authority, mode == 'trickle')


def guarded(client):
    with client:
        try:
            serve(client)
        except (OSError, ValueError):
            pass


listener = socket.create_server(('127.0.0.1', options.port), backlog=128)
print('ready', flush=True)
while True:
    threading.Thread(target=guarded, args=(listener.accept()[0],), daemon=True).start()
