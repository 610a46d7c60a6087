# SPDX-License-Identifier: Apache-2.0
"""What every contender is: a name, an address, its processes, and whether it does what it is measured for."""
import json
import time

from . import upstream
from .place import Failure, post


class Contender:
    """One way to the models. `way` says which, `name` adds what else distinguishes it in a run."""
    way = ''
    path = '/v1/chat/completions'
    fresh = False    # every prompt a new one
    embeds = False    # one embeddings call for each request
    streams = True
    patience = 60    # seconds until it listens
    warm_up = 1    # seconds of load before the first round
    http2 = False    # can be measured with HTTP/2

    def __init__(self, setting):
        self.setting = setting
        self.place, self.mock = setting.place, setting.mock
        self.port = setting.place.port()
        self.name = self.way
        self.process = None

    def start(self):
        """Begins to start; ready() waits for the end of that."""
        raise NotImplementedError

    def ready(self):
        if self.process:
            self.process.await_port(self.port, self.patience)

    def stop(self):
        if self.process:
            self.place.stop(self.process)
            self.process = None

    def version(self):
        return ''

    def scheme(self):
        return 'https' if self.setting.http2 else 'http'

    def url(self):
        return f'{self.scheme()}://127.0.0.1:{self.port}{self.path}'

    def headers(self):
        return {}

    def log(self):
        return self.process.tail() if self.process else ''

    # ---- whether it brings the chat to the model

    def ask(self, text):
        return post(f'http://127.0.0.1:{self.port}{self.path}', text, self.headers())

    def warm(self):
        """Until it works: references are embedded in the background, a router may be starting still."""
        self.ready()
        text = upstream.numbered(upstream.chat(310), 0)
        for _ in range(100):
            status, answer = self.ask(text)
            if status == 200:
                return
            time.sleep(0.1)
        raise Failure(f'{self.name} does not answer: {status} {answer.decode(errors="replace")[:300]}\n{self.log()}')

    def verify(self):
        """Whether it does what it is measured for. References are embedded once in each child, in the background, and calls
        for them must not count as calls for a prompt: it may have to be tried again."""
        self.warm()
        for left in reversed(range(6)):
            try:
                return self.verify_once()
            except Failure:
                if not left:
                    raise
                time.sleep(0.5)

    def verify_once(self):
        """Eight chats, all of which must come to the model as they are and bring its answer; else the figures compare
        nothing."""
        text = upstream.chat(310)
        self.mock.ask('reset', {})
        self.mock.ask('behave', [self.mock.plainly()])
        for number in range(1, 9):
            asked = upstream.numbered(text, number if self.fresh else 0)
            status, answer = self.ask(asked)
            if status != 200 or b'I am ' not in answer:
                raise Failure(f'{self.name}: {status} {answer.decode(errors="replace")[:300]}\n{self.log()}')
            records = self.mock.requests()
            if len(records) != number:
                raise Failure(f'{self.name}: after {number} chats the mock has had {len(records)}')
            self.compare(asked, records[-1])
        calls, wanted = self.mock.calls(), 8 if self.embeds else 0
        if calls != wanted:
            raise Failure(f'{self.name}: 8 chats made {calls} embeddings calls, not {wanted}')

    def compare(self, asked, record):
        wanted, got = json.loads(asked), json.loads(record['body'])
        if got.get('messages') != wanted['messages']:
            raise Failure(f'{self.name}: another chat came to the mock: {record["body"][:300]}')
        if not record['path'].endswith('/chat/completions'):
            raise Failure(f'{self.name}: came to {record["path"]}')
        if self.way not in ('direct', 'nginx', 'proxypass') and \
                ['authorization', 'Bearer sk-test'] not in [[n.lower(), v] for n, v in record['headers']]:
            raise Failure(f'{self.name}: sent no credential')


class Direct(Contender):
    """The mock without anything in front of it."""
    way = 'direct'

    def start(self):
        self.process = None
        self.port = self.mock.first

    def stop(self):
        pass

    def url(self):
        return self.mock.url(self.setting.tls) + self.path

    def log(self):
        return ''
