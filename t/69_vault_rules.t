#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Rules about credentials that a request meets: whose bad credential it was, a target that alone lacks its secret, vaults of
# one name in two virtual hosts, a policy that denies one secret of many.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Vault;

my $state = "$AIPTest::Setup::t/state";
my $files = "$state/rules.$$";
mkdir $files or die "$files: $!\n";
mkdir "$files/$_" or die "$files/$_: $!\n" for qw(one two);
AIPTest::Setup::write_file("$files/one/key", 'of-one');
AIPTest::Setup::write_file("$files/two/key", 'of-two');
my $mine = "StartServers 2\nServerLimit 2\nThreadsPerChild 8\nThreadLimit 8\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\nAIRouteCache none\n";

sub vault { my ($name, @lines) = @_; return "<AIVault $name>\n" . join('', map {"$_\n"} @lines) . "</AIVault>\n" }
sub target {
    my ($name, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\nAIModelOptionsUpstreamUrl " . url('MOCK_1', '/v1/chat/completions') . "\n"
        . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}
sub location { my ($path, @lines) = @_; return "<Location $path>\nAIProxy On\n" . join('', map {"$_\n"} @lines) . "</Location>\n" }
sub header { my ($value) = @_; return ('AIAuthHeaderName Authorization', "AIAuthHeaderValue \"Bearer $value\"") }
sub ask { my ($path, @headers) = @_; return client(port => port('SPARE_1'))->post($path, chat('x'), @headers) }
sub asked { return map { my %h = map { lc $_->[0] => $_->[1] } @{$_->{headers}}; $h{authorization} // 'none' } mock_requests(port => port('MOCK_1')) }

# ---- whose credential, and who is asked ----
my $vault = AIPTest::Vault->start;
my @hcv = ('AIVaultName hcv', 'AIVaultHost 127.0.0.1', 'AIVaultPort ' . $vault->port, 'AIVaultKv v2');
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$mine" . vault('f', 'AIVaultName file', "AIVaultDirectory $files/one", 'AIVaultTtl 600') . vault('v', @hcv, 'AIVaultToken ' . $vault->token)
        . location('/own', target('t', header('{vault://f/key}'), 'AIAuthAllowOverride On'))
        . location('/param', target('no-name', 'AIAuthParamLocation body', 'AIAuthParamName {vault://v/absent/key}', 'AIAuthParamValue x'), target('good', header('{vault://f/key}')))
        . location('/many', 'AIBalancerAlgorithm priority', 'AIBalancerRetries 0',
            (map { target("no-key$_", header("{vault://v/absent$_/key}"), 'AIWeight ' . (9 - $_)) } 1 .. 3), target('good', header('{vault://f/key}'), 'AIWeight 1')));
mock_reset();
mock_behave({port => port('MOCK_1'), unless_header => 'Authorization: Bearer newer', times => -1, do => {status => 401}});
AIPTest::Setup::write_file("$files/one/key", 'newer');
is(ask('/own', Authorization => 'Bearer of-a-client')->{status}, 401, 'a client\'s own bad credential: the target\'s answer');
is_deeply([asked()], ['Bearer of-a-client'], 'it is sent once, and the operator\'s is not tried in its place');
is(ask('/own')->{status}, 200, 'the operator\'s, changed meanwhile: no request fails');
is_deeply([asked()], ['Bearer of-a-client', 'Bearer of-one', 'Bearer newer'], 'only its own refusal had it fetched anew');
mock_reset();
is(ask('/param')->json->{model}, 'good', 'the name of a parameter is missing: the next target answers') for 1 .. 2;
is(scalar(my @sent = asked()), 2, 'and the one without it was never asked');
mock_reset();
is(ask('/many')->json->{model}, 'good', 'three targets without a key use up no AIBalancerRetries');
is_deeply([asked()], ['Bearer newer'], 'only the fourth was asked');
$h->stop;
is_deeply([$h->unexpected(qw(AIP0200 AIP0209))], [], 'nothing else in the log');

# ---- vaults of one name ----
AIPTest::Setup::write_file("$files/one/key", 'of-one');
my $host = sub { my ($port, $dir) = @_; return "<VirtualHost 127.0.0.1:\${${port}_PORT}>\n" . vault('f', 'AIVaultName file', "AIVaultDirectory $files/$dir") . location('/h', target('t', header('{vault://f/key}'))) . "</VirtualHost>\n" };
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nListen 127.0.0.1:\${SPARE_3_PORT}\n$mine" . $host->('SPARE_1', 'one') . $host->('SPARE_3', 'two'));
mock_reset();
client(port => port($_))->post('/h', chat('x')) for qw(SPARE_1 SPARE_3 SPARE_1);
is_deeply([asked()], ['Bearer of-one', 'Bearer of-two', 'Bearer of-one'], 'the same reference means each virtual host\'s own vault');
$h->stop;
is_deeply([$h->unexpected], [], 'nothing in the log');

# ---- a policy ----
$vault->write('shown',  {key => 'v1'});
$vault->write('hidden', {key => 'v1'});
$vault->policy('part', 'secret/data/shown' => ['read']);
my ($role, $secret) = $vault->approle('part', token_policies => ['part'], token_ttl => '1h');
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$mine" . vault('v', @hcv, 'AIVaultAuthMethod approle',
        "AIVaultApproleRoleId $role", "AIVaultApproleSecretId $secret", 'AIVaultNegTtl 1')
        . location('/shown', target('t', header('{vault://v/shown/key}'))) . location('/hidden', target('t', header('{vault://v/hidden/key}'))));
mock_reset();
is(ask('/shown')->{status}, 200, 'the secret that the policy allows');
is(ask('/hidden')->{status}, 503, 'the one that it does not');
my $denied = $vault->count('GET', 'secret/data/hidden');
wait_until('three more refusals', sub { $vault->count('GET', 'secret/data/hidden') >= $denied + 3 }, 30);
is($vault->count('POST', 'auth/approle/login'), 1, 'refusals by policy do not make it log in anew');
$h->stop;
is_deeply([$h->unexpected(qw(AIP0200 AIP0209))], [], 'nothing else in the log');
finish();
