/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds responses to the HTTP/1.1 exchange. The first four bytes of the input choose pauses, how
 * the connection ends, how writes go and what the sink answers; then the sizes of reads (see
 * fuzz.h); the rest is what the peer sends. Checked: nothing is reported that did not come,
 * counters add up, a response comes to the same in any pieces, and to what llhttp reads. */

#include "http1_other.h"

#define CHECK(what) require(what)

typedef struct peer_t {
    const char *data;
    size_t len, at;
    cuts_t cuts;
    unsigned seed;    /* of pauses, 0: none */
    apr_status_t end; /* APR_EOF, APR_ECONNRESET, or APR_EAGAIN: stays silent */
    unsigned writes;  /* 0: all at once, 1: byte by byte, 2: blocks, 3: fails */
    apr_time_t now;
    size_t sent;
} peer_t;

typedef struct seen_t {
    aip_sink_e on_head;
    int heads;
    response_t response;
} seen_t;

static apr_status_t peer_read(void *ctx, char *buf, apr_size_t *len)
{
    peer_t *p = ctx;
    size_t n = p->len - p->at;

    if (n == 0) {
        return p->end;
    }
    if (p->seed) {
        p->now += rand_r(&p->seed) % 3 ? 0 : 10;
        p->seed |= 1;
        if (rand_r(&p->seed) % 5 == 0) {
            return APR_EAGAIN;
        }
    }
    n = fuzz_cut(&p->cuts, n);
    n = n < *len ? n : *len;
    memcpy(buf, p->data + p->at, n);
    p->at += n;
    *len = n;
    return APR_SUCCESS;
}

static apr_status_t peer_write(void *ctx, const struct iovec *vec, int n, apr_size_t *written)
{
    peer_t *p = ctx;

    *written = 0;
    if (p->writes == 3) {
        return APR_ECONNRESET;
    }
    if (p->writes == 2 && p->sent > 0) {
        return APR_EAGAIN;
    }
    for (int i = 0; i < n; i++) {
        *written += vec[i].iov_len;
    }
    if (p->writes != 0) {
        *written = 1;
    }
    p->sent += *written;
    return APR_SUCCESS;
}

static apr_status_t peer_wait(void *ctx, aip_wait_e what, apr_interval_time_t timeout)
{
    peer_t *p = ctx;

    CHECK(what & AIP_WAIT_READ);
    CHECK(timeout > 0);
    if (p->at < p->len || p->end != APR_EAGAIN) {
        return APR_SUCCESS;
    }
    p->now += timeout;
    return APR_TIMEUP;
}

static apr_time_t peer_now(void *ctx)
{
    return ((peer_t *)ctx)->now;
}

static bool peer_tls_failed(void *ctx)
{
    return ((peer_t *)ctx)->now % 2 != 0;
}

static int touch(void *ctx, const char *name, const char *value)
{
    CHECK(name[0] != '\0' && !strpbrk(name, " :\r\n") && !strpbrk(value, "\r\n"));
    keep_field(ctx, name, value);
    return 1;
}

static aip_sink_e on_head(void *ctx, const aip_http1_response_t *response)
{
    seen_t *s = ctx;

    CHECK(s->heads++ == 0);
    CHECK(response->status >= 200 && response->status <= 999 && response->minor <= 1);
    CHECK(response->length >= -1);
    s->response.status = response->status;
    s->response.minor = response->minor;
    apr_table_do(touch, &s->response, response->headers, NULL);
    CHECK(s->response.n_fields <= AIP_HTTP1_HEAD_MAX + AIP_HTTP1_FIELDS_MAX);
    return s->on_head;
}

static aip_sink_e on_body(void *ctx, const char *data, size_t len)
{
    seen_t *s = ctx;

    CHECK(s->heads == 1 && len > 0);
    keep(&s->response.body, &s->response.n_body, data, len);
    return AIP_SINK_CONTINUE;
}

static aip_sink_e on_wait(void *ctx)
{
    CHECK(((seen_t *)ctx)->heads == 1);
    return AIP_SINK_CONTINUE;
}

