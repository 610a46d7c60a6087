# SPDX-License-Identifier: Apache-2.0
"""Which measurements a run makes, in which order. A run has rounds; in each every cell is measured with every contender, one
directly after the other, in an order that changes from round to round."""
import sys
import time

from .place import Failure

FAILURES = ('refuses', '503')


def say(text):
    print(f'compare: {text}', file=sys.stderr, flush=True)


def order(contenders, number):
    """Each begins a round in its turn, and every second round goes the other way round."""
    turn = number // 2 % len(contenders)
    turned = contenders[turn:] + contenders[:turn]
    return turned if number % 2 else turned[::-1]


def start(contenders, setting):
    """Starts the mock and all contenders and makes sure that each brings the chat to the models. Then a mock that keeps
    nothing takes over."""
    setting.mock.start(1000)
    for c in reversed(contenders):    # the slow ones begin first
        c.start()
    if not setting.failing:
        for c in contenders:
            c.verify()
            say(f'{c.name} does what it ought to')
    if setting.failing:
        for how in FAILURES:
            setting.mock.fail_first(how, setting.tls)
            for c in contenders:
                verify_failover(c, how)
    setting.mock.restart(0)
    setting.mock.fail_first(None, setting.tls)
    for c in contenders:
        c.warm()


def verify_failover(contender, how):
    """The second model answers. What ProxyPass makes of a 503 is that it passes it on: that is measured as errors."""
    try:
        contender.warm()
    except Failure:
        if (contender.way, how) != ('proxypass', '503'):
            raise
    say(f'{contender.name} was asked while the first target {how if how == "refuses" else "answers " + how}')


def rounds(setting, contenders, cells, options, measure, prepare=None):
    """measure(contender, cell, seconds) -> figures; prepare(cell) before a cell. Round 0 warms up and is not counted."""
    measured = []
    begin = time.monotonic()
    for number in range(options.rounds + 1):
        for cell in cells if number else cells[-1:]:
            if prepare:
                prepare(cell)
            for c in order(contenders, number):
                figures = measure(c, cell, options.seconds if number else c.warm_up)
                if number:
                    measured.append({'round': number, 'cell': cell, 'contender': c.name, **figures})
        if number:
            say(f'round {number} of {options.rounds} done after {time.monotonic() - begin:.0f} s')
    return measured


def requests(setting, contenders, load, options):
    start(contenders, setting)
    cells = [{'body': b, 'conns': n} for b in options.bodies for n in options.conns]
    return rounds(setting, contenders, cells, options, lambda c, cell, s: load.wrk(c, cell['conns'], s, cell['body']))


def http2(setting, contenders, load, options):
    start(contenders, setting)
    cells = [{'body': b, 'conns': n} for b in options.bodies for n in options.conns]
    return rounds(setting, contenders, cells, options, lambda c, cell, s: load.h2load(c, cell['conns'], s, cell['body']))


def failing(setting, contenders, load, options):
    start(contenders, setting)
    cells = [{'first': how, 'body': b, 'conns': n} for how in FAILURES for b in options.bodies for n in options.conns]
    return rounds(setting, contenders, cells, options, lambda c, cell, s: load.wrk(c, cell['conns'], s, cell['body']),
                  lambda cell: setting.mock.fail_first(cell['first'], setting.tls))


def streams(setting, contenders, load, options):
    """Every measurement has a server that was just started: memory that it took once it keeps."""
    setting.mock.start(1000)
    for c in contenders:
        c.start()
        c.verify()
        c.stop()
        say(f'{c.name} does what it ought to')
    setting.mock.restart(0)
    measured = []
    for number in range(1, options.rounds + 1):
        for count in options.streams:
            setting.room_for(count)
            for c in order(contenders, number):
                setting.mock.answer_plainly()
                c.start()
                c.warm()
                # More events than these a second would measure the client and the mock.
                interval = options.interval or max(200, count // 10)
                setting.mock.answer_events(options.events, interval)
                figures = load.streams(c, count, options.events, interval)
                c.stop()
                measured.append({'round': number, 'cell': {'streams': count, 'events': options.events, 'interval_ms': interval},
                                 'contender': c.name, **figures})
                say(f'{count} streams through {c.name}: {figures["right"]} right {" ".join(figures["wrong"])}')
        say(f'round {number} of {options.rounds} done')
    return measured


def growth(setting, contenders, load, options):
    """So many requests through each, with its memory all the way: a warm-up, and then slices."""
    start(contenders, setting)
    body, conns = options.bodies[0], options.conns[-1]
    measured = []
    for c in contenders:
        load.wrk(c, conns, max(options.seconds, 3), body)
        samples = [(0, *c.process.memory())]
        total = errors = 0
        while total < options.requests:
            figures = load.wrk(c, conns, max(options.seconds, 2), body)
            if not figures['requests']:
                raise Failure(f'{c.name} answers nothing\n{c.log()}')
            total += figures['requests']
            errors += figures['errors']
            samples.append((total, *c.process.memory()))
        middle = samples[len(samples) // 2]
        measured.append({'round': 1, 'cell': {'body': body, 'conns': conns, 'requests': options.requests}, 'contender': c.name,
                         'requests': total, 'errors': errors, 'before': samples[0][1], 'middle': middle[1],
                         'after': samples[-1][1], 'before_pss': samples[0][2], 'after_pss': samples[-1][2],
                         'late': samples[-1][1] - middle[1], 'samples': samples})
        say(f'{c.name}: {total} requests, {errors} errors, RSS {samples[0][1]} -> {middle[1]} -> {samples[-1][1]}')
    return measured


KINDS = {'requests': requests, 'http2': http2, 'failing': failing, 'streams': streams, 'growth': growth}
