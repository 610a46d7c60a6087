# SPDX-License-Identifier: Apache-2.0
# What stands before the first test: free ports, a certificate authority, the generated parts of the configuration, the
# mock upstream. t/TEST.PL calls this once; tests find the results through AIPTest.
#
# Environment: AIP_MODULE (mod_ai_proxy_adv.so), AIP_MOCK (t/mock/mock), AIP_APXS, AIP_MPM (event, worker, prefork),
# AIP_TEST_REDIS_PORT, AIP_TEST_MINILM_PORT and AIP_TEST_MINILM_KEY (servers that run already), AIP_REDIS_DIR (for a Redis
# of a test's own), AIP_VAULT_DIR (for AIPTest::Vault), AIP_CLIENTS_DIR and AIP_AWS_DIR (Python packages), AIP_TEST_HTTPD
# (what is started in httpd's place). Tests that need what is not there fail.
package AIPTest::Setup;

use strict;
use warnings FATAL => 'all';
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use IO::Socket::INET ();
use POSIX ();

our $t   = abs_path(dirname(__FILE__) . '/../..');
our $top = dirname($t);

# Names of the ports in t/conf/ports.conf, in order above a base that is free as a whole. HTTPD*: for our httpd; SPARE*:
# free for servers that a test starts; VAULT*: for AIPTest::Vault; PEER*: for AIPTest::CA; DEAD: nobody listens there.
my @listened = (
    qw(HTTPD HTTPD_TLS HTTPD_2 HTTPD_3 HTTPD_4),
    qw(MOCK_CONTROL MOCK_1 MOCK_2 MOCK_3 MOCK_4 MOCK_5 MOCK_6 MOCK_7 MOCK_8 MOCK_EMBED MOCK_TLS_1 MOCK_TLS_2 MOCK_BLACKHOLE),
    qw(DEAD SPARE_1 SPARE_2 SPARE_3 SPARE_4 SPARE_5 SPARE_6),
    qw(VAULT_1 VAULT_2 VAULT_3 VAULT_REVIEW PEER_1 PEER_2 PEER_3 PEER_4),
);
my ($guard, %port, $mock_pid);

# A listening socket on the base itself keeps two runs at the same time apart; it is held until the run ends.
sub choose_ports {
    for (my $base = 21000; $base < 32000; $base += 50) {
        $guard = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $base, Listen => 1) or next;
        my @held = map {
            IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $base + $_, Listen => 1, ReuseAddr => 1)
        } 1 .. @listened;
        next if grep { !defined } @held;
        @port{@listened} = map { $base + $_ } 1 .. @listened;
        $port{REDIS}  = $ENV{AIP_TEST_REDIS_PORT}  || $port{DEAD};
        $port{MINILM} = $ENV{AIP_TEST_MINILM_PORT} || $port{DEAD};
        return;
    }
    die "no free ports between 21000 and 32000 on 127.0.0.1\n";
}

sub write_file {
    my ($path, $text) = @_;
    open my $out, '>', $path or die "$path: $!\n";
    print {$out} $text or die "$path: $!\n";
    close $out or die "$path: $!\n";
}

sub output_of {
    my @command = @_;
    open my $in, '-|', @command or die "$command[0]: $!\n";
    my $text = do { local $/; <$in> };
    close $in or die "@command failed\n";
    chomp $text;
    return $text;
}

# LoadModule lines: ours first, because it must not matter where it stands.
sub modules {
    my ($apxs, $mpm) = @_;
    my $dir    = output_of($apxs, '-q', 'LIBEXECDIR');
    my $static = output_of(httpd($apxs), '-l');
    my @names  = (
        "mpm_$mpm", qw(proxy ssl socache_shmcb socache_redis socache_memcache setenvif env headers rewrite deflate filter status alias mime),
        qw(auth_basic authn_core authn_file authz_core authz_user authz_host log_config logio unixd proxy_http)
    );
    push @names, 'http2' if $mpm ne 'prefork'; # mod_http2 does not work with it
    my $lines = qq(LoadModule ai_proxy_adv_module "$ENV{AIP_MODULE}"\n);
    for my $name (@names) {
        next if $static =~ /^\s*mod_\Q$name\E\.c$/m;
        -e "$dir/mod_$name.so" or die "httpd has no mod_$name\n";
        $lines .= qq(LoadModule ${name}_module "$dir/mod_$name.so"\n);
    }
    return $lines;
}

