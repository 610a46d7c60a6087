#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Export of spans when things go wrong: a collector that refuses, is busy, slow, dead or hangs; more spans than can be sent;
# restarts. Requests never wait for it, and what is dropped is said.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;
use AIPTest::ConnectProxy;
use AIPTest::Otlp;

mock_reset();
my $collector = AIPTest::Otlp->new(port => port('SPARE_2'));

sub conf {
    my (@lines) = @_;
    return join "\n", 'Listen 127.0.0.1:${SPARE_1_PORT}', 'Listen 127.0.0.1:${SPARE_4_PORT}', 'StartServers 1', 'AITraces export', "AITracesEndpoint ${\$collector->url}", @lines, <<"CONF";
<IfModule !mpm_prefork_module>
ServerLimit 6
ThreadsPerChild 8
MinSpareThreads 1
MaxSpareThreads 8
MaxRequestWorkers 48
</IfModule>
<IfModule mpm_prefork_module>
MinSpareServers 1
MaxSpareServers 1
</IfModule>
<Location /x>
AIProxy On
<AITarget a>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName a
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
</AITarget>
</Location>
<VirtualHost 127.0.0.1:\${SPARE_4_PORT}>
ServerName off
AITraces off
</VirtualHost>
CONF
}

my $h;
sub restart_with {
    $h->stop if $h;
    is_deeply([$h->unexpected('AIP0330')], [], 'nothing unexpected in its log') if $h;
    $collector->mode('ok');
    $collector->forget;
    $h = start_httpd(conf(@_));
    return;
}

