#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# A server that was given every kind of secret, in every place, writes none of them anywhere but to the peer that it is for:
# all that it wrote, shows and hands on is searched for them, under LogLevel trace8 (but for mod_http's trace4, which is
# httpd's own way to log the header fields of clients).
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;
use AIPTest::Vault;
use MIME::Base64 qw(encode_base64);

my $state = "$AIPTest::Setup::t/state";
my $vault = AIPTest::Vault->start;
$vault->policy('gateway', 'secret/data/*' => ['read']);
my ($role, $secret_id) = $vault->approle('app', token_policies => ['gateway'], token_ttl => '2s');

# Each is told from all other text.
my $n = 0;
sub fresh { return sprintf 's%02dr%sQ', ++$n, join '', map { ('a' .. 'z', 0 .. 9)[rand 36] } 1 .. 20 }
my %secret = map { $_ => fresh() } qw(literal env file hcv rotated query body embed redis client prompt);
$ENV{AIP_T_SECRET} = $secret{env};
AIPTest::Setup::write_file("$state/secret-file", "$secret{file}\n");
my $token = $vault->token_create(ttl => '1h', policies => ['gateway']);
$vault->write('red', {key => $secret{hcv}, query => $secret{query}, body => $secret{body}, embed => $secret{embed}, redis => $secret{redis}});
my @given = (values %secret, $token, $secret_id);

my $where = url('MOCK_1', '/v1/chat/completions');
sub target {
    my ($name, @lines) = @_;
    return "<AITarget $name>\nAIRouteType llm/v1/chat\nAIModelProvider openai\nAIModelName m\nAIModelOptionsUpstreamUrl $where\nAILoggingLogStatistics On\n"
        . join('', map {"$_\n"} @lines) . "</AITarget>\n";
}
sub header { return ('AIAuthHeaderName Authorization', "AIAuthHeaderValue \"Bearer $_[0]\"") }
sub param { my ($place, $value) = @_; return ("AIAuthParamLocation $place", 'AIAuthParamName api_key', "AIAuthParamValue \"$value\"") }
my %location = (
    literal => target('literal', header($secret{literal}), 'AILoggingLogPayloads On'),
    env => target('env', header('{vault://env/AIP_T_SECRET}'), 'AILoggingLogPayloads On'),
    file => target('file', header("{vault://file$state/secret-file}")),
    hcv => target('hcv', header('{vault://v/red/key}')),
    approle => target('approle', header('{vault://a/red/key}')),
    query => target('query', param('query', '{vault://v/red/query}')),
    body => target('body', param('body', '{vault://v/red/body}'), 'AILoggingLogPayloads On'),
    override => target('override', header('{vault://v/red/key}'), 'AIAuthAllowOverride On'),
    missing => target('missing', header('{vault://v/red/none}')),
    semantic => "AIBalancerAlgorithm semantic\nAIExplain body\nAIRouteHeaders On\nAIEmbeddingsModelProvider openai\nAIEmbeddingsModelName e\nAIVectordbDimensions 8\n"
        . "AIEmbeddingsModelOptionsUpstreamUrl " . url('MOCK_EMBED', '/v1/embeddings') . "\nAIEmbeddingsAuthHeaderName Authorization\n"
        . "AIEmbeddingsAuthHeaderValue \"Bearer {vault://v/red/embed}\"\nAIVectordbStrategy redis\nAIVectordbDistanceMetric cosine\nAIVectordbRedisHost 127.0.0.1\n"
        . "AIVectordbRedisPort 1\nAIVectordbRedisUsername gw\nAIVectordbRedisPassword {vault://v/red/redis}\n"
        . target('one', header('{vault://v/red/key}'), 'AIDescription "axis:0 1"') . target('rest', header($secret{literal}), 'AIDescription CATCHALL'),
);
my $hcv = "AIVaultName hcv\nAIVaultHost 127.0.0.1\nAIVaultPort ${\$vault->port}\nAIVaultKv v2\nAIVaultTtl 1\n";
AIPTest::Setup::write_file("$state/cgi-env", "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nenv\n");
chmod 0755, "$state/cgi-env";
my ($dir) = slurp("$AIPTest::Setup::t/conf/modules.load") =~ m{"(/\S+)/mod_proxy\.so"};
my $modules = join '', map {"LoadModule ${_}_module \"$dir/mod_$_.so\"\n"} mpm() eq 'prefork' ? 'cgi' : 'cgid', 'info';
my $text = "Listen 127.0.0.1:\${SPARE_1_PORT}\n$modules" . "LogLevel trace8 http:trace3\nLogFormat \"%h %u %r %>s %{ai-target}n %{target}^AI\" all\nCustomLog access_log all\n" . ($modules =~ /cgid/ ? "ScriptSock $state/cgi-sock\n" : "") . "ScriptAlias /cgi $state/cgi-env\n<Location /cgi>\nRequire all granted\n</Location>\nAIStatisticsLog statistics_log\n"
    . "<Location /server-info>\nSetHandler server-info\n</Location>\n<Location /server-status>\nSetHandler server-status\n</Location>\n<Location /ai-status>\nSetHandler ai-status\n</Location>\n"
    . "<AIVault v>\n${hcv}AIVaultToken $token\n</AIVault>\n<AIVault a>\n${hcv}AIVaultAuthMethod approle\nAIVaultApproleRoleId $role\nAIVaultApproleSecretId $secret_id\n</AIVault>\n"
    . join('', map {"<Location /$_>\nAIProxy On\n$location{$_}</Location>\n"} sort keys %location);
