#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Failover: which outcomes move on to the next target and which must not, because the request may have been billed; what the
# next target receives; what the client gets when none is left. By turn and by meaning alike.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my %name_of = map { port("MOCK_$_->[0]") => $_->[1] } [1, 'first'], [2, 'second'], [3, 'third'];

# Nearest to the first target, then to the second, then to the third (where it has a description); sum of squares below 1.
my $prompt = 'axis:0 0.7 axis:1 0.5 axis:2 0.3';
my ($how, $client);

# Faults in front, then the answer and the names of the targets that received a request, in order.
sub ask {
    my ($path, $behaviours, $body) = @_;
    mock_reset();
    mock_behave(map { {port => port($_->[0]), times => -1, do => $_->[1]} } @$behaviours) if @$behaviours;
    my $r = ($client // client())->post("/faults/$path$how", $body // chat($prompt));
    return ($r, tried());
}

sub tried {
    my @got = grep { $name_of{$_->{port}} } sort { $a->{seq} <=> $b->{seq} } mock_requests();
    return join ' ', map { $name_of{$_->{port}} } @got;
}

sub all_of { my ($do) = @_; return [map { ["MOCK_$_", $do] } 1 .. 3] }

sub moves_on {
    my ($path, $do, $what) = @_;
    my ($r, $tried) = ask($path, [['MOCK_1', $do]]);
    is($r->{status}, 200, "$what: answered");
    is($r->json->{model}, 'second', "$what: by the second target");
    is($tried, 'first second', "$what: each asked once");
    return;
}

sub stays {
    my ($path, $do, $status, $what) = @_;
    my ($r, $tried) = ask($path, [['MOCK_1', $do]]);
    is($r->{status}, $status, "$what: status");
    is($tried, 'first', "$what: no second target is asked");
    return;
}

# Once the request is out, these need their criterion and non_idempotent: behaviour, status without, criterion.
my %ambiguous = (
    drop             => [{drop_before_head => $true}, 502, 'errors'],
    reset            => [{drop_before_head => $true, reset => $true}, 502, 'errors'],
    'cut early'      => [{cut_after_bytes => 0}, 502, 'errors'],
    hang             => [{hang => $true}, 504, 'timeouts'],
    'invalid header' => [{raw => "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"}, 502, 'headers'],
    'two lengths'    => [{raw => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n"}, 502, 'headers'],
);

# The first TLS of a child may take longer than its limit where a tool looks on.
for my $way ('', '/meaning') {
    $how = $way;
    wait_until('TLS', sub { (ask('dead-first/unlucky', []))[0]->{status} == 502 }) for 1 .. 2;
}

for my $way (['by turn', ''], ['by meaning', '/meaning']) {
    (my $by, $how) = @$way;

    # Before anything was sent every failure moves on, with the default criteria.
    my ($r, $tried) = ask('dead-first', []);
    is($r->json->{model}, 'alive', "$by: refused, black hole, unknown authority: the fourth target answers");
    is($tried, 'second', "$by: and is the only one that was asked");
    ($r) = ask('dead-first/unlucky', []);
    is($r->{status}, 502, "$by: refused, black hole, unknown authority and nothing else");
    like($r->error->{message}, qr/the last of 3: tls$/, "$by: three attempts");
    my $begin = time;
    ($r) = ask('dead-first/slow', []);
    is($r->{status}, 504, "$by: refused, black hole and nothing else");
    like($r->error->{message}, qr/the last of 2: connect-timeout$/, "$by: two attempts");
    cmp_ok(time - $begin, '<', 1.5, "$by: in time");

    for my $name (sort keys %ambiguous) {
        my ($do, $status, $criterion) = @{$ambiguous{$name}};
        stays('three', $do, $status, "$by: $name, default criteria");
        moves_on('three/all', $do, "$by: $name, with non_idempotent");
        for my $other (qw(errors timeouts headers)) {
            $other eq $criterion
                ? moves_on("three/$other", $do, "$by: $name, with its criterion alone")
                : stays("three/$other", $do, $status, "$by: $name, only three/$other");
        }
    }

    # Listed statuses always move on, others never.
    for my $status (403, 404, 429, 500, 502, 503, 504) {
        moves_on('three/all', {status => $status}, "$by: listed status $status");
    }
    moves_on('three/statuses', {status => 429}, "$by: a listed status without non_idempotent");
    moves_on('three/all', {status => 500, body_size => 300_000}, "$by: a long error body");
    moves_on('three/all', {status => 500, trickle => {bytes => 1, interval_ms => 20, forever => $true}}, "$by: an error body without end");
    moves_on('three/all', {status => 503, hang_after_head => $true}, "$by: an error head without body");
    moves_on('three/all', {status => 503, cut_after_bytes => 5}, "$by: an error body that is cut");
    stays('three', {status => $_}, $_, "$by: status $_, default criteria") for 429, 500, 503;
    stays('three/all', {status => $_}, $_, "$by: status $_ is no criterion") for 400, 401, 422, 529;
    stays('three/statuses', {status => 503}, 503, "$by: a status that is not listed");
    stays('three/statuses', {drop_before_head => $true}, 502, "$by: neither error nor timeout is listed");

    # Bounds.
    ($r, $tried) = ask('three/all', all_of({status => 500}));
    is($tried, 'first second third', "$by: all fail: each was asked once, in order");
    is($r->{status}, 500, "$by: the last answer is passed on");
    is($r->error->{code}, 'mock_500', "$by: as it came");
    ($r, $tried) = ask('three/once', all_of({status => 500}));
    is($tried, 'first second', "$by: retries 1");
    ($r, $tried) = ask('three/once', all_of({drop_before_head => $true}));
    is($tried, 'first second', "$by: retries 1, after drops");
    ($r, $tried) = ask('three/never', all_of({status => 500}));
    is($tried, 'first', "$by: retries 0");
    is($r->{status}, 500, "$by: its answer is passed on");
    ($r, $tried) = ask('three/never', all_of({drop_before_head => $true}));
    is($tried, 'first', "$by: retries 0, after a drop");
    is($r->{status}, 502, "$by: says so");

    # Last words.
    my $limited = {status => 429, headers => [['Retry-After', '7']]};
    for my $case (['whole', {}], ['chunked, then closed', {chunked => $true, close => $true}], ['until close', {until_close => $true}]) {
        ($r, $tried) = ask('three/all', [['MOCK_1', {%$limited, %{$case->[1]}}], ['MOCK_2', {drop_before_head => $true}], ['MOCK_3', {hang => $true}]]);
        is($tried, 'first second third', "$by: one answers ($case->[0]), two do not");
        is($r->{status}, 429, "$by: the answer that came is the one that is given");
        is($r->header('Retry-After'), '7', "$by: with its header");
        is($r->error->{code}, 'mock_429', "$by: and its body");
        is($r->header('Content-Length'), length $r->{body}, "$by: and its length");
    }
    ($r) = ask('three/all', [['MOCK_1', $limited], ['MOCK_2', {status => 500, body_size => 300_000}], ['MOCK_3', {drop_before_head => $true}]]);
    is($r->{status}, 429, "$by: an answer too long to be kept does not replace one that was kept");
    ($r) = ask('three/all', [['MOCK_1', {status => 500, body_size => 300_000}], ['MOCK_2', {drop_before_head => $true}], ['MOCK_3', {drop_before_head => $true}]]);
    is($r->{status}, 502, "$by: and is not given in part");
    ($r) = ask('three/all', all_of({drop_before_head => $true}));
    is($r->{status}, 502, "$by: nobody answers");
    is($r->error->{code}, 'upstream_unreachable', "$by: as JSON");
    like($r->error->{message}, qr/last of 3: drop$/, "$by: with the number of attempts");
    unlike($r->{body}, qr/127\.0\.0\.1|localhost|key-of/, "$by: without addresses and keys");
    ($r) = ask('three/all', [['MOCK_1', {drop_before_head => $true}], ['MOCK_2', {drop_before_head => $true}], ['MOCK_3', {hang => $true}]]);
    is($r->{status}, 504, "$by: the last one is silent");

    # As second request of a connection and over HTTP/2.
    for my $c (['second request', client()], have_http2() ? ['HTTP/2', h2_client()] : ()) {
        (my $which, $client) = @$c;
        ask('three/all', []);
        moves_on('three/all', {status => 503}, "$by, $which: 503");
        moves_on('three/all', {drop_before_head => $true}, "$by, $which: drop");
        moves_on('three/all', {hang => $true}, "$by, $which: hang");
        stays('three', {drop_before_head => $true}, 502, "$by, $which: drop, default criteria");
        ($r, $tried) = ask('three/all', [['MOCK_1', {stream => {auto => 2, interval_ms => 20, sse_end => 'cut'}}]], chat($prompt, stream => $true));
        is($tried, 'first', "$by, $which: a stream that broke off after its first event is not begun again");
        like((stream_events($r->{body}))[-1], qr/"code":"body-cut"/, "$by, $which: it ends with an error event");
        for my $do ({status => 503}, {drop_before_head => $true}, {cut_after_bytes => 0}) {
            ($r, $tried) = ask('three/all', [['MOCK_1', $do]], chat($prompt, stream => $true));
            is($tried, 'first second', "$by, $which: before that it fails over like any other");
            is((stream_events($r->{body}))[-1], '[DONE]', "$by, $which: to a whole stream");
        }
        ($r) = ask('three', []);
        is($r->json->{model}, 'first', "$by, $which: the next request is fine");
        undef $client;
    }
}
$how = '';

# A pooled connection that dies under a request: it may have been billed, so it is not sent again.
for my $do ({drop_before_head => $true}, {drop_before_head => $true, reset => $true}) {
    my $c = client();
    mock_reset();
    is($c->post('/faults/three', chat($prompt))->{status}, 200, 'a connection comes into the pool');
    mock_behave({port => port('MOCK_1'), conn_request_min => 2, do => $do});
    is($c->post('/faults/three', chat($prompt))->{status}, 502, 'it dies under the next request');
    my @got = mock_requests();
    is(scalar @got, 2, 'the paid POST went out once');
    is($got[1]{connection}, $got[0]{connection}, 'on the pooled connection');
}

# What the next target receives is its own.
my ($r) = ask('three/all', [['MOCK_1', {status => 500}]], chat('hello', max_tokens => 1, note => 'kept'));
my %by = map { $name_of{$_->{port}} => $_ } mock_requests();
my %head = map { my $who = $_; ($who => {map { lc $_->[0] => $_->[1] } @{$by{$who}{headers}}}) } keys %by;
is_deeply(from_json($by{first}{body}), {%{chat('hello', max_tokens => 11, note => 'kept')}, model => 'first'}, 'body of the first');
is_deeply(from_json($by{second}{body}), {%{chat('hello', max_tokens => 22, note => 'kept')}, model => 'second'}, 'body of the second');
is($head{first}{authorization}, 'Bearer key-of-first', 'key of the first');
is($head{second}{'api-key'}, 'key-of-second', 'key of the second');
is($head{first}{'api-key'}, undef, 'neither sees the key');
is($head{second}{authorization}, undef, 'of the other one');
is($by{second}{path}, '/second', 'path of the second');
is($head{first}{host}, '127.0.0.1:' . port('MOCK_1'), 'host of the first');
is($head{second}{host}, 'localhost:' . port('MOCK_2'), 'host of the second');
is($r->header('X-LLM-Model'), 'openai/second', 'the header tells who answered');
($r) = ask('three/all', [['MOCK_1', {status => 429, headers => [['Retry-After', '7'], ['X-First', 'yes']]}]]);
is($r->header($_), undef, "nothing of the first answer is left: $_") for 'Retry-After', 'X-First';

# What operators see.
log_mark();
my $n = statistics();
ask('three/all', [['MOCK_1', {hang => $true}], ['MOCK_2', {status => 503}]]);
my $s = statistics_wait($n + 1);
is_deeply([map {"$_->{target} $_->{outcome} $_->{status}"} @{$s->{ai}{proxy}{tried_targets}}],
    ['first first-byte-timeout 0', 'second withheld 503', 'third ok 200'], 'statistics: one entry for each attempt');
is($s->{ai}{proxy}{meta}{target}, 'third', 'statistics: who answered');
my @lines = log_lines('AIP0020');
is(scalar @lines, 3, 'one DEBUG line for each attempt');
like($lines[0], qr/attempt 1: target first: first-byte-timeout/, 'the first');
like($lines[1], qr/attempt 2: target second: withheld, status 503/, 'the second');
like($lines[2], qr/attempt 3: target third: ok, status 200/, 'the third');
ask('three/all', all_of({drop_before_head => $true}));
is(statistics_wait($n + 2)->{status}, 502, 'statistics: a request that nobody answered');
like(log_wait('AIP0021'), qr/after 3 attempts; the last, third at \S+: drop/, 'one ERROR line for it');
ask('three', [['MOCK_1', {drop_before_head => $true}]]);
like(log_wait('AIP0021', 2), qr/the request had been sent: only the criterion non_idempotent/, 'which says why no other target was tried');
finish('AIP0021', 'AIP0022', 'AIP0071', qr/AH0\d+: AI: |\[(ssl|proxy):/);
