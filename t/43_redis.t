#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The Redis store through httpd, with a Redis of its own that is stopped, stalled, flushed and spoilt: the mirror answers
# each request with the same distances, one warning tells of each change, and the store is healed without a restart.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $redis = port('SPARE_2');
my ($h, $slot, %last, @all);

# An httpd takes about two seconds to end: meanwhile the next one has another port.
my @slots = map {"SPARE_$_"} 1, 3, 4, 5;

sub gateway {
    my ($lines, %opt) = @_;
    my $port = $opt{port} // $redis;
    $h->order_stop if $h;
    push @slots, $slot = shift @slots;
    $last{$slot}->stop if $last{$slot};
    my $text = <<"CONF";
Listen 127.0.0.1:\${${slot}_PORT}
Protocols h2c http/1.1
StartServers 3
ServerLimit 3
ThreadsPerChild 25
MaxRequestWorkers 75
MinSpareThreads 1
MaxSpareThreads 75
<Location /r>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIVectordbStrategy redis
AIVectordbDimensions 128
AIVectordbDistanceMetric cosine
AIVectordbThreshold 0.5
AIVectordbRedisHost 127.0.0.1
AIVectordbRedisPort $port
AIVectordbRedisConnectTimeout 300
AIVectordbRedisSendTimeout 300
AIVectordbRedisReadTimeout 300
AIRouteHeaders On
AIRouteCache none
$lines
CONF
    for my $k (0, 1) {
        $text .= <<"CONF";
<AITarget axis$k>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName axis$k
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
AIDescription "axis:$k 1"
</AITarget>
CONF
    }
    push @all, $h = $last{$slot} = start_httpd("$text</Location>\n");
    return $h;
}

sub ask { return client(port => port($slot))->post('/r', chat($_[0])) }

sub right {
    my ($what, $client) = @_;
    my $r = $client ? $client->post('/r', chat('axis:1 0.7')) : ask('axis:1 0.7');
    is($r->{status}, 200, "$what: answered");
    is($r->json->{model}, 'axis1', "$what: by the right target");
    is($r->header('X-LLM-Distance'), '0.3000', "$what: at the right distance");
    return;
}

# A command after AUTH, on one connection.
sub redis_auth {
    my ($port, $password, @command) = @_;
    my $c = AIPTest::Client->new(port => $port, timeout => 10);
    my $reply;
    for my $words (['AUTH', $password], \@command) {
        $c->send_raw(join '', '*' . @$words . "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @$words);
        $reply = AIPTest::redis_reply($c);
    }
    return $reply;
}

sub told { my ($tag) = @_; return scalar(() = $h->log =~ /$tag/g) }
sub in_step { my ($n) = @_; return wait_until("$n times in step", sub { told('AIP0104') >= $n }) }

# What Redis counts of a command.
sub calls {
    my ($command) = @_;
    my ($n) = redis(\$redis, 'INFO', 'commandstats') =~ /^cmdstat_\Q$command\E:calls=(\d+)/m;
    return $n // 0;
}

start_redis($redis);
gateway('AIVectordbRedisKeepalivePoolSize 2');
right('first request');
in_step(1);
my ($index) = @{redis(\$redis, 'FT._LIST')};
like($index, qr/^aip:/, 'an index of ours');
sub searches {
    my $before = calls('FT.SEARCH');
    ask('axis:1 0.7') for 1 .. 8;
    return calls('FT.SEARCH') - $before;
}
# Until each of the three was seen to ask Redis, and none to ask its mirror.
sub all_in_step {
    my %seen;
    wait_until('all children are in step', sub {
        my $from = -s "$h->{dir}/error_log";
        %seen = () if searches() != 8;
        $seen{$_} = 1 for slurp("$h->{dir}/error_log", $from) =~ /\[pid (\d+):tid \d+\].* AIP0044: .*search \d+ us$/mg;
        return keys %seen == 3;
    });
    return;
}
all_in_step();
is(searches(), 8, 'Redis is asked for each prompt');
is(ask('axis:0 0.4')->{status}, 503, 'beyond the threshold');
my @keys = @{redis(\$redis, 'KEYS', '*')};
is(scalar @keys, 2, 'one hash for each text');
is_deeply([$h->unexpected()], [], 'nothing unexpected in the log');

# One kind of trouble: what the log calls it, how to make it, how to mend it where it does not mend itself.
my ($down, $up) = (0, 1);
sub trouble {
    my ($what, $cause, $make, $mend) = @_;
    my $kept = client(port => port($slot));
    right("$what: before it", $kept);
    my $from = -s "$h->{dir}/error_log";
    $make->();
    my $begin = time;
    right("$what: second request of a connection", $kept);
    cmp_ok(time - $begin, '<', 0.9, "$what: in time");
    right("$what: first request");
    right("$what: HTTP/2", h2_client(port => port($slot))) if have_http2();
    like(slurp("$h->{dir}/error_log", $from), qr/AIP0044: .*, from the mirror$/m, "$what: the mirror answered");
    is(told('AIP0105'), ++$down, "$what: one warning over all children");
    like(($h->log =~ /^(.*AIP0105.*)$/mg)[-1], qr/:warn\].*127\.0\.0\.1:$redis .*\($cause/, "$what: with the cause");
    $mend->() if $mend;
    in_step(++$up);
    right("$what: after it");
    all_in_step();
    right("$what: by Redis again");
    like(($h->log =~ /^(.*AIP0104.*)$/mg)[-1], qr/:info\]/, "$what: said at level info");
    is(told('AIP0104'), $up, "$what: one line when it is back");
    is(told('AIP0105'), $down, "$what: no second warning");
    return;
}
# What the mirror says is not what Redis would say only by accident: both were asked, see the log.
like(($h->log =~ /^(.*AIP0044.*)$/mg)[-1], qr/search \d+ us$/, 'not from the mirror');

