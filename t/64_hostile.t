#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# Hostile input on its way to a target: secrets with bytes that would end a header field, client headers, models, paths and
# queries that would add to the request, requests that two readers could frame differently. A target gets the configured
# request line, fields that are one line each, and one request for each that the gateway answered; a client gets one answer.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Vault;
use AIPTest::Wire;
use Socket qw(SHUT_WR);

my $state = "$AIPTest::Setup::t/state";
my $wire  = AIPTest::Wire->start(port('SPARE_2'));
my $vault = AIPTest::Vault->start;
my $path  = '/v1/chat/completions?a=b';

# Bytes that must not stand in a header field, and those that may.
my %bad  = (cr => "a\rX-Injected: 1", lf => "a\nX-Injected: 1", crlf => "a\r\nX-Injected: 1\r\n\r\nPOST /x HTTP/1.1", del => "a\x7fb", esc => "a\eb", end => "abc\r\n\r\n");
my %good = (eight => "caf\x{e9} \x{fc}", tab => "a\tb", quotes => 'a"b\\c', odd => 'a&b=c#d%0d%0a;e?f g/../');
my %text = (%bad, %good);

$vault->policy('gateway', 'secret/data/*' => ['read']);
$vault->write('h', {map { ($_ => $text{$_}) } keys %text});
$vault->write('turn', {key => 'fine for now'});
$vault->write('nul', {key => "a\0b", other => 'fine'});
$vault->write('b64', {latin => '6Q==', nul => 'YQBi'});
my $token = $vault->token_create(ttl => '1h', policies => ['gateway']);
my $hcv = "AIVaultName hcv\nAIVaultHost 127.0.0.1\nAIVaultPort ${\$vault->port}\nAIVaultKv v2\nAIVaultToken $token\n";

