#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Sessions that stay with their target, over children, servers and failures.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(sleep);
use lib 't/lib';
use AIPTest;

my $redis = port('SPARE_4');
my %mock = (zero => 'MOCK_1', one => 'MOCK_2', rest => 'MOCK_3');
my $children = mpm() eq 'prefork'
    ? "StartServers 3\nMinSpareServers 3\nMaxSpareServers 3\nServerLimit 3\nMaxRequestWorkers 3\n"
    : "StartServers 3\nServerLimit 3\nThreadsPerChild 8\nMaxRequestWorkers 24\nMinSpareThreads 1\nMaxSpareThreads 24\n";

sub target {
    my ($name, $description, @more) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl ${\url($mock{$name}, '/v1/chat/completions')}", 'AILoggingLogStatistics On',
        "AIDescription \"$description\"", @more, "</AITarget>\n";
}

my @targets = (target('zero', 'axis:0 1'), target('one', 'axis:1 1'), target('rest', 'CATCHALL'));

sub talk { return {model => 'any', messages => [map { {role => $_->[0], content => $_->[1]} } @_]} }

sub server {
    my ($slot, $more, $embedder) = @_;
    $embedder //= "AIEmbeddingsModelProvider openai\nAIEmbeddingsModelName text-embedding-3-small\nAIVectordbDimensions 64\n"
        . "AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}\n";
    my $text = <<"CONF";
Listen 127.0.0.1:\${${slot}_PORT}
$children
${embedder}AIVectordbThreshold 0.5
AIExplain headers
AIStateDir state
AIStatisticsLog statistics_log
LogFormat "%P" pid
CustomLog access_log pid
$more
CONF
    my $h = start_httpd($text);
    $h->{port} = port($slot);
    return $h;
}

sub gateway {
    my ($path, $lines, @list) = @_;
    @list = @targets unless @list;
    return "<Location $path>\nAIProxy On\nAIBalancerAlgorithm semantic\n$lines\n@list</Location>\n";
}

my $h = server('SPARE_1', gateway('/h', 'AIRouteSticky header X-Session') . gateway('/c', 'AIRouteSticky cookie sid')
    . gateway('/v', 'AIRouteSticky conversation') . gateway('/margin', "AIRouteSticky header X-Session\nAIRouteStickyMargin 0.4")
    . gateway('/ttl', "AIRouteSticky header X-Session\nAIRouteStickyTTL 1")
    . gateway('/stay', "AIRouteSticky header X-Session\nAIBalancerFailoverCriteria http_500")
    . gateway('/return', "AIRouteSticky header X-Session\nAIRouteStickyReturn On\nAIBalancerFailoverCriteria http_500")
    . gateway('/fail', "AIRouteSticky header X-Session\nAIRouteOnFailure fail\nAIBalancerFailoverCriteria http_500",
        target('zero', 'axis:0 1', 'AIRouteForbid "req(\'X-No\') == \'zero\'"'), @targets[1, 2])
    . gateway('/three', "AIBalancerAlgorithm round-robin\nAIRouteSticky header X-Session\nAIBalancerMaxFails 1\nAIBalancerFailTimeout 60000\n"
        . 'AIBalancerFailoverCriteria http_500')
    . gateway('/turn', "AIBalancerAlgorithm round-robin\nAIRouteSticky header X-Session")
    . gateway('/two', 'AIRouteSticky header X-Session', target('zero', 'axis:0 1'), target('one', 'axis:0 1')));

sub ask { my ($path, $body, @headers) = @_; return client(port => $h->{port})->post($path, ref $body ? $body : chat($body), @headers) }

