#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Gateways in places that httpd puts together late: a virtual host without a line of mod_proxy's own, <If> inside <Location>,
# sections that only change a time-out or an embeddings URL; what other modules decide before us; what httpd shows of secrets.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;

sub target {
    my ($name, $url, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', "AIModelName $name",
        "AIModelOptionsUpstreamUrl $url", @lines, "</AITarget>\n";
}
my $tls = "$AIPTest::Setup::t/state/tls";
my $mock = url('MOCK_1', '/v1/chat/completions');
my ($modules) = slurp("$AIPTest::Setup::t/conf/modules.load") =~ m{"([^"]*)/mod_proxy\.so"};
my $text = <<"CONF";
LoadModule info_module "$modules/mod_info.so"
Listen 127.0.0.1:\${SPARE_1_PORT}
Listen 127.0.0.1:\${SPARE_3_PORT}
RewriteEngine On
RewriteRule ^/forbidden - [F]
Redirect /moved http://elsewhere.example/
AIModelNameHeader On
${\target('hole', 'http://127.0.0.1:' . port('MOCK_BLACKHOLE') . '/v1/chat/completions', 'AIDescription CATCHALL')}
<VirtualHost 127.0.0.1:\${SPARE_3_PORT}>
<Location /tls>
AIProxy On
${\target('vhost', 'https://localhost:' . port('MOCK_TLS_1') . '/v1/chat/completions', "SSLProxyCACertificateFile \"$tls/ca.pem\"",
    'AIAuthHeaderName Authorization', 'AIAuthHeaderValue "Bearer sk-literal"')}
</Location>
</VirtualHost>
<Location /forbidden>
AIProxy On
${\target('forbidden', $mock)}
</Location>
<Location /moved>
AIProxy On
${\target('moved', $mock)}
</Location>
<Location /if>
AIProxy On
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider local
AIEmbeddingsModelName "\${EMBEDDER_DIR}"
AIVectordbThreshold 2
<If "%{HTTP:X-Kind} == 'animals'">
${\target('animals', $mock, 'AIDescription "dogs, cats and other pets"')}
</If>
</Location>
<Location /patience>
AIProxy On
AIBalancerConnectTimeout 300
</Location>
CONF
my ($status, $said) = config_check($text);
is($status, 0, 'the configuration is good') or diag($said);
my $h = start_httpd($text);
sub ask { my ($path, %opt) = @_; return client(port => port($opt{port} // 'SPARE_1'))->post($path, chat('my cat is ill'), @{$opt{headers} // []}) }

is(ask('/tls', port => 'SPARE_3')->json->{model}, 'vhost', 'an https target in a virtual host');
is(ask('/forbidden')->{status}, 403, 'mod_rewrite refuses first');
is(ask('/moved')->{status}, 302, 'mod_alias redirects first');
is(ask('/if', headers => ['X-Kind' => 'animals'])->json->{model}, 'animals', 'targets in <If>, routed by meaning');
my $begin = time;
is(ask('/patience')->{status}, 504, "a server-level target through a location's time-out");
cmp_ok(time - $begin, '<', 1.5, 'which holds');
$h->stop;

my ($rc, $dump) = run_command([$ENV{AIP_HTTPD}, '-t', '-D', 'DUMP_CONFIG', '-f', "$h->{dir}/httpd.conf"]);
like($dump, qr/AIAuthHeaderName/, 'DUMP_CONFIG shows the configuration');
unlike($dump, qr/sk-literal/, 'but no literal secret');
finish();
