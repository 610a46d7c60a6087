#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# The matrix of failover: every fault x buffered and streamed x first and second request of a connection x HTTP/1.1 and
# HTTP/2 x its criterion on, on without non_idempotent, and off while all others are on; the algorithms take turns, so that
# each meets each fault. The first candidate always has the fault, the second one answers.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

my $true = JSON::PP::true;
my $log  = "$AIPTest::Setup::t/logs/matrix_log";
my $big  = 'x' x 400_000;
my @leak = (headers => [['X-Leak', 'yes'], ['Set-Cookie', 'leak=yes']]);

# fault => where the first target is (at) or what it does; which criterion it falls under (on); whether the request may have
# been acted upon, so that non_idempotent is needed, too (billed); what the client gets when nobody else is tried: status,
# code of the error, size of the body where that is the point (gives); how the attempt is logged (outcome), when that is not
# "withheld" for those that move on and "ok" for those that are passed on.
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
    '429 with Retry-After'     => {do => {status => 429, headers => [@{$leak[1]}, ['Retry-After', '7']]}, on => 'http_429',
        gives => [429, 'mock_429'], cools => 7},
    'early 500'                => {do => {status => 500, early => $true, @leak}, on => 'http_500', gives => [500, 'mock_500'], big => 1},
    '300 KB error body'        => {do => {status => 500, body_size => 300_000, @leak}, on => 'http_500', gives => [500, undef, 300_000]},
    'trickling error body'     => {do => {status => 500, body_size => 300, trickle => {bytes => 20, interval_ms => 15}, @leak}, on => 'http_500',
        gives => [500, 'mock_500', 300]},
    'headers then silence'     => {do => {hang_after_head => $true, @leak}, on => 'timeout', billed => 1, gives => [504, 'upstream_timeout'], outcome => 'idle-timeout'},
    'headers then close'       => {do => {cut_after_bytes => 0, @leak}, on => 'error', billed => 1, gives => [502, 'upstream_unreachable'], outcome => 'body-cut'},
    'breaks off before a word' => {do => {cut_after_bytes => 120, @leak}, on => 'error', billed => 1, gives => [502, 'upstream_unreachable'],
        outcome => 'body-cut'},
    'silent before a word'     => {do => {stall_after_bytes => 120, @leak}, on => 'timeout', billed => 1, gives => [504, 'upstream_timeout'],
        outcome => 'idle-timeout'},
    'SSE error event first'    => {do => {stream => {auto => 5}, error_event => 0, @leak}, on => 'error', stream => 'error event'},
    'SSE error after the role' => {do => {stream => {auto => 5}, error_event => 1, @leak}, on => 'error', stream => 'error event'},
    'SSE break in the middle'  => {do => {stream => {auto => 5}, cut_after_bytes => 900}, on => 'error', stream => 'broken', outcome => 'body-cut'},
    'SSE break at its end'     => {do => {stream => {auto => 5, sse_end => 'cut'}}, on => 'error', stream => 'broken', outcome => 'body-cut'},
    map({("status $_" => {do => {status => $_, @leak}, on => "http_$_", gives => [$_, "mock_$_"]})} 403, 404, 429, 500, 502, 503, 504),
);

# The faulty target is tried first by each of them: by its weight, by the meaning
# of the prompt, or because the other one has been used already.
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
my @criteria = (qw(error timeout invalid_header), map {"http_$_"} 403, 404, 429, 500, 502, 503, 504);
my %listed   = (
    on    => "@criteria non_idempotent",
    alone => "@criteria",
    map { my $off = $_; ("no-$off" => join ' ', 'non_idempotent', grep { $_ ne $off } @criteria) } @criteria
);

# The cells, and who balances in each.
my (@cells, %met);
for my $name (sort keys %fault) {
    my $shift = keys %met; # so that nobody is in step with the loops
    for my $stream (0, 1) {
        for my $second (0, 1) {
            for my $protocol ('HTTP/1.1', have_http2() ? 'HTTP/2' : ()) {
                for my $criterion (qw(on alone off)) {
                    my $algorithm = $algorithms[(@cells + $shift) % @algorithms];
                    push @cells, {fault => $name, stream => $stream, second => $second, protocol => $protocol, criterion => $criterion,
                        algorithm => $algorithm, number => scalar @cells};
                    $met{$name}{$algorithm}             = 1;
                    $met{$name}{"$algorithm $criterion"} = 1;
                }
            }
        }
    }
    my $combinations = grep {/ /} keys %{$met{$name}};
    is(keys(%{$met{$name}}) - $combinations, @algorithms, "$name: every algorithm meets it");
    is($combinations, have_http2() ? 3 * @algorithms : 12, "$name: as often as may be with each criterion");
}

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

