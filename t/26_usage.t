#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# What is counted of a request: usage in every spelling and none, streams with and without it, answers that break off,
# exact prices, and times that are those of the mock.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use Socket qw(PF_INET SOCK_STREAM SOL_SOCKET SO_RCVBUF inet_aton pack_sockaddr_in);
use Time::HiRes qw(sleep);

my $true  = JSON::PP::true;
my $mock  = port('MOCK_1');
my $lines = 0;

# The account of the last request, from the log.
my @names = qw(target prompt prompt_estimated completion completion_estimated cost total overhead upstream embedding search first_token per_token);
sub account { return account_in(log_wait('AIP0300', ++$lines)) }

sub account_in {
    my ($line) = @_;
    my %a;
    @a{@names} = $line =~ /AIP0300: target (\S+): (-?\d+)( \(estimated\))? prompt and (-?\d+)( \(estimated\))? completion tokens, cost (\d+) pico; us: total (\d+), overhead (\d+), upstream (\d+), embedding (-?\d+), search (-?\d+), first token (-?\d+), per token (-?\d+)/
        or die "no account: $line\n";
    $_ = $_ ? 1 : 0 for @a{qw(prompt_estimated completion_estimated)};
    return \%a;
}

sub behave {
    my ($do, %more) = @_;
    mock_reset();
    mock_behave({port => $mock, times => -1, do => $do, %more});
    return;
}

# One request; its account, and the answer.
sub ask {
    my ($path, $body, $do) = @_;
    behave($do) if $do;
    my $r = post("/usage/$path", $body);
    return (account(), $r);
}

# "PROMPT COMPLETION", a ~ before what is estimated.
sub tokens {
    my ($a) = @_;
    return join ' ', map { ($a->{"${_}_estimated"} ? '~' : '') . $a->{$_} } qw(prompt completion);
}

my $chat   = chat('12345678'); # two tokens, by their length
my $stream = {%$chat, stream => $true};
sub chunk { my ($delta, %more) = @_; return json({id => '1', model => 'm-1', choices => [{index => 0, delta => $delta}], %more}) }
my @text = (chunk({role => 'assistant', content => ''}), map { chunk({content => $_}) } '12345', '67890'); # three tokens
my $told = {prompt_tokens => 25, completion_tokens => 12, total_tokens => 37};

# ---- told, and not told ----
is(tokens((ask('plain', $chat, {usage => $told}))[0]), '25 12', 'usage is told');
is(tokens((ask('plain', $chat, {usage => undef, content => '1234567890'}))[0]), '~2 ~3', 'nothing is told');
is(tokens((ask('plain', $chat, {usage => {prompt_tokens => 25}, content => '1234567890'}))[0]), '25 ~3', 'the prompt is told');
is(tokens((ask('plain', $chat, {usage => {prompt_tokens => 25, total_tokens => 37}}))[0]), '25 12', 'prompt and total are told');
is(tokens((ask('payloads', $chat, {usage => undef, content => '1234567890'}))[0]), '~2 ~3', 'payloads alone: estimated, too');
is(tokens((ask('unread', $chat, {usage => $told}))[0]), '-1 -1', 'an answer that nobody reads');
for (
    ['null', 'null'], ['a string', '"none"'], ['a list', '[1]'], ['counts as strings', '{"prompt_tokens":"25","completion_tokens":"12"}'],
    ['negative counts', '{"prompt_tokens":-1,"completion_tokens":-5}'], ['fractions', '{"prompt_tokens":1.5,"completion_tokens":2.5}'],
    ['counts beyond all sense', '{"prompt_tokens":99999999999999999999,"completion_tokens":1e300,"total_tokens":9223372036854775807}'],
    ['counts twice', '{"prompt_tokens":1,"prompt_tokens":2,"completion_tokens":1,"completion_tokens":1}'],
    ['details that are none', '{"prompt_tokens_details":7,"completion_tokens_details":null,"cache_creation":"x"}'],
) {
    my ($what, $usage) = @$_;
    my $body = qq({"model":"m","choices":[{"message":{"role":"assistant","content":"1234567890"}}],"usage":$usage});
    my ($a, $r) = ask('plain', $chat, {body => $body});
    is($r->{body}, $body, "usage, $what: the answer passes as it is");
    is(tokens($a), '~2 ~3', "usage, $what: is not told");
}
my $image = 'data:image/png;base64,' . 'A' x 4000;
is(tokens((ask('plain', {messages => [{role => 'system', content => '1234'}, {role => 'user', content => [{type => 'text', text => '5678'},
    {type => 'image_url', image_url => {url => $image}}]}]}, {usage => undef}))[0]), '~2 ~6', 'the text of all messages, and no image');
