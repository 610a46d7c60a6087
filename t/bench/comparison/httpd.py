# SPDX-License-Identifier: Apache-2.0
"""The contenders that are an httpd: ProxyPass and the gateway in its forms, each in an instance of its own, so that CPU time
and memory can be told apart. All have the same server configuration, access log included."""
import collections
import os
import re
import subprocess

from . import upstream
from .contender import Contender
from .place import Failure, read

SERVER = '''ServerRoot {dir}
DefaultRuntimeDir {dir}
PidFile {dir}/httpd.pid
ErrorLog {dir}/error.log
LogLevel warn
Mutex pthread
ServerName localhost
Listen 127.0.0.1:{port}
ListenBacklog 4096
DocumentRoot {dir}
<Directory />
    AllowOverride None
</Directory>
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
StartServers {children}
ServerLimit {children}
ThreadLimit {threads}
ThreadsPerChild {threads}
MaxRequestWorkers {workers}
MinSpareThreads 1
MaxSpareThreads {workers}
LogFormat "%h %t \\"%r\\" %>s %b %D" plain
'''
OBSERVED = '"%h %t \\"%r\\" %>s %b %D %{AI_TARGET}e %{AI_MODEL}e %{AI_TOTAL_TOKENS}e %{AI_COST}e %{overhead_us}^AI"'


def find():
    """(httpd, folder of its modules)"""
    apxs = os.environ.get('APXS', 'apxs')

    def ask(what):
        return subprocess.run([apxs, '-q', what], check=True, capture_output=True, text=True).stdout.strip()
    try:
        return os.environ.get('HTTPD') or f'{ask("sbindir")}/{ask("progname")}', ask('libexecdir')
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get('HTTPD', '/usr/sbin/apache2'), '/usr/lib/apache2/modules'


def block(head, lines):
    """A section, its lines indented."""
    name = head.split()[0]
    return [f'<{head}>', *('    ' + line for line in lines), f'</{name}>']


class Httpd(Contender):
    http2 = True

    def __init__(self, setting, mpm=None):
        super().__init__(setting)
        self.mpm = mpm or setting.mpms[0]
        if len(setting.mpms) > 1:
            self.name = f'{self.way} ({self.mpm})'
        self.binary, self.modules = find()
        self.dir = self.place.folder(re.sub(r'\W+', '-', self.name))

    def load(self, *names):
        return [f'LoadModule {m}_module {self.modules}/mod_{m}.so' for m in names
                if os.path.exists(f'{self.modules}/mod_{m}.so')]

    def server(self):
        s = self.setting
        lines = self.load(f'mpm_{self.mpm}', 'unixd', 'authz_core', 'log_config', 'proxy', 'proxy_http', 'socache_shmcb')
        if s.tls or s.http2:
            lines += self.load('ssl')
        if s.http2:
            lines += self.load('http2') + ['Protocols h2 http/1.1']
        lines += SERVER.format(dir=self.dir, port=self.port, children=s.children, threads=s.threads,
                               workers=s.children * s.threads).splitlines()
        if self.place.user:
            lines += [f'User {self.place.user}', f'Group {self.place.user if self.place.user == "www-data" else "nogroup"}']
        if s.http2:
            self.plain = self.place.port()
            lines += [f'Listen 127.0.0.1:{self.plain}']
        return lines + self.everywhere()

    def everywhere(self):
        return []

    def location(self):
        raise NotImplementedError

    def access_log(self):
        return f'CustomLog {self.dir}/access.log plain'

    def config(self):
        body = [self.access_log(), *self.location()]
        lines = self.server() + body
        if self.setting.http2:
            # The same on both ports; the check comes without TLS.
            lines += block(f'VirtualHost 127.0.0.1:{self.port}', [
                'SSLEngine on', f'SSLCertificateFile {self.place.path("server.pem")}',
                f'SSLCertificateKeyFile {self.place.path("server.key")}'])
        return '\n'.join(lines) + '\n'

    def start(self):
        conf = self.place.write(f'{os.path.basename(self.dir)}/httpd.conf', self.config())
        test = subprocess.run([self.binary, '-f', conf, '-t'], capture_output=True, text=True, check=False)
        if test.returncode:
            raise Failure(f'{self.name}: {test.stderr}')
        self.process = self.place.start([self.binary, '-f', conf, '-DFOREGROUND'], f'{os.path.basename(self.dir)}/out.log')

    def ask(self, text):
        port = self.port
        self.port = self.plain if self.setting.http2 else port
        try:
            return super().ask(text)
        finally:
            self.port = port

    def log(self):
        try:
            with open(f'{self.dir}/error.log', errors='replace') as f:
                return ''.join(f.readlines()[-8:])
        except OSError:
            return super().log()

    def complaints(self):
        found = collections.Counter()
        for line in read(f'{self.dir}/error.log').splitlines():
            if re.search(r'\[\w*:(error|crit|alert|emerg)\]', line):
                found[re.sub(r'^(\[[^]]*\] )*', '', line)] += 1
        return [f'{count} times: {line}' for line, count in found.most_common(3)]

    def version(self):
        out = subprocess.run([self.binary, '-v'], capture_output=True, text=True, check=True).stdout
        return out.splitlines()[0].partition(': ')[2]


