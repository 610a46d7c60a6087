#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# What a client or an upstream may use at most: time for a body, time for an answer, header lines, nesting, memory for bodies
# and answers, idle connections; and what happens beyond. docs/reliability.md has the table.
use strict;
use warnings FATAL => 'all';
use IO::Select ();
use lib 't/lib';
use AIPTest;
use AIPTest::Process;

my $true = JSON::PP::true;
my $mib  = 1024 * 1024;
my ($modules) = slurp("$AIPTest::Setup::t/conf/modules.load") =~ m{"([^"]*)/mod_proxy\.so"};
my $dir = "$AIPTest::Setup::t/state";

# As many descriptors as the machine lets us have.
AIPTest::Setup::write_file("$dir/httpd.sh", "#!/bin/sh\nulimit -n \"\$(ulimit -H -n)\" && exec $ENV{AIP_HTTPD} \"\$@\"\n");
chmod 0755, "$dir/httpd.sh";

sub target {
    my ($name, $port, $more) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\nAILoggingLogStatistics On\n"
        . "AIModelOptionsUpstreamUrl http://127.0.0.1:\${${port}_PORT}/v1\n${\($more // '')}\n</AITarget>\n";
}

# One child, so that its memory is all there is.
sub server {
    local $ENV{AIP_HTTPD} = "$dir/httpd.sh";
    return start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nLoadModule reqtimeout_module $modules/mod_reqtimeout.so\n"
            . "StartServers 1\nServerLimit 1\nThreadsPerChild 64\nThreadLimit 64\nMaxRequestWorkers 64\nMinSpareThreads 1\nMaxSpareThreads 64\n"
            . "AsyncRequestWorkerFactor 200\nListenBacklog 1024\nKeepAliveTimeout 120\nMaxKeepAliveRequests 0\nTimeout 2\nRequestReadTimeout header=5 body=1\nAIStatisticsLog $dir/limits.log\n"
            . "<Location /one>\nAIProxy On\n" . target('m1', 'MOCK_1') . "</Location>\n"
            . "<Location /three>\nAIProxy On\nAIBalancerAlgorithm priority\nAIBalancerFailoverCriteria http_503\n"
            . join('', map { target("m$_", "MOCK_$_") } 1 .. 3) . "</Location>\n"
            . "<Location /meaning>\nAIProxy On\nAIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider openai\nAIEmbeddingsModelName text-embedding-3-small\n"
            . "AIEmbeddingsModelOptionsUpstreamUrl http://127.0.0.1:\${MOCK_EMBED_PORT}/embeddings\nAIVectordbDimensions 64\nAIVectordbThreshold 0.5\nAIRouteOnFailure fail\n"
            . target('near', 'MOCK_1', 'AIDescription "axis:0 1"') . target('rest', 'MOCK_2', 'AIDescription CATCHALL') . "</Location>\n"
            . "<Location /status>\nSetHandler ai-status\n</Location>\n");
}
my ($h, $child);

sub fresh_server {
    $h->stop if $h;
    mock_reset();
    $h = server();
    $child = wait_until('a child', sub { (children($h->{pid}))[0] });
    return;
}
fresh_server();

sub connect_to { return client(port => port('SPARE_1'), @_) }

sub in_flight {
    my $sum = 0;
    $sum += $_->{in_flight} for map { @{$_->{targets}} } @{connect_to()->get('/status')->json->{gateways}};
    return $sum;
}

sub lines { return map { from_json($_) } split /\n/, -e "$dir/limits.log" ? slurp("$dir/limits.log") : '' }

# The next line of the statistics log behind the first N.
sub line_after {
    my ($n) = @_;
    return wait_until('a statistics line', sub { my @l = lines(); @l > $n && $l[$n] });
}

