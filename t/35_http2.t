#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# HTTP/2 clients: many streams on one connection, some of them failing over, streams of events side by side.
use strict;
use warnings FATAL => 'all';
use IO::Select ();
use lib 't/lib';
use AIPTest;

my $dir = "$AIPTest::Setup::t/state";
AIPTest::Setup::write_file("$dir/chat.json", json(chat('hello')));
AIPTest::Setup::write_file("$dir/stream.json", json(chat('hello', stream => JSON::PP::true)));

sub h2load {
    my ($path, $body, @args) = @_;
    my ($status, $out, $err) = run_command(['h2load', '-H', 'Content-Type: application/json', '-d', "$dir/$body", @args,
        url('HTTPD', $path)]);
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

# everything side by side on one connection: streams of events, failing over, errors, and a stream that its client resets
sub start {
    my ($c, $path, $body) = @_;
    my %answer = (status => 0, body => '', done => 0);
    $c->{h2}->request(
        ':scheme' => 'http', ':authority' => 'localhost', ':path' => $path, ':method' => 'POST',
        headers => ['content-type', 'application/json'], data => ref $body ? json($body) : $body,
        on_headers => sub { my %head = @{$_[0]}; $answer{status} ||= $head{':status'}; 1 },
        on_data    => sub { $answer{body} .= $_[0]; 1 },
        on_done    => sub { $answer{done} = 1 },
        on_error   => sub { $answer{done} = 1; $answer{error} = $_[0] },
    );
    $c->flush;
    return \%answer;
}

sub step {
    my ($c) = @_;
    IO::Select->new($c->{socket})->can_read(10) or die "nothing came within 10 s\n";
    sysread $c->{socket}, my $bytes, 65536 or die "the connection ended\n";
    $c->{h2}->feed($bytes);
    $c->flush;
    return;
}

mock_reset();
mock_behave({port => port('MOCK_1'), times => -1, do => {stream => {auto => 20, interval_ms => 40}}});
my $c      = h2_client();
my $stream = chat('hello', stream => JSON::PP::true);
my $reset  = start($c, '/faults/http', $stream); # stream 1
my @mixed  = map {
    my $case = $_;
    map { [$case, start($c, $case->[0], $case->[1])] } 1 .. 3
} ['/faults/http', $stream, 200, qr/\[DONE\]/], ['/faults/https', chat('x'), 200, qr/played by tls1/],
    ['/faults/dead-first', chat('x'), 200, qr/played by m2/], ['/faults/refused', chat('x'), 502, qr/upstream_unreachable/],
    ['/faults/blackhole', chat('x'), 504, qr/upstream_timeout/], ['/faults/http', '{"messages":', 400, qr/invalid_json/];
step($c) while $reset->{body} !~ /\n\n/;
syswrite $c->{socket}, pack 'CnCCNN', 0, 4, 3, 0, 1, 8; # RST_STREAM: CANCEL
is(mock_wait('early_close', port => port('MOCK_1')), 1, 'one stream is reset: the target is told');
step($c) while grep { !$_->[1]{done} } @mixed;
for (@mixed) {
    my ($case, $answer) = @$_;
    my ($path, undef, $status, $body) = @$case;
    is($answer->{status}, $status, "mixed, $path: status");
    like($answer->{body}, $body, "mixed, $path: body");
    is($answer->{error}, undef, "mixed, $path: in good order");
}
unlike($reset->{body}, qr/DONE/, 'the stream that was reset got no further');
is(mock_wait('answered', port => port('MOCK_1'), count => 3), 3, 'the three beside it were whole');
is($c->post('/faults/https', chat('x'))->{status}, 200, 'and the connection serves the next request');
mock_reset();

# errors of ours and of httpd are JSON here, too
for my $case (['/faults/http', '{"messages":', 400, 'invalid_json'], ['/faults/http', '', 400, 'missing_body'],
    ['/faults/refused', json(chat('x')), 502, 'upstream_unreachable']) {
    my ($path, $body, $status, $code) = @$case;
    my $r = h2_post($path, $body);
    is($r->{status}, $status, "$code: status");
    is($r->json->{error}{code}, $code, "$code: as JSON");
}
my $r = h2_post('/faults/http', chat('hello', stream => JSON::PP::true));
is((stream_events($r->{body}))[-1], '[DONE]', 'a stream is whole');

# over TLS, by ALPN
my ($status, $body, $err) = run_command(['curl', '-sS', '--http2', '--cacert', "$dir/tls/ca.pem", '-w', '%{http_version}',
    '-H', 'Content-Type: application/json', '-d', json(chat('hello')), 'https://localhost:' . port('HTTPD_TLS') . '/faults/http']);
is($status, 0, 'over TLS') or diag($err);
like($body, qr/played by .*\}2$/, 'HTTP/2 it is');
finish('AIP0021', 'AIP0071', qr/AH0\d+: AI: |\[(ssl|proxy):/);
