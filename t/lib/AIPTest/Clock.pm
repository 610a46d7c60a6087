# SPDX-License-Identifier: Apache-2.0
# A clock that a test sets: the servers started within run() take the time of day from it (t/tools/clock.c).
#
#   my $clock = AIPTest::Clock->new;
#   $clock->set(-3600);                                  # an hour ago
#   my $h = $clock->run(sub { start_httpd($conf) });
#   $clock->set(0);                                      # an hour has passed
package AIPTest::Clock;

use strict;
use warnings FATAL => 'all';
use AIPTest ();

my $made = 0;

sub new {
    my ($class) = @_;
    my $stem = "$AIPTest::Setup::t/state/clock.$$." . ++$made;
    my ($status, $out, $err) = AIPTest::run_command([qw(cc -std=gnu11 -O1 -fPIC -shared -o), "$stem.so", AIPTest::top_dir() . '/t/tools/clock.c']);
    $status == 0 or die "clock: $out$err\n";
    AIPTest::Setup::write_file($stem, pack 'q', 0);
    return bless {file => $stem, library => "$stem.so"}, $class;
}

# Seconds ahead of the real time; in place, because servers have mapped the file.
sub set {
    my ($self, $seconds) = @_;
    open my $out, '+<:raw', $self->{file} or die "$self->{file}: $!\n";
    syswrite $out, pack('q', $seconds) or die "$self->{file}: $!\n";
    return;
}

sub run {
    my ($self, $code) = @_;
    local $ENV{AIP_CLOCK}  = $self->{file};
    local $ENV{LD_PRELOAD} = $self->{library};
    return $code->();
}

1;
