#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# A hostile upstream: answers that two readers could frame differently, bytes behind an answer that wait for the next
# request, heads that would split the answer to the client. Whatever it sends, the client gets one whole answer, and the
# next request gets its own. (t/30 has the plain faults; the grammar itself is tested in t/unit/test_http1*.c.)
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Wire;
use Time::HiRes qw(sleep);

my $wire = AIPTest::Wire->start(port('SPARE_2'));
my $more = mpm() eq 'prefork' ? "StartServers 1\nServerLimit 1\nMaxRequestWorkers 1\nMinSpareServers 1\nMaxSpareServers 1\n"
    : "StartServers 1\nServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\nMinSpareThreads 1\nMaxSpareThreads 8\n"; # one pool
$wire->tls(port('SPARE_3'));
sub target {
    my ($name, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\n"
        . "AIModelOptionsUpstreamUrl http://127.0.0.1:\${SPARE_2_PORT}/v1/chat/completions\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}
sub tls_target { return target(@_) =~ s{http://127.0.0.1:\$\{SPARE_2_PORT\}}{https://localhost:\${SPARE_3_PORT}}r =~ s/(?=<.AITarget)/SSLProxyCACertificateFile "\${TLS_DIR}\/ca.pem"\n/r }
my @header = ('AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer sk-live-1234567890"');
my @param = ('AIAuthParamName api_key', 'AIAuthParamValue "p \\"q\\"/r=s&t"');
my $h = start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
${more}Protocols h2c http/1.1
<Location /u>
AIProxy On
AIBalancerReadTimeout 1500
AIBalancerConnectTimeout 500
${\target('one')}</Location>
<Location /tls>
AIProxy On
AIBalancerReadTimeout 1500
${\tls_target('two')}</Location>
AIStatisticsLog statistics
<Location ~ "^/echo-">
AIProxy On
</Location>
<Location /echo-header>
${\target('header', @header, 'AILoggingLogStatistics On', 'AILoggingLogPayloads On')}</Location>
<Location /echo-query>
${\target('query', 'AIAuthParamLocation query', @param)}</Location>
<Location /echo-body>
${\target('body', 'AIAuthParamLocation body', @param)}</Location>
<Location /echo-own>
${\target('own', 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer another-secret"', 'AIAuthAllowOverride On')}</Location>
<Location /echo-short>
${\target('short', 'AIAuthHeaderName X-Key', 'AIAuthHeaderValue k')}</Location>
<Location /echo-two>
AIBalancerAlgorithm priority
AIBalancerFailoverCriteria error http_503
${\target('first', @header, 'AIWeight 200')}${\target('second', 'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer another-secret"')}</Location>
CONF

sub gateway { return client(port => port('SPARE_1')) }
sub said    { my ($r) = @_; return eval { $r->json->{choices}[0]{message}{content} } // "$r->{status}: $r->{body}" }

my $ok   = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
my $evil = '{"choices":[{"message":{"content":"SMUGGLED"}}]}';
my $next = "${ok}Content-Length: " . length($evil) . "\r\n\r\n$evil"; # an answer that nobody asked for
my $body = '{"a":1}';
my $seven = "Content-Length: 7\r\n\r\n$body";

# name => [what the client sees: status, or outcome of a 502; bytes]. All of them are followed by an answer that nobody asked
# for, in the same breath where the framing allows, and a moment later.
my %answer = (
    'length and chunks'            => ['invalid-header', "${ok}Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    'chunks and length'            => ['invalid-header', "${ok}Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n$body"],
    'two lengths'                  => ['invalid-header', "${ok}Content-Length: 7\r\nContent-Length: 70\r\n\r\n$body"],
    'equal lengths'                => [200,              "${ok}Content-Length: 7\r\n$seven"],
    'a list of lengths'            => ['invalid-header', "${ok}Content-Length: 7, 7\r\n\r\n$body"],
    (map { ("length '$_'" => ['invalid-header', "${ok}Content-Length: $_\r\n\r\n$body"]) } '+7', '-7', '0x7', '7 7', '7;', '', '99999999999999999999', "7\x0b"),
    'a length after white space'   => [200,              "${ok}Content-Length: \t 7 \t\r\n\r\n$body"],
    (map { ("coding '$_'" => ['invalid-header', "${ok}Transfer-Encoding: $_\r\n\r\n0\r\n\r\n"]) }
        'xchunked', 'chunked, identity', 'identity', 'chunked, chunked', "chunked\x0b", '"chunked"', ',chunked', 'gzip'),
    'coding twice'                 => ['invalid-header', "${ok}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    'coding and space before it'   => ['invalid-header', "${ok}Transfer-Encoding : chunked\r\n$seven"],
    'coding, folded'               => ['invalid-header', "${ok}Transfer-Encoding:\r\n chunked\r\n$seven"],
    'a folded field'               => ['invalid-header', "${ok}X-A: b\r\n c\r\n$seven"],
    'a folded first field'         => ['invalid-header', "HTTP/1.1 200 OK\r\n X-A: b\r\n$seven"],
    'no colon'                     => ['invalid-header', "${ok}X-A\r\n$seven"],
    'no name'                      => ['invalid-header', "${ok}: b\r\n$seven"],
    'NUL in a value'               => ['invalid-header', "${ok}X-A: a\0b\r\n$seven"],
    'NUL in a name'                => ['invalid-header', "${ok}X\0A: b\r\n$seven"],
    'CR in a value'                => ['invalid-header', "${ok}X-A: a\rX-B: c\r\n$seven"],
    'CR CR LF'                     => ['invalid-header', "${ok}X-A: a\r\r\n$seven"],
    'DEL in a value'               => ['invalid-header', "${ok}X-A: a\x7f\r\n$seven"],
    'control bytes in the reason'  => ['invalid-header', "HTTP/1.1 200 O\rK\r\n$seven"],
    'status 099'                   => ['invalid-header', "HTTP/1.1 099 No\r\n$seven"],
    'status 2000'                  => ['invalid-header', "HTTP/1.1 2000 OK\r\n$seven"],
    'HTTP/1.2'                     => ['invalid-header', "HTTP/1.2 200 OK\r\n$seven"],
    'HTTP/0.9'                     => ['invalid-header', $body],
    'a line before the status'     => ['invalid-header', "\r\n${ok}$seven"],
    'nine interim answers'         => ['invalid-header', ("HTTP/1.1 102 Processing\r\n\r\n" x 9) . "${ok}$seven"],
    'a thousand interim answers'   => ['invalid-header', "HTTP/1.1 100 Continue\r\n\r\n" x 1000],
    'an interim with a length'     => [200,              "HTTP/1.1 103 Early Hints\r\nContent-Length: 99\r\nSet-Cookie: a=b\r\n\r\n${ok}$seven"],
    '101'                          => ['invalid-header', "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"],
    'a huge line'                  => ['invalid-header', "${ok}X-A: " . 'a' x 20_000 . "\r\n$seven"],
    'a huge head'                  => ['invalid-header', $ok . join('', map { "X-$_: " . 'a' x 1000 . "\r\n" } 1 .. 70) . $seven],
    '201 fields'                   => ['invalid-header', $ok . ("A: b\r\n" x 200) . $seven],
    'a status line without end'    => ['invalid-header', 'HTTP/1.1 200 ' . 'a' x 20_000],
    (map { ("chunk size '$_'" => ['body-cut', "${ok}Transfer-Encoding: chunked\r\n\r\n$_\r\n$body\r\n0\r\n\r\n"]) }
        '', '-7', '+7', '0x7', ' 7', '7 a', '7fffffffffffffff0', '100000000000000007', "7;a\rb", 'zz'),
    'a huge chunk extension'       => ['body-cut', "${ok}Transfer-Encoding: chunked\r\n\r\n7;" . 'a' x 20_000 . "\r\n$body\r\n0\r\n\r\n"],
    'a chunk extension'            => [200,        "${ok}Transfer-Encoding: chunked\r\n\r\n7;a=\"b\"\r\n$body\r\n0\r\n\r\n"],
    'a chunk without its end'      => ['body-cut', "${ok}Transfer-Encoding: chunked\r\n\r\n7\r\n${body}0\r\n\r\n"],
    'CR behind a chunk'            => ['body-cut', "${ok}Transfer-Encoding: chunked\r\n\r\n7\r\n${body}\r\r\n0\r\n\r\n"],
    'a bad trailer'                => ['body-cut', "${ok}Transfer-Encoding: chunked\r\n\r\n7\r\n$body\r\n0\r\nno colon\r\n\r\n"],
    'a trailer that is a length'   => [200,        "${ok}Transfer-Encoding: chunked\r\n\r\n7\r\n$body\r\n0\r\nContent-Length: 99\r\nX-T: 1\r\n\r\n"],
    'chunks in HTTP/1.0'           => [200,        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n$body\r\n0\r\n\r\n"],
    'a body behind 204'            => [204,        "HTTP/1.1 204 None\r\n\r\n"],
    'a length with 204'            => [204,        "HTTP/1.1 204 None\r\n$seven"],
    'a body behind 304'            => [304,        "HTTP/1.1 304 Not\r\nContent-Length: 7\r\n\r\n"],
    'no framing at all'            => ['until-close', "${ok}\r\n$body"],
    'a good answer'                => [200,        "${ok}$seven"],
    'bare LF'                      => [200,        "HTTP/1.1 200 OK\nContent-Length: 7\n\n$body"],
);

# The answer with the unasked one behind it at once, and after a pause in which the connection lies in the pool.
for my $name (sort keys %answer) {
    my ($expected, $bytes) = @{$answer{$name}};
    for my $pause (0, 0.05) {
        my $what = $pause ? "$name, more later" : "$name, more behind it";
        $wire->forget;
        my $c = gateway();
        is(said($c->post('/u', chat('before'))), 'before', "$what: one before it") if $pause;
        $wire->reply($pause ? ($bytes, $pause, $next) : "$bytes$next", $expected eq 'until-close' ? 'close' : ());
        my $r = $c->post('/u', chat('attacked'));
        ok($r->{complete}, "$what: a whole answer");
        if ($expected eq 'until-close') {
            is($r->{status}, 200, "$what: all of it is the body");
            is($r->{body}, $body . $next, "$what: as it came");
        } elsif ($expected =~ /^\d/) {
            is($r->{status}, $expected, "$what: passed on");
            is($r->{body}, $expected == 200 ? $body : '', "$what: its body and no more");
        } else {
            is($r->{status}, 502, "$what: refused");
            like($r->error->{message}, qr/: \Q$expected\E$/, "$what: as $expected");
        }
        is_deeply([grep { $_->[0] =~ /^(x-b|x-t|set-cookie)$/i } @{$r->{headers}}], [], "$what: no header of its making");
        sleep 2 * $pause if $pause;
        $c = gateway() if ($r->header('Connection') // '') =~ /close/;
        for my $turn (1, 2) {
            my $again = $c->post('/u', chat("own $turn"));
            is(said($again), "own $turn", "$what: the next request, $turn, gets its own answer");
        }
    }
}
# The same over TLS, where what waits may be in the socket or in mod_ssl's buffers.
for my $pause (0, 0.05, 0.05) {
    my $c = gateway();
    $wire->forget;
    is(said($c->post('/tls', chat('before'))), 'before', 'TLS: one before it');
    $wire->reply($pause ? ("${ok}$seven", $pause, $next) : "${ok}$seven$next");
    is($c->post('/tls', chat('attacked'))->{body}, $body, 'TLS: the first answer');
    sleep 2 * $pause if $pause;
    is(said($c->post('/tls', chat("own $_"))), "own $_", "TLS: the next request, $_, gets its own answer") for 1, 2;
    is($wire->connections, 2, 'TLS: on a connection of its own');
}
my $c = gateway();
$wire->forget;
is(said($c->post('/tls', chat($_))), $_, 'TLS: a good target') for 1 .. 4;
is($wire->connections, 1, 'TLS: whose connection is kept');
if (have_http2()) {
    for my $name ('a good answer', 'two lengths', 'a body behind 304', 'CR in a value') {
        $wire->forget;
        $wire->reply($answer{$name}[1], 0.05, $next);
        $c = h2_client(port => port('SPARE_1'));
        my $r = $c->post('/u', chat('attacked'));
        is($r->{status}, $answer{$name}[0] =~ /^\d/ ? $answer{$name}[0] : 502, "HTTP/2, $name");
        sleep 0.1;
        is(said($c->post('/u', chat('own'))), 'own', "HTTP/2, $name: the next request gets its own answer");
    }
}

# ---- a provider that repeats what it was sent ----
# Places in which the secret may come back; @ stands for it, in the spelling of that place.
my ($key, $odd) = ('sk-live-1234567890', 'p "q"/r=s&t');
my %spelled = (key => [$key], odd => [$odd, 'p \\"q\\"/r=s&t', 'p%20%22q%22%2Fr%3Ds%26t']);
my $error = sub { my ($said) = @_; return qq({"error":{"message":"bad key: $said","debug":["Authorization: Bearer $said","$said"]}}\n) };
sub stars { my ($text, $secret) = @_; return $text =~ s/\Q$secret\E/'*' x length $secret/ger }
my $pad = 'x' x 16_300; # so that the secret lies across the pieces in which a body is read
for my $case (['header', 'key'], ['query', 'odd'], ['body', 'odd']) {
    my ($path, $which) = @$case;
    for my $secret (@{$spelled{$which}}) {
        for my $status (400, 401, 404, 429, 500, 503) {
            my $text = $error->($secret);
            my $what = "$path, $secret, $status";
            for my $framing ("Content-Length: " . length($text) . "\r\n\r\n$text", "Transfer-Encoding: chunked\r\n\r\n"
                . join('', map { sprintf "%x\r\n%s\r\n", length, $_ } unpack('(a7)*', $text)) . "0\r\n\r\n") {
                $wire->forget;
                $wire->reply("HTTP/1.1 $status X\r\nContent-Type: application/json\r\nX-Sent: $secret\r\nWWW-Authenticate: Bearer realm=\"$secret\"\r\n$framing");
                my $r = gateway()->post("/echo-$path", chat('x'));
                is($r->{status}, $status, "$what: passed on");
                is($r->{body}, stars($text, $secret), "$what: the body without the secret");
                is($r->header('Content-Length'), length $text, "$what: its length");
                is($r->header('X-Sent'), '*' x length $secret, "$what: a header without it");
                is($r->header('WWW-Authenticate'), 'Bearer realm="' . '*' x length($secret) . '"', "$what: another");
            }
        }
    }
}
for my $cut (0 .. length($key)) {
    my $text = substr($pad . 'y' x 84, 0, 16_384 - 200 - $cut) . $key . 'z' x 40_000;
    $wire->forget;
    $wire->reply("HTTP/1.1 500 X\r\nContent-Length: " . length($text) . "\r\n\r\n" . substr($text, 0, 16_100), 0.01, substr $text, 16_100);
    my $r = gateway()->post('/echo-header', chat('x'));
    ok($r->{body} eq stars($text, $key), "across two pieces, $cut");
}
# the pieces of an error that goes on and on
$wire->forget;
$wire->reply("HTTP/1.1 500 X\r\n\r\n", map({ ($_, 0.25) } unpack('(a9)*', "begin $key " . 'z' x 60)), 'close');
my $slow = client(port => port('SPARE_1'));
my $r = $slow->post('/echo-header', chat('x'));
is($r->{body}, 'begin ' . '*' x length($key) . ' ' . 'z' x 60, 'a slow error body');
# a withheld answer that is the last word in the end; the first target's secret, and not the second's
$wire->forget;
$wire->reply("HTTP/1.1 503 X\r\nContent-Length: " . length($error->($key)) . "\r\nX-Sent: $key\r\n\r\n" . $error->($key));
$wire->reply('', 'close');
$r = gateway()->post('/echo-two', chat('x'));
is($r->{status}, 503, 'a withheld error that is replayed');
is($r->{body}, stars($error->($key), $key), 'without the secret');
is($r->header('X-Sent'), '*' x length $key, 'nor in a header');
# streams: an error before and after content, by name and by member
my $delta = qq(data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"hi"}}]}\n\n);
for my $event (qq(event: error\ndata: $key\n\n), qq(data: {"error":{"message":"$key"}}\n\n), qq(data: {"error": "$key"}\r\n\r\n)) {
    for my $before ('', $delta) {
        $wire->forget;
        $wire->reply("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n$before$event", 'close');
        $r = gateway()->post('/echo-header', chat('x', stream => \1));
        is($r->{body}, stars("$before$event", $key), 'an error event: ' . json("$before$event"));
    }
}
# what is no secret of the operator's: an answer that succeeds, a client's own credential, a short value
$wire->forget;
my $model_says = qq({"choices":[{"message":{"content":"$key"}}]});
$wire->reply("${ok}Content-Length: " . length($model_says) . "\r\n\r\n$model_says");
is(gateway()->post('/echo-header', chat('x'))->{body}, $model_says, 'the body of a success is not searched');
for my $case (['own', $key, Authorization => "Bearer $key"], ['short', 'k']) {
    my ($path, $secret, @headers) = @$case;
    $wire->forget;
    $wire->reply("HTTP/1.1 400 X\r\nX-Sent: $secret\r\nContent-Length: " . length($error->($secret)) . "\r\n\r\n" . $error->($secret));
    $r = gateway()->post("/echo-$path", chat('x'), @headers);
    is($r->{body}, $error->($secret), "$path: unchanged");
    is($r->header('X-Sent'), $secret, "$path: and its header");
}
$h->stop;
unlike($h->log, qr/\Q$key\E/, 'and the log has it neither');
is(scalar(grep {/\Q$key\E/} split /\n/, slurp("$h->{dir}/statistics")), 1, 'nor has the statistics log, but for what the model said');
is_deeply([$h->unexpected('AIP0021', 'AIP0022', 'AIP0025')], [], 'nothing unexpected in the log');
finish();
