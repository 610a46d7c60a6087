#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# AIStatisticsLog into files, with AIStatisticsLogBuffer and without: when a line is there, whole lines whatever happens, no
# line missing when children end, and what is left of a log when the disk is full.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Numbered;
use AIPTest::Process;
use Time::HiRes qw(time);

my $state = "$AIPTest::Setup::t/state";

sub log_of { return "$state/file.$_[0]" }

# A gateway with a buffer (undef: none is set), and a log of its own or that of another.
sub gateway {
    my ($name, $buffer, $log) = @_;
    return "<Location /$name>\nAIProxy On\nAIStatisticsLog \"${\log_of($log // $name)}\"\n" . (defined $buffer ? "AIStatisticsLogBuffer $buffer\n" : '')
        . "AIMaxRequestBodySize 0\nAILogPayloadMaxBytes 1048576\n"
        . "<AITarget t>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\n"
        . "AIModelOptionsUpstreamUrl \"http://127.0.0.1:\${MOCK_1_PORT}/v1/chat/completions\"\nAILoggingLogStatistics On\nAILoggingLogPayloads On\n</AITarget>\n</Location>\n";
}

# Always the same children, and room for those of before a restart; of prefork some more than clients: one may linger with a client that has left.
my $few = mpm() eq 'prefork'
    ? "StartServers 12\nMaxRequestWorkers 12\nServerLimit 12\nMaxSpareServers 12\n"
    : "StartServers 2\nServerLimit 8\nThreadsPerChild 8\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n";

sub server {
    return start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n${few}MaxKeepAliveRequests 0\n<Location /metrics>\nSetHandler ai-metrics\n</Location>\n" . join '', @_);
}

my %unanswered;

sub new_client { return client(port => port('SPARE_1')) }

# The metrics. A connection on which they come is done with all requests before: their lines are in the file, or wait for it.
sub metrics {
    my ($c) = @_;
    my $r = $c->get('/metrics');
    $r->{status} == 200 or die "metrics: status $r->{status}\n";
    return $r->{body};
}

sub dropped { my ($c) = @_; return metrics($c) =~ /^aiproxy_log_lines_dropped_total (\d+)/m ? $1 : die "no metric of dropped lines\n" }

# Requests of one client, each with a number of its own; returns the numbers.
sub ask {
    my ($c, $name, @bytes) = @_;
    my @numbers = map { $c->post("/$name", numbered($_))->{status} == 200 ? number() : die "no answer\n" } @bytes;
    metrics($c);
    return @numbers;
}