my %reply = (
    'reasoning'                => [{content => '12345', reasoning_content => '67890'}, 3],
    'arguments of a tool call' => [{content => undef, tool_calls => [{id => 'c', type => 'function', function => {name => 'f', arguments => '{"a":1234}'}}]}, 3],
    'escapes'                  => [{content => "\n\n\n\n\"\"\"\""}, 2],
);
for my $what (sort keys %reply) {
    my ($message, $tokens) = @{$reply{$what}};
    is(tokens((ask('plain', $chat, {body => json({model => 'm', choices => [{message => {role => 'assistant', %$message}}]})}))[0]), "~2 ~$tokens", "text of $what");
    delete $message->{content} unless defined $message->{content};
    is(tokens((ask('plain', $stream, {stream => {events => [$text[0], chunk($message)]}}))[0]), "~2 ~$tokens", "text of $what, in a stream");
}

# ---- streams: asked for usage or not, told or not ----
sub sent { return from_json((mock_requests(port => $mock))[-1]{body})->{stream_options} }

my ($a, $r) = ask('plain', $stream, {usage => $told, stream => {auto => 3}});
is(tokens($a), '25 12', 'a stream: told');
is_deeply(sent(), {include_usage => $true}, 'for it was asked');
unlike($r->{body}, qr/"choices":\[\]/, 'its event is not for a client that did not ask');
($a, $r) = ask('plain', {%$stream, stream_options => {include_usage => $true}}, {usage => $told, stream => {auto => 3}});
is(tokens($a), '25 12', 'a client that asks: told');
like($r->{body}, qr/"choices":\[\].*"total_tokens":37/, 'and sees it');
($a, $r) = ask('off', $stream, {stream => {events => [@text]}});
is(sent(), undef, 'AILoggingStreamUsage Off: the target is not asked');
is(tokens($a), '~2 ~3', 'and its answer is estimated');
($a, $r) = ask('off', {%$stream, stream_options => {include_usage => $true}}, {usage => $told, stream => {auto => 3}});
is_deeply(sent(), {include_usage => $true}, 'a client may ask');
is(tokens($a), '25 12', 'and then it is told');
like($r->{body}, qr/"choices":\[\].*"total_tokens":37/, 'to the client, too');
my $last = chunk({content => '!'}, usage => $told);
($a, $r) = ask('off', $stream, {stream => {events => [@text, $last]}});
is(tokens($a), '25 12', 'usage that comes by itself is read');
is_deeply([stream_events($r->{body})], [@text, $last, '[DONE]'], 'and passes with the text that it comes with');
my @with_null = map { chunk({content => $_}, usage => undef) } 'a', 'b';
($a, $r) = ask('plain', $stream, {stream => {events => [@with_null, json({choices => [], usage => $told})]}});
is_deeply([stream_events($r->{body})], [@with_null, '[DONE]'], '"usage": null in each chunk passes, the event at the end does not');
is(tokens($a), '25 12', 'and counts');
my $unread = '{"choices":[{"index":0,"delta":{"content":"a\xb"}}],"usage":{"prompt_tokens":25,"completion_tokens":2}}';
($a, $r) = ask('plain', $stream, {stream => {events => [$unread, @text, $unread]}});
is_deeply([stream_events($r->{body})], [$unread, @text, $unread, '[DONE]'], 'a chunk of which the text cannot be read passes, with the usage in it');
for (
    ['in parts', [chunk({content => 'a'}, usage => {prompt_tokens => 25}), chunk({}, usage => {completion_tokens => 12})], '25 12'],
    ['again and again', [map { chunk({content => 'abcd'}, usage => {prompt_tokens => 25, completion_tokens => $_}) } 1 .. 12], '25 12'],
    ['then as null', [chunk({content => 'a'}, usage => $told), chunk({}, usage => undef)], '25 12'],
    ['then as nonsense', [chunk({content => 'a'}, usage => $told), chunk({}, usage => {prompt_tokens => -1, completion_tokens => 'x'})], '25 12'],
    ['before the text only', [chunk({}, usage => {prompt_tokens => 25, completion_tokens => 0, total_tokens => 25}), @text], '25 ~3'],
    ['never, two choices', [map { json({choices => [{index => $_, delta => {content => '12345'}}]}) } 0, 1], '~2 ~3'],
) {
    my ($what, $events, $want) = @$_;
    is(tokens((ask('plain', $stream, {stream => {events => $events}}))[0]), $want, "usage of a stream, $what");
}

