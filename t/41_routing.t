#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Routing by meaning with exact distances: thresholds, ties, examples, groups, failover along the ranking, the catch-all,
# the prompt text, and what operators see of a decision.
use strict;
use warnings FATAL => 'all';
use utf8;
use lib 't/lib';
use AIPTest;

mock_reset(); # orders of the file before

sub ask { my ($path, $prompt, @more) = @_; return post("/routing/$path", chat($prompt, @more)) }

sub goes {
    my ($path, $prompt, $model, $distance, $what) = @_;
    my $r = ask($path, $prompt);
    is($r->{status}, 200, $what);
    is($r->json->{model}, $model, "$what: $model");
    is($r->header('X-LLM-Distance'), $distance, "$what: distance") if defined $distance;
    return $r;
}

# ---- thresholds ----
my $r = goes('two', 'axis:0 0.7', 'zero', '0.3000', 'within the threshold');
is($r->header('X-LLM-Route'), 'axis:0 1', 'the route is named');
goes('two', 'axis:0 0.5', 'zero', '0.5000', 'exactly at the threshold');
for my $over ('axis:0 0.4999', 'axis:0 0.499', 'axis:1 0.2') {
    $r = ask('two', $over);
    is($r->{status}, 503, "$over: nothing is near enough");
    is($r->json->{error}{code}, 'no_matching_target', 'its code');
    my ($axis, $cos) = $over =~ /(\d) (\S+)/;
    like($r->json->{error}{message}, qr/'axis:$axis 1', has distance ${\sprintf('%.4f', 1 - $cos)}, the threshold is 0\.5/,
        'route, distance and threshold are named');
}
# httpd closes the connection behind a 503 of its own, so a good request comes first on it.
my $kept = client();
my @refused = (['first request', ask('two', 'axis:0 0.2')]);
is($kept->post('/routing/two', chat('axis:0 0.9'))->{status}, 200, 'a request that matches');
push @refused, ['second request', $kept->post('/routing/two', chat('axis:0 0.2'))];
push @refused, ['HTTP/2', h2_post('/routing/two', chat('axis:0 0.2'))] if have_http2();
for (@refused) {
    my ($name, $answer) = @$_;
    is($answer->{status}, 503, "no match, $name");
    ok($answer->{complete}, "no match, $name: whole");
    like($answer->header('Content-Type'), qr{^application/json}, "no match, $name: JSON");
    is($answer->json->{error}{type}, 'gateway_error', "no match, $name: its type");
    like($answer->json->{error}{message}, qr/'axis:0 1', has distance 0\.8000, the threshold is 0\.5/, "no match, $name: its words");
    is($answer->header('X-LLM-Model'), undef, "no match, $name: no model");
}
goes('two/open', 'axis:1 0.02', 'one', undef, 'a wide threshold: the nearest wins');
for my $case (['axis:1 0.02', 'one', '0.9800'], ['axis:1 -0.5 axis:0 -0.6', 'one', '1.5000'], ['axis:0 -0.7 axis:1 -0.7', 'zero', '1.7000']) {
    my ($prompt, $model, $distance) = @$case;
    my $answer = post('/routing-unset', chat($prompt));
    is($answer->json->{model}, $model, "no threshold, $prompt: the nearest, not the catch-all");
    is($answer->header('X-LLM-Distance'), $distance, "no threshold, $prompt: its distance");
}
$r = ask('two/quiet', 'axis:0 0.9');
is($r->header('X-LLM-Route'), undef, 'no route header unless asked for');
is($r->header('X-LLM-Distance'), undef, 'no distance header either');

# ---- ties and examples ----
goes('two', 'axis:0 0.6 axis:1 0.6', 'zero', '0.4000', 'equal distances: configuration order');
goes('two', 'axis:0 0.6 axis:1 0.61', 'one', '0.3900', 'the nearer one wins');
goes('two', 'axis:6 0.8', 'one', '0.2000', 'an example counts');
goes('two', 'axis:0 0.6 axis:5 0.7', 'one', '0.3000', 'the nearest text of a target counts');
$r = goes('two', 'axis:5 0.8 axis:1 0.1', 'one', '0.2000', 'the description may be far');
is($r->header('X-LLM-Route'), 'axis:1 1', 'the route is named by its description');
goes('word', 'axis:2 0.9', 'word', '0.1000', 'an example of two routes: configuration order');
goes('word', 'axis:2 0.6 axis:3 0.61', 'late', '0.3900', 'unless another text decides');
$r = ask('word', 'axis:0 0.9');
is($r->{status}, 503, "'Catchall' is no catch-all");
like($r->json->{error}{message}, qr/'Catchall', has distance/, 'but a description');
goes('two/euclid', 'axis:0 0.7', 'zero', '0.3000', 'euclidean: half the squared distance');
is(ask('two/euclid', 'axis:0 0.4')->{status}, 503, 'euclidean: beyond the threshold');

