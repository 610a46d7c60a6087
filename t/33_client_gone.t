#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# A client that leaves ends the work for it at once: while the target is silent, in the middle of a stream, during the
# embeddings call; over HTTP/1.1, TLS and HTTP/2. No further target is asked.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my $chat = chat('hello');
my $stream = chat('hello', stream => $true);

# curl as a client that gives up by itself, over the given protocol.
sub curl_leaves {
    my ($path, $seconds, @args) = @_;
    my $base = grep({/cacert/} @args) ? 'https://localhost:' . port('HTTPD_TLS') : url('HTTPD', '');
    run_command(['curl', '-sS', '-N', '--max-time', $seconds, '-H', 'Content-Type: application/json', '-H', 'Expect:', '--data-binary', '@-',
            @args, "$base$path"], json($stream));
    return;
}

my %way = ('HTTP/1.1' => [], 'TLS' => ['--http1.1', '--cacert', top_dir() . '/t/state/tls/ca.pem']);
if (have_http2()) {
    $way{'HTTP/2'} = ['--http2-prior-knowledge'];
    $way{'HTTP/2 over TLS'} = ['--http2', '--cacert', top_dir() . '/t/state/tls/ca.pem'];
}
for my $way (sort keys %way) {
    for my $fault (['silent target', {hang => $true}], ['in a stream', {stream => {auto => 100, interval_ms => 50}}]) {
        mock_reset();
        mock_behave({port => port('MOCK_1'), times => -1, do => $fault->[1]});
        curl_leaves('/faults/three/all', 0.4, @{$way{$way}});
        mock_wait('early_close', port => port('MOCK_1'));
        my ($got, @more) = mock_requests();
        is($got->{closed_early} ? 1 : 0, 1, "$way, $fault->[0]: the target is told");
        cmp_ok($got->{closed_after_ms}, '<', 400 + 400, "$way, $fault->[0]: at once");
        is(scalar @more, 0, "$way, $fault->[0]: no other target is asked");
    }
}

# Sockets of our own: the time is ours to measure. Over HTTP/2 a client may also reset one stream and keep the others.
sub h2_start {
    my ($path, $body) = @_;
    my $c = h2_client();
    $c->{h2}->request(':scheme' => 'http', ':authority' => 'localhost', ':path' => $path, ':method' => 'POST',
        headers => ['content-type', 'application/json'], data => json($body));
    $c->flush;
    return $c;
}

sub rst_stream { my ($c) = @_; syswrite $c->{socket}, pack 'CnCCNN', 0, 4, 3, 0, 1, 8; return }

my %leaves = (
    'closed'      => [sub { my ($path, $body) = @_; my $c = client(); $c->send_request('POST', $path, $body); $c }, sub { $_[0]->close }],
    'reset'       => [sub { my ($path, $body) = @_; my $c = client(); $c->send_request('POST', $path, $body); $c }, sub { $_[0]->reset }],
    'half closed' => [sub { my ($path, $body) = @_; my $c = client(); $c->send_request('POST', $path, $body); $c }, sub { shutdown $_[0]{socket}, 1 }],
);
if (have_http2()) {
    $leaves{'HTTP/2 closed'} = [\&h2_start, sub { close $_[0]{socket} }];
    $leaves{'HTTP/2 stream reset'} = [\&h2_start, \&rst_stream];
}
my %fault = (
    'silent target' => ['MOCK_1', {hang => $true}],
    'in a stream'   => ['MOCK_1', {stream => {auto => 100, interval_ms => 50}}],
    'in a flood'    => ['MOCK_1', {stream => {auto => 10_000, interval_ms => 1}}],
    'in a head'     => ['MOCK_1', {hang_after_head => $true}],
);
for my $way (sort keys %leaves) {
    my ($start, $leave) = @{$leaves{$way}};
    for my $name (sort keys %fault) {
        my ($port, $do) = @{$fault{$name}};
        my $n = statistics();
        log_mark();
        mock_reset();
        mock_behave({port => port($port), times => -1, do => $do});
        my $c = $start->('/faults/three/all', $do->{stream} ? $stream : $chat);
        mock_wait('request', port => port($port));
        my $begin = time;
        $leave->($c);
        mock_wait('early_close', port => port($port));
        cmp_ok(time - $begin, '<', $way =~ /HTTP/ ? 0.35 : 0.3, "$way, $name: the target is told within 300 ms");
        my $s = statistics_wait($n + 1);
        is_deeply([map {"$_->{target} $_->{outcome}"} @{$s->{ai}{proxy}{tried_targets}}], ['first client-gone'], "$way, $name: the statistics line tells");
        is(scalar(mock_requests()), 1, "$way, $name: no other target is asked");
        is(scalar(log_lines('AIP0020')), 1, "$way, $name: one attempt");
        unexpected_tags();
        next unless $way eq 'HTTP/2 stream reset';
        mock_reset();
        is($c->post('/faults/three/all', $chat)->{status}, 200, "$way, $name: the connection serves the next stream");
    }
}

# during the embeddings call
for my $way (sort keys %leaves) {
    my ($start, $leave) = @{$leaves{$way}};
    mock_reset();
    mock_behave({port => port('MOCK_EMBED'), times => -1, do => {hang => $true}});
    my $c = $start->('/routing/full', chat('axis:0 0.9'));
    mock_wait('request', port => port('MOCK_EMBED'));
    my $begin = time;
    $leave->($c);
    mock_wait('early_close', port => port('MOCK_EMBED'));
    cmp_ok(time - $begin, '<', $way =~ /HTTP/ ? 0.35 : 0.3, "$way: the embeddings provider is told within 300 ms");
    is(scalar(grep { $_->{port} != port('MOCK_EMBED') } mock_requests()), 0, "$way: no target is asked");
    mock_reset();
    is(post('/routing/full', chat('axis:0 0.9'))->{status}, 200, "$way: the next client is served");
}
finish();
