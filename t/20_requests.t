#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# What a gateway takes and what it refuses: methods, paths, media types, limits, JSON, members. A refused request is told
# what is wrong as JSON, no target sees anything of it, and the connection is what its answer says: usable or closed.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use Compress::Zlib ();

my $good = chat('good morning');

# The shape of an error, for one comparison.
sub shape {
    my ($r) = @_;
    my $error = $r->error;
    return {
        status => $r->{status}, type => $r->header('Content-Type'), members => join(' ', sort keys %$error),
        map { $_ => $error->{$_} } qw(code param)
    };
}

sub is_error {
    my ($r, $what, $status, $code, $message, $param) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply(
        shape($r),
        {status => $status, type => 'application/json', members => 'code message param type', code => $code, param => $param},
        "$what: $status"
    ) or diag($r->{body});
    like($r->error->{message}, $message, "$what: says what is wrong");
    is($r->error->{type}, 'invalid_request_error', "$what: type") if defined $code && $status < 500;
    return;
}

# The connection goes on if its answer says nothing else, and is closed if it says so.
sub is_consistent {
    my ($c, $r, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    if (($r->header('Connection') // '') =~ /\bclose\b/i) {
        ok($c->closed, "$what: the connection is closed as announced");
    } else {
        is($c->post('/requests/good', $good)->{status}, 200, "$what: the connection is usable");
    }
    return;
}

# The request as the first and the second one of a connection, and over HTTP/2 between two good ones.
sub refused {
    my ($what, $path, $body, $expected, @headers) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $name ('first', 'second') {
        my $c = client();
        $c->post('/requests/good', $good) if $name eq 'second';
        my $r = $c->post($path, $body, @headers);
        is_error($r, "$what, $name", @$expected);
        is_consistent($c, $r, "$what, $name");
    }
    if (have_http2()) {
        my $c = h2_client();
        $c->post('/requests/good', $good);
        is_error($c->post($path, $body, grep { defined } @headers), "$what, HTTP/2", @$expected);
        is($c->post('/requests/good', $good)->{status}, 200, "$what, HTTP/2: the connection is usable");
    }
    return;
}

sub nothing_seen {
    my ($what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply([map { $_->{body} } mock_requests(port => port('MOCK_1'))], [], "$what: the target saw nothing");
    return;
}

# ---- any method and path ----
mock_reset();
my $c = client();
for my $method (qw(POST PUT PATCH DELETE GET OPTIONS PROPFIND BREW)) {
    is($c->send_request($method, '/requests/x', $good)->answer->{status}, 200, "$method with a chat");
}
my @paths = ('', qw(/ /v1/chat/completions /a/ /index.php /a.html/b.cgi /.htaccess /~u /a%20b /a?b=c&d /x/..), '/' . 'long/' x 800);
for my $path (map {"/requests$_"} @paths) {
    my $r = $c->post($path, $good);
    is($r->{status}, 200, substr("path $path", 0, 40)) or diag($r->{body});
}
is($c->post('/requests-elsewhere/x', $good)->{status}, 200, 'a path that mod_rewrite hands on');
is_deeply(
    {map { ("$_->{method} $_->{path}" => 1) } mock_requests(port => port('MOCK_1'))}, {'POST /v1/chat/completions' => 1},
    'the target gets POST and its own path for all of them'
);
like($c->get('/requests/status?auto')->{body}, qr/^ServerUptime/m, 'a SetHandler below the gateway is left alone');
if (have_http2()) {
    my $h2 = h2_client();
    is($h2->request($_, '/requests/x', json($good), 'content-type' => 'application/json')->{status}, 200, "HTTP/2: $_")
        for qw(POST PUT GET);
}

# ---- media types and encodings ----
mock_reset();
for my $type ('application/json; charset=utf-8', 'Application/JSON', 'application/vnd.api+json', 'application/x+JSON;a=b', undef, '') {
    is($c->post('/requests/good', $good, 'Content-Type' => $type)->{status}, 200, 'taken: type ' . ($type // 'missing'));
}
my @type = (415, 'unsupported_media_type', qr/must be application\/json/);
refused("type $_", '/requests', $good, \@type, 'Content-Type' => $_)
    for qw(text/plain application/x-www-form-urlencoded application/jsonx application/+json text/json);
my @encoding = (415, 'unsupported_encoding', qr/Content-Encoding is not supported/);
refused("encoding $_", '/requests', Compress::Zlib::memGzip(json($good)), \@encoding, 'Content-Encoding' => $_)
    for qw(gzip br GZIP), 'identity, gzip';
refused("encoding $_ with an inflating filter", '/requests/inflate', json($good), \@encoding, 'Content-Encoding' => $_) for qw(br compress);
refused('not gzip', '/requests/inflate', 'no gzip data at all', [400, 'incomplete_body', qr/could not be read/],
    'Content-Encoding' => 'gzip');
nothing_seen('media types');
is($c->post('/requests/good', $good, 'Content-Encoding' => 'identity')->{status}, 200, 'taken: identity');
my $zipped = Compress::Zlib::memGzip(json({%$good, padding => 'x' x 9000}));
is($c->post('/requests/inflate', $zipped, 'Content-Encoding' => 'gzip')->{status}, 200, 'taken: gzip with SetInputFilter DEFLATE');
my ($got) = mock_requests(port => port('MOCK_1'));
is(from_json($got->{body})->{padding}, 'x' x 9000, 'and the target receives it inflated');
mock_reset();
refused('inflated beyond the limit', '/requests/inflate', Compress::Zlib::memGzip(json({%$good, p => 'x' x 30_000})),
    [413, 'body_too_large', qr/longer than 20000 bytes/], 'Content-Encoding' => 'gzip');

# ---- no body, too much body ----
refused('empty body', '/requests', '', [400, 'missing_body', qr/has no body/]);
is_error(get('/requests'), 'no body', 400, 'missing_body', qr/has no body/);
is_error(client()->send_request('POST', '/requests', '0' . "\r\n\r\n", 'Transfer-Encoding' => 'chunked')->answer,
    'empty chunked body', 400, 'missing_body', qr/has no body/);
is_error(h2_client()->get('/requests'), 'no body, HTTP/2', 400, 'missing_body', qr/has no body/) if have_http2();

sub chunked { my ($data, $size) = @_; return join '', map { sprintf "%x\r\n%s\r\n", length, $_ } unpack("(a$size)*", $data), '' }

my $fits = json({%$good, p => ''});
$fits = json({%$good, p => 'x' x (200 - length $fits)});
my $over = $fits =~ s/x/xx/r;
my @large = (413, 'body_too_large', qr/longer than 200 bytes/);
refused('one byte too many', '/requests/small', $over, \@large);
refused('100 000 too many', '/requests/small', $over . ' ' x 100_000, \@large);
for my $size (7, 60, 400) {
    my $r = client()->send_request('POST', '/requests/small', chunked($over, $size), 'Transfer-Encoding' => 'chunked')->answer;
    is_error($r, "one byte too many in chunks of $size", @large);
}
my @httpd_large = (413, undef, qr/^the gateway answered: 413 /);
refused('beyond LimitRequestBody', '/requests/limited', $over . ' ' x 100, \@httpd_large);
my $r = client()->send_request('POST', '/requests/limited', chunked($over . ' ' x 100, 50), 'Transfer-Encoding' => 'chunked')->answer;
is_error($r, 'beyond LimitRequestBody in chunks', @httpd_large);
nothing_seen('limits');
is($c->post('/requests/small', $fits)->{status}, 200, 'exactly the limit');
is($c->send_request('POST', '/requests/small', chunked($fits, 60), 'Transfer-Encoding' => 'chunked')->answer->{status}, 200,
    'exactly the limit in chunks');
is((mock_requests(port => port('MOCK_1')))[1]{body}, $fits =~ s/"any"/"fixed"/r, 'which reaches the target whole');
is($c->post('/requests/unlimited', json($good) . ' ' x 2_000_000)->{status}, 200, '0: no limit');

# ---- Expect: 100-continue ----
mock_reset();
$c = client();
$c->send_raw("POST /requests/good HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    . length(json($good)) . "\r\nExpect: 100-continue\r\n\r\n");
is($c->line, 'HTTP/1.1 100 Continue', 'a client that waits is asked for its body');
is($c->line, '', 'by a head without fields');
$c->{method} = 'POST';
is($c->send_raw(json($good))->answer->{status}, 200, 'and gets its answer');
for (['wrong type', 'text/plain', 100, @type], ['too long', 'application/json', 99_999, 413, 'body_too_large', qr/20000/]) {
    my ($what, $type, $length, @expected) = @$_;
    $c = client();
    $c->post('/requests/good', $good);
    $c->send_raw("POST /requests HTTP/1.1\r\nHost: x\r\nContent-Type: $type\r\nContent-Length: $length\r\nExpect: 100-continue\r\n\r\n");
    $r = $c->answer;
    is_deeply($r->{interim}, [], "Expect, $what: no 100");
    is_error($r, "Expect, $what", @expected);
    ok($c->closed, "Expect, $what: closed, because the body may follow");
}

# ---- JSON ----
my $deep = sub { '{"messages":[{"role":"user","content":"x"}],"a":' . '[' x $_[0] . ']' x $_[0] . '}' };
my @bad = (
    ['a word', 'hello', 'syntax error', 0], ['cut', '{"messages":[', 'syntax error', 13], ['single quotes', "{'a':1}", 'syntax error', 1],
    ['comma at the end', '{"a":1,}', 'syntax error', 7], ['two values', '{"a":1}{}', 'syntax error', 7],
    ['NaN', '{"a":NaN}', 'syntax error', 5], ['a number', '{"a":01}', 'syntax error', 6], ['an escape', '{"a":"\x"}', 'syntax error', 7],
    ['control byte', qq({"a":"\n"}), 'syntax error', 6], ['white space', " \r\n", 'syntax error', 3],
    ['Latin-1', qq({"a":"caf\xe9"}), 'invalid UTF-8', 9], ['overlong', qq({"a":"\xc0\xaf"}), 'invalid UTF-8', 6],
    ['surrogate', qq({"a":"\xed\xa0\x80"}), 'invalid UTF-8', 6], ['in a key', qq({"\xff":1}), 'invalid UTF-8', 2],
    ['byte order mark', "\xef\xbb\xbf{}", 'syntax error', 0], ['depth', $deep->(200), 'nested too deeply', 248 - 1],
);
for (@bad) {
    my ($what, $body, $reason, $offset) = @$_;
    is_error(post('/requests', $body), "JSON, $what", 400, 'invalid_json', qr/not valid JSON: $reason at byte $offset$/);
}
refused('bad JSON', '/requests', '{"model":"m","messages":oops}', [400, 'invalid_json', qr/syntax error at byte 24$/]);
is_error(post('/requests', $_), "no object: $_", 400, 'invalid_json', qr/JSON, but not an object/) for '[]', '"x"', 'null', '1';
nothing_seen('JSON');
is(post('/requests/good', $deep->(199))->{status}, 200, 'the greatest depth is taken');

# ---- members ----
my $messages = '"messages":[{"role":"user","content":"x"}]';
my @owned    = qw(model messages stream stream_options max_tokens max_completion_tokens temperature top_p top_k);
for my $name (@owned) {
    my $escaped = sprintf '\u%04X%s', ord $name, substr $name, 1;
    for my $second ($name, $escaped) {
        my $body = $name eq 'messages' ? qq({$messages,"$second":[]}) : qq({$messages,"$name":null,"$second":null});
        my $at = rindex $body, qq("$second");
        is_error(post('/requests', $body), "twice: $name, $second", 400, 'duplicate_member', qr/'$name' occurs twice.* byte $at$/, $name);
    }
}
is_error(post('/requests', qq({$messages,"stream":true,"stream_options":{"include_usage":true,"include_usage":false}})),
    'twice: include_usage', 400, 'duplicate_member', qr/include_usage' occurs twice/, 'stream_options.include_usage');
my @members = (
    ['no messages', '{"model":"m"}', 'missing_messages', qr/no 'messages'/, 'messages'],
    ['no messages', '{"nested":{"messages":[{}]}}', 'missing_messages', qr/no 'messages'/, 'messages'],
    ['empty messages', '{"messages":[]}', 'empty_array', qr/at least one message/, 'messages'],
    (map { ["messages $_", qq({"messages":$_}), 'invalid_type', qr/'messages' must be an array/, 'messages'] } qw(null {} "x" 1 true)),
    ['a message', '{"messages":[{},"x"]}', 'invalid_type', qr/must be an object, the one at byte 16 is not/, 'messages'],
    (map { ["model $_", qq({$messages,"model":$_}), 'invalid_type', qr/'model' must be a string/, 'model'] } qw(1 [] {} true)),
    ['model with NUL', qq({$messages,"model":"a\\u0000b"}), 'invalid_value', qr/NUL/, 'model'],
    (map { ["stream $_", qq({$messages,"stream":$_}), 'invalid_type', qr/'stream' must be a boolean/, 'stream'] } qw(1 "true" [] {})),
    (map { ["options $_", qq({$messages,"stream_options":$_}), 'invalid_type', qr/'stream_options' must be an object/, 'stream_options'] }
        qw(1 "x" [] true)),
);
for (@members) {
    my ($what, $body, @expected) = @$_;
    is_error(post('/requests', $body), "member, $what", 400, @expected);
}
refused('empty messages', '/requests', '{"messages":[]}', [400, 'empty_array', qr/at least one/, 'messages']);
refused('a member twice', '/requests', qq({$messages,"top_p":1,"top_p":0}), [400, 'duplicate_member', qr/byte 54$/, 'top_p']);
refused('streaming denied', '/requests/deny', chat('x', stream => \1), [400, 'streaming_denied', qr/streaming is not enabled/, 'stream']);
nothing_seen('members');

# ---- what httpd itself refuses ----
refused('forbidden', '/requests/forbidden', $good, [403, undef, qr/^the gateway answered: 403 Forbidden$/]);
refused('no login', '/requests/login', $good, [401, undef, qr/401 Unauthorized/]);
$r = post('/requests/login', $good);
is($r->header('WWW-Authenticate'), 'Basic realm="models"', 'the challenge is there');
is($r->error->{type}, 'authentication_error', 'and its type');
is(post('/requests/forbidden', $good)->error->{type}, 'permission_error', 'type of 403');
is(post('/requests/own-page', $good)->{body}, "an operator's own text", 'an ErrorDocument keeps its text');
for my $raw (
    ["zz\r\n", 'bad chunk size'], ["-5\r\nabcde\r\n", 'negative chunk size'], ["5\r\nabcdefgh\r\n0\r\n\r\n", 'too much data in a chunk'],
    ["fffffffffffffffff\r\n", 'huge chunk size']
) {
    $r = client()->send_request('POST', '/requests', $raw->[0], 'Transfer-Encoding' => 'chunked')->answer;
    cmp_ok($r->{status}, '>=', 400, "$raw->[1]: refused");
    is($r->header('Content-Type'), 'application/json', "$raw->[1]: as JSON");
    ok($r->error->{message}, "$raw->[1]: with a message") or diag($r->{body});
}
is_error(client()->send_request('TRACE', '/requests', undef)->answer, 'TRACE', 400, 'missing_body', qr/no body/);
my $line = 'POST /requests HTTP/1.1';
for (
    ['no Host', 400, $line, 'Content-Length: 2'],
    ['a bad Host', 400, $line, 'Host: a b'],
    ['a line without colon', 400, $line, 'Host: x', 'no colon'],
    ['a long field', 400, $line, 'Host: x', 'A: ' . 'x' x 9000],
    ['many fields', 400, $line, 'Host: x', ('A: b') x 200],
    ['a bad length', 400, $line, 'Host: x', 'Content-Length: x'],
    ['two lengths', 400, $line, 'Host: x', 'Content-Length: 2', 'Content-Length: 3'],
    ['an unknown transfer coding', 400, $line, 'Host: x', 'Transfer-Encoding: gzip'],
    ['an unknown expectation', 417, $line, 'Host: x', 'Expect: magic', 'Content-Length: 2'],
    ['an encoded slash', 404, 'POST /requests/a%2Fb HTTP/1.1', 'Host: x', 'Content-Length: 2'],
    ['a bad escape', 400, 'POST /requests/%zz HTTP/1.1', 'Host: x', 'Content-Length: 2'],
) {
    my ($what, $status, @head) = @$_;
    for my $name ('first', 'second') {
        $c = client();
        $c->post('/requests/good', $good) if $name eq 'second';
        $c->{method} = 'POST';
        is_error($c->send_raw(join "\r\n", @head, '', '{}')->answer, "$what, $name", $status, undef, qr/^the gateway answered: $status /);
    }
}
is(client()->post('/requests/good', $good, Host => 'unknown.example:81')->{status}, 200, 'an unknown Host is no matter');
refused('nothing configured', '/requests-switched', $good, [503, 'no_targets', qr/no model is configured/]);
nothing_seen('refused by httpd');

# ---- a whole server as gateway, with the modules that look at files ----
my ($status, $modules) = run_command([$ENV{AIP_APXS}, '-q', 'LIBEXECDIR']);
chomp $modules;
my $h = start_httpd(<<"CONF");
LoadModule dir_module "$modules/mod_dir.so"
Listen 127.0.0.1:\${SPARE_1_PORT}
KeepAlive Off
DocumentRoot "${\top_dir()}/t/htdocs"
DirectoryIndex index.html
DirectorySlash On
FallbackResource /front.php
AddHandler application/x-httpd-php .php
AddType application/x-test .json
AddOutputFilter DEFLATE html
<Directory "${\top_dir()}/t/htdocs">
    AllowOverride All
    RewriteEngine On
    RewriteRule ^ /rewritten [L]
</Directory>
ErrorDocument 404 /index.html
AIProxy On
<AITarget all>
    AIRouteType llm/v1/chat
    AIModelProvider openai
    AIModelName fixed
    AIModelOptionsUpstreamUrl "http://127.0.0.1:\${MOCK_1_PORT}/v1/chat/completions"
</AITarget>
CONF
mock_reset();
for my $path (qw(/ /index.html /front.php /a/b/ /x.php/y /x.json /.htaccess /no-such-file)) {
    $c = client(port => port('SPARE_1'));
    $r = $c->post($path, $good);
    ok($c->closed, 'without keep-alive');
    is($r->{status}, 200, "beside mod_dir, mod_mime and mod_rewrite: $path") or diag($r->{body});
    is($r->header('Content-Type'), 'application/json', "its type: $path");
}
is(scalar(mock_requests(port => port('MOCK_1'))), 8, 'each of them reached the target');
$c = client(port => port('SPARE_1'));
$c->{method} = 'POST';
is_error($c->send_raw("POST / HTTP/1.1\r\nno colon\r\n\r\n")->answer, 'a bad head', 400, undef, qr/400 Bad Request/);
ok($c->closed, 'and closed');
$h->stop;
is_deeply([$h->unexpected], [], 'nothing unexpected in its log');
finish('AIP0031', 'AH01630', 'AH01618', 'AH10244');
