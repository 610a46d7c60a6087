#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Ten thousand mixed requests, faults and leaving clients among them, with a graceful restart in the middle: the statistics
# log, the metrics and the status page tell the same totals, and those are what was sent.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $count = $ENV{AIP_TOTALS_REQUESTS} || 10_000;
my $true  = JSON::PP::true;

sub target {
    my ($name, $port, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelOptionsUpstreamUrl http://127.0.0.1:\${${port}_PORT}/v1/x\n"
        . "AILoggingLogStatistics On\n" . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}

my @price = ('AIModelOptionsInputCost 0.15', 'AIModelOptionsOutputCost 0.601');
my $log = "$AIPTest::Setup::t/state/totals.$$.log";
my %gateway = (
    plain => target('one', 'MOCK_1', @price),
    last  => "AIBalancerFailoverCriteria error timeout http_429 http_500 non_idempotent\n"
        . target('first', 'MOCK_2', @price) . target('second', 'MOCK_3', 'AIModelOptionsInputCost 3', 'AIModelOptionsOutputCost 15'),
    over => "AIBalancerAlgorithm priority\nAIBalancerFailoverCriteria error timeout http_503 non_idempotent\n"
        . target('bad', 'MOCK_4', @price, 'AIModelName mock-503', 'AIWeight 200') . target('good', 'MOCK_5', @price, 'AIModelName m', 'AIWeight 100'),
    meaning => "AIBalancerAlgorithm semantic\nAIExplain body\nAIEmbeddingsModelProvider local\nAIEmbeddingsModelName \""
        . top_dir() . "/share/embedder/aip-static-en-v1\"\nAIVectordbThreshold 0.8\n"
        . target('code', 'MOCK_6', @price, 'AIDescription "programming, debugging, source code"')
        . target('rest', 'MOCK_7', @price, 'AIDescription CATCHALL'),
);
my $h = start_httpd(
    'Listen 127.0.0.1:${SPARE_1_PORT}' . "\nStartServers 2\nServerLimit 4\nThreadsPerChild 16\nMaxRequestWorkers 32\nMaxSpareThreads 32\nMinSpareThreads 16\n"
        . "AIStatisticsLog $log\n" . join('', map {"<Location /$_>\nAIProxy On\n$gateway{$_}</Location>\n"} sort keys %gateway)
        . "<Location /metrics>\nSetHandler ai-metrics\n</Location>\n<Location /status>\nSetHandler ai-status\n</Location>\n");

# ---- what is sent ----

my @kinds;

sub kind {
    my ($weight, $path, $body, %more) = @_;
    push @kinds, {weight => $weight, path => "/$path", body => $body, %more};
    return;
}

kind(30, $_, chat('hello there'))                                     for qw(plain last over);
kind(15, $_, chat('hello there', stream => $true))                     for qw(plain last over meaning);
kind(10, $_, chat('x' x 3000, stream => $true, stream_options => {include_usage => $true})) for qw(plain meaning);
kind(20, 'meaning', chat($_))                                          for 'why does my code not compile?', 'a poem about the sea', 'debug this source code';
for my $model (qw(no-usage mock-429 mock-500 mock-503 mock-chunked mock-close mock-badjson mock-html mock-empty mock-cut mock-drop mock-reset mock-badheader)) {
    kind(4, $_, chat('hello', model => $model)) for qw(plain last);
}
for my $model (qw(mock-sse-error mock-sse-cut no-usage)) {
    kind(4, $_, chat('hello', model => $model, stream => $true)) for qw(plain last);
}
kind(3, 'plain',   '{"messages":');
kind(3, 'meaning', chat('x'), type => 'text/plain');
kind(3, 'last',    {model => 'm'});
kind(3, 'plain',   chat('x', model => 'mock-slow'), abort_ms => 30);
kind(3, 'plain',   chat('x', model => 'mock-slow', stream => $true), abort_ms => 30);
kind(5, 'meaning/_route', chat('hello there'));

mock_reset();
mock_behave({model => 'no-usage', times => -1, do => {usage => undef}});
my $kinds_file = "$AIPTest::Setup::t/state/kinds.$$.json";
AIPTest::Setup::write_file($kinds_file, json(\@kinds));

sub load {
    my ($n, $seed) = @_;
    my ($status, $out, $err) = run_command(['python3', 't/lib/mixed_load.py', port('SPARE_1'), $n, $seed, 8, $kinds_file], '', 200);
    is($status, 0, "the load of $n requests ran") or diag $err;
    return from_json($out);
}

# The restart comes when about a quarter of the second half is over.
my @loads = (load($count / 2, 1));
my $restarts = fork // die "fork: $!\n";
if (!$restarts) {
    my $lines = -s $log;
    eval { wait_until('load', sub { -s $log > $lines * 5 / 4 }, 60); $h->graceful };
    POSIX::_exit($@ ? 1 : 0);
}
push @loads, load($count - $count / 2, 2);
waitpid $restarts, 0;
is($?, 0, 'a graceful restart under load');

my (%sent, %status);
for my $load (@loads) {
    is_deeply($load->{failed}, [], 'every request was answered');
    for my $path (keys %{$load->{sent}}) {
        my $pool = $path;
        next if $pool =~ /_route$/; # a dry run is no request
        $sent{$pool} += $load->{sent}{$path};
        while (my ($code, $n) = each %{$load->{status}{$path}}) {
            $status{"$pool " . ($code =~ /^(\d+)/ ? $1 : $code)} += $n;
        }
    }
}

# ---- what the books say ----

sub books {
    my ($code, $out, $err) = run_command(['python3', 't/lib/totals.py', $log, map { url('SPARE_1', $_) } '/metrics', '/status']);
    $code == 0 or die "totals.py: $err\n";
    return from_json($out);
}

# The last requests are booked after their answers; if they are not, the totals below say which.
my $books;
eval { wait_until('the last request in every book', sub {
    $books = books();
    my @n = map { my $sum = 0; $sum += $_ for values %{$books->{$_}{requests}}; $sum } qw(log metrics page);
    my $all = 0;
    $all += $_ for values %sent;
    return !grep { $_ != $all } @n;
}, 20) };
is_deeply($books->{$_}{requests}, \%sent, "$_: the requests of each gateway are those that were sent") for qw(log metrics page);

# Of a client that left nobody knows the status; all others are as the clients saw them.
my $left = delete $status{'/plain left'};
cmp_ok($left, '>', 20 * $count / 10_000, 'clients left');
for my $name (qw(log metrics)) {
    my %codes = %{$books->{$name}{codes}};
    my %more = map { $_ => $codes{$_} - ($status{$_} // 0) } keys %codes;
    is_deeply([grep { $more{$_} && !m{^/plain } } sort keys %more], [], "$name: statuses as the clients saw them");
    my $sum = 0;
    $sum += $_ for values %more;
    is($sum, $left, "$name: the rest are the clients that left");
}
cmp_ok($books->{metrics}{codes}{'/plain 499'}, '>', $left / 2, 'most of which had not got anything: 499');
is_deeply($books->{metrics}{target}, $books->{log}{target}, 'metrics and log: requests, tokens and cost of each target');
is_deeply($books->{page}{target},    $books->{log}{target}, 'page and log: the same');
is_deeply($books->{metrics}{attempts}, $books->{log}{attempts}, 'metrics and log: the attempts by outcome');
cmp_ok($books->{log}{target}{'/plain one'}{cost}, '>', 0, 'there was something to pay');
cmp_ok($books->{log}{target}{'/over bad'}{requests} // 0, '==', 0, 'the one that always fails answered nobody');
is(scalar(() = slurp($log) =~ /\n/g), eval { my $n = 0; $n += $_ for values %sent; $n }, 'one line for each request');
is_deeply([$h->deaths], [], 'no child died');
finish();