sub is_error {
    my ($r, $status, $code, $what) = @_;
    is("$r->{status} " . ($r->error->{code} // 'none'), "$status $code", $what) or diag(substr $r->{body}, 0, 200);
    return;
}

# ---- slow clients ----

mock_reset();
my $c = connect_to();
$c->send_raw("POST /one HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{");
my ($answered, $busiest) = (0, 0);
while (!$answered) { # a byte from time to time
    $busiest = in_flight() if in_flight() > $busiest;
    $answered = IO::Select->new($c->{socket})->can_read(0.2);
    eval { $c->send_raw(' ') } if !$answered;
}
is_error($c->answer, 408, 'incomplete_body', 'a body that comes a byte at a time is ended by RequestReadTimeout');
is($busiest, 0, 'no target was busy with it');
is(scalar(mock_requests(port => port('MOCK_1'))), 0, 'and none was asked');
is(line_after(0)->{status}, 408, 'the statistics log tells');

# Far more than sockets hold, to somebody who does not read.
sub not_read {
    my ($what, $do, @more) = @_;
    my $n = lines();
    mock_reset();
    mock_behave({port => port('MOCK_1'), do => $do});
    my $before = anonymous_kib($child);
    my $reader = connect_to();
    $reader->send_request('POST', '/one', chat('hello', @more));
    mock_wait('early_close', port => port('MOCK_1'));
    is(wait_until('nothing in flight', sub { in_flight() == 0 ? 'none' : undef }), 'none', "$what: after Timeout upstream and target are free");
    my ($attempt) = @{line_after($n)->{ai}{proxy}{tried_targets}};
    is($attempt->{outcome}, 'client-gone', "$what: the target is not blamed");
    cmp_ok(anonymous_kib($child) - $before, '<', 24 * 1024, "$what: what is not read is not collected");
    return;
}
not_read('an answer of 64 MiB that is not read', {body_size => 64 * $mib});
not_read('a stream that is not read', {stream => {auto => 300_000}}, stream => $true);

# ---- heads ----

sub upstream_head {
    my ($what, $fields) = @_;
    mock_reset();
    mock_behave({port => port('MOCK_1'), do => {raw => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n$fields\r\n{}"}});
    return connect_to()->post('/one', chat('hello'));
}
is(upstream_head('many fields', "A: b\r\n" x 199)->{status}, 200, '200 fields of an upstream are taken');
is_error(upstream_head('too many fields', "A: b\r\n" x 200), 502, 'upstream_unreachable', 'one more is not');
is_error(upstream_head('a long line', 'A: ' . 'x' x 16_384 . "\r\n"), 502, 'upstream_unreachable', 'a line beyond 16 KiB');
is_error(upstream_head('a long head', join '', map { "A$_: " . 'x' x 8000 . "\r\n" } 1 .. 9), 502, 'upstream_unreachable', 'a head beyond 64 KiB');
like((lines())[-1]{ai}{proxy}{tried_targets}[0]{outcome}, qr/^invalid-header$/, 'the statistics log tells');
for ([8, '200 none'], [9, '502 upstream_unreachable']) {
    mock_reset();
    mock_behave({port => port('MOCK_1'), do => {interim => [(103) x $_->[0]]}});
    my $r = connect_to()->post('/one', chat('hello'));
    is("$r->{status} " . ($r->error->{code} // 'none'), $_->[1], "$_->[0] interim answers");
}
my $asked = connect_to()->send_raw('POST /one?' . 'x' x 9000 . " HTTP/1.1\r\nHost: x\r\n\r\n")->answer;
is($asked->{status}, 414, 'a long request line of a client'); # httpd has not read the path: the body is its own
for (['a long field', 'X: ' . 'x' x 9000], ['many fields', join "\r\n", map {"X$_: y"} 1 .. 101]) {
    my $r = connect_to()->send_raw("POST /one HTTP/1.1\r\nHost: x\r\n$_->[1]\r\n\r\n")->answer;
    like("$r->{status} " . ($r->error->{message} // $r->{body}), qr/^400 the gateway answered: 400 /, "$_->[0] of a client");
}

# ---- JSON ----

mock_reset();
my $chat = '"messages":[{"role":"user","content":"x"}]';
is_error(connect_to()->post('/one', "{$chat,\"a\":" . '[' x 500_000), 400, 'invalid_json', 'half a million brackets');
is_error(connect_to()->post('/one', "{$chat,\"a\":" . '{"a":' x 200_000), 400, 'invalid_json', 'and braces');
is(scalar(mock_requests()), 0, 'no target was asked');
for (['100 000 members', "{$chat" . join('', map {",\"a$_\":1"} 1 .. 90_000) . '}'], ['a string of 1 MB', "{$chat,\"a\":\"" . 'x' x 1_000_000 . '"}']) {
    mock_reset();
    is(connect_to()->post('/one', $_->[1])->{status}, 200, "$_->[0]: taken");
    my ($got) = mock_requests();
    ok($got->{body} eq substr($_->[1], 0, -1) . ',"model":"m1"}', "$_->[0]: passed on");
}
mock_reset();
mock_behave({do => {body => '{"usage":' . '[' x 500_000}});
is(length connect_to()->post('/one', chat('x'))->{body}, 500_009, 'a nested answer passes as it is');

mock_reset();
is(connect_to()->post('/meaning', chat('axis:0 0.9'))->{status}, 200, 'the embedder works');
mock_behave({port => port('MOCK_EMBED'), do => {body_size => 5 * $mib}});
is(connect_to()->post('/meaning', chat('axis:0 0.8'))->{status}, 503, 'and one that answers with 5 MiB has failed');

# ---- memory ----

# What N requests at the same time take, in KiB each, while the last target of PATH keeps them waiting.
sub taken {
    my ($path, $n, $send, @refusing) = @_;
    fresh_server();
    is(connect_to()->post('/one', chat('x'))->{status}, 200, 'a fresh server');
    my $last = port($path eq '/three' ? 'MOCK_3' : 'MOCK_1');
    mock_reset();
    mock_behave(map { {port => $_, times => -1, do => {status => 503}} } @refusing);
    mock_behave({port => $last, times => -1, do => {hang => $true}});
    my $before = anonymous_kib($child);
    my @clients = map { connect_to() } 1 .. $n;
    $send->($_) for @clients;
    mock_wait('request', port => $last, count => $n);
    my $each = (anonymous_kib($child) - $before) / $n;
    $_->close for @clients;
    wait_until('nothing in flight', sub { in_flight() == 0 });
    return $each;
}
my $body = "{$chat,\"a\":\"" . 'x' x ($mib - 100) . '"}';
my $plain = taken('/one', 24, sub { $_[0]->send_request('POST', '/one', $body) });
diag(sprintf '%.0f KiB for a request with a body of 1 MiB', $plain);
cmp_ok($plain, '<', 2.5 * 1024, 'a request takes at most two and a half times its body');
my $chunk = sprintf "%x\r\n%s\r\n", 16_000, 'x' x 16_000;
my $chunked = taken('/one', 24, sub {
    my $start = "{$chat,\"a\":\"";
    $_[0]->send_raw("POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n$start\r\n", length $start));
    $_[0]->send_raw($chunk x 65 . "2\r\n\"}\r\n0\r\n\r\n");
});
diag(sprintf '%.0f KiB for one whose length was not announced', $chunked);
cmp_ok($chunked, '<', 2.5 * 1024, 'also when its length was not announced');
my $three = taken('/three', 24, sub { $_[0]->send_request('POST', '/three', $body) }, port('MOCK_1'), port('MOCK_2'));
diag(sprintf '%.0f KiB for one that three targets were asked for', $three);
cmp_ok($three, '<', 2.5 * 1024, 'however many targets are asked');

# ---- answers ----

fresh_server();
mock_behave({port => port('MOCK_1'), do => {body_size => 40 * $mib}});
my $before = anonymous_kib($child);
my $r = connect_to()->post('/one', chat('x'));
is(length $r->{body}, 40 * $mib, 'an answer of 40 MiB is whole');
my $kept = anonymous_kib($child) - $before;
diag("$kept KiB for it");
cmp_ok($kept, '<', 28 * 1024, 'of which no more than 8 MiB are looked at');

# ---- idle connections ----

for (['400 that have sent 1 MB', 400, 1_000_000, 384], ['10 000 idle connections', 10_000, 200, 64]) {
    my ($what, $n, $size, $most) = @$_;
    fresh_server() if $n == 10_000;
    my ($status, $out, $err) = run_command(['python3', '-B', 't/lib/idle_connections.py', port('SPARE_1'), $n, $child, $size], '', 120);
    is($status, 0, $what) or diag($err);
    my $told = from_json($out);
    diag("$what: $out");
    is($told->{alive}, $n, "$what: all of them are kept and work");
    is($told->{answered}, 200, "$what: a further client is served");
    cmp_ok($told->{kib_each}, '<', $most, "$what: memory for each, in KiB");
}
$h->stop;
is_deeply([$h->unexpected(qw(AIP0021 AIP0022 AIP0025 AIP0043))], [], 'nothing unexpected in the log');
finish();
