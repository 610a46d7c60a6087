/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 exchange: sends one request, takes in the response, keeps the limits, and says what
 * it came to. Called by the attempt loop and by embedders in the thread that serves the request;
 * blocks in conn->wait only. The grammar is in http1_head.c. Functions that return bool have set
 * result->outcome when they return false. */

#include "http1_int.h"

#include <string.h>

#define INTERIM_MAX 8 /* 1xx heads before the final one */

/* What is going on decides which limit holds and what a lost connection means. */
typedef enum phase_e { PHASE_WRITE, PHASE_HEAD, PHASE_BODY, PHASE_DRAIN } phase_e;

typedef struct exchange_t {
    const aip_conn_t *conn;
    const aip_http1_limits_t *limits;
    const aip_http1_sink_t *sink;
    aip_http1_result_t *result;
    apr_pool_t *pool;
    aip_http1_head_t head;
    struct iovec vec[2]; /* what of the request is still to be sent */
    int first, pieces;   /* index of the first piece, and how many there are */
    phase_e phase;
    apr_time_t since; /* start of the current limit; 0: it starts when it is looked at next */
    bool wait_first;  /* nothing can be there yet: save the read that would say so */
    bool eof;         /* the peer closed in good order */
    char *buf;        /* AIP_HTTP1_LINE_MAX bytes; those in [off, end) are not used up */
    size_t off, end;
} exchange_t;

const char *aip_outcome_name(aip_outcome_e outcome)
{
    switch (outcome) {
    case AIP_OUTCOME_OK:
        return "ok";
    case AIP_OUTCOME_CONNECT:
        return "connect";
    case AIP_OUTCOME_CONNECT_TIMEOUT:
        return "connect-timeout";
    case AIP_OUTCOME_TLS:
        return "tls";
    case AIP_OUTCOME_DROP:
        return "drop";
    case AIP_OUTCOME_WRITE_TIMEOUT:
        return "write-timeout";
    case AIP_OUTCOME_FIRST_BYTE_TIMEOUT:
        return "first-byte-timeout";
    case AIP_OUTCOME_INVALID_HEADER:
        return "invalid-header";
    case AIP_OUTCOME_BODY_CUT:
        return "body-cut";
    case AIP_OUTCOME_IDLE_TIMEOUT:
        return "idle-timeout";
    case AIP_OUTCOME_TOTAL_TIMEOUT:
        return "total-timeout";
    case AIP_OUTCOME_CLIENT_GONE:
        return "client-gone";
    case AIP_OUTCOME_WITHHELD:
        return "withheld";
    case AIP_OUTCOME_STOPPED:
        return "stopped";
    case AIP_OUTCOME_SECRET:
        return "no-secret";
    }
    return "unknown";
}

static bool fail(exchange_t *x, aip_outcome_e outcome)
{
    x->result->outcome = outcome;
    return false;
}

/* The connection is gone. TLS promises that nothing was sent, so a byte written makes it a drop. */
static bool lost(exchange_t *x)
{
    switch (x->phase) {
    case PHASE_WRITE:
    case PHASE_HEAD:
        if (x->result->written == 0 && x->conn->tls_failed(x->conn->ctx)) {
            return fail(x, AIP_OUTCOME_TLS);
        }
        return fail(x, AIP_OUTCOME_DROP);
    case PHASE_BODY:
        return fail(x, AIP_OUTCOME_BODY_CUT);
    case PHASE_DRAIN:
        return fail(x, AIP_OUTCOME_WITHHELD);
    }
    return false;
}

/* The peer does not keep to the protocol. */
static bool malformed(exchange_t *x)
{
    return x->phase <= PHASE_HEAD ? fail(x, AIP_OUTCOME_INVALID_HEADER) : lost(x);
}

static void enter(exchange_t *x, phase_e phase)
{
    x->phase = phase;
    x->since = 0;
}

static apr_time_t earlier(apr_time_t a, apr_time_t b)
{
    return a < b ? a : b;
}

/* Time until the nearest limit, and the outcome when it passes. A response that is being drained is
 * withheld however that ends, and its clock runs from the head on: bytes do not restart it. */
