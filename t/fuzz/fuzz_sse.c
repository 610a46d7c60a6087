/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds event streams to the reader. The first byte of the input chooses the limit, then come the
 * sizes of reads (see fuzz.h). Checked: the raw parts are the input, and the events are those that
 * a second reader finds, whatever the pieces. The second reader is written line by line after
 * WHATWG HTML, section 9.2.6, for a stream that is there as a whole. */

#include "fuzz.h"

#include "aip/sse.h"

typedef struct event_t {
    char *data, *name;
    size_t n_data, n_name;
} event_t;

typedef struct events_t {
    event_t *list;
    size_t n;
} events_t;

typedef struct seen_t {
    const char *expected; /* what the raw parts must be */
    size_t at, len;
    events_t events;
} seen_t;

static void add(events_t *events, event_t event)
{
    events->list = realloc(events->list, (events->n + 1) * sizeof event);
    require(events->list != NULL);
    events->list[events->n++] = event;
}

static void drop(events_t *events)
{
    for (size_t i = 0; i < events->n; i++) {
        free(events->list[i].data);
        free(events->list[i].name);
    }
    free(events->list);
}

static void append(char **text, size_t *n, const char *more, size_t len)
{
    *text = realloc(*text, *n + len + 1);
    require(*text != NULL);
    if (len)
        memcpy(*text + *n, more, len);
    *n += len;
}

/* ---- the second reader ---- */

typedef struct standard_t {
    events_t *events;
    event_t buffers; /* "data buffer", "event type buffer" */
    size_t begin;    /* of the event, for the limit, which is ours */
} standard_t;

/* "Process the field." Of the other fields nothing is known here. */
static void process_field(standard_t *s, const char *name, size_t n_name, const char *value,
                          size_t n_value)
{
    if (n_name == 5 && memcmp(name, "event", 5) == 0) {
        s->buffers.n_name = 0;
        append(&s->buffers.name, &s->buffers.n_name, value, n_value);
    } else if (n_name == 4 && memcmp(name, "data", 4) == 0) {
        append(&s->buffers.data, &s->buffers.n_data, value, n_value);
        append(&s->buffers.data, &s->buffers.n_data, "\n", 1);
    }
}

static void process_line(standard_t *s, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);

    if (colon == line)
        return; /* "Ignore the line." */
    if (!colon) {
        process_field(s, line, len, "", 0);
        return;
    }
    const char *value = colon + 1;
    if (value < line + len && *value == ' ')
        value++;
    process_field(s, line, (size_t)(colon - line), value, (size_t)(line + len - value));
}

/* "Dispatch the event." What is longer than the limit is none. */
static void dispatch(standard_t *s, size_t size, size_t max)
{
    if (s->buffers.n_data == 0 || size > max) {
        free(s->buffers.data);
        free(s->buffers.name);
    } else {
        s->buffers.n_data--; /* "remove the last character" */
        add(s->events, s->buffers);
    }
    s->buffers = (event_t){.data = NULL};
}

static void read_as_standard(const char *text, size_t len, size_t max, events_t *events)
{
    standard_t s = {.events = events};
    size_t at = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

    while (at < len) {
        size_t end = at;

        while (end < len && text[end] != '\r' && text[end] != '\n')
            end++;
        if (end == len)
            break; /* the stream ends inside a line, or the event is not complete: discarded */
        const size_t next = end + (text[end] == '\r' && end + 1 < len && text[end + 1] == '\n') + 1;
        if (end == at) {
            dispatch(&s, end + 1 - s.begin, max);
            s.begin = next;
        } else {
            process_line(&s, text + at, end - at);
        }
        at = next;
    }
    free(s.buffers.data);
    free(s.buffers.name);
}

/* ---- ours ---- */

static bool on_event(void *ctx, const aip_sse_event_t *event)
{
    seen_t *s = ctx;
    event_t copy = {.data = NULL};

    require(event->raw.len > 0 && event->raw.len <= s->len - s->at);
    require(memcmp(event->raw.data, s->expected + s->at, event->raw.len) == 0);
    s->at += event->raw.len;
    require(!event->partial || (!event->data.data && !event->name.data));
    require(event->data.len < event->raw.len && event->name.len < event->raw.len);
    require(event->data.data || event->data.len == 0);
    if (event->data.data) {
        append(&copy.data, &copy.n_data, event->data.data, event->data.len);
        append(&copy.name, &copy.n_name, event->name.data, event->name.len);
        add(&s->events, copy);
    }
    return true;
}

static void check(const char *data, size_t len, size_t max, cuts_t cuts, const events_t *expected)
{
    aip_sse_t *sse = aip_sse_create(fuzz_pool(), max);
    seen_t s = {.expected = data, .len = len};

    for (size_t at = 0, n; at < len; at += n) {
        n = fuzz_cut(&cuts, len - at);
        char *copy = fuzz_copy(data + at, n);
        require(aip_sse_feed(sse, copy, n, on_event, &s));
        free(copy);
    }
    require(aip_sse_finish(sse, on_event, &s));
    require(s.at == len && s.events.n == expected->n);
    for (size_t i = 0; i < expected->n; i++) {
        const event_t *a = &s.events.list[i], *b = &expected->list[i];

        require(a->n_data == b->n_data && memcmp(a->data, b->data, a->n_data) == 0);
        require(a->n_name == b->n_name && (!a->n_name || memcmp(a->name, b->name, a->n_name) == 0));
    }
    drop(&s.events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    events_t expected = {.list = NULL};

    if (size < 2)
        return 0;
    const size_t max = data[0] < 128 ? data[0] : 1 << 20;
    data++;
    size--;
    const cuts_t cuts = fuzz_cuts(&data, &size);
    const char *text = (const char *)data;
    read_as_standard(text, size, max, &expected);
    check(text, size, max, cuts, &expected);
    check(text, size, max, IN_ONE_PIECE, &expected);
    check(text, size, max, BYTE_BY_BYTE, &expected);
    drop(&expected);
    apr_pool_clear(fuzz_pool());
    return 0;
}
