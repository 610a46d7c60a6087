# SPDX-License-Identifier: Apache-2.0
"""The contenders that others made: nginx, Portkey's gateway, LiteLLM's proxy. scripts/lib/contenders.sh fetches them."""
import json
import os
import secrets
import shutil
import subprocess

from . import upstream
from .contender import Contender
from .place import Failure, read

NGINX = '''daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
{user}
events {{ worker_connections 15000; }}
http {{
    log_format plain '$remote_addr [$time_local] "$request" $status $body_bytes_sent $request_time';
    access_log {dir}/access.log plain;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    upstream models {{
{servers}
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port}{tls} backlog=4096;
{certificate}
        location / {{
            proxy_pass {scheme}://models;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
{location}
        }}
    }}
}}
'''
# A server that listens on every address must not do so here.
LOOPBACK = '''const net = require('node:net');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
    const at = typeof first === 'object' && first !== null ? { ...first, host: '127.0.0.1' } : { port: Number(first), host: '127.0.0.1' };
    return listen.call(this, at, ...rest.filter((r) => typeof r === 'function'));
};
'''


class Nginx(Contender):
    way = 'nginx'
    http2 = True

    def __init__(self, setting):
        super().__init__(setting)
        self.dir = self.place.folder('nginx')

    @staticmethod
    def binary():
        return shutil.which('nginx', path=os.environ.get('PATH', '') + ':/usr/sbin')

    def certificate(self):
        if not self.setting.http2:
            return '', ''
        self.plain = self.place.port()
        p = self.place
        return ' ssl http2', (f'        listen 127.0.0.1:{self.plain};\n        ssl_certificate {p.path("server.pem")};\n'
                              f'        ssl_certificate_key {p.path("server.key")};')

    def config(self):
        s = self.setting
        first, second = self.mock.url(s.tls), self.mock.url(s.tls, second=True)
        host = lambda url: '127.0.0.1:' + url.rpartition(':')[2]
        servers, location = f'        server {host(first)};', []
        if s.failing:
            # The first is asked with every request: it is never put aside.
            servers = f'        server {host(first)} max_fails=0;\n        server {host(second)} backup;'
            location += ['proxy_next_upstream error timeout http_503 non_idempotent;']
        if s.streaming:
            location += ['proxy_buffering off;']
        if s.tls:
            location += ['proxy_ssl_verify on;', 'proxy_ssl_name localhost;', 'proxy_ssl_server_name on;',
                         f'proxy_ssl_trusted_certificate {self.place.path("ca.pem")};', 'proxy_ssl_protocols TLSv1.2 TLSv1.3;']
        tls, certificate = self.certificate()
        user = self.place.user
        return NGINX.format(dir=self.dir, port=self.port, servers=servers, location='\n'.join('            ' + x for x in location),
                            scheme='https' if s.tls else 'http', tls=tls, certificate=certificate,
                            user=f'user {user} {user if user == "www-data" else "nogroup"};' if user else '')

    def start(self):
        conf = self.place.write('nginx/nginx.conf', self.config())
        self.process = self.place.start([self.binary(), '-p', self.dir, '-e', f'{self.dir}/error.log', '-c', conf],
                                        'nginx/out.log')

    def ask(self, text):
        port = self.port
        self.port = self.plain if self.setting.http2 else port
        try:
            return super().ask(text)
        finally:
            self.port = port

    def log(self):
        return read(f'{self.dir}/error.log')[-1000:] or super().log()

    def version(self):
        out = subprocess.run([self.binary(), '-v'], capture_output=True, text=True, check=True).stderr
        return out.partition(': ')[2].strip()


class Portkey(Contender):
    way = 'portkey'
    warm_up = 10    # until its code is compiled

    def folder(self):
        return os.path.join(self.setting.contenders, 'portkey', 'node_modules', '@portkey-ai', 'gateway')

    def start(self):
        preload = self.place.write('loopback.cjs', LOOPBACK)
        self.process = self.place.start(
            ['node', '--require', preload, f'{self.folder()}/build/start-server.js', '--headless', f'--port={self.port}'],
            'portkey.log', env={'NODE_ENV': 'production', 'NODE_EXTRA_CA_CERTS': self.place.path('ca.pem')})

    def headers(self):
        s = self.setting
        first = self.mock.url(s.tls) + '/v1'
        if not s.failing:
            return {'Authorization': 'Bearer sk-test', 'x-portkey-provider': 'openai', 'x-portkey-custom-host': first}
        targets = [{'provider': 'openai', 'api_key': 'sk-test', 'custom_host': host}
                   for host in (first, self.mock.url(s.tls, second=True) + '/v1')]
        return {'x-portkey-config': json.dumps({'strategy': {'mode': 'fallback'}, 'targets': targets}, separators=(',', ':'))}

    def version(self):
        package = json.loads(read(f'{self.folder()}/package.json') or '{}')
        node = subprocess.run(['node', '--version'], capture_output=True, text=True, check=True).stdout.strip()
        return f'@portkey-ai/gateway {package.get("version")}, node {node}'


class LiteLLM(Contender):
    way = 'litellm'
    warm_up = 10
    patience = 600    # it imports for half a minute of CPU time

    def __init__(self, setting):
        super().__init__(setting)
        self.key = 'sk-' + secrets.token_hex(16)    # it does not start without one

    def headers(self):
        return {'Authorization': f'Bearer {self.key}'}

    def program(self, name):
        return os.path.join(self.setting.contenders, 'litellm', 'bin', name)

    def config(self):
        s = self.setting

        def model(name, second):
            return {'model_name': name, 'litellm_params': {'model': f'openai/{upstream.MODEL}', 'api_key': 'sk-test',
                                                           'api_base': self.mock.url(s.tls, second) + '/v1'}}
        settings = {'num_retries': 0, 'disable_cooldowns': True}
        models = [model(upstream.MODEL, False)]
        if s.failing:
            models.append(model('second', True))
            settings['fallbacks'] = [{upstream.MODEL: ['second']}]
        return json.dumps({'model_list': models, 'router_settings': settings,
                           'litellm_settings': {'telemetry': False, 'num_retries': 0, 'request_timeout': 60}})

    def start(self):
        # JSON is YAML.
        conf = self.place.write('litellm.yaml', self.config())
        self.process = self.place.start(
            [self.program('litellm'), '--config', conf, '--host', '127.0.0.1', '--port', str(self.port),
             '--num_workers', str(os.cpu_count()), '--telemetry', 'False',
             '--timeout_worker_healthcheck', '600'], 'litellm.log', cwd=self.place.dir,
            env={'LITELLM_MASTER_KEY': self.key, 'LITELLM_LOCAL_MODEL_COST_MAP': 'True', 'LITELLM_LOG': 'ERROR', 'LITELLM_MODE': 'PRODUCTION',
                 'SSL_CERT_FILE': self.place.path('ca.pem'), 'NO_PROXY': '127.0.0.1,localhost'})

    def version(self):
        return 'litellm ' + subprocess.run(
            [self.program('python'), '-c', 'import importlib.metadata as m, platform; '
             'print(m.version("litellm") + ", Python " + platform.python_version())'],
            capture_output=True, text=True, check=True).stdout.strip()

    def warm(self):
        try:
            super().warm()
        except Failure as failure:
            raise Failure(f'{failure}\n{self.process.tail()}') from None
