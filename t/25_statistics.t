#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# The statistics log: one whole line for each request of a target that wants it, with every documented key and its right
# value; payloads only where they are switched on; and not a word of a prompt in the error log, whatever its level.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use Time::HiRes qw(time);

my $mock  = port('MOCK_1');
my $usage = {prompt_tokens => 25, completion_tokens => 12, total_tokens => 37};

my $lines;

# The line of one request, with the answer.
sub line_of {
    my ($path, $body, $do, @headers) = @_;
    my $before = statistics();
    mock_reset();
    mock_behave({port => $mock, times => -1, do => $do}) if $do;
    my $r = post("/stats/$path", $body, @headers);
    return (statistics_wait($before + 1), $r);
}

sub proxy_of { return (line_of(@_))[0]{ai}{proxy} }

# All keys of a structure, as paths; members of arrays under [].
sub keys_of {
    my ($data, $path) = @_;
    return map { keys_of($data->{$_}, defined $path ? "$path.$_" : $_) } sort keys %$data if ref $data eq 'HASH';
    return @$data ? keys_of($data->[0], "$path\[]") : "$path\[]" if ref $data eq 'ARRAY';
    return $path;
}

my @meta  = map {"ai.proxy.meta.$_"} qw(llm_latency plugin_id provider_name request_mode request_model response_model target);
my @tried = map {"ai.proxy.tried_targets[].$_"} qw(host model outcome port provider route_type status target took_ms upstream_scheme upstream_uri);
my @usage = map {"ai.proxy.usage.$_"} qw(completion_tokens cost prompt_tokens time_per_token total_tokens);
my @top   = qw(client_model error_type path pool request_id server started_at status time);
my @latency = map {"ai.proxy.latency.$_"} qw(embedding_ms overhead_ms search_ms time_per_output_token_ms time_to_first_token_ms total_ms upstream_ms);

# ---- one request ----
my $start = time;
my ($line, $r) = line_of('priced', chat('x', model => 'asked-for'), {usage => $usage, model => 'answered'});
delete @$line{qw(trace_id span_id)};
is_deeply([keys_of($line)], [@latency, @meta, @tried, @usage, @top], 'the keys of a plain request');
is($line->{status}, 200, 'status');
is($line->{path}, '/stats/priced', 'path');
cmp_ok(abs($line->{started_at} / 1000 - $start), '<', 5, 'started_at: milliseconds');
like($line->{time}, qr/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/, 'time');
my $proxy = $line->{ai}{proxy};
my $latency = delete $proxy->{meta}{llm_latency};
like($latency, qr/^\d+$/, 'latency: a whole number');
is_deeply(
    $proxy->{meta},
    {plugin_id => 'mod_ai_proxy_adv', target => 'priced', provider_name => 'openai', request_model => 'asked-for', response_model => 'answered', request_mode => 'oneshot'},
    'meta'
);
my $per_token = delete $proxy->{usage}{time_per_token};
cmp_ok(abs($per_token * 12 - $latency), '<=', 1.01, 'time per token: latency by completion tokens');
is_deeply({%{$proxy->{usage}}, cost => sprintf('%.9f', $proxy->{usage}{cost})}, {%$usage, cost => '0.000049000'}, '25 and 12 tokens at 1.0 and 2.0 cost 0.000049');
my $took = delete $proxy->{tried_targets}[0]{took_ms};
cmp_ok($took, '>', 0, 'took_ms');
is_deeply(
    $proxy->{tried_targets},
    [{
        target => 'priced', provider => 'openai', model => undef, route_type => 'llm/v1/chat', host => '127.0.0.1', port => $mock,
        upstream_scheme => 'http', upstream_uri => '/v1/chat/completions', outcome => 'ok', status => 200
    }],
    'tried_targets: where it went, without the query'
);
$proxy = proxy_of('priced', chat('x'), {delay_ms => 120});
cmp_ok($proxy->{meta}{llm_latency}, '>=', 120, 'latency: the time the target took');
cmp_ok($proxy->{tried_targets}[0]{took_ms}, '>=', 120, 'took_ms: too');
$proxy = proxy_of('half-priced', chat('x'), {usage => $usage});
is($proxy->{usage}{cost}, 0, 'no cost without both prices');
is($proxy->{meta}{request_model}, 'm', 'request_model: what was sent');