# ---- groups, failover along the ranking ----
my %count;
$count{ask('full', 'axis:0 0.9')->json->{model}}++ for 1 .. 40;
is_deeply(\%count, {heavy => 30, light => 10}, 'one description, two targets: by weight');
%count = ();
$count{ask('full', 'axis:8 0.9')->json->{model}}++ for 1 .. 8;
is_deeply(\%count, {heavy => 6, light => 2}, 'an example of one of them counts for both');
is(ask('full', 'axis:8 0.9')->header('X-LLM-Distance'), '0.1000', 'at its distance');
goes('full', 'axis:7 1', 'rest', undef, 'catch-all');
is(ask('full', 'axis:7 1')->header('X-LLM-Route'), 'CATCHALL', 'and its name');

sub chain {
    my ($prompt, @fail) = @_;
    mock_reset();
    mock_behave(map { {port => port($_), times => -1, do => {status => 503}} } @fail);
    my $answer = ask('full', $prompt);
    my @tried = map { my ($port) = $_->{port}; grep { port($_) == $port } map {"MOCK_$_"} 1 .. 4 }
        sort { $a->{seq} <=> $b->{seq} } grep { $_->{port} != port('MOCK_EMBED') } mock_requests();
    mock_reset();
    return ($answer, "@tried");
}
my ($answer, $tried) = chain('axis:0 0.8 axis:1 0.55', 'MOCK_1', 'MOCK_2');
is($answer->json->{model}, 'other', 'both members fail: the next eligible route');
like($tried, qr/^(MOCK_1 MOCK_2|MOCK_2 MOCK_1) MOCK_3$/, 'in that order');
is($answer->header('X-LLM-Route'), 'axis:1 1', 'the route that answered is named');
is($answer->header('X-LLM-Distance'), '0.4500', 'with its own distance');
($answer, $tried) = chain('axis:0 0.8 axis:1 0.55', 'MOCK_1', 'MOCK_2', 'MOCK_3');
is($answer->json->{model}, 'rest', 'then the catch-all');
like($tried, qr/ MOCK_3 MOCK_4$/, 'as the last');
($answer, $tried) = chain('axis:0 0.8 axis:1 0.3', 'MOCK_1', 'MOCK_2');
is($answer->json->{model}, 'rest', 'a route beyond the threshold is no candidate');
($answer, $tried) = chain('axis:0 0.8', map {"MOCK_$_"} 1, 2, 4);
is($answer->{status}, 503, 'all fail: the last answer');
is($answer->json->{error}{code}, 'mock_503', 'is passed on');

# ---- the prompt text: what the embedder received ----
sub embedded {
    my ($path, $messages) = @_;
    mock_reset();
    my $answer = post("/routing/$path", {messages => $messages});
    my @texts = map { from_json($_->{body})->{input} } mock_requests(port => port('MOCK_EMBED'));
    return ($answer, map { ref $_ ? @$_ : $_ } @texts);
}
my @talk = (
    {role => 'system', content => 'be kind'}, {role => 'user', content => 'first'}, {role => 'assistant', content => 'answer'},
    {role => 'user', content => [{type => 'text', text => 'second'}, {type => 'image_url', image_url => {url => 'x:'}},
        {type => 'text', text => 'part'}]},
    {role => 'assistant', content => undef, tool_calls => []},
);
is_deeply([(embedded('full', \@talk))[1]], ["second\npart"], 'last-user: the text parts of the last user message');
is_deeply([(embedded('full/all-user', \@talk))[1]], ["first\nsecond\npart"], 'all-user');
is_deeply([(embedded('full/last-two', \@talk))[1]], ["second\npart"], 'last 2: the message without text adds nothing');
is_deeply([(embedded('full/all', \@talk))[1]], ["be kind\nfirst\nanswer\nsecond\npart"], 'all');
is_deeply([(embedded('full/short', [{role => 'user', content => 'fünfzehn Zeichöäü und mehr'}]))[1]], ['fünfzehn Zeich'],
    'cut at a character boundary');