static apr_interval_time_t time_left(exchange_t *x, aip_outcome_e *late)
{
    apr_time_t now = x->conn->now(x->conn->ctx), end = 0;

    if (x->since == 0) {
        x->since = now;
    }
    switch (x->phase) {
    case PHASE_WRITE:
        end = x->since + x->limits->write_timeout;
        *late = AIP_OUTCOME_WRITE_TIMEOUT;
        break;
    case PHASE_HEAD:
        end = x->since + x->limits->read_timeout;
        if (x->limits->first_byte && x->result->received == 0) {
            end = earlier(end, x->since + x->limits->first_byte);
        }
        *late = AIP_OUTCOME_FIRST_BYTE_TIMEOUT;
        break;
    case PHASE_BODY:
        end = x->since + x->limits->read_timeout;
        if (x->limits->idle_until && *x->limits->idle_until) {
            end = earlier(end, *x->limits->idle_until);
        }
        *late = AIP_OUTCOME_IDLE_TIMEOUT;
        break;
    case PHASE_DRAIN:
        end = x->result->head_at + AIP_HTTP1_DRAIN_TIME;
        *late = AIP_OUTCOME_WITHHELD;
        break;
    }
    if (x->limits->deadline != 0 && x->limits->deadline < end) {
        end = x->limits->deadline;
        if (x->phase != PHASE_DRAIN) {
            *late = AIP_OUTCOME_TOTAL_TIMEOUT;
        }
    }
    return end - now;
}

/* Data that never pauses must not outrun the deadline: looked at before each read and write, not
 * only before a wait. */
static bool in_time(exchange_t *x)
{
    aip_outcome_e late = AIP_OUTCOME_OK;

    return time_left(x, &late) > 0 || fail(x, late);
}

static bool wait_for(exchange_t *x, aip_wait_e what)
{
    aip_outcome_e late = AIP_OUTCOME_OK;
    apr_interval_time_t left = time_left(x, &late);
    apr_status_t rv = left > 0 ? x->conn->wait(x->conn->ctx, what, left) : APR_TIMEUP;

    if (rv == APR_SUCCESS) {
        return true;
    }
    if (APR_STATUS_IS_TIMEUP(rv)) {
        return fail(x, late);
    }
    return APR_STATUS_IS_ECONNABORTED(rv) ? fail(x, AIP_OUTCOME_CLIENT_GONE) : lost(x);
}

/* One read into the free end of the buffer; APR_EAGAIN when nothing is there. */
static apr_status_t take(exchange_t *x)
{
    apr_size_t len = AIP_HTTP1_LINE_MAX - x->end;
    apr_status_t rv = x->conn->read(x->conn->ctx, x->buf + x->end, &len);

    if (rv != APR_SUCCESS) {
        x->eof = APR_STATUS_IS_EOF(rv);
        return APR_STATUS_IS_EAGAIN(rv) ? APR_EAGAIN : rv;
    }
    x->end += len;
    x->result->received += len;
    return len > 0 ? APR_SUCCESS : APR_EAGAIN;
}

static void consume_request(exchange_t *x, apr_size_t n)
{
    x->result->written += n;
    while (n > 0 && x->first < x->pieces) {
        struct iovec *v = &x->vec[x->first];
        size_t step = n < v->iov_len ? n : v->iov_len;

        v->iov_base = (char *)v->iov_base + step;
        v->iov_len -= step;
        n -= step;
        if (v->iov_len == 0) {
            x->first++;
        }
    }
}

/* The request cannot go on for now: an answer may be there already (a 413). Sets *answered when a
 * final head begins; interim ones stay in the buffer for later. */
static bool blocked(exchange_t *x, bool *answered)
{
    apr_status_t rv = take(x);

    if (rv == APR_SUCCESS) {
        if (x->result->written == 0) {
            return lost(x); /* nothing was asked yet: the rest of something else, or a farewell */
        }
        *answered = x->end == AIP_HTTP1_LINE_MAX || aip_http1_final_begins(x->buf, x->end);
        return true;
    }
    if (rv != APR_EAGAIN) {
        return lost(x);
    }
    return wait_for(x, (aip_wait_e)(AIP_WAIT_READ | AIP_WAIT_WRITE));
}

/* Sends the request. True also when the answer came first: then pieces are left. */
static bool write_request(exchange_t *x)
{
    bool answered = false;

    while (x->first < x->pieces && !answered) {
        apr_size_t n = 0;
        apr_status_t rv;

        if (!in_time(x)) {
            return false;
        }
        rv = x->conn->write(x->conn->ctx, x->vec + x->first, x->pieces - x->first, &n);
        consume_request(x, n);
        if (n > 0) {
            x->since = 0;
        }
        if (rv != APR_SUCCESS && !APR_STATUS_IS_EAGAIN(rv)) {
            /* The peer may have answered before it closed. */
            if (x->result->written > 0 && (take(x) == APR_SUCCESS || x->end > 0)) {
                return true;
            }
            return APR_STATUS_IS_TIMEUP(rv) && x->result->written > 0
                       ? fail(x, AIP_OUTCOME_WRITE_TIMEOUT)
                       : lost(x);
        }
        if (n == 0 && !blocked(x, &answered)) {
            return false;
        }
    }
    x->wait_first = x->end == 0;
    return true;
}

