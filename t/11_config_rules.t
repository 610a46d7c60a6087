#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Rules between directives through `httpd -t`: each violation stops the start with file, line, directive and what to write
# instead; a check makes no network call; modules may be loaded in any order.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $top = top_dir();
my $model = "$top/share/embedder/aip-static-en-v1";
my $state = "$AIPTest::Setup::t/state";
my @openai = ('AIRouteType llm/v1/chat', 'AIModelProvider openai', 'AIModelName m');

sub target { my ($name, @lines) = @_; return "<AITarget $name>\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n" }
sub location { return "<Location /x>\nAIProxy On\n" . join('', @_) . "</Location>\n" }

# LINE is where the message must point to.
sub refused {
    my ($what, $text, $line, @patterns) = @_;
    my ($status, $said) = config_check($text);
    isnt($status, 0, "refused: $what");
    like($said, qr/line $line of \S*check\.conf|\S*check\.conf:$line:/, "$what: file and line") or diag($text);
    like($said, $_, "$what: why") for @patterns;
    unlike($said, qr/sk-/, "$what: no secret is shown");
    return $said;
}

sub accepted {
    my ($what, $text) = @_;
    my ($status, $said) = config_check($text);
    is($status, 0, "accepted: $what") or diag($said);
    return $said;
}

