#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# https targets: verified by default, by the operator's own authority inside <AITarget>, or not at all by an explicit line;
# connections are kept, and targets with different settings do not share them; streams and large bodies; https embeddings.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;
use AIPTest::CA;

my $true = JSON::PP::true;
my $tls  = "$AIPTest::Setup::t/state/tls";
my $ca   = AIPTest::CA->new($tls);
my %cert = (good => port('MOCK_TLS_1'), other => port('SPARE_2'), self => port('SPARE_3'), old => port('SPARE_4'), plain => port('MOCK_1'),
    hoarder => port('SPARE_5'), narrow => port('SPARE_6'), doorman => port('HTTPD_2'), chatty => port('HTTPD_3'));
start_mock('--name', 'other', '--cert', "$tls/other.pem", '--key', "$tls/other.key", '--tls-port', $cert{other});
start_mock('--name', 'self', '--cert', "$tls/self.pem", '--key', "$tls/self.key", '--tls-port', $cert{self});
start_mock('--name', 'old', '--cert', "$tls/expired.pem", '--key', "$tls/expired.key", '--tls-port', $cert{old});
start_mock('--control-port', port('HTTPD_4'), '--rcvbuf', 4096, '--name', 'narrow', '--cert', "$tls/server.pem", '--key', "$tls/server.key", '--tls-port', $cert{narrow});

# Servers that the mock does not play. The doorman asks for a certificate; the hoarder sends many session tickets and its
# answer in one go and keeps the connection open; the chatty one speaks first, and no TLS.
$ca->server(port => $cert{doorman}, clients => 'ca');
AIPTest::Setup::write_file("$tls/server.py", <<'PYTHON');
import socket, ssl, sys

kind, port, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}'
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + '/server.pem', folder + '/server.key')
context.num_tickets = 20


def serve(peer):
    if kind == 'chatty':
        return peer.sendall(answer)
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_side=True)
    request, shaken = b'', False
    while not request.endswith(b'}'):
        data = peer.recv(65536)
        if not data:
            return
        coming.write(data)
        try:
            if not shaken:
                tls.do_handshake()
                shaken = True
            while True:
                request += tls.read(65536)
        except ssl.SSLWantReadError:
            if not shaken:
                peer.sendall(going.read())
        except ssl.SSLError:
            return peer.sendall(going.read())
    tls.write(answer)
    peer.sendall(going.read())
    while peer.recv(65536):
        pass


listener = socket.create_server(('127.0.0.1', port))
print('ready', flush=True)
while True:
    peer = listener.accept()[0]
    try:
        serve(peer)
    except OSError:
        pass
    peer.close()
PYTHON
my @servers = map { AIPTest::Setup::spawn("$AIPTest::Setup::t/logs/mock_log", 'python3', "$tls/server.py", $_, $cert{$_}, $tls) } qw(hoarder chatty);
END { local $?; kill 'TERM', @servers; waitpid $_, 0 for @servers }

sub location {
    my ($path, $port, @lines) = @_;
    return join "\n", "<Location /$path>", 'AIProxy On', 'AIMaxRequestBodySize 8388608', 'AIBalancerConnectTimeout 500',
        'AIBalancerReadTimeout 1000', 'AIBalancerWriteTimeout 3000', '<AITarget t>', 'AIRouteType llm/v1/chat', 'AIModelProvider openai',
        "AIModelName $path", "AIModelOptionsUpstreamUrl https://localhost:$port/v1/chat/completions", @lines, "</AITarget>\n</Location>\n";
}
my $trust = "SSLProxyCACertificateFile \"$tls/ca.pem\"";
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\n"
        . location('trusted', $cert{good}, $trust)
        . location('also', $cert{good}, $trust, 'SSLProxyVerifyDepth 2')
        . location('system', $cert{good})
        . location('unverified', $cert{good}, 'SSLProxyVerify none')
        . location('wrong-name', $cert{other}, $trust)
        . location('any-name', $cert{other}, $trust, 'SSLProxyCheckPeerName off')
        . location('self', $cert{self}, $trust)
        . location('expired', $cert{old}, $trust)
        . location('no-tls', $cert{plain}, $trust)
        . location('chatty', $cert{chatty}, $trust)
        . location('hoarder', $cert{hoarder}, $trust)
        . location('narrow', $cert{narrow}, $trust)
        . location('doorman', $cert{doorman}, $trust, "SSLProxyMachineCertificateFile \"$tls/client-all.pem\"")
        . location('stranger', $cert{doorman}, $trust)
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
<Location /embed/fail>
AIRouteOnFailure fail
</Location>
CONF

