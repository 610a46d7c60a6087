/* SPDX-License-Identifier: Apache-2.0 */
#ifndef T_UNIT_HTTP1_PEER_H
#define T_UNIT_HTTP1_PEER_H
/* A scripted connection for the tests of the HTTP/1.1 exchange: a list of what the peer sends, when
 * it pauses and how it ends, a list of what the connection takes, and a clock that moves only while
 * the exchange waits; and a sink that notes what it was told. */

#include "aip/http1.h"

#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define REQUEST_HEAD "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
#define REQUEST_BODY "body"
#define REQUEST_LEN (sizeof(REQUEST_HEAD) - 1 + sizeof(REQUEST_BODY) - 1)
#define MS(n) apr_time_from_msec(n)
#define START MS(1000000)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define STEPS 12

#define OK AIP_OUTCOME_OK
#define BAD AIP_OUTCOME_INVALID_HEADER
#define CUT AIP_OUTCOME_BODY_CUT
#define DROP AIP_OUTCOME_DROP
#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

typedef enum op_e {
    OP_NONE,  /* silence for ever (reads); everything is taken (writes) */
    OP_BYTES, /* read: these bytes; write: takes `len` bytes in one call */
    OP_PAUSE, /* nothing for a while */
    OP_NOISE, /* wait returns after a while although nothing is there */
    OP_BUSY,  /* time passes in a read that succeeds: the peer never pauses */
    OP_EOF,
    OP_RESET,
    OP_GONE,  /* wait finds that the client has left */
    OP_BROKEN /* wait fails */
} op_e;

typedef struct step_t {
    op_e op;
    const char *data;
    size_t len;
    apr_interval_time_t us;
} step_t;

/* clang-format off */
#define BYTES(s) {OP_BYTES, (s), sizeof(s) - 1, 0}
#define TAKE(n) {OP_BYTES, NULL, (n), 0}
#define PAUSE(ms) {OP_PAUSE, NULL, 0, MS(ms)}
#define NOISE(ms) {OP_NOISE, NULL, 0, MS(ms)}
#define BUSY(ms) {OP_BUSY, NULL, 0, MS(ms)}
#define END(what) {OP_##what, NULL, 0, 0}
/* clang-format on */

typedef struct peer_t {
    step_t in[STEPS], out[STEPS];
    size_t in_at, in_pos, in_n, out_at, out_n;
    apr_interval_time_t in_spent, out_spent; /* of the pause at hand */
    unsigned seed; /* 0: reads give all there is, 1: single bytes, else: random pieces */
    bool dry;      /* a piece was given: EAGAIN until wait is called */
    bool tls_failed;
    apr_time_t now;
    char trace[64]; /* w write, r read, p wait, f on_wait */
    size_t traced;
    char sent[256];
    size_t sent_len;
} peer_t;

static void trace(peer_t *p, char c)
{
    if (p->traced < sizeof(p->trace) - 1) {
        p->trace[p->traced++] = c;
    }
}

static const step_t *step_of(const step_t *steps, size_t at, size_t n)
{
    static const step_t none = {OP_NONE, NULL, 0, 0};

    return at < n ? &steps[at] : &none;
}

static apr_status_t peer_read(void *ctx, char *buf, apr_size_t *len)
{
    peer_t *p = ctx;
    const step_t *s = step_of(p->in, p->in_at, p->in_n);
    size_t n;

    trace(p, 'r');
    ck_assert_uint_gt(*len, 0);
    while (s->op == OP_BUSY) {
        p->now += s->us;
        p->in_at++;
        s = step_of(p->in, p->in_at, p->in_n);
    }
    if (s->op == OP_EOF || s->op == OP_RESET) {
        return s->op == OP_EOF ? APR_EOF : APR_ECONNRESET;
    }
    if (s->op != OP_BYTES || p->dry) {
        return APR_EAGAIN;
    }
    n = s->len - p->in_pos;
    if (p->seed == 1) {
        n = 1;
    } else if (p->seed > 1) {
        size_t some = 1 + (size_t)rand_r(&p->seed) % (s->len / 5 + 9);

        p->seed |= 2;
        n = some < n ? some : n;
    }
    n = n < *len ? n : *len;
    p->dry = p->seed == 1 || (p->seed > 1 && (p->seed & 16));
    memcpy(buf, s->data + p->in_pos, n);
    *len = n;
    p->in_pos += n;
    if (p->in_pos == s->len) {
        p->in_pos = 0;
        p->in_at++;
    }
    return APR_SUCCESS;
}

static apr_status_t peer_write(void *ctx, const struct iovec *vec, int n, apr_size_t *written)
{
    peer_t *p = ctx;
    const step_t *s = step_of(p->out, p->out_at, p->out_n);
    size_t room = s->op == OP_BYTES ? s->len : sizeof(p->sent);

    trace(p, 'w');
    ck_assert_int_ge(n, 1);
    *written = 0;
    if (s->op == OP_RESET) {
        return APR_ECONNRESET;
    }
    if (s->op == OP_PAUSE || s->op == OP_NOISE) {
        return APR_EAGAIN;
    }
    p->out_at += s->op == OP_BYTES;
    for (int i = 0; i < n && room > 0; i++) {
        size_t k = vec[i].iov_len < room ? vec[i].iov_len : room;

        ck_assert_uint_gt(vec[i].iov_len, 0);
        ck_assert_uint_le(p->sent_len + k, sizeof(p->sent));
        memcpy(p->sent + p->sent_len, vec[i].iov_base, k);
        p->sent_len += k;
        *written += k;
        room -= k;
    }
    return APR_SUCCESS;
}

