/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request and a behaviour to a plan: chooses the body, frames it (length, chunks, until
 * close), cuts, stalls, trickles, and writes the head. One scratch body is reused: the process has
 * one thread. Called by serve.c.
 */
#include "mock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { FRAME_LENGTH, FRAME_CHUNKED, FRAME_CLOSE, FRAME_NONE } frame_t;

typedef struct {
    mock_plan_t *plan;
    const mock_do_t *act;
    frame_t frame;
    size_t budget;  /* wire bytes of the body that may still be sent */
    bool limited;   /* budget counts */
    bool exhausted; /* budget ran out: the end is already in the plan */
} sender_t;

static mock_body_t scratch;

void mock_body_piece(mock_body_t *b, long wait_ms)
{
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 16;
        b->pieces = mock_realloc(b->pieces, b->cap * sizeof(*b->pieces));
    }
    b->pieces[b->n].end = b->bytes.len;
    b->pieces[b->n++].wait_ms = wait_ms;
}

static const char *reason_of(long status)
{
    /* clang-format off */
    static const struct {
        long status;
        const char *text;
    } known[] = {
        {100, "Continue"},
        {103, "Early Hints"},
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    /* clang-format on */

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].status == status) {
            return known[i].text;
        }
    }
    return "Mock";
}

static void end_hard(mock_plan_t *plan, const mock_do_t *d)
{
    mock_plan_step(plan, d->reset ? STEP_RESET : STEP_CLOSE, 0);
}

/* Bytes of the body as they stand on the wire; stops where cut_after_bytes or stall_after_bytes
 * say. */
static void send_wire(sender_t *s, const char *data, size_t len)
{
    if (s->exhausted) {
        return;
    }
    if (!s->limited || len < s->budget) {
        mock_plan_send(s->plan, data, len);
        s->budget -= s->limited ? len : 0;
        return;
    }
    mock_plan_send(s->plan, data, s->budget);
    s->exhausted = true;
    if (s->act->cut_after_bytes >= 0) {
        end_hard(s->plan, s->act);
    } else {
        mock_plan_step(s->plan, STEP_HANG, 0);
    }
}

static void send_piece(sender_t *s, const char *data, size_t len, long wait_ms)
{
    char size[24];

    if (s->exhausted) {
        return;
    }
    if (s->frame == FRAME_CHUNKED && len) {
        int n = snprintf(size, sizeof(size), "%zx\r\n", len);

        send_wire(s, size, (size_t)n);
        send_wire(s, data, len);
        send_wire(s, "\r\n", 2);
    } else {
        send_wire(s, data, len);
    }
    if (!s->exhausted) {
        mock_plan_wait(s->plan, wait_ms);
    }
}

/* Trickle and split cut the body into equal pieces, whatever pieces it came in. */
static void send_split(sender_t *s, const mock_body_t *b, size_t size, long wait_ms)
{
    for (size_t at = 0; at < b->bytes.len; at += size) {
        size_t left = b->bytes.len - at;

        send_piece(s, b->bytes.data + at, left < size ? left : size, wait_ms);
    }
}

static void send_body(sender_t *s, const mock_body_t *b)
{
    const mock_do_t *d = s->act;
    size_t at = 0;

    s->limited = d->cut_after_bytes >= 0 || d->stall_after_bytes >= 0;
    s->budget = (size_t)(d->cut_after_bytes >= 0 ? d->cut_after_bytes : d->stall_after_bytes);
    if (s->limited && !s->budget) {
        send_wire(s, "", 0);
    } else if (d->trickle) {
        send_split(s, b, (size_t)d->trickle_bytes, d->trickle_interval_ms);
    } else if (d->stream_split_bytes) {
        send_split(s, b, (size_t)d->stream_split_bytes, d->stream_interval_ms);
    } else {
        for (size_t i = 0; i < b->n; i++) {
            send_piece(s, b->bytes.data + at, b->pieces[i].end - at, b->pieces[i].wait_ms);
            at = b->pieces[i].end;
        }
        send_piece(s, b->bytes.data + at, b->bytes.len - at, 0);
    }
    if (d->trickle_forever && !s->exhausted) {
        size_t again = s->plan->n;

        send_piece(s, " ", 1, d->trickle_interval_ms > 0 ? d->trickle_interval_ms : 1);
        if (!s->exhausted) {
            mock_plan_step(s->plan, STEP_REPEAT, again);
        }
    }
}

