#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Inheritance as requests see it: scalar directives merge one by one through server, virtual host, nested locations, patterns
# and <If>; a section with targets replaces the inherited list; a part of a gateway can be switched off.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

sub target {
    my ($name, $mock, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl ${\url($mock // 'MOCK_1', '/v1/chat/completions')}", @lines, "</AITarget>\n";
}

my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
Listen 127.0.0.1:\${SPARE_3_PORT}
<IfModule status_module>
</IfModule>
AIProxy On
AIModelNameHeaderName X-Of-Server
AIMaxRequestBodySize 2000
${\target('server')}
<Location /a>
AIMaxRequestBodySize 1000
${\target('a')}
</Location>
<Location /a/b>
AIResponseStreaming deny
</Location>
<Location /a/b/c>
${\target('c1')}
${\target('c2')}
AIModelNameHeader Off
</Location>
<LocationMatch "^/m/[0-9]+\$">
AIClientModel strict
${\target('matched')}
</LocationMatch>
<If "%{HTTP:X-Tenant} == 'blue'">
AIModelNameHeaderName X-Of-If
${\target('blue')}
</If>
<Location /off>
AIProxy Off
</Location>
<Location /status>
SetHandler server-status
</Location>
<Location /w>
${\target('three', 'MOCK_1', 'AIWeight 30')}
${\target('one', 'MOCK_2', 'AIWeight 10')}
</Location>
<VirtualHost 127.0.0.1:\${SPARE_3_PORT}>
ServerName vhost
AIModelNameHeaderName X-Of-Vhost
<Location /v>
${\target('v')}
</Location>
</VirtualHost>
CONF
my $c = client(port => port('SPARE_1'));
sub ask { my ($path, $body, @h) = @_; return client(port => port('SPARE_1'))->post($path, $body // chat('x'), @h) }
sub model { my $r = ask(@_); return $r->{status} == 200 ? $r->json->{model} : $r->{status} }

is(model('/'), 'server', 'the server level is a gateway');
is(model('/any/path.php'), 'server', 'for any path');
is(ask('/')->header('X-Of-Server'), 'openai/server', 'with its header');
is(ask('/', {messages => [{role => 'user', content => 'x' x 1500}]})->{status}, 200, 'body limit of the server');
is(model('/a'), 'a', 'a location replaces the targets');
is(ask('/a')->header('X-Of-Server'), 'openai/a', 'and keeps the rest');
is(ask('/a', {messages => [{role => 'user', content => 'x' x 1500}]})->{status}, 413, 'body limit of the location');
is(model('/a/b'), 'a', 'a nested location without targets');
is(ask('/a/b', chat('x', stream => JSON::PP::true))->{status}, 400, 'adds a directive');
is(ask('/a', chat('x', stream => JSON::PP::true))->{status}, 200, 'for itself only');
is(ask('/a/b', {messages => [{role => 'user', content => 'x' x 1500}]})->{status}, 413, 'and inherits the limit');
my %seen = map { model('/a/b/c') => 1 } 1 .. 4;
is_deeply(\%seen, {c1 => 1, c2 => 1}, 'a deeper list replaces, it does not add');
is(ask('/a/b/c')->header('X-Of-Server'), undef, 'a flag switched off again');
is(ask('/a/b/c', chat('x', stream => JSON::PP::true))->{status}, 400, 'the inherited directive still holds');
is(ask('/m/12', {messages => [{role => 'user', content => 'x'}]})->json->{model}, 'matched', 'LocationMatch');
is(ask('/m/12', chat('x'))->{status}, 400, 'with its directive');
is(model('/m/x'), 'server', 'beside the pattern');
is(model('/a', undef, 'X-Tenant' => 'blue'), 'blue', '<If> replaces the targets');
is(ask('/a', undef, 'X-Tenant' => 'blue')->header('X-Of-If'), 'openai/blue', 'and adds a directive');
is(ask('/off')->{status}, 404, 'switched off below');
like(ask('/off')->{body}, qr/<html>/i, 'and httpd answers as ever');
is($c->get('/status?auto')->{status}, 200, 'SetHandler in a gateway is what it says');
like($c->get('/status?auto')->{body}, qr/^Total Accesses|^ServerVersion|^ServerMPM/m, 'the status page');

# the order and the counter are exact over all children
my @order = map { model('/w') } 1 .. 40;
my %count;
$count{$_}++ for @order;
is_deeply(\%count, {three => 30, one => 10}, 'weights 30 and 10 over 40 requests');
my @gaps = grep { $order[$_] eq 'one' } 0 .. 39;
is_deeply([map { $gaps[$_] - $gaps[$_ - 1] } 1 .. $#gaps], [(4) x 9], 'spread evenly');

sub vhost { return client(port => port('SPARE_3'))->post($_[0], chat('x'), Host => 'vhost') }
is(vhost('/')->json->{model}, 'server', 'a virtual host inherits');
is(vhost('/')->header('X-Of-Vhost'), 'openai/server', 'and changes');
is(vhost('/v')->json->{model}, 'v', 'and has targets of its own');
is(vhost('/a')->json->{model}, 'a', 'locations of the main server hold in it');
$h->stop;
is_deeply([$h->unexpected()], [], 'nothing unexpected in the log');

# AIProxy On without a target that applies is found when it is asked
$h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nAIProxy On\n<Location /x>\n${\target('x')}</Location>\n");
is(model('/x'), 'x', 'a server-level switch, targets in a location');
my $r = ask('/elsewhere');
is($r->{status}, 503, 'no target here');
is($r->json->{error}{code}, 'no_targets', 'as JSON');
$h->stop;
is_deeply([$h->unexpected('AIP0031')], [], 'and as a line for the operator');
finish();
