#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# httpd starts with the module in front of mod_proxy and mod_ssl, runs the MPM asked for, answers, restarts gracefully,
# and has nothing to complain of; the mock answers beside it.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

$AIPTest::log_from = 0;

like(slurp(top_dir() . '/t/conf/modules.load'), qr/^LoadModule ai_proxy_adv_module /, 'our module is loaded first');
my ($status, $out) = run_command([$ENV{AIP_HTTPD}, '-f', top_dir() . '/t/conf/httpd.conf', '-M']);
is($status, 0, 'httpd -M');
like($out, qr/^ ai_proxy_adv_module \(shared\)$/m, 'the module is loaded');
like($out, qr/^ mpm_${\mpm()}_module /m, 'the MPM is the one asked for');

my $c = client();
my $r = $c->get('/index.html');
is($r->{status}, 200, 'a file');
ok($r->{complete}, 'is whole');
is($c->get('/no-such-file')->{status}, 404, 'second request of the connection');
is($c->get('/server-status?auto')->{status}, 200, 'status page');

if (have_http2()) {
    my $h2 = h2_client();
    is($h2->get('/index.html')->{body}, $r->{body}, 'HTTP/2');
    is($h2->post('/no-such-file', 'x' x 100_000)->{status}, 404, 'second request of the connection');
}
my ($curl, $body, $head) =
    run_command(['curl', '-sS', '--cacert', top_dir() . '/t/state/tls/ca.pem', '-o', '/dev/null', '-w', '%{http_code} %{http_version}',
                 'https://localhost:' . port('HTTPD_TLS') . '/index.html']);
is($body, have_http2() ? '200 2' : '200 1.1', 'TLS') or diag($head);

mock_reset();
$r = AIPTest::client(port => port('MOCK_1'))->post('/v1/chat/completions', chat('hello', model => 'm'));
is($r->json->{choices}[0]{message}{content}, 'I am m, played by m1.', 'the mock answers');
is((mock_requests(port => port('MOCK_1')))[0]{path}, '/v1/chat/completions', 'and records');

my ($code, $said) = config_check("AINoSuchDirective On\n");
isnt($code, 0, 'an unknown directive stops httpd -t');
like($said, qr/AINoSuchDirective/, 'and is named');
($code, $said) = config_check("AIProxy Off\n");
is($code, 0, 'a known one does not') or diag($said);

my $h = start_httpd('Listen 127.0.0.1:${SPARE_1_PORT}');
# mpm_event complains when it is stopped while it puts a connection aside for the next request
is(client(port => port('SPARE_1'))->get('/', Connection => 'close')->{status}, 404, 'a private httpd');
$h->stop;
is_deeply([$h->unexpected], [], 'nothing unexpected in its log');

graceful();
is(get('/index.html')->{status}, 200, 'after a graceful restart');
finish();
