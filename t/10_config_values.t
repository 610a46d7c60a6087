#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Every directive of the table through `httpd -t`: values that are taken, values that are refused with file, line,
# directive, value and what is allowed, and places where it cannot stand.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $target = <<"CONF";
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName m
CONF

# A configuration with one line in a location, or inside a target; the line has a number of its own.
sub location { return "<Location /x>\n$_[0]\n</Location>\n" }
sub inside   { return "<Location /x>\n<AITarget t>\n$_[0]\n${\($_[1] // $target)}</AITarget>\n</Location>\n" }

sub accepted {
    my ($text, $what) = @_;
    my ($status, $said) = config_check($text);
    is($status, 0, "accepted: $what") or diag($said);
    return;
}

sub refused {
    my ($text, $line, $pattern, $what) = @_;
    my ($status, $said) = config_check($text);
    isnt($status, 0, "refused: $what");
    like($said, qr/line $line of \S*check\.conf|check\.conf:$line:/, "$what: its place");
    like($said, $pattern, "$what: why");
    return $said;
}

# directive => [values taken], [values refused], what the message says is allowed
my %of_location = (
    AIProxy => [[qw(On off)], [qw(yes 1)], 'On or Off'],
    AILlmFormat => [['openai'], [qw(anthropic)], 'openai'],
    AIMaxRequestBodySize => [[0, 1048576], [qw(-1 1k 1.5 99999999999)], 'whole number from 0'],
    AIModelNameHeader => [['Off'], ['maybe'], 'On or Off'],
    AIModelNameHeaderName => [['X-Kong-LLM-Model'], ['""'], 'that is not empty'],
    AIResponseStreaming => [[qw(allow deny always)], ['never'], 'allow deny always'],
    AIClientModel => [[qw(ignore strict)], ['loose'], 'ignore strict'],
    AIBalancerAlgorithm => [[qw(round-robin)], [qw(random consistent-hashing)], 'round-robin semantic'],
    AIBalancerRetries => [[0, 32767], [-1, 32768, 'many'], 'from 0 to 32767'],
    AIBalancerConnectTimeout => [[1, 2147483646], [0, 2147483647], 'from 1 to 2147483646'],
    AIBalancerReadTimeout => [[1], [0], 'from 1 to'],
    AIBalancerWriteTimeout => [[1], [0], 'from 1 to'],
    AIBalancerFailoverCriteria => [['error', 'timeout http_429 non_idempotent',
        'error timeout invalid_header http_403 http_404 http_429 http_500 http_502 http_503 http_504 non_idempotent'],
        ['http_401', 'error nonsense'], 'invalid_header http_403'],
    AIEmbeddingsAuthHeaderName => [['Authorization'], [], ''],
    AIEmbeddingsAuthHeaderValue => [['"Bearer k"'], [], ''],
    AIEmbeddingsAuthParamLocation => [[qw(query body)], ['header'], 'query body'],
    AIEmbeddingsAuthParamName => [['key'], [], ''],
    AIEmbeddingsAuthParamValue => [['v'], [], ''],
    AIEmbeddingsAuthAllowOverride => [['On'], ['x'], 'On or Off'],
    AIEmbeddingsModelProvider => [[qw(openai azure mistral ollama local)], [qw(bedrock gemini)], 'openai azure mistral ollama local'],
    AIEmbeddingsModelName => [['text-embedding-3-small'], ['""'], 'that is not empty'],
    AIEmbeddingsModelOptionsUpstreamUrl => [['https://host/v1/embeddings'], [], ''],
    AIEmbeddingsSendDimensions => [[qw(auto On off)], ['yes'], 'auto on off'],
    AIEmbeddingsTimeout => [[1], [0], 'from 1 to'],
    AIVectordbStrategy => [[qw(memory redis)], ['pgvector'], 'memory redis'],
    AIVectordbDimensions => [[1, 16384], [0, 16385, 'x'], 'from 1 to 16384'],
    AIVectordbDistanceMetric => [[qw(cosine euclidean)], ['dot'], 'cosine euclidean'],
    AIVectordbThreshold => [[qw(0 0.8 1 2)], [qw(-0.1 x .5 1e999)], 'number from 0'],
    AIVectordbRedisHost => [['redis.example'], ['""'], 'that is not empty'],
    AIVectordbRedisPort => [[6379, 65535], [65536, -1], 'from 0 to 65535'],
    AIVectordbRedisUsername => [['gw'], [], ''],
    AIVectordbRedisPassword => [['pw'], [], ''],
    AIVectordbRedisDatabase => [[0], [-1], 'from 0'],
    AIVectordbRedisConnectTimeout => [[0], [-1], 'from 0'],
    AIVectordbRedisSendTimeout => [[0], [-1], 'from 0'],
    AIVectordbRedisReadTimeout => [[0], [-1], 'from 0'],
    AIVectordbRedisKeepalivePoolSize => [[1], [0], 'from 1'],
    AIVectordbRedisKeepaliveBacklog => [[0], [-1], 'from 0'],
    AIVectordbRedisSsl => [['Off'], ['x'], 'On or Off'],
    AIVectordbRedisSslVerify => [['On'], ['x'], 'On or Off'],
    AIVectordbRedisServerName => [['redis.example'], [], ''],
    AIVectordbRedisConnectionIsProxied => [['On'], ['x'], 'On or Off'],
    AIRoutePrompt => [['last-user', 'all-user', 'last 3', 'all'], ['last', 'last 0', 'last x', 'first', 'all 2'], 'last-user, all-user, last N'],
    AIRoutePromptMaxBytes => [[16], [15], 'from 16'],
    AIRouteOnFailure => [[qw(catchall fail)], [], ''],
    AIRouteHeaders => [['On'], ['x'], 'On or Off'],
    AIStateDir => [['state'], ['""'], 'that is not empty'],
    AIStatisticsLog => [['statistics_log', '"|/bin/cat"'], ['""'], 'that is not empty'],
);
my %of_target = (
    AIRouteType => [['llm/v1/chat'], ['llm/v1/embeddings', 'chat'], 'llm/v1/chat'],
    AIWeight => [[1, 65535], [0, 65536], 'from 1 to 65535'],
    AIDescription => [['"some words"', 'CATCHALL'], ['""'], 'that is not empty'],
    AIRouteExample => [['"an example"'], ['""'], 'that is not empty'],
    AIAuthHeaderName => [[], ['""'], 'that is not empty'],
    AIAuthHeaderValue => [[], ['""'], 'that is not empty'],
    AIAuthParamLocation => [[], ['cookie'], 'query body'],
    AIAuthParamName => [[], ['""'], 'that is not empty'],
    AIAuthParamValue => [[], ['""'], 'that is not empty'],
    AIAuthAllowOverride => [[qw(On Off)], ['x'], 'On or Off'],
    AILoggingLogStatistics => [['On'], ['x'], 'On or Off'],
    AILoggingLogPayloads => [['On'], ['x'], 'On or Off'],
    AIModelProvider => [[qw(openai deepseek xai cerebras dashscope)], [qw(anthropic nobody)], 'openai azure mistral deepseek'],
    AIModelName => [['gpt-4o'], ['""'], 'that is not empty'],
    AIModelOptionsMaxTokens => [[1, 826], [0, 'x', 1.5], 'whole number from 1'],
    AIModelOptionsMaxTokensName => [[qw(auto max_tokens max_completion_tokens)], ['tokens'], 'auto max_tokens'],
    AIModelOptionsTemperature => [[qw(0 0.3 5)], [qw(5.1 -1 warm)], 'from 0 to 5'],
    AIModelOptionsTopP => [[qw(0 1 0.5)], [qw(1.1)], 'from 0 to 1'],
    AIModelOptionsTopK => [[0, 500], [501], 'from 0 to 500'],
    AIModelOptionsInputCost => [['1.0'], ['-1'], 'from 0'],
    AIModelOptionsOutputCost => [['2.0'], ['-1'], 'from 0'],
    AIModelOptionsUpstreamUrl => [['http://host:8000/v1/chat/completions', 'https://[::1]:8443/x?y=z'], [], ''],
    AIModelOptionsUpstreamPath => [['/other/path'], [], ''],
    AIModelOptionsMistralFormat => [[], ['ollama'], 'openai'],
    AIModelOptionsAzureInstance => [[], ['""'], 'that is not empty'],
    AIModelOptionsAzureApiVersion => [[], ['""'], 'that is not empty'],
    AIModelOptionsAzureDeploymentId => [[], ['""'], 'that is not empty'],
    AIModelOptionsDashscopeInternational => [[], ['x'], 'On or Off'],
    AIModelOptionsDatabricksWorkspaceInstanceId => [[], ['""'], 'that is not empty'],
);

