# SPDX-License-Identifier: Apache-2.0
"""From the measurements of a run to its tables, for the terminal and as Markdown."""
from .load import percentile
from .place import Failure

MB = 1e6
HEADS = {
    'requests': ['contender', 'req/s', 'ratio', 'quartiles', 'cpu us', 'cpu ratio', 'p50 us', 'p99 us', '+p99 ProxyPass',
                 '+p99 direct', 'RSS MB', 'errors'],
    'streams': ['contender', 'right', 'wrong', 'first p50 ms', 'first p99 ms', 'cpu us/stream', 'RSS over idle MB',
                'PSS over idle MB', 'idle MB'],
    'growth': ['contender', 'requests', 'errors', 'RSS before MB', 'in the middle', 'after', 'growth', 'second half'],
}
HEADS['http2'] = HEADS['failing'] = HEADS['requests']


def median(values):
    return percentile(values, 0.5)


class Figures:
    """Measurements by cell and contender."""

    def __init__(self, measured):
        self.cells, self.names, self.by = [], [], {}
        for m in measured:
            if m['cell'] not in self.cells:
                self.cells.append(m['cell'])
            if m['contender'] not in self.names:
                self.names.append(m['contender'])
            self.by.setdefault((str(m['cell']), m['contender']), {})[m['round']] = m

    def of(self, cell, name):
        return self.by.get((str(cell), name), {})

    def list(self, cell, name, what):
        return [m[what] for m in self.of(cell, name).values() if m.get(what) is not None]

    def against(self, cell, name, base, what, how):
        """how(own, base) within each round."""
        mine, other = self.of(cell, name), self.of(cell, base)
        return [how(mine[r][what], other[r][what]) for r in mine
                if r in other and mine[r].get(what) is not None and other[r].get(what)]

    def base(self, name):
        """ProxyPass under the same MPM."""
        mpm = name.partition(' (')[2]
        for base in (f'proxypass ({mpm}', 'proxypass', 'proxypass (event)', 'proxypass (worker)'):
            if base in self.names:
                return base
        return None


def text(value, form='.0f'):
    return '-' if value is None else format(value, form)


def signed(values):
    return f'{median(values):+.0f}' if values else '-'


def ratio(own, base):
    return own / base


def difference(own, base):
    return own - base


def request_row(f, cell, name):
    base = f.base(name)
    ratios = f.against(cell, name, base, 'req_s', ratio)
    cpu = f.list(cell, name, 'cpu_us')
    cpu_ratios = f.against(cell, name, base, 'cpu_us', ratio)
    rss = f.list(cell, name, 'rss')
    own = name == base
    return [name, text(median(f.list(cell, name, 'req_s'))), text(median(ratios), '.2f') if ratios else '-',
            f'{percentile(ratios, 0.25):.2f}-{percentile(ratios, 0.75):.2f}' if ratios and not own else '-',
            text(median(cpu), '.1f') if cpu else '-', text(median(cpu_ratios), '.2f') if cpu_ratios else '-',
            text(median(f.list(cell, name, 'p50_us'))), text(median(f.list(cell, name, 'p99_us'))),
            '-' if own else signed(f.against(cell, name, base, 'p99_us', difference)),
            '-' if name == 'direct' else signed(f.against(cell, name, 'direct', 'p99_us', difference)),
            text(median(rss) / MB) if rss else '-', text(sum(f.list(cell, name, 'errors')))]


def stream_row(f, cell, name):
    def mb(what):
        values = f.list(cell, name, what)
        return text(median(values) / MB, '.1f') if values else '-'
    cpu = f.list(cell, name, 'cpu_us')
    return [name, text(sum(f.list(cell, name, 'right'))), text(sum(f.list(cell, name, 'errors'))),
            text(median(f.list(cell, name, 'p50_us')) / 1000, '.1f'), text(median(f.list(cell, name, 'p99_us')) / 1000, '.1f'),
            text(median(cpu)) if cpu else '-', mb('over'), mb('over_pss'), mb('idle')]


