# SPDX-License-Identifier: Apache-2.0
"""The mock that plays the models and the embeddings service, and the one chat that is sent to it in every way."""
import json

from .place import Failure, get, post

MODEL = 'gpt-4o-mini'
ANSWER = 800    # bytes of an answer
SLOT = '########'    # its digits change with every request, see post_numbered.lua
WORDS = ('soup bread butter onion garlic pepper sugar flour cream cheese honey lemon olive basil thyme ginger carrot potato '
         'tomato pasta noodle stew sauce salad roast grill bake fry boil steam slice chop stir whisk knead melt serve ')


def chat(size, stream=False):
    """A chat of exactly so many bytes. The prompt is about cooking; the axis says the same to the mock's embeddings."""
    head = (f'{{"model":"{MODEL}","user":"{SLOT}",' + ('"stream":true,' if stream else '') +
            '"messages":[{"role":"system","content":"Answer briefly."},'
            f'{{"role":"user","content":"axis:0 0.8 soup {SLOT} ')
    tail = '"}]}'
    fill = size - len(head) - len(tail)
    if fill < 40:
        raise Failure(f'a body must have at least {len(head) + len(tail) + 40} bytes')
    return head + (WORDS * (fill // len(WORDS) + 1))[:fill] + tail


def numbered(text, number):
    return text.replace(SLOT, f'{number:08d}').encode()


class Mock:
    """Two models, the same with TLS, and embeddings: each a port of its own."""

    def __init__(self, place, program):
        self.place, self.program = place, program
        self.first, self.second, self.embed, self.tls_first, self.tls_second, self.control = (place.port() for _ in range(6))
        self.process = None
        place.certificates()

    def start(self, record):
        p = self.place
        self.process = p.start([self.program, '--record', str(record), '--cert', p.path('server.pem'), '--key',
                                p.path('server.key'), '--port', str(self.first), '--port', str(self.second),
                                '--port', str(self.embed), '--tls-port', str(self.tls_first),
                                '--tls-port', str(self.tls_second), '--control-port', str(self.control)], 'mock.log')
        self.process.await_port(self.control)
        self.answer_plainly()

    def restart(self, record):
        self.place.stop(self.process)
        self.start(record)

    def url(self, tls=False, second=False):
        if tls:
            return f'https://localhost:{self.tls_second if second else self.tls_first}'
        return f'http://127.0.0.1:{self.second if second else self.first}'

    def ask(self, what, body=None):
        url = f'http://127.0.0.1:{self.control}/__mock/{what}'
        if body is None:
            return json.loads(get(url))
        status, answer = post(url, json.dumps(body).encode())
        if status != 200:
            raise Failure(f'mock, {what}: {status} {answer.decode(errors="replace")}')
        return json.loads(answer)

    def behave(self, *behaviours):
        self.ask('reset', {})
        self.ask('behave', list(behaviours))

    @staticmethod
    def plainly(**more):
        return {'path': '/v1/chat/', 'times': -1, 'do': {'body_size': ANSWER}, **more}

    def answer_plainly(self):
        self.behave(self.plainly())

    def answer_events(self, events, interval_ms):
        """Streams of numbered pieces, which the client checks."""
        pieces = [json.dumps({'id': 'chatcmpl-bench', 'object': 'chat.completion.chunk', 'created': 1700000000, 'model': MODEL,
                              'choices': [{'index': 0, 'delta': {'role': 'assistant', 'content': f'{i} word'},
                                           'finish_reason': None}]}, separators=(',', ':')) for i in range(events)]
        pieces.append(json.dumps({'id': 'chatcmpl-bench', 'object': 'chat.completion.chunk', 'created': 1700000000,
                                  'model': MODEL, 'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]},
                                 separators=(',', ':')))
        self.behave({'path': '/v1/chat/', 'times': -1,
                     'do': {'stream': {'events': pieces, 'interval_ms': interval_ms, 'sse_end': 'done'}}})

    def fail_first(self, how, tls=False):
        """The first model refuses connections, or answers 503; None: it works."""
        port = self.tls_first if tls else self.first
        if how == 'refuses':
            self.ask('port', {'port': port, 'listen': False})
            self.ask('close', {'port': port, 'all': True})
        else:
            self.ask('port', {'port': port, 'listen': True})
        if how == '503':
            self.behave({'port': port, 'path': '/v1/chat/', 'times': -1, 'do': {'status': 503}}, self.plainly())
        else:
            self.answer_plainly()

    def calls(self):
        """Embeddings calls so far."""
        return self.ask(f'wait?event=request&count=0&port={self.embed}')['count']

    def requests(self):
        """Recorded chats, in the order in which they came."""
        return [r for r in self.ask('requests') if r['port'] != self.embed]