for my $directive (sort keys %of_location) {
    my ($good, $bad, $allowed) = @{$of_location{$directive}};
    accepted(join('', map { location("$directive $_") } @$good), "$directive @$good");
    for my $value (@$bad) {
        my ($shown) = $value eq '""' ? '' : $value =~ /(\S+)$/;
        refused(location("$directive $value"), 2, qr/$directive\b.*\Q$allowed\E/s, "$directive $value");
    }
    refused(location($directive), 2, qr/$directive takes /, "$directive without a value");
    refused(inside("$directive " . ($good->[0] // 'x')), 3, qr/$directive is not allowed inside <AITarget t>/, "$directive inside a target");
}
for my $directive (sort keys %of_target) {
    my ($good, $bad, $allowed) = @{$of_target{$directive}};
    my $rest = join '', grep { !/^$directive / } split /^/, $target;
    accepted(inside("$directive $_", $rest), "$directive $_") for @$good;
    for my $value (@$bad) {
        refused(inside("$directive $value", $rest), 3, qr/$directive\b.*\Q$allowed\E/s, "$directive $value");
    }
    refused(location("$directive " . ($good->[0] // 'x')), 2, qr/$directive belongs inside <AITarget/, "$directive outside a target");
}

# the whole table is in the two lists above
my %named = map { $_ => 1 } slurp(top_dir() . '/conf/ai_proxy_adv.conf') =~ /^\s*#?\s*(AI\w+)/mg;
my @table = sort keys %named;
is_deeply([sort keys %of_location, keys %of_target], \@table, 'no directive is missing here');

# a value is shown, a secret is not
refused(location('AIBalancerRetries 40000'), 2, qr/'40000'/, 'the value is named');
my $said = refused(location('AIVectordbRedisPort "{vault://env/PATH}"'), 2, qr/AIVectordbRedisPort: the value must be/, 'a value from a vault');
unlike($said, qr{/bin}, 'is not shown');
refused(inside("AIDescription one\nAIDescription two"), 4, qr/AIDescription is given twice .*AIRouteExample/, 'AIDescription twice');
refused(location('AIBalancerRetries 1 2'), 2, qr/AIBalancerRetries takes one argument/, 'too many values');
refused(location('AIBalancerSlots 10'), 2, qr/Invalid command 'AIBalancerSlots'/, 'a field that is not implemented');

# places
for my $place ('<Directory /tmp>', '<Files x>', '<Directory /tmp><Files x>') {
    (my $open = $place) =~ s/></>\n</;
    my $close = join "\n", map {"</$_>"} reverse $place =~ /<(\w+)/g;
    my $line = 1 + ($open =~ tr/\n//) + 1;
    refused("$open\nAIProxy On\n$close\n", $line, qr/AIProxy cannot occur within <(Directory|Files)/, "AIProxy in $place");
}
accepted("AIProxy Off\n<VirtualHost *:80>\nAIProxy Off\n<LocationMatch ^/x>\nAIProxy Off\n</LocationMatch>\n</VirtualHost>\n"
        . "<If \"true\">\nAIProxy Off\n</If>\n<Location /y>\n<If \"true\">\nAIProxy Off\n</If>\n</Location>\n", 'server, vhost, LocationMatch, If');
mkdir "$AIPTest::Setup::t/htdocs/ht" unless -d "$AIPTest::Setup::t/htdocs/ht";
AIPTest::Setup::write_file("$AIPTest::Setup::t/htdocs/ht/.htaccess", "AIProxy On\n");
AIPTest::Setup::write_file("$AIPTest::Setup::t/htdocs/ht/f.txt", "x\n");
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nDocumentRoot \"$AIPTest::Setup::t/htdocs\"\n"
        . "<Directory \"$AIPTest::Setup::t/htdocs\">\nAllowOverride All\nRequire all granted\n</Directory>\n");
is(client(port => port('SPARE_1'))->get('/ht/f.txt')->{status}, 500, 'not in .htaccess');
like($h->log, qr/AIProxy not allowed here/, 'and the log says so');
finish();
