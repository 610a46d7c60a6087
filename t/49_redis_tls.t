#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# build: hiredis_ssl
# A semantic gateway whose Redis speaks TLS: routed by it when the certificate is good; when it is not, when the server wants
# a certificate of ours, or when it is not there, the mirror answers the same and one warning says why.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my ($redis, $tls, $port) = (port('SPARE_2'), port('SPARE_3'), port('SPARE_1'));
my ($certificates) = slurp("$AIPTest::Setup::t/conf/ports.inc") =~ /^Define TLS_DIR "(.*)"$/m;
$ENV{SSL_CERT_FILE} = "$certificates/ca.pem"; # the system's bundle, for our httpd
my ($h, $down, $up);

sub gateway {
    my ($lines) = @_;
    $h->stop if $h;
    ($down, $up) = (0, 0);
    my $text = <<"CONF";
Listen 127.0.0.1:\${SPARE_1_PORT}
Protocols h2c http/1.1
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
MinSpareThreads 1
MaxSpareThreads 25
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
AIVectordbRedisConnectTimeout 400
AIVectordbRedisSendTimeout 400
AIVectordbRedisReadTimeout 400
AIVectordbRedisSsl On
AIRouteHeaders On
AIRouteCache none
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

# What the server shows and wants from now on; connections that it has are closed.
sub server {
    my ($name, $clients) = @_;
    redis(\$redis, 'CONFIG', 'SET', 'tls-cert-file', "$certificates/$name.pem", 'tls-key-file', "$certificates/$name.key",
        'tls-auth-clients', $clients // 'no');
    redis(\$redis, 'CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    return;
}

sub told { my ($tag) = @_; return scalar(() = $h->log =~ /$tag/g) }

sub right {
    my ($what, $client, $by) = @_;
    my $from = -s "$h->{dir}/error_log";
    my $begin = time;
    my $r = $client->post('/r', chat('axis:1 0.7'));
    is($r->{status}, 200, "$what: answered");
    is($r->json->{model}, 'axis1', "$what: by the right target");
    is($r->header('X-LLM-Distance'), '0.3000', "$what: at the right distance");
    cmp_ok(time - $begin, '<', 1.2, "$what: in time");
    my $line = wait_until('the decision in the log', sub { slurp("$h->{dir}/error_log", $from) =~ /^(.*AIP0044.*)$/m && $1 });
    $by eq 'redis' ? unlike($line, qr/from the mirror/, "$what: by Redis") : like($line, qr/from the mirror$/, "$what: by the mirror");
    return;
}

sub by_redis {
    my ($what) = @_;
    wait_until("$what: in step", sub { told('AIP0104') > $up });
    $up = told('AIP0104');
    my $c = client(port => $port);
    right("$what: first request", $c, 'redis');
    right("$what: second request", $c, 'redis');
    right("$what: HTTP/2", h2_client(port => $port), 'redis') if have_http2();
    like(redis(\$redis, 'CLIENT', 'LIST'), qr/laddr=127\.0\.0\.1:$tls /, "$what: over TLS");
    is(told('AIP0105'), $down, "$what: without a warning");
    return;
}

sub by_mirror {
    my ($what, $cause, $kept) = @_;
    right("$what: second request of a connection", $kept, 'mirror') if $kept;
    wait_until("$what: the warning", sub { told('AIP0105') > $down });
    my $c = client(port => $port);
    right("$what: first request", $c, 'mirror');
    right("$what: second request", $c, 'mirror');
    right("$what: HTTP/2", h2_client(port => $port), 'mirror') if have_http2();
    is(told('AIP0105'), ++$down, "$what: one warning");
    like(($h->log =~ /^(.*AIP0105.*)$/mg)[-1], qr/:warn\].*127\.0\.0\.1:\d+ .*\($cause/, "$what: with the cause");
    return;
}

start_redis($redis, '--tls-port', $tls, '--tls-cert-file', "$certificates/server.pem", '--tls-key-file', "$certificates/server.key",
    '--tls-ca-cert-file', "$certificates/ca.pem", '--tls-auth-clients', 'no');

# ---- one gateway, whose server changes ----
gateway("AIVectordbRedisPort $tls");
by_redis('good certificate');
is(scalar @{redis(\$redis, 'FT._LIST')}, 1, 'its index was written over TLS');
for my $case (
    ['self-signed', 'self', 'no', qr/vectordb_unreachable: redis: TLS: certificate verify failed: self.signed certificate \(for 127\.0\.0\.1\)/],
    ['another name', 'other', 'no', qr/vectordb_unreachable: redis: TLS: certificate verify failed: IP address mismatch \(for 127\.0\.0\.1\)/],
    ['a certificate of ours wanted', 'server', 'yes', qr/vectordb_unreachable: redis.*(certificate required|no client certificate is configured)/],
) {
    my ($what, $certificate, $clients, $cause) = @$case;
    my $kept = client(port => $port);
    right("$what: before it", $kept, 'redis');
    server($certificate, $clients);
    by_mirror($what, $cause, $kept);
    server('server');
    by_redis("$what: after it");
}
stop_redis($redis);
by_mirror('stopped', qr/vectordb_unreachable/, client(port => $port));
start_redis($redis, '--tls-port', $tls, '--tls-cert-file', "$certificates/server.pem", '--tls-key-file', "$certificates/server.key",
    '--tls-ca-cert-file', "$certificates/ca.pem", '--tls-auth-clients', 'no');
by_redis('started again');
redis(\$redis, 'CLIENT', 'PAUSE', 3000, 'ALL');
by_mirror('stalled', qr/vectordb_timeout/, client(port => $port));
by_redis('after the stall');

# ---- names ----
gateway("AIVectordbRedisPort $tls\nAIVectordbRedisServerName localhost");
by_redis('server name');
gateway("AIVectordbRedisPort $tls\nAIVectordbRedisServerName other.example");
by_mirror('wrong server name', qr/vectordb_unreachable: redis: TLS: certificate verify failed: hostname mismatch \(for other\.example\)/);
server('other');
by_redis('the server of that name');

# ---- unverified ----
server('self');
gateway("AIVectordbRedisPort $tls\nAIVectordbRedisSslVerify Off");
by_redis('self-signed and unverified');
server('server');

# ---- not TLS at all ----
gateway("AIVectordbRedisPort $redis");
by_mirror('the plain port', qr/vectordb_(timeout|unreachable): redis: TLS: /);

# ---- credentials ----
redis(\$redis, 'ACL', 'SETUSER', 'gw', 'on', '>s3cret-of-redis', '~aip:*', qw(+ft.search +ft.info +hstrlen +ft.create +hset));
gateway("AIVectordbRedisPort $tls\nAIVectordbRedisUsername gw\nAIVectordbRedisPassword s3cret-of-redis");
by_redis('ACL user');
unlike($h->log, qr/s3cret/, 'no password in the log');
gateway("AIVectordbRedisPort $tls\nAIVectordbRedisUsername gw\nAIVectordbRedisPassword not-the-s3cret");
by_mirror('wrong password', qr/vectordb_auth/);
unlike($h->log, qr/s3cret/, 'no password in the log');

$h->stop;
is_deeply([$h->deaths], [], 'no child died');
finish();
