#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# What can be seen of a decision: the header of scores, the dry run, the items of the access log; and who may see it.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $secret = 'sk-not-for-anyone';

sub target {
    my ($name, $description, $port, @more) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name-model",
        "AIModelOptionsUpstreamUrl ${\url($port // 'MOCK_1', '/v1/chat/completions')}", 'AIAuthHeaderName Authorization',
        "AIAuthHeaderValue \"Bearer $secret\"", "AIDescription \"$description\"", @more, "</AITarget>\n";
}

my $targets = target('zero', 'axis:0 1') . target('twin', 'axis:0 1') . target('one', 'axis:1 1', 'MOCK_2', 'AIRouteThreshold 0.9', 'AITargetAccepts text')
    . target('barred', 'axis:2 1', 'MOCK_2', 'AIRouteForbid true') . target('rest', 'CATCHALL', 'MOCK_3');
my $gateway = sub {
    my ($path, $lines, $own) = @_;
    return "<Location $path>\nAIProxy On\nAIBalancerAlgorithm semantic\n$lines\n${\($own // $targets)}</Location>\n";
};
my $conf = <<"CONF";
Listen 127.0.0.1:\${SPARE_1_PORT}
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIStateDir state
AIBalancerMaxFails 1
AIBalancerFailoverCriteria http_500
LogFormat "%U|%{target}^AI|%{route}^AI|%{distance}^AI|%{threshold}^AI|%{reason}^AI|%{cache}^AI|%{candidates}^AI|%{attempts}^AI|%{embedding_us}^AI|%{search_us}^AI|%{nonsense}^AI" ai
CustomLog access_log ai
${\$gateway->('/off', '')}
${\$gateway->('/headers', 'AIExplain headers')}
${\$gateway->('/body', "AIExplain body\nAIRouteSticky header X-Session")}
${\$gateway->('/path', "AIExplain body\nAIDryRunPath /dry/run")}
${\$gateway->('/turn', "AIBalancerAlgorithm round-robin\nAIExplain body")}
${\$gateway->('/for', "AIExplain body\nAIExplainFor \"%{REMOTE_USER} == 'ops'\"")}
<Location /for>
AuthType Basic
AuthName explain
AuthUserFile "\${AIP_DIR}/users"
Require valid-user
</Location>
${\$gateway->('/none', "AIExplain body", target('zero', 'axis:0 1'))}
<Location /body>
AuthType Basic
AuthName explain
AuthUserFile "\${AIP_DIR}/users"
Require valid-user
</Location>
<Location /nothing>
AIProxy On
</Location>
<LocationMatch ^/pattern>
AIExplain body
</LocationMatch>
${\$gateway->('/nothing/below', '')}
${\$gateway->('/pattern', '')}
<Location /status>
SetHandler ai-status
</Location>
<Location /headers>
<If "req('X-Ask') != 'yes'">
AIExplain off
</If>
</Location>
CONF
my ($users) = "$AIPTest::Setup::t/state/explain-users";
AIPTest::Setup::write_file($users, "ops:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\ndev:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"); # "password"
$conf =~ s/"\$\{AIP_DIR\}\/users"/"$users"/g;
my $h = start_httpd($conf);
my @auth = ('Authorization', 'Basic b3BzOnBhc3N3b3Jk');

sub ask { my ($path, $body, @headers) = @_; return client(port => port('SPARE_1'))->post($path, ref $body ? $body : chat($body), @headers) }

# ---- the header ----
my $r = ask('/off', 'axis:0 0.9');
is($r->header('X-LLM-Route-Scores'), undef, 'off: no header');
$r = ask('/headers', 'axis:0 0.9 axis:1 0.3');
is($r->header('X-LLM-Route-Scores'), undef, 'headers, but not for everyone: httpd decides');
my @ask = ('X-Ask', 'yes');
is(ask('/headers', 'axis:0 0.8 axis:1 0.3', @ask)->header('X-LLM-Route-Scores'),
    'zero=0.2000, one=0.7000, barred=1.0000; threshold=0.5; reason=match', 'headers: sorted, with threshold and reason');
is(ask('/headers', 'axis:0 0.8 axis:1 0.3', @ask)->header('X-LLM-Route-Scores'),
    'zero=0.2000, one=0.7000, barred=1.0000; threshold=0.5; reason=match,cached', 'from the cache');
is(ask('/headers', 'axis:1 0.2', @ask)->header('X-LLM-Route-Scores'),
    'one=0.8000, zero=1.0000, barred=1.0000; threshold=0.9; reason=match', 'the threshold is that of the nearest');
is(ask('/headers', chat([]), @ask)->header('X-LLM-Route-Scores'), 'reason=empty', 'nothing to compare');
is(client(port => port('SPARE_1'))->post('/headers', '{', @ask)->header('X-LLM-Route-Scores'), undef, 'a request that is none');
mock_behave({port => port('MOCK_EMBED'), times => 1, do => {status => 500}});
is(ask('/headers', 'axis:0 0.123', @ask)->header('X-LLM-Route-Scores'), 'reason=embed_error', 'no embedding');
mock_reset();