sub goes {
    my ($path, $body, $model, $reason, $what, @headers) = @_;
    my $r = ask($path, $body, @headers);
    my ($got) = ($r->header('X-LLM-Route-Scores') // '') =~ /reason=([^,\s]+)/;
    is(($r->{status} == 200 ? $r->json->{model} : $r->{status}), $model, $what);
    is($got // '', $reason, "$what: reason") if defined $reason;
    return $r;
}

# ---- a header names the session ----
my @s = ('X-Session', 'a');
goes('/h', 'axis:0 0.9', 'zero', 'match', 'the first turn', @s);
goes('/h', 'axis:5 1', 'zero', 'sticky', 'a turn that matches nothing stays', @s);
goes('/h', 'axis:0 0.9', 'zero', 'sticky', 'a turn that matches it', @s);
goes('/h', 'axis:1 0.52 axis:0 0.46', 'zero', 'sticky', 'another is nearer by less than the margin', @s);
goes('/h', 'axis:5 1', 'rest', 'catchall', 'another session', 'X-Session', 'b');
goes('/h', 'axis:5 1', 'rest', 'catchall', 'no session');
goes('/h', 'axis:5 1', 'rest', 'catchall', 'an empty one', 'X-Session', '');
goes('/h', 'axis:1 0.9', 'one', 'match', 'another is much nearer: it moves', @s);
goes('/h', 'axis:5 1', 'one', 'sticky', 'and stays there', @s);
goes('/h', 'axis:5 1', 'rest', 'sticky', 'a session of the catch-all', 'X-Session', 'b');
goes('/h', 'axis:1 0.55', 'rest', 'sticky', 'stays for what is hardly within the threshold', 'X-Session', 'b');
goes('/h', 'axis:1 0.9', 'one', 'match', 'and moves for what is near', 'X-Session', 'b');

# over children, many times
my @models = map { ask('/h', 'axis:5 1', 'X-Session', $_ % 2 ? 'a' : 'odd' . $_)->json->{model} } 1 .. 40;
is_deeply([@models[grep { $_ % 2 == 0 } 0 .. 39]], [('one') x 20], 'every child knows the session');
cmp_ok(scalar keys %{{map { $_ => 1 } split /\n/, slurp("$h->{dir}/access_log")}}, '>', 1, 'several children served');

my ($line) = reverse map { from_json($_) } grep {/"reason":"sticky"/} split /\n/, slurp("$h->{dir}/statistics_log");
is($line->{ai}{proxy}{semantic}{reason}, 'sticky', 'statistics: sticky');
is($line->{ai}{proxy}{semantic}{without_session}{reason}, 'catchall', 'and what would have been');
is($line->{ai}{proxy}{semantic}{without_session}{route}, 'CATCHALL', 'namely');

# ---- a cookie ----
goes('/c', 'axis:0 0.9', 'zero', 'match', 'cookie: the first turn', 'Cookie', 'x=1; sid=abc; y=2');
goes('/c', 'axis:5 1', 'zero', 'sticky', 'cookie: a later one', 'Cookie', 'sid=abc');
goes('/c', 'axis:5 1', 'rest', 'catchall', 'cookie: another', 'Cookie', 'sid=abd');
goes('/c', 'axis:5 1', 'rest', 'catchall', 'cookie: one whose name ends alike', 'Cookie', 'xsid=abc');

# ---- the conversation itself ----
my @begin = (['system', 'be brief'], ['user', 'axis:0 0.9']);
goes('/v', talk(@begin), 'zero', 'match', 'conversation: the first turn');
goes('/v', talk(@begin, ['assistant', 'done'], ['user', 'axis:5 1']), 'zero', 'sticky', 'conversation: "commit it"');
goes('/v', talk(@begin, ['assistant', 'done'], ['user', 'axis:5 1'], ['assistant', 'ok'], ['user', 'axis:1 0.9']), 'one', 'match', 'conversation: another matter');
goes('/v', talk(@begin, ['assistant', 'done'], ['user', 'axis:5 1'], ['assistant', 'ok'], ['user', 'axis:1 0.9'], ['assistant', 'x'], ['user', 'axis:6 1']),
    'one', 'sticky', 'conversation: goes on there');
goes('/v', talk(['system', 'be long'], ['user', 'axis:0 0.9'], ['assistant', 'done'], ['user', 'axis:5 1']), 'rest', 'catchall', 'conversation: of another system prompt');
goes('/v', talk(['user', 'axis:5 1']), 'rest', 'catchall', 'conversation: another beginning');
# Two who begin with the same words: who begins is not drawn to where another one has gone.
my @hi = (['user', 'axis:7 1']);
goes('/v', talk(@hi), 'rest', 'catchall', 'a first turn');
goes('/v', talk(@hi, ['assistant', 'x'], ['user', 'axis:0 0.9']), 'zero', 'match', 'moves on');
goes('/v', talk(@hi), 'rest', 'catchall', 'somebody else begins with the same words');
# Clients with keys of their own have sessions of their own.
goes('/v', talk(@hi, ['assistant', 'x'], ['user', 'axis:0 0.9']), 'zero', 'match', 'one key', 'Authorization', 'Bearer k1');
goes('/v', talk(@hi, ['assistant', 'x'], ['user', 'axis:6 1']), 'zero', 'sticky', 'the same', 'Authorization', 'Bearer k1');
goes('/v', talk(@hi, ['assistant', 'x'], ['user', 'axis:6 1']), 'rest', undef, 'another key', 'Authorization', 'Bearer k2');

# ---- margin and time to live ----
goes('/margin', 'axis:0 0.9', 'zero', 'match', 'a wide margin', @s);
goes('/margin', 'axis:1 0.7 axis:0 0.4', 'zero', 'sticky', 'keeps longer', @s);
goes('/margin', 'axis:1 0.9 axis:0 0.3', 'one', 'match', 'but not for ever', @s);
goes('/ttl', 'axis:0 0.9', 'zero', 'match', 'AIRouteStickyTTL', @s);
goes('/ttl', 'axis:5 1', 'zero', 'sticky', 'within', @s);
sleep 2.1;
goes('/ttl', 'axis:5 1', 'rest', 'catchall', 'over', @s);

# ---- targets that fail ----
for (['/stay', 'rest', 'stays with the one that stepped in'], ['/return', 'zero', 'returns to it']) {
    my ($path, $later, $what) = @$_;
    goes($path, 'axis:0 0.9', 'zero', 'match', "$path: the first turn", @s);
    mock_behave({port => port('MOCK_1'), times => 1, do => {status => 500}});
    goes($path, 'axis:5 1', 'rest', 'sticky', "$path: its target fails", @s);
    goes($path, 'axis:5 1', $later, 'sticky', "$path: the session $what", @s);
}
mock_reset();
goes('/fail', 'axis:0 0.9', 'zero', 'match', 'the provider of embeddings is there', @s);
mock_behave({port => port('MOCK_EMBED'), times => -1, do => {status => 500}});
goes('/fail', 'axis:0 0.91', 'zero', 'sticky', 'it fails: the session knows where to go', @s);
goes('/fail', 'axis:0 0.92', 503, undef, 'without a session AIRouteOnFailure holds');
goes('/fail', 'axis:0 0.93', 503, undef, 'nor does one whose target may not be used', @s, 'X-No', 'zero');
mock_behave({port => port('MOCK_1'), times => 1, do => {status => 500}});
goes('/fail', 'axis:0 0.94', 500, undef, 'and with one nobody else stands in', @s);
goes('/h', 'axis:0 0.95', 'rest', 'embed_error', 'a session that begins meanwhile', 'X-Session', 'meanwhile');
mock_reset();

goes('/h', 'axis:0 0.55', 'zero', 'match', 'is not bound to the catch-all', 'X-Session', 'meanwhile');

# ---- other algorithms, and several targets of a route ----
for my $path ('/turn', '/two') {
    my %seen;
    for my $session (1 .. 6) {
        my %of = map { ask($path, 'axis:0 0.9', 'X-Session', "s$session")->json->{model} => 1 } 1 .. 6;
        is(scalar keys %of, 1, "$path: session $session has one target: " . join ' ', keys %of);
        $seen{$_}++ for keys %of;
    }
    cmp_ok(scalar keys %seen, '>', 1, "$path: different sessions have different ones");
}
# The sessions of a target that is gone are shared by the others.
my %begun = map { $_ => ask('/three', 'x', 'X-Session', "t$_")->json->{model} } 1 .. 30;
mock_behave({port => port('MOCK_1'), model => 'zero', times => -1, do => {status => 500}});
my %moved;
$moved{ask('/three', 'x', 'X-Session', "t$_")->json->{model}}++ for grep { $begun{$_} eq 'zero' } 1 .. 30;
mock_reset();
cmp_ok(abs(($moved{one} // 0) - ($moved{rest} // 0)), '<=', 2, 'the sessions of a target that fails are shared by the others: ' . json(\%moved));
# A failed answer binds nobody.
mock_behave({port => port('MOCK_1'), times => 1, do => {status => 400}});
is(ask('/h', 'axis:0 0.9', 'X-Session', 'bad')->{status}, 400, 'an answer that is an error');
goes('/h', 'axis:5 1', 'rest', 'catchall', 'binds no session', 'X-Session', 'bad');
# A graceful restart is not felt by sessions.
goes('/h', 'axis:0 0.9', 'zero', 'match', 'before a graceful restart', 'X-Session', 'restart');
kill 'USR1', $h->{pid};
wait_until('the new generation', sub { 2 == (() = $h->log =~ /resuming normal operations/g) });
my %before = map { $_ => 1 } split /\n/, slurp("$h->{dir}/access_log");
wait_until('its children', sub { ask('/h', 'axis:5 1'); my @pids = split /\n/, slurp("$h->{dir}/access_log"); !$before{$pids[-1]} });
my @after = map { ask('/h', 'axis:5 1', 'X-Session', 'restart')->json->{model} } 1 .. 10;
is_deeply(\@after, [('zero') x 10], 'the session is known after it');
# Streams do.
my $r = ask('/h', chat('axis:0 0.9', stream => JSON::PP::true), 'X-Session', 'stream');
is($r->{status}, 200, 'a stream');
wait_until('its session', sub { ask('/h', 'axis:5 1', 'X-Session', 'stream')->json->{model} eq 'zero' });
pass('binds a session');
$h->stop;
is_deeply([$h->unexpected('AIP0043', 'AIP0025')], [], 'nothing else is said');

# ---- with a real model: the second turn says nothing of the matter ----
$h = server('SPARE_1', gateway('/real', "AIVectordbThreshold 0.85\nAIRouteSticky conversation",
        target('zero', 'python programming, functions, code, software development'),
        target('one', 'mathematics, algebra, equations, solving for x'), target('rest', 'CATCHALL')),
    "AIEmbeddingsModelProvider local\nAIEmbeddingsModelName \"${\top_dir()}/share/embedder/aip-static-en-v1\"\n");
my @coding = (['system', 'You help developers.'], ['user', 'Write a Python function that reverses a linked list']);
goes('/real', talk(@coding), 'zero', 'match', 'a coding turn');
goes('/real', talk(@coding, ['assistant', 'def reverse(head): ...'], ['user', 'commit it']), 'zero', 'sticky', '"commit it" stays with the coding model');
goes('/real', talk(['system', 'You help developers.'], ['user', 'commit it']), 'rest', 'catchall', 'alone it goes to the catch-all');
goes('/real', talk(@coding, ['assistant', 'done'], ['user', 'Now solve this algebra equation: x squared plus 3x equals 10']), 'one', 'match',
    'another matter goes to its model');
$h->stop;
is_deeply([$h->unexpected], [], 'without a word');

# ---- two machines ----
start_redis($redis);
my @machines = map { server($_, gateway('/h', "AIRouteSticky header X-Session\nAIRouteCache redis:127.0.0.1:$redis")) } 'SPARE_1', 'SPARE_3';
$h = $machines[0];
goes('/h', 'axis:0 0.9', 'zero', 'match', 'one server', @s);
$h = $machines[1];
goes('/h', 'axis:5 1', 'zero', 'sticky', 'another one knows the session', @s);
unlike(join(' ', map { $_ // '' } map { redis(\$redis, 'GET', $_) } @{redis(\$redis, 'KEYS', '*')}), qr/axis|X-Session/, 'no text is stored');
stop_redis($redis);
goes('/h', 'axis:1 0.9', 'one', 'match', 'without Redis: routed all the same', @s);
goes('/h', 'axis:5 1', 'rest', 'catchall', 'without a session', @s);
$_->stop for @machines;
is_deeply([map { $_->deaths } @machines], [], 'no child died');
finish();
