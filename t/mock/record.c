/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the mock received: a ring of records with the bytes as they came (header lines are parsed
 * when somebody asks), and counters of events per port. When the limits of the ring are reached the
 * oldest records go, and the counts say how many. Called by serve.c while requests come in, by
 * control.c to tell.
 */
#include "mock.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_MAX ((size_t)256 * 1024 * 1024)

const char *const mock_event_names[MOCK_EV_N] = {"opened",  "closed",   "head",
                                                 "request", "answered", "early_close"};

unsigned long mock_record_limit = 20000;
bool mock_events_dirty;

static mock_record_t *ring; /* mock_record_limit places; record seq is at seq % limit */
static uint64_t last_seq; /* goes on over a reset, so that a late writer never hits a new record */
static uint64_t first_seq = 1; /* oldest kept */
static uint64_t reset_seq;     /* the last one before the reset */
static size_t bytes;

static void drop_oldest(void)
{
    mock_record_t *r = &ring[first_seq++ % mock_record_limit];

    bytes -= r->head_len + r->body_len;
    free(r->data);
    *r = (mock_record_t){.seq = 0};
}

static void make_room(size_t extra)
{
    while (first_seq <= last_seq &&
           (last_seq + 1 - first_seq >= mock_record_limit || bytes + extra > BYTES_MAX)) {
        drop_oldest();
    }
}

uint64_t mock_record_add(const mock_listener_t *l, uint64_t conn_id, unsigned conn_request,
                         mock_slice_t head)
{
    mock_record_t *r;

    if (!mock_record_limit) {
        return ++last_seq;
    }
    if (!ring) {
        ring = mock_alloc(mock_record_limit * sizeof(*ring));
    }
    make_room(head.len);
    last_seq++;
    r = &ring[last_seq % mock_record_limit];
    *r = (mock_record_t){
        .seq = last_seq,
        .listener = l,
        .conn_id = conn_id,
        .conn_request = conn_request,
        .wall_ms = mock_wall_ms(),
        .head_us = mock_now_us(),
        .head_len = head.len,
        .data = mock_realloc(NULL, head.len),
    };
    memcpy(r->data, head.p, head.len);
    bytes += head.len;
    return last_seq;
}

mock_record_t *mock_record_find(uint64_t seq)
{
    if (!mock_record_limit || seq < first_seq || seq > last_seq) {
        return NULL;
    }
    return &ring[seq % mock_record_limit];
}

void mock_record_body(uint64_t seq, mock_slice_t body, bool complete)
{
    mock_record_t *r = mock_record_find(seq);

    if (!r) {
        return;
    }
    bytes = bytes - r->body_len + body.len;
    r->data = mock_realloc(r->data, r->head_len + body.len);
    if (body.len) {
        memcpy(r->data + r->head_len, body.p, body.len);
    }
    r->body_len = body.len;
    r->complete = complete;
}

void mock_record_reset(void)
{
    while (mock_record_limit && first_seq <= last_seq) {
        drop_oldest();
    }
    first_seq = last_seq + 1;
    reset_seq = last_seq;
    for (mock_listener_t *l = mock_listeners; l; l = l->next) {
        memset(l->count, 0, sizeof(l->count));
    }
}

void mock_event_count(mock_listener_t *l, mock_event_t ev)
{
    l->count[ev]++;
    mock_events_dirty = true;
}

static void set_text(json_t *o, const char *name, const char *name64, mock_slice_t text)
{
    json_t *s = json_stringn(text.p, text.len);

    if (s) {
        json_object_set_new(o, name, s);
    } else {
        mock_buf_t b = {.data = NULL};

        mock_buf_base64(&b, text.p, text.len);
        json_object_set_new(o, name64, json_stringn(b.data, b.len));
        mock_buf_free(&b);
    }
}

static json_t *latin1(mock_slice_t s)
{
    json_t *t = json_stringn(s.p, s.len);
    mock_buf_t b = {.data = NULL};

    for (size_t i = 0; i < s.len && !t; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char two[2] = {(char)(0xc0 | (c >> 6)), (char)(0x80 | (c & 0x3f))};

        mock_buf_add(&b, c < 0x80 ? s.p + i : two, c < 0x80 ? 1 : 2);
    }
    if (!t) {
        t = json_stringn(b.data ? b.data : "", b.len);
    }
    mock_buf_free(&b);
    return t;
}

