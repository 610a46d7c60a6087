#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# HashiCorp Vault over TLS: a private authority, login by certificate, through a proxy; and every peer that is not the vault
# is refused, with the reason in the log, before a token has been sent to it.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::CA;
use AIPTest::ConnectProxy;
use AIPTest::Vault;

my $ca = AIPTest::CA->new("$AIPTest::Setup::t/state/tls");
my $vault = AIPTest::Vault->start(tls => 1);
$vault->write('k', {key => 'by-tls'});
$vault->policy('gateway', 'secret/data/*' => ['read']);
my $token = $vault->token_create(ttl => '1h', policies => ['gateway']);

sub vault {
    my ($host, $port, @lines) = @_;
    return "<AIVault v>\nAIVaultName hcv\nAIVaultProtocol https\nAIVaultHost $host\nAIVaultPort $port\nAIVaultKv v2\nAIVaultTtl 600\nAIVaultTimeout 2000\n" . join('', map {"$_\n"} @lines) . "</AIVault>\n";
}
my $location = "<Location /v>\nAIProxy On\n<AITarget t>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\nAIModelOptionsUpstreamUrl "
    . url('MOCK_1', '/v1/chat/completions') . "\nAIAuthHeaderName Authorization\nAIAuthHeaderValue \"Bearer {vault://v/k/key}\"\n</AITarget>\n</Location>\n";
sub gateway { return start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nStartServers 1\n" . join('', map {"$_\n"} @_) . $location) }
sub status { return client(port => port('SPARE_1'), timeout => 30)->post('/v', chat('x'))->{status} }
my $trust = "AIEgressCaFile \"${\$ca->path('ca.pem')}\"";

sub works {
    my ($what, @lines) = @_;
    mock_reset();
    my $h = gateway(@lines);
    is(status(), 200, "$what: the secret is there") or diag($h->log);
    my %sent = map { lc $_->[0] => $_->[1] } @{(mock_requests(port => port('MOCK_1')))[0]{headers} // []};
    is($sent{authorization}, 'Bearer by-tls', "$what: and is the right one");
    $h->stop;
    is_deeply([$h->unexpected], [], "$what: nothing unexpected in the log");
    return;
}

sub refused {
    my ($what, $reason, @lines) = @_;
    my $h = gateway(@lines);
    is(status(), 503, "$what: there is no secret");
    like($h->log, qr/AIP0200: the login to <AIVault v>: the vault at \S+ cannot be reached: .*$reason/i, "$what: and the log says why");
    $h->stop;
    return;
}

works('a private authority', $trust, vault('localhost', $vault->port, "AIVaultToken $token"));
works('by address', $trust, vault('127.0.0.1', $vault->port, "AIVaultToken $token"));
works('TLS 1.3 alone', $trust, 'AIEgressMinTls TLSv1.3', vault('localhost', $vault->port, "AIVaultToken $token"));

$vault->cert_role('gateway', $ca->path('ca.pem'), token_policies => ['gateway'], token_ttl => '1h');
works('login by certificate', $trust, "AIEgressClientCert \"${\$ca->path('client-all.pem')}\"", vault('localhost', $vault->port, 'AIVaultAuthMethod cert'));
works('login by certificate, with a role', $trust, "AIEgressClientCert \"${\$ca->path('client-all.pem')}\"", vault('localhost', $vault->port, "AIVaultAuthMethod cert\nAIVaultCertAuthRoleName gateway"));
my ($status, $said) = config_check("$trust\n" . vault('localhost', $vault->port, 'AIVaultAuthMethod cert') . $location);
isnt($status, 0, 'login by certificate without one is refused');
like($said, qr/AIVaultAuthMethod cert needs AIEgressClientCert/, 'and the message says what is missing');
my $h = gateway($trust, "AIEgressClientCert \"${\$ca->path('foreign-client-all.pem')}\"", vault('localhost', $vault->port, 'AIVaultAuthMethod cert'));
is(status(), 503, 'a certificate of another authority: there is no secret');
like($h->log, qr/AIP0200: the login to <AIVault v>: the vault at \S+ refuses: the login is not accepted/, 'and the log says why');
$h->stop;

my $proxy = AIPTest::ConnectProxy->new(port => port('SPARE_2'), auth => 'gw:p w');
$proxy->mode('auth');
works('through a proxy', $trust, "AIEgressProxy http://127.0.0.1:${\port('SPARE_2')}", 'AIEgressProxyAuth "gw:p w"', vault('localhost', $vault->port, "AIVaultToken $token"));
cmp_ok(scalar(my @tunnels = $proxy->seen), '>=', 1, 'through a proxy: it was used');
refused('through a proxy that refuses', '407', $trust, "AIEgressProxy http://127.0.0.1:${\port('SPARE_2')}", 'AIEgressProxyAuth "gw:wrong"', vault('localhost', $vault->port, "AIVaultToken $token"));

# ---- peers that are not the vault ----
refused('the system\'s authorities alone', 'issuer|self.signed', vault('localhost', $vault->port, "AIVaultToken $token"));
for (['self-signed', 'self.signed', cert => 'self'], ['expired', 'expired', cert => 'expired'], ['another name', 'another name', cert => 'other'], ['another authority', 'issuer', cert => 'foreign'],
    ['TLS 1.1 at most', 'protocol', max => 'TLSv1.1'], ['no TLS', 'TLS|SSL|version', plain => 1]) {
    my ($what, $reason, @how) = @$_;
    my $peer = $ca->server(port => port('PEER_1'), @how);
    refused($what, $reason, $trust, vault('localhost', port('PEER_1'), "AIVaultToken $token"));
    is(scalar(grep { json($_) =~ /\Q$token\E/ } $peer->seen), 0, "$what: it has not seen the token");
    $peer->stop;
}
my $peer = $ca->server(port => port('PEER_1'), max => 'TLSv1.2');
refused('TLS 1.2 where 1.3 is asked for', 'protocol', $trust, 'AIEgressMinTls TLSv1.3', vault('localhost', port('PEER_1'), "AIVaultToken $token"));
$peer->stop;

# a vault that sends its clients elsewhere: not followed
$peer = $ca->server(port => port('PEER_1'), status => 307);
$vault->mark;
$h = gateway($trust, vault('localhost', port('PEER_1'), "AIVaultToken $token"));
is(status(), 503, 'a redirect: there is no secret');
like($h->log, qr/AIP0200: .*answers with a redirect \(307\), which is not followed; name the active node/, 'and the log says what to do');
is(scalar($vault->requests), 0, 'nobody followed it');
$h->stop;
finish();
