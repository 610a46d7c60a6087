#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The tests' own tools do what other tests rely on: Vault (engines, ways to log in, sealed, paused, restarted, its log), the
# certificates good and bad, the server that presents them.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;
use AIPTest::CA;
use AIPTest::Vault;

# ---- Vault: engines, policies, tokens ----

my $v = AIPTest::Vault->start;
my @as_nobody = ('X-Vault-Token' => undef);
sub status { return (ref $_[0] ? shift : $v)->api(@_) } # in list context: status and answer
sub as { my ($token, @more) = @_; return ('X-Vault-Token' => $token, 'X-Vault-Namespace' => undef, @more) }

is($v->write('team/key', {value => 'one'}), 1, 'kv version 2: the first version');
is($v->write('team/key', {value => 'two "quoted" \\ and umlaut ' . chr(0xfc)}), 2, 'the second');
my ($status, $got) = status('GET', 'secret/data/team/key');
is_deeply([$status, $got->{data}{data}{value}, $got->{data}{metadata}{version}], [200, 'two "quoted" \\ and umlaut ' . chr(0xfc), 2], 'the latest is read');
is($v->call('GET', 'secret/data/team/key?version=1')->{data}{data}{value}, 'one', 'and an older one');
$v->delete('team/key');
is((status('GET', 'secret/data/team/key'))[0], 404, 'a deleted one: 404');
$v->write1('team/key', {value => 'plain'});
($status, $got) = status('GET', 'kv1/team/key');
is_deeply([$status, $got->{data}{value}], [200, 'plain'], 'kv version 1');
is((status('GET', 'kv1/nothing'))[0], 404, 'nothing there: 404');

$v->policy('reader', 'kv1/team/*' => ['read']);
my ($token, $accessor) = $v->token_create(ttl => '1h', policies => ['reader']);
is((status('GET', 'kv1/team/key', undef, as($token)))[0], 200, 'a token reads what its policy allows');
is((status('GET', 'kv1/other', undef, as($token)))[0], 403, 'and nothing else');
is((status('GET', 'kv1/team/key', undef, as(undef)))[0], 403, 'no token');
$v->call('POST', 'auth/token/revoke-accessor', {accessor => $accessor});
is((status('GET', 'kv1/team/key', undef, as($token)))[0], 403, 'a revoked token');
$token = $v->token_create(ttl => '1s', policies => ['reader']);
is((status('GET', 'kv1/team/key', undef, as($token)))[0], 200, 'a token for a second');
ok(wait_until('the end of it', sub { (status('GET', 'kv1/team/key', undef, as($token)))[0] == 403 }), 'expires');

# ---- ways to log in ----

sub reads { my ($token, $name) = @_; is((status('GET', 'kv1/team/key', undef, as($token)))[0], 200, "$name: the token reads"); return }
my ($role_id, $secret_id) = $v->approle('gateway', token_policies => ['reader'], token_ttl => '5s');
($token, $got) = $v->login('approle', {role_id => $role_id, secret_id => $secret_id});
reads($token, 'approle');
is($got->{auth}{lease_duration}, 5, 'approle: the time to live of its role');
($status, $got) = status('POST', 'auth/approle/login', {role_id => $role_id, secret_id => 'x'}, @as_nobody);
is($status, 400, 'approle: a wrong secret id');
my $wrapped = $v->secret_id('gateway', '60s');
$secret_id = $v->call('POST', 'sys/wrapping/unwrap', undef, as($wrapped))->{data}{secret_id};
reads(scalar $v->login('approle', {role_id => $role_id, secret_id => $secret_id}), 'approle, secret id unwrapped');
is((status('POST', 'sys/wrapping/unwrap', undef, as($wrapped)))[0], 400, 'unwrapped only once');

$v->userpass('gateway', 'pass word', token_policies => ['reader']);
reads(scalar $v->login('userpass/login/gateway', {password => 'pass word'}), 'userpass');
is((status('POST', 'auth/userpass/login/gateway', {password => 'x'}, @as_nobody))[0], 400, 'userpass: a wrong password');

