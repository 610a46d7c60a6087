#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Templates in upstream URLs: what a client may fill in, where that leads, and that AIEgressAllow has the last word.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my ($one, $two) = map { port("MOCK_$_") } 1, 2;
sub target { my ($url, @lines) = @_; return "<AITarget t>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\nAIModelOptionsUpstreamUrl \"$url\"\nAIAuthHeaderName Authorization\nAIAuthHeaderValue \"Bearer operator\"\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n" }
my $allow = "AIEgressAllow http://localhost:$one/* http://127.0.0.1:$one/v1/*\n";
my ($key, $keys) = ('aip-key-of-alice-with-256-bits-of-chance', "$AIPTest::Setup::t/state/template-keys");
write_keys($keys, key_line('alice', $key));
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n$allow"
        . "<Location /host>\nAIProxy On\nAIStatisticsLog statistics_log\n" . target("http://\$(headers.x-host):$one/v1/chat/completions", 'AILoggingLogStatistics On') . "</Location>\n"
        . "<Location /path>\nAIProxy On\n" . target("http://127.0.0.1:$one/v1/\$(query_params.team)/\$(headers.x-part)?v=\$(query_params.v)") . "</Location>\n"
        . "<Location /keys>\nAIProxy On\nAIApiKeyFile \"$keys\"\n" . target("http://127.0.0.1:$one/v1/\$(headers.x-part)/\$(query_params.team)") . "</Location>\n"
        . "<LocationMatch ^/cap/(?<where>[^/]+)/>\nAIProxy On\n" . target("http://\$(uri_captures.where):$one/c") . "</LocationMatch>\n"
        . "<Location /other>\nAIProxy On\n" . target("http://\$(headers.x-host):$two/v1") . "</Location>\n");
