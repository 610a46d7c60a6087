#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# mpm: all
# SetHandler ai-status, as a page and as JSON: which form whom, figures that are those of the requests, what outlives a
# restart, hostile names, headers, forms and their tokens, the try-it box, the rows of mod_status. In a browser: t/73.
use strict;
use warnings FATAL => 'all';
use Time::HiRes qw(time);
use lib 't/lib';
use AIPTest;
use AIPTest::Clock;

my $true   = JSON::PP::true;
my $state  = "$AIPTest::Setup::t/state";
my $secret = 'sk-not-for-the-page';
my @usage  = (usage => {prompt_tokens => 25, completion_tokens => 12, total_tokens => 37});

sub target {
    my ($name, $mock, $model, @more) = @_;
    return join "\n", "<AITarget \"$name\">", 'AIRouteType llm/v1/chat', 'AIModelProvider openai', 'AIModelName "' . $model =~ s/"/\\"/gr . '"',
        "AIModelOptionsUpstreamUrl ${\url($mock, '/v1/chat/completions')}", 'AIAuthHeaderName Authorization',
        'AIAuthHeaderValue "Bearer {vault://env/PAGE_KEY}"', 'AILoggingLogStatistics On', 'AIModelOptionsInputCost 1.0', 'AIModelOptionsOutputCost 2.0', @more, "</AITarget>\n";
}

# Apache::Test's user names and passwords: "password" for all of them.
AIPTest::Setup::write_file("$state/page-users", join '', map {"$_:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"} qw(ops dev));
my %as = (ops => [Authorization => 'Basic b3BzOnBhc3N3b3Jk'], dev => [Authorization => 'Basic ZGV2OnBhc3N3b3Jk']);
write_keys("$state/page-keys", key_line('alice', 'k' x 30), key_line('bob', 'l' x 30));
my $users = "AuthType Basic\nAuthName page\nAuthUserFile \"$state/page-users\"\nRequire valid-user\n";
my ($modules) = slurp("$AIPTest::Setup::t/conf/modules.load") =~ m{"(/\S+)/mod_proxy\.so"};
my @far  = ('X-Api-Key' => 'k' x 30, 'X-Test-Address' => '203.0.113.9'); # not this machine
my $conf = <<"CONF";
LoadModule remoteip_module "$modules/mod_remoteip.so"
RemoteIPHeader X-Test-Address
Listen 127.0.0.1:\${SPARE_1_PORT}
${\(have_http2() ? 'Protocols h2c http/1.1' : '')}
StartServers 2
ExtendedStatus On
AIStatisticsLog statistics_log
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\url('MOCK_EMBED', '/v1/embeddings')}
AIVectordbDimensions 64
AIVectordbThreshold 0.5
AIBalancerMaxFails 2
AIBalancerFailTimeout 600000
AIBalancerFailoverCriteria http_503 http_429 non_idempotent
<Location /sem>
AIProxy On
AIBalancerAlgorithm semantic
AIExplain body
AIRouteCache none
${\target('near', 'MOCK_1', 'near-model', 'AIDescription "axis:0 1"')}
${\target('far', 'MOCK_2', 'far-model', 'AIDescription "axis:1 1"', 'AIRouteThreshold 0.9')}
${\target('rest', 'MOCK_3', 'rest-model', 'AIDescription CATCHALL')}
</Location>
<Location /two>
AIProxy On
AIMaxRequestBodySize 300
${\target('first', 'MOCK_1', 'one', 'AIWeight 65535')}
${\target('second', 'MOCK_2', 'two', 'AIWeight 1')}
</Location>
<Location "/evil/<b>&">
AIProxy On
AIBalancerAlgorithm semantic
${\target('evil', 'MOCK_1', "\xff<i>m\xc3\xbcde</i>\"><script>alert(1)</script>&'b", "AIDescription \"<u>axis:2</u> 'x' & \xfe\"")}
${\target('plain', 'MOCK_1', 'm', 'AIDescription CATCHALL')}
</Location>
<Location /ai-status>
SetHandler ai-status
$users
</Location>
<Location /local-status>
SetHandler ai-status
</Location>
<Location /keyed-status>
SetHandler ai-status
AIApiKeyFile "$state/page-keys"
</Location>
<Location /server-status>
SetHandler server-status
</Location>
CONF
my $clock = AIPTest::Clock->new;
my $h = do { local $ENV{PAGE_KEY} = $secret; $clock->run(sub { start_httpd($conf) }) };
my @html = (Accept => 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8');

sub c       { return client(port => port('SPARE_1')) }
sub page    { my ($path, @headers) = @_; return c()->get($path, @html, @headers) }
sub status  { return c()->get('/local-status')->json }
sub ask     { my ($path, $prompt, @more) = @_; return c()->post($path, chat($prompt, @more)) }
sub gateway { my ($name) = @_; return (grep { $_->{gateway} eq $name } @{status()->{gateways}})[0] }
sub of      { my ($gateway, $name) = @_; return (grep { $_->{name} eq $name } @{$gateway->{targets}})[0] }
sub encode  { return $_[0] =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger }
sub form_of { my (%f) = @_; return join '&', map { encode($_) . '=' . encode($f{$_}) } sort keys %f }

sub send_form {
    my ($path, $fields, @headers) = @_;
    return c()->post($path, form_of(%$fields), 'Content-Type' => 'application/x-www-form-urlencoded', @headers);
}
sub token { my ($path, @headers) = @_; return page($path, @headers)->{body} =~ /name="token" value="([^"]+)"/ ? $1 : '' }

