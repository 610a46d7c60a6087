#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Children that end while their threads still make references, open the embedder's connection ahead, or wait for a store,
# an embedder or a target.
use strict;
use warnings FATAL => 'all';
use IO::Socket::INET;
use POSIX ();
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
            . url('MOCK_1', '/v1/chat/completions') . "\nAIDescription \"$description\"\nAILoggingLogStatistics On\n</AITarget>\n";
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
$silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => port('SPARE_3'), Listen => 64, ReuseAddr => 1) or die "socket: $!\n";
unlink glob "$AIPTest::Setup::t/state/routers-end/*";
$h = server(port('SPARE_3'));
sleep 0.5;
is_quick($h, 'no answer');

# ---- stores that say nothing ----
my $port = port('SPARE_3');
sub only {
    my ($path, $slot, @lines) = @_;
    return join "\n", "<Location $path>", 'AIProxy On', @lines, '<AITarget only>', 'AIRouteType llm/v1/chat', 'AIModelProvider openai', 'AIModelName m',
        'AIModelOptionsUpstreamUrl ' . url($slot, '/v1/chat/completions'), 'AILoggingLogStatistics On', '</AITarget>', '</Location>', '';
}
my %stores = (
    redis    => "AIVectordbRedisReadTimeout 30000\nAIVectordbRedisPort $port\n" . only('/shared', 'MOCK_1', 'AIBalancerAlgorithm lowest-usage', 'AIBalancerShared redis'),
    pgvector => "AIVectordbPgvectorHost 127.0.0.1\nAIVectordbPgvectorPort $port\nAIVectordbPgvectorUser u\nAIVectordbPgvectorDatabase d\nAIVectordbPgvectorTimeout 30000\n",
);
for my $store (sort keys %stores) {
    $h = server(port('MOCK_EMBED'), "AIVectordbDistanceMetric cosine\nAIVectordbStrategy $store\n$stores{$store}");
    answered("$store that says nothing");
    is_quick($h, $store);
}

# ---- requests that wait for an embedder and for a target ----
my $log = "$AIPTest::Setup::t/state/stop_log";
$h = server(port('MOCK_EMBED'), "AIStatisticsLog \"|\$cat >>$log\"\n" . only('/only', 'MOCK_2'));
answered('before they hang');
mock_behave({port => port($_), times => -1, do => {hang => JSON::PP::true}}) for 'MOCK_EMBED', 'MOCK_2';
my @clients = map {
    my $pid = fork;
    if (!$pid) {
        eval { client(port => port('SPARE_1'))->post($_->[0], chat($_->[1])) };
        POSIX::_exit(0);
    }
    $pid;
} ['/only', 'a'], ['/only', 'b'], ['/g1', 'axis:0 0.8'], ['/g1', 'axis:0 0.7'], ['/g1', 'axis:0 0.7'];
mock_wait('request', port => port($_), count => 2) for 'MOCK_EMBED', 'MOCK_2';
sleep 0.5;
is_quick($h, 'requests in flight');
waitpid $_, 0 for @clients;
mock_reset();
my $lines = sub { [map { "$_->{path} $_->{status}" } map { from_json($_) } -e $log ? split /\n/, slurp($log) : ()] };
my @lines = ('/g1 200', mpm() eq 'prefork' ? () : (('/g1 499') x 3, ('/only 499') x 2)); # prefork ends out of the middle of a request
wait_until('lines', sub { @{$lines->()} >= @lines });
is_deeply([sort @{$lines->()}], \@lines, 'requests in flight: accounted for');
finish();
