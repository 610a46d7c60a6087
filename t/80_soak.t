#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: full
# Mixed traffic for AIP_SOAK_SECONDS (120) while targets, Redis, embedder and vault die and come back, httpd restarts
# gracefully, clients read slowly or leave: nothing crashes, leaks, hangs, is lost or sent twice, and the statistics log has
# each request once. After 40 % of the time no restart comes any more; the children's memory is compared from 60 % on. The
# choice of faults and requests depends on AIP_SOAK_SEED, which is printed.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;
use AIPTest::Process;
use AIPTest::Vault;

my $seconds = $ENV{AIP_SOAK_SECONDS} || 120;
my $seed    = $ENV{AIP_SOAK_SEED} || time % 100_000_000;
my $clients = 28;
# What a child may gain once it is warm. A child of a short run is young, and its allocator still grows; in 1800 s a leak of 600
# bytes a request shows.
my $growth_kib = ($seconds < 600 ? 40 : 16) * 1024;
my $true    = JSON::PP::true;
srand $seed;
diag("AIP_SOAK_SEED=$seed, $seconds s, $clients clients");

my $dir = "$AIPTest::Setup::t/state/soak.$$";
mkdir $dir or die "$dir: $!\n";
my $log    = "$dir/statistics.log";
my $redis  = port('SPARE_5');
my $vault  = AIPTest::Vault->start;
my $secret = sub { $vault->write('soak', {key => 'soak-secret'}) };
$secret->();
start_redis($redis);

# ---- the server ----

