#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The status page in a real Chromium (t/browser/page.mjs): no violation of axe's rules in light and dark, on a phone and on a
# desk, keyboard alone, with JavaScript and without. The gateways and their hour of traffic are invented; the screenshots are
# those of docs/images.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Clock;

$ENV{AIP_BROWSER_DIR} or die "AIP_BROWSER_DIR is not set\n";
$ENV{CHROMIUM} or die "CHROMIUM is not set: there is no chromium\n";
my $state = "$AIPTest::Setup::t/state";
my $shots = "$state/shots";
mkdir $shots or die "$shots: $!\n";

# ---- the gateways ----
my %at    = ('code-large' => 'MOCK_1', 'code-small' => 'MOCK_2', 'math' => 'MOCK_3', 'it-desk' => 'MOCK_5', 'gpt-general' => 'MOCK_6', 'mistral-small' => 'MOCK_4');
my %price = ('code-large' => [3, 15], 'code-small' => [0.25, 1.25], 'math' => [1.1, 4.4], 'it-desk' => [0.4, 1.6], 'gpt-general' => [2.5, 10], 'mistral-small' => [0.1, 0.3]);

sub target {
    my ($name, $model, $description, @more) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $model",
        "AIModelOptionsUpstreamUrl ${\url($at{$name}, '/v1/chat/completions')}", "AIModelOptionsInputCost $price{$name}[0]",
        "AIModelOptionsOutputCost $price{$name}[1]", 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer {vault://env/OPENAI_PROD_KEY}"',
        'AILoggingLogStatistics On', ($description ? "AIDescription \"$description\"" : ()), @more, "</AITarget>\n";
}

write_keys("$state/batch.keys", key_line('search-team', 'x' x 30, 'eng'), key_line('support-desk', 'y' x 30));
my $code = 'programming, coding, software development, Python, JavaScript, APIs, debugging';
my $conf = <<"CONF";
Listen 127.0.0.1:\${SPARE_1_PORT}
ServerName gateway.example.com
AIStatisticsLog statistics_log
AIVectordbDimensions 256
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIBalancerMaxFails 3
AIBalancerFailTimeout 600000
AIBalancerFailoverCriteria error timeout http_429 http_500 http_503 non_idempotent
<Location /assistant>
AIProxy On
AIBalancerAlgorithm semantic
AIVectordbThreshold 0.75
${\target('code-large', 'coder-70b', $code, 'AIWeight 60')}
${\target('code-small', 'coder-8b', $code, 'AIWeight 40')}
${\target('math', 'reason-2', 'mathematics, algebra, calculus, trigonometry, equations, integrals, derivatives, theorems')}
${\target('it-desk', 'helper-1', 'Requests related to IT support')}
${\target('gpt-general', 'gpt-4.1', 'CATCHALL', 'AIWeight 70')}
${\target('mistral-small', 'mistral-small-3', 'CATCHALL', 'AIWeight 30')}
</Location>
<Location /batch>
AIProxy On
AIApiKeyFile ../batch.keys
AIBalancerAlgorithm priority
${\target('mistral-small', 'mistral-small-3', undef, 'AIWeight 2')}
${\target('gpt-general', 'gpt-4.1', undef, 'AIWeight 1')}
</Location>
<Location /ai-status>
SetHandler ai-status
</Location>
CONF

# ---- an hour of traffic ----
my @prompts = ('How do I build a REST API using Flask?', 'What does the `map()` function do in Python?', q(What's the derivative of sin(x)?),
    'How do I reset my corporate email password?', 'My VPN keeps disconnecting; help me troubleshoot it?', q(What's the capital of Argentina?),
    'Tell me a fun fact about dolphins', 'Write a short poem about the beauty of autumn.', 'How do I build a REST API using Flask?');

sub behave {
    my (%other) = @_;
    my $n = 0;
    mock_reset();
    for my $name (sort keys %at) {
        $n++;
        my %usage = (prompt_tokens => 180 + 60 * $n, completion_tokens => 240 + 35 * $n, total_tokens => 420 + 95 * $n);
        mock_behave({port => port($at{$name}), times => -1, do => $other{$name} // {delay_ms => 2 + 2 * $n, usage => \%usage}});
    }
    return;
}

sub ask {
    my ($path, $prompt, @more) = @_;
    return client(port => port('SPARE_1'))->post($path, chat($prompt, @more), $path eq '/batch' ? ('X-Api-Key', 'x' x 30) : ());
}

my $clock = AIPTest::Clock->new;
$clock->set(-59 * 60);
my $h = do { local $ENV{OPENAI_PROD_KEY} = 'sk-invented'; $clock->run(sub { start_httpd($conf) }) };
my $asked = 0;
behave();
wait_until('the routes are embedded', sub { $asked++; ask('/assistant', $prompts[0])->{status} == 200 });
for my $minute (1 .. 55) {
    $clock->set(($minute - 59) * 60);
    behave('it-desk' => {status => 500}, 'math' => {status => 503}) if $minute == 30;
    behave('gpt-general' => {status => 400}) if $minute == 41;
    behave() if $minute == 33 || $minute == 43;
    for (1 .. 1 + int(2.2 + 1.6 * sin($minute / 6) + ($minute * 7 % 5) / 3)) {
        ask('/assistant', $prompts[$asked % @prompts]);
        ask('/batch', $prompts[0]) if $asked % 4 == 0;
        $asked++;
    }
}
behave('gpt-general' => {stream => {auto => 8, interval_ms => 2}});
ask('/assistant', $prompts[6], stream => JSON::PP::true) for 1 .. 4;
$clock->set(-2 * 60);
behave('code-small' => {status => 503}, 'it-desk' => {status => 429, headers => [['Retry-After', '170']]});
ask('/assistant', $prompts[$_ % 4]) for 0 .. 19;
$clock->set(0);
behave();
ask('/assistant', $prompts[$_ % 3]) for 0 .. 4;

# ---- the browser ----
my ($status, $out, $err) = do {
    local @ENV{qw(HOME XDG_CONFIG_HOME XDG_CACHE_HOME)} = ($state) x 3;
    run_command(['node', AIPTest::top_dir() . '/t/browser/page.mjs', url('SPARE_1', '/ai-status'), $shots], '', 120);
};
for my $line (split /\n/, $out) {
    $line =~ /^(ok|not ok) - (.*)/ ? ok($1 eq 'ok', $2) : diag($line);
}
is($status, 0, 'the browser has run to its end') or diag($err);
ok(-s "$shots/status-$_.png", "screenshot $_") for qw(360-light 360-dark 1280-light 1280-dark try-1280-light try-360-dark);

my $written = $h->log . slurp("$h->{dir}/statistics_log");
unlike($written, qr/map\(\)|sk-invented/, 'no log has a prompt, or a secret');
is_deeply([$h->unexpected(qr/AIP005\d/, qr/AIP002\d/)], [], 'nothing else in the log');
finish();
