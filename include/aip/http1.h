/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_HTTP1_H
#define AIP_HTTP1_H
/* One HTTP/1.1 exchange (RFC 9112): writes a request, reads the response, reports it to a sink.
 * Knows neither sockets nor httpd: it works through five functions, so that tests and fuzzers drive
 * it with bytes. */

#include "aip/aip.h"
#include <apr_tables.h>
#include <sys/uio.h>

typedef enum aip_wait_e { AIP_WAIT_READ = 1, AIP_WAIT_WRITE = 2 } aip_wait_e;

/** A connection. Every function gets `ctx`. */
typedef struct aip_conn_t {
    void *ctx;
    /** Reads what is there. In: *len = room. APR_SUCCESS with *len > 0, APR_EAGAIN, APR_EOF, or
     * another status: broken. */
    apr_status_t (*read)(void *ctx, char *buf, apr_size_t *len);
    /** Writes what fits, 1..n pieces. APR_SUCCESS with *written > 0 (may be short), APR_EAGAIN,
     * APR_TIMEUP with *written > 0: it waited by itself, in vain, and how much of that got through
     * is not known; or another status: broken. */
    apr_status_t (*write)(void *ctx, const struct iovec *vec, int n, apr_size_t *written);
    /** Waits. APR_SUCCESS: ready (or worth a try); APR_TIMEUP; APR_ECONNABORTED: the client is
     * gone; other: broken. */
    apr_status_t (*wait)(void *ctx, aip_wait_e what, apr_interval_time_t timeout);
    /** Microseconds; the clock that deadlines are measured with. */
    apr_time_t (*now)(void *ctx);
    /** After a failure: whether it was the TLS handshake. */
    bool (*tls_failed)(void *ctx);
} aip_conn_t;

/** What an exchange came to. The criterion words of balancer.failover_criteria are derived from it.
 */
typedef enum aip_outcome_e {
    AIP_OUTCOME_OK = 0,  /**< complete response */
    AIP_OUTCOME_CONNECT, /**< refused, unreachable, name not found (set by the caller of the
                            exchange) */
    AIP_OUTCOME_CONNECT_TIMEOUT,
    AIP_OUTCOME_TLS,  /**< handshake or verification failed; nothing of the request was sent */
    AIP_OUTCOME_DROP, /**< closed or reset before the first byte of a response */
    AIP_OUTCOME_WRITE_TIMEOUT,
    AIP_OUTCOME_FIRST_BYTE_TIMEOUT, /**< no complete response head in time */
    AIP_OUTCOME_INVALID_HEADER,     /**< not HTTP/1.x, bad or contradicting header fields, limits
                                       exceeded */
    AIP_OUTCOME_BODY_CUT,           /**< head complete, body broken off or badly framed */
    AIP_OUTCOME_IDLE_TIMEOUT,       /**< between two reads of the body */
    AIP_OUTCOME_TOTAL_TIMEOUT,      /**< the absolute deadline passed */
    AIP_OUTCOME_CLIENT_GONE,
    AIP_OUTCOME_WITHHELD, /**< the sink asked for AIP_SINK_DRAIN */
    AIP_OUTCOME_STOPPED,  /**< the sink asked to stop */
    AIP_OUTCOME_SECRET /**< there was no credential: the target was not asked (set by the caller) */
} aip_outcome_e;

/** Lower-case word for logs: "ok", "connect", "connect-timeout", "tls", "drop", "write-timeout" ...
 */
const char *aip_outcome_name(aip_outcome_e outcome);

typedef struct aip_http1_request_t {
    aip_span_t head; /**< request line and header fields, with the empty line */
    aip_span_t body;
} aip_http1_request_t;

typedef struct aip_http1_response_t {
    int status; /**< 200..999 (1xx are skipped and never reported) */
    int minor;  /**< HTTP/1.minor */
    apr_table_t
        *headers;     /**< all fields in order (apr_table_addn), names as sent, values trimmed */
    apr_off_t length; /**< Content-Length, or -1: chunked or until close */
} aip_http1_response_t;

typedef enum aip_sink_e { AIP_SINK_CONTINUE, AIP_SINK_DRAIN, AIP_SINK_STOP } aip_sink_e;

/** Where the response goes. on_body data is valid during the call only. */
typedef struct aip_http1_sink_t {
    void *ctx;
    /** Once, when the final head is complete. `response` is valid until the exchange
     * returns, its table as long as the pool. DRAIN: body is still reported, but at most
     * AIP_HTTP1_DRAIN_BYTES of it and for AIP_HTTP1_DRAIN_TIME after the head; the outcome is
     * WITHHELD, and the connection stays reusable if that sufficed. */
    aip_sink_e (*on_head)(void *ctx, const aip_http1_response_t *response);
    aip_sink_e (*on_body)(void *ctx, const char *data,
                          size_t len); /**< CONTINUE or STOP; len > 0 */
    aip_sink_e (*on_wait)(void *ctx); /**< about to wait for more of the body: pass on what is held;
                                         CONTINUE or STOP */
} aip_http1_sink_t;

#define AIP_HTTP1_DRAIN_BYTES 65536
#define AIP_HTTP1_DRAIN_TIME apr_time_from_msec(50)
#define AIP_HTTP1_LINE_MAX 16384 /**< longest status line, header line or chunk-size line */
#define AIP_HTTP1_HEAD_MAX                                                                         \
    65536 /**< all header lines of one head, 1xx and trailers counted apart */
#define AIP_HTTP1_FIELDS_MAX 200

typedef struct aip_http1_limits_t {
    apr_interval_time_t write_timeout; /**< between two writes that made progress */
    apr_interval_time_t read_timeout;  /**< until the head is complete, then between two reads that
                                          brought something */
    apr_interval_time_t first_byte;    /**< until the first byte of the head, 0 = read_timeout */
    apr_time_t deadline;               /**< absolute, 0 = none */
    const apr_time_t *idle_until; /**< a further limit for the body, moved by the sink: absolute, 0
                                     = none; or NULL */
} aip_http1_limits_t;

typedef struct aip_http1_result_t {
    aip_outcome_e outcome;
    int status;           /**< of the final head, 0 when none came */
    bool complete;        /**< the response was read to its end */
    bool reusable;        /**< complete, keep-alive, no byte left over */
    apr_size_t written;   /**< bytes of the request that the connection took */
    apr_size_t received;  /**< bytes that came back, of any kind */
    apr_off_t body_bytes; /**< bytes of response body (decoded from chunks) */
    apr_time_t head_at;   /**< when the final head was complete, 0 = never */
} aip_http1_result_t;

/**
 * Runs one exchange. Blocks only in conn->wait. A response that comes while the request is still
 * being written is read (a server may answer 413 early); the rest of the request is then not sent
 * and the connection is not reusable. Refused as AIP_OUTCOME_INVALID_HEADER: versions other than
 * HTTP/1.0 and 1.1, a field line without colon, with white space before it or with obs-fold,
 * control bytes in values, Content-Length together with Transfer-Encoding, two Content-Lengths that
 * differ, a Content-Length that is not digits only, a Transfer-Encoding other than exactly
 * "chunked", limits above. A bad chunk size is AIP_OUTCOME_BODY_CUT. 101 is INVALID_HEADER (never
 * asked for). HEAD is not supported: requests are POST or GET. 204 and 304 have no body.
 */
void aip_http1_exchange(const aip_conn_t *conn, const aip_http1_request_t *request,
                        const aip_http1_limits_t *limits, const aip_http1_sink_t *sink,
                        aip_http1_result_t *result, apr_pool_t *pool);

#endif
