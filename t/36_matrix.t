#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# The matrix of failover: every fault x buffered and streamed x first and second request of a connection x HTTP/1.1 and
# HTTP/2 x criterion on, off, and on without non_idempotent; the algorithms take turns, so that each meets each fault.
# The first candidate always has the fault, the second one answers.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my $log  = "$AIPTest::Setup::t/logs/matrix_log";
my $big  = 'x' x 400_000;
my @leak = (headers => [['X-Leak', 'yes'], ['Set-Cookie', 'leak=yes']]);

# fault => what the first target does; which criterion it falls under; whether the request may have been acted upon; what
# the client gets when nobody else is tried: status, code of the error.
my %fault = (
    'refused'                  => {at => 'refused', on => 'error', gives => [502, 'upstream_unreachable'], outcome => 'connect'},
    'connect black hole'       => {at => 'blackhole', on => 'timeout', gives => [504, 'upstream_timeout'], outcome => 'connect-timeout'},
    'TLS failure'              => {at => 'tls', on => 'error', gives => [502, 'upstream_unreachable'], outcome => 'tls', pointless => 1},
    'no answer'                => {do => {hang => $true}, on => 'timeout', billed => 1, gives => [504, 'upstream_timeout'], outcome => 'first-byte-timeout'},
    'closes before status'     => {do => {drop_before_head => $true}, on => 'error', billed => 1, gives => [502, 'upstream_unreachable'], outcome => 'drop'},
    'closes on a reused connection' => {do => {drop_before_head => $true}, reused => 1, on => 'error', billed => 1,
        gives => [502, 'upstream_unreachable'], outcome => 'drop'},
    'bad header'               => {do => {raw => "HTTP/1.1 200 OK\r\nX-Leak: yes\r\nnonsense\r\n\r\n", close => $true}, on => 'invalid_header', billed => 1,
        gives => [502, 'upstream_unreachable'], outcome => 'invalid-header'},
    '429 with Retry-After'     => {do => {status => 429, headers => [@{$leak[1]}, ['Retry-After', '7']]}, on => 'http_429', gives => [429, 'mock_429']},
    'early 500'                => {do => {status => 500, early => $true, @leak}, on => 'http_500', gives => [500, 'mock_500'], big => 1},
    '300 KB error body'        => {do => {status => 500, body_size => 300_000, @leak}, on => 'http_500', gives => [500, 'mock_500']},
    'trickling error body'     => {do => {status => 500, body_size => 300, trickle => {bytes => 20, interval_ms => 15}, @leak}, on => 'http_500',
        gives => [500, 'mock_500']},
    'headers then silence'     => {do => {hang_after_head => $true, @leak}, on => 'timeout', billed => 1, gives => [504, 'upstream_timeout'], outcome => 'idle-timeout'},
    'headers then close'       => {do => {cut_after_bytes => 0, @leak}, on => 'error', billed => 1, gives => [502, 'upstream_unreachable'], outcome => 'body-cut'},
    'SSE error event first'    => {do => {stream => {auto => 5}, error_event => 0, @leak}, on => 'error', stream => 'error event'},
    'SSE error after the role' => {do => {stream => {auto => 5}, error_event => 1, @leak}, on => 'error', stream => 'error event'},
    'SSE break in the middle'  => {do => {stream => {auto => 5, sse_end => 'cut'}}, on => 'error', stream => 'broken', outcome => 'body-cut'},
    map({("status $_" => {do => {status => $_, @leak}, on => "http_$_", gives => [$_, "mock_$_"]})} 403, 404, 429, 500, 502, 503, 504),
);

# The faulty target is tried first by each of them: by its weight, or because the other one has been used already.
my %algorithm = (
    'round-robin'        => '',
    'consistent-hashing' => "AIBalancerHashOnHeader X-Key\n",
    'least-connections'  => '',
    'lowest-usage'       => "AIBalancerUsageWindow 86400000\n",
    'lowest-latency'     => "AIBalancerLatencyStrategy e2e\n",
    'priority'           => '',
    'semantic'           => <<'CONF',
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl "http://127.0.0.1:${MOCK_EMBED_PORT}/v1/embeddings"
AIVectordbDimensions 64
CONF
);
my @algorithms = sort keys %algorithm;
my %endpoint   = (
    (map { ("plain$_" => 'http://127.0.0.1:${MOCK_1_PORT}/bad') } 0 .. 2), # several, for lowest-latency probes at every 50th request
    refused   => 'http://127.0.0.1:${DEAD_PORT}/bad',
    blackhole => 'http://127.0.0.1:${MOCK_BLACKHOLE_PORT}/bad',
    tls       => 'https://localhost:${MOCK_TLS_1_PORT}/bad',
);
my $all      = 'error timeout invalid_header http_403 http_404 http_429 http_500 http_502 http_503 http_504';
my %criteria = (on => "$all non_idempotent", alone => $all, off => 'http_404', other => 'http_403');