# As like() and unlike(), without the whole page in the diagnostics.
sub has   { my ($text, $pattern, $name) = @_; return ok($text =~ $pattern, $name) || diag("no $pattern in " . length($text) . ' bytes') }
sub lacks { my ($text, $pattern, $name) = @_; return ok($text !~ $pattern, $name) || diag("there is '$&'") }

# ---- which form ----
my %form = ('' => 'json', '*/*' => 'json', 'application/json' => 'json', 'text/html' => 'html', $html[1] => 'html', 'application/json, text/html;q=0.5' => 'json',
    'text/html;q=0' => 'json', 'text/*' => 'json', 'application/json;q=0.1,text/html' => 'html', 'xtext/html' => 'json', 'text/htmlx' => 'json', ',,;,q=' => 'json');
for my $accept (sort keys %form) {
    my $r = c()->get('/local-status', length $accept ? (Accept => $accept) : ());
    like($r->header('Content-Type'), qr/$form{$accept}/, "Accept '$accept': $form{$accept}");
    is($r->header('Vary'), 'Accept', 'caches may know');
}
has(page('/local-status?format=json')->header('Content-Type'), qr/json/, 'format=json');
like(c()->get('/local-status?format=html')->header('Content-Type'), qr/html/, 'format=html');
my $head = c()->send_request('HEAD', '/local-status', undef, @html)->answer;
is("$head->{status} " . length $head->{body}, '200 0', 'HEAD');
my $r = c()->send_request('PUT', '/local-status', 'x')->answer;
is("$r->{status} " . $r->header('Allow'), '405 GET, POST', 'another method');
is(h2_client(port => port('SPARE_1'))->get('/local-status', @html)->{status}, 200, 'HTTP/2') if have_http2();

