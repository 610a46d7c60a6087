#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# What routes and targets can say about requests: examples and how they count, thresholds of their own, margins, what a model
# accepts, who is forced and who is forbidden.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $t = $AIPTest::Setup::t;
my $embed = port('MOCK_EMBED');
my %mock = (zero => 'MOCK_1', one => 'MOCK_2', rest => 'MOCK_3');

sub target {
    my ($name, $description, @more) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl ${\url($mock{$name} // 'MOCK_1', '/v1/chat/completions')}",
        (defined $description ? "AIDescription \"$description\"" : ()), @more, "</AITarget>\n";
}

my $conf = <<"CONF";
Listen 127.0.0.1:\${SPARE_1_PORT}
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIRouteCache none
AIRouteHeaders On
AIExplain headers
AIStateDir state
CONF
my $sections = 0;

# A gateway; returns its path.
sub gateway {
    my ($lines, @targets) = @_;
    my $path = '/s' . $sections++;
    $conf .= "<Location $path>\nAIProxy On\nAIBalancerAlgorithm semantic\n$lines\n@targets</Location>\n";
    return $path;
}

sub ask { my ($path, $body, @headers) = @_; return client(port => port('SPARE_1'))->post($path, ref $body ? $body : chat($body), @headers) }

# The target of a prompt, its reason and the distances that the header names.
sub goes {
    my ($path, $body, $model, $reason, $what, @headers) = @_;
    my $r = ask($path, $body, @headers);
    my ($got) = ($r->header('X-LLM-Route-Scores') // '') =~ /reason=(\S+)/;
    is(($r->{status} == 200 ? $r->json->{model} : $r->{status} . ' ' . ($r->json->{error}{code} // '')), $model, $what);
    is($got // '', $reason, "$what: reason") if defined $reason;
    return $r;
}

# ---- examples ----
AIPTest::Setup::write_file("$t/state/examples.txt", "# a comment\r\n\n  axis:5 1  \r\naxis:6 1\n   \n#axis:7 1\naxis:8 1");
my $two = sub { return (target('zero', 'axis:0 1', @_), target('one', 'axis:1 1')) };
my $file = gateway('', $two->("AIRouteExamplesFile \"$t/state/examples.txt\""), target('rest', 'CATCHALL'));
my $both = gateway('', $two->('AIRouteExample "axis:5 1"', 'AIRouteExample "axis:6 1"'), target('rest', 'CATCHALL'));
my $mean = gateway('AIRouteAggregate mean', $two->('AIRouteExample "axis:5 1"', 'AIRouteExample "axis:6 1"'), target('rest', 'CATCHALL'));
my $top = gateway("AIRouteAggregate topk-mean\nAIRouteAggregateTopK 2", $two->('AIRouteExample "axis:5 1"', 'AIRouteExample "axis:6 1"'),
    target('rest', 'CATCHALL'));

# ---- thresholds ----
my $own = gateway('', target('zero', 'axis:0 1', 'AIRouteThreshold 0.2'), target('one', 'axis:1 1', 'AIRouteThreshold 0.9'),
    target('two', 'axis:2 1'), target('rest', 'CATCHALL'));
my $only = gateway('', target('zero', 'axis:0 1', 'AIRouteThreshold 0.2'), target('one', 'axis:1 1'));

# ---- margins ----
my %margin = map { $_ => gateway("AIVectordbThreshold 0.9\nAIRouteMargin 0.1\nAIRouteOnAmbiguous $_", $two->(), target('rest', 'CATCHALL')) } qw(nearest catchall one);
my $failing = gateway("AIVectordbThreshold 0.9\nAIRouteMargin 0.1\nAIRouteOnAmbiguous catchall\nAIBalancerFailoverCriteria http_500", $two->(), target('mock-500', 'CATCHALL'));

# ---- guards ----
my $accepts = gateway('', target('zero', 'axis:0 1', 'AITargetAccepts text'), target('one', 'axis:1 1', 'AITargetAccepts tools images'),
    target('two', 'axis:2 1', 'AITargetAccepts audio json_schema tools'), target('rest', 'CATCHALL'));
my $strict = gateway('', target('zero', 'axis:0 1', 'AITargetAccepts text'), target('one', 'axis:1 1', 'AITargetAccepts tools'));
my @forced = (target('zero', 'axis:0 1', 'AIRouteForce "req(\'X-Pin\') == \'zero\'"', 'AIRouteForbid "req(\'X-No\') =~ /zero/"'),
    target('one', 'axis:1 1', 'AIRouteForce "req(\'X-Pin\') == \'one\'"', 'AIRouteForce "%{QUERY_STRING} == \'one\'"', 'AIRouteForbid "req(\'X-No\') =~ /one/"'),
    target('rest', 'CATCHALL', 'AIRouteForbid "req(\'X-No\') =~ /rest/"'));
my $force = gateway('AIBalancerFailoverCriteria http_500', @forced);
my $rival = gateway("AIVectordbThreshold 0.9\nAIRouteMargin 0.1\nAIRouteOnAmbiguous one", @forced);
my $turn = gateway('AIBalancerAlgorithm round-robin', @forced);
my $pair = gateway('', target('zero', 'axis:0 1', 'AIRouteForce "-n req(\'X-Pin\')"'), target('one', 'axis:1 1', 'AIRouteForce "-n req(\'X-Pin\')"'), target('rest', 'CATCHALL'));
my $h = start_httpd($conf);

for ([$file, 'axis:8 0.8', 'zero', 'a text of the file'], [$file, 'axis:7 0.9', 'rest', 'not a comment'], [$file, 'axis:0 0.8', 'zero', 'nor is the description lost']) {
    goes($_->[0], $_->[1], $_->[2], undef, "examples file: $_->[3]");
}
# prompt: distance 0.1 to one text, about 0.564 to a second, 1 to the third
my $prompt = 'axis:0 0.9 axis:5 0.4358';
goes($both, $prompt, 'zero', 'match', 'max: the nearest text counts');
like(ask($both, $prompt)->header('X-LLM-Route-Scores'), qr/^zero=0\.1000, one=1\.0000; /, 'its distance');
like(goes($mean, $prompt, 'rest', 'catchall', 'mean: all count')->header('X-LLM-Route-Scores'), qr/^zero=0\.55\d\d, one=1\.0000; /, 'their average');
like(goes($top, $prompt, 'zero', 'match', 'topk-mean: the two nearest count')->header('X-LLM-Route-Scores'), qr/^zero=0\.33\d\d, one=1\.0000; /, 'their average');

goes($own, 'axis:0 0.81', 'zero', 'match', 'within its own threshold');
goes($own, 'axis:0 0.7', 'rest', 'catchall', 'beyond its own, within the general one');
goes($own, 'axis:1 0.15', 'one', 'match', 'within its own, beyond the general one');
goes($own, 'axis:2 0.6', 'two', 'match', 'the general one for a target without');
goes($own, 'axis:2 0.4', 'rest', 'catchall', 'beyond it');
goes($own, 'axis:0 0.75 axis:1 0.6', 'one', 'match', 'the nearest is barred by its threshold: the next');
my $r = ask($only, 'axis:0 0.7');
is($r->{status}, 503, 'no catch-all: 503');
like($r->json->{error}{message}, qr/'axis:0 1', has distance 0\.3000, the threshold is 0\.2$/, 'which names the threshold that holds');
like($r->header('X-LLM-Route-Scores'), qr/^zero=0\.3000, one=1\.0000; threshold=0\.2; reason=catchall$/, 'and so does the header');

my $near = 'axis:0 0.7 axis:1 0.65';
goes($margin{nearest}, 'axis:0 0.8 axis:1 0.5', 'zero', 'match', 'far enough from the second');
goes($margin{nearest}, $near, 'zero', 'ambiguous', 'ambiguous, nearest');
goes($margin{catchall}, $near, 'rest', 'ambiguous', 'ambiguous, catchall');
goes($margin{one}, $near, 'one', 'ambiguous', 'ambiguous, a target');
goes($margin{catchall}, 'axis:5 1', 'rest', 'catchall', 'both far: no match, and so not ambiguous');
goes($failing, $near, 'zero', 'ambiguous', 'ambiguous, and the catch-all fails: the nearest stands in');

# ---- what models accept ----
my $image = {type => 'image_url', image_url => {url => 'data:image/png;base64,AA=='}};
my %needs = (
    tools => sub { chat($_[0], tools => [{type => 'function', function => {name => 'f'}}]) },
    images => sub { chat([{type => 'text', text => $_[0]}, $image]) },
    audio => sub { chat([{type => 'text', text => $_[0]}, {type => 'input_audio', input_audio => {data => 'AA==', format => 'wav'}}]) },
    json_schema => sub { chat($_[0], response_format => {type => 'json_schema', json_schema => {name => 'n', schema => {}}}) },
    'tools, images' => sub { chat([{type => 'text', text => $_[0]}, $image], tools => [{type => 'function', function => {name => 'f'}}]) },
);
my %can = (zero => {}, one => {map { $_ => 1 } 'tools', 'images', 'tools, images'}, two => {map { $_ => 1 } qw(tools audio json_schema)});
for my $need (sort keys %needs) {
    for ([0, 'zero'], [1, 'one'], [2, 'two']) {
        my ($axis, $name) = @$_;
        my @want = $can{$name}{$need} ? ($name, 'match') : ('rest', 'catchall');
        goes($accepts, $needs{$need}->("axis:$axis 0.9"), @want, "$need for $name");
    }
}
goes($accepts, "axis:$_->[0] 0.9", $_->[1], 'match', "plain text for $_->[1]") for [0, 'zero'], [1, 'one'], [2, 'two'];
$r = goes($strict, $needs{images}->('axis:0 0.9'), '400 no_capable_target', undef, 'nobody can');
is($r->json->{error}{type}, 'invalid_request_error', 'is an error of the request');
like($r->json->{error}{message}, qr/needs: images$/, 'that says what is needed');
goes($strict, $needs{tools}->('axis:0 0.9'), '400 no_capable_target', undef, 'only a target that is not near can');
goes($strict, $needs{tools}->('axis:1 0.9'), 'one', 'match', 'one that is near can');

# ---- force and forbid ----
sub embedded { return scalar grep { @{from_json($_->{body})->{input}} == 1 } mock_requests(port => $embed) }
mock_reset();
goes($force, 'axis:0 0.9', 'one', 'forced', 'a header pins', 'X-Pin', 'one');
goes($force, 'axis:0 0.9', 'zero', 'forced', 'the other', 'X-Pin', 'zero');
goes("$force?one", 'axis:0 0.9', 'one', 'forced', 'a second expression');
is(embedded(), 0, 'nothing was embedded');
goes($force, 'axis:0 0.9', 'zero', 'match', 'without it: by meaning');
is(embedded(), 1, 'which embeds');
goes($force, 'axis:0 0.9', 'rest', 'catchall', 'forbidden: the next candidate', 'X-No', 'zero');
goes($rival, $near, 'one', 'ambiguous', 'a rival') ;
goes($rival, $near, 'zero', 'match', 'a rival that is forbidden is none', 'X-No', 'one');
goes($force, 'axis:0 0.9', '403 no_permitted_target', undef, 'forbidden, and so is the catch-all', 'X-No', 'zero rest');
$r = goes($force, 'axis:0 0.9', '403 no_permitted_target', undef, 'all are forbidden', 'X-No', 'zero one rest');
is($r->json->{error}{type}, 'permission_error', 'is a matter of permission');
goes($force, 'axis:0 0.9', '403 no_permitted_target', undef, 'forced and forbidden', 'X-Pin', 'one', 'X-No', 'one');
mock_behave({port => port('MOCK_2'), times => 1, do => {status => 500}});
is(ask($force, 'axis:0 0.9', 'X-Pin', 'one')->{status}, 500, 'forced: nobody else stands in');
my %seen;
$seen{ask($pair, 'axis:5 1', 'X-Pin', 'x')->json->{model}}++ for 1 .. 10;
is_deeply(\%seen, {zero => 5, one => 5}, 'two are forced: they take turns');
%seen = ();
$seen{ask($turn, 'x', 'X-No', 'zero')->json->{model}}++ for 1 .. 10;
is_deeply(\%seen, {one => 5, rest => 5}, 'round-robin: the forbidden one has no turn');
goes($turn, 'x', 'one', 'forced', 'round-robin: forced', 'X-Pin', 'one') for 1 .. 3;
goes($turn, 'x', '403 no_permitted_target', undef, 'round-robin: all are forbidden', 'X-No', 'zero one rest');
$h->stop;
is_deeply([$h->unexpected], [], 'without a word');
finish();