# Two targets at a path, and below it the sets of criteria.
sub gateway {
    my ($algorithm, $path, $endpoint, $more, @sets) = @_;
    my ($bad, $good) = $algorithm eq 'semantic' ? (1, 65535) : (65535, 1); # the meaning decides, against the weights
    return "<Location $path>\nAIProxy On\nAIBalancerAlgorithm $algorithm\n$algorithm{$algorithm}$more"
        . target('bad', $endpoint{$endpoint}, $bad, 0) . target('good', 'http://127.0.0.1:${MOCK_2_PORT}/good', $good, 1) . "</Location>\n"
        . join '', map {"<Location $path/$_>\nAIBalancerFailoverCriteria $listed{$_}\n</Location>\n"} @sets;
}

# A target that was given a pause is lost for what follows: such cells have one of their own.
my %place = map { my $a = $_; map { ("/$a/$_" => [$a, $_, '']) } keys %endpoint } @algorithms;
$place{"/$_->{algorithm}/cell-$_->{number}"} = [$_->{algorithm}, 'plain0', "AIBalancerCooldownMax 60000\n"] for grep { $fault{$_->{fault}}{cools} } @cells;
$place{"/$_/back"} = [$_, 'plain0', "AIBalancerCooldownMax 60000\n"] for @algorithms;
$conf .= gateway($place{$_}[0], $_, @{$place{$_}}[1, 2], sort keys %listed) for sort keys %place;
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
for my $place (grep { $place{$_}[0] =~ /^lowest/ } sort keys %place) {
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

# Names of the targets that were tried, in order, as the statistics have them; and their outcomes.
sub tried {
    my ($line) = @_;
    my @tried = @{$line->{ai}{proxy}{tried_targets}};
    return join(' ', map { $_->{target} } @tried), join(' ', map { $_->{outcome} } @tried);
}

sub text_of {
    my ($stream, $body) = @_;
    return from_json($body)->{choices}[0]{message}{content} if !$stream;
    return join '', map { map { $_->{delta}{content} // '' } @{from_json($_)->{choices}} } grep { $_ ne '[DONE]' } stream_events($body);
}

# What the client has when the second target answered: all of that, and nothing of the first one.
sub check_moved {
    my ($what, $f, $stream, $r) = @_;
    is($r->{status}, 200, "$what: status");
    is(text_of($stream, $r->{body}), 'I am good, played by m2.' . ($stream ? ' 1 2 3 4' : ''), "$what: the whole answer of the other target") or diag($r->{body});
    is((stream_events($r->{body}))[-1], '[DONE]', "$what: to its end") if $stream;
    like($r->header('Content-Type'), $stream ? qr{^text/event-stream} : qr{^application/json}, "$what: its type");
    is($r->header('X-LLM-Model'), 'openai/good', "$what: its name");
    is($r->header($_), undef, "$what: nothing is left of the first answer: $_") for 'X-Leak', 'Retry-After';
    unlike($r->{body}, qr/mock_|error|bad/, "$what: nor in the body");
    return;
}

# What the client has when nobody answered as it should.
sub check_failed {
    my ($what, $f, $r) = @_;
    my ($status, $code, $size) = @{$f->{gives}};
    is($r->{status}, $status, "$what: status");
    like($r->header('Content-Type'), qr{^application/json}, "$what: type");
    is($r->error->{code}, $code, "$what: code") if $code;
    is(length $r->{body}, $size, "$what: the whole body") if $size;
    my $own = $size || $code =~ /^mock/ ? undef : $f->{outcome};
    like($r->error->{message}, qr/: \Q$own\E$/, "$what: the reason") if $own;
    is($r->header('x-should-retry'), $f->{pointless} ? 'false' : undef, "$what: advice to the client");
    is($r->header('X-Leak'), $own ? undef : 'yes', "$what: headers of the answer that is given, no others");
    is($r->header('Retry-After'), $f->{cools}, "$what: when to come back");
    return;
}

# A stream that failed: its events, the last of which is the error.
sub check_stream {
    my ($what, $f, $r) = @_;
    is($r->{status}, 200, "$what: status");
    my @events = map { eval { from_json($_) } // {} } stream_events($r->{body});
    is(scalar @events, scalar(grep { $_->{choices} || $_->{error} } @events), "$what: whole events");
    my $broken = $f->{stream} eq 'broken';
    is($events[-1]{error}{code}, $broken ? 'body-cut' : 'mock_stream_error', "$what: the last is the error");
    is(scalar(grep { $_->{error} } @events), 1, "$what: of which there is one");
    $broken ? cmp_ok(scalar @events, '>', 2, "$what: what came before is there")
        : is(scalar @events, 1 + $f->{do}{error_event}, "$what: as the target sent it");
    return;
}

sub cell {
    my ($cell) = @_;
    my ($name, $stream, $second, $protocol, $criterion, $algorithm) = @$cell{qw(fault stream second protocol criterion algorithm)};
    my $f     = $fault{$name};
    my $id    = "cell-$cell->{number}";
    my $place = "/$algorithm/" . ($f->{cools} ? $id : $f->{at} // 'plain' . $cell->{number} % 3);
    my $path  = "$place/" . ($criterion eq 'off' ? "no-$f->{on}" : $criterion) . "/$id";
    my $what  = join ', ', $name, $stream ? 'streamed' : 'buffered', $second ? 'second' : 'first', $protocol, $criterion, $algorithm;
    my $moves = $criterion ne 'off' && !($criterion eq 'alone' && $f->{billed}) && ($f->{stream} // '') ne 'broken';
    mock_reset();
    $from = -s $log // 0;
    if ($f->{reused}) { # leaves a connection in the pool of the target
        my $c = connect_to('HTTP/1.1');
        $c->post("$place/on/warm", body_of('warm', {}, 0));
        $c->close;
    }
    my $c = connect_to($protocol);
    is($c->post('/usable', chat('before'))->{status}, 200, "$what: a good request first") if $second;
    mock_behave({port => port('MOCK_1'), path => '/bad', ($f->{reused} ? (conn_request_min => 2) : ()), do => $f->{do}}) if $f->{do};
    slow_good() if $algorithm eq 'lowest-latency';
    my $r = $c->post($path, body_of($id, $f, $stream), 'X-Key' => 'any');
    ok($r->{complete}, "$what: a complete answer");
    $moves ? check_moved($what, $f, $stream, $r) : $f->{stream} ? check_stream($what, $f, $r) : check_failed($what, $f, $r);
    is($r->header('Set-Cookie'), undef, "$what: no cookie");
    check_upstreams($what, $id, $f, $stream, $moves ? qw(bad good) : 'bad');
    if ($protocol eq 'HTTP/1.1' && $r->{status} =~ /^50[03]$/) { # httpd ends the connection, in good order
        like($r->header('Connection'), qr/\bclose\b/, "$what: the end of the connection is announced");
        ok($c->closed, "$what: and comes");
    } else {
        is($c->post('/usable', chat('after'))->{status}, 200, "$what: the connection is usable");
    }
    $c->close if $protocol eq 'HTTP/1.1';
    my ($tried, $outcomes) = tried(line_of($path)); # the end of the connection at the latest brings it
    my $outcome = $f->{outcome} // ($moves ? 'withheld' : 'ok');
    is($tried, $moves ? 'bad good' : 'bad', "$what: attempts");
    is($outcomes, $moves ? "$outcome ok" : $outcome, "$what: their outcomes");
    check_pause($what, $cell, $place) if $f->{cools};
    return;
}

# A target that asked for a pause is left alone, whether or not its answer was passed on.
sub check_pause {
    my ($what, $cell, $place) = @_;
    my $c    = connect_to('HTTP/1.1');
    my $path = "$place/alone/next-$cell->{number}";
    is($c->post($path, body_of('next', {}, 0), 'X-Key' => 'any')->{status}, 200, "$what: the next request is answered");
    $c->close;
    is_deeply([tried(line_of($path))], ['good', 'ok'], "$what: by the other target alone");
    return;
}

# And is back when the pause is over.
sub comes_back {
    my ($algorithm) = @_;
    mock_reset();
    mock_behave({port => port('MOCK_1'), path => '/bad', do => {status => 503, headers => [['retry-after-ms', '400']]}});
    slow_good(-1) if $algorithm eq 'lowest-latency';
    my $c     = connect_to('HTTP/1.1');
    my $ask   = sub { $c->post("/$algorithm/back/alone", body_of('back', {}, 0), 'X-Key' => 'any')->json->{model} };
    my $begin = time;
    is($ask->(), 'good', "$algorithm: a pause of 400 ms");
    wait_until("$algorithm: the end of the pause", sub { $ask->() eq 'bad' });
    cmp_ok(time - $begin, '>', 0.39, "$algorithm: it is kept");
    cmp_ok(time - $begin, '<', 3, "$algorithm: and has an end");
    $c->close;
    return;
}

# Slower than the first target over its weight.
sub slow_good {
    my ($times) = @_;
    mock_behave({port => port('MOCK_2'), path => '/good', times => $times // 1, do => {delay_ms => 5}});
    return;
}

cell($_) for @cells;
comes_back($_) for @algorithms;
$h->stop;
my @full = mpm() eq 'prefork' ? 'AH00161' : (); # its only child is busy
is_deeply([$h->unexpected('AIP0021', 'AIP0022', 'AIP0071', @full, qr/\[(ssl|proxy):/)], [], 'nothing unexpected in the log');
is_deeply([$h->deaths], [], 'no child died');
finish();