is(ask('/for', 'axis:0 0.3', @auth)->header('X-LLM-Route-Scores'), 'zero=0.7000, one=1.0000, barred=1.0000; threshold=0.5; reason=catchall',
    'AIExplainFor: who is named');
my @dev = ('Authorization', 'Basic ZGV2OnBhc3N3b3Jk');
$r = ask('/for', 'axis:0 0.3', @dev);
is_deeply([$r->{status}, scalar $r->header('X-LLM-Route-Scores')], [200, undef], 'AIExplainFor: another user');
$r = ask('/for/_route', 'axis:0 0.3', @dev);
is_deeply([$r->{status}, $r->json->{error}{code}], [403, 'dry_run_forbidden'], 'nor may he ask for a dry run');
is(ask('/for/_route', 'axis:0 0.3', @auth)->json->{decision}{reason}, 'catchall', 'the first one may');

# ---- the dry run ----
$r = ask('/off/_route', 'axis:0 0.9');
is($r->{status}, 404, 'off: no dry run');
is($r->json->{error}{code}, 'dry_run_off', 'with a word');
is(ask('/headers/_route', 'axis:0 0.9', @ask)->{status}, 404, 'headers: none either');
is(ask('/body/_route', 'axis:0 0.9')->{status}, 401, 'body: who may ask is up to httpd');
mock_reset();
sub dry { my ($path, $body, @headers) = @_; my $r = ask($path, $body, @auth, @headers); is($r->{status}, 200, "dry run: $path"); return $r->json }
my $d = dry('/body/_route', 'axis:0 0.8 axis:1 0.3');
$d->{decision}{distance} = sprintf '%.4f', $d->{decision}{distance};
is_deeply($d->{decision}, {reason => 'match', target => 'zero', route => 'axis:0 1', distance => '0.2000', threshold => 0.5}, 'the decision');
is_deeply([map { [@$_{qw(route targets threshold eligible)}] } @{$d->{distances}}],
    [['axis:0 1', ['zero', 'twin'], 0.5, $true], ['axis:1 1', ['one'], 0.9, $true], ['axis:2 1', ['barred'], 0.5, $false]], 'routes, thresholds');
is_deeply([map { sprintf '%.3f', $_->{distance} } @{$d->{distances}}], ['0.200', '0.700', '1.000'], 'distances, sorted');
is_deeply([map { [@$_{qw(target provider model health route)}] } @{$d->{candidates}}],
    [map { [$_->[0], 'openai', "$_->[0]-model", 'available', $_->[1]] } ['zero', 'axis:0 1'], ['twin', 'axis:0 1'], ['one', 'axis:1 1'], ['rest', 'CATCHALL']],
    'candidates in their order, with their health');
is_deeply($d->{left_out}, [{target => 'barred', why => 'forbidden'}], 'who is left out, and why');
is($d->{cache}, 'hit', 'the state of the cache');
is(dry('/body/_route', 'axis:0 0.811')->{cache}, 'miss', 'a miss');
is(dry('/body/_route', 'axis:0 0.811')->{cache}, 'hit', 'is a hit the next time');
my $times = dry('/body/_route', 'axis:0 0.812')->{timings};
cmp_ok($times->{embedding_ms}, '>', 0, 'time of the embedding');
cmp_ok($times->{total_ms}, '>=', $times->{embedding_ms}, 'time as a whole');
ok(exists $times->{search_ms}, 'time of the search');
is_deeply([grep { $_->{port} != port('MOCK_EMBED') } mock_requests()], [], 'no model was called');
my @first = map { dry('/body/_route', 'axis:0 0.8 axis:1 0.3')->{candidates}[0]{target} } 1 .. 3;
is_deeply(\@first, ['zero', 'zero', 'zero'], 'nobody loses a turn by it');
is(ask('/body', 'axis:0 0.8 axis:1 0.3', @auth)->json->{model}, 'zero-model', 'the turn that was foretold');
is(dry('/body/_route', 'axis:0 0.8 axis:1 0.3')->{candidates}[0]{target}, 'twin', 'the next one');

