# SPDX-License-Identifier: Apache-2.0
"""The runs whose tables are in docs/performance.md: each is a command of its own."""
import os
import subprocess
import sys
import time

from .place import Failure

OWN = 'nginx,proxypass,gateway,round-robin,semantic-hit,semantic-local,semantic-remote,observed'
SHORT = 'direct,nginx,proxypass,gateway,semantic-hit,observed'
RUNS = {    # name: (rounds, arguments)
    'contenders': (5, '--bodies 2000 --conns 1 16 64'),
    'request': (9, f'--only direct,{OWN} --bodies 310 --conns 1 16 64'),
    'bodies': (7, f'--only {SHORT} --bodies 310 2000 33000 1000000 --conns 16'),
    'tls': (9, '--only direct,nginx,proxypass,gateway,observed --tls --bodies 310 33000 --conns 1 16 64'),
    'http2': (7, '--http2 --bodies 2000 --conns 1 8'),
    'streams': (3, '--streams 100 1000 5000'),
    'failover': (5, '--failing --conns 1 16'),
    'mpm': (9, '--mpm event worker --only proxypass,gateway,observed --bodies 310 --conns 1 16 64'),
    'growth': (1, '--million --only gateway,semantic-hit,semantic-local,observed'),
}


def run(program, options):
    os.makedirs(options.suite, exist_ok=True)
    files = {name: getattr(options, name) for name in ('module', 'mock', 'streams_client', 'embedder', 'contenders')}
    failed = []
    for name in options.suite_only or RUNS:
        if name not in RUNS:
            raise Failure(f'no run {name}; there are {" ".join(RUNS)}')
        rounds, arguments = RUNS[name]
        rounds = options.rounds or rounds
        command = [sys.executable, program, *arguments.split(), '--rounds', str(rounds), '--seconds', str(options.seconds),
                   '--json', os.path.join(options.suite, f'{name}.json')]
        for option, path in files.items():
            command += [f'--{option.replace("_", "-")}', path]
        if options.without:
            command += ['--without', ','.join(options.without)]
        begin = time.monotonic()
        print(f'==== {name}', flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f'==== {name}: {time.monotonic() - begin:.0f} s', flush=True)
    if failed:
        print(f'failed: {" ".join(failed)}')
    return 1 if failed else 0
