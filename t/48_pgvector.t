#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# The PostgreSQL store through httpd, with a PostgreSQL of its own that is spoilt, locked, stood still and stopped: the mirror
# answers each request with the same distances, one warning tells of each change, and the store is healed without a restart.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $pg = port('SPARE_2');
my $table = 'ai_proxy_adv_vectors_256';
my %description = (code => 'programming, source code, algorithms and debugging', food => 'cooking recipes, ingredients and meals');
my %prompt = (code => 'why does my python function raise an exception', food => 'how long do I boil potatoes for a soup',
    sea => 'which sails does a boat need in a storm');
my $secret = 's3cret-of-gw';

# Three children.
my $children = mpm() eq 'prefork'
    ? "StartServers 3\nMinSpareServers 3\nMaxSpareServers 3\nServerLimit 3\nMaxRequestWorkers 3\n"
    : "StartServers 3\nServerLimit 9\nThreadsPerChild 16\nMaxRequestWorkers 48\nMinSpareThreads 1\nMaxSpareThreads 48\n";

# /r asks PostgreSQL, /m says in process what is right.
sub text {
    my (%opt) = @_;
    my $targets = join '', map { <<"CONF" } sort keys %description;
<AITarget $_>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName $_
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
AIDescription "$description{$_}"
</AITarget>
CONF
    my $common = <<"CONF";
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider local
AIEmbeddingsModelName ${\top_dir()}/share/embedder/aip-static-en-v1
AIVectordbDistanceMetric ${\($opt{metric} // 'cosine')}
AIRouteHeaders On
AIRouteCache none
CONF
    return <<"CONF";
Listen 127.0.0.1:\${$opt{slot}_PORT}
Protocols h2c http/1.1
${children}AIProxy On
<Location /r>
${common}AIVectordbStrategy pgvector
AIVectordbPgvectorHost 127.0.0.1
AIVectordbPgvectorPort $pg
AIVectordbPgvectorDatabase postgres
AIVectordbPgvectorUser gw
AIVectordbPgvectorPassword $secret
AIVectordbPgvectorTimeout 400
${\($opt{lines} // '')}
$targets</Location>
<Location /m>
$common$targets</Location>
CONF
}

my ($h, $slot, @all);
sub gateway {
    my (%opt) = @_;
    push @all, $h = start_httpd(text(%opt));
    $slot = $opt{slot};
    return;
}

sub ask { my ($path, $prompt) = @_; return client(port => port($slot))->post($path, chat($prompt)) }

# The same answer from both, and how near.
sub right {
    my ($what, $client, $kind) = @_;
    $kind //= 'code';
    my ($got, $want) = (($client // client(port => port($slot)))->post('/r', chat($prompt{$kind})), ask('/m', $prompt{$kind}));
    is($got->{status}, 200, "$what: answered");
    is($got->json->{model}, $kind, "$what: by the right target");
    is($got->header('X-LLM-Distance'), $want->header('X-LLM-Distance'), "$what: at the right distance");
    return;
}

sub told { my ($tag) = @_; return scalar(() = $h->log =~ /$tag/g) }
sub in_step { my ($n) = @_; return wait_until("$n times in step", sub { told('AIP0104') >= $n }) }
sub last_line { my ($tag) = @_; return ($h->log =~ /^(.*$tag.*)$/mg)[-1] // '' }

# Until each of three children was seen to ask PostgreSQL, and none to ask its mirror.
sub all_in_step {
    my %seen;
    wait_until('all children are in step', sub {
        my $from = -s "$h->{dir}/error_log";
        ask('/r', $prompt{code}) for 1 .. 8;
        my $lines = slurp("$h->{dir}/error_log", $from);
        %seen = () if $lines =~ /AIP0044: .*from the mirror/;
        $seen{$_} = 1 for $lines =~ /\[pid (\d+):tid \d+\].* AIP0044: .*search \d+ us$/mg;
        return keys %seen == 3;
    }, 20);
    return;
}

start_pgsql($pg);
gateway(slot => 'SPARE_1');
in_step(1);
all_in_step();
right('first request');
right('another route', undef, 'food');
right('HTTP/2', h2_client(port => port($slot))) if have_http2();
is(pgsql($pg, "SELECT count(*), count(DISTINCT namespace), max(number), max(vector_dims(embedding)) FROM $table"), '2|1|1|256',
    'a row for each description, under one name');
my $namespace = pgsql($pg, "SELECT DISTINCT namespace FROM $table");
like($namespace, qr/^[0-9a-f]{32}$/, 'which is a digest');
is_deeply([$h->unexpected()], [], 'nothing unexpected in the log');

# what PostgreSQL says counts: rows that were exchanged lead astray
my $exchange = "UPDATE $table AS a SET embedding = b.embedding FROM $table AS b WHERE a.number = 1 - b.number";
pgsql($pg, $exchange);
is(ask('/r', $prompt{code})->json->{model}, 'food', 'it is PostgreSQL that is asked');
pgsql($pg, $exchange);
right('mended');

# a graceful restart with another description
delete $description{food};
$description{sea} = 'boats, sailing and the sea';
AIPTest::Setup::write_file("$h->{dir}/httpd.conf", slurp("$h->{dir}/httpd.conf") =~ s/cooking recipes, ingredients and meals/$description{sea}/gr
        =~ s/\bfood\b/sea/gr);
right('before the restart');
kill 'USR1', $h->{pid};
wait_until('the restart', sub { my $r = eval { ask('/r', $prompt{sea}) }; $r && $r->{status} == 200 && $r->json->{model} eq 'sea' });
in_step(2);
all_in_step();
right('after the restart', undef, $_) for qw(sea code);
is(pgsql($pg, "SELECT count(*) FROM $table WHERE namespace <> '$namespace'"), 2, 'rows of the new descriptions');
is(pgsql($pg, "SELECT count(*) FROM $table WHERE namespace = '$namespace'"), 2, 'and the old ones, which another server may need');

# One kind of trouble: what the log calls it, how to make it, how to mend it where it does not mend itself.
my ($down, $up) = (told('AIP0105'), told('AIP0104'));
sub trouble {
    my ($what, $cause, $make, $mend) = @_;
    my $client = client(port => port($slot));
    right("$what: before it", $client);
    my $from = -s "$h->{dir}/error_log";
    $make->();
    my $begin = time;
    right("$what: second request of a connection", $client);
    cmp_ok(time - $begin, '<', 1.2, "$what: in time");
    right("$what: first request");
    right("$what: HTTP/2", h2_client(port => port($slot))) if have_http2();
    like(slurp("$h->{dir}/error_log", $from), qr/AIP0044: .*, from the mirror$/m, "$what: the mirror answered");
    is(told('AIP0105'), ++$down, "$what: one warning over all children");
    like(last_line('AIP0105'), qr/:warn\].*127\.0\.0\.1:$pg .*\($cause/, "$what: with the cause");
    $mend->() if $mend;
    in_step(++$up);
    all_in_step();
    right("$what: by PostgreSQL again");
    like(last_line('AIP0104'), qr/:info\]/, "$what: said at level info");
    is(told('AIP0104'), $up, "$what: one line when it is back");
    is(told('AIP0105'), $down, "$what: no second warning");
    return;
}

# All processes of the server, with the postmaster first.
sub server_processes {
    my $pid = slurp("$ENV{AIP_PGSQL_DIR}/run/$pg/pid") + 0;
    return ($pid, map { my ($p, $parent) = (eval { slurp($_) } // '') =~ /^(\d+) .*\) \S (\d+)/; $p && $parent == $pid ? $p : () } glob '/proc/[0-9]*/stat');
}

trouble('table dropped', 'vectordb_index', sub { pgsql($pg, "DROP TABLE $table") });
trouble('a row lost', 'vectordb_index', sub { pgsql($pg, "DELETE FROM $table WHERE number = 1") });
my @still;
trouble('stands still', 'vectordb_timeout', sub { @still = server_processes(); kill 'STOP', @still }, sub { kill 'CONT', @still });
trouble('stopped', 'vectordb_unreachable', sub { stop_pgsql($pg) }, sub { start_pgsql($pg) });
pgsql($pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mod_ai_proxy_adv'");
right('connections ended');
is(told('AIP0105'), $down, 'connections ended: no warning, a fresh one is made');
cmp_ok(pgsql($pg, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mod_ai_proxy_adv'"), '<=', 12, 'at most four for each child');
unlike($h->log, qr/$secret/, 'no password in the log');
is_deeply([$h->unexpected(qw(AIP0105))], [], 'nothing else in the log');
$h->order_stop;

# the deadline of a request, whatever the store may take
gateway(slot => 'SPARE_3', metric => 'euclidean', lines => "AIVectordbPgvectorTimeout 6000\nAITimeoutTotal 500");
in_step(1);
all_in_step();
right('euclidean');
my $locker = fork // die "fork: $!\n";
if (!$locker) {
    eval { pgsql($pg, "BEGIN; LOCK TABLE $table; SELECT pg_sleep(3); COMMIT") };
    POSIX::_exit(0);
}
wait_until('the lock', sub { pgsql($pg, "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = '$table'::regclass AND granted") });
my $begin = time;
ask('/r', $prompt{code});
cmp_ok(time - $begin, '<', 1.5, 'AITimeoutTotal ends the search');
is(told('AIP0105'), 0, 'which says nothing about the store');
waitpid $locker, 0;
all_in_step();
right('unlocked');
is_deeply([$h->unexpected('AIP0028')], [], 'nothing unexpected in the log'); # the deadline's own line
$h->order_stop;

# credentials
gateway(slot => 'SPARE_4', lines => 'AIVectordbPgvectorPassword not-the-one-of-gw');
right('wrong password');
wait_until('the warning', sub { told('AIP0105') });
like(last_line('AIP0105'), qr/vectordb_auth: .*password authentication failed for user "gw"/, 'wrong password: said');
unlike($h->log, qr/not-the-one|$secret/, 'no password in the log');
is(told('AIP0105'), 1, 'wrong password: said once');
$_->stop for @all;
is_deeply([map { $_->deaths } @all], [], 'no child died');
finish();
