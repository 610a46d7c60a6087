# SPDX-License-Identifier: Apache-2.0
# What a process holds, as Linux tells it: its children, open file descriptors, memory.
#
#   my @pids = children($pid);                 # direct ones
#   my $n = descriptors($pid);                 # open file descriptors
#   my $kib = rss_kib($pid);                   # resident, of which shared pages count fully
#   my $kib = anonymous_kib($pid);             # resident and its own: heap, stacks, pools
package AIPTest::Process;

use strict;
use warnings FATAL => 'all';
use Exporter qw(import);
our @EXPORT = qw(children descriptors rss_kib anonymous_kib);

sub children {
    my ($parent) = @_;
    my @found;
    for my $path (glob '/proc/[0-9]*/stat') {
        open my $in, '<', $path or next; # it has ended meanwhile
        my $line = <$in> // next;
        my ($pid, $state, $of) = $line =~ /^(\d+) \(.*\) (\S) (\d+)/s or next;
        push @found, $pid if $of == $parent && $state ne 'Z';
    }
    @found = sort { $a <=> $b } @found;
    return @found; # a number in scalar context
}

# 0 for a process that has ended.
sub descriptors {
    my ($pid) = @_;
    opendir my $dir, "/proc/$pid/fd" or return 0;
    return scalar grep {/^\d+$/} readdir $dir;
}

sub status_field {
    my ($pid, $name) = @_;
    open my $in, '<', "/proc/$pid/status" or return 0;
    while (my $line = <$in>) {
        return $1 if $line =~ /^\Q$name\E:\s*(\d+)/;
    }
    return 0;
}

sub rss_kib { return status_field($_[0], 'VmRSS') }

sub anonymous_kib { return status_field($_[0], 'RssAnon') }

1;