static bool pauses(const step_t *s)
{
    return s->op == OP_PAUSE || s->op == OP_NOISE;
}

static apr_status_t peer_wait(void *ctx, aip_wait_e what, apr_interval_time_t timeout)
{
    peer_t *p = ctx;
    const step_t *in = step_of(p->in, p->in_at, p->in_n),
                 *out = step_of(p->out, p->out_at, p->out_n);
    apr_interval_time_t in_left = pauses(in) ? in->us - p->in_spent : APR_INT64_MAX;
    apr_interval_time_t out_left = pauses(out) ? out->us - p->out_spent : APR_INT64_MAX;
    apr_interval_time_t step = in_left;

    trace(p, 'p');
    ck_assert(timeout > 0 && (what & AIP_WAIT_READ) != 0);
    p->dry = false;
    if (in->op == OP_GONE || in->op == OP_BROKEN) {
        return in->op == OP_GONE ? APR_ECONNABORTED : APR_ECONNRESET;
    }
    if (in->op == OP_BYTES || in->op == OP_BUSY || in->op == OP_EOF || in->op == OP_RESET) {
        return APR_SUCCESS;
    }
    if ((what & AIP_WAIT_WRITE) && out_left < step) {
        step = out_left;
    }
    step = step < timeout ? step : timeout;
    p->now += step;
    if (pauses(in)) {
        p->in_spent = step == in_left ? 0 : p->in_spent + step;
        p->in_at += step == in_left;
    }
    if (pauses(out)) {
        p->out_spent = step == out_left ? 0 : p->out_spent + step;
        p->out_at += step == out_left;
    }
    return step == in_left || step == out_left ? APR_SUCCESS : APR_TIMEUP;
}

static apr_time_t peer_now(void *ctx)
{
    return ((peer_t *)ctx)->now;
}

static bool peer_tls_failed(void *ctx)
{
    return ((peer_t *)ctx)->tls_failed;
}

/* What the sink saw, and what it answers. */
typedef struct seen_t {
    peer_t *peer;
    int heads, waits, status, minor, fields;
    apr_off_t length;
    apr_table_t *headers;
    char *body;
    size_t body_len, body_cap;
    aip_sink_e on_head, on_body, on_wait;
    apr_interval_time_t slow; /* how long on_wait takes */
} seen_t;

static aip_sink_e see_head(void *ctx, const aip_http1_response_t *response)
{
    seen_t *s = ctx;

    s->heads++;
    s->status = response->status;
    s->minor = response->minor;
    s->length = response->length;
    s->headers = response->headers;
    s->fields = apr_table_elts(response->headers)->nelts;
    return s->on_head;
}

static aip_sink_e see_body(void *ctx, const char *data, size_t len)
{
    seen_t *s = ctx;

    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(s->heads, 1);
    if (s->body_len + len > s->body_cap) {
        char *bigger = apr_palloc(pool, 2 * (s->body_len + len));

        if (s->body_len > 0) {
            memcpy(bigger, s->body, s->body_len);
        }
        s->body = bigger;
        s->body_cap = 2 * (s->body_len + len);
    }
    memcpy(s->body + s->body_len, data, len);
    s->body_len += len;
    return s->on_body;
}

static aip_sink_e see_wait(void *ctx)
{
    seen_t *s = ctx;

    trace(s->peer, 'f');
    s->waits++;
    s->peer->now += s->slow;
    return s->on_wait;
}

static const aip_http1_limits_t usual = {.write_timeout = MS(300), .read_timeout = MS(700)};

static void count_steps(peer_t *p)
{
    p->in_n = p->out_n = 0;
    while (p->in_n < STEPS && p->in[p->in_n].op != OP_NONE) {
        p->in_n++;
    }
    while (p->out_n < STEPS && p->out[p->out_n].op != OP_NONE) {
        p->out_n++;
    }
}

static aip_http1_result_t run(peer_t *p, seen_t *s, const aip_http1_limits_t *limits)
{
    aip_conn_t conn = {p, peer_read, peer_write, peer_wait, peer_now, peer_tls_failed};
    aip_http1_request_t request = {AIP_SPAN(REQUEST_HEAD), AIP_SPAN(REQUEST_BODY)};
    aip_http1_sink_t sink = {s, see_head, see_body, see_wait};
    aip_http1_result_t result;

    memset(&result, 0xa5, sizeof(result)); /* each field must be set */
    p->now = START;
    s->peer = p;
    count_steps(p);
    aip_http1_exchange(&conn, &request, limits, &sink, &result, pool);
    ck_assert_uint_eq(result.written, p->sent_len);
    ck_assert(memcmp(p->sent, REQUEST_HEAD REQUEST_BODY, p->sent_len) == 0);
    ck_assert_int_eq((int)result.body_bytes, (int)s->body_len);
    ck_assert_int_le(s->heads, 1);
    ck_assert_int_eq(result.status, s->status);
    ck_assert(s->heads == 0 || result.head_at >= START);
    ck_assert(s->heads == 1 || result.head_at == 0);
    return result;
}

#endif
