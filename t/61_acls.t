#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# AIAclsAllow and AIAclsDeny as clients, operators and upstreams see them: what is settled before the body, what is about
# targets, under which algorithms, in which sections, with whose groups, and what the log and a dry run say.
use strict;
use warnings FATAL => 'all';
use lib 't/lib';
use AIPTest;

my $state = "$AIPTest::Setup::t/state";
my %key   = map { $_ => "aip-key-of-$_-with-256-bits-of-chance" } qw(alice bob carol);
write_keys("$state/acl-keys", key_line('alice', $key{alice}, 'staff'), key_line('bob', $key{bob}, 'staff', 'ops'), key_line('carol', $key{carol}));
AIPTest::Setup::write_file("$state/acl-groups", "# groups\neng: carol\n");
my ($modules) = slurp("$AIPTest::Setup::t/conf/modules.load") =~ m{"(/\S+)/mod_authz_core\.so"};
my %mock = (one => 'MOCK_1', two => 'MOCK_2', any => 'MOCK_3');

sub target {
    my ($name, $provider, $model, @more) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', "AIModelProvider $provider", ($model ? "AIModelName $model" : ()),
        "AIModelOptionsUpstreamUrl ${\url($mock{$name}, '/v1/chat/completions')}", @more, "</AITarget>\n";
}
my $targets = target('one', 'openai', 'small') . target('two', 'deepseek', 'large') . target('any', 'openai', undef);
my $semantic = target('one', 'openai', 'small', 'AIDescription "axis:0 1"') . target('two', 'deepseek', 'large', 'AIDescription "axis:1 1"');
my $n = 0;
my $conf = <<"CONF";
LoadModule remoteip_module "$modules/mod_remoteip.so"
Listen 127.0.0.1:\${SPARE_1_PORT}
LogLevel warn ai_proxy_adv:debug
MaxKeepAliveRequests 0
<IfModule http2_module>
Protocols h2c http/1.1
</IfModule>
RemoteIPHeader X-Client
RemoteIPInternalProxy 127.0.0.1
AIExplain body
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIVectordbDimensions 64
AIVectordbThreshold 0.9
AIRouteCache none
AIStateDir state
<If "-n req('X-Api-Key')">
AIApiKeyFile "$state/acl-keys"
</If>
CONF

