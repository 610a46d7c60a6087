#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# What a line of the statistics log holds beyond Kong's keys: requests without a target, texts that clients and upstreams
# choose, payloads that are cut and redacted, streams put together; and the same facts in an access log.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use Encode ();
use MIME::Base64 qw(encode_base64);

my $mock = port('MOCK_1');

sub target {
    my ($name, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai',
        'AIModelOptionsUpstreamUrl "http://127.0.0.1:${MOCK_1_PORT}/v1/chat/completions"', @lines, "</AITarget>\n";
}

my @statistics = ('AILoggingLogStatistics On');
my @payloads   = ('AIModelName m', @statistics, 'AILoggingLogPayloads On');
my $semantic   = "AIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider openai\nAIEmbeddingsModelName text-embedding-3-small\n"
    . "AIEmbeddingsModelOptionsUpstreamUrl \"http://127.0.0.1:\${MOCK_EMBED_PORT}/v1/embeddings\"\nAIVectordbDimensions 256\nAIVectordbThreshold 0.5\n";
my @items = qw(target model response_model provider prompt_tokens completion_tokens total_tokens cached_tokens reasoning_tokens estimated cost error_type
    outcome status trace_id);
my @env = qw(AI_TARGET AI_ROUTE AI_REASON AI_PROVIDER AI_MODEL AI_RESPONSE_MODEL AI_PROMPT_TOKENS AI_COMPLETION_TOKENS AI_TOTAL_TOKENS AI_COST AI_ATTEMPTS
    AI_CACHE AI_DISTANCE AI_TRACE_ID);
my %place = (
    plain => target('plain', @statistics, 'AIModelOptionsInputCost 1.0', 'AIModelOptionsOutputCost 2.0'),
    streams => target('streams', @statistics, 'AIModelName m'),
    off => target('off'),
    denied => "AIAclsDeny path=/denied\n" . target('denied', @statistics),
    one_of_two => "AIAclsDeny path=/one_of_two\n" . target('quiet') . target('loud', @statistics),
    no_route => $semantic . target('near', @statistics, 'AIModelName m', 'AIDescription "axis:0 1"'),
    sticky => $semantic . "AIRouteCache auto\nAIRouteSticky header X-Session\n" . target('zero', @statistics, 'AIModelName m', 'AIDescription "axis:0 1"')
        . target('one', @statistics, 'AIModelName m', 'AIDescription "axis:1 1"'),
    dry => $semantic . "AIExplain body\n" . target('d', @statistics, 'AIModelName m', 'AIDescription "axis:0 1"'),
    payloads => target('payloads', @payloads),
    cut => "AILogPayloadMaxBytes 100\n" . target('cut', @payloads),
    whole => "AILogPayloadMaxBytes 0\nAIMaxRequestBodySize 0\n" . target('whole', @payloads),
    redact => "AILogRedact \"sk-[a-z0-9]{6}\"\nAILogRedact \"[a-z.]+\@[a-z.]+\" \"<mail>\"\nAILogRedact caf\x{c3}\x{a9} tea\n" . target('redact', @payloads),
    redact_cut => "AILogPayloadMaxBytes 100\nAILogRedact \"sk-[a-z0-9]{20}\" XX\n" . target('redact_cut', @payloads),
    runaway => "AILogRedact \"(x+x+)+[yz]\"\n" . target('runaway', @payloads),
    credential => target('credential', @payloads, 'AIAuthParamLocation body', 'AIAuthParamName api_key', 'AIAuthParamValue not-for-logs'),
);
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nStartServers 1\nAIStatisticsLog statistics_log\nAIBalancerReadTimeout 1000\nAIRouteCache none\n"
    . 'LogFormat "' . join('|', (map {"%{$_}^AI"} @items), (map {"%{$_}e"} @env)) . '" all' . "\nCustomLog all_log all\n"
    . "LogFormat \"%{total_ms}^AI %{upstream_us}^AI %{overhead_us}^AI %{ttft_us}^AI %{tpot_us}^AI %{AI_TTFT_MS}e\" times\nCustomLog times_log times\n"
    . "CustomLog of_targets_log \"%U %{AI_TARGET}e\" env=AI_TARGET\n"
    . "CustomLog expensive_log \"%{AI_MODEL}e\" \"expr=%{reqenv:AI_TOTAL_TOKENS} -gt 30\"\n"
    . "<Location /status>\nSetHandler server-status\n</Location>\n"
    . join '', map {"<Location /$_>\nAIProxy On\n$place{$_}</Location>\n"} sort keys %place);