/* About to block in the middle of the body: what the sink holds goes out first. That may take long
 * with a slow client, and is no fault of the peer: its time to send starts afterwards. */
static bool flush_sink(exchange_t *x)
{
    if (x->phase != PHASE_BODY) {
        return true;
    }
    if (x->sink->on_wait(x->sink->ctx) != AIP_SINK_CONTINUE) {
        return fail(x, AIP_OUTCOME_STOPPED);
    }
    x->since = 0;
    return true;
}

/* Gets more bytes into the buffer, moving what is left to its start when it is full. */
static bool fill(exchange_t *x)
{
    bool flushed = false;

    if (x->off == x->end) {
        x->off = x->end = 0;
    } else if (x->end == AIP_HTTP1_LINE_MAX) {
        if (x->off == 0) {
            return malformed(x); /* a line longer than the buffer */
        }
        x->end -= x->off;
        memmove(x->buf, x->buf + x->off, x->end);
        x->off = 0;
    }
    for (;;) {
        if (!x->wait_first) {
            apr_status_t rv;

            if (!in_time(x)) {
                return false;
            }
            rv = take(x);
            if (rv == APR_SUCCESS) {
                if (x->phase != PHASE_HEAD) {
                    x->since = 0; /* a head has its time as a whole, however it trickles */
                }
                return true;
            }
            if (rv != APR_EAGAIN) {
                return lost(x);
            }
        }
        x->wait_first = false;
        if (!flushed && !flush_sink(x)) {
            return false;
        }
        flushed = true;
        if (!wait_for(x, AIP_WAIT_READ)) {
            return false;
        }
    }
}

/* What a block of lines (a head, the trailers) has cost so far. */
typedef struct budget_t {
    size_t bytes;
    unsigned fields;
} budget_t;

/* The next line, without LF or CRLF; valid until the next fill. `begins` (may be NULL) is asked as
 * soon as there is a byte, so that what cannot become a good line is not waited for. */
static bool next_line(exchange_t *x, aip_span_t *line, size_t *spent,
                      bool (*begins)(const char *p, size_t n))
{
    size_t seen = 0;
    const char *start, *lf;

    for (;;) {
        start = x->buf + x->off;
        if (begins && !begins(start, x->end - x->off)) {
            return malformed(x);
        }
        lf = memchr(start + seen, '\n', x->end - x->off - seen);
        if (lf) {
            break;
        }
        seen = x->end - x->off;
        if (!fill(x)) {
            return false;
        }
    }
    line->data = start;
    line->len = (size_t)(lf - start);
    x->off += line->len + 1;
    *spent += line->len + 1;
    if (line->len > 0 && lf[-1] == '\r') {
        line->len--;
    }
    return true;
}

/* Field lines up to the empty line; `keep` false: trailers, which are checked and dropped. */
static bool read_fields(exchange_t *x, budget_t *budget, bool keep)
{
    for (;;) {
        aip_span_t line, name, value;
        bool good;

        if (!next_line(x, &line, &budget->bytes, NULL)) {
            return false;
        }
        if (budget->bytes > AIP_HTTP1_HEAD_MAX) {
            return malformed(x);
        }
        if (line.len == 0) {
            return true;
        }
        if (++budget->fields > AIP_HTTP1_FIELDS_MAX) {
            return malformed(x);
        }
        good = keep ? aip_http1_head_field(&x->head, line, x->pool)
                    : aip_http1_field_split(line, &name, &value);
        if (!good) {
            return malformed(x);
        }
    }
}

/* Reads heads until the final one, and finds out where its body ends. */
static bool read_head(exchange_t *x, aip_http1_body_e *body)
{
    int status;

    enter(x, PHASE_HEAD);
    for (int interim = 0;; interim++) {
        budget_t budget = {0};
        aip_span_t line;

        aip_http1_head_reset(&x->head, x->pool);
        if (!next_line(x, &line, &budget.bytes, aip_http1_status_begins)) {
            return false;
        }
        if (!aip_http1_head_status(&x->head, line)) {
            return malformed(x);
        }
        status = x->head.response.status;
        if (!read_fields(x, &budget, true)) {
            return false;
        }
        if (status >= 200) {
            break;
        }
        if (status == 101 || interim == INTERIM_MAX) {
            return malformed(x);
        }
    }
    if (!aip_http1_head_frame(&x->head, body)) {
        return malformed(x);
    }
    x->result->status = status;
    x->result->head_at = x->conn->now(x->conn->ctx);
    return true;
}