mock_reset();
my $h = start_httpd($text);
my $written = ''; # all that anybody was shown

sub ask {
    my ($path, @headers) = @_;
    my $r = client(port => port('SPARE_1'), timeout => 30)->post($path, chat("axis:0 1 $secret{prompt}"), @headers);
    $written .= json($r->{headers}) . $r->{body};
    return $r;
}
for my $path (sort keys %location) {
    my $r = ask("/$path", Authorization => "Bearer $secret{client}", 'X-Api-Key' => $secret{client}, Cookie => "c=$secret{client}");
    is($r->{status}, $path eq 'missing' ? 503 : 200, "/$path is answered");
}
# what the targets were sent, which shows that the secrets were in use
my $sent = json([mock_requests()]);
like($sent, qr/\Q$secret{$_}\E/, "$_: is sent to the peer that it is for") for qw(literal env file hcv query body embed);
like($sent, qr/\Q$secret{client}\E/, 'override: so is the client\'s own');
mock_behave({port => port('MOCK_1'), times => 3, do => {status => 401}});
ask('/hcv') for 1 .. 2;
mock_behave({port => port('MOCK_1'), times => 2, do => {drop_before_head => JSON::PP::true}});
ask('/query');
$vault->write('red', {key => $secret{rotated}, query => $secret{query}, body => $secret{body}, embed => $secret{embed}, redis => $secret{redis}});
wait_until('the new key', sub { mock_reset(); ask('/hcv'); json([mock_requests(port => port('MOCK_1'))]) =~ /\Q$secret{rotated}\E/ });
$vault->pause;
wait_until('the outage', sub { $h->log =~ /AIP0200: .*cannot be reached/ });
ask('/approle');
$vault->resume;
my $dry = ask('/semantic/_route');
is($dry->{status}, 200, 'a dry run');

# what operators are shown
for my $path (qw(/server-info /server-info?config /server-status /server-status?auto /ai-status /ai-status?format=html /cgi)) {
    my $r = client(port => port('SPARE_1'), timeout => 30)->get($path);
    is($r->{status}, 200, "$path is shown");
    $written .= $r->{body};
    like($r->{body}, qr/AIAuthHeaderValue/, 'with the directives') if $path eq '/server-info?config';
    like($r->{body}, qr/GATEWAY_INTERFACE=CGI/, 'a CGI program sees its environment') if $path eq '/cgi';
}
my @httpd = ($ENV{AIP_HTTPD}, '-f', "$h->{dir}/httpd.conf");
for my $command ([@httpd, qw(-t -D DUMP_CONFIG)], [@httpd, qw(-t -D DUMP_AI_GATEWAYS)], [@httpd, '-S'], [$ENV{AIP_AIPCTL}, 'check', "$h->{dir}/httpd.conf"]) {
    my ($status, $out, $err) = run_command($command);
    ok(length "$out$err", "@{$command}[0, -1] says something");
    $written .= "$out$err";
}
$h->stop;
ok(length $written > 20_000, 'there is something to search');

# every file that the server wrote; the configuration itself is the operator's
my @files = grep { -f && !m{/httpd\.conf$} } glob "$h->{dir}/* $h->{dir}/*/* $h->{dir}/*/*/*";
my %file = map { $_ => slurp($_) } @files;
$file{'what was shown'} = $written;
for my $name (qw(error_log access_log statistics_log)) {
    ok(length($file{"$h->{dir}/$name"} // '') > 500, "$name was written");
}
# Payloads are logged where the configuration says so: there a prompt is no leak.
my %allowed = ("$h->{dir}/statistics_log" => {$secret{prompt} => 1});
sub spellings { my ($s) = @_; my @b64 = map { substr(encode_base64(('x' x $_) . $s, ''), 4, 20) } 0 .. 2; return ($s, uc $s, unpack('H*', $s), @b64) }
my @found;
for my $name (sort keys %file) {
    for my $s (@given) {
        next if $allowed{$name}{$s};
        push @found, map { "$name: " . substr($s, 0, 3) . ': ' . ($file{$name} =~ /^(.*\Q$_\E.*)$/m)[0] =~ s/\Q$_\E/(here)/gr }
            grep { index($file{$name}, $_) >= 0 } spellings($s);
    }
}
is_deeply(\@found, [], 'no secret, token or prompt stands anywhere');
unlike($file{"$h->{dir}/error_log"}, qr/hvs\./, 'nor does a token that the gateway got for itself');
like($file{"$h->{dir}/statistics_log"}, qr/\*\*\*/, 'a credential in a logged body is masked');
finish();
