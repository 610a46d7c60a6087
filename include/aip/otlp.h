/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_OTLP_H
#define AIP_OTLP_H
/* Spans in the binary encoding of OTLP,
 * https://opentelemetry.io/docs/specs/otlp/#binary-protobuf-encoding: a writer that only appends.
 * Pure. */

#include "aip/trace_context.h"
#include <string.h>

/** opentelemetry.proto.trace.v1.Span.SpanKind */
typedef enum aip_span_kind_e {
    AIP_SPAN_INTERNAL = 1,
    AIP_SPAN_SERVER = 2,
    AIP_SPAN_CLIENT = 3
} aip_span_kind_e;

/** Longest value of an attribute, in bytes; what is longer is cut at a character. */
#define AIP_OTLP_VALUE_MAX 256

/** What has been written so far; begin with {.pool = pool}. */
typedef struct aip_otlp_t {
    apr_pool_t *pool;
    char *data;
    size_t len, room;
    int spans;
    size_t span; /**< where the one that is being written begins */
} aip_otlp_t;

/** Operation and what it was done to, with a space between them. */
typedef struct aip_span_name_t {
    const char *operation;
    const char *object; /**< NULL, "": none */
} aip_span_name_t;

/** Begins a span; one at a time.
 * @param trace, span_id  lower-case hex, as everywhere
 * @param parent_id  "": none */
void aip_otlp_begin(aip_otlp_t *otlp, const aip_trace_context_t *trace, const char *span_id,
                    const char *parent_id, aip_span_kind_e kind, aip_span_name_t name,
                    apr_time_t start, apr_time_t end);

/** What attributes are written with; keys are ours. */
void aip_otlp_put_text(aip_otlp_t *otlp, aip_span_t key, const char *value);
void aip_otlp_put_list(aip_otlp_t *otlp, aip_span_t key, const char *value);
void aip_otlp_put_count(aip_otlp_t *otlp, aip_span_t key, apr_uint64_t value);
void aip_otlp_put_real(aip_otlp_t *otlp, aip_span_t key, double value);
void aip_otlp_put_flag(aip_otlp_t *otlp, aip_span_t key, bool value);

/** Attributes of that span. A value that is NULL, or a count below 0, is left out. Text that is no
 * UTF-8 is mended with U+FFFD. Inline: of a literal the compiler knows the length. */
static inline void aip_otlp_text(aip_otlp_t *otlp, const char *key, const char *value)
{
    if (value) {
        aip_otlp_put_text(otlp, (aip_span_t){key, strlen(key)}, value);
    }
}

/** A list of one text. */
static inline void aip_otlp_text_list(aip_otlp_t *otlp, const char *key, const char *value)
{
    if (value) {
        aip_otlp_put_list(otlp, (aip_span_t){key, strlen(key)}, value);
    }
}

static inline void aip_otlp_count(aip_otlp_t *otlp, const char *key, apr_int64_t value)
{
    if (value >= 0) {
        aip_otlp_put_count(otlp, (aip_span_t){key, strlen(key)}, (apr_uint64_t)value);
    }
}

/** Not finite: left out. */
static inline void aip_otlp_real(aip_otlp_t *otlp, const char *key, double value)
{
    aip_otlp_put_real(otlp, (aip_span_t){key, strlen(key)}, value);
}

static inline void aip_otlp_flag(aip_otlp_t *otlp, const char *key, bool value)
{
    aip_otlp_put_flag(otlp, (aip_span_t){key, strlen(key)}, value);
}

/** Attributes that were written before, by the functions above, to a writer of their own. */
void aip_otlp_attributes(aip_otlp_t *otlp, aip_span_t attributes);

/** Ends it. @param failed  its status is ERROR, else unset */
void aip_otlp_end(aip_otlp_t *otlp, bool failed);

/** Who exports. */
typedef struct aip_otlp_origin_t {
    aip_span_t resource, scope;
} aip_otlp_origin_t;

/** @param service, version, instance  attributes service.name, service.version and
 * service.instance.id of the resource; the scope has the version, too */
void aip_otlp_origin(aip_otlp_origin_t *origin, const char *service, const char *version,
                     const char *instance, apr_pool_t *pool);

/** What stands before spans in an export; nothing stands behind them.
 * @param len  bytes of all the spans that follow */
aip_span_t aip_otlp_head(const aip_otlp_origin_t *origin, size_t len, apr_pool_t *pool);

/** Reads the answer to an export. @param message  out: what the collector says, or NULL; bounded,
 * without control bytes
 * @return how many spans it has refused, 0 to `spans` */
int aip_otlp_rejected(aip_span_t answer, int spans, const char **message, apr_pool_t *pool);

#endif
