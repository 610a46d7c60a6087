# SPDX-License-Identifier: Apache-2.0
# A collector of traces for the tests; ended with the test, or by stop. AIP_OTLP_DIR names the folder of the Python packages
# (t/requirements-otlp.txt).
#
#   my $collector = AIPTest::Otlp->new(port => port('SPARE_2'));
#   $collector->mode('503:1', 'ok');        # how it answers from now on, see the top of t/lib/otlp_receiver.py
#   $collector->url                         the value for AITracesEndpoint
#   $collector->seen                        requests since the last forget: {status, headers, raw, resource, spans}
#   $collector->wait_spans(3)               waits until it has taken so many spans; returns all of them
#   $collector->trace(ID)                   spans of a trace that it has taken, in the order in which they were sent
#   $collector->wait_trace(ID, 2)           waits for so many of it
package AIPTest::Otlp;

use strict;
use warnings FATAL => 'all';
use JSON::PP ();

use AIPTest ();
use AIPTest::Setup ();

my $t = $AIPTest::Setup::t;
my $count = 0;

sub new {
    my ($class, %opt) = @_;
    my $base = "$t/state/otlp.$$." . ++$count;
    my $self = bless {log => "$base.log", mode => "$base.mode", port => $opt{port}}, $class;
    $self->forget;
    $self->mode('ok');
    $self->start;
    AIPTest::at_end(sub { $self->stop });
    return $self;
}

sub start {
    my ($self) = @_;
    $ENV{AIP_OTLP_DIR} or die "AIP_OTLP_DIR is not set\n";
    local $ENV{PYTHONPATH}              = $ENV{AIP_OTLP_DIR};
    local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
    $self->{pid} = AIPTest::Setup::spawn("$t/logs/otlp_log", 'python3', "$t/lib/otlp_receiver.py", '--port', $self->{port},
        '--log', $self->{log}, '--mode', $self->{mode});
    return $self;
}

sub mode {
    my ($self, @words) = @_;
    AIPTest::Setup::write_file("$self->{mode}.new", join "\n", @words);
    rename "$self->{mode}.new", $self->{mode} or die "$self->{mode}: $!\n";
    return;
}

sub url    { return "http://127.0.0.1:$_[0]{port}/v1/traces" }
sub forget { AIPTest::Setup::write_file($_[0]{log}, ''); return }

sub seen {
    my ($self) = @_;
    return map { JSON::PP->new->utf8->decode($_) } grep {/\n\z/} split /(?<=\n)/, AIPTest::slurp($self->{log});
}

sub spans { return map { @{$_->{spans}} } grep { $_->{status} == 200 } $_[0]->seen }
sub trace { my ($self, $id) = @_; return grep { $_->{trace} eq $id } $self->spans }

sub wait_seen {
    my ($self, $n) = @_;
    return @{AIPTest::wait_until("$n exports", sub { my @seen = $self->seen; @seen >= $n ? \@seen : undef })};
}

sub wait_spans {
    my ($self, $n) = @_;
    return @{AIPTest::wait_until("$n spans", sub { my @spans = $self->spans; @spans >= $n ? \@spans : undef })};
}

sub wait_trace {
    my ($self, $id, $n) = @_;
    return @{AIPTest::wait_until("$n spans of $id", sub { my @spans = $self->trace($id); @spans >= $n ? \@spans : undef })};
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    local $?;
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return;
}

1;