class ProxyPass(Httpd):
    way = 'proxypass'

    def location(self):
        s, path = self.setting, self.path
        verified = ['SSLProxyEngine on', 'SSLProxyVerify require', 'SSLProxyCheckPeerName on',
                    'SSLProxyProtocol all -SSLv3 -TLSv1 -TLSv1.1', f'SSLProxyCACertificateFile {self.place.path("ca.pem")}'] if s.tls else []
        first = self.mock.url(s.tls)
        if not s.failing:
            return verified + [f'ProxyPass {path} {first}{path} enablereuse=on']
        lines = self.load('slotmem_shm', 'lbmethod_byrequests', 'proxy_balancer') + verified
        # What failed is put aside for a while. With retry=0 the same one is tried twice and the request fails.
        return lines + block('Proxy balancer://models', [
            f'BalancerMember {first} retry=10 lbset=0 enablereuse=on',
            f'BalancerMember {self.mock.url(s.tls, second=True)} lbset=1 enablereuse=on', 'ProxySet failonstatus=503']) + [
            f'ProxyPass {path} balancer://models{path}']


class Gateway(Httpd):
    """Plain proxying; the others change what is in the location."""
    way = 'gateway'

    def everywhere(self):
        return [f'LoadModule ai_proxy_adv_module {self.setting.module}']

    def target(self, name, second=False, more=()):
        s = self.setting
        lines = ['AIRouteType llm/v1/chat', 'AIModelProvider openai', f'AIModelName {upstream.MODEL}',
                 f'AIModelOptionsUpstreamUrl {self.mock.url(s.tls, second)}/v1/chat/completions',
                 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer sk-test"', *more]
        if s.tls:
            lines.append(f'SSLProxyCACertificateFile {self.place.path("ca.pem")}')
        return block(f'AITarget {name}', lines)

    def directives(self):
        if not self.setting.failing:
            return self.target('first')
        return self.failover() + self.target('first', more=['AIWeight 200']) + self.target('second', True, ['AIWeight 100'])

    def failover(self):
        return ['AIBalancerAlgorithm priority', 'AIBalancerFailoverCriteria error timeout http_503',
                'AIBalancerMaxFails 0']

    def location(self):
        # Bodies of a megabyte and more.
        return block(f'Location {self.path}', ['AIProxy on', 'AIMaxRequestBodySize 67108864', *self.directives()])


class HandedOver(Gateway):
    """Each connection goes back to the listener after each answer, as those of ProxyPass do."""
    way = 'gateway-handover'

    def directives(self):
        return ['AIKeepAliveHold 0', *super().directives()]


class Ejecting(Gateway):
    """A target that keeps failing is put aside, as operators will have it."""
    way = 'gateway-ejecting'

    def failover(self):
        return super().failover()[:2] + ['AIBalancerMaxFails 3', 'AIBalancerFailTimeout 10000']


class RoundRobin(Gateway):
    way = 'round-robin'

    def directives(self):
        return ['AIBalancerAlgorithm round-robin'] + self.target('first') + self.target('second', second=True)


class Semantic(Gateway):
    """Two routes and the catch-all. The descriptions are read by the local embedder as texts, by the mock's as axes."""
    cache = 'none'

    def embedder(self):
        return ['AIEmbeddingsModelProvider openai', 'AIEmbeddingsModelName text-embedding-3-small',
                f'AIEmbeddingsModelOptionsUpstreamUrl http://127.0.0.1:{self.mock.embed}/v1/embeddings',
                'AIEmbeddingsAuthHeaderName Authorization', 'AIEmbeddingsAuthHeaderValue "Bearer sk-test"',
                'AIVectordbDimensions 1536']

    def directives(self):
        return ['AIBalancerAlgorithm semantic', 'AIVectordbDistanceMetric cosine', 'AIVectordbThreshold 0.8',
                'AIRouteOnFailure fail', f'AIRouteCache {self.cache}', *self.embedder(),
                *self.target('kitchen', more=[
                    'AIDescription "axis:0 1 Cooking: recipes, meals, baking, ingredients and the kitchen"']),
                *self.target('travel', True, [
                    'AIDescription "axis:1 1 Travel: flights, trains, hotels, luggage and the border"']),
                *self.target('rest', True, ['AIDescription CATCHALL'])]

    def compare(self, asked, record):
        super().compare(asked, record)
        if record['port'] != (self.mock.tls_first if self.setting.tls else self.mock.first):
            raise Failure(f'{self.name}: a prompt about cooking came to another target')


class Hit(Semantic):
    way = 'semantic-hit'
    cache = 'shmcb'


class Local(Semantic):
    way = 'semantic-local'
    fresh = True

    def embedder(self):
        return ['AIEmbeddingsModelProvider local', f'AIEmbeddingsModelName {self.setting.embedder}']


class Remote(Semantic):
    way = 'semantic-remote'
    fresh = True
    embeds = True


class Observed(Gateway):
    """Statistics log, items in the access log, metrics, and every request's spans exported to a collector."""
    way = 'observed'
    sampling = 1

    def target(self, name, second=False, more=()):
        return super().target(name, second, [*more, 'AILoggingLogStatistics On', 'AIModelOptionsInputCost 0.15',
                                             'AIModelOptionsOutputCost 0.6'])

    def access_log(self):
        return f'LogFormat {OBSERVED} observed\nCustomLog {self.dir}/access.log observed'

    def directives(self):
        return super().directives() + [f'AIStatisticsLog {self.dir}/statistics.log']

    def location(self):
        return ['AITraces export', f'AITracesEndpoint http://127.0.0.1:{self.setting.collector()}/v1/traces',
                f'AITracesSamplingRatio {self.sampling}', *super().location(), *block('Location /metrics', ['SetHandler ai-metrics'])]


class Sampled(Observed):
    """As observed, with a tenth of the traces."""
    way = 'observed-tenth'
    sampling = 0.1
