# SPDX-License-Identifier: Apache-2.0
# An upstream on bare sockets: it keeps every byte that it gets, and answers with the bytes it is told. For what the mock's
# records would normalise, and for answers that no server makes by mistake. Ended with the test.
#
#   my $w = AIPTest::Wire->start(port('SPARE_2'));
#   $w->reply("HTTP/1.1 200 OK\r\n...", 0.1, '...');    # to the next request; numbers are pauses in seconds
#   $w->reply('...', 'close');                          # and then the end of the connection
#   my @got = $w->requests;                             # {connection, bytes} since the last forget
#   $w->forget;                                         # replies, too
#   $w->tls(port('SPARE_3'));                           # the same behind TLS on that port, certificate of AIPTest::CA
#
# Unasked it answers with a chat completion whose text is the content of the request's last message, so that an answer
# that belongs to another request can be told.
package AIPTest::Wire;

use strict;
use warnings FATAL => 'all';
use IO::Select ();
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();

use AIPTest ();
use AIPTest::Setup ();

my $json = JSON::PP->new->ascii->canonical;
my @all;

sub start {
    my ($class, $port) = @_;
    my $dir = "$AIPTest::Setup::t/state/wire.$$." . (@all + 1);
    mkdir $dir or die "$dir: $!\n";
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1)
        or die "wire: port $port: $!\n";
    my $self = bless {dir => $dir, port => $port, replies => 0, from => 0}, $class;
    AIPTest::Setup::write_file("$dir/got", '');
    $self->{pid} = fork // die "fork: $!\n";
    if (!$self->{pid}) {
        $SIG{TERM} = 'DEFAULT';
        eval { serve($self, $listener) };
        print STDERR "wire: $@";
        POSIX::_exit(1);
    }
    push @all, $self;
    return $self;
}

sub reply {
    my ($self, @parts) = @_;
    my $file = sprintf '%s/reply.%06d', $self->{dir}, ++$self->{replies};
    AIPTest::Setup::write_file("$file.new", $json->encode(\@parts));
    rename "$file.new", $file or die "$file: $!\n";
    return;
}

sub requests {
    my ($self) = @_;
    my $data = AIPTest::slurp("$self->{dir}/got", $self->{from});
    my @got;
    while (length $data) {
        my ($connection, $length) = unpack 'NN', substr $data, 0, 8, '';
        push @got, {connection => $connection, bytes => substr $data, 0, $length, ''};
    }
    return @got;
}

# How many the requests came on.
sub connections {
    my ($self) = @_;
    return scalar keys %{{map { ($_->{connection} => 1) } $self->requests}};
}

sub forget {
    my ($self) = @_;
    unlink glob "$self->{dir}/reply.*";
    $self->{from} = -s "$self->{dir}/got";
    return;
}

sub stop {
    my ($self) = @_;
    for my $pid (grep {defined} delete @$self{qw(relay pid)}) {
        kill 'TERM', $pid;
        waitpid $pid, 0;
    }
    return;
}

END {
    local $?;
    $_->stop for @all;
}

sub tls {
    my ($self, $port) = @_;
    my $tls = "$AIPTest::Setup::t/state/tls";
    $self->{relay} = AIPTest::Setup::spawn("$AIPTest::Setup::t/logs/mock_log", 'python3', "$AIPTest::Setup::t/lib/tls_relay.py", $port, $self->{port},
        "$tls/server.pem", "$tls/server.key");
    return;
}

# ---- the child ----

sub serve {
    my ($self, $listener) = @_;
    $SIG{PIPE} = 'IGNORE';
    open my $got, '>>:raw', "$self->{dir}/got" or die "$!\n";
    $got->autoflush;
    my $select = IO::Select->new($listener);
    my (%buffer, %number, $n);
    while (my @ready = $select->can_read) {
        for my $socket (@ready) {
            if ($socket == $listener) {
                my $new = $listener->accept or next;
                $select->add($new);
                $number{$new} = ++$n;
                $buffer{$new} = '';
                next;
            }
            my $open = sysread $socket, $buffer{$socket}, 65536, length $buffer{$socket};
            while ($open && defined(my $request = next_request(\$buffer{$socket}))) {
                print {$got} pack('NN', $number{$socket}, length $request), $request;
                $open = answer($self, $socket, $request);
            }
            next if $open;
            $select->remove($socket);
            delete $_->{$socket} for \(%buffer, %number);
            close $socket;
        }
    }
    return;
}

sub next_request {
    my ($buffer) = @_;
    my $end = index $$buffer, "\r\n\r\n";
    return if $end < 0;
    my ($length) = substr($$buffer, 0, $end) =~ /^Content-Length: (\d+)\r?$/m;
    $end += 4 + ($length // 0);
    return length $$buffer >= $end ? substr $$buffer, 0, $end, '' : undef;
}

# Whether the connection stays.
sub answer {
    my ($self, $socket, $request) = @_;
    my ($file) = sort glob "$self->{dir}/reply.??????";
    if (!$file) {
        my ($body) = $request =~ /\r\n\r\n(.*)/s;
        my $chat = eval { JSON::PP->new->utf8->decode($body) };
        my $text = $json->encode({id => 'w', object => 'chat.completion', model => 'wire',
            choices => [{index => 0, finish_reason => 'stop', message => {role => 'assistant', content => $chat->{messages}[-1]{content}}}]});
        syswrite $socket, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " . length($text) . "\r\n\r\n$text";
        return 1;
    }
    my $parts = $json->decode(AIPTest::slurp($file));
    unlink $file;
    for my $part (@$parts) {
        return 0 if $part eq 'close';
        if ($part =~ /^[\d.]+\z/) {
            select undef, undef, undef, $part;
            next;
        }
        while (length $part) {
            my $written = syswrite $socket, $part;
            return 0 unless defined $written;
            substr $part, 0, $written, '';
        }
    }
    return 1;
}

1;