is(ask('/body/deeper/_route', 'axis:0 0.9', @auth)->json->{model} // '', 'twin-model', 'only that path is the dry run: what protects it, protects it');
is(ask('/body/deeper/_route', 'axis:0 0.9', @auth)->json->{model} // '', 'zero-model', 'elsewhere it is a request like any other');

# sessions are looked at, not made
$d = dry('/body/_route', 'axis:0 0.9', 'X-Session', 'dry');
is_deeply($d->{session}, {known => $true, target => undef}, 'a session that is new');
is_deeply(dry('/body/_route', 'axis:5 1', 'X-Session', 'dry')->{session}, {known => $true, target => undef}, 'is not begun by a dry run');
is(ask('/body', 'axis:1 0.9', @auth, 'X-Session', 'dry')->json->{model}, 'one-model', 'a request begins it');
$d = dry('/body/_route', 'axis:5 1', 'X-Session', 'dry');
is($d->{decision}{reason}, 'sticky', 'and the dry run foretells it');
is($d->{decision}{without_session}{reason}, 'catchall', 'with what would be');
is_deeply($d->{session}, {known => $true, target => 'one'}, 'and whose it is');

# needs, health, failures
is_deeply([map { @$_{qw(target why)} } @{dry('/body/_route', chat('axis:1 0.9', tools => [{}]))->{left_out}}],
    [zero => 'not_eligible', twin => 'not_eligible', one => 'incapable', barred => 'forbidden'], 'what a target cannot do');
mock_behave({port => port('MOCK_2'), times => 1, do => {status => 500}});
is(ask('/body', 'axis:1 0.91', @auth)->json->{model}, 'rest-model', 'a target fails');
$d = dry('/body/_route', 'axis:1 0.91');
is_deeply([map { [@$_{qw(target health)}] } @{$d->{candidates}}], [['rest', 'available'], ['one', 'ejected']], 'and is a last resort');
mock_behave({port => port('MOCK_EMBED'), times => 1, do => {status => 500}});
$d = dry('/body/_route', 'axis:1 0.92');
is_deeply([$d->{decision}{reason}, $d->{failure}, scalar @{$d->{distances}}], ['embed_error', 'embeddings_status', 0], 'the embedder fails');
$d = dry('/none/_route', 'axis:1 0.9');
is_deeply([@{$d->{error}}{qw(status code)}], [503, 'no_matching_target'], 'nothing matches: what the client would be told');
is_deeply($d->{candidates}, [], 'no candidates');
$r = client(port => port('SPARE_1'))->post('/body/_route', '{"messages":', @auth);
is($r->{status}, 400, 'a request that is none');
is($r->json->{error}{code}, 'invalid_json', 'is refused like any other');
is(client(port => port('SPARE_1'))->get('/body/_route', @auth)->{status}, client(port => port('SPARE_1'))->get('/turn')->{status}, 'so is GET');
$d = dry('/turn/_route', 'whatever');
is($d->{algorithm}, 'round-robin', 'another algorithm');
is(scalar @{$d->{candidates}}, 4, 'has candidates all the same');
is(ask('/path/_route', 'axis:0 0.9')->json->{model}, 'zero-model', 'AIDryRunPath: the default path is one of many then');
is(dry('/path/dry/run', 'axis:0 0.9')->{decision}{target}, 'twin', 'and the configured one the dry run');

# nothing private anywhere
my $seen = json($d) . slurp("$h->{dir}/error_log") . slurp("$h->{dir}/access_log");
unlike($seen, qr/\Q$secret\E/, 'no secret');
unlike(slurp("$h->{dir}/error_log"), qr/axis:0 0\.8/, 'no prompt in the error log');

# where no target applies
is(ask('/nothing', 'x')->{status}, 503, 'a gateway without targets');
is(ask('/pattern/_route', 'axis:0 0.9')->json->{decision}{reason} // '', 'match', 'a location inside a pattern has a path');

# ---- counters ----
my ($counted) = grep { $_->{path} eq '/headers' } @{client(port => port('SPARE_1'))->get('/status')->json->{gateways}};
is_deeply($counted->{routing}{decisions}, {none => 0, match => 4, catchall => 0, empty => 1, ambiguous => 0, forced => 0, sticky => 0, embed_error => 1},
    'decisions by reason') or diag(json($counted->{routing}));
is_deeply($counted->{routing}{cache}, {off => 1, miss => 4, hit => 1, shared => 0}, 'where the distances came from') or diag(json($counted->{routing}));
is_deeply($counted->{routing}{failures}, {embeddings_timeout => 0, embeddings_unreachable => 0, embeddings_status => 1, embeddings_response => 0,
    references_missing => 0, other => 0, store_error => 0}, 'failures by cause');

# ---- the access log ----
$h->stop;
my @lines = map { [split /\|/] } split /\n/, slurp("$h->{dir}/access_log");
my ($line) = grep { $_->[0] eq '/headers' && $_->[3] eq '0.2000' && $_->[6] eq 'miss' } @lines; # a line may come after that of a later request
is_deeply([@$line[1 .. 8]], ['twin', 'axis:0 1', '0.2000', '0.5000', 'match', 'miss', 4, 1], 'its items');
cmp_ok($line->[9], '>', 0, 'embedding time');
like($line->[10], qr/^\d+$/, 'search time');
is($line->[11], '-', 'an item that there is not');
($line) = grep { $_->[5] eq 'embed_error' && $_->[0] eq '/headers' } @lines;
is_deeply([@$line[1 .. 4]], ['rest', 'CATCHALL', '-', '0.5000'], 'without a distance');
($line) = grep { $_->[0] eq '/off/_route' } @lines;
is_deeply([@$line[1 .. 5]], [('-') x 5], 'without a decision') or diag(json($line));
is_deeply([$h->unexpected('AIP0043', 'AIP0025', 'AIP0031')], [], 'nothing else is said');
finish();
