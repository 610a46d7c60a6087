#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# A client that leaves ends the work for it at once: while the target is silent, in the middle of a stream, during the
# embeddings call; over HTTP/1.1, TLS and HTTP/2. No further target is asked.
use strict;
use warnings FATAL => 'all';
use IO::Select ();
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my $http = chat('hello');

# curl as a client that gives up by itself, over the given protocol.
sub curl_leaves {
    my ($path, $seconds, @args) = @_;
    my $base = grep({/cacert/} @args) ? 'https://localhost:' . port('HTTPD_TLS') : url('HTTPD', '');
    run_command(['curl', '-sS', '-N', '--max-time', $seconds, '-H', 'Content-Type: application/json', '-H', 'Expect:', '--data-binary', '@-',
            @args, "$base$path"], json(chat('hello', stream => $true)));
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

# a raw socket that closes while the target is silent: the time is ours to measure
mock_reset();
mock_behave({port => port('MOCK_1'), do => {hang => $true}});
my $c = client();
$c->send_request('POST', '/faults/three/all', $http);
mock_wait('request', port => port('MOCK_1'));
my $begin = Time::HiRes::time();
$c->close;
mock_wait('early_close', port => port('MOCK_1'));
cmp_ok(Time::HiRes::time() - $begin, '<', 0.3, 'the target is told within 300 ms');
is(scalar(grep {/attempt 2/} log_lines('AIP0020')), 0, 'no second attempt');

# during the embeddings call
mock_reset();
mock_behave({port => port('MOCK_EMBED'), times => -1, do => {hang => $true}});
$c = client();
$c->send_request('POST', '/routing/full', chat('axis:0 0.9'));
mock_wait('request', port => port('MOCK_EMBED'));
$begin = Time::HiRes::time();
$c->close;
mock_wait('early_close', port => port('MOCK_EMBED'));
cmp_ok(Time::HiRes::time() - $begin, '<', 0.3, 'the embeddings provider is told within 300 ms');
is(scalar(grep { $_->{port} != port('MOCK_EMBED') } mock_requests()), 0, 'no target is asked');
mock_reset();
is(post('/routing/full', chat('axis:0 0.9'))->{status}, 200, 'the next client is served');
finish();
