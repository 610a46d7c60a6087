#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Names that lead to link-local addresses and metadata services: looked at after they were resolved, for targets, prompts and
# references; good addresses beside them are used; AIEgressAllow may name them. The resolver is one of the test's own, put
# before the C library's: no packet leaves.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $lib = "$AIPTest::Setup::t/state/resolver";
AIPTest::Setup::write_file("$lib.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* inner.example has a bad address, mapped.example one inside IPv6, mixed.example a bad one before a good one;
 * outer.example has one that nobody can connect to without an interface. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    static const struct { const char *name, *first, *second; } table[] = {
        {"inner.example", "169.254.169.254", NULL}, {"mapped.example", "::ffff:100.100.100.200", NULL},
        {"mixed.example", "169.254.1.1", "127.0.0.1"}, {"outer.example", "fe80::1", NULL}};
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    for (int i = 0; node && i < 4; i++) {
        if (strcmp(node, table[i].name) == 0) {
            struct addrinfo any = {0};
            if (hints) {
                any.ai_socktype = hints->ai_socktype;
                any.ai_protocol = hints->ai_protocol;
            }
            int rc = real(table[i].first, service, &any, out);
            return rc || !table[i].second ? rc : real(table[i].second, service, &any, &(*out)->ai_next);
        }
    }
    return real(node, service, hints, out);
}
C
system($ENV{CC} || 'cc', '-shared', '-fPIC', '-O1', '-o', "$lib.so", "$lib.c", '-ldl') == 0 or die "no compiler\n";

my $mock = port('MOCK_1');
sub target {
    my ($name, $host, $port, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl http://$host:$port/v1/chat/completions", @lines, "</AITarget>\n";
}
sub location { my ($path, @target) = @_; return "<Location /$path>\nAIProxy On\nAIBalancerConnectTimeout 600\n" . target($path, @target) . "</Location>\n" }
sub routing {
    my ($path, $host) = @_;
    return "<Location /$path>\n" . join("\n", 'AIProxy On', 'AIBalancerAlgorithm semantic', 'AIRouteOnFailure fail', 'AIRouteCache none',
        'AIEmbeddingsModelProvider openai', 'AIEmbeddingsModelName text-embedding-3-small', "AIEmbeddingsModelOptionsUpstreamUrl http://$host:${\port('MOCK_EMBED')}/v1/embeddings",
        'AIEmbeddingsTimeout 1000', 'AIVectordbDimensions 64', '')
        . target('zero', '127.0.0.1', $mock, 'AIDescription "axis:0 1"') . target('rest', '127.0.0.1', $mock, 'AIDescription CATCHALL') . "</Location>\n";
}

my $h = do {
    local $ENV{LD_PRELOAD} = "$lib.so";
    start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nListen 127.0.0.1:\${SPARE_2_PORT}\nListen 127.0.0.1:\${SPARE_3_PORT}\n"
            . join('', location('inner', 'inner.example', 1), location('mapped', 'mapped.example', 1), location('mixed', 'mixed.example', $mock), location('half', 'mixed.example', port('DEAD')),
                location('outer', 'outer.example', 1), routing('e-inner', 'inner.example'), routing('e-mixed', 'mixed.example'))
            . "<Location /pair>\nAIProxy On\n" . target('first', 'inner.example', 1) . target('second', '127.0.0.1', $mock) . "</Location>\n"
            . "<VirtualHost 127.0.0.1:\${SPARE_2_PORT}>\nAIEgressAllow outer.example 127.0.0.1\n" . location('named', 'outer.example', 1) . "</VirtualHost>\n"
            . "<VirtualHost 127.0.0.1:\${SPARE_3_PORT}>\nAIEgressAllow * fe80::/10\n" . location('unnamed', 'outer.example', 1) . "</VirtualHost>\n");
};

sub watched {
    my ($path, $port) = @_;
    my $from = length $h->log;
    my $r = client(port => port($port // 'SPARE_1'))->post("/$path", chat('axis:0 0.9'));
    return ($r, substr $h->log, $from);
}

my ($r, $log);
for my $name (qw(inner mapped outer)) {
    ($r, $log) = watched($name);
    is($r->{status}, 502, "$name: refused");
    is($r->error->{code}, 'upstream_unreachable', "$name: in JSON");
    like($log, qr/AIP0072: $name: not connected to http:\/\/$name\.example:1: it has (the address of a metadata service|a link-local address)/, "$name: the log says why");
    unlike($log, qr/AIP0024/, "$name: nothing was tried");
}
($r) = watched('pair');
is($r->json->{model}, 'second', 'the next target is tried');
($r, $log) = watched('mixed');
is($r->json->{model}, 'mixed', 'a good address beside a bad one is used');
unlike($log, qr/AIP0072/, 'without a word');
($r, $log) = watched('half');
is($r->{status}, 502, 'when it refuses');
like($log, qr/AIP0024: half/, 'that is what the log says');
is(wait_until('references', sub { my ($e) = watched('e-mixed'); $e->{status} == 200 && $e })->json->{model}, 'zero', 'also for references and prompts');
like(wait_until('why', sub { $h->log =~ /AIP0103: ([^\n]*metadata[^\n]*)/ && $1 }), qr/the host has the address of a metadata service, and AIEgressAllow does not name it/,
    'references: a bad one alone is refused');
($r, $log) = watched('named', 'SPARE_2');
is($r->{status}, 502, 'without an interface in vain');
like($log, qr/AIP0024: named: cannot connect/, 'but one whose name AIEgressAllow holds is tried');
($r, $log) = watched('unnamed', 'SPARE_3');
like($log, qr/AIP0072: unnamed/, '* and a network do not name a name');
$h->stop;
is_deeply([$h->unexpected('AIP0021', 'AIP0043', 'AIP0072', 'AIP0103')], [], 'nothing unexpected in the log');
finish();
