#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# API keys and rules: who gets in, with what answer, in which logs; what a key may not do; files that change under load.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use Digest::SHA qw(sha1);
use MIME::Base64 qw(encode_base64);
use Time::HiRes qw(time);

my $state = "$AIPTest::Setup::t/state";
my $true  = JSON::PP::true;
my %key   = map { $_ => "aip-key-of-$_-with-256-bits-of-chance" } qw(alice bob carol);
my $keys  = "$state/access-keys";
my @lines = ("# keys\n\n", key_line('alice', $key{alice}, 'staff'), key_line('bob', $key{bob}, 'staff', 'ops'), key_line('carol', $key{carol}));
write_keys($keys, @lines);
AIPTest::Setup::write_file("$state/access-groups", "eng: carol \"dave d\"\n");

sub target {
    my ($name, $mock, @more) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai',
        "AIModelOptionsUpstreamUrl ${\url($mock, '/v1/chat/completions')}", @more, "</AITarget>\n";
}
my $one = target('one', 'MOCK_1', 'AIModelName one');
my $two = $one . target('two', 'MOCK_2', 'AIModelProvider mistral', 'AIModelName two') . target('any', 'MOCK_3');
my $n = 0;
my ($modules) = slurp("$AIPTest::Setup::t/conf/modules.load") =~ m{"(/\S+)/mod_authz_core\.so"};
my $conf = <<"CONF";
LoadModule access_compat_module "$modules/mod_access_compat.so"
LoadModule remoteip_module "$modules/mod_remoteip.so"
RemoteIPHeader X-Client
RemoteIPInternalProxy 127.0.0.1
Listen 127.0.0.1:\${SPARE_1_PORT}
MaxKeepAliveRequests 0
LogLevel info ai_proxy_adv:trace8
<IfModule mpm_prefork_module>
StartServers 8
MinSpareServers 8
</IfModule>
LogFormat "%u %>s %U" users
CustomLog users users
AIExplain body
<IfModule http2_module>
Protocols h2c http/1.1
</IfModule>
<Location /key>
AIProxy On
AIApiKeyFile "$keys"
AIStatisticsLog statistics
${\target('one', 'MOCK_1', 'AIModelName one', 'AILoggingLogPayloads On')}
</Location>
<Location /key/status>
SetHandler ai-status
</Location>
<Location /key/open>
AIApiKeyFile none
</Location>
<Location /status>
SetHandler server-status
AIApiKeyFile "$keys"
</Location>
<Location /own>
AIProxy On
AIApiKeyFile "$keys"
AIApiKeyHeader X-Gateway-Key
AIApiKeyHeader Authorization
$one
</Location>
CONF

