# SPDX-License-Identifier: Apache-2.0
package AIPTest::Numbered;
# Chats that have a number each, and their lines in a log with AILoggingLogPayloads: which of them are there, and whole.
use strict;
use warnings FATAL => 'all';
use Exporter 'import';

our @EXPORT = qw(numbered number whole);

my $number = 0;

# The next number, and about so many bytes, as a chat.
sub numbered {
    my ($bytes) = @_;
    ++$number;
    return '{"model":"m","messages":[{"role":"user","content":"#' . $number . '#' . 'word ' x ($bytes / 5) . '"}]}';
}

# That of the last chat.
sub number { return $number }

# The number of a line, with or without its end; undef: it is not whole, with its beginning, its text and its end, each once.
sub whole {
    my ($line) = @_;
    return undef if (() = $line =~ /\{"time":"/g) != 1 || (() = $line =~ /"tried_targets":/g) != 1;
    return $line =~ /\A\{"time":"[^#]*"payload":\{"request":"[^#]*#(\d+)#(?:word )*\\".*"took_ms":[\d.]+\}\]\}\}\}\n?\z/ ? $1 : undef;
}

1;
