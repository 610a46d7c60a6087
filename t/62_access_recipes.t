#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The recipes of docs/access.md, as they stand there: keys, Basic, a proxy that authenticates, client certificates. Who gets
# which model, and who gets in by a trick.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use Digest::SHA ();
use MIME::Base64 qw(encode_base64);

my $state = "$AIPTest::Setup::t/state";
my $dir   = "$state/recipes";
my %key   = map { $_ => "aip-key-of-$_-with-256-bits-of-chance" } qw(alice bob carol);
mkdir $dir;
AIPTest::Setup::write_file("$dir/ai-targets.conf", join '', map { my ($model, $mock) = @$_; <<"CONF" } ['small', 'MOCK_1'], ['large', 'MOCK_2']);
<AITarget $model>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName $model
AIModelOptionsUpstreamUrl ${\url($mock, '/v1/chat/completions')}
</AITarget>
CONF
write_keys("$dir/ai.keys", key_line('alice', $key{alice}, 'staff'), key_line('bob', $key{bob}, 'research'), key_line('carol', $key{carol}));
AIPTest::Setup::write_file("$dir/ai.groups", "research: alice\n");
AIPTest::Setup::write_file("$dir/ai.passwd", join '', map { "$_:{SHA}" . encode_base64(Digest::SHA::sha1("password of $_")) } qw(alice bob carol));

my ($modules) = slurp("$AIPTest::Setup::t/conf/modules.load") =~ m{"(/\S+)/mod_authz_core\.so"};
my %recipe = slurp(top_dir() . '/docs/access.md') =~ /^```apache\n# recipe: (\w+)\n(.*?)^```$/msg;
is_deeply([sort keys %recipe], [qw(basic certificates exceptions front keys)], 'the recipes of the page');

# A server with one of them.
sub serve {
    my ($name, $more) = @_;
    my $text = $recipe{$name} =~ s{\bconf/}{$dir/}gr;
    return start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nLogLevel warn ai_proxy_adv:info\n" . ($more // '') . $text);
}

# The models that answer, or statuses.
sub models {
    my (@headers) = @_;
    my %seen;
    for (1 .. 4) {
        my $r = client(port => port('SPARE_1'))->post('/ai', chat('x'), @headers);
        is($r->error->{message} ? 1 : 0, 1, 'a refusal is JSON') if $r->{status} != 200;
        $seen{$r->{status} == 200 ? $r->json->{model} : $r->{status}}++;
    }
    return join ' ', sort keys %seen;
}

# ---- API keys ----
my $h = serve('keys');
my %who = (alice => 'small', bob => 'large small', carol => '403');
is(models(Authorization => "Bearer $key{$_}"), $who{$_}, "keys: $_") for sort keys %who;
is(models(), '401', 'keys: nobody');
$h->stop;
is_deeply([$h->unexpected], [], 'nothing unexpected');

$h = serve('exceptions', "LoadModule remoteip_module \"$modules/mod_remoteip.so\"\nRemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1\n");
is(models(), '401', 'exceptions: nobody');
is(models(Authorization => "Bearer $key{alice}"), 'large small', 'a key');
is(models('X-Client' => '192.0.2.9'), 'large small', 'from the network');
is(models('X-Client' => '192.0.3.9'), '401', 'from another one');
isnt(client(port => port('SPARE_1'))->send_request('OPTIONS', '/ai', undef)->answer->{status}, 401, 'a preflight');
$h->stop;

