# SPDX-License-Identifier: Apache-2.0
# What AIPTest::Aws and AIPTest::Cloud share: a Python server of t/lib on a port of the test's, with control over it.
#
#   my $server = AIPTest::Aws->start(port => port('SPARE_1'));       # ended with the test
#   my $server = AIPTest::Aws->start(port => port('SPARE_1'), tls_port => port('SPARE_2'));     # localhost, of ca.pem
#   $server->url('/v1')                     http://127.0.0.1:PORT/v1; tls_url: https://127.0.0.1:TLS_PORT/v1
#   $server->count('chat')                  requests of a kind so far; without a kind, all kinds as a hash
#   $server->wait_count('sts', 2)           waits until there are so many
#   $server->refused                        reasons for which requests were refused
#   $server->set(lifetime => 5)             settings, see the top of the server's file and of cloud_http.py
#   $server->fail('sts', 503)               requests of a kind fail; fail('sts') ends it
#   $server->delay('sts', 0.5)              they are answered late
#   $server->revoke                         what was issued so far is no longer accepted
#   $server->reset                          as at the start, nothing counted
#   $server->stop, $server->restart         nobody listens; listens again, has forgotten everything
#
# AIP_AWS_DIR names the folder of the Python packages (t/requirements-aws.txt).
package AIPTest::CloudServer;

use strict;
use warnings FATAL => 'all';
use AIPTest ();
use AIPTest::Client ();
use AIPTest::Setup ();

my $t = $AIPTest::Setup::t;

sub start {
    my ($class, %opt) = @_;
    my $self = bless {%opt}, $class;
    $self->{port} or die "$class: no port\n";
    $self->restart;
    AIPTest::at_end(sub { $self->stop });
    return $self;
}

# Of the subclass: the file below t/lib, and further arguments.
sub program   { die "no program\n" }
sub arguments { return () }

sub restart {
    my ($self) = @_;
    $self->stop;
    $ENV{AIP_AWS_DIR} or die "AIP_AWS_DIR is not set\n";
    local $ENV{PYTHONPATH}              = $ENV{AIP_AWS_DIR};
    local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
    my $name = $self->program;
    my @tls  = $self->{tls_port}
        ? ('--tls-port', $self->{tls_port}, '--cert', "$t/state/tls/server.pem", '--tls-key', "$t/state/tls/server.key") : ();
    $self->{pid} = AIPTest::Setup::spawn("$t/logs/${name}_log", 'python3', "$t/lib/$name.py",
        '--port', $self->{port}, @tls, $self->arguments);
    return $self;
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    local $?;
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return;
}

sub url     { return "http://127.0.0.1:$_[0]{port}" . ($_[1] // '') }
sub tls_url { return "https://127.0.0.1:$_[0]{tls_port}" . ($_[1] // '') }

sub control {
    my ($self, $verb, $body) = @_;
    my $c = AIPTest::Client->new(port => $self->{port}, timeout => 20);
    my $r = $verb eq 'state' ? $c->get('/__cloud/state') : $c->post("/__cloud/$verb", $body // {});
    $r->{status} == 200 or die $self->program . ": $verb: $r->{status} $r->{body}\n";
    return $r->json;
}

sub set     { my ($self, %settings) = @_; $self->control('set', \%settings); return }
sub revoke  { $_[0]->control('revoke'); return }
sub reset   { $_[0]->control('reset'); return }
sub refused { return @{$_[0]->control('state')->{refused}} }
sub setting { return $_[0]->control('state')->{settings}{$_[1]} }

sub count {
    my ($self, $kind) = @_;
    my $count = $self->control('state')->{count};
    return defined $kind ? $count->{$kind} // 0 : $count;
}

sub wait_count {
    my ($self, $kind, $count) = @_;
    return AIPTest::wait_until("$count of $kind", sub { $self->count($kind) >= $count });
}

sub order {
    my ($self, $name, $kind, $value) = @_;
    my %all = (%{$self->setting($name)}, $kind => $value);
    $self->set($name => {map { $_ => $all{$_} } grep { defined $all{$_} } keys %all});
    return;
}

sub fail  { my ($self, $kind, $status) = @_;  $self->order('status', $kind, $status); return }
sub delay { my ($self, $kind, $seconds) = @_; $self->order('delay', $kind, $seconds); return }
sub answer_text { my ($self, $kind, $text) = @_; $self->order('body', $kind, $text); return }

1;
