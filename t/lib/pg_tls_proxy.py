# SPDX-License-Identifier: Apache-2.0
# TLS for a PostgreSQL that has none: answers SSLRequest, does the handshake and hands what it
# decrypts to the server on 127.0.0.1. Prints "ready" once it listens.
#
#   pg_tls_proxy.py --listen PORT --server PORT --cert FILE --key FILE
#                   [--max-tls 1.1|1.2|1.3] [--client-ca FILE] [--answer S|N]
#
# --answer N is a server without TLS: a client that goes on in plaintext is served. One line for each
# connection goes to the standard error: "tls VERSION", "plaintext" or "refused REASON".
import argparse
import socket
import ssl
import struct
import sys
import threading

SSL_REQUEST = struct.pack("!II", 8, 80877103)
VERSIONS = {"1.1": ssl.TLSVersion.TLSv1_1, "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def context_of(options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if options.max_tls == "1.1":
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = VERSIONS["1.1"]
    context.maximum_version = VERSIONS[options.max_tls]
    context.load_cert_chain(options.cert, options.key)
    if options.client_ca:
        context.load_verify_locations(options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def pump(source, target):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def receive(client, size):
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            break
        data += more
    return data


def serve(client, options, context):
    first = receive(client, 8)
    try:
        if first == SSL_REQUEST:
            client.sendall(options.answer.encode())
            first = b""
            if options.answer == "S":
                client = context.wrap_socket(client, server_side=True)
                say("tls", client.version())
        if not isinstance(client, ssl.SSLSocket):
            first = first or receive(client, 8)
            if not first:
                say("refused", "went away")
                client.close()
                return
            say("plaintext")
        server = socket.create_connection(("127.0.0.1", options.server))
        server.sendall(first)
    except OSError as error:
        say("refused", type(error).__name__)
        client.close()
        return
    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)
    client.close()
    server.close()


def main():
    parser = argparse.ArgumentParser()
    for name in ("--listen", "--server"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--cert", "--key", "--client-ca"):
        parser.add_argument(name)
    parser.add_argument("--max-tls", choices=sorted(VERSIONS), default="1.3")
    parser.add_argument("--answer", choices=["S", "N"], default="S")
    options = parser.parse_args()
    context = context_of(options) if options.answer == "S" else None
    listener = socket.create_server(("127.0.0.1", options.listen))
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, options, context), daemon=True).start()


main()