sub ask { my ($path, @more) = @_; return client(port => port('SPARE_1'))->post("/$path", chat('hello', @more)) }

is(ask($_)->{status}, 200, "$_: answered") for qw(trusted also unverified any-name);
for my $path (qw(system wrong-name self expired chatty)) {
    mock_reset();
    my $r = ask($path);
    is($r->{status}, 502, "$path: refused");
    like($r->json->{error}{message}, qr/: tls$/, "$path: because of TLS");
    is(scalar(mock_requests(port => $cert{good})), 0, "$path: nothing was sent");
}
isnt(ask('stranger')->{status}, 200, 'a target that wants a certificate: refuses without');
is(ask('doorman')->{status}, 200, 'and answers with SSLProxyMachineCertificateFile');
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
$r = ask('trusted', stream => $true);
is((stream_events($r->{body}))[-1], '[DONE]', 'a stream over TLS');
mock_behave({port => $cert{good}, do => {body_size => 1_000_000}});
is(length ask('trusted')->{body}, 1_000_000, 'a large answer');
mock_reset();
is(client(port => port('SPARE_1'))->post('/trusted', chat('x' x 1_000_000))->{status}, 200, 'a large request');
is(length((mock_requests(port => $cert{good}))[-1]{body}) > 1_000_000 ? 1 : 0, 1, 'arrives whole');
mock_close(port => $cert{good}, all => $true);
is(ask('trusted')->{status}, 200, 'a connection that the target closed is replaced');

# A handshake that hangs is bounded by the connect time-out, also where it replaces a pooled connection that is dead; a write
# by the write time-out, also on a new connection.
my $c = client(port => port('SPARE_1'));
is($c->post('/trusted', chat('hello'))->{status}, 200, 'a connection comes into the pool');
mock_close(port => $cert{good}, all => $true);
mock_behave({port => $cert{good}, times => -1, do => {accept_hang => $true}}); # a new child may connect as well
my $begin = time;
$r = $c->post('/trusted', chat('hello'));
is($r->{status}, 504, 'the one that replaces it hangs in the handshake');
like($r->error->{message}, qr/last of 1: connect-timeout$/, 'which is known as that');
cmp_ok(time - $begin, '<', 2, 'in time');
mock_reset();
for my $case ([1500, 200, 'a target that pauses for longer than the connect time-out before it reads'], [$true, 504, 'one that never reads']) {
    my ($pause, $status, $what) = @$case;
    AIPTest::mock_call('POST', 'behave', {do => {no_read => $pause}}, port('HTTPD_4'));
    $begin = time;
    $r = client(port => port('SPARE_1'), timeout => 30)->post('/narrow', chat('x' x 6_000_000));
    is($r->{status}, $status, $what) or diag($r->{body});
    cmp_ok(time - $begin, '>', $status == 504 ? 2.9 : 1.4, 'not before its time');
    like($r->error->{message}, qr/last of 1: write-timeout$/, 'known as that') if $status == 504;
}

# Session tickets that come in one go with the answer do not hide it.
is(ask('hoarder')->{body}, '{}', 'twenty session tickets before the answer') for 1 .. 3;

# the name that is verified is the target's, whatever Host the client sends
is(client(port => port('SPARE_1'))->post('/trusted', chat('x'), Host => 'other.example')->{status}, 200, "the client's Host does not matter");

# https embeddings with an authority that nobody trusts: the failure policy
is(ask('embed')->json->{model}, 'rest', 'untrusted embeddings provider: catch-all');
$r = client(port => port('SPARE_1'))->post('/embed/fail', chat('hello'));
is($r->{status}, 503, 'AIRouteOnFailure fail: 503');
is($r->error->{code}, 'references_missing', 'says why');
like($h->log, qr/AIP0103/, 'the references cannot be made');
$h->stop;
is_deeply([$h->unexpected('AIP0021', 'AIP0043', 'AIP0071', 'AIP0103', qr/\[(ssl|proxy):/)], [], 'nothing unexpected in the log');
finish();