is_deeply([(embedded('full/short', [{role => 'user', content => 'sechzehn Zeich.ü'}]))[1]], ['sechzehn Zeich.'], 'a half character is left out');
is_deeply([(embedded('full/short', [{role => 'user', content => 'genau sechzehn B'}]))[1]], ['genau sechzehn B'], 'what fits is whole');
my @long = map { {role => $_->[0], content => $_->[1]} } (['user', 'ganz am Anfang'], ['assistant', 'dann'], ['user', 'zuletzt üäö']);
is_deeply([(embedded('full/users-short', \@long))[1]], ["ganz am Anfang\nz"], 'all-user: the beginning is kept');
is_deeply([(embedded('full/all-short', \@long))[1]], ["n\nzuletzt üäö"], 'all: the end is kept');
is_deeply([(embedded('full/last-short', \@long))[1]], ["n\nzuletzt üäö"], 'last 2: the end is kept');
$long[2]{content} = 'ää zuletzt üäö';
is_deeply([(embedded('full/all-short', \@long))[1]], [" zuletzt üäö"], 'and begins with a whole character');
embedded('full/all-short', \@long);
is_deeply(from_json((grep { $_->{port} == port('MOCK_4') } mock_requests())[0]{body}), {model => 'rest', messages => \@long},
    'the target has it all');
for my $empty ([{role => 'user', content => ''}], [{role => 'user', content => []}], [{role => 'system', content => 'x'}],
    [{role => 'user', content => [{type => 'image_url', image_url => {url => 'x:'}}]}]) {
    my ($answer, @texts) = embedded('full', $empty);
    is($answer->json->{model}, 'rest', 'no text: catch-all');
    is_deeply(\@texts, [], 'without an embeddings call');
}
is(post('/routing/two', {messages => [{role => 'user', content => ''}]})->{status}, 503, 'no text and no catch-all');
is(post('/routing/full', '{"messages":[{"role":"user","r\u006fle":"x","content":"y"}]}')->{status}, 400, 'a doubled role');

# ---- what operators see ----
my %told = (embeddings_model => 'text-embedding-3-small', vector_db => 'memory', degraded => JSON::PP::false, failure => undef, threshold => 0.5,
    cache => 'miss', cached => JSON::PP::false, sticky => JSON::PP::false, candidates => 2);
for my $case (
    ['match', 'axis:0 0.7', {route => 'axis:0 1', nearest => 'axis:0 1', distance => 0.3, truncated => JSON::PP::false}],
    ['catchall', 'axis:0 0.2', {route => 'CATCHALL', nearest => 'axis:0 1', distance => 0.8, truncated => JSON::PP::false, candidates => 1}],
    ['match', 'axis:0 0.7 ' . 'x' x 99, {route => 'axis:0 1', nearest => 'axis:0 1', distance => 0.3, truncated => JSON::PP::true}],
    ['empty', '', {route => 'CATCHALL', nearest => undef, distance => undef, truncated => JSON::PP::false, embeddings_model => undef, cache => 'off', candidates => 1}],
    ['match', 'axis:0 0.7', {route => 'axis:0 1', nearest => 'axis:0 1', distance => 0.3, truncated => JSON::PP::false, embeddings_model => undef, cache => 'hit', cached => JSON::PP::true}],
) {
    my ($reason, $text, $want) = @$case;
    my $lines = statistics();
    ask('told', $text);
    my $s = statistics_wait($lines + 1)->{ai}{proxy}{semantic};
    my ($embedding, $search) = delete @$s{qw(embeddings_latency fetch_latency)};
    ok($embedding >= 0 && $search >= 0 && $embedding < 5000, "statistics, $reason: times");
    $s->{distance} = sprintf('%.4f', $s->{distance}) + 0 if defined $s->{distance};
    is_deeply($s, {%told, %$want, reason => $reason}, "statistics, $reason: '$text'");
}
log_mark();
ask('full', 'axis:7 1 and a secret word');
my $line = log_wait('AIP0044');
like($line, qr/catchall: nearest route '[^']+', distance [\d.]+, threshold 0\.5, 1 routes/, 'one DEBUG line');
is_deeply([log_lines('secret word')], [], 'no prompt in the log');
log_mark();
ask('full', '');
like(log_wait('AIP0044'), qr/empty: nearest route '-'.*, threshold 0\.5, 1 routes/, 'of a decision without distances');
post('/routing-unset', chat('axis:0 0.9'));
log_wait('AIP0044: match: .*, threshold none, 3 routes');
finish();
