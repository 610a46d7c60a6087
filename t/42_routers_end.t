#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Children that end while their threads still make references, open the embedder's connection ahead or wait for a store.
use strict;
use warnings FATAL => 'all';
use IO::Socket::INET;
use Time::HiRes qw(sleep time);
use lib 't/lib';
use AIPTest;

my $children = mpm() eq 'prefork' ? "StartServers 4\n" : "StartServers 4\nServerLimit 16\nThreadsPerChild 4\nMaxRequestWorkers 64\nMinSpareThreads 1\nMaxSpareThreads 64\n";

# Eight gateways, and routers, of one embedder; MORE are further lines.
sub server {
    my ($embedder, $more) = @_;
    my $target = sub {
        my ($name, $description) = @_;
        return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\nAIModelOptionsUpstreamUrl "
            . url('MOCK_1', '/v1/chat/completions') . "\nAIDescription \"$description\"\n</AITarget>\n";
    };
    my @gateways = map { "<Location /g$_>\nAIProxy On\nAIBalancerAlgorithm semantic\n" . $target->('zero', 'axis:0 1') . $target->('one', "axis:$_ 1")
            . $target->('rest', 'CATCHALL') . "</Location>\n" } 1 .. 8;
    return start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
$children
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl http://127.0.0.1:$embedder/v1/embeddings
AIEmbeddingsTimeout 30000
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIStateDir "$AIPTest::Setup::t/state/routers-end"
${\($more // '')}
@gateways
CONF
}
sub answered { is(client(port => port('SPARE_1'))->post('/g1', chat('axis:1 0.9'))->json->{model}, 'one', $_[0]) }
sub is_quick {
    my ($server, $what) = @_;
    my $begin = time;
    $server->stop;
    cmp_ok(time - $begin, '<', 8, "$what: a stop is quick"); # httpd kills after 9 s
    is_deeply([$server->deaths], [], "$what: no child died");
}

# ---- restarts, one after the other ----
my $front = start_httpd("Listen 127.0.0.1:\${SPARE_2_PORT}\nProxyPass / http://127.0.0.1:" . port('MOCK_EMBED') . "/\n");
my $h = server(port('SPARE_2'));
answered('at the start');
for my $n (1 .. 25) {
    $h->graceful;
    sleep $n / 1000; # from the first steps of the threads to their last ones
}
answered('after 25 restarts');
is_quick($h, 'restarts');
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');

# ---- an embedder that takes no connection: its references are known, its connection is to be opened ahead ----
$front->stop;
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => port('SPARE_2'), Listen => 1, ReuseAddr => 1) or die "socket: $!\n";
my @full = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => port('SPARE_2'), Blocking => 0) } 1 .. 8;
$h = server(port('SPARE_2'));
wait_until('references', sub { $h->log =~ /AIP0102: [^\n]*\(0 embeddings calls\)/ });
is_quick($h, 'no connection');

# ---- one that takes them and says nothing: the references are being made ----
$silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => port('SPARE_3'), Listen => 64) or die "socket: $!\n";
unlink glob "$AIPTest::Setup::t/state/routers-end/*";
$h = server(port('SPARE_3'));
sleep 0.5;
is_quick($h, 'no answer');

# ---- stores that say nothing ----
my $port = port('SPARE_3');
my $shared = "<Location /shared>\nAIProxy On\nAIBalancerAlgorithm lowest-usage\nAIBalancerShared redis\n<AITarget only>\nAIRouteType llm/v1/chat\n"
    . "AIModelProvider openai\nAIModelName m\nAIModelOptionsUpstreamUrl " . url('MOCK_1', '/v1/chat/completions') . "\n</AITarget>\n</Location>\n";
my %stores = (
    redis    => "AIVectordbRedisReadTimeout 30000\nAIVectordbRedisPort $port\n$shared",
    pgvector => "AIVectordbPgvectorHost 127.0.0.1\nAIVectordbPgvectorPort $port\nAIVectordbPgvectorUser u\nAIVectordbPgvectorDatabase d\nAIVectordbPgvectorTimeout 30000\n",
);
for my $store (sort keys %stores) {
    $h = server(port('MOCK_EMBED'), "AIVectordbDistanceMetric cosine\nAIVectordbStrategy $store\n$stores{$store}");
    answered("$store that says nothing");
    is_quick($h, $store);
}
finish();
