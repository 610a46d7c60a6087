/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to an answer: reads a request, records it, chooses a behaviour, carries out the plan,
 * goes on with the next request. Called by conn.c whenever there is input, room for output, or a
 * timer fired.
 */
#include "mock.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#define LINGER_MS 1000

mock_slice_t mock_serve_body(const mock_conn_t *c)
{
    size_t have;

    if (c->head.chunked) {
        return (mock_slice_t){c->chunk_body.data ? c->chunk_body.data : "", c->chunk_body.len};
    }
    if (c->in.len < c->head.head_len) {
        return (mock_slice_t){"", 0};
    }
    have = c->in.len - c->head.head_len;
    return (mock_slice_t){c->in.data + c->head.head_len,
                          have < c->head.length ? have : c->head.length};
}

static void mark_answered(mock_conn_t *c)
{
    mock_record_t *r = c->rec ? mock_record_find(c->rec) : NULL;

    if (r) {
        r->answered = true;
        r->answered_after_us = mock_now_us() - r->head_us;
    }
    if (c->rec) {
        mock_event_count(c->listener, MOCK_EV_ANSWERED);
    }
}

void mock_serve_next(mock_conn_t *c)
{
    mock_do_release(c->act);
    c->act = NULL;
    c->rec = 0;
    c->scanned = 0;
    c->chunk_body.len = 0;
    c->state = CONN_READ_HEAD;
    c->want = EPOLLIN;
    mock_conn_want(c);
}

static void start_reading_body(mock_conn_t *c)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t n;

    if (c->act && c->act->no_read && !json_is_false(c->act->no_read)) {
        c->state = CONN_STALLED;
        c->want = 0;
        if (json_is_integer(c->act->no_read)) {
            mock_timer_set(&c->timer, json_integer_value(c->act->no_read));
        }
    } else {
        c->state = CONN_READ_BODY;
        c->want = EPOLLIN;
        if (c->head.expect && !(c->act && c->act->early)) {
            mock_io_write(c, go_on, sizeof(go_on) - 1, &n);
        }
    }
    mock_conn_want(c);
}

/* The server's own close: input that nobody read would turn it into a reset, so that is drained
 * first. */
static void close_after_answer(mock_conn_t *c)
{
    mark_answered(c);
    if (!c->body_pending) {
        mock_conn_kill(c, false, !(c->act && c->act->cut_after_bytes >= 0));
        return;
    }
    c->rec = 0;
    c->state = CONN_LINGER;
    c->want = EPOLLIN;
    shutdown(c->watch.fd, SHUT_WR);
    mock_timer_set(&c->timer, LINGER_MS);
    mock_conn_want(c);
}

static void plan_end(mock_conn_t *c)
{
    if (c->body_pending) {
        c->body_pending = false;
        mark_answered(c);
        start_reading_body(c);
        return;
    }
    mark_answered(c);
    mock_serve_next(c);
}

/* true: the step is done, go on with the next */
static bool step_send(mock_conn_t *c, const mock_step_t *s)
{
    mock_plan_t *p = &c->plan;

    while (p->sent < s->len) {
        size_t n;
        mock_io_t rc = mock_io_write(c, p->out.data + s->a + p->sent, s->len - p->sent, &n);

        if (rc == IO_AGAIN) {
            mock_conn_want(c);
            return false;
        }
        if (rc != IO_OK) {
            mock_conn_gone(c);
            return false;
        }
        p->sent += n;
    }
    p->sent = 0;
    p->at++;
    return true;
}

void mock_serve_plan(mock_conn_t *c)
{
    mock_plan_t *p = &c->plan;

    c->want = EPOLLIN;
    while (p->at < p->n) {
        const mock_step_t *s = &p->steps[p->at];

        switch (s->kind) {
        case STEP_SEND:
            if (!step_send(c, s)) {
                return;
            }
            break;
        case STEP_WAIT:
            p->at++;
            mock_timer_set(&c->timer, (int64_t)s->a);
            mock_conn_want(c);
            return;
        case STEP_HANG:
            mock_conn_want(c);
            return;
        case STEP_REPEAT:
            p->at = s->a;
            break;
        case STEP_CLOSE:
            close_after_answer(c);
            return;
        case STEP_RESET:
            mark_answered(c);
            mock_conn_kill(c, true, false);
            return;
        }
    }
    plan_end(c);
}

void mock_serve_answer(mock_conn_t *c)
{
    mock_conn_waiting -= c->state == CONN_WAITING;
    c->state = CONN_ANSWER;
    mock_serve_plan(c);
}

static mock_request_t request_view(const mock_conn_t *c, mock_slice_t body)
{
    mock_request_t q = {
        .listener = c->listener,
        .head = c->in.data,
        .head_len = c->head.head_len,
        .method = {c->in.data, c->head.method_len},
        .target = {c->in.data + c->head.target_off, c->head.target_len},
        .body = body,
        .seq = c->rec,
        .conn_request = c->requests,
        .keep_alive = c->head.keep_alive,
    };

    mock_scan_chat(body.p, body.len, &q.chat);
    return q;
}

