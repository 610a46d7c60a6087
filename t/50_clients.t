#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The official openai client and LangChain's ChatOpenAI against a gateway: plain, streaming, asynchronous, and the classes
# of errors that they raise.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $base = url('HTTPD', '/clients');

# A Python program that prints one JSON value; what stands in PROGRAM sees `base`.
sub client_says {
    my ($program) = @_;
    my ($status, $out, $err) = python("import json, sys\nbase = sys.argv[1]\n$program", $base);
    is($status, 0, 'the client ended well') or diag($err);
    return eval { from_json($out) } // diag("no JSON: $out$err");
}

my $openai = <<'PY';
import openai
client = openai.OpenAI(base_url=base + "/plain", api_key="key-of-client", max_retries=0, timeout=20)
ask = dict(model="what-i-like", messages=[{"role": "user", "content": "hello"}])
PY

mock_reset();
my $said = client_says($openai . <<'PY');
r = client.chat.completions.with_raw_response.create(**ask, temperature=0.25, seed=7)
c = r.parse()
print(json.dumps({"text": c.choices[0].message.content, "model": c.model, "total": c.usage.total_tokens,
                  "header": r.headers.get("x-llm-model"), "finish": c.choices[0].finish_reason}))
PY
is_deeply($said, {text => 'I am gpt-4o-mini, played by m1.', model => 'gpt-4o-mini', total => 18,
        header => 'openai/gpt-4o-mini', finish => 'stop'}, 'openai, plain');
my ($got) = mock_requests(port => port('MOCK_1'));
my $body = from_json($got->{body});
is($body->{model}, 'gpt-4o-mini', 'the target has its own model');
is($body->{seed}, 7, 'and the members that the client set');
my %head = map { lc $_->[0] => $_->[1] } @{$got->{headers}};
is($head{authorization}, 'Bearer key-of-target', 'and its own key');
is_deeply([grep {/^x-stainless/} keys %head], [], 'and nothing of the client');

$said = client_says($openai . <<'PY');
text, last = "", None
for chunk in client.chat.completions.create(**ask, stream=True):
    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    last = chunk
print(json.dumps({"text": text, "usage": last.usage is not None, "choices": len(last.choices)}))
PY
is_deeply($said, {text => 'I am gpt-4o-mini, played by m1. 1 2 3 4', usage => JSON::PP::false, choices => 1},
    'openai, stream: no usage chunk that was not asked for');

$said = client_says($openai . <<'PY');
last = None
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    last = chunk
print(json.dumps({"usage": last.usage.total_tokens, "choices": len(last.choices)}))
PY
is_deeply($said, {usage => 18, choices => 0}, 'openai, stream with usage');

$said = client_says(<<'PY');
import asyncio, openai
client = openai.AsyncOpenAI(base_url=base + "/plain", api_key="k", max_retries=0, timeout=20)
async def one(i):
    r = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"number {i}"}])
    return r.choices[0].message.content
async def streamed():
    text = ""
    async for chunk in await client.chat.completions.create(model="m", stream=True,
                                                            messages=[{"role": "user", "content": "hello"}]):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return text
async def main():
    texts = await asyncio.gather(*(one(i) for i in range(20)), streamed())
    await client.close()
    return texts
texts = asyncio.run(main())
print(json.dumps({"n": len(texts), "same": len(set(texts[:-1])), "stream": texts[-1]}))
PY
is_deeply($said, {n => 21, same => 1, stream => 'I am gpt-4o-mini, played by m1. 1 2 3 4'}, 'openai, asynchronous');

for my $case ([400, 'BadRequestError'], [401, 'AuthenticationError'], [403, 'PermissionDeniedError'], [404, 'NotFoundError'], [422, 'UnprocessableEntityError'],
    [429, 'RateLimitError'], [500, 'InternalServerError'], [502, 'InternalServerError'], [503, 'InternalServerError']) {
    my ($status, $class) = @$case;
    mock_behave({port => port('MOCK_1'), do => {status => $status}});
    $said = client_says($openai . <<'PY');
try:
    client.chat.completions.create(**ask)
    print(json.dumps("no error"))
except openai.APIStatusError as e:
    print(json.dumps({"class": type(e).__name__, "status": e.status_code, "code": e.code}))
PY
    is_deeply($said, {class => $class, status => $status, code => "mock_$status"}, "openai: $status");
}

