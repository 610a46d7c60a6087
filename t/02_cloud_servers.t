#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The servers that play AWS, Google and Azure in other tests: they accept what is good and refuse what is not. Signatures
# are made here, with Digest::SHA and openssl, so that neither our code nor the libraries of the servers judge themselves.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Aws;
use AIPTest::Cloud;
use Digest::SHA qw(hmac_sha256 hmac_sha256_hex sha256_hex);
use MIME::Base64 qw(encode_base64url);
use POSIX qw(strftime);

my $cloud = AIPTest::Cloud->start(port => port('SPARE_1'), tls_port => port('SPARE_2'));
my $aws   = AIPTest::Aws->start(port => port('SPARE_3'));
my $form  = 'application/x-www-form-urlencoded';
my $path  = qr{^http://127\.0\.0\.1:\d+(/.*)};

sub to {
    my ($server, $method, $url, $body, @headers) = @_;
    $url =~ $path or die "$url\n";
    return client(port => $server->{port})->send_request($method, $1, $body, @headers)->answer;
}

sub fields {
    my %form = @_;
    return join '&', map { my $v = $form{$_}; $v =~ s/([^\w.~-])/sprintf '%%%02X', ord $1/ge; "$_=$v" } sort keys %form;
}

sub ask {
    my ($url, $token, @headers) = @_;
    return to($cloud, 'POST', $url, chat('hello'), Authorization => "Bearer $token", @headers);
}

# ---- Google ----

my $account = from_json(slurp($cloud->service_account));
is((stat $cloud->service_account)[2] & 0777, 0600, 'a service account is readable by its owner only');
is($account->{token_uri}, $cloud->tls_url('/token'), 'its token_uri is the TLS port of the server');

# A JSON web token; HEAD and CLAIMS replace what would be good.
sub assertion {
    my ($account, $head, %claims) = @_;
    my %all = (iss => $account->{client_email}, aud => $account->{token_uri}, iat => time, exp => time + 3600,
        scope => 'https://www.googleapis.com/auth/cloud-platform', %claims);
    my %head = (alg => 'RS256', typ => 'JWT', kid => $account->{private_key_id}, %$head);
    delete $all{$_} for grep { !defined $all{$_} } keys %all;
    my $text = join '.', map { encode_base64url(json($_)) } \%head, \%all;
    return "$text." if $head{alg} eq 'none';
    my $file = "$AIPTest::Setup::t/state/jwt.pem";
    AIPTest::Setup::write_file($file, $account->{private_key});
    my ($status, $signature) = run_command(['openssl', 'dgst', '-sha256', '-sign', $file], $text);
    $status == 0 or die "openssl\n";
    return "$text." . encode_base64url($signature);
}

sub grant {
    my ($assertion, %more) = @_;
    return to($cloud, 'POST', $cloud->url('/token'),
        fields(grant_type => 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion => $assertion, %more),
        'Content-Type' => $form);
}

my $r = grant(assertion($account, {}));
is($r->{status}, 200, 'an assertion') or diag($r->{body});
my $token = $r->json->{access_token};
is($r->json->{expires_in}, 3600, 'it tells how long the token lives');
is(ask($cloud->gcp_chat_url, $token)->{status}, 200, 'a chat with the token');
is(ask($cloud->azure_chat_url, $token)->{status}, 401, 'but not with the other cloud');
is(ask($cloud->gcp_chat_url, substr $token, 0, -1)->{status}, 401, 'nor with a part of it');
is(ask($cloud->gcp_chat_url, $token, 'api-key' => 'x')->{status}, 401, 'nor with another key beside it');

my ($status, $out) = run_command(['openssl', 'genrsa', '2048']);
for my $row (
    ['another audience', q{Audience doesn't match}, {}, aud   => 'https://oauth2.googleapis.com/token'],
    ['several audiences', 'aud is no text', {}, aud   => [$account->{token_uri}]],
    ['another issuer', 'Invalid issuer', {}, iss   => 'x@y'],
    ['no issuer', 'missing the "iss"', {}, iss   => undef],
    ['another scope', 'invalid_scope', {}, scope => 'https://www.googleapis.com/auth/drive'],
    ['no scope', 'invalid_scope', {}, scope => undef],
    ['more than an hour', 'short-lived', {}, exp   => time + 3700],
    ['expired', 'ExpiredSignature', {}, iat   => time - 4000, exp => time - 400],
    ['from the future', 'ImmatureSignature', {}, iat   => time + 400],
    ['without an expiry', 'missing the "exp"', {}, exp   => undef],
    ['a fraction of seconds', 'exp is no whole number', {}, exp   => time + 10.5],
    ['an unknown key id', 'unknown kid', {kid => 'x'}],
    ['no signature', 'InvalidAlgorithm', {alg => 'none'}],
    ['another algorithm', 'InvalidAlgorithm', {alg => 'HS256'}],
) {
    my ($name, $reason, $head, %claims) = @$row;
    my $r = grant(assertion($account, $head, %claims));
    is($r->{status}, 400, "refused: $name");
    like(($cloud->refused)[-1], qr/\Q$reason/, '   for that reason');
}
is(grant(assertion({%$account, private_key => $out}, {}))->{status}, 400, 'refused: another key');
is(grant(assertion($account, {}), grant_type => 'x')->{status}, 400, 'refused: another grant');
$cloud->new_key;
is(grant(assertion($account, {}))->{status}, 400, 'refused: the old key, once there is a new one');
is(grant(assertion(from_json(slurp($cloud->service_account)), {}))->{status}, 200, 'the new one is in the file');

is(to($cloud, 'GET', $cloud->metadata_url)->{status}, 403, 'metadata server: not without its header');
my @flavor = ('Metadata-Flavor' => 'Google');
is(to($cloud, 'GET', $cloud->metadata_url, undef, @flavor, 'X-Forwarded-For' => '1.2.3.4')->{status}, 403, 'nor for others');
$r = to($cloud, 'GET', $cloud->metadata_url, undef, @flavor);
is($r->header('Metadata-Flavor'), 'Google', 'it says who it is');
is(ask($cloud->gcp_chat_url, $r->json->{access_token})->{status}, 200, 'a chat with its token');

# ---- Azure ----

my %client = (grant_type => 'client_credentials', client_id => AIPTest::Cloud::CLIENT_ID,
    client_secret => AIPTest::Cloud::CLIENT_SECRET, scope => 'https://cognitiveservices.azure.com/.default');

sub azure {
    my %form = (%client, @_);
    delete $form{$_} for grep { !defined $form{$_} } keys %form;
    return to($cloud, 'POST', $cloud->azure_token_url, fields(%form), 'Content-Type' => $form);
}

$r = azure();
is($r->{status}, 200, 'client credentials') or diag($r->{body});
$token = $r->json->{access_token};
is(ask($cloud->azure_chat_url, $token)->{status}, 200, 'a chat with the token');
is(ask($cloud->gcp_chat_url, $token)->{status}, 401, 'but not with the other cloud');
is(azure(client_secret => 'x')->{status}, 401, 'refused: another secret');
is(azure(client_id => 'x')->{status}, 400, 'refused: another client');
is(azure(scope => 'https://graph.microsoft.com/.default')->{status}, 400, 'refused: another scope');
is(azure(grant_type => 'password')->{status}, 400, 'refused: another grant');
is(to($cloud, 'POST', $cloud->url('/x/oauth2/v2.0/token'), fields(%client), 'Content-Type' => $form)->{status}, 400,
    'refused: another tenant');
my %federated = (client_secret => undef, client_assertion_type => 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer');
is(azure(%federated, client_assertion => slurp($cloud->federated_token))->{status}, 200, 'a federated identity');
is(azure(%federated, client_assertion => 'x')->{status}, 401, 'refused: another one');

my $resource = 'resource=https%3A%2F%2Fcognitiveservices.azure.com';
my $imds = $cloud->imds_url . "?api-version=2018-02-01&$resource";
is(to($cloud, 'GET', $imds)->{status}, 400, 'managed identity: not without its header');
$r = to($cloud, 'GET', $imds, undef, Metadata => 'true');
like($r->{body}, qr/"expires_in": "3600"/, 'numbers are text');
is(ask($cloud->azure_chat_url, $r->json->{access_token})->{status}, 200, 'a chat with its token');
is(to($cloud, 'GET', "$imds&client_id=" . AIPTest::Cloud::CLIENT_ID, undef, Metadata => 'true')->{status}, 200, 'by its id');
is(to($cloud, 'GET', "$imds&client_id=x", undef, Metadata => 'true')->{status}, 400, 'refused: another id');
is(to($cloud, 'GET', $cloud->imds_url . "?$resource", undef, Metadata => 'true')->{status}, 400, 'refused: no version');
my $service = $cloud->app_service_url . "?api-version=2019-08-01&$resource";
is(to($cloud, 'GET', $service)->{status}, 401, 'App Service: not without its header');
$r = to($cloud, 'GET', $service, undef, 'X-IDENTITY-HEADER' => AIPTest::Cloud::IDENTITY_HEADER);
ok(!exists $r->json->{expires_in} && $r->json->{expires_on} > time + 3500, 'it tells when, not how long');
is(ask($cloud->azure_chat_url, $r->json->{access_token})->{status}, 200, 'a chat with its token');

# ---- what tests do with the servers ----

is($cloud->count('azure_app_service'), 2, 'requests are counted by their kind');
ok((grep { $_ eq 'a token of azure for gcp' } $cloud->refused), 'and reasons of refusals are kept');
is(ask($cloud->url('/v1/chat/completions'), $token)->{status}, 200, 'any other path takes the tokens of both');
$cloud->set(lifetime => -1);
is(ask($cloud->azure_chat_url, azure()->json->{access_token})->{status}, 401, 'an expired token');
$cloud->revoke;
is(ask($cloud->azure_chat_url, $token)->{status}, 401, 'a revoked token');
$cloud->fail(azure_client => 503);
$cloud->answer_text(gcp_metadata => 'no JSON');
is(azure()->{status}, 503, 'a failure as ordered');
is(to($cloud, 'GET', $cloud->metadata_url, undef, @flavor)->{body}, 'no JSON', 'an answer as ordered');
$cloud->fail('azure_client');
is(azure()->{status}, 200, 'and no longer');
$cloud->reset;
is_deeply($cloud->count, {}, 'reset');
my @curl = ('curl', '-sS', '--max-time', 20, '--cacert', "$AIPTest::Setup::t/state/tls/ca.pem", $cloud->tls_url('/nothing'));
($status, $out) = run_command(\@curl);
like($out, qr/nothing is there/, 'by TLS');
$token = azure()->json->{access_token};
$cloud->stop;
ok(!eval { azure(); 1 }, 'stopped');
$cloud->restart;
is(ask($cloud->azure_chat_url, $token)->{status}, 401, 'a new start knows no token');

# ---- AWS ----

sub signed {
    my ($secret, $tamper) = @_;
    my $stamp = strftime('%Y%m%dT%H%M%SZ', gmtime);
    my $day   = substr $stamp, 0, 8;
    my $host  = "127.0.0.1:$aws->{port}";
    my $body  = json(chat('hello'));
    my $list  = 'content-type;host;x-amz-date';
    my $canonical = join "\n", 'POST', '/openai/v1/chat/completions', '', 'content-type:application/json', "host:$host",
        "x-amz-date:$stamp", '', $list, sha256_hex($body);
    my $key = "AWS4$secret";
    $key = hmac_sha256($_, $key) for $day, 'us-east-1', 'bedrock', 'aws4_request';
    my $scope     = "$day/us-east-1/bedrock/aws4_request";
    my $signature = hmac_sha256_hex(join("\n", 'AWS4-HMAC-SHA256', $stamp, $scope, sha256_hex($canonical)), $key);
    return to($aws, 'POST', $aws->chat_url, $body . ($tamper // ''), Host => $host, 'X-Amz-Date' => $stamp,
        Authorization => "AWS4-HMAC-SHA256 Credential=${\ AIPTest::Aws::ACCESS_KEY}/$scope, "
            . "SignedHeaders=$list, Signature=$signature");
}

is(signed(AIPTest::Aws::SECRET_KEY)->{status}, 200, 'AWS: a signed chat');
is(signed(AIPTest::Aws::SECRET_KEY, ' ')->{status}, 403, 'refused: another body');
is(signed('x')->{status}, 403, 'refused: another secret');
is(to($aws, 'GET', $aws->container_url, undef, Authorization => AIPTest::Aws::CONTAINER_TOKEN)->{status}, 200, 'container');
is($aws->count('chat'), 3, 'counted');
$aws->rotate(AIPTest::Aws::ACCESS_KEY, 'another');
is(signed(AIPTest::Aws::SECRET_KEY)->{status}, 403, 'refused: a secret that was replaced');
is(signed('another')->{status}, 200, 'the new one');

finish();
