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

my $state = "$AIPTest::Setup::t/state";
AIPTest::Setup::write_file("$state/examples-$_", "an example of $_\n") for qw(a b);

AIPTest::Setup::write_file("$state/keys", "# nobody has one yet\n");
AIPTest::Setup::write_file("$state/groups", "staff: alice bob\n");
chmod 0640, "$state/keys";

# A configuration with one line in a location, or inside a target; the line has a number of its own.
sub location { return "<Location /x>\n$_[0]\n<AITarget t>\n$target</AITarget>\n</Location>\n" }
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
    like($said, qr/line (?:$line) of \S*check\.conf:|check\.conf:(?:$line):/, "$what: its place");
    like($said, $pattern, "$what: why");
    return $said;
}

# The message names the directive, the value and what is allowed.
sub bad_value {
    my ($directive, $value, $allowed, $text, $line) = @_;
    my $shown = $value eq '""' || $directive =~ /CostList|Factor$/ ? '' : $directive =~ /^(AIBalancerFailoverCriteria|AITargetAccepts)$/ ? "'" . ($value =~ /(\S+)$/)[0] . "'" : "'" . ($value =~ s/^"(.*)"$/$1/r) . "'";
    refused($text, $line, qr/$directive\b.*\Q$shown\E.*\Q$allowed\E/s, "$directive $value");
    return;
}

my @of_cloud = qw(AwsAccessKeyId AwsSecretAccessKey AzureClientId AzureClientSecret AzureTenantId GcpMetadataUrl GcpOauthTokenUrl GcpServiceAccountJson);
my @cloud_flags = qw(AzureUseManagedIdentity GcpUseServiceAccount);