# With its retries on the client asks again after a 429, and has its answer.
mock_reset();
mock_behave({port => port('MOCK_1'), do => {status => 429, headers => [['Retry-After', '0']]}});
$said = client_says($openai . <<'PY');
r = client.with_options(max_retries=1).chat.completions.create(**ask)
print(json.dumps(r.choices[0].message.content))
PY
is($said, 'I am gpt-4o-mini, played by m1.', 'openai: a retry of its own');
is(scalar(mock_requests(port => port('MOCK_1'))), 2, 'is a request of its own');

$said = client_says($openai . <<'PY');
try:
    client.chat.completions.create(model="m", messages=[])
    print(json.dumps("no error"))
except openai.BadRequestError as e:
    print(json.dumps({"code": e.code, "param": e.param, "type": e.type}))
PY
is_deeply($said, {code => 'empty_array', param => 'messages', type => 'invalid_request_error'}, 'openai: an error of ours');

# What the gateway itself refuses has the class that the client's users expect.
$said = client_says(<<'PY');
import openai
def says(path, **more):
    client = openai.OpenAI(base_url=base + path, api_key="k", max_retries=0, timeout=20)
    try:
        client.chat.completions.create(**{"model": "m", "messages": [{"role": "user", "content": "axis:5 1"}], **more})
        return "no error"
    except openai.APIStatusError as e:
        return [type(e).__name__, e.status_code, e.code, e.type]
print(json.dumps([says("/dead"), says("/routed"), says("/strict"), says("/strict", model="gpt-4o-mini", stream=True),
                  says("/strict", model="gpt-4o-mini")]))
PY
is_deeply($said, [
    ['InternalServerError', 502, 'upstream_unreachable', 'upstream_error'],
    ['InternalServerError', 503, 'no_matching_target', 'gateway_error'],
    ['BadRequestError', 400, 'wrong_model', 'invalid_request_error'],
    ['BadRequestError', 400, 'streaming_denied', 'invalid_request_error'], 'no error',
], 'openai: errors of the gateway');

mock_behave({port => port('MOCK_1'), do => {stream => {auto => 3, sse_end => 'cut'}}});
$said = client_says($openai . <<'PY');
text = ""
try:
    for chunk in client.chat.completions.create(**ask, stream=True):
        text += chunk.choices[0].delta.content or ""
    print(json.dumps("no error"))
except openai.APIError as e:
    print(json.dumps({"class": type(e).__name__, "code": e.code, "some": len(text) > 0}))
PY
is_deeply($said, {class => 'APIError', code => 'body-cut', some => JSON::PP::true}, 'openai: a stream that breaks off');

$said = client_says(<<'PY');
import asyncio, openai
from langchain_openai import ChatOpenAI
def llm(path, **more):
    return ChatOpenAI(model="m", base_url=base + path, api_key="k", max_retries=0, timeout=20, **more)
text = "".join(c.content for c in llm("/routed").stream("axis:1 0.9 and so on"))
r = llm("/routed").invoke("axis:0 0.9 and so on")
usage = [c.usage_metadata for c in llm("/routed", stream_usage=True).stream("axis:1 0.9") if c.usage_metadata]
later = asyncio.run(llm("/routed").ainvoke("axis:1 0.9"))
try:
    llm("/routed").invoke("axis:5 1")
    error = None
except openai.InternalServerError as e:
    error = e.code
print(json.dumps({"plain": r.content, "model": r.response_metadata["model_name"], "total": r.usage_metadata["total_tokens"],
                  "stream": text, "stream_total": [u["total_tokens"] for u in usage], "later": later.content, "error": error}))
PY
is_deeply($said, {plain => 'I am zero, played by m2.', model => 'zero', total => 18, stream => 'I am one, played by m3. 1 2 3 4',
    stream_total => [18], later => 'I am one, played by m3.', error => 'no_matching_target'}, 'LangChain, routed by meaning');
finish('AIP0021', 'AIP0022', qr/AH00957|AH01114/);
