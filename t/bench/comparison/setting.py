# SPDX-License-Identifier: Apache-2.0
"""What all contenders of a run have in common, and which there are."""
import os
import shutil

from . import httpd, others
from .contender import Direct
from .place import Failure
from .upstream import Mock

WAYS = {c.way: c for c in (Direct, others.Nginx, httpd.ProxyPass, httpd.Gateway, httpd.HandedOver, httpd.RoundRobin, httpd.Hit, httpd.Local,
                           httpd.Remote, httpd.Observed, httpd.Sampled, httpd.Ejecting, others.Portkey, others.LiteLLM)}
INSTALLED = ('nginx', 'portkey', 'litellm')
FAILING = ('nginx', 'proxypass', 'gateway', 'gateway-ejecting', 'portkey', 'litellm')
DEFAULTS = {
    'requests': [w for w in WAYS if w != 'gateway-ejecting'],
    'failing': list(FAILING),
    'http2': ['nginx', 'proxypass', 'gateway', 'observed'],
    'streams': ['direct', 'nginx', 'proxypass', 'gateway', 'observed'],
    'growth': ['proxypass', 'gateway', 'semantic-hit', 'semantic-local', 'observed'],
}


class Setting:
    def __init__(self, place, options, kind):
        self.place = place
        self.module = os.path.realpath(options.module)
        self.mock_program = options.mock
        self.contenders = options.contenders
        self.embedder = os.path.realpath(options.embedder)
        self.mpms = options.mpm
        self.kind = kind
        self.tls = options.tls
        self.failing = kind == 'failing'
        self.http2 = kind == 'http2'
        self.streaming = kind == 'streams'
        self.children, self.threads = 2, 64
        self.mock = Mock(place, options.mock)
        self.collector_port = None

    def room_for(self, streams):
        """Event and worker hold a thread for each stream; a quarter more, because children do not share evenly."""
        if streams <= 100:
            self.children, self.threads = 2, 64
        else:
            self.threads = 640
            self.children = max(2, -(-streams * 5 // 4 // self.threads))

    def collector(self):
        """A process of its own takes the spans: what it does must not delay the models."""
        if not self.collector_port:
            self.collector_port = self.place.port()
            process = self.place.start([self.mock_program, '--record', '0', '--port', str(self.collector_port)],
                                       'collector.log')
            process.await_port(self.collector_port)
        return self.collector_port

    def make(self, ways):
        """One contender for each way, an httpd once for each MPM."""
        made = []
        for way in ways:
            kind = WAYS[way]
            if self.failing and way not in FAILING:
                raise Failure(f'{way} cannot be measured with a failing target; these can: {" ".join(FAILING)}')
            if self.http2 and (not kind.http2 or kind.fresh):
                raise Failure(f'{way} cannot be measured with HTTP/2')
            if issubclass(kind, httpd.Httpd):
                made += [kind(self, mpm) for mpm in self.mpms]
            else:
                made.append(kind(self))
        return made

    def missing(self, ways):
        """What has to be installed first."""
        there = {'nginx': others.Nginx.binary(), 'portkey': os.path.exists(f'{self.contenders}/portkey/complete') and
                 shutil.which('node'), 'litellm': os.path.exists(f'{self.contenders}/litellm/bin/litellm')}
        return [way for way in INSTALLED if way in ways and not there[way]]
