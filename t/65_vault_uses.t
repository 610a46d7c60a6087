#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Secrets everywhere a field takes them, and their exchange while the server runs: names of headers and parameters, a
# member of the body, the embeddings credential, the whole address and login of Redis, files of an orchestrator, vaults of
# virtual hosts.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Vault;
use Time::HiRes qw(sleep time);

my $vault = AIPTest::Vault->start;
my $state = "$AIPTest::Setup::t/state";
my $port = port('SPARE_2');
my $hcv = sub { "<AIVault $_[0]>\nAIVaultName hcv\nAIVaultHost 127.0.0.1\nAIVaultPort ${\$vault->port}\nAIVaultKv v2\nAIVaultToken ${\$vault->token}\n" . join('', map {"$_\n"} @_[1 .. $#_]) . "</AIVault>\n" };
my $mine = "StartServers 2\nServerLimit 2\nThreadsPerChild 8\nThreadLimit 8\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\nAIRouteCache none\n";

sub target {
    my ($name, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\nAIModelOptionsUpstreamUrl " . url('MOCK_1', '/v1/chat/completions') . "\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}
sub location { my ($path, @lines) = @_; return "<Location $path>\nAIProxy On\n" . join('', map {"$_\n"} @lines) . "</Location>\n" }
sub ask { my ($path, $text, $at) = @_; return client(port => port($at // 'SPARE_1'), timeout => 30)->post($path, chat($text // 'x')) }
sub got { my ($path, $at) = @_; mock_reset(); my $r = ask($path, 'x', $at); return $r->{status} == 200 ? (mock_requests(port => port('MOCK_1')))[-1] : {path => $r->{status}, headers => [], body => '{}'} }
sub field { my ($got, $name) = @_; return join ',', map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$got->{headers}} }

# ---- names ----
$vault->write('names', {header => 'X-Key', value => 'v 1', param => 'a key', body => 'member', host => 'Host', model => 'model', odd => "a b\n"});
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$mine" . $hcv->('v', 'AIVaultTtl 1')
        . location('/header', target('t', 'AIAuthHeaderName {vault://v/names/header}', 'AIAuthHeaderValue "{vault://v/names/value}"'))
        . location('/query', target('t', 'AIAuthParamLocation query', 'AIAuthParamName "{vault://v/names/param}"', 'AIAuthParamValue "{vault://v/names/value}"'))
        . location('/body', target('t', 'AIAuthParamLocation body', 'AIAuthParamName {vault://v/names/body}', 'AIAuthParamValue "{vault://v/names/value}"'))
        . location('/host', target('t', 'AIAuthHeaderName {vault://v/names/host}', 'AIAuthHeaderValue "{vault://v/names/value}"'))
        . location('/model', target('t', 'AIAuthParamLocation body', 'AIAuthParamName {vault://v/names/model}', 'AIAuthParamValue "{vault://v/names/value}"'))
        . location('/odd', target('t', 'AIAuthHeaderName "{vault://v/names/odd}"', 'AIAuthHeaderValue "{vault://v/names/value}"')));
is(field(got('/header'), 'X-Key'), 'v 1', 'the name of a header');
like(got('/query')->{path}, qr/\?a%20key=v%201$/, 'the name of a query parameter, encoded');
is(from_json(got('/body')->{body})->{member}, 'v 1', 'the name of a member of the body');
mock_reset();
for my $path (qw(/host /model /odd)) {
    my $r = ask($path);
    is($r->{status}, 503, "$path: a name that cannot be: 503");
    is($r->json->{error}{code}, 'secret_unavailable', "$path: and says so");
}
is(scalar(mock_requests()), 0, 'and nothing is sent');
$vault->write('names', {header => 'X-Other', value => 'v 2', param => 'b', body => 'other', host => 'Host', model => 'model', odd => 'x'});
wait_until('the other header', sub { field(got('/header'), 'X-Other') eq 'v 2' });
wait_until('the other member', sub { (from_json(got('/body')->{body})->{other} // '') eq 'v 2' });
pass('names are exchanged while the server runs');
$h->stop;
is_deeply([$h->unexpected(qw(AIP0209 AIP0210))], [], 'nothing else in the log');

# ---- the embeddings credential, exchanged from one moment to the next ----
$vault->write('embed', {key => 'e1'});
sub only { my ($key) = @_; mock_behave({port => port('MOCK_EMBED'), unless_header => "Authorization: Bearer $key", times => -1, do => {status => 401}}); return }
mock_reset();
only('e1');
my @semantic = ('AIBalancerAlgorithm semantic', 'AIEmbeddingsModelProvider openai', 'AIEmbeddingsModelName text-embedding-3-small', 'AIVectordbDimensions 128', 'AIVectordbThreshold 0.5', 'AIRouteHeaders On',
    'AIEmbeddingsModelOptionsUpstreamUrl ' . url('MOCK_EMBED', '/v1/embeddings'), 'AIEmbeddingsAuthHeaderName Authorization', 'AIEmbeddingsAuthHeaderValue "Bearer {vault://v/embed/key}"');
my @two = (target('axis0', 'AIDescription "axis:0 1"'), target('rest', 'AIDescription CATCHALL'));
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$mine" . $hcv->('v', 'AIVaultTtl 600') . location('/s', @semantic, 'AIRouteOnFailure fail', @two));
is(ask('/s', 'axis:0 0.8')->json->{model}, 'axis0', 'embeddings: the first key');
{   # aipctl has httpd fetch the secret, and sees what requests see
    my @aipctl = ($ENV{AIP_AIPCTL}, 'route', '--no-cache', '--httpd', $ENV{AIP_HTTPD}, '--module', $ENV{AIP_MODULE}, "$h->{dir}/httpd.conf", '/s');
    my ($status, $out, $err) = run_command(\@aipctl, "axis:0 0.8\n");
    is($status, 0, 'aipctl route with a key out of the vault') or diag($err);
    like($out, qr/^1\tmatch\taxis0\t/m, 'goes where the server would send it');
    unlike("$out$err", qr/\be1\b/, 'and does not show the key');
}
for my $n (2 .. 4) {
    $vault->write('embed', {key => "e$n"});
    mock_reset();
    only("e$n");
    my @status = map { ask('/s', "axis:0 0.8 $_")->{status} } 1 .. 3;
    is("@status", '200 200 200', "embeddings: key $n, no request fails");
}
mock_reset();
only('e5');
my $r = ask('/s', 'axis:0 0.8');
is($r->{status}, 503, 'embeddings: a key that stays wrong is a failure of routing');
is($r->json->{error}{code}, 'embeddings_status', 'by the status');
$h->stop;
is_deeply([$h->unexpected(qw(AIP0043))], [], 'nothing else in the log');

# ---- Redis: host, port and login ----
start_redis($port, '--requirepass', 'r1');
$vault->write('redis', {host => '127.0.0.1', port => "$port", user => 'default', password => 'r1'});
my @store = ('AIBalancerAlgorithm semantic', 'AIEmbeddingsModelProvider openai', 'AIEmbeddingsModelName text-embedding-3-small', 'AIVectordbDimensions 128', 'AIVectordbThreshold 0.5', 'AIRouteHeaders On',
    'AIEmbeddingsModelOptionsUpstreamUrl ' . url('MOCK_EMBED', '/v1/embeddings'), 'AIVectordbStrategy redis', 'AIVectordbDistanceMetric cosine',
    'AIVectordbRedisHost {vault://v/redis/host}', 'AIVectordbRedisPort {vault://v/redis/port}', 'AIVectordbRedisUsername {vault://v/redis/user}', 'AIVectordbRedisPassword {vault://v/redis/password}');
mock_reset();
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$mine" . $hcv->('v', 'AIVaultTtl 600') . location('/r', @store, @two));
sub searches { my ($password) = @_; my ($n) = redis_auth($password, 'INFO', 'commandstats') =~ /^cmdstat_FT\.SEARCH:calls=(\d+)/m; return $n // 0 }
sub redis_auth {
    my ($password, @command) = @_;
    my (undef, $out) = run_command([top_dir() . '/scripts/lib/redis.sh', 'cli', $ENV{AIP_REDIS_DIR}, $port, '--no-auth-warning', '-a', $password, @command]);
    return $out =~ s/\r//gr;
}
sub by_redis { my ($password) = @_; my $before = searches($password); ask('/r', 'axis:0 0.8')->json->{model} eq 'axis0' or return 0; return searches($password) > $before }
wait_until('Redis to answer', sub { by_redis('r1') });
pass('Redis: address and login out of the vault');
redis_auth('r1', qw(CONFIG SET requirepass r2));
$vault->write('redis', {host => '127.0.0.1', port => "$port", user => 'default', password => 'r2'});
redis_auth('r2', qw(CLIENT KILL TYPE normal));
wait_until('Redis to answer with the new password', sub { by_redis('r2') });
pass('Redis: a password that is exchanged is found without a restart, long before AIVaultTtl is over');
$h->stop;
is_deeply([$h->unexpected(qw(AIP0105))], [], 'nothing else in the log');
unlike($h->log, qr/\br[12]\b/, 'no password in the log');

# ---- files ----
my $dir = "$state/mounted";
mkdir $_ for $dir, "$dir/openai";
AIPTest::Setup::write_file("$dir/openai/key", "f1\n");
AIPTest::Setup::write_file("$dir/more.json", '{"mistral":"j1","n":1}');
my $files = "<AIVault mounted>\nAIVaultName file\nAIVaultDirectory $dir\nAIVaultTtl 1\n</AIVault>\n";
sub header { return ('AIAuthHeaderName Authorization', "AIAuthHeaderValue \"Bearer $_[0]\"") }
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$mine$files" . location('/f', target('t', header('{vault://mounted/openai/key}'))) . location('/j', target('t', header('{vault://mounted/more.json/mistral}'))));
is(field(got('/f'), 'Authorization'), 'Bearer f1', 'a file of a mounted directory');
is(field(got('/j'), 'Authorization'), 'Bearer j1', 'a member of a JSON file');
AIPTest::Setup::write_file("$dir/openai/key", "f2\n");
wait_until('the new file', sub { field(got('/f'), 'Authorization') eq 'Bearer f2' });
pass('a file that is exchanged is read again');
unlink "$dir/openai/key";
wait_until('the end of the file', sub { got('/f')->{path} eq '503' });
pass('a file that is gone is not used any longer');
AIPTest::Setup::write_file("$dir/openai/key", "f3\n");
wait_until('the file to come back', sub { field(got('/f'), 'Authorization') eq 'Bearer f3' }, 60); # it is looked for less and less often
pass('and is used when it is back');
$h->stop;
is_deeply([$h->unexpected(qw(AIP0200 AIP0202 AIP0209))], [], 'nothing else in the log');
for (['{vault://mounted/none}', qr/cannot read \Q$dir\E\/none/], ['{vault://mounted/more.json/n}', qr/no JSON object with a text member 'n'/], ['{vault://mounted/../x}', qr/'\.\.' parts/],
    ['{vault://mounted/more.json#2}', qr/no versions of secrets in files/]) {
    my ($status, $said) = config_check($files . location('/f', target('t', header($_->[0]))));
    isnt($status, 0, "refused: $_->[0]");
    like($said, qr/AIAuthHeaderValue: .*$_->[1]/, 'and why');
}

# ---- virtual hosts have vaults of their own ----
$vault->write('a', {key => 'of-main'});
$vault->write('b/a', {key => 'of-host'});
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nListen 127.0.0.1:\${SPARE_3_PORT}\n$mine" . $hcv->('v') . $hcv->('only') . location('/m', target('t', header('{vault://v/a/key}')))
        . "<VirtualHost 127.0.0.1:\${SPARE_3_PORT}>\n" . $hcv->('v', 'AIVaultMount secret', 'AIVaultBase64Decode Off') . location('/h', target('t', header('{vault://v/b/a/key}'))) . location('/o', target('t', header('{vault://only/a/key}'))) . "</VirtualHost>\n");
is(field(got('/m'), 'Authorization'), 'Bearer of-main', 'the main server\'s vault');
is(field(got('/h', 'SPARE_3'), 'Authorization'), 'Bearer of-host', 'a virtual host\'s own vault of the same name');
is(field(got('/o', 'SPARE_3'), 'Authorization'), 'Bearer of-main', 'and the main server\'s where it has none');
$h->stop;
my ($status, $said) = config_check("<VirtualHost *:80>\n" . $hcv->('v') . "</VirtualHost>\n" . location('/m', target('t', header('{vault://v/a/key}'))));
isnt($status, 0, 'the main server does not see a virtual host\'s vaults');
like($said, qr/there is no vault of that name/, 'and says so');

# ---- sections ----
for (["AIVaultName hcv\n", qr/needs either AIVaultToken or AIVaultTokenFile/], ["AIVaultName hcv\nAIVaultToken a\nAIVaultTokenFile /b\n", qr/needs either/], ["AIVaultToken x\n", qr/AIVaultName is required/],
    ["AIVaultName env\nAIVaultHost x\n", qr/AIVaultHost has no meaning with AIVaultName env/], ["AIVaultName file\nAIVaultDirectory x\n", qr/must be an absolute path/],
    ["AIVaultName hcv\nAIVaultAuthMethod approle\n", qr/needs AIVaultApproleRoleId/], ["AIVaultName hcv\nAIVaultAuthMethod approle\nAIVaultApproleRoleId r\n", qr/needs either AIVaultApproleSecretId or/],
    ["AIVaultName hcv\nAIVaultAuthMethod kubernetes\n", qr/needs AIVaultKubeRole/], ["AIVaultName hcv\nAIVaultAuthMethod cert\n", qr/needs AIVaultProtocol https/],
    ["AIVaultName hcv\nAIVaultAuthMethod kubernetes\nAIVaultToken x\n", qr/AIVaultToken has no meaning with AIVaultAuthMethod kubernetes/],
    ["AIVaultName hcv\nAIVaultToken x\nAIVaultMount ../x\n", qr/AIVaultMount '\.\.\/x' must be a path/], ["AIVaultName hcv\nAIVaultToken x\nAIVaultHost a/b\n", qr/AIVaultHost 'a\/b' must be/],
    ["AIVaultName hcv\nAIVaultToken x\nAIVaultNamespace \"a b\"\n", qr/AIVaultNamespace/], ["AIVaultName hcv\nAIProxy On\n", qr/AIProxy is not allowed inside <AIVault v>/], ["AIVaultName hcv\nServerName x\n", qr/ServerName is not allowed inside <AIVault>/]) {
    my ($rc, $out) = config_check("<AIVault v>\n$_->[0]</AIVault>\n");
    isnt($rc, 0, 'refused: ' . $_->[0] =~ s/\n/; /gr);
    like($out, $_->[1], 'and why');
}
for (["<Location /x>\n<AIVault v>\nAIVaultName env\n</AIVault>\n</Location>\n", qr/<AIVault not allowed in <Location> context/], ["<AIVault v>\nAIVaultName env\n</AIVault>\n<AIVault v>\nAIVaultName env\n</AIVault>\n", qr/a vault of that name already/],
    ["<AIVault a b>\n</AIVault>\n", qr/takes exactly one name/], ["<AIVault a/b>\n</AIVault>\n", qr/a name holds letters/],
    [$hcv->('v') =~ s/AIVaultToken \S+/AIVaultToken {vault:\/\/w\/a\/b}/r . $hcv->('w') . location('/x', target('t', header('{vault://v/a/key}'))), qr/comes from env or file/],
    ["AIEgressAllow https://elsewhere.example\n" . $hcv->('v') . location('/x', target('t', header('{vault://v/a/key}'))), qr/AIP0013: <AIVault v>: no AIEgressAllow lets http:/]) {
    my ($rc, $out) = config_check($_->[0]);
    isnt($rc, 0, 'refused: ' . substr $_->[0] =~ s/\n/; /gr, 0, 60);
    like($out, $_->[1], 'and why');
}
finish();
