#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Health of targets against a server of several children: breaker, pauses, draining, deadlines, clients that leave.
use strict;
use warnings FATAL => 'all';
use POSIX qw(strftime);
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my ($first, $second) = map { port("MOCK_$_") } 1, 2;

sub target {
    my ($name, $mock, $weight) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\nAIWeight $weight\nAILoggingLogStatistics On\n"
        . "AIModelOptionsUpstreamUrl \"http://127.0.0.1:\${${mock}_PORT}/$name\"\n</AITarget>\n";
}

# Two targets: the first one is tried first.
sub gateway { my ($path, $lines, @targets) = @_; return "<Location /$path>\nAIProxy On\n$lines" . join('', @targets ? @targets : (target('one', 'MOCK_1', 65535), target('two', 'MOCK_2', 1))) . "</Location>\n" }

my $breaker = "AIBalancerMaxFails 2\nAIBalancerFailTimeout 600\nAIBalancerFailoverCriteria error http_403 http_503 non_idempotent\n";
my $log  = "$AIPTest::Setup::t/logs/health_log";
my $conf = 'Listen 127.0.0.1:${SPARE_2_PORT}' . "\n"
    . (mpm() eq 'prefork' ? "StartServers 12\nMinSpareServers 12\nServerLimit 24\nMaxRequestWorkers 24\n"
    : "StartServers 2\nServerLimit 2\nThreadsPerChild 16\nMaxRequestWorkers 32\nMinSpareThreads 1\nMaxSpareThreads 32\n")
    . (have_http2() ? "Protocols h2c http/1.1\n" : '')
    . "AIStatisticsLog \"$log\"\nAIBalancerReadTimeout 3000\n<Location /status>\nSetHandler ai-status\n</Location>\n"
    . "<Location /guarded>\nSetHandler ai-status\nRequire all denied\n</Location>\n"
    . gateway('breaker', $breaker) . gateway('breaker-403', $breaker) . gateway('breaker-total', $breaker) . gateway('breaker-all', $breaker)
    . gateway('breaker-probe', $breaker) . gateway('breaker-gone', $breaker)
    . join('', map { gateway("pause-$_", $_ eq 'off' ? "AIBalancerCooldownMax 0\n" : "AIBalancerCooldownMax 1500\n") } qw(seconds date ms limit quota cap off))
    . gateway('pause-both', "AIBalancerFailoverCriteria http_429\n")
    . gateway('alone', '', target('one', 'MOCK_1', 1))
    . gateway('drain', '') . gateway('twin', '')
    . gateway('first-byte', "AITimeoutFirstByte 200\nAIBalancerFailoverCriteria timeout non_idempotent\n")
    . gateway('idle', "AITimeoutIdle 250\n")
    . gateway('total', "AITimeoutTotal 600\nAIBalancerFailoverCriteria timeout error http_503 non_idempotent\nAITimeoutFirstByte 400\n");
my $h = start_httpd($conf);
my $from = 0;