static bool cuts_stream(const mock_do_t *d)
{
    return d->stream_end && !strcmp(json_string_value(d->stream_end), "cut");
}

static bool path_ends(mock_slice_t path, const char *suffix)
{
    size_t n = strlen(suffix);

    return path.len >= n && !memcmp(path.p + path.len - n, suffix, n);
}

static bool method_is(const mock_request_t *q, const char *method)
{
    return q->method.len == strlen(method) && !memcmp(q->method.p, method, q->method.len);
}

/* true: an SSE stream */
static bool default_body(mock_body_t *b, const mock_request_t *q, const mock_do_t *d)
{
    mock_slice_t path = mock_target_path(q->target);

    if (d->stream) {
        mock_openai_stream(b, q, d);
        return true;
    }
    if (b->status >= 400) {
        mock_openai_error(b, b->status, "scripted by the mock upstream");
    } else if (!method_is(q, "POST")) {
        if (path_ends(path, "/models")) {
            mock_openai_models(b);
        } else {
            b->status = d->status ? d->status : 404;
            mock_openai_error(b, b->status, "the mock upstream has nothing here");
        }
    } else if (path_ends(path, "/embeddings")) {
        mock_embed_answer(b, q);
    } else if (q->chat.stream) {
        mock_openai_stream(b, q, d);
        return true;
    } else {
        mock_openai_chat(b, q, d);
    }
    return false;
}

static void pad_body(mock_body_t *b, size_t size)
{
    /* White space behind JSON is still JSON; a body that must be shorter than its JSON is plain
     * filler. */
    char fill = b->bytes.len <= size ? ' ' : 'x';

    if (fill == 'x') {
        b->bytes.len = 0;
        b->content_type = "text/plain";
    }
    mock_buf_reserve(&b->bytes, size - b->bytes.len);
    memset(b->bytes.data + b->bytes.len, fill, size - b->bytes.len);
    b->bytes.len = size;
}

static bool make_body(mock_body_t *b, const mock_request_t *q, const mock_do_t *d)
{
    bool sse = false;

    b->bytes.len = 0;
    b->n = 0;
    b->content_type = "application/json";
    b->status = d->status ? d->status : 200;
    if (d->body) {
        mock_buf_add(&b->bytes, json_string_value(d->body), json_string_length(d->body));
    } else if (d->echo) {
        json_t *o = mock_request_json(q->head, q->head_len, q->body);
        char *text = json_dumps(o, JSON_COMPACT);

        mock_buf_str(&b->bytes, text);
        free(text);
        json_decref(o);
    } else {
        sse = default_body(b, q, d);
    }
    if (d->body_size > 0) {
        pad_body(b, (size_t)d->body_size);
    }
    return sse;
}

static void write_extra_headers(mock_buf_t *h, const mock_do_t *d)
{
    size_t i;
    json_t *pair;

    json_array_foreach(d->headers, i, pair)
    {
        json_t *name = json_array_get(pair, 0);
        json_t *value = json_array_get(pair, 1);

        mock_buf_add(h, json_string_value(name), json_string_length(name));
        mock_buf_add(h, ": ", 2);
        mock_buf_add(h, json_string_value(value), json_string_length(value));
        mock_buf_add(h, "\r\n", 2);
    }
}

static void write_head(mock_buf_t *h, const mock_body_t *b, const mock_do_t *d, frame_t frame,
                       bool close)
{
    mock_buf_printf(h, "HTTP/1.1 %ld %s\r\n", b->status,
                    d->reason ? json_string_value(d->reason) : reason_of(b->status));
    if (!d->content_type) {
        mock_buf_printf(h, "Content-Type: %s\r\n", b->content_type);
    } else if (json_is_string(d->content_type)) {
        mock_buf_printf(h, "Content-Type: %s\r\n", json_string_value(d->content_type));
    }
    if (frame == FRAME_LENGTH) {
        mock_buf_printf(h, "Content-Length: %zu\r\n", b->bytes.len);
    } else if (frame == FRAME_CHUNKED) {
        mock_buf_str(h, "Transfer-Encoding: chunked\r\n");
    }
    if (close) {
        mock_buf_str(h, "Connection: close\r\n");
    }
    write_extra_headers(h, d);
    mock_buf_str(h, "\r\n");
}