trouble('index dropped', 'vectordb_index', sub { redis(\$redis, 'FT.DROPINDEX', $index) });
trouble('flushed', 'vectordb_index', sub { redis(\$redis, 'FLUSHALL') });
trouble('a document lost', 'vectordb_index', sub { redis(\$redis, 'DEL', $keys[0]) });
trouble('wrong dimension', 'vectordb_index', sub {
    redis(\$redis, 'FT.DROPINDEX', $index, 'DD');
    redis(\$redis, qw(FT.CREATE), $index, qw(ON HASH PREFIX 1), "$index:", qw(SCHEMA vec VECTOR FLAT 6 TYPE FLOAT32 DIM 4
        DISTANCE_METRIC COSINE));
});
trouble('stopped', 'vectordb_unreachable', sub { stop_redis($redis) }, sub { start_redis($redis) });
trouble('stalled', 'vectordb_timeout', sub { redis(\$redis, 'CLIENT', 'PAUSE', 1500, 'ALL') });
my $hole;
trouble('never connected', 'vectordb_timeout: redis took no connection within 300 ms',
    sub { stop_redis($redis); $hole = start_mock('--port', port('SPARE_6'), '--blackhole-port', $redis) },
    sub { kill 'TERM', $hole; waitpid $hole, 0; start_redis($redis) });

# Slow, but not too slow: Redis itself answers.
redis(\$redis, 'CLIENT', 'PAUSE', 100, 'ALL');
my $before = time;
right('slow');
cmp_ok(time - $before, '>', 0.05, 'slow: waited for');
like(($h->log =~ /^(.*AIP0044.*)$/mg)[-1], qr/search \d+ us$/, 'slow: not from the mirror');
is(told('AIP0105'), $down, 'slow: no warning');

# ---- the pool ----
# Twelve requests at once, which a short pause makes overlap; how many connections stay behind. No prompt is another's, for
# identical ones would be one search.
sub burst {
    redis(\$redis, 'CLIENT', 'PAUSE', 150, 'ALL');
    my @clients = map { client(port => port($slot))->send_request('POST', '/r', chat("axis:1 0.7 number $_")) } 1 .. 12;
    my @right = grep { $_->{status} == 200 && $_->json->{model} eq 'axis1' } map { $_->answer } @clients;
    is(scalar @right, 12, 'a burst: all answered');
    return (() = redis(\$redis, 'CLIENT', 'LIST') =~ /^id=/mg) - 1;
}
my $children = () = slurp("$h->{dir}/error_log") =~ /AIP0102: /g;
cmp_ok(burst(), '<=', 2 * $children, 'pool size 2: at most so many idle connections for each child');
is(told('AIP0105'), $down, 'and none was refused');
redis(\$redis, 'CLIENT', 'KILL', 'TYPE', 'normal');
right('connections killed');
is(told('AIP0105'), $down, 'connections killed: no warning, a fresh one is made');