# ---- one target ----
my $t = sub { location(target('t', @_)) };
accepted('a plain target', $t->(@openai));
my @rows = (
    ['no route type', ['AIModelProvider openai'], qr/<AITarget t>: AIRouteType is required: add 'AIRouteType llm\/v1\/chat'/],
    ['no provider', ['AIRouteType llm/v1/chat'], qr/AIModelProvider is required: add/],
    ['header name alone', [@openai, 'AIAuthHeaderName Authorization'], qr/all or none of AIAuthHeaderName and AIAuthHeaderValue/],
    ['header value alone', [@openai, 'AIAuthHeaderValue sk-1'], qr/all or none of AIAuthHeaderName and AIAuthHeaderValue/],
    (map { my $left = $_; ["parameter without $left", [@openai, grep { !/^AIAuthParam$left/ } 'AIAuthParamName k', 'AIAuthParamValue sk-1', 'AIAuthParamLocation query'],
        qr/all or none of AIAuthParamName, AIAuthParamValue and AIAuthParamLocation/] } qw(Name Value Location)),
    ['a header that frames', [@openai, 'AIAuthHeaderName Content-Length', 'AIAuthHeaderValue 1'], qr/AIAuthHeaderName 'Content-Length'/],
    ['no header name', [@openai, 'AIAuthHeaderName "a b"', 'AIAuthHeaderValue 1'], qr/AIAuthHeaderName 'a b'/],
    ['a body member of ours', [@openai, 'AIAuthParamLocation body', 'AIAuthParamName model', 'AIAuthParamValue v'], qr/AIAuthParamName 'model'/],
    ['vllm without URL', ['AIRouteType llm/v1/chat', 'AIModelProvider vllm'], qr/AIModelOptionsUpstreamUrl must be set for self-hosted/],
    ['mistral without dialect', ['AIRouteType llm/v1/chat', 'AIModelProvider mistral'], qr/AIModelOptionsMistralFormat must be set .* add 'AIModelOptionsMistralFormat openai'/],
    ['azure without instance', ['AIRouteType llm/v1/chat', 'AIModelProvider azure', 'AIModelOptionsAzureDeploymentId d'], qr/AIModelOptionsAzureInstance must be set/],
    ['azure without deployment', ['AIRouteType llm/v1/chat', 'AIModelProvider azure', 'AIModelOptionsAzureInstance i'], qr/AIModelOptionsAzureDeploymentId must be set/],
    ['azure, bad instance', ['AIRouteType llm/v1/chat', 'AIModelProvider azure', 'AIModelOptionsAzureInstance a/b', 'AIModelOptionsAzureDeploymentId d'], qr/letters, digits/],
    ['databricks without workspace', ['AIRouteType llm/v1/chat', 'AIModelProvider databricks'], qr/AIModelOptionsDatabricksWorkspaceInstanceId must be set/],
    ["another's option", [@openai, 'AIModelOptionsAzureInstance i'], qr/AIModelOptionsAzureInstance belongs to AIModelProvider azure, not openai/],
    (map { my ($directive, $owner) = /^(\S+).* (\w+)$/; ["a foreign $directive", [@openai, s/ \w+$//r], qr/$directive belongs to AIModelProvider $owner, not openai; remove it/] }
        'AIModelOptionsDashscopeInternational Off dashscope', 'AIModelOptionsMistralFormat openai mistral', 'AIModelOptionsAzureApiVersion 2024-10-21 azure',
        'AIModelOptionsAzureDeploymentId d azure', 'AIModelOptionsDatabricksWorkspaceInstanceId w databricks'),
    ['a foreign option, too', ['AIRouteType llm/v1/chat', 'AIModelProvider azure', 'AIModelOptionsAzureInstance i', 'AIModelOptionsAzureDeploymentId d',
        'AIModelOptionsMistralFormat openai'], qr/AIModelOptionsMistralFormat belongs to AIModelProvider mistral, not azure/],
    ['a price of 0', [@openai, 'AIModelOptionsInputCost 0', 'AIModelOptionsOutputCost 1'], qr/must be greater than 0/],
    ['no URL', [@openai, 'AIModelOptionsUpstreamUrl host/path'], qr/AIModelOptionsUpstreamUrl 'host\/path' must be a full URL/],
    ['another scheme', [@openai, 'AIModelOptionsUpstreamUrl ftp://h/'], qr/must begin with http:\/\/ or https:\/\//],
    ['a password in the URL', [@openai, 'AIModelOptionsUpstreamUrl http://u:sk-1@h/'], qr/'http:\/\/\*\*\*\@h\/' must hold neither a user nor a fragment/],
    ['a fragment', [@openai, 'AIModelOptionsUpstreamUrl http://h/#f'], qr/'http:\/\/h\/#f' must hold neither a user nor a fragment/],
    ['a space in the URL', [@openai, 'AIModelOptionsUpstreamUrl "http://h/a b"'], qr/'http:\/\/h\/a b' holds white space/],
    ['no host', [@openai, 'AIModelOptionsUpstreamUrl http:///v1'], qr/must be a full URL/],
    ['port 0', [@openai, 'AIModelOptionsUpstreamUrl http://h:0/'], qr/port from 1 to 65535/],
    ['a bad port', [@openai, 'AIModelOptionsUpstreamUrl http://h:70000/'], qr/port from 1 to 65535/],
    ['a relative path', [@openai, 'AIModelOptionsUpstreamPath x'], qr/AIModelOptionsUpstreamPath 'x' must begin with '\/'/],
    ['examples of the catch-all', [@openai, 'AIDescription CATCHALL', 'AIRouteExample x'], qr/AIRouteExample has no place beside/],
    ["another module's line", [@openai, 'Require all granted'], qr/Require is not allowed inside <AITarget>; AI\* and SSLProxy\* directives are \(line 7\)/],
    ['an unknown CA file', [@openai, 'SSLProxyCACertificateFile /nonexistent.pem'], qr/SSLProxyCACertificateFile/, 7],
);
refused($_->[0], $t->(@{$_->[1]}), $_->[3] // 3, $_->[2]) for @rows;
for my $ok (['azure', 'AIModelOptionsAzureInstance i', 'AIModelOptionsAzureDeploymentId d', 'AIModelOptionsAzureApiVersion 2024-10-21'],
    ['mistral', 'AIModelOptionsMistralFormat openai'], ['databricks', 'AIModelOptionsDatabricksWorkspaceInstanceId dbc-1'],
    ['vllm', 'AIModelOptionsUpstreamUrl http://127.0.0.1:8000/v1/chat/completions'],
    ['dashscope', 'AIModelOptionsDashscopeInternational Off']) {
    accepted($ok->[0], $t->('AIRouteType llm/v1/chat', "AIModelProvider $ok->[0]", @$ok[1 .. $#$ok]));
}

# ---- identities of clouds ----
delete local @ENV{qw(AWS_REGION AWS_DEFAULT_REGION)};
my $provider = sub { my ($name, @lines) = @_; $t->('AIRouteType llm/v1/chat', "AIModelProvider $name", @lines) };
my ($region, @vertex) = ('AIModelOptionsBedrockAwsRegion us-east-1', 'AIModelOptionsGeminiLocationId us-central1', 'AIModelOptionsGeminiProjectId p');
my @gcp = ('AIAuthGcpUseServiceAccount On', @vertex);
my $role = 'AIModelOptionsBedrockAwsAssumeRoleArn arn:aws:iam::1:role/r';
my @app = ('AIModelOptionsAzureInstance i', 'AIModelOptionsAzureDeploymentId d', 'AIAuthAzureClientId c', 'AIAuthAzureClientSecret sk-1', 'AIAuthAzureTenantId t.example');
my $rsa = qx(openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null);
like($rsa, qr/PRIVATE KEY/, 'a key is made');
AIPTest::Setup::write_file("$state/account.json", json({type => 'service_account', client_email => 'a@p.example', private_key => $rsa}));
AIPTest::Setup::write_file("$state/no-account.json", json({type => 'service_account', client_email => 'a@p.example', private_key => 'sk-1'}));
accepted($_->[0], $provider->(@{$_}[1 .. $#$_])) for (
    ['bedrock', 'bedrock', $region],
    ['bedrock by API key', 'bedrock', $region, 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer sk-1"'],
    ['bedrock with all it has', 'bedrock', $region, 'AIAuthAwsAccessKeyId AKIA1', 'AIAuthAwsSecretAccessKey sk-1', $role,
        'AIModelOptionsBedrockAwsRoleSessionName gw', 'AIModelOptionsBedrockAwsStsEndpointUrl https://sts.example/'],
    ['azure by an application', 'azure', @app],
    ['azure by managed identity', 'azure', @app[0, 1], 'AIAuthAzureUseManagedIdentity On'],
    ['gemini by API key', 'gemini', 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer sk-1"'],
    ['vertex', 'gemini', @gcp, 'AIModelOptionsGeminiApiEndpoint vertex.example', 'AIAuthGcpMetadataUrl http://127.0.0.1:9'],
    ['vertex by a key', 'gemini', @gcp, "AIAuthGcpServiceAccountJson {vault://file$state/account.json}", 'AIAuthGcpOauthTokenUrl https://oauth.example/token'],
);
{
    local $ENV{AWS_REGION} = 'eu-west-1';
    accepted('a region of the environment', $provider->('bedrock'));
}
refused($_->[0], $provider->(@{$_}[1 .. $#$_ - 1]), 3, $_->[-1]) for (
    ['bedrock without region', 'bedrock', qr/AIModelOptionsBedrockAwsRegion must be set for AIModelProvider bedrock, or AWS_REGION/],
    ['bedrock, half of the keys', 'bedrock', $region, 'AIAuthAwsAccessKeyId AKIA1', qr/all or none of AIAuthAwsAccessKeyId and AIAuthAwsSecretAccessKey/],
    ['bedrock, an override', 'bedrock', $region, 'AIAuthAllowOverride On', qr/AIAuthAllowOverride must be Off with AIModelProvider bedrock/],
    ['gemini, an override', 'gemini', 'AIAuthAllowOverride On', qr/AIAuthAllowOverride must be Off with AIModelProvider gemini/],
    ['bedrock, two credentials', 'bedrock', $region, 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue sk-1', $role, qr/AIAuthHeaderName Authorization has no place beside/],
    ['bedrock, a session alone', 'bedrock', $region, 'AIModelOptionsBedrockAwsRoleSessionName gw', qr/AIModelOptionsBedrockAwsRoleSessionName needs/],
    ['bedrock, STS in the clear', 'bedrock', $region, $role, 'AIModelOptionsBedrockAwsStsEndpointUrl http://sts.example/', qr/AIModelOptionsBedrockAwsStsEndpointUrl .* must begin with https/],
    ['keys for openai', 'openai', 'AIAuthAwsAccessKeyId AKIA1', 'AIAuthAwsSecretAccessKey sk-1', qr/AIAuthAwsAccessKeyId has no meaning with AIModelProvider openai; remove it/],
    ['a role for openai', 'openai', $role, qr/AIModelOptionsBedrockAwsAssumeRoleArn belongs to AIModelProvider bedrock, not openai/],
    ['azure without secret', 'azure', @app[0, 1, 2], qr/AIAuthAzureClientId needs AIAuthAzureClientSecret, or AIAuthAzureUseManagedIdentity On/],
    ['azure without tenant', 'azure', @app[0 .. 3], qr/AIAuthAzureClientSecret needs AIAuthAzureClientId and AIAuthAzureTenantId/],
    ['azure, two credentials', 'azure', @app, 'AIAuthHeaderName authorization', 'AIAuthHeaderValue sk-1', qr/AIAuthHeaderName Authorization has no place/],
    ['gemini without project', 'gemini', @gcp[0, 1], qr/AIModelOptionsGeminiLocationId and AIModelOptionsGeminiProjectId must be set for Vertex AI/],
    ['gemini, a JSON without use', 'gemini', 'AIAuthGcpServiceAccountJson sk-1', qr/AIAuthGcpServiceAccountJson needs AIAuthGcpUseServiceAccount On/],
    ['gemini, no JSON', 'gemini', @gcp, 'AIAuthGcpServiceAccountJson sk-1', qr/AIAuthGcpServiceAccountJson is no JSON object/],
    ['gemini, tokens in the clear', 'gemini', @gcp, 'AIAuthGcpOauthTokenUrl http://oauth.example/', qr/AIAuthGcpOauthTokenUrl .* must begin with https/],
    ['gemini, no metadata URL', 'gemini', @gcp, 'AIAuthGcpMetadataUrl metadata', qr/AIAuthGcpMetadataUrl 'metadata' must be a full URL/],
    ['an endpoint for openai', 'openai', 'AIModelOptionsGeminiApiEndpoint h', qr/AIModelOptionsGeminiApiEndpoint belongs to AIModelProvider gemini/],
);

refused('a name twice', location(target('t', @openai), target('t', @openai)), 8, qr/<AITarget t>: there is a target of that name/);
refused('no name', "<Location /x>\n<AITarget>\n</AITarget>\n</Location>\n", 2, qr/<AITarget name> takes exactly one name/);
refused('two names', "<Location /x>\n<AITarget a b>\n</AITarget>\n</Location>\n", 2, qr/<AITarget name> takes exactly one name/);
refused('a target in a target', location("<AITarget a>\n" . target('b', @openai) . "</AITarget>\n"), 3, qr/<AITarget is not allowed inside <AITarget>/);
refused('a name with a blank', "<Location /x>\n<AITarget \"a b\">\n</AITarget>\n</Location>\n", 2, qr/<AITarget a b>: a name holds letters, digits, '-', '_' and '\.' only/);
accepted('the same name in two sections', location(target('t', @openai)) . "<Location /y>\nAIProxy On\n" . target('t', @openai) . "</Location>\n");
refused('no targets', "<Location /x>\nAIProxy On\n</Location>\n", 2, qr/AIProxy On, but there is no target; add an <AITarget name>/);
accepted('targets further down', "<Location /x>\nAIProxy On\n</Location>\n<Location /x/y>\n" . target('t', @openai) . "</Location>\n");
refused('two errors', "<Location /x>\nAIProxy On\n</Location>\n<Location /y>\nAIProxy On\n</Location>\n", 2, qr/check\.conf:5: AIProxy On, but there is no target/);

# ---- routing by meaning ----
my @local = map {"$_\n"} 'AIBalancerAlgorithm semantic', 'AIEmbeddingsModelProvider local', "AIEmbeddingsModelName \"$model\"";
my @remote = map {"$_\n"} 'AIBalancerAlgorithm semantic', 'AIEmbeddingsModelProvider openai', 'AIEmbeddingsModelName text-embedding-3-small';
my $described = target('t', @openai, 'AIDescription "some words"');
accepted('local embedder', location(@local, $described));
accepted('remote embedder', location(@remote, "AIVectordbDimensions 1536\n", $described));
my @semantic = (
    ['no description', [@local, target('t', @openai)], qr/<AITarget t>: AIBalancerAlgorithm semantic needs AIDescription/],
    ['no embedder', ["AIBalancerAlgorithm semantic\n", $described], qr/needs AIEmbeddingsModelProvider/],
    ['no embedding model', ["AIBalancerAlgorithm semantic\n", "AIEmbeddingsModelProvider openai\n", $described], qr/needs AIEmbeddingsModelName/],
    ['no dimensions', [@remote, $described], qr/AIVectordbDimensions is required/],
    ['azure embeddings without URL', [@remote, "AIEmbeddingsModelProvider azure\nAIVectordbDimensions 8\n", $described], qr/AIEmbeddingsModelOptionsUpstreamUrl must be set/],
    ['a bad embeddings URL', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsModelOptionsUpstreamUrl x\n", $described], qr/AIEmbeddingsModelOptionsUpstreamUrl 'x' must be a full URL/],
    ['half a credential', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsAuthHeaderName A\n", $described], qr/all or none of AIEmbeddingsAuthHeaderName/],
    ['part of a parameter', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsAuthParamName A\n", $described], qr/all or none of AIEmbeddingsAuthParamName/],
    ['wrong dimensions', [@local, "AIVectordbDimensions 384\n", $described], qr/AIVectordbDimensions 384: the model .* has 256/],
    ['a URL for the local embedder', [@local, "AIEmbeddingsModelOptionsUpstreamUrl http://h/\n", $described], qr/AIEmbeddingsModelOptionsUpstreamUrl has no meaning/],
    ['a model that is not there', [@local, "AIEmbeddingsModelName none-of-ours\n", $described], qr/AIEmbeddingsModelName 'none-of-ours': /],
    ['a description without known words', [@local, target('t', @openai, "AIDescription \"\xe2\x80\x83\"")], qr/holds no word that the model/],
    ['redis without metric', [@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\n", $described], qr/AIVectordbDistanceMetric is required with AIVectordbStrategy redis/],
    ['a redis user without password', [@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbRedisUsername u\n", $described], qr/AIVectordbRedisUsername needs AIVectordbRedisPassword/],
    ['pgvector without metric', [@remote, "AIVectordbDimensions 8\nAIVectordbStrategy pgvector\n", $described], qr/AIVectordbDistanceMetric is required with AIVectordbStrategy pgvector/],
    (map { my ($what, $lines, $pattern) = @$_; [$what, [@remote, "AIVectordbDimensions 8\nAIVectordbStrategy pgvector\nAIVectordbDistanceMetric cosine\n$lines", $described], $pattern] }
        ['too many dimensions for pgvector', "AIVectordbDimensions 16001\n", qr/AIVectordbDimensions 16001: pgvector takes at most 16000/],
        ['TLS to PostgreSQL required, but off', "AIVectordbPgvectorSslRequired On\n", qr/AIVectordbPgvectorSslRequired On, but AIVectordbPgvectorSsl is Off/],
        ['TLS over a Unix socket', "AIVectordbPgvectorSsl On\nAIVectordbPgvectorHost /run/postgresql\n", qr/there is no TLS over the Unix socket in '\/run\/postgresql'/],
        ['a client certificate without key', "AIVectordbPgvectorSsl On\nAIVectordbPgvectorSslCert /etc/passwd\n", qr/both or none of AIVectordbPgvectorSslCert and AIVectordbPgvectorSslCertKey/],
        ['a client certificate without TLS', "AIVectordbPgvectorSslCert /etc/passwd\nAIVectordbPgvectorSslCertKey /etc/passwd\n", qr/AIVectordbPgvectorSslCert needs 'AIVectordbPgvectorSsl On'/],
        ['a relative client certificate', "AIVectordbPgvectorSsl On\nAIVectordbPgvectorSslCert cert.pem\nAIVectordbPgvectorSslCertKey /etc/passwd\n", qr/AIVectordbPgvectorSslCert 'cert\.pem': write the whole path/],
        ['a client key that is not there', "AIVectordbPgvectorSsl On\nAIVectordbPgvectorSslCert /etc/passwd\nAIVectordbPgvectorSslCertKey /nonexistent\n", qr/AIVectordbPgvectorSslCertKey '\/nonexistent': there is no such file/]),
    ['pgvector forgotten', [@remote, "AIVectordbDimensions 8\nAIVectordbPgvectorHost h\n", $described], qr/AIVectordbPgvectorHost has no meaning with AIVectordbStrategy memory; remove it, or add 'AIVectordbStrategy pgvector'/],
    ['pgvector beside redis', [@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbPgvectorSslCertKey /etc/passwd\n", $described],
        qr/AIVectordbPgvectorSslCertKey has no meaning with AIVectordbStrategy redis/],
    ['a password in the embeddings URL', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsModelOptionsUpstreamUrl http://u:sk-1\@h/\n", $described],
        qr/AIEmbeddingsModelOptionsUpstreamUrl 'http:\/\/\*\*\*\@h\/' must hold neither/],
    ['a credential for the local embedder', [@local, "AIEmbeddingsAuthHeaderName A\nAIEmbeddingsAuthHeaderValue sk-1\n", $described], qr/AIEmbeddingsAuthHeaderName has no meaning/],
    ['a framing header for the embedder', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsAuthHeaderName Content-Length\nAIEmbeddingsAuthHeaderValue sk-1\n", $described],
        qr/AIEmbeddingsAuthHeaderName 'Content-Length' is no name for a credential header/],
    ['control bytes for the embedder', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsAuthHeaderName A\nAIEmbeddingsAuthHeaderValue \"sk-1\x01\"\n", $described],
        qr/AIEmbeddingsAuthHeaderValue holds control bytes/],
    ['a managed identity of the wrong embedder', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsAuthAzureUseManagedIdentity On\n", $described],
        qr/AIEmbeddingsAuthAzureUseManagedIdentity has no meaning with AIEmbeddingsModelProvider openai; remove it/],
    ['an identity of the local embedder', [@local, "AIEmbeddingsAuthAzureClientId c\n", $described], qr/AIEmbeddingsAuthAzureClientId has no meaning with AIEmbeddingsModelProvider local/],
    ['AWS keys for the embedder', [@remote, "AIVectordbDimensions 8\nAIEmbeddingsAuthAwsAccessKeyId A\nAIEmbeddingsAuthAwsSecretAccessKey sk-1\n", $described],
        qr/AIEmbeddingsAuthAwsAccessKeyId has no meaning with AIEmbeddingsModelProvider openai/],
    ['an AWS secret for the embedder', [@remote, "AIVectordbDimensions 8\n", 'AIEmbeddingsAuthAwsSecretAccessKey sk-1', "\n", $described], qr/AIEmbeddingsAuthAwsSecretAccessKey has no meaning/],
    ['half an application for the embedder', [@remote, "AIEmbeddingsModelProvider azure\nAIEmbeddingsModelOptionsUpstreamUrl https://h/\nAIVectordbDimensions 8\n"
        . "AIEmbeddingsAuthAzureClientId c\nAIEmbeddingsAuthAzureClientSecret sk-1\n", $described], qr/AIEmbeddingsAuthAzureClientSecret needs AIEmbeddingsAuthAzureClientId and AIEmbeddingsAuthAzureTenantId/],
    ["Google's token for OpenAI", [@remote, "AIVectordbDimensions 8\nAIEmbeddingsAuthGcpUseServiceAccount On\n", $described],
        qr/AIEmbeddingsAuthGcpUseServiceAccount has no meaning with AIEmbeddingsModelProvider openai without AIEmbeddingsModelOptionsUpstreamUrl/],
    (map { ["$_ alone", [@remote, "AIVectordbDimensions 8\nAIEmbeddingsModelOptionsUpstreamUrl https://h/\n$_ sk-1\n", $described], qr/$_ needs AIEmbeddingsAuthGcpUseServiceAccount On/] }
        qw(AIEmbeddingsAuthGcpMetadataUrl AIEmbeddingsAuthGcpOauthTokenUrl AIEmbeddingsAuthGcpServiceAccountJson)),
    ['a threshold beyond cosine', [@local, "AIVectordbThreshold 2.5\n", $described], qr/AIVectordbThreshold 2\.5: cosine distances lie between 0 and 2/],
    ['a failure target that is none', [@local, "AIRouteOnFailure nobody\n", $described], qr/AIRouteOnFailure 'nobody' is neither catchall, fail nor/],
    ['an ambiguity target that is none', [@local, "AIRouteOnAmbiguous nobody\n", $described],
        qr/AIRouteOnAmbiguous 'nobody' is neither nearest, catchall nor the name of a target of this section/],
    ['ambiguous to a catch-all that is none', [@local, "AIRouteMargin 0.1\nAIRouteOnAmbiguous catchall\n", $described],
        qr/AIRouteOnAmbiguous catchall: no target has AIDescription CATCHALL/],
    ['a threshold of the catch-all', [@local, $described, target('rest', @openai, 'AIDescription CATCHALL', 'AIRouteThreshold 0.5')],
        qr/<AITarget rest>: AIRouteThreshold has no meaning with AIDescription CATCHALL/],
    ['two thresholds of one route', [@local, map { target("t$_", @openai, 'AIDescription "some words"', "AIRouteThreshold 0.$_") } 4, 5],
        qr/<AITarget t4> and <AITarget t5> share one AIDescription, .* AIRouteThreshold differ: make them equal/],
    ["a target's threshold beyond cosine", [@local, target('t', @openai, 'AIDescription "some words"', 'AIRouteThreshold 2.5')],
        qr/<AITarget t>: AIRouteThreshold 2\.5: cosine distances lie between 0 and 2/],
    ['sessions without a cache', ["AIRouteSticky conversation\nAIRouteCache none\n", $described], qr/AIRouteSticky keeps sessions in AIRouteCache, which is none here/],
    ['sessions of routes without a cache', [@local, "AIRouteSticky header X-Session\nAIRouteCache NONE\n", $described], qr/AIRouteSticky keeps sessions in AIRouteCache, which is none here/],
    ['a cache that nobody has', [@local, "AIRouteCache nonsense:x\n", $described],
        qr/AIRouteCache 'nonsense:x': there is no cache 'nonsense'; load mod_socache_nonsense, or write one of auto, none, shmcb, redis:HOST:PORT, memcache:HOST:PORT/],
    ['such a cache for sessions', ["AIRouteSticky cookie sid\nAIRouteCache nonsense\n", $described], qr/AIRouteCache 'nonsense': there is no cache 'nonsense'/],
    (map { ["a cache size '$_'", [@local, "AIRouteCache shmcb:name$_\n", $described], qr/AIRouteCache 'shmcb:name\Q$_\E': \w.*(size|parenthes)/] } '(nonsense)', '(100000', '(10)', '()'),
    ['no header name', ["AIModelNameHeaderName \"a b\"\n", $described], qr/AIModelNameHeaderName 'a b' is no header name/],
);
refused($_->[0], location(@{$_->[1]}), 2, $_->[2]) for @semantic;
refused("AIDryRunPath $_", location("AIDryRunPath $_\n", $described), 3, qr/AIDryRunPath '$_' must begin with '\/' and have a name/) for '_route', '/';
accepted('a managed identity of the embedder', location(@remote, "AIEmbeddingsModelProvider azure\nAIEmbeddingsModelOptionsUpstreamUrl https://h/\nAIVectordbDimensions 8\nAIEmbeddingsAuthAzureUseManagedIdentity On\n", $described));
accepted('a failure target', location(@local, "AIRouteOnFailure t\n", $described));
my $rest = target('rest', @openai, 'AIDescription CATCHALL');
accepted($_->[0], location(@{$_->[1]})) for (
    ['an ambiguity target', [@local, "AIRouteMargin 0.1\nAIRouteOnAmbiguous t\n", $described]],
    ['ambiguous to the catch-all', [@local, "AIRouteMargin 0.1\nAIRouteOnAmbiguous catchall\n", $described, $rest]],
    ['nothing is ambiguous without a margin', [@local, "AIRouteOnAmbiguous catchall\n", $described]],
    ['one threshold of a route', [@local, target('t4', @openai, 'AIDescription "some words"', 'AIRouteThreshold 0.4'), $described]],
    ['equal thresholds of a route', [@local, map { target("t$_", @openai, 'AIDescription "some words"', "AIRouteThreshold $_") } '0.5', '0.50']],
    ['a wide threshold of euclidean', [@local, "AIVectordbDistanceMetric euclidean\n", target('t', @openai, 'AIDescription "some words"', 'AIRouteThreshold 2.5')]],
    ['no sessions, no cache', [@local, "AIRouteSticky off\nAIRouteCache none\n", $described]],
    map { ["cache $_", [@remote, "AIVectordbDimensions 8\nAIRouteSticky conversation\nAIRouteCache $_\n", $described]] }
        qw(auto shmcb shmcb:name shmcb:name(100000) redis:127.0.0.1:1 memcache:127.0.0.1:1),
);

# ---- files of examples ----
# Only what is a text counts, for beside CATCHALL no text may stand.
sub examples {
    my ($name, $text) = @_;
    AIPTest::Setup::write_file("$state/$name", $text);
    return "AIRouteExamplesFile \"$state/$name\"";
}
sub with_examples { return location(@local, target('t', @openai, 'AIDescription "some words"', @_)) }
my $silent = examples('examples-silent', "# a remark\n\n   \t \n  # another one\r\n\r\n#");
accepted('remarks and empty lines alone', with_examples($silent));
accepted('are no examples', location(@local, $described, target('rest', @openai, 'AIDescription CATCHALL', $silent)));
refused('examples of the catch-all, from a file', location(@local, $described, target('rest', @openai, 'AIDescription CATCHALL', examples('examples-one', "#\none\n"))),
    12, qr/AIRouteExample has no place beside/);
refused('examples without known words', with_examples(examples('examples-blank', "one\n\xe2\x80\x83\n")), 2, qr/holds no word that the model/);
accepted('a long line', with_examples(examples('examples-long', '#' . 'x' x 8191 . "\n" . 'word ' x 1638 . 'wo')));
accepted('a long line with an end', with_examples(examples('examples-ended', 'word ' x 1638 . "wo\nword\n")));
refused('a line that is too long', with_examples(examples('examples-longer', "one\n\n" . 'word ' x 1638 . "wor\none\n")), 11,
    qr/AIRouteExamplesFile: \Q$state\E\/examples-longer: line 3 is longer than 8192 bytes/);
refused('a remark that is too long', with_examples(examples('examples-remark', "one\n#" . 'x' x 8192 . "\n")), 11, qr/examples-remark: line 2 is longer than 8192 bytes/);
refused('too many examples', with_examples(examples('examples-many', join '', map {"word $_\n"} 0 .. 10_000)), 11, qr/examples-many: line 10001: a target takes at most 10000 examples/);
refused('no such file of examples', with_examples('AIRouteExamplesFile examples-none'), 11, qr/AIRouteExamplesFile: cannot read '\/.*\/examples-none': .*No such file/);
refused('a directory of examples', with_examples("AIRouteExamplesFile $state"), 11, qr/AIRouteExamplesFile: .*\Q$state\E.*Is a directory/);
if (slurp($ENV{AIP_MODULE}) !~ /redisInitiateSSL/) {
    refused('TLS to Redis', location(@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbRedisSsl On\n", $described), 2, qr/AIVectordbRedisSsl On: this build has no TLS to Redis/);
}
else {
    accepted('TLS to Redis', location(@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbRedisSsl On\n", $described));
}

accepted($_->[0], location(@remote, "AIVectordbDimensions 16000\nAIVectordbDistanceMetric cosine\n$_->[1]", $described)) for
    ['pgvector', "AIVectordbStrategy pgvector\nAIVectordbPgvectorHost /run/postgresql\n"],
    ['TLS to PostgreSQL', "AIVectordbStrategy pgvector\nAIVectordbPgvectorSsl On\nAIVectordbPgvectorSslRequired On\nAIVectordbPgvectorSslVersion tlsv1_3\n"
        . "AIVectordbPgvectorSslCert /etc/passwd\nAIVectordbPgvectorSslCertKey /etc/passwd\n"],
    ['pgvector switched off', "AIVectordbStrategy memory\nAIVectordbPgvectorHost h\nAIVectordbPgvectorSslRequired On\n"];

# A model directory with one file changed by CODE.
sub broken {
    my ($what, $file, $code, $pattern) = @_;
    my $dir = "$state/model-" . ($what =~ s/\W+/-/gr);
    mkdir $dir;
    for my $name (qw(config.json tokenizer.json model.safetensors)) {
        my $text = slurp("$model/$name");
        $text = $code->($text) if $name eq $file;
        AIPTest::Setup::write_file("$dir/$name", $text) if defined $text;
    }
    refused($what, location(@local, "AIEmbeddingsModelName \"$dir\"\n", $described), 2, qr/AIEmbeddingsModelName '\Q$dir\E': /, $pattern);
    return;
}
broken('a missing config', 'config.json', sub { undef }, qr/config\.json: .*No such file/);
broken('a config that is no JSON', 'config.json', sub {'{"model_type":'}, qr/config\.json/);
broken('another kind of model', 'config.json', sub { $_[0] =~ s/"model2vec"/"bert"/r }, qr/config\.json/);
broken('other dimensions in the config', 'config.json', sub { $_[0] =~ s/256/128/r }, qr/(config\.json|model\.safetensors)/);
broken('a missing tokenizer', 'tokenizer.json', sub { undef }, qr/tokenizer\.json: .*No such file/);
broken('a tokenizer of another kind', 'tokenizer.json', sub { $_[0] =~ s/"WordPiece"/"BPE"/gr }, qr/tokenizer\.json: .*"WordPiece"/);
broken('a cut model file', 'model.safetensors', sub { substr $_[0], 0, 100_000 }, qr/model\.safetensors/);
broken('an empty model file', 'model.safetensors', sub {''}, qr/model\.safetensors/);
broken('a model file of another kind', 'model.safetensors', sub { "\xff" x 4096 }, qr/model\.safetensors/);
broken('another tensor', 'model.safetensors', sub { $_[0] =~ s/"embeddings"/"embeddingz"/r }, qr/model\.safetensors.*embeddings/);
refused('no model directory', location(@local, "AIEmbeddingsModelName /nonexistent\n", $described), 2, qr/AIEmbeddingsModelName '\/nonexistent': .*No such file/);
refused('a file as model', location(@local, "AIEmbeddingsModelName \"$model/config.json\"\n", $described), 2, qr/Not a directory/);

# ---- vaults ----
$ENV{AIP_T_KEY} = 'sk-of-env';
$ENV{AIP_T_JSON} = '{"openai":"sk-of-json","number":1}';
$ENV{AIP_T_EMPTY} = '';
my %file = (key => "sk-of-file\n", crlf => "sk-of-file\r\n", json => '{"a":1}', lines => "sk-a\nb\n", empty => "\n", binary => "sk-\0x", long => 'sk-' . 'x' x 65_536);
AIPTest::Setup::write_file("$state/$_", $file{$_}) for keys %file;
my $vault = sub { $t->(@openai, 'AIAuthHeaderName Authorization', "AIAuthHeaderValue \"$_[0]\"") };
accepted($_, $vault->($_)) for '{vault://env/AIP_T_KEY}', '{vault://env/aip-t-key}', 'Bearer {vault://env/AIP_T_KEY}',
    '{vault://env/AIP_T_JSON/openai}', "{vault://file$state/key}", "{vault://file$state/crlf}", '{vault://env/AIP_T_KEY}-{vault://env/AIP_T_KEY}';
my @bad = (
    ['{vault://env/AIP_T_NONE}', qr/\{vault:\/\/env\/AIP_T_NONE\}: the environment variable AIP_T_NONE is not set; export it to httpd/],
    ['Bearer {vault://env/AIP_T_NONE}', qr/the environment variable AIP_T_NONE is not set/],
    ['{vault://env/AIP_T_EMPTY}', qr/the environment variable AIP_T_EMPTY is empty/], ['{vault://env/}', qr/vault:\/\/env\//],
    ['{vault://env/AIP_T_JSON/mistral}', qr/no JSON object with a text member 'mistral'/], ['{vault://env/AIP_T_JSON/number}', qr/no JSON object with a text member 'number'/],
    ['{vault://env/AIP_T_KEY/openai}', qr/no JSON object with a text member 'openai'/], ['{vault://file/nonexistent/key}', qr/cannot read \/nonexistent\/key: .*No such file/],
    ["{vault://file$state}", qr/cannot read \Q$state\E: /], ["{vault://file$state/empty}", qr/is empty or no text/], ["{vault://file$state/binary}", qr/is empty or no text/],
    ["{vault://file$state/long}", qr/is longer than 65536 bytes/], ['{vault://hcv/openai/key}', qr/there is no vault of that name; add <AIVault hcv>, or use/],
    ['{vault://hashicorp-vault/openai/key}', qr/there is no vault of that name/], ['{vault://env/AIP_T_KEY', qr/a vault reference must look like/],
    ['{vault:env/AIP_T_KEY}', qr/a vault reference must look like/], ['{vault://env/AIP_T_KEY} {vault://env/AIP_T_NONE}', qr/AIP_T_NONE is not set/],
);
refused($_->[0], $vault->($_->[0]), 8, qr/AIAuthHeaderValue: /, $_->[1]) for @bad;
refused('a line end in a key', $vault->("{vault://file$state/lines}"), 8, qr/AIAuthHeaderValue: the value holds control bytes/);
my @store = (@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\n");
$ENV{AIP_T_PORT} = 6390;
accepted('a vault in other directives', location(@store, map {"$_\n"} 'AIVectordbRedisPassword {vault://env/AIP_T_KEY}', 'AIVectordbRedisPort {vault://env/AIP_T_PORT}',
        'AIVectordbRedisHost {vault://env/AIP_T_KEY}', 'AIEmbeddingsAuthHeaderName X-Key', 'AIEmbeddingsAuthHeaderValue {vault://env/AIP_T_KEY}', $described));
refused("$_ from a vault that has it not", location("$_ {vault://env/AIP_T_NONE}\n"), 3, qr/$_: .*AIP_T_NONE is not set/)
    for qw(AIVectordbRedisPassword AIVectordbRedisPort AIVectordbRedisHost AIEmbeddingsAuthHeaderValue AIEmbeddingsAuthParamValue);

# ---- no network, any order of modules ----
mock_reset();
my $opened = sub { return {map { $_->{name} => $_->{opened} } @{mock_connections()}} };
my $before = $opened->();
accepted('with an embedder, a Redis and files', location(@store, map({"$_\n"} 'AIVectordbRedisPort ' . port('MOCK_2'), "AIStateDir \"$state/no-state\"",
        "AIStatisticsLog \"$state/no-log\"", "AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}"),
        target('t', @openai, 'AIDescription "some words"', "AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}")));
is(scalar(mock_requests()), 0, 'makes no call');
is_deeply($opened->(), $before, 'opens no connection');
ok(!-e "$state/$_", "makes no $_") for qw(no-state no-log);

sub check_modules {
    my ($text, @order) = @_;
    my @lines = grep {/\S/} split /^/, slurp("$AIPTest::Setup::t/conf/modules.load");
    my @loads = $order[0]->(@lines);
    my $dir = "$AIPTest::Setup::t/state";
    AIPTest::Setup::write_file("$dir/order.conf", "ServerRoot \"$dir\"\nServerName x\nErrorLog \"$dir/order_log\"\nListen 127.0.0.1:" . port('SPARE_6') . "\n" . join('', @loads) . $text);
    my ($status, $out, $err) = run_command([$ENV{AIP_HTTPD}, '-t', '-f', "$dir/order.conf"]);
    return ($status, $out . $err);
}
my $https = $t->(@openai);
my $ours = sub { grep {/ai_proxy_adv/} @_ };
my $others = sub { grep { !/ai_proxy_adv/ } @_ };
# mod_proxy_http itself must follow mod_proxy.
for my $case (
    ['ours first', sub { ($ours->(@_), $others->(@_)) }], ['ours last', sub { ($others->(@_), $ours->(@_)) }],
    ['ours between', sub { map { /\bssl_module/ ? ($_, $ours->(@_)) : $_ } $others->(@_) }],
    ['mod_ssl before mod_proxy', sub { ((grep {/\bssl_module/} @_), $ours->(@_), grep { !/\bssl_module|ai_proxy_adv/ } @_) }],
) {
    my ($status, $out) = check_modules($https, $case->[1]);
    is($status, 0, "modules, $case->[0]") or diag($out);
}
my $embedder = location(@remote, "AIVectordbDimensions 8\n", target('t', @openai, 'AIDescription "some words"', 'AIModelOptionsUpstreamUrl http://h/'));
for my $case (
    ['without mod_proxy', $https, qr/\bproxy_module|proxy_http/, qr/<AITarget t>: mod_proxy is not loaded: run 'a2enmod proxy', or add a LoadModule line for proxy_module/],
    ['without mod_proxy, plain HTTP', $t->(@openai, 'AIModelOptionsUpstreamUrl http://h/'), qr/\bproxy_module|proxy_http/, qr/mod_proxy is not loaded/],
    ['https without mod_ssl', $https, qr/\bssl_module/, qr/<AITarget t>: https:\/\/api\.openai\.com:443 needs mod_ssl: run 'a2enmod ssl', or add a LoadModule line for ssl_module/],
    ['embeddings without mod_ssl', $embedder, qr/\bssl_module/, qr/https:\/\/api\.openai\.com:443 needs mod_ssl: run 'a2enmod ssl'/],
) {
    my ($what, $text, $without, $pattern) = @$case;
    my ($status, $out) = check_modules($text, sub { grep { !/$without/ } @_ });
    isnt($status, 0, $what);
    like($out, $pattern, "$what: says what to do");
    is(scalar(() = $out =~ /(not loaded|needs mod_ssl)/g), 1, "$what: once");
}
# Caches come from modules of their own.
my $cached = sub { location(@remote, "AIVectordbDimensions 8\nAIEmbeddingsModelOptionsUpstreamUrl http://h/\n", map({"$_\n"} @_), $described) };
for my $case (
    ['sessions without shmcb', [location("AIRouteSticky conversation\n", $described)], qr/socache_shmcb/,
        qr/AIRouteSticky keeps sessions in AIRouteCache, and mod_socache_shmcb is not loaded: load it, or name another cache/],
    ['sessions, shmcb by name', [$cached->('AIRouteSticky cookie sid', 'AIRouteCache shmcb')], qr/socache_shmcb/, qr/there is no cache 'shmcb'; load mod_socache_shmcb/],
    ['redis', [$cached->('AIRouteCache redis:127.0.0.1:6379')], qr/socache_redis/, qr/AIRouteCache 'redis:127\.0\.0\.1:6379': there is no cache 'redis'; load mod_socache_redis/],
    ['memcache', [$cached->('AIRouteCache memcache:127.0.0.1:1')], qr/socache_memcache/, qr/there is no cache 'memcache'; load mod_socache_memcache/],
    ['auto', [$cached->('AIRouteCache auto')], qr/socache_/, undef],
    ['the default', [$cached->()], qr/socache_/, undef],
    ['sessions, another cache', [$cached->('AIRouteSticky conversation', 'AIRouteCache memcache:127.0.0.1:1')], qr/socache_shmcb/, undef],
) {
    my ($what, $text, $without, $pattern) = @$case;
    my ($status, $out) = check_modules(@$text, sub { grep { !/$without/ } @_ });
    $pattern ? isnt($status, 0, "cache not loaded, $what: refused") : is($status, 0, "cache not loaded, $what: accepted") || diag($out);
    like($out, $pattern // qr/Syntax OK/, "cache not loaded, $what: its words");
}
my ($status, $out) = check_modules($t->(@openai, 'AIModelOptionsUpstreamUrl http://h/'), sub { grep { !/\bssl_module/ } @_ });
is($status, 0, 'plain HTTP needs no mod_ssl') or diag($out);

# failover that cannot happen is said, and does not stop the start
my @two = (target('a', @openai), target('b', @openai));
for my $case (
    ['one target', ["AIBalancerFailoverCriteria http_503\n", target('a', @openai)], qr/check\.conf:2: AIBalancerFailoverCriteria has no effect: there is one target only/],
    ['no retries', ["AIBalancerFailoverCriteria http_503\nAIBalancerRetries 0\n", @two], qr/has no effect: AIBalancerRetries is 0/],
    ['non_idempotent alone', ["AIBalancerFailoverCriteria http_503 non_idempotent\n", @two], qr/non_idempotent has no effect without error, timeout or invalid_header/],
    ['invalid_header alone', ["AIBalancerFailoverCriteria invalid_header\n", @two], qr/invalid_header has no effect without non_idempotent/],
    ['a good list', ["AIBalancerFailoverCriteria error timeout http_503 non_idempotent\n", @two], undef],
    ['the default', [target('a', @openai)], undef],
) {
    my ($what, $lines, $pattern) = @$case;
    my $said = accepted($what, location(@$lines));
    $pattern ? like($said, qr/AIP0011: .*$pattern/, "$what: said") : unlike($said, qr/AIP0011/, "$what: nothing to say");
}
refused('cost without prices', location("AIBalancerAlgorithm lowest-usage\nAIBalancerTokensCountStrategy cost\n", @two), 2,
    qr/<AITarget a>: AIBalancerTokensCountStrategy cost needs AIModelOptionsInputCost and AIModelOptionsOutputCost/);
refused('no header name', location("AIBalancerAlgorithm consistent-hashing\nAIBalancerHashOnHeader \"a b\"\n", @two), 2, qr/AIBalancerHashOnHeader 'a b' is no header name/);
finish();