static void become_control(mock_conn_t *c)
{
    if (!c->control) {
        c->control = true;
        c->listener->open--;
        c->listener->count[MOCK_EV_OPENED]--;
    }
}

static void handle_head(mock_conn_t *c)
{
    mock_slice_t path =
        mock_target_path((mock_slice_t){c->in.data + c->head.target_off, c->head.target_len});

    c->requests++;
    c->chunks = (mock_chunks_t){.left = 0};
    c->chunks_at = c->head.head_len;
    if (c->listener->control || mock_control_is(path)) {
        become_control(c);
        start_reading_body(c);
        return;
    }
    c->rec = mock_record_add(c->listener, c->id, c->requests,
                             (mock_slice_t){c->in.data, c->head.head_len});
    mock_event_count(c->listener, MOCK_EV_HEAD);
    c->act = mock_behave_match(c->listener->port, path, NULL,
                               (mock_slice_t){c->in.data, c->head.head_len}, c->requests);
    if (c->act && c->act->early) {
        mock_request_t q = request_view(c, (mock_slice_t){"", 0});

        c->body_pending = true;
        mock_answer_build(&c->plan, &q, c->act);
        mock_serve_answer(c);
        return;
    }
    start_reading_body(c);
}

static void consume_request(mock_conn_t *c)
{
    mock_buf_consume(&c->in, c->head.chunked ? c->chunks_at : c->head.head_len + c->head.length);
}

static void handle_request(mock_conn_t *c)
{
    mock_slice_t body = mock_serve_body(c);
    mock_request_t q = request_view(c, body);

    if (c->control) {
        mock_control_handle(c, &q);
        mock_conn_waiting += c->state == CONN_WAITING;
        consume_request(c);
        if (c->state != CONN_WAITING) {
            mock_serve_answer(c);
        } else {
            mock_conn_want(c);
        }
        return;
    }
    mock_record_body(c->rec, body, true);
    mock_event_count(c->listener, MOCK_EV_REQUEST);
    if (c->act && c->act->early) {
        consume_request(c);
        mock_serve_next(c);
        return;
    }
    if (!c->act) {
        c->act = mock_behave_match(c->listener->port, mock_target_path(q.target), &q.chat.model,
                                   (mock_slice_t){q.head, q.head_len}, c->requests);
    }
    if (!c->act) {
        c->act = mock_behave_by_model(q.chat.model);
    }
    mock_answer_build(&c->plan, &q, c->act);
    consume_request(c);
    mock_serve_answer(c);
}

static void handle_malformed(mock_conn_t *c, const char *why)
{
    mock_record_t *r;
    json_t *error = json_pack("{s:{s:s,s:s,s:n,s:s}}", "error", "message", why, "type",
                              "invalid_request_error", "param", "code", "mock_malformed");

    if (!c->rec) {
        c->rec = mock_record_add(c->listener, c->id, ++c->requests,
                                 (mock_slice_t){c->in.data, c->in.len});
        mock_event_count(c->listener, MOCK_EV_HEAD);
    }
    r = mock_record_find(c->rec);
    if (r) {
        r->malformed = why;
    }
    mock_event_count(c->listener, MOCK_EV_REQUEST);
    c->body_pending = true; /* more of the bad input may be on its way */
    mock_answer_json(&c->plan, 400, error, false);
    mock_serve_answer(c);
}

static mock_http_rc_t read_body(mock_conn_t *c, const char **why)
{
    size_t used;
    mock_http_rc_t rc;

    if (!c->head.chunked) {
        return c->in.len - c->head.head_len >= c->head.length ? MOCK_HTTP_DONE : MOCK_HTTP_MORE;
    }
    rc = mock_http_chunks(&c->chunks, c->in.data + c->chunks_at, c->in.len - c->chunks_at, &used,
                          &c->chunk_body, why);
    c->chunks_at += used;
    return rc;
}

/* Goes as far as the bytes at hand allow. */
void mock_serve_progress(mock_conn_t *c)
{
    while (c->state == CONN_READ_HEAD || c->state == CONN_READ_BODY) {
        const char *why = NULL;
        mock_http_rc_t rc;
        bool head = c->state == CONN_READ_HEAD;

        if (head && !c->in.len) {
            return;
        }
        rc = head ? mock_http_head(c->in.data, c->in.len, &c->scanned, &c->head, &why)
                  : read_body(c, &why);
        if (rc == MOCK_HTTP_MORE) {
            return;
        }
        if (rc == MOCK_HTTP_BAD) {
            handle_malformed(c, why);
        } else if (head) {
            handle_head(c);
        } else {
            handle_request(c);
        }
    }
}
