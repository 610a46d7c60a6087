# SPDX-License-Identifier: Apache-2.0
# Helpers for t/*.t: clients on raw sockets, the mock upstream, the logs, private httpds for configurations of their own.
#
#   use AIPTest;                            # Test::More comes with it; the error log counts from here on
#   my $r = post('/ai/chat', chat('hello'));             # one request on a connection of its own
#   is($r->{status}, 200);  is($r->json->{model}, 'm');  is($r->header('X-LLM-Model'), 'openai/m');
#   my $c = client();  $c->post(...);  $c->post(...);    # the second request of a kept-alive connection
#   my $r = h2_post('/ai/chat', chat('hello'));          # the same over HTTP/2
#   mock_behave({port => port('MOCK_1'), do => {status => 503}});
#   my ($got) = mock_requests(port => port('MOCK_1'));   # what the upstream received
#   finish('AIP0043');                      # last line: done_testing, and no tag in the log but those named
#
# A data structure as body is sent as JSON with Content-Type application/json; a string is sent as it is, with that type
# unless a header says otherwise. Everything that waits has a limit, and dies when it is reached.
package AIPTest;

use strict;
use warnings FATAL => 'all';
use Exporter qw(import);
use IO::Socket::INET ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

use Digest::SHA ();

use AIPTest::Client ();
use AIPTest::Setup ();

our @EXPORT = (
    @Test::More::EXPORT,
    qw(write_keys key_line),
    qw(client post get chat stream_events json from_json port url top_dir h2_client h2_post wait_until twice_and_h2),
    qw(mock_behave mock_reset mock_requests mock_count mock_connections mock_wait mock_close mock_port start_mock),
    qw(log_mark log_lines log_wait unexpected_tags finish statistics statistics_wait statistics_faults),
    qw(pgsql start_pgsql stop_pgsql pg_proxy),
    qw(python redis start_redis stop_redis config_check start_httpd graceful httpd_generation mpm have_http2 run_command slurp)
);

my $t = $AIPTest::Setup::t;
my (%port, @cleanup, $statistics_from);
my $json = JSON::PP->new->utf8->canonical->allow_nonref;
our $log_from = -s "$t/logs/error_log" // 0;
$statistics_from = -s "$t/logs/statistics_log" // 0;

# ---- places ----

sub top_dir { return $AIPTest::Setup::top }
sub mpm     { return $ENV{AIP_MPM} }
sub json    { return $json->encode($_[0]) }

# From bytes, or from characters as they stand in a record of the mock.
sub from_json {
    my ($text) = @_;
    utf8::encode($text) if utf8::is_utf8($text);
    return $json->decode($text);
}


