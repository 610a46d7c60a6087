#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# The AIEgress directives through `httpd -t`: what does not fit together stops the start, with place, directive and what to
# write instead; files are looked into, and a key of root's serves children that cannot read it.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::CA;

my $tls = "$AIPTest::Setup::t/state/tls";
my $ca = AIPTest::CA->new($tls);
my $dir = "$AIPTest::Setup::t/state/pem";
mkdir $dir;
my $openai = "AIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\n";
sub target { my ($url) = @_; return "<Location /x>\nAIProxy On\n<AITarget t>\n${openai}AIModelOptionsUpstreamUrl $url\n</AITarget>\n</Location>\n" }
sub embeddings {
    my ($url) = @_;
    return "<Location /e>\nAIProxy On\nAIBalancerAlgorithm semantic\nAIEmbeddingsModelProvider openai\nAIEmbeddingsModelName e\n"
        . "AIEmbeddingsModelOptionsUpstreamUrl $url\nAIVectordbDimensions 64\n<AITarget t>\n${openai}AIDescription \"a b\"\n</AITarget>\n</Location>\n";
}

sub refused {
    my ($what, $text, $line, @patterns) = @_;
    my ($status, $said) = config_check($text);
    isnt($status, 0, "refused: $what");
    like($said, qr/check\.conf:$line:/, "$what: its place") or diag($text);
    like($said, $_, "$what: why") for @patterns;
    unlike($said, qr/sk-secret|PRIVATE KEY/, "$what: no secret is shown");
    return;
}

sub accepted {
    my ($what, $text) = @_;
    my ($status, $said) = config_check($text);
    is($status, 0, "accepted: $what") or diag($said);
    return;
}

sub file {
    my ($name, $text) = @_;
    AIPTest::Setup::write_file("$dir/$name", $text);
    return "\"$dir/$name\"";
}