static bool report_head(exchange_t *x)
{
    switch (x->sink->on_head(x->sink->ctx, &x->head.response)) {
    case AIP_SINK_CONTINUE:
        enter(x, PHASE_BODY);
        return true;
    case AIP_SINK_DRAIN:
        enter(x, PHASE_DRAIN);
        return true;
    case AIP_SINK_STOP:
        break;
    }
    return fail(x, AIP_OUTCOME_STOPPED);
}

/* Hands on up to `max` bytes of what is buffered, getting more when there is nothing. */
static bool deliver(exchange_t *x, apr_off_t max, apr_off_t *done)
{
    const char *data;
    size_t n;
    bool over = false;

    if (x->off == x->end && !fill(x)) {
        return false;
    }
    data = x->buf + x->off;
    n = x->end - x->off;
    if ((apr_off_t)n > max) {
        n = (size_t)max;
    }
    if (x->phase == PHASE_DRAIN) {
        size_t room = AIP_HTTP1_DRAIN_BYTES - (size_t)x->result->body_bytes;

        over = n > room;
        n = over ? room : n;
    }
    x->off += n;
    x->result->body_bytes += (apr_off_t)n;
    *done = (apr_off_t)n;
    if (n > 0 && x->sink->on_body(x->sink->ctx, data, n) != AIP_SINK_CONTINUE) {
        return fail(x, AIP_OUTCOME_STOPPED);
    }
    return !over || fail(x, AIP_OUTCOME_WITHHELD);
}

static bool read_length(exchange_t *x, apr_off_t left)
{
    apr_off_t done;

    for (; left > 0; left -= done) {
        if (!deliver(x, left, &done)) {
            return false;
        }
    }
    return true;
}

/* The end of the connection is the end of the body only when the peer closed; a reset has cut it.
 * */
static bool read_until_close(exchange_t *x)
{
    apr_off_t done;

    while (deliver(x, AIP_HTTP1_LINE_MAX, &done)) {
        continue;
    }
    return x->eof;
}

/* The end of line after a chunk. Byte by byte: anything else is refused at once and not waited for.
 * */
static bool end_chunk(exchange_t *x)
{
    for (bool cr = false;; cr = true) {
        char c;

        if (x->off == x->end && !fill(x)) {
            return false;
        }
        c = x->buf[x->off++];
        if (c == '\n') {
            return true;
        }
        if (c != '\r' || cr) {
            return malformed(x);
        }
    }
}

static bool read_chunks(exchange_t *x)
{
    for (;;) {
        budget_t trailers = {0};
        aip_span_t line;
        apr_off_t size;
        size_t spent = 0;

        if (!next_line(x, &line, &spent, aip_http1_chunk_begins)) {
            return false;
        }
        if (!aip_http1_chunk_size(line, &size)) {
            return malformed(x);
        }
        if (size == 0) {
            return read_fields(x, &trailers, false);
        }
        if (!read_length(x, size) || !end_chunk(x)) {
            return false;
        }
    }
}

static bool read_body(exchange_t *x, aip_http1_body_e body)
{
    switch (body) {
    case AIP_HTTP1_BODY_NONE:
        return true;
    case AIP_HTTP1_BODY_LENGTH:
        return read_length(x, x->head.response.length);
    case AIP_HTTP1_BODY_CHUNKED:
        return read_chunks(x);
    case AIP_HTTP1_BODY_CLOSE:
        return read_until_close(x);
    }
    return false;
}

void aip_http1_exchange(const aip_conn_t *conn, const aip_http1_request_t *request,
                        const aip_http1_limits_t *limits, const aip_http1_sink_t *sink,
                        aip_http1_result_t *result, apr_pool_t *pool)
{
    char buf[AIP_HTTP1_LINE_MAX];
    aip_http1_body_e body = AIP_HTTP1_BODY_NONE;
    exchange_t x = {
        .conn = conn,
        .limits = limits,
        .sink = sink,
        .result = result,
        .pool = pool,
        .vec = {{(void *)request->head.data, request->head.len},
                {(void *)request->body.data, request->body.len}},
        .pieces = request->body.len > 0 ? 2 : 1,
        .phase = PHASE_WRITE,
        .buf = buf,
    };

    *result = (aip_http1_result_t){0};
    if (!write_request(&x) || !read_head(&x, &body) || !report_head(&x) || !read_body(&x, body)) {
        return;
    }
    result->outcome = x.phase == PHASE_DRAIN ? AIP_OUTCOME_WITHHELD : AIP_OUTCOME_OK;
    result->complete = true;
    result->reusable = x.head.persistent && x.first == x.pieces && x.off == x.end;
}
