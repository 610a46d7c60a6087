#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Traces as a collector sees them: whose trace it is, which spans there are, what they say and what they must not say; and
# what a target is told.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Otlp;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my ($here, $there) = map { AIPTest::Otlp->new(port => port($_)) } qw(SPARE_2 SPARE_3);
my %secret = (
    prompt => 'axis:0 0.9 mellifluous', answer => 'an answer about zephyrs', key => 'sk-key-of-the-target', query => 'sk-in-the-query',
    embedder => 'sk-of-the-embedder', client => 'sk-of-the-client', parameter => 'sk-in-the-url-of-the-client', collector => 'sk-of-the-collector'
);
$ENV{AIP_TEST_OTLP_TOKEN} = $secret{collector};

sub target {
    my ($name, $mock, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name-model",
        "AIModelOptionsUpstreamUrl ${\url($mock, '/v1/chat/completions')}?key=$secret{query}", 'AIAuthHeaderName Authorization',
        "AIAuthHeaderValue \"Bearer $secret{key}\"", @lines, "</AITarget>\n";
}

my $gateways = <<"CONF";
<Location /plain>
AIProxy On
${\target('plain', 'MOCK_1', 'AIModelOptionsInputCost 1.0', 'AIModelOptionsOutputCost 2.0', 'AIModelOptionsTopK 7')}
</Location>
<Location /told>
AIProxy On
${\target('told', 'MOCK_1', 'AITracesPropagate On')}
</Location>
<Location /two>
AIProxy On
AIBalancerFailoverCriteria http_503
AIBalancerAlgorithm priority
${\target('one', 'MOCK_1', 'AIWeight 2', 'AITracesPropagate On')}
${\target('other', 'MOCK_2', 'AIWeight 1', 'AITracesPropagate On')}
</Location>
<Location /meaning>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIEmbeddingsAuthHeaderName Authorization
AIEmbeddingsAuthHeaderValue "Bearer $secret{embedder}"
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIStateDir state
${\target('near', 'MOCK_1', 'AIDescription "axis:0 1"')}
${\target('rest', 'MOCK_2', 'AIDescription CATCHALL')}
</Location>
<Location /meaning/redis>
AIVectordbStrategy redis
AIVectordbDistanceMetric cosine
AIVectordbRedisPort ${\port('DEAD')}
</Location>
CONF
my $vhost = sub {
    my ($port, @lines) = @_;
    return join "\n", "<VirtualHost 127.0.0.1:$port>", 'ServerName v', @lines, $gateways, "</VirtualHost>\n";
};
my %at = (export => port('SPARE_1'), never => port('SPARE_4'), correlate => port('SPARE_5'), off => port('SPARE_6'));
my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:$at{export}
Listen 127.0.0.1:$at{never}
Listen 127.0.0.1:$at{correlate}
Listen 127.0.0.1:$at{off}
<IfModule http2_module>
Protocols h2c http/1.1
</IfModule>
AITraces export
AITracesEndpoint ${\$here->url}
AITracesHeaderName Authorization
AITracesHeaderValue "Bearer {vault://env/AIP_TEST_OTLP_TOKEN}"
AITracesServiceName "the gateway"
AITracesFlushInterval 50
$gateways
${\$vhost->($at{never}, "AITracesEndpoint ${\$there->url}", 'AITracesSamplingRatio 0')}
${\$vhost->($at{correlate}, 'AITraces correlate')}
${\$vhost->($at{off}, 'AITraces off')}
CONF

my $n = 0;
sub new_id { return sprintf '%032x', 0xa000 + ++$n }

# One request with a traceparent; returns the id of its trace, and the answer.
sub ask {
    my ($path, $body, %opt) = @_;
    my $id = $opt{id} // new_id();
    mock_reset() unless $opt{keep};
    mock_behave(@{$opt{do}}) if $opt{do};
    my $r = client(port => $at{$opt{at} // 'export'})->post($path, $body, traceparent => "00-$id-00f067aa0ba902b7-" . ($opt{flags} // '01'), @{$opt{headers} // []});
    return ($id, $r);
}

sub told {
    my ($port) = @_;
    my ($got) = mock_requests(port => port($port // 'MOCK_1'));
    return {map { lc $_->[0] => $_->[1] } @{$got->{headers}}};
}

# ---- one request ----
my $before = time;
my ($id, $r) = ask('/plain/x', chat($secret{prompt}, temperature => 0.5, max_tokens => 99, model => 'asked-for'), do => [
    {port => port('MOCK_1'), do => {model => 'answered', content => $secret{answer}, usage => {
        prompt_tokens => 25, completion_tokens => 12, total_tokens => 37, prompt_tokens_details => {cached_tokens => 5},
        completion_tokens_details => {reasoning_tokens => 3}}}}]);
is($r->{status}, 200, 'a request is answered');
my ($server, $attempt, @more) = $here->wait_trace($id, 2);
is(scalar @more, 0, 'it has two spans');
is_deeply([@$server{qw(name kind parent scope)}], ['chat plain-model', 2, '00f067aa0ba902b7', 'mod_ai_proxy_adv'], 'its own: SERVER, below the client\'s');
is_deeply([@$attempt{qw(name kind parent)}], ['chat plain-model', 3, $server->{span}], 'the attempt: CLIENT, below that');
is_deeply([map { $_->{error} } $server, $attempt], [$false, $false], 'no errors');
cmp_ok(abs($server->{start} / 1e9 - $before), '<', 5, 'it begins when the request came');
ok($server->{start} <= $attempt->{start} && $attempt->{end} <= $server->{end} && $attempt->{start} < $attempt->{end}, 'the attempt lies within it');
is_deeply(
    $server->{attributes},
    {
        'http.request.method' => 'POST', 'url.path' => '/plain/x', 'http.response.status_code' => 200, 'gen_ai.operation.name' => 'chat',
        'gen_ai.request.model' => 'asked-for', 'aiproxy.pool' => '/plain', 'aiproxy.target' => 'plain', 'aiproxy.attempts' => 1
    },
    'its attributes, all of them'
);
is_deeply(
    $attempt->{attributes},
    {
        'gen_ai.operation.name' => 'chat', 'gen_ai.provider.name' => 'openai', 'gen_ai.request.model' => 'plain-model', 'server.address' => '127.0.0.1',
        'server.port' => port('MOCK_1'), 'gen_ai.request.max_tokens' => 99, 'gen_ai.request.temperature' => 0.5, 'gen_ai.request.top_k' => 7,
        'http.response.status_code' => 200, 'aiproxy.pool' => '/plain', 'aiproxy.target' => 'plain', 'aiproxy.attempt' => 1, 'aiproxy.cost' => 0.000049,
        'gen_ai.response.id' => $r->json->{id}, 'gen_ai.response.model' => 'answered', 'gen_ai.response.finish_reasons' => ['stop'], 'gen_ai.usage.input_tokens' => 25,
        'gen_ai.usage.output_tokens' => 12, 'gen_ai.usage.cache_read.input_tokens' => 5, 'gen_ai.usage.reasoning.output_tokens' => 3
    },
    'the attempt\'s'
);
like($r->json->{id}, qr/^chatcmpl-/, 'a provider names its answer');

# ---- what a client wishes ----
sub wishes {
    my ($id) = ask('/plain/x', @_ == 1 ? $_[0] : chat('x', @_));
    my (undef, $attempt) = $here->wait_trace($id, 2);
    my $told = $attempt->{attributes};
    return {map { s/^gen_ai\.(request\.)?//r => $told->{$_} } grep {/seed|choice|penalty|output\.type|reasoning\.level|stop/} keys %$told};
}
is_deeply(
    wishes(seed => -7, n => 2, frequency_penalty => 0.25, presence_penalty => -1.5, response_format => {type => 'json_schema'}, reasoning_effort => 'low', stop => ['a stop']),
    {seed => -7, 'choice.count' => 2, frequency_penalty => 0.25, presence_penalty => -1.5, 'output.type' => 'json', 'reasoning.level' => 'low'}, 'wishes'
);
is_deeply(wishes(n => 1, response_format => {type => 'text'}), {'output.type' => 'text'}, 'one choice is what everybody gets');
is_deeply(
    wishes(seed => 'secret', n => 'secret', frequency_penalty => undef, response_format => {type => 'secret'}, reasoning_effort => 'secret'),
    {}, 'no text of the client'
);
is_deeply(wishes('{"messages":[{"role":"user","content":"x"}],"n":3,"seed":1,"seed":2}'), {}, 'one of them twice');
is_deeply(wishes(response_format => 'json', reasoning_effort => ['low']), {}, 'other shapes');

my ($export) = grep { grep { $_->{trace} eq $id } @{$_->{spans}} } $here->seen;
is($export->{path}, '/v1/traces', 'where it was sent');
is($export->{headers}{Authorization}, "Bearer $secret{collector}", 'with the header that the collector wants');
is($export->{resource}{'service.name'}, 'the gateway', 'service.name');
like($export->{resource}{'service.instance.id'}, qr/^[0-9a-f]{32}$/, 'service.instance.id');
is(told()->{traceparent}, undef, 'the target is told nothing');

# ---- ids that begin here, in all children ----
my @clients = map { client(port => $at{export}) } 1 .. 12;
for my $round (1 .. 5) {
    $_->send_request('POST', '/plain/ids', chat('x')) for @clients;
    is(scalar(grep { $_->answer->{status} == 200 } @clients), scalar @clients, "answers, $round");
}
my @begun = @{wait_until('their spans', sub { my @spans = grep { ($_->{attributes}{'url.path'} // '') eq '/plain/ids' } $here->spans; @spans == 60 ? \@spans : undef })};
my %ids = map { $_->{trace} => 1, $_->{span} => 1 } @begun;
is(scalar(keys %ids), 120, 'no two requests have the same ids');

# ---- failover ----
($id, $r) = ask('/two', chat($secret{prompt}), do => [{port => port('MOCK_1'), do => {status => 503}}]);
is($r->{status}, 200, 'failover: answered');
($server, my @attempts) = $here->wait_trace($id, 3);
is_deeply(
    [map { [@{$_->{attributes}}{qw(aiproxy.target aiproxy.attempt http.response.status_code error.type)}, $_->{error}] } @attempts],
    [['one', 1, 503, '503', $true], ['other', 2, 200, undef, $false]], 'failover: two attempts, one with an error'
);
is_deeply([map { $_->{parent} } @attempts], [($server->{span}) x 2], 'failover: side by side');
cmp_ok($attempts[0]{end}, '<=', $attempts[1]{start}, 'failover: one after the other');
is_deeply([@{$server->{attributes}}{qw(aiproxy.target aiproxy.attempts)}], ['other', 2], 'failover: who answered');
is($server->{error}, $false, 'failover: the request went well');
is_deeply([map { told($_)->{traceparent} } qw(MOCK_1 MOCK_2)], [map {"00-$id-$_->{span}-01"} @attempts], 'failover: each target is told of its own span');

# ---- errors ----
($id, $r) = ask('/plain', chat('x'), do => [{port => port('MOCK_1'), do => {drop_before_head => $true}}]);
($server, $attempt) = $here->wait_trace($id, 2);
is_deeply([@$server{qw(error)}, @{$server->{attributes}}{qw(http.response.status_code)}], [$true, 502], 'no answer: the request failed');
is_deeply([@$attempt{qw(error)}, @{$attempt->{attributes}}{qw(error.type http.response.status_code)}], [$true, 'drop', undef], 'no answer: why');
($id, $r) = ask('/plain', '{');
($server, @more) = $here->wait_trace($id, 1);
is_deeply([@{$server->{attributes}}{qw(http.response.status_code error.type)}, $server->{error}, scalar @more], [400, 'invalid_json', $false, 0],
    'a request that is refused: one span, and no error of the server\'s');
is($server->{name}, 'chat', 'named by its operation alone');
($id, $r) = ask('/plain', chat('x'), do => [{port => port('MOCK_1'), do => {status => 429}}]);
($server, $attempt) = $here->wait_trace($id, 2);
is_deeply([map { $_->{error}, $_->{attributes}{'error.type'} } $server, $attempt], [$false, '429', $true, '429'], '429 of the target');

# ---- by meaning ----
my @vector = do {
    my ($got, $answer) = ask('/meaning', chat($secret{prompt}));
    is($answer->{status}, 200, 'by meaning: answered');
    $here->wait_trace($got, 4);
};
my ($whole, $embedding, $search, $call) = @vector;
is(scalar @vector, 4, 'by meaning: four spans');
is_deeply([map { @$_{qw(name kind)} } @vector], ['chat near-model', 2, 'embeddings text-embedding-3-small', 3, 'vector_search', 1, 'chat near-model', 3], 'by meaning: which');
is_deeply([map { $_->{parent} } @vector[1 .. 3]], [($whole->{span}) x 3], 'by meaning: below the request');
my %different = map { $_->{span} => 1 } @vector;
is(scalar keys %different, 4, 'by meaning: four ids');
ok($embedding->{start} <= $embedding->{end} && $embedding->{end} <= $search->{start} && $search->{end} <= $call->{start}, 'by meaning: in turn');
is_deeply(
    $embedding->{attributes},
    {
        'gen_ai.operation.name' => 'embeddings', 'gen_ai.provider.name' => 'openai', 'gen_ai.request.model' => 'text-embedding-3-small',
        'gen_ai.embeddings.dimension.count' => 64
    },
    'by meaning: the embedding'
);
is_deeply($search->{attributes}, {'db.operation.name' => 'vector_search', 'aiproxy.vectordb' => 'memory'}, 'by meaning: the search, in memory');
cmp_ok(abs(delete($call->{attributes}{'aiproxy.distance'}) - 0.1), '<', 1e-3, 'by meaning: distance');
is_deeply([@{$call->{attributes}}{map {"aiproxy.$_"} qw(route threshold reason cache)}], ['axis:0 1', 0.5, 'match', 'miss'], 'by meaning: what was decided');
($id, $r) = ask('/meaning', chat($secret{prompt}));
($whole, @more) = $here->wait_trace($id, 2);
is_deeply([map { $_->{name} } @more], ['chat near-model'], 'out of the cache: nothing is embedded, nothing searched');
is($whole->{attributes}{'aiproxy.cache'}, 'hit', 'out of the cache: it says so');
($id, $r) = ask('/meaning', chat('axis:1 0.9 something else'), do => [{port => port('MOCK_EMBED'), do => {status => 500}}]);
(undef, $embedding, $call, @more) = $here->wait_trace($id, 3);
is_deeply([@$embedding{qw(name error)}, $embedding->{attributes}{'error.type'}], ['embeddings text-embedding-3-small', $true, 'embeddings_status'], 'the embedder fails: its span says so');
is_deeply([$call->{name}, $call->{attributes}{'aiproxy.reason'}, scalar @more], ['chat rest-model', 'embed_error', 0], 'the embedder fails: no search, the catch-all');

($id, $r) = ask('/meaning/redis', chat('axis:0 0.8 another'));
(undef, undef, $search) = $here->wait_trace($id, 4);
is_deeply([@$search{qw(name kind error)}, @{$search->{attributes}}{qw(db.system.name error.type)}], ['vector_search', 3, $true, 'redis', 'store_error'],
    'a database: CLIENT, with its name, and that it is away');

# ---- a stream ----
($id, $r) = ask('/plain', chat($secret{prompt}, stream => $true));
ok($r->{complete}, 'a stream');
(undef, $attempt) = $here->wait_trace($id, 2);
my $of = $attempt->{attributes};
is_deeply(
    [@$of{map {"gen_ai.$_"} qw(request.stream usage.input_tokens usage.output_tokens response.finish_reasons)}], [$true, 11, 7, ['stop']],
    'a stream: usage and its end'
);
is($of->{'gen_ai.response.id'}, from_json((stream_events($r->{body}))[0])->{id}, 'a stream: its id');
cmp_ok($of->{'gen_ai.response.time_to_first_chunk'}, '>', 0, 'a stream: time to its first piece');
is(scalar(grep {/"usage":\{/} stream_events($r->{body})), 0, 'a stream: the client does not get the usage that it has not asked for');
($id, $r) = ask('/plain', chat('x', stream => $true), do => [{port => port('MOCK_1'), do => {stream => {auto => 5, sse_end => 'cut'}, reset => $true}}]);
($server, $attempt) = $here->wait_trace($id, 2);
is_deeply([map { $_->{error}, $_->{attributes}{'error.type'} } $server, $attempt], [$true, 'body-cut', $true, 'body-cut'], 'a stream that is cut');

# ---- whose trace it is ----
sub named { # the trace of a request that is known by its path
    my ($path) = @_;
    return wait_until("the span of $path", sub { (grep { ($_->{attributes}{'url.path'} // '') eq $path } $here->spans)[0] });
}
my $own = client(port => $at{export});
$own->post("/plain/own/$_", chat('x')) for 1, 2;
my @own = map { named("/plain/own/$_") } 1, 2;
like($_->{trace}, qr/^[0-9a-f]{32}$/, 'without a traceparent: an id of our own') for @own;
isnt($own[0]{trace}, $own[1]{trace}, 'another one for each request');
is_deeply([map { $_->{parent} } @own], ['', ''], 'below nobody');
my $given = new_id();
my @bad = (
    upper => ['00-' . uc($given) . '-00f067aa0ba902b7-01'], ff => ["ff-$given-00f067aa0ba902b7-01"], twice => [("00-$given-00f067aa0ba902b7-01") x 2],
    zero => ['00-' . '0' x 32 . '-00f067aa0ba902b7-01'], more => ["00-$given-00f067aa0ba902b7-01-x"], words => ["x\t\"} \x80\xff"],
);
while (my ($what, $headers) = splice @bad, 0, 2) {
    is(client(port => $at{export})->post("/plain/bad/$what", chat('x'), map { (traceparent => $_) } @$headers)->{status}, 200, "a bad traceparent ($what): answered");
    my $span = named("/plain/bad/$what");
    isnt($span->{trace}, $given, "a bad traceparent ($what): a trace of our own");
    is($span->{parent}, '', "a bad traceparent ($what): below nobody");
}
client(port => $at{export})->post('/plain/later', chat('x'), traceparent => "01-$given-00f067aa0ba902b7-01-more");
is(named('/plain/later')->{trace}, $given, 'a later version is taken over');
if (have_http2()) {
    h2_client(port => $at{export})->post('/plain/h2', chat('x'), traceparent => "00-$given-00f067aa0ba902b7-01");
    is_deeply([@{named('/plain/h2')}{qw(trace parent)}], [$given, '00f067aa0ba902b7'], 'HTTP/2: taken over');
}

# ---- sampling, and what is never exported ----
($id, $r) = ask('/plain/unsampled', chat('x'), flags => '00');
is($r->{status}, 200, 'the client does not want it sampled');
is(client(port => $at{never})->post('/plain/never', chat('x'))->{status}, 200, 'a ratio of 0');
my ($wanted) = ask('/plain', chat('x'), at => 'never');
my ($silent) = ask('/told', chat('x'), at => 'correlate', headers => [tracestate => 'v=1']);
my $seen = told();
my ($off) = ask('/told', chat('x'), at => 'off', headers => [tracestate => 'v=1']);
my $seen_off = told();
is(client(port => $at{off})->post('/told', chat('x'))->{status}, 200, 'off, without a traceparent');
my @kept = $there->wait_trace($wanted, 2);
is(scalar @kept, 2, 'a ratio of 0: the client\'s flag wins, and the virtual host has its own collector');
is(scalar $there->spans, 2, 'a ratio of 0: nothing else');
($id) = ask('/plain/last', chat('x'));
$here->wait_trace($id, 2);
is_deeply([grep { ($_->{attributes}{'url.path'} // '') =~ /unsampled|never|told/ || $_->{trace} =~ /$silent|$off/ } $here->spans], [],
    'not sampled, correlate, off: nothing is exported');

# ---- what a target is told ----
like($seen->{traceparent}, qr/^00-$silent-[0-9a-f]{16}-01$/, 'correlate: the trace goes on');
unlike($seen->{traceparent}, qr/00f067aa0ba902b7/, 'correlate: with an id of ours');
is($seen_off->{traceparent}, "00-$off-00f067aa0ba902b7-01", 'off: the client\'s own traceparent');
is_deeply([map { $_->{tracestate} } $seen, $seen_off], ['v=1', 'v=1'], 'with its tracestate');
($id) = ask('/told', chat('x'), headers => [tracestate => 'a=1, b@c=2', baggage => 'user=jane']);
($server, $attempt) = $here->wait_trace($id, 2);
$seen = told();
is($seen->{traceparent}, "00-$id-$attempt->{span}-01", 'On: the span of the attempt');
is_deeply([@$seen{qw(tracestate baggage)}], ['a=1, b@c=2', undef], 'On: the tracestate too, but no baggage');
ask('/told', chat('x'), headers => [tracestate => 'A=1']);
is(told()->{tracestate}, undef, 'On: no tracestate that is not valid');
ask('/told', chat('x'), headers => [tracestate => 'a=1', tracestate => 'b=2']);
is(told()->{tracestate}, 'a=1, b=2', 'On: two headers are one list');
mock_reset();
client(port => $at{export})->post('/told', chat('x'), traceparent => 'bad', tracestate => 'a=1');
$seen = told();
like($seen->{traceparent}, qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, 'On: a trace of our own');
is($seen->{tracestate}, undef, 'On: no tracestate without a traceparent');
ask('/plain', chat('x'), headers => [tracestate => 'a=1', baggage => 'user=jane']);
is_deeply([@{told()}{qw(traceparent tracestate baggage)}], [undef, undef, undef], 'Off: nothing');

# ---- what is in no export ----
mock_reset();
mock_behave({port => port('MOCK_1'), times => -1, do => {status => 401, body => json({error => {message => "Incorrect API key provided: $secret{key}"}})}});
client(port => $at{export})->post("/plain/secret?key=$secret{parameter}", chat($secret{prompt}), Authorization => "Bearer $secret{client}", 'X-Api-Key' => $secret{client},
    Cookie => "session=$secret{client}");
named('/plain/secret');
client(port => $at{export})->post("/plain/hostile", json(chat('x', model => "m\"}],\n\x{1f}" . 'x' x 5000)) =~ s/"any"/"\\ud800"/r);
named('/plain/hostile');
my @all = ($here->seen, $there->seen);
is_deeply([map { $_->{error} } grep { $_->{status} != 200 } @all], [], scalar(@all) . ' exports, all read by OpenTelemetry\'s own messages');
for my $what (sort keys %secret) {
    is_deeply([grep { index($_->{raw}, $secret{$what}) >= 0 } @all], [], "in no export: $what");
}
is_deeply([grep { $h->log =~ /\Q$secret{$_}\E/ } sort keys %secret], [], 'nor in the log');

# ---- mistakes ----
for (
    ['AITraces maybe', qr/AITraces: 'maybe' must be one of off correlate export/],
    ["AITraces export\nAITracesEndpoint 127.0.0.1:4318", qr/AITracesEndpoint '127\.0\.0\.1:4318' /],
    ['AITracesEndpoint grpc://127.0.0.1:4317', qr/AITracesEndpoint 'grpc:/],
    ['AITracesEndpoint http://u:p4ss@127.0.0.1/', qr/AITracesEndpoint 'http:\/\/\*\*\*@/],
    ['AITracesHeaderName X-Key', qr/AITracesHeaderName needs AITracesHeaderValue/],
    ['AITracesHeaderValue v4lue', qr/AITracesHeaderValue needs AITracesHeaderName/],
    ["AITracesHeaderName \"X Key\"\nAITracesHeaderValue v4lue", qr/AITracesHeaderName 'X Key' is no header name/],
    ["AITracesHeaderName Content-Type\nAITracesHeaderValue v4lue", qr/AITracesHeaderName.*Content-Type/],
    ["AITracesHeaderName X-Key\nAITracesHeaderValue \"{vault://env/AIP_NO_SUCH_VARIABLE}\"", qr/AITracesHeaderValue.*AIP_NO_SUCH_VARIABLE/],
    ['AITracesSamplingRatio 1.1', qr/AITracesSamplingRatio: '1.1' must be a number from 0 to 1/],
    ['AITracesQueueSize 0', qr/AITracesQueueSize: '0' must be/],
    ['AITracesFlushInterval 0', qr/AITracesFlushInterval: '0' must be/],
    ['AITracesTimeout -1', qr/AITracesTimeout: '-1' must be/],
    ["AITraces export\nAIEgressAllow https://api.openai.com/*", qr/AITracesEndpoint: no AIEgressAllow lets http:\/\/127\.0\.0\.1:4318\/v1\/traces pass/],
    ["<Location /x>\nAITraces export\n</Location>", qr/AITraces holds for a whole server/],
    ['AITracesPropagate On', qr/AITracesPropagate belongs inside <AITarget name>/],
) {
    my ($text, $message) = @$_;
    my ($status, $said) = config_check("$text\n");
    ok($status, "refused: $text") or next;
    like($said, $message, 'with what is wrong');
    unlike($said, qr/v4lue|p4ss/, 'and without a secret') if $text =~ /v4lue|p4ss/;
}
is((config_check("AITraces correlate\nAITracesServiceName x\nAITracesTimeout 1\nAIEgressAllow https://api.openai.com/*\n"))[0], 0, 'correlate needs no collector');
$h->stop;
is_deeply([$h->unexpected('AIP0021', 'AIP0022', 'AIP0043', 'AIP0105')], [], 'nothing unexpected in the log');
mock_reset(); # what has been ordered for ever would meet the next test
finish();
