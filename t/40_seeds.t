#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The fifteen prompts of the two published how-tos reach the model that the how-tos name, through the example
# configurations themselves: with fixed vectors and untouched thresholds over both stores, with the local embedder, and
# with a real embedding model behind an HTTP endpoint.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $top = top_dir();
my %threshold = ('/openai' => 0.8, '/cost' => 0.7);
my @prompts = map { chomp; [split /\t/] } grep { !/^#/ } split /^/, slurp("$top/t/data/seed-prompts.tsv");
is(scalar @prompts, 15, 'fifteen prompts');

my $models = "$top/share/embedder/aip-static-en-v1";

# What the examples say of a model's target: its route, and the options that are sent to it.
my %target;
for my $name (qw(openai cost)) {
    for my $section (slurp("$top/conf/examples/$name.conf") =~ /<AITarget \w[^>]*>(.*?)<\/AITarget>/gs) {
        my %line = $section =~ /^\s*(AI\w+) "?(.*?)"?$/mg;
        my ($tokens, $temperature) = map { defined ? $_ + 0 : undef } @line{qw(AIModelOptionsMaxTokens AIModelOptionsTemperature)};
        $target{"/$name"}{"$line{AIModelProvider}/$line{AIModelName}"} =
            {route => $line{AIDescription}, max_tokens => $tokens, temperature => $temperature};
    }
}
is(join(' ', map { scalar keys %{$target{$_}} } sort keys %target), '3 3', 'three targets in each example');

# An httpd with both examples of a kind; MORE goes into both locations.
sub gateway {
    my ($suffix, $more, @defines) = @_;
    my %define = (
        OPENAI_URL => url('MOCK_1', '/v1/chat/completions'),
        MISTRAL_URL => url('MOCK_2', '/v1/chat/completions'),
        OPENAI_AUTH => '"Bearer key-of-openai"',
        MISTRAL_AUTH => '"Bearer key-of-mistral"',
        EMBEDDINGS_URL => url('MOCK_EMBED', '/v1/embeddings'),
        REDIS_HOST => '127.0.0.1',
        REDIS_PORT => port('REDIS'),
        MINILM_PORT => port('MINILM'),
        MINILM_KEY => $ENV{AIP_TEST_MINILM_KEY},
        STATISTICS_LOG => 'statistics_log',
        @defines,
    );
    my $text = "Listen 127.0.0.1:\${SPARE_1_PORT}\nAIRouteHeaders On\nAIRouteCache none\n"; # Redis is counted
    $text .= join '', map {"Define $_ $define{$_}\n"} sort keys %define;
    $text .= "Include \"$top/conf/examples/$_$suffix.conf\"\n" for qw(openai cost);
    $text .= "<Location \"$_\">\n$more\n</Location>\n" for sort keys %threshold;
    return start_httpd($text);
}

# Every prompt through a gateway; LIMIT per location, where it is not the seed's.
sub routes {
    my ($kind, $limit) = @_;
    $limit = {%threshold, %$limit};
    my %widest = map { $_ => [0, 9] } keys %$limit;
    my $c = client(port => port('SPARE_1'), timeout => 30);
    for (@prompts) {
        my ($location, $expected, $prompt) = @$_;
        my $r = $c->post($location, {messages => [{role => 'user', content => $prompt}]}, Authorization => 'Bearer client');
        my ($provider, $model) = split m{/}, $expected;
        is($r->{status}, 200, "$kind: $prompt");
        is($r->json->{model}, $model, "$kind: goes to $model");
        is($r->header('X-LLM-Model'), $expected, "$kind: and the header says so");
        is($r->header('X-LLM-Route'), $target{$location}{$expected}{route}, "$kind: the route is its target's");
        my $distance = $r->header('X-LLM-Distance');
        my $matched = $r->header('X-LLM-Route') ne 'CATCHALL';
        is($matched ? 1 : 0, $distance <= $limit->{$location} ? 1 : 0, "$kind: distance $distance fits the decision");
        my $edge = $widest{$location};
        $edge->[0] = $distance if $matched && $distance > $edge->[0];
        $edge->[1] = $distance if !$matched && $distance < $edge->[1];
    }
    return \%widest;
}

sub margins {
    my ($kind, $widest, $limit, $margin) = @_;
    for my $location (sort keys %$limit) {
        my ($match, $rest) = @{$widest->{$location}};
        ok($limit->{$location} - $match > $margin && $rest - $limit->{$location} > $margin,
            "$kind: threshold $limit->{$location} of $location lies between $match and $rest");
    }
    return;
}

# The threshold that each decision was taken with, as the log has it: {0.8 => 6, 0.7 => 9}.
sub thresholds {
    my ($h) = @_;
    my %n;
    $n{$_}++ for $h->log =~ /AIP0044: .*, threshold ([\d.]+|none),/g;
    return \%n;
}

# How often Redis was asked for distances.
sub searches {
    my ($n) = redis('INFO', 'commandstats') =~ /^cmdstat_FT\.SEARCH:calls=(\d+)/m;
    return $n // 0;
}

# Until every child's store is in step the mirror answers: asks on connections of their own, until none is left that does.
sub all_in_step {
    my $ask = sub {
        my $before = searches();
        for my $location (sort keys %threshold) {
            client(port => port('SPARE_1'))->post($location, chat($prompts[0][2])) for 1 .. 6;
        }
        return searches() - $before;
    };
    wait_until('all children ask Redis', sub { $ask->() == 12 });
    return;
}

# (a) the seeds as they are: thresholds 0.8 and 0.7, 1536 and 1024 dimensions; the vectors are fixed by the mock. Redis is
# what the examples ask for, so nothing stands over them there.
for my $store (qw(redis memory)) {
    mock_reset();
    my $h = gateway('', $store eq 'memory' ? 'AIVectordbStrategy memory' : '');
    all_in_step() if $store eq 'redis';
    mock_reset();
    my ($asked, $lines, $decided) = (searches(), -s "$h->{dir}/statistics_log" // 0, thresholds($h));
    my $widest = routes("fixed vectors, $store", {});
    is(searches() - $asked, $store eq 'redis' ? 15 : 0, "$store: distances by Redis");
    my $now = thresholds($h);
    $now->{$_} -= $decided->{$_} // 0 for keys %$now;
    is_deeply($now, {0.8 => 6, 0.7 => 9}, "$store: the seeds' own thresholds decided");
    margins("fixed vectors, $store", $widest, \%threshold, 0.04);
    for my $got (mock_requests(port => port('MOCK_1')), mock_requests(port => port('MOCK_2'))) {
        my %h = map { lc $_->[0] => $_->[1] } @{$got->{headers}};
        my $body = from_json($got->{body});
        my ($prompt) = grep { $_->[2] eq $body->{messages}[0]{content} } @prompts;
        my ($provider) = split m{/}, $prompt->[1];
        is($h{authorization}, "Bearer key-of-$provider", "$store, $prompt->[2]: the client's own credential is replaced");
        my $want = $target{$prompt->[0]}{$prompt->[1]};
        is($body->{$_}, $want->{$_}, "$store, $prompt->[2]: $_") for qw(max_tokens temperature);
    }
    is(scalar(grep { json($_) =~ /Bearer client/ } mock_requests()), 0, "$store: it reaches nobody");
    my %dims = map { $_ => 1 } map { from_json($_->{body})->{dimensions} } mock_requests(port => port('MOCK_EMBED'));
    is_deeply(\%dims, {1536 => 1, 1024 => 1}, "$store: dimensions are asked for");
    my @stat = map { from_json($_) } split /\n/, slurp("$h->{dir}/statistics_log", $lines);
    is(scalar @stat, 4, "$store: a line for each target that logs");
    is($stat[0]{ai}{proxy}{usage}{cost} + 0, (11 * 1 + 7 * 2) / 1e6, "$store: cost of the first chat");
    like($stat[0]{ai}{proxy}{semantic}{route}, qr/^programming/, "$store: its route is in the statistics");
    is($stat[0]{ai}{proxy}{semantic}{vector_db}, $store, "$store: and the store");
    is($stat[0]{ai}{proxy}{semantic}{degraded}, JSON::PP::false, "$store: which answered itself");
    $h->stop;
    is_deeply([$h->unexpected()], [], "$store: nothing unexpected in the log");
    unlike($h->log, qr/AIP0105/, "$store: the store answered") if $store eq 'redis';
}

# (b) the local embedder: no network
mock_reset();
my $h = gateway('-local', "AIEmbeddingsModelName \"$models\"");
margins('local', routes('local', {}), \%threshold, 0.02);
is(scalar(mock_requests(port => port('MOCK_EMBED'))), 0, 'local: no embeddings call');
is_deeply(thresholds($h), {0.8 => 6, 0.7 => 9}, "local: the seeds' own thresholds decided");
$h->stop;
is_deeply([$h->unexpected()], [], 'local: nothing unexpected in the log');

# (c) all-MiniLM-L6-v2 behind an OpenAI-compatible endpoint
my %minilm = map {
    my ($t) = slurp("$top/conf/examples/$_-minilm.conf") =~ /^\s*AIVectordbThreshold (\S+)/m;
    ("/$_" => $t)
} qw(openai cost);
$h = gateway('-minilm', '');
margins('MiniLM', routes('MiniLM', \%minilm), \%minilm, 0.01);
$h->stop;
is_deeply([$h->unexpected()], [], 'MiniLM: nothing unexpected in the log');

# No example may be one of the prompts, however it is spelt.
sub words { return join ' ', lc($_[0]) =~ /[a-z0-9]+/g }
my %prompt = map { words($_->[2]) => 1 } @prompts;
my $examples = 0;
for my $file (glob "$top/conf/examples/*.conf") {
    my @lines = slurp($file) =~ /^\s*AIRouteExample\s+(.*)/mg;
    $examples += @lines;
    is_deeply([grep { $prompt{words($_)} } @lines], [], "$file repeats no prompt");
}
is($examples, 20, 'the examples were looked at');
finish();