# A gateway; returns its path.
my $plain = 0;
sub gateway {
    my ($lines, $list) = @_;
    my $path = '/a' . $n++;
    $conf .= "<Location $path>\nAIProxy On\n$lines\n" . ($list // $targets) . "</Location>\n";
    return $path;
}
my %g = (
    consumer => gateway('AIAclsAllow consumer=alice,carol'), denied => gateway("AIAclsDeny consumer=alice\nAIAclsAllow consumer_group=staff"),
    header => gateway('AIAclsAllow "header:X-Team=red team,blue"'), no_header => gateway('AIAclsDeny header:X-Team=red'),
    ip => gateway('AIAclsAllow ip=10.0.0.0/8,2001:db8::/32,127.0.0.1'), no_ip => gateway('AIAclsDeny ip=127.0.0.1,::1'),
    model => gateway('AIAclsAllow model=large'), provider => gateway('AIAclsDeny provider=openai'), free => gateway('AIAclsAllow model=free,small'),
    both => gateway("AIAclsAllow consumer_group=ops\nAIAclsAllow consumer_group=staff model=small"), none => gateway('AIAclsAllow model=nothing'),
    env => gateway("SetEnvIf X-Groups ^(.+)\$ AI_CONSUMER_GROUP=\$1\nAIAclsAllow consumer_group=eng,ops"),
    named => gateway("SetEnv CLAIM \"a b,eng\"\nAIAclsGroupEnv CLAIM\nAIAclsAllow consumer_group=eng"),
    rewritten => gateway("RewriteEngine On\nRewriteRule .* - [E=AI_CONSUMER_GROUP:eng]\nAIAclsAllow consumer_group=eng"),
    set => gateway("RequestHeader set X-Team red\nAIAclsAllow header:X-Team=red"),
    file => gateway("AIAclsGroupFile \"$state/acl-groups\"\nAIAclsAllow consumer_group=eng"),
    failover => gateway("AIBalancerAlgorithm priority\nAIBalancerFailoverCriteria http_500\nAIAclsDeny model=large", target('one', 'openai', 'small', 'AIWeight 300')
        . target('two', 'deepseek', 'large', 'AIWeight 200') . target('any', 'openai', undef, 'AIWeight 100')),
    semantic => gateway("AIBalancerAlgorithm semantic\nAIAclsDeny model=large consumer=bob", $semantic . target('any', 'openai', 'rest', 'AIDescription CATCHALL')),
    strict => gateway("AIBalancerAlgorithm semantic\nAIAclsDeny model=large", $semantic),
    forced => gateway('AIAclsDeny model=large', target('one', 'openai', 'small') . target('two', 'deepseek', 'large', 'AIRouteForce "-n req(\'X-Force\')"')),
    mixed => gateway('AIAclsDeny model=small', target('one', 'openai', 'small') . target('two', 'deepseek', 'large', 'AITargetAccepts text')),
);
$conf .= <<"CONF";
<Location /p>
AIProxy On
AIAclsAllow path=/p/open*,/p/exact
AIAclsDeny path=/p/open/not/*
$targets
</Location>
<Location /p/open/own>
AIAclsAllow consumer=alice
</Location>
<Location /p/open/more>
AIAclsDeny consumer=alice
</Location>
<Location /p/status>
SetHandler ai-status
</Location>
<Location /p/open/status>
SetHandler ai-status
</Location>
CONF
my $h = start_httpd($conf);

sub ask {
    my ($path, $body, @headers) = @_;
    return client(port => port('SPARE_1'))->post($path, $body // chat('x'), map { $_ eq 'as' ? 'X-Api-Key' : $key{$_} // $_ } @headers);
}

# The models that answer in some turns; or the status with its code.
sub models {
    my ($path, $body, @headers) = @_;
    my %seen;
    for (1 .. 6) {
        my $r = ask($path, $body, @headers);
        $seen{$r->{status} == 200 ? $r->json->{model} : "$r->{status} " . ($r->error->{code} // '')}++;
    }
    return join ' ', sort keys %seen;
}
my $no = '403 acl_denied';
sub goes { my ($name, $want, $what, @headers) = @_; is(models($g{$name}, undef, @headers), $want, $what); return }
my $all = 'any large small'; # the third is what the client names

# ---- the request ----
goes('consumer', $all, 'a consumer', as => 'alice');
goes('consumer', $no, 'another one', as => 'bob');
goes('consumer', $no, 'nobody');
goes('denied', $no, 'denied though allowed', as => 'alice');
goes('denied', $all, 'a group of the key', as => 'bob');
goes('denied', $no, 'in no group', as => 'carol');
goes('header', $all, 'a header', 'X-Team' => $_) for 'red team', 'blue';
goes('header', $no, "no such value: $_", 'X-Team' => $_) for 'red', 'Blue', 'blue, red team', '';
goes('header', $no, 'twice', 'X-Team' => 'blue', 'X-Team' => 'blue');
goes('no_header', $no, 'denied by a header', 'X-Team' => 'red');
goes('no_header', $no, 'and by one of two', 'X-Team' => 'blue', 'X-Team' => 'red');
goes('no_header', $all, 'another value', 'X-Team' => 'reddish');
goes('ip', $all, "address $_", 'X-Client' => $_) for '10.9.8.7', '2001:db8::1';
goes('ip', $no, "address $_", 'X-Client' => $_) for '11.0.0.1', '2001:db9::1';
goes('ip', $all, 'without mod_remoteip: the connection');
goes('no_ip', $no, 'denied address');
goes('no_ip', $all, 'another one', 'X-Client' => '192.0.2.1');
my $refusal = ask($g{consumer})->error;
is_deeply($refusal, {message => 'this request is not permitted here', type => 'permission_error', param => undef, code => 'acl_denied'}, 'no rule is named');
my $c = client(port => port('SPARE_1'));
$c->{method} = 'POST';
$c->send_raw("POST $g{consumer} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n");
my $r = $c->answer;
is_deeply([$r->{status}, @{$r->{interim}}], [403], 'the body is not asked for');
is(ask($g{both}, 'no JSON')->{status}, 403, 'nor where no target can be left: the rest of a rule fails');
is(h2_client(port => port('SPARE_1'))->post($g{consumer}, chat('x'))->{status}, 403, 'HTTP/2') if have_http2();

# ---- paths ----
for ([200, '/p/open'], [200, '/p/open/a'], [200, '/p/opened'], [200, '/p/exact'], [403, '/p/exact/'], [403, '/p'], [403, '/p/Open'], [403, '/p/open/not/x'],
    [403, '/p/open/../x'], [200, '/p/x/../open'], [403, '/p/open/%6eot/x'], [403, '/p/open//not/x'], [403, '/p/open/./not/x'], [200, '/p/exact?x=y']) {
    is(ask($_->[1])->{status}, $_->[0], $_->[1]);
}
is(ask('/p/open/own')->{status}, 403, 'a section with a line of its own');
is(ask('/p/open/own', undef, as => 'alice')->{status}, 200, 'replaces the inherited ones');
is(ask('/p/open/more', undef, as => $_->[0])->{status}, $_->[1], "a deny line leaves the allow lines alone: $_->[0]") for ['alice', 403], ['bob', 200];
is(client(port => port('SPARE_1'))->get('/p/status')->{status}, 403, 'ai-status is not for everybody');
is(client(port => port('SPARE_1'))->get('/p/status')->error->{code}, 'acl_denied', 'as JSON');
is(client(port => port('SPARE_1'))->get('/p/open/status')->{status}, 200, 'but for those who are allowed');

# ---- groups ----
goes('env', $all, "groups '$_'", 'X-Groups' => $_) for 'eng', 'a,ops', 'a ops b', ' a , eng ';
goes('env', $no, "groups '$_'", 'X-Groups' => $_) for 'engineers', 'en,g', 'ENG';
goes('env', $all, 'beside those of the key', 'X-Groups' => 'x', as => 'bob');
goes($_, $all, "from $_") for qw(named rewritten set);
goes('file', $all, 'a group of the file', as => 'carol');
goes('file', $no, 'in no group of the file', as => 'alice');
AIPTest::Setup::write_file("$state/acl-groups.new", "eng: alice\n");
rename "$state/acl-groups.new", "$state/acl-groups" or die;
wait_until('the new file', sub { ask($g{file}, undef, as => 'alice')->{status} == 200 });
AIPTest::Setup::write_file("$state/acl-groups", "eng alice\n");
wait_until('a complaint', sub { ask($g{file}, undef, as => 'alice'); $h->log =~ /AIP0173: \S+acl-groups: line 1: a line must be group: user/ });

# ---- targets ----
goes('model', 'large', 'a model');
is(models($g{model}, chat('x', model => 'large')), 'large', 'a target without a name has the client\'s: both');
goes('provider', 'large', 'a provider');
is(models($g{free}, chat('x', model => $_->[0])), $_->[1], "the client names $_->[0]") for ['free', 'free small'], ['large', 'small'], ['Free', 'small'];
is(models($g{free}, '{"messages":[{"role":"user","content":"x"}],"model":"fr\u0065e"}'), 'free small', 'in whatever spelling');
is(models($g{free}, '{"messages":[{"role":"user","content":"x"}]}'), 'small', 'or none');
goes('both', 'small', 'staff may use one model', as => 'alice');
goes('both', $all, 'ops all', as => 'bob');
goes('none', $no, 'no target is left');
goes('failover', 'small', 'the first of three');
mock_reset();
mock_behave({port => port('MOCK_1'), times => -1, do => {status => 500}});
goes('failover', 'any', 'fails, and the second is barred: the third');
mock_behave({port => port('MOCK_1'), times => -1, do => {status => 500}}, {port => port('MOCK_3'), times => -1, do => {status => 500}});
goes('failover', '500 mock_500', 'two fail: the barred one does not step in');
is(scalar mock_requests(port => port('MOCK_2')), 0, 'it saw nothing');
mock_reset();
sub near { return ask($g{$_[0]}, chat("axis:$_[1] 0.9"), @_[2 .. $#_]) }
is(near('semantic', 1, as => 'alice')->json->{model}, 'large', 'the nearest');
is(near('semantic', 1, as => 'bob')->json->{model}, 'rest', 'barred: the catch-all');
is(near('semantic', 0, as => 'bob')->json->{model}, 'small', 'near to another one');
is(near('strict', 1)->error->{code}, 'acl_denied', 'the only one near is barred');
is(near('strict', 0)->json->{model}, 'small', 'another one is near');
goes('forced', 'small', 'nobody is forced');
goes('forced', $no, 'forced, and barred', 'X-Force' => 1);
my $tools = chat('x', tools => [{type => 'function', function => {name => 'f'}}]);
is(models($g{mixed}, $tools), '400 no_capable_target', 'one is barred, the other cannot: it is the request that is wrong');
goes('mixed', 'large', 'without that need');

# ---- what operators see ----
my %out = map { $_->{target} => $_->{why} } ask("$g{model}/_route")->json->{left_out}->@*;
is_deeply(\%out, {one => 'acl', any => 'acl'}, 'a dry run names who is barred');
$r = ask("$g{none}/_route")->json;
is($r->{error}{code}, 'acl_denied', 'a dry run without a candidate');
is(ask("$g{consumer}/_route")->{status}, 403, 'a dry run of who may not come in');
is(ask('/p/exact/_route')->{status}, 403, 'a dry run elsewhere is a path like others');
$h->stop;
like($h->log, qr/AIP0174: refused: AIAclsDeny in \S+httpd\.conf:\d+$/m, 'the log has the line that refused');
like($h->log, qr/AIP0174: refused: no line of AIAclsAllow matches/, 'or that none allowed');
like($h->log, qr/AIP0175: target two is barred: AIAclsDeny in \S+httpd\.conf:\d+$/m, 'and which target was barred by which line');
my ($where) = $h->log =~ /AIP0175: target two is barred: AIAclsDeny in \S+httpd\.conf:(\d+)$/m;
like((split /\n/, slurp("$h->{dir}/httpd.conf"))[$where - 1], qr/^AIAclsDeny model=large/, 'the right one');
unlike($h->log, qr/red team|aip-key-of|fr.*ee\b.*header/, 'no values of headers');
is_deeply([$h->unexpected('AIP0173', 'AIP0021')], [], 'nothing else in it');
finish();
