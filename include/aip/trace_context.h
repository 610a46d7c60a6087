/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_TRACE_CONTEXT_H
#define AIP_TRACE_CONTEXT_H
/* W3C trace context, https://www.w3.org/TR/trace-context/: what a client says of the trace that its
 * request is part of, and what the gateway says to a target. Pure; thread-safe. */

#include "aip/aip.h"

#define AIP_TRACE_ID_HEX 32
#define AIP_SPAN_ID_HEX 16
#define AIP_TRACEPARENT_LEN 55

/** Ids are lower-case hex, "" where there is none. */
typedef struct aip_trace_context_t {
    char trace_id[AIP_TRACE_ID_HEX + 1];
    char span_id[AIP_SPAN_ID_HEX + 1];   /**< of our span for the request */
    char parent_id[AIP_SPAN_ID_HEX + 1]; /**< of the client's span */
    bool sampled;
} aip_trace_context_t;

/**
 * Reads the value of a traceparent header into trace_id, parent_id and sampled. Higher versions are
 * read by their first four parts; version ff, ids that are all zero, upper case, and anything that
 * several headers were joined to are invalid.
 * @param text  NULL: there is no header
 * @return false: not valid, the context is left alone
 */
bool aip_traceparent_parse(const char *text, aip_trace_context_t *context);

/** Whether a tracestate may be passed on: 1 to 32 members of the form that the recommendation asks
 * for, no key twice, at most AIP_TRACESTATE_MAX bytes. */
bool aip_tracestate_ok(const char *text);
#define AIP_TRACESTATE_MAX 2048

/**
 * The context of a request: the trace of a valid traceparent goes on, its flag decides about
 * sampling; else a trace begins with random ids, which is sampled with the probability `ratio`, as
 * OpenTelemetry's TraceIdRatioBased does by the trace id's last 8 bytes.
 * @param ratio  0 to 1
 */
void aip_trace_begin(aip_trace_context_t *context, const char *traceparent, double ratio);

/** Whether a trace that begins with this id is sampled. */
bool aip_trace_sampled(const char *trace_id, double ratio);

/** The id of the n-th span below the request's: the same each time it is asked for, another one for
 * each n. */
void aip_trace_child(const aip_trace_context_t *context, unsigned n, char id[AIP_SPAN_ID_HEX + 1]);

/** 16 digits of an id, lower-case, as a number. */
apr_uint64_t aip_hex_read(const char *text);

/** "00-TRACE-SPAN-FLAGS" for a span of the context's trace. */
void aip_traceparent_write(const aip_trace_context_t *context, const char *span_id,
                           char text[AIP_TRACEPARENT_LEN + 1]);

#endif