# ---- credentials ----
redis(\$redis, 'CONFIG', 'SET', 'requirepass', 's3cret-of-redis');
trouble('password asked for', 'vectordb_auth', sub { redis_auth($redis, 's3cret-of-redis', 'CLIENT', 'KILL', 'TYPE', 'normal') },
    sub { redis_auth($redis, 's3cret-of-redis', 'CONFIG', 'SET', 'requirepass', '') });
redis(\$redis, 'CONFIG', 'SET', 'requirepass', 's3cret-of-redis');
gateway('AIVectordbRedisPassword s3cret-of-redis');
right('password');
in_step(1);
gateway('AIVectordbRedisPassword not-the-one-of-redis');
right('wrong password');
wait_until('the warning', sub { told('AIP0105') });
like($h->log, qr/AIP0105: .*vectordb_auth/, 'its cause');
unlike($h->log, qr/not-the-one|s3cret/, 'no password in the log');
redis_auth($redis, 's3cret-of-redis', qw(ACL SETUSER gw on >pw-of-gw ~aip:* +ft.search +ft.info +hstrlen +ft.create +hset));
gateway("AIVectordbRedisUsername gw\nAIVectordbRedisPassword pw-of-gw");
right('ACL user');
in_step(1);
redis_auth($redis, 's3cret-of-redis', 'CONFIG', 'SET', 'requirepass', '');

# ---- other directives ----
redis(\$redis, 'FLUSHALL');
gateway('');
in_step(1);
all_in_step();
cmp_ok(burst(), '>', 9, 'the default pool keeps them all');
$h->stop;
gateway("AIVectordbRedisKeepalivePoolSize 1\nAIVectordbRedisKeepaliveBacklog 0");
in_step(1);
all_in_step();
burst();
is(told('AIP0105'), 1, 'pool size 1 without a backlog: one warning');
like($h->log, qr/AIP0105: .*\(vectordb_unreachable: redis: all connections .*pool size 1, backlog 0\)/, 'which says what is too small');
$h->stop;
redis(\$redis, 'FLUSHALL');
my $selects = calls('select');
gateway('AIVectordbRedisDatabase 1');
right('database 1');
wait_until('the warning', sub { told('AIP0105') });
like($h->log, qr/AIP0105: .*database 0/, 'database 1: says what to do');
cmp_ok(calls('select'), '>', $selects, 'database 1: SELECT was sent');
$h->stop;
$selects = calls('select');
gateway("AIVectordbRedisDatabase 1\nAIVectordbRedisConnectionIsProxied On");
right('proxied');
in_step(1);
all_in_step();
is(calls('select'), $selects, 'proxied: no SELECT is sent');
gateway('AIVectordbRedisKeepaliveBacklog 0');
right('backlog');
in_step(1);
gateway("AIVectordbDistanceMetric euclidean");
right('euclidean');
in_step(1);
gateway('', port => port('DEAD'));
right('refused');
is(told('AIP0105'), 1, 'refused: one warning');
like($h->log, qr/AIP0105: .*127\.0\.0\.1:${\port('DEAD')} .*vectordb_unreachable/, 'refused: where and why');

# a second server with the same configuration shares the index
gateway('');
in_step(1);
my $writes = calls('hset');
my $first = $h;
$last{$slots[0]}->stop if $last{$slots[0]};
push @all, my $second = start_httpd(slurp("$h->{dir}/httpd.conf") =~ s/.*(?=^Listen )//msr =~ s/$slot/$slots[0]/r);
wait_until('second server in step', sub { $second->log =~ /AIP0104/ });
is(calls('hset'), $writes, 'nothing is written that is there already');
is(scalar @{redis(\$redis, 'FT._LIST')}, 2, 'one index for each metric');

# How they all ended.
$_->stop for @all;
is_deeply([map { $_->deaths } @all], [], 'no child died');
finish();
