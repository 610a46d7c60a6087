#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Children that end while their router's thread still makes references or opens the embedder's connection ahead.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(sleep);
use lib 't/lib';
use AIPTest;

my $children = mpm() eq 'prefork' ? "StartServers 4\n" : "StartServers 4\nServerLimit 16\nThreadsPerChild 4\nMaxRequestWorkers 64\nMinSpareThreads 1\nMaxSpareThreads 64\n";
my $targets = join '', map { my ($name, $description) = @$_; <<"CONF" } ['zero', 'axis:0 1'], ['one', 'axis:1 1'], ['rest', 'CATCHALL'];
<AITarget $name>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName $name
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
AIDescription "$description"
</AITarget>
CONF
my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
$children
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIStateDir state
@{[map { "<Location /g$_>\nAIProxy On\nAIBalancerAlgorithm semantic\n$targets</Location>\n" } 1 .. 8]}
CONF
sub answered { is(client(port => port('SPARE_1'))->post('/g1', chat('axis:1 0.9'))->json->{model}, 'one', $_[0]) }
answered('at the start');
for my $n (1 .. 25) {
    $h->graceful;
    sleep $n / 1000; # from the first steps of the threads to their last ones
}
answered('after 25 restarts');
$h->stop;
is_deeply([$h->deaths], [], 'no child died');
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');
finish();
