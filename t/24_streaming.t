#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Streams: each event reaches the client when it comes, whole and unchanged, over HTTP/1.1 and HTTP/2; who may stream;
# usage that is asked for on the quiet and taken out again; a stream that breaks off ends as one, with an error event.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use List::Util qw(sum0);

my $stream = chat('x', stream => \1);
my $mock   = port('MOCK_1');

sub behave { my ($do) = @_; mock_reset(); mock_behave({port => $mock, times => -1, do => $do}); return }

# CODE->(ANSWER, NAME) for the first and second request of a connection and over HTTP/2, a good request after each.
sub streams {
    my ($do, $path, $body, $code, @headers) = @_;
    behave($do);
    for my $name ('first request', 'second request') {
        my $c = client();
        $c->post('/streaming/good', $stream) if $name eq 'second request';
        my $r = $c->post($path, $body, @headers);
        ok($r->{complete}, "$name: a proper end");
        $code->($r, $name);
        is($c->post('/streaming/good', $stream)->{status}, 200, "$name: the connection is usable");
    }
    if (have_http2()) {
        my $c = h2_client();
        my $r = $c->post($path, $body, @headers);
        ok($r->{complete} && !$r->{error}, 'HTTP/2: a proper end');
        $code->($r, 'HTTP/2');
        is($c->post('/streaming/good', $stream)->{status}, 200, 'HTTP/2: the connection is usable');
    }
    return;
}