# COUNT requests over one connection; how long they took.
sub ask {
    my ($count, $port) = @_;
    my $c = client(port => port($port //= 'SPARE_1'));
    my $begin = time;
    for (1 .. $count) {
        my $r = $c->post('/x', chat('hello'));
        $r->{status} == 200 or die "status $r->{status}\n";
        $c = client(port => port($port)) if ($r->header('Connection') // '') =~ /close/i;
    }
    return time - $begin;
}

sub said { my ($pattern) = @_; return wait_until("a log line $pattern", sub { $h->log =~ /(AIP0330: .*$pattern.*)/ ? $1 : undef }, 15) }

# Processes of the children, the threads' leader each.
sub children {
    my @found;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my $text = eval { slurp($stat) } // next;
        push @found, $1 if $text =~ /^(\d+) \(.*\) \S (\d+) /s && $2 == $h->{pid};
    }
    return @found;
}

sub gone {
    my (@pids) = @_;
    my $begin = time;
    wait_until('the end of the old children', sub { !grep { -e "/proc/$_" } @pids }, 20);
    return time - $begin;
}

# ---- batches, a busy collector ----
restart_with('AITracesFlushInterval 200');
ask(20);
my @spans = $collector->wait_spans(40);
cmp_ok(scalar(my @seen = $collector->seen), '<=', 8, 'the spans of 20 requests go in few exports');
is(scalar @spans, 40, 'all of them, each once');

# What ends while a batch is under way waits for the interval, too.
restart_with('AITracesFlushInterval 1000');
$collector->mode('slow:0.1:200');
my ($until, $asked) = (time + 2.5, 0);
while (time < $until) {
    ask(1);
    $asked++;
    select undef, undef, undef, 0.02;
}
wait_until('all spans', sub { 2 * $asked == map { @{$_->{spans}} } @seen = $collector->seen });
cmp_ok(scalar @seen, '<=', 5, "spans of $asked requests in two and a half seconds: one export a second");
cmp_ok($asked, '>', 10, 'which came all the time');

restart_with('AITracesFlushInterval 200');
for my $answer ('503:1', '429', '502', '504') {
    $collector->forget;
    $collector->mode($answer, 'ok');
    ask(1);
    my ($first, $second) = $collector->wait_seen(2);
    is("$first->{status} $second->{status}", $answer =~ s/:.*//r . ' 200', "$answer: sent again");
    is_deeply([map { $_->{span} } @{$second->{spans}}], [map { $_->{span} } @{$first->{spans}}], "$answer: the same spans");
    cmp_ok($second->{at} - $first->{at}, '>=', 0.9, "$answer: not before the collector wants it") if $answer =~ /:/;
}
unlike($h->log, qr/AIP0330/, 'and nothing to complain of');
$collector->forget;
$collector->mode('400', 'ok');
ask(1);
$collector->wait_seen(1);
like(said('status 400'), qr/so far 2 could not be exported, 0 found/, '400: dropped, and said');
ask(1);
@seen = $collector->wait_seen(2);
is(scalar(@{$seen[1]{spans}}), 2, '400: not sent again');
$collector->mode('400');
ask(1);
$collector->wait_seen(3);
$collector->mode('ok');
ask(1);
$collector->wait_seen(4);
is(scalar(() = $h->log =~ /AIP0330/g), 1, 'the log says so once a minute');
restart_with('AITracesFlushInterval 50');
$collector->mode('partial:1', 'ok');
ask(1);
like(said('refused 1 of 2'), qr/: not these; so far 1 could not/, 'partial success: what the collector refused is counted');

# ---- it does not answer ----
restart_with('AITracesFlushInterval 20', 'AITracesTimeout 30000');
ask(50); # everything is warm
my (@well, @badly);
$collector->mode('hang');
ask(1);
wait_until('an export that hangs', sub { grep { $_->{status} == 0 } $collector->seen });
for (1 .. 7) {
    push @well,  ask(60, 'SPARE_4');
    push @badly, ask(60);
}
my ($well, $badly) = map { (sort { $a <=> $b } @$_)[3] } \@well, \@badly;
cmp_ok($badly / $well, '<', 2, sprintf 'a collector that hangs does not slow requests: %.0f us each without traces, %.0f with', 1e6 * $well / 60, 1e6 * $badly / 60);

# ---- and does not hold up a restart, nor the end ----
my @old = children();
$collector->forget;
$h->graceful;
ok(client(port => port('SPARE_1'))->post('/x', chat('x'))->{status} == 200, 'hangs: the new child serves');
cmp_ok(gone(@old), '<', 4, 'hangs: the old child is gone soon');
$collector->wait_seen(1); # that of the new child
my $begin = time;
$h->stop;
cmp_ok(time - $begin, '<', 5, 'hangs: the server stops soon');
is_deeply([$h->deaths], [], 'hangs: without force');

# ---- a full queue ----
restart_with('AITracesFlushInterval 20', 'AITracesQueueSize 4');
$collector->mode('slow:3:200', 'ok');
ask(1);
$collector->wait_seen(1);
my $took = ask(40);
cmp_ok($took, '<', 2.8, 'a full queue: requests are answered as ever');
my ($dropped) = said('faster than') =~ /, (\d+) found the queue full/;
is($dropped, 72, 'a full queue: four wait, the spans of the others are dropped and counted');
$collector->wait_seen(2);
is(scalar(map { @{$_->{spans}} } ($collector->seen)[1]), 8, 'a full queue: those that waited are sent');
$collector->forget;
ask(1);
$collector->wait_spans(2);

# ---- nobody listens ----
restart_with("AITracesEndpoint ${\url('DEAD', '/v1/traces')}", 'AITracesFlushInterval 20');
($took) = sort { $a <=> $b } map { ask(60) } 1 .. 3; # the quickest: others may use the machine for a moment
cmp_ok($took / $well, '<', 4, 'a dead collector does not slow requests');
@old = children();
ask(3);
$h->graceful;
cmp_ok(gone(@old), '<', 4, 'a dead collector: the old child is gone soon');
like(said('could not be exported'), qr/connect to server; so far \d+ could not/, 'a dead collector: said');

# ---- what waits is sent at the end ----
restart_with('AITracesFlushInterval 3600000');
ask(3);
is(scalar $collector->seen, 0, 'a long interval: nothing is sent yet');
@old = children();
$h->graceful;
is(scalar(my @flushed = $collector->wait_spans(6)), 6, 'a graceful restart: sent');
cmp_ok(gone(@old), '<', 4, 'a graceful restart: in short time');
ask(2);
$h->stop;
is(scalar(@flushed = $collector->wait_spans(10)), 10, 'stopped: sent');
is_deeply([$h->deaths], [], 'stopped without force');

# ---- egress ----
my $proxy = AIPTest::ConnectProxy->new(port => port('SPARE_3'), auth => 'user:password');
restart_with('AITracesFlushInterval 20', "AIEgressProxy ${\url('SPARE_3', '')}", 'AIEgressProxyAuth user:password', 'AIEgressNoProxy none.invalid');
ask(1);
$collector->wait_spans(2);
ok((grep { $_->{authority} eq '127.0.0.1:' . port('SPARE_2') } $proxy->seen), 'exports go through AIEgressProxy');
restart_with('AITracesEndpoint http://169.254.169.254/v1/traces', 'AITracesFlushInterval 20');
ask(1);
like(said('AIEgressAllow does not name'), qr/a metadata service/, 'no export to a metadata address');
$h->stop;
is_deeply([$h->unexpected('AIP0330')], [], 'nothing unexpected in the last log');
mock_reset();
finish();
