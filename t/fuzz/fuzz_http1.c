/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds responses to the HTTP/1.1 exchange. The first four bytes of the input choose how the
 * response is cut into reads, how the connection ends, how writes go and what the sink answers; the
 * rest is what the peer sends. Checked: nothing is reported that did not come, counters add up, and
 * a response that is read in one piece comes to the same in many. */

#include "aip/http1.h"

#include <apr_general.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) ((what) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct peer_t {
    const char *data;
    size_t len, at;
    unsigned seed;    /* 0: everything in one read */
    apr_status_t end; /* APR_EOF, APR_ECONNRESET, or APR_EAGAIN: stays silent */
    unsigned writes;  /* 0: all at once, 1: byte by byte, 2: blocks, 3: fails */
    apr_time_t now;
    size_t sent;
} peer_t;

typedef struct seen_t {
    aip_sink_e on_head;
    int heads;
    size_t bytes;
    uint64_t hash;
} seen_t;

static apr_status_t peer_read(void *ctx, char *buf, apr_size_t *len)
{
    peer_t *p = ctx;
    size_t n = p->len - p->at;

    if (n == 0) {
        return p->end;
    }
    if (p->seed) {
        size_t some = 1 + (size_t)rand_r(&p->seed) % 40;

        p->seed |= 1;
        p->now += p->seed % 3 ? 0 : 100;
        if (p->seed % 5 == 0) {
            return APR_EAGAIN;
        }
        n = some < n ? some : n;
    }
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
    *(size_t *)ctx += strlen(name) + strlen(value);
    CHECK(name[0] != '\0' && !strpbrk(name, " :\r\n") && !strpbrk(value, "\r\n"));
    return 1;
}

static aip_sink_e on_head(void *ctx, const aip_http1_response_t *response)
{
    seen_t *s = ctx;
    size_t n = 0;

    CHECK(s->heads++ == 0);
    CHECK(response->status >= 200 && response->status <= 999 && response->minor <= 1);
    CHECK(response->length >= -1);
    apr_table_do(touch, &n, response->headers, NULL);
    CHECK(n <= AIP_HTTP1_HEAD_MAX);
    return s->on_head;
}

static aip_sink_e on_body(void *ctx, const char *data, size_t len)
{
    seen_t *s = ctx;

    CHECK(s->heads == 1 && len > 0);
    for (size_t i = 0; i < len; i++) {
        s->hash = (s->hash ^ (unsigned char)data[i]) * UINT64_C(1099511628211);
    }
    s->bytes += len;
    return AIP_SINK_CONTINUE;
}

static aip_sink_e on_wait(void *ctx)
{
    CHECK(((seen_t *)ctx)->heads == 1);
    return AIP_SINK_CONTINUE;
}

static aip_http1_result_t run(peer_t *p, seen_t *s, apr_pool_t *pool)
{
    aip_conn_t conn = {p, peer_read, peer_write, peer_wait, peer_now, peer_tls_failed};
    aip_http1_request_t request = {AIP_SPAN("POST / HTTP/1.1\r\n\r\n"), AIP_SPAN("body")};
    aip_http1_limits_t limits = {1000000, 1000000, 0};
    aip_http1_sink_t sink = {s, on_head, on_body, on_wait};
    aip_http1_result_t r;

    p->now = 1000000;
    limits.deadline = p->now + 5000000;
    aip_http1_exchange(&conn, &request, &limits, &sink, &r, pool);
    CHECK(r.written == p->sent);
    CHECK(r.received == p->at);
    CHECK(r.body_bytes == (apr_off_t)s->bytes && s->bytes <= r.received);
    CHECK((r.status != 0) == (s->heads == 1) && (r.head_at != 0) == (s->heads == 1));
    CHECK(r.outcome <= AIP_OUTCOME_STOPPED && aip_outcome_name(r.outcome)[0] != '\0');
    CHECK(!r.reusable || r.outcome == AIP_OUTCOME_OK || r.outcome == AIP_OUTCOME_WITHHELD);
    CHECK(!r.reusable || r.written == 23);
    CHECK(r.outcome != AIP_OUTCOME_OK || s->heads == 1);
    CHECK(s->on_head != AIP_SINK_DRAIN || s->bytes <= AIP_HTTP1_DRAIN_BYTES);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const apr_status_t ends[] = {APR_EOF, APR_ECONNRESET, APR_EAGAIN};
    static const aip_sink_e answers[] = {AIP_SINK_CONTINUE, AIP_SINK_DRAIN, AIP_SINK_CONTINUE,
                                         AIP_SINK_STOP};
    static apr_pool_t *pool;
    peer_t cut, whole;
    seen_t a = {0}, b = {0};
    aip_http1_result_t r, q;

    if (size < 4) {
        return 0;
    }
    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    cut = (peer_t){.data = (const char *)data + 4,
                   .len = size - 4,
                   .seed = 1U + data[0],
                   .end = ends[data[1] % 3],
                   .writes = data[2] % 16 < 4 ? data[2] % 4 : 0};
    whole = cut;
    whole.seed = 0;
    a.on_head = b.on_head = answers[data[3] % 4];
    r = run(&cut, &a, pool);
    q = run(&whole, &b, pool);
    /* How the bytes came makes a difference only to early answers, to the clock of a drain, and to
     * bytes after the end, which are seen when they come with the last read. */
    if (cut.writes == 0 && a.on_head == AIP_SINK_CONTINUE && size < AIP_HTTP1_LINE_MAX) {
        CHECK(r.outcome == q.outcome && a.hash == b.hash && a.bytes == b.bytes &&
              r.status == q.status);
        CHECK(r.reusable == q.reusable || (r.reusable && cut.at < cut.len));
    }
    apr_pool_clear(pool);
    return 0;
}
