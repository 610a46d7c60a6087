#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# AIKeepAliveHold: under MPM event the thread that has answered waits for the next request of a client that asks again quickly.
# mod_status counts it as busy; nobody else sees anything.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $target = "<AITarget t>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\n"
    . 'AIModelOptionsUpstreamUrl ' . url('MOCK_1', '/v1/chat/completions') . "\n</AITarget>\n";
my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
StartServers 1
ServerLimit 2
ThreadsPerChild 16
MaxRequestWorkers 16
MinSpareThreads 1
MaxSpareThreads 16
KeepAliveTimeout 30
<Location /plain>
AIProxy On
AIKeepAliveHold 0
$target</Location>
<Location /hold>
AIProxy On
AIKeepAliveHold 1000
$target</Location>
<Location /short>
AIProxy On
AIKeepAliveHold 1
$target</Location>
<Location /status>
SetHandler server-status
</Location>
CONF

sub connected { return client(port => port('SPARE_1')) }

# Threads that are not idle, without the one that tells.
sub busy {
    my ($workers) = connected()->get('/status?auto')->{body} =~ /^BusyWorkers: (\d+)$/m;
    return $workers - 1;
}
sub ask { my ($c, $path, @more) = @_; return $c->post($path, chat('hello', @more))->{status} }

mock_reset();
my $plain = connected();
ask($plain, '/plain') for 1 .. 3;
wait_until('the thread is idle again', sub { busy() == 0 });

my $held = connected();
is(ask($held, '/hold'), 200, 'the first request of a connection');
wait_until('the thread is idle again', sub { busy() == 0 });
is(ask($held, '/hold'), 200, 'the second, soon after');
wait_until('its thread waits', sub { busy() == 1 }, 1);
is(ask($held, '/hold'), 200, 'the third meets it');
wait_until('and it waits again', sub { busy() == 1 }, 1);
wait_until('until the time is over', sub { busy() == 0 });
is(ask($held, '/hold'), 200, 'the connection lives on');
is(busy(), 0, 'now the client is not one that asks again soon');

# An answer does not wait for what comes after it.
my $c = connected();
ask($c, '/hold');
my $begin = time;
is(ask($c, '/hold'), 200, 'an answer before the wait');
cmp_ok(time - $begin, '<', 0.8, 'is not kept until the wait is over');

# The client leaves while its thread waits.
$c->close;
wait_until('the thread is idle at once', sub { busy() == 0 }, 1);

# Everybody is served while a quarter of the threads wait.
my @many = map { connected() } 1 .. 12;
for my $client (@many) {
    ask($client, '/hold') for 1 .. 2;
}
my $waiting = busy();
cmp_ok($waiting, '<=', 4, 'at most a quarter of the threads wait');
cmp_ok($waiting, '>=', 1, 'some do');
is(ask(connected(), '/plain'), 200, 'another client is served');
is_deeply([map { ask($_, '/hold') } @many], [(200) x 12], 'and those whose threads did not wait');
$_->close for @many;

# Requests that are there already, streams, bodies, an end by the client: as ever.
$c = connected();
$c->send_request('POST', '/hold', chat("number $_")) for 1 .. 5;
is_deeply([map { $c->answer->{status} } 1 .. 5], [(200) x 5], 'pipelined requests');
is(ask($c, '/hold', stream => JSON::PP::true), 200, 'a stream');
is($c->post('/hold', chat('x' x 200_000))->{status}, 200, 'a long body');
is(connected()->post('/hold', '{')->{status}, 400, 'a broken one');
is($c->get('/status?auto')->{status}, 200, 'another handler of the same connection');
is($c->post('/hold', chat('last'), Connection => 'close')->{status}, 200, 'the last request');
ok($c->closed, 'the connection is closed after it, without a wait');

my $short = connected();
is_deeply([map { ask($short, '/short') } 1 .. 100], [(200) x 100], 'requests that come sooner or later than a short wait');

# A restart meets threads that wait.
$held = connected();
ask($held, '/hold') for 1 .. 2;
$h->graceful;
is(ask(connected(), '/hold'), 200, 'after a graceful restart');
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');
finish();
