#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Cloud identities against servers that verify what they get: AWS signatures from static, assumed, container and instance
# keys; Google service accounts and metadata; Azure applications and managed identities. Tokens are fetched ahead, once for
# all children, renewed before they expire, and fetched anew when they are refused.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Aws;
use AIPTest::Cloud;
use AIPTest::Vault;
use Time::HiRes qw(sleep time);

delete @ENV{grep {/^(AWS|AZURE|GCP|GOOGLE|IDENTITY|MSI)_/} keys %ENV};
$ENV{AWS_EC2_METADATA_DISABLED} = 'true';
my $aws   = AIPTest::Aws->start(port => port('SPARE_2'));
my $cloud = AIPTest::Cloud->start(port => port('SPARE_3'));
my $mine  = mpm() eq 'prefork' ? "StartServers 4\nMinSpareServers 1\nMaxSpareServers 8\nServerLimit 8\nMaxRequestWorkers 8\n"
    : "StartServers 2\nServerLimit 2\nThreadsPerChild 8\nThreadLimit 8\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n";

sub target {
    my ($name, $provider, $url, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider $provider\nAIModelName m\nAIModelOptionsUpstreamUrl $url\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}
sub gateway {
    my ($before, @targets) = @_;
    return start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$mine$before<Location /i>\nAIProxy On\n" . join('', @targets) . "</Location>\n");
}
sub ask { return client(port => port('SPARE_1'), timeout => 30)->post('/i', $_[0] // chat('x')) }
sub answered { my ($what) = @_; my $r = ask(); is($r->{status}, 200, "$what: answered") or diag($r->{body}); return $r }

# ---- AWS ----
my @static = ('AIModelOptionsBedrockAwsRegion us-east-1', 'AIAuthAwsAccessKeyId ' . AIPTest::Aws::ACCESS_KEY, 'AIAuthAwsSecretAccessKey ' . AIPTest::Aws::SECRET_KEY);
my $h = gateway('', target('t', 'bedrock', $aws->chat_url, @static));
answered('static keys');
is(ask({messages => [{role => 'user', content => "\x{e4}\x{20ac} " . 'x' x 40_000}]})->{status}, 200, 'static keys: a large body');
my $r = ask({%{chat('x')}, stream => JSON::PP::true});
is($r->{status}, 200, 'static keys: a stream');
like($r->{body}, qr/data: \[DONE\]/, 'with its end');
is_deeply([$aws->refused], [], 'no signature was refused');
$h->stop;
is_deeply([$h->unexpected], [], 'static keys: nothing unexpected in the log');
$h = gateway('', target('t', 'bedrock', $aws->chat_url, map { s/(SecretAccessKey test)/$1x/r } @static));
is(ask()->{status}, 403, 'a wrong secret: the provider\'s answer');
$h->stop;
$h = gateway('', target('t', 'bedrock', $aws->chat_url . '?a=b%20c&A=1&empty=', @static));
answered('a query is signed as well');
$h->stop;

# keys out of a vault, exchanged from one moment to the next
my $vault = AIPTest::Vault->start;
$vault->write('aws', {id => AIPTest::Aws::ACCESS_KEY, secret => AIPTest::Aws::SECRET_KEY});
my $section = "<AIVault v>\nAIVaultName hcv\nAIVaultHost 127.0.0.1\nAIVaultPort ${\$vault->port}\nAIVaultKv v2\nAIVaultToken ${\$vault->token}\nAIVaultTtl 600\n</AIVault>\n";
$h = gateway($section, target('t', 'bedrock', $aws->chat_url, 'AIModelOptionsBedrockAwsRegion us-east-1', 'AIAuthAwsAccessKeyId {vault://v/aws/id}', 'AIAuthAwsSecretAccessKey {vault://v/aws/secret}'));
answered('keys out of a vault');
$vault->write('aws', {id => 'AKIANEWNEWNEWNEW0002', secret => 'new/secret'});
$aws->rotate('AKIANEWNEWNEWNEW0002' => 'new/secret');
answered('keys that were exchanged a moment ago');
$h->stop;
is_deeply([$h->unexpected], [], 'vault: nothing unexpected in the log');
$aws->reset;

# an assumed role: once for all children, renewed before it expires
$aws->set(lifetime => 4);
$h = gateway('', target('t', 'bedrock', $aws->chat_url, @static, 'AIModelOptionsBedrockAwsAssumeRoleArn ' . AIPTest::Aws::ROLE, 'AIModelOptionsBedrockAwsRoleSessionName gw', 'AIModelOptionsBedrockAwsStsEndpointUrl ' . $aws->url));
my $end = time + 9;
my %status;
while (time < $end) { $status{ask()->{status}}++; sleep 0.1 }
is_deeply([keys %status], [200], 'an assumed role: no request fails over its renewals') or diag(json([$aws->refused]));
my $sts = $aws->count('sts');
cmp_ok($sts, '>=', 3, "an assumed role: it is renewed ($sts calls)");
cmp_ok($sts, '<=', 8, 'by one child at a time');
$aws->revoke;
answered('an assumed role: keys that were revoked are replaced at once');
$aws->stop; # STS and the model away
is(ask()->{status}, 502, 'the provider away');
$aws->restart;
$h->stop;
unlike($h->log, qr/ASIA\w|FwoG|\Q${\AIPTest::Aws::SECRET_KEY}\E/, 'no key in the log');

# the environment, a container, an instance
for (['the environment', {AWS_ACCESS_KEY_ID => AIPTest::Aws::ACCESS_KEY, AWS_SECRET_ACCESS_KEY => AIPTest::Aws::SECRET_KEY}],
    ['a container', {AWS_CONTAINER_CREDENTIALS_FULL_URI => $aws->container_url, AWS_CONTAINER_AUTHORIZATION_TOKEN => AIPTest::Aws::CONTAINER_TOKEN}],
    ['an instance', {AWS_EC2_METADATA_SERVICE_ENDPOINT => $aws->url, AWS_EC2_METADATA_DISABLED => 'false'}]) {
    local @ENV{keys %{$_->[1]}} = values %{$_->[1]};
    local $ENV{AWS_REGION} = 'us-east-1';
    $aws->reset;
    $h = gateway('', target('t', 'bedrock', $aws->chat_url));
    answered("AWS, keys of $_->[0]");
    $h->stop;
    is_deeply([$h->unexpected], [], "AWS, keys of $_->[0]: nothing unexpected in the log");
}
$h = gateway('', target('t', 'bedrock', $aws->chat_url, 'AIModelOptionsBedrockAwsRegion us-east-1'));
$r = ask();
is($r->{status}, 503, 'no keys anywhere: 503');
is($r->json->{error}{code}, 'secret_unavailable', 'and says that a credential is missing');
like($h->log, qr/AIP0200: the identity at AWS: /, 'the log says whose');
$h->stop;

# ---- Google ----
my $json = $cloud->service_account;
$cloud->set(lifetime => 4);
$h = gateway('', target('t', 'gemini', $cloud->gcp_chat_url, 'AIAuthGcpUseServiceAccount On', "AIAuthGcpServiceAccountJson {vault://file$json}"));
%status = ();
$end = time + 9;
while (time < $end) { $status{ask()->{status}}++; sleep 0.1 }
is_deeply([keys %status], [200], 'a service account: no request fails over its renewals') or diag(json([$cloud->refused]));
my $jwts = $cloud->count('gcp_jwt');
cmp_ok($jwts, '>=', 3, "a service account: its token is renewed ($jwts calls)");
cmp_ok($jwts, '<=', 8, 'by one child at a time');
is($cloud->count('gcp_metadata') // 0, 0, 'and the metadata server is never asked');
$cloud->revoke;
answered('a service account: a token that was revoked is replaced at once');
$h->stop;
is_deeply([$h->unexpected], [], 'a service account: nothing unexpected in the log');
unlike($h->log, qr/ya29|BEGIN/, 'no token, no key in the log');
$cloud->reset;
$h = gateway('', target('t', 'gemini', $cloud->gcp_chat_url, 'AIAuthGcpUseServiceAccount On', 'AIAuthGcpMetadataUrl ' . $cloud->metadata_url));
answered('Google\'s metadata server');
$h->stop;

# the token service away at the start
$cloud->reset;
$cloud->fail('gcp_jwt', 503);
$h = gateway('', target('t', 'gemini', $cloud->gcp_chat_url, 'AIAuthGcpUseServiceAccount On', "AIAuthGcpServiceAccountJson {vault://file$json}"));
is(ask()->{status}, 503, 'the token service away: 503');
$cloud->fail('gcp_jwt');
wait_until('the token', sub { ask()->{status} == 200 });
pass('and it is found when it is back');
$h->stop;
is_deeply([$h->unexpected(qw(AIP0200 AIP0202 AIP0209))], [], 'nothing else in the log');

# ---- Azure ----
$cloud->reset;
my @app = ('AIAuthAzureTenantId ' . AIPTest::Cloud::TENANT, 'AIAuthAzureClientId ' . AIPTest::Cloud::CLIENT_ID, 'AIAuthAzureClientSecret "' . AIPTest::Cloud::CLIENT_SECRET . '"');
{
    local $ENV{AZURE_AUTHORITY_HOST} = $cloud->url;
    $h = gateway('', target('t', 'azure', $cloud->azure_chat_url, @app));
    answered('an application at Azure') or diag(json([$cloud->refused]));
    $cloud->revoke;
    answered('an application at Azure: a token that was revoked is replaced at once');
    $h->stop;
    is_deeply([$h->unexpected], [], 'an application at Azure: nothing unexpected in the log');
    unlike($h->log, qr/\Q${\AIPTest::Cloud::CLIENT_SECRET}\E/, 'no secret in the log');
}
{
    local @ENV{qw(IDENTITY_ENDPOINT IDENTITY_HEADER)} = ($cloud->app_service_url, AIPTest::Cloud::IDENTITY_HEADER);
    $h = gateway('', target('t', 'azure', $cloud->azure_chat_url, 'AIAuthAzureUseManagedIdentity On'));
    answered('a managed identity of App Service');
    $h->stop;
}

# ---- embeddings with an identity ----
$cloud->reset;
{
    local $ENV{AZURE_AUTHORITY_HOST} = $cloud->url;
    mock_reset();
    $h = gateway('', "AIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider azure\nAIEmbeddingsModelName text-embedding-3-small\nAIVectordbDimensions 128\nAIVectordbThreshold 0.5\nAIRouteCache none\n"
            . 'AIEmbeddingsModelOptionsUpstreamUrl ' . url('MOCK_EMBED', '/openai/deployments/d/embeddings?api-version=1') . "\n" . join('', map { s/^AIAuth/AIEmbeddingsAuth/r . "\n" } @app),
        target('a', 'openai', url('MOCK_1', '/v1/chat/completions'), 'AIDescription "axis:0 1"'), target('b', 'openai', url('MOCK_1', '/v1/chat/completions'), 'AIDescription CATCHALL'));
    is(ask(chat('axis:0 0.9'))->{status}, 200, 'embeddings with an identity: routed');
    my %seen = map { $_->[1] => 1 } grep { lc $_->[0] eq 'authorization' } map { @{$_->{headers}} } mock_requests(port => port('MOCK_EMBED'));
    is(scalar(keys %seen), 1, 'one token for references and requests');
    like((keys %seen)[0], qr/^Bearer \S{10,}$/, 'as a bearer');
    $h->stop;
    is_deeply([$h->unexpected], [], 'embeddings: nothing unexpected in the log');
}
finish();
