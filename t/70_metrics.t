#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# ai-metrics: figures that are those of the requests sent, in two formats that Prometheus' own checkers take without a
# word, the same across children and graceful restarts.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Metrics;
use IO::Select ();
use POSIX ();

my $true  = JSON::PP::true;
my @price = ('AIModelOptionsInputCost 1.0', 'AIModelOptionsOutputCost 2.0');
my $usage = {prompt_tokens => 25, completion_tokens => 12, total_tokens => 37};

my $gateways = <<"CONF";
<Location /priced>
AIProxy On
AICostCurrency EUR
${\target('priced', 'MOCK_1', 'AIModelName m-1', @price)}
</Location>
<Location /free>
AIProxy On
${\target('free', 'MOCK_1', 'AIModelName m-2')}
</Location>
<Location /two>
AIProxy On
AIBalancerFailoverCriteria error timeout http_503 non_idempotent
AIBalancerMaxFails 1
AIBalancerFailTimeout 60000
${\target('first', 'MOCK_1', 'AIModelName m-1', 'AIWeight 60000')}
${\target('second', 'MOCK_2', 'AIModelName m-1', 'AIWeight 1')}
</Location>
<Location /meaning>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl "http://127.0.0.1:\${MOCK_EMBED_PORT}/v1/embeddings"
AIVectordbDimensions 256
AIVectordbDistanceMetric cosine
AIVectordbThreshold 0.5
AIRouteCache shmcb
${\target('near', 'MOCK_1', 'AIModelName m', 'AIDescription "axis:0 1"')}
${\target('rest', 'MOCK_1', 'AIModelName m', 'AIDescription CATCHALL')}
</Location>
<Location /closed>
SetHandler ai-metrics
Require all denied
</Location>
<Location /acl>
SetHandler ai-metrics
AIAclsDeny header:X-Who=nobody
</Location>
<Location /metrics/deflated>
SetHandler ai-metrics
SetOutputFilter DEFLATE
</Location>
Listen 127.0.0.1:\${SPARE_2_PORT}
<VirtualHost 127.0.0.1:\${SPARE_2_PORT}>
ServerName other.example
<Location /priced>
AIProxy On
AICostCurrency GBP
${\target('priced', 'MOCK_2', 'AIModelName m-1', @price)}
</Location>
</VirtualHost>
CONF
my $h = httpd_with($gateways);