sub ask { my ($path, $body) = @_; return client(port => port('SPARE_2'))->post("/$path", $body // chat('hello')) }
sub by { my $r = ask(@_); return $r->{body} =~ /"model": ?"([^"]+)"/ ? $1 : $r->{status} }
sub behave { mock_reset(); mock_behave(@_); return }
sub status { return client(port => port('SPARE_2'))->get('/status') }

sub state_of {
    my ($path, $name) = @_;
    my ($gateway) = grep { $_->{path} eq "/$path" } @{status()->json->{gateways}};
    return (grep { $_->{name} eq $name } @{$gateway->{targets}})[0];
}

sub asked { return scalar(() = mock_requests(port => $first)) }
sub took { my $begin = time; my $r = ask(@_); return (time - $begin, $r) }

# ---- breaker ----
behave({port => $first, times => -1, do => {status => 503}});
is(join(' ', map { by('breaker') } 1 .. 6), join(' ', ('two') x 6), 'breaker: the other target answers');
is(asked(), 2, 'breaker: after two failures it is asked no more, by any child');
is(state_of('breaker', 'one')->{availability}, 'ejected', 'breaker: status');
cmp_ok(state_of('breaker', 'one')->{back_in_ms}, '<=', 600, 'breaker: and when it is back');
select undef, undef, undef, 0.65;
is(by('breaker'), 'two', 'breaker: the probe fails');
is(asked(), 3, 'breaker: it was one request');
is(by('breaker'), 'two', 'breaker: ejected again');
is(asked(), 3, 'breaker: for all');
mock_reset();
select undef, undef, undef, 0.65;
is(by('breaker'), 'one', 'breaker: a probe that succeeds');
is(state_of('breaker', 'one')->{availability}, 'available', 'breaker: closes it');
is(state_of('breaker', 'one')->{fails}, 0, 'breaker: and forgets the failures');

behave({port => $first, times => 1, do => {status => 503}});
by('breaker-total') for 1 .. 3;
mock_behave({port => $first, times => 1, do => {drop_before_head => $true}});
by('breaker-total');
is(state_of('breaker-total', 'one')->{availability}, 'ejected', 'breaker: failures count in total, not in a row');
behave({port => $first, times => -1, do => {status => 403}});
by('breaker-403') for 1 .. 4;
is(asked(), 4, 'breaker: 403 moves on, and never counts');
behave({port => $first, times => -1, do => {status => 503}}, {port => $second, times => -1, do => {status => 503}});
ask('breaker-all') for 1 .. 2;
is(state_of('breaker-all', $_)->{availability}, 'ejected', "breaker: $_ is ejected") for qw(one two);
mock_reset();
is(by('breaker-all'), 'one', 'breaker: when all are ejected they are a last resort');
is(state_of('breaker-all', 'one')->{availability}, 'available', 'breaker: which closes it');

# of many requests exactly one probes
behave({port => $first, times => 2, do => {status => 503}});
by('breaker-probe') for 1 .. 2;
select undef, undef, undef, 0.65;
behave({port => $first, times => -1, do => {delay_ms => 700}});
my @clients = map { my $c = client(port => port('SPARE_2')); $c->send_request('POST', '/breaker-probe', chat('hello')); $c } 1 .. 10;
is(join(' ', sort map { $_->answer->json->{model} } @clients), join(' ', 'one', ('two') x 9), 'breaker: half-open, one of ten probes');
is(asked(), 1, 'breaker: one request');
mock_reset();

# a client that leaves blames nobody
behave({port => $first, times => -1, do => {hang => $true}});
for (1 .. 3) {
    my $c = client(port => port('SPARE_2'));
    $c->send_request('POST', '/breaker-gone', chat('hello'));
    mock_wait('request', count => $_, port => $first);
    $c->close;
}
wait_until('nothing in flight', sub { !state_of('breaker-gone', 'one')->{in_flight} });
is(state_of('breaker-gone', 'one')->{fails}, 0, 'a client that leaves: the target is not blamed');
mock_reset();

# ---- pauses ----
sub date { return strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + $_[0])) }
my %pause = (
    seconds => [[['Retry-After', '1']], 500, 1000],
    date    => [[['Retry-After', date(8)]], 1000, 1500],
    ms      => [[['retry-after-ms', '700'], ['Retry-After', '1']], 300, 700],
    limit   => [[['x-ratelimit-remaining-requests', '0'], ['x-ratelimit-reset-requests', '1s'], ['x-ratelimit-remaining-tokens', '5'],
            ['x-ratelimit-reset-tokens', '6m0s']], 500, 1000],
    quota   => [[], 1000, 1500, '{"error":{"message":"none left","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}'],
    cap     => [[['Retry-After', '3600']], 1000, 1500],
);
for my $how (sort keys %pause) {
    my ($headers, $low, $high, $body) = @{$pause{$how}};
    behave({port => $first, times => 1, do => {status => 429, headers => $headers, $body ? (body => $body, content_type => 'application/json') : ()}});
    my $r = ask("pause-$how");
    is($r->{status}, 429, "pause, $how: the answer is passed on, the criterion is not listed");
    my $s = state_of("pause-$how", 'one');
    is($s->{availability}, 'cooling', "pause, $how: the target is cooling");
    cmp_ok($s->{back_in_ms}, '<=', $high, "pause, $how: not longer than asked and allowed");
    cmp_ok($s->{back_in_ms}, '>', $low, "pause, $how: nor shorter");
    is(by("pause-$how"), 'two', "pause, $how: the other one takes its requests");
    is(asked(), 1, "pause, $how: it is left alone");
}
wait_until('the pauses are over', sub { state_of('pause-ms', 'one')->{availability} eq 'available' });
is(by('pause-ms'), 'one', 'pause: afterwards it is asked again');
behave({port => $first, times => 1, do => {status => 429, headers => [['Retry-After', '9']]}});
ask('pause-off');
is(by('pause-off'), 'one', 'pause: AIBalancerCooldownMax 0');
behave(map { {port => $_, times => -1, do => {status => 429, headers => [['Retry-After', '7']]}} } $first, $second);
my $r = ask('pause-both');
is("$r->{status} " . $r->header('Retry-After'), '429 7', 'pause: the last answer when all ask for one');
mock_reset();
$r = ask('pause-both');
is($r->{status}, 503, 'pause: all are cooling');
is($r->error->{code}, 'targets_cooling_down', 'pause: all are cooling: code');
like($r->header('Retry-After'), qr/^[67]$/, 'pause: all are cooling: Retry-After');
is(scalar(() = mock_requests()), 0, 'pause: nobody is asked');
behave({port => $first, times => 1, do => {status => 429, headers => [['Retry-After', '7']]}});
ask('alone');
is(by('alone'), 'one', 'pause: the only target is asked all the same');