sub ask { my ($path, @headers) = @_; return client(port => port('SPARE_1'), timeout => 20)->post($path, chat('x'), @headers) }
sub sent { my ($got) = mock_requests(port => $one); return $got // {} }

mock_reset();
for my $host (qw(localhost 127.0.0.1 LOCALHOST)) {
    is(ask('/host', 'X-Host' => $host)->{status}, 200, "the host $host");
}
my %at = map { my %f = map { lc $_->[0] => $_->[1] } @{$_->{headers}}; ($f{host} => $f{authorization}) } mock_requests(port => $one);
is_deeply(\%at, {map { ("$_:$one" => 'Bearer operator') } qw(localhost 127.0.0.1 LOCALHOST)}, 'each is asked by its name');
my $c = client(port => port('SPARE_1'), timeout => 20);
is(join(' ', map { $c->post('/host', chat('x'), 'X-Host' => $_)->{status} } qw(localhost 127.0.0.1 localhost)), '200 200 200', 'one after the other on one connection of the client');

mock_reset();
my $r = ask('/host');
is($r->{status}, 400, 'no value: 400');
is($r->json->{error}{message}, 'headers key x-host was not provided', 'in Kong\'s words');
for ('evil.example', '127.0.0.2', 'localhost.evil.example', '169.254.169.254', 'metadata.google.internal') {
    $r = ask('/host', 'X-Host' => $_);
    is($r->{status}, 403, "the host $_: 403");
    is($r->json->{error}{code}, 'egress_denied', 'and a code');
    unlike($r->{body}, qr/\Q$_\E/, 'that says nothing more');
}
for ("localhost:$two", 'user@localhost', "localhost/x", 'localhost?x', 'localhost#x', "evil.example#\@localhost", '[::1]', 'local host', '-localhost', '.localhost', 'localhost.', 'a..b', "localhost\\evil", 'localhost%00', '%6cocalhost', "l\xc3\xb6calhost", 'x' x 300) {
    $r = ask('/host', 'X-Host' => $_);
    is($r->{status}, 400, 'no part of a host name: ' . substr($_, 0, 30) =~ s/[^ -~]/?/gr);
}
is(ask('/other', 'X-Host' => 'localhost')->{status}, 403, 'another port than AIEgressAllow names');
is(scalar(mock_requests()), 0, 'and nothing was sent anywhere');

is(ask('/path?team=a%20b&v=1', 'X-Part' => 'c')->{status}, 200, 'parts of a path');
is(sent()->{path}, '/v1/a%20b/c?v=1', 'each in its place');
for (['a', 'b?c=d#e'], ['a&v=9', 'b'], ['a', "b;c"], ['a', "b c"]) {
    mock_reset();
    is(ask("/path?team=$_->[0]&v=1", 'X-Part' => $_->[1])->{status}, 200, "a part with odd bytes: $_->[0], $_->[1]");
    like(sent()->{path}, qr{^/v1/[^/?#;]+/[^/?#;]+\?v=[^&#]+$}, 'stays one part');
}
mock_reset();
for (['..%2f..%2fadmin', 'x'], ['a', '../../x'], ['a', '%2e%2e'], ['a', 'b/c'], ['a', '..\\x']) {
    is(ask("/path?team=$_->[0]&v=1", 'X-Part' => $_->[1])->{status}, 403, "a part that a server could read in another way: $_->[0], $_->[1]");
}
is(scalar(mock_requests()), 0, 'is sent nowhere');
mock_reset();
my @key = (Authorization => "Bearer $key");
is(ask('/keys?team=b', 'X-Part' => 'a', @key)->{status}, 200, 'parts next to an API key');
is(ask('/keys?team=b', 'X-Part' => $key, @key)->{status}, 400, 'the key is no part');
is(ask("/keys?team=$key", 'X-Part' => 'a', @key)->{status}, 400, 'nor out of the query');
unlike(join(' ', map { $_->{path} } mock_requests()), qr/\Q$key\E/, 'and does not leave');
mock_reset();
for my $bad ('.', '..') {
    is(ask("/path?team=$bad&v=1", 'X-Part' => 'c')->{status}, 400, "a part '$bad' is refused");
}
is(ask('/path?team=a', 'X-Part' => 'c')->{status}, 400, 'a parameter that is missing');
is(scalar(mock_requests()), 0, 'and nothing was sent');

is(ask('/cap/localhost/x')->{status}, 200, 'a group of LocationMatch');
is(ask('/cap/evil.example/x')->{status}, 403, 'which AIEgressAllow does not let pass');
$h->stop;
is_deeply([$h->unexpected], [], 'nothing unexpected in the log');
like($h->log, qr/AIP0215: target t: a request asked for http:\/\/evil\.example:\d+, which no AIEgressAllow/, 'the log says where a request wanted to go');
like(slurp("$h->{dir}/statistics_log"), qr/"server\.address":"localhost"|localhost/, 'statistics name the host that was asked');

# ---- configuration ----
sub refused { my ($what, $text, $why) = @_; my ($status, $said) = config_check($text); isnt($status, 0, "refused: $what"); like($said, $why, 'and why'); return }
my $place = sub { "<Location /x>\nAIProxy On\n" . target(@_) . "</Location>\n" };
refused('no AIEgressAllow', $place->('https://$(headers.x).example.com/v1'), qr/AIP0014: .*name the hosts that a client may choose/);
refused('a scheme', "$allow" . $place->('$(headers.x)://host/v1'), qr/must say http:\/\/ or https:\/\/ itself/);
refused('a port', "$allow" . $place->('http://host:$(headers.x)/v1'), qr/must say the port itself/);
refused('a credential', "$allow" . $place->("http://host/\$(headers.$_)"), qr/must not be made of a client's credential/) for qw(Authorization cookie X-Api-Key);
refused('another source', "$allow" . $place->('http://host/$(env.PATH)'), qr/holds a broken template/);
refused('not closed', "$allow" . $place->('http://host/$(headers.x'), qr/holds a broken template/);
refused('a path beside it', "$allow" . $place->('http://$(headers.x)/v1', 'AIModelOptionsUpstreamPath /p'), qr/AIModelOptionsUpstreamPath has no place beside/);
my ($status, $said) = config_check($allow . $place->('https://$(headers.x).example.com:8443/v1/$(query_params.y)'));
is($status, 0, 'accepted') or diag($said);
finish();