# Many clients at once; returns the numbers that were answered. MEANWHILE->(ROUND) is called while requests are under way;
# it may make httpd close connections.
sub at_once {
    my ($names, $rounds, $bytes, $meanwhile) = @_;
    my ($n, @clients, @numbers) = (0);
    for my $round (1 .. $rounds) {
        my @asked;
        for my $i (0 .. 7) {
            my $chat = numbered($bytes->[$n % @$bytes]);
            $asked[$i] = number();
            eval { ($clients[$i] //= new_client())->send_request('POST', "/$names->[++$n % @$names]", $chat) };
        }
        $meanwhile->($round) if $meanwhile;
        for my $i (0 .. 7) {
            my $r = eval { $clients[$i]->answer };
            if (($r->{status} // 0) == 200) {
                push @numbers, $asked[$i];
                next;
            }
            $meanwhile or die "no answer\n";
            $unanswered{$asked[$i]} = 1;
            undef $clients[$i];
        }
    }
    eval { metrics($_) } for grep {defined} @clients;
    return @numbers;
}

# The numbers in a file, in their order; what is no whole line stands for itself.
sub numbers {
    my ($name) = @_;
    my $file = log_of($name);
    return grep { !$unanswered{$_} } map { (/\n\z/ ? whole($_) : undef) // $_ } split /^/, -e $file ? slurp($file) : '';
}

# Each line is there once, and whole; but so many that are half.
sub have {
    my ($name, $what, $half, @wanted) = @_;
    eval { wait_until('all lines', sub { numbers($name) >= @wanted + $half }, 20) };
    my @got = numbers($name);
    my @half = grep { /\A\{"time":"/ && /\n\z/ && !/.\{"time":"/ } @got;
    is(scalar @half, $half, "$what: half lines") if $half;
    @half = () if !$half;
    my %half = map { $_ => 1 } @half;
    return is_deeply([sort { $a cmp $b } map { substr $_, 0, 200 } grep { !$half{$_} } @got], [sort { $a cmp $b } @wanted], "$what: each line once, and whole");
}

# ---- when a line is there ----
my $h = server("AIStatisticsLogBuffer 65536\n", gateway('plain', 0), gateway('of-server'), gateway('buffered', 65536), gateway('small', 8000), gateway('large', 400000),
    gateway('least', 4000, 'shared'), gateway('most', 65536, 'shared'), gateway('none', 0, 'shared'),
    "<Location /plain/in>\nAIStatisticsLogBuffer 65536\n</Location>\n");
my $c = new_client();
my @plain;
for my $n (1 .. 3) {
    push @plain, ask($c, 'plain', 20);
    is(scalar numbers('plain'), $n, 'without a buffer a line is there at once');
}
have('plain', 'without a buffer', 0, @plain);

# Not there at once, but soon. An answer that took long says nothing.
my %waits;
sub waits {
    my ($name, $bytes, $log, $what) = @_;
    my ($soon, $before);
    for (1 .. 20) {
        my $begin = time;
        push @{$waits{$log}}, ask($c, $name, $bytes);
        $before = numbers($log);
        $soon = time - $begin < 0.5;
        wait_until("$what: the line", sub { numbers($log) >= @{$waits{$log}} }, 5);
        last if $soon;
    }
    ok($soon && $before == @{$waits{$log}} - 1, "$what: a line waits for others");
    have($log, $what, 0, @{$waits{$log}});
    return;
}
waits('buffered', 20, 'buffered', 'with a buffer');
waits('of-server', 20, 'of-server', 'with the buffer of the server');
waits('buffered', 20, 'buffered', 'the next one');
waits('buffered', 50_000, 'buffered', 'a line that just fits');
$waits{plain} = [@plain];
waits('plain/in', 20, 'plain', 'with the buffer of an inner section');
waits('most', 10_000, 'shared', 'a log with several buffers');
for ([least => 10_000], [none => 20]) {
    push @{$waits{shared}}, ask($c, 'most', 20), ask($c, @$_);
    is_deeply([numbers('shared')], $waits{shared}, "a log with several buffers: a line of $_->[0] does not wait, nor what is before it");
}

# ---- lines that do not fit ----
my @small = ask($c, 'small', 20, 20, 20_000);
is_deeply([numbers('small')], [@small], 'a line longer than the buffer is there at once, after those that waited');
push @small, ask($c, 'small', 20, 3000, 3000, 6000, 3000, 20, 9000, 12_000);
is_deeply([numbers('small')], [@small], 'lines of one client keep their order');
push @small, at_once(['small'], 12, [20, 3000, 7000, 20_000, 500]);
have('small', 'many clients', 0, @small);
have('shared', 'many clients, several buffers', 0, @{$waits{shared}}, at_once([qw(least most none)], 12, [20, 30_000, 3000, 70_000, 500, 12_000]));
have('plain', 'many clients without a buffer', 0, @{$waits{plain}}, at_once(['plain'], 6, [20, 30_000, 500]));
have('large', 'many clients, long lines', 0, at_once(['large'], 20, [100_000, 20, 60_000, 500]));
is(dropped($c), 0, 'no line is dropped');
undef $c;
$h->stop;
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');

# ---- children that end ----
sub ends {
    my ($signal, $what, $rounds, $at) = @_;
    my $name = "ends-$signal";
    my $server = server(gateway($name, 1048576));
    # one child at least has lines that wait when it comes
    my @numbers = at_once([$name], $rounds, [20, 200], sub { kill $signal, $server->{pid} if $at && $_[0] == $at });
    cmp_ok(scalar @numbers, '>=', 8 * (($at // $rounds + 1) - 1), "$what: answers");
    return ($server, $name, @numbers);
}
($h, my ($name, @numbers)) = ends('USR1', 'graceful restart', 8, 4);
have($name, 'graceful restart', 0, @numbers);
wait_until('the new generation', sub { (() = $h->log =~ /resuming normal operations/g) >= 2 });
push @numbers, at_once([$name], 2, [20]);
have($name, 'after the restart', 0, @numbers);
$h->stop;
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');

($h, $name, @numbers) = ends('WINCH', 'graceful stop', 4, 4);
wait_until('the end of httpd', sub { !kill 0, $h->{pid} }, 20);
have($name, 'graceful stop', 0, @numbers);
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');

($h, $name, @numbers) = ends('TERM', 'stop', 4);
$h->stop;
have($name, 'stop', 0, @numbers);
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');

# ---- a full disk ----
# No file of httpd may become longer than that; undef: as long as they like.
sub limit_files {
    my ($bytes) = @_;
    for my $pid ($h->{pid}, children($h->{pid})) {
        my ($status, $out, $err) = run_command(['prlimit', '--pid', $pid, '--fsize=' . ($bytes // 'unlimited') . ':']);
        $status == 0 or die "prlimit: $out$err\n";
    }
    return;
}

# How often the log spoke of lines of a file that were dropped.
sub told {
    my ($file) = @_;
    return scalar(() = $h->log =~ /\[ai_proxy_adv:error\] .*AIP0051: cannot write to AIStatisticsLog \Q$file\E; lines are dropped, [1-9]\d* so far/g);
}

$h = server(gateway('full'), gateway('full-buffered', 65536));
for my $full (qw(full full-buffered)) {
    my $file = log_of($full);
    my $client = new_client(); # one connection, so one child
    my $before = dropped($client);
    my @there = ask($client, $full, 400_000, 20); # longer than all other files
    have($full, "$full, before", 0, @there);
    my $line = length((split /^/, slurp($file))[-1]);
    cmp_ok(-s "$h->{dir}/error_log", '<', 200_000, "$full: the error log has room");

    limit_files((-s $file) + int(1.5 * $line));
    push @there, ask($client, $full, 20);
    ask($client, $full, 20, 20);
    wait_until("$full: lines are dropped", sub { dropped($client) >= $before + 2 }, 5);
    is(dropped($client), $before + 2, "$full: one line does not fit, one has no room at all");
    is(told($file), 1, "$full: the log says so, once");
    limit_files(undef);
    push @there, ask($client, $full, 20, 200);
    have($full, "$full, after", 1, @there);

    limit_files(-s $file);
    ask($client, $full, 20);
    wait_until("$full: a line is dropped", sub { dropped($client) >= $before + 3 }, 5);
    limit_files(undef);
    push @there, ask($client, $full, 20);
    have($full, "$full between lines", 1, @there);
    is(dropped($client), $before + 3, "$full: the metric");
    is(told($file), 1, "$full: the log does not say so again within a minute");

    # what was half written when the server restarted
    limit_files((-s $file) + int(0.5 * $line));
    ask($client, $full, 20);
    wait_until("$full: a line is dropped", sub { dropped($client) >= $before + 4 }, 5);
    my $restarts = () = $h->log =~ /resuming normal operations/g;
    undef $client;
    kill 'USR1', $h->{pid};
    wait_until('the new generation', sub { (() = $h->log =~ /resuming normal operations/g) > $restarts });
    limit_files(undef);
    push @there, ask(new_client(), $full, 20, 200);
    have($full, "$full after a restart", 2, @there);

    # children that meet a half line at the same time
    my $prober = new_client();
    my $whole = sub { grep {/\A[^{\n]/} numbers($full) };
    for my $round (1 .. 5) {
        my ($lost, $known) = (dropped($prober), scalar $whole->());
        limit_files((-s $file) + int(2.5 * $line));
        my $sent = at_once([$full], 2, [20, 200]);
        wait_until("$full: lines are dropped", sub { dropped($prober) > $lost && dropped($prober) + $whole->() >= $lost + $known + $sent }, 5);
        limit_files(undef);
        $sent += at_once([$full], 2, [20, 200]);
        eval { wait_until('all lines', sub { dropped($prober) + $whole->() >= $lost + $known + $sent }, 5) };
        is(dropped($prober) - $lost + $whole->() - $known, $sent, "$full, many writers, $round: each line is whole, or was counted");
    }
    is_deeply([map { substr $_, 0, 200 } grep {/.\{"time":"/ || !/\n\z/} grep {/\A[{\n]/} numbers($full)], [], "$full, many writers: none behind a half one");
}
$h->stop;
is_deeply([$h->unexpected('AIP0051')], [], 'nothing unexpected in the log');
finish();
