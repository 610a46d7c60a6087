# SPDX-License-Identifier: Apache-2.0
"""The runs whose tables are in docs/performance.md: each is a command of its own."""
import os
import subprocess
import sys
import time

from .place import Failure

OWN = 'nginx,proxypass,gateway,gateway-handover,round-robin,semantic-hit,semantic-local,semantic-remote,observed,observed-tenth'
SHORT = 'direct,nginx,proxypass,gateway,gateway-handover,semantic-hit,observed'
RUNS = {    # name: (rounds, seconds, arguments)
    'contenders': (3, 2, f'--only {SHORT},semantic-local,semantic-remote,portkey,litellm --bodies 2000 --conns 1 16 64'),
    'request': (7, 1, f'--only direct,{OWN} --bodies 310 --conns 1 16 64'),
    'bodies': (5, 1, f'--only {SHORT} --bodies 310 2000 33000 1000000 --conns 16'),
    'tls': (7, 1, '--only direct,nginx,proxypass,gateway,gateway-handover,observed --tls --bodies 310 33000 --conns 1 16 64'),
    'http2': (5, 1, '--http2 --bodies 2000 --conns 1 8'),
    'streams': (2, 1, '--streams 100 1000 5000'),
    'failover': (3, 1, '--failing --conns 1 16'),
    'mpm': (7, 1, '--mpm event worker --only proxypass,gateway,gateway-handover,observed --bodies 310 --conns 1 16 64'),
    'growth': (1, 1, '--million --only gateway,semantic-hit,semantic-local,observed'),
}


def run(program, options):
    os.makedirs(options.suite, exist_ok=True)
    files = {name: getattr(options, name) for name in ('module', 'mock', 'streams_client', 'embedder', 'contenders')}
    failed = []
    for name in options.suite_only or RUNS:
        if name not in RUNS:
            raise Failure(f'no run {name}; there are {" ".join(RUNS)}')
        rounds, seconds, arguments = RUNS[name]
        command = [sys.executable, program, *arguments.split(), '--rounds', str(options.rounds or rounds),
                   '--seconds', str(options.seconds or seconds),
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