# ---- what breaks off, and errors ----
for (
    ['a stream that is cut', {stream => {events => [@text], sse_end => 'cut'}}, '~2 ~3'],
    ['a stream that falls silent', {stream => {events => [chunk({content => '1234567890'}), $text[1]], interval_ms => 5000}}, '~2 ~3'],
    ['a stream that is cut after a first usage', {stream => {events => [chunk({}, usage => {prompt_tokens => 25, completion_tokens => 1, total_tokens => 26}), @text], sse_end => 'cut'}}, '25 ~4'],
    ['an error after text', {stream => {events => [@text, '{"error":{"message":"overloaded"}}']}}, '~2 ~3'],
    ['an error before text', {stream => {events => [$text[0], '{"error":{"message":"overloaded"}}']}}, '-1 -1'],
    ['an error before text, with usage', {stream => {events => [chunk({}, usage => $told), '{"error":{"message":"overloaded"}}']}}, '-1 -1'],
) {
    my ($what, $do, $want) = @$_;
    is(tokens((ask('plain', $stream, $do))[0]), $want, $what);
}
for (
    ['status 429', {status => 429, usage => $told}], ['status 400 with usage', {status => 400, body => json({usage => $told})}],
    ['an error with status 200', {body => json({error => {message => 'overloaded'}, usage => $told})}], ['no answer', {drop_before_head => $true}],
    ['a redirect', {status => 302, body => json({usage => $told, choices => []})}],
) {
    my ($what, $do) = @$_;
    is(tokens((ask('plain', $chat, $do))[0]), '-1 -1', "$what: nothing was used");
}
is(tokens((ask('plain', $chat, {body => '{"choices":[{"message":{"content":"1234' . 'x' x 100, cut_after_bytes => 60}))[0]), '~2 ~0', 'half a body: the prompt was used');

# A client that leaves in the middle of a stream.
behave({stream => {events => [@text, chunk({content => 'x' x 400})], interval_ms => 150}});
my $c = client();
$c->send_request('POST', '/usage/plain', $stream);
my $head = $c->head;
my $seen = '';
$seen .= $c->piece($head) while $seen !~ /67890/;
$c->close;
is(tokens(account()), '~2 ~3', 'a client that leaves: what it had seen');