# ---- usage ----
$proxy = proxy_of('priced', chat('x'), {usage => {%$usage, prompt_tokens_details => {cached_tokens => 20}, completion_tokens_details => {reasoning_tokens => 3}}});
is($proxy->{usage}{prompt_tokens_details}{cached_tokens}, 20, 'cached tokens');
is($proxy->{usage}{completion_tokens_details}{reasoning_tokens}, 3, 'reasoning tokens');
$proxy = proxy_of('priced', chat('12345'), {usage => undef, content => '1234567890'});
is_deeply([@{$proxy->{usage}}{qw(prompt_tokens completion_tokens total_tokens)}], [2, 3, 5], 'no usage: it is estimated');
$proxy = proxy_of('priced', chat('12345'), {body => 'no JSON'});
is_deeply([@{$proxy->{usage}}{qw(prompt_tokens completion_tokens total_tokens)}], [2, 0, 2], 'no JSON: nothing was answered');
is(proxy_of('priced', chat('x'), {body => '[]'})->{meta}{response_model}, 'any', 'no model in the answer: that of the request');
is(proxy_of('priced', chat('x'), {usage => {prompt_tokens => 1, completion_tokens => 2}})->{usage}{total_tokens}, 3, 'a missing total is summed up');
($line, $r) = line_of('priced', chat('x'), {status => 429});
is("$line->{status} $line->{ai}{proxy}{tried_targets}[0]{status} $line->{ai}{proxy}{tried_targets}[0]{outcome}", '429 429 ok', 'an error of the target');

# ---- streams ----
($line) = line_of('priced', chat('x', stream => \1), {usage => $usage, stream => {auto => 4, interval_ms => 40}});
$proxy = $line->{ai}{proxy};
is($proxy->{meta}{request_mode}, 'stream', 'a stream: its mode');
is_deeply([@{$proxy->{usage}}{sort keys %$usage}], [@$usage{sort keys %$usage}], 'a stream: its usage');
cmp_ok($proxy->{usage}{time_to_first_token}, '>', 0, 'a stream: time to first token');
cmp_ok($proxy->{usage}{time_to_first_token}, '<', $proxy->{meta}{llm_latency} - 100, 'which is earlier than its end');
delete @$line{qw(trace_id span_id)};
is_deeply([keys_of($line)], [@latency, @meta, @tried, (sort @usage, 'ai.proxy.usage.time_to_first_token'), @top], 'the keys of a stream');

# ---- payloads ----
my $chat = chat("na\x{ef}ve \"words\"\n");
$proxy = proxy_of('payloads', $chat, {content => "caf\x{e9}"});
is_deeply([sort keys %$proxy], [qw(latency meta payload tried_targets usage)], 'payloads: one more part');
is_deeply(from_json($proxy->{payload}{request}), {%$chat, model => 'm'}, 'the request as sent');
is(from_json($proxy->{payload}{response})->{choices}[0]{message}{content}, "caf\x{e9}", 'the response');
is(proxy_of('payloads', $chat, {body => "\0no JSON", content_type => 'text/plain'})->{payload}{response}, "\0no JSON", 'any text');
$proxy = proxy_of('payloads-only', $chat);
ok($proxy->{payload}{request}, 'payloads without statistics: there');
my @events = map { qq({"id":"1","model":"m-1","choices":[{"index":0,"delta":$_}]}) } '{"role":"assistant","content":""}', '{"content":"caf\\u00e9 "}', '{"content":"\\"au"}',
    '{"content":" lait\\n"}', '{}';
for my $path ('payloads', 'payloads-only') {
    $proxy = proxy_of($path, {%$chat, stream => \1}, {stream => {events => \@events}});
    my $whole = from_json($proxy->{payload}{response});
    is($whole->{choices}[0]{message}{content}, "caf\x{e9} \"au lait\n", "$path, a stream: its text in one piece");
    is_deeply([$whole->{object}, $whole->{model}, $whole->{choices}[0]{message}{role}], ['chat.completion', 'm-1', 'assistant'], "$path, a stream: as a completion");
}
my $proxy_without = proxy_of('statistics', $chat);
is($proxy_without->{payload}, undef, 'no payload without the flag');

