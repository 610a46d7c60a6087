#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# AIStatisticsLog into programs: all that CustomLog takes, whole lines whatever happens, and nobody who waits for a program
# that does not read.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Numbered;
use POSIX ();
use Time::HiRes qw(time);

my $mock  = port('MOCK_1');
my $state = "$AIPTest::Setup::t/state";

sub gateway {
    my ($path, $log, @lines) = @_;
    return "<Location $path>\nAIProxy On\nAIStatisticsLog \"$log\"\nAIMaxRequestBodySize 0\n" . join('', map {"$_\n"} @lines)
        . "<AITarget t>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\n"
        . "AIModelOptionsUpstreamUrl \"http://127.0.0.1:\${MOCK_1_PORT}/v1/chat/completions\"\nAILoggingLogStatistics On\nAILoggingLogPayloads On\n</AITarget>\n</Location>\n";
}

my %unanswered;

# A request whose line has a number of its own.
sub ask {
    my ($path, $bytes) = @_;
    my $r = client(port => port('SPARE_1'))->post($path, numbered($bytes));
    $r->{status} == 200 or die "status $r->{status}\n";
    return number();
}

# The numbers of the lines of files, in their order; dies where one is not whole.
sub numbers {
    my @numbers;
    for my $file (@_) {
        for my $line (split /\n/, -e $file ? slurp($file) : '') {
            my $got = whole($line) // die "no line: " . substr($line, 0, 200) . "\n";
            push @numbers, grep { !$unanswered{$_} } $got;
        }
    }
    return @numbers;
}

sub have {
    my ($files, @wanted) = @_;
    eval { wait_until('all lines', sub { my @got = eval { numbers(glob $files) }; @got >= @wanted }, 20) };
    my @got = eval { numbers(glob $files) } or diag($@);
    return is_deeply([sort { $a <=> $b } @got], [@wanted], "$files: each line once, and whole");
}

# Many clients at once; returns the numbers.
sub at_once {
    my ($path, $clients, $rounds, $bytes) = @_;
    my @clients = map { client(port => port('SPARE_1')) } 1 .. $clients;
    my @numbers;
    for my $round (1 .. $rounds) {
        for my $c (@clients) {
            $c->send_request('POST', $path, numbered($bytes));
            push @numbers, number();
        }
        $_->answer->{status} == 200 or die "no answer\n" for @clients;
    }
    return @numbers;
}

# ---- what CustomLog takes ----
my $few = mpm() eq 'prefork' # always the same children, and some more than clients: one may linger with a client that has left
    ? "StartServers 12\nMaxRequestWorkers 12\nServerLimit 12\nMaxSpareServers 12\n"
    : "StartServers 2\nServerLimit 2\nThreadsPerChild 8\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n";
my $reader = "$state/reader.pl";
AIPTest::Setup::write_file($reader, <<'READER');
# Writes its process id, then copies lines to a file as they come.
$| = 1;
my ($pid, $out) = @ARGV;
open my $file, '>>', $out or die; $file->autoflush;
open my $p, '>', "$pid.new" or die; print {$p} $$; close $p; rename "$pid.new", $pid;
while (sysread STDIN, my $some, 65536) { print {$file} $some }
READER
my $lazy = "$state/lazy.pl";
AIPTest::Setup::write_file($lazy, <<'READER');
# Like rotatelogs: what one read of 64 KiB gives goes to one file. Slower than those who write.
use Time::HiRes;
open my $file, '>>', $ARGV[0] or die; $file->autoflush;
while (sysread STDIN, my $some, 65536) { print {$file} $some =~ /\n\z/ ? $some : "$some\na line was cut\n"; Time::HiRes::sleep(0.02) }
READER
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$few"
    . gateway('/plain', "|/usr/bin/tee -a $state/pipe.plain") . gateway('/bars', "||/usr/bin/tee -a $state/pipe.bars")
    . gateway('/shell', "|\$sed 's/^{/{/' >$state/pipe.shell && echo 'the end' >$state/pipe.end")
    . gateway('/rotated', "|/usr/bin/rotatelogs $state/rotated 20K")
    . gateway('/lazy', "|/usr/bin/perl $lazy $state/pipe.lazy")
    . gateway('/reader', "|/usr/bin/perl $reader $state/reader.pid $state/pipe.reader"));
for my $kind (qw(plain bars)) {
    have("$state/pipe.$kind", map { ask("/$kind", 20) } 1 .. 3);
}

# ---- a line is in the pipe as a whole or not at all, even if it is full ----
have("$state/pipe.lazy", at_once('/lazy', 8, 12, 4000));

