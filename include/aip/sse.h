/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SSE_H
#define AIP_SSE_H
/* Server-sent events (WHATWG HTML, section 9.2.6), cut into whole events from reads of any size.
 * The raw bytes of all events, put together, are exactly the bytes that were fed. One reader
 * belongs to one thread. */

#include "aip/aip.h"

typedef struct aip_sse_event_t {
    aip_span_t raw;  /**< the bytes as they came, with the empty line that ends the event */
    aip_span_t data; /**< values of the data lines joined by "\n", without the last one; data NULL:
                        no data line */
    aip_span_t name; /**< value of the last event line; data NULL: none */
    bool partial; /**< a piece of an event longer than the limit, or the unfinished rest at the end:
                     only raw is set */
} aip_sse_event_t;

/** Called for each event in order; spans are valid during the call. false stops the feed. */
typedef bool (*aip_sse_fn)(void *ctx, const aip_sse_event_t *event);

typedef struct aip_sse_t aip_sse_t;

/** A reader; max_event bounds what is kept of an unfinished event. Comments, CR, LF, CRLF, a byte
 * order mark at the start, "data:" without space, several events per read and events split anywhere
 * are handled. */
aip_sse_t *aip_sse_create(apr_pool_t *pool, size_t max_event);

/** Feeds bytes. @return false when the callback stopped (the rest of `data` is dropped). */
bool aip_sse_feed(aip_sse_t *sse, const char *data, size_t len, aip_sse_fn fn, void *ctx);

/** At the end of the stream: reports an unfinished rest as a partial event. */
bool aip_sse_finish(aip_sse_t *sse, aip_sse_fn fn, void *ctx);

#endif