# ---- headers of the page ----
$r = page('/local-status');
is($r->{status}, 200, 'the page');
my $csp = $r->header('Content-Security-Policy');
like($csp, qr/^default-src 'none'; style-src 'sha256-[\w+\/]{43}='; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/, 'a strict policy');
my ($style) = $r->{body} =~ m{<style>(.*?)</style>}s;
is($csp =~ /sha256-(\S+)'/ && $1, Digest::SHA::sha256_base64($style) . '=', 'which names the style sheet of the page');
is($r->header($_->[0]), $_->[1], $_->[0]) for ['X-Content-Type-Options', 'nosniff'], ['Referrer-Policy', 'same-origin'], ['Cache-Control', 'no-store'], ['X-Frame-Options', 'DENY'];
lacks($r->{body}, qr/<script|\bstyle=|\bon\w+=|https?:|<img|<link/i, 'no script, no inline style, nothing from outside');
lacks($r->{body}, qr/http-equiv/, 'is not read again by itself');
has(page("/local-status?refresh=$_")->{body}, qr/http-equiv="refresh" content="$_;url=\?refresh=$_"/, "refresh=$_") for 5, 3600;
lacks(page("/local-status?refresh=$_")->{body}, qr/http-equiv/, "refresh=$_") for 4, 3601, -5, 'x', '5;url=//evil', '';

# ---- figures are those of the requests ----
mock_reset();
mock_behave({port => port($_), times => -1, do => {@usage}}) for qw(MOCK_1 MOCK_2 MOCK_3);
wait_until('the references are there', sub { ask('/sem', 'axis:0 1')->{status} == 200 && gateway('/sem')->{embedder}{references_ready} });
my $before = gateway('/sem');
my $gateway;
sub asked { # a request is in the books a moment after its answer
    my ($n) = @_;
    return $gateway = wait_until('the books', sub { my $g = gateway('/sem'); $g->{totals}{all_requests} == $before->{totals}{all_requests} + $n && $g });
}
ask('/sem', 'axis:0 0.9 nobody shall see this') for 1 .. 5;
asked(5);
ask('/sem', 'axis:1 0.3');
asked(6);
ask('/sem', 'axis:3 1') for 1 .. 3;
asked(9);
my $grown = sub { my ($target, @path) = @_; my ($x, $y) = map { of($_, $target) } $before, $gateway; ($x, $y) = ($x->{$_}, $y->{$_}) for @path; return $y - $x };
is($grown->('near', 'totals', 'requests'), 5, 'requests of a target');
is($grown->('near', 'totals', 'prompt_tokens'), 125, 'prompt tokens');
is($grown->('near', 'totals', 'completion_tokens'), 60, 'completion tokens');
is($grown->('rest', 'hour', 'requests'), 3, 'of the last hour');
is(of($gateway, 'rest')->{totals}{cost}, '0.000147', 'cost: three times 25 at 1.0 and 12 at 2.0 for a million, to the last digit');
is($gateway->{currency}, 'USD', 'and their currency');
my @minutes = @{$gateway->{minutes}{requests}};
is(@minutes, 60, 'sixty minutes');
is(eval { my $sum = 0; $sum += $_ for @minutes; $sum }, $gateway->{hour}{requests}, 'which add up to the hour');
my %share = map { $_->{name} => sprintf '%.3f', $_->{share} } @{$gateway->{targets}};
is($share{rest}, sprintf('%.3f', 3 / $gateway->{hour}{requests}), 'share');
cmp_ok(of($gateway, 'near')->{hour}{latency_ms}, '>', 0, 'mean latency');
is(of($gateway, 'near')->{hour}{ttft_ms}, undef, 'no first token without a stream');
my %chosen = map { join(',', @{$_->{targets}}) => $_ } @{$gateway->{routes}};
is_deeply([@{$chosen{far}}{qw(description threshold first_choice_hour)}], ['axis:1 1', 0.9, 1], 'routes: description, threshold, decisions');
ok($chosen{rest}{catchall} && !defined $chosen{rest}{threshold}, 'routes: the catch-all');
my ($last, @others) = @{$gateway->{recent_decisions}};
is_deeply([@$last{qw(target route reason status attempts cache)}], ['rest', 'CATCHALL', 'catchall', 200, 1, 'off'], 'the last decision');
is_deeply([map { sprintf '%.2f', $others[3]{$_} // -9 } qw(distance threshold)], ['0.10', '0.50'], 'distance and threshold of another one') or diag(json($others[3]));
is($others[2]{target}, 'far', 'newest first');
is(@{$gateway->{recent_decisions}}, $gateway->{totals}{all_requests}, 'each request once');
is_deeply([@{$gateway->{embedder}}{qw(provider model dimensions)}, !$gateway->{embedder}{local}, $gateway->{embedder}{last_failure}], ['openai', 'text-embedding-3-small', 64, 1, undef], 'embedder');
is_deeply($gateway->{vector_store}, {strategy => 'memory', state => 'in process'}, 'vector store');
is($gateway->{route_cache}{provider}, 'none', 'route cache');
is(scalar(grep { $_->{request_id} } map { from_json($_) } split /\n/, slurp("$h->{dir}/statistics_log")), $gateway->{totals}{all_requests}, 'the log has as many lines');
has(page('/local-status')->{body}, qr{<dt>Requests in all</dt><dd>$gateway->{totals}{all_requests}</dd>}, 'and so says the page');

# a stream, an error, a failure before another target answers
mock_reset();
mock_behave({port => port('MOCK_1'), times => 1, do => {stream => {auto => 3}}});
ask('/two', 'x', stream => $true);
mock_reset();
mock_behave({port => port('MOCK_1'), times => -1, do => {status => 503}});
ask('/two', 'x') for 1 .. 2;
$gateway = wait_until('the books', sub { my $g = gateway('/two'); $g->{totals}{all_requests} == 3 && $g });
my $first = of($gateway, 'first');
cmp_ok($first->{hour}{ttft_ms}, '>', 0, 'time to the first token of a stream');
is_deeply([@{$first->{hour}}{qw(requests errors attempts failures)}], [1, 0, 3, 2], 'attempts that failed are the target\'s, requests are the one\'s that answered');
is_deeply([map { @$_{qw(error status)} } @{$first->{last_errors}}], [('http_503', 503) x 2], 'last errors');
is($first->{breaker}{state}, 'open', 'breaker: open');
like($first->{breaker}{until}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'until');
has(page('/local-status')->{body}, qr{<span class="badge bad">ejected</span><span class="sub">breaker open until [\d:]{8}</span><span class="sub">failed tries: 2<}, 'and on the page');
mock_reset();
mock_behave({port => port('MOCK_2'), times => -1, do => {status => 429, headers => [['Retry-After', '30']]}}, {port => port('MOCK_1'), times => -1, do => {status => 404}});
is(ask('/two', 'x')->{status}, 404, 'an error for the client');
$gateway = wait_until('the books', sub { my $g = gateway('/two'); $g->{totals}{all_requests} == 4 && $g });
is($gateway->{hour}{errors}, 1, 'is counted');
is(of($gateway, 'second')->{cooldown}{status}, 429, 'a pause, and what was answered');
mock_reset();
is(ask('/evil/%3Cb%3E&', 'axis:2 1')->{status}, 200, 'a gateway with a strange path');

# ---- secrets, keys, the server ----
is(c()->get('/keyed-status', 'X-Api-Key' => 'k' x 30)->{status}, 200, 'a key may read');
my $all = status();
is_deeply([map { @$_{qw(kind vault reference state)} } @{$all->{secrets}}], ['reference', 'env', '{vault://env/PAGE_KEY}', 'fresh'], 'secrets: names and states');
is_deeply([map { @$_{qw(file consumers)} } @{$all->{api_key_files}}], ["$state/page-keys", 2], 'files of API keys');
is(lc $all->{server}{mpm}, mpm(), 'server: MPM');
cmp_ok($all->{server}{children}, '>=', 1, 'children');
my $shown = json($all) . page('/local-status')->{body};
lacks($shown, qr/\Q$secret\E|k{30}|nobody shall see this/, 'no secret, key or prompt');

# ---- hostile names ----
my $body = page('/local-status')->{body};
lacks($body, qr/<script|<i>|<u>|<b>&/, 'no element that a name made');
has($body, qr/&quot;&gt;&lt;script&gt;alert\(1\)&lt;\/script&gt;&amp;/, 'they are there, escaped');
has($body, qr{value="/evil/&lt;b&gt;&amp;"}, 'in attributes, too');
has($body, qr/\xef\xbf\xbd&lt;i&gt;m\xc3\xbcde/, 'bytes that are no UTF-8 are replaced');
ok(utf8::decode(my $copy = $body), 'the page is UTF-8');
my %open;
for my $tag ($body =~ /<(\/?[a-z]\w*)/g) { $tag =~ s/^\/// ? $open{$tag}-- : $open{$tag}++ }
is_deeply([grep { $open{$_} && !/^(meta|input|path|rect)$/ } sort keys %open], [], 'every element is closed');
lacks($body, qr/(\bid="[^"]+").*\1/s, 'no id twice');

# ---- forms and their tokens ----
my %drain = (action => 'drain', server => $all->{gateways}[0]{server}, gateway => '/sem', target => 'near');
my $token = token('/ai-status', @{$as{ops}});
like($token, qr/^\d+-[0-9a-f]{64}$/, 'a token');
sub refused {
    my ($name, $status, $fields, @headers) = @_;
    my $r = send_form('/ai-status', {%drain, %$fields}, @headers);
    is($r->{status}, $status, "$name: $status");
    has($r->{body}, qr/role="alert"/, "$name: said on the page") if $status != 401;
    ok(!of(gateway('/sem'), 'near')->{drained}, "$name: nothing was done");
    return;
}
refused('no token', 403, {}, @{$as{ops}});
refused('an empty token', 403, {token => ''}, @{$as{ops}});
refused('a wrong token', 403, {token => $token =~ s/.\z/$& eq '0' ? '1' : '0'/er}, @{$as{ops}});
refused('a token with another time', 403, {token => $token =~ s/^\d+/$& + 1/er}, @{$as{ops}});
refused('a cut token', 403, {token => substr $token, 0, -2}, @{$as{ops}});
refused('the token of another user', 403, {token => $token}, @{$as{dev}});
refused('the token of a machine', 403, {token => token('/local-status')}, @{$as{ops}});
refused('no password', 401, {token => $token});
refused('from another site', 403, {token => $token}, @{$as{ops}}, 'Sec-Fetch-Site' => $_) for 'cross-site', 'same-site', 'none';
refused("Origin $_", 403, {token => $token}, @{$as{ops}}, Origin => $_) for 'https://evil.example', 'null', 'http://localhost:1', 'http://localhost.evil';
refused('an unknown action', 400, {token => $token, action => 'explode'}, @{$as{ops}});
refused('an unknown target', 404, {token => $token, target => 'nobody'}, @{$as{ops}});
refused('an unknown gateway', 404, {token => $token, gateway => '/other'}, @{$as{ops}});
refused('an escape that is none', 404, {token => $token, target => "near\0"}, @{$as{ops}});
refused('a body without an end', 413, {token => $token, prompt => 'x' x 250_000}, @{$as{ops}});
is(c()->post('/keyed-status', form_of(%drain, token => $token), 'Content-Type' => 'application/x-www-form-urlencoded', @far)->{status}, 403, 'an API key gives no orders');
is(token('/keyed-status', @far), '', 'and is shown no button');
lacks(page('/keyed-status', @far)->{body}, qr/<form|<button/, 'none at all');
$clock->set(3500);
is(send_form('/ai-status', {%drain, token => $token, target => 'far'}, @{$as{ops}})->{status}, 303, 'a token lives for an hour');
send_form('/ai-status', {%drain, token => $token, target => 'far', action => 'resume'}, @{$as{ops}});
$clock->set(3700);
$r = send_form('/ai-status', {%drain, token => $token}, @{$as{ops}});
is($r->{status}, 403, 'and no longer');
has($r->{body}, qr/too old: nothing was done/, 'said on the page');
is(gateway('/sem')->{hour}{requests}, 0, 'an hour later the hour is empty');
cmp_ok(gateway('/sem')->{totals}{requests}, '>=', 9, 'but the totals are not');

# ---- drain and resume ----
mock_reset();
$token = token('/ai-status', @{$as{ops}});
$r = send_form('/ai-status?refresh=60', {%drain, token => $token}, @{$as{ops}}, Origin => 'http://localhost', 'Sec-Fetch-Site' => 'same-origin');
is($r->{status}, 303, 'drain: see the page');
my $there = $r->header('Location');
like($there, qr/^\?done=drain&server=[^&]*&gateway=%2fsem&target=near&refresh=60$/i, 'which is relative');
has(page("/ai-status$there", @{$as{ops}})->{body}, qr{role="status">Target near of /sem is drained}, 'and says so');
ok(log_contains('AIP0053: target near of /sem: drained by ops'), 'the log has who');
is(ask('/sem', 'axis:0 1')->json->{model}, 'rest-model', 'the target gets nothing') for 1 .. 3;
is(of(gateway('/sem'), 'near')->{availability}, 'drained', 'JSON: drained');
has(page('/ai-status', @{$as{ops}})->{body}, qr{value="resume"><input type="hidden" name="target" value="near"><button>Resume}, 'its button is another one now');
$r = send_form('/ai-status', {%drain, token => $token, action => 'resume'}, @{$as{ops}});
is($r->{status}, 303, 'resume');
lacks(page("/ai-status$there", @{$as{ops}})->{body}, qr/role="status"/, 'an old message is not repeated when it is no longer so');
lacks(page('/ai-status?done=drain&gateway=%2fsem&target=%3Cscript%3E', @{$as{ops}})->{body}, qr/role="status"|<script/, 'nor is one that a link made up');
is(ask('/sem', 'axis:0 1')->json->{model}, 'near-model', 'back in service');
is(send_form('/local-status', {%drain, token => token('/local-status')})->{status}, 303, 'a client on this machine needs no user');
is(c()->post('/ai-status', {target => 'near', action => 'resume'}, @{$as{ops}})->{status}, 200, 'an order as JSON needs no token');
$r = send_form('/ai-status', {%drain, token => $token, gateway => '/evil/<b>&', target => 'evil'}, @{$as{ops}});
is($r->{status}, 303, 'a strange name');
has(page('/ai-status' . $r->header('Location'), @{$as{ops}})->{body}, qr{role="status">Target evil of /evil/&lt;b&gt;&amp; is drained}, 'is told, escaped');

# ---- try it ----
sub try_it {
    my ($gateway, $prompt, @more) = @_;
    return send_form('/ai-status', {action => 'try', token => $token, server => $drain{server}, gateway => $gateway, prompt => $prompt}, @{$as{ops}}, @more);
}
sub cells { return [map { s/<svg.*?<\/svg>//sr =~ s/<[^>]+>//gr } $_[0] =~ m{<t[hd][^>]*>(.*?)</t[hd]>}sg] }
mock_reset();
my ($quiet, $asked) = (gateway('/sem'), scalar(() = mock_requests(port => port('MOCK_1'))));
for my $prompt ('axis:0 0.9 and no log', 'axis:1 0.2', 'axis:3 1') {
    my $dry = c()->post('/sem/_route', chat($prompt))->json;
    for my $text ($prompt, json(chat($prompt)), " \n" . json(chat($prompt))) {
        my $r = try_it('/sem', $text);
        is($r->{status}, 200, "try '$prompt'");
        my ($result) = $r->{body} =~ m{(<div id="r0">.*?)</section>}s;
        has($result, qr{<dt>Target</dt><dd><strong><bdi>$dry->{decision}{target}</bdi>}, 'the target of the dry run');
        has($result, qr{<dt>Reason</dt><dd>$dry->{decision}{reason}</dd>}, 'its reason');
        has($result, qr{<dt>Distance, threshold</dt><dd>\Q${\join ', ', map { defined $_ ? sprintf '%.4f', $_ : "\xe2\x80\x93" } @{$dry->{decision}}{qw(distance threshold)}}\E</dd>}, 'its figures');
        my $cells = cells($result);
        my $want = join '|', map { ($_->{route}, sprintf('%.4f', $_->{distance}), sprintf('%.4f', $_->{threshold}), $_->{eligible} ? 'yes' : 'no') } @{$dry->{distances}};
        like(join('|', grep { length } @$cells), qr/\Q$want\E/, 'its distances');
        is(join(' ', grep { my $t = $_; grep { $_ eq $t } qw(near far rest) } @$cells), join(' ', map { $_->{target} } @{$dry->{candidates}}, @{$dry->{left_out}}), 'its candidates, and who is left out');
        has($r->{body}, qr/<textarea[^>]*>\n\Q${\($text =~ s{"}{&quot;}gr)}\E<\/textarea>/, 'the prompt stays in the box');
    }
}
my $now = gateway('/sem');
is_deeply([@$now{qw(totals routing recent_decisions)}], [@$quiet{qw(totals routing recent_decisions)}], 'a dry run is in no book');
is(scalar(() = mock_requests(port => port('MOCK_1'))), $asked, 'no model was asked');
has(try_it('/two', 'x' x 290)->{body}, qr/role="alert">The prompt is longer/, 'as long as the gateway takes');
is(try_it('/two', 'x' x 290)->{status}, 413, 'and says so with its status');
is(try_it('/two', 'x')->{status}, 200, 'a gateway that does not route by meaning');
is(try_it('/sem', 'x' x 65_537)->{status}, 413, 'never more than 64 KiB');
is(try_it('/sem', '')->{status}, 400, 'no prompt');
has(try_it('/sem', '{"messages":')->{body}, qr/role="alert">400, invalid_json/, 'a chat that is none');
has(try_it('/sem', '</textarea><script>1</script>')->{body}, qr/>\n&lt;\/textarea&gt;&lt;script&gt;1/, 'a prompt cannot leave its box');
is(send_form('/ai-status', {action => 'try', server => $drain{server}, gateway => '/sem', prompt => 'x'}, @{$as{ops}})->{status}, 403, 'a try needs a token');
mock_behave({port => port('MOCK_EMBED'), times => -1, do => {status => 500}});
$r = try_it('/sem', 'axis:0 0.8 never seen before');
has($r->{body}, qr{could not be embedded: embeddings_status}, 'an embedder that fails');
is(ask('/sem', 'axis:0 0.7 nor this')->{status}, 200, 'the same for a request');
is(wait_until('the books', sub { (gateway('/sem')->{embedder}{last_failure} // {})->{error} }), 'embeddings_status', 'embedder: the last failure');
mock_reset();
lacks($h->log . slurp("$h->{dir}/statistics_log"), qr/and no log|never seen before/, 'no log has what was typed');

# ---- mod_status ----
my $auto = c()->get('/server-status?auto')->{body};
my ($n) = $auto =~ /^AITarget(\d+)Name: near$/m;
has($auto, qr/^AITarget${n}Gateway: \/sem\nAITarget${n}Name: near\nAITarget${n}State: available\nAITarget${n}InFlight: 0\nAITarget${n}Requests: ${\of(gateway('\/sem'), 'near')->{totals}{requests}}\nAITarget${n}Errors: \d+$/m, 'rows for machines');
has($auto, qr/^ServerUptimeSeconds: /m, 'beside those of mod_status');
my $rows = c()->get('/server-status')->{body};
has($rows, qr{<h2>AI gateway targets</h2>.*<tr><td>/sem</td><td>near</td><td>available</td><td>0</td>}s, 'rows for people');
lacks($rows, qr/<script>alert/, 'escaped');
has(c()->get('/server-status?notable')->{body}, qr{/sem near: available, 0 in flight}, 'without tables');

# ---- a graceful restart ----
$quiet = gateway('/sem');
$token = token('/ai-status', @{$as{ops}});
$h->graceful;
$now = gateway('/sem');
is_deeply([@$now{qw(totals hour recent_decisions)}], [@$quiet{qw(totals hour recent_decisions)}], 'the books outlive a graceful restart');
is(send_form('/ai-status', {%drain, token => $token}, @{$as{ops}})->{status}, 303, 'tokens, too');
my $path = "$h->{dir}/httpd.conf";
AIPTest::Setup::write_file($path, slurp($path) =~ s/<AITarget "near">/<AITarget "renamed">/r);
$h->graceful;
$now = wait_until('the new configuration', sub { my $g = gateway('/sem'); of($g, 'renamed') && $g });
is(of($now, 'renamed')->{totals}{requests}, 0, 'a target of another name begins anew');
is_deeply([grep { defined && !/^(far|rest)$/ } map { $_->{target} } @{$now->{recent_decisions}}], [], 'and is not taken for the one before');

sub log_contains { my ($text) = @_; return index($h->log, $text) >= 0 }
is_deeply([$h->unexpected(qr/AIP005\d/, qr/AIP002\d/, 'AIP0043', 'AIP0036')], [], 'nothing else in the log');
finish();
