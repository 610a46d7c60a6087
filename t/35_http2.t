#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# HTTP/2 clients: many streams on one connection, some of them failing over, streams of events side by side.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $dir = "$AIPTest::Setup::t/state";
AIPTest::Setup::write_file("$dir/chat.json", json(chat('hello')));
AIPTest::Setup::write_file("$dir/stream.json", json(chat('hello', stream => JSON::PP::true)));

sub h2load {
    my ($path, $body, @args) = @_;
    my ($status, $out, $err) = run_command(['h2load', '-H', 'Content-Type: application/json', '-d', "$dir/$body", @args, url('HTTPD', $path)]);
    is($status, 0, 'h2load ended well') or diag($err);
    return $out;
}

mock_reset();
my $out = h2load('/faults/http', 'chat.json', '-n', 400, '-c', 2, '-m', 20);
like($out, qr/status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx/, '400 requests on two connections');
is(scalar(mock_requests(port => port('MOCK_1'))), 400, 'each reached the target once');

mock_reset();
mock_behave({port => port('MOCK_1'), times => -1, do => {status => 503}});
$out = h2load('/faults/three/all', 'chat.json', '-n', 200, '-c', 2, '-m', 20);
like($out, qr/status codes: 200 2xx, 0 3xx, 0 4xx, 0 5xx/, '200 requests that all fail over');
is(scalar(mock_requests(port => port('MOCK_2'))), 200, 'each once');

mock_reset();
mock_behave({port => port('MOCK_1'), times => -1, do => {stream => {auto => 5, interval_ms => 20}}});
$out = h2load('/faults/http', 'stream.json', '-n', 40, '-c', 1, '-m', 20);
like($out, qr/status codes: 40 2xx, 0 3xx, 0 4xx, 0 5xx/, '40 streams of events');

mock_reset();

# errors of ours and of httpd are JSON here, too
for my $case (['/faults/http', '{"messages":', 400, 'invalid_json'], ['/faults/http', '', 400, 'missing_body'], ['/faults/refused', json(chat('x')), 502, 'upstream_unreachable']) {
    my ($path, $body, $status, $code) = @$case;
    my $r = h2_post($path, $body);
    is($r->{status}, $status, "$code: status");
    is($r->json->{error}{code}, $code, "$code: as JSON");
}
my $r = h2_post('/faults/http', chat('hello', stream => JSON::PP::true));
is((stream_events($r->{body}))[-1], '[DONE]', 'a stream is whole');

# over TLS, by ALPN
my ($status, $body, $err) = run_command(['curl', '-sS', '--http2', '--cacert', "$dir/tls/ca.pem", '-w', '%{http_version}', '-H', 'Content-Type: application/json',
        '-d', json(chat('hello')), 'https://localhost:' . port('HTTPD_TLS') . '/faults/http']);
is($status, 0, 'over TLS') or diag($err);
like($body, qr/played by .*\}2$/, 'HTTP/2 it is');
finish('AIP0021', 'AH00957');
