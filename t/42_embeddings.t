#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The embeddings provider: what it receives, what its answers may look like, what happens when it fails, and how the
# references are made, kept and waited for.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $embed = port('MOCK_EMBED');
my $h;

# A gateway on SPARE_1 with two targets and a catch-all; LINES stand in its location.
sub gateway {
    my ($lines, %opt) = @_;
    my $example = $opt{example} ? "AIRouteExample \"$opt{example}\"" : '';
    my $url = $opt{url} // url('MOCK_EMBED', '/v1/embeddings');
    my $target = sub {
        my ($name, $description, $more) = @_;
        return <<"CONF";
<AITarget $name>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName $name
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
AIDescription "$description"
$more
</AITarget>
CONF
    };
    $h->stop if $h;
    $h = start_httpd(<<"CONF" . $target->('zero', 'axis:0 1', $example) . $target->('one', 'axis:1 1', '')
Listen 127.0.0.1:\${SPARE_1_PORT}
<Location /e>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl $url
AIEmbeddingsTimeout 600
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIRouteHeaders On
AIStateDir "${\($opt{state} // 'state')}"
$lines
CONF
        . $target->('rest', 'CATCHALL', '') . "</Location>\n");
    return $h;
}

sub ask {
    my ($prompt, @headers) = @_;
    return client(port => port('SPARE_1'))->post('/e', chat($prompt), @headers);
}
sub calls { return mock_requests(port => $embed) }
sub header_of { my ($request, $name) = @_; return (map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$request->{headers}})[0] }

# ---- what it receives ----
mock_reset();
gateway("AIEmbeddingsAuthHeaderName Authorization\nAIEmbeddingsAuthHeaderValue \"Bearer key-of-embedder\"", example => 'axis:2 1');
is(ask('axis:0 0.9', Authorization => 'Bearer client', Cookie => 'a=b', 'X-Forwarded-For' => '1.2.3.4', 'User-Agent' => 'me')
        ->json->{model}, 'zero', 'routed');
my ($batch, $prompt) = calls();
is_deeply(from_json($batch->{body}), {model => 'text-embedding-3-small', input => ['axis:0 1', 'axis:2 1', 'axis:1 1'],
        dimensions => 64, encoding_format => 'base64'}, 'one batch for all texts');
is_deeply(from_json($prompt->{body}), {model => 'text-embedding-3-small', input => ['axis:0 0.9'], dimensions => 64,
        encoding_format => 'base64'}, 'then the prompt');
is(header_of($_, 'Authorization'), 'Bearer key-of-embedder', 'with its credential') for $batch, $prompt;
is_deeply([grep { /^(cookie|x-forwarded-.*|x-.*)$/i } map { $_->[0] } @{$prompt->{headers}}], [], 'no header of the client');
unlike(header_of($prompt, 'User-Agent'), qr/me$/, 'nor its name');
my $generation = scalar calls();
ask('axis:0 0.9') for 1 .. 5;
is(scalar(calls()) - $generation, 5, 'a call for each prompt');
is(scalar(grep { @{from_json($_->{body})->{input}} > 1 } calls()), 1, 'all children together embedded the texts once');
is_deeply([$h->unexpected()], [], 'nothing unexpected in the log');

for my $case (['AIEmbeddingsSendDimensions Off', undef, 'text-embedding-3-small'], ['', undef, 'some-model'],
    ['AIEmbeddingsSendDimensions On', 64, 'some-model']) {
    my ($line, $dimensions, $model) = @$case;
    mock_reset();
    # the stub has 1536 dimensions unless asked
    gateway("$line\nAIEmbeddingsModelName $model\n" . ($dimensions ? '' : 'AIVectordbDimensions 1536'));
    is(ask('axis:1 0.9')->json->{model}, 'one', "$model, $line: routed");
    is(from_json((calls())[0]{body})->{dimensions}, $dimensions, "$model, $line: dimensions");
}

mock_reset();
gateway("AIEmbeddingsAuthParamLocation query\nAIEmbeddingsAuthParamName key\nAIEmbeddingsAuthParamValue \"a b&c\"");
ask('axis:0 0.9');
is($_->{path}, '/v1/embeddings?key=a%20b%26c', 'credential in the query') for calls();
mock_reset();
gateway("AIEmbeddingsAuthParamLocation body\nAIEmbeddingsAuthParamName key\nAIEmbeddingsAuthParamValue s3cret");
ask('axis:0 0.9');
is(from_json($_->{body})->{key}, 's3cret', 'credential in the body') for calls();
mock_reset();
gateway("AIEmbeddingsAuthHeaderName X-Key\nAIEmbeddingsAuthHeaderValue ours\nAIEmbeddingsAuthAllowOverride On");
ask('axis:0 0.9', 'X-Key' => 'theirs');
is(header_of((calls())[-1], 'X-Key'), 'theirs', 'allow_override: the client pays for its own embedding');
ask('axis:0 0.9');
is(header_of((calls())[-1], 'X-Key'), 'ours', 'unless it brings none');

# ---- answers ----
for my $model (qw(stub-shuffled stub-float-only)) {
    gateway("AIEmbeddingsModelName $model\nAIEmbeddingsSendDimensions On");
    is(ask('axis:0 0.9')->json->{model}, 'zero', "$model: axis 0");
    is(ask('axis:1 0.9')->json->{model}, 'one', "$model: axis 1");
}

