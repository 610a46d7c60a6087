#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# What a target receives, byte for byte: request line, header fields, body; the options of the configuration, the
# providers' ways, and nothing of the client that does not concern the provider.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $head     = "127.0.0.1:" . port('MOCK_1');
my $messages = '"messages":[{"role":"user","content":"x"}]';

# What the target got of one request.
sub sent {
    my ($path, $body, @headers) = @_;
    mock_reset();
    my $r = post("/sent/$path", $body, @headers);
    my @got = mock_requests(port => port('MOCK_1'));
    is($r->{status}, 200, "$path is answered") or diag($r->{body});
    is(scalar @got, 1, "$path: one request is sent");
    my $got = $got[0] // {headers => [], body => '', path => ''};
    utf8::encode($got->{body});
    return $got;
}

sub body_is {
    my ($path, $body, $expected, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sent($path, $body)->{body}, $expected, $what);
    return;
}

sub is_refused {
    my ($path, $body, $code, $message) = @_;
    mock_reset();
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    twice_over($path, $body, sub {
        my ($r, $name) = @_;
        is($r->{status}, 400, "$code, $name");
        is($r->error->{code}, $code, "$code, $name: code");
        is($r->error->{param}, 'model', "$code, $name: param");
        like($r->error->{message}, $message, "$code, $name: message");
    });
    is(scalar(grep { $_->{path} =~ /completions/ } mock_requests()), 1, "$code: nothing but the good request reached a target");
    return;
}

# As the first request of a connection, as the second one, over HTTP/2.
sub twice_over {
    my ($path, $body, $code) = @_;
    $code->(post("/sent/$path", $body), 'first request');
    my $c = client();
    $c->post('/sent/plain', chat('x'));
    $code->($c->post("/sent/$path", $body), 'second request');
    $code->(h2_post("/sent/$path", $body), 'HTTP/2') if have_http2();
    return;
}

# ---- request line and header fields ----
my $text = json(chat('hello'));
my $body = $text =~ s/"any"/"gpt \\"4\\""/r;
my $got = sent('plain/whatever?q=client', $text);
is("$got->{method} $got->{path}", 'POST /v1/chat/completions?a=b&c=%20', 'request line: the target\'s own path and query');
is_deeply(
    $got->{headers},
    [
        ['Host', 'localhost:' . port('MOCK_1')], ['Content-Type', 'application/json'], ['Accept', 'application/json'],
        ['Accept-Encoding', 'identity'], ['User-Agent', 'mod_ai_proxy_adv/' . version()], ['Content-Length', length $body]
    ],
    'header fields, all of them'
);
is($got->{body}, $body, 'body');
is($got->{malformed}, undef, 'nothing is wrong with it');

sub version {
    my ($version) = map { /^mod_ai_proxy_adv\/(\d+\.\d+\.\d+\S*)$/ } map { $_->[1] } grep { $_->[0] eq 'User-Agent' } @{$got->{headers}};
    return $version // '(missing)';
}

