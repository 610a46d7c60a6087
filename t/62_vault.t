#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Secrets in a real HashiCorp Vault: seed 1 from the example configuration, rotation under load, outages, starts without a
# vault, logins and their renewal. What the gateway sends is read from the mock, what it asks for from the vault's log.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Vault;
use Time::HiRes qw(sleep time);

my $top = top_dir();
my $vault = AIPTest::Vault->start;
my @mine = ("AIRouteCache none\nStartServers 2\nServerLimit 2\nThreadsPerChild 16\nThreadLimit 16\nMaxRequestWorkers 32\nMinSpareThreads 1\nMaxSpareThreads 32\n");
@mine = ("AIRouteCache none\nStartServers 4\nMinSpareServers 1\nMaxSpareServers 8\nServerLimit 8\nMaxRequestWorkers 8\n") if mpm() eq 'prefork';
my $address = "AIVaultHost 127.0.0.1\nAIVaultPort " . $vault->port . "\n";

# A vault section and one target that needs one secret of it.
sub section { my ($name, @lines) = @_; return "<AIVault $name>\n" . join('', map { chomp(my $l = $_); "$l\n" } @lines) . "</AIVault>\n" }
sub target {
    my ($name, $value, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\nAIModelOptionsUpstreamUrl " . url('MOCK_1', '/v1/chat/completions')
        . "\nAIAuthHeaderName Authorization\nAIAuthHeaderValue \"$value\"\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}
sub gateway {
    my ($vaults, @locations) = @_;
    my $text = "Listen 127.0.0.1:\${SPARE_1_PORT}\n@mine$vaults";
    while (my ($path, $inside) = splice @locations, 0, 2) {
        $text .= "<Location $path>\nAIProxy On\n$inside</Location>\n";
    }
    return start_httpd($text);
}
sub ask { my ($path, @more) = @_; return client(port => port('SPARE_1'), timeout => 30)->post($path, chat('hello'), @more) }

# The credentials that the mock got since its reset.
sub seen {
    return map { my %h = map { lc $_->[0] => $_->[1] } @{$_->{headers}}; $h{authorization} // 'none' } mock_requests(port => port('MOCK_1'));
}
sub used { my ($path) = @_; mock_reset(); my $r = ask($path); return $r->{status} == 200 ? (seen())[-1] : "$r->{status} " . ($r->json->{error}{code} // '') }

# ---- seed 1 as it stands in conf/examples ----
$vault->write('openai', {key => 'Bearer sk-openai-1'});
$vault->write('mistral', {key => 'Bearer sk-mistral-1'});
$vault->policy('gateway', 'secret/data/*' => ['read']);
$ENV{VAULT_TOKEN} = $vault->token_create(ttl => '1h', policies => ['gateway']);
my %define = (
    OPENAI_URL => url('MOCK_1', '/v1/chat/completions'), MISTRAL_URL => url('MOCK_2', '/v1/chat/completions'),
    EMBEDDINGS_URL => url('MOCK_EMBED', '/v1/embeddings'), REDIS_PORT => port('REDIS'), STATISTICS_LOG => 'statistics_log',
    VAULT_PROTOCOL => 'http', VAULT_PORT => $vault->port
);
mock_reset();
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n@mine" . join('', map {"Define $_ $define{$_}\n"} sort keys %define)
        . qq(Include "$top/conf/examples/openai.conf"\n));
my @seed = map { chomp; [split /\t/] } grep {m{^/openai\t}} split /^/, slurp("$top/t/data/seed-prompts.tsv");
is(scalar @seed, 6, 'the prompts of seed 1');
for (@seed) {
    my (undef, $model, $prompt) = @$_;
    my $r = client(port => port('SPARE_1'), timeout => 30)->post('/openai', {messages => [{role => 'user', content => $prompt}]});
    is($r->{status}, 200, "seed 1: $prompt");
    is($r->header('X-LLM-Model'), $model, "seed 1: goes to $model");
}
for (['MOCK_1', 'Bearer sk-openai-1'], ['MOCK_2', 'Bearer sk-mistral-1'], ['MOCK_EMBED', 'Bearer sk-openai-1']) {
    my %of = map { my %r = map { lc $_->[0] => $_->[1] } @{$_->{headers}}; ($r{authorization} => 1) } mock_requests(port => port($_->[0]));
    is_deeply([keys %of], [$_->[1]], "seed 1: $_->[0] gets the key out of the vault");
}
$h->stop;
is_deeply([$h->unexpected], [], 'seed 1: nothing unexpected in the log');

# ---- rotation under load: the old key is worth nothing from one moment to the next ----
sub only { my ($key) = @_; mock_behave({port => port('MOCK_1'), unless_header => "Authorization: Bearer $key", times => -1, do => {status => 401}}); return }
$vault->write('rot', {key => 'k-0'});
$h = gateway(section('v', "AIVaultName hcv\n${address}AIVaultKv v2\nAIVaultToken $ENV{VAULT_TOKEN}\nAIVaultTtl 600"), '/rot' => target('t', 'Bearer {vault://v/rot/key}'));
mock_reset();
only('k-0');
is(ask('/rot')->{status}, 200, 'rotation: the first key');
my @load = map {
    my $pid = fork // die;
    if (!$pid) {
        my ($n, $failed, $end) = (0, '', time + 7);
        eval {
            while (time < $end) {
                my $c = client(port => port('SPARE_1'), timeout => 30);
                for (1 .. 20) { my $r = $c->post('/rot', chat('x')); $n++; $failed = " $r->{status}" if $r->{status} != 200 }
            }
            1;
        } or $failed = " $@";
        AIPTest::Setup::write_file("$AIPTest::Setup::t/state/load.$_", "$n$failed\n");
        require POSIX;
        POSIX::_exit(0);
    }
    $pid
} 1 .. 3;
for my $turn (1 .. 4) {
    sleep 1.2;
    $vault->write('rot', {key => "k-$turn"});
    mock_reset();
    only("k-$turn");
}
waitpid $_, 0 for @load;
my @result = map { slurp("$AIPTest::Setup::t/state/load.$_") } 1 .. 3;
like($_, qr/^[1-9]\d*\n\z/, 'rotation under load: no request failed') for @result;
mock_reset();
only('k-4');
is(ask('/rot')->{status}, 200, 'rotation: the last key is in use');
cmp_ok(scalar(() = $h->log =~ /AIP0201: .*has a new value/g), '==', 4, 'rotation: each change is logged once');
mock_reset();
only('another');
my $r = ask('/rot');
is($r->{status}, 401, 'a 401 that no newer key cures goes to the client');
is($r->json->{error}{code}, 'mock_401', 'with the body of the model');
$vault->mark;
ask('/rot') for 1 .. 20;
cmp_ok($vault->count('GET', 'secret/data/rot'), '<=', 1, 'and does not make the gateway hammer the vault');

# within ttl, without a 401
$h->stop;
$vault->write('ttl', {key => 'old'});
$h = gateway(section('v', "AIVaultName hcv\n${address}AIVaultKv v2\nAIVaultToken $ENV{VAULT_TOKEN}\nAIVaultTtl 2"), '/ttl' => target('t', 'Bearer {vault://v/ttl/key}'));
is(used('/ttl'), 'Bearer old', 'ttl: the value at start');
$vault->write('ttl', {key => 'new'});
my $changed = time;
wait_until('the new value', sub { used('/ttl') eq 'Bearer new' });
cmp_ok(time - $changed, '<', 2.5, 'ttl: a changed secret is used within AIVaultTtl');
$vault->mark;
sleep 4;
my $reads = $vault->count('GET', 'secret/data/ttl');
cmp_ok($reads, '>=', 1, 'ttl: it is fetched again and again');
cmp_ok($reads, '<=', 4, "ttl: by one child at a time ($reads reads in 4 s)");

# a vault that is away does no harm, and a graceful restart meanwhile neither
$vault->pause;
wait_until('word of it', sub { $h->log =~ /AIP0200: .*cannot be reached/ });
is(used('/ttl'), 'Bearer new', 'stopped vault: the last value stays in use');
$h->graceful;
is(used('/ttl'), 'Bearer new', 'stopped vault: over a graceful restart too');
$vault->resume;
wait_until('the vault', sub { $h->log =~ /AIP0202: .*can be fetched again/ });
is(scalar(() = $h->log =~ /AIP0200/g) <= 2 ? 1 : 0, 1, 'stopped vault: said once for each generation');

# sealed
$vault->seal;
wait_until('word of it', sub { $h->log =~ /AIP0200: .*is sealed \(503\)/ });
is(used('/ttl'), 'Bearer new', 'sealed vault: the last value stays in use');
$vault->unseal;

# deleted: what the vault has no longer is not used
$vault->delete('ttl');
wait_until('the end of the value', sub { used('/ttl') eq '503 secret_unavailable' });
like($h->log, qr/AIP0200: \{vault:\/\/v\/ttl\/key\}: the vault at \S+ has no such secret/, 'deleted: the log names the reference');
$vault->write('ttl', {key => 'again'});
$h->stop;
is_deeply([$h->unexpected(qw(AIP0200 AIP0202 AIP0209))], [], 'nothing else in the log');

# ---- a start with the vault away ----
my $away = section('v', "AIVaultName hcv\nAIVaultHost 127.0.0.1\nAIVaultPort ${\port('SPARE_2')}\nAIVaultKv v2\nAIVaultToken t\nAIVaultTtl 2\nAIVaultNegTtl 1");
my ($status, $said) = config_check("${away}<Location /x>\nAIProxy On\n" . target('t', 'Bearer {vault://v/a/key}') . "</Location>\n");
is($status, 0, 'httpd -t asks no vault') or diag($said);
$h = gateway($away, '/one' => target('t', 'Bearer {vault://v/a/key}'),
    '/two' => "AIBalancerAlgorithm priority\n" . target('t', 'Bearer {vault://v/a/key}', 'AIWeight 200') . target('u', 'Bearer literal'));
$r = ask('/one');
is($r->{status}, 503, 'away at start: the server runs, what needs the secret gets 503');
is_deeply($r->json->{error}, {message => 'a credential that this request needs cannot be read at the moment', type => 'gateway_error', param => undef,
    code => 'secret_unavailable'}, 'in JSON, and names nothing');
is(used('/two'), 'Bearer literal', 'away at start: a target that needs none takes its requests');
my $late = AIPTest::Vault->start(port => port('SPARE_2'), token => 't');
$late->write('a', {key => 'late'});
wait_until('the vault that came late', sub { used('/one') eq 'Bearer late' });
is(used('/two'), 'Bearer late', 'then the first target has its turn');
$late->stop;
$h->stop;
is_deeply([$h->unexpected(qw(AIP0200 AIP0202 AIP0209))], [], 'nothing else in the log');
my $required = "Listen 127.0.0.1:\${SPARE_1_PORT}\nAISecretsRequired On\n$away<Location /x>\nAIProxy On\n" . target('t', 'Bearer {vault://v/a/key}') . "</Location>\n";
ok(!eval { start_httpd($required); 1 }, 'AISecretsRequired On: the server does not start');
like($@, qr/AIP0206: .*has no value, and AISecretsRequired is On/, 'and says why');
unlike($@, qr/\bk-\d|Bearer late/, 'without a secret');
$late = AIPTest::Vault->start(port => port('SPARE_3'), token => 't');
$late->write('a', {key => 'there'});
$h = start_httpd($required =~ s/AIVaultPort \d+/"AIVaultPort " . port('SPARE_3')/er);
is(used('/x'), 'Bearer there', 'AISecretsRequired On: it starts with the vault there');
$late->stop;
$h->graceful;
is(used('/x'), 'Bearer there', 'and a graceful restart without it keeps what is known');
$h->stop;

# ---- versions, KV version 1, paths, query, whole secrets, base64 ----
$vault->write('ver', {key => 'one'});
$vault->write('ver', {key => 'two', json => '{"a":1}', b64 => 'c2VjcmV0', bad => "a\nb", n => 1});
$vault->write('team/deep/er', {'k 1' => 'deep'});
$vault->write1('old', {key => 'first'});
my $hcv = "AIVaultName hcv\n${address}AIVaultToken $ENV{VAULT_TOKEN}";
$vault->policy('gateway', 'secret/data/*' => ['read'], 'kv1/*' => ['read']);
my @cases = (
    ['{vault://v/ver/key}', 'two'], ['{vault://v/ver/key#1}', 'one'], ['{vault://v/ver/key#2}', 'two'], ['x {vault://v/ver/key}-{vault://v/ver/key#1}', 'x two-one'],
    ['{vault://v/team/deep/er/k 1}', 'deep'], ['{vault://v/old/key?mount=kv1&kv=v1}', 'first'], ['{vault://w/old/key}', 'first'],
    ['{vault://b/ver/b64}', 'secret'], ['{vault://v/ver/key#9}', '503 secret_unavailable'], ['{vault://v/ver/none}', '503 secret_unavailable'],
    ['{vault://v/ver/n}', '503 secret_unavailable'], ['{vault://v/ver/bad}', '503 secret_unavailable'], ['{vault://b/ver/key}', '503 secret_unavailable'],
    ['{vault://v/absent/key}', '503 secret_unavailable'], ['{vault://w/ver/key}', '503 secret_unavailable'],
);
$h = gateway(section('v', $hcv, 'AIVaultKv v2') . section('w', $hcv, 'AIVaultMount kv1') . section('b', $hcv, 'AIVaultKv v2', 'AIVaultBase64Decode On'),
    map { ("/c$_" => target('t', $cases[$_][0])) } 0 .. $#cases);
is(used("/c$_"), $cases[$_][1], $cases[$_][0]) for 0 .. $#cases;
$h->stop;
is_deeply([$h->unexpected(qw(AIP0200 AIP0205 AIP0209 AIP0210))], [], 'nothing else in the log');

# ---- logins ----
sub logs_in {
    my ($what, $lines, %opt) = @_;
    $vault->write('login', {key => 'v1'});
    $vault->mark;
    my $g = gateway(section('v', "AIVaultName hcv\n${address}AIVaultKv v2\nAIVaultTtl 1\nAIVaultNegTtl 1\n$lines"), '/l' => target('t', 'Bearer {vault://v/login/key}'));
    is(used('/l'), 'Bearer v1', "$what: the secret is read");
    sleep $opt{wait} if $opt{wait};
    $vault->write('login', {key => 'v2'});
    wait_until("$what: a newer value", sub { used('/l') eq 'Bearer v2' });
    $opt{then}->($g) if $opt{then};
    $g->stop;
    is_deeply([$g->unexpected(@{$opt{allowed} // []})], [], "$what: nothing unexpected in the log");
    unlike($g->log, qr/hvs\.|\bv1\b.*\bv2\b/, "$what: no token in the log");
    return;
}
my $state = "$AIPTest::Setup::t/state";
logs_in('a token that is renewed', 'AIVaultToken ' . $vault->token_create(ttl => '3s', explicit_max_ttl => '1h', policies => ['gateway', 'default'], renewable => JSON::PP::true), wait => 5,
    then => sub { cmp_ok($vault->count('POST', 'auth/token/renew-self'), '>=', 1, 'it was renewed') });
my $second = $vault->token_create(ttl => '1h', policies => ['gateway']);
AIPTest::Setup::write_file("$state/token", $vault->token_create(ttl => '2s', policies => ['gateway'], renewable => JSON::PP::false) . "\n");
my $writer = fork // die;
if (!$writer) { sleep 1.2; AIPTest::Setup::write_file("$state/token", "$second\n"); require POSIX; POSIX::_exit(0) }
logs_in('a token file that an agent renews', "AIVaultTokenFile $state/token", wait => 4, allowed => [qw(AIP0200 AIP0202)]);
waitpid $writer, 0;
my ($role, $id) = $vault->approle('app', token_policies => ['gateway'], token_ttl => '2s', token_max_ttl => '3s');
logs_in('approle, beyond the longest life of its token', "AIVaultAuthMethod approle\nAIVaultApproleRoleId $role\nAIVaultApproleSecretId $id", wait => 5,
    then => sub { cmp_ok($vault->count('POST', 'auth/approle/login'), '>=', 2, 'it logged in again') });
AIPTest::Setup::write_file("$state/secret-id", $vault->secret_id('app', '60s'));
logs_in('approle with a wrapped secret id', "AIVaultAuthMethod approle\nAIVaultApproleRoleId $role\nAIVaultApproleSecretIdFile $state/secret-id\nAIVaultApproleResponseWrapping On", wait => 4,
    then => sub {
        my ($g) = @_;
        is($vault->count('POST', 'sys/wrapping/unwrap'), 1, 'it was unwrapped once for all children and logins');
        $g->graceful;
        is(used('/l'), 'Bearer v2', 'and a graceful restart needs it no more');
        is($vault->count('POST', 'sys/wrapping/unwrap'), 1, 'nor unwraps it again');
    });
$vault->kubernetes('kube', token_policies => ['gateway'], token_ttl => '1h');
AIPTest::Setup::write_file("$state/jwt", $vault->service_account('gateway', 'httpd'));
logs_in('kubernetes', "AIVaultAuthMethod kubernetes\nAIVaultKubeRole kube\nAIVaultKubeApiTokenFile $state/jwt");
my ($revoked, $accessor) = $vault->token_create(ttl => '1h', policies => ['gateway']);
$h = gateway(section('v', "AIVaultName hcv\n${address}AIVaultKv v2\nAIVaultTtl 1\nAIVaultToken $revoked"), '/l' => target('t', 'Bearer {vault://v/login/key}'));
is(used('/l'), 'Bearer v2', 'before the token is revoked');
$vault->call('POST', 'auth/token/revoke-accessor', {accessor => $accessor});
wait_until('403', sub { $h->log =~ /AIP0200: .*refuses: permission denied, or the token is not valid \(403\)/ });
is(used('/l'), 'Bearer v2', 'a token that was revoked: the last value stays in use, and the log says why');
$h->stop;

# a namespace goes along
$vault->mark;
$h = gateway(section('v', "AIVaultName hcv\n${address}AIVaultKv v2\nAIVaultNamespace team1\nAIVaultToken $ENV{VAULT_TOKEN}"), '/l' => target('t', 'Bearer {vault://v/login/key}'));
is_deeply([sort keys %{{map { ($_->{namespace} // 'none') => 1 } $vault->requests}}], ['team1'], 'AIVaultNamespace goes with every request');
$h->stop;

# a bare key where a scheme is wanted
$h = gateway(section('v', "AIVaultName hcv\n${address}AIVaultKv v2\nAIVaultToken $ENV{VAULT_TOKEN}"), '/l' => target('bare', '{vault://v/login/key}'));
like($h->log, qr/AIP0205: target bare: the value of AIAuthHeaderValue has no scheme.*"Bearer \{vault:/, 'a bare key in Authorization: the log says what to write');
is(used('/l'), 'v2', 'and it is sent as it is');
$h->stop;
finish();
