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
my @openai = ('AIRouteType llm/v1/chat', 'AIModelProvider openai', 'AIModelName m');

sub target { my ($name, @lines) = @_; return "<AITarget $name>\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n" }
sub location { return "<Location /x>\nAIProxy On\n" . join('', @_) . "</Location>\n" }

sub refused {
    my ($what, $text, @patterns) = @_;
    my ($status, $said) = config_check($text);
    isnt($status, 0, "refused: $what");
    like($said, qr/line \d+ of \S*check\.conf|\S*check\.conf:\d+:/, "$what: file and line");
    like($said, $_, "$what: why") for @patterns;
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
    ['header value alone', [@openai, 'AIAuthHeaderValue x'], qr/all or none of AIAuthHeaderName and AIAuthHeaderValue/],
    ['two of three', [@openai, 'AIAuthParamName k', 'AIAuthParamValue v'], qr/all or none of AIAuthParamName, AIAuthParamValue and AIAuthParamLocation/],
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
    ["dashscope's option", [@openai, 'AIModelOptionsDashscopeInternational Off'], qr/belongs to AIModelProvider dashscope/],
    ['a price of 0', [@openai, 'AIModelOptionsInputCost 0', 'AIModelOptionsOutputCost 1'], qr/must be greater than 0/],
    ['no URL', [@openai, 'AIModelOptionsUpstreamUrl host/path'], qr/AIModelOptionsUpstreamUrl 'host\/path' must be a full URL/],
    ['another scheme', [@openai, 'AIModelOptionsUpstreamUrl ftp://h/'], qr/must begin with http:\/\/ or https:\/\//],
    ['a password in the URL', [@openai, 'AIModelOptionsUpstreamUrl http://u:p@h/'], qr/neither a user nor a fragment/],
    ['a bad port', [@openai, 'AIModelOptionsUpstreamUrl http://h:70000/'], qr/port from 1 to 65535/],
    ['a relative path', [@openai, 'AIModelOptionsUpstreamPath x'], qr/AIModelOptionsUpstreamPath 'x' must begin with '\/'/],
    ['examples of the catch-all', [@openai, 'AIDescription CATCHALL', 'AIRouteExample x'], qr/AIRouteExample has no place beside/],
    ["another module's line", [@openai, 'Require all granted'], qr/Require is not allowed inside <AITarget>/],
    ['an unknown CA file', [@openai, 'SSLProxyCACertificateFile /nonexistent.pem'], qr/SSLProxyCACertificateFile/],
);
refused($_->[0], $t->(@{$_->[1]}), $_->[2]) for @rows;
for my $ok (['azure', 'AIModelOptionsAzureInstance i', 'AIModelOptionsAzureDeploymentId d', 'AIModelOptionsAzureApiVersion 2024-10-21'],
    ['mistral', 'AIModelOptionsMistralFormat openai'], ['databricks', 'AIModelOptionsDatabricksWorkspaceInstanceId dbc-1'],
    ['vllm', 'AIModelOptionsUpstreamUrl http://127.0.0.1:8000/v1/chat/completions'],
    ['dashscope', 'AIModelOptionsDashscopeInternational Off']) {
    accepted($ok->[0], $t->('AIRouteType llm/v1/chat', "AIModelProvider $ok->[0]", @$ok[1 .. $#$ok]));
}
refused('a name twice', location(target('t', @openai), target('t', @openai)), qr/<AITarget t>: there is a target of that name/);
refused('no name', "<Location /x>\n<AITarget>\n</AITarget>\n</Location>\n", qr/<AITarget name> takes exactly one name/);
refused('two names', "<Location /x>\n<AITarget a b>\n</AITarget>\n</Location>\n", qr/<AITarget name> takes exactly one name/);
refused('a target in a target', location("<AITarget a>\n" . target('b', @openai) . "</AITarget>\n"), qr/AITarget/);
accepted('the same name in two sections', location(target('t', @openai)) . "<Location /y>\nAIProxy On\n" . target('t', @openai) . "</Location>\n");
refused('no targets', "<Location /x>\nAIProxy On\n</Location>\n", qr/AIProxy On, but there is no target; add an <AITarget name>/);
accepted('targets further down', "<Location /x>\nAIProxy On\n</Location>\n<Location /x/y>\n" . target('t', @openai) . "</Location>\n");

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
    ['a threshold beyond cosine', [@local, "AIVectordbThreshold 2.5\n", $described], qr/AIVectordbThreshold 2\.5: cosine distances lie between 0 and 2/],
    ['a failure target that is none', [@local, "AIRouteOnFailure nobody\n", $described], qr/AIRouteOnFailure 'nobody' is neither catchall, fail nor/],
    ['no header name', ["AIModelNameHeaderName \"a b\"\n", $described], qr/AIModelNameHeaderName 'a b' is no header name/],
);
refused($_->[0], location(@{$_->[1]}), $_->[2]) for @semantic;
accepted('a failure target', location(@local, "AIRouteOnFailure t\n", $described));
if (slurp($ENV{AIP_MODULE}) !~ /redisInitiateSSLWithContext/) {
    refused('TLS to Redis', location(@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbRedisSsl On\n", $described), qr/AIVectordbRedisSsl On: this build has no TLS to Redis/);
}
else {
    accepted('TLS to Redis', location(@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbRedisSsl On\n", $described));
}
my $broken = "$AIPTest::Setup::t/state/broken-model";
mkdir $broken;
AIPTest::Setup::write_file("$broken/$_", slurp("$model/$_")) for qw(config.json tokenizer.json);
AIPTest::Setup::write_file("$broken/model.safetensors", substr slurp("$model/model.safetensors"), 0, 100000);
refused('a cut model file', location(@local, "AIEmbeddingsModelName \"$broken\"\n", $described), qr/model\.safetensors/);

# ---- vaults ----
$ENV{AIP_T_KEY} = 'sk-of-env';
$ENV{AIP_T_JSON} = '{"openai":"sk-of-json"}';
AIPTest::Setup::write_file("$AIPTest::Setup::t/state/key", "sk-of-file\n");
my $vault = sub { $t->(@openai, 'AIAuthHeaderName Authorization', "AIAuthHeaderValue \"$_[0]\"") };
accepted($_, $vault->($_)) for '{vault://env/AIP_T_KEY}', '{vault://env/aip-t-key}', 'Bearer {vault://env/AIP_T_KEY}',
    '{vault://env/AIP_T_JSON/openai}', "{vault://file$AIPTest::Setup::t/state/key}";
my $said;
for (['{vault://env/AIP_T_NONE}', qr/AIAuthHeaderValue: \{vault:\/\/env\/AIP_T_NONE\}: the environment variable AIP_T_NONE is not set/],
    ['{vault://file/nonexistent/key}', qr/cannot read \/nonexistent\/key/], ['{vault://env/AIP_T_JSON/mistral}', qr/no JSON object with a text member 'mistral'/],
    ['{vault://hashicorp-vault/openai/key}', qr/there is no vault of that name; use \{vault:\/\/env\/NAME\}/],
    ['{vault://env/AIP_T_KEY', qr/a vault reference must look like/]) {
    $said = refused($_->[0], $vault->($_->[0]), $_->[1]);
    unlike($said, qr/sk-of/, 'no secret is shown');
}
AIPTest::Setup::write_file("$AIPTest::Setup::t/state/key2", "a\nb\n");
refused('a line end in a key', $vault->("{vault://file$AIPTest::Setup::t/state/key2}"), qr/AIAuthHeaderValue holds control bytes/);

# ---- no network, any order of modules ----
mock_reset();
accepted('with an embedder and a Redis', location(@remote, "AIVectordbDimensions 8\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\n",
        'AIVectordbRedisPort ' . port('MOCK_2') . "\n", "AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}\n", $described));
is(scalar(mock_requests()), 0, 'makes no call');

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
# mod_proxy_http itself must follow mod_proxy, so only ours moves.
for (['ours first', sub {@_}], ['ours last', sub { (grep { !/ai_proxy_adv/ } @_), grep {/ai_proxy_adv/} @_ }]) {
    my ($status, $out) = check_modules($https, $_->[1]);
    is($status, 0, "modules, $_->[0]") or diag($out);
}
my ($status, $out) = check_modules($https, sub { grep { !/proxy_module|proxy_http/ } @_ });
isnt($status, 0, 'without mod_proxy');
like($out, qr/mod_proxy is not loaded: run 'a2enmod proxy'/, 'says what to do');
($status, $out) = check_modules($https, sub { grep { !/\bssl_module/ } @_ });
isnt($status, 0, 'https without mod_ssl');
like($out, qr/needs mod_ssl: run 'a2enmod ssl'/, 'says what to do');
finish();