sub httpd {
    my ($apxs) = @_;
    return output_of($apxs, '-q', 'SBINDIR') . '/' . output_of($apxs, '-q', 'PROGNAME');
}

sub prepare {
    my $apxs = $ENV{AIP_APXS} ||= 'apxs';
    my $mpm  = $ENV{AIP_MPM} ||= 'event';
    for my $name (qw(AIP_MODULE AIP_MOCK)) {
        $ENV{$name} && -e $ENV{$name} or die "$name does not name a file\n";
    }
    $ENV{APACHE_TEST_NO_STICKY_PREFERENCES} = 1;
    $ENV{APACHE_TEST_ULIMIT_SET} = 1; # else it would start itself again for the sake of core files
    $ENV{AIP_HTTPD} = $ENV{AIP_TEST_HTTPD} || httpd($apxs);
    make_path("$t/logs", "$t/state", "$t/htdocs");
    choose_ports();
    my $tls = "$t/state/tls";
    require AIPTest::CA;
    AIPTest::CA->new($tls);
    write_file("$t/conf/modules.load", modules($apxs, $mpm));
    write_file(
        "$t/conf/ports.inc",
        join '', (map { "Define ${_}_PORT $port{$_}\n" } sort keys %port),
        qq(Define TLS_DIR "$tls"\nDefine TOP_DIR "$top"\nDefine STATISTICS_LOG "$t/logs/statistics_log"\n),
        qq(Define EMBEDDER_DIR "$top/share/embedder/aip-static-en-v1"\n)
    );
}

sub arguments {
    return ('-apxs', $ENV{AIP_APXS}, '-httpd_conf', "$t/conf/modules.load", '-port', $port{HTTPD}, '-servername', '127.0.0.1');
}

# Starts the httpd under test, which puts itself into the background when its configuration is good.
sub start_httpd {
    my ($command, $pid_file) = @_;
    $command =~ s/^\S+/$ENV{AIP_HTTPD}/;
    print "$command\n";
    unlink $pid_file;
    if (system($command) == 0) {
        for (1 .. 1500) {
            return 1
                if -s $pid_file && IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port{HTTPD}, Timeout => 1);
            select undef, undef, undef, 0.02;
        }
    }
    print "httpd did not start\n", -e "$t/logs/error_log" ? output_of('tail', '-n', 20, "$t/logs/error_log") . "\n" : '';
    return 0;
}

# One mock for the whole run; each port has the name m1 ... m8, embed, tls1, tls2.
sub start_mock {
    return if $mock_pid;
    my @args = ('--control-port', $port{MOCK_CONTROL});
    push @args, '--name', "m$_", '--port', $port{"MOCK_$_"} for 1 .. 8;
    push @args, '--name', 'embed', '--port', $port{MOCK_EMBED};
    push @args, '--cert', "$t/state/tls/server.pem", '--key', "$t/state/tls/server.key";
    push @args, '--name', "tls$_", '--tls-port', $port{"MOCK_TLS_$_"} for 1, 2;
    push @args, '--blackhole-port', $port{MOCK_BLACKHOLE};
    $mock_pid = spawn("$t/logs/mock_log", $ENV{AIP_MOCK}, @args);
}

sub stop_mock {
    return unless $mock_pid && kill 0, $mock_pid;
    local $?;
    kill 'TERM', $mock_pid;
    waitpid $mock_pid, 0;
    undef $mock_pid;
}

# Starts a program that prints a line "ready" when it is; what it says goes to a log. Returns its process id.
sub spawn {
    my ($log, @command) = @_;
    open my $errors, '>>', $log or die "$log: $!\n";
    pipe my $from, my $to or die "pipe: $!\n";
    my $pid = fork;
    defined $pid or die "fork: $!\n";
    if (!$pid) {
        close $from;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $to;
        open STDERR, '>&', $errors;
        $guard = undef;
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    close $to;
    while (my $line = <$from>) {
        print {$errors} $line;
        return $pid if $line =~ /^ready/;
    }
    waitpid $pid, 0;
    die "$command[0] did not become ready, see $log\n";
}

1;
