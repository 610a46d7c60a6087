/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds event streams to the reader. The first two bytes of the input choose the limit and the
 * cuts. Checked: the raw parts are the input, and the events are the same for any cuts. */

#include "aip/sse.h"

#include <apr_general.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) ((what) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct seen_t {
    const char *expected; /* what the raw parts must be */
    size_t at, len;
    uint64_t hash; /* of names and data */
} seen_t;

static void add(seen_t *s, aip_span_t span, char mark)
{
    CHECK(span.data || span.len == 0);
    for (size_t i = 0; i < span.len; i++) {
        s->hash = (s->hash ^ (unsigned char)span.data[i]) * UINT64_C(1099511628211);
    }
    s->hash = (s->hash ^ (unsigned char)(span.data ? mark : '-') ^ (span.len << 8)) *
              UINT64_C(1099511628211);
}

static bool on_event(void *ctx, const aip_sse_event_t *event)
{
    seen_t *s = ctx;

    CHECK(event->raw.len > 0 && event->raw.len <= s->len - s->at);
    CHECK(memcmp(event->raw.data, s->expected + s->at, event->raw.len) == 0);
    s->at += event->raw.len;
    CHECK(!event->partial || (!event->data.data && !event->name.data));
    CHECK(event->data.len < event->raw.len && event->name.len < event->raw.len);
    if (event->data.data || event->name.data) {
        add(s, event->name, 'n');
        add(s, event->data, 'd');
    }
    return true;
}

static seen_t run(const char *data, size_t len, size_t max, unsigned seed, apr_pool_t *pool)
{
    aip_sse_t *sse = aip_sse_create(pool, max);
    seen_t s = {.expected = data, .len = len};

    for (size_t at = 0, n; at < len; at += n) {
        char *copy;

        n = seed ? 1 + (size_t)rand_r(&seed) % 20 : len;
        n = n < len - at ? n : len - at;
        copy = malloc(n);
        memcpy(copy, data + at, n);
        CHECK(aip_sse_feed(sse, copy, n, on_event, &s));
        free(copy);
    }
    CHECK(aip_sse_finish(sse, on_event, &s));
    CHECK(s.at == len);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static apr_pool_t *pool;
    const char *text = (const char *)data + 2;
    size_t max;

    if (size < 2) {
        return 0;
    }
    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    max = data[0] < 128 ? data[0] : 65536;
    CHECK(run(text, size - 2, max, 0, pool).hash ==
          run(text, size - 2, max, 1U + data[1], pool).hash);
    apr_pool_clear(pool);
    return 0;
}
