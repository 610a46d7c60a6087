# SPDX-License-Identifier: Apache-2.0
# A forward proxy for the tests; ended with the test, or by stop. Needs python3.
#
#   my $proxy = AIPTest::ConnectProxy->new(port => port('SPARE_2'), auth => 'user:password');
#   $proxy->mode('auth');      # from now on: ok (at first), auth, a status, garbage, early, huge, hang, close, trickle
#   $proxy->seen;              # tunnels asked for since the last forget: {method, authority, headers}
#   $proxy->forget;
package AIPTest::ConnectProxy;

use strict;
use warnings FATAL => 'all';
use JSON::PP ();

use AIPTest::Setup ();

my (@running, $count);

sub new {
    my ($class, %opt) = @_;
    my $base = "$AIPTest::Setup::t/state/proxy.$$." . ++$count;
    my $self = bless {log => "$base.log", mode => "$base.mode", port => $opt{port}}, $class;
    $self->forget;
    $self->mode('ok');
    $self->{pid} = AIPTest::Setup::spawn(
        "$AIPTest::Setup::t/logs/mock_log", 'python3', "$AIPTest::Setup::t/lib/connect_proxy.py", '--port', $opt{port},
        '--log', $self->{log}, '--mode', $self->{mode}, $opt{auth} ? ('--auth', $opt{auth}) : ()
    );
    push @running, $self;
    return $self;
}

sub mode {
    my ($self, $mode) = @_;
    AIPTest::Setup::write_file("$self->{mode}.new", $mode);
    rename "$self->{mode}.new", $self->{mode} or die "$self->{mode}: $!\n";
    return;
}

sub forget { AIPTest::Setup::write_file($_[0]{log}, ''); return }

sub seen {
    my ($self) = @_;
    open my $in, '<', $self->{log} or die "$self->{log}: $!\n";
    return map { JSON::PP->new->utf8->decode($_) } <$in>;
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return;
}

END {
    local $?;
    $_->stop for @running;
}

1;