sub target {
    my ($name, $port, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelOptionsUpstreamUrl http://127.0.0.1:\${${port}_PORT}/v1/chat/completions\n"
        . "AILoggingLogStatistics On\nAIModelOptionsInputCost 0.15\nAIModelOptionsOutputCost 0.6\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}

sub three { return join '', map { target("t$_", "MOCK_$_") } @_ }

my %gateway = (
    turn   => "AIBalancerMaxFails 3\nAIBalancerFailTimeout 500\n" . three(1, 2, 3),
    again  => "AIBalancerFailoverCriteria error timeout invalid_header http_429 http_500 http_503 non_idempotent\nAIBalancerCooldownMax 0\n" . three(2, 3, 5),
    least  => "AIBalancerAlgorithm least-connections\n" . three(1, 2, 4),
    fast   => "AIBalancerAlgorithm lowest-latency\n" . three(2, 3, 4),
    shared => "AIBalancerAlgorithm lowest-usage\nAIBalancerShared redis\nAIVectordbRedisPort $redis\n" . three(1, 3, 4),
    meaning => "AIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider local\nAIEmbeddingsModelName \"" . top_dir() . "/share/embedder/aip-static-en-v1\"\n"
        . "AIVectordbThreshold 0.8\nAIRouteCache shmcb\n"
        . target('code', 'MOCK_1', 'AIDescription "programming, debugging, source code"') . target('rest', 'MOCK_2', 'AIDescription CATCHALL'),
    redis => "AIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider openai\nAIEmbeddingsModelName text-embedding-3-small\n"
        . "AIEmbeddingsModelOptionsUpstreamUrl http://127.0.0.1:\${MOCK_EMBED_PORT}/embeddings\nAIEmbeddingsTimeout 500\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbDimensions 64\n"
        . "AIVectordbThreshold 0.5\nAIVectordbRedisPort $redis\nAIVectordbRedisConnectTimeout 300\nAIVectordbRedisReadTimeout 300\nAIRouteCache redis:127.0.0.1:$redis\n"
        . target('zero', 'MOCK_3', 'AIDescription "axis:0 1"') . target('one', 'MOCK_4', 'AIDescription "axis:1 1"') . target('rest', 'MOCK_5', 'AIDescription CATCHALL'),
    vault => target('kept', 'MOCK_5', 'AIAuthHeaderName X-Soak-Key', 'AIAuthHeaderValue {vault://soak/soak/key}'),
);
my $sizes = mpm() eq 'prefork'
    ? "StartServers 40\nMinSpareServers 40\nMaxSpareServers 60\nServerLimit 120\nMaxRequestWorkers 60\n"
    : "StartServers 2\nServerLimit 8\nThreadsPerChild 32\nMaxRequestWorkers 64\nMinSpareThreads 30\nMaxSpareThreads 64\n";
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$sizes"
        . "MaxMemFree 256\nMaxKeepAliveRequests 0\nLogLevel ai_proxy_adv:info\nKeepAliveTimeout 30\nTimeout 10\nAIStatisticsLog $log\nAIMaxRequestBodySize 262144\nExtendedStatus On\nCoreDumpDirectory $dir\n"
        . "AIBalancerConnectTimeout 500\nAIBalancerReadTimeout 2000\nAIBalancerWriteTimeout 1000\n"
        . "<AIVault soak>\nAIVaultName hcv\nAIVaultHost 127.0.0.1\nAIVaultPort ${\$vault->port}\nAIVaultKv v2\nAIVaultToken ${\$vault->token}\nAIVaultTtl 1\nAIVaultNegTtl 1\n</AIVault>\n"
        . join('', map {"<Location /$_>\nAIProxy On\n$gateway{$_}</Location>\n"} sort keys %gateway)
        . "<Location /ai-status>\nSetHandler ai-status\n</Location>\n<Location /server-status>\nSetHandler server-status\n</Location>\n");

sub ask { my ($path) = @_; return client(port => port('SPARE_1'), timeout => 30)->get($path) }

# Everything that is going on by the gateway's own account.
sub in_flight {
    my $sum = 0;
    $sum += $_->{in_flight} for map { @{$_->{targets}} } @{ask('/ai-status')->json->{gateways}};
    return $sum;
}

# One letter for each thread that is not idle; G: a child of an older generation that has not ended yet.
sub busy_threads {
    my ($board) = ask('/server-status?auto')->{body} =~ /^Scoreboard: (.*)$/m;
    return $board =~ tr/_.//dr;
}

# Idle: nothing in flight, and the only thread at work is the one that says so.
sub settled { return in_flight() == 0 && busy_threads() eq 'W' }

# ---- faults ----

my @mortal = map { port("MOCK_$_") } 1 .. 4; # m5 lives
my %count;

sub hold { select undef, undef, undef, $_[0]; return }

sub redis_pid { return slurp("$ENV{AIP_REDIS_DIR}/run/$redis/pid") + 0 }

sub redis_up { run_command([top_dir() . '/scripts/lib/redis.sh', 'start', $ENV{AIP_REDIS_DIR}, $redis]); return }

# Each is [begin, end]; in between time passes.
my %fault = (
    'target away' => sub { my $p = $mortal[rand @mortal]; return (sub { mock_port($p, 0); mock_close(port => $p, all => $true) }, sub { mock_port($p, 1) }) },
    'all mortal targets away' => sub { return (sub { for (@mortal) { mock_port($_, 0); mock_close(port => $_, all => $true) } }, sub { mock_port($_, 1) for @mortal }) },
    'connections cut'   => sub { my $p = $mortal[rand @mortal]; return (sub { mock_close(port => $p, all => $true) }, sub { }) },
    'connections reset' => sub { my $p = $mortal[rand @mortal]; return (sub { mock_close(port => $p, all => $true, reset => $true) }, sub { }) },
    'Redis killed' => sub { return (sub { kill 'KILL', redis_pid() }, sub { redis_up() }) },
    'Redis stopped' => sub { return (sub { stop_redis($redis) }, sub { redis_up() }) },
    'Redis hangs'  => sub { return (sub { kill 'STOP', redis_pid() }, sub { kill 'CONT', redis_pid() }) },
    'embedder away' => sub { my $p = port('MOCK_EMBED'); return (sub { mock_port($p, 0); mock_close(port => $p, all => $true) }, sub { mock_port($p, 1) }) },
    'embedder hangs' => sub { return (sub { mock_behave({port => port('MOCK_EMBED'), times => 5, do => {hang => $true}}) }, sub { mock_close(port => port('MOCK_EMBED'), all => $true) }) },
    'Vault killed' => sub { return (sub { $vault->stop }, sub { $vault->restart; $secret->() }) },
    'Vault hangs'  => sub { return (sub { $vault->pause }, sub { $vault->resume }) },
    'graceful restart' => sub { return (sub { $h->graceful }, sub { }) },
);

# One or two at a time until then, with pauses.
sub faults_until {
    my ($end, @names) = @_;
    while (time < $end) {
        my @now = map { $names[rand @names] } 1 .. 1 + int rand 2;
        pop @now if @now > 1 && ($now[0] =~ /^(\w+)/)[0] eq ($now[1] =~ /^(\w+)/)[0];
        my @pairs = map { [$fault{$_}->()] } @now;
        $count{$_}++ for @now;
        $_->[0]->() for @pairs;
        hold(0.1 + rand 1.2);
        $_->[1]->() for reverse @pairs;
        hold(rand 0.8);
    }
    return;
}

# ---- the run ----

mock_reset();
mock_behave({model => 'soak-flood', times => -1, do => {stream => {auto => 1500}}});
wait_until('the vault\'s secret', sub { ask('/ai-status')->json->{secrets}[0]{state} eq 'fresh' }, 20);
my ($begin, %before) = (time);
$before{parent_fds} = descriptors($h->{pid});

my $load = fork // die "fork: $!\n";
if (!$load) {
    $ENV{PYTHONDONTWRITEBYTECODE} = 1;
    open STDOUT, '>', "$dir/load.out" or POSIX::_exit(127);
    open STDERR, '>', "$dir/load.err" or POSIX::_exit(127);
    exec 'python3', 't/lib/soak_load.py', port('SPARE_1'), port('MOCK_CONTROL'), $seed, $clients, $dir or POSIX::_exit(127);
}
AIPTest::at_end(sub { kill 'TERM', $load if $load });

my $all = [sort keys %fault];
faults_until($begin + 0.4 * $seconds, @$all);
$h->graceful; # all children of what follows are as old
my @no_restart = grep { !/graceful/ } @$all;
faults_until($begin + 0.6 * $seconds, @no_restart);
wait_until('the end of the older children', sub { busy_threads() !~ /G/ }, 60);
my %warm = map { $_ => {memory => anonymous_kib($_), descriptors => descriptors($_)} } children($h->{pid});
faults_until($begin + $seconds, @no_restart);

AIPTest::Setup::write_file("$dir/stop", '');
my $settled = eval { wait_until('an idle server', \&settled, 60) };
ok($settled, 'nothing is in flight and no thread at work when the load is over') or diag(in_flight() . ' in flight, threads ' . busy_threads() . ', children ' . join ' ', children($h->{pid}));
AIPTest::Setup::write_file("$dir/idle", '');
waitpid $load, 0;
is($?, 0, 'the clients ended') or diag(slurp("$dir/load.err"));
undef $load;
diag(join ', ', map {"$count{$_} x $_"} sort keys %count);
cmp_ok(scalar keys %count, '>=', $seconds >= 100 ? keys %fault : 3, 'every kind of fault');

# ---- what is left ----

my @now = children($h->{pid});
my @kept = grep { $warm{$_} } @now;
cmp_ok(scalar @kept, '>=', mpm() eq 'prefork' ? 10 : 1, 'children live on');
for my $pid (@kept) {
    my $gained = anonymous_kib($pid) - $warm{$pid}{memory};
    diag(sprintf 'child %d: %d KiB when warm, %+d KiB since; %d descriptors, %+d', $pid, $warm{$pid}{memory}, $gained, descriptors($pid), descriptors($pid) - $warm{$pid}{descriptors});
    cmp_ok($gained, '<', $growth_kib, "child $pid: memory");
    cmp_ok(descriptors($pid), '<', $warm{$pid}{descriptors} + 60, "child $pid: file descriptors"); # connections to targets are kept, a few more or less
}
is(descriptors($h->{pid}), $before{parent_fds}, 'the parent has the descriptors that it had');
is_deeply([$h->deaths], [], 'no child died');
unlike($h->log, qr/AH0005[12]/, 'none was ended by a signal');
is_deeply([glob "$dir/core*"], [], 'no core');

# ---- the books ----

sub settled_lines { my $n = () = slurp($log) =~ /\n/g; return $n }

my ($code, $out, $err) = run_command(['python3', '-B', 't/lib/soak_books.py', $dir, $log, "$dir/sample.log"], '', 300);
is($code, 0, 'the books can be read') or diag($err);
my $books = from_json($out);
diag(json({map { $_ => $books->{$_} } grep { $_ ne 'faults' } keys %$books}));
is($books->{fault_count}, 0, "$books->{requests} requests: none lost or doubled, each in the log once, all answers right") or diag(join "\n", @{$books->{faults}});
cmp_ok($books->{requests}, '>', 20 * $seconds, 'a load indeed');
cmp_ok($books->{good_200} / $books->{good}, '>', 0.7, "$books->{good_200} of $books->{good} good requests got their 200");
my $sample = () = slurp("$dir/sample.log") =~ /\n/g;
is(statistics_faults("$dir/sample.log"), "$sample lines\n", "$sample lines are as the schema says");
$h->stop;
# What faults provoke. mod_socache_redis has a line for each call that fails, and a child makes two of those in five seconds.
my @provoked = qw(AIP0021 AIP0022 AIP0025 AIP0043 AIP0062 AIP0105 AIP0106 AIP0200 AIP0202 AIP0209);
is_deeply([$h->unexpected(@provoked, qr/\[socache_redis:/)], [], 'nothing unexpected in the error log');
my $calls = () = $h->log =~ /^\[[^\]]*\] \[socache_redis:/mg;
cmp_ok($calls, '<', 0.6 * $seconds * (mpm() eq 'prefork' ? 40 : 2), "nor a flood of one message: $calls calls to Redis failed");
if (!Test::More->builder->is_passing) { # for whoever looks for the cause: kept beside the logs of the run
    rename $_->[0], "$AIPTest::Setup::t/logs/soak_$_->[1]_log" for ["$h->{dir}/error_log", 'error'], [$log, 'statistics'], ["$dir/sent", 'sent'], ["$dir/seen", 'seen'];
}
finish();