# ---- draining ----
sub order { my ($json, @headers) = @_; return client(port => port('SPARE_2'))->post('/status', $json, @headers) }
$r = order({target => 'one', path => '/drain', action => 'drain'});
is($r->{status}, 200, 'drain: done');
is($r->json->{availability}, 'drained', 'drain: the answer tells the state');
is(by('drain'), 'two', 'drain: the other target takes its requests') for 1 .. 4;
is(by('twin'), 'one', 'drain: the gateway beside it is not touched');
order({target => 'two', path => '/drain', action => 'drain'});
$r = ask('drain');
is("$r->{status} " . $r->error->{code} . ' ' . $r->header('x-should-retry'), '503 targets_drained false', 'drain: nobody is left');
is(order({target => $_, path => '/drain', action => 'resume'})->{status}, 200, "resume $_") for qw(one two);
is(by('drain'), 'one', 'resume: back in service');
is(order({target => 'one', action => 'drain'})->{status}, 409, 'an ambiguous order');
is(order({target => 'nobody', action => 'drain'})->{status}, 404, 'an unknown target');
is(order($_)->{status}, 400, 'a bad order') for '{', '[]', {target => 'one'}, {target => 'one', action => 'explode'}, '{"target":1,"action":"drain"}', 'x' x 10_000;
is(order('target=one&action=drain', 'Content-Type' => 'application/x-www-form-urlencoded')->{status}, 403, 'an order as a form without a token');
my $c = client(port => port('SPARE_2'));
$c->send_request('DELETE', '/status');
$r = $c->answer;
is($r->{status} . ' ' . $r->header('Allow'), '405 GET, POST', 'another method');
is(client(port => port('SPARE_2'))->get('/guarded')->{status}, 403, 'the authorization of the location holds');
is(status()->header('Cache-Control'), 'no-store', 'status is not cached');
unlike(status()->{body}, qr/hello/, 'and has no prompt');

# ---- deadlines ----
behave({port => $first, times => -1, do => {hang => $true}});
my $s;
($s, $r) = took('first-byte');
is($r->json->{model}, 'two', 'first byte: the next target');
cmp_ok($s, '<', 0.6, 'first byte: in time');
behave({port => $first, times => -1, do => {delay_ms => 0, head_delay_ms => 400}});
is((took('first-byte'))[1]->json->{model}, 'one', 'first byte: the rest may take longer');
behave({port => $first, times => -1, do => {stream => {auto => 5, interval_ms => 2000}}});
($s, $r) = took('idle', chat('hello', stream => $true));
is(from_json((stream_events($r->{body}))[-1])->{error}{code}, 'idle-timeout', 'idle: ends with an error event') if $r->{status} == 200;
is($r->error->{code}, 'upstream_timeout', 'idle: before the first content') if $r->{status} != 200;
cmp_ok($s, '<', 1, 'idle: in time');
behave({port => $first, times => -1, do => {stream => {events => ['{"choices":[{"index":0,"delta":{"content":"a"}}]}', {raw => 'data: ' . 'x' x 200}],
        interval_ms => 100, sse_end => 'none'}, trickle => {bytes => 1, interval_ms => 20}}});
