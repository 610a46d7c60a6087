#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# AIEgressProxy for targets, embeddings and references, https and http alike: tunnels, credentials, what goes around it, and
# every way in which a proxy fails. Addresses that are never gone to, and redirects that are not followed.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;
use AIPTest::CA;
use AIPTest::ConnectProxy;

my $tls = "$AIPTest::Setup::t/state/tls";
my $secret = 'us%er:pass word:%41';
my ($https, $http, $embed) = (port('MOCK_TLS_1'), port('MOCK_1'), port('MOCK_TLS_2'));
my $proxy = AIPTest::ConnectProxy->new(port => port('SPARE_2'), auth => $secret);
$proxy->mode('auth');

sub target {
    my ($name, $url, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl $url/v1/chat/completions", @lines, "</AITarget>\n";
}

sub location {
    my ($path, $url, @lines) = @_;
    return "<Location /$path>\nAIProxy On\nAIBalancerConnectTimeout 1500\nAIBalancerReadTimeout 3000\n" . join("\n", @lines, '') . target($path, $url) . "</Location>\n";
}

sub routing {
    my ($path, $url, @lines) = @_;
    return "<Location /$path>\n" . join("\n", 'AIProxy On', 'AIBalancerAlgorithm semantic', 'AIRouteOnFailure fail', 'AIRouteCache none',
        'AIEmbeddingsModelProvider openai', 'AIEmbeddingsModelName text-embedding-3-small', "AIEmbeddingsModelOptionsUpstreamUrl $url/v1/embeddings",
        'AIEmbeddingsTimeout 1000', 'AIVectordbDimensions 64', @lines, '')
        . target('zero', "http://127.0.0.1:$http", 'AIDescription "axis:0 1"') . target('rest', "http://127.0.0.1:$http", 'AIDescription CATCHALL') . "</Location>\n";
}

my $ca = AIPTest::CA->new($tls);
my %peer = (verified => port('PEER_1'), other => port('PEER_2'), foreign => port('PEER_3'));
my %server = map { $_ => $ca->server(port => $peer{$_}, cert => $_ eq 'verified' ? 'server' : $_) } keys %peer;
my $children = mpm() eq 'prefork' ? "StartServers 2\nMaxSpareServers 2\nMinSpareServers 1\n" : "StartServers 1\nServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n";
my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
Listen 127.0.0.1:\${SPARE_3_PORT}
Listen 127.0.0.1:\${SPARE_4_PORT}
Listen 127.0.0.1:\${SPARE_5_PORT}
Protocols h2c http/1.1
$children
AIEgressCaFile "$tls/ca.pem"
AIEgressProxy http://127.0.0.1:\${SPARE_2_PORT}
AIEgressProxyAuth "$secret"
AIEgressNoProxy other.example 10.0.0.0/8
AIEgressNoProxy 127.0.0.1
${\join '', location('https', "https://localhost:$https"), location('http', "http://localhost:$http"), location('around', "http://127.0.0.1:$http"),
    location('elsewhere', "http://localhost:${\port('DEAD')}"), location('metadata', 'http://169.254.169.254'), location('spelled', 'http://0xa9fea9fe'),
    location('named', 'http://metadata.google.internal'), location('redirect', "https://localhost:$https"),
    map { location($_, "https://localhost:$peer{$_}") } sort keys %peer}
<Location /pair>
AIProxy On
AIBalancerConnectTimeout 600
${\target('first', "https://localhost:$https")}
${\target('second', "http://127.0.0.1:$http")}
</Location>
${\routing('embed', "https://localhost:$embed")}
<VirtualHost 127.0.0.1:\${SPARE_3_PORT}>
AIEgressProxy http://127.0.0.1:\${DEAD_PORT}
AIStateDir away
${\join '', location('away', "https://localhost:$https"), routing('embed-away', "https://localhost:$embed")}
</VirtualHost>
<VirtualHost 127.0.0.1:\${SPARE_4_PORT}>
AIEgressNoProxy *
AIStateDir direct
${\join '', location('direct', "https://localhost:$https"), location('metadata', 'http://169.254.169.254:1'), location('spelled', 'http://2852039166:1'),
    location('mapped', 'http://[::ffff:a9fe:a9fe]:1'), location('link', 'http://169.254.1.1:1'), routing('embed-direct', "https://localhost:$embed"),
    routing('embed-metadata', 'http://169.254.169.254:1')}
</VirtualHost>
<VirtualHost 127.0.0.1:\${SPARE_5_PORT}>
AIEgressNoProxy *
AIEgressAllow https://localhost:*/v1/* http://127.0.0.1:*
AIEgressAllow fe80::1
${\join '', location('allowed', "https://localhost:$https"), location('link', 'http://[fe80::1]:1')}
</VirtualHost>
CONF

my $main = port('SPARE_1');
sub ask { my ($path, $port, @more) = @_; return client(port => $port ? port($port) : $main)->post("/$path", chat('axis:0 0.9', @more)) }
sub routed { my ($path, $port) = @_; return wait_until("routing of $path", sub { my $r = ask($path, $port); $r->{status} == 200 && $r }) }

# The answer, and what has been logged meanwhile.
sub watched {
    my $from = length $h->log;
    my $r = ask(@_);
    return ($r, substr $h->log, $from);
}

# ---- tunnels ----
is(routed('embed')->json->{model}, 'zero', 'references and prompts go through the proxy');
my @tunnels = $proxy->seen;
is_deeply([sort { $a cmp $b } keys %{{map { $_->{authority} => 1 } @tunnels}}], ["localhost:$embed"], 'by a tunnel to the embeddings provider');
is(scalar(grep { $_->{method} ne 'CONNECT' } @tunnels), 0, 'and by nothing else');
mock_reset();
$proxy->forget;
for my $name (qw(https http)) {
    my $c = client(port => $main);
    is($c->post("/$name", chat('hello'))->{status}, 200, "$name target: answered") for 1 .. 3;
    is(scalar $proxy->seen, 1, "$name: one tunnel, reused") if mpm() ne 'prefork';
    my ($tunnel) = $proxy->seen;
    my $port = $name eq 'https' ? $https : $http;
    is($tunnel->{authority}, "localhost:$port", "$name: to the target");
    is_deeply([sort keys %{$tunnel->{headers}}], ['host', 'proxy-authorization'], "$name: the proxy learns nothing else");
    my ($got) = mock_requests(port => $port);
    is(scalar(grep { $_->[0] =~ /^proxy-/i } @{$got->{headers}}), 0, "$name: the target nothing of the proxy");
    is((map { $_->[1] } grep { lc $_->[0] eq 'host' } @{$got->{headers}})[0], "localhost:$port", "$name: Host is the target's");
    $proxy->forget;
}
my $r = client(port => $main)->post('/https', chat('hello'), 'Proxy-Authorization' => 'Basic Y2xpZW50');
is($r->{status}, 200, "a client's Proxy-Authorization");
is(scalar(grep { ($_->{headers}{'proxy-authorization'} // '') =~ /Y2xpZW50/ } $proxy->seen), 0, 'is not sent to the proxy');
is(ask('https', undef, stream => JSON::PP::true)->{status}, 200, 'a stream');
mock_close(port => $https, all => JSON::PP::true);
$proxy->mode('trickle');
is(ask('https')->{status}, 200, 'a tunnel that the target closed is replaced, also when the head comes byte by byte');
is(h2_client(port => $main)->post('/https', chat('hello'))->{status}, 200, 'HTTP/2') if have_http2();
$proxy->forget;
is(ask('around')->{status}, 200, 'AIEgressNoProxy');
is(scalar $proxy->seen, 0, 'goes around it');
is(ask('direct', 'SPARE_4')->{status}, 200, 'AIEgressNoProxy * of a virtual host');
is(routed('embed-direct', 'SPARE_4')->json->{model}, 'zero', 'also for embeddings');
is(scalar $proxy->seen, 0, 'goes around it');

# what is verified behind a proxy is the target
for my $try (1 .. 2) {
    is(ask('verified')->{status}, 200, 'a good certificate behind the proxy');
    for my $name (qw(other foreign)) {
        my ($answer, $log) = watched($name);
        is($answer->{status}, 502, "$name: refused");
        like($log, qr/AIP0071: $name: TLS with https:\/\/localhost:$peer{$name} failed: .*(another name|issuer)/, "$name: the log says why");
    }
}
is(($server{verified}->seen)[-1]{name}, 'localhost', 'the name of the target is asked for');
is(scalar(grep { $_->{method} } map { $_->seen } @server{qw(other foreign)}), 0, 'nothing was sent to the others');

# ---- proxies that fail ----
my %says = (403 => 'it refused, status 403', 407 => 'other credentials \(AIEgressProxyAuth\), status 407', 302 => 'it refused, status 302',
    502 => 'it refused, status 502', garbage => 'no HTTP head', early => 'no HTTP head', huge => 'no HTTP head', close => 'closed the connection');
for my $mode (sort keys %says) {
    mock_close(port => $https, all => JSON::PP::true);
    mock_reset();
    $proxy->mode($mode);
    my ($answer, $log) = watched('https');
    is($answer->{status}, 502, "$mode: 502");
    is($answer->error->{code}, 'upstream_unreachable', "$mode: unreachable");
    like($answer->error->{message}, qr/last of 1: connect$/, "$mode: no connection");
    like($log, qr/AIP0070: https: no tunnel to https:\/\/localhost:$https through the proxy 127\.0\.0\.1:\d+: .*$says{$mode}/, "$mode: the log says why");
    is(ask('pair')->json->{model}, 'second', "$mode: the next target is tried") for 1 .. 2;
    is(scalar(mock_requests(port => $https)), 0, "$mode: nothing was sent");
}
$proxy->mode('hang');
my $begin = time;
my ($answer, $log) = watched('https');
is($answer->{status}, 504, 'a proxy that hangs: 504');
like($answer->error->{message}, qr/connect-timeout$/, 'as time-out of the connection');
cmp_ok(time - $begin, '<', 3, 'in time');
like($log, qr/AIP0070: .*did not answer in time/, 'the log says so');
$proxy->forget;
my $c = client(port => $main);
$c->send_raw("POST /https HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n" . '{"messages":[{"role":"user","content":"hi"}]}');
wait_until('a tunnel under way', sub { scalar $proxy->seen });
$begin = time;
$c->close;
wait_until('the attempt given up', sub { $h->log =~ /AIP0020: [^\n]*client-gone/ });
cmp_ok(time - $begin, '<', 0.5, 'a client that leaves meanwhile ends it');
($answer, $log) = watched('away', 'SPARE_3');
is($answer->{status}, 502, 'a proxy that is away');
like($log, qr/AIP0024: away: .*the proxy of AIEgressProxy is away/, 'the log says so');
is(ask('embed-away', 'SPARE_3')->error->{code}, 'references_missing', 'embeddings: without references');
wait_until('why', sub { $h->log =~ /AIP0103: [^\n]*no tunnel through the proxy/ });
$proxy->mode('ok');
is(ask('https')->{status}, 200, 'a proxy that is back');
mock_close(port => $embed, all => JSON::PP::true);
$proxy->mode(407);
($answer, $log) = watched('embed');
is($answer->error->{code}, 'embeddings_unreachable', 'prompts through a proxy that refuses');
like($log, qr/AIP0070: embeddings: .*status 407/, 'the log says why');
($answer) = watched('elsewhere');
is($answer->{status}, 502, 'nothing goes around a proxy that refuses');
$proxy->mode('ok');

# ---- addresses that are never gone to ----
$proxy->forget;
for my $name (qw(metadata spelled named)) {
    ($answer, $log) = watched($name);
    is($answer->{status}, 502, "$name: refused");
    like($log, qr/AIP0072: $name: not connected to \S+: it has the address of a metadata service/, "$name: the log says why");
}
is(scalar $proxy->seen, 0, 'the proxy is not asked for it');
for my $name (qw(metadata spelled mapped link)) {
    $begin = time;
    ($answer, $log) = watched($name, 'SPARE_4');
    is($answer->{status}, 502, "$name, without proxy: refused");
    like($log, qr/AIP0072: $name: .* has (the address of a metadata service|a link-local address)/, "$name: the log says why");
    cmp_ok(time - $begin, '<', 0.5, "$name: nothing was tried");
}
wait_until('references', sub { $h->log =~ /AIP0103: [^\n]*(the address of a metadata service)/ });
pass('references: refused as well');
is(ask('allowed', 'SPARE_5')->{status}, 200, 'AIEgressAllow lets a URL pass');
($answer, $log) = watched('link', 'SPARE_5');
unlike($log, qr/AIP0072/, 'an address that it names is tried');
like($log, qr/AIP0024: link: cannot connect/, 'in earnest, and without an interface in vain');

# ---- redirects ----
mock_reset();
for my $status (301, 302, 303, 307, 308) {
    mock_behave({port => $https, do => {status => $status, headers => [['Location', url('MOCK_2', '/v1/chat/completions')]], body => '{}'}});
    $r = ask('redirect');
    is($r->{status}, $status, "$status: as it is");
    is($r->{body}, '{}', "$status: with its body");
    is($r->header('Location'), url('MOCK_2', '/v1/chat/completions'), "$status: and its Location");
}
mock_behave({port => $embed, do => {status => 307, headers => [['Location', url('MOCK_2', '/v1/embeddings')]], body => '{}'}});
is(ask('embed')->error->{code}, 'embeddings_status', 'embeddings: a redirect is a failure');

# ---- the operator's command line leaves by the same rule ----
my $conf = AIPTest::private_conf(<<"CONF") . '/httpd.conf';
Listen 127.0.0.1:${\port('SPARE_6')}
AIEgressCaFile "$tls/ca.pem"
AIEgressProxy http://127.0.0.1:${\port('SPARE_2')}
AIEgressProxyAuth "$secret"
${\routing('tool', "https://localhost:$embed")}
CONF
$ENV{XDG_CACHE_HOME} = "$AIPTest::Setup::t/state/cache-62";
my @tool = ($ENV{AIP_AIPCTL}, 'route', '--httpd', $ENV{AIP_HTTPD}, '--module', $ENV{AIP_MODULE}, $conf, '/tool');
$proxy->forget;
$proxy->mode('auth');
my ($status, $out, $err) = run_command(\@tool, "axis:0 0.7\n");
is($status, 0, 'aipctl embeds over the proxy') or diag($out . $err);
like($out, qr/zero/, 'and routes');
is(scalar(grep { $_->{authority} ne "localhost:$embed" } $proxy->seen), 0, 'by tunnels to the provider');
cmp_ok(scalar $proxy->seen, '>', 0, 'indeed');
$ENV{XDG_CACHE_HOME} .= '-2';
$proxy->mode(403);
($status, $out, $err) = run_command(\@tool, "axis:0 0.6\n");
isnt($status, 0, 'a proxy that refuses');
like($err, qr/the proxy answered CONNECT with status 403/, 'is named');
unlike($out . $err, qr/pass word/, 'its credentials are not');
is(scalar(mock_requests(port => port('MOCK_2'))), 0, 'no redirect was followed');

$h->stop;
unlike($h->log, qr/pass word|dXMlZXI6/, 'the credentials are in no log');
is_deeply([$h->unexpected('AIP0021', 'AIP0043', 'AIP0070', 'AIP0071', 'AIP0072', 'AIP0103', qr/\[(ssl|proxy):/)], [], 'nothing unexpected in the log');
finish();