$v->kubernetes('gateway', token_policies => ['reader']);
my $jwt = $v->service_account('gateway', 'httpd');
reads(scalar $v->login('kubernetes', {role => 'gateway', jwt => $jwt}), 'kubernetes');
my $elsewhere = $v->service_account('elsewhere', 'httpd');
is((status('POST', 'auth/kubernetes/login', {role => 'gateway', jwt => $elsewhere}, @as_nobody))[0], 403, 'kubernetes: another namespace');
my $forged = $v->new_jwt('gateway', 'httpd');
is((status('POST', 'auth/kubernetes/login', {role => 'gateway', jwt => $forged}, @as_nobody))[0], 403, 'kubernetes: a token that the cluster does not know');
$v->service_account_gone($jwt);
is((status('POST', 'auth/kubernetes/login', {role => 'gateway', jwt => $jwt}, @as_nobody))[0], 403, 'kubernetes: one that it no longer knows');

# ---- what it logs ----

$v->mark;
is($v->count('GET', 'kv1/team/key'), 0, 'the log since the mark');
$v->call('GET', 'kv1/team/key') for 1 .. 2;
is(scalar($v->requests), 0, "the helper's own calls are not in it");
status('GET', 'kv1/team/key', undef, 'X-Vault-Namespace' => 'team1');
status('GET', 'kv1/team/key?list=true', undef, as(undef));
is($v->count('GET', 'kv1/team/key'), 2, 'others are');
is_deeply([map { $_->{namespace} } $v->requests], ['team1', undef], 'with their namespace');
unlike(slurp("$v->{dir}/requests"), qr/\Q$secret_id\E|\Q$v->{token}\E|\Q$wrapped\E|pass word|\Q$jwt\E|umlaut/, 'no token, no body in the log');

# ---- sealed, silent, gone ----

$v->seal;
($status, $got) = status('GET', 'kv1/team/key');
is_deeply([$status, $got->{errors}], [503, ['Vault is sealed']], 'sealed: 503');
$v->unseal;
is((status('GET', 'kv1/team/key'))[0], 200, 'unsealed: the data are there');
my ($unseal_key) = slurp("$v->{dir}/unseal") =~ /^(\S{40,})\n\z/;
unlike(slurp("$AIPTest::Setup::t/logs/vault_log"), qr/\Q$unseal_key\E/, 'the unseal key is in its file alone');
is((stat "$v->{dir}/unseal")[2] & 077, 0, 'which is its owner\'s');
$v->pause;
ok(!eval { $v->api('GET', 'kv1/team/key', undef, '--max-time' => 0.5); 1 }, 'paused: no answer');
like($@, qr/timed out/i, 'within the time');
$v->resume;
is((status('GET', 'kv1/team/key'))[0], 200, 'resumed');
my $port = $v->port;
$v->stop;
ok(!eval { $v->api('GET', 'kv1/team/key'); 1 }, 'stopped: no connection');
$v->restart;
is($v->port, $port, 'restarted on its port');
is((status('GET', 'kv1/team/key'))[0], 404, 'empty');

# ---- Vault over TLS ----

my $ca = AIPTest::CA->new("$AIPTest::Setup::t/state/tls");
my $secure = AIPTest::Vault->start(tls => 1);
like($secure->url, qr/^https:/, 'https');
isnt($secure->port, $v->port, 'beside the other');
$secure->policy('reader', 'kv1/team/*' => ['read']);
$secure->write1('team/key', {value => 'plain'});
$secure->cert_role('gateway', $ca->path('ca.pem'), allowed_common_names => 'gateway', token_policies => ['reader']);
sub files { my ($name) = @_; return ('--cert' => $ca->path("$name.pem"), '--key' => $ca->path("$name.key")) }
$secure->mark;
($token) = $secure->login('cert', {name => 'gateway'}, 'X-Vault-Namespace' => undef, files('client'));
is((status($secure, 'GET', 'kv1/team/key', undef, as($token, files('client'))))[0], 200, 'cert: the token reads');
is_deeply([map { $_->{client} } $secure->requests], ['gateway', 'gateway'], "the log has the certificate's name");
is((status($secure, 'POST', 'auth/cert/login', {name => 'gateway'}, @as_nobody))[0], 400, 'cert: without a certificate');
is((status($secure, 'POST', 'auth/cert/login', {name => 'gateway'}, @as_nobody, files('foreign-client')))[0], 400, 'cert: by another authority');
ok(!eval { $secure->api('GET', 'sys/health', undef, '--cacert' => $ca->path('foreign-ca.pem')); 1 }, 'a client that trusts another authority');
like($@, qr/certificate/, 'refuses its certificate');

