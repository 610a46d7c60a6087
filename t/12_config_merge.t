#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Inheritance as requests see it: scalar directives merge one by one through server, virtual host, nested locations, patterns
# and <If>; a section with targets replaces the inherited list; a part of a gateway can be switched off.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use IO::Select ();
use POSIX ();
use Time::HiRes qw(time);

sub target {
    my ($name, $mock, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl ${\url($mock // 'MOCK_1', '/v1/chat/completions')}", @lines, "</AITarget>\n";
}

my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
Listen 127.0.0.1:\${SPARE_3_PORT}
StartServers 4
ServerLimit 4
ThreadsPerChild 2
MaxRequestWorkers 8
MinSpareThreads 1
MaxSpareThreads 8
CustomLog children %{pid}P
AIProxy On
AIModelNameHeaderName X-Of-Server
AIMaxRequestBodySize 2000
${\target('server')}
<Location /a>
AIMaxRequestBodySize 1000
${\target('a')}
</Location>
<Location /a/b>
AIResponseStreaming deny
</Location>
<Location /a/b/c>
${\target('c1')}
${\target('c2')}
AIModelNameHeader Off
</Location>
<LocationMatch "^/m/[0-9]+\$">
AIClientModel strict
${\target('matched')}
</LocationMatch>
<If "%{HTTP:X-Tenant} == 'blue'">
AIModelNameHeaderName X-Of-If
${\target('blue')}
</If>
<Location /off>
AIProxy Off
</Location>
<Location /status>
SetHandler server-status
</Location>
<Location /w>
${\target('three', 'MOCK_1', 'AIWeight 30')}
${\target('one', 'MOCK_2', 'AIWeight 10')}
</Location>
<VirtualHost 127.0.0.1:\${SPARE_3_PORT}>
ServerName vhost
AIModelNameHeaderName X-Of-Vhost
<Location /v>
${\target('v')}
</Location>
</VirtualHost>
CONF
sub ask { my ($path, $body, @h) = @_; return client(port => port('SPARE_1'))->post($path, $body // chat('x'), @h) }
sub model { my $r = ask(@_); return $r->{status} == 200 ? $r->json->{model} : $r->{status} }

is(model('/'), 'server', 'the server level is a gateway');
is(model('/any/path.php'), 'server', 'for any path');
is(ask('/')->header('X-Of-Server'), 'openai/server', 'with its header');
is(ask('/', {messages => [{role => 'user', content => 'x' x 1500}]})->{status}, 200, 'body limit of the server');
is(model('/a'), 'a', 'a location replaces the targets');
is(ask('/a')->header('X-Of-Server'), 'openai/a', 'and keeps the rest');
is(ask('/a', {messages => [{role => 'user', content => 'x' x 1500}]})->{status}, 413, 'body limit of the location');
is(model('/a/b'), 'a', 'a nested location without targets');
is(ask('/a/b', chat('x', stream => JSON::PP::true))->{status}, 400, 'adds a directive');
is(ask('/a', chat('x', stream => JSON::PP::true))->{status}, 200, 'for itself only');
is(ask('/a/b', {messages => [{role => 'user', content => 'x' x 1500}]})->{status}, 413, 'and inherits the limit');
my %seen = map { model('/a/b/c') => 1 } 1 .. 4;
is_deeply(\%seen, {c1 => 1, c2 => 1}, 'a deeper list replaces, it does not add');
is(ask('/a/b/c')->header('X-Of-Server'), undef, 'a flag switched off again');
is(ask('/a/b/c', chat('x', stream => JSON::PP::true))->{status}, 400, 'the inherited directive still holds');
is(ask('/m/12', {messages => [{role => 'user', content => 'x'}]})->json->{model}, 'matched', 'LocationMatch');
is(ask('/m/12', chat('x'))->{status}, 400, 'with its directive');
is(model('/m/x'), 'server', 'beside the pattern');
is(model('/a', undef, 'X-Tenant' => 'blue'), 'blue', '<If> replaces the targets');
is(ask('/a', undef, 'X-Tenant' => 'blue')->header('X-Of-If'), 'openai/blue', 'and adds a directive');
is(ask('/off')->{status}, 404, 'switched off below');
like(ask('/off')->{body}, qr/<html>/i, 'and httpd answers as ever');
is(client(port => port('SPARE_1'))->get('/status?auto')->{status}, 200, 'SetHandler in a gateway is what it says');
like(client(port => port('SPARE_1'))->get('/status?auto')->{body}, qr/^Total Accesses|^ServerVersion|^ServerMPM/m, 'the status page');

# the order and the counter are exact over all children
my @order = map { model('/w') } 1 .. 40;
my %count;
$count{$_}++ for @order;
is_deeply(\%count, {three => 30, one => 10}, 'weights 30 and 10 over 40 requests');
my @gaps = grep { $order[$_] eq 'one' } 0 .. 39;
is_deeply([map { $gaps[$_] - $gaps[$_ - 1] } 1 .. $#gaps], [(4) x 9], 'spread evenly');
# eight at a time, so that no child can answer alone
mock_behave(map { {port => port($_), times => -1, do => {delay_ms => 40}} } qw(MOCK_1 MOCK_2));
my $lines = () = slurp("$h->{dir}/children") =~ /\n/g;
%count = ();
for (1 .. 5) {
    my @clients = map { client(port => port('SPARE_1')) } 1 .. 8;
    $_->send_request('POST', '/w', chat('x')) for @clients;
    $count{$_->answer->json->{model}}++ for @clients;
}
is_deeply(\%count, {three => 30, one => 10}, 'the same from all children together');
my @pids = wait_until('40 lines', sub { my @p = split /\n/, slurp("$h->{dir}/children"); @p >= $lines + 40 && \@p })->@*;
my %pid = map { $_ => 1 } @pids[$lines .. $#pids];
cmp_ok(scalar(keys %pid), '>=', 3, 'and there were several');
mock_reset();

sub vhost { return client(port => port('SPARE_3'))->post($_[0], chat('x'), Host => 'vhost') }
is(vhost('/')->json->{model}, 'server', 'a virtual host inherits');
is(vhost('/')->header('X-Of-Vhost'), 'openai/server', 'and changes');
is(vhost('/v')->json->{model}, 'v', 'and has targets of its own');
is(vhost('/a')->json->{model}, 'a', 'locations of the main server hold in it');
$h->stop;
is_deeply([$h->unexpected()], [], 'nothing unexpected in the log');

# AIProxy On without a target that applies is found when it is asked
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nAIProxy On\n<Location /x>\n${\target('x')}</Location>\n");
is(model('/x'), 'x', 'a server-level switch, targets in a location');
my $r = ask('/elsewhere');
is($r->{status}, 503, 'no target here');
is($r->json->{error}{code}, 'no_targets', 'as JSON');
$h->stop;
is_deeply([$h->unexpected('AIP0031')], [], 'and as a line for the operator');

# ---- every directive of the table, one by one ----
# /N says the first value, /N/keep something else, /N/change the second value, /N/change/deep something else again, and an
# <If> inside /N the second value for requests that ask for it. What each request shows must be the first value, the first,
# the second, the second, the second.
my $model = top_dir() . '/share/embedder/aip-static-en-v1';
my $logs = "$AIPTest::Setup::t/state";
my $embed = port('MOCK_EMBED');
my $true = JSON::PP::true;
my $remote = "AIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider openai\nAIVectordbDimensions 64\n"
    . "AIEmbeddingsModelName text-embedding-3-small\nAIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}\n"
    . "AIRouteCache none\n"; # calls are counted
my $redis = "${remote}AIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbRedisPort \${SPARE_4_PORT}\n"
    . "AIVectordbRedisPassword pw\nAIVectordbRedisReadTimeout 400\n";
my $two = target('one', 'MOCK_1', 'AIWeight 65535', 'AILoggingLogStatistics On') . target('two', 'MOCK_2', 'AIWeight 1');
my $routes = target('zero', 'MOCK_1', 'AIDescription "axis:0 1"') . target('one', 'MOCK_1', 'AIDescription "axis:1 1"')
    . target('rest', 'MOCK_1', 'AIDescription CATCHALL');
our @with; # headers of the request

sub at { my ($path, $body) = @_; return client(port => port('SPARE_2'), timeout => 5)->post($path, $body // chat('axis:0 0.9'), @with) }
sub took { my ($mid, @request) = @_; my $begin = time; at(@request); return time - $begin < $mid ? 'short' : 'long' }
sub behave { mock_reset(); mock_behave(@_); return }

# What the embedder got for the prompt.
sub embedder_got {
    my ($path, $body) = @_;
    at($path, $body);
    mock_reset();
    at($path, $body);
    my ($got) = grep { @{from_json($_->{body})->{input}} == 1 } mock_requests(port => $embed);
    return $got;
}
sub embedder_read { return from_json(embedder_got(@_)->{body}) }
sub header_of { my ($got, $name) = @_; return (map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$got->{headers}})[0] }

# After the references are there.
sub embedder_does { my ($path, $do) = @_; at($path); behave({port => $embed, do => $do}); return at($path) }
sub after_embedder { my ($path, $do, $mid) = @_; at($path); behave({port => $embed, do => $do}); return took($mid, $path) }

# The search that a request caused: "address:port user/password db".
sub searches { return grep {/\n\z/} split /(?<=\n)/, -e "$logs/redis" ? slurp("$logs/redis") : '' }
sub search {
    my ($path) = @_;
    my $before;
    wait_until("a search for $path", sub { $before = searches(); at($path); searches() > $before });
    return (searches())[-1] =~ s/\n//r;
}
sub redis_mode { AIPTest::Setup::write_file("$logs/redis-mode", $_[0]); return }

# How many of four requests at the same time are searched for.
sub together {
    my ($path) = @_;
    search($path);
    redis_mode('slow');
    my $before = searches();
    my @c = map { client(port => port('SPARE_2')) } 1 .. 4;
    $c[$_]->send_request('POST', $path, chat("axis:0 0.9 number $_"), @with) for 0 .. 3; # identical ones would be one search
    $_->answer for @c;
    redis_mode('');
    return searches() - $before;
}

# Prompts and sessions that nobody had before.
my $fresh = 0;
sub fresh { return "axis:0 0.9 number ${\++$fresh}" }

# How often the embedder is asked for what was asked before: at PATH, or at another place.
sub asked_again {
    my ($path, $text, $pause) = @_;
    select undef, undef, undef, $pause if $pause;
    mock_reset();
    at($path, chat($text));
    return scalar mock_requests(port => $embed);
}

# A session that began with target zero goes on with a prompt that is a little nearer to target one.
sub goes_on {
    my ($path, $header, $value, $pause) = @_;
    local @with = (@with, $header => $value);
    at($path);
    select undef, undef, undef, $pause if $pause;
    return at($path, chat('axis:0 0.5 axis:1 0.55'))->json->{model};
}

# A session that had to leave its target.
sub comes_back {
    my ($path) = @_;
    local @with = (@with, 'X-S' => ++$fresh);
    at($path);
    mock_behave({port => port('MOCK_1'), model => 'zero', times => -1, do => {status => 503}});
    my @models = at($path, chat('axis:0 0.55 axis:1 0.5'))->json->{model};
    mock_reset();
    return join ' ', @models, at($path, chat('axis:0 0.55 axis:1 0.5'))->json->{model};
}

sub grew {
    my ($path) = @_;
    my %before = map { $_ => -s "$logs/merge-$_" } qw(a b);
    at($path);
    return wait_until('a line', sub { join '', grep { -s "$logs/merge-$_" > $before{$_} } qw(a b) });
}

my $payloads = "AIStatisticsLog \"$logs/merge-payloads\"\n";
my $paid = target('paid', 'MOCK_1', 'AILoggingLogPayloads On');

# The request as the line of one to a path has it.
sub logged {
    my ($path) = @_;
    my $from = -s "$logs/merge-payloads";
    at($path);
    my $line = wait_until('a line', sub { my $text = slurp("$logs/merge-payloads", $from); $text =~ /\n/ && $text });
    return from_json($line)->{ai}{proxy}{payload}{request};
}

# directive => [lines that stand beside it, targets, first value, second value, what a request shows, seen for the first,
# for the second]
my $auth = "${remote}AIEmbeddingsAuthHeaderName X-Key\nAIEmbeddingsAuthHeaderValue ours\n";
my $param = "${remote}AIEmbeddingsAuthParamLocation query\nAIEmbeddingsAuthParamName k\nAIEmbeddingsAuthParamValue v\n";
my $fails = "AIBalancerFailoverCriteria http_503 non_idempotent\n";
my $caching = "${remote}AIRouteCache auto\n";
my $sticky = "${caching}AIRouteSticky header X-S\n";
my $examples = target('zero', 'MOCK_1', 'AIDescription "axis:0 1"', 'AIRouteExample "axis:2 1"') . target('rest', 'MOCK_1', 'AIDescription CATCHALL');
my $distance = sub { at($_[0])->header('X-LLM-Distance') };
my $between = sub { at($_[0], chat('axis:0 0.6 axis:1 0.5'))->json->{model} };
my $talk = {messages => [{role => 'system', content => 'axis:0 0.3'}, {role => 'user', content => 'axis:0 0.4'},
        {role => 'assistant', content => 'axis:0 0.5'}, {role => 'user', content => 'axis:0 0.6'}]};
my %row = (
    AIProxy => ['', $two, 'On', 'Off', sub { at($_[0])->{status} }, 200, 404],
    AIMaxRequestBodySize => ['', $two, 300, 5000, sub { at($_[0], chat('x' x 1000))->{status} }, 413, 200],
    AIModelNameHeader => ['', $two, 'Off', 'On', sub { at($_[0])->header('X-LLM-Model') // 'none' }, 'none', 'openai/one'],
    AIModelNameHeaderName => ['', $two, 'X-A', 'X-B', sub { my $r = at($_[0]); join ' ', grep { $r->header($_) } qw(X-A X-B X-LLM-Model) }],
    AIResponseStreaming => ['', $two, 'always', 'deny', sub { at($_[0], chat('x', stream => $true))->{status} . ' ' . at($_[0])->header('Content-Type') },
        '200 text/event-stream', '400 application/json'],
    AIClientModel => ['', $two, 'strict', 'ignore', sub { at($_[0])->{status} }, 400, 200],
    AIBalancerAlgorithm => ["AIRouteHeaders On\n" . ($remote =~ s/^AIBalancer.*\n//r), $routes, 'semantic', 'round-robin',
        sub { at($_[0])->header('X-LLM-Route') // 'none' }, 'axis:0 1', 'none'],
    AIBalancerRetries => [$fails, $two, 0, 1, sub { behave({times => -1, do => {status => 503}}); at($_[0]); scalar mock_requests() }, 1, 2],
    AIBalancerReadTimeout => ['', $two, 100, 350, sub { behave({do => {hang => $true}}); took(0.25, $_[0]) }, 'short', 'long'],
    AIBalancerWriteTimeout => ["AIMaxRequestBodySize 10000000\n", $two, 100, 1600,
        sub { behave({do => {no_read => $true}}); took(1.1, $_[0], chat('x' x 9_000_000)) }, 'short', 'long'], # beyond all buffers
    AITimeoutFirstByte => ['', $two, 100, 350, sub { behave({do => {hang => $true}}); took(0.25, $_[0]) }, 'short', 'long'],
    AITimeoutIdle => ['', $two, 100, 350, sub { behave({do => {stream => {auto => 5, interval_ms => 4000}}}); took(0.25, $_[0], chat('x', stream => $true)) }, 'short', 'long'],
    AITimeoutTotal => ['', $two, 100, 350, sub { behave({do => {hang => $true}}); took(0.25, $_[0]) }, 'short', 'long'],
    AIBalancerFailoverCriteria => ['', $two, 'http_503 non_idempotent', 'http_429',
        sub { my ($path) = @_; join ' ', map { behave({port => port('MOCK_1'), do => {status => $_}}); at($path)->{status} } 503, 429 }, '200 429', '503 200'],
    AIEmbeddingsAuthHeaderName => ["${remote}AIEmbeddingsAuthHeaderValue ours\n", $routes, 'X-A', 'X-B',
        sub { my $got = embedder_got($_[0]); join ' ', grep { header_of($got, $_) } qw(X-A X-B) }],
    AIEmbeddingsAuthHeaderValue => ["${remote}AIEmbeddingsAuthHeaderName X-Key\n", $routes, 'a', 'b', sub { header_of(embedder_got($_[0]), 'X-Key') }],
    AIEmbeddingsAuthParamLocation => [$param =~ s/^AIEmbeddingsAuthParamLocation.*\n//mr, $routes, 'body', 'query',
        sub { my $got = embedder_got($_[0]); $got->{path} =~ /\?k=v$/ ? 'query' : from_json($got->{body})->{k} ? 'body' : 'none' }],
    AIEmbeddingsAuthParamName => [$param =~ s/^AIEmbeddingsAuthParamName.*\n//mr, $routes, 'a', 'b', sub { embedder_got($_[0])->{path} =~ /\?(.*)=v$/; $1 }],
    AIEmbeddingsAuthParamValue => [$param =~ s/^AIEmbeddingsAuthParamValue.*\n//mr, $routes, 'a', 'b', sub { embedder_got($_[0])->{path} =~ /\?k=(.*)$/; $1 }],
    AIEmbeddingsAuthAllowOverride => [$auth, $routes, 'On', 'Off', sub { local @with = (@with, 'X-Key', 'theirs'); header_of(embedder_got($_[0]), 'X-Key') }, 'theirs', 'ours'],
    AIEmbeddingsModelProvider => ["AIBalancerAlgorithm semantic\nAIVectordbThreshold 2\n", target('t', 'MOCK_1', 'AIDescription "some words"'),
        "local\nAIEmbeddingsModelName \"$model\"", "openai\n$remote",
        sub { at($_[0]); mock_reset(); at($_[0]); scalar mock_requests(port => $embed) }, 0, 1],
    AIEmbeddingsModelName => ["${remote}AIEmbeddingsSendDimensions On\n", $routes, 'model-a', 'model-b', sub { embedder_read($_[0])->{model} }],
    AIEmbeddingsModelOptionsUpstreamUrl => [$remote, $routes, url('MOCK_EMBED', '/a/embeddings'), url('MOCK_EMBED', '/b/embeddings'),
        sub { embedder_got($_[0])->{path} }, '/a/embeddings', '/b/embeddings'],
    AIEmbeddingsSendDimensions => ["${remote}AIVectordbDimensions 1536\n", $routes, 'off', 'on', sub { embedder_read($_[0])->{dimensions} // 'none' }, 'none', 1536],
    AIEmbeddingsTimeout => [$remote, $routes, 100, 350, sub { after_embedder($_[0], {hang => $true}, 0.25) }, 'short', 'long'],
    AIVectordbStrategy => [$redis =~ s/^AIVectordbStrategy.*\n//mr, $routes, 'redis', 'memory',
        sub { my $before = searches(); $_[0] =~ /change/ || @with ? at($_[0]) : search($_[0]); searches() > $before ? 'redis' : 'memory' }],
    AIVectordbDimensions => [$remote, $routes, 32, 128, sub { embedder_read($_[0])->{dimensions} }],
    AIVectordbDistanceMetric => ["${remote}AIRouteHeaders On\n", $routes, 'euclidean', 'cosine',
        sub { embedder_does($_[0], {body => json({data => [{index => 0, embedding => [2, (0) x 63]}]})})->header('X-LLM-Distance') }, '0.5000', '0.0000'],
    AIVectordbThreshold => [$remote, $routes, 0.2, 0.9, sub { at($_[0], chat('axis:0 0.5'))->json->{model} }, 'rest', 'zero'],
    AIVectordbRedisHost => [$redis, $routes, '127.0.0.2', '127.0.0.3', sub { search($_[0]) =~ /^(.*):/; $1 }],
    AIVectordbRedisPort => [$redis, $routes, port('SPARE_5'), port('SPARE_4'), sub { search($_[0]) =~ /:(\d+) /; $1 }],
    AIVectordbRedisUsername => [$redis, $routes, 'a', 'b', sub { search($_[0]) =~ / (.*)\/pw/; $1 }],
    AIVectordbRedisPassword => [$redis, $routes, 'a', 'b', sub { search($_[0]) =~ / \/(\w+) /; $1 }],
    AIVectordbRedisDatabase => [$redis, $routes, 3, 4, sub { search($_[0]) =~ / (\d+)$/; $1 }],
    AIVectordbRedisConnectionIsProxied => ["${redis}AIVectordbRedisDatabase 5\n", $routes, 'On', 'Off', sub { search($_[0]) =~ / (\d+)$/; $1 }, 0, 5],
    AIRoutePrompt => [$remote, $routes, 'all', 'last 2', sub { embedder_read($_[0], $talk)->{input}[0] =~ s/axis:0 //gr =~ s/\n/ /gr }, '0.3 0.4 0.5 0.6', '0.5 0.6'],
    AIRoutePromptMaxBytes => [$remote, $routes, 16, 20, sub { length embedder_read($_[0], chat('axis:0 0.9 and more words'))->{input}[0] }],
    AIRouteOnFailure => [$remote, $routes, 'fail', 'one', sub { my $r = embedder_does($_[0], {status => 500}); $r->json->{model} // $r->{status} }, 503, 'one'],
    AIRouteCache => [$remote, $routes, 'auto', 'none', sub { my $text = fresh(); at($_[0], chat($text)); asked_again($_[0], $text) }, 0, 1],
    AIRouteCacheTTL => [$caching, $routes, 1, 3600, sub { my $text = fresh(); at($_[0], chat($text)); asked_again($_[0], $text, 1.1) }, 1, 0],
    AIRouteCacheSize => [$caching, $routes, 100_000, 200_000, # each size is a cache of its own, that of /size has the first; children remember for a second
        sub { my $text = fresh(); at($_[0], chat($text)); join ' ', map { asked_again($_, $text, 1.1) } $_[0], '/size' }, '0 0', '0 1'],
    AIRouteAggregate => ["${remote}AIRouteHeaders On\n", $examples, 'mean', 'max', $distance, '0.5500', '0.1000'],
    AIRouteAggregateTopK => ["${remote}AIRouteHeaders On\nAIRouteAggregate topk-mean\n", $examples, 1, 2, $distance, '0.1000', '0.5500'],
    AIRouteMargin => ["${remote}AIRouteOnAmbiguous one\n", $routes, 0.2, 0.05, $between, 'one', 'zero'],
    AIRouteOnAmbiguous => ["${remote}AIRouteMargin 0.2\n", $routes, 'catchall', 'one', $between, 'rest', 'one'],
    AIRouteSticky => [$caching, $routes, 'header X-S', 'cookie sid',
        sub { my ($path) = @_; ++$fresh; join ' ', grep { goes_on($path, $_, "sid=$fresh") eq 'zero' } qw(X-S Cookie) }, 'X-S', 'Cookie'],
    AIRouteStickyTTL => [$sticky, $routes, 1, 3600, sub { goes_on($_[0], 'X-S', ++$fresh, 1.1) }, 'one', 'zero'],
    AIRouteStickyMargin => [$sticky, $routes, 0.01, 0.1, sub { goes_on($_[0], 'X-S', ++$fresh) }, 'one', 'zero'],
    AIRouteStickyReturn => ["$sticky$fails", $routes, 'On', 'Off', sub { comes_back($_[0]) }, 'one zero', 'one one'],
    AIExplain => [$remote, $routes, 'headers', 'off', sub { (at($_[0])->header('X-LLM-Route-Scores') // 'none') =~ /^(\w+)/; $1 }, 'zero', 'none'],
    AIExplainFor => ["${remote}AIExplain headers\n", $routes, q("%{HTTP:X-A} == '1'"), q("%{HTTP:X-B} == '1'"),
        sub { my ($path) = @_; join ' ', grep { local @with = (@with, $_ => 1); at($path)->header('X-LLM-Route-Scores') } qw(X-A X-B) }, 'X-A', 'X-B'],
    AIDryRunPath => ["${remote}AIExplain body\n", $routes, '/_a', '/_b', sub { my ($path) = @_; join ' ', grep { at("$path$_")->json->{decision} } qw(/_a /_b) }],
    AIRouteHeaders => [$remote, $routes, 'On', 'Off', sub { at($_[0])->header('X-LLM-Route') // 'none' }, 'axis:0 1', 'none'],
    AIApiKeyFile => ['', $two, "$logs/keys-a", "$logs/keys-b",
        sub { my ($path) = @_; join ' ', grep { local @with = (@with, 'X-Api-Key' => "a-long-key-of-$_-000000"); at($path)->{status} == 200 } qw(a b) }, 'a', 'b'],
    AIApiKeyHeader => ["AIApiKeyFile \"$logs/keys-a\"\n", $two, 'X-A', 'X-B',
        sub { my ($path) = @_; join ' ', grep { local @with = (@with, $_ => 'a-long-key-of-a-000000'); at($path)->{status} == 200 } qw(X-A X-B) }],
    AIAclsAllow => ['', $two, 'header:X-A=1', 'header:X-B=1',
        sub { my ($path) = @_; join ' ', grep { local @with = (@with, $_ => 1); at($path)->{status} == 200 } qw(X-A X-B) }, 'X-A', 'X-B'],
    AIAclsDeny => ['', $two, 'header:X-A=1', 'header:X-B=1',
        sub { my ($path) = @_; join ' ', grep { local @with = (@with, $_ => 1); at($path)->{status} == 403 } qw(X-A X-B) }, 'X-A', 'X-B'],
    AIAclsGroupEnv => ["SetEnv GROUPS_A g\nSetEnv GROUPS_B h\nAIAclsAllow consumer_group=g\n", $two, 'GROUPS_A', 'GROUPS_B',
        sub { at($_[0])->{status} }, 200, 403],
    AIAclsGroupFile => ["AIApiKeyFile \"$logs/keys-a\"\nAIAclsAllow consumer_group=g\n", $two, "$logs/groups-a", 'none',
        sub { local @with = (@with, 'X-Api-Key' => 'a-long-key-of-a-000000'); at($_[0])->{status} }, 200, 403],
    AIStatisticsLog => ['', $two, "$logs/merge-a", "$logs/merge-b", sub { grew($_[0]) }, 'a', 'b'],
    AILogPayloadMaxBytes => [$payloads, $paid, 11, 22, sub { length logged($_[0]) }],
    AILogRedact => [$payloads, $paid, 'messages AAA', 'messages BBB', sub { logged($_[0]) =~ /(AAA|BBB|messages)/; $1 }, 'AAA', 'BBB'],
);
write_keys("$logs/keys-$_", key_line($_, "a-long-key-of-$_-000000")) for qw(a b);
AIPTest::Setup::write_file("$logs/groups-a", "g: x a\n");
my %elsewhere = (
    AILlmFormat => 'it has one value',
    AISecretsRequired => 'it holds for a whole server',
    (map { $_ => 'a label, or names, of metrics: t/70_metrics.t, t/70_metrics_bounds.t' } qw(AICostCurrency AIMetricsKongNames AITelemetrySemconv)),
    (map { $_ => 'below' } qw(AIBalancerConnectTimeout AIStateDir AIVectordbRedisConnectTimeout AIVectordbRedisSendTimeout
        AIVectordbRedisReadTimeout AIVectordbRedisKeepalivePoolSize AIVectordbRedisKeepaliveBacklog)),
    (map { $_ => 'what it does shows in the state of a target, which is one for all: t/37_balance.t, t/38_health.t' } qw(AIBalancerMaxFails
        AIBalancerFailTimeout AIBalancerCooldownMax AIBalancerHashOnHeader AIBalancerSlots AIBalancerLatencyStrategy AIBalancerTokensCountStrategy
        AIBalancerUsageWindow AIBalancerShared)),
    (map { ("AIEmbeddingsAuth$_" => 'who the gateway is at a cloud shows in its tokens: the rules between them are in t/11_config_rules.t') } qw(AwsAccessKeyId
        AwsSecretAccessKey AzureClientId AzureClientSecret AzureTenantId AzureUseManagedIdentity GcpMetadataUrl GcpOauthTokenUrl GcpServiceAccountJson
        GcpUseServiceAccount)),
    (map { $_ => 'of a server, not of a section: t/71_traces.t, t/71_traces_export.t' } qw(AITraces AITracesEndpoint AITracesHeaderName AITracesHeaderValue
        AITracesServiceName AITracesSamplingRatio AITracesQueueSize AITracesFlushInterval AITracesTimeout)),
    (map { $_ => 'of a server, not of a section: t/61_egress.t, t/62_egress_proxy.t, t/63_egress_rules.t' } qw(AIEgressProxy AIEgressProxyAuth AIEgressNoProxy
        AIEgressCaFile AIEgressMinTls AIEgressClientCert AIEgressAllow)),
    AIStatisticsLogBuffer => 'when a line is there shows it: t/29_log_files.t',
    AIKeepAliveHold => 'only mod_status sees a thread that waits: t/34_hold.t',
    (map { $_ => 'without TLS to Redis there is nothing to see' } qw(AIVectordbRedisSsl AIVectordbRedisSslVerify AIVectordbRedisServerName)),
    (map { $_ => 'seen with a real PostgreSQL in t/49_pgvector_merge.t' } qw(AIVectordbPgvectorHost
        AIVectordbPgvectorPort AIVectordbPgvectorDatabase AIVectordbPgvectorUser AIVectordbPgvectorPassword AIVectordbPgvectorTimeout
        AIVectordbPgvectorSsl AIVectordbPgvectorSslRequired AIVectordbPgvectorSslVerify AIVectordbPgvectorSslVersion
        AIVectordbPgvectorSslCert AIVectordbPgvectorSslCertKey)),
);
my ($of_location) = slurp(top_dir() . '/conf/ai_proxy_adv.conf') =~ /\A(.*?)^#<AITarget/ms;
is_deeply([sort keys %row, keys %elsewhere], [sort $of_location =~ /^#(AI\w+) /mg], 'every directive has its turn');

my $conf = "Listen 127.0.0.1:\${SPARE_2_PORT}\nStartServers 1\nServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\nAIProxy On\nAIStateDir one\n";
for my $d (sort keys %row) {
    my ($beside, $targets, $first, $second) = @{$row{$d}};
    my $other = $d eq 'AIClientModel' ? 'AILlmFormat openai' : 'AIClientModel ignore';
    $conf .= "<Location /$d>\n$beside$d $first\n$targets<If \"-n req('X-Second')\">\n$d $second\n</If>\n</Location>\n"
        . "<Location /$d/keep>\n$other\n</Location>\n<Location /$d/change>\n$d $second\n</Location>\n"
        . "<Location /$d/change/deep>\n$other\n</Location>\n";
}
$conf .= "<Location /size>\n${caching}AIRouteCacheSize 100000\n$routes</Location>\n";
# The shortest time to connect counts for all sections with the same targets, and the first of several routers with the same
# targets tells of a trouble for all. So here each section has targets of its own.
sub below {
    my ($path, $beside, $targets, %lines) = @_;
    return "<Location /$path>\n$beside</Location>\n" . join '', map {"<Location /$path/$_>\n$lines{$_}$targets</Location>\n"} sort keys %lines;
}
$conf .= below('connect', "AIBalancerConnectTimeout 100\n", target('hole', 'MOCK_BLACKHOLE'), keep => '', change => "AIBalancerConnectTimeout 400\n");
$conf .= below('away', "${redis}AIVectordbRedisPort \${MOCK_BLACKHOLE_PORT}\nAIVectordbRedisConnectTimeout 111\n", $routes, keep => '',
    change => "AIVectordbRedisConnectTimeout 222\n");
$conf .= below('stall', "${redis}AIVectordbRedisSendTimeout 1111\nAIVectordbRedisReadTimeout 111\n", $routes, keep => '',
    send => "AIVectordbRedisSendTimeout 2222\n", read => "AIVectordbRedisReadTimeout 222\n");
$conf .= below('pool', "${redis}AIVectordbRedisKeepalivePoolSize 1\nAIVectordbRedisKeepaliveBacklog 0\n", $routes, keep => '',
    size => "AIVectordbRedisKeepalivePoolSize 2\n", backlog => "AIVectordbRedisKeepaliveBacklog 2\n");
$conf .= "<Location /state>\n${remote}AIStateDir state-a\n$routes<If \"-n req('X-Second')\">\nAIStateDir state-c\n</If>\n</Location>\n"
    . "<Location /state/change>\nAIStateDir state-b\n</Location>\n";

unlink "$logs/redis";
redis_mode('');
FakeRedis::start("$logs/redis", "$logs/redis-mode", (map { "127.0.0.$_:" . port('SPARE_4') } 1 .. 3), '127.0.0.1:' . port('SPARE_5'));
$h = start_httpd($conf);
for my $d (sort keys %row) {
    my ($see, @want) = @{$row{$d}}[4 .. $#{$row{$d}}];
    @want = @{$row{$d}}[2, 3] unless @want;
    for (['', 0, 'said'], ['/keep', 0, 'inherited'], ['/change', 1, 'said anew'], ['/change/deep', 1, 'that inherited'], ['', 1, 'in <If>', 'X-Second', 1]) {
        my ($below, $which, $how, @header) = @$_;
        @with = @header;
        is(eval { $see->("/$d$below") } // "no answer: $@", $want[$which], "$d, $how");
        mock_reset();
    }
    @with = ();
}
is(took(0.25, '/connect/keep'), 'short', 'AIBalancerConnectTimeout, inherited');
is(took(0.25, '/connect/change'), 'long', 'AIBalancerConnectTimeout, said anew');
is(together('/pool/keep'), 1, 'one connection, no backlog: inherited');
is(together('/pool/size'), 2, 'AIVectordbRedisKeepalivePoolSize said anew, the backlog inherited');
is(together('/pool/backlog'), 3, 'AIVectordbRedisKeepaliveBacklog said anew, the pool size inherited');
search("/stall/$_") for qw(keep read send);
redis_mode('stall');
is(at("/stall/$_")->json->{model}, 'zero', "/stall/$_: the mirror answers") for qw(keep read send);
redis_mode('');
my $log = wait_until('both sections', sub { my $text = $h->log; (() = $text =~ /took no connection within/g) >= 2 && $text });
# A store that is back for a moment is told of once more when it is away again.
sub each_once { my %told = map { $_ => 1 } @_; return [sort keys %told] }
is_deeply(each_once($log =~ /AIP0105: .* took no connection within (\d+) ms/g), [111, 222], 'AIVectordbRedisConnectTimeout, inherited and said anew');
is_deeply(each_once($log =~ /AIP0105: .*\(send (\d+ ms, read \d+) ms/g), ['1111 ms, read 111', '1111 ms, read 222', '2222 ms, read 111'],
    'AIVectordbRedisSendTimeout and AIVectordbRedisReadTimeout, each inherited and said anew');
is(at('/state')->json->{model}, 'zero', 'with a state directory');
sub kept { return scalar(() = glob "$h->{dir}/state-$_[0]/*.vec") }
is_deeply([map { kept($_) } qw(a b c)], [2, 2, 0], 'AIStateDir, said and said anew');
@with = ('X-Second', 1);
is(at('/state')->json->{model}, 'zero', 'with another');
is(kept('c'), 2, 'AIStateDir, in <If>');
$h->stop;
FakeRedis::stop();
is_deeply([$h->unexpected(qw(AIP0021 AIP0043 AIP0105 AH00957))], [], 'nothing unexpected in the log');
finish();

# A Redis that says yes to everything: each search is noted with the address, the credential and the database of its
# connection. Mode "slow" answers searches late, "stall" never.
package FakeRedis;

our $pid;

sub start {
    my ($log, $mode, @places) = @_;
    my @listen = map { IO::Socket::INET->new(LocalAddr => $_, Listen => 64, ReuseAddr => 1) or die "$_: $!\n" } @places;
    $pid = fork // die "fork: $!\n";
    return if $pid;
    setpgrp;
    open STDOUT, '>', '/dev/null'; # the harness waits until nobody holds it
    open STDERR, '>', '/dev/null';
    $SIG{CHLD} = 'IGNORE';
    my $select = IO::Select->new(@listen);
    while (1) {
        for my $socket ($select->can_read) {
            my $c = $socket->accept or next;
            if (!(fork // die "fork: $!\n")) {
                eval { serve($c, $log, $mode) };
                POSIX::_exit(0);
            }
        }
    }
}

sub stop {
    kill 'TERM', -$pid and waitpid $pid, 0 if $pid;
    undef $pid;
    return;
}

END {
    local $?;
    stop();
}

sub serve {
    my ($c, $log, $mode) = @_;
    my ($user, $password, $db) = ('', '', 0);
    while (defined(my $count = <$c>)) {
        my @words;
        for (1 .. substr $count, 1) {
            my $len = substr scalar(<$c>), 1;
            read $c, my $word, $len + 2;
            push @words, substr $word, 0, $len;
        }
        my $command = shift @words;
        my $answer = '+OK';
        if ($command eq 'AUTH') { ($password, $user) = (pop @words, $words[0] // '') }
        elsif ($command eq 'SELECT') { $db = $words[0] }
        elsif ($command eq 'HSTRLEN') { $answer = ':256' }
        elsif ($command eq 'FT.INFO') { $answer = "*4\r\n+num_docs\r\n:2\r\n+indexing\r\n:0" }
        elsif ($command eq 'FT.SEARCH') {
            open my $out, '>>', $log or die;
            syswrite $out, sprintf "%s:%d %s/%s %d\n", $c->sockhost, $c->sockport, $user, $password, $db;
            my $how = AIPTest::slurp($mode);
            next if $how eq 'stall';
            select undef, undef, undef, 0.2 if $how eq 'slow';
            my $key = $words[0] =~ s/^aip:index:/aip:ref:/r;
            $answer = join "\r\n", '*5', ':2', map { ("+$key:$_", '*2', '+d', "+0.$_") } 0, 1;
        }
        print {$c} "$answer\r\n";
    }
    return;
}
