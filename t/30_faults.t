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
my ($drop, $unreachable, $timeout, $invalid) = map { [$_->[0], $_->[1]] }
    [502, 'upstream_unreachable'], [502, 'upstream_unreachable'], [504, 'upstream_timeout'], [502, 'upstream_unreachable'];

# fault => [behaviour, status, code]; a status alone: passed through as it is
my %fault = (
    'drop before the head'    => [{drop_before_head => $true}, @$drop],
    'reset before the head'   => [{drop_before_head => $true, reset => $true}, @$drop],
    'hang'                    => [{hang => $true}, @$timeout],
    'head, then nothing'      => [{hang_after_head => $true}, @$timeout],
    'head in a trickle'       => [{trickle => {bytes => 1, interval_ms => 60, head => $true}}, @$timeout],
    'a line without colon'    => [{raw => "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"}, @$invalid],
    'HTTP/0.9'                => [{raw => '<html>hello</html>', close => $true}, @$invalid],
    'HTTP/2 in plain'         => [{raw => "HTTP/2 200\r\n\r\n"}, @$invalid],
    'a huge header'           => [{headers => [['X-Big', 'x' x 70000]]}, @$invalid],
    'two lengths'             => [{raw => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"}, @$invalid],
    'length and chunks'       => [{raw => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}, @$invalid],
    'gzip, chunked'           => [{raw => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"}, @$invalid],
    'a bad chunk size'        => [{raw => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx"}, @$invalid],
    'head cut'                => [{raw => "HTTP/1.1 200 OK\r\nContent-Le", close => $true}, @$drop],
    'switching protocols'     => [{raw => "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"}, @$invalid],
    'status 500'              => [{status => 500}, 500, 'mock_500'],
    'status 429'              => [{status => 429, headers => [['Retry-After', '7']]}, 429, 'mock_429'],
    'status 503, 300 KB'      => [{status => 503, body_size => 300000}, 503, undef],
    'status 500 in two pieces' => [{status => 500, head_delay_ms => 60}, 500, 'mock_500'],
    'not JSON'                => [{body => '{nope', content_type => 'application/json'}, 200, undef],
    'an empty answer'         => [{body => ''}, 200, undef],
    'interim answers'         => [{interim => [100, 103, 103]}, 200, undef],
    'until close'             => [{until_close => $true}, 200, undef],
    'chunked'                 => [{chunked => $true}, 200, undef],
    'closes after it'         => [{close => $true}, 200, undef],
);

sub check {
    my ($r, $what, $status, $code, $begin) = @_;
    is($r->{status}, $status, "$what: status");
    ok($r->{complete}, "$what: the answer is whole") if exists $r->{complete};
    is($r->json->{error}{code}, $code, "$what: code") if defined $code;
    unlike($r->{body}, qr/<html/i, "$what: no HTML") if $status >= 400 && defined $code;
    cmp_ok(time - $begin, '<', 1.3, "$what: in time");
    return;
}

# The fault on a fresh connection, on one that has served a good request, and over HTTP/2. (After some statuses httpd
# closes the connection, so the three cannot share one.)
sub three_ways {
    my ($path, $before, $code) = @_;
    my $used = client();
    is($used->post($path, chat('good'))->{status}, 200, 'a good request first');
    for my $way (['first request', sub { client()->post($path, chat('hello')) }],
        ['second request', sub { $used->post($path, chat('hello')) }],
        have_http2() ? ['HTTP/2', sub { h2_post($path, chat('hello')) }] : ()) {
        $before->();
        $code->($way->[1]->(), $way->[0]);
    }
    return;
}

for my $scheme (qw(http https)) {
    my $port = port($scheme eq 'http' ? 'MOCK_1' : 'MOCK_TLS_1');
    for my $name (sort keys %fault) {
        my ($do, $status, $code) = @{$fault{$name}};
        my $begin;
        mock_reset();
        three_ways("/faults/$scheme", sub { mock_reset(); mock_behave({port => $port, do => $do}); $begin = time },
            sub { my ($r, $which) = @_; check($r, "$scheme, $name, $which", $status, $code, $begin) });
        is(post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme, $name: the next request is fine");
    }
}

# A body that breaks off after the client has some of it: a visible cut, or an error event in a stream.
for my $scheme (qw(http https)) {
    my $port = port($scheme eq 'http' ? 'MOCK_1' : 'MOCK_TLS_1');
    mock_reset();
    mock_behave({port => $port, do => {body_size => 200000, cut_after_bytes => 150000}});
    my $r = eval { client()->post("/faults/$scheme", chat('hello')) };
    ok(!$r || !$r->{complete}, "$scheme: a long body that breaks off is visibly cut");
    mock_behave({port => $port, do => {stream => {auto => 3, interval_ms => 20, sse_end => 'cut'}}});
    my $c = client();
    $r = $c->post("/faults/$scheme", chat('hello', stream => JSON::PP::true));
    is($r->{status}, 200, "$scheme: a stream that breaks off");
    ok($r->{complete}, "$scheme: ends well");
    like((stream_events($r->{body}))[-1], qr/"code":"body-cut"/, "$scheme: with an error event");
    is($c->post("/faults/$scheme", chat('hello'))->{status}, 200, "$scheme: and the connection is good");
    mock_behave({port => $port, do => {stream => {auto => 3, interval_ms => 20}, stall_after_bytes => 700}});
    $r = client()->post("/faults/$scheme", chat('hello', stream => JSON::PP::true));
    like((stream_events($r->{body}))[-1], qr/"code":"idle-timeout"/, "$scheme: a stream that falls silent");
}

# Nobody to talk to.
for my $case (['refused', 502], ['blackhole', 504], ['nobody', 502]) {
    my ($where, $status) = @$case;
    my $begin;
    twice_and_h2(sub { $begin = time }, "/faults/$where", chat('hello'), sub {
        my ($r, $which) = @_;
        check($r, "$where, $which", $status, $status == 504 ? 'upstream_timeout' : 'upstream_unreachable', $begin);
    });
}

# A target that does not read: the write times out. One that answers early is heard.
mock_reset();
mock_behave({port => port('MOCK_1'), do => {no_read => $true}});
my $begin = time;
my $r = post('/faults/http', chat('x' x 900_000));
is($r->{status}, 504, 'a target that does not read');
cmp_ok(time - $begin, '<', 1.5, 'in time');
mock_behave({port => port('MOCK_1'), do => {early => $true, status => 413}});
is(post('/faults/http', chat('x' x 900_000))->{status}, 413, 'an early answer is passed on');

# Connections are kept, and one that the target closed meanwhile is replaced without a word.
mock_reset();
mock_close(port => port('MOCK_1'));
for (1 .. 3) {
    is(post('/faults/http', chat('hello'))->{status}, 200, 'a request');
    mock_close(port => port('MOCK_1'), all => $true);
}
is(scalar(mock_requests(port => port('MOCK_1'))), 3, 'each was sent once');
finish('AIP0021', 'AIP0022', 'AH00957', 'AH00961', 'AH01114', 'AH02042', qr/AH0\d+: AI: |AH00898|AH01084/);