sub ask {
    my ($path, $body, @headers) = @_;
    return client(port => port('SPARE_1'))->post($path, $body // chat('x'), @headers);
}

# Samples, once so many requests are counted: that happens after the client has its answer.
sub counted {
    my ($n) = @_;
    return wait_until("$n requests", sub {
        my $s = samples(scrape()->{body});
        total($s, 'aiproxy_requests_total') >= $n ? $s : undef;
    });
}

sub behave { mock_behave({times => -1, do => $_[0]}); return }

# ---- before any request ----
my $s = samples(scrape()->{body});
is(sample($s, 'aiproxy_tokens_total', target => 'free', type => 'input'), 0, 'nothing yet');
is(total($s, 'aiproxy_requests_total'), 0, 'no request either');
is(sample($s, 'aiproxy_target_up', target => $_), 1, "$_ is up") for qw(free near second);
is(sample($s, 'aiproxy_breaker_state', target => 'first'), 0, 'its breaker is closed');
is(sample($s, 'aiproxy_build_info'), 1, 'build info');
my $since = sample($s, 'aiproxy_start_time_seconds');
cmp_ok(abs($since - time), '<', 60, 'when counting began');

# ---- each kind of request, and exactly what it adds ----
mock_reset();
behave({usage => $usage, model => 'answered'});
is(ask('/priced')->{status}, 200, 'a request');
is(ask('/priced')->{status}, 200, 'another one');
is(client(port => port('SPARE_2'))->post('/priced', chat('x'))->{status}, 200, 'one of the other server');
my $r = ask('/priced', chat('x', stream => $true));
is($r->{status}, 200, 'a stream');
is(ask('/free')->{status}, 200, 'one without prices');
is(ask('/free', 'no JSON')->{status}, 400, 'one that is refused');
$s = counted(6);
my @ours = (server => '127.0.0.1', pool => '/priced', target => 'priced');
my @theirs = (server => 'other.example', pool => '/priced', target => 'priced');
is(sample($s, 'aiproxy_requests_total', @ours, code => 200), 3, 'requests by server, pool, target and code');
is(sample($s, 'aiproxy_requests_total', @theirs, code => 200), 1, 'same path and name, another server');
is(sample($s, 'aiproxy_requests_total', pool => '/free', target => '', code => 400), 1, 'one for which no target was tried');
is(sample($s, 'aiproxy_attempts_total', @ours, outcome => 'ok'), 3, 'attempts');
is(sample($s, 'aiproxy_tokens_total', @ours, type => 'input'), 75, 'input tokens');
is(sample($s, 'aiproxy_tokens_total', @ours, type => 'output'), 36, 'output tokens');
is(sample($s, 'aiproxy_cost_total', @ours, currency => 'EUR'), '0.000147', 'cost: three times 0.000049, to the last digit');
is(sample($s, 'aiproxy_cost_total', @theirs, currency => 'GBP'), '0.000049', 'in the currency of its section');
is(sample($s, 'aiproxy_cost_total', target => 'free'), undef, 'no price, no cost');

my @ai = (
    @ours, gen_ai_operation_name => 'chat', gen_ai_provider_name => 'openai', gen_ai_request_model => 'm-1', gen_ai_response_model => 'answered',
    server_address => '127.0.0.1', server_port => port('MOCK_1')
);
is(sample($s, 'gen_ai_client_token_usage_count', @ai, gen_ai_token_type => 'input'), 3, 'gen_ai_client_token_usage: count');
is(sample($s, 'gen_ai_client_token_usage_sum', @ai, gen_ai_token_type => 'input'), 75, 'sum of input');
is(sample($s, 'gen_ai_client_token_usage_sum', @ai, gen_ai_token_type => 'output'), 36, 'sum of output');
is(sample($s, 'gen_ai_client_token_usage_bucket', @ai, gen_ai_token_type => 'input', le => 16), 0, 'none up to 16');
is(sample($s, 'gen_ai_client_token_usage_bucket', @ai, gen_ai_token_type => 'input', le => 64), 3, 'all up to 64');
is(sample($s, 'gen_ai_server_request_duration_seconds_count', @ai), 3, 'durations');
is(sample($s, 'gen_ai_server_request_duration_seconds_bucket', @ai, le => '+Inf'), 3, 'and their last bucket');
is(sample($s, 'gen_ai_server_time_to_first_token_seconds_count', @ai), 1, 'time to first token: streams alone');
is(sample($s, 'gen_ai_server_time_per_output_token_seconds_count', @ai), 1, 'time per output token: too');
is(sample($s, 'aiproxy_overhead_seconds_count', server => '127.0.0.1', pool => '/priced'), 3, 'overhead of each request');

my @le = map { /^gen_ai_server_time_to_first_token_seconds_bucket.*le="([^"]+)"/ ? $1 : () } split /\n/, scrape()->{body};
is("@le", '0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 +Inf', 'buckets of the conventions');

# ---- failures, failover, breaker ----
mock_reset();
mock_behave({port => port('MOCK_1'), times => -1, do => {status => 503}});
is(ask('/two')->{status}, 200, 'the second target answers');
mock_reset();
behave({status => 429});
is(ask('/free')->{status}, 429, 'an error of the target');
$s = counted(8);
is(sample($s, 'aiproxy_attempts_total', target => 'first', outcome => 'http_503'), 1, 'an answer that was withheld: its status');
is(sample($s, 'aiproxy_retries_total', target => 'first', cause => 'http_503'), 1, 'a retry, by its cause');
is(sample($s, 'aiproxy_attempts_total', target => 'second', outcome => 'ok'), 1, 'the attempt after it');
is(sample($s, 'aiproxy_retries_total', target => 'second'), undef, 'after which there was none');
is(sample($s, 'aiproxy_requests_total', target => 'second', code => 200), 1, 'the request belongs to who answered');
is(sample($s, 'aiproxy_breaker_state', target => 'first'), 2, 'the breaker is open');
is(sample($s, 'aiproxy_target_up', target => 'first'), 0, 'the target is not up');
is(sample($s, 'gen_ai_server_request_duration_seconds_count', target => 'free', error_type => '429'), 1, 'error_type: a series of its own');
is(total($s, 'gen_ai_client_token_usage_count', target => 'free', error_type => '429'), 0, 'errors have no usage');
is(sample($s, 'aiproxy_in_flight', target => 'free'), 0, 'nothing in flight');

