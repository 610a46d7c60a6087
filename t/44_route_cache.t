#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# The warm path: decisions that several children, and several servers, remember; identical prompts at the same moment; what
# happens when a cache is away.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time sleep);
use lib 't/lib';
use AIPTest;

my $embed = port('MOCK_EMBED');
my $redis = port('SPARE_4');
my $memcached = port('SPARE_5');
my ($h, @all);

# Three children, and a line for each request that tells which of them served it.
my $children = mpm() eq 'prefork'
    ? "StartServers 3\nMinSpareServers 3\nMaxSpareServers 3\nServerLimit 3\nMaxRequestWorkers 3\n"
    : "StartServers 3\nServerLimit 3\nThreadsPerChild 16\nMaxRequestWorkers 48\nMinSpareThreads 1\nMaxSpareThreads 48\n";

sub target {
    my ($name, $description, $more) = @_;
    return <<"CONF";
<AITarget $name>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName $name
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
AIDescription "$description"
${\($more // '')}
</AITarget>
CONF
}

# A server whose gateway is at /g; LINES stand in its location, MORE are further sections.
sub server {
    my ($slot, $lines, %opt) = @_;
    my $descriptions = $opt{descriptions} // ['axis:0 1', 'axis:1 1'];
    my $text = <<"CONF";
Listen 127.0.0.1:\${${slot}_PORT}
$children
MaxKeepAliveRequests 0
LogFormat "%P %{target}^AI %{reason}^AI %{cache}^AI %{distance}^AI %{threshold}^AI %{candidates}^AI %{embedding_us}^AI %{search_us}^AI %{route}^AI" ai
CustomLog access_log ai
<Location /g>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIEmbeddingsTimeout ${\($opt{timeout} // 3000)}
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIRouteHeaders On
AIStateDir state
$lines
${\target('zero', $descriptions->[0])}${\target('one', $descriptions->[1], $opt{one})}${\target('rest', 'CATCHALL')}
</Location>
${\($opt{more} // '')}
CONF
    my $server = start_httpd($text);
    $server->{port} = port($slot);
    push @all, $server;
    return $server;
}

sub ask {
    my ($server, $prompt, $path) = @_;
    return client(port => $server->{port})->post($path // '/g', chat($prompt));
}

# Embeddings calls that were made for the text.
sub calls {
    my ($text) = @_;
    return scalar grep { grep { $_ eq $text } @{from_json($_->{body})->{input}} } mock_requests(port => $embed);
}

sub access { return map { [split / /, $_, 10] } split /\n/, slurp("$_[0]{dir}/access_log") }

# The last COUNT lines of the access log, once there are TOTAL of them.
sub lines_of {
    my ($server, $total) = @_;
    wait_until("$total lines", sub { -e "$server->{dir}/access_log" && access($server) >= $total });
    return access($server);
}

# ---- shared by children ----
mock_reset();
$h = server('SPARE_1', '', more => <<'CONF', one => 'AIRouteThreshold 0.3');
<Location /g/tight>
AIVectordbThreshold 0.2
</Location>
<Location /g/mean>
AIRouteAggregate mean
</Location>
<Location /g/none>
AIRouteCache none
</Location>
CONF
my @answers = map { ask($h, 'axis:0 0.75') } 1 .. 30;
is_deeply([map { $_->json->{model} } @answers], [('zero') x 30], 'thirty times the same prompt');
is(calls('axis:0 0.75'), 1, 'is embedded once');
my @lines = sort { ($a->[3] eq 'hit') <=> ($b->[3] eq 'hit') } lines_of($h, 30); # a line may come after that of a later request
my %pids = map { $_->[0] => 1 } @lines;
cmp_ok(scalar keys %pids, '>', 1, 'by several children: ' . join ' ', keys %pids);
is_deeply([map { $_->[2] } @lines], ['match', ('match,cached') x 29], 'the log tells who was served from the cache');
is_deeply([@{$lines[0]}[1, 3, 4, 5, 6, 9]], ['zero', 'miss', '0.2500', '0.5000', 2, 'axis:0 1'], 'its other items');
cmp_ok($lines[0][7], '>', 0, 'the time of the embedding');
is_deeply([@{$lines[1]}[1, 3, 4, 5, 7, 8]], ['zero', 'hit', '0.2500', '0.5000', 0, 0], 'a hit takes no time for either');
is($answers[29]->header('X-LLM-Distance'), '0.2500', 'with the same distance');

# ---- what a cached decision depends on, and what not ----
is(ask($h, 'axis:0 0.75', '/g/tight')->json->{model}, 'rest', 'another threshold decides anew');
is(calls('axis:0 0.75'), 1, 'with the same distances');
is(ask($h, 'axis:0 0.75', '/g/mean')->json->{model}, 'zero', 'another aggregate');
is(calls('axis:0 0.75'), 2, 'is measured');
is(ask($h, 'axis:0 0.75', '/g/none')->json->{model}, 'zero', 'without cache') for 1, 2;
is(calls('axis:0 0.75'), 4, 'each request is measured');
is(ask($h, 'axis:0 0.76')->json->{model}, 'zero', 'another prompt');
is(calls('axis:0 0.76'), 1, 'is measured');
is(ask($h, 'axis:1 0.65')->json->{model}, 'rest', 'the threshold of a target holds') for 1, 2;
is(calls('axis:1 0.65'), 1, 'for cached distances, too');
$h->stop;
is_deeply([$h->unexpected], [], 'without a word');

# ---- warm connections: each child has one to the provider before the first prompt comes ----
if (mpm() ne 'prefork') {
    my $opened = sub { return (map { $_->{opened} } grep { $_->{port} == $embed } @{mock_connections()})[0] };
    mock_reset();
    $h = server('SPARE_1', 'AIRouteCache none');
    wait_until('references', sub { 3 <= (() = $h->log =~ /AIP0102/g) });
    mock_reset();
    my $before = $opened->();
    ask($h, "axis:0 0.$_") for 60 .. 69;
    my @requests = mock_requests(port => $embed);
    is($opened->(), $before, 'ten prompts open no connection');
    cmp_ok(scalar(grep { $_->{connection_request} == 1 } @requests), '<=', 3, 'they use those that were there');
    kill 'USR1', $h->{pid};
    wait_until('the new generation', sub { 4 <= (() = $h->log =~ /AIP0102/g) });
    sleep 1.2; # the others start within a second, if they do
    mock_reset();
    $before = $opened->();
    ask($h, 'axis:0 0.71');
    is($opened->(), $before, 'nor does the first one after a graceful restart');
    is(scalar(mock_requests(port => $embed)), 1, 'which makes one call');
    $h->stop;
    is_deeply([$h->unexpected], [], 'without a word');
}

# ---- time to live ----
mock_reset();
$h = server('SPARE_1', 'AIRouteCacheTTL 1');
ask($h, 'axis:0 0.9') for 1, 2;
is(calls('axis:0 0.9'), 1, 'cached');
sleep 2.1;
ask($h, 'axis:0 0.9');
is(calls('axis:0 0.9'), 2, 'not any more after AIRouteCacheTTL');

# ---- a cache that is full makes room ----
$h->stop;
mock_reset();
$h = server('SPARE_1', 'AIRouteCacheSize 65536');
my $c = client(port => $h->{port});
is_deeply([grep { $_->{status} != 200 } map { $c->post('/g', chat("axis:0 0.9 axis:9 0.$_")) } 1000 .. 3999], [], 'more prompts than fit');
mock_reset();
$c->post('/g', chat('axis:0 0.9 axis:9 0.3999'));
is(scalar(mock_requests(port => $embed)), 0, 'the newest is there');
$c->post('/g', chat('axis:0 0.9 axis:9 0.1000'));
is(scalar(mock_requests(port => $embed)), 1, 'the oldest has gone');
$c->close;
$h->stop;
is_deeply([$h->unexpected], [], 'without a word');

# ---- identical prompts at the same moment ----
mock_reset();
$h = server('SPARE_1', 'AIRouteCache none', more => <<"CONF");
<Location /g/hasty>
AITimeoutTotal 500
AIRouteOnFailure fail
</Location>
<Location /g/own>
AIEmbeddingsAuthHeaderName X-Key
AIEmbeddingsAuthHeaderValue ours
AIEmbeddingsAuthAllowOverride On
</Location>
CONF
ask($h, 'axis:1 0.9');
my $workers = mpm() eq 'prefork' ? 3 : 30;
sub at_once {
    my ($prompt, $count, $path) = @_;
    my @clients = map { client(port => $h->{port})->send_request('POST', $path // '/g', chat($prompt)) } 1 .. $count;
    return map { $_->answer } @clients;
}
mock_behave({port => $embed, times => 1, do => {delay_ms => 400}});
my $start = time;
@answers = at_once('axis:0 0.8', $workers);
is_deeply([map { $_->json->{model} } @answers], [('zero') x $workers], "$workers identical prompts at once");
is(calls('axis:0 0.8'), 1, 'cost one embeddings call');
cmp_ok(time - $start, '<', 2, 'and no more time');
@lines = lines_of($h, $workers + 1);
is_deeply([sort map { $_->[3] } @lines[1 .. $workers]], ['off', ('shared') x ($workers - 1)], 'the log tells');
cmp_ok(scalar keys %{{map { $_->[0] => 1 } @lines[1 .. $workers]}}, '>', 1, 'over several children');

mock_reset();
mock_behave({port => $embed, times => 1, do => {delay_ms => 300, status => 500}});
@answers = at_once('axis:0 0.81', $workers);
is_deeply([map { $_->json->{model} } @answers], [('rest') x $workers], 'a call that fails fails for all who waited');
is(calls('axis:0 0.81'), 1, 'and is not repeated by each');
is(ask($h, 'axis:0 0.81')->json->{model}, 'zero', 'the next request tries anew');
is(scalar(() = $h->log =~ /AIP0043/g), $workers, 'each is told of');

# What ends one request alone does not end the others'.
mock_reset();
mock_behave({port => $embed, times => 1, do => {delay_ms => 2500}});
my $hasty = client(port => $h->{port})->send_request('POST', '/g/hasty', chat('axis:0 0.815'));
mock_wait('request', port => $embed);
my @patient = map { client(port => $h->{port})->send_request('POST', '/g', chat('axis:0 0.815')) } 2 .. $workers;
isnt($hasty->answer->{status}, 200, 'a request whose time is over');
is_deeply([map { $_->answer->json->{model} } @patient], [('zero') x ($workers - 1)], 'while the others get theirs');
mock_reset();
mock_behave({port => $embed, times => 1, do => {delay_ms => 600, status => 401}});
my $own = client(port => $h->{port})->send_request('POST', '/g/own', chat('axis:0 0.816'), 'X-Key', 'bad');
mock_wait('request', port => $embed);
@patient = map { client(port => $h->{port})->send_request('POST', '/g/own', chat('axis:0 0.816')) } 2 .. $workers;
is_deeply([map { $_->answer->json->{model} } @patient], [('zero') x ($workers - 1)], 'nor does the credential of a client');
is($own->answer->json->{model}, 'rest', 'which fails for itself');

# Those who wait and leave do not keep their threads.
mock_reset();
mock_behave({port => $embed, times => 1, do => {delay_ms => 2500}});
my $stays = client(port => $h->{port})->send_request('POST', '/g', chat('axis:0 0.817'));
mock_wait('request', port => $embed);
my @gone = map { client(port => $h->{port})->send_request('POST', '/g', chat('axis:0 0.817')) } 2 .. (mpm() eq 'prefork' ? 3 : 48);
sleep 0.5;
$_->reset for @gone;
$start = time;
is(ask($h, 'axis:1 0.9')->json->{model}, 'one', 'all threads wait, and their clients leave: another request');
cmp_ok(time - $start, '<', 1.2, 'is served at once');
is($stays->answer->json->{model}, 'zero', 'and so is the one that stays, in its time');

# A connection that is kept alive keeps a thread of worker and a child of prefork.
($hasty, $own, $stays, @patient, @gone) = ();

# The one who makes the call leaves.
mock_reset();
mock_behave({port => $embed, times => 1, do => {delay_ms => 1500}});
my $owner = client(port => $h->{port})->send_request('POST', '/g', chat('axis:0 0.82'));
mock_wait('request', port => $embed);
my @waiting = map { client(port => $h->{port})->send_request('POST', '/g', chat('axis:0 0.82')) } 2 .. $workers;
sleep 0.8;
$owner->reset;
is_deeply([map { $_->answer->json->{model} } @waiting], [('zero') x ($workers - 1)], 'the owner of the call leaves: another one calls');
is(calls('axis:0 0.82'), 2, 'one');
$h->stop;

# The child that makes the call is killed: it is the one that has the client's connection.
sub connected_to {
    my ($pid, $port) = @_;
    my %mine = map { (readlink($_) // '') =~ /^socket:\[(\d+)\]/ ? ($1 => 1) : () } glob "/proc/$pid/fd/*";
    return grep { my @f = split; $f[2] =~ /:${\sprintf('%04X', $port)}$/ && $mine{$f[9]} } split /\n/, slurp('/proc/net/tcp');
}
mock_reset();
$h = server('SPARE_1', 'AIRouteCache none', timeout => 10000);
wait_until("references", sub { 3 <= (() = $h->log =~ /AIP0102/g) });

mock_behave({port => $embed, times => 1, do => {delay_ms => 4000}});
$owner = client(port => $h->{port})->send_request('POST', '/g', chat('axis:0 0.83'));
wait_until('the call', sub { calls('axis:0 0.83') });
my ($victim) = grep { connected_to($_, $owner->{socket}->sockport) } split ' ', slurp("/proc/$h->{pid}/task/$h->{pid}/children");
ok($victim, 'the child that calls');
@waiting = map { client(port => $h->{port})->send_request('POST', '/g', chat('axis:0 0.83')) } 2 .. $workers;
sleep 0.3;
$start = time;
kill 'KILL', $victim;
my @models = map { my $r = eval { $_->answer }; $r && $r->{status} == 200 ? $r->json->{model} : 'gone' } @waiting;
cmp_ok(scalar(grep { $_ eq 'zero' } @models), '>', 0, "the child of the call is killed: those of others are answered (@models)");
is_deeply([grep { $_ ne 'zero' && $_ ne 'gone' } @models], [], 'and routed');
cmp_ok(time - $start, '<', 3, 'at once');
cmp_ok(calls('axis:0 0.83'), '<=', 3, 'by one more call');
$h->stop;

# ---- the embedder goes and comes back under load: no request is lost ----
mock_reset();
$h = server('SPARE_1', '');
my ($n, $stopped, %got) = (0, 0);
$start = time;
ask($h, 'axis:1 0.9');
while (time - $start < 3) {
    if (!$stopped && time - $start > 0.6) { mock_port($embed, 0); mock_close(port => $embed + 0, all => JSON::PP::true); $stopped = 1 }
    my $r = ask($h, 'axis:0 0.9 number ' . $n++);
    $got{$r->{status} == 200 ? $r->json->{model} : $r->{status}}{$stopped}++;
    $r = ask($h, 'axis:1 0.9'); # known before
    $got{$r->{status} == 200 ? $r->json->{model} : $r->{status}}{$stopped}++;
}
is_deeply([sort keys %got], ['one', 'rest', 'zero'], "$n fresh prompts and as many known ones, the embedder away: all are answered") or diag(json(\%got));
is_deeply([sort keys %{$got{rest}}], [1], 'by the catch-all only while it is away');
is_deeply([sort keys %{$got{zero}}], [0], 'fresh ones');
is_deeply([sort keys %{$got{one}}], [0, 1], 'and known ones by meaning all the time');
mock_port($embed, 1);
wait_until('recovery', sub { ask($h, 'axis:0 0.9 again ' . $n++)->json->{model} eq 'zero' });
pass('it comes back: routed by meaning');
like($h->log, qr/AIP0043: .*embeddings_unreachable/, 'the log says why');
$h->stop;
is_deeply([$h->unexpected('AIP0043', 'AIP0024')], [], 'and nothing else');

# ---- caches of a fleet: two servers with one cache, which goes and comes back ----
sub start_memcached {
    my ($status, $out, $err) = run_command(['memcached', '-d', '-l', '127.0.0.1', '-p', $memcached, '-P', "$AIPTest::Setup::t/state/memcached.pid"]);
    $status == 0 or die "memcached: $out$err\n";
    wait_until('memcached', sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $memcached) });
    return;
}

sub stop_memcached {
    my $pid = eval { slurp("$AIPTest::Setup::t/state/memcached.pid") + 0 } or return;
    kill 'TERM', $pid;
    wait_until('end of memcached', sub { !kill 0, $pid });
    return;
}
END { local $?; stop_memcached() }

my %fleet = (
    redis => {port => $redis, start => sub { start_redis($redis) }, stop => sub { stop_redis($redis) },
        pid => sub { my ($pid) = redis(\$redis, 'INFO', 'server') =~ /^process_id:(\d+)/m; $pid }},
    memcache => {port => $memcached, start => \&start_memcached, stop => \&stop_memcached,
        pid => sub { slurp("$AIPTest::Setup::t/state/memcached.pid") + 0 }},
);
my @allowed = map {qr/$_/} 'AIP0062', 'AH03473', 'AH03474', 'AH03475', 'AH03476', 'AH0079\d', 'AH0080\d', 'AH034\d\d', 'socache';
for my $kind (sort keys %fleet) {
    my $f = $fleet{$kind};
    $f->{start}->();
    mock_reset();
    my @servers = map { server($_, "AIRouteCache $kind:127.0.0.1:$f->{port}", more => "<Location /g/short>\nAIRouteCacheTTL 1\n</Location>\n"
        . "<Location /g/long>\nAIRouteCacheTTL 31536000\n</Location>\n") } 'SPARE_1', 'SPARE_3';
    my ($one, $other) = @servers;
    is(ask($one, 'axis:0 0.7')->json->{model}, 'zero', "$kind: a server");
    is(ask($other, 'axis:0 0.7')->json->{model}, 'zero', "$kind: another one");
    is(calls('axis:0 0.7'), 1, "$kind: has it from the cache");
    is((lines_of($other, 1))[0][3], 'hit', "$kind: and says so");
    # a short and a long time to live
    for (['/g/short', 'axis:0 0.72', 2], ['/g/long', 'axis:0 0.73', 1]) {
        my ($path, $prompt, $later) = @$_;
        ask($one, $prompt, $path) for 1, 2;
        is(calls($prompt), 1, "$kind, $path: kept");
        sleep 2.3;
        ask($one, $prompt, $path);
        is(calls($prompt), $later, "$kind, $path: as long as it should");
    }
    unlike($one->log . $other->log, qr/AIP0062/, "$kind: nothing is said of it");
    if ($kind eq 'redis') {
        my @keys = grep { redis(\$redis, 'TTL', $_) > 86000 && redis(\$redis, 'TTL', $_) < 90000 } @{redis(\$redis, 'KEYS', '*')};
        is(scalar @keys, 1, 'one entry');
        my $value = redis(\$redis, 'GET', $keys[0]);
        unlike("@keys $value", qr/axis|zero|0\.7/, 'no text in it');
        cmp_ok(redis(\$redis, 'TTL', $keys[0]), '>', 86000, 'for a day');
        # whatever else stands there is a miss, once the children ask for it again
        my @junk = ('', 'x' x 20, "\2\0\0\0" . substr($value, 4), substr($value, 0, -1), substr($value, 0, -4) . "\0\0\xc0\x7f", $value . 'x');
        ask($one, "axis:0 0.9$_") for 1 .. @junk;
        sleep 1.1;
        mock_reset();
        my @new = grep { $_ ne $keys[0] && redis(\$redis, 'TTL', $_) < 90000 } @{redis(\$redis, 'KEYS', '*')};
        is(scalar @new, scalar @junk, 'one entry for each');
        redis(\$redis, 'SET', $new[$_], $junk[$_]) for 0 .. $#junk;
        is(ask($one, "axis:0 0.9$_")->json->{model}, 'zero', 'a spoilt value') for 1 .. @junk;
        is(calls("axis:0 0.9$_"), 1, 'is a miss') for 1 .. @junk;
    }
    # away, under load
    my $pid = $f->{pid}->();
    my ($bad, $n) = (0, 0);
    my $began = time;
    my $stopped;
    while (time - $began < 4) {
        if (!$stopped && time - $began > 0.5) { $f->{stop}->(); $stopped = 1 }
        my $r = ask($one, 'axis:0 0.' . (700 + $n++ % 7));
        $bad++ if $r->{status} != 200 || $r->json->{model} ne 'zero';
    }
    is($bad, 0, "$kind away under load: none of $n requests is lost");
    my @said = $one->log =~ /(AIP0062: AIRouteCache $kind:\S+ does not answer)/g;
    cmp_ok(scalar @said, '>=', 1, "$kind: the log says so");
    cmp_ok(scalar @said, '<=', 3, "$kind: once a child");
    $f->{start}->();
    mock_reset();
    ok(wait_until("$kind is used again", sub { ask($one, "axis:0 0.71 $n"); ++$n; $one->log =~ /AIP0063: AIRouteCache $kind/ }, 20), "$kind: back");

    # stalls: connected, but no answer
    {
        $pid = $f->{pid}->();
        kill 'STOP', $pid;
        $began = time;
        @answers = map { ask($other, "axis:0 0.6$_") } 1 .. 30;
        my $took = time - $began;
        kill 'CONT', $pid;
        is_deeply([grep { $_->{status} != 200 || $_->json->{model} ne 'zero' } @answers], [], "$kind stalls: every request is answered");
        like($other->log, qr/AIP0062/, "$kind stalls: the log says so");
        cmp_ok($took, '<', 3, "$kind stalls: no request waits for it ($took s)");
    }
    $_->stop for @servers;
    $f->{stop}->();
    is_deeply([map { $_->unexpected(@allowed) } @servers], [], "$kind: nothing else is said");
}
is_deeply([map { $_->deaths } grep { $_ != $h } @all], [], 'no child died');

# The cache outlives restarts, and httpd its modules: it ends well nevertheless. In a session of its own: prefork
# ends its whole process group.
my $last = server('SPARE_1', 'AIRouteCache shmcb');
$last->stop;
my ($status, undef, $said) = run_command(['sh', '-c', 'setsid "$0" -f "$1/httpd.conf" -DFOREGROUND & p=$!
    until grep -q "resuming normal operations" "$1/error_log" && [ -s "$1/pid" ]; do sleep 0.1; done
    : >"$1/error_log"; kill -USR1 $p; until grep -q "resuming normal operations" "$1/error_log"; do sleep 0.1; done
    kill -TERM $p; wait $p', $ENV{AIP_HTTPD}, $last->{dir}]);
is($status, 0, 'httpd stops with status 0') or diag($said);
finish();