# What was withheld has no part in it.
sub two {
    my ($do, $next, $body) = @_;
    mock_reset();
    mock_behave({port => $mock, times => -1, do => $do}, {port => port('MOCK_2'), times => -1, do => $next});
    my $got = post('/usage/two', $body // $chat);
    return account();
}
$a = two({status => 503, body => json({usage => {%$told, prompt_tokens => 1000}})}, {usage => $told});
is("$a->{target} " . tokens($a), 'second 25 12', 'an answer that was withheld');
$a = two({stream => {events => [chunk({}, usage => $told), '{"error":{"message":"overloaded"}}']}}, {stream => {events => \@text}}, $stream);
is("$a->{target} " . tokens($a), 'second ~2 ~3', 'a stream that was withheld, with usage in it');
$a = two({status => 503}, {body => '{"usage":{"prompt_tokens":1', content_type => 'application/json', cut_after_bytes => 20});
is("$a->{target} " . tokens($a) . " $a->{cost}", 'first -1 -1 0', 'the error of the first, after the second broke off');

# ---- prices ----
sub cost { my ($path, $usage, %more) = @_; return (ask($path, $chat, {body => json({model => 'm', choices => [], usage => $usage, %more})}))[0]{cost} }
is(cost('tenths', {prompt_tokens => 1_000_000, completion_tokens => 1_000_000}), 300_000_000_000, '0.1 and 0.2 are 0.3, exactly');
is(cost('tenths', {prompt_tokens => 3, completion_tokens => 0}), 300_000, 'three tokens');
is(cost('plain', $told), 0, 'no prices');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 200}), 4_000_000_000, 'the formula');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 0, prompt_tokens_details => {cached_tokens => 400}}), 1_400_000_000, 'cached tokens');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 0, prompt_cache_hit_tokens => 400}), 1_400_000_000, 'cached tokens as DeepSeek tells them');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 0, cache_creation_input_tokens => 100}), 2_200_000_000, 'tokens written to the cache');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 0, cache_creation_input_tokens => 300, cache_creation => {ephemeral_5m_input_tokens => 100, ephemeral_1h_input_tokens => 150}}),
    2_800_000_000, 'tokens written for five minutes and for an hour');
is(cost('priced', {prompt_tokens => 1001, completion_tokens => 200}), 7_004_000_000, 'a large context');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 200}, service_tier => 'FLEX'), 2_000_000_000, 'a cheap tier');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 200}, service_tier => 'fast'), 8_000_000_000, 'a fast one');
is(cost('priced', {prompt_tokens => 1000, completion_tokens => 200}, service_tier => 'flex' x 100), 4_000_000_000, 'a name that is no tier');
is((ask('priced', $stream, {stream => {events => [@text, json({choices => [], usage => {prompt_tokens => 1000, completion_tokens => 200}, service_tier => 'flex'})]}}))[0]{cost}, 2_000_000_000,
    'the tier of a stream');
is((ask('priced', $chat, {usage => undef, content => '1234567890'}))[0]{cost}, 34_000_000, 'an estimate has its price');

# The balancer goes by the same figures: one answer of the dear target is worth a hundred of the other.
mock_reset();
mock_behave(map { {port => port($_), times => -1, do => {usage => undef, content => '1234567890'}} } qw(MOCK_1 MOCK_2));
my %took;
for (1 .. 12) {
    post('/usage/usage', $chat);
    $took{account()->{target}}++;
}
is_deeply(\%took, {one => 1, other => 11}, 'lowest-usage by cost, of estimates');

# ---- times ----
my $ms = 1000;
sub between { my ($what, $value, $low, $high) = @_; ok($value >= $low * $ms && $value <= $high * $ms, "$what: $low to $high ms") or diag($value); return }

($a) = ask('plain', $chat, {delay_ms => 150});
between('a slow target, upstream', $a->{upstream}, 150, 400);
between('a slow target, total', $a->{total}, 150, 400);
between('a slow target, overhead', $a->{overhead}, 0, 100);
is("@$a{qw(embedding search first_token per_token)}", '-1 -1 -1 -1', 'what there was none of');