# The number behind a name of t/conf/ports.inc, without _PORT.
sub port {
    my ($name) = @_;
    if (!%port) {
        %port = slurp("$t/conf/ports.inc") =~ /^Define (\w+)_PORT (\d+)$/mg;
    }
    return 0 + ($port{$name} // die "no port $name\n"); # a number in JSON too
}

sub url {
    my ($port_name, $path) = @_;
    return 'http://127.0.0.1:' . port($port_name) . $path;
}

sub slurp {
    my ($path, $from) = @_;
    open my $in, '<:raw', $path or die "$path: $!\n";
    seek $in, $from, 0 if $from;
    local $/;
    return <$in> // '';
}

# HTTP/2 needs threads.
sub have_http2 { return mpm() ne 'prefork' }

# ---- clients ----

# client(port => NUMBER, timeout => SECONDS)
sub client {
    my %opt = @_;
    return AIPTest::Client->new(port => $opt{port} // port('HTTPD'), timeout => $opt{timeout} // 20);
}

# post(PATH, BODY, HEADER => VALUE, ...); repeated headers are sent repeatedly
sub post { return client()->post(@_) }
sub get  { return client()->get(@_) }

# A chat body with one user message; further members as pairs.
sub chat {
    my ($prompt, %more) = @_;
    return {model => 'any', messages => [{role => 'user', content => $prompt}], %more};
}

# The data of every event of an SSE body.
sub stream_events {
    my ($body) = @_;
    return map { s/^data: ?//mr =~ s/\r?\n\z//r } grep {/^data:/m} split /\r?\n\r?\n/, $body;
}

# The same over HTTP/2; the answer has the same methods.
sub h2_client {
    my %opt = @_;
    require AIPTest::H2;
    return AIPTest::H2->new(port => $opt{port} // port('HTTPD'), timeout => $opt{timeout} // 20);
}

sub h2_post { return h2_client()->post(@_) }

# Runs CODE->(ANSWER, NAME) for the first and the second request of a connection and for HTTP/2, where there is any.
# BEFORE->() prepares the mock for each of them.
sub twice_and_h2 {
    my ($before, $path, $body, $code) = @_;
    my $c = client();
    for my $name ('first request', 'second request') {
        $before->();
        $code->($c->post($path, $body), $name);
    }
    if (have_http2()) {
        $before->();
        $code->(h2_post($path, $body), 'HTTP/2');
    }
}

# Runs a program with input; returns (exit status, output, errors). Status is -1 when it was killed.
sub run_command {
    my ($command, $input, $limit) = @_;
    my ($in, $out, $err) = map { "$t/state/command.$$.$_" } qw(in out err);
    AIPTest::Setup::write_file($in, $input // '');
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN,  '<', $in  or POSIX::_exit(127);
        open STDOUT, '>', $out or POSIX::_exit(127);
        open STDERR, '>', $err or POSIX::_exit(127);
        exec { $command->[0] } @$command or POSIX::_exit(127);
    }
    my $killed = 0;
    local $SIG{ALRM} = sub { $killed = 1; kill 'KILL', $pid };
    alarm($limit // 60);
    waitpid $pid, 0;
    my $status = $?;
    alarm 0;
    my @result = ($killed || $status & 127 ? -1 : $status >> 8, slurp($out), slurp($err));
    unlink $in, $out, $err;
    return @result;
}

# Calls CODE until it returns true, for what has no event to wait for; dies after LIMIT seconds (10).
sub wait_until {
    my ($what, $code, $limit) = @_;
    my $end = time + ($limit // 10);
    while (time < $end) {
        my $result = $code->();
        return $result if $result;
        select undef, undef, undef, 0.02;
    }
    die "waited in vain: $what\n";
}

# Runs a Python program with the client packages (openai, langchain-openai): (exit status, output, errors).
sub python {
    my ($program, @args) = @_;
    $ENV{AIP_CLIENTS_DIR} or die "AIP_CLIENTS_DIR is not set\n";
    my $file = "$t/state/program.$$.py";
    AIPTest::Setup::write_file($file, $program);
    local $ENV{PYTHONPATH}              = $ENV{AIP_CLIENTS_DIR};
    local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
    return run_command(['python3', $file, @args], '', 90);
}

# ---- Redis ----

# A command to the Redis on a port (that of the run); returns what RESP2 says as data, dies on an error reply.
sub redis {
    my $port = ref $_[0] ? ${shift()} : $ENV{AIP_TEST_REDIS_PORT};
    $port or die "AIP_TEST_REDIS_PORT is not set\n";
    my $c = AIPTest::Client->new(port => $port, timeout => 10);
    $c->send_raw(join '', '*' . @_ . "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @_);
    return redis_reply($c);
}

sub redis_reply {
    my ($c) = @_;
    my ($kind, $rest) = $c->line =~ /^(.)(.*)$/s;
    die "redis: $rest\n" if $kind eq '-';
    return $rest if $kind eq '+' || $kind eq ':';
    return undef if $rest < 0;
    return [map { redis_reply($c) } 1 .. $rest] if $kind eq '*';
    my $data = $c->bytes($rest + 2);
    return substr $data, 0, $rest;
}

# A Redis with RediSearch of the test's own, on a port of its own (port('SPARE_n')); ended with the test, or by
# stop_redis(PORT). Further arguments go to redis-server.
sub start_redis {
    my ($port, @args) = @_;
    $ENV{AIP_REDIS_DIR} or die "AIP_REDIS_DIR is not set\n";
    my ($status, $out, $err) = run_command([top_dir() . '/scripts/lib/redis.sh', 'start', $ENV{AIP_REDIS_DIR}, $port, @args]);
    $status == 0 or die "redis: $out$err\n";
    push @cleanup, sub { stop_redis($port) };
    return;
}

sub stop_redis {
    my ($port) = @_;
    run_command([top_dir() . '/scripts/lib/redis.sh', 'stop', $ENV{AIP_REDIS_DIR}, $port]);
    return;
}

# ---- API keys ----

# A line of AIApiKeyFile.
sub key_line {
    my ($name, $key, @groups) = @_;
    return join(':', $name, (@groups ? join ',', @groups : ()), 'sha256$' . Digest::SHA::sha256_hex($key)) . "\n";
}

# The file, in one step, with the permissions that it should have.
sub write_keys {
    my ($path, @lines) = @_;
    AIPTest::Setup::write_file("$path.new", join '', @lines);
    chmod 0640, "$path.new";
    rename "$path.new", $path or die "$path: $!\n";
    return $path;
}

# ---- PostgreSQL ----

sub pgsql_script {
    my ($verb, $port, @args) = @_;
    $ENV{AIP_PGSQL_DIR} or die "AIP_PGSQL_DIR is not set\n";
    my ($status, $out, $err) = run_command([top_dir() . '/scripts/lib/pgsql.sh', $verb, $ENV{AIP_PGSQL_DIR}, $port, @args]);
    $status == 0 or die "postgresql: $out$err\n";
    return $out;
}

# SQL to the PostgreSQL on a port, as its administrator: values, a row on each line, separated by '|'.
sub pgsql { my ($port, $sql) = @_; return pgsql_script('sql', $port, $sql) =~ s/\n\z//r }

# A PostgreSQL of the test's own, on a port of its own (port('SPARE_n')); ended with the test, or by stop_pgsql(PORT), after
# which it can be started again with its data. Administrator: gw, s3cret-of-gw; database postgres.
sub start_pgsql {
    my ($port) = @_;
    pgsql_script('start', $port);
    push @cleanup, sub { pgsql_script('remove', $port) };
    return;
}

sub stop_pgsql { my ($port) = @_; pgsql_script('stop', $port); return }

# t/lib/pg_tls_proxy.py, ended with the test. Returns its process id.
sub pg_proxy {
    my ($port, $server, @options) = @_;
    my $log = "$t/state/pg-proxy-$port";
    unlink $log;
    my $pid = AIPTest::Setup::spawn($log, 'python3', '-Wignore', "$t/lib/pg_tls_proxy.py", '--listen', $port, '--server', $server, @options);
    push @cleanup, sub { kill 'TERM', $pid and waitpid $pid, 0 };
    return $pid;
}

# ---- the mock upstream ----

sub mock_call {
    my ($method, $path, $body, $control) = @_;
    my $c = AIPTest::Client->new(port => $control // port('MOCK_CONTROL'), timeout => 70);
    my $r = $method eq 'GET' ? $c->get("/__mock/$path") : $c->post("/__mock/$path", $body // {});
    return ($r->{status}, $r->json);
}

sub mock_ok {
    my ($status, $answer) = mock_call(@_);
    $status == 200 or die "mock: $_[1]: status $status: " . json($answer) . "\n";
    return $answer;
}

sub query {
    my %opt = @_;
    return join '&', map {"$_=$opt{$_}"} sort keys %opt;
}

sub mock_behave      { mock_ok('POST', 'behave', [@_]); return }
sub mock_reset       { mock_ok('POST', 'reset'); return }
sub mock_requests    { return @{mock_ok('GET', 'requests?' . query(@_))} }
sub mock_count       { return mock_ok('GET', 'count') }
sub mock_connections { return mock_ok('GET', 'connections') }
sub mock_close       { mock_ok('POST', 'close', {@_}); return }

# mock_wait('request', count => 2, port => P): waits for an event of the mock, dies when it does not come.
sub mock_wait {
    my ($event, %opt) = @_;
    $opt{timeout_ms} //= 10000;
    my $query = query(event => $event, %opt);
    my ($status, $answer) = mock_call('GET', "wait?$query");
    $status == 200 or die "mock: waited in vain for $query: " . json($answer) . "\n";
    return $answer->{count};
}

# mock_port(PORT, 0) refuses connections from now on, mock_port(PORT, 1) accepts them again.
sub mock_port {
    my ($port, $listen) = @_;
    mock_ok('POST', 'port', {port => $port + 0, listen => $listen ? JSON::PP::true : JSON::PP::false});
    return;
}

# A mock of the test's own, ended with it: start_mock('--port', port('SPARE_1'), ...). Returns its process id.
sub start_mock {
    my $pid = AIPTest::Setup::spawn("$t/logs/mock_log", $ENV{AIP_MOCK}, @_);
    push @cleanup, sub { kill 'TERM', $pid and waitpid $pid, 0 };
    return $pid;
}

# ---- logs ----

# From here on lines count; what came before is forgiven.
sub log_mark { return $log_from = -s "$t/logs/error_log" }

# Lines of the error log since the mark that match.
sub log_lines {
    my ($pattern) = @_;
    my @lines = split /\n/, slurp("$t/logs/error_log", $log_from);
    return defined $pattern ? grep {/$pattern/} @lines : @lines;
}

# Waits for COUNT (1) such lines; dies without.
sub log_wait {
    my ($pattern, $count) = @_;
    return wait_until("log lines $pattern", sub { my @l = log_lines($pattern); @l >= ($count // 1) ? $l[-1] : undef });
}

# Lines that a test has to account for: our tags from warning up, errors of any module, children that died. What is
# allowed is a tag, an AH number or a pattern.
# Advice at each start, checked in t/11; and that all children, or threads, are in use.
my @advice = qw(AIP0011 AH00161 AH00286 AH00484);

sub unexpected {
    my ($lines, @allowed) = @_;
    my @patterns = map { ref $_ ? $_ : qr/\b\Q$_\E\b/ } @allowed, @advice;
    my @bad;
    for my $line (@$lines) {
        my ($level) = $line =~ /^\[[^\]]*\] \[\w*:(\w+)\]/;
        next unless $line =~ /exit signal|segfault|AddressSanitizer|runtime error:/
            || !defined $level && $line =~ /\S/
            || ($level // '') =~ /^(emerg|alert|crit|error)$/
            || ($level // '') =~ /^warn/ && $line =~ /AIP\d{4}/;
        push @bad, $line unless grep { $line =~ $_ } @patterns;
    }
    return @bad;
}

# One test: the error log holds nothing since the mark that is not allowed.
sub unexpected_tags {
    my @bad = unexpected([log_lines()], @_);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(!@bad, 'nothing unexpected in the error log') or diag(join "\n", @bad);
    return;
}

# The end of a test file.
sub finish {
    my @allowed = @_;
    clean_up();
    unexpected_tags(@allowed);
    done_testing();
    return;
}

# Decoded lines of the statistics log since this test began.
sub statistics {
    my $path = "$t/logs/statistics_log";
    return () unless -e $path;
    return map { $json->decode($_) } grep {/\n\z/} split /(?<=\n)/, slurp($path, $statistics_from);
}

# Waits until there are COUNT of them: a line is written after the client has its answer. Returns the last.
sub statistics_wait {
    my ($count) = @_;
    return wait_until("$count statistics lines", sub { my @s = statistics(); @s >= $count ? $s[-1] : undef });
}

# What is wrong with the lines of a statistics log, by its schema: one fault a line, then "N lines".
sub statistics_faults {
    my ($path) = @_;
    my ($status, $out, $err) = run_command(['/usr/bin/python3', "$t/lib/statistics_lines.py", top_dir() . "/docs/statistics.schema.json", $path]);
    $status == 0 or die "statistics_lines.py: $out$err\n";
    return $out;
}

# ---- httpd ----

# Changes with every graceful restart.
sub httpd_generation {
    my ($generation) = get('/server-status?auto')->{body} =~ /^ParentServerConfigGeneration: (\d+)/m;
    return $generation;
}

# A graceful restart of the httpd under test; returns when the new generation answers.
sub graceful {
    my $before = httpd_generation();
    my $pid = slurp("$t/logs/httpd.pid") + 0;
    kill 'USR1', $pid or die "httpd $pid: $!\n";
    wait_until('graceful restart', sub { my $g = eval { httpd_generation() }; defined $g && $g > $before }, 20);
    return;
}

my $private = 0;

# A configuration file with our modules and the given text; its own folder is the ServerRoot.
sub private_conf {
    my ($text) = @_;
    my $dir = "$t/state/private." . $$ . '.' . ++$private;
    mkdir $dir or die "$dir: $!\n";
    AIPTest::Setup::write_file("$dir/httpd.conf", <<"CONF" . $text . "\n");
ServerRoot "$dir"
DefaultRuntimeDir "$dir"
PidFile "$dir/pid"
ErrorLog "$dir/error_log"
LogLevel warn ai_proxy_adv:debug
ServerName 127.0.0.1
Mutex pthread default
Include "$t/conf/modules.load"
Include "$t/conf/ports.inc"
<IfModule mime_module>
    TypesConfig "$t/conf/mime.types"
</IfModule>
CONF
    return $dir;
}

# httpd -t on the given lines: (exit status, what it said). Line numbers count from the first line of TEXT.
sub config_check {
    my ($text) = @_;
    my $dir = private_conf("Listen 127.0.0.1:" . port('SPARE_6') . "\nInclude \"$t/state/check.conf\"");
    AIPTest::Setup::write_file("$t/state/check.conf", $text);
    my ($status, $out, $err) = run_command([$ENV{AIP_HTTPD}, '-t', '-f', "$dir/httpd.conf"]);
    return ($status, $out . $err);
}

# A private httpd with the given lines, on port('SPARE_n') that they listen on; ended with the test. Returns an object
# with {dir}, {pid}; its error log is $h->log.
sub start_httpd {
    my ($text) = @_;
    my $dir = private_conf($text);
    my ($status, $out, $err) = run_command([$ENV{AIP_HTTPD}, '-f', "$dir/httpd.conf", '-k', 'start']);
    $status == 0 or die "httpd does not start: $out$err" . (-e "$dir/error_log" ? slurp("$dir/error_log") : '') . "\n";
    my $self = bless {dir => $dir}, 'AIPTest::Httpd';
    push @cleanup, sub { $self->stop };
    my ($port) = $text =~ /^\s*Listen \S+:(\S+)/m;
    $port =~ s/\$\{(\w+)_PORT\}/port($1)/e;
    wait_until("httpd on port $port", sub {
        -s "$dir/pid" && IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 1)
    });
    $self->{pid} = slurp("$dir/pid") + 0;
    return $self;
}

# CODE->() when the test ends, however it does; the last one first.
sub at_end { push @cleanup, @_; return }

sub clean_up {
    while (my $code = pop @cleanup) {
        $code->();
    }
    return;
}

END {
    my $status = $?;
    clean_up();
    $? = $status;
}

package AIPTest::Httpd;

sub log { return AIPTest::slurp("$_[0]{dir}/error_log") }

# What stands in its log and is not allowed, for is_deeply([...], []). After the order to stop the main thread of a child
# of mpm_event closes the sockets of its workers: it may crash in apr_os_sock_get(), where one has just ended, and one that
# keeps its connection alive may find it closed. Those lines, only then and only there, say nothing about the gateway.
sub lines {
    my ($self) = @_;
    my $log = $self->log;
    my $stopped = (AIPTest::mpm() eq 'event' ? $self->{stopped_at} : undef) // length $log;
    my @stopping = grep { !/AH0005[12]: child pid \d+ exit signal Segmentation fault|Bad file descriptor: AH03093: / } split /\n/, substr $log, $stopped;
    return ((split /\n/, substr $log, 0, $stopped), @stopping);
}

sub unexpected {
    my ($self, @allowed) = @_;
    return AIPTest::unexpected([$self->lines], @allowed);
}

# Lines about children that died.
sub deaths {
    my ($self) = @_;
    return grep {/exit signal|segfault|SIGKILL|AddressSanitizer|runtime error/} $self->lines;
}

# A graceful restart; returns when the new generation has begun. Old children may still answer for a moment.
sub graceful {
    my ($self) = @_;
    my $begun = sub { scalar(() = $self->log =~ /AH\d+: .* resuming normal operations/g) };
    my $before = $begun->();
    kill 'USR1', $self->{pid} or die "httpd $self->{pid}: $!\n";
    AIPTest::wait_until('graceful restart', sub { $begun->() > $before });
    return;
}

# The order to stop; it may take two seconds until the port is free.
sub order_stop {
    my ($self) = @_;
    return if !$self->{pid} || defined $self->{stopped_at};
    $self->{stopped_at} = length $self->log;
    kill 'TERM', $self->{pid};
    return;
}

sub stop {
    my ($self) = @_;
    $self->order_stop;
    my $pid = delete $self->{pid} or return;
    AIPTest::wait_until("end of httpd $pid", sub { !kill 0, $pid }, 20);
    return;
}

1;
