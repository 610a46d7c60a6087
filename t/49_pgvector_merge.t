#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# Each AIVectordbPgvector directive, inherited and said anew below, as a PostgreSQL and what stands in front of it see it; and
# TLS: who is trusted, and that there is no way back to plaintext.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my ($pg, $verified, $old, $mutual) = map { port("SPARE_$_") } 2 .. 5;
my $state = "$AIPTest::Setup::t/state";

sub openssl {
    my ($status, $out, $err) = run_command(['openssl', @_]);
    $status == 0 or die "openssl: $err\n";
    return;
}
# An authority, and a certificate of it for NAME.
sub certificate {
    my ($name, $names) = @_;
    openssl(qw(req -newkey rsa:2048 -nodes -subj), "/CN=$name", '-keyout', "$state/pg-$name.key", '-out', "$state/pg-$name.csr");
    AIPTest::Setup::write_file("$state/pg-$name.ext", "subjectAltName=$names\n");
    openssl(qw(x509 -req -days 2 -CAcreateserial -CA), "$state/pg-ca.pem", '-CAkey', "$state/pg-ca.key", '-in', "$state/pg-$name.csr",
        '-extfile', "$state/pg-$name.ext", '-out', "$state/pg-$name.pem");
    chmod 0600, "$state/pg-$name.key";
    return;
}
openssl(qw(req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout), "$state/pg-ca.key", '-out', "$state/pg-ca.pem");
certificate('server', 'IP:127.0.0.1');
certificate($_, "DNS:$_") for qw(one two);

start_pgsql($pg);
pgsql($pg, "CREATE EXTENSION vector; CREATE ROLE a LOGIN PASSWORD 'pw-of-a'; CREATE ROLE b LOGIN PASSWORD 'pw-of-b'");
pgsql($pg, 'CREATE DATABASE other');
my @proxy = ('--cert', "$state/pg-server.pem", '--key', "$state/pg-server.key");
pg_proxy($verified, $pg, @proxy);
pg_proxy($old, $pg, @proxy, '--max-tls', '1.2');
pg_proxy($mutual, $pg, @proxy, '--max-tls', '1.2', '--client-ca', "$state/pg-ca.pem");

my $n = 0;
my $right = "AIVectordbPgvectorPort $pg\nAIVectordbPgvectorDatabase postgres\nAIVectordbPgvectorUser gw\nAIVectordbPgvectorPassword s3cret-of-gw\n";
my $tls = "${right}AIVectordbPgvectorSsl On\nAIVectordbPgvectorSslVerify Off\n";
my $well = qr/AIP0104/;

