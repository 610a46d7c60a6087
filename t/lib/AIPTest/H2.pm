# SPDX-License-Identifier: Apache-2.0
# An HTTP/2 client without TLS: one connection, one stream after the other, answers as those of AIPTest::Client. Used
# through AIPTest; see there. (curl would do, but takes an answer that comes before the body was read for an error.)
package AIPTest::H2;

use strict;
use warnings FATAL => 'all';
use IO::Select ();
use IO::Socket::INET ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Protocol::HTTP2::Client ();
use Protocol::HTTP2::Constants qw(const_name);
use Scalar::Util qw(weaken);
use Time::HiRes qw(time);

use AIPTest::Client ();

sub new {
    my ($class, %opt) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $opt{port}, Timeout => 5)
        or die "no connection to port $opt{port}: $!\n";
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    my $self = bless {socket => $socket, timeout => $opt{timeout}}, $class;
    weaken(my $weak = $self); # else the connection would outlive its owner
    $self->{h2} = Protocol::HTTP2::Client->new(keepalive => 1, on_error => sub { $weak->{error} = const_name('errors', $_[0]) });
    return $self;
}

sub flush {
    my ($self) = @_;
    local $SIG{PIPE} = 'IGNORE';
    while (defined(my $frame = $self->{h2}->next_frame)) {
        while (length $frame) {
            my $n = syswrite $self->{socket}, $frame;
            defined $n or die "send: $!\n";
            substr $frame, 0, $n, '';
        }
    }
    return;
}

# One request and its whole answer; {error} names the reset of the stream when there was one.
sub request {
    my ($self, $method, $path, $body, @headers) = @_;
    my $start  = time;
    my $answer = bless {status => 0, headers => [], body => '', pieces => [], complete => 0}, 'AIPTest::Answer';
    my $done;
    my $head = sub {
        my @pairs = @{$_[0]};
        while (my ($name, $value) = splice @pairs, 0, 2) {
            $name eq ':status' ? $answer->{status} = $value + 0 : push @{$answer->{headers}}, [$name, $value];
        }
    };
    $self->{h2}->request(
        ':scheme' => 'http', ':authority' => 'localhost', ':path' => $path, ':method' => $method,
        headers => [map { $_ % 2 ? $headers[$_] : lc $headers[$_] } 0 .. $#headers],
        (defined $body ? (data => $body) : ()),
        on_headers => sub { $head->($_[0]) unless $answer->{status}; 1 },
        on_data    => sub { $answer->{body} .= $_[0]; push @{$answer->{pieces}}, [time - $start, $_[0]]; 1 },
        on_done    => sub { $done = 1; $answer->{complete} = 1 },
        on_error   => sub { $done = 1; $answer->{error} = const_name('errors', $_[0]) },
    );
    $self->flush;
    while (!$done) {
        IO::Select->new($self->{socket})->can_read($self->{timeout}) or die "nothing came within $self->{timeout} s\n";
        my $n = sysread $self->{socket}, my $bytes, 65536;
        defined $n or die "receive: $!\n";
        $n or die "the connection ended\n";
        $self->{h2}->feed($bytes);
        $self->flush;
        die "connection error $self->{error}\n" if $self->{error};
    }
    # A server that has answered may reset what it did not want to read (RFC 9113 section 8.1).
    $answer->{complete} = 1 if ($answer->{error} // '') eq 'NO_ERROR';
    return $answer;
}

sub post {
    my ($self, $path, $body, @headers) = @_;
    my %given = map { lc $headers[2 * $_] => 1 } 0 .. @headers / 2 - 1;
    unshift @headers, 'content-type', 'application/json' unless $given{'content-type'};
    return $self->request('POST', $path, ref $body ? AIPTest::Client::encode($body) : $body, @headers);
}

sub get {
    my ($self, $path, @headers) = @_;
    return $self->request('GET', $path, undef, @headers);
}

1;