static aip_http1_result_t run(peer_t *p, seen_t *s)
{
    aip_conn_t conn = {p, peer_read, peer_write, peer_wait, peer_now, peer_tls_failed};
    aip_http1_request_t request = {AIP_SPAN("POST / HTTP/1.1\r\n\r\n"), AIP_SPAN("body")};
    aip_http1_limits_t limits = {.write_timeout = 1000000, .read_timeout = 1000000};
    aip_http1_sink_t sink = {s, on_head, on_body, on_wait};
    aip_http1_result_t r;

    apr_pool_t *pool = fuzz_pool();

    p->now = 1000000;
    limits.deadline = p->now + 5000000;
    aip_http1_exchange(&conn, &request, &limits, &sink, &r, pool);
    CHECK(r.written == p->sent);
    CHECK(r.received == p->at);
    CHECK(r.body_bytes == (apr_off_t)s->response.n_body && s->response.n_body <= r.received);
    CHECK((r.status != 0) == (s->heads == 1) && (r.head_at != 0) == (s->heads == 1));
    CHECK(r.outcome <= AIP_OUTCOME_STOPPED && aip_outcome_name(r.outcome)[0] != '\0');
    CHECK(!r.reusable || r.outcome == AIP_OUTCOME_OK || r.outcome == AIP_OUTCOME_WITHHELD);
    CHECK(!r.reusable || r.written == 23);
    CHECK(r.outcome != AIP_OUTCOME_OK || s->heads == 1);
    CHECK(s->on_head != AIP_SINK_DRAIN || s->response.n_body <= AIP_HTTP1_DRAIN_BYTES);
    s->response.complete = r.outcome == AIP_OUTCOME_OK;
    s->response.end = r.received;
    return r;
}

static bool same(const response_t *a, const response_t *b)
{
    return a->status == b->status && a->n_fields == b->n_fields && a->n_body == b->n_body &&
           (!a->n_fields || memcmp(a->fields, b->fields, a->n_fields) == 0) &&
           (!a->n_body || memcmp(a->body, b->body, a->n_body) == 0);
}

/* @param seen  of a peer that sends byte by byte, so that no byte behind the end is taken */
static void check_other(const peer_t *peer, const seen_t *seen)
{
    other_t other;

    other_read(&other, peer->data, peer->len);
    if (!other.foreign) {
        const response_t *o = &other.response, *s = &seen->response;

        if (s->complete) {
            CHECK(o->complete && same(s, o) && s->minor == o->minor && s->end == o->end);
        } else {
            CHECK(!o->complete || other.stricter);
        }
    }
    response_free(&other.response);
}

/* How the bytes came makes a difference only to early answers, to the clock of a drain, and to
 * bytes after the end, which are seen when they come with the last read. */
static void check_cuts(const peer_t *as_asked, aip_sink_e answer)
{
    const cuts_t ways[] = {as_asked->cuts, IN_ONE_PIECE, BYTE_BY_BYTE};
    const bool alike = as_asked->writes == 0 && answer != AIP_SINK_DRAIN;
    aip_http1_result_t r[3];
    seen_t seen[3];

    for (int i = 0; i < (alike ? 3 : 1); i++) {
        peer_t peer = *as_asked;

        seen[i] = (seen_t){.on_head = answer};
        peer.cuts = ways[i];
        peer.seed = i == 0 ? peer.seed : 0;
        r[i] = run(&peer, &seen[i]);
        CHECK(r[i].outcome == r[0].outcome && r[i].status == r[0].status);
        CHECK(same(&seen[i].response, &seen[0].response));
        CHECK(r[i].reusable == r[0].reusable || r[i].received != r[0].received);
    }
    if (alike && answer == AIP_SINK_CONTINUE && as_asked->end == APR_EOF)
        check_other(as_asked, &seen[2]);
    for (int i = 0; i < (alike ? 3 : 1); i++)
        response_free(&seen[i].response);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const apr_status_t ends[] = {APR_EOF, APR_ECONNRESET, APR_EAGAIN, APR_EOF};
    static const aip_sink_e answers[] = {AIP_SINK_CONTINUE, AIP_SINK_DRAIN, AIP_SINK_CONTINUE,
                                         AIP_SINK_STOP};
    peer_t peer = {0};

    if (size < 5) {
        return 0;
    }
    peer.seed = data[0];
    peer.end = ends[data[1] % 4];
    peer.writes = data[2] % 16 < 4 ? data[2] % 4 : 0;
    const aip_sink_e answer = answers[data[3] % 4];
    data += 4;
    size -= 4;
    peer.cuts = fuzz_cuts(&data, &size);
    peer.data = (const char *)data;
    peer.len = size;
    check_cuts(&peer, answer);
    apr_pool_clear(fuzz_pool());
    return 0;
}