def growth_row(f, cell, name):
    m = list(f.of(cell, name).values())[0]
    return [name, str(m['requests']), str(m['errors']), *(f'{m[x] / MB:.1f}' for x in ('before', 'middle', 'after')),
            f'{(m["after"] - m["before"]) / MB:+.1f}', f'{m["late"] / MB:+.1f}']


ROWS = {'requests': request_row, 'http2': request_row, 'failing': request_row, 'streams': stream_row, 'growth': growth_row}


def title(run, cell):
    words = []
    if 'first' in cell:
        words.append('first target refuses connections' if cell['first'] == 'refuses' else f'first target answers {cell["first"]}')
    if 'streams' in cell:
        words.append(f'{cell["streams"]} streams, {cell["events"]} events, one each {cell["interval_ms"]} ms')
    if 'body' in cell:
        words.append(f'{cell["body"]} B')
    if 'conns' in cell:
        words.append(f'{cell["conns"]} connection{"s" if cell["conns"] != 1 else ""}')
    if run['kind'] == 'http2':
        words.append(f'HTTP/2 over TLS, {run["h2_streams"]} requests each')
    if 'requests' in cell:
        words.append(f'{cell["requests"]} requests')
    if run['tls']:
        words.append('https upstream')
    return ', '.join(words)


def tables(run):
    """[(title, head, rows)], one table for each cell."""
    f = Figures(run['measurements'])
    names = [n for n in run['order'] if n in f.names]
    return [(title(run, cell), HEADS[run['kind']], [ROWS[run['kind']](f, cell, n) for n in names if f.of(cell, n)])
            for cell in f.cells]


def machine(*all_runs):
    m = all_runs[0]['machine']
    software = dict.fromkeys(v for run in all_runs for v in [*run['versions'].values(), *(run['machine'][x] for x in ('openssl', 'wrk', 'h2load'))] if v)
    return [f'machine: {m["cpu"]}, {m["cores"]} cores, {m["memory_gb"]} GB, {m["kernel"]}, {m["system"]}', f'software: {"; ".join(software)}']


def facts(run):
    m = run['machine']
    return [f'run: {run["rounds"]} rounds' + (f' of {run["seconds"]} s' if run['kind'] != 'streams' else '') +
            f', MPM {" and ".join(run["mpms"])}, load before it {m["load"]}, {m["date"]}; answers of {run["answer"]} B']


def as_text(run):
    lines = machine(run) + facts(run)
    for name, head, rows in tables(run):
        widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
        lines += ['', name] + ['  '.join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths)))
                               for r in [head, *rows]]
    return '\n'.join(lines)


def as_markdown(run, with_machine=True):
    lines = ['```sh', run['command'], '```', '', *(f'- {line}' for line in (machine(run) if with_machine else []) + facts(run))]
    for name, head, rows in tables(run):
        lines += ['', f'**{name}**', '', '| ' + ' | '.join(head) + ' |', '|---' + '|--:' * (len(head) - 1) + '|']
        lines += ['| ' + ' | '.join(r) + ' |' for r in rows]
    return '\n'.join(lines)


def fill(document, by_name):
    """The document with the tables of the runs {name: run} between its marks <!-- name --> and <!-- end name -->. A mark
    without a run keeps what it has; a run without a mark is an error."""
    parts = {name: as_markdown(run, False) for name, run in by_name.items()}
    parts['machine'] = '\n'.join(f'- {line}' for line in machine(*by_name.values()))
    for name, text_of in parts.items():
        begin, end = f'<!-- {name} -->\n', f'<!-- end {name} -->'
        if begin not in document or end not in document:
            raise Failure(f'the document has no mark {begin.strip()} with {end} behind it')
        head, _, rest = document.partition(begin)
        document = f'{head}{begin}{text_of}\n{end}{rest.partition(end)[2]}'
    return document


def errors(run):
    """[text] for every contender and cell with errors."""
    f = Figures(run['measurements'])
    return [f'{title(run, cell)}, {name}: {sum(f.list(cell, name, "errors"))} errors'
            for cell in f.cells for name in f.names if sum(f.list(cell, name, 'errors'))]