# ---- rotatelogs, many clients, a graceful restart in between ----
my @numbers = at_once('/rotated', 8, 6, 3000);
my $pid = fork // die "fork: $!\n";
if (!$pid) {
    select undef, undef, undef, 0.02;
    kill 'USR1', $h->{pid};
    POSIX::_exit(0);
}
for (1 .. 40) { # httpd may close a connection on which no request has come yet
    my @number = eval { at_once('/rotated', 1, 1, 8000) };
    @number ? push @numbers, @number : $unanswered{number()}++;
}
waitpid $pid, 0;
wait_until('the new generation', sub { (() = $h->log =~ /resuming normal operations/g) >= 2 });
push @numbers, at_once('/rotated', 8, 6, 500);
# Its names are seconds: go on until there have been several.
wait_until('several files', sub { push @numbers, at_once('/rotated', 8, 1, 3000); @{[glob "$state/rotated.*"]} > 2 });
have("$state/rotated.*", @numbers);

# ---- a program that ends is started again, and what is in the pipe waits for it ----
wait_until('the reader', sub { -s "$state/reader.pid" });
my @read = map { ask('/reader', 20) } 1 .. 3;
have("$state/pipe.reader", @read);
my $old = slurp("$state/reader.pid");
kill 'KILL', $old;
push @read, map { ask('/reader', 20) } 1 .. 3;
wait_until('another reader', sub { slurp("$state/reader.pid") != $old }, 20);
have("$state/pipe.reader", @read);
like($h->log, qr/AIP0312: the program of AIStatisticsLog, .*reader.pl.* ended with status 9; started again/, 'the log says so');

# ---- one that does not read ----
my $stuck = slurp("$state/reader.pid");
kill 'STOP', $stuck;
my ($slowest, @waiting) = (0);
for (1 .. 14) { # 0.8 MB of lines: far more than a pipe holds, and less than waits in memory
    my $before = time;
    push @waiting, ask('/reader', 60_000);
    $slowest = time - $before if time - $before > $slowest;
}
cmp_ok($slowest, '<', 1, 'a stuck program delays no answer');
have("$state/pipe.plain", 1 .. 3, ask('/plain', 20)); # another log goes on
kill 'CONT', $stuck;
push @waiting, ask('/reader', 20);
have("$state/pipe.reader", @read, @waiting);

# ---- more than fits is dropped, and counted ----
kill 'STOP', $stuck;
my $dropping = qr/\[ai_proxy_adv:warn\] .*AIP0310: AIStatisticsLog \|.*reader.pl.*: the program does not read fast enough; lines are dropped, (\d+) so far/;
my ($so_far) = wait_until('lines are dropped', sub { at_once('/reader', 8, 2, 60_000); $h->log =~ $dropping && $1 }, 30);
cmp_ok($so_far, '>=', 1, 'what does not fit is dropped, and the log says so');
is(scalar(() = $h->log =~ /AIP0310/g), 1, 'once');

# ---- a graceful stop while it is stuck ----
my $before = time;
kill 'WINCH', $h->{pid};
wait_until('the end of httpd', sub { !kill 0, $h->{pid} }, 20);
cmp_ok(time - $before, '<', 12, 'a graceful stop does not wait for it');
$h->{stopped_at} = length $h->log;
kill 'CONT', $stuck;
wait_until('the end of the reader', sub { !kill 0, $stuck });
my $text = slurp("$state/pipe.reader");
my @broken = grep { !whole($_) } split /\n/, $text;
cmp_ok(scalar @broken, '<=', 1, 'at most the line in which the server ended is not whole');
like($h->log, qr/AIP0310: AIStatisticsLog \|.*: a child ended while the program did not read; lines are dropped, \d+ so far/, 'the log says what was lost');
wait_until('the end of the shell', sub { -s "$state/pipe.end" });
is(slurp("$state/pipe.shell"), '', 'a program in a shell has read to its end');
is_deeply([$h->unexpected(qw(AIP0310 AIP0312 AH00488))], [], 'nothing unexpected in the log');

# ---- a FIFO, and what cannot be started ----
POSIX::mkfifo("$state/fifo", 0600) or die "$!\n";
my $cat = fork // die "fork: $!\n";
if (!$cat) { # open for writing, too: httpd closes it while it starts
    open STDIN, '+<', "$state/fifo" or POSIX::_exit(1);
    open STDOUT, '>', "$state/pipe.fifo" or POSIX::_exit(1);
    exec '/bin/cat' or POSIX::_exit(1);
}
AIPTest::at_end(sub { kill 'TERM', $cat and waitpid $cat, 0 });
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$few" . gateway('/fifo', "$state/fifo"));
have("$state/pipe.fifo", at_once('/fifo', 4, 4, 20_000));
$h->stop;
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');
eval { start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n" . gateway('/none', '|/nonexistent/program')) };
like($@, qr/AIP005|AIP0311|does not start/, 'a program that is not there: the server does not start');
finish();