# ---- certificates ----

# What curl says to a server with that certificate: its exit status, and what it said.
sub visit {
    my ($peer, @more) = @_;
    my ($status, $out, $err) = run_command(['curl', '-q', '-sS', '--max-time', 5, '--cacert', $ca->path('ca.pem'), @more, 'https://localhost:' . $peer->port . '/x?y']);
    return ($status, $out . $err);
}

sub trial {
    my ($name, $pattern, @options) = @_;
    my $peer = $ca->server(port => port('PEER_1'), @options);
    my ($status, $said) = visit($peer);
    defined $pattern ? isnt($status, 0, "$name: refused") : is($status, 0, "$name: taken");
    like($said, $pattern // qr/^\{"ok":true\}$/, "$name: as expected");
    is(scalar(grep { $_->{method} } $peer->seen), defined $pattern ? 0 : 1, "$name: what the server has seen");
    $peer->stop;
    return;
}
trial('server',  undef);
trial('expired', qr/expired/,                                        cert => 'expired');
trial('other',   qr/does not match|no alternative certificate/,      cert => 'other');
trial('self',    qr/self.signed/,                                    cert => 'self');
trial('foreign', qr/unable to get local issuer/,                     cert => 'foreign');
my ($valid, $said) = run_command(['openssl', 'x509', '-noout', '-checkend', 0, '-in', $ca->path('expired.pem')]);
is($valid, 1, 'expired is expired') or diag($said);
for my $name (qw(server client)) {
    is((run_command(['openssl', 'verify', '-CAfile', $ca->path('ca.pem'), $ca->path("$name.pem")]))[0], 0, "$name: by the authority");
}
isnt((run_command(['openssl', 'verify', '-CAfile', $ca->path('ca.pem'), $ca->path("$_.pem")]))[0], 0, "$_: not by it") for qw(foreign foreign-client self expired);

# ---- the server that presents them ----

my $old = $ca->server(port => port('PEER_1'), max => 'TLSv1.1');
($status, $said) = visit($old, '--tlsv1.2');
isnt($status, 0, 'at most TLS 1.1: a client that wants more gives up');
like($said, qr/protocol version|unsupported protocol/, 'because of the version') or diag($said);
is((visit($old, '--tlsv1.0', '--tls-max', '1.1', '--ciphers', 'DEFAULT:@SECLEVEL=0'))[0], 0, 'one that allows it is served');
is(($old->seen)[-1]{tls}, 'TLSv1.1', 'by TLS 1.1');
my $new = $ca->server(port => port('PEER_2'), min => 'TLSv1.3', status => 503, body => 'no', type => 'text/plain');
is_deeply([visit($new, '-w', '/%{http_code}/%{content_type}', '-H', 'X-Test: 1', '-d', 'body')], [0, 'no/503/text/plain'], 'another answer');
my ($seen) = $new->seen;
is_deeply([@$seen{qw(method path body tls name client)}, $seen->{headers}{'x-test'}], ['POST', '/x?y', 'body', 'TLSv1.3', 'localhost', undef, 1], 'what it has seen');
my $doorman = $ca->server(port => port('PEER_3'), clients => 'ca');
is((visit($doorman, files('client')))[0], 0, 'a server that wants a client certificate: with it');
is(($doorman->seen)[-1]{client}, 'gateway', 'its name');
isnt((visit($doorman, @$_))[0], 0, 'without, or by another authority') for [], [files('foreign-client')];
is(scalar(grep { $_->{error} } $doorman->seen), 2, 'the handshakes that failed are in the log');
my $plain = $ca->server(port => port('PEER_4'), plain => 1);
is(client(port => $plain->port)->get('/z')->json->{ok}, JSON::PP::true, 'without TLS');
finish();
