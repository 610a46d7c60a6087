# SPDX-License-Identifier: Apache-2.0
# Certificates, good and bad, and servers that present them. Needs openssl and python3.
#
#   my $ca = AIPTest::CA->new($folder);       # makes all of them, in well under a second; there already: left alone
#   $ca->path('server.pem');                  # each NAME.pem has its key in NAME.key
#   my $peer = $ca->server(port => port('PEER_1'), cert => 'expired');
#   my $peer = $ca->server(port => ..., max => 'TLSv1.1');          # or min; the certificate is 'server' unless given
#   my $peer = $ca->server(port => ..., clients => 'ca');           # wants a client certificate of that authority
#   my $peer = $ca->server(port => ..., plain => 1);                # no TLS
#   my $peer = $ca->server(port => ..., status => 503, body => '{}', type => 'text/plain');
#   $peer->seen;                              # what came, oldest first: {method, path, headers, body, tls, name, client}, or
#                                             # {error} for a handshake that failed
#   $peer->stop;                              # else with the test
#
#   ca          the authority                       foreign-ca       another one
#   server      localhost and 127.0.0.1             foreign          the same names, by the other authority
#   expired     the same names, in 2020             self             the same names, by nobody
#   other       other.example: the wrong name       client           a client with the common name "gateway"
#   foreign-client  that name, by the other authority
#
# NAME-all.pem is certificate and key in one file (client, foreign-client).
package AIPTest::CA;

use strict;
use warnings FATAL => 'all';
use Cwd qw(abs_path);
use File::Path qw(make_path);
use JSON::PP ();

use AIPTest::Setup ();

my @local = (names => 'DNS:localhost,IP:127.0.0.1');
my @servers;

sub new {
    my ($class, $dir) = @_;
    make_path($dir);
    my $self = bless {dir => abs_path($dir)}, $class;
    $self->make unless -e $self->path('complete');
    return $self;
}

sub path { return "$_[0]{dir}/$_[1]" }

sub make {
    my ($self) = @_;
    $self->authority($_->[0], $_->[1]) for ['ca', 'test authority'], ['foreign-ca', 'foreign authority'];
    $self->issue('server',         by => 'ca',         cn => 'localhost', @local);
    $self->issue('other',          by => 'ca',         cn => 'other.example', names => 'DNS:other.example');
    $self->issue('expired',        by => 'ca',         cn => 'localhost', @local, from => '20200101000000Z', to => '20200102000000Z');
    $self->issue('foreign',        by => 'foreign-ca', cn => 'localhost', @local);
    $self->issue('client',         by => 'ca',         cn => 'gateway', use => 'clientAuth');
    $self->issue('foreign-client', by => 'foreign-ca', cn => 'gateway', use => 'clientAuth');
    $self->openssl('req', $self->new_key('self'), qw(-x509 -days 30 -subj /CN=localhost),
        '-addext', "subjectAltName=$local[1]", '-out', $self->path('self.pem'));
    AIPTest::Setup::write_file($self->path('complete'), '');
    return;
}

sub openssl {
    my ($self, @command) = @_;
    open my $in, '-|', 'sh', '-c', 'exec openssl "$@" 2>&1', 'sh', @command or die "openssl: $!\n";
    my $said = do { local $/; <$in> } // '';
    close $in or die "openssl @command\n$said\n";
    return $said;
}

sub new_key {
    my ($self, $name) = @_;
    return (qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -keyout), $self->path("$name.key"));
}

# What "openssl ca" wants to have; unlike "openssl x509" it knows dates, in every version.
sub authority {
    my ($self, $name, $cn) = @_;
    $self->openssl('req', $self->new_key($name), '-x509', '-days', 30, '-subj', "/CN=$cn", '-out', $self->path("$name.pem"));
    AIPTest::Setup::write_file($self->path("$name.index"), '');
    AIPTest::Setup::write_file($self->path("$name.cnf"), <<"CNF");
[ca]
default_ca = it
[it]
database = $self->{dir}/$name.index
new_certs_dir = $self->{dir}
certificate = $self->{dir}/$name.pem
private_key = $self->{dir}/$name.key
rand_serial = yes
default_md = sha256
default_days = 30
unique_subject = no
policy = any
[any]
commonName = supplied
CNF
    return;
}

# A certificate NAME: by => authority, cn => common name, names => subjectAltName, use => extendedKeyUsage, from and to as
# YYYYMMDDhhmmssZ. Returns its path.
sub issue {
    my ($self, $name, %opt) = @_;
    my $use = $opt{use} // 'serverAuth';
    $self->openssl('req', $self->new_key($name), '-subj', "/CN=$opt{cn}", '-out', $self->path("$name.csr"));
    my $extensions = "extendedKeyUsage=$use\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n";
    $extensions .= "subjectAltName=$opt{names}\n" if $opt{names};
    AIPTest::Setup::write_file($self->path("$name.ext"), $extensions);
    $self->openssl(
        qw(ca -batch -notext -config), $self->path("$opt{by}.cnf"), '-extfile', $self->path("$name.ext"),
        ($opt{from} ? ('-startdate', $opt{from}, '-enddate', $opt{to}) : ()),
        '-in', $self->path("$name.csr"), '-out', $self->path("$name.pem")
    );
    AIPTest::Setup::write_file($self->path("$name-all.pem"), join '', map { read_file($self->path("$name.$_")) } qw(pem key))
        if $use eq 'clientAuth';
    return $self->path("$name.pem");
}

sub read_file {
    my ($path) = @_;
    open my $in, '<:raw', $path or die "$path: $!\n";
    local $/;
    return <$in> // '';
}

# ---- servers ----

my $count = 0;

sub server {
    my ($self, %opt) = @_;
    my $port = $opt{port} or die "no port\n";
    my $cert = $opt{cert} // 'server';
    my $log  = $self->path("peer.$$." . ++$count);
    AIPTest::Setup::write_file($log, '');
    my @command = ('python3', '-W', 'ignore', "$AIPTest::Setup::t/lib/tls_server.py", '--port', $port, '--log', $log);
    push @command, '--cert', $self->path("$cert.pem"), '--key', $self->path("$cert.key") unless $opt{plain};
    push @command, '--client-ca', $self->path("$opt{clients}.pem") if $opt{clients};
    for my $name (qw(min max status body type)) {
        push @command, "--$name", $opt{$name} if defined $opt{$name};
    }
    my $pid = AIPTest::Setup::spawn("$AIPTest::Setup::t/logs/mock_log", @command);
    my $server = bless {pid => $pid, log => $log, port => $port}, 'AIPTest::CA::Server';
    push @servers, $server;
    return $server;
}

END {
    local $?;
    $_->stop for @servers;
}

package AIPTest::CA::Server;

sub port { return $_[0]{port} }

sub seen {
    my ($self) = @_;
    return map { JSON::PP->new->utf8->decode($_) } split /\n/, AIPTest::CA::read_file($self->{log});
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return;
}

1;