# What was asked of the target in the first request of the series.
sub asked { my ($i) = @_; return from_json((mock_requests(port => $mock))[$i // 0]{body}) }

# ---- each event when it comes ----
streams({stream => {auto => 5, interval_ms => 60}}, '/streaming', $stream, sub {
    my ($r, $name) = @_;
    is($r->{status}, 200, "as it comes, $name");
    like($r->header('Content-Type'), qr{^text/event-stream}, "$name: type");
    is($r->header('X-LLM-Model'), 'openai/m', "$name: model");
    is($r->header('Content-Length'), undef, "$name: no length");
    my @pieces = grep { length $_->[1] } @{$r->{pieces}};
    is(scalar @pieces, 7, "$name: one piece an event");
    like($pieces[0][1], qr/\Adata: .*\n\ndata: .*\n\n\z/, "$name: but the role waits for the first content");
    is(scalar(grep { $_->[1] !~ /\Adata: .*\n\n\z/ } @pieces[1 .. $#pieces]), 0, "$name: each of them one whole event");
    my @gaps = map { $pieces[$_][0] - $pieces[$_ - 1][0] } 1 .. $#pieces;
    cmp_ok(sum0(map { $_ > 0.03 ? 1 : 0 } @gaps), '>=', 5, "$name: each in its own time") or diag("@gaps");
    is((stream_events($r->{body}))[-1], '[DONE]', "$name: [DONE] is the last");
});
for my $path ('/streaming/patient', '/streaming/deflate') {
    behave({stream => {events => ['{"n":1}', '{"n":2}'], interval_ms => 15_000}});
    my $c = client(timeout => 5);
    $c->send_request('POST', $path, $stream, 'Accept-Encoding' => 'gzip');
    my $r = $c->head;
    is($c->piece($r), qq(data: {"n":1}\n\n), "$path: the first event is there while the target thinks about the second");
    is($r->header('Content-Encoding'), undef, "$path: not compressed");
    $c->close;
    mock_wait('early_close', port => $mock);
}
streams({}, '/streaming/deflate', chat('x'), sub {
    my ($r, $name) = @_;
    is($r->header('Content-Encoding'), 'gzip', "DEFLATE, $name: what is no stream is compressed");
}, 'Accept-Encoding' => 'gzip');

# ---- unchanged ----
my $odd = qq(\xef\xbb\xbf: a comment\n\nevent: ping\ndata: {"type": "ping"}\n\ndata: {"a":1.0,\ndata:"b":"caf\xc3\xa9"}\nid: 7\nretry: 10\n\n)
    . qq(data: no JSON\r\n\r\n:\r\n\r\ndata\r\rdata: {"choices":[{"delta":{"content":"\\u00e9"}}],"x":[]}\n\n\n\ndata: last, without an end);
utf8::decode(my $text = $odd);
for my $split (0, 1, 3, 10_000) {
    streams({stream => {events => [{raw => $text}], sse_end => 'none', split_bytes => $split, interval_ms => 0}}, '/streaming/statistics', $stream, sub {
        my ($r, $name) = @_;
        is($r->{body}, $odd, "in pieces of $split, $name: byte for byte");
    });
}
streams({stream => {auto => 3, crlf => \1, split_bytes => 7, interval_ms => 0}}, '/streaming', $stream, sub {
    my ($r, $name) = @_;
    is(scalar(() = $r->{body} =~ /\r\n\r\n/g), 6, "CRLF, $name: all events with their line ends");
    is(scalar(() = $r->{body} =~ /(?<!\r)\n/g), 0, "CRLF, $name: and no other");
});
streams({stream => {auto => 2, sse_end => 'none'}}, '/streaming', $stream, sub {
    my ($r, $name) = @_;
    unlike($r->{body}, qr/DONE|error/, "no [DONE], $name: none is made up");
    is(scalar(stream_events($r->{body})), 4, "no [DONE], $name: all events");
});
streams({stream => {auto => 2}, until_close => \1}, '/streaming', $stream, sub {
    my ($r, $name) = @_;
    is((stream_events($r->{body}))[-1], '[DONE]', "until close, $name: whole");
});
my $large = '{"choices":[{"delta":{"content":"' . 'z' x 1_500_000 . '"}}]}';
streams({stream => {events => ['1', $large, '2']}}, '/streaming/statistics', $stream, sub {
    my ($r, $name) = @_;
    ok($r->{body} eq "data: 1\n\ndata: $large\n\ndata: 2\n\ndata: [DONE]\n\n", "an event of 1.5 MB, $name");
});
streams({error_event => 2}, '/streaming', $stream, sub {
    my ($r, $name) = @_;
    my @events = stream_events($r->{body});
    is(scalar @events, 3, "error event of the target, $name: the last one");
    is(from_json($events[-1])->{error}{code}, 'mock_stream_error', "error event of the target, $name: unchanged");
});
streams({status => 429, headers => [['Retry-After', '9']]}, '/streaming', $stream, sub {
    my ($r, $name) = @_;
    is("$r->{status} " . $r->error->{code}, '429 mock_429', "an error instead of a stream, $name");
    is($r->header('Retry-After'), 9, "an error instead of a stream, $name: header");
});

# ---- who may stream ----
for my $path (qw(/streaming /streaming/allow /streaming/deny)) {
    streams({}, $path, chat('x', stream => \0), sub {
        my ($r, $name) = @_;
        is($r->json->{object}, 'chat.completion', "$path, stream false, $name: no stream");
        is(asked()->{stream}, JSON::PP::false, "$path, stream false: the target is asked for none");
    });
}
for my $body (chat('x'), chat('x', stream => \0), $stream, chat('x', stream => undef)) {
    streams({}, '/streaming/always', $body, sub {
        my ($r, $name) = @_;
        like($r->header('Content-Type'), qr{^text/event-stream}, "always, $name: a stream");
        is((stream_events($r->{body}))[-1], '[DONE]', "always, $name: whole");
        is(asked()->{stream}, JSON::PP::true, 'always: the target is asked for one');
    });
}
my $r = post('/streaming/deny', $stream);
is($r->error->{code}, 'streaming_denied', 'deny: refused');

# ---- usage on the quiet ----
my $quiet = sub {
    my ($r, $name) = @_;
    my @events = stream_events($r->{body});
    is(scalar @events, 8, "usage is taken out, $name: the events of a stream without it");
    is(scalar(grep {/"choices":\[\]/} @events), 0, "usage is taken out, $name: no chunk without choices");
    is($events[-1], '[DONE]', "usage is taken out, $name: [DONE]");
};
my %options = (none => {}, null => {stream_options => undef}, empty => {stream_options => {}}, false => {stream_options => {include_usage => \0}});
for my $what (sort keys %options) {
    my $lines = statistics();
    streams({stream => {auto => 5, interval_ms => 0}}, '/streaming/statistics', {%$stream, %{$options{$what}}}, $quiet);
    is(asked()->{stream_options}{include_usage}, JSON::PP::true, "stream_options $what: the target is asked for usage");
    is(statistics_wait($lines + (have_http2() ? 3 : 2))->{ai}{proxy}{usage}{total_tokens}, 18, "stream_options $what: which is logged");
}
streams({stream => {auto => 5, interval_ms => 0}}, '/streaming/statistics/always', chat('x'), $quiet);
streams({stream => {auto => 5, interval_ms => 0}}, '/streaming/statistics', {%$stream, stream_options => {include_usage => \1, other => 1}}, sub {
    my ($r, $name) = @_;
    my @events = stream_events($r->{body});
    is(scalar @events, 9, "usage is kept for who asked, $name");
    is(from_json($events[-2])->{usage}{total_tokens}, 18, "usage is kept for who asked, $name: as it came");
});
is_deeply(asked()->{stream_options}, {include_usage => JSON::PP::true, other => 1}, 'and the options go as they are');
streams({stream => {events => ['{"choices":[{"delta":{"content":"a"}}],"usage":{"total_tokens":3}}', '{"choices":[],"x":1}']}}, '/streaming/statistics',
    $stream, sub {
        my ($r, $name) = @_;
        is(scalar(stream_events($r->{body})), 3, "usage beside text, and no choices without usage, $name: stay");
    });
for my $path ('/streaming', '/streaming/payloads') {
    streams({stream => {auto => 5, interval_ms => 0}}, $path, $stream, sub { });
    is(asked()->{stream_options}, undef, "$path: no usage is asked for where none is logged");
}
streams({}, '/streaming/statistics', chat('x'), sub { });
is(asked()->{stream_options}, undef, 'nor for an answer that is no stream');

# ---- a stream that breaks off ----
my $first = qq(data: {"choices":[{"delta":{"content":"one"}}]}\n\n);
my $chunk = sprintf "%x\r\n%s\r\n", length $first, $first;
my %raw   = (no_framing => \1, content_type => 'text/event-stream', headers => [['Transfer-Encoding', 'chunked']], close => \1);
for ( # the pause before the second event lets the first one reach the client
    ['cut between events', {stream => {events => [{raw => $first}, {raw => ": x\n\n"}], sse_end => 'cut', interval_ms => 80}}, 'body-cut'],
    ['cut within an event', {stream => {events => [{raw => $first}, {raw => 'data: {"cho'}], sse_end => 'cut', interval_ms => 80}}, 'body-cut'],
    ['reset', {stream => {events => [{raw => $first}, {raw => ": x\n\n"}], sse_end => 'cut', interval_ms => 80}, reset => \1}, 'body-cut'],
    ['a bad chunk', {%raw, body => "${chunk}zz\r\n", trickle => {bytes => length $chunk, interval_ms => 80}}, 'body-cut'],
    ['silence', {stream => {events => [{raw => $first}, 'x'], interval_ms => 5000}}, 'idle-timeout'],
) {
    my ($what, $do, $outcome) = @$_;
    log_mark();
    streams($do, '/streaming', $stream, sub {
        my ($r, $name) = @_;
        is($r->{status}, 200, "$what, $name: had begun");
        my ($begin, $end) = $r->{body} =~ /\A(\Q$first\E)(?:: x\n\n)?data: (\{.*\})\n\n\z/;
        is($begin, $first, "$what, $name: the whole events, then one more") or diag($r->{body});
        my $error = from_json($end // '{}')->{error};
        is_deeply([@$error{qw(type param)}, $error->{message}], ['upstream_error', undef, "the model's answer broke off"], "$what, $name: an error");
        is($error->{code}, $outcome, "$what, $name: its code");
    });
    like(log_wait('AIP0022'), qr/target plain: the answer broke off after \d+ bytes: $outcome/, "$what: a warning in the log");
    unexpected_tags('AIP0022');
    log_mark();
}
finish();
