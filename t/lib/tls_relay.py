#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# TLS in front of a plain port of 127.0.0.1: bytes go through as they come. AIPTest::Wire starts it. Prints "ready".
#
#   tls_relay.py PORT TO_PORT CERT KEY
import socket
import ssl
import sys
import threading

port, to_port = int(sys.argv[1]), int(sys.argv[2])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3], sys.argv[4])


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(accepted):
    try:
        client = context.wrap_socket(accepted, server_side=True)
        server = socket.create_connection(('127.0.0.1', to_port))
    except OSError:
        return
    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)


listener = socket.create_server(('127.0.0.1', port), backlog=64)
print('ready', flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