sub target {
    my ($name, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\n"
        . "AIModelOptionsUpstreamUrl http://127.0.0.1:\${SPARE_2_PORT}$path\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}
sub header { return ('AIModelName m', 'AIAuthHeaderName X-Key', "AIAuthHeaderValue \"$_[0]\"") }
sub param { my ($place, $name, $value) = @_; return ('AIModelName m', "AIAuthParamLocation $place", "AIAuthParamName \"$name\"", "AIAuthParamValue \"$value\"") }

# ---- env and file: found when the configuration is read ----
sub section { return "<Location /x>\nAIProxy On\n" . target('t', @_) . "</Location>\n" }
my $embed = "AIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider openai\nAIEmbeddingsModelName e\nAIVectordbDimensions 1536\nAIVectordbStrategy memory\nAIVectordbDistanceMetric cosine\n"
    . 'AIEmbeddingsModelOptionsUpstreamUrl ' . url('MOCK_EMBED', '/v1/embeddings') . "\n";
for my $name (sort keys %bad) {
    $ENV{AIP_T_BAD} = $bad{$name};
    AIPTest::Setup::write_file("$state/bad", $bad{$name});
    for my $ref ('{vault://env/AIP_T_BAD}', "{vault://file$state/bad}") {
        for my $text (section(header("Bearer $ref")), section('AIModelName m', "AIAuthHeaderName \"$ref\"", 'AIAuthHeaderValue x'), section(param('body', $ref, 'x')),
            "<Location /x>\nAIProxy On\n${embed}AIEmbeddingsAuthHeaderName Authorization\nAIEmbeddingsAuthHeaderValue \"$ref\"\n" . target('t', 'AIModelName m', 'AIDescription "axis:0 1"') . "</Location>\n") {
            next if $name eq 'end' && $ref =~ /file/; # a line end at the end of a file is dropped; two are not
            my ($status, $said) = config_check($text);
            isnt($status, 0, "$name in $ref: httpd -t refuses it") or diag($text);
            like($said, qr/AI\w+: the value (holds control bytes|is no name)/, "$name in $ref: and says why") or diag($said);
            unlike($said, qr/X-Injected/, "$name in $ref: without the value");
        }
    }
}
AIPTest::Setup::write_file("$state/bad", "a\0b");
my ($status, $said) = config_check(section(header("{vault://file$state/bad}")));
isnt($status, 0, 'NUL in a file: httpd -t refuses it');
($status, $said) = config_check(section(param('body', 'k', "caf\xe9")));
isnt($status, 0, 'Latin-1 for the body: httpd -t refuses it');
like($said, qr/AIAuthParamValue holds bytes that are no UTF-8/, 'and says why');

# ---- gateways ----
my %location = (
    plain => target('plain', 'AIModelName m'),
    open => "AIModelNameHeader On\n" . target('open'),
    strict => "AIClientModel strict\n" . target('strict', 'AIModelName m'),
    header => target('header', header('Bearer configured'), 'AIAuthAllowOverride On'),
    query => target('query', param('query', 'the key', 'configured'), 'AIAuthAllowOverride On'),
    body => target('body', param('body', 'api_key', 'configured'), 'AIAuthAllowOverride On'),
    none => target('none', 'AIModelName m', 'AIAuthAllowOverride On'),
    azure => target('azure', 'AIModelName m') =~ s/openai/azure/r,
    nul => target('nul', header('{vault://v/nul/key}')),
    'b64-latin' => target('b64-latin', param('body', 'api_key', '{vault://b/b64/latin}')),
    'b64-nul' => target('b64-nul', header('{vault://b/b64/nul}')),
    (map { ("h-$_" => target("h-$_", header("Bearer {vault://v/h/$_}"))) } keys %text),
    (map { ("n-$_" => target("n-$_", 'AIModelName m', "AIAuthHeaderName {vault://v/h/$_}", 'AIAuthHeaderValue x')) } keys %bad),
    (map { ("q-$_" => target("q-$_", param('query', '{vault://v/h/quotes}', "{vault://v/h/$_}"))) } keys %text),
    (map { ("b-$_" => target("b-$_", param('body', 'api_key', "{vault://v/h/$_}"))) } keys %text),
    (map { ("e-$_" => ($_ eq 'crlf' ? $embed =~ s/ModelName e\b/ModelName not-cached/r : $embed) . "AIEmbeddingsAuthHeaderName Authorization\nAIEmbeddingsAuthHeaderValue \"Bearer {vault://v/h/$_}\"\n"
        . target("e-$_", 'AIModelName m', 'AIDescription "axis:0 1"')) } qw(crlf eight)),
    'e-turn' => "${embed}AIEmbeddingsAuthHeaderName Authorization\nAIEmbeddingsAuthHeaderValue \"{vault://v/turn/key?ttl=1}\"\n" . target('e-turn', 'AIModelName m', 'AIDescription "axis:0 1"'),
    (map { my $place = $_; ("p-$place" => "${embed}AIEmbeddingsAuthParamName api_key\nAIEmbeddingsAuthParamLocation $place\nAIEmbeddingsAuthParamValue \"{vault://v/h/crlf}\"\n"
        . target("p-$place", 'AIModelName m', 'AIDescription "axis:0 1"')) } qw(query body)),
    routes => "${embed}AIRouteHeaders On\n" . target('routes', 'AIModelName m', "AIDescription \"axis:0 1 caf\x{c3}\x{a9} \\\"q\\\" : ;\""),
);
my $rewrite = "RewriteEngine On\nRewriteRule \"^/rewritten/(.*)\$\" \"/azure?api-version=\$1\" [PT,UnsafeAllow3F,UnsafePrefixStat]\n";
my $small = mpm() eq 'prefork' ? "StartServers 2\n" : "StartServers 1\nServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n";
mock_reset();
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n${small}Protocols h2c http/1.1\nAIRouteCache none\nLimitRequestLine 16000\nAIStatisticsLog statistics\n$rewrite"
    . "LogFormat \"%{target}^AI %{ai-target}n %>s\" all\nCustomLog access_log all\n"
    . "<AIVault v>\n$hcv</AIVault>\n<AIVault b>\n${hcv}AIVaultBase64Decode On\n</AIVault>\n"
    . join('', map {"<Location /$_>\nAIProxy On\nAIMaxRequestBodySize 100000\n$location{$_}</Location>\n"} sort keys %location));

sub gateway { return client(port => port('SPARE_1')) }
sub said { my ($r) = @_; return eval { $r->json->{choices}[0]{message}{content} } // "$r->{status}: $r->{body}" }

# The requests that the target got, each taken apart: {line, fields => [[name, value], ...], body}. Each must be one that no
# reader takes for another: LF as part of CRLF alone, names that are tokens, one length, and that of the body.
sub sent {
    my ($what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @sent;
    for my $got ($wire->requests) {
        my ($head, $body) = split /\r\n\r\n/, $got->{bytes}, 2;
        my ($line, @fields) = split /\r\n/, $head;
        my @pairs = map { [split /: /, $_, 2] } @fields;
        my @lengths = map { $_->[1] } grep { lc $_->[0] eq 'content-length' } @pairs;
        ok($head !~ /[^\t\r\n\x20-\x7e\x80-\xff]/ && $head !~ /\r(?!\n)|(?<!\r)\n/ && !(grep { !/^[!#\$%&'*+.^_`|~0-9A-Za-z-]+: / } @fields)
            && $line =~ m{^POST /[!-~]* HTTP/1\.1\z} && "@lengths" eq length $body, "$what: the target got a request that can be read in one way")
            or diag($got->{bytes} =~ s/([^\n -~])/sprintf '<%02x>', ord $1/ger);
        push @sent, {line => $line, fields => \@pairs, body => $body};
    }
    return @sent;
}

# One request, and the one that the target got of it; undef for none.
sub forward {
    my ($what, $location, $body, @headers) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $wire->forget;
    my $r = gateway()->post($location, $body // chat('x'), @headers);
    my @sent = sent($what);
    cmp_ok(scalar @sent, '<=', 1, "$what: one request at most");
    return ($r, $sent[0]);
}
sub field { my ($sent, $name) = @_; return join ' AND ', map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$sent->{fields}} }
sub utf8 { my ($s) = @_; utf8::encode($s); return $s }
sub encoded { return utf8($_[0]) =~ s/([^-._~A-Za-z0-9])/sprintf '%%%02X', ord $1/ger }

# ---- values out of a vault ----
for my $name (sort keys %text) {
    my ($r, $sent) = forward("a header, $name", "/h-$name");
    if ($bad{$name}) {
        is($r->error->{code}, 'secret_unavailable', "a header, $name: 503");
        is($sent, undef, "a header, $name: nothing is sent");
        ($r, $sent) = forward("a header's name, $name", "/n-$name");
        is($r->error->{code}, 'secret_unavailable', "a header's name, $name: 503");
        is($sent, undef, "a header's name, $name: nothing is sent");
    } else {
        is(field($sent, 'X-Key'), 'Bearer ' . utf8($text{$name}), "a header, $name: as it is");
    }
    ($r, $sent) = forward("a query, $name", "/q-$name");
    is($sent->{line}, "POST $path&" . encoded($text{quotes}) . '=' . encoded($text{$name}) . ' HTTP/1.1', "a query, $name: encoded");
    ($r, $sent) = forward("a body, $name", "/b-$name");
    is(from_json($sent->{body})->{api_key}, $text{$name}, "a body, $name: as JSON spells it");
}
for my $location (qw(nul b64-latin b64-nul)) {
    my ($r, $sent) = forward($location, "/$location");
    is($r->error->{code}, 'secret_unavailable', "$location: 503");
    is($sent, undef, "$location: nothing is sent");
}
# What the embeddings provider got: first of the background, for the references, then for each request.
wait_until('the references', sub { (() = $h->log =~ /AIP0102: .* references? of 1536 dimensions (is|are) ready/g) >= 5 });
wait_until('word of the bad credential', sub { $h->log =~ /AIP0103: .*a credential that the embeddings call needs cannot be used/ });
my %embedded = (
    'e-eight' => ['', 'Bearer ' . $text{eight}, undef], 'p-query' => ['?api_key=' . encoded($bad{crlf}), undef, undef], 'p-body' => ['', undef, $bad{crlf}], routes => ['', undef, undef],
    'e-crlf' => undef, 'e-turn' => ['', 'fine for now', undef],
);
for my $location ('background', sort keys %embedded) {
    mock_reset() if $location ne 'background';
    my ($r) = $location eq 'background' ? () : forward("embeddings, $location", "/$location", chat('axis:0 0.9'));
    is($r->{status}, $embedded{$location} ? 200 : 503, "embeddings, $location: answered") or diag($r->{body}) if $r;
    my @got = mock_requests(port => port('MOCK_EMBED'));
    is(scalar @got, $embedded{$location} ? 1 : 0, "embeddings, $location: calls") if $r;
    for my $got (@got) {
        my @credential = map { $_->[1] } grep { lc $_->[0] eq 'authorization' } @{$got->{headers}};
        my $seen = json([$got->{path} =~ s{^/v1/embeddings}{}r, $credential[0], from_json($got->{body})->{api_key}]);
        my @expected = map { json($_) } grep {defined} $r ? $embedded{$location} : values %embedded;
        is($got->{malformed}, undef, "embeddings, $location: nothing is wrong with it");
        ok((grep { $_ eq $seen } @expected), "embeddings, $location: path and credential") or diag($seen, @expected);
        is_deeply([grep {/injected/i} map { $_->[0] } @{$got->{headers}}], [], "embeddings, $location: no field of its own");
    }
}

$vault->write('turn', {key => $bad{crlf}});
wait_until('the bad value', sub { mock_reset(); gateway()->post('/e-turn', chat('axis:0 0.9'))->{status} == 503 });
is(scalar(() = mock_requests(port => port('MOCK_EMBED'))), 0, 'embeddings, a value that has become bad: no call');

# ---- what a client sends in its head ----
my @forwarded = qw(OpenAI-Beta Idempotency-Key X-Client-Request-Id X-Request-Id);
my %value = (
    CR => "a\rX-Injected: 1", LF => "a\nX-Injected: 1", NUL => "a\0b", DEL => "a\x7fb", ESC => "a\eb", 'a fold' => "a\r\n X-Injected: 1", 'a tab fold' => "a\r\n\tX-Injected: 1",
    'CRLF CRLF' => "a\r\n\r\nPOST /plain HTTP/1.1\r\nHost: x", VT => "a\x0bb", '8 bits' => "a\x80\xff", 'a tab' => "a\tb", 'escapes' => '%0d%0aX-Injected:%201', nothing => '',
);
for my $name (sort keys %value) {
    for my $field (@forwarded, 'Authorization', 'Api-Key', 'X-Key') {
        for my $location ('/none', '/header') {
            my $what = "$name in $field, $location";
            $wire->forget;
            my $c = gateway();
            $c->{method} = 'POST';
            my $text = json(chat('x'));
            $c->send_raw("POST $location HTTP/1.1\r\nHost: x\r\n$field: $value{$name}\r\nContent-Type: application/json\r\nContent-Length: " . length($text) . "\r\n\r\n$text");
            my $r = $c->answer;
            my @sent = sent($what);
            cmp_ok(scalar @sent, '<=', 1, "$what: one request at most");
            is(scalar @sent, $r->{status} == 200 ? 1 : 0, "$what: and none that was refused ($r->{status})");
            is_deeply([map { @{$_->{fields}} } map { {fields => [grep { $_->[0] =~ /injected/i } @{$_->{fields}}]} } @sent], [], "$what: no field of its making");
            next if $r->{status} != 200;
            my $expected = $value{$name} =~ s/\r\n[ \t]+/ /r;
            $expected = '' if $field =~ /^X-Key$/ && $location eq '/none' || $field =~ /^(Authorization|Api-Key)$/ && $location eq '/header';
            $expected = 'Bearer configured' if $field eq 'X-Key' && $location eq '/header' && $name =~ /^(DEL|ESC|VT)$/;
            is(field($sent[0], $field), $expected, "$what: one line of text") if $field ne 'X-Key' || $location ne '/header' || length $value{$name};
        }
    }
}
my ($r, $sent) = forward('two credentials', '/header', undef, 'X-Key' => 'one', 'X-Key' => 'two');
like(field($sent, 'X-Key'), qr/^one, ?two$/, 'two credentials of a client are one field');
($r, $sent) = forward('a credential that frames', '/none', undef, Authorization => 'a', 'Content-MD5' => 'x', Trailer => 'X-T', TE => 'trailers', 'Keep-Alive' => 'x', 'Proxy-Connection' => 'x');
is(join(' ', grep { !/^(Host|Content-Type|Accept|Accept-Encoding|User-Agent|Content-Length)$/ } map { $_->[0] } @{$sent->{fields}}), 'Authorization', 'nothing else of a client\'s head');

# ---- the client's model ----
my @models = ("m\r\nX-Injected: 1", "m\nSet-Cookie: a=b", "m\r\n\r\n<script>", "m\x7f", "m\x01", 'm"},"x":{"y":"', 'm\\', "caf\x{e9}", "\x{1f600}", '../../v1/files', '%2e%2e/x', '/etc/passwd',
    'm?x=1&api-version=2', 'm#f', 'http://other.example/v1', '//other.example/', 'm;x', 'm HTTP/1.1', '..\\..\\x', 'x' x 20_000, "m\x{85}\x{2028}", "\x{feff}m");
for my $model (@models) {
    my $shown = substr json($model), 0, 40;
    for my $spelling (json($model), json($model) =~ s/(?<!\\)([a-z])/sprintf '\\u%04x', ord $1/er) {
        $wire->forget;
        my $r = gateway()->post('/open', qq({"model":$spelling,"messages":[{"role":"user","content":"x"}]}));
        is($r->{status}, 200, "model $shown: is the target's to judge") or diag($r->{body});
        my ($sent) = sent("model $shown");
        is($sent->{line}, "POST $path HTTP/1.1", "model $shown: the request line is the configured one");
        is(scalar @{$sent->{fields}}, 6, "model $shown: and so are the fields");
        is(from_json($sent->{body})->{model}, $model, "model $shown: it is in the body");
        is_deeply([grep {/^(x-injected|set-cookie)$/i} map { $_->[0] } @{$r->{headers}}], [], "model $shown: no header of its making");
        is(scalar(() = $r->headers_of('X-LLM-Model')), 1, "model $shown: one X-LLM-Model");
        unlike($r->header('X-LLM-Model'), qr/[\x00-\x08\x0a-\x1f\x7f]/, "model $shown: without control bytes");
    }
    next if !have_http2() || length $model > 1000;
    my $c = h2_client(port => port('SPARE_1'));
    my $r = $c->post('/open', {%{chat('x')}, model => $model});
    is($r->{status}, 200, "HTTP/2, model $shown") or diag(json($r->{headers}));
    is(scalar(() = $r->headers_of('x-llm-model')), 1, "HTTP/2, model $shown: one x-llm-model");
    is(said($c->post('/plain', chat('next'))), 'next', "HTTP/2, model $shown: the connection goes on");
}
($r, $sent) = forward('a model with NUL', '/open', qq({"model":"a\\u0000b","messages":[{"role":"user","content":"x"}]}));
is("$r->{status} " . ($sent // 'none'), '400 none', 'a model with NUL is refused');
($r, $sent) = forward('a wrong model', '/strict', {%{chat('x')}, model => "evil\r\n\"<b>"});
is($r->{status}, 400, 'AIClientModel strict: refused');
unlike($r->{body}, qr/evil/, 'and not repeated');
$r = gateway()->post('/routes', chat('axis:0 0.9'));
is($r->{status}, 200, 'an odd description') or diag($r->{body});
is($r->header('X-LLM-Route'), "axis:0 1 caf\x{c3}\x{a9} \"q\" : ;", 'is one header');
my ($control) = map { (config_check("<Location /x>\nAIProxy On\nAIRouteHeaders On\n$embed" . target('t', 'AIModelName m', "AIDescription \"a\x01b\"") . "</Location>\n"))[0] } 1;
ok(defined $control, 'control bytes in a description: no crash');

# ---- paths and queries ----
for my $tail ('/../../x', '/%2e%2e/%2e%2e/x', '/..%2f..%2fx', '//x', '//other.example/x', '/\\..\\x', '/;x=1', '/a;b', '/.', '/..', '/x?y=../..', '?a=b&a=c', '?a=b#c', '?%0d%0aX-Injected:%201',
    '/%0d%0aX-Injected:%201', '/%00', '/x%20HTTP/1.1', '?model=other', '?api-version=1', '/' . '../' x 50 . 'etc/passwd', '?' . 'a' x 9000) {
    my $what = 'path ' . substr $tail, 0, 40;
    ($r, $sent) = forward($what, "/plain$tail");
    is($sent->{line}, "POST $path HTTP/1.1", "$what: the target's path is the configured one") if $r->{status} == 200;
    ok($sent ? $r->{status} == 200 : $r->{status} >= 400, "$what: sent or refused ($r->{status})");
}
for my $line ("POST http://other.example/plain HTTP/1.1", "POST http://x/plain?api-version=1 HTTP/1.1", "POST //other.example/plain HTTP/1.1", "POST /plain?a=b c HTTP/1.1", "POST /plain\tx HTTP/1.1",
    "POST /plain\0 HTTP/1.1", "POST /plain?\x01 HTTP/1.1", "POST /plain?\xff HTTP/1.1", "POST /plain HTTP/1.1 HTTP/1.1", "POST  /plain HTTP/1.1", "POST /plain", "POST /plain HTTP/1.0", "POST /plain HTTP/2.0",
    "POST http:/plain HTTP/1.1", "POST ../plain HTTP/1.1", "POST * HTTP/1.1", "P\@ST /plain HTTP/1.1", "POST /plain\rX HTTP/1.1") {
    my $what = $line =~ s/([^ -~])/sprintf '<%02x>', ord $1/ger;
    $wire->forget;
    my $text = json(chat('x'));
    my $c = gateway();
    $c->{method} = 'POST';
    $c->send_raw("$line\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " . length($text) . "\r\n\r\n$text");
    $c->{socket}->shutdown(SHUT_WR) if $line eq 'POST /plain';
    $r = eval { $c->answer } // {status => 0};
    my @sent = sent($what);
    is(scalar @sent, $r->{status} == 200 ? 1 : 0, "$what: sent or refused ($r->{status})");
    is($_->{line}, "POST $path HTTP/1.1", "$what: to the configured path") for @sent;
}
my %version = (
    '1&x=y' => '1', '1#f' => '1', '%0d%0aX-Injected:%201' => '%0d%0aX-Injected:%201', 'a%20b' => 'a%20b', '%26x=y' => '%26x=y', '1;x=y' => '1%3Bx=y', '"<>\\^`{|}' => '%22%3C%3E%5C%5E%60%7B%7C%7D',
    '%' => '%', '%zz' => '%zz', '' => '', '=' => '=', '?' => '?', "caf\xc3\xa9\xff" => 'caf%C3%A9%FF', '1+2' => '1+2', 'x' x 10_240 => 'x' x 10_240, '../..' => '../..', '%00' => '%00', '1&api-version=2' => '1',
);
for my $version (sort keys %version) {
    for my $case (['/azure?api-version=', 'api-version'], ['/query?the%20key=', 'the%20key']) {
        my ($location, $name) = @$case;
        my $what = "$name=" . substr($version, 0, 30) =~ s/([^ -~])/sprintf '<%02x>', ord $1/ger;
        ($r, $sent) = forward($what, "$location$version");
        if ($version =~ /#/) {
            is("$r->{status} " . ($sent // 'none'), '400 none', "$what: httpd refuses it");
            next;
        }
        is($r->{status}, 200, "$what: answered");
        is($sent->{line}, "POST $path&$name=$version{$version} HTTP/1.1", "$what: one parameter");
    }
}
# mod_rewrite decodes a path, and what it makes of it is no longer what httpd looked at.
for my $tail ('a%20b', 'a%0d%0aX-Injected:%201', 'a%26x=y', 'a%23b', 'a%0ab', 'a%25', 'a%ff') {
    ($r, $sent) = forward("rewritten, $tail", "/rewritten/$tail");
    ok($r->{status} == 200 || !$sent, "rewritten, $tail: sent or refused ($r->{status})");
    like($sent->{line}, qr{^POST \Q$path\E&api-version=[\w%-]*( HTTP/1\.1)$}, "rewritten, $tail: one parameter") if $sent;
}

# ---- requests that two readers could frame differently ----
# Each has a request inside that must not be seen as one, and a good one behind it. Either the connection is closed, or each
# answer belongs to its request.
my $text  = json(chat('outer'));
my $inner = json(chat('SMUGGLED'));
my $hidden = "POST /plain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Hidden: 1\r\nContent-Length: " . length($inner) . "\r\n\r\n$inner";
my $behind = json(chat('behind'));
my $second = "POST /plain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " . length($behind) . "\r\n\r\n$behind";
my $n     = length $text;
my $all   = length "$text$hidden";
my $chunk = sprintf("%x\r\n%s\r\n", $n, $text);
my $whole = "${chunk}0\r\n\r\n";
my $post  = "POST /plain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

my %smuggle = (
    'length over chunks'            => ["${post}Content-Length: $all\r\nTransfer-Encoding: chunked\r\n\r\n$whole$hidden"],
    'chunks over length'            => ["${post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n$whole"],
    'equal lengths'                 => ["${post}Content-Length: $n\r\nContent-Length: $n\r\n\r\n$text"],
    'two lengths'                   => ["${post}Content-Length: $n\r\nContent-Length: $all\r\n\r\n$text$hidden"],
    'two lengths, the long one first' => ["${post}Content-Length: $all\r\nContent-Length: $n\r\n\r\n$text$hidden"],
    'a list of lengths'             => ["${post}Content-Length: $n, $all\r\n\r\n$text$hidden"],
    (map { ("length '$_'" => ["${post}Content-Length: $_\r\n\r\n$text$hidden"]) } "+$n", "-$n", sprintf('0x%x', $n), "$n $n", "$n;", '', 18446744073709551616 + $n, '9' x 30, "$n\x0b", "${n}_0", "1e2"),
    'length with zeros'             => ["${post}Content-Length: 000$n\r\n\r\n$text"],
    'length, folded'                => ["${post}Content-Length:\r\n $n\r\n\r\n$text"],
    'length in another fold'        => ["${post}X-A: b\r\n Content-Length: $all\r\nContent-Length: $n\r\n\r\n$text"],
    'space before the colon'        => ["${post}Content-Length : $all\r\nContent-Length: $n\r\n\r\n$text$hidden"],
    'space before the coding'       => ["${post}Transfer-Encoding : chunked\r\nContent-Length: $all\r\n\r\n$whole$hidden"],
    (map { ("coding '$_'" => ["${post}Transfer-Encoding: $_\r\nContent-Length: $all\r\n\r\n$whole$hidden"]) }
        'chunked, identity', 'xchunked', 'identity', 'chunked, chunked', "chunked\x0b", '"chunked"', 'chunked;q=1', "\x00chunked", 'gzip, chunked', 'chunked,'),
    'coding twice'                  => ["${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n$whole$hidden"],
    'coding, folded'                => ["${post}Transfer-Encoding:\r\n chunked\r\nContent-Length: $all\r\n\r\n$whole$hidden"],
    'coding in capitals'            => ["${post}transfer-encoding: CHUNKED\r\n\r\n$whole"],
    'coding with underscore'        => ["${post}Transfer_Encoding: chunked\r\nContent-Length: $n\r\n\r\n$text"],
    'coding in HTTP/1.0'            => [$post =~ s{HTTP/1.1}{HTTP/1.0}r . "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: $all\r\n\r\n$whole$hidden"],
    'chunk extension'               => ["${post}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x;a=\"b\"\r\n%s\r\n", $n, $text) . "0\r\n\r\n"],
    'chunk extension with LF'       => ["${post}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x;a\n%s\r\n", $n, $text) . "0\r\n\r\n"],
    'a huge chunk extension'        => ["${post}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x;%s\r\n%s\r\n", $n, 'a' x 20_000, $text) . "0\r\n\r\n$hidden"],
    'an oversized chunk size'       => ["${post}Transfer-Encoding: chunked\r\n\r\n1" . '0' x 15 . sprintf("%x\r\n%s\r\n0\r\n\r\n", $n, $text) . $hidden],
    'a chunk size of 2^64 and more' => ["${post}Transfer-Encoding: chunked\r\n\r\n1" . sprintf("%016x\r\n%s\r\n0\r\n\r\n", $n, $text) . $hidden],
    'a signed chunk size'           => ["${post}Transfer-Encoding: chunked\r\n\r\n+" . sprintf("%x\r\n%s\r\n0\r\n\r\n", $n, $text) . $hidden],
    'a hexadecimal chunk size'      => ["${post}Transfer-Encoding: chunked\r\n\r\n0x" . sprintf("%x\r\n%s\r\n0\r\n\r\n", $n, $text) . $hidden],
    'a chunk without its end'       => ["${post}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n%sXX0\r\n\r\n", $n, $text) . $hidden],
    'a chunk of two bytes too much' => ["${post}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n%s  \r\n0\r\n\r\n", $n, $text) . $hidden],
    'a trailer that frames'         => ["${post}Transfer-Encoding: chunked\r\n\r\n${chunk}0\r\nContent-Length: $all\r\nTransfer-Encoding: identity\r\n\r\n"],
    'a trailer that is a credential' => ["${post}Transfer-Encoding: chunked\r\n\r\n${chunk}0\r\nAuthorization: evil\r\nX-Request-Id: evil\r\n\r\n"],
    'bare LF in the head'           => [$post =~ s/\r\n/\n/gr . "Content-Length: $n\n\n$text"],
    'bare LF in a field'            => ["${post}X-A: b\nContent-Length: $all\r\nContent-Length: $n\r\n\r\n$text$hidden"],
    'bare CR in a field'            => ["${post}X-A: b\rContent-Length: $all\r\nContent-Length: $n\r\n\r\n$text$hidden"],
    'NUL in a name'                 => ["${post}Content-Length\0: $all\r\nContent-Length: $n\r\n\r\n$text$hidden"],
    'a fold before all fields'      => ["POST /plain HTTP/1.1\r\n Content-Length: $all\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: $n\r\n\r\n$text$hidden"],
    'absolute form'                 => ["POST http://other.example/plain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: $n\r\n\r\n$text"],
    'two Hosts'                     => ["${post}Host: y\r\nContent-Length: $n\r\n\r\n$text$hidden"],
    'GET with a body'               => [$post =~ s/POST/GET/r . "Content-Length: $n\r\n\r\n$text"],
    'HEAD with a body that is refused' => ["${post}Content-Length: " . length($hidden) . "\r\n\r\n$hidden"],
    'a refused type'                => [$post =~ s{application/json}{text/plain}r . 'Content-Length: ' . length($hidden) . "\r\n\r\n$hidden"],
    'a refused type in chunks'      => [$post =~ s{application/json}{text/plain}r . "Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n%s\r\n0\r\n\r\n", length $hidden, $hidden)],
    'too long'                      => ["${post}Content-Length: " . length('x' x 100_001 . $hidden) . "\r\n\r\n" . 'x' x 100_001 . $hidden],
    'too long, in chunks'           => ["${post}Transfer-Encoding: chunked\r\n\r\n" . sprintf("%x\r\n%s\r\n0\r\n\r\n", length('x' x 100_001 . $hidden), 'x' x 100_001 . $hidden)],
    'an expectation that is refused' => [$post =~ s{application/json}{text/plain}r . "Expect: 100-continue\r\nContent-Length: " . length($hidden) . "\r\n\r\n$hidden"],
    'JSON with a request inside'    => ["${post}Content-Length: " . length($hidden) . "\r\n\r\n$hidden"],
    'an upgrade'                    => ["${post}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: $n\r\n\r\n$text"],
);
for my $name (sort keys %smuggle) {
    my ($bytes) = @{$smuggle{$name}};
    for my $first (0, 1) {
        my $what = $name . ($first ? ', second of a connection' : '');
        $wire->forget;
        my $c = client(port => port('SPARE_1'), timeout => 1.5);
        is(said($c->post('/plain', chat('first'))), 'first', "$what: one before it") if $first;
        $c->{method} = 'POST';
        eval { $c->send_raw("$bytes$second"); 1 } or diag("$what: closed while sending");
        my @answers;
        while (!grep { said($_) eq 'behind' } @answers) {
            my $answer = eval { $c->answer } or last;
            push @answers, $answer;
        }
        my $sent = () = sent($what);
        my @said = map { said($_) } grep { $_->{status} == 200 } @answers;
        my $upgraded = $name eq 'an upgrade' && grep { @{$_->{interim}} } @answers;
        cmp_ok(scalar @answers, '>=', 1, "$what: is answered") unless $upgraded;
        is_deeply([grep {/SMUGGLED/} @said], [], "$what: the hidden request is none");
        is($sent - $first, scalar @said, "$what: each request that was sent has its answer") unless $upgraded;
        is_deeply(\@said, [grep { my $s = $_; grep { $_ eq $s } @said } 'outer', 'behind'], "$what: in order");
        ok(!(grep { $_->{bytes} =~ /evil|X-Hidden/ } $wire->requests), "$what: and nothing of it went on");
    }
}

# A body that does not come to its end is no request.
for my $bytes ("${post}Content-Length: $all\r\n\r\n$text", "${post}Transfer-Encoding: chunked\r\n\r\n$chunk", "${post}Transfer-Encoding: chunked\r\n\r\n${chunk}0\r\n", "${post}Transfer-Encoding: chunked\r\n\r\n" . substr $chunk, 0, -20) {
    $wire->forget;
    my $c = gateway();
    $c->{method} = 'POST';
    $c->send_raw($bytes);
    $c->{socket}->shutdown(SHUT_WR);
    $r = eval { $c->answer };
    ok(!$r || $r->{status} >= 400, 'a body without its end: refused');
    is(scalar(() = $wire->requests), 0, 'a body without its end: nothing is sent');
}

# ---- HTTP/2 ----
if (have_http2()) {
    my @tricks = (
        ['a space in the path', '/plain HTTP/1.1'], ['CRLF in the path', "/plain\r\nX-Injected: 1"], ['NUL in the path', "/plain\0"], ['8 bits in the path', "/plain\xff"], ['no slash', 'plain'], ['an absolute path', 'http://x/plain'],
        ['an asterisk', '*'], ['an empty path', ''], ['a fragment', '/azure?api-version=1#f'], ['a space in the query', '/azure?api-version=1 HTTP/1.1'], ['CRLF in the query', "/azure?api-version=1\r\nX-Injected: 1"],
        ['a tab in the query', "/azure?api-version=1\tx"], ['8 bits in the query', "/azure?api-version=\xff"],
        (map { my $f = $_; ["CRLF in $f", '/none', $f => "a\r\nx-injected: 1"], ["LF in $f", '/none', $f => "a\nx-injected: 1"], ["NUL in $f", '/none', $f => "a\0b"] } 'authorization', 'x-request-id', 'openai-beta'),
        ['a connection field', '/plain', connection => 'close'], ['a coding', '/plain', 'transfer-encoding' => 'chunked'], ['TE', '/plain', te => 'gzip'], ['a length too small', '/plain', 'content-length' => 3],
        ['a length too large', '/plain', 'content-length' => 9999], ['a bad length', '/plain', 'content-length' => '+5'], ['two lengths', '/plain', 'content-length' => 5, 'content-length' => 6],
        ['a name with CRLF', '/plain', "x-a\r\nx-injected" => 1], ['a name with space', '/plain', 'x a' => 1], ['a name with colon', '/plain', 'x-a:b' => 1], ['a pseudo-header too many', '/plain', ':path' => '/open'],
        ['an unknown pseudo-header', '/plain', ':evil' => 1], ['another Host', '/plain', host => 'other.example'], ['a Host with CRLF', '/plain', host => "x\r\nX-Injected: 1"],
    );
    for my $trick (@tricks) {
        my ($what, $url, @headers) = @$trick;
        $wire->forget;
        my $c = h2_client(port => port('SPARE_1'), timeout => 5);
        my $r = eval { $c->post($url, chat('outer'), @headers) };
        my $error = $@ =~ s/\n.*//sr;
        my @sent = sent("HTTP/2, $what");
        my $ok = $r && $r->{status} == 200;
        is(scalar @sent, $ok ? 1 : 0, "HTTP/2, $what: sent or refused (" . ($r ? $r->{status} . ' ' . ($r->{error} // '') : $error) . ')');
        like($_->{line}, qr{^POST \Q$path\E(&api-version=[\w%-]*)? HTTP/1\.1$}, "HTTP/2, $what: the request line") for @sent;
        ok(!(grep { $_->[0] =~ /injected|evil/i } map { @{$_->{fields}} } @sent), "HTTP/2, $what: no field of its making");
        is(said(h2_client(port => port('SPARE_1'))->post('/plain', chat('next'))), 'next', "HTTP/2, $what: the next one is fine");
    }
}

$h->stop;
unlike(slurp("$h->{dir}/$_"), qr/^X-Injected|^POST /m, "$_: no line of a client's making") for qw(error_log access_log statistics);
is_deeply([$h->unexpected(qw(AIP0200 AIP0205 AIP0209 AIP0210 AIP0021 AIP0040 AIP0041 AIP0042 AIP0043 AIP0044 AIP0103), qr/http2:|AH\d+: /)], [], 'nothing unexpected in the log');
is_deeply([$h->deaths], [], 'no child died');
finish();