sub target {
    my ($name, $url, $weight, $axis) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName $name\nAIModelOptionsUpstreamUrl \"$url\"\n"
        . "AIAuthHeaderName X-Credential\nAIAuthHeaderValue key-of-$name\nAIWeight $weight\nAIDescription \"axis:$axis 1\"\n"
        . "AILoggingLogStatistics On\n</AITarget>\n";
}

my $conf = 'Listen 127.0.0.1:${SPARE_2_PORT}' . "\nStartServers 1\nServerLimit 1\n"
    . (mpm() eq 'prefork' ? "MaxRequestWorkers 1\n" : "ThreadsPerChild 16\nMaxRequestWorkers 16\nMinSpareThreads 1\nMaxSpareThreads 16\n")
    . (have_http2() ? "Protocols h2c http/1.1\n" : '')
    . "AIStatisticsLog \"$log\"\nAIBalancerConnectTimeout 250\nAIBalancerReadTimeout 300\nAIBalancerWriteTimeout 300\nAIBalancerCooldownMax 0\n"
    . "KeepAliveTimeout 30\n<Location /usable>\nAIProxy On\n" . target('usable', 'http://127.0.0.1:${MOCK_3_PORT}/', 1, 5) . "</Location>\n";
for my $algorithm (@algorithms) {
    for my $endpoint (sort keys %endpoint) {
        $conf .= "<Location /$algorithm/$endpoint>\nAIProxy On\nAIBalancerAlgorithm $algorithm\n$algorithm{$algorithm}"
            . target('bad', $endpoint{$endpoint}, 65535, 0) . target('good', 'http://127.0.0.1:${MOCK_2_PORT}/good', 1, 1) . "</Location>\n";
        $conf .= "<Location /$algorithm/$endpoint/$_>\nAIBalancerFailoverCriteria $criteria{$_}\n</Location>\n" for sort keys %criteria;
    }
}
my $h = start_httpd($conf);
my $from = 0;

# The statistics line of a request, which is written after its answer.
sub line_of {
    my ($path) = @_;
    return wait_until("statistics of $path", sub {
        my ($line) = grep {/\n\z/ && /"path": ?"\Q$path\E"/} split /(?<=\n)/, slurp($log, $from);
        $line && from_json($line);
    });
}

sub body_of {
    my ($id, $f, $stream) = @_;
    return chat("axis:0 0.7 axis:1 0.5 $id", note => $f->{big} ? $big : 'kept', $stream ? (stream => $true) : ());
}

sub connect_to {
    my ($protocol) = @_;
    my %opt = (port => port('SPARE_2'), timeout => 10);
    return $protocol eq 'HTTP/2' ? h2_client(%opt) : client(%opt);
}

# Which algorithms compare what happened before: the other target answers once, slower than any penalty over its weight.
mock_reset();
for my $place (map { my $a = $_; map {"/$a/$_"} sort keys %endpoint } 'lowest-usage', 'lowest-latency') {
    mock_behave({port => port('MOCK_1'), path => '/bad', do => {status => 404}}, {port => port('MOCK_2'), do => {delay_ms => 40}});
    my $c = connect_to('HTTP/1.1');
    for (1 .. 2) { # unmeasured ones go first, in turn
        $c->post("$place/on", chat('axis:0 0.7 axis:1 0.5'));
    }
    $c->close;
}

