# SPDX-License-Identifier: Apache-2.0
"""What the figures depend on besides the code."""
import datetime
import os
import platform
import re
import subprocess

from .place import read


def first_line(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return ''
    return (done.stdout or done.stderr).partition('\n')[0].strip()


def facts():
    cpu = re.search(r'^model name\s*: (.*)$', read('/proc/cpuinfo'), re.M)
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', read('/etc/os-release'), re.M)
    memory = re.search(r'^MemTotal:\s+(\d+)', read('/proc/meminfo'), re.M)
    wrk = first_line('wrk', '-v').partition(' [')[0]
    return {
        'cpu': cpu.group(1) if cpu else 'unknown', 'cores': os.cpu_count(),
        'memory_gb': round(int(memory.group(1)) / 1e6) if memory else None,
        'kernel': f'{platform.system()} {platform.release()} {platform.machine()}',
        'system': system.group(1) if system else '', 'openssl': first_line('openssl', 'version').partition(' (')[0],
        'wrk': wrk, 'h2load': first_line('h2load', '--version'),
        'load': ' '.join(read('/proc/loadavg').split()[:3]),
        'date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
    }