# directive => [values taken], [values refused], what the message says is allowed
my %of_location = (
    AIProxy => [[qw(On off)], [qw(yes 1)], 'On or Off'],
    AILlmFormat => [['openai'], [qw(anthropic)], 'openai'],
    AIMaxRequestBodySize => [[0, 1048576], [qw(-1 1k 1.5 99999999999)], 'whole number from 0'],
    AIModelNameHeader => [['Off'], ['maybe'], 'On or Off'],
    AIModelNameHeaderName => [['X-Kong-LLM-Model'], ['""'], 'that is not empty'],
    AIResponseStreaming => [[qw(allow deny always)], ['never'], 'allow deny always'],
    AIClientModel => [[qw(ignore strict)], ['loose'], 'ignore strict'],
    AIBalancerAlgorithm => [[qw(round-robin consistent-hashing least-connections lowest-usage lowest-latency priority semantic)], [qw(random ewma)], 'round-robin consistent-hashing least-connections lowest-usage lowest-latency priority semantic'],
    AIBalancerMaxFails => [[0, 32767], [-1, 32768], 'from 0 to 32767'],
    AIBalancerFailTimeout => [[1, 10000], [0, 'x'], 'from 1 to'],
    AIBalancerCooldownMax => [[0, 60000], [-1], 'from 0'],
    AIBalancerHashOnHeader => [['X-User'], ['""'], 'that is not empty'],
    AIBalancerSlots => [[10, 65536], [9, 65537], 'from 10 to 65536'],
    AIBalancerLatencyStrategy => [[qw(tpot e2e)], ['p99'], 'tpot e2e'],
    AIBalancerTokensCountStrategy => [[qw(total-tokens prompt-tokens completion-tokens cost)], [qw(llm-accuracy total_tokens)], 'total-tokens prompt-tokens completion-tokens cost'],
    AIBalancerUsageWindow => [[100, 60000], [99], 'from 100'],
    AIBalancerShared => [[qw(off redis)], ['on'], 'off redis'],
    AITimeoutFirstByte => [[0, 1], [-1], 'from 0'],
    AITimeoutIdle => [[0, 1], [-1], 'from 0'],
    AITimeoutTotal => [[0, 1], ['1s'], 'from 0'],
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
    (map { ("AIEmbeddingsAuth$_" => [['v'], ['""'], 'that is not empty']) } @of_cloud),
    (map { ("AIEmbeddingsAuth$_" => [[qw(On off)], ['yes'], 'On or Off']) } @cloud_flags),
    AIEmbeddingsModelProvider => [[qw(openai azure mistral ollama local)], [qw(bedrock gemini)], 'openai azure mistral ollama local'],
    AIEmbeddingsModelName => [['text-embedding-3-small'], ['""'], 'that is not empty'],
    AIEmbeddingsModelOptionsUpstreamUrl => [['https://host/v1/embeddings'], [], ''],
    AIEmbeddingsSendDimensions => [[qw(auto On off)], ['yes'], 'auto on off'],
    AIEmbeddingsTimeout => [[1], [0], 'from 1 to'],
    AIVectordbStrategy => [[qw(memory redis pgvector)], ['milvus'], 'memory redis pgvector'],
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
    AIVectordbPgvectorHost => [['db.example', '/run/postgresql'], ['""'], 'that is not empty'],
    AIVectordbPgvectorPort => [[1, 5432, 65535], [0, 65536], 'from 1 to 65535'],
    AIVectordbPgvectorDatabase => [['gateway'], ['""'], 'that is not empty'],
    AIVectordbPgvectorUser => [['gw'], ['""'], 'that is not empty'],
    AIVectordbPgvectorPassword => [['pw'], [], ''],
    AIVectordbPgvectorTimeout => [[1, 2147483646], [0, 'x'], 'from 1'],
    AIVectordbPgvectorSsl => [[qw(On Off)], ['x'], 'On or Off'],
    AIVectordbPgvectorSslRequired => [['Off'], ['x'], 'On or Off'],
    AIVectordbPgvectorSslVerify => [['Off'], ['x'], 'On or Off'],
    AIVectordbPgvectorSslVersion => [[qw(any tlsv1_2 tlsv1_3)], ['tlsv1_1'], 'any tlsv1_2 tlsv1_3'],
    AIVectordbPgvectorSslCert => [['/etc/cert.pem'], ['""'], 'that is not empty'],
    AIVectordbPgvectorSslCertKey => [['/etc/key.pem'], ['""'], 'that is not empty'],
    AIRoutePrompt => [['last-user', 'all-user', 'last 3', 'all'], ['last', 'last 0', 'last x', 'first', 'all 2'], 'last-user, all-user, last N'],
    AIRoutePromptMaxBytes => [[16], [15], 'from 16'],
    AIRouteOnFailure => [[qw(catchall fail)], [], ''],
    AIRouteCache => [[qw(auto none shmcb shmcb:name shmcb:name(100000) redis:127.0.0.1:6379 memcache:127.0.0.1:11211)], ['""'], 'that is not empty'],
    AIRouteCacheTTL => [[1, 31536000], [0, 31536001, '1d'], 'whole number from 1 to 31536000'],
    AIRouteCacheSize => [[65536, 1073741824], [65535, '8M'], 'whole number from 65536 to'],
    AIRouteAggregate => [[qw(max mean topk-mean)], ['min'], 'max mean topk-mean'],
    AIRouteAggregateTopK => [[1, 1000], [0, 1001], 'from 1 to 1000'],
    AIRouteMargin => [[qw(0 0.05 1000)], [qw(-0.1 .5 x 1001)], 'number from 0 to 1000'],
    AIRouteOnAmbiguous => [[qw(nearest catchall a-target)], ['""'], 'that is not empty'],
    AIRouteSticky => [['off', 'header X-Session', 'cookie sid', 'conversation'],
        ['header', 'cookie', 'on', 'conversation x', 'header X-Session:', 'session id'], 'off, header NAME, cookie NAME or conversation'],
    AIRouteStickyTTL => [[1, 31536000], [0, 31536001], 'whole number from 1 to 31536000'],
    AIRouteStickyMargin => [[qw(0 0.1 1000)], [qw(-1 1001)], 'number from 0 to 1000'],
    AIRouteStickyReturn => [[qw(On off)], ['x'], 'On or Off'],
    AIExplain => [[qw(off headers body)], [qw(on header)], 'off headers body'],
    AIExplainFor => [[q("%{REMOTE_USER} == 'op'"), 'true'], ['%{REQUEST_URI', '"true &&"'], ': '],
    AIDryRunPath => [['/_route', '/a/b'], ['""'], 'that is not empty'],
    AIRouteHeaders => [['On'], ['x'], 'On or Off'],
    AIApiKeyFile => [["\"$state/keys\"", 'none'], ['/nonexistent/keys'], 'No such file'],
    AIApiKeyHeader => [[qw(Authorization X-Gateway-Key)], ['X-Key:'], 'is no header name'],
    AIAclsAllow => [['consumer=a,b', 'consumer_group=g model=m', '"header:X-Team=red team" ip=10.0.0.0/8,::1', 'path=/x/*,/y provider=openai'],
        ['group=a'], 'TYPE=VALUE[,VALUE...] with TYPE one of consumer, consumer_group, header:NAME, ip, model, path, provider'],
    AIAclsDeny => [['consumer=a', 'ip=0.0.0.0/0'], ['consumer'], 'TYPE=VALUE[,VALUE...] with TYPE one of'],
    AIAclsGroupEnv => [['OIDC_CLAIM_groups'], ['""'], 'that is not empty'],
    AIAclsGroupFile => [["\"$state/groups\"", 'none'], ['/nonexistent/groups'], 'No such file'],
    AIStateDir => [['state'], ['""'], 'that is not empty'],
    AIStatisticsLog => [['statistics_log', '"|/bin/cat"', '"||/bin/cat -u"', '"|$cat >/dev/null"'], ['""'], 'that is not empty'],
    AIKeepAliveHold => [[0, 1000], [-1, 1001, '2ms'], 'whole number from 0 to 1000'],
    AIStatisticsLogBuffer => [[0, 1, 16777216], [-1, 16777217, '64K'], 'whole number from 0 to 16777216'],
    AILogPayloadMaxBytes => [[0, 1, 8388608], [-1, 8388609, '64K'], 'whole number from 0 to 8388608'],
    AILogRedact => [['"sk-[a-z0-9]+"', '"\\\\d{16}" "[CARD]"', 'x ""'], ['"("', '"[a"'], 'is no regular expression'],
    AICostCurrency => [[qw(USD EUR)], [qw(usd EURO E1R)], 'three capital letters'],
);
# Of a server or virtual host; what takes the whole of them to be checked is in t/63_egress_rules.t.
my $pem = "$AIPTest::Setup::t/state/tls";
my %of_server = (
    AISecretsRequired => [[qw(On off)], ['x'], 'On or Off'],
    AITraces => [[qw(off correlate export)], ['on'], 'off correlate export'],
    AITracesEndpoint => [['https://otel.example:4318/v1/traces', 'http://[::1]/'], ['""'], 'that is not empty'],
    AITracesHeaderName => [[], ['""'], 'that is not empty'],
    AITracesHeaderValue => [[], ['""'], 'that is not empty'],
    AITracesServiceName => [['gateway', '"two words"'], ['""'], 'that is not empty'],
    AITracesSamplingRatio => [[qw(0 0.05 1)], [qw(-0.1 1.1 .5 x)], 'number from 0 to 1'],
    AITracesQueueSize => [[1, 1048576], [0, 1048577, 'x'], 'from 1 to 1048576'],
    AITracesFlushInterval => [[1, 2147483646], [0, 2147483647], 'from 1 to 2147483646'],
    AITracesTimeout => [[1, 2147483646], [0, 2147483647], 'from 1 to 2147483646'],
    AIMetricsKongNames => [[qw(On off)], ['x'], 'On or Off'],
    AITelemetrySemconv => [[qw(v1.41 latest)], [qw(v1.40 new)], 'v1.41 latest'],
    AIEgressProxy => [['http://proxy.example:3128', 'http://[::1]:1'], ['""'], 'that is not empty'],
    AIEgressProxyAuth => [[], ['""'], 'that is not empty'],
    AIEgressNoProxy => [['*', 'localhost .example.com 10.0.0.0/8 ::1'], ['""'], 'takes one to 16 values a line'],
    AIEgressCaFile => [["\"$pem/ca.pem\""], ['""'], 'that is not empty'],
    AIEgressMinTls => [[qw(TLSv1.2 TLSv1.3)], [qw(TLSv1.1 1.2)], 'TLSv1.2 TLSv1.3'],
    AIEgressClientCert => [["\"$pem/client-all.pem\""], ['""'], 'that is not empty'],
    AIEgressAllow => [['*', 'https://api.openai.com/v1/* *.example.com 10.0.0.0/8'], ['""'], 'takes one to 16 values a line'],
);
my %of_target = (
    AIRouteType => [['llm/v1/chat'], ['llm/v1/embeddings', 'chat'], 'llm/v1/chat'],
    AIWeight => [[1, 65535], [0, 65536], 'from 1 to 65535'],
    AIDescription => [['"some words"', 'CATCHALL'], ['""'], 'that is not empty'],
    AIRouteExample => [['"an example"'], ['""'], 'that is not empty'],
    AIRouteExamplesFile => [["\"$state/examples-a\"", "$state/examples-b"], ['/nonexistent/examples'], 'No such file'],
    AIRouteThreshold => [[qw(0 0.35 2 1000)], [qw(-0.1 x .5 1001)], 'number from 0 to 1000'],
    AITargetAccepts => [['text', 'tools', 'images audio', 'text tools images audio json_schema'], ['video', 'tools nonsense'], 'text tools images audio json_schema'],
    AIRouteForce => [[q("%{HTTP:X-Pin} == 'a'"), 'true', q("%{REQUEST_URI} =~ m#^/x# && -n %{REMOTE_USER}")], ['%{REQUEST_URI', '"true &&"', '"no such thing"'], ': '],
    AIRouteForbid => [[q("%{HTTP:X-Pin} == 'a'"), 'false'], ['%{REQUEST_URI', '"-Z x"'], ': '],
    AIAuthHeaderName => [[], ['""'], 'that is not empty'],
    AIAuthHeaderValue => [[], ['""'], 'that is not empty'],
    AIAuthParamLocation => [[], ['cookie'], 'query body'],
    AIAuthParamName => [[], ['""'], 'that is not empty'],
    AIAuthParamValue => [[], ['""'], 'that is not empty'],
    AIAuthAllowOverride => [[qw(On Off)], ['x'], 'On or Off'],
    (map { ("AIAuth$_" => [[], ['""'], 'that is not empty']) } @of_cloud),
    (map { ("AIAuth$_" => [['Off'], ['yes'], 'On or Off']) } @cloud_flags),
    AITracesPropagate => [['On'], ['x'], 'On or Off'],
    AILoggingLogStatistics => [['On'], ['x'], 'On or Off'],
    AILoggingLogPayloads => [['On'], ['x'], 'On or Off'],
    AILoggingStreamUsage => [[qw(On off)], ['x'], 'On or Off'],
    AIModelProvider => [[qw(openai deepseek xai cerebras dashscope gemini)], [qw(anthropic nobody)], 'openai azure mistral deepseek'],
    AIModelName => [['gpt-4o'], ['""'], 'that is not empty'],
    AIModelOptionsMaxTokens => [[1, 826], [0, 'x', 1.5], 'whole number from 1'],
    AIModelOptionsMaxTokensName => [[qw(auto max_tokens max_completion_tokens)], ['tokens'], 'auto max_tokens'],
    AIModelOptionsTemperature => [[qw(0 0.3 5)], [qw(5.1 -1 warm)], 'from 0 to 5'],
    AIModelOptionsTopP => [[qw(0 1 0.5)], [qw(1.1)], 'from 0 to 1'],
    AIModelOptionsTopK => [[0, 500], [501], 'from 0 to 500'],
    (map { $_ => [[qw(1.0 0.15 1e-9 1000000000)], [qw(-1 1000000001 0.0000000001 1e-10)], 'from 0 to 1000000000'] } qw(
        AIModelOptionsInputCost AIModelOptionsOutputCost AIModelOptionsCacheReadCost AIModelOptionsCacheWriteCost)),
    AIModelOptionsCacheWriteCostList => [['5m 3.75', '1h 0'], ['1d 1', '5m -1', '5m 0.0000000001'], 'must be'],
    AIModelOptionsContextWindowFactor => [['200000 2 1.5', '1 0.000001 1000'], ['0 1 1', '1k 1 1', '1 -1 1', '1 1 1000.1', '1 0.0000001 1'], 'must be'],
    AIModelOptionsServiceTierFactor => [['flex 0.5', 'priority 1000', '"a tier" 0'], ['flex x', 'flex 0.0000001', '"" 1'], 'must'],
    AIModelOptionsUpstreamUrl => [['http://host:8000/v1/chat/completions', 'https://[::1]:8443/x?y=z'], [], ''],
    AIModelOptionsUpstreamPath => [['/other/path'], [], ''],
    AIModelOptionsMistralFormat => [[], ['ollama'], 'openai'],
    AIModelOptionsAzureInstance => [[], ['""'], 'that is not empty'],
    AIModelOptionsAzureApiVersion => [[], ['""'], 'that is not empty'],
    AIModelOptionsAzureDeploymentId => [[], ['""'], 'that is not empty'],
    AIModelOptionsDashscopeInternational => [[], ['x'], 'On or Off'],
    AIModelOptionsDatabricksWorkspaceInstanceId => [[], ['""'], 'that is not empty'],
    (map { ("AIModelOptions$_" => [[], ['""'], 'that is not empty']) } qw(BedrockAwsRegion BedrockAwsAssumeRoleArn BedrockAwsRoleSessionName
        BedrockAwsStsEndpointUrl GeminiApiEndpoint GeminiLocationId GeminiProjectId)),
);

