#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# aipctl: what it shows of a configuration, that it decides as the server does, the thresholds it finds, its cache, its
# complaints, and that no secret leaves it.
use strict;
use warnings FATAL => 'all';
use File::Path qw(make_path);
use Encode ();
use lib 't/lib';
use AIPTest;

my $tool = $ENV{AIP_AIPCTL} // '';
-x $tool or die "AIP_AIPCTL does not name a program\n";
my $top   = top_dir();
my $dir   = "$top/t/state/aipctl.$$";
my $embed = port('MOCK_EMBED');
my $local = "AIEmbeddingsModelProvider local\nAIEmbeddingsModelName \"$top/share/embedder/aip-static-en-v1\"";
my $key   = 'sk-never-to-be-seen';
my $files = 0;
my $said  = '';
make_path("$dir/tmp");
$ENV{TMPDIR}         = "$dir/tmp";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{OPENAI_API_KEY} = $key;
$ENV{MISTRAL_API_KEY} = "$key-2";

# (status, output, errors); everything that was ever said is kept for the last test.
sub aipctl {
    my ($command, $args, $input) = @_;
    my @own = $command =~ /^(check|route|calibrate|embed)$/ ? ('--httpd', $ENV{AIP_HTTPD}, '--module', $ENV{AIP_MODULE}) : ();
    my @result = run_command([$tool, $command, @own, @$args], $input);
    $said .= "$result[1]$result[2]";
    return @result;
}

