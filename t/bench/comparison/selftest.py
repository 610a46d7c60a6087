# SPDX-License-Identifier: Apache-2.0
"""A short run of everything that needs no installation, so that the tool does not rot. Prints TAP; says nothing about
speed."""
import copy

from . import load, report, runs
from .place import Failure, Place
from .setting import Setting

MEASURED = {'proxypass': 200000, 'gateway': 2000, 'semantic-hit': 2000, 'semantic-remote': 310}    # bytes of a request
PLAIN = ['direct', 'proxypass', 'gateway', 'round-robin', 'semantic-hit', 'semantic-local', 'semantic-remote', 'observed']


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def line(self, right, name, why=''):
        self.count += 1
        self.failed += not right
        print(f'{"ok" if right else "not ok"} {self.count} - {name}', flush=True)
        if not right:
            print('\n'.join(f'#   {line}' for line in str(why).splitlines()), flush=True)


class Bench:
    """The contenders of one kind of run, for as long as a with statement lasts."""

    def __init__(self, options, kind, ways, tls=False):
        self.options = copy.copy(options)
        self.options.tls = tls
        self.kind, self.ways = kind, ways

    def __enter__(self):
        self.place = Place()
        self.setting = Setting(self.place, self.options, self.kind)
        self.contenders = self.setting.make(self.ways)
        self.load = load.Load(self.setting, self.options.streams_client)
        return self

    def __exit__(self, *_):
        self.place.close()


def sound(figures):
    """What is wrong with the figures of a measurement."""
    if figures['errors']:
        return f'{figures["errors"]} errors: {figures}'
    if figures['requests'] < 10 or not 0 < figures['p50_us'] <= figures['p99_us']:
        return f'no sensible figures: {figures}'
    return ''


def plain(options, tap):
    with Bench(options, 'requests', PLAIN) as b:
        runs.start(b.contenders, b.setting)
        tap.line(True, f'{", ".join(PLAIN)} bring the chat to the model')
        by_name, measured = {c.name: c for c in b.contenders}, []
        for name, body in MEASURED.items():
            figures = b.load.wrk(by_name[name], 4, 1, body)
            measured.append({'round': 1, 'cell': {'conns': 4}, 'contender': name, **figures})
            tap.line(not sound(figures), f'{name} answers without error', sound(figures))
        run = {'kind': 'requests', 'tls': False, 'order': PLAIN, 'measurements': measured}
        (_, head, rows), = report.tables(run)
        tap.line([r[0] for r in rows] == list(MEASURED) and all(len(r) == len(head) for r in rows), 'the table has a line for each',
                 rows)
        # A chat that reaches nobody must be seen.
        broken = by_name['gateway']
        broken.path = '/nowhere'
        tap.line(b.load.wrk(broken, 4, 1, 2000)['errors'] > 0, 'errors are counted')


def upstream_tls(options, tap):
    with Bench(options, 'requests', ['proxypass', 'gateway'], tls=True) as b:
        runs.start(b.contenders, b.setting)
        tap.line(True, 'the same to an https upstream that is verified')


def failing(options, tap):
    with Bench(options, 'failing', ['gateway', 'gateway-ejecting']) as b:
        runs.start(b.contenders, b.setting)
        for how in runs.FAILURES:
            b.setting.mock.fail_first(how)
            why = sound(b.load.wrk(b.contenders[0], 4, 1, 2000))
            tap.line(not why, f'gateway, with a first target that fails ({how}), answers without error', why)


def http2(options, tap):
    with Bench(options, 'http2', ['proxypass', 'gateway']) as b:
        runs.start(b.contenders, b.setting)
        why = sound(b.load.h2load(b.contenders[1], 2, 1, 2000))
        tap.line(not why, 'gateway, over HTTP/2, answers without error', why)


def streams(options, tap):
    with Bench(options, 'streams', ['gateway']) as b:
        gateway, = b.contenders
        b.setting.mock.start(0)
        gateway.start()
        gateway.warm()
        b.setting.mock.answer_events(5, 50)
        figures = b.load.streams(gateway, 50, 5, 50)
        tap.line(figures['right'] == 50 and not figures['errors'] and 0 < figures['p50_us'] <= figures['p99_us'],
                 '50 streams through gateway end as they ought to', figures)
        figures = b.load.streams(gateway, 3, 6, 50)
        tap.line(figures['errors'] == 3, 'a stream without all its events is wrong', figures)


def run(options):
    tap = Tap()
    for part in (plain, upstream_tls, failing, http2, streams):
        try:
            part(options, tap)
        except Failure as failure:
            tap.line(False, f'{part.__name__}: the run comes to its end', failure)
    print(f'1..{tap.count}')
    return 1 if tap.failed else 0
