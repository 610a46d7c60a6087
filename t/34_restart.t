#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Graceful restarts under load lose no request, streams outlive them, children come and go, and an end comes quickly even
# while an embedder hangs.
use strict;
use warnings FATAL => 'all';
use IO::Select ();
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $stop = "$AIPTest::Setup::t/state/stop-the-load";

# Load in a process of its own over one kept-alive connection until that file is there, at least 300 and at most 5000 requests. The
# next request goes over a new connection when the old one was closed between two requests, as a restart does. Prints the
# number of answers, then what was not a 200.
sub load {
    my ($path, $prompt) = @_;
    pipe my $out, my $in or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    return [$pid, $out] if $pid;
    close $out;
    my ($answered, $bad, $c) = (0, '');
    while ($bad eq '' && $answered < (-e $stop ? 300 : 5000)) {
        $c = client() if !$c || IO::Select->new($c->{socket})->can_read(0); # readable between two answers: closed
        my $fresh = !$c->{used}++;
        my $r = eval { $c->post($path, chat($prompt)) };
        if (!$r) { # an idle connection may be closed at the moment of our writing; a fresh one must answer
            $bad .= "after $answered: " . ($@ =~ s/\n.*//sr) . '; ' if $fresh || $@ !~ /ended|closed|reset|Broken/i;
            undef $c;
            next;
        }
        $bad .= "after $answered: status $r->{status}; " if $r->{status} != 200 || !$r->{complete};
        $answered++;
        undef $c if ($r->header('Connection') // '') =~ /close/;
    }
    print {$in} "$answered $bad";
    close $in;
    POSIX::_exit(0);
}

for my $case (['/faults/three', 'hello', 'by turn'], ['/faults/three/meaning', 'axis:0 0.9', 'by meaning']) {
    my ($path, $prompt, $what) = @$case;
    mock_reset();
    is(post($path, chat($prompt))->{status}, 200, "$what: works");
    wait_until('its statistics line', sub { grep { $_->{path} eq $path } statistics() });
    mock_reset();
    my $before  = statistics();
    my @workers = map { load($path, $prompt) } 1 .. 6;
    for (1 .. 3) {
        my $n = mock_wait('request', port => port('MOCK_1'), count => 1);
        graceful();
        mock_wait('request', port => port('MOCK_1'), count => $n + 50); # the load went on
    }
    AIPTest::Setup::write_file($stop, '');
    my ($answered, @bad) = (0);
    for (@workers) {
        my ($pid, $out) = @$_;
        my ($n, $bad) = split / /, do { local $/; <$out> }, 2;
        $answered += $n;
        push @bad, $bad if $bad;
        waitpid $pid, 0;
    }
    unlink $stop;
    is_deeply(\@bad, [], "$what: $answered requests over three graceful restarts, all answered");
    cmp_ok($answered, '>=', 1800, "$what: a load indeed");
    my ($at_target) = grep { $_->{port} == port('MOCK_1') } @{mock_count()->{ports}};
    is($at_target->{request}, $answered, "$what: the target received each once");
    wait_until('statistics', sub { statistics() - $before >= $answered });
    is(statistics() - $before, $answered, "$what: a statistics line for each");
}

# a stream outlives a restart
mock_reset();
mock_behave({port => port('MOCK_1'), do => {stream => {auto => 30, interval_ms => 40}}});
my $c = client();
$c->send_request('POST', '/faults/http', chat('hello', stream => JSON::PP::true));
mock_wait('request', port => port('MOCK_1'));
graceful();
my $r = $c->answer;
ok($r->{complete}, 'a stream over a restart is whole');
is((stream_events($r->{body}))[-1], '[DONE]', 'to its end');

# children that end after a few connections
my $conf = sub {
    my ($more) = @_;
    return <<"CONF";
Listen 127.0.0.1:\${SPARE_1_PORT}
MaxConnectionsPerChild 20
<Location /x>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIVectordbDimensions 64
$more
<AITarget a>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName a
AIModelOptionsUpstreamUrl ${\url('MOCK_2', '/v1/chat/completions')}
AIDescription "axis:0 1"
</AITarget>
</Location>
CONF
};
mock_reset();
my $h = start_httpd($conf->(''));
my %status;
$status{client(port => port('SPARE_1'))->post('/x', chat('axis:0 0.9'))->{status}}++ for 1 .. 200;
is_deeply(\%status, {200 => 200}, '200 requests, a new child every 20 connections');
is(scalar(grep { @{from_json($_->{body})->{input}} == 1 && from_json($_->{body})->{input}[0] eq 'axis:0 1' } mock_requests(port => port('MOCK_EMBED'))),
    1, 'new children find the references in the cache');
$h->stop;
is_deeply([$h->unexpected()], [], 'nothing unexpected in the log');

# the end does not wait for an embedder that hangs
mock_reset();
mock_behave({port => port('MOCK_EMBED'), times => -1, do => {hang => JSON::PP::true}});
$h = start_httpd($conf->("AIEmbeddingsTimeout 30000\nAIStateDir hanging"));
mock_wait('request', port => port('MOCK_EMBED'));
my $begin = time;
$h->stop;
cmp_ok(time - $begin, '<', $ENV{AIP_TEST_HTTPD} ? 20 : 5, 'stopped while the embedder hangs'); # under a sanitizer all is slow
is_deeply([$h->deaths], [], 'without force');
mock_reset();
finish('AH00045', 'AH00046');
