# SPDX-License-Identifier: Apache-2.0
"""One measurement: a load of so many seconds or streams on one contender, and what it cost."""
import os
import re
import select
import subprocess
import time

from . import upstream
from .place import TICK, Failure

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
H2_STREAMS = 10    # requests under way on one HTTP/2 connection
LARGE = 100000    # bytes from which prompts repeat, see post_numbered.lua


def run(argv, env=None):
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False)
    if done.returncode:
        raise Failure(f'{argv[0]}: {done.stderr[-500:]}')
    return done.stdout


def percentile(values, share):
    """Between neighbours in proportion."""
    if not values:
        return 0
    values = sorted(values)
    at = (len(values) - 1) * share
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


class Load:
    """Measures contenders of one setting; keeps the numbers of prompts that were asked."""

    def __init__(self, setting, streams_program=None):
        self.place, self.mock = setting.place, setting.mock
        self.streams_program = streams_program
        self.first = int(time.time()) % 90000 * 1000

    def body(self, size, stream=False, number=None):
        text = upstream.chat(size, stream)
        name = f'body.{size}{".stream" if stream else ""}{"" if number is None else ".once"}'
        return self.place.write(name, text if number is None else upstream.numbered(text, number))

    def costs(self, contender, ticks, requests):
        process = contender.process
        if not process:
            return {'cpu_us': None, 'rss': None, 'pss': None}
        spent = process.ticks() - ticks
        rss, pss = process.memory()
        return {'cpu_us': spent / TICK * 1e6 / max(requests, 1), 'rss': rss, 'pss': pss}

    @staticmethod
    def ticks(contender):
        return contender.process.ticks() if contender.process else 0

    def wrk(self, contender, conns, seconds, size):
        self.first = (self.first + 1000003) % 90000000
        if contender.process:
            contender.ask(upstream.numbered(upstream.chat(size), 0))    # what a cache keeps is there before the first request
        calls, ticks = self.mock.calls(), self.ticks(contender)
        out = run(['wrk', '-t1', f'-c{conns}', f'-d{seconds}s', '--timeout', '20s', '-s', f'{HERE}/post_numbered.lua',
                   contender.url()],
                  {'BENCH_BODY': self.body(size), 'BENCH_FIRST': str(self.first), 'BENCH_FRESH': '1' if contender.fresh else '0',
                   'BENCH_HEADERS': ''.join(f'{n}: {v}\n' for n, v in contender.headers().items())})
        found = re.search(r'^FIGURES (\d+) (\d+) (\d+) (\d+) (\d+)$', out, re.M)
        if not found:
            raise Failure(f'wrk gave no figures: {out}')
        requests, duration, p50, p99, errors = map(int, found.groups())
        figures = {'requests': requests, 'req_s': requests / (duration / 1e6), 'p50_us': p50, 'p99_us': p99,
                   **self.costs(contender, ticks, requests)}
        if contender.process:
            contender.process.settle()
        # The end of wrk leaves as many requests under way as it had connections.
        calls = self.mock.calls() - calls
        least = requests if contender.embeds and size < LARGE else 0
        most = requests + conns if contender.embeds else 0
        figures['errors'] = errors + max(0, least - calls, calls - most)
        return figures

    def h2load(self, contender, conns, seconds, size):
        log = self.place.path('h2load.log')
        if os.path.exists(log):
            os.unlink(log)
        ticks = self.ticks(contender)
        out = run(['h2load', '-D', str(seconds), '-c', str(conns), '-m', str(H2_STREAMS), '-d', self.body(size, number=0),
                   '-H', 'content-type: application/json', '--log-file', log, contender.url()])
        protocol = re.search(r'^Application protocol: (\S+)', out, re.M)
        if not protocol or protocol.group(1) != 'h2':
            raise Failure(f'{contender.name}: no HTTP/2: {out[:500]}')
        times, errors = [], 0
        with open(log) as f:
            for line in f:
                _, status, took = line.split()
                if status == '200':
                    times.append(int(took))
                else:
                    errors += 1
        failed = re.search(r'(\d+) failed, (\d+) errored, (\d+) timeout', out)
        costs = self.costs(contender, ticks, len(times))
        contender.process.settle()
        return {'requests': len(times), 'req_s': len(times) / seconds, 'p50_us': percentile(times, 0.5),
                'p99_us': percentile(times, 0.99), 'errors': errors + sum(map(int, failed.groups())) if failed else errors, **costs}

    def streams(self, contender, count, events, interval_ms):
        process = contender.process
        ticks = self.ticks(contender)
        idle = process.memory() if process else (0, 0)
        headers = [x for n, v in contender.headers().items() for x in ('--header', f'{n}: {v}')]
        limit = events * interval_ms / 1000 + 60
        port = int(contender.url().partition('//')[2].partition('/')[0].rpartition(':')[2])
        client = subprocess.Popen(
            [self.streams_program, '--port', str(port), '--path', contender.path, '--streams', str(count), '--events',
             str(events), '--body', self.body(2000, stream=True, number=0), '--timeout', str(int(limit)), *headers],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        rss = pss = 0
        opened, out = False, ''
        while client.poll() is None:
            # "open" is the first line, once every stream has begun; the others come at the end.
            if not opened and select.select([client.stdout], [], [], 0.1)[0]:
                out += client.stdout.readline()
                opened = True
            elif opened:
                time.sleep(0.1)
            if process:
                now = process.memory(opened and not pss)
                rss, pss = max(rss, now[0]), pss or now[1]
        out += client.stdout.read()
        client.stdout.close()
        found = re.search(r'^FIGURES (\d+) (\d+) (\d+) (\d+) (\d+)$', out, re.M)
        if client.returncode or not found:
            raise Failure(f'streams: {out}')
        right, wrong, p50, p99, last = map(int, found.groups())
        figures = {'right': right, 'errors': wrong, 'p50_us': p50, 'p99_us': p99, 'seconds': last / 1e6,
                   'wrong': [line for line in out.splitlines() if line.startswith('stream ')],
                   **self.costs(contender, ticks, count)}
        if process:
            figures.update(idle=idle[0], rss=rss, pss=pss, over=rss - idle[0], over_pss=max(0, pss - idle[1]))
            process.settle()
        return figures
