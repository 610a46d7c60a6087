# SPDX-License-Identifier: Apache-2.0
"""Opens so many connections to a gateway, makes a request on each and leaves it idle; then looks at the server.

    idle_connections.py PORT COUNT PID SIZE

Prints JSON: `kib_each`, what the process PID has grown by for each connection; `answered`, the status that one more client
gets meanwhile; `alive`, how many connections answer a second request (every 50th is asked, and stands for 50). The requests
have SIZE bytes of body.
"""
import json
import resource
import socket
import sys

START, END = b'{"messages":[{"role":"user","content":"', b'"}]}'
PER_ADDRESS = 5000  # a source address has about 28 000 ports for one peer, which other tests need as well


def own_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("RssAnon")))


def request(size):
    body = START + b"x" * (size - len(START) - len(END)) + END
    return b"POST /one HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def ask(connection, what):
    """The status of the answer, which is read to its end; 0 when the connection is closed."""
    connection.sendall(what)
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return 0
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split(b" ")[1])


def connect(port, n):
    connection = socket.socket()
    connection.settimeout(30)
    connection.bind((f"127.0.0.{1 + n // PER_ADDRESS}", 0))
    connection.connect(("127.0.0.1", port))
    return connection


def main():
    port, count, pid, size = (int(word) for word in sys.argv[1:5])
    what = request(size)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = own_kib(pid)
    connections = []
    for n in range(count):
        connections.append(connect(port, n))
        status = ask(connections[-1], what)
        if status != 200:
            sys.exit(f"connection {n}: status {status}")
    told = {"kib_each": round((own_kib(pid) - before) / count, 1), "answered": ask(connect(port, count), what), "alive": 0}
    for connection in connections[::50]:
        try:
            told["alive"] += 50 * (ask(connection, what) == 200)
        except OSError:
            pass
    json.dump(told, sys.stdout)


main()
