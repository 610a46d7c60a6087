/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a stream of server-sent events into whole events (WHATWG HTML, section 9.2.6) without losing
 * or changing a byte: the raw parts, put together, are what was fed. Fed from the exchange's sink
 * in the thread of the request. An event that lies in one read is reported where it lies; only one
 * that is split over reads is copied. */

#include "aip/sse.h"

#include <string.h>

struct aip_sse_t {
    apr_pool_t *pool;
    size_t max_event;
    char *buf; /* the unfinished event */
    size_t len, cap;
    char *join; /* data of several lines */
    size_t join_cap;
    bool blank;    /* at the start of a line */
    bool after_cr; /* the last byte was a CR that ended a line: a LF now belongs to it */
    bool oversize; /* inside an event over the limit: passes in pieces */
    bool began;    /* the first event is over: no byte order mark any more */
    bool stopped;
};

/* A place to call back to. */
typedef struct report_t {
    aip_sse_fn fn;
    void *ctx;
} report_t;

aip_sse_t *aip_sse_create(apr_pool_t *pool, size_t max_event)
{
    aip_sse_t *sse = apr_pcalloc(pool, sizeof(*sse));

    sse->pool = pool;
    sse->max_event = max_event;
    sse->blank = true;
    return sse;
}

/* Makes room for `need` bytes, `used` of them filled. Doubles, so that what the pool keeps stays
 * below twice the limit. */
static void grow(aip_sse_t *sse, char **buf, size_t *cap, size_t used, size_t need)
{
    size_t size = *cap ? *cap : 2048;
    char *bigger;

    if (need <= *cap) {
        return;
    }
    while (size < need) {
        size *= 2;
    }
    bigger = apr_palloc(sse->pool, size);
    if (used > 0) {
        memcpy(bigger, *buf, used);
    }
    *buf = bigger;
    *cap = size;
}

static void append(aip_sse_t *sse, const char *data, size_t len)
{
    grow(sse, &sse->buf, &sse->cap, sse->len, sse->len + len);
    memcpy(sse->buf + sse->len, data, len);
    sse->len += len;
}

/* The first end of line in [p, end), NULL: none. *lf remembers where the next LF is (end: none), so
 * that a text of bare CRs is not searched to its end for each line. */
static const char *find_eol(const char *p, const char *end, const char **lf)
{
    const char *cr;

    if (!*lf || *lf < p) {
        *lf = memchr(p, '\n', (size_t)(end - p));
        if (!*lf) {
            *lf = end;
        }
    }
    cr = memchr(p, '\r', (size_t)(*lf - p));
    if (cr) {
        return cr;
    }
    return *lf == end ? NULL : *lf;
}

/* How many of the bytes belong to the current event; *ended tells whether the last of them ends it.
 * */
static size_t scan(aip_sse_t *sse, const char *data, size_t len, bool *ended)
{
    const char *p = data, *end = data + len, *eol, *lf = NULL;

    *ended = false;
    while (p < end) {
        bool was_blank;

        if (sse->after_cr) {
            sse->after_cr = false;
            if (*p == '\n') {
                p++;
                continue;
            }
        }
        eol = find_eol(p, end, &lf);
        was_blank = sse->blank && eol == p;
        sse->blank = eol != NULL;
        if (!eol) {
            return len;
        }
        p = eol + 1;
        if (*eol == '\r') {
            sse->after_cr = p == end;
            p += p < end && *p == '\n' ? 1 : 0;
        }
        if (was_blank) {
            /* Reported at its CR, without waiting for a LF that may never come; one that does come
             * counts as one more empty line, which says nothing. */
            sse->after_cr = false;
            *ended = true;
            return (size_t)(p - data);
        }
    }
    return len;
}