sub file {
    my ($text, $name) = @_;
    my $path = "$dir/" . ($name // ++$files . '.conf');
    AIPTest::Setup::write_file($path, $text);
    return $path;
}

sub target {
    my ($name, $description, $more) = @_;
    return <<"CONF";
<AITarget $name>
AIRouteType llm/v1/chat
AIModelProvider openai
AIModelName $name
AIModelOptionsUpstreamUrl ${\url('MOCK_1', '/v1/chat/completions')}
AIAuthHeaderName Authorization
AIAuthHeaderValue "Bearer {vault://env/OPENAI_API_KEY}"
AIDescription "$description"
${\($more // '')}
</AITarget>
CONF
}

# A gateway with two targets and a catch-all.
sub location {
    my ($lines, %opt) = @_;
    return join '', "<Location $opt{path}>\nAIProxy On\nAIBalancerAlgorithm semantic\n$lines\n",
        target('code',  $opt{code} // 'programming, Python, JavaScript, debugging, software', $opt{code_lines}),
        target('maths', $opt{maths} // 'mathematics, algebra, calculus, equations, theorems', $opt{maths_lines}),
        $opt{no_rest} ? '' : target('rest', 'CATCHALL'), "</Location>\n";
}

# The same with the mock's vectors: a prompt "axis:0 0.7" is at distance 0.3 of code.
sub remote {
    my ($lines, %opt) = @_;
    return location(<<"CONF", code => 'axis:0 1', maths => 'axis:1 1', %opt);
AIEmbeddingsModelProvider openai
AIEmbeddingsModelName text-embedding-3-small
AIEmbeddingsModelOptionsUpstreamUrl ${\($opt{url} // url('MOCK_EMBED', '/v1/embeddings'))}
AIEmbeddingsAuthHeaderName Authorization
AIEmbeddingsAuthHeaderValue "Bearer {vault://env/OPENAI_API_KEY}"
AIVectordbDimensions 64
$lines
CONF
}

sub rows { return map { [split /\t/, $_, -1] } split /\n/, $_[0] }
sub folder { opendir my $d, $_[0] or die "$_[0]: $!\n"; return grep { !/^\.\.?$/ } readdir $d }
sub calls { return mock_requests(port => $embed) }

# ---- words of the command line ----
my ($status, $out, $err) = aipctl('--help', []);
is($status, 0, '--help');
like($out, qr/^  \Q$_\E +CONF/m, "--help names $_") for qw(check route calibrate embed);
($status, $out) = aipctl('--version', []);
is($status, 0, '--version');
like($out, qr/^aipctl \d+\.\d+/, 'says it');
($status, $out) = aipctl('calibrate', ['--help']);
is($status, 0, 'help of a command');
like($out, qr/--max-false-positives X/, 'with its options');
unlike($out, qr/--format/, 'and no other ones');
# ---- API keys ----
my @lines;
for (1, 2) {
    ($status, $out, $err) = run_command([$tool, 'apikey', 'alice', 'staff', 'ops'], ''); # not among what was said: it is to be seen
    is_deeply([$status, $err], [0, ''], 'apikey');
    push @lines, my ($made, $line) = split /\n/, $out;
    like($made, qr/^aip-[A-Za-z0-9_-]{43}$/, 'a key');
    is("$line\n", key_line('alice', $made, 'staff', 'ops'), 'and its line');
}
isnt($lines[0], $lines[2], 'no key is made twice');
($status, $out) = run_command([$tool, 'apikey', '--stdin', 'bob'], 'k' x 20 . "\n");
is_deeply([$status, $out], [0, key_line('bob', 'k' x 20)], 'the line for a key that exists');
for (['19 characters', 'k' x 19], ['1025', 'k' x 1025], ['two lines', 'k' x 20 . "\n" . 'k' x 20], ['a blank', 'k' x 20 . ' k'], ['NUL', 'k' x 20 . "\0k"], ['none', '']) {
    ($status, $out, $err) = run_command([$tool, 'apikey', '--stdin', 'bob'], $_->[1]);
    is_deeply([$status, $out], [1, ''], "apikey --stdin: $_->[0]");
    like($err, qr/^aipctl: the key must/, 'says why');
    unlike($err, qr/kkk/, 'without the key');
}
for my $case (
    ['no name', ['apikey'], qr/apikey takes NAME \[GROUP...\]/], ['a colon', ['apikey', 'a:b'], qr/'a:b': a name or group holds/],
    ['a comma in a group', ['apikey', 'a', 'b,c'], qr/'b,c': a name/],
    ['a comment', ['apikey', '#a'], qr/begins with '#'/], ['-D', ['apikey', '-D', 'x', 'a'], qr/no such option/], ['--json', ['apikey', '--json', 'a'], qr/no such option/],
    ['nothing', [''], qr/^usage:/], ['no such command', ['frob'], qr/no command 'frob'/],
    ['an unknown option', ['check', '--frob', 'x'], qr/--frob: check has no such option/],
    ['an option of another command', ['check', '--seed', 1, 'x'], qr/no such option/],
    ['a value missing', ['check', 'x', '--server'], qr/no such option|needs a value/],
    ['too few words', ['route', 'x'], qr/route takes CONF LOCATION/], ['too many', ['check', 'x', 'y'], qr/check takes CONF/],
    ['a share of 2', ['calibrate', '--holdout', 2, 'x', '/', 'y'], qr/--holdout: '2' must be/],
    ['all held out', ['calibrate', '--holdout', 1, 'x', '/', 'y'], qr/no prompt to find thresholds with/],
    ['NaN', ['calibrate', '--max-false-positives', 'nan', 'x', '/', 'y'], qr/must be a number from 0 to 1/],
    ['no target', ['calibrate', '--max-share', '0.5', 'x', '/', 'y'], qr/must be TARGET=X/],
    ['another goal', ['calibrate', '--goal', 'luck', 'x', '/', 'y'], qr/must be accuracy/],
    ['two goals', ['calibrate', '--max-share', 'a=1', '--max-false-positives', 0, 'x', '/', 'y'], qr/two goals/],
    ['two caches', ['route', '--cache', 'x', '--no-cache', 'x', '/'], qr/contradict/],
    ['a bad seed', ['calibrate', '--seed', '1x', 'x', '/', 'y'], qr/--seed: '1x'/],
) {
    my ($name, $args, $pattern) = @$case;
    ($status, $out, $err) = run_command([$tool, grep {length} @$args]);
    is($status, 2, "$name: status 2");
    is($out, '', "$name: nothing on standard output");
    like($err, $pattern, "$name: says so");
}

# ---- check ----
my $example = "$top/conf/examples/openai-local.conf";
($status, $out, $err) = aipctl('check', [$example]);
is($status, 0, 'check of a fragment') or diag($err);
like($out, qr{^gateway /openai \(\Q$example\E:\d+\)$}m, 'names the gateway');
like($out, qr/^    programming: 1 text, threshold 0\.8\n      programming, coding, /m, 'its routes with texts and threshold');
like($out, qr/^    catchall: takes what matches nothing$/m, 'and the catch-all');
like($out, qr{^    catchall: mistral mistral-tiny at https://api\.mistral\.ai:?\d*/v1/chat/completions$}m, 'targets');
like($out, qr/^  \* AIVectordbThreshold 0\.8$/m, 'what is written is marked');
like($out, qr/^    AIRoutePromptMaxBytes 8192$/m, 'what is not is there, too');
like($out, qr/^    \* AIAuthHeaderValue \*\*\*$/m, 'a secret is not');
($status, $out) = aipctl('check', ['--json', $example]);
my $document = from_json($out);
is_deeply([map { $_->{targets}[0] } @{$document->{gateways}[0]{routes}}], [qw(programming mathematics catchall)], 'as JSON: routes');
is($document->{gateways}[0]{routes}[0]{threshold}, 0.8, 'threshold');
is($document->{gateways}[0]{settings}{values}{AIVectordbThreshold}[0], '0.8', 'settings');
($status, $out) = aipctl('check', ['--define', 'WORDS=several \\ words', '-D', 'FLAG', file(
    "<IfDefine FLAG>\n" . location($local, path => '/x', maths => '${WORDS}') . "</IfDefine>\n")]);
like($out, qr/^    maths: 1 text, no threshold\n      several \\ words$/m, '--define NAME=VALUE') or diag($out);
my $lines = file("# comment\n\nWhat is a monad?\n  A \\ \"quoted\" one  \n", 'lines.txt');
($status, $out) = aipctl('check', ['--root', $dir, file(location("$local\nAIRouteAggregate mean", path => '/x',
    code_lines => "AIRouteExamplesFile lines.txt\nAIRouteThreshold 0.6", no_rest => 1))]);
like($out, qr/^    code: 3 texts, threshold 0\.6$/m, 'examples from a file, relative to --root, once each');
like($out, qr/^    maths: 1 text, no threshold$/m, 'no threshold');
like($out, qr/no catch-all: .*503/, 'no catch-all');
like($out, qr/AIRouteExample "A \\\\ \\"quoted\\" one"/, 'and quoted as httpd reads it');
($status, $out) = aipctl('check', [file("<Location /r>\nAIProxy On\n" . target('a', 'x') . "</Location>\n")]);
like($out, qr/not routed by meaning: AIBalancerAlgorithm round-robin/, 'another algorithm');
for my $case (
    ['a bad value', "<Location /x>\nAIProxy Maybe\n</Location>\n", qr/AIProxy.*Maybe.*\n.*refuses/s],
    ['no gateway', "SetEnv A b\n", qr/has no gateway/],
    ['a missing secret', "<Location /x>\nAIProxy On\nAIEmbeddingsAuthHeaderValue {vault://env/NO_SUCH}\n</Location>\n", qr/NO_SUCH is not set/],
    ['whole without the module', "Listen 127.0.0.1:1\n", qr/refuses|says nothing about gateways/],
) {
    my ($name, $text, $pattern) = @$case;
    ($status, $out, $err) = aipctl('check', [file($text)]);
    is($status, 1, "$name: status 1");
    like($err, $pattern, "$name: says so");
}
($status, $out, $err) = aipctl('check', ["$dir/none.conf"]);
is($status, 1, 'no such file');
like($err, qr{cannot read \Q$dir\E/none\.conf: No such file}, 'says so');
($status, $out, $err) = aipctl('check', [$dir]);
is($status, 1, 'a folder is no configuration');
($status, $out, $err) = run_command([$tool, 'check', '--httpd', "$dir/none", '--module', $ENV{AIP_MODULE}, $example]);
is($status, 1, 'no such httpd');
like($err, qr{cannot run \Q$dir\E/none}, 'says so');
($status, $out, $err) = run_command([$tool, 'check', '--httpd', $ENV{AIP_HTTPD}, '--module', "$dir/none.so", $example]);
is($status, 1, 'no such module');
like($err, qr{there is no module \Q$dir\E/none\.so}, 'says so');
file("export AIPCTL_KEY='from the file'\nexport AIPCTL_RUN=/run/x\$SUFFIX\nexport AIPCTL_SHELL=`echo run-\$((1+1))`\n", 'envvars');
my $vault = "<Location /x>\nAIProxy On\nAIModelNameHeaderName \${%s}\n" . target('a', 'x') . "</Location>\n";
($status, $out, $err) = aipctl('check', [file(sprintf $vault, 'AIPCTL_RUN')]);
like($out . $err, qr{/run/x\b(?!\$)}, 'variables of an envvars beside CONF');
($status, $out, $err) = aipctl('check', [file(sprintf $vault, 'AIPCTL_SHELL')]);
unlike($out . $err, qr/run-2/, 'nothing in it is run');
is_deeply([folder("$dir/tmp")], [], 'no temporary folder is left, also after failures');

# ---- a whole configuration, virtual hosts ----
my $whole = file(<<"CONF" . join '', map {"<VirtualHost *:$_>\nServerName host$_:$_\n" . location("$local\nAIVectordbThreshold 0.$_", path => '/v') . "</VirtualHost>\n"} 7, 8);
ServerRoot "$dir"
DefaultRuntimeDir "$dir"
ErrorLog "$dir/error_log"
ServerName 127.0.0.1
Listen 127.0.0.1:${\port('SPARE_6')}
Include "$top/t/conf/modules.load"
CONF
($status, $out, $err) = aipctl('check', [$whole]);
is($status, 0, 'check of a whole configuration') or diag($err);
is(scalar(() = $out =~ /^gateway \/v of host[78]:[78] /mg), 2, 'two virtual hosts');
($status, $out, $err) = aipctl('route', [$whole, '/v'], "x\n");
is($status, 1, 'which one?');
like($err, qr/2 gateways are at \/v; choose one with --server:\n  \/v --server host7:7 .*\n  \/v --server host8:8 /, 'both are named');
($status, $out, $err) = aipctl('route', ['--server', 'host8:8', $whole, '/v'], "How do I solve equations?\n");
is($status, 0, '--server') or diag($err);
is((rows($out))[0][4], '0.8', 'chooses');
my ($place) = (aipctl('check', [$whole]))[1] =~ /host7:7 \((.*)\)$/m;
($status, $out, $err) = aipctl('route', ['--server', $place, $whole, '/v'], "How do I solve equations?\n");
is((rows($out))[0][4], '0.7', 'by its place, too');
($status, $out, $err) = aipctl('route', [$whole, '/w'], "x\n");
like($err, qr/no gateway is at \/w; there are:\n  \/v --server host7:7/, 'no such location');
is($status, 1, 'status 1');

# ---- route: as the server ----
my $fragment = file(location("$local\nAIVectordbThreshold 0.8\nAIRoutePromptMaxBytes 60", path => '/m',
    code_lines => "AIRouteExample \"Why does my script raise an exception?\"\nAIRouteThreshold 0.85", maths_lines => 'AIRouteExample "Find x"'));
my @prompts = ('Debug my JavaScript function', 'Solve this equation for x', 'What is the weather?', "Find x", "\xea\x99\xae",
    'calculus ' x 9 . 'Python programming debugging software', "Gr\xc3\xb6\xc3\x9fe einer Matrix");
my $h = start_httpd("Listen 127.0.0.1:\${SPARE_1_PORT}\nAIRouteHeaders On\nInclude \"$fragment\"");
($status, $out, $err) = aipctl('route', [$fragment, '/m'], join "\n", @prompts, '');
is($status, 0, 'route') or diag($err);
my @rows = rows($out);
is_deeply([map { $_->[0] } @rows], [1 .. @prompts], 'a line for each prompt');
my %model;
for my $i (0 .. $#prompts) {
    my $r = client(port => port('SPARE_1'))->post('/m', chat(Encode::decode_utf8($prompts[$i])));
    is($r->json->{model}, $rows[$i][2], "'$prompts[$i]' goes where the server sends it");
    my $distance = $r->header('X-LLM-Distance') // '-';
    ok($distance eq $rows[$i][3] || abs($distance - $rows[$i][3]) < 1e-4, "at the same distance: $distance, $rows[$i][3]");
    $model{$rows[$i][2]}++;
}
is(join(' ', sort keys %model), 'code maths rest', 'to all of them');
is($rows[4][1], 'empty', 'no known word: empty');
is_deeply([@{$rows[0]}[1, 2, 4]], ['match', 'code', '0.85'], 'reason, target and the threshold of its own');
like($rows[0][5], qr/^code=(0\.\d+) maths=(0\.\d+)$/, 'distances, nearest first');
$h->stop;
is_deeply([$h->unexpected()], [], 'nothing unexpected in its log');
($status, $out) = aipctl('route', ['--json', '--input', 'jsonl', $fragment, '/m'], qq("Find x"\r\n\n{"prompt": "Find x", "more": 1}\n"Find\\nx"\n));
my @json = map { from_json($_) } split /\n/, $out;
is_deeply([map { $_->{line} } @json], [1, 3, 4], 'JSON in and out; empty lines are counted and left out');
is_deeply([@{$json[0]}{qw(reason target)}, $json[0]{scores}[0]{route}], [qw(match maths maths)], 'with the decision');
is($json[0]{distance}, 0, 'an example is at distance 0');
($status, $out) = aipctl('route', [$fragment, '/m'], "\xef\xbb\xbfFind x\r\n");
is((rows($out))[0][3], '0.000000', 'neither CRLF nor the mark at the beginning are part of a prompt');
for my $case (
    ['invalid UTF-8', [], "good\n\xff\n", qr/standard input, line 2: it is not UTF-8/],
    ['a NUL byte', [], "a\0b\n", qr/line 1: it holds a NUL byte/],
    ['a long line', [], "\n" . 'x' x 1048577, qr/line 2: it is longer than 1 MiB/],
    ['no JSON', ['--input', 'jsonl'], "{\n", qr/line 1: it is no JSON/],
    ['another JSON value', ['--input', 'jsonl'], "7\n", qr/line 1: it must be a text, or an object/],
) {
    my ($name, $args, $input, $pattern) = @$case;
    ($status, $out, $err) = aipctl('route', [@$args, $fragment, '/m'], $input);
    is($status, 1, "$name: status 1");
    like($err, $pattern, "$name: says where");
    is($out, '', "$name: nothing else");
}
for my $case (['nearest', 'ambiguous', 'code'], ['catchall', 'ambiguous', 'rest'], ['maths', 'ambiguous', 'maths']) {
    my ($action, @expected) = @$case;
    ($status, $out) = aipctl('route', [file(remote("AIVectordbThreshold 0.5\nAIRouteMargin 0.1\nAIRouteOnAmbiguous $action", path => '/a')), '/a'],
        "axis:0 0.6 axis:1 0.58\naxis:0 0.9\naxis:0 0.3\n");
    my @got = rows($out);
    is_deeply([@{$got[0]}[1, 2]], \@expected, "AIRouteOnAmbiguous $action");
    is(sprintf('%.3f', $got[0][3]), '0.400', 'with the distance that was ambiguous');
    is_deeply([map { $_->[1] } @got[1, 2]], [qw(match catchall)], 'and the others as ever');
}
($status, $out) = aipctl('route', [file(remote('AIVectordbThreshold 0.5', path => '/a', no_rest => 1)), '/a'], "axis:0 0.3\n");
is((rows($out))[0][2], '-', 'no catch-all, no target');
($status, $out, $err) = aipctl('route', [file("<Location /r>\nAIProxy On\n" . target('a', 'x') . "</Location>\n"), '/r'], "x\n");
like($err, qr/does not route by meaning/, 'a gateway that does not route by meaning');

# ---- the remote embedder and the cache ----
mock_reset();
my $far = file(remote('AIVectordbThreshold 0.5', path => '/e'));
my $input = join '', map {"axis:0 0.$_\n"} 1 .. 9;
my ($first, $second, @made);
AIPTest::Setup::write_file("$dir/in", $input);
($status, $first, $err) = aipctl('route', ['--progress', '--cache', "$dir/own/cache", $far, '/e'], $input);
is($status, 0, 'a remote embedder') or diag($err);
@made = calls();
is(scalar @made, 2, 'one call for the texts, one for all prompts');
is((map { $_->[1] } grep { lc $_->[0] eq 'authorization' } @{$made[0]{headers}})[0], "Bearer $key", 'with the credential');
is_deeply([map { $_->[2] } rows($first)], [('rest') x 4, ('code') x 5], 'decisions');
like($err, qr/^embedded 9 of 9 texts$/m, '--progress');
is((stat "$dir/own/cache")[2] & 07777, 0700, 'the cache is ours alone');
mock_reset();
($status, $second) = aipctl('route', ['--cache', "$dir/own/cache", $far, '/e'], $input);
is($second, $first, 'a second run says the same');
is(scalar(calls()), 0, 'and calls nobody');
($status, $out, $err) = aipctl('route', ['--cache', "$dir/own/cache", $far, '/e'], "axis:1 0.5\n$input");
is(scalar(calls()), 1, 'but for a new prompt');
is($err, '', 'without a terminal there is no progress');
mock_reset();
aipctl('route', ['--no-cache', $far, '/e'], $input) for 1, 2;
is(scalar(calls()), 4, '--no-cache');
mock_reset();
{
    local $ENV{XDG_CACHE_HOME} = "$dir/other";
    aipctl('route', [$far, '/e'], $input) for 1, 2;
}
is(scalar(calls()), 2, 'the cache of the user is the default');
is((stat "$dir/other/aipctl")[2] & 07777, 0700, 'and private');
($status, $out, $err) = aipctl('route', ['--cache', "$dir/in/below", $far, '/e'], $input);
is($status, 1, 'no folder for the cache');
like($err, qr/cannot keep vectors in .*--no-cache/, 'says what to do');
for my $case (['status 500', {status => 500, body => $key}, qr/answered with status 500/], ['dropped', {drop_before_head => JSON::PP::true}, qr/cannot embed:/]) {
    my ($name, $behaviour, $pattern) = @$case;
    mock_behave({port => $embed, times => -1, do => $behaviour});
    ($status, $out, $err) = aipctl('route', ['--no-cache', $far, '/e'], $input);
    is($status, 1, "$name: status 1");
    like($err, $pattern, "$name: says so");
    mock_reset();
}
($status, $out, $err) = aipctl('route', ['--no-cache', file(remote('', path => '/e', url => url('DEAD', '/v1/embeddings'))), '/e'], $input);
is($status, 1, 'nobody there');

# ---- embed ----
($status, $out) = aipctl('embed', ['--no-cache', $far, '/e'], "axis:0 1\n\naxis:1 1\n");
my @vectors = map { from_json($_) } split /\n/, $out;
is_deeply([map { scalar @$_ } @vectors], [64, 64, 64], 'embed: a vector for each line');
ok(abs($vectors[0][0] - 1) < 1e-6 && abs($vectors[2][1] - 1) < 1e-6, 'the right ones');
is_deeply($vectors[1], [(0) x 64], 'an empty line has one that is all zero');
($status, $out) = aipctl('embed', ['--no-cache', '--format', 'f32le', $far, '/e'], "axis:0 1\n\naxis:1 1\n");
is_deeply([unpack '(f<)*', $out], [map {@$_} @vectors], 'the same, raw');
($status, $out) = aipctl('embed', [$fragment, '/m'], "Find x\nFind x");
my ($one, $other) = split /\n/, $out;
is($one, $other, 'the local model; the last line needs no end');

# ---- calibrate ----
# code lies at 0.25 to 0.34, maths at 0.25 to 0.34, what belongs nowhere at 0.45 to 0.54.
my $labelled = join '', map {"code\taxis:0 0.$_\naxis:1 1\taxis:1 0.$_\n"} 66 .. 75;
$labelled .= join '', map {"-\taxis:0 0.$_\nrest\taxis:1 0.$_\n"} 46 .. 55;
my $set = file($labelled, 'labelled.tsv');
mock_reset();
my $strict = file(remote('AIVectordbThreshold 0.2', path => '/e'));
my @calibrate = ('calibrate', ['--no-cache', $strict, '/e', $set]);
($status, $out, $err) = aipctl(@calibrate);
is($status, 0, 'calibrate') or diag($err);
like($out, qr/^  as configured +14 of   28  50\.0 % +6 of   12  50\.0 %$/m, 'before');
like($out, qr/^  one threshold +28 of   28 100\.0 % +12 of   12 100\.0 %$/m, 'after');
like($out, qr/^recommended: one threshold$/m, 'one threshold is enough');
my ($threshold) = $out =~ /recommended\)\n +# inside <Location \/e>\n +AIVectordbThreshold (\S+)\n/;
ok(defined $threshold && $threshold > 0.34 && $threshold < 0.45, 'between what belongs and what does not') or diag($out);
like($out, qr/^  code +0 +3 +0$/m, 'the confusion matrix has them on its diagonal');
is((aipctl(@calibrate))[1], $out, 'a second run says the same');
isnt((aipctl('calibrate', ['--no-cache', '--seed', 2, $strict, '/e', $set]))[1], $out, 'another seed, other parts');
my $pasted = file(remote("AIVectordbThreshold $threshold", path => '/e'));
($status, $out) = aipctl('calibrate', ['--no-cache', $pasted, '/e', $set]);
like($out, qr/^  as configured +28 of   28 100\.0 %/m, 'pasted, it is as good as was said');
like($out, qr/^recommended: as configured$/m, 'and nothing better is found');

# Two scales: maths and what is no maths lie 0.4 farther away.
my $scales = join '', map {"code\taxis:0 0.$_\nmaths\taxis:1 0." . ($_ - 40) . "\n"} 66 .. 75;
$scales .= join '', map {"-\taxis:0 0.$_\n-\taxis:1 0." . sprintf('%02d', $_ - 40) . "\n"} 46 .. 55;
($status, $out, $err) = aipctl('calibrate', ['--no-cache', '--json', '--input', 'lines', $strict, '/e', '-'], $scales);
is($status, 0, 'from standard input, as JSON') or diag($err);
my $result = from_json($out);
is($result->{recommended}, 'per_target', 'one threshold per target is better');
is($result->{per_target}{held_out}{accuracy}, 1, 'on the held-out part, too');
cmp_ok($result->{global}{held_out}{accuracy}, '<', 1, 'than one');
my %paste = map { $_->{target} // '' => $_->{line} } @{$result->{per_target}{directives}};
my ($all, $own) = map { /^AI\w+Threshold (0\.\d+)$/ ? $1 : -1 } $paste{''}, $paste{maths} // $paste{code};
ok($all > 0 && $own > 0, 'with directives to paste') or diag(json($result->{per_target}));
my %lines = map { ("${_}_lines" => $paste{$_} // '') } qw(code maths);
($status, $out) = aipctl('calibrate', ['--no-cache', '--json', file(remote($paste{''}, path => '/e', %lines)), '/e', '-'], $scales);
is(from_json($out)->{configured}{held_out}{accuracy}, 1, 'that do what was said');
is(from_json($out)->{recommended}, 'configured', 'and are kept');
like((map { $_->{line} } grep { $_->{remove} } @{from_json($out)->{global}{directives}})[0], qr/^AIRouteThreshold$/, 'the own ones would have to go for one');

# Goals, wrong prompts, pairs, JSON lines.
my $mixed = join '', map {"code\taxis:0 0.$_\n"} 60 .. 79;
$mixed .= join '', map { "-\taxis:0 0." . ($_ + 5) . " and more\n" } 50 .. 69;
for my $case ([['--max-false-positives', 0], 0], [['--max-false-positives', 0.2], 2.8], [['--max-share', 'code=0.25'], 28]) {
    my ($goal, $most) = @$case;
    ($status, $out) = aipctl('calibrate', ['--no-cache', '--json', '--holdout', 0.3, @$goal, $strict, '/e', '-'], $mixed);
    my $training = from_json($out)->{global}{training};
    cmp_ok($training->{false_positives}, '<=', $most, "@$goal: false positives");
    cmp_ok($training->{share}, '<=', 0.25 * $training->{prompts}, "@$goal: share") if exists $training->{share};
    cmp_ok($training->{right}, '>', 14, "@$goal: and not by refusing all");
}
my $jsonl = join '', map { json({($_ % 2 ? 'label' : 'target') => 'maths', prompt => "axis:0 0.9 axis:1 0.$_"}) . "\n" } 20 .. 39;
($status, $out) = aipctl('calibrate', ['--no-cache', '--holdout', 0, $far, '/e', file($jsonl, 'labelled.jsonl')]);
is($status, 0, 'JSON lines');
like($out, qr/^  line 1: maths goes to code: axis:0 0\.9 axis:1 0\.20\n    code=0\.\d+ maths=0\.8\d*$/m, 'wrong prompts with their distances')
    or diag($out);
like($out, qr/^hard to tell apart\n  code and maths: 20 of 20 prompts are nearer to the wrong one/m, 'a pair that is hard to tell apart');
like($out, qr/^right .*\n  as configured +0 of   20 +0\.0 % +-$/m, 'nothing held out');
for my $case (
    ['no tab', "code axis:0 1\n", qr/line 1: there is no tab/], ['no label', "\tx\n", qr/line 1: the label is empty/],
    ['no prompt', "code\taxis:0 1\ncode\t\n", qr/line 2: the prompt is empty/],
    ['an unknown label', "code\taxis:0 1\nfrob\tx\n", qr/line 2: 'frob' is no target of \/e; labels are -, code, maths, rest/],
    ['two labels', "code\tx\n-\tx\n", qr/line 2: line 1 has the same prompt with another label/],
    ['no label in JSON', qq({"prompt":"x"}\n), qr/line 1: it must be an object with/], ['nothing', "\n\n", qr/holds no prompt/],
    ['not UTF-8', "code\t\xc3\n", qr/line 1: it is not UTF-8/],
) {
    my ($name, $text, $pattern) = @$case;
    ($status, $out, $err) = aipctl('calibrate', ['--no-cache', $far, '/e', '-'], $text);
    is($status, 1, "$name: status 1");
    like($err, $pattern, "$name: says where");
}
($status, $out, $err) = aipctl('calibrate', ['--no-cache', $far, '/e', '-'], "code\taxis:0 0.9\n" x 3);
like($err, qr/2 prompts stand there more than once; they count once/, 'a prompt counts once');
($status, $out, $err) = aipctl('calibrate', ['--max-share', 'frob=0.5', $far, '/e', '-'], "code\tx\n");
like($err, qr/--max-share: 'frob' is no target/, 'a goal for nobody');
($status, $out, $err) = aipctl('calibrate', ['--max-false-positives', 0.5, $far, '/e', '-'], "code\tx\n");
like($err, qr/needs prompts with the label -/, 'a goal without prompts to measure it with');

# With a real model, on prompts written for this test.
my $desk = join '', map {"$_\n"} map { my $l = $_->[0]; map {"$l\t$_"} @{$_->[1]} } (
    ['code', ['Why is my Python loop slow?', 'Debug this JavaScript promise', 'Write a unit test for a parser', 'Explain recursion in programming',
            'My program crashes with a null pointer', 'Refactor this function', 'How do I read a file in Python?', 'What does this compiler error mean?']],
    ['maths', ['Integrate x squared', 'Prove that the square root of two is irrational', 'Solve the quadratic equation', 'What is an eigenvalue?',
            'Differentiate the sine of x', 'State a theorem about prime numbers', 'How does algebra differ from calculus?', 'Simplify this fraction']],
    ['-', ['Recommend a film for tonight', 'Why is the sea salty?', 'Who painted the Night Watch?', 'Plan a picnic', 'Which bird sings at night?',
            'Tell me a joke', 'How old is the moon?', 'What shall I cook for dinner?']]);
($status, $out, $err) = aipctl('calibrate', ['--json', file(location("$local\nAIVectordbThreshold 0.5", path => '/d')), '/d', '-'], $desk);
$result = from_json($out);
cmp_ok($result->{$result->{recommended}}{held_out}{right}, '>', $result->{configured}{held_out}{right}, 'a real model gains by it, too');

is_deeply([folder("$dir/tmp")], [], 'no temporary folder is left');
unlike($said, qr/\Q$key\E/, 'no secret was ever said');
finish();
