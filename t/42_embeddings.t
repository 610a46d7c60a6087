#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The embeddings provider: what it receives, what its answers may look like, what happens when it fails, and how the
# references are made, kept and waited for.
use strict;
use warnings FATAL => 'all';
use Digest::SHA qw(sha256_hex);
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $embed = port('MOCK_EMBED');
my $true = JSON::PP::true;
my ($h, $slot, %last, @all);

# An httpd takes about two seconds to end: meanwhile the next one has another port.
my @slots = map {"SPARE_$_"} 1, 3, 4, 5;
sub next_slot {
    $h->order_stop if $h;
    push @slots, $slot = shift @slots;
    $last{$slot}->stop if $last{$slot};
    return;
}

# A gateway at /e with two targets and a catch-all; LINES stand in its location. {models}: one at /e/MODEL for each.
sub gateway {
    my ($lines, %opt) = @_;
    next_slot();
    my $example = join "\n", map {"AIRouteExample \"$_\""} $opt{example} // ();
    $example .= join "\n", '', map {"AIRouteExamplesFile \"$_\""} @{$opt{files} // []};
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
    my $targets = $target->('zero', 'axis:0 1', $example) . $target->('one', 'axis:1 1', '') . $target->('rest', 'CATCHALL', '');
    my $inner = join '', map {"<Location /e/$_>\nAIEmbeddingsModelName $_\n</Location>\n"} @{$opt{models} // []};
    $h = $last{$slot} = start_httpd(<<"CONF");
Listen 127.0.0.1:\${${slot}_PORT}
Protocols h2c http/1.1
<Location /e>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl $url
AIEmbeddingsTimeout 400
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIRouteHeaders On
AIRouteCache none
AIStateDir "${\($opt{state} // 'state')}"
$lines
$targets
</Location>
$inner
CONF
    push @all, $h;
    return $h;
}

sub ask {
    my ($prompt, @headers) = @_;
    return client(port => port($slot))->post('/e', chat($prompt), @headers);
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

# examples of files: each once, in their order, without remarks and white space around them
my @texts = map { "$AIPTest::Setup::t/state/$_.$$" } qw(examples-a examples-b);
AIPTest::Setup::write_file($texts[0], "# a remark\n\naxis:3 1\r\n \t axis:4 1 # no remark \n   # another\naxis:2 1\n");
AIPTest::Setup::write_file($texts[1], "axis:3 1\n\n\naxis:5 1 \xc3\xa4");
mock_reset();
gateway('', example => 'axis:2 1', files => \@texts);
is(ask('axis:5 0.9')->json->{model}, 'zero', 'files of examples: the last line counts');
is_deeply(from_json((calls())[0]{body})->{input}, ['axis:0 1', 'axis:2 1', 'axis:3 1', 'axis:4 1 # no remark', "axis:5 1 \xe4", 'axis:1 1'],
    'files of examples: the texts');

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
is_deeply([map { $_->{path} } calls()], [('/v1/embeddings?key=a%20b%26c') x 2], 'credential in the query');
mock_reset();
gateway("AIEmbeddingsAuthParamLocation body\nAIEmbeddingsAuthParamName key\nAIEmbeddingsAuthParamValue s3cret");
ask('axis:0 0.9');
is_deeply([map { from_json($_->{body})->{key} } calls()], ['s3cret', 's3cret'], 'credential in the body');
mock_reset();
gateway("AIEmbeddingsAuthHeaderName X-Key\nAIEmbeddingsAuthHeaderValue ours\nAIEmbeddingsAuthAllowOverride On");
ask('axis:0 0.9', 'X-Key' => 'theirs');
is(header_of((calls())[-1], 'X-Key'), 'theirs', 'allow_override: the client pays for its own embedding');
ask('axis:0 0.9');
is(header_of((calls())[-1], 'X-Key'), 'ours', 'unless it brings none');
is(header_of((calls())[0], 'X-Key'), 'ours', 'and the texts of the configuration are ours');
mock_reset();
gateway("AIEmbeddingsAuthHeaderName X-Key\nAIEmbeddingsAuthHeaderValue ours");
ask('axis:0 0.9', 'X-Key' => 'theirs');
is_deeply([map { header_of($_, 'X-Key') } calls()], ['ours', 'ours'], 'without it the client has no say');

# ---- answers ----
for my $model (qw(stub-shuffled stub-float-only stub-slow)) {
    gateway("AIEmbeddingsModelName $model\nAIEmbeddingsSendDimensions On");
    is(ask('axis:0 0.9')->json->{model}, 'zero', "$model: axis 0");
    is(ask('axis:1 0.9')->json->{model}, 'one', "$model: axis 1");
}

# ---- failures on the request path: the references are fine, then each call fails ----
my $nan = 'AAAAAAAAwH8' . 'A' x (4 * 86 - 13) . 'AA==';    # 64 float32, the second one is NaN
my $one = sub { return {body => json({data => [map { {index => $_, embedding => $_[0]} } 0 .. ($_[1] // 1) - 1]})} };
my %fault = (
    'status 500'   => [{status => 500}, 'embeddings_status'],
    'status 401'   => [{status => 401}, 'embeddings_status'],
    'status 302'   => [{status => 302, headers => [['Location', '/v1/embeddings']]}, 'embeddings_status'],
    'not JSON'     => [{body => '<html>', content_type => 'text/html'}, 'embeddings_response'],
    'short'        => [$one->([1, 2]), 'embeddings_response'],
    'zero'         => [$one->([(0) x 64]), 'embeddings_response'],
    'too large'    => [{body => '{"data":[{"index":0,"embedding":[' . join(',', ('1e39') x 64) . ']}]}'}, 'embeddings_response'],
    'NaN'          => [$one->($nan), 'embeddings_response'],
    'no base64'    => [$one->('*' x 344), 'embeddings_response'],
    'too many'     => [$one->([(1) x 64], 2), 'embeddings_response'],
    'missing'      => [{body => '{"data":[]}'}, 'embeddings_response'],
    'error in 200' => [{body => '{"error":{"message":"no"}}'}, 'embeddings_response'],
    'dropped'      => [{drop_before_head => $true}, 'embeddings_unreachable'],
    'cut'          => [{cut_after_bytes => 100}, 'embeddings_unreachable'],
    'hang'         => [{hang => $true}, 'embeddings_timeout'],
    'trickle'      => [{trickle => {bytes => 1, interval_ms => 100, head => $true}}, 'embeddings_timeout'],
);
# Each once: on a kept-alive connection, over HTTP/2 ("fail" over both).
my %how = (catchall => ['kept'], fail => ['kept', 'h2'], one => ['h2']);
for my $action (qw(catchall fail one)) {
    gateway("AIRouteOnFailure $action");
    ask('axis:0 0.9');
    my ($warned, %client) = (0, h2 => h2_client(port => port($slot)));
    for my $name (map { my $n = $_; map {"$n, $_"} @{$how{$action}} } sort keys %fault) {
        my ($kind, $how) = split /, /, $name;
        my ($do, $code) = @{$fault{$kind}};
        mock_reset();
        # httpd closes the connection behind a 503 of its own
        $client{kept} = client(port => port($slot)) if !$client{kept} || $action eq 'fail';
        is($client{$how}->post('/e', chat('axis:1 0.9'))->{status}, 200, "$action, $name: a good request before");
        mock_reset();
        mock_behave({port => $embed, times => -1, do => $do});
        my $begin = time;
        my $r = $client{$how}->post('/e', chat('axis:0 0.9'));
        my $took = time - $begin;
        cmp_ok($took, '<', 0.9, "$action, $name: in time");
        cmp_ok($took, '>', 0.35, "$action, $name: not given up before") if $code eq 'embeddings_timeout';
        if ($action eq 'fail') {
            is($r->{status}, 503, "$action, $name: refused");
            is($r->json->{error}{code}, $code, "$action, $name: with the cause");
            is(scalar(mock_requests(port => port('MOCK_1'))), 0, "$action, $name: no target was asked");
        }
        else {
            is($r->{status}, 200, "$action, $name: answered");
            is($r->json->{model}, $action eq 'one' ? 'one' : 'rest', "$action, $name: by the right target");
        }
        my @warnings = grep {/AIP0043/} split /\n/, $h->log;
        is(scalar @warnings, ++$warned, "$action, $name: one warning");
        like($warnings[-1] // '', qr/\[ai_proxy_adv:warn\].*\($code: .*AIRouteOnFailure $action/, "$action, $name: with the cause");
    }
    is_deeply([$h->unexpected('AIP0043')], [], "$action: nothing else in the log");
    mock_reset();
    is(ask('axis:0 0.9')->json->{model}, 'zero', "$action: well again");
}

# The target that stands in fails as well: the catch-all follows.
mock_behave({port => $embed, times => 1, do => {status => 500}}, {port => port('MOCK_1'), model => 'one', do => {drop_before_head => $true}});
is(ask('axis:0 0.9')->{status}, 502, 'a stand-in that fails after the request was sent: not sent again');
mock_reset();

# ---- connections: the references are in the cache, then nobody takes the call ----
sub cached {
    my ($url, $state) = @_;
    my $embedder = join '', map { pack('Q<', length) . $_ } 'openai', 'text-embedding-3-small', $url;
    mkdir $state or die "$state: $!\n";
    for my $k (0, 1) {
        my $text = "axis:$k 1";
        my $file = sha256_hex($embedder . pack('l<2', 64, 1) . pack('Q<', length $text) . $text);
        AIPTest::Setup::write_file("$state/$file.vec", "AIPVEC1\n" . pack('L<', 64) . pack 'f<64', map { $_ == $k } 0 .. 63);
    }
    return $state;
}
my $state = "$AIPTest::Setup::t/state";
for my $case (['refused', url('DEAD', '/v1/embeddings'), 'embeddings_unreachable', 0], ['never connected', url('MOCK_BLACKHOLE', '/v1/embeddings'),
    'embeddings_timeout', 0.35], ['an authority that nobody trusts', 'https://localhost:' . port('MOCK_TLS_1') . '/v1/embeddings',
    'embeddings_unreachable', 0]) {
    my ($name, $url, $code, $least) = @$case;
    mock_reset();
    gateway('AIRouteOnFailure fail', url => $url, state => cached($url, "$state/embed.$code.$slot.$least"));
    for my $nth (qw(first second)) {
        my $begin = time;
        my $r = ask('axis:0 0.9');
        is($r->json->{error}{code}, $code, "$name, $nth request: the cause");
        my $took = time - $begin;
        ok($took >= $least && $took < 0.9, "$name, $nth request: in time") or diag($took);
    }
    is(scalar(() = $h->log =~ /AIP0043/g), 2, "$name: one warning a request");
    like($h->log, qr/2 references of 64 dimensions are ready \(0 embeddings calls\)/, "$name: the references were there");
    is(scalar(mock_requests(port => port('MOCK_TLS_1'))), 0, "$name: nobody saw the prompt");
}

# ---- failures while the references are made: each model of the stub has a location of its own ----
my %stub = (
    'stub-nan'     => 'embedding \d has a value that is not finite',
    'stub-zero'    => 'embedding \d is a zero vector',
    'stub-short'   => 'embedding \\d has 252 bytes, expected 256',
    'stub-missing' => 'the answer has 1 embeddings, expected 2',
    'stub-500'     => 'the embeddings provider answered with status 500',
    'stub-html'    => 'the answer is not the expected JSON',
    'stub-hang'    => 'Timeout was reached',
);
mock_reset();
gateway("AIEmbeddingsSendDimensions On\nAIRouteOnFailure catchall", models => [sort(keys %stub), 'healthy'], state => 'stubs');
my %waiting = map { my $c = client(port => port($slot)); ($_ => $c->send_request('POST', "/e/$_", chat('axis:0 0.9'))) }
    sort(keys %stub), 'healthy';
is((delete $waiting{healthy})->answer->json->{model}, 'zero', 'a provider that hangs does not keep others from theirs');
for my $model (sort keys %stub) {
    is($waiting{$model}->answer->json->{model}, 'rest', "$model: catch-all");
    like(wait_until("word of $model", sub { ($h->log =~ /^(.*AIP0103: .* cannot be embedded: $stub{$model}.*)$/m)[0] }),
        qr/:warn\].*; trying again until they can$/, "$model: and the log says why");
}
is(scalar(() = $h->log =~ /AIP0043: .*\(references_missing:/g), scalar keys %stub, 'one warning a request');
$h->stop;    # else its children go on asking while the next ones are counted

# ---- references ----
mock_reset();
gateway('', state => 'kept');
is(ask('axis:0 0.9')->json->{model}, 'zero', 'first start');
my $dir = $h->{dir};
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
$h->stop;

# a request that comes before the references waits for them
mock_reset();
mock_behave({port => $embed, times => 1, do => {delay_ms => 200}});
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

# How they all ended.
$_->stop for @all;
is_deeply([map { $_->deaths } @all], [], 'no child died');
finish();