my @private = (
    Cookie => 'a=b', Authorization => 'Bearer client', 'Proxy-Authorization' => 'Basic x', 'Api-Key' => 'k1', 'X-Api-Key' => 'k2',
    'X-Goog-Api-Key' => 'k3', 'X-Forwarded-For' => '10.0.0.1', 'X-Forwarded-Host' => 'h', 'X-Forwarded-Proto' => 'https', Forwarded => 'for=1',
    Via => '1.1 x', 'X-Real-IP' => '10.0.0.2', Referer => 'http://x/', Origin => 'http://x', 'User-Agent' => 'client/1', From => 'a@b',
    'Accept-Encoding' => 'gzip', Accept => 'text/html', 'Accept-Language' => 'de', 'OpenAI-Organization' => 'org', TE => 'trailers',
    'X-Stainless-Lang' => 'perl', 'If-None-Match' => '"x"', Range => 'bytes=0-1', 'Cache-Control' => 'no-cache', Pragma => 'x',
    traceparent => '00-12345678901234567890123456789abc-1234567890abcdef-01', tracestate => 'a=b,c=d', baggage => 'user=jane',
    'Max-Forwards' => 3, 'Content-Language' => 'de', 'Content-MD5' => 'x', Expect => '100-continue',
);
my $plain = json($got->{headers});
$got = sent('plain', $text, @private);
is(json($got->{headers}), $plain, 'nothing of a client\'s header leaves that need not');
my @allowed = (
    'OpenAI-Beta' => 'a=1', 'Idempotency-Key' => 'i', 'X-Client-Request-Id' => 'c', 'X-Request-Id' => 'r',
);
$got = sent('plain', $text, @private, @allowed);
my @rest = splice @{$got->{headers}}, 6;
is(json($got->{headers}), $plain, 'the fixed fields stay');
is_deeply([map {@$_} @rest], \@allowed, 'and four fields of the client follow');
if (have_http2()) {
    mock_reset();
    h2_post('/sent/plain', $text, grep { $_ !~ /^TE$|^trailers$|^Expect$|^100-/ } @private);
    ($got) = mock_requests(port => port('MOCK_1'));
    is(json($got->{headers}), $plain, 'HTTP/2: the same fields');
    is($got->{body}, $body, 'HTTP/2: the same body');
}
mock_reset();
post('/sent/plain', $text, 'X-Request-Id' => "a\x80\xff");
is_deeply((mock_requests(port => port('MOCK_1')))[0]{headers}[6], ['X-Request-Id', "a\x{80}\x{ff}"], 'bytes above 0x7f stay');

# ---- the body ----
my $odd = qq( \n{ "z" :\t1.0e+2,"model"\t: "x" , "n":-0, "b":12345678901234567890.50,"e":1E5,"dup":1,"dup":{"dup":[]},\r\n)
    . qq("esc":"\\u00e9\\/\\ud83d\\ude00 \xc3\xa9","messages":[ {"content":"h\\u0069","role":"user","x":[1,]} ] ,"tail":null } \n);
