#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Credentials: the configured one goes to its target in header, query or body, verbatim; allow_override decides whether a
# client's own is kept; values come from vaults; and no credential is seen in answers, logs or statistics.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $chat   = chat('x');
my $bearer = 'Bearer  secret-in-a-header, =,;';
my $path   = '/v1/chat/completions';

# What the target got: {path, key (member api_key), Authorization, ...}
sub sent {
    my ($location, $body, @headers) = @_;
    mock_reset();
    my $r = post("/cred/$location", $body, @headers);
    is($r->{status}, 200, "$location is answered") or diag($r->{body});
    return seen((mock_requests(port => port('MOCK_1')))[0]);
}

sub seen {
    my ($got) = @_;
    my %seen = (path => $got->{path});
    for my $field (@{$got->{headers}}) {
        my ($name, $value) = @$field;
        next unless $name =~ /^(authorization|api-key|x-api-key|cookie)$/i;
        $seen{lc $name} = exists $seen{lc $name} ? "$seen{lc $name} AND $value" : $value;
    }
    my $body = from_json($got->{body});
    $seen{key} = $body->{api_key} if exists $body->{api_key};
    return \%seen;
}

my @own   = (Authorization => 'Bearer own', 'Api-Key' => 'own1', 'X-Api-Key' => 'own2', Cookie => 'a=own');
my %body  = (api_key => 'own');
my $query = "$path?the%20key=secret%20in%20a%20query%26%3D%25%2F";

# ---- a header ----
is_deeply(sent('header', $chat), {path => $path, authorization => $bearer}, 'header: verbatim');
is_deeply(sent('header', $chat, @own), {path => $path, authorization => $bearer}, 'header, off: replaces the client\'s');
is_deeply(sent('header-on', $chat), {path => $path, authorization => $bearer}, 'header, on: the configured one for want of another');
is_deeply(sent('header-on', $chat, @own), {path => $path, authorization => 'Bearer own'}, 'header, on: the client\'s is kept');
is_deeply(sent('header-on', $chat, authorization => 'x', 'Api-Key' => 'own1'), {path => $path, authorization => 'x'},
    'header, on: no other of the client\'s');

# ---- a query parameter ----
is_deeply(sent('query', $chat), {path => $query =~ s/\?/?a=b&/r}, 'query: encoded, behind the target\'s own query');
is_deeply(sent('query?the%20key=own&x=y', $chat, @own), {path => $query =~ s/\?/?a=b&/r}, 'query, off: replaces the client\'s');
is_deeply(sent('query-on', $chat), {path => $query}, 'query, on: the configured one for want of another');
is_deeply(sent('query-on?x=y&the%20key=o%77n&z', $chat), {path => "$path?the%20key=o%77n"}, 'query, on: the client\'s is kept, and nothing else');
is_deeply(sent('query-on?the%20key', $chat, @own), {path => "$query", authorization => 'Bearer own', 'api-key' => 'own1', 'x-api-key' => 'own2'},
    'query, on, no header configured: the client\'s credential headers');

# ---- a member of the body ----
is_deeply(sent('body', $chat), {path => $path, key => 'secret in a "body"'}, 'body: added');
is_deeply(sent('body', {%$chat, %body}, @own), {path => $path, key => 'secret in a "body"'}, 'body, off: replaces the client\'s');
is_deeply(sent('body-on', $chat), {path => $path, key => 'secret in a "body"'}, 'body, on: the configured one for want of another');
is_deeply(sent('body-on', {%$chat, %body}), {path => $path, key => 'own'}, 'body, on: the client\'s is kept');
is_deeply(sent('body-on', {%$chat, api_key => undef}), {path => $path, key => 'secret in a "body"'}, 'body, on: null is none');
my $r = post('/cred/body', '{"messages":[{"role":"user"}],"api_key":"a","api\u005fkey":"b"}');
is($r->error->{code}, 'duplicate_member', 'body: a credential twice is refused');
is($r->error->{param}, 'api_key', 'by name');
is_deeply(sent('both', $chat, @own), {path => $path, 'x-api-key' => 'secret-in-a-header', key => 'secret in a "body"'}, 'two places at once');

# ---- none configured ----
is_deeply(sent('none', {%$chat, %body}, @own), {path => $path, key => 'own'}, 'none, off: no header of the client\'s; a member is a member');
is_deeply(sent('none-on', $chat, @own), {path => $path, authorization => 'Bearer own', 'api-key' => 'own1', 'x-api-key' => 'own2'},
    'none, on: the client\'s credentials, but no cookie');
is_deeply(sent('none-on', $chat), {path => $path}, 'none, on: none sent, none received');

# ---- each target its own ----
mock_reset();
mock_behave({port => port('MOCK_1'), do => {status => 503}});
my $lines = statistics();
$r = post('/cred/two', $chat, @own);
is($r->{status}, 200, 'the second target answers');
is_deeply(seen((mock_requests(port => port('MOCK_1')))[0]), {path => $path, authorization => $bearer, key => 'secret in a "body"'},
    'the first target got its own credentials');
is_deeply(seen((mock_requests(port => port('MOCK_2')))[0]), {path => $path, 'x-api-key' => 'secret of the second'},
    'and the second one its own');
