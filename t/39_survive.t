#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Four targets under load, three of them killed and revived in turn and together: no request is lost while one lives. Two
# servers that share a Redis: each knows what the other one's targets did. The long run with faults of every kind is
# t/80_soak.t.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $true    = JSON::PP::true;
my $seconds = 5; # for each algorithm
my @mortal  = map { port("MOCK_$_") } 1 .. 3;

sub target {
    my ($name, $port, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\nAIDescription \"axis:0 1\"\n"
        . "AIModelOptionsUpstreamUrl \"http://127.0.0.1:\${${port}_PORT}/$name\"\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}

my %algorithm = (
    turn  => "AIBalancerMaxFails 2\nAIBalancerFailTimeout 300\n",
    least => "AIBalancerAlgorithm least-connections\n",
    meaning => "AIBalancerAlgorithm semantic\nAIBalancerMaxFails 2\nAIBalancerFailTimeout 300\nAIEmbeddingsModelProvider local\n"
        . 'AIEmbeddingsModelName "' . top_dir() . "/share/embedder/aip-static-en-v1\"\n",
);
my $conf = 'Listen 127.0.0.1:${SPARE_2_PORT}' . "\nStartServers 2\nServerLimit 2\nThreadsPerChild 16\nMaxRequestWorkers 32\nMinSpareThreads 1\n"
    . "MaxSpareThreads 32\nAIBalancerFailoverCriteria error timeout non_idempotent\nAIBalancerConnectTimeout 500\nAIBalancerReadTimeout 2000\n";
for my $name (sort keys %algorithm) {
    $conf .= "<Location /$name>\nAIProxy On\n$algorithm{$name}" . join('', map { target("t$_", $_ < 4 ? "MOCK_$_" : 'MOCK_EMBED') } 1 .. 4) . "</Location>\n";
}
my $h = start_httpd($conf);

# Requests one after the other until the time is over; writes how many there were, and what was no 200.
sub load {
    my ($path, $end, $out) = @_;
    my ($n, %bad) = (0);
    my $c;
    while (time < $end) {
        my $stream = $n % 3 == 0;
        my $r = eval {
            $c //= client(port => port('SPARE_2'), timeout => 10);
            $c->post($path, chat('hello there', $stream ? (stream => $true) : ()));
        };
        my $end = $r && $r->{status} == 200 && (!$stream || $r->{body} =~ /\[DONE\]|"error"/);
        $n++;
        $bad{$r ? "$r->{status} " . substr($r->{body}, 0, 120) : "died $@"}++ unless $end;
        $bad{broken}++ if $r && $stream && $r->{body} =~ /"error"/;
        undef $c if !$r || $n % 50 == 0;
    }
    my $broken = delete $bad{broken} // 0; # streams that had begun cannot move on
    AIPTest::Setup::write_file($out, json({n => $n, broken => $broken, bad => \%bad}));
    return;
}

for my $name (sort keys %algorithm) {
    mock_reset();
    my $end = time + $seconds;
    my @files = map {"$AIPTest::Setup::t/state/load.$$.$_"} 1 .. 6;
    my @pids;
    for my $file (@files) {
        my $pid = fork // die "fork: $!\n";
        if (!$pid) {
            eval { load("/$name", $end, $file) };
            POSIX::_exit(0);
        }
        push @pids, $pid;
    }
    my ($round, $kills) = (0, 0);
    while (time < $end - 0.5) {
        my @now = $round++ % 3 == 2 ? @mortal : $mortal[$round % 3];
        mock_port($_, 0) for @now;
        mock_close(port => $_, all => $true) for @now;
        $kills += @now;
        select undef, undef, undef, 0.3;
        mock_port($_, 1) for @now;
        select undef, undef, undef, 0.15;
    }
    waitpid $_, 0 for @pids;
    my @results = map { from_json(AIPTest::slurp($_)) } @files;
    my %bad;
    for my $r (@results) { $bad{$_} += $r->{bad}{$_} for keys %{$r->{bad}} }
    my $n = 0;
    $n += $_->{n} for @results;
    cmp_ok($n, '>', 100 * $seconds, "$name: $n requests, $kills kills");
    is_deeply(\%bad, {}, "$name: none is lost");
}
$h->stop;
is_deeply([$h->unexpected(qw(AIP0021 AIP0022 AIP0025), qr/\[proxy:/)], [], 'nothing unexpected in the log');

# ---- two machines ----
start_redis(port('SPARE_5'));
sub machine {
    my ($port) = @_;
    return start_httpd("Listen 127.0.0.1:\${${port}_PORT}\n<Location /status>\nSetHandler ai-status\n</Location>\n<Location /shared>\nAIProxy On\n"
            . "AIBalancerAlgorithm lowest-usage\nAIBalancerShared redis\nAIVectordbRedisPort \${SPARE_5_PORT}\n"
            . target('t1', 'MOCK_1') . target('t2', 'MOCK_2') . "</Location>\n");
}
my ($one, $two) = (machine('SPARE_2'), machine('SPARE_3'));
mock_reset();
mock_behave({port => $mortal[0], times => -1, do => {usage => {prompt_tokens => 500, completion_tokens => 500, total_tokens => 1000}}});

sub told {
    my ($target) = @_;
    my $status = client(port => port('SPARE_3'))->get('/status')->json;
    return $status->{gateways}[0]{targets}[$target]{usage}{other_machines};
}

client(port => port('SPARE_2'))->post('/shared', chat('hello')) for 1 .. 4;
wait_until('the other machine knows', sub { told(0) > 500 });
cmp_ok(told(1), '<', 200, 'each target has its own figures');
is(client(port => port('SPARE_3'))->post('/shared', chat('hello'))->json->{model}, 't2', 'a machine goes by the usage of both');
stop_redis(port('SPARE_5'));
wait_until('it is said that Redis is away', sub { $two->log =~ /AIP0106/ }, 20);
is(client(port => port('SPARE_3'))->post('/shared', chat('hello'))->{status}, 200, 'without Redis requests go on');
start_redis(port('SPARE_5'));
wait_until('it is said that it is back', sub { $two->log =~ /AIP0107/ }, 20);
pass('Redis comes back');
$_->stop for $one, $two;
is_deeply([map { $_->unexpected('AIP0106') } $one, $two], [], 'nothing unexpected in the logs');
finish();