$odd =~ s/\[1,\]/[1, 2]/;
body_is('plain', $odd, $odd =~ s/"x" ,/"gpt \\"4\\"" ,/r, 'everything but the model stays: order, white space, numbers, escapes, duplicates');
body_is('open', $odd, $odd, 'and the model, too, where none is configured');
body_is('plain', qq({$messages}), qq({$messages,"model":"gpt \\"4\\""}), 'a missing model is added');
body_is('plain', qq({"mod\\u0065l":null,$messages}), qq({"mod\\u0065l":"gpt \\"4\\"",$messages}), 'a model in escapes is replaced');
my $mib = qq({"model":"x",$messages,"p":") . 'y' x (1024 * 1024) . '"}';
$got = sent('open', $mib);
is(length $got->{body}, length $mib, '1 MiB arrives');
ok($got->{body} eq $mib, '1 MiB arrives unchanged');
is_deeply([grep { $_->[0] =~ /^(Content-Length|Expect|Transfer-Encoding)$/ } @{$got->{headers}}], [['Content-Length', length $mib]],
    '1 MiB: its length, no Expect, no chunks');

# ---- options ----
body_is('options', qq({$messages}),
    qq({$messages,"model":"m","max_tokens":100,"temperature":0.70,"top_p":1e-1,"top_k":0}), 'options are added as they are spelled');
body_is('options', qq({"top_k":7,"temperature":1,"max_tokens":5,"model":"x","top_p":null,$messages,"seed":1}),
    qq({"top_k":0,"temperature":0.70,"max_tokens":100,"model":"m","top_p":1e-1,$messages,"seed":1}), 'and win over the client\'s, in place');
body_is('options', qq({"max_completion_tokens":5,"model":"x",$messages,"temperature":1,"top_p":1,"top_k":1}),
    qq({"model":"m",$messages,"temperature":0.70,"top_p":1e-1,"top_k":0,"max_tokens":100}), 'the other spelling goes');
my $client_options = qq({"model":"x","max_tokens":5,"temperature":0.10,"top_p":1.0,"top_k":3,$messages});
body_is('open', $client_options, $client_options, 'what is not configured stays the client\'s');
body_is('zero', qq({"model":"x","temperature":1,$messages,"max_tokens":1}),
    qq({"model":"o3-mini","temperature":0,$messages,"max_completion_tokens":9}), 'temperature 0 is a value; the model wants another spelling');
for my $model (qw(o1 o1-mini o3 o3-mini-2025-01-31 o4-mini gpt-5 gpt-5-nano gpt-5.1 openai/o3 O1-Preview)) {
    body_is('open', qq({"model":"$model","max_tokens":5,$messages}), qq({"model":"$model",$messages,"max_completion_tokens":5}),
        "$model takes max_completion_tokens");
}
for my $model (qw(gpt-4o o10 o1x gpt-50 gpt-4.1 olmo)) {
    my $same = qq({"model":"$model","max_tokens":5,$messages});
    body_is('open', $same, $same, "$model takes max_tokens");
}
body_is('old', qq({"model":"o1","max_tokens":5,$messages}), qq({"model":"o1","max_tokens":5,$messages}), 'forced: max_tokens');
body_is('old', qq({"model":"o1","max_completion_tokens":5,$messages}), qq({"model":"o1",$messages,"max_tokens":5}), 'forced: renamed');
body_is('new', qq({"model":"m","max_tokens":5,$messages}), qq({"model":"m",$messages,"max_completion_tokens":5}), 'forced: max_completion_tokens');
body_is('new', qq({"model":"m",$messages}), qq({"model":"m",$messages}), 'forced: nothing is invented');

# ---- the client's model ----
is_refused('strict', {%{chat('x')}, model => 'another'}, 'wrong_model', qr/^cannot use own model - must be: exactly-this$/);
body_is('strict', qq({"model":"exactly-this",$messages}), qq({"model":"exactly-this",$messages}), 'strict: the right name');
body_is('strict', qq({"model":"ex\\u0061ctly-this",$messages}), qq({"model":"exactly-this",$messages}), 'strict: the right name in escapes');
body_is('strict', qq({"model":null,$messages}), qq({"model":"exactly-this",$messages}), 'strict: no name');
body_is('strict-open', qq({"model":"any",$messages}), qq({"model":"any",$messages}), 'strict: no name configured');
is_refused('open', "{$messages}", 'missing_model', qr/^model parameter not found in request, nor in gateway configuration$/);
is_refused('open', qq({"model":$_,$messages}), 'missing_model', qr/not found/) for 'null', '""';

# ---- providers ----
for my $provider (qw(azure mistral deepseek xai cerebras dashscope vllm)) {
    my %path = (azure => '/openai/deployments/dep/chat/completions?api-version=2023-05-15');
    $got = sent($provider, qq({"model":"x",$messages,"stream":true,"stream_options":{"include_usage":true}}));
    is($got->{path}, $path{$provider} // "/$provider", "$provider: path");
    is($got->{headers}[0][1], $head, "$provider: host");
    is($got->{headers}[2][1], 'text/event-stream, application/json', "$provider: a stream is asked for");
    is($got->{body}, qq({"model":"m",$messages,"stream":true,"stream_options":{"include_usage":true}}), "$provider: body");
}
is(sent('openai', $text)->{path}, '/v9/chat?q=1', 'AIModelOptionsUpstreamPath replaces the path alone');
is(sent('open', $text)->{path}, '/', 'a URL without path');
my $stream = qq({"model":"m",$messages,"stream":true});
body_is('databricks', qq({"model":"x",$messages,"stream":true,"stream_options":{"include_usage":true}}), $stream, 'databricks: no stream_options');
body_is('databricks', $stream, $stream, 'databricks: none for the statistics either');
for (
    ['azure?api-version=2030-01-01', '/openai/deployments/dep/chat/completions?api-version=2030-01-01', 'the client\'s version wins'],
    ['azure?x=y&api-version=a%20b&z', '/openai/deployments/dep/chat/completions?api-version=a%20b', 'among others'],
    ['azure?xapi-version=1', '/openai/deployments/dep/chat/completions?api-version=2023-05-15', 'another parameter'],
    ['azure-version', '/azure?region=eu&api-version=2024-10-21%20preview', 'the configured version'],
    ['azure-url?api-version=1', '/azure?api-version=in-the-url', 'a version in the URL'],
) {
    is(sent($_->[0], $text)->{path}, $_->[1], "azure: $_->[2]");
}
finish();
