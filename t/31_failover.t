#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Failover: which outcomes move on to the next target and which must not, because the request may have been billed; what the
# next target receives; what the client gets when none is left.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my %name_of = map { port("MOCK_$_->[0]") => $_->[1] } [1, 'first'], [2, 'second'], [3, 'third'];

# Faults in front, then the answer and the names of the targets that received a request, in order.
sub ask {
    my ($path, $behaviours, $body) = @_;
    mock_reset();
    mock_behave(map { {port => port($_->[0]), times => $_->[2] // -1, do => $_->[1]} } @$behaviours) if @$behaviours;
    my $r = post("/faults/$path", $body // chat('hello'));
    my @tried = map { $name_of{$_->{port}} } sort { $a->{seq} <=> $b->{seq} } mock_requests();
    return ($r, "@tried");
}

sub moves_on {
    my ($path, $do, $what) = @_;
    my ($r, $tried) = ask($path, [['MOCK_1', $do]]);
    is($r->{status}, 200, "$what: answered");
    is($r->json->{model}, 'second', "$what: by the second target");
    is($tried, $do->{accept_close} ? 'second' : 'first second', "$what: each asked once");
    return;
}

sub stays {
    my ($path, $do, $status, $what) = @_;
    my ($r, $tried) = ask($path, [['MOCK_1', $do]]);
    is($r->{status}, $status, "$what: status");
    is($tried, 'first', "$what: no second target is asked");
    return;
}

# Before anything was sent every failure moves on, with the default criteria.
my ($r, $tried) = ask('dead-first', []);
is($r->json->{model}, 'alive', 'refused, black hole, unknown CA: the fourth target answers');
is($tried, 'second', 'and is the only one that was asked');

# After it was sent, error, timeout and invalid_header need non_idempotent.
my %ambiguous = (
    drop => [{drop_before_head => $true}, 502], reset => [{drop_before_head => $true, reset => $true}, 502],
    hang => [{hang => $true}, 504], 'invalid header' => [{raw => "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"}, 502],
    'two lengths' => [{raw => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n"}, 502],
);
for my $name (sort keys %ambiguous) {
    my ($do, $status) = @{$ambiguous{$name}};
    stays('three', $do, $status, "$name, default criteria");
    moves_on('three/all', $do, "$name, with non_idempotent");
}
my ($kept) = ask('three', [['MOCK_1', {drop_before_head => $true}, 1]]);
is($kept->{status}, 502, 'a pooled connection that dies: not sent again');
is(scalar(mock_requests(port => port('MOCK_1'))), 1, 'the paid POST went out once');

# Listed statuses always move on, others never.
for my $status (403, 404, 429, 500, 502, 503, 504) {
    moves_on('three/all', {status => $status}, "listed status $status");
}
moves_on('three/statuses', {status => 429}, 'a listed status without non_idempotent');
moves_on('three/all', {status => 500, body_size => 300_000}, 'a long error body');
moves_on('three/all', {status => 500, trickle => {bytes => 1, interval_ms => 20, forever => $true}}, 'an error body without end');
stays('three', {status => $_}, $_, "status $_, default criteria") for 429, 500, 503;
stays('three/all', {status => $_}, $_, "status $_ is no criterion") for 400, 401, 422, 529;
stays('three/statuses', {status => 503}, 503, 'a status that is not listed');

# What the next target receives is its own.
($r, $tried) = ask('three/all', [['MOCK_1', {status => 500}]], chat('hello', max_tokens => 1, note => 'kept'));
my %by = map { $name_of{$_->{port}} => $_ } mock_requests();
my %head = map { my $who = $_; ($who => {map { lc $_->[0] => $_->[1] } @{$by{$who}{headers}}}) } keys %by;
is_deeply(from_json($by{first}{body}), {%{chat('hello', max_tokens => 11, note => 'kept')}, model => 'first'}, 'body of the first');
is_deeply(from_json($by{second}{body}), {%{chat('hello', max_tokens => 22, note => 'kept')}, model => 'second'}, 'body of the second');
is($head{first}{authorization}, 'Bearer key-of-first', 'key of the first');
is($head{second}{'api-key'}, 'key-of-second', 'key of the second');
is($head{second}{authorization}, undef, 'which never sees the other one');
is($by{second}{path}, '/second', 'path of the second');
is($head{second}{host}, '127.0.0.1:' . port('MOCK_2'), 'host of the second');
is($r->header('X-LLM-Model'), 'openai/second', 'the header tells who answered');
is($r->header('Retry-After'), undef, 'nothing of the first answer is left');

# Bounds and last words.
($r, $tried) = ask('three/all', [map { ["MOCK_$_", {status => 500}] } 1 .. 3]);
is($tried, 'first second third', 'all fail: each was asked once, by weight');
is($r->{status}, 500, 'the last answer is passed on');
is($r->json->{error}{code}, 'mock_500', 'as it came');
($r, $tried) = ask('three/once', [map { ["MOCK_$_", {status => 500}] } 1 .. 3]);
is($tried, 'first second', 'retries 1');
($r, $tried) = ask('three/never', [['MOCK_1', {status => 500}]]);
is($tried, 'first', 'retries 0');
is($r->{status}, 500, 'its answer is passed on');
($r, $tried) = ask('three/all', [['MOCK_1', {status => 429, headers => [['Retry-After', '7']]}], ['MOCK_2', {drop_before_head => $true}], ['MOCK_3', {hang => $true}]]);
is($tried, 'first second third', 'one answers, two do not');
is($r->{status}, 429, 'the answer that came is the one that is given');
is($r->header('Retry-After'), '7', 'with its header');
is($r->json->{error}{code}, 'mock_429', 'and its body');
($r, $tried) = ask('three/all', [map { ["MOCK_$_", {drop_before_head => $true}] } 1 .. 3]);
is($r->{status}, 502, 'nobody answers');
is($r->json->{error}{code}, 'upstream_unreachable', 'as JSON');
like($r->json->{error}{message}, qr/last of 3/, 'with the number of attempts');
unlike($r->{body}, qr/127\.0\.0\.1|key-of/, 'without addresses and keys');

# A stream that has begun is not begun again.
($r, $tried) = ask('three/all', [['MOCK_1', {stream => {auto => 2, interval_ms => 20, sse_end => 'cut'}}]], chat('hello', stream => $true));
is($tried, 'first', 'a stream that broke off after its first event');
like((stream_events($r->{body}))[-1], qr/"code":"body-cut"/, 'ends with an error event');
($r, $tried) = ask('three/all', [['MOCK_1', {status => 503}]], chat('hello', stream => $true));
like($r->{body}, qr/played by m2/, 'before that it fails over like any other');

# What operators see.
log_mark();
my $n = statistics();
ask('three/all', [['MOCK_1', {hang => $true}]]);
my $s = statistics_wait($n + 1)->{ai}{proxy}{tried_targets};
is_deeply([map {"$_->{target} $_->{outcome} $_->{status}"} @$s], ['first first-byte-timeout 0', 'second ok 200'], 'statistics: one entry for each attempt');
my @lines = log_lines('AIP0020');
is(scalar @lines, 2, 'one DEBUG line for each attempt');
like($lines[0], qr/attempt 1: target first: first-byte-timeout/, 'the first');
like($lines[1], qr/attempt 2: target second: ok, status 200/, 'the second');
$n = statistics();
ask('three/all', [map { ["MOCK_$_", {drop_before_head => $true}] } 1 .. 3]);
is(statistics_wait($n + 1)->{status}, 502, 'statistics: a request that nobody answered');
finish('AIP0021', 'AIP0022', 'AH00957', qr/AH0\d+: AI: /, 'AH02039', 'AH02003', 'AH02004', 'AH01085');
