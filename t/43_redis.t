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
my $h;

sub gateway {
    my ($lines, %opt) = @_;
    my $port = $opt{port} // $redis;
    $h->stop if $h;
    my $text = <<"CONF";
Listen 127.0.0.1:\${SPARE_1_PORT}
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
    return $h = start_httpd("$text</Location>\n");
}

sub ask { return client(port => port('SPARE_1'))->post('/r', chat($_[0])) }

sub right {
    my ($what) = @_;
    my $r = ask('axis:1 0.7');
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
is(wait_until('all children are in step', sub { my $n = searches(); $n == 8 && $n }), 8, 'Redis is asked for each prompt');
is(ask('axis:0 0.4')->{status}, 503, 'beyond the threshold');
my @keys = @{redis(\$redis, 'KEYS', '*')};
is(scalar @keys, 2, 'one hash for each text');
is_deeply([$h->unexpected()], [], 'nothing unexpected in the log');

my ($down, $up) = (0, 1);
sub trouble {
    my ($what, $make, $mend) = @_;
    $make->();
    my $begin = time;
    right("$what: first request");
    cmp_ok(time - $begin, '<', 1.5, "$what: in time");
    right("$what: second request");
    is(told('AIP0105'), ++$down, "$what: one warning over all children");
    $mend->() if $mend;
    in_step(++$up);
    right("$what: after it");
    is(told('AIP0104'), $up, "$what: one line when it is back");
    is(told('AIP0105'), $down, "$what: no second warning");
    return;
}
trouble('index dropped', sub { redis(\$redis, 'FT.DROPINDEX', $index) });
trouble('flushed', sub { redis(\$redis, 'FLUSHALL') });
trouble('a document lost', sub { redis(\$redis, 'DEL', $keys[0]) });
trouble('wrong dimension', sub {
    redis(\$redis, 'FT.DROPINDEX', $index, 'DD');
    redis(\$redis, qw(FT.CREATE), $index, qw(ON HASH PREFIX 1), "$index:", qw(SCHEMA vec VECTOR FLAT 6 TYPE FLOAT32 DIM 4
        DISTANCE_METRIC COSINE));
});
trouble('stopped', sub { stop_redis($redis) }, sub { start_redis($redis) });
trouble('stalled', sub { redis(\$redis, 'CLIENT', 'PAUSE', 1500, 'ALL') });
redis(\$redis, 'CLIENT', 'KILL', 'TYPE', 'normal');
right('connections killed');
is(told('AIP0105'), $down, 'connections killed: no warning, a fresh one is made');

# ---- credentials ----
redis(\$redis, 'CONFIG', 'SET', 'requirepass', 's3cret-of-redis');
trouble('password asked for', sub { redis_auth($redis, 's3cret-of-redis', 'CLIENT', 'KILL', 'TYPE', 'normal') },
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
$h->stop;
redis(\$redis, 'FLUSHALL');
gateway('AIVectordbRedisDatabase 1');
right('database 1');
wait_until('the warning', sub { told('AIP0105') });
like($h->log, qr/AIP0105: .*database 0/, 'database 1: says what to do');
gateway("AIVectordbRedisDatabase 1\nAIVectordbRedisConnectionIsProxied On");
right('proxied: no SELECT is sent');
in_step(1);
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
my $second = start_httpd(slurp("$h->{dir}/httpd.conf") =~ s/.*(?=^Listen )//msr =~ s/SPARE_1/SPARE_3/r);
wait_until('second server in step', sub { $second->log =~ /AIP0104/ });
is(calls('hset'), $writes, 'nothing is written that is there already');
is(scalar @{redis(\$redis, 'FT._LIST')}, 2, 'one index for each metric');
$_->stop for $first, $second;
finish();
