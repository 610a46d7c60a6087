# SPDX-License-Identifier: Apache-2.0
# Scrapes of ai-metrics, for t/70_*.t: samples as a hash, Prometheus' own checkers, a private httpd.
package AIPTest::Metrics;

use strict;
use warnings FATAL => 'all';
use AIPTest;
use Exporter qw(import);

our @EXPORT = qw(target httpd_with scrape samples sample total promtool openmetrics_errors families undocumented);

# An <AITarget> whose usage is read.
sub target {
    my ($name, $mock, @lines) = @_;
    return join "\n", "<AITarget $name>", 'AIRouteType llm/v1/chat', 'AIModelProvider openai',
        "AIModelOptionsUpstreamUrl ${\url($mock, '/v1/chat/completions')}", 'AILoggingLogStatistics On', @lines, "</AITarget>\n";
}

# A private httpd on SPARE_1 with several children, and /metrics.
sub httpd_with {
    my ($text) = @_;
    my $mpm = mpm() eq 'prefork' ? "StartServers 4\n" : <<'MPM';
StartServers 3
ServerLimit 6
ThreadsPerChild 8
MaxRequestWorkers 48
MinSpareThreads 1
MaxSpareThreads 48
MPM
    return start_httpd(<<"CONF");
Listen 127.0.0.1:\${SPARE_1_PORT}
$mpm
KeepAlive On
MaxKeepAliveRequests 0
AIStatisticsLog "$AIPTest::Setup::t/state/metrics_log"
<Location /metrics>
SetHandler ai-metrics
</Location>
$text
CONF
}

# The text; headers as pairs.
sub scrape {
    my ($path, @headers) = @_;
    my $r = client(port => port('SPARE_1'))->get($path // '/metrics', @headers);
    die "scrape: status $r->{status}\n" if $r->{status} != 200;
    return $r;
}

# "name{a=\"b\",...}" => value, labels sorted; dies when one comes twice or a line is neither a sample nor a comment.
sub samples {
    my ($text) = @_;
    my %got;
    for (split /\n/, $text) {
        next if /^# (HELP|TYPE|UNIT) |^# EOF$/;
        my ($name, $labels, $value) = /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([0-9.]+)$/ or die "no sample: $_\n";
        my $key = $name . '{' . join(',', sort(($labels // '') =~ /([a-z_]+="(?:[^"\\]|\\.)*")/g)) . '}';
        die "twice: $key\n" if exists $got{$key};
        $got{$key} = $value;
    }
    return \%got;
}

# Samples of a name whose labels have all the given ones.
sub matching {
    my ($samples, $name, %labels) = @_;
    return grep {
        my $key = $_;
        $key =~ /^\Q$name\E\{/ && !grep { $key !~ /[{,]\Q$_="$labels{$_}"\E[,}]/ } keys %labels
    } sort keys %$samples;
}

# The value of the one sample with these labels, undef: there is none.
sub sample {
    my ($samples, $name, %labels) = @_;
    my @found = matching($samples, $name, %labels);
    die "several: @found\n" if @found > 1;
    return @found ? $samples->{$found[0]} : undef;
}

sub total {
    my ($samples, $name, %labels) = @_;
    my $sum = 0;
    $sum += $samples->{$_} for matching($samples, $name, %labels);
    return $sum;
}

# Names of families, with _total as they are asked for.
sub families { return $_[0] =~ /^# TYPE (\S+) /mg }

# Families of a text that docs/metrics.md does not tell of.
sub undocumented {
    my ($text) = @_;
    my %told = map { $_ => 1 } slurp(top_dir() . '/docs/metrics.md') =~ /^\| `((?:gen_ai|aiproxy|kong_ai)_\w+)` \| (?:counter|gauge|histogram) /mg;
    return grep { !$told{$_} } families($text);
}

# What promtool says of a text, line by line.
sub promtool {
    my ($text, @command) = @_;
    my ($status, $out, $err) = run_command(['promtool', @command ? @command : qw(check metrics)], $text);
    my @said = grep {/\S/} split /\n/, $out . $err;
    return @said ? @said : $status ? "status $status" : ();
}

# What the strict parser of prometheus_client says of an OpenMetrics text; '' when it is content.
sub openmetrics_errors {
    my ($text) = @_;
    my $file = "$AIPTest::Setup::t/state/openmetrics.$$";
    AIPTest::Setup::write_file($file, $text);
    my ($status, $out, $err) = python(<<'PYTHON', $file);
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
with open(sys.argv[1], encoding="utf-8") as f:
    families = list(text_string_to_metric_families(f.read()))
assert len(families) > 10, families
PYTHON
    unlink $file;
    return $status ? ($out . $err) =~ s/.*\n(?=\S.*\n\z)//sr : '';
}

1;