# ---- routing ----
mock_reset();
is(ask('/meaning', chat('axis:0 0.9'))->{status}, 200, 'near') for 1 .. 2;
is(ask('/meaning', chat('axis:0 0.2'))->{status}, 200, 'far');
mock_behave({port => port('MOCK_EMBED'), times => -1, do => {status => 500}});
is(ask('/meaning', chat('axis:0 0.3'))->{status}, 200, 'not to be embedded');
$s = counted(12);
my @pool = (server => '127.0.0.1', pool => '/meaning');
is(sample($s, 'aiproxy_route_decisions_total', @pool, route => 'near', reason => 'match'), 2, 'decisions: matches');
is(sample($s, 'aiproxy_route_decisions_total', @pool, route => 'rest', reason => 'catchall'), 1, 'nothing near enough');
is(sample($s, 'aiproxy_route_decisions_total', @pool, route => 'rest', reason => 'embed_error'), 1, 'a failure');
is(sample($s, 'aiproxy_route_score_count', @pool, route => 'near'), 2, 'distances of matches');
cmp_ok(abs(sample($s, 'aiproxy_route_score_sum', @pool, route => 'near') - 0.2), '<', 0.001, 'twice 0.1');
cmp_ok(abs(sample($s, 'aiproxy_route_score_sum', @pool, route => 'rest') - 0.8), '<', 0.001, 'of the catch-all: to the nearest');
is(sample($s, 'aiproxy_embedding_duration_seconds_count', @pool, provider => 'openai', source => 'remote'), 3, 'embeddings calls');
is(sample($s, 'aiproxy_embedding_duration_seconds_count', @pool, provider => 'openai', source => 'cache'), 1, 'one out of the cache');
is(sample($s, 'aiproxy_vector_search_duration_seconds_count', @pool), 2, 'searches');
is(sample($s, 'aiproxy_route_cache_total', @pool, result => 'hit'), 1, 'the cache: a hit');
is(sample($s, 'aiproxy_route_cache_total', @pool, result => 'miss'), 3, 'and misses');
is(sample($s, 'aiproxy_routing_failures_total', @pool, cause => 'embeddings_status'), 1, 'why it failed');
is(total($s, 'aiproxy_route_cache_total', pool => '/free'), 0, 'gateways that do not route by meaning have none of this');