my %of_vault = (
    AIVaultName => [['hcv', 'env', 'file'], ['aws'], 'env file hcv'],
    AIVaultPrefix => [['KEY_'], ['""'], 'that is not empty', 'env'],
    AIVaultDirectory => [['/run/secrets'], ['""'], 'that is not empty', 'file'],
    AIVaultProtocol => [[qw(http https)], ['ftp'], 'http https'],
    AIVaultHost => [['127.0.0.1', '[::1]'], ['""'], 'that is not empty'],
    AIVaultPort => [[1, 65535], [0, 65536, 'x'], 'from 1 to 65535'],
    AIVaultMount => [['secret', 'team/kv'], ['""'], 'that is not empty'],
    AIVaultKv => [[qw(v1 v2)], ['v3'], 'v1 v2'],
    AIVaultNamespace => [['team1', 'a/b'], ['""'], 'that is not empty'],
    AIVaultAuthMethod => [['token'], ['userpass'], 'token approle kubernetes cert'],
    AIVaultToken => [[], ['""'], 'that is not empty'],
    AIVaultTokenFile => [[], ['""'], 'that is not empty'],
    AIVaultApproleAuthPath => [[], ['""'], 'that is not empty'],
    AIVaultApproleRoleId => [[], ['""'], 'that is not empty'],
    AIVaultApproleSecretId => [[], ['""'], 'that is not empty'],
    AIVaultApproleSecretIdFile => [[], ['""'], 'that is not empty'],
    AIVaultApproleResponseWrapping => [[], ['x'], 'On or Off'],
    AIVaultKubeAuthPath => [[], ['""'], 'that is not empty'],
    AIVaultKubeRole => [[], ['""'], 'that is not empty'],
    AIVaultKubeApiTokenFile => [[], ['""'], 'that is not empty'],
    AIVaultCertAuthRoleName => [[], ['""'], 'that is not empty'],
    AIVaultBase64Decode => [[qw(On Off)], ['x'], 'On or Off'],
    AIVaultTtl => [[0, 31536000], [-1, '1h'], 'from 0 to 31536000'],
    AIVaultNegTtl => [[1], [0], 'from 1 to'],
    AIVaultResurrectTtl => [[0, 100000000], [-1], 'from 0 to'],
    AIVaultTimeout => [[1], [0], 'from 1 to'],
);