behave({delay_ms => 50});
$c = client();
my $body = json($chat);
$c->send_raw("POST /usage/plain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " . length($body) . "\r\n\r\n" . substr $body, 0, 10);
sleep 0.2; # the client is slow
$c->{method} = 'POST';
$c->send_raw(substr $body, 10);
is($c->answer->{status}, 200, 'a slow client is answered');
$a = account();
between('a slow client, total', $a->{total}, 200, 600);
between('a slow client, upstream', $a->{upstream}, 50, 300);
between('a slow client, overhead', $a->{overhead}, 0, 100);

# A client that takes its time to read what was held until it was whole.
my $h = start_httpd(<<'CONF');
Listen 127.0.0.1:${SPARE_1_PORT}
SendBufferSize 4096
LogLevel ai_proxy_adv:debug
<Location "/">
    AIProxy On
    <AITarget slow-reader>
        AIRouteType llm/v1/chat
        AIModelProvider openai
        AIModelOptionsUpstreamUrl "http://127.0.0.1:${MOCK_1_PORT}/v1/chat/completions"
        AILoggingLogStatistics On
    </AITarget>
</Location>
CONF
behave({body_size => 900_000});
$c = client(port => port('SPARE_1'));
close $c->{socket};
socket $c->{socket}, PF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
setsockopt $c->{socket}, SOL_SOCKET, SO_RCVBUF, 4096 or die "SO_RCVBUF: $!\n";
connect $c->{socket}, pack_sockaddr_in(port('SPARE_1'), inet_aton('127.0.0.1')) or die "connect: $!\n";
$c->send_request('POST', '/', $chat);
sleep 0.5;
is(length $c->answer->{body}, 900_000, 'a slow reader gets all of it');
$a = account_in(wait_until('the account', sub { $h->log =~ /(AIP0300.*)/ && $1 }));
between('a slow reader, total', $a->{total}, 350, 10_000);
between('a slow reader, upstream', $a->{upstream}, 0, 200);
between('a slow reader, overhead', $a->{overhead}, 0, 100);
$h->stop;

my @first = ({content => '12345678'}, {reasoning_content => '12345678'}, {tool_calls => [{index => 0, id => 'c', function => {name => 'f', arguments => '12345678'}}]});
for my $delta (@first) {
    my ($what) = keys %$delta;
    ($a) = ask('plain', $stream, {delay_ms => 40, stream => {events => [$text[0], chunk($delta), (chunk({content => '1234'})) x 2], interval_ms => 150}});
    between("first token, $what", $a->{first_token}, 190, 330); # the next one comes at 340
    between("first token, $what: total", $a->{total}, 490, 1500);
    is($a->{per_token}, int(($a->{total} - $a->{first_token}) / 3), "per token, $what: the rest of the time by the other tokens");
    between("first token, $what: overhead", $a->{overhead}, 0, 100);
}

$a = two({delay_ms => 100, status => 503}, {delay_ms => 80});
between('two attempts, upstream', $a->{upstream}, 180, 450);
between('two attempts, overhead', $a->{overhead}, 0, 100);

mock_reset();
mock_behave({port => port('MOCK_EMBED'), times => 1, do => {delay_ms => 120}});
my $text = 'axis:0 0.9 ' . time; # nothing that is in the cache
post('/usage/semantic', chat($text));
$a = account();
is($a->{target}, 'near', 'routed by meaning');
between('embedding', $a->{embedding}, 120, 350);
between('search', $a->{search}, 0, 100);
between('embedding, upstream', $a->{upstream}, 0, 100);
between('embedding, overhead', $a->{overhead}, 0, 100);
post('/usage/semantic', chat($text));
$a = account();
is("$a->{target} $a->{embedding} $a->{search}", 'near -1 -1', 'the second time neither is needed');

mock_reset();
finish('AIP0021', 'AIP0022');
