# SPDX-License-Identifier: Apache-2.0
# An HTTP/1.1 client that hides nothing: one connection, answers with their head as it came, bodies read as framed, the
# moments at which pieces arrived. Used through AIPTest; see there.
package AIPTest::Client;

use strict;
use warnings FATAL => 'all';
use IO::Select ();
use IO::Socket::INET ();
use JSON::PP ();
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

sub encode { return $json->encode($_[0]) }

sub new {
    my ($class, %opt) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $opt{port}, Timeout => 5)
        or die "no connection to port $opt{port}: $!\n";
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    return bless {socket => $socket, timeout => $opt{timeout}, in => '', requests => 0, method => ''}, $class;
}

# Bytes as they are.
sub send_raw {
    my ($self, $bytes) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $end = time + $self->{timeout};
    while (length $bytes) {
        my $n = syswrite $self->{socket}, $bytes;
        defined $n or die "send: $!\n";
        substr $bytes, 0, $n, '';
        time < $end or die "send: no room within $self->{timeout} s\n";
    }
    return $self;
}

# The request, without waiting for the answer.
sub send_request {
    my ($self, $method, $path, $body, @headers) = @_;
    my $text = ref $body ? encode($body) : $body;
    my %given = map { lc $headers[2 * $_] => 1 } 0 .. @headers / 2 - 1;
    my $head = "$method $path HTTP/1.1\r\n";
    $head .= "Host: localhost\r\n" unless $given{host};
    if (defined $text) {
        $head .= "Content-Type: application/json\r\n" unless $given{'content-type'};
        $head .= 'Content-Length: ' . length($text) . "\r\n"
            unless $given{'content-length'} || $given{'transfer-encoding'};
    }
    for (my $i = 0; $i < @headers; $i += 2) {
        $head .= "$headers[$i]: $headers[$i + 1]\r\n" if defined $headers[$i + 1];
    }
    $self->{method} = $method;
    $self->{requests}++;
    return $self->send_raw("$head\r\n" . ($text // ''));
}

sub post {
    my ($self, $path, $body, @headers) = @_;
    return $self->send_request('POST', $path, $body, @headers)->answer;
}

sub get {
    my ($self, $path, @headers) = @_;
    return $self->send_request('GET', $path, undef, @headers)->answer;
}

# More input; false at the end of the connection. Dies when the time is up.
sub fill {
    my ($self) = @_;
    IO::Select->new($self->{socket})->can_read($self->{timeout}) or die "nothing came within $self->{timeout} s\n";
    my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};
    defined $n or die "receive: $!\n";
    return $n;
}

sub line {
    my ($self) = @_;
    my $end;
    while (($end = index $self->{in}, "\r\n") < 0) {
        $self->fill or die "the connection ended within a line: '$self->{in}'\n";
    }
    my $line = substr $self->{in}, 0, $end + 2, '';
    return substr $line, 0, $end;
}

# Exactly N bytes, or what there was when the connection ended.
sub bytes {
    my ($self, $n) = @_;
    while (length $self->{in} < $n) {
        $self->fill or last;
    }
    return substr $self->{in}, 0, $n, '';
}

# The head of the answer; 1xx answers are kept in {interim}.
sub head {
    my ($self) = @_;
    my @interim;
    while (1) {
        my $first = $self->line;
        my ($status, $reason) = $first =~ m{^HTTP/1\.1 (\d{3}) ?(.*)$} or die "no status line: '$first'\n";
        my @headers;
        while (length(my $line = $self->line)) {
            my ($name, $value) = $line =~ /^([^:\s]+):[ \t]*(.*?)[ \t]*$/ or die "no header: '$line'\n";
            push @headers, [$name, $value];
        }
        if ($status >= 100 && $status < 200) {
            push @interim, $status;
            next;
        }
        return bless {status => $status, reason => $reason, headers => \@headers, interim => \@interim, head_at => time},
            'AIPTest::Answer';
    }
}

# Reads the next piece of the body as it arrives: a chunk, or what is there; undef at the end. {complete} tells whether
# the body ended as its framing says.
sub piece {
    my ($self, $answer) = @_;
    my $left = \$answer->{left};
    if (!exists $answer->{framing}) {
        my $length = $answer->header('Content-Length');
        my $none = $self->{method} eq 'HEAD' || $answer->{status} == 204 || $answer->{status} == 304;
        $answer->{framing} =
              $none                                                              ? 'length'
            : lc($answer->header('Transfer-Encoding') // '') eq 'chunked' ? 'chunked'
            : defined $length                                                    ? 'length'
            :                                                                      'close';
        $$left = $none ? 0 : $length;
        $answer->{complete} = 0;
    }
    return $self->chunk($answer) if $answer->{framing} eq 'chunked';
    if ($answer->{framing} eq 'length' && !$$left) {
        $answer->{complete} = 1;
        return;
    }
    if (!length $self->{in} && !$self->fill) {
        $answer->{complete} = 1 if $answer->{framing} eq 'close';
        return;
    }
    return substr $self->{in}, 0, length $self->{in}, '' if $answer->{framing} eq 'close';
    my $piece = substr $self->{in}, 0, $$left, '';
    $$left -= length $piece;
    return $piece;
}

sub chunk {
    my ($self, $answer) = @_;
    my $size = eval { $self->line } // return;
    $size =~ /^([0-9a-fA-F]+)$/ or die "no chunk size: '$size'\n";
    my $n = hex $1;
    if (!$n) {
        push @{$answer->{trailers}}, $_ while length(local $_ = $self->line);
        $answer->{complete} = 1;
        return;
    }
    my $data = $self->bytes($n);
    return if length $data < $n;
    $self->line eq '' or die "no line end behind a chunk\n";
    return $data;
}

# The whole answer. {pieces} are [seconds since the head, bytes].
sub answer {
    my ($self) = @_;
    my $answer = $self->head;
    $answer->{body}   = '';
    $answer->{pieces} = [];
    while (defined(my $piece = $self->piece($answer))) {
        $answer->{body} .= $piece;
        push @{$answer->{pieces}}, [time - $answer->{head_at}, $piece];
    }
    return $answer;
}

# Whether the server closes the connection within the time limit, without another byte.
sub closed {
    my ($self) = @_;
    my $n = eval { $self->fill };
    return defined $n && $n == 0 && !length $self->{in};
}

sub close {
    my ($self) = @_;
    CORE::close $self->{socket};
    return;
}

# Ends the connection by RST.
sub reset {
    my ($self) = @_;
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0);
    CORE::close $self->{socket};
    return;
}

package AIPTest::Answer;

# The first header of that name, or undef.
sub header {
    my ($self, $name) = @_;
    return ($self->headers_of($name))[0];
}

sub headers_of {
    my ($self, $name) = @_;
    return map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$self->{headers}};
}

# The body as data; dies when it is no JSON.
sub json {
    my ($self) = @_;
    return eval { JSON::PP->new->utf8->allow_nonref->decode($self->{body}) } // die "no JSON: $self->{body}\n";
}

# The error object of a body in OpenAI's shape; {} when it is something else.
sub error {
    my ($self) = @_;
    my $body = eval { $self->json };
    return ref $body eq 'HASH' && ref $body->{error} eq 'HASH' ? $body->{error} : {};
}

1;