# ---- Basic ----
sub basic { return (Authorization => 'Basic ' . encode_base64("$_[0]:password of " . ($_[1] // $_[0]), '')) }
$h = serve('basic');
is(models(basic('alice')), 'large small', 'basic: in a group');
is(models(basic('bob')), 'small', 'basic: one model');
like(models(basic('carol')), qr/^40[13]$/, 'basic: not among the users');
is(models(basic('alice', 'bob')), '401', 'basic: a wrong password');
is(models(), '401', 'basic: nobody');
my $r = client(port => port('SPARE_1'))->post('/ai', chat('x'));
like($r->header('WWW-Authenticate'), qr/^Basic realm="AI"/, 'the scheme is the module\'s own');
is($r->error->{type}, 'authentication_error', 'the body is JSON');
$h->stop;

# ---- behind a proxy ----
$h = serve('front', "LoadModule remoteip_module \"$modules/mod_remoteip.so\"\nRemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.0/8\n");
my @bob = ('X-Forwarded-User' => 'bob@example.com');
is(models(@bob), 'small', 'front: a user');
is(models(@bob, 'X-Client' => '203.0.113.7'), 'small', 'whatever mod_remoteip says of the client');
is(models('X-Forwarded-User' => 'alice@example.com', OIDC_CLAIM_groups => 'staff,research'), 'large small', 'front: a group');
is(models('X-Forwarded-User' => 'alice@example.com', OIDC_CLAIM_groups => 'researchers'), '403', 'front: another group');
is(models('X-Forwarded-User' => 'mallory@example.com', OIDC_CLAIM_groups => 'research'), '403', 'front: denied');
is(models('X-Forwarded-User' => 'mallory@example.com', @bob, OIDC_CLAIM_groups => 'research'), '403', 'front: denied, with a second name beside it');
is(models('X-Forwarded-User' => 'eve@example.com', @bob), '403', 'front: two names are none');
is(models(), '403', 'front: nobody');
# from another address: a socket that is bound to it
my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.2', PeerAddr => '127.0.0.1', PeerPort => port('SPARE_1')) or die "$!\n";
my $c = client(port => port('SPARE_1'));
$c->{socket} = $socket;
$r = $c->post('/ai', chat('x'), @bob, 'X-Client' => '127.0.0.1');
is($r->{status}, 403, 'front: who is not the proxy does not get in by headers');
is($r->error->{type}, 'permission_error', 'as JSON');
$h->stop;

# mod_headers, the proxy's part: "early" comes before SetEnvIf, without it RequestHeader comes too late
for (['early', '403'], ['', 'large small']) {
    my ($early, $want) = @$_;
    $h = serve('front', "RequestHeader unset OIDC_CLAIM_groups $early\nRequestHeader unset X-Forwarded-User $early\n");
    is(models(OIDC_CLAIM_groups => 'research'), $want, "RequestHeader unset $early");
    $h->stop;
}

# a module of the same httpd sets the user and a variable: mod_auth_openidc's part is played by Basic and SetEnv
$h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
<Location /ai>
AIProxy On
AuthType Basic
AuthName x
AuthUserFile "$dir/ai.passwd"
Require valid-user
SetEnvIf X-Test-Groups "^(.*)\$" OIDC_CLAIM_groups=\$1
AIAclsGroupEnv OIDC_CLAIM_groups
AIAclsAllow consumer=carol
AIAclsAllow consumer_group=research model=small
Include "$dir/ai-targets.conf"
</Location>
CONF
is(models(basic('carol')), 'large small', 'the user of another module');
is(models(basic('alice'), 'X-Test-Groups' => 'staff,research'), 'small', 'and its groups');
is(models(basic('alice'), 'X-Test-Groups' => 'staff'), '403', 'other groups');
$h->stop;

# ---- client certificates ----
sub openssl {
    my ($status, $out, $err) = run_command(['openssl', @_]);
    $status == 0 or die "openssl @_: $err\n";
    return;
}
openssl(qw(req -x509 -newkey rsa:2048 -nodes -sha256 -days 30 -subj), '/CN=clients', '-keyout', "$dir/$_.key", '-out', "$dir/$_.pem") for qw(clients-ca other-ca);
for (['alice', 'research', 'clients-ca'], ['bob', 'staff', 'clients-ca'], ['carol', 'staff', 'clients-ca'], ['eve', 'research', 'other-ca'], ['dave', 'x,research', 'clients-ca']) {
    my ($name, $unit, $ca) = @$_;
    openssl(qw(req -newkey rsa:2048 -nodes -sha256 -subj), "/O=test/OU=$unit/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
    openssl(qw(x509 -req -days 30 -sha256 -in), "$dir/$name.csr", '-CA', "$dir/$ca.pem", '-CAkey', "$dir/$ca.key", '-CAcreateserial', '-out', "$dir/$name.pem");
}
$h = serve('certificates', "SSLEngine On\nSSLCertificateFile \"\${TLS_DIR}/server.pem\"\nSSLCertificateKeyFile \"\${TLS_DIR}/server.key\"\n"
    . "<IfModule http2_module>\nProtocols h2 http/1.1\n</IfModule>\n");

# curl 7 throws an answer away (92) when mod_http2 resets a stream whose answer ended before its body was read.
sub curl {
    my (@args) = @_;
    for (1 .. 20) {
        my ($status, $out) = run_command(['curl', '-sS', '--max-time', 10, '--cacert', "$state/tls/ca.pem", @args,
            '-H', 'Content-Type: application/json', '-H', 'AI-Consumer-Group: research', '--data-binary', json(chat('x')), 'https://127.0.0.1:' . port('SPARE_1') . '/ai']);
        return ($status, $out) if $status != 92;
    }
    die "curl: no answer over HTTP/2\n";
}

sub by_certificate {
    my ($name, @more) = @_;
    my %seen;
    for (1 .. 4) {
        my ($status, $out) = curl($name ? ('--cert', "$dir/$name.pem", '--key', "$dir/$name.key") : (), @more);
        my $body = $status == 0 ? from_json($out) : {};
        $seen{$status ? 'no connection' : $body->{model} // $body->{error}{code} // 'other'}++;
    }
    return join ' ', sort keys %seen;
}
for my $protocol ('--http1.1', have_http2() ? '--http2' : ()) {
    is(by_certificate('alice', $protocol), 'large small', "certificate of a group, $protocol");
    is(by_certificate('bob', $protocol), 'small', "certificate of a user, $protocol");
    is(by_certificate('carol', $protocol), 'acl_denied', "certificate of another one, $protocol");
    is(by_certificate('dave', $protocol), 'acl_denied', "a unit that is more than a word, $protocol");
    is(by_certificate('eve', $protocol), 'no connection', "certificate of another authority, $protocol");
    is(by_certificate('', $protocol), 'no connection', "none, $protocol");
}
$h->stop;
finish();