# ---- attempts ----
$proxy = proxy_of('two', $chat, {status => 503});
is_deeply(
    [map { [@$_{qw(target provider model port outcome status)}] } @{$proxy->{tried_targets}}],
    [['first', 'openai', 'm', $mock, 'withheld', 503], ['second', 'mistral', 'm2', port('MOCK_2'), 'ok', 200]], 'two attempts, in their order'
);
is_deeply([@{$proxy->{meta}}{qw(target provider_name request_model)}], ['second', 'mistral', 'm2'], 'meta is of the one that answered');
my $before = statistics();
mock_reset();
mock_behave({port => $mock, do => {status => 503}});
mock_behave({port => port('MOCK_2'), do => {stream => {events => [$events[0], 'x'], interval_ms => 5000}}});
$r = post('/stats/two', {%$chat, stream => \1});
$line = statistics_wait($before + 1);
is_deeply([$r->{status}, map { $_->{outcome} } @{$line->{ai}{proxy}{tried_targets}}], [503, 'withheld', 'idle-timeout'], 'an answer that was kept');
is_deeply([@{$line->{ai}{proxy}{meta}}{qw(target provider_name request_model response_model)}], ['first', 'openai', 'm', 'm'], 'of it, and not of the one that broke off');
is_deeply([map { from_json($_)->{model} } $line->{ai}{proxy}{payload}{request}], ['m'], 'its payload: what was sent');
is($line->{ai}{proxy}{payload}{response}, $r->{body}, 'and what came');
($line, $r) = line_of('statistics', $chat, {drop_before_head => \1});
is("$r->{status} $line->{status} $line->{ai}{proxy}{tried_targets}[0]{outcome}", '502 502 drop', 'no answer at all');
is($line->{ai}{proxy}{tried_targets}[0]{status}, 0, 'no answer: status 0');
is($line->{ai}{proxy}{cut}, undef, 'no answer: nothing was cut');
my $half = '{"model":"x","usage":{"prompt_tokens":1';
for (
    ['body', $chat, {body => $half . 'x' x 100, trickle => {bytes => 20, interval_ms => 60}, cut_after_bytes => length $half}, undef],
    ['stream', {%$chat, stream => \1}, {stream => {events => [$events[1], 'x'], interval_ms => 5000}}, 'idle-timeout'],
) {
    my ($what, $body, $do, $cut) = @$_;
    ($line) = line_of('payloads', $body, $do);
    is($line->{ai}{proxy}{cut}, $cut, "a cut $what: whether the client saw it");
    is($line->{ai}{proxy}{tried_targets}[0]{outcome}, $cut // 'body-cut', "a cut $what: its outcome");
    like($line->{ai}{proxy}{payload}{response}, $what eq 'body' ? qr/^\Q$half\E$/ : qr/caf/, "a cut $what: what there was of it");
}

# ---- azure, routing ----
is_deeply([@{proxy_of('azure', $chat)->{meta}}{qw(azure_instance_id azure_deployment_id azure_api_version)}], [qw(inst dep v1)], 'azure: its three names');
my $semantic = proxy_of('semantic', chat('axis:0 0.8'))->{semantic};
is_deeply(
    [sort keys %$semantic],
    [qw(cache cached candidates degraded distance embeddings_latency embeddings_model failure fetch_latency nearest reason route sticky threshold truncated vector_db)], 'semantic: its keys'
);
cmp_ok(abs(delete($semantic->{distance}) - 0.2), '<', 1e-4, 'semantic: distance');
cmp_ok(delete $semantic->{$_}, '>=', 0, "semantic: $_") for qw(embeddings_latency fetch_latency);
is_deeply(
    $semantic,
    {
        route => 'axis:0 1', nearest => 'axis:0 1', threshold => 0.5, reason => 'match', embeddings_model => 'text-embedding-3-small', vector_db => 'memory',
        degraded => JSON::PP::false, truncated => JSON::PP::false, failure => undef, cache => 'miss', cached => JSON::PP::false,
        sticky => JSON::PP::false, candidates => 2
    },
    'semantic: its values'
);
$semantic = proxy_of('semantic', chat('axis:0 0.1'))->{semantic};
is_deeply([@$semantic{qw(route nearest reason)}], ['CATCHALL', 'axis:0 1', 'catchall'], 'semantic: nothing near');
$semantic = proxy_of('semantic', chat(''))->{semantic};
is_deeply([@$semantic{qw(distance nearest reason embeddings_model)}], [undef, undef, 'empty', undef], 'semantic: nothing measured');
is(proxy_of('semantic', chat('axis:0 0.8 ' . 'word ' x 20))->{semantic}{truncated}, JSON::PP::true, 'semantic: a long prompt was cut');
$lines = statistics();
mock_reset();
mock_behave({port => port('MOCK_EMBED'), do => {status => 500}});
is(post('/stats/semantic', $chat)->{status}, 200, 'the embedder fails, the catch-all answers');
$semantic = statistics_wait($lines + 1)->{ai}{proxy}{semantic};
is_deeply([@$semantic{qw(route reason failure)}], ['CATCHALL', 'embed_error', 'embeddings_status'], 'semantic: what failed');

# ---- no line ----
$lines = statistics();
mock_reset();
is(post('/stats/off', $chat)->{status}, 200, 'both flags off');
is(post('/stats/off', '{')->{status}, 400, 'refused, both flags off');
line_of('statistics', $chat);
is(scalar(my @all = statistics()), $lines + 1, 'none of them has a line');

# ---- whole lines, also of many at once ----
my $long = chat('word ' x 2400); # more than a pipe takes at once
sub at_once {
    my ($path, $n, $rounds) = @_;
    my @clients = map { client() } 1 .. $n;
    for my $round (1 .. $rounds) {
        $_->send_request('POST', $path, $long) for @clients;
        $_->answer for @clients;
    }
    return $n * $rounds;
}
my $t = top_dir() . '/t/logs';
for (['file', 'payloads', "$t/statistics_log"], ['pipe', 'pipe', "$t/statistics_pipe"]) {
    my ($what, $path, $file) = @$_;
    my $from = -s $file // 0;
    mock_reset();
    my $sent = at_once("/stats/$path", 12, 10);
    wait_until("$sent lines in the $what", sub { (() = slurp($file, $from) =~ /\n/g) >= $sent });
    my @lines = split /\n/, slurp($file, $from);
    is(scalar @lines, $sent, "$what: one line a request");
    my @bad = grep { (eval { from_json(from_json($_)->{ai}{proxy}{payload}{request})->{messages}[0]{content} } // '') ne 'word ' x 2400 } @lines;
    is(scalar @bad, 0, "$what: each of them whole") or diag(substr $bad[0], 0, 300);
}

# ---- the schema ----
for (['file', "$t/statistics_log"], ['pipe', "$t/statistics_pipe"]) {
    my ($what, $file) = @$_;
    like(statistics_faults($file), qr/\A[1-9]\d* lines\n\z/, "$what: every line is as the schema says");
}

# ---- no prompt in the error log ----
my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
KeepAlive Off
LogLevel trace8
<IfModule http2_module>
    LogLevel http2:trace2
    Protocols h2c http/1.1
</IfModule>
<Location "/">
    AIProxy On
    AIBalancerReadTimeout 300
    AIBalancerAlgorithm semantic
    AIEmbeddingsModelProvider openai
    AIEmbeddingsModelName text-embedding-3-small
    AIEmbeddingsModelOptionsUpstreamUrl "http://127.0.0.1:\${MOCK_EMBED_PORT}/v1/embeddings"
    AIVectordbDimensions 256
    <AITarget a>
        AIRouteType llm/v1/chat
        AIModelProvider openai
        AIModelName m
        AIModelOptionsUpstreamUrl "http://127.0.0.1:\${MOCK_1_PORT}/v1/chat/completions"
        AIDescription "axis:0 1"
        AILoggingLogStatistics On
        AILoggingLogPayloads On
    </AITarget>
</Location>
CONF
my $secret = 'mellifluous';
my $prompt = chat("axis:0 0.9 $secret");
for my $do ({}, {content => $secret}, {status => 500, body => $secret}, {drop_before_head => \1}, {raw => "$secret\r\n\r\n", close => \1}, {hang => \1}) {
    mock_reset();
    mock_behave({port => $mock, times => -1, do => $do});
    my $c = client(port => port('SPARE_1'));
    $c->post('/', $prompt);
    ok($c->closed, 'asked: ' . json($do));
}
mock_reset();
mock_behave({port => port('MOCK_EMBED'), times => -1, do => {status => 500, body => $secret}});
mock_behave({port => $mock, times => -1, do => {stream => {events => [$secret, 'x'], interval_ms => 2000}}});
for my $body ($prompt, {%$prompt, stream => \1}, qq({"messages":[{"role":"user","content":"$secret), qq({"$secret":1,"messages":[{"content":"$secret","content":""}]})) {
    my $c = client(port => port('SPARE_1'));
    $c->post('/', $body);
    ok($c->closed, 'asked while the embedder fails');
}
h2_client(port => port('SPARE_1'))->post('/', $prompt) if have_http2();
$h->stop;
like($h->log, qr/$_/, "that log tells much: $_") for 'AIP0021', ':trace4\]';
is_deeply([grep {/$secret/} split /\n/, $h->log], [], 'but nothing of prompts and answers');
mock_reset(); # what has been ordered for ever would meet the next test
finish('AIP0021', 'AIP0022', 'AIP0043');