# ---- proxy ----
accepted('a proxy', "AIEgressProxy http://proxy.example:3128/\nAIEgressProxyAuth \"u:sk-secret\"\n");
refused('a proxy over TLS', "AIEgressProxy https://proxy.example:3128\n", 1, qr/AIEgressProxy 'https:\S+': TLS to the proxy itself is not supported; write http:/);
refused('a proxy with a path', "AIEgressProxy http://proxy.example:3128/p\n", 1, qr/AIEgressProxy .* must be http:\/\/host:port, without a path/);
refused("a proxy '$_'", "AIEgressProxy $_\n", 1, qr/AIEgressProxy '\Q$_\E' must be http:\/\/host:port/) for qw(proxy.example:3128 socks5://p:1 http://p:0);
refused('credentials in the URL', "AIEgressProxy http://u:sk-secret\@p:1\n", 1, qr/AIEgressProxyAuth "user:password"/);
refused('credentials without a proxy', "AIEgressProxyAuth u:sk-secret\n", 1, qr/AIEgressProxyAuth needs AIEgressProxy/);
refused('no password', "AIEgressProxy http://p:1\nAIEgressProxyAuth sk-secret\n", 1, qr/AIEgressProxyAuth: the value must be user:password/);
refused("around the proxy: $_", "AIEgressNoProxy localhost $_\n", 1, qr/AIEgressNoProxy '\Q$_\E' must be a host, a \.domain/) for qw(http://h h:80 10.0.0.0/33 *.x);
refused('in a virtual host', "AIProxy Off\n<VirtualHost *:80>\nAIProxy Off\nAIEgressProxy https://p:1\n</VirtualHost>\n", 3, qr/TLS to the proxy itself/);

# ---- files ----
my %pem = map { $_ => slurp("$tls/$_") } qw(ca.pem client.pem client.key client-all.pem foreign-client.key);
my $encrypted = `openssl pkey -in $tls/client.key -aes128 -passout pass:sk-secret 2>/dev/null`;
like($encrypted, qr/ENCRYPTED/, 'a key with a pass phrase');
for my $directive (qw(AIEgressCaFile AIEgressClientCert)) {
    refused("$directive, no file", "$directive $dir/none.pem\n", 1, qr/$directive \S+none\.pem cannot be read: .*No such file/);
    refused("$directive, a folder", "$directive \"$dir\"\n", 1, qr/$directive \S+ (is no PEM file|cannot be read)/);
    refused("$directive, $_->[0]", "$directive ${\file('x.pem', $_->[1])}\n", 1, qr/$directive \S+x\.pem holds no PEM certificate/)
        for ['empty', ''], ['text', "nothing\n"], ['a key alone', $pem{'client.key'}], ['cut off', substr $pem{'ca.pem'}, 0, 200], ['zeros', "\0" x 5000];
    (my $broken = $pem{'client-all.pem'}) =~ s/^(MI)../$1\*\*/m;
    refused("$directive, broken", "$directive ${\file('x.pem', $broken)}\n", 1, qr/holds no PEM certificate/);
}
refused('a certificate without key', "AIEgressClientCert ${\file('x.pem', $pem{'client.pem'})}\n", 1, qr/x\.pem holds no PEM private key/);
refused("another's key", "AIEgressClientCert ${\file('x.pem', $pem{'client.pem'} . $pem{'foreign-client.key'})}\n", 1, qr/the key does not belong to the certificate/);
refused('an encrypted key', "AIEgressClientCert ${\file('x.pem', $pem{'client.pem'} . $encrypted)}\n", 1, qr/the key has a pass phrase; write it without/);
refused('a chain before the key', "AIEgressClientCert ${\file('x.pem', $pem{'client.pem'} . $pem{'ca.pem'} . $pem{'client.key'})}\n", 1, qr/put the key right behind its certificate, and the chain behind the key/);
accepted('a chain', "AIEgressClientCert ${\file('x.pem', $pem{'client-all.pem'} . $pem{'ca.pem'})}\n");
accepted('the key first', "AIEgressClientCert ${\file('x.pem', $pem{'client.key'} . $pem{'client.pem'})}\n");
accepted('several authorities', "AIEgressCaFile ${\file('x.pem', $pem{'ca.pem'} . slurp(\"$tls/foreign-ca.pem\"))}\n" . target('https://h/'));
accepted('a name with blanks and quotes', "AIEgressCaFile ${\file(q(a b'c.pem), $pem{'ca.pem'})}\n" . target('https://h/'));

# ---- where connections may go ----
accepted('URLs that match', "AIEgressAllow https://h/v1/* *.example.com\nAIEgressAllow 10.0.0.0/8\n"
    . target('https://h/v1/chat') . embeddings('http://10.1.2.3:8080/v1/embeddings') =~ s/${openai}/$&AIModelOptionsUpstreamUrl https:\/\/api.example.com\/x\n/r);
refused('a target', target('https://h/v2/chat') . "AIEgressAllow https://h/v1/*\n", 3, qr/t: no AIEgressAllow lets https:\/\/h:443\/v2\/chat pass: add 'AIEgressAllow https:\/\/h\/\*'/);
refused('a target by its path', target('https://h/v1/%2e%2e/admin') . "AIEgressAllow https://h/v1/*\n", 3, qr/no AIEgressAllow lets/);
refused("a provider's own URL", "AIEgressAllow 10.0.0.0/8\n<Location /x>\nAIProxy On\n<AITarget t>\n$openai</AITarget>\n</Location>\n", 4, qr/t: no AIEgressAllow lets https:\/\/api\.openai\.com/);
refused('embeddings', embeddings('http://other:1/e') . "AIEgressAllow https://api.openai.com\n", 2, qr/AIEmbeddingsModelOptionsUpstreamUrl: no AIEgressAllow lets http:\/\/other:1\/e pass/);
refused('a target of a virtual host', "AIEgressAllow h\n<VirtualHost *:80>\n${\target('https://i/')}</VirtualHost>\n", 5, qr/no AIEgressAllow lets https:\/\/i/);
accepted('a virtual host with its own', "AIEgressAllow h\n<VirtualHost *:80>\nAIEgressAllow i\n${\target('https://i/')}</VirtualHost>\n");
accepted('that does not widen the others', "AIEgressAllow h\n<VirtualHost *:80>\nAIEgressAllow i\n</VirtualHost>\n${\target('https://h/')}");
refused("pattern $_", "AIEgressAllow $_\n", 1, qr/AIEgressAllow '\Q$_\E'/) for qw(ftp://h https://h:0 https://u@h h:80 10.0.0.0/40 https://h/a/../b a/b);

# ---- templates where they have no place; t/68_templates.t has the others ----
for my $text (target('https://h/') =~ s/^AIModelName m$/$&\nAIModelOptionsUpstreamPath "\/\$(headers.p)"/mr, embeddings('"https://h/$(headers.p)"')) {
    my ($status, $said) = config_check($text);
    isnt($status, 0, 'refused: a template elsewhere');
    like($said, qr/Upstream(Path|Url) .*holds a template/, 'and says why');
}

# ---- a key that the children cannot read serves them: in this run nobody is root, so it is taken away after the start ----
my $doorman = $ca->server(port => port('PEER_1'), clients => 'ca');
my $all = file('gone.pem', $pem{'client-all.pem'});
my $bundle = file('gone-ca.pem', $pem{'ca.pem'});
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nStartServers 1\nAIEgressClientCert $all\nAIEgressCaFile $bundle\nAIStateDir \"$dir/vectors\"\n"
    . target("https://localhost:${\port('PEER_1')}/v1/chat/completions") . embeddings("https://localhost:${\port('PEER_1')}/v1/embeddings"));
wait_until('references', sub { grep { ($_->{path} // '') =~ /embeddings/ } $doorman->seen });
unlink "$dir/gone.pem", "$dir/gone-ca.pem";
my $tries = scalar $doorman->seen;
is(client(port => port('SPARE_1'))->post('/x', chat('hello'))->{status}, 200, 'targets without the files');
wait_until('references again', sub { (grep { ($_->{path} // '') =~ /embeddings/ } $doorman->seen) > $tries }, 20);
pass('references without the files');
$h->stop;
is_deeply([$h->unexpected('AIP0103', 'AIP0043')], [], 'nothing unexpected in the log');
finish();
