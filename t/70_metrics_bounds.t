#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# ai-metrics stays small, quick and well-formed whatever clients and upstreams say; Kong's names, the latest conventions,
# secrets.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Metrics;
use MIME::Base64 qw(encode_base64);

my $vault = "<AIVault away>\nAIVaultName hcv\nAIVaultHost 127.0.0.1\nAIVaultPort ${\port('DEAD')}\nAIVaultToken t\n</AIVault>\n";
my $h = httpd_with(<<"CONF");
AIMetricsKongNames On
AICostCurrency CHF
$vault
<Location /pass>
AIProxy On
${\target('pass', 'MOCK_1')}
</Location>
<Location /golden>
AIProxy On
${\target('golden', 'MOCK_2', 'AIModelName gpt-3.5-turbo', 'AIModelOptionsInputCost 10', 'AIModelOptionsOutputCost 10')}
</Location>
<Location /golden2>
AIProxy On
${\target('golden2', 'MOCK_2', 'AIModelName gpt-3.5-turbo', 'AIModelOptionsInputCost 10', 'AIModelOptionsOutputCost 10')}
</Location>
<Location "/odd\\"path">
AIProxy On
${\target('odd', 'MOCK_2', 'AIModelName "a \\"model\\" \\\\ of ours"')}
</Location>
<Location /secret>
AIProxy On
${\target('secret', 'MOCK_2', 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer {vault://env/HOME}"')}
${\target('no-secret', 'MOCK_2', 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer {vault://away/a/key}"')}
</Location>
CONF
mock_reset();
my $c = client(port => port('SPARE_1'));
sub counted {
    my ($n, %labels) = @_;
    return wait_until("$n requests", sub { my $s = samples(scrape()->{body}); total($s, 'aiproxy_requests_total', %labels) >= $n ? $s : undef });
}

# ---- a thousand models ----
my @evil = ("a\"} 1\naiproxy_requests_total{code=\"200\"} 1e9\n", 'back\\slash', "new\nline", "\x{1f600}" x 40, 'x' x 5000, "\x7f\x1b[31m");
for my $i (1 .. 1000) {
    my $name = $i <= @evil ? $evil[$i - 1] : "model-$i";
    my $r = $c->post('/pass', chat('x', model => $name));
    $r->{status} == 200 or die "$name: status $r->{status} $r->{body}";
}
my $json = "{\"model\":\"bad \xff\xc0 bytes\",\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}";
my $raw  = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " . length($json) . "\r\n\r\n$json";
my $s = counted(1000, pool => '/pass');
my @series = grep {/^gen_ai_server_request_duration_seconds_count\{.*pool="\/pass"/} sort keys %$s;
is(@series, 16, 'a thousand models: sixteen series of a target');
is(total($s, 'gen_ai_server_request_duration_seconds_count', pool => '/pass'), 1000, 'which count each request');
is(total($s, 'gen_ai_client_token_usage_sum', pool => '/pass', gen_ai_token_type => 'input'), 11_000, 'and its tokens');
is(sample($s, 'gen_ai_server_request_duration_seconds_count', pool => '/pass', gen_ai_response_model => 'other', gen_ai_request_model => 'other'), 985, 'most of them as others');
my ($longest) = sort { $b <=> $a } map { map { length } /model="([^"]*)"/g } @series;
cmp_ok($longest, '<=', 64, 'names are cut');
my $text = scrape()->{body};
unlike($text, qr/^aiproxy_requests_total\{code=/m, 'no line can be made up');
like($text, qr/gen_ai_response_model="a_\} 1_aiproxy_requests_total\{code=_200_\} 1e9_"/, 'what would end a label is replaced');
unlike($text, qr/[\0-\x09\x0b-\x1f\x7f]/, 'no control byte');
ok(utf8::decode(my $copy = $text), 'all of it is UTF-8');

# ---- statuses, bytes that are no text ----
mock_behave({port => port('MOCK_2'), do => {raw_base64 => encode_base64($raw, ''), close => JSON::PP::true}});
$c = client(port => port('SPARE_1'));
is($c->post('/odd%22path', chat('x'))->{status}, 200, 'an answer whose model is not UTF-8');
for my $status (299, 402, 418, 444, 529, 599) {
    mock_behave({port => port('MOCK_2'), do => {status => $status}});
    is($c->post('/odd%22path', chat('x'))->{status}, $status, "status $status");
}
$s = counted(7, target => 'odd');
my @odd = (pool => '/odd\\"path', target => 'odd');
is(sample($s, 'aiproxy_requests_total', @odd, code => 'other'), 4, 'unheard-of statuses are one');
is(sample($s, 'aiproxy_requests_total', @odd, code => 529), 1, 'known ones are told apart');
my @own = (gen_ai_request_model => 'a \\"model\\" \\\\ of ours');
is(total($s, 'gen_ai_server_request_duration_seconds_count', @odd, @own), 7, "the operator's own names are escaped");

# ---- Kong's names ----
mock_reset();
mock_behave({port => port('MOCK_2'), times => -1, do => {usage => {prompt_tokens => 25, completion_tokens => 12, total_tokens => 37}}});
my $kong = 'ai_provider="openai",ai_model="gpt-3.5-turbo",cache_status="",vector_db="",embeddings_provider="",embeddings_model="",workspace="default",consumer=""';
sub golden {
    my ($n, $cost) = @_;
    my $got = scrape()->{body};
    for my $line (
        "kong_ai_llm_requests_total{$kong,request_mode=\"oneshot\"} $n", "kong_ai_llm_cost_total{$kong,request_mode=\"\"} $cost",
        "kong_ai_llm_tokens_total{$kong,token_type=\"completion_tokens\"} " . 12 * $n, "kong_ai_llm_tokens_total{$kong,token_type=\"prompt_tokens\"} " . 25 * $n,
        "kong_ai_llm_tokens_total{$kong,token_type=\"total_tokens\"} " . 37 * $n,
        "kong_ai_llm_provider_latency_ms_bucket{$kong,request_mode=\"oneshot\",le=\"+Inf\"} $n"
    ) {
        like($got, qr/^\Q$line\E$/m, $line =~ s/\{.*\}/{...}/r);
    }
    return;
}
$c->post('/golden', chat('x'));
counted(1, pool => '/golden');
golden(1, '0.00037');
$c->post('/golden2', chat('x'));
counted(1, pool => '/golden2');
golden(2, '0.00074');
is_deeply([undocumented(scrape()->{body})], [], 'docs/metrics.md tells of all of them');
is(sample(samples(scrape()->{body}), 'aiproxy_cost_total', target => 'golden', currency => 'CHF'), '0.00037', 'beside ours');
my @said = promtool(scrape()->{body});
is_deeply([grep { !/^kong_ai_/ } @said], [], 'promtool complains of names that Kong chose, if at all');
is(openmetrics_errors(scrape('/metrics', Accept => 'application/openmetrics-text')->{body}), '', 'with them the strict parser is content, too');

# ---- secrets ----
$c->post('/secret', chat('x'));
$s = samples(scrape()->{body});
cmp_ok(sample($s, 'aiproxy_secret_refresh_total', result => 'ok'), '>=', 1, 'a secret was read');
cmp_ok(sample($s, 'aiproxy_secret_refresh_total', result => 'away'), '>=', 1, 'one could not be');
my $failures = sub { sample(samples(scrape()->{body}), 'aiproxy_secret_refresh_total', result => 'away') };
my $before = $failures->();
$h->graceful;
cmp_ok($failures->(), '>=', $before, 'which outlives restarts');
$h->stop;

# ---- the latest conventions, and a hundred targets ----
my $targets = join '', map { "<Location /t$_>\nAIProxy On\n" . target("target-$_", 'MOCK_1', 'AIModelName gpt-4o-mini-2024-07-18') . "</Location>\n" } 1 .. 100;
$h = httpd_with("AITelemetrySemconv latest\n$targets");
$c = client(port => port('SPARE_1'));
$c->post("/t$_", chat('x')) for 1 .. 100;
$c->post('/t1', chat('x', stream => JSON::PP::true));
$s = counted(101);
my @first = (target => 'target-1', gen_ai_request_model => 'gpt-4o-mini-2024-07-18');
is(sample($s, 'gen_ai_client_inference_usage_input_tokens_total', @first), 22, 'latest: input tokens');
is(sample($s, 'gen_ai_client_inference_usage_output_tokens_total', @first), 14, 'latest: output tokens');
is(sample($s, 'gen_ai_client_inference_operation_input_tokens_sum', @first), 22, 'latest: as a histogram');
is(sample($s, 'gen_ai_client_inference_duration_seconds_count', @first), 2, 'latest: durations');
is(sample($s, 'gen_ai_client_inference_time_to_first_chunk_seconds_count', @first), 1, 'latest: first chunks');
is(sample($s, 'gen_ai_server_time_to_first_token_seconds_count', @first), 1, 'and what the server side is called in both');
is(total($s, 'gen_ai_client_token_usage_count'), 0, 'not the old name');
is_deeply([undocumented(scrape()->{body})], [], 'docs/metrics.md tells of all of them');
is_deeply([promtool(scrape()->{body})], [], 'promtool has no complaint');
is(openmetrics_errors(scrape('/metrics', Accept => 'application/openmetrics-text')->{body}), '', 'nor has the strict parser');
$h->stop;

$h = httpd_with($targets);
$c = client(port => port('SPARE_1'));
$c->post("/t$_", chat('x')) for 1 .. 100;
counted(100);
my ($median, $size);
wait_until('a scrape of a hundred targets that takes less than 5 ms', sub {
    my ($status, $out, $err) = run_command(
        ['curl', '-s', '-w', '%{time_total} %{size_download}\n', map { ('-o', '/dev/null', url('SPARE_1', '/metrics')) } 1 .. 20]);
    my @took = sort { $a <=> $b } map { (split)[0] } split /\n/, $out;
    ($median, $size) = ($took[10], $out =~ / (\d+)\n\z/);
    diag(sprintf '100 targets: %d bytes, median %.2f ms', $size, $median * 1000);
    return @took == 20 && $median < 0.005;
}, 20);
cmp_ok($size, '>', 500_000, 'a hundred targets, each with traffic');
cmp_ok($median, '<', 0.005, 'median of twenty scrapes: less than 5 ms');
is_deeply([$h->unexpected], [], 'nothing unexpected in its log');
mock_reset();
finish();
