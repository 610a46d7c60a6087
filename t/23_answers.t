#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# What a client receives of a target's answer: status and body unchanged, whatever they are and however they are framed;
# the header without what concerns the two connections; the model's name on success.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use Compress::Zlib ();
use Digest::MD5 qw(md5_hex);
use MIME::Base64 qw(encode_base64);
use Socket qw(IPPROTO_TCP TCP_NODELAY);

my $chat = chat('x');

# CODE->(ANSWER, NAME) for the first and the second request of a connection and over HTTP/2, while the mock answers as told.
# The connection must be usable afterwards unless the answer says otherwise.
sub answers {
    my ($do, $code, $path, @headers) = @_;
    my @request = ($path // '/answers', $chat, @headers);
    mock_reset();
    mock_behave({port => port('MOCK_1'), times => -1, do => $do});
    for my $name ('first request', 'second request') {
        my $c = client();
        is($c->post('/answers/good', $chat)->{status}, 200, "$name: one before it") if $name eq 'second request';
        my $r = $c->post(@request);
        ok($r->{complete}, "$name: whole");
        $code->($r, $name);
        if (($r->header('Connection') // '') =~ /\bclose\b/i) {
            ok($c->closed, "$name: closed as announced");
        } else {
            is($c->post('/answers/good', $chat)->{status}, 200, "$name: the connection is usable");
        }
    }
    if (have_http2()) {
        my $c = h2_client();
        setsockopt $c->{socket}, IPPROTO_TCP, TCP_NODELAY, 1; # else each window of a large body costs 40 ms
        my $r = $c->post(@request);
        ok($r->{complete}, 'HTTP/2: whole');
        $code->($r, 'HTTP/2');
        is($c->post('/answers/good', $chat)->{status}, 200, 'HTTP/2: the connection is usable');
    }
    return;
}

# ---- status and body ----
my $error = qq({"error":{"message":"caf\\u00e9","type":"t","param":null,"code":1.0}}\n);
for my $status (200, 201, 202, 302, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 451, 500, 501, 502, 503, 504, 529, 599) {
    answers({status => $status, body => $error, headers => [['Retry-After', '7'], ['Location', 'http://x/']]}, sub {
        my ($r, $name) = @_;
        is($r->{status}, $status, "$status, $name: status");
        is($r->{body}, $error, "$status, $name: body");
        is($r->header('Content-Type'), 'application/json', "$status, $name: type");
        is($r->header('Content-Length'), length $error, "$status, $name: length");
        is($r->header('Retry-After'), 7, "$status, $name: header");
        is($r->header('X-LLM-Model'), $status < 300 ? 'mistral/vendor/model-1' : undef, "$status, $name: model");
    });
}
my $page = "<html>\r\n<title>not found</title>\0\n";
for my $status (200, 403, 404, 500) {
    answers({status => $status, body => $page, content_type => 'text/html; charset=x-odd'}, sub {
        my ($r, $name) = @_;
        is($r->{body}, $page, "no JSON, $status, $name: body");
        is($r->header('Content-Type'), 'text/html; charset=x-odd', "no JSON, $status, $name: type");
    });
}
answers({body => $page, content_type => undef}, sub {
    my ($r, $name) = @_;
    is($r->header('Content-Type'), undef, "no type, $name: none is made up");
    is($r->{body}, $page, "no type, $name: body");
});
answers({body => '', status => $_}, sub {
    my ($r, $name) = @_;
    is("$r->{status}:$r->{body}", $r->{status} . ':', "empty body, $name");
    is($r->header('Content-Length'), 0, "empty body, $name: its length is told");
}) for 200, 500;
answers({status => 204, no_framing => \1}, sub {
    my ($r, $name) = @_;
    is($r->{status}, 204, "204, $name");
    is_deeply([$r->{body}, $r->headers_of('Content-Length'), $r->headers_of('Transfer-Encoding')], [''], "204, $name: nothing follows");
    is($r->header('X-LLM-Model'), 'mistral/vendor/model-1', "204, $name: model");
});
answers({interim => [100, 103]}, sub {
    my ($r, $name) = @_;
    is($r->{status}, 200, "interim answers, $name: the final one");
    is_deeply($r->{interim} // [], [], "interim answers, $name: are not passed on");
});

# ---- framing and size ----
my $five_mb = join '', map { sprintf "%07d\n", $_ } 1 .. 655_360;
my %framing = (
    'with its length' => {}, 'in chunks' => {chunked => \1}, 'until close' => {until_close => \1},
    'in one piece' => {body => 'x' x 70_000}, 'in small chunks' => {body => substr($five_mb, 0, 3000), chunked => \1, trickle => {bytes => 200, interval_ms => 1}},
);
for my $what (sort keys %framing) {
    my $do = {body => $five_mb, %{$framing{$what}}};
    answers($do, sub {
        my ($r, $name) = @_;
        is($r->{status}, 200, "body $what, $name");
        is(length $r->{body}, length $do->{body}, "body $what, $name: size");
        is(md5_hex($r->{body}), md5_hex($do->{body}), "body $what, $name: unchanged");
        my $known = !($do->{chunked} || $do->{until_close}) || length $do->{body} <= 1 << 20; # what is held until it is whole
        is($r->header('Content-Length'), $known ? length $do->{body} : undef, "body $what, $name: length")
            unless $name eq 'HTTP/2';
    });
}

# ---- compression ----
my $zipped = Compress::Zlib::memGzip($five_mb);
my $raw    = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: " . length($zipped) . "\r\n\r\n$zipped";
for my $path ('/answers', '/answers/deflate') {
    answers({raw_base64 => encode_base64($raw, ''), close => \1}, sub {
        my ($r, $name) = @_;
        is($r->header('Content-Encoding'), 'gzip', "a target that compresses, $path, $name: encoding");
        is(md5_hex($r->{body}), md5_hex($zipped), "a target that compresses, $path, $name: untouched");
    }, $path, 'Accept-Encoding' => 'gzip');
}
answers({body => $five_mb}, sub {
    my ($r, $name) = @_;
    is($r->header('Content-Encoding'), 'gzip', "SetOutputFilter DEFLATE, $name: compressed");
    ok(Compress::Zlib::memGunzip($r->{body}) eq $five_mb, "SetOutputFilter DEFLATE, $name: and unchanged");
}, '/answers/deflate', 'Accept-Encoding' => 'gzip');

# ---- header ----
my @dropped = (
    ['Connection', 'X-Named, x-other'], ['X-Named', '1'], ['X-Other', '2'], ['Keep-Alive', 'timeout=5'], ['Proxy-Authenticate', 'Basic'],
    ['Proxy-Authorization', 'x'], ['Proxy-Connection', 'keep-alive'], ['TE', 'trailers'], ['Trailer', 'X-T'], ['Upgrade', 'h2c'],
    ['Set-Cookie', 'a=b'], ['Set-Cookie', 'c=d'], ['Set-Cookie2', 'e=f'], ['Alt-Svc', 'h3=":443"'],
    ['Strict-Transport-Security', 'max-age=1'], ['Date', 'Thu, 01 Jan 1970 00:00:00 GMT'], ['Server', 'upstream/1'],
);
my @kept = (
    ['x-request-id', 'req_1'], ['openai-processing-ms', '12'], ['x-ratelimit-remaining-tokens', '3'], ['Retry-After', '5'], ['Link', '<a>'], ['Link', '<b>'], ['Vary', 'A'],
    ['WWW-Authenticate', 'Bearer'], ['Cache-Control', 'no-store'], ['ETag', '"x"'], ['Content-Language', 'de'], ['Content-Disposition', 'inline'],
    ['Access-Control-Expose-Headers', 'X-Request-ID'], ['x-empty', ''], ['x-odd', "a\tb ;,\"c\x{e9}"], ['warning', '299 - "x"'],
);
answers({headers => [@dropped, @kept], body => '{}'}, sub {
    my ($r, $name) = @_;
    my %fixed = map { $_ => 1 } 'content-type', 'content-length', 'date', 'server', 'x-llm-model', 'connection', 'upgrade';
    is_deeply(
        [map { [lc $_->[0], $_->[1]] } grep { !$fixed{lc $_->[0]} } @{$r->{headers}}], [map { [lc $_->[0], utf8($_->[1])] } @kept],
        "header, $name: what is for the client, in order, and nothing else"
    ) or diag(json($r->{headers}));
    unlike($r->header('Date'), qr/1970/, "header, $name: our date");
    is(scalar(() = $r->headers_of('Date')), 1, "header, $name: once");
    unlike($r->header('Server') // '', qr/upstream/, "header, $name: our server");
    unlike(join(' ', $r->headers_of('Connection')), qr/named|other/i, "header, $name: our connection");
});

# The mock writes what it was sent as UTF-8.
sub utf8 { my ($s) = @_; utf8::encode($s); return $s }

# ---- the model's name ----
mock_reset();
my %name = (
    '/answers' => ['X-LLM-Model', 'mistral/vendor/model-1'], '/answers/other-name' => ['X-Kong-LLM-Model', 'mistral/vendor/model-1'],
    '/answers/client-model' => ['X-LLM-Model', 'openai/any'], '/answers/no-name' => [],
);
for my $path (sort keys %name) {
    answers({}, sub {
        my ($r, $when) = @_;
        my ($field, $value) = @{$name{$path}};
        is_deeply([grep { $_->[0] =~ /llm/i } @{$r->{headers}}], $field ? [[$when eq 'HTTP/2' ? lc $field : $field, $value]] : [],
            "$path, $when: the model\'s name, once, and no route without routing");
    }, $path);
}
for (["two\r\nX-Lines: 1", 'openai/'], ["f\x{fc}nf", "openai/f\xc3\xbcnf"], ['tab	', 'openai/tab']) {
    my $r = post('/answers/client-model', chat('x', model => $_->[0]));
    is($r->header('X-LLM-Model'), $_->[1], 'a name from the client: ' . json($_->[0]));
    is($r->header('X-Lines'), undef, 'and no other header');
}

# ---- HEAD ----
mock_reset();
my $c = client();
my $r = $c->send_request('HEAD', '/answers', $chat)->answer;
is("$r->{status}:$r->{body}", '200:', 'HEAD: a head');
is($r->header('X-LLM-Model'), 'mistral/vendor/model-1', 'HEAD: with the model');
is((mock_requests(port => port('MOCK_1')))[0]{method}, 'POST', 'HEAD: the target gets a POST');
is($c->post('/answers', $chat)->json->{model}, 'vendor/model-1', 'HEAD: no body follows, the connection is usable');
$r = $c->send_request('HEAD', '/answers', '{}')->answer;
is("$r->{status}:$r->{body}", '400:', 'HEAD: an error of the gateway has no body either');
finish();