($s, $r) = took('idle', chat('hello', stream => $true));
cmp_ok($s, '<', 3, 'idle: bytes that complete no event do not help');
behave({port => $first, times => -1, do => {hang => $true}}, {port => $second, times => -1, do => {hang => $true}});
($s, $r) = took('total');
is("$r->{status} " . $r->error->{code}, '504 upstream_timeout', 'total: 504');
cmp_ok($s, '<', 1, 'total: in time');
cmp_ok($s, '>', 0.55, 'total: but not before');
behave({port => $first, times => -1, do => {hang => $true}}, {port => $second, times => -1, do => {stream => {auto => 50, interval_ms => 100}}});
($s, $r) = took('total', chat('hello', stream => $true));
cmp_ok($s, '<', 1, 'total: a stream ends, too');
is(from_json((stream_events($r->{body}))[-1])->{error}{code}, 'total-timeout', 'total: with an error event');
mock_reset();
behave({port => $second, times => 3, do => {delay_ms => 350}}, {port => $first, times => 3, do => {status => 503}});
ask('total') for 1 .. 2; # two answers in 350 ms
mock_reset();
behave({port => $first, times => 1, do => {status => 503, delay_ms => 390}});
($s, $r) = took('total');
is($r->{status}, 503, 'total: an attempt that would not end in time is not begun, the last answer is given');
is(scalar(() = mock_requests(port => $second)), 0, 'total: the other target was not asked');

# ---- clients that leave ----
sub leaves {
    my ($what, $do, $body, $connect) = @_;
    behave({port => $first, times => -1, do => $do});
    $from = -s $log // 0;
    my $c = $connect->($body);
    mock_wait('request', port => $first);
    select undef, undef, undef, 0.3;
    my $left = time;
    $c->();
    mock_wait('early_close', port => $first);
    cmp_ok(time - $left, '<', 0.15, "$what: the upstream connection is closed"); # 50 ms, and what the test takes
    my $line = wait_until('a statistics line', sub { my ($l) = grep {/\n\z/ && /breaker-gone/} split /(?<=\n)/, AIPTest::slurp($log, $from); $l && from_json($l) });
    is($line->{ai}{proxy}{cut}, 'client-gone', "$what: the log says so");
    is(state_of('breaker-gone', 'one')->{fails}, 0, "$what: nobody is blamed");
    return $line;
}
my $plain = sub { my ($body) = @_; my $c = client(port => port('SPARE_2')); $c->send_request('POST', '/breaker-gone', $body); return sub { $c->close } };
leaves('silent', {hang => $true}, chat('hello'), $plain);
my $usage = '{"choices":[{"index":0,"delta":{"content":"abc"}}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}';
my $line = leaves('streaming', {stream => {events => [($usage) x 100], interval_ms => 50}}, chat('hello', stream => $true), $plain);
is($line->{ai}{proxy}{usage}{total_tokens}, 7, 'streaming: the usage so far is logged');
mock_reset();

$h->stop;
is_deeply([$h->unexpected(qw(AIP0021 AIP0022 AIP0025 AH01630))], [], 'nothing unexpected in the log');
like($h->log, qr/AIP0025: target one: ejected for 600 ms after 2 failures; the last: withheld, status 503/, 'the log tells of an ejection');
like($h->log, qr/AIP0026: target one: back in service/, 'and of its end');
like($h->log, qr/AIP0027: target one: no requests for 1500 ms: it answered with status 429 and has no quota left/, 'and of pauses');
like($h->log, qr/AIP0053: target one of \/drain: drained by 127\.0\.0\.1/, 'and of orders');
finish();