# ---- failures on the request path: the references are fine, then each call fails ----
my %fault = (
    'status 500' => [{status => 500}, 'embeddings_status'],
    'status 401' => [{status => 401}, 'embeddings_status'],
    'not JSON'   => [{body => '<html>', content_type => 'text/html'}, 'embeddings_response'],
    'short'      => [{body => json({data => [{index => 0, embedding => [1, 2]}]})}, 'embeddings_response'],
    'zero'       => [{body => json({data => [{index => 0, embedding => [(0) x 64]}]})}, 'embeddings_response'],
    'too many'   => [{body => json({data => [map { {index => $_, embedding => [(1) x 64]} } 0, 1]})}, 'embeddings_response'],
    'dropped'    => [{drop_before_head => JSON::PP::true}, 'embeddings_unreachable'],
    'hang'       => [{hang => JSON::PP::true}, 'embeddings_timeout'],
    'trickle'    => [{trickle => {bytes => 1, interval_ms => 100, head => JSON::PP::true}}, 'embeddings_timeout'],
);
for my $action (qw(catchall fail one)) {
    gateway("AIRouteOnFailure $action");
    ask('axis:0 0.9');
    for my $name (sort keys %fault) {
        my ($do, $code) = @{$fault{$name}};
        mock_reset();
        mock_behave({port => $embed, times => -1, do => $do});
        my $begin = time;
        my $r = ask('axis:0 0.9');
        cmp_ok(time - $begin, '<', 1.5, "$action, $name: in time");
        if ($action eq 'fail') {
            is($r->{status}, 503, "$action, $name: refused");
            like($r->json->{error}{code}, qr/^\Q$code\E$/, "$action, $name: with the cause");
        }
        else {
            is($r->{status}, 200, "$action, $name: answered");
            is($r->json->{model}, $action eq 'one' ? 'one' : 'rest', "$action, $name: by the right target");
        }
        my @warnings = grep {/AIP0043/} split /\n/, $h->log;
        like($warnings[-1] // '', qr/\[ai_proxy_adv:warn\].*\($code: /, "$action, $name: one warning with the cause");
    }
    is(scalar(() = $h->log =~ /AIP0043/g), scalar(keys %fault), "$action: one warning a request");
    is_deeply([$h->unexpected('AIP0043')], [], "$action: nothing else in the log");
    mock_reset();
    is(ask('axis:0 0.9')->json->{model}, 'zero', "$action: well again");
}

# ---- references ----
mock_reset();
gateway('', state => 'kept');
is(ask('axis:0 0.9')->json->{model}, 'zero', 'first start');
my $dir = $h->{dir};
$h->stop;
my @files = glob "$dir/kept/*.vec";
is(scalar @files, 2, 'two vectors are kept');
is((stat "$dir/kept")[2] & 077, 0, 'nobody else can read them');
mock_reset();
gateway('', state => "$dir/kept");
is(ask('axis:0 0.9')->json->{model}, 'zero', 'second start');
is(scalar(calls()), 1, 'makes no call but for the prompt');
mock_reset();
gateway('', state => "$dir/kept", example => 'axis:9 1');
is(ask('axis:9 0.9')->json->{model}, 'zero', 'a new example');
is_deeply(from_json((calls())[0]{body})->{input}, ['axis:9 1'], 'is embedded alone');
AIPTest::Setup::write_file($files[0], 'AIPVEC1 broken');
mock_reset();
gateway('', state => "$dir/kept");
is(ask('axis:0 0.9')->json->{model}, 'zero', 'a broken cache file');
is(scalar(@{from_json((calls())[0]{body})->{input}}), 1, 'is made anew');

mock_reset();
gateway('', state => '/proc/none');
is(ask('axis:0 0.9')->json->{model}, 'zero', 'a state directory that cannot be made');
like($h->log, qr/AIP0004/, 'is said at start');
is_deeply([$h->unexpected('AIP0004', 'AIP0101')], [], 'and is no error');

# the provider is away at start: requests follow AIRouteOnFailure, until it is there
mock_reset();
mock_behave({port => $embed, times => -1, do => {status => 503}});
gateway('', state => 'late');
my $r = ask('axis:0 0.9');
is($r->json->{model}, 'rest', 'no references: catch-all');
like($h->log, qr/AIP0043: .*references_missing/, 'the cause');
like($h->log, qr/AIP0103/, 'and why there are none');
mock_reset();
wait_until('references', sub { ask('axis:0 0.9')->json->{model} eq 'zero' });
pass('the provider is back: routed without a restart');

# a request that comes before the references waits for them
mock_reset();
mock_behave({port => $embed, times => 1, do => {delay_ms => 300}});
gateway('', state => 'slow');
is(ask('axis:1 0.9')->json->{model}, 'one', 'a request waits for the references');
is_deeply([$h->unexpected()], [], 'without a word');

# the dialects that share the format
for my $provider (qw(azure mistral ollama)) {
    mock_reset();
    gateway("AIEmbeddingsModelProvider $provider\nAIEmbeddingsSendDimensions On\n",
        url => url('MOCK_EMBED', '/openai/deployments/d/embeddings?api-version=2024-10-21'));
    is(ask('axis:0 0.9')->json->{model}, 'zero', "$provider: routed");
    is((calls())[0]{path}, '/openai/deployments/d/embeddings?api-version=2024-10-21', "$provider: the URL as it is");
}
finish();