static void send_interim(mock_plan_t *plan, const mock_do_t *d)
{
    size_t i;
    json_t *v;
    char line[96];

    json_array_foreach(d->interim, i, v)
    {
        long status = (long)json_integer_value(v);
        int n = snprintf(line, sizeof(line), "HTTP/1.1 %ld %s\r\n%s\r\n", status, reason_of(status),
                         status == 103 ? "Link: </mock>; rel=preload\r\n" : "");

        mock_plan_send(plan, line, (size_t)n);
    }
}

static void send_head(mock_plan_t *plan, const mock_buf_t *h, const mock_do_t *d)
{
    size_t size = d->trickle_head ? (size_t)d->trickle_bytes : h->len;

    for (size_t at = 0; at < h->len; at += size) {
        size_t left = h->len - at;

        mock_plan_send(plan, h->data + at, left < size ? left : size);
        mock_plan_wait(plan, d->trickle_head ? d->trickle_interval_ms : 0);
    }
    mock_plan_wait(plan, d->head_delay_ms);
}

static frame_t choose_frame(const mock_body_t *b, const mock_do_t *d, bool sse)
{
    if (d->no_framing || b->status == 204 || b->status == 304) {
        return FRAME_NONE;
    }
    if (d->until_close) {
        return FRAME_CLOSE;
    }
    return d->chunked || sse || d->trickle_forever ? FRAME_CHUNKED : FRAME_LENGTH;
}

static void send_end(sender_t *s, bool close)
{
    const mock_do_t *d = s->act;

    if (s->frame == FRAME_CHUNKED && !cuts_stream(d)) {
        send_wire(s, "0\r\n\r\n", 5);
    }
    if (s->exhausted) {
        return;
    }
    if (close || d->reset || (s->frame == FRAME_CHUNKED && cuts_stream(d))) {
        end_hard(s->plan, d);
    } else if (d->silent_close_ms >= 0) {
        mock_plan_wait(s->plan, d->silent_close_ms);
        mock_plan_step(s->plan, STEP_CLOSE, 0);
    }
}

static void build_normal(mock_plan_t *plan, const mock_request_t *q, const mock_do_t *d)
{
    static mock_buf_t head;
    bool sse = make_body(&scratch, q, d);
    frame_t frame = choose_frame(&scratch, d, sse);
    bool limit = d->keepalive_limit >= 0 && (long)q->conn_request >= d->keepalive_limit;
    bool close = d->close || limit || !q->keep_alive || frame == FRAME_CLOSE;
    sender_t s = {.plan = plan, .act = d, .frame = frame};

    head.len = 0;
    write_head(&head, &scratch, d, frame, close);
    send_head(plan, &head, d);
    if (d->hang_after_head) {
        mock_plan_step(plan, STEP_HANG, 0);
        return;
    }
    if (!method_is(q, "HEAD") && (frame != FRAME_NONE || d->no_framing)) {
        send_body(&s, &scratch);
    }
    send_end(&s, close);
}

void mock_answer_build(mock_plan_t *plan, const mock_request_t *q, const mock_do_t *d)
{
    long stub_ms =
        path_ends(mock_target_path(q->target), "/embeddings") ? mock_embed_delay(q->chat.model) : 0;

    mock_plan_reset(plan);
    d = d ? d : &mock_do_default;
    send_interim(plan, d);
    mock_plan_wait(plan, d->delay_ms + (stub_ms > 0 ? stub_ms : 0));
    if (d->hang || stub_ms < 0) {
        mock_plan_step(plan, STEP_HANG, 0);
    } else if (d->drop_before_head) {
        end_hard(plan, d);
    } else if (d->has_raw) {
        sender_t s = {.plan = plan, .act = d, .frame = FRAME_NONE};
        mock_body_t raw = {.bytes = d->raw_bytes};

        send_body(&s, &raw);
        send_end(&s, d->close);
    } else {
        build_normal(plan, q, d);
    }
}

void mock_answer_json(mock_plan_t *plan, long status, json_t *body, bool keep_alive)
{
    char *text = json_dumps(body, JSON_COMPACT);
    mock_buf_t head = {.data = NULL};

    mock_buf_printf(
        &head, "HTTP/1.1 %ld %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n",
        status, reason_of(status), strlen(text), keep_alive ? "" : "Connection: close\r\n");
    mock_plan_reset(plan);
    mock_plan_send(plan, head.data, head.len);
    mock_plan_send(plan, text, strlen(text));
    if (!keep_alive) {
        mock_plan_step(plan, STEP_CLOSE, 0);
    }
    mock_buf_free(&head);
    free(text);
    json_decref(body);
}
