#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# The algorithms of the balancer against a server of several children: shares, stability, what they compare and share.
use strict;
use warnings FATAL => 'all';
use List::Util qw(sum0);
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my %mock = map { ("t$_" => port("MOCK_$_")) } 1 .. 3;

sub target {
    my ($name, $mock, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\n"
        . "AIModelOptionsUpstreamUrl \"http://127.0.0.1:\${${mock}_PORT}/$name\"\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}

sub gateway {
    my ($path, $lines, @targets) = @_;
    return "<Location /$path>\nAIProxy On\n$lines" . join('', @targets) . "</Location>\n";
}

# Targets t1 .. tN with their weights.
sub targets { my @w = @_; return map { target("t$_", "MOCK_$_", "AIWeight $w[$_ - 1]", 'AIModelOptionsInputCost 10', 'AIModelOptionsOutputCost 1000') } 1 .. @w }

my $children = mpm() eq 'prefork' ? "StartServers 4\nServerLimit 8\nMaxRequestWorkers 8\n"
    : "StartServers 3\nServerLimit 3\nThreadsPerChild 8\nMaxRequestWorkers 24\nMinSpareThreads 1\nMaxSpareThreads 24\n";
my $embedder = "AIEmbeddingsModelProvider openai\nAIEmbeddingsModelName text-embedding-3-small\n"
    . 'AIEmbeddingsModelOptionsUpstreamUrl "http://127.0.0.1:${MOCK_EMBED_PORT}/v1/embeddings"' . "\nAIVectordbDimensions 64\n";
my $conf = 'Listen 127.0.0.1:${SPARE_2_PORT}' . "\n${children}KeepAlive Off\nAIBalancerReadTimeout 20000\nGracefulShutdownTimeout 5\n"
    . "<Location /status>\nSetHandler ai-status\n</Location>\n"
    . gateway('turn', '', targets(70, 25, 5))
    . gateway('hash', "AIBalancerAlgorithm consistent-hashing\nAIBalancerHashOnHeader X-User\nAIBalancerFailoverCriteria http_503\n", targets(100, 100, 100))
    . gateway('hash-weighted', "AIBalancerAlgorithm consistent-hashing\nAIBalancerHashOnHeader X-User\n", targets(300, 100, 100))
    . gateway('hash-less', "AIBalancerAlgorithm consistent-hashing\nAIBalancerHashOnHeader X-User\n", targets(100, 100))
    . gateway('hash-coarse', "AIBalancerAlgorithm consistent-hashing\nAIBalancerHashOnHeader X-User\nAIBalancerSlots 10\n", targets(100, 100, 100))
    . gateway('least', "AIBalancerAlgorithm least-connections\n", targets(100, 100, 200))
    . join('', map { gateway("usage-$_", "AIBalancerAlgorithm lowest-usage\nAIBalancerTokensCountStrategy $_\nAIBalancerUsageWindow 1500\n", targets(100, 100)) }
        qw(total-tokens prompt-tokens completion-tokens cost))
    . join('', map { gateway("failing-$_", "AIBalancerAlgorithm lowest-$_\n", targets(100, 100)) } qw(usage latency))
    . gateway('four', '', targets(100, 100, 100), target('t4', 'MOCK_EMBED'))
    . gateway('four-weighted', '', (targets(300, 100, 100))[0, 1, 2], target('t4', 'MOCK_EMBED', 'AIWeight 200'))
    . gateway('groups-out', "AIBalancerAlgorithm priority\n", targets(100, 100, 100), target('t4', 'MOCK_EMBED'))
    . gateway('ejected', "AIBalancerMaxFails 1\nAIBalancerFailTimeout 60000\nAIBalancerFailoverCriteria http_503\n", targets(100, 100, 100), target('t4', 'MOCK_EMBED'))
    . gateway('latency-out', "AIBalancerAlgorithm lowest-latency\nAIBalancerLatencyStrategy e2e\n", targets(100, 100, 100))
    . gateway('latency-e2e', "AIBalancerAlgorithm lowest-latency\nAIBalancerLatencyStrategy e2e\n", targets(100, 100, 100))
    . gateway('latency-tpot', "AIBalancerAlgorithm lowest-latency\n", targets(100, 100))
    . gateway('groups', "AIBalancerAlgorithm priority\nAIBalancerFailoverCriteria http_503\n", targets(200, 200, 100))
    . gateway('meaning-out', "AIBalancerAlgorithm semantic\n$embedder", target('near', 'MOCK_1', 'AIDescription "axis:0 1"'),
        target('next-1', 'MOCK_2', 'AIWeight 300', 'AIDescription "axis:1 1"'), target('next-2', 'MOCK_3', 'AIWeight 100', 'AIDescription "axis:1 1"'))
    . gateway('meaning', "AIBalancerAlgorithm semantic\nAIBalancerFailoverCriteria http_503\n$embedder",
        target('near-1', 'MOCK_1', 'AIWeight 300', 'AIDescription "axis:0 1"'), target('near-2', 'MOCK_2', 'AIWeight 100', 'AIDescription "axis:0 1"'),
        target('next', 'MOCK_3', 'AIDescription "axis:1 1"'), target('rest', 'MOCK_3', 'AIDescription CATCHALL'));
my $h = start_httpd($conf);

sub ask {
    my ($path, $body, @headers) = @_;
    my $r = client(port => port('SPARE_2'))->post("/$path", $body // chat('axis:0 0.7 axis:1 0.5'), @headers);
    is($r->{status}, 200, "$path: answered") if $r->{status} != 200;
    return $r->{body} =~ /"model": ?"([^"]+)"/ ? $1 : "status $r->{status}";
}

sub shares { my %n; $n{$_}++ for @_; return \%n }

sub state_of {
    my ($path, $name) = @_;
    my ($gateway) = grep { $_->{path} eq "/$path" } @{client(port => port('SPARE_2'))->get('/status')->json->{gateways}};
    my ($target) = grep { $_->{name} eq $name } @{$gateway->{targets}};
    return $target;
}

# Chi-square of counts against shares; 3 degrees of freedom or fewer: 16.3 is passed by chance once in a thousand.
sub fits {
    my ($got, $expected, $what) = @_;
    my $n = sum0(values %$got);
    my $all = sum0(values %$expected);
    my $chi = sum0(map { my $e = $n * $expected->{$_} / $all; (($got->{$_} // 0) - $e) ** 2 / $e } keys %$expected);
    cmp_ok($chi, '<', 16.3, $what) or diag(join ' ', map {"$_=" . ($got->{$_} // 0)} sort keys %$expected);
    return;
}

# ---- round-robin ----
mock_reset();
my @order = map { ask('turn') } 1 .. 40;
is_deeply(shares(@order), {t1 => 28, t2 => 10, t3 => 2}, 'by turn: two whole periods of 70/25/5, over all children');
is("@order[0 .. 19]", "@order[20 .. 39]", 'by turn: the same order each time');
cmp_ok(scalar(grep { $order[$_] ne $order[$_ - 1] } 1 .. 39), '>=', 20, 'by turn: no bursts');

# ---- consistent hashing ----
sub map_keys { my ($path) = @_; return {map { ("user-$_" => ask($path, undef, 'X-User' => "user-$_")) } 1 .. 240} }
my $map = map_keys('hash');
is_deeply(map_keys('hash'), $map, 'hash: a key keeps its target');
fits(shares(values %$map), {t1 => 1, t2 => 1, t3 => 1}, 'hash: equal shares');
fits(shares(values %{map_keys('hash-weighted')}), {t1 => 3, t2 => 1, t3 => 1}, 'hash: shares by weight');
my $less = map_keys('hash-less');
is_deeply({map { ($_ => $less->{$_}) } grep { $map->{$_} ne 't3' } keys %$map}, {map { ($_ => $map->{$_}) } grep { $map->{$_} ne 't3' } keys %$map},
    'hash: without t3 only its keys move');
fits(shares(map { $less->{$_} } grep { $map->{$_} eq 't3' } keys %$map), {t1 => 1, t2 => 1}, 'hash: to the others alike');
mock_behave({port => $mock{t2}, times => -1, do => {status => 503}});
my $failing = map_keys('hash');
is_deeply({map { ($_ => $failing->{$_}) } grep { $map->{$_} ne 't2' } keys %$map}, {map { ($_ => $map->{$_}) } grep { $map->{$_} ne 't2' } keys %$map},
    'hash: when t2 fails only its keys move');
mock_reset();
is_deeply(map_keys('hash'), $map, 'hash: and they come back');
is_deeply(shares(map { ask('hash') } 1 .. 9), {t1 => 3, t2 => 3, t3 => 3}, 'hash: without the header by turn');
my $coarse = map_keys('hash-coarse');
cmp_ok(scalar(keys %{shares(values %$coarse)}), '<=', 3, 'hash: ten slots');
isnt(join(' ', map { $coarse->{$_} } sort keys %$coarse), join(' ', map { $map->{$_} } sort keys %$map), 'hash: are coarser than 10 000');

# ---- least connections ----
# Requests that wait at their target; each client has a connection of its own, so that all children take part.
sub hold {
    my ($path, $n) = @_;
    my @held;
    for (1 .. $n) {
        my $c = client(port => port('SPARE_2'));
        $c->send_request('POST', $path, chat('hello'));
        push @held, $c;
        mock_wait('request', count => scalar @held);
    }
    return @held;
}

sub in_flight { my ($path) = @_; return join ' ', map { state_of($path, "t$_")->{in_flight} } 1 .. 3 }

mock_reset();
mock_behave({times => -1, do => {delay_ms => 3000}});
my @held = hold('/least', mpm() eq 'prefork' ? 4 : 8);
is(in_flight('least'), mpm() eq 'prefork' ? '1 1 2' : '2 2 4', 'least connections: in flight by weight, over all children');
is($_->answer->{status}, 200, 'least connections: answered') for @held;
wait_until('nothing in flight', sub { in_flight('least') eq '0 0 0' });
pass('least connections: the counts fall again');
mock_reset();
mock_behave({times => -1, do => {hang => $true}});
@held = hold('/least', 4);
is(in_flight('least'), '1 1 2', 'least connections: clients that will leave');
$_->close for @held;
wait_until('nothing in flight', sub { in_flight('least') eq '0 0 0' }, 3);
pass('least connections: are counted no more');
mock_reset();
mock_behave({port => $mock{t3}, times => -1, do => {delay_ms => 800}});
ask('least') for 1 .. 4;
mock_reset();

# a child that is killed holds nothing any more
if (mpm() ne 'prefork') {
    mock_behave({times => -1, do => {hang => $true}});
    @held = hold('/least', 4);
    is(in_flight('least'), '1 1 2', 'least connections: requests of children that will be killed');
    my @pids = split ' ', `ps -o pid= --ppid $h->{pid}`;
    kill 'KILL', @pids;
    wait_until('nothing in flight', sub { (eval { in_flight('least') } // '') eq '0 0 0' }, 15);
    pass('least connections: a killed child has nothing in flight');
    $_->close for @held;
}
mock_reset();

# ---- lowest usage ----
my %usage = ( # t1 uses more of this, less of all others
    'total-tokens'      => [{prompt_tokens => 1, completion_tokens => 1, total_tokens => 900}, {prompt_tokens => 80, completion_tokens => 80, total_tokens => 160}],
    'prompt-tokens'     => [{prompt_tokens => 500, completion_tokens => 1, total_tokens => 1}, {prompt_tokens => 5, completion_tokens => 500, total_tokens => 505}],
    'completion-tokens' => [{prompt_tokens => 1, completion_tokens => 500, total_tokens => 1}, {prompt_tokens => 500, completion_tokens => 5, total_tokens => 505}],
    'cost'              => [{prompt_tokens => 1, completion_tokens => 100, total_tokens => 101}, {prompt_tokens => 900, completion_tokens => 1, total_tokens => 901}],
);
for my $kind (sort keys %usage) {
    for my $stream (0, 1) {
        mock_reset();
        mock_behave(map { {port => $mock{"t$_"}, times => -1, do => {usage => $usage{$kind}[$_ - 1]}} } 1, 2);
        my @got = map { ask("usage-$kind", $stream ? chat('hello', stream => $true) : undef) } 1 .. 12;
        my $n = shares(@got);
        cmp_ok($n->{t2}, '>=', 9, "lowest usage, $kind, stream $stream: most go where less is used") or diag("@got");
        cmp_ok($n->{t1} // 0, '>=', $stream ? 0 : 1, "lowest usage, $kind, stream $stream: the other one was tried");
    }
}
my $r = client(port => port('SPARE_2'))->post('/usage-cost', chat('hello', stream => $true));
is(scalar(grep {/"usage": ?\{/} stream_events($r->{body})), 0, 'lowest usage: the event with usage is not shown to a client that did not ask');
ok((grep { $_->{body} && from_json($_->{body})->{stream_options}{include_usage} } mock_requests()), 'lowest usage: though it was asked for');
mock_reset();
cmp_ok(state_of('usage-cost', 't1')->{usage}{completion_tokens}, '>', 20, 'lowest usage: what was used is known');
wait_until('usage has faded', sub { state_of('usage-cost', 't1')->{usage}{completion_tokens} < 10 }, 15);
pass('lowest usage: and fades');

# ---- lowest latency ----
mock_behave({port => $mock{t1}, times => -1, do => {delay_ms => 120}}, {port => $mock{t3}, times => -1, do => {delay_ms => 60}});
my @got = map { ask('latency-e2e') } 1 .. 60;
is_deeply([sort @got[0 .. 2]], [qw(t1 t2 t3)], 'lowest latency: those that were never measured are tried first');
cmp_ok(shares(@got)->{t2}, '>=', 54, 'lowest latency, e2e: nearly all go to the fastest');
cmp_ok(scalar(grep { $_ ne 't2' } @got[3 .. 59]), '>=', 1, 'lowest latency: a slow one is tried again');
mock_reset();
mock_behave({port => $mock{t2}, times => -1, do => {delay_ms => 300}});
@got = map { ask('latency-e2e') } 1 .. 20;
is(ask('latency-e2e') eq 't2' ? 1 : 0, 0, 'lowest latency: a target that has become slow is left');
mock_reset();
mock_behave({port => $mock{t1}, times => -1, do => {delay_ms => 60, usage => {prompt_tokens => 1, completion_tokens => 600, total_tokens => 601}}},
    {port => $mock{t2}, times => -1, do => {delay_ms => 20, usage => {prompt_tokens => 1, completion_tokens => 2, total_tokens => 3}}});
@got = map { ask('latency-tpot') } 1 .. 30;
cmp_ok(shares(@got)->{t1}, '>=', 27, 'lowest latency, tpot: the time per token counts, not the whole');
mock_reset();

# ---- priority ----
is_deeply(shares(map { ask('groups') } 1 .. 10), {t1 => 5, t2 => 5}, 'priority: the heaviest group, by turn');
mock_behave({port => $mock{t1}, times => -1, do => {status => 503}});
is_deeply(shares(map { ask('groups') } 1 .. 6), {t2 => 6}, 'priority: one member fails: the other one');
mock_behave({port => $mock{t2}, times => -1, do => {status => 503}});
is_deeply(shares(map { ask('groups') } 1 .. 6), {t3 => 6}, 'priority: both fail: the next group');
mock_reset();

# ---- semantic ----
is_deeply(shares(map { ask('meaning') } 1 .. 8), {'near-1' => 6, 'near-2' => 2}, 'semantic: the nearest route, its members by weight');
mock_behave({port => $mock{t1}, times => -1, do => {status => 503}});
is_deeply(shares(map { ask('meaning') } 1 .. 8), {'near-2' => 8}, 'semantic: a member fails: the other one');
mock_behave({port => $mock{t2}, times => -1, do => {status => 503}});
is_deeply(shares(map { ask('meaning') } 1 .. 4), {next => 4}, 'semantic: the route fails: the next one');
mock_reset();

# ---- targets that are out of service ----
sub drain {
    my ($path, $name) = @_;
    my $r = client(port => port('SPARE_2'))->post('/status', {path => "/$path", target => $name, action => 'drain'});
    is($r->{status}, 200, "$path: $name is drained");
    return;
}

# Their turns are shared by the others, by weight; three requests more or less are allowed.
sub shared {
    my ($path, $n, %want) = @_;
    my $got = shares(map { ask($path) } 1 .. $n);
    is(join(' ', sort keys %$got), join(' ', sort keys %want), "$path: who answers");
    cmp_ok(abs($got->{$_} - $want{$_}), '<=', 3, "$path: the share of $_ is $want{$_}") or diag("$got->{$_}") for sort keys %want;
    return;
}

drain('four', 't2');
shared('four', 300, t1 => 100, t3 => 100, t4 => 100);
drain('four', 't3');
shared('four', 300, t1 => 150, t4 => 150);
drain('four-weighted', 't2');
shared('four-weighted', 300, t1 => 150, t3 => 50, t4 => 100);
drain('groups-out', 't1');
shared('groups-out', 300, t2 => 100, t3 => 100, t4 => 100);
mock_behave({port => $mock{t1}, times => 1, do => {status => 503}});
wait_until('an ejection', sub { ask('ejected'); state_of('ejected', 't1')->{availability} eq 'ejected' });
shared('ejected', 300, t2 => 100, t3 => 100, t4 => 100);
drain('meaning-out', 'near');
shared('meaning-out', 80, 'next-1' => 60, 'next-2' => 20);
mock_reset();

# a slow target is probed all the same
mock_behave({port => $mock{t2}, times => -1, do => {delay_ms => 30}}, {port => $mock{t3}, times => -1, do => {delay_ms => 5}});
ask('latency-out') for 1 .. 6; # all are measured
drain('latency-out', 't3');
my $probed = state_of('latency-out', 't2')->{attempts};
ask('latency-out') for 1 .. 150;
cmp_ok(state_of('latency-out', 't2')->{attempts} - $probed, '>=', 2, 'lowest latency: a slow one is probed while another is out of service');
mock_reset();

# a target that only gives errors does not draw the requests
for my $how (qw(usage latency)) {
    for my $status (401, 404, 500) {
        mock_reset();
        mock_behave({port => $mock{t1}, times => -1, do => {status => $status}});
        my $errors = grep { client(port => port('SPARE_2'))->post("/failing-$how", chat('hello'))->{status} == $status } 1 .. 100;
        cmp_ok($errors, '<=', 6, "lowest $how: an answer of $status draws no more of them");
    }
}
mock_reset();

# ---- what survives a graceful restart ----
mock_behave({times => -1, do => {delay_ms => 1500}});
@held = hold('/least', 2);
my $before = state_of('least', 't3');
my $changed = AIPTest::slurp("$h->{dir}/httpd.conf") =~ s{(<Location /turn>.*?_PORT\})/t1"}{$1/other"}sr;
my $turn = state_of('turn', 't1');
AIPTest::Setup::write_file("$h->{dir}/httpd.conf", $changed);
kill 'USR1', $h->{pid};
wait_until('the new generation', sub { my $s = eval { state_of('turn', 't1') }; $s && $s->{attempts} == 0 }, 20);
is(state_of('turn', 't2')->{attempts}, 10, 'graceful restart: the state of a target that stayed the same stays');
cmp_ok($turn->{attempts}, '>', 0, 'graceful restart: one with another URL starts afresh');
is(state_of('least', 't3')->{attempts}, $before->{attempts}, 'graceful restart: of another gateway, too');
is($_->answer->{status}, 200, 'graceful restart: requests in flight are finished') for @held;
wait_until('nothing in flight', sub { in_flight('least') eq '0 0 0' });
pass('graceful restart: and counted off by the old children');
mock_reset();

$h->stop;
is_deeply([grep { !/AH00052|exit signal Killed/ } $h->unexpected('AIP0025')], [], 'nothing unexpected in the log');
finish();