# name => [lines above, line below, what the log says of the section that inherits, and of the one that says it anew]
my %case = (
    AIVectordbPgvectorHost => ["${right}AIVectordbPgvectorHost 127.0.0.2\n", 'AIVectordbPgvectorHost 127.0.0.1', qr/127\.0\.0\.2:$pg does not answer/, $well],
    AIVectordbPgvectorPort => [$right, 'AIVectordbPgvectorPort ' . port('DEAD'), $well, qr/127\.0\.0\.1:${\port('DEAD')} does not answer \(vectordb_unreachable/],
    AIVectordbPgvectorDatabase => [$right, 'AIVectordbPgvectorDatabase none-of-ours', $well, qr/"none-of-ours" does not exist; look at AIVectordbPgvectorDatabase/],
    AIVectordbPgvectorUser => ["${right}AIVectordbPgvectorUser a\n", 'AIVectordbPgvectorUser b', qr/vectordb_auth: .*for user "a"/, qr/vectordb_auth: .*for user "b"/],
    AIVectordbPgvectorPassword => [$right, 'AIVectordbPgvectorPassword wrong', $well, qr/vectordb_auth/],
    AIVectordbPgvectorTimeout => ["${right}AIVectordbPgvectorPort \${MOCK_BLACKHOLE_PORT}\nAIVectordbPgvectorTimeout 111\n", 'AIVectordbPgvectorTimeout 222',
        qr/vectordb_timeout: .*\(111 ms\)/, qr/vectordb_timeout: .*\(222 ms\)/],
    AIVectordbPgvectorSsl => [$right, 'AIVectordbPgvectorSsl On', $well, qr/server does not support SSL, but SSL was required/],
    AIVectordbPgvectorSslVerify => ["${tls}AIVectordbPgvectorPort $verified\n", 'AIVectordbPgvectorSslVerify On', $well, qr/certificate verify failed/],
    AIVectordbPgvectorSslVersion => ["${tls}AIVectordbPgvectorPort $old\n", 'AIVectordbPgvectorSslVersion tlsv1_3', $well, qr/vectordb_unreachable: .*SSL error/],
    AIVectordbPgvectorSslCert => ["${tls}AIVectordbPgvectorPort $mutual\nAIVectordbPgvectorSslCert $state/pg-one.pem\nAIVectordbPgvectorSslCertKey $state/pg-one.key\n",
        "AIVectordbPgvectorSslCert $state/pg-two.pem", $well, qr/key values mismatch/],
    AIVectordbPgvectorSslCertKey => ["${tls}AIVectordbPgvectorPort $mutual\nAIVectordbPgvectorSslCert $state/pg-one.pem\nAIVectordbPgvectorSslCertKey $state/pg-one.key\n",
        "AIVectordbPgvectorSslCertKey $state/pg-two.key", $well, qr/key values mismatch/],
    'no client certificate' => ["${tls}AIVectordbPgvectorPort $mutual\n", 'AIVectordbPgvectorPort ' . $verified, qr/vectordb_unreachable/, $well],
    'plaintext, unverified' => ["${tls}", 'AIVectordbPgvectorSsl Off', qr/server does not support SSL, but SSL was required/, $well],
);

# The first of several routers with the same targets tells of a trouble for all, so each section has its own.
sub target {
    $n++;
    return <<"CONF";
<AITarget t$n>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName t$n
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
AIDescription "words of number $n"
</AITarget>
CONF
}

my $common = <<"CONF";
AIBalancerAlgorithm semantic
AIEmbeddingsModelProvider local
AIEmbeddingsModelName ${\top_dir()}/share/embedder/aip-static-en-v1
AIVectordbStrategy pgvector
AIVectordbDistanceMetric cosine
CONF
my $text = "Listen 127.0.0.1:\${SPARE_1_PORT}\nStartServers 1\nServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\nMinSpareThreads 1\nMaxSpareThreads 8\nAIProxy On\n";
my %path = map { my $path = s/\W+/-/gr; ($_ => "/$path") } keys %case;
for my $name (sort keys %case) {
    my ($above, $below) = @{$case{$name}};
    $text .= "<Location $path{$name}>\n$common$above</Location>\n<Location $path{$name}/keep>\n" . target() . "</Location>\n<Location $path{$name}/change>\n$below\n"
        . target() . "</Location>\n";
}
# A vault may hold user and password, and nothing of it is shown.
AIPTest::Setup::write_file("$state/pg-user", 'gw');
AIPTest::Setup::write_file("$state/pg-password", 's3cret-of-gw');
$text .= "<Location /vault>\n${common}AIVectordbPgvectorPort $pg\nAIVectordbPgvectorDatabase postgres\nAIVectordbPgvectorUser {vault://file$state/pg-user}\n"
    . "AIVectordbPgvectorPassword {vault://file$state/pg-password}\n" . target() . "</Location>\n";
my $h = start_httpd($text);

# What the log says of a section, which it names by the line of its first directive, once it does.
my @lines = split /\n/, slurp("$h->{dir}/httpd.conf");
my %line = map { $lines[$_] =~ /^<Location (\S+)>$/ ? ($1 => $_ + 2) : () } 0 .. $#lines;
sub said {
    my ($path) = @_;
    return wait_until("a line of $path", sub { ($h->log =~ /^(.*AIP010[45]: \S*httpd\.conf:$line{$path}\b.*)$/m)[0] }, 20);
}
for my $name (sort keys %case) {
    my (undef, undef, $keep, $change) = @{$case{$name}};
    like(said("$path{$name}/keep"), $keep, "$name, inherited");
    like(said("$path{$name}/change"), $change, "$name, said anew");
    is(client(port => port('SPARE_1'))->post("$path{$name}/$_", chat('words'))->{status}, 200, "$name: /$_ is answered") for qw(keep change);
}
like(said('/vault'), $well, 'user and password from a vault');
like(slurp("$state/pg-proxy-$verified"), qr/^tls TLSv1\.3$/m, 'TLS 1.3 was spoken');
like(slurp("$state/pg-proxy-$old"), qr/^tls TLSv1\.2$/m, 'and TLS 1.2');
unlike(slurp("$state/pg-proxy-$_"), qr/plaintext/, 'and no plaintext') for $verified, $old, $mutual;
unlike($h->log, qr/s3cret|pw-of-/, 'no password in the log');
$h->stop;
is_deeply([$h->unexpected('AIP0105')], [], 'nothing unexpected in the log');
is_deeply([$h->deaths], [], 'no child died');

# AIVectordbPgvectorSslRequired: a section below cannot go back to plaintext
my $below = sub { "<Location /x>\n$common${right}AIVectordbPgvectorSslRequired On\nAIVectordbPgvectorSsl On\n</Location>\n<Location /x/y>\n$_[0]" . target() . "</Location>\n" };
my ($status, $out) = config_check("AIProxy On\n" . $below->("AIVectordbPgvectorSsl Off\n"));
isnt($status, 0, 'AIVectordbPgvectorSslRequired, inherited: TLS cannot be switched off');
like($out, qr/AIVectordbPgvectorSslRequired On, but AIVectordbPgvectorSsl is Off/, 'which is said');
($status, $out) = config_check("AIProxy On\n" . $below->("AIVectordbPgvectorSsl Off\nAIVectordbPgvectorSslRequired Off\n"));
is($status, 0, 'AIVectordbPgvectorSslRequired, said anew') or diag($out);
finish();