my $log = "$h->{dir}/statistics_log";

sub logged { return -e $log ? map { from_json($_) } split /\n/, slurp($log) : () }

# The new line of a file, after a request.
sub new_line {
    my ($file, $code) = @_;
    my $from = -s $file // 0;
    $code->();
    return wait_until("a line in $file", sub { my $text = -e $file ? slurp($file, $from) : ''; $text =~ /\n\z/ && $text });
}

sub ask { my ($path, $body, @headers) = @_; return client(port => port('SPARE_1'))->post($path, $body, @headers) }

sub line_of {
    my ($path, $body, $do, @headers) = @_;
    my $r;
    mock_reset();
    mock_behave({port => $mock, times => -1, do => $do}) if $do;
    my $line = new_line($log, sub { $r = ask("/$path", $body, @headers) });
    is(($line =~ tr/\n//), 1, "$path: one line");
    return (from_json($line), $r);
}

# ---- beside Kong's keys ----
my $usage = {prompt_tokens => 25, completion_tokens => 12, total_tokens => 37, prompt_tokens_details => {cached_tokens => 20}, completion_tokens_details => {reasoning_tokens => 3}};
my ($line) = line_of('plain', chat('x', model => 'asked'), {usage => $usage, model => 'answered', delay_ms => 50});
is_deeply([@$line{qw(server pool client_model error_type)}], ['127.0.0.1', '/plain', 'asked', undef], 'server, pool, model asked for, no error');
like(slurp($log), qr/"cost":0\.000049[,}]/, 'the cost is spelled as a decimal');
my $latency = $line->{ai}{proxy}{latency};
cmp_ok($latency->{upstream_ms}, '>=', 50, 'latency: of the target');
cmp_ok($latency->{total_ms}, '>=', $latency->{upstream_ms} + $latency->{overhead_ms}, 'latency: the whole is no less than its parts');
is_deeply([@$latency{qw(embedding_ms search_ms time_to_first_token_ms time_per_output_token_ms)}], [undef, undef, undef, undef], 'latency: what there was not');
($line) = line_of('streams', chat('x', stream => \1), {usage => $usage, stream => {auto => 4, interval_ms => 30}});
$latency = $line->{ai}{proxy}{latency};
cmp_ok(abs(($latency->{total_ms} - $latency->{time_to_first_token_ms}) / 11 - $latency->{time_per_output_token_ms}), '<', 0.01, 'latency: per output token of a stream');
($line) = line_of('plain', chat('x'), {status => 429});
is("$line->{status} $line->{error_type}", '429 429', 'error_type: a status of the target');
($line) = line_of('plain', chat('x'), {drop_before_head => \1});
is_deeply([@$line{qw(status error_type)}], [502, 'upstream_unreachable'], 'error_type: no answer');

# ---- no target ----
for (
    ['plain', '{', 400, 'plain'], ['plain', '{}', 415, 'plain', 'Content-Type' => 'text/plain'], ['denied', chat('x'), 403, 'denied'],
    ['one_of_two', chat('x'), 403, 'a gateway of which some targets want lines'], ['no_route', chat('axis:0 0.1'), 503, 'nothing near']
) {
    my ($path, $body, $status, $what, @headers) = @$_;
    ($line) = line_of($path, $body, undef, @headers);
    is($line->{status}, $status, "no target, $what: status");
    ok($line->{error_type}, "no target, $what: $line->{error_type}");
    my $proxy = $line->{ai}{proxy};
    is_deeply([$proxy->{meta}{target}, $proxy->{tried_targets}, $proxy->{usage}], [undef, [], {cost => 0, time_per_token => 0}], "no target, $what: told as such");
}
is_deeply([@{$line->{ai}{proxy}{semantic}}{qw(route nearest threshold cached sticky)}], [undef, 'axis:0 1', 0.5, JSON::PP::false, JSON::PP::false], 'nothing near: what was');
my $before = logged();
is(ask('/off', '{')->{status}, 400, 'refused where no target wants lines');
is(ask('/dry/_route', chat('axis:0 0.9'))->{status}, 200, 'a dry run');
line_of('plain', chat('x'));
is(scalar(my @all = logged()), $before + 1, 'neither has a line');

# ---- sessions and cache ----
line_of('sticky', chat('axis:0 0.9'), undef, 'X-Session' => 's');
($line) = line_of('sticky', chat('axis:0 0.9'), undef, 'X-Session' => 't');
is_deeply([@{$line->{ai}{proxy}{semantic}}{qw(reason cached sticky)}], ['match', JSON::PP::true, JSON::PP::false], 'from the cache');
($line) = line_of('sticky', chat('axis:1 0.3 axis:0 0.2'), undef, 'X-Session' => 's');
my $decision = $line->{ai}{proxy}{semantic};
is_deeply([@$decision{qw(reason cached sticky)}], ['sticky', JSON::PP::false, JSON::PP::true], 'the session decided');
is($decision->{without_session}{route}, undef, 'and the distances would not have');

# ---- what others choose ----
my $evil = "x\",\"status\":1}\r\n{\"time\":\"\x{2028}\x{85}\x7f";
my ($model, $long) = ("answered$evil", 'm' x 3000);
($line) = line_of('plain', chat('x', model => $evil), {model => $model});
is($line->{client_model}, $evil, 'a model with quotes and line ends: as it is');
is_deeply([@{$line->{ai}{proxy}{meta}}{qw(request_model response_model)}], [$evil, $model], 'also that of the answer');
unlike((split /^/, slurp($log))[-1], qr/[\0-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]/, 'and nothing in the line that moves a reader');
($line) = line_of('plain', chat('x', model => $long), {model => "$long$long"});
is_deeply([map {length} $line->{client_model}, @{$line->{ai}{proxy}{meta}}{qw(request_model response_model)}], [1024, 1024, 1024], 'long ones are cut');
my $body = qq({"model":"\xff\xfe","choices":[]});
($line) = line_of('plain', chat('x'), {raw_base64 => encode_base64("HTTP/1.1 200 OK\r\nContent-Length: ${\length $body}\r\n\r\n$body", '')});
is($line->{ai}{proxy}{meta}{response_model}, 'any', 'a model that is no UTF-8 is none');
($line) = line_of('plain/%22%7d%0a%ff' . 'p' x 2000, chat('x'));
like($line->{path}, qr/\A\/plain\/"\}\n\x{fffd}p+\z/, 'a path with quote, line end and no UTF-8');
cmp_ok(length(Encode::encode('UTF-8', $line->{path})), '<=', 1024, 'is cut');

# ---- payloads ----
sub payload { my ($l) = line_of(@_); return $l->{ai}{proxy}{payload} }
my $payload = payload('payloads', chat('x' x 70_000), {body_size => 200_000});
is_deeply([map { length $payload->{$_} } qw(request response)], [65536, 65536], 'payloads: at most 64 KiB');
is_deeply([@$payload{qw(request_truncated response_truncated)}], [JSON::PP::true, JSON::PP::true], 'which is said');
$payload = payload('cut', {messages => [{role => 'user', content => "\x{20ac}" x 50}]}, {content => "\x{1f600}" x 50});
cmp_ok(length Encode::encode('UTF-8', $payload->{$_}), '<=', 100, "cut $_: its length") for qw(request response);
cmp_ok(length Encode::encode('UTF-8', $payload->{$_}), '>', 96, "cut $_: between characters") for qw(request response);
unlike($payload->{$_}, qr/\x{fffd}/, "cut $_: no character is split") for qw(request response);
my $raw = qq({"id":"caf\xe9 \xff"});
$payload = payload('payloads', chat('x'), {raw_base64 => encode_base64("HTTP/1.1 200 OK\r\nContent-Length: ${\length $raw}\r\n\r\n$raw", '')});
is($payload->{response}, qq({"id":"caf\x{fffd} \x{fffd}"}), 'payloads: what is no UTF-8 is replaced, the rest stays');
$payload = payload('whole', chat('x' x 300_000), {body_size => 200_000});
is_deeply([length $payload->{response}, exists $payload->{request_truncated}, index($payload->{request}, "x" x 300_000) > 0], [200_000, "", 1], 'AILogPayloadMaxBytes 0: as long as they are');
$payload = payload('redact', qq({"model":"m","messages":[{"role":"user","content":"sk-abc123 a\@b.de, \\u0073k-abc123, caf\\u00e9 and caf\x{c3}\x{a9}, \\"x\@y.z\\" \\n"}]}));
is($payload->{request}, qq({"model":"m","messages":[{"role":"user","content":"[REDACTED] <mail>, [REDACTED], tea and tea, \\"<mail>\\" \\n"}]}), 'redacted, also behind escapes');
$payload = payload('redact', chat('x'), {content => 'sk-abc123'});
like($payload->{response}, qr/"\[REDACTED\]"/, 'redacted in the response');
$payload = payload('redact', chat('x', stream => \1), {stream => {events => ['{"choices":[{"delta":{"content":"key sk-a"}}]}', '{"choices":[{"delta":{"content":"bc123."}}]}']}});
like($payload->{response}, qr/"key \[REDACTED\]\."/, 'redacted across the pieces of a stream');
for my $spelling ('sk-' . 'a' x 20, '\\u0073k-' . 'a' x 20) {
    for my $lead (80 - length $spelling .. 96 - length $spelling) { # what surrounds it has 58 bytes
        my $text = qq({"model":"m","messages":[{"role":"user","content":") . 'b' x ($lead - 30) . "$spelling\"}]}";
        mock_reset();
        my ($request) = new_line($log, sub { ask('/redact_cut', $text) }) =~ /"payload":\{"request":"(.*?)","re/;
        $request =~ /sk-|k-a|aaaa/ ? fail("cut around a secret: $request") : pass('what the cut falls into is redacted all the same');
    }
}
$payload = payload('runaway', chat('x' x 40));
is_deeply([@$payload{qw(request request_truncated)}], ['[REDACTED]', JSON::PP::true], 'a pattern without an end: nothing of the text is logged');
ok($h->log =~ /AIP0313/, 'which the error log says');
$payload = payload('credential', chat('x'), {echo => \1});
like($payload->{request}, qr/"api_key":"\*\*\*"|^(?!.*not-for-logs)/, 'the credential of the gateway is not in the request');
unlike($payload->{request}, qr/not-for-logs/, 'not at all');

# ---- streams put together ----
my @chunks = (
    '{"model":"s","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"Hm"}},{"index":1,"delta":{"content":"two "}}]}',
    '{"choices":[{"index":0,"delta":{"reasoning_content":"m\\n","content":"one"}},{"index":1,"delta":{"content":"\\u0032"},"finish_reason":"length"}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":"{\\"a\\""}},{"index":1,"id":"c2","function":{"name":"g","arguments":""}}]}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"finish_reason":"tool_calls"}]}',
);
$payload = payload('payloads', chat('x', stream => \1), {stream => {events => \@chunks}});
is_deeply(
    from_json($payload->{response}),
    {
        object => 'chat.completion', model => 's', choices => [
            {index => 0, finish_reason => 'tool_calls', message => {
                role => 'assistant', content => 'one', reasoning_content => "Hmm\n", tool_calls => [
                    {id => 'c1', type => 'function', function => {name => 'f', arguments => '{"a":1}'}},
                    {id => 'c2', type => 'function', function => {name => 'g', arguments => ''}},
                ]
            }},
            {index => 1, finish_reason => 'length', message => {role => 'assistant', content => 'two 2'}},
        ]
    },
    'a stream: all choices, reasoning, tool calls'
);

# ---- the access log ----
sub access {
    my ($file, @ask) = @_;
    return split /\|/, new_line("$h->{dir}/$file", sub { line_of(@ask) }) =~ s/\n\z//r, -1;
}

sub fields { my (@values) = access('all_log', @_); my %got; @got{@items, @env} = @values; return \%got }

my $got = fields('plain', chat('x', model => 'asked'), {usage => $usage, model => 'answered'});
is_deeply(
    {map { $_ => $got->{$_} } @items},
    {
        target => 'plain', model => 'asked', response_model => 'answered', provider => 'openai', prompt_tokens => 25, completion_tokens => 12, total_tokens => 37,
        cached_tokens => 20, reasoning_tokens => 3, estimated => '-', cost => '0.000049', error_type => '-', outcome => 'ok', status => 200, trace_id => $got->{AI_TRACE_ID}
    },
    'items of a LogFormat'
);
delete $got->{AI_TRACE_ID};
is_deeply(
    {map { $_ => $got->{$_} } grep { $_ ne 'AI_TRACE_ID' } @env},
    {
        AI_TARGET => 'plain', AI_ROUTE => '-', AI_REASON => '-', AI_PROVIDER => 'openai', AI_MODEL => 'asked', AI_RESPONSE_MODEL => 'answered', AI_PROMPT_TOKENS => 25,
        AI_COMPLETION_TOKENS => 12, AI_TOTAL_TOKENS => 37, AI_COST => '0.000049', AI_ATTEMPTS => 1, AI_CACHE => '-', AI_DISTANCE => '-'
    },
    'the environment'
);
$got = fields('no_route', chat('axis:0 0.8'));
is_deeply([@$got{qw(AI_ROUTE AI_REASON AI_CACHE AI_DISTANCE)}], ['axis:0 1', 'match', 'off', '0.2000'], 'the environment: a decision');
$got = fields('plain', chat('x'), {status => 503});
is_deeply([@$got{qw(status error_type AI_COST)}], [503, 503, '-'], 'a failure');
$got = fields('plain', chat('x', model => "m\"\r\nforged \\|"), {});
unlike(slurp("$h->{dir}/all_log"), qr/^forged/m, 'a model cannot begin a line');
like((split /^/, slurp("$h->{dir}/all_log"))[-1], qr/m\\"\\r\\nforged \\\\\|.*\|m___forged _\|/, 'it is escaped, and cleaned in the environment');
my ($times) = access('times_log', 'streams', chat('x', stream => \1), {usage => $usage, stream => {auto => 4, interval_ms => 30}});
my ($total, $upstream, $overhead, $ttft, $tpot, $ttft_ms) = split / /, $times;
cmp_ok($total, '>=', 90, 'total_ms');
cmp_ok($upstream, '>=', 90_000, 'upstream_us');
cmp_ok($overhead, '<', 90_000, 'overhead_us');
cmp_ok($ttft, '<', $upstream, 'ttft_us');
is($ttft_ms, int($ttft / 1000), 'AI_TTFT_MS');
cmp_ok($tpot, '>', 0, 'tpot_us');
client(port => port('SPARE_1'))->get('/status');
is(ask('/plain', '{')->{status}, 400, 'refused before a target');
line_of('plain', chat('last'));
my @of_targets = split /\n/, slurp("$h->{dir}/of_targets_log");
is_deeply([grep { !/^\/\S* \w+$/s } grep { !/plain\// } @of_targets], [], 'CustomLog env=AI_TARGET: requests that reached a target, and no others');
is($of_targets[-1], '/plain plain', 'such as the last one');
line_of('plain', chat('x', model => "of-$_"), {usage => {prompt_tokens => $_ - 1, completion_tokens => 1}}) for 30, 31;
is_deeply([grep {/^of-/} split /\n/, slurp("$h->{dir}/expensive_log")], ['of-31'], 'CustomLog expr=: by tokens');

# ---- the schema ----
like(statistics_faults($log), qr/\A[1-9]\d* lines\n\z/, 'every line is as the schema says');
my ($good) = grep {/"semantic"/ && /"payload"|"tried_targets":\[\{/} split /^/, slurp($log);
for (
    ['at the top', sub { s/\A\{/{"new":1,/r }], ['in a part', sub { s/"usage":\{/"usage":{"new":1,/r }], ['in an attempt', sub { s/"tried_targets":\[\{/"tried_targets":[{"new":1,/r }],
    ['in semantic', sub { s/"semantic":\{/"semantic":{"new":1,/r }], ['that comes twice', sub { s/"status":/"status":200,"status":/r }],
    ['of another type', sub { s/"cost":/"cost":"x","cost":/r }], ['in another place', sub { s/\A\{("time":"[^"]*"),("started_at":\d+)/{$2,$1/r }],
    ['too long', sub { s/"path":"/"path":"@{['x' x 1024]}/r }], ['that is missing', sub { s/"pool":"[^"]*",//r }]
) {
    my ($what, $change) = @$_;
    local $_ = $good;
    AIPTest::Setup::write_file("$h->{dir}/bad_log", $change->());
    like(statistics_faults("$h->{dir}/bad_log"), qr/^line 1: /m, "the check finds a key $what");
}
$h->stop;
is_deeply([$h->unexpected(qw(AIP0021 AIP0022 AIP0043 AIP0313))], [], 'nothing unexpected in the log');
mock_reset();
finish();