my %many = (AILogRedact => 'a b c', AIAclsAllow => 'ip=::1 ' x 17, AIAclsDeny => 'ip=::1 ' x 17, AIBalancerFailoverCriteria => 'error ' x 17, AITargetAccepts => 'tools ' x 17, AIRoutePrompt => 'all 2', AIRouteSticky => 'off x', map { $_ => 'a ' x 17 } qw(AIEgressNoProxy AIEgressAllow AIModelOptionsCacheWriteCostList AIModelOptionsContextWindowFactor AIModelOptionsServiceTierFactor));
my $sections = sub { my ($line) = @_; return (["<Directory /tmp>\n$line\n</Directory>\n", 'Directory'], ["<Files x>\n$line\n</Files>\n", 'Files']) };
for my $directive (sort keys %of_location, keys %of_server, keys %of_target) {
    my ($in_target, $in_server) = ($of_target{$directive}, $of_server{$directive});
    my ($good, $bad, $allowed) = @{$in_target // $in_server // $of_location{$directive}};
    my $rest = join '', grep { !/^$directive / } split /^/, $target;
    my $number = 0; # so that one check holds all values
    my $place = $in_target ? sub { inside($_[0], $rest) } : $in_server ? sub {"$_[0]\n"} : \&location;
    my $at = $in_target ? 3 : $in_server ? 1 : 2;
    my $line = "$directive " . ($good->[0] // 'x');
    accepted(join('', map { $place->("$directive $_") =~ s/x>/x${\$number++}>/r } @$good), "$directive @$good") if @$good;
    bad_value($directive, $_, $allowed, $place->("$directive $_"), $at) for @$bad;
    refused($place->($directive), $at, qr/$directive takes one /, "$directive without a value");
    refused($place->("$directive " . ($many{$directive} // 'On On')), $at, qr/$directive(: '(all 2|off x)')? (takes one |must be (last-user|off, header))/, "$directive with too many");
    refused($in_target ? location($line) : inside($line), $in_target ? 2 : 3,
        $in_target ? qr/$directive belongs inside <AITarget/ : qr/$directive is not allowed inside <AITarget t>/, "$directive on the wrong side");
    refused($_, 2, qr/$directive holds for a whole server: it belongs into the main configuration or a <VirtualHost>/, "$directive in a section of URLs")
        for $in_server ? (location($line), "<If \"true\">\n$line\n</If>\n") : ();
    accepted("<VirtualHost *:80>\n$directive $good->[0]\n</VirtualHost>\n", "$directive in a virtual host") if $in_server && @$good;
    refused($_->[0], 2, qr/$directive cannot occur within <$_->[1]/, "$directive in <$_->[1]>") for $sections->($line);
}
for my $directive (sort keys %of_vault) {
    my ($good, $bad, $allowed, $name) = @{$of_vault{$directive}};
    my $vault = sub {
        my ($line) = @_;
        my %lines = (AIVaultName => $name // 'hcv', $name ? () : (AIVaultToken => 'x'));
        delete $lines{$directive};
        delete $lines{AIVaultToken} if $line =~ /(env|file)$/;
        return "<AIVault v>\n$line\n" . join('', map {"$_ $lines{$_}\n"} sort keys %lines) . "</AIVault>\n";
    };
    accepted($vault->("$directive $_"), "$directive $_") for @$good;
    bad_value($directive, $_, $allowed, $vault->("$directive $_"), 2) for @$bad;
    refused($vault->($directive), 2, qr/$directive takes one /, "$directive without a value");
    refused(location("$directive x"), 2, qr/$directive belongs inside <AIVault/, "$directive on the wrong side");
}
refused($_->[0], 2, qr/<AITarget>? cannot occur within <$_->[1]/, "a target in <$_->[1]>") for $sections->("<AITarget t>\n$target</AITarget>");
refused("<Directory /tmp>\n<Files x>\nAIProxy On\n</Files>\n</Directory>\n", 3, qr/AIProxy cannot occur within <Files/, 'a file in a directory');

# the whole table is in the two lists above
my %named = map { $_ => 1 } slurp(top_dir() . '/conf/ai_proxy_adv.conf') =~ /^\s*#?\s*(AI\w+)/mg;
my @table = sort keys %named;
is_deeply([sort keys %of_location, keys %of_server, keys %of_target, keys %of_vault], \@table, 'no directive is missing here');

# a value is shown, a secret is not
my $said = refused(location('AIVectordbRedisPort "{vault://env/PATH}"'), 2, qr/AIVectordbRedisPort: the value must be/, 'a value from a vault');
unlike($said, qr{/bin}, 'is not shown');
my @secrets = grep {/Value$|Password$|Aws\w*Key|ClientSecret$|Json$/} keys %of_location, keys %of_target;
is(scalar @secrets, 14, 'so many directives outside of vaults hold secrets');
for my $directive (sort @secrets) {
    my $place = $of_target{$directive} ? sub { inside($_[0]) } : \&location;
    for my $line ('Bearer sk-secret', '"sk-secret {vault://env/AIP_T_NONE}"', '"sk-secret {vault:x"', '"sk-secret {vault://conjur/a}"') {
        $said = refused($place->("$directive $line"), $of_target{$directive} ? '2|3' : 2, qr/$directive/, "$directive $line");
        unlike($said, qr/sk-secret/, 'the secret is not shown');
    }
}
for my $line ("AIAuthHeaderName X-Key\nAIAuthHeaderValue \"sk-secret\x01\"", "AIAuthHeaderValue sk-secret", "AIAuthParamValue sk-secret",
    "AIModelOptionsUpstreamUrl http://user:sk-secret\@host/") {
    $said = refused(inside($line), 2, qr/AI(AuthHeader|AuthParam|ModelOptionsUpstreamUrl)/, $line =~ s/\n.*//sr);
    unlike($said, qr/sk-secret/, 'the secret is not shown');
}
$said = refused("<Location /x>\nAIAuthHeaderValue sk-secret\n</Location>\n", 2, qr/AIAuthHeaderValue belongs/, 'in the wrong place');
unlike($said, qr/sk-secret/, 'the secret is not shown');
refused(inside("AIDescription one\nAIDescription two"), 4, qr/AIDescription is given twice .*AIRouteExample/, 'AIDescription twice');
refused(location("$_ \"{vault://env/PATH}\""), 2, qr/$_ takes no vault reference; write the value itself/, "$_ from a vault")
    for qw(AIEmbeddingsModelName AIStateDir);
refused(inside('AIModelName "{vault://env/PATH}"'), 3, qr/AIModelName takes no vault reference/, 'AIModelName from a vault');

# expressions are parsed where they stand; a second one is looked at as well
for my $directive (qw(AIRouteForce AIRouteForbid)) {
    refused(inside("AIDescription x\n$directive true\n$directive \"%{REQUEST_URI\""), 5, qr/$directive: cannot parse '%\{REQUEST_URI': \w/, "$directive, broken");
    refused(inside("$directive \"$_\""), 3, qr/$directive/, "$directive $_") for '', '%{HTTP:X-Pin} == ', "no_such_function('x')", "req('x') =~ /(/";
}
refused(location("AIExplain body\nAIExplainFor \"%{REQUEST_URI\""), 3, qr/AIExplainFor: cannot parse '%\{REQUEST_URI': \w/, 'AIExplainFor, broken');
refused(inside(qq(AIRouteExamplesFile "$state/examples-a"\nAIRouteExamplesFile examples-none)), 4,
    qr{AIRouteExamplesFile: cannot read '/.*/examples-none': .*No such file}, 'a second file of examples, relative to ServerRoot');
refused(inside('AIRouteExamplesFile ""'), 3, qr/AIRouteExamplesFile/, 'a file of examples without a name');

# rules
for (['ip=10.0.0.300', q('10.0.0.300' is neither an IP address nor a network)], ['path=x', q('x' is no path)], ['provider=nobody', q('nobody' is no provider)],
    ['consumer=a,,b', 'a value is empty'], ['model=m consumer', q('consumer' must be)], ['header:X=', 'a value is empty']) {
    refused(location("AIAclsDeny $_->[0]"), 2, qr/AIAclsDeny: .*$_->[1]/, "AIAclsDeny $_->[0]");
}

# files that are read at the start: what is wrong with them, and nothing of what they hold
for my $bad (['bob:in-clear-in-clear-in-clear', 'line 2: the hash must begin'], ['bob', 'line 2: a line must be'], ["bob:sha256\$\$abc", 'line 2: the salt']) {
    AIPTest::Setup::write_file("$state/keys-bad", "# keys\n$bad->[0]\n");
    unlike(refused(location("AIApiKeyFile \"$state/keys-bad\""), 2, qr/AIApiKeyFile: .*keys-bad: $bad->[1]/, "a file with $bad->[0]"), qr/in-clear|abc/, 'nothing of the line is shown');
}
chmod 0600, "$state/keys-bad";
refused(location("AIApiKeyFile \"$state\""), 2, qr/AIApiKeyFile: .* is no regular file/, 'a directory');
AIPTest::Setup::write_file("$state/groups-bad", "staff alice\n");
refused(location("AIAclsGroupFile \"$state/groups-bad\""), 2, qr/AIAclsGroupFile: .*groups-bad: line 1: a line must be group: user/, 'a file of groups');
AIPTest::Setup::write_file("$state/keys-open", '');
chmod 0644, "$state/keys-open";
like((config_check(location("AIApiKeyFile \"$state/keys-open\"")))[1], qr/AIP0170: \S+check\.conf:2: everybody on this machine may read \S+keys-open/, 'a file that everybody may read');

# lists of prices: what each value says, and two lines about the same
for (['CacheWriteCostList 1d 1', q(the lifetime '1d' must be 5m or 1h)], ['CacheWriteCostList 5m 1e-10', q(the cost '1e-10' must be a number from 0 to 1000000000 with at most 9 decimals)],
    ['ContextWindowFactor 200k 1 1', q(the threshold '200k' must be a whole number of tokens from 1)], ['ContextWindowFactor 1 1 0.0000001', q(the factor '0.0000001' must be a number from 0 to 1000 with at most 6 decimals)],
    ['ServiceTierFactor "" 1', 'the name of the tier must not be empty'], ['ServiceTierFactor flex', 'takes one TIER FACTOR a line, for instance flex 0.5']) {
    refused(inside("AIModelOptions$_->[0]"), 3, qr/AIModelOptions\w+:? \Q$_->[1]\E/, $_->[0]);
}
for (['CacheWriteCostList', '5m 1', '5m 2'], ['ContextWindowFactor', '10 1 1', '10 2 2'], ['ServiceTierFactor', 'flex 1', 'FLEX 2']) {
    my ($name, $first, $second) = @$_;
    refused(inside("AIModelOptions$name $first\nAIModelOptions$name $second"), 4, qr/AIModelOptions$name: '$second' is about the same as '$first'; leave one of them out/, "$name twice");
}
like((config_check("AIProxy On\n" . inside('AIModelOptionsCacheReadCost 1')))[1], qr/AIP0011: \S+check\.conf:\d+: <AITarget t>: AIModelOptionsCacheReadCost has no effect without AIModelOptionsInputCost and AIModelOptionsOutputCost/,
    'a price of cached tokens beside none of the others');

# fields that are not implemented
refused(location("$_ 10"), 2, qr/Invalid command '$_'/, $_) for qw(AIGenaiCategory AIVectordbRedisSentinelMaster AIVectordbRedisClusterNodes);
refused(inside("$_ 10"), 3, qr/Invalid command '$_'/, $_) for qw(AIModelOptionsAnthropicVersion
    AIModelOptionsLlama2Format AIModelOptionsEmbeddingsDimensions AIModelModelAlias);

# places
accepted("AIProxy Off\n<VirtualHost *:80>\nAIProxy Off\n<LocationMatch ^/x>\nAIProxy Off\n</LocationMatch>\n</VirtualHost>\n"
        . "<If \"true\">\nAIProxy Off\n</If>\n<Location /y>\n<If \"true\">\nAIProxy Off\n</If>\n</Location>\n", 'server, vhost, LocationMatch, If');
my $htdocs = "$AIPTest::Setup::t/htdocs";
mkdir "$htdocs/ht" unless -d "$htdocs/ht";
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nDocumentRoot \"$htdocs\"\n<Directory \"$htdocs\">\nAllowOverride All\nRequire all granted\n</Directory>\n");
my $c = client(port => port('SPARE_1'));
AIPTest::Setup::write_file("$htdocs/ht/f.txt", "x\n");
AIPTest::Setup::write_file("$htdocs/ht/.htaccess", "Require all granted\n");
is($c->get('/ht/f.txt')->{status}, 200, '.htaccess is read');
for my $directive ('<AITarget', '<AIVault', sort keys %of_location, keys %of_server, keys %of_target, keys %of_vault) {
    AIPTest::Setup::write_file("$htdocs/ht/.htaccess", "$directive " . ($directive =~ /^<(.*)/ ? " t>\n</$1>\n" : "On\n"));
    my $r = client(port => port('SPARE_1'))->get('/ht/f.txt');
    is($r->{status}, 500, "$directive in .htaccess");
}
my @named = $h->log =~ /\.htaccess: (\S+?)>? not allowed here/g;
is_deeply([sort @named], ['<AITarget', '<AIVault', sort keys %of_location, keys %of_server, keys %of_target, keys %of_vault], 'and the log names each');
finish();
