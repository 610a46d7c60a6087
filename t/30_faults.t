#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# What a client sees of each fault of a single target, over http and https, as first and second request of a connection and
# over HTTP/2: a whole answer, JSON, in time, and a connection that is good for the next request.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;

# What a client gets when there is no answer to pass on: status, code, and the outcome at the end of the message.
my %none = (
    (map { $_ => [502, 'upstream_unreachable', $_] } qw(connect tls drop invalid-header body-cut)),
    (map { $_ => [504, 'upstream_timeout', $_] } qw(connect-timeout write-timeout first-byte-timeout)),
);

# fault => [behaviour, outcome] or [behaviour, status that is passed on, code of its body]
my %fault = (
    'drop before the head'     => [{drop_before_head => $true}, 'drop'],
    'late drop'                => [{drop_before_head => $true, delay_ms => 100}, 'drop'],
    'reset before the head'    => [{drop_before_head => $true, reset => $true}, 'drop'],
    'hang'                     => [{hang => $true}, 'first-byte-timeout'],
    'head in a trickle'        => [{trickle => {bytes => 1, interval_ms => 60, head => $true}}, 'first-byte-timeout'],
    'a line without colon'     => [{raw => "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"}, 'invalid-header'],
    'HTTP/0.9'                 => [{raw => '<html>hello</html>', close => $true}, 'invalid-header'],
    'HTTP/2 in plain'          => [{raw => "HTTP/2 200\r\n\r\n"}, 'invalid-header'],
    'a huge header'            => [{headers => [['X-Big', 'x' x 70000]]}, 'invalid-header'],
    'too many headers'         => [{headers => [map { ["X-$_", 'x'] } 1 .. 300]}, 'invalid-header'],
    'two lengths'              => [{raw => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"}, 'invalid-header'],
    'length and chunks'        => [{raw => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}, 'invalid-header'],
    'gzip, chunked'            => [{raw => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"}, 'invalid-header'],
    'switching protocols'      => [{raw => "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"}, 'invalid-header'],
    'a bad chunk size'         => [{raw => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx"}, 'body-cut'],
    'head cut'                 => [{raw => "HTTP/1.1 200 OK\r\nContent-Le", close => $true}, 'drop'],
    'cut before the body'      => [{cut_after_bytes => 0}, 'body-cut'],
    'head, then nothing'       => [{hang_after_head => $true}, 504, 'upstream_timeout'],
    'status 500'               => [{status => 500}, 500, 'mock_500'],
    'status 429'               => [{status => 429, headers => [['Retry-After', '7']]}, 429, 'mock_429'],
    'status 503, 300 KB'       => [{status => 503, body_size => 300000}, 503],
    'status 500 in two pieces' => [{status => 500, head_delay_ms => 60}, 500, 'mock_500'],
    'status 529'               => [{status => 529}, 529, 'mock_529'],
    'a slow body'              => [{body_size => 800, trickle => {bytes => 50, interval_ms => 40}}, 200],
    'not JSON'                 => [{body => '{nope', content_type => 'application/json'}, 200],
    'an empty answer'          => [{body => ''}, 200],
    'interim answers'          => [{interim => [100, 103, 103]}, 200],
    'equal lengths'            => [{raw => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"}, 200],
    'until close'              => [{until_close => $true}, 200],
    'chunked'                  => [{chunked => $true}, 200],
    'closes after it'          => [{close => $true}, 200],
);
my %port = (http => port('MOCK_1'), https => port('MOCK_TLS_1'));

# The whole answer of one fault, and the time it took.
sub check {
    my ($r, $what, $fault, $took, $limit) = @_;
    my (undef, $expected, $code) = @$fault;
    my ($status, $error, $outcome) = $none{$expected} ? @{$none{$expected}} : ($expected, $code);
    is($r->{status}, $status, "$what: status") or diag($r->{body});
    ok($r->{complete}, "$what: the answer is whole");
    is($r->error->{code}, $error, "$what: code") if defined $error;
    like($r->error->{message}, qr/: \Q$outcome\E$/, "$what: outcome") if defined $outcome;
    cmp_ok($took, '<', $limit // 1.5, "$what: in time");
    cmp_ok($took, '>', 0.38, "$what: not before its time") if $status == 504;
    return;
}

# The fault on a fresh connection, on one that has served a good request, and over HTTP/2; then the next request on each. A
# status that makes httpd close the connection announces that.
sub three_ways {
    my ($what, $path, $port, $fault, $body) = @_;
    my @ways = (['first request', client()], ['second request', client()], have_http2() ? ['HTTP/2', h2_client()] : ());
    for my $way (@ways) {
        my ($which, $c) = @$way;
        mock_reset();
        is($c->post($path, chat('good'))->{status}, 200, "$what: a good request first") if $which eq 'second request';
        mock_behave({port => $port, do => $fault->[0]});
        my $begin = time;
        my $r     = $c->post($path, $body // chat('hello'));
        check($r, "$what, $which", $fault, time - $begin);
        mock_reset();
        my $closes = ($r->header('Connection') // '') =~ /\bclose\b/;
        ok($r->{status} == 413 || $r->{status} == 500 || $r->{status} == 503, "$what, $which: httpd closes for that status alone") if $closes;
        is(($closes ? client() : $c)->post($path, chat('hello'))->{status}, 200, "$what, $which: the next request is fine");
    }
    return;
}

for my $scheme (sort keys %port) {
    three_ways("$scheme, $_", "/faults/$scheme", $port{$scheme}, $fault{$_}) for sort keys %fault;
}

# Connections that are accepted and come to nothing.
for my $case (['http', {accept_close => $true}, 'drop'], ['http', {accept_hang => $true}, 'first-byte-timeout'],
    ['https', {accept_close => $true}, 'tls'], ['https', {accept_hang => $true}, 'connect-timeout']) {
    my ($scheme, $do, $outcome) = @$case;
    for my $way (['HTTP/1.1', client()], have_http2() ? ['HTTP/2', h2_client()] : ()) {
        my ($name) = keys %$do;
        mock_reset();
        mock_close(port => $port{$scheme});
        mock_behave({port => $port{$scheme}, do => $do});
        my $begin = time;
        check($way->[1]->post("/faults/$scheme", chat('hello')), "$scheme, $name, $way->[0]", [$do, $outcome], time - $begin);
        is($way->[1]->post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme, $name, $way->[0]: the next request is fine");
    }
}

# Nobody to talk to.
for my $case (['refused', 'connect'], ['blackhole', 'connect-timeout'], ['nobody', 'connect']) {
    my ($where, $outcome) = @$case;
    my $begin;
    twice_and_h2(sub { $begin = time }, "/faults/$where", chat('hello'),
        sub { check($_[0], "$where, $_[1]", [undef, $outcome], time - $begin, 3) });
}

# A body that breaks off after the client has some of it: an error event in a stream, else a visible cut. The pauses let
# the first bytes through.
my $stream = chat('hello', stream => $true);
for my $scheme (sort keys %port) {
    my @ways = (['first request', client()], ['second request', client()], have_http2() ? ['HTTP/2', h2_client()] : ());
    is($ways[1][1]->post("/faults/$scheme", chat('good'))->{status}, 200, "$scheme: a good request first");
    for my $way (@ways) {
        my ($which, $c) = @$way;
        for my $case (['breaks off', {sse_end => 'cut'}, {}, 'body-cut'], ['is reset', {sse_end => 'cut'}, {reset => $true}, 'body-cut'],
            ['falls silent', {}, {stall_after_bytes => 700}, 'idle-timeout']) {
            my ($what, $in_stream, $more, $outcome) = @$case;
            mock_reset();
            mock_behave({port => $port{$scheme}, do => {stream => {auto => 3, interval_ms => 30, %$in_stream}, %$more}});
            my $r      = $c->post("/faults/$scheme", $stream);
            my @events = stream_events($r->{body});
            is($r->{status}, 200, "$scheme, $which: a stream that $what");
            ok($r->{complete}, "$scheme, $which: a stream that $what ends well");
            cmp_ok(scalar @events, '>', 1, "$scheme, $which: its beginning came through");
            is(from_json($events[-1])->{error}{code}, $outcome, "$scheme, $which: with an error event at its end");
        }
        is($c->post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme, $which: the next request is fine");
        for my $framing ({}, {chunked => $true}) {
            my $what = "$scheme, $which: a long body" . ($framing->{chunked} ? ' in chunks' : '') . ' that breaks off';
            mock_behave({port => $port{$scheme}, do => {%$framing, body_size => 3_000_000, cut_after_bytes => 1_500_000}});
            my $begin = time;
            my $r     = $c->post("/faults/$scheme", chat('hello'));
            is($r->{status}, 200, $what);
            ok(!$r->{complete}, "$what is visibly cut");
            cmp_ok(time - $begin, '<', 1.5, "$what: at once");
            $which eq 'HTTP/2'
                ? is($c->post("/faults/$scheme", chat('hello'))->{status}, 200, "$what: the other streams live on")
                : ok($c->closed, "$what: and the connection ends");
            $c = client() if $which ne 'HTTP/2';
        }
    }
}

# An error body without end comes through as it comes, and ends with the client.
for my $scheme (sort keys %port) {
    mock_reset();
    mock_behave({port => $port{$scheme}, do => {status => 500, trickle => {bytes => 40, interval_ms => 5, forever => $true}}});
    my $c = client();
    my $r = $c->send_request('POST', "/faults/$scheme", chat('hello'))->head;
    is($r->{status}, 500, "$scheme: an error answer without end");
    my $got = '';
    $got .= $c->piece($r) // last until $got =~ / {100}$/;
    like($got, qr/"mock_500".* {100}$/s, "$scheme: comes through as it comes");
    $c->close;
    is(mock_wait('early_close', port => $port{$scheme}), 1, "$scheme: and ends with the client");
}

# Connections that the target ends between two requests are replaced without a word. A request that was on its way at that
# moment may have been acted upon: it is not sent again.
for my $scheme (sort keys %port) {
    my $c = client();
    mock_reset();
    for my $how ([all => $true], [reset => $true], []) {
        is($c->post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme: a request");
        mock_close(port => $port{$scheme}, @$how);
    }
    is($c->post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme: a request");
    is(scalar(mock_requests(port => $port{$scheme})), 4, "$scheme: each was sent once");
    mock_behave({port => $port{$scheme}, do => {silent_close_ms => 300}});
    is($c->post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme: before a silent close");
    my $r = $c->post("/faults/$scheme", chat('hello'));
    is($r->{status}, 502, "$scheme: a request that the target lost");
    like($r->error->{message}, qr/: drop$/, "$scheme: is known as that");
    is($c->post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme: the next one is fine");
    is(scalar(mock_requests(port => $port{$scheme})), 6, "$scheme: the lost one was not sent again");
    my %connection = map { $_->{connection} => 1 } mock_requests(port => $port{$scheme});
    cmp_ok(scalar(keys %connection), '>=', 5, "$scheme: on a new connection each time");
    mock_reset();
    $c->post("/faults/$scheme", chat('hello')) for 1 .. 6;
    %connection = map { $_->{connection} => 1 } mock_requests(port => $port{$scheme});
    is(scalar(keys %connection), 1, "$scheme: which is kept as long as the target keeps it");
}

# A target that answers early is heard. One that does not read is given up when nothing has moved for AIBalancerWriteTimeout;
# its mock has small buffers, and a control port of its own.
three_ways("$_, early 413", "/faults/$_", $port{$_}, [{early => $true, status => 413}, 413, 'mock_413'], chat('x' x 900_000)) for sort keys %port;
my $tls = top_dir() . '/t/state/tls';
start_mock('--control-port', port('SPARE_3'), '--rcvbuf', 4096, '--name', 'narrow', '--port', port('SPARE_1'),
    '--cert', "$tls/server.pem", '--key', "$tls/server.key", '--tls-port', port('SPARE_2'));
for my $scheme (sort keys %port) {
    my $h2 = have_http2() && $scheme eq 'http'; # once will do: that client needs seconds for so much
    for my $way (['first request', client()], ['second request', client()], $h2 ? ['HTTP/2', h2_client()] : ()) {
        my $what = "$scheme, a target that does not read, $way->[0]";
        my $path = "/faults/$scheme-narrow";
        is($way->[1]->post($path, chat('good'))->{status}, 200, "$what: a good request first") if $way->[0] eq 'second request';
        AIPTest::mock_call('POST', 'behave', {do => {no_read => $true}}, port('SPARE_3'));
        my $begin = time;
        my $r     = $way->[1]->post($path, chat('x' x 6_000_000));
        check($r, $what, [undef, 'write-timeout'], time - $begin, 8);
        is($way->[1]->post($path, chat('hello'))->{status}, 200, "$what: the next request is fine");
    }
}
finish('AIP0021', 'AIP0022', 'AIP0071', qr/AH0\d+: AI: |\[(ssl|proxy):/);