/* Appends one data line; the second one moves the first into the buffer where lines are joined. */
static void add_data(aip_sse_t *sse, aip_sse_event_t *event, aip_span_t value)
{
    size_t used = event->data.len;

    if (!event->data.data) {
        event->data = value;
        return;
    }
    if (event->data.data != sse->join) {
        grow(sse, &sse->join, &sse->join_cap, 0, event->raw.len); /* holds all lines there can be */
        memcpy(sse->join, event->data.data, used);
    }
    sse->join[used] = '\n';
    memcpy(sse->join + used + 1, value.data, value.len);
    event->data = (aip_span_t){sse->join, used + 1 + value.len};
}

static void read_line(aip_sse_t *sse, aip_sse_event_t *event, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    size_t name = colon ? (size_t)(colon - line) : len;
    size_t skip = colon ? name + 1 : len;

    if (skip < len && line[skip] == ' ') {
        skip++;
    }
    if (name == 4 && memcmp(line, "data", 4) == 0) {
        add_data(sse, event, (aip_span_t){line + skip, len - skip});
    } else if (name == 5 && memcmp(line, "event", 5) == 0) {
        event->name = (aip_span_t){line + skip, len - skip};
    }
}

static bool report_event(aip_sse_t *sse, report_t to, const char *raw, size_t len)
{
    aip_sse_event_t event = {.raw = {raw, len}};
    const char *p = raw, *end = raw + len, *eol, *lf = NULL;

    if (!sse->began && len >= 3 && memcmp(raw, "\xef\xbb\xbf", 3) == 0) {
        p += 3;
    }
    sse->began = true;
    while (p < end && (eol = find_eol(p, end, &lf)) != NULL) {
        read_line(sse, &event, p, (size_t)(eol - p));
        p = eol + 1; /* the LF of a CRLF makes one more line, an empty one, which says nothing */
    }
    return to.fn(to.ctx, &event);
}

static bool report_piece(aip_sse_t *sse, report_t to, const char *raw, size_t len)
{
    aip_sse_event_t event = {.raw = {raw, len}, .partial = true};

    sse->began = true;
    return len == 0 || to.fn(to.ctx, &event);
}

/* What is kept, then `data`, as pieces of an event over the limit. */
static bool report_pieces(aip_sse_t *sse, report_t to, const char *data, size_t len)
{
    size_t kept = sse->len;

    sse->len = 0;
    return report_piece(sse, to, sse->buf, kept) && report_piece(sse, to, data, len);
}

/* `data` ends the event. Its last LF does not count for the limit when it follows a CR: it may come
 * with a later read, and what is over the limit must not depend on how the bytes were split. */
static bool end_event(aip_sse_t *sse, report_t to, const char *data, size_t len)
{
    size_t total = sse->len + len;
    bool crlf = len > 1 && data[len - 1] == '\n' && data[len - 2] == '\r';

    if (sse->oversize || total - (crlf ? 1 : 0) > sse->max_event) {
        sse->oversize = false;
        return report_pieces(sse, to, data, len);
    }
    if (sse->len == 0) {
        return report_event(sse, to, data, len);
    }
    append(sse, data, len);
    sse->len = 0;
    return report_event(sse, to, sse->buf, total);
}

static bool keep(aip_sse_t *sse, report_t to, const char *data, size_t len)
{
    if (sse->oversize || len > sse->max_event - sse->len) {
        sse->oversize = true;
        return report_pieces(sse, to, data, len);
    }
    append(sse, data, len);
    return true;
}

bool aip_sse_feed(aip_sse_t *sse, const char *data, size_t len, aip_sse_fn fn, void *ctx)
{
    report_t to = {fn, ctx};
    bool ok = !sse->stopped;

    while (ok && len > 0) {
        bool ended;
        size_t n = scan(sse, data, len, &ended);

        ok = ended ? end_event(sse, to, data, n) : keep(sse, to, data, n);
        data += n;
        len -= n;
    }
    sse->stopped = !ok;
    return ok;
}

bool aip_sse_finish(aip_sse_t *sse, aip_sse_fn fn, void *ctx)
{
    report_t to = {fn, ctx};

    sse->stopped = sse->stopped || !report_pieces(sse, to, NULL, 0);
    return !sse->stopped;
}