json_t *mock_request_json(const char *head, size_t head_len, mock_slice_t body)
{
    json_t *o = json_object();
    json_t *headers = json_array();
    const char *eol = memchr(head, '\n', head_len);
    const char *end = eol ? eol : head + head_len;
    const char *sp = memchr(head, ' ', (size_t)(end - head));
    const char *sp2 = sp ? memchr(sp + 1, ' ', (size_t)(end - sp - 1)) : NULL;
    size_t pos = 0;
    mock_slice_t name;
    mock_slice_t value;

    if (sp && sp2) {
        json_object_set_new(o, "method", latin1((mock_slice_t){head, (size_t)(sp - head)}));
        json_object_set_new(o, "path", latin1((mock_slice_t){sp + 1, (size_t)(sp2 - sp - 1)}));
    }
    while (mock_http_header_next(head, head_len, &pos, &name, &value)) {
        json_t *pair = json_array();

        json_array_append_new(pair, latin1(name));
        json_array_append_new(pair, latin1(value));
        json_array_append_new(headers, pair);
    }
    json_object_set_new(o, "headers", headers);
    set_text(o, "body", "body_base64", body);
    return o;
}

static json_t *record_json(const mock_record_t *r)
{
    mock_slice_t body = {r->data + r->head_len, r->body_len};
    json_t *o = mock_request_json(r->data, r->head_len, body);

    json_object_set_new(o, "seq", json_integer((json_int_t)r->seq));
    json_object_set_new(o, "port", json_integer(r->listener->port));
    json_object_set_new(o, "name", json_string(r->listener->name));
    json_object_set_new(o, "tls", json_boolean(r->listener->tls));
    json_object_set_new(o, "connection", json_integer((json_int_t)r->conn_id));
    json_object_set_new(o, "connection_request", json_integer(r->conn_request));
    json_object_set_new(o, "time_ms", json_integer(r->wall_ms));
    json_object_set_new(o, "complete", json_boolean(r->complete));
    json_object_set_new(o, "answered", json_boolean(r->answered));
    json_object_set_new(o, "closed_early", json_boolean(r->closed_early));
    if (r->answered) {
        json_object_set_new(o, "answered_after_ms",
                            json_real((double)r->answered_after_us / 1000.0));
    }
    if (r->closed_early) {
        json_object_set_new(o, "closed_after_ms", json_real((double)r->closed_after_us / 1000.0));
    }
    json_object_set_new(o, "malformed", r->malformed ? json_string(r->malformed) : json_null());
    return o;
}

json_t *mock_record_list(int port, uint64_t after)
{
    json_t *list = json_array();

    for (uint64_t s = first_seq; mock_record_limit && s <= last_seq; s++) {
        const mock_record_t *r = mock_record_find(s);

        if (s > after && (!port || r->listener->port == port)) {
            json_array_append_new(list, record_json(r));
        }
    }
    return list;
}

static json_t *port_counts(const mock_listener_t *l, mock_event_t from, mock_event_t to)
{
    json_t *o = json_object();

    json_object_set_new(o, "port", json_integer(l->port));
    json_object_set_new(o, "name", json_string(l->name));
    for (mock_event_t ev = from; ev <= to; ev++) {
        json_object_set_new(o, mock_event_names[ev], json_integer((json_int_t)l->count[ev]));
    }
    return o;
}

json_t *mock_record_counts(void)
{
    json_t *o = json_object();
    json_t *ports = json_array();
    uint64_t kept = last_seq + 1 - first_seq;
    unsigned long sum[MOCK_EV_N] = {0};

    for (const mock_listener_t *l = mock_listeners; l; l = l->next) {
        for (mock_event_t ev = MOCK_EV_HEAD; ev <= MOCK_EV_EARLY_CLOSE; ev++) {
            sum[ev] += l->count[ev];
        }
        if (!l->control) {
            json_array_append_new(ports, port_counts(l, MOCK_EV_HEAD, MOCK_EV_EARLY_CLOSE));
        }
    }
    for (mock_event_t ev = MOCK_EV_HEAD; ev <= MOCK_EV_EARLY_CLOSE; ev++) {
        json_object_set_new(o, mock_event_names[ev], json_integer((json_int_t)sum[ev]));
    }
    kept = mock_record_limit ? kept : 0;
    json_object_set_new(o, "recorded", json_integer((json_int_t)kept));
    json_object_set_new(o, "dropped", json_integer((json_int_t)(last_seq - reset_seq - kept)));
    json_object_set_new(o, "behaviours_left", json_integer((json_int_t)mock_behave_left()));
    json_object_set_new(o, "ports", ports);
    return o;
}

json_t *mock_record_connections(void)
{
    json_t *list = json_array();

    for (const mock_listener_t *l = mock_listeners; l; l = l->next) {
        json_t *o;

        if (!l->control) {
            o = port_counts(l, MOCK_EV_OPENED, MOCK_EV_CLOSED);
            json_object_set_new(o, "open", json_integer(l->open));
            json_object_set_new(o, "listening", json_boolean(l->watch.fd >= 0));
            json_array_append_new(list, o);
        }
    }
    return list;
}
