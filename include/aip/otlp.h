/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_OTLP_H
#define AIP_OTLP_H
/* Spans in the JSON encoding of OTLP,
 * https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: a writer that only appends. Ids
 * are hex there, 64-bit integers are strings. Pure. */

#include "aip/trace_context.h"

/** opentelemetry.proto.trace.v1.Span.SpanKind */
typedef enum aip_span_kind_e {
    AIP_SPAN_INTERNAL = 1,
    AIP_SPAN_SERVER = 2,
    AIP_SPAN_CLIENT = 3
} aip_span_kind_e;

/** Longest value of an attribute, in bytes; what is longer is cut at a character. */
#define AIP_OTLP_VALUE_MAX 256

/** The text so far; begin with {.pool = pool}. */
typedef struct aip_otlp_t {
    apr_pool_t *pool;
    char *data;
    size_t len, room;
    int spans;
    bool attributes; /**< the span that is being written has some */
} aip_otlp_t;

/** Begins a span; one at a time. Several are separated by commas.
 * @param parent_id  "": none */
void aip_otlp_begin(aip_otlp_t *otlp, const aip_trace_context_t *trace, const char *span_id,
                    const char *parent_id, aip_span_kind_e kind, const char *name, apr_time_t start,
                    apr_time_t end);

/** Attributes of that span. A value that is NULL, or a count below 0, is left out. Text that is no
 * UTF-8 is mended with U+FFFD. */
void aip_otlp_text(aip_otlp_t *otlp, const char *key, const char *value);
void aip_otlp_text_list(aip_otlp_t *otlp, const char *key, const char *value); /**< of one item */
void aip_otlp_count(aip_otlp_t *otlp, const char *key, apr_int64_t value);
void aip_otlp_real(aip_otlp_t *otlp, const char *key, double value); /**< not finite: left out */
void aip_otlp_flag(aip_otlp_t *otlp, const char *key, bool value);
void aip_otlp_pico(aip_otlp_t *otlp, const char *key, apr_int64_t value); /**< 10^-12 */

/** Attributes that were written before, by the functions above, to a text of their own. */
void aip_otlp_attributes(aip_otlp_t *otlp, aip_span_t attributes);

/** Ends it. @param failed  its status is ERROR, else unset */
void aip_otlp_end(aip_otlp_t *otlp, bool failed);

/** What stands before and after the spans of a request for an export.
 * @param service, version, instance  attributes service.name, service.version and
 * service.instance.id of the resource; the scope has the version, too */
void aip_otlp_envelope(const char *service, const char *version, const char *instance,
                       const char **head, const char **tail, apr_pool_t *pool);

/** Reads the answer to an export. @param message  out: what the collector says, or NULL; bounded,
 * without control bytes
 * @return how many spans it has refused, 0 to `spans` */
int aip_otlp_rejected(aip_span_t answer, int spans, const char **message, apr_pool_t *pool);

#endif