sub check_upstreams {
    my ($what, $id, $f, $stream, @expected) = @_;
    my @got = grep { $_->{path} !~ /embeddings/ && $_->{body} && $_->{body} =~ /\Q$id\E"/ } sort { $a->{seq} <=> $b->{seq} } mock_requests();
    @expected = grep { !($_ eq 'bad' && ($f->{at} || $f->{big})) } @expected; # not reached; not read to its end
    @got      = grep { !($_->{path} eq '/bad' && $f->{big}) } @got;
    is(join(' ', map { $_->{path} =~ s{/}{}r } @got), join(' ', @expected), "$what: who received the request");
    for my $r (@got) {
        my $name = $r->{path} =~ s{/}{}r;
        my $body = from_json($r->{body});
        my %want = (%{body_of($id, $f, $stream)}, model => $name);
        delete $body->{stream_options};
        is_deeply($body, \%want, "$what: the whole body, with the model of $name");
        is(join(' ', map { $_->[1] } grep { lc $_->[0] eq 'x-credential' } @{$r->{headers}}), "key-of-$name", "$what: the credential of $name");
    }
    return;
}

my %met;
my ($number, $turn) = (0, 0);

sub cell {
    my ($name, $stream, $second, $protocol, $criterion) = @_;
    my $f         = $fault{$name};
    my $algorithm = $algorithms[$turn++ % @algorithms];
    my $id        = 'cell-' . ++$number;
    my $which     = $criterion eq 'off' && $f->{on} eq 'http_404' ? 'other' : $criterion;
    my $endpoint  = $f->{at} // 'plain' . $number % 3;
    my $path      = "/$algorithm/$endpoint/$which/$id";
    my $what      = join ', ', $name, $stream ? 'streamed' : 'buffered', $second ? 'second' : 'first', $protocol, $criterion, $algorithm;
    my $moves     = $criterion ne 'off' && !($criterion eq 'alone' && $f->{billed}) && ($f->{stream} // '') ne 'broken';
    $met{$name}{$algorithm} = 1;
    mock_reset();
    $from = -s $log // 0;
    if ($f->{reused}) { # leaves a connection in the pool of the target
        my $c = connect_to('HTTP/1.1');
        $c->post("/$algorithm/$endpoint/on/warm", body_of('warm', {}, 0));
        $c->close;
    }
    my $c = connect_to($protocol);
    $c->post('/usable', chat('before')) if $second;
    mock_behave({port => port('MOCK_1'), path => '/bad', ($f->{reused} ? (conn_request_min => 2) : ()), do => $f->{do}}) if $f->{do};
    mock_behave({port => port('MOCK_2'), path => '/good', do => {delay_ms => 5}}) if $algorithm eq 'lowest-latency'; # slower than bad over its weight
    my $r = $c->post($path, body_of($id, $f, $stream), 'X-Key' => 'any');
    ok($r->{complete} // 1, "$what: a complete answer");
    if ($moves) {
        is($r->{status}, 200, "$what: status");
        my $chat = $stream ? from_json((stream_events($r->{body}))[0]) : $r->json;
        is($chat->{model}, 'good', "$what: answered by the other target");
        is((stream_events($r->{body}))[-1], '[DONE]', "$what: to its end") if $stream;
        is($r->header($_), undef, "$what: nothing is left of the first answer: $_") for 'X-Leak', 'Retry-After';
    } elsif ($f->{stream}) {
        is($r->{status}, 200, "$what: status");
        my @events = stream_events($r->{body});
        ok(from_json($events[-1])->{error}, "$what: ends with an error event");
        is(from_json($events[-1])->{error}{code}, 'body-cut', "$what: of the gateway") if $f->{stream} eq 'broken';
    } else {
        is($r->{status}, $f->{gives}[0], "$what: status");
        like($r->header('Content-Type'), qr{^application/json}, "$what: type");
        is($r->error->{code}, $f->{gives}[1], "$what: code");
        is($r->header('x-should-retry'), $f->{pointless} ? 'false' : undef, "$what: advice to the client");
        is($r->header('X-Leak'), $f->{gives}[1] =~ /^mock/ ? 'yes' : undef, "$what: headers of the answer that is given");
    }
    is($r->header('Set-Cookie'), undef, "$what: no cookie");
    check_upstreams($what, $id, $f, $stream, $moves ? qw(bad good) : 'bad');
    if ($protocol eq 'HTTP/1.1' && $r->{status} =~ /^50[03]$/) { # httpd ends the connection, in good order
        like($r->header('Connection'), qr/\bclose\b/, "$what: the end of the connection is announced");
        ok($c->closed, "$what: and comes");
    } else {
        is($c->post('/usable', chat('after'))->{status}, 200, "$what: the connection is usable");
    }
    $c->close if $protocol eq 'HTTP/1.1';
    my $line = line_of($path); # the end of the connection at the latest brings it
    is(join(' ', map { $_->{target} } @{$line->{ai}{proxy}{tried_targets}}), $moves ? 'bad good' : 'bad', "$what: attempts");
    is($line->{ai}{proxy}{tried_targets}[0]{outcome}, $f->{outcome} // ($moves ? 'withheld' : 'ok'), "$what: outcome of the first");
    return;
}

for my $name (sort keys %fault) {
    for my $stream (0, 1) {
        for my $second (0, 1) {
            for my $protocol ('HTTP/1.1', have_http2() ? 'HTTP/2' : ()) {
                cell($name, $stream, $second, $protocol, $_) for qw(on alone off);
            }
        }
    }
    $turn++; # so that the algorithms do not fall into step with the cells
    is(scalar keys %{$met{$name}}, scalar @algorithms, "$name: every algorithm has met it");
}
$h->stop;
is_deeply([$h->unexpected('AIP0021', 'AIP0022', 'AIP0011', qr/\[(ssl|proxy):/)], [], 'nothing unexpected in the log');
is_deeply([$h->deaths], [], 'no child died');
finish();
