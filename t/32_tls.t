#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# https targets: verified by default, by the operator's own authority inside <AITarget>, or not at all by an explicit line;
# connections are kept, and targets with different settings do not share them; streams and large bodies; https embeddings.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $tls = "$AIPTest::Setup::t/state/tls";
my %cert = (good => port('MOCK_TLS_1'), other => port('SPARE_2'), self => port('SPARE_3'), old => port('SPARE_4'), plain => port('MOCK_1'));
system("openssl x509 -req -days -1 -sha256 -CA $tls/ca.pem -CAkey $tls/ca.key -CAcreateserial -in $tls/server.csr -extfile $tls/server.ext -out $tls/old.pem 2>/dev/null") == 0
    or die "no expired certificate\n";
start_mock('--name', 'other', '--cert', "$tls/other.pem", '--key', "$tls/other.key", '--tls-port', $cert{other});
start_mock('--name', 'self', '--cert', "$tls/self.pem", '--key', "$tls/self.key", '--tls-port', $cert{self});
start_mock('--name', 'old', '--cert', "$tls/old.pem", '--key', "$tls/server.key", '--tls-port', $cert{old});

sub location {
    my ($path, $port, @lines) = @_;
    return join "\n", "<Location /$path>", 'AIProxy On', 'AIBalancerConnectTimeout 700', 'AIBalancerReadTimeout 700', '<AITarget t>',
        'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $path",
        "AIModelOptionsUpstreamUrl https://localhost:$port/v1/chat/completions", @lines, "</AITarget>\n</Location>\n";
}
my $ca = "SSLProxyCACertificateFile \"$tls/ca.pem\"";
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n"
        . location('trusted', $cert{good}, $ca)
        . location('also', $cert{good}, $ca, 'SSLProxyVerifyDepth 2')
        . location('system', $cert{good})
        . location('unverified', $cert{good}, 'SSLProxyVerify none')
        . location('wrong-name', $cert{other}, $ca)
        . location('any-name', $cert{other}, $ca, 'SSLProxyCheckPeerName off')
        . location('self', $cert{self}, $ca)
        . location('expired', $cert{old}, $ca)
        . location('no-tls', $cert{plain}, $ca)
        . <<"CONF");
<Location /embed>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl https://localhost:$cert{good}/v1/embeddings
AIEmbeddingsTimeout 500
AIVectordbDimensions 64
<AITarget a>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName a
AIModelOptionsUpstreamUrl ${\url('MOCK_2', '/v1/chat/completions')}
AIDescription "axis:0 1"
</AITarget>
<AITarget rest>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName rest
AIModelOptionsUpstreamUrl ${\url('MOCK_2', '/v1/chat/completions')}
AIDescription CATCHALL
</AITarget>
</Location>
CONF

sub ask { my ($path, @more) = @_; return client(port => port('SPARE_1'))->post("/$path", chat('hello', @more)) }

is(ask($_)->{status}, 200, "$_: answered") for qw(trusted also unverified any-name);
for my $path (qw(system wrong-name self expired)) {
    mock_reset();
    my $r = ask($path);
    is($r->{status}, 502, "$path: refused");
    like($r->json->{error}{message}, qr/: tls$/, "$path: because of TLS");
    is(scalar(mock_requests(port => $cert{good})), 0, "$path: nothing was sent");
}
my $r = ask('no-tls');
is($r->{status}, 504, 'not TLS at all: the handshake is waited for in vain');
is(scalar(mock_requests(port => $cert{plain})), 0, 'nothing of the request was sent in clear');

# connections are kept for each target alone
mock_reset();
ask('trusted') for 1 .. 12;
ask('unverified') for 1 .. 12;
my %connection;
$connection{from_json($_->{body})->{model}}{$_->{connection}} = 1 for mock_requests(port => $cert{good});
cmp_ok(scalar(keys %{$connection{trusted}}), '<', 6, 'a connection for each child, reused');
is(scalar(grep { $connection{trusted}{$_} } keys %{$connection{unverified}}), 0, 'none shared between different settings');

# streams and large bodies
$r = ask('trusted', stream => JSON::PP::true);
is((stream_events($r->{body}))[-1], '[DONE]', 'a stream over TLS');
mock_behave({port => $cert{good}, do => {body_size => 1_000_000}});
is(length ask('trusted')->{body}, 1_000_000, 'a large answer');
mock_reset();
is(client(port => port('SPARE_1'))->post('/trusted', chat('x' x 1_000_000))->{status}, 200, 'a large request');
is(length((mock_requests(port => $cert{good}))[-1]{body}) > 1_000_000 ? 1 : 0, 1, 'arrives whole');
mock_close(port => $cert{good}, all => JSON::PP::true);
is(ask('trusted')->{status}, 200, 'a connection that the target closed is replaced');

# the name that is verified is the target's, whatever Host the client sends
is(client(port => port('SPARE_1'))->post('/trusted', chat('x'), Host => 'other.example')->{status}, 200, "the client's Host does not matter");

# https embeddings with an authority that nobody trusts: the failure policy
is(ask('embed')->json->{model}, 'rest', 'untrusted embeddings provider: catch-all');
like($h->log, qr/AIP0103/, 'the references cannot be made');
$h->stop;
is_deeply([$h->unexpected('AIP0021', 'AIP0043', 'AIP0103', qr/\[(ssl|proxy):/)], [], 'nothing unexpected in the log');
finish();