# A gateway with these lines and targets; returns its path.
sub gateway {
    my ($text, $targets) = @_;
    my $path = '/g' . $n++;
    $conf .= "<Location $path>\nAIProxy On\nAIApiKeyFile \"$keys\"\n$text\n" . ($targets // $one) . "</Location>\n";
    return $path;
}
my %require = map { $_ => gateway("Require $_") } 'user alice', 'valid-user', 'all denied';
my $any     = gateway("Satisfy Any\nOrder allow,deny\nAllow from all");
my $basic   = gateway("AuthType Basic\nAuthName x\nAuthBasicProvider file\nAuthUserFile \"$state/none\"\nRequire valid-user");
my $over    = gateway('', target('one', 'MOCK_1', 'AIModelName one', 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer ours"', 'AIAuthAllowOverride On'));
my $over_q  = gateway('', target('one', 'MOCK_1', 'AIModelName one', 'AIAuthParamName k', 'AIAuthParamValue ours', 'AIAuthParamLocation query', 'AIAuthAllowOverride On'));
my $over_b  = gateway('', target('one', 'MOCK_1', 'AIModelName one', 'AIAuthParamName k', 'AIAuthParamValue ours', 'AIAuthParamLocation body', 'AIAuthAllowOverride On'));
my $over_n  = gateway('', target('one', 'MOCK_1', 'AIModelName one', 'AIAuthAllowOverride On'));
my $embed   = gateway(<<"CONF", target('one', 'MOCK_1', 'AIModelName one', 'AIDescription "axis:0 1"'));
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIEmbeddingsAuthHeaderName X-Api-Key
AIEmbeddingsAuthHeaderValue ours
AIEmbeddingsAuthAllowOverride On
AIVectordbDimensions 64
AIRouteCache none
AIStateDir state
CONF
# A password of this server's, or a key where none is asked for, next to a target that takes the client's own credential.
AIPTest::Setup::write_file("$state/access-passwd", 'x:{SHA}' . encode_base64(sha1('y')));
my $override = target('one', 'MOCK_1', 'AIModelName one', 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer ours"', 'AIAuthAllowOverride On');
$conf .= <<"CONF";
<Location /password>
AIProxy On
AuthType Basic
AuthName x
AuthBasicProvider file
AuthUserFile "$state/access-passwd"
Require valid-user
$override
</Location>
<Location /if>
AIProxy On
AIApiKeyFile "$keys"
<If "%{HTTP:X-Open} == 'yes'">
AIApiKeyFile none
</If>
$override
</Location>
<Location /no-keys>
AIProxy On
$override
</Location>
CONF
my $h = start_httpd($conf);

sub ask { my ($path, @headers) = @_; return client(port => port('SPARE_1'))->post($path, chat('axis:0 1'), @headers) }
sub bearer { return (Authorization => "Bearer $_[0]") }

# ---- who gets in ----
for ([Authorization => "Bearer $key{alice}"], [authorization => "bearer   $key{alice}"], ['X-Api-Key' => $key{alice}], ['api-key' => $key{alice}], ['X-Goog-Api-Key' => $key{alice}],
    [Authorization => 'Basic eDp5', 'X-Api-Key' => $key{alice}], [Authorization => 'Bearer ', 'Api-Key' => $key{alice}]) {
    is(ask('/key', @$_)->{status}, 200, "@$_");
}
my %refused = (
    'no key' => [], 'an empty one' => [bearer('')], 'an empty x-api-key' => ['X-Api-Key', ''], 'an unknown one' => [bearer('x' x 40)],
    'the hash' => [bearer((split /\$/, $lines[1])[1] =~ s/\n//r)], 'a line of the file' => [bearer($lines[1] =~ s/\n//r)],
    'too short' => [bearer(substr $key{alice}, 0, -1)], 'too long' => [bearer("$key{alice}x")], 'another case' => [bearer(uc $key{alice})],
    'twice' => [bearer($key{alice}), bearer($key{alice})], 'x-api-key twice' => [map { ('X-Api-Key', $key{$_}) } qw(alice bob)], 'no scheme' => [Authorization => $key{alice}],
    'another scheme' => [Authorization => "Token $key{alice}"], 'a wrong one before a right one' => [bearer('x' x 40), 'X-Api-Key' => $key{alice}],
    'a cookie' => [Cookie => "key=$key{alice}"], '7 kB' => [bearer('k' x 7000)], 'bytes beyond ASCII' => [bearer("\xff" x 40)],
);
mock_reset();
for my $what (sort keys %refused) {
    my $r = ask('/key', @{$refused{$what}});
    is($r->{status}, 401, "$what: refused");
    is($r->error->{code}, 'invalid_api_key', "$what: as JSON");
    is($r->header('WWW-Authenticate'), 'Bearer', "$what: with the scheme");
    is($r->header('Content-Type'), 'application/json', "$what: of that type");
}
is(scalar mock_requests(), 0, 'no upstream saw anything');
is(ask('/key', bearer('k' x 10_240))->{status}, 400, '10 kB: refused by httpd');
for ("NUL\0", "CR\r", "LF\nX: y\r") {
    my $c = client(port => port('SPARE_1'));
    $c->{method} = 'POST';
    $c->send_raw("POST /key HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer $key{alice}$_\r\nContent-Length: 0\r\n\r\n");
    is($c->answer->{status}, 400, substr($_, 0, 2) . ' in a key: no request');
}
for my $method (qw(GET HEAD OPTIONS PUT)) {
    is(client(port => port('SPARE_1'))->send_request($method, '/key', undef)->answer->{status}, 401, "$method without a key");
}
my $c = client(port => port('SPARE_1'));
is($c->post('/key', chat('x'))->{status}, 401, 'first request of a connection, without');
is($c->post('/key', chat('x'), bearer($key{bob}))->{status}, 200, 'second, with');
is($c->post('/key', chat('x'))->{status}, 401, 'third, without again');
$c->send_raw("POST /key HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n");
my $r = $c->answer;
is_deeply([$r->{status}, @{$r->{interim}}], [401], 'the body is not asked for');
if (have_http2()) {
    my $h2 = h2_client(port => port('SPARE_1'));
    is($h2->post('/key', chat('x'))->{status}, 401, 'HTTP/2, without');
    is($h2->post('/key', chat('x'), 'x-api-key' => $key{alice})->{status}, 200, 'HTTP/2, with');
}
is(ask('/own', 'X-Gateway-Key' => $key{alice})->{status}, 200, 'a header of our choice');
is(ask('/own', bearer($key{alice}))->{status}, 200, 'or the next one');
is(ask('/own', 'X-Api-Key' => $key{alice})->{status}, 401, 'no other one');
is(ask('/key/open')->{status}, 200, 'none: no key is asked for');

# ---- whatever handles the request ----
sub status_page { return client(port => port('SPARE_1'))->get(@_) }
is(status_page('/key/status')->{status}, 401, 'ai-status below the location');
is(status_page('/key/status', bearer($key{alice}))->{status}, 200, 'with a key');
$r = status_page('/status?auto');
is($r->{status}, 401, 'a handler of httpd, beside any gateway');
is($r->error->{code}, 'invalid_api_key', 'as JSON');
is(status_page('/status?auto', bearer($key{alice}))->{status}, 200, 'with a key');
is(status_page('/key//status')->{status}, 401, 'another spelling of the path');
is(status_page('/key/%73tatus')->{status}, 401, 'and another');

# ---- httpd's own authorization ----
my %want = ('user alice' => [200, 403, 401], 'valid-user' => [200, 200, 401], 'all denied' => [403, 403, 401]);
for my $require (sort keys %require) {
    my @got = map { ask($require{$require}, @$_) } [bearer($key{alice})], [bearer($key{bob})], [];
    is_deeply([map { $_->{status} } @got], $want{$require}, "Require $require: alice, bob, nobody");
    is_deeply([grep { $_->{status} != 200 && !$_->error->{type} } @got], [], 'refusals are JSON');
}
is(ask($any)->{status}, 401, 'Satisfy Any does not let in without a key');
is(ask($any, bearer($key{alice}))->{status}, 200, 'but with one');
is(ask($basic, bearer($key{alice}))->{status}, 200, 'who has a key needs no password');
is(ask($basic, Authorization => 'Basic eDp5')->{status}, 401, 'who has none is not asked for one');

# ---- a gateway's key is no provider's ----
sub sent {
    my ($path, $body, $port, @headers) = @_;
    mock_reset();
    $r = client(port => port('SPARE_1'))->post($path, $body, @headers);
    is($r->{status}, 200, "$path is answered") or diag($r->{body});
    my @got = mock_requests(port => port($port));
    unlike(join("\n", map { ($_->{path}, $_->{body}, map {@$_} @{$_->{headers}}) } mock_requests()), qr/aip-key-of/, 'and no key leaves');
    my %got = map { lc $_->[0] => $_->[1] } @{$got[0]{headers}};
    return ($got[0], \%got);
}
is((sent($over, chat('x'), 'MOCK_1', bearer($key{alice})))[1]{authorization}, 'Bearer ours', 'override: the configured credential replaces a key');
is((sent('/own', chat('x'), 'MOCK_1', 'X-Gateway-Key' => $key{alice}, 'X-Request-Id' => "id $key{alice}"))[1]{'x-request-id'}, undef, 'nor among the headers that are forwarded');
is_deeply([map { (sent($over_n, chat('x'), 'MOCK_1', bearer($key{alice}), 'X-Api-Key' => $_))[1]{'x-api-key'} } $key{alice}, $key{bob}, "Bearer $key{bob}", 'theirs'],
    [undef, undef, undef, 'theirs'], 'override without a credential: what is none of ours');
like((sent("$over_q?k=$_", chat('x'), 'MOCK_1', bearer($key{alice})))[0]{path}, qr/\?k=ours$/, "override: query $_")
    for $key{alice}, $key{bob}, $key{bob} =~ s/-/%2d/gr;
like((sent("$over_q?k=theirs", chat('x'), 'MOCK_1', bearer($key{alice})))[0]{path}, qr/\?k=theirs$/, 'override: a query of their own');
is(from_json((sent($over_b, chat('x', k => $_->[0]), 'MOCK_1', bearer($key{alice})))[0]{body})->{k}, $_->[1], "override: body $_->[0]")
    for [$key{alice}, 'ours'], [$key{bob}, 'ours'], ['theirs', 'theirs'];
is((sent('/password', chat('x'), 'MOCK_1', Authorization => 'Basic eDp5'))[1]{authorization}, 'Bearer ours', 'a password for this server is no credential for a target');
is((sent($_, chat('x'), 'MOCK_1', 'X-Open' => 'yes', bearer($key{bob})))[1]{authorization}, 'Bearer ours', "$_: nor is a key, where none is asked for")
    for '/if', '/no-keys';
is((sent('/no-keys', chat('x'), 'MOCK_1', bearer('theirs')))[1]{authorization}, 'Bearer theirs', 'what is neither goes');
is((sent('/no-keys', chat('x'), 'MOCK_1', Authorization => ''))[1]{authorization}, 'Bearer ours', 'an empty header is no credential');
is((sent($embed, chat('axis:0 1'), 'MOCK_EMBED', 'X-Api-Key' => $key{alice}))[1]{'x-api-key'}, 'ours', 'override of the embeddings call');
is((sent($embed, chat('axis:0 1'), 'MOCK_EMBED', bearer($key{alice}), 'X-Api-Key' => 'theirs'))[1]{'x-api-key'}, 'theirs', 'a credential of their own');

# ---- orders to targets ----
my $order = {target => 'one', action => 'drain', path => '/nowhere'};
is(client(port => port('SPARE_1'))->post('/key/status', $order, bearer($key{alice}))->{status}, 404, 'a key and a client of this machine: an order is read');

$r = client(port => port('SPARE_1'))->post('/key/status', $order, bearer($key{alice}), 'X-Client' => '192.0.2.1');
is_deeply([$r->{status}, $r->error->{code}], [403, 'not_authorized'], 'a key alone, from elsewhere: it may not');

# ---- files that change: each child follows by itself, so a child may know less than another one ----
sub until_status { my ($want, $path, @headers) = @_; return wait_until("$want of $path", sub { ask($path, @headers)->{status} == $want }, 10) }
my $new = 'aip-key-of-dave-made-while-it-runs';
write_keys($keys, @lines[0 .. 2], key_line('dave', $new));
ok(until_status(200, '/key', bearer($new)), 'a new key works without a restart');
ok(until_status(401, '/key', bearer($key{carol})), 'one that was taken away does not');
write_keys($keys, @lines, "mallory:in-clear-in-clear-in-clear\n");
wait_until('a complaint', sub { ask('/key', bearer($key{alice})); $h->log =~ /AIP0171/ }, 10);
is(ask('/key', bearer($key{alice}))->{status}, 200, 'a broken file changes nothing');
my $until = time + 2.5; # each child looks at it
while (time < $until) { ask('/key', bearer($key{alice})); select undef, undef, undef, 0.02 }
is(scalar(() = $h->log =~ /AIP0171: \S+access-keys: line 6: the hash must begin with sha256\$;.*what was read before still holds/g), 1, 'and is said once');
unlink $keys;
wait_until('another one', sub { ask('/key', bearer($key{alice})); $h->log =~ /AIP0171: cannot read '\S+access-keys'/ }, 10);
is(ask('/key', bearer($key{alice}))->{status}, 200, 'nor does a file that is gone');
write_keys($keys, @lines);
chmod 0, $keys;
select undef, undef, undef, 1.1;
is(ask('/key', bearer($key{alice}))->{status}, 200, 'nor one that cannot be read') for 1 .. 4;
write_keys($keys, @lines);
ok(until_status(401, '/key', bearer($new)), 'one that is good again counts');

# 10 000 keys, rewritten while clients ask: whoever is always in it always gets in
my @many = map { key_line("user-$_", "aip-key-of-user-number-$_", 'many') } 1 .. 10_000;
write_keys($keys, @many, @lines);
ok(until_status(200, '/key', bearer('aip-key-of-user-number-10000')), '10 000 keys');
my @clients = map { client(port => port('SPARE_1')) } 1 .. 6;
my %seen;
$until = time + 3.5;
for (my $i = 0; time < $until; $i++) {
    write_keys($keys, @many[$i % 7 .. $#many], @lines) if $i % 20 == 0;
    $_->send_request('POST', '/key', chat('x'), bearer($key{alice})) for @clients;
    $seen{$_->answer->{status}}++ for @clients;
}
is_deeply([keys %seen], [200], "nobody was refused while it changed ($seen{200} requests)");

# ---- logs ----
is_deeply([$h->deaths], [], 'no child died');
my $users = slurp("$h->{dir}/users");
like($users, qr{^alice 200 /key$}m, 'the access log has the consumer');
like($users, qr{^- 401 /key$}m, 'and nobody where nobody was known');
$h->stop;
unlike($_->[1] =~ s/^.*http2.*$//gmr, qr/aip-key-of|in-clear/, "no key in $_->[0]")
    for ['a log at trace8', $h->log], ['the access log', $users], ['the statistics', slurp("$h->{dir}/statistics")];
like($h->log, qr/AIP0172: refused: no API key was given/, 'the log says that none was given');
like($h->log, qr/AIP0172: refused: the API key is not known/, 'or that it is not known');
is_deeply([$h->unexpected('AIP0171', 'AH01630', 'AH01631', 'AH01797')], [], 'nothing else in it');
finish();