statistics_wait($lines + 1);

# ---- nobody sees them ----
$lines = statistics();
for my $name (qw(header query body both)) {
    for my $do ({status => 500}, {status => 403}, {drop_before_head => \1}, {raw => "SSH-2.0\r\n\r\n", close => \1}, {cut_after_bytes => 20}) {
        mock_reset();
        mock_behave({port => port('MOCK_1'), times => -1, do => $do});
        $r = post("/cred/$name", {%$chat, %body}, @own);
        unlike(join("\n", $r->{body}, map {@$_} @{$r->{headers}}), qr/secret|own/, "$name, ${\json($do)}: not in the answer ($r->{status})");
    }
}
mock_reset();
$r = post('/cred/dead', $chat);
is($r->{status}, 502, 'a dead target');
unlike($r->{body}, qr/secret/, 'not in the answer');
statistics_wait($lines + 21);
my @with_payload = grep { ($_->{ai}{proxy}{payload}{request} // q()) =~ /"api_key"/ } statistics();
cmp_ok(scalar @with_payload, '>', 10, 'bodies with a credential are among the logged ones');
my $t = top_dir() . '/t';
for my $log (qw(error_log access_log statistics_log)) {
    is_deeply([grep {/secret|Bearer own|own1|"own"/} grep { !/"target":"none"/ } split /\n/, slurp("$t/logs/$log")], [], "$log: no credential in it");
}

# ---- vaults; and the whole log of a server that tells all ----
my $file = "$t/state/credential.$$";
AIPTest::Setup::write_file($file, "from a file\r\n");
local @ENV{qw(AIP_TEST_KEY AIP_TEST_JSON)} = ('from the environment', '{"a":"x","key":"from a member"}');
my @values = (
    ['AIAuthHeaderValue "Bearer {vault://env/AIP_TEST_KEY}"',      'Bearer from the environment'],
    ['AIAuthHeaderValue "{vault://env/aip-test-key}"',             'from the environment'],
    ['AIAuthHeaderValue "{vault://env/AIP_TEST_JSON/key}"',        'from a member'],
    [qq(AIAuthHeaderValue "a {vault://file$file} b {vault://file$file}"), 'a from a file b from a file'],
    ['AIAuthHeaderValue "${AIP_TEST_KEY}"',                        'from the environment'],
    ['AIAuthHeaderValue "{vault}"',                                '{vault}'],
);
my $n     = 0;
my $conf  = "Listen 127.0.0.1:\${SPARE_1_PORT}\nKeepAlive Off\nLogLevel trace8\nAIStatisticsLog statistics\n";
for my $value (@values) {
    $conf .= <<"CONF";
<Location "/${\$n++}/">
    AIProxy On
    <AITarget vault>
        AIRouteType llm/v1/chat
        AIModelProvider openai
        AIModelOptionsUpstreamUrl "http://127.0.0.1:\${MOCK_1_PORT}/v1/chat/completions"
        AIAuthHeaderName X-Credential
        $value->[0]
        AIAuthParamName "{vault://env/AIP_TEST_KEY}"
        AIAuthParamValue "{vault://file$file}"
        AIAuthParamLocation query
        AILoggingLogPayloads On
    </AITarget>
</Location>
CONF
}
my $h = start_httpd($conf);
unlink $file;
for my $i (0 .. $#values) {
    mock_reset();
    my $c = client(port => port('SPARE_1'));
    is($c->post("/$i/", $chat)->{status}, 200, "vault $i");
    ok($c->closed, 'without keep-alive');
    my ($got) = mock_requests(port => port('MOCK_1'));
    is_deeply([map { $_->[1] } grep { $_->[0] eq 'X-Credential' } @{$got->{headers}}], [$values[$i][1]], "value $i");
    is($got->{path}, "$path?from%20the%20environment=from%20a%20file", 'name and value of the parameter');
}
mock_behave({do => {drop_before_head => \1}});
my $c = client(port => port('SPARE_1'));
is($c->post('/0/', $chat)->{status}, 502, 'a target that drops');
ok($c->closed, 'and nothing is left open');
$h->stop;
unlike($h->log, qr/from( |%20)(the|a)/, 'nothing of them in a log at trace8');
unlike(slurp("$h->{dir}/statistics"), qr/from( |%20)(the|a)/, 'nor in the statistics');
is_deeply([$h->unexpected('AIP0021')], [], 'nothing unexpected in that log');
my ($code, $said) = config_check(<<'CONF');
AIProxy On
<AITarget t>
    AIRouteType llm/v1/chat
    AIModelProvider openai
    AIAuthHeaderName Authorization
    AIAuthHeaderValue "Bearer {vault://env/AIP_NO_SUCH_VARIABLE} and-a-secret"
</AITarget>
CONF
isnt($code, 0, 'a secret that is missing stops httpd -t');
like($said, qr/AIP_NO_SUCH_VARIABLE is not set/, 'and is named');
unlike($said, qr/and-a-secret/, 'without the rest of the value');
finish('AIP0021', 'AIP0022', 'AH00957', 'AH01114');
