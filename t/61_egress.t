#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# One rule for TLS to all that leaves: AIEgressCaFile, AIEgressMinTls and AIEgressClientCert for targets, for embeddings on
# the request path, and for references in the background. Each bad peer is refused, before a byte of the request has gone, and
# the log says why.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::CA;

my $tls = "$AIPTest::Setup::t/state/tls";
my $ca = AIPTest::CA->new($tls);
AIPTest::Setup::write_file("$tls/client-chain.pem", slurp("$tls/client-all.pem") . slurp("$tls/ca.pem"));
my %port = (
    self => port('PEER_1'), expired => port('PEER_2'), other => port('PEER_3'), foreign => port('PEER_4'), old => port('SPARE_2'),
    middle => port('SPARE_3'), doorman => port('SPARE_4'), porter => port('VAULT_1'), good => port('MOCK_TLS_1')
);

# why a peer is refused: to the request path, and in words of libcurl's
my %why = (
    self    => qr/self[- ]signed certificate/,
    expired => qr/certificate has expired/,
    other   => qr/(?:certificate|it) is for another name/,
    foreign => qr/unable to get (?:local )?issuer certificate/,
    old     => qr/protocol/,
);

sub target {
    my ($name, $port, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl https://localhost:$port/v1/chat/completions", @lines, "</AITarget>\n";
}

sub location {
    my ($path, $port, @lines) = @_;
    return "<Location /$path>\nAIProxy On\nAIBalancerConnectTimeout 3000\n" . target($path, $port, @lines) . "</Location>\n";
}

# Routes by meaning, and answers from the plain mock.
sub routing {
    my ($path, $port) = @_;
    my $plain = url('MOCK_1', '/v1/chat/completions');
    return <<"CONF" . join '', map { target(@$_) =~ s/UpstreamUrl \S+/UpstreamUrl $plain/r } ['zero', 1, 'AIDescription "axis:0 1"'], ['rest', 1, 'AIDescription CATCHALL'];
<Location /embed/$path>
AIProxy On
AIBalancerAlgorithm semantic
AIRouteOnFailure fail
AIRouteCache none
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl https://localhost:$port/v1/embeddings
AIEmbeddingsTimeout 3000
AIVectordbDimensions 64
CONF
}
sub routes { return map { routing($_, $port{$_}) . "</Location>\n" } @_ }

my @bad = sort keys %why;
my $middle = $ca->server(port => $port{middle}, max => 'TLSv1.2');
my $doorman = $ca->server(port => $port{doorman}, clients => 'ca');
my $porter = $ca->server(port => $port{porter}, clients => 'ca', max => 'TLSv1.2'); # refuses within the handshake
my $state = "$AIPTest::Setup::t/state/vectors-61";
mkdir $state;

# AIEgress lines stand behind what they hold for, and virtual hosts have them, too.
sub conf {
    my ($listen, $more) = @_;
    return <<"CONF";
Listen 127.0.0.1:\${${listen}_PORT}
AIStateDir $state
$more
AIEgressCaFile "$tls/ca.pem"
CONF
}

# While the references are made, all peers are good.
my @tls_ports = map { ('--tls-port', $port{$_}) } @bad;
my $vectors = start_mock('--cert', "$tls/server.pem", '--key', "$tls/server.key", '--name', 'early', @tls_ports);
my $h = start_httpd(conf('SPARE_1', join '', map({ location($_, $port{$_}) } sort keys %port), routes(@bad, 'good'),
    location('own', $port{other}, 'SSLProxyCheckPeerName off'), location('own-ca', $port{foreign}, "SSLProxyCACertificateFile \"$tls/foreign-ca.pem\""),
    location('own-none', $port{self}, 'SSLProxyVerify none'),
    location('own-cert', $port{doorman}, "SSLProxyMachineCertificateFile \"$tls/client-all.pem\""),
    <<"VHOSTS"));
Listen 127.0.0.1:\${SPARE_5_PORT}
Listen 127.0.0.1:\${SPARE_6_PORT}
<VirtualHost 127.0.0.1:\${SPARE_5_PORT}>
${\join '', map { location("new-$_", $port{$_}) } qw(good middle)}
${\location('new-own', $port{middle}, 'SSLProxyProtocol TLSv1.2')}
@{[routing('new', $port{good})]}</Location>
AIEgressMinTls TLSv1.3
</VirtualHost>
<VirtualHost 127.0.0.1:\${SPARE_6_PORT}>
${\join '', map { location("known-$_", $port{$_}) } qw(good doorman)}
AIEgressClientCert "$tls/client-chain.pem"
</VirtualHost>
VHOSTS

sub ask { my ($path, $port, $prompt) = @_; return client(port => port($port // 'SPARE_1'))->post("/$path", chat($prompt // 'hello')) }
sub routed { my ($path, $port) = @_; return wait_until("routing of $path", sub { my $r = ask($path, $port, 'axis:0 0.9'); $r->{status} == 200 && $r }) }

# ---- good ----
is(ask('good')->{status}, 200, 'a target with a certificate of the private authority');
for my $name (@bad, 'good') {
    is(routed("embed/$name", 'SPARE_1')->json->{model}, 'zero', "embed/$name: references and prompts over TLS");
}
my @first = grep { $_->{path} =~ /embeddings/ } mock_requests(port => $port{good});
is(scalar(grep { $_->{tls} } @first), scalar @first, 'all of it over TLS');

# a child makes its connection before the first prompt, with the private authority
if (mpm() ne 'prefork') {
    my $at = port('MOCK_TLS_2');
    my $count = sub { my ($what) = @_; return (map { $_->{$what} } grep { $_->{port} == $at } @{mock_connections()})[0] };
    my ($opened, $closed) = map { $count->($_) } qw(opened closed);
    my $single = "StartServers 1\nServerLimit 1\nThreadsPerChild 25\nMaxRequestWorkers 25\nMinSpareThreads 1\nMaxSpareThreads 25\nAIStateDir warm\n";
    my $w = start_httpd(conf('HTTPD_4', $single . routing('warm', $at) . "</Location>\n") =~ s/^AIStateDir \Q$state\E$//mr);
    wait_until('one connection for the references, one kept for prompts', sub { $count->('opened') == $opened + 2 && $count->('closed') == $closed + 1 });
    is(routed('embed/warm', 'HTTPD_4')->json->{model}, 'zero', 'a prompt is answered');
    is($count->('closed'), $closed + 1, 'and the connection that was there stays: its handshake was good');
    $w->stop;
    is_deeply([$w->unexpected], [], 'nothing unexpected in its log');
}

kill 'TERM', $vectors;
waitpid $vectors, 0;
my %peer = map { $_ => $ca->server(port => $port{$_}, $_ eq 'old' ? (max => 'TLSv1.1') : (cert => $_)) } @bad;

# ---- bad: targets, and embeddings on the request path ----
for my $name (@bad) {
    my $from = length $h->log;
    my $r = ask($name);
    is($r->{status}, 502, "$name: refused");
    like($r->header('Content-Type'), qr{^application/json}, "$name: in JSON");
    is($r->error->{code}, 'upstream_unreachable', "$name: as unreachable");
    like($r->error->{message}, qr/last of 1: tls$/, "$name: because of TLS");
    like(substr($h->log, $from), qr/AIP0071: $name: TLS with https:\/\/localhost:$port{$name} failed: .*$why{$name}/, "$name: the log says why");
    $from = length $h->log;
    $r = ask("embed/$name", 'SPARE_1', 'axis:0 0.8');
    is($r->{status}, 503, "embed/$name: refused");
    is($r->error->{code}, 'embeddings_unreachable', "embed/$name: as unreachable");
    like(substr($h->log, $from), qr/AIP0071: embeddings: TLS with \S+ failed: .*$why{$name}/, "embed/$name: the log says why");
    is(got($peer{$name}), 0, "$name: got nothing of either");
}

# ---- a peer that wants a certificate ----
my $from = length $h->log;
isnt(ask('doorman')->{status}, 200, 'a peer that wants a certificate refuses without');
like(substr($h->log, $from), qr/AIP0071: doorman: TLS with \S+ failed: (.*certificate required|the peer asked for a certificate and got none)/, 'the log says so');
is(ask('porter')->{status}, 502, 'also with TLS 1.2');
like($h->log, qr/AIP0071: porter: TLS with \S+ failed: .*handshake failure/, 'the log says so');
is(ask('known-doorman', 'SPARE_6')->{status}, 200, 'AIEgressClientCert shows one');
is(($doorman->seen)[-1]{client}, 'gateway', 'which arrives');
is(ask('known-good', 'SPARE_6')->{status}, 200, 'a peer that does not ask is reached as well; the authority comes from the main server');

# ---- versions ----
is(ask('middle')->{status}, 200, 'TLS 1.2 is spoken by default');
is(($middle->seen)[-1]{tls}, 'TLSv1.2', 'indeed');
is(($middle->seen)[-1]{name}, 'localhost', 'the name of the target is asked for');
sub got { my ($peer) = @_; return scalar grep { $_->{method} } $peer->seen }
my $seen = got($middle);
$from = length $h->log;
is(ask('new-middle', 'SPARE_5')->{status}, 502, 'AIEgressMinTls TLSv1.3: not with a peer of TLS 1.2');
like(substr($h->log, $from), qr/AIP0071: new-middle: TLS with \S+ failed: .*protocol/, 'the log says why');
is(got($middle), $seen, 'it got nothing');
is(ask('new-good', 'SPARE_5')->{status}, 200, 'with one of TLS 1.3');
is(routed('embed/new', 'SPARE_5')->json->{model}, 'zero', 'embeddings, too');

# ---- the operator's own lines in a target win ----
is(ask("own$_->[0]")->{status}, 200, "own line: $_->[1]")
    for ['', 'another name'], ['-ca', 'another authority'], ['-none', 'no verification'], ['-cert', 'a certificate for this target'];
is(ask('new-own', 'SPARE_5')->{status}, 200, 'own line: an older version than AIEgressMinTls');
$h->stop;
is_deeply([$h->unexpected('AIP0021', 'AIP0043', 'AIP0071', qr/\[(ssl|proxy):/)], [], 'nothing unexpected in the log');
unlike($h->log, qr/PRIVATE KEY/, 'and no key');

# ---- bad: references in the background, in libcurl's words ----
unlink glob "$state/*";
my $contacts = $middle->seen;
$h = start_httpd(conf('HTTPD_2', join '', routes(@bad, 'porter', 'good'),
    "Listen 127.0.0.1:\${HTTPD_3_PORT}\n<VirtualHost 127.0.0.1:\${HTTPD_3_PORT}>\nAIEgressMinTls TLSv1.3\n", routing('new-middle', $port{middle}), "</Location>\n</VirtualHost>\n",
    "Listen 127.0.0.1:\${HTTPD_4_PORT}\n<VirtualHost 127.0.0.1:\${HTTPD_4_PORT}>\nAIEgressClientCert \"$tls/client-chain.pem\"\n", routing('known', $port{doorman}), "</Location>\n</VirtualHost>\n"));
for my $name (@bad) {
    wait_until("embed/$name", sub { $h->log =~ /AIP0103: [^\n]*$why{$name}/ }, 20);
    pass("references of $name are refused, and the log says why");
}
wait_until('the peer of TLS 1.2', sub { $middle->seen > $contacts }, 20);
is(scalar(grep { ($_->{path} // '') =~ /embeddings/ } $middle->seen), 0, 'AIEgressMinTls holds for references');
wait_until('porter', sub { $h->log =~ /AIP0103: [^\n]*handshake failure/ }, 20);
wait_until('known', sub { grep { ($_->{client} // '') eq 'gateway' && $_->{path} =~ /embeddings/ } $doorman->seen }, 20);
pass('AIEgressClientCert is shown for references');
is(scalar(grep { $_->{method} && ($_->{client} // '') ne 'gateway' } $doorman->seen, $porter->seen), 0, 'nobody without it got in');
is(routed('embed/good', 'HTTPD_2')->json->{model}, 'zero', 'a good one beside them');
is(got($peer{$_}), 1, "$_: got nothing but what own lines of targets let through") for qw(self other foreign);
is(got($peer{$_}), 0, "$_: got nothing") for qw(expired old);
$h->stop;
unlike($h->log, qr/AIP0103: [^\n]*localhost/, 'the words hold no host');
is_deeply([$h->unexpected('AIP0103', qr/\[(ssl|proxy):/)], [], 'nothing unexpected in the log');
finish();
