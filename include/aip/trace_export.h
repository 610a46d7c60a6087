/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TRACE_EXPORT_H
#define AIP_TRACE_EXPORT_H
/* Spans on their way to a collector: a bounded queue that never makes anybody wait, and the work of
 * the background thread that empties it, OTLP over HTTP
 * (https://opentelemetry.io/docs/specs/otlp/).
 */

#include "aip/egress.h"
#include "aip/log.h"

/** How many spans went where; all zero: none yet. In shared memory. */
typedef struct aip_traces_counts_t {
    _Atomic(apr_uint64_t) exported;       /**< a collector has taken them */
    _Atomic(apr_uint64_t) dropped_queue;  /**< the queue was full */
    _Atomic(apr_uint64_t) dropped_failed; /**< no collector took them, or it refused some */
    _Atomic(apr_int64_t) complained;      /**< when that was logged last */
} aip_traces_counts_t;

/** Where the spans of a server go; as its AITraces directives say. Immutable. */
typedef struct aip_traces_conf_t {
    int index; /**< among those of the configuration */
    const char *endpoint;
    const char *header_name, *header_value; /**< the value may hold references; NULL: none */
    const char *service;
    int queue_size; /**< requests */
    apr_interval_time_t flush_interval, timeout;
    const aip_egress_t *egress;
} aip_traces_conf_t;

/** Of spans in one export. */
#define AIP_TRACE_BATCH_BYTES ((size_t)1 << 20)

/* ---- the queue ---- */

typedef struct aip_trace_queue_t aip_trace_queue_t;

/** Free bytes before the spans of a batch: more than aip_otlp_head() ever makes. */
#define AIP_TRACE_HEAD 4096

/** The spans of some requests, one after the other, see aip/otlp.h. */
typedef struct aip_trace_batch_t {
    struct aip_trace_batch_t *next; /**< the queue's own */
    int requests, spans;
    size_t len, room; /**< bytes of spans, behind those left free */
    char data[];
} aip_trace_batch_t;

typedef enum aip_trace_queued_e {
    AIP_TRACE_QUEUED,
    AIP_TRACE_QUEUED_WAKE, /**< it is getting full: whoever empties it should do so now */
    AIP_TRACE_FULL         /**< dropped */
} aip_trace_queued_e;

/**
 * @param limit  requests whose spans may wait
 * @param bytes  of a batch; the spans of one request that are longer are one of their own
 * @return NULL: there is no lock
 */
aip_trace_queue_t *aip_trace_queue_create(int limit, size_t bytes, apr_pool_t *pool);

/** Copies the spans of a request into the queue. From any thread; no signal handler may end the
 * thread meanwhile (aip/signals.h). */
aip_trace_queued_e aip_trace_queue_push(aip_trace_queue_t *queue, aip_span_t data, int spans);

/** Takes the oldest batch, to be given back. @return NULL: the queue is empty */
aip_trace_batch_t *aip_trace_queue_take(aip_trace_queue_t *queue);

/** Takes back the memory of a batch, for others. */
void aip_trace_queue_give_back(aip_trace_queue_t *queue, aip_trace_batch_t *batch);

/** Whether it is half full or more: when AIP_TRACE_QUEUED_WAKE is told. */
bool aip_trace_queue_pressed(aip_trace_queue_t *queue);

/* ---- the export ---- */

typedef struct aip_trace_exporter_t {
    const aip_traces_conf_t *conf;
    const char *version;  /**< of the module */
    const char *instance; /**< tells this server from others */
    aip_trace_queue_t *queue;
    aip_traces_counts_t *counts;
    aip_log_t log;
    apr_pool_t *pool; /**< the thread's own */
    /** Waits for at most `limit`, or until woken. @return false: the thread shall end */
    bool (*wait)(void *baton, apr_interval_time_t limit);
    void *baton;
    const volatile apr_uint32_t *stop; /**< not 0: the thread shall end */
} aip_trace_exporter_t;

/** What is sent after the order to end takes no longer than this; the rest is dropped. */
#define AIP_TRACE_EXIT_LIMIT apr_time_from_sec(2)

/** The thread's work, until it shall end. */
void aip_trace_export_run(const aip_trace_exporter_t *exporter);

/** What an answer to an export means. */
typedef enum aip_export_verdict_e {
    AIP_EXPORT_TAKEN,
    AIP_EXPORT_AGAIN, /**< 429, 502, 503, 504, or no answer at all (status 0) */
    AIP_EXPORT_REFUSED
} aip_export_verdict_e;

aip_export_verdict_e aip_export_verdict(int status);

/**
 * The pause before another attempt: the collector's wish, within bounds, or one that doubles.
 * @param failed       attempts so far, >= 1
 * @param retry_after  -1: the collector named none
 */
apr_interval_time_t aip_export_pause(int failed, apr_interval_time_t retry_after);

#endif