# ---- formats ----
my @prometheus = (Accept => 'application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1');
my $text = scrape();
my $open = scrape('/metrics', @prometheus);
is($text->header('Content-Type'), 'text/plain; version=0.0.4; charset=utf-8', 'the text format, unless asked');
is($open->header('Content-Type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8', 'OpenMetrics for who prefers it');
is(scrape('/metrics', Accept => 'application/openmetrics-text;q=0.1, text/plain')->header('Content-Type'), $text->header('Content-Type'), 'weights count');
is_deeply([promtool($text->{body})], [], 'promtool has no complaint');
is(openmetrics_errors($open->{body}), '', 'the strict parser of OpenMetrics has none');
isnt(openmetrics_errors($text->{body}), '', 'which does see a difference');
like($open->{body}, qr/\n# TYPE aiproxy_requests counter\n.*\n# UNIT aiproxy_overhead_seconds seconds\n.*\n# EOF\n\z/s, 'OpenMetrics: names, units and the end');
unlike($text->{body}, qr/# UNIT|# EOF/, 'no such lines in the text format');
my ($a, $b) = map { samples($_->{body}) } $text, $open;
is_deeply([sort map {s/le="(\d+)\.0"/le="$1"/r} keys %$b], [sort keys %$a], 'the same samples in both');
is($_->header('Cache-Control') . ' ' . $_->header('Vary'), 'no-store Accept', 'not to be cached') for $text, $open;
my $deflated = scrape('/metrics/deflated', 'Accept-Encoding' => 'gzip');
is($deflated->header('Content-Encoding'), 'gzip', 'mod_deflate compresses it');
cmp_ok(length $deflated->{body}, '<', length($text->{body}) / 5, 'by much');

# ---- documents, dashboard, alerts: they speak of what there is ----
is_deeply([undocumented($text->{body})], [], 'docs/metrics.md tells of every family');
my $conf  = top_dir() . '/conf';
my %there = map { $_ => 1 } families($text->{body});
my $board = from_json(slurp("$conf/grafana/ai-gateway.json"));
my %asked = (
    'the dashboard' => join("\n", (map { map { $_->{expr} } @{$_->{targets} // []} } @{$board->{panels}}), map { $_->{definition} // () } @{$board->{templating}{list}}),
    'the alerts' => slurp("$conf/prometheus/alerts.yml") =~ s/^\s*#.*\n//mgr,
);
for my $what (sort keys %asked) {
    my %names = map { s/_(?:bucket|sum|count)\z//r => 1 } $asked{$what} =~ /\b((?:gen_ai|aiproxy)_[a-z_]+)(?=[{\[) ])/g;
    delete @names{grep {/^gen_ai_(?:token_type|response_model)$/} keys %names};
    cmp_ok(scalar keys %names, '>', 8, "$what: asks for metrics");
    is_deeply([grep { !$there{$_} } sort keys %names], [], "$what: all of them are there");
}
like(join(' ', promtool('', qw(check rules --lint=all --lint-fatal), "$conf/prometheus/alerts.yml")), qr/SUCCESS: \d+ rules found\z/, 'the alerts are well-formed');
like(join(' ', promtool('', qw(test rules), top_dir() . '/t/alerts_test.yml')), qr/SUCCESS\z/, 'and fire when they should, and only then');
my @alerts = slurp("$conf/prometheus/alerts.yml") =~ /- alert: (\w+)/g;
my $tested = slurp(top_dir() . '/t/alerts_test.yml');
for my $alert (@alerts) {
    my @cases = grep {/alertname: $alert\n/} split /^  - name:/m, $tested;
    ok((grep {/exp_alerts/} @cases) && (grep { !/exp_alerts/ } @cases), "$alert: a case each way");
}

# ---- who may read, and how ----
my $head = client(port => port('SPARE_1'));
$head->send_raw("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
my $answer = '';
while (defined(my $line = eval { $head->line })) { $answer .= "$line\n" }
like($answer, qr/^HTTP\/1.1 200 .*Content-Type: text\/plain; version=0.0.4/s, 'HEAD');
unlike($answer, qr/aiproxy_/, 'has no body');
$r = ask('/metrics', 'x', 'Content-Type' => 'text/plain');
is($r->{status} . ' ' . $r->header('Allow'), '405 GET, HEAD', 'nothing but GET and HEAD');
my $closed = client(port => port('SPARE_1'))->get('/closed');
is($closed->{status}, 403, "the location's authorization");
is(client(port => port('SPARE_1'))->get('/acl', 'X-Who' => 'nobody')->{status}, 403, 'and rules');
is(client(port => port('SPARE_1'))->get('/acl')->{status}, 200, 'let others in');
unlike($closed->{body}, qr/aiproxy_/, 'without a word');

# ---- several children, and graceful restarts in the middle ----
# Requests over kept-alive connections, which a restart may close between two of them. Returns a pipe out of which comes how
# many were answered, and how many were streams; none when one failed that had a connection of its own.
sub load {
    my ($n) = @_;
    pipe my $out, my $in or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    return [$pid, $out] if $pid;
    my ($answered, $streams, $c) = (0, 0);
    while ($answered < $n) {
        undef $c if $c && IO::Select->new($c->{socket})->can_read(0);
        my $fresh = !$c;
        $c //= client(port => port('SPARE_1'));
        my $stream = $answered % 2;
        my $answer = eval { $c->post('/priced', chat('x', stream => $stream ? $true : JSON::PP::false)) };
        POSIX::_exit(1) if $answer ? $answer->{status} != 200 || !$answer->{complete} : $fresh;
        undef $c if !$answer || ($answer->header('Connection') // '') =~ /close/;
        $answered += $answer ? 1 : 0;
        $streams += $answer && $stream ? 1 : 0;
    }
    syswrite $in, "$answered $streams";
    POSIX::_exit(0);
}
mock_reset();
behave({usage => $usage, model => 'answered'});
my $before = counted(12);
my @workers = map { load(150) } 1 .. 6;
for (1 .. 2) {
    mock_wait('request', count => 1 + 300 * $_);
    $h->graceful;
    scrape();
}
my ($answered, $streams, $failed) = (0, 0, 0);
for (@workers) {
    my ($pid, $out) = @$_;
    waitpid $pid, 0;
    $failed += $? ? 1 : 0;
    next if $?;
    my ($n, $m) = split / /, readline $out;
    $answered += $n;
    $streams += $m;
}
is("$failed $answered", '0 900', 'requests over two graceful restarts, all answered');
my ($got) = grep { $_->{port} == port('MOCK_1') } @{mock_count()->{ports}};
is($got->{request}, 900, 'each by the target, once');
$s = counted(912);
my $grown = sub { my ($name, %labels) = @_; return sample($s, $name, %labels) - sample($before, $name, %labels) };
is($grown->('aiproxy_requests_total', @ours, code => 200), 900, 'each is counted once');
is($grown->('aiproxy_tokens_total', @ours, type => 'input'), 900 * 25, 'and its tokens');
is($grown->('gen_ai_client_token_usage_sum', @ai, gen_ai_token_type => 'output'), 900 * 12, 'and those of histograms');
is($grown->('gen_ai_server_time_to_first_token_seconds_count', @ai), $streams, 'every second was a stream');
is(sample($s, 'aiproxy_cost_total', @ours), '0.044247', 'the cost of 903, exactly');
is($s->{"aiproxy_start_time_seconds{}"}, $since, 'counting goes on');
is(sample($s, 'aiproxy_route_decisions_total', @pool, route => 'near', reason => 'match'), 2, 'decisions outlive restarts');
is(sample($s, 'aiproxy_route_cache_total', @pool, result => 'miss'), 3, 'with all of their counts');
is(total($s, 'aiproxy_in_flight'), 0, 'nothing is in flight');
is_deeply([$h->unexpected('AIP0043', 'AIP0025', 'AH01630')], [], "nothing unexpected in its log");
mock_reset();
finish();
