# SPDX-License-Identifier: Apache-2.0
"""A private folder with the processes that run in it, their ports, and what /proc says of them. Everything that was started
ends with it."""
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

TICK = os.sysconf('SC_CLK_TCK')
PAGE = os.sysconf('SC_PAGE_SIZE')
local = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failure(Exception):
    """What ends the run, in words for the user."""


def post(url, body, headers=None, timeout=30):
    """(status, body) of a POST; a status of 400 and above is an answer, too."""
    request = urllib.request.Request(url, body, {'Content-Type': 'application/json', **(headers or {})})
    try:
        with local.open(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def get(url, timeout=10):
    with local.open(url, timeout=timeout) as answer:
        return answer.read()


def answers(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(('127.0.0.1', port)) == 0


class Process:
    """A server, with all that it starts in its turn."""

    def __init__(self, argv, log, env=None, cwd=None):
        self.log = log
        with open(log, 'ab') as out:
            # A session of its own: httpd takes a terminal that changes its size for an order to stop.
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
                                          start_new_session=True, env={**os.environ, **(env or {})})

    def tail(self):
        with open(self.log, errors='replace') as f:
            return ''.join(f.readlines()[-8:])

    def await_port(self, port, seconds=60):
        for _ in range(int(seconds * 20)):
            if self.child.poll() is not None:
                raise Failure(f'{self.child.args[0]} ended: {self.tail()}')
            if answers(port):
                return
            time.sleep(0.05)
        raise Failure(f'{self.child.args[0]} does not listen: {self.tail()}')

    def pids(self):
        found, todo = [], [self.child.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in listed(f'/proc/{pid}/task'):
                todo += [int(p) for p in read(f'/proc/{pid}/task/{task}/children').split()]
        return found

    def ticks(self):
        """CPU time of all its processes so far, of those that have ended included."""
        total = 0
        for pid in self.pids():
            fields = read(f'/proc/{pid}/stat').rpartition(')')[2].split()
            if fields:
                total += sum(int(f) for f in fields[11:15])
        return total

    def memory(self, whole=True):
        """(RSS, PSS) in bytes of all its processes. Pages that they share count in RSS once for each. PSS is slow to tell for
        many threads: 0 unless whole."""
        rss = pss = 0
        for pid in self.pids():
            fields = read(f'/proc/{pid}/statm').split()
            rss += int(fields[1]) * PAGE if fields else 0
            for line in read(f'/proc/{pid}/smaps_rollup').splitlines() if whole else ():
                if line.startswith('Pss:'):
                    pss += int(line.split()[1]) * 1024
        return rss, pss

    def settle(self, seconds=5):
        """Waits until it does nothing any more: what a load left under way would be counted with the next one."""
        end = time.monotonic() + seconds
        before = self.ticks()
        while time.monotonic() < end:
            time.sleep(0.05)
            now = self.ticks()
            if now - before <= 1:
                return
            before = now

    def ask_to_stop(self):
        if self.child.poll() is None:
            self.child.terminate()

    def stop(self, everything=()):
        """With all that it started; everything: pids that were known before it was asked to stop."""
        everything = [*everything, *self.pids()]
        if self.child.poll() is None:
            self.ask_to_stop()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        for pid in everything:
            # Still there, and still in the session that was made for it.
            try:
                if os.getsid(pid) == self.child.pid:
                    os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass


def read(path):
    try:
        with open(path, errors='replace') as f:
            return f.read()
    except OSError:
        return ''


def listed(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


class Place:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='aip-compare.')
        os.chmod(self.dir, 0o755)
        self.processes = []
        self.given = set()
        self.user = None
        if os.getuid() == 0:
            known = {p.pw_name for p in pwd.getpwall()}
            self.user = 'www-data' if 'www-data' in known else 'nobody'

    def port(self):
        """A free port below those that connections going out take."""
        while True:
            port = random.randint(11000, 31000)
            with socket.socket() as s:
                try:
                    s.bind(('127.0.0.1', port))
                except OSError:
                    continue
            if port not in self.given:
                self.given.add(port)
                return port

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        path = self.path(name)
        with open(path, 'wb' if isinstance(text, bytes) else 'w') as f:
            f.write(text)
        return path

    def folder(self, name):
        path = self.path(name)
        os.makedirs(path, exist_ok=True)
        return path

    def start(self, argv, log, **more):
        process = Process(argv, self.path(log), **more)
        self.processes.append(process)
        return process

    def stop(self, process):
        process.stop()
        self.processes.remove(process)

    def certificates(self):
        """An authority and a server's certificate for localhost, made once."""
        if os.path.exists(self.path('server.pem')):
            return
        def openssl(*args):
            subprocess.run(['openssl', *args], check=True, capture_output=True, cwd=self.dir)
        self.write('names', 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n'
                   'authorityKeyIdentifier=keyid\nextendedKeyUsage=serverAuth\n')
        key = ['-newkey', 'rsa:2048', '-nodes']
        openssl('req', '-x509', *key, '-days', '2', '-subj', '/CN=bench authority', '-addext',
                'keyUsage=critical,keyCertSign,cRLSign', '-keyout', 'ca.key', '-out', 'ca.pem')
        openssl('req', *key, '-subj', '/CN=localhost', '-keyout', 'server.key', '-out', 'server.csr')
        openssl('x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2',
                '-extfile', 'names', '-out', 'server.pem')

    def close(self):
        everything = [pid for process in self.processes for pid in process.pids()]
        for process in self.processes:
            process.ask_to_stop()
        for process in reversed(self.processes):
            process.stop(everything)
        shutil.rmtree(self.dir, ignore_errors=True)
