/* SPDX-License-Identifier: Apache-2.0 */
/* W3C trace context: parsing what clients send, making ids. Called in request threads. Ids come
 * from a generator of the process, which asks the system once, for its seed: they have to be unlike
 * each other, not hard to guess. One of each thread's own would be in no cache when it is needed.
 */
#include "aip/trace_context.h"

#include <apr_general.h>
#include <apr_time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static bool is_hex(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) {
            return false;
        }
    }
    return true;
}

static bool is_id(const char *text, size_t n)
{
    return is_hex(text, n) && strspn(text, "0") < n;
}

static unsigned digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

bool aip_traceparent_parse(const char *text, aip_trace_context_t *context)
{
    size_t len = text ? strlen(text) : 0;
    if (len < AIP_TRACEPARENT_LEN || text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !is_hex(text, 2) || !is_id(text + 3, AIP_TRACE_ID_HEX) ||
        !is_id(text + 36, AIP_SPAN_ID_HEX) || !is_hex(text + 53, 2) ||
        strncmp(text, "ff", 2) == 0) {
        return false;
    }
    /* A later version may say more, after a dash. httpd joins repeated headers with commas. */
    bool later = strncmp(text, "00", 2) != 0 && text[AIP_TRACEPARENT_LEN] == '-';
    if ((len > AIP_TRACEPARENT_LEN && !later) || strchr(text, ',')) {
        return false;
    }
    memcpy(context->trace_id, text + 3, AIP_TRACE_ID_HEX);
    context->trace_id[AIP_TRACE_ID_HEX] = '\0';
    memcpy(context->parent_id, text + 36, AIP_SPAN_ID_HEX);
    context->parent_id[AIP_SPAN_ID_HEX] = '\0';
    context->sampled = digit(text[54]) & 1;
    return true;
}

/* ---- tracestate ---- */

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

/* simple-key, or tenant@system */
static bool key_ok(const char *key, size_t len)
{
    static const char rest[] = LOWER DIGITS "_-*/";
    const char *at = memchr(key, '@', len);
    size_t first = at ? (size_t)(at - key) : len, second = at ? len - first - 1 : 0;
    if (first < 1 || first > (at ? 241u : 256u) || !strchr(at ? LOWER DIGITS : LOWER, key[0]) ||
        strspn(key, rest) < first) {
        return false;
    }
    return !at ||
           (second >= 1 && second <= 14 && strchr(LOWER, at[1]) && strspn(at + 1, rest) >= second);
}

static bool value_ok(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (value[i] < 0x20 || value[i] > 0x7e || value[i] == '=') {
            return false;
        }
    }
    return len <= 256;
}

/* Whether a member before `end` has the key as well. */
static bool key_before(const char *text, const char *end, const char *key, size_t len)
{
    for (const char *p = text; p < end; p += strcspn(p, ",") + 1) {
        p += strspn(p, " \t");
        if (p + len < end && memcmp(p, key, len) == 0 && p[len] == '=') {
            return true;
        }
    }
    return false;
}

bool aip_tracestate_ok(const char *text)
{
    int members = 0;
    if (!text || strlen(text) > AIP_TRACESTATE_MAX) {
        return false;
    }
    for (const char *p = text;; p++) {
        p += strspn(p, " \t");
        size_t len = strcspn(p, ","), used = len;
        while (used && (p[used - 1] == ' ' || p[used - 1] == '\t')) {
            used--;
        }
        const char *equals = used ? memchr(p, '=', used) : NULL;
        size_t key = equals ? (size_t)(equals - p) : 0;
        if (used && (!equals || !key_ok(p, key) || used == key + 1 ||
                     !value_ok(equals + 1, used - key - 1) || key_before(text, p, p, key))) {
            return false;
        }
        members += used > 0;
        p += len;
        if (!*p) {
            return members >= 1 && members <= 32;
        }
    }
}

/* ---- ids ---- */

/* Between the numbers of a sequence, and from such a place to its number: one to one.
 * https://prng.di.unimi.it/splitmix64.c */
#define STEP APR_UINT64_C(0x9e3779b97f4a7c15)

static apr_uint64_t mix(apr_uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static _Atomic(apr_uint64_t) place;
static apr_uint64_t own; /* of this process: another one's sequence may come to the same place */

static void seed(void)
{
    apr_uint64_t random[2];
    if (apr_generate_random_bytes((unsigned char *)random, sizeof random) != APR_SUCCESS) {
        random[0] = mix((apr_uint64_t)apr_time_now());
        random[1] = mix((apr_uint64_t)getpid());
    }
    atomic_init(&place, random[0]);
    own = random[1];
}

/* Numbers other than 0. */
static void randomize(apr_uint64_t *numbers, int n)
{
    static pthread_once_t seeded = PTHREAD_ONCE_INIT;
    (void)pthread_once(&seeded, seed);
    apr_uint64_t at =
        atomic_fetch_add_explicit(&place, (apr_uint64_t)n * STEP, memory_order_relaxed);
    for (int i = 0; i < n; i++) {
        apr_uint64_t number = mix(mix(at += STEP) ^ own);
        numbers[i] = number ? number : 1;
    }
}

/* Eight digits at once, each in a byte, the first one in the highest. */

static apr_uint64_t in_order(apr_uint64_t x)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return __builtin_bswap64(x);
#else
    return x;
#endif
}

#define EACH(byte) ((byte)*0x0101010101010101ull)

static apr_uint64_t read_eight(const char *text)
{
    apr_uint64_t x;
    memcpy(&x, text, sizeof x);
    x = in_order(x);
    x = (x & EACH(15)) + 9 * (x >> 6 & EACH(1)); /* letters have bit 6, and 'a' ends in 1 */
    x = (x | x >> 4) & 0x00ff00ff00ff00ffull;
    x = (x | x >> 8) & 0x0000ffff0000ffffull;
    return (x | x >> 16) & 0xffffffffull;
}

static void write_eight(apr_uint64_t x, char *out)
{
    x = (x | x << 16) & 0x0000ffff0000ffffull;
    x = (x | x << 8) & 0x00ff00ff00ff00ffull;
    x = (x | x << 4) & EACH(15);
    apr_uint64_t letters = (x + EACH(6)) >> 4 & EACH(1);
    x = in_order(x + EACH('0') + letters * ('a' - '0' - 10));
    memcpy(out, &x, sizeof x);
}

apr_uint64_t aip_hex_read(const char *text)
{
    return read_eight(text) << 32 | read_eight(text + 8);
}

static void write_hex(apr_uint64_t x, char *out)
{
    write_eight(x >> 32, out);
    write_eight(x & 0xffffffffull, out + 8);
}

/* @param x  the lower half of a trace id */
static bool is_sampled(apr_uint64_t x, double ratio)
{
    return ratio >= 1 || (ratio > 0 && x >> 1 < (apr_uint64_t)(ratio * 0x1p63));
}

bool aip_trace_sampled(const char *trace_id, double ratio)
{
    return is_sampled(aip_hex_read(trace_id + AIP_SPAN_ID_HEX), ratio);
}

void aip_trace_begin(aip_trace_context_t *context, const char *traceparent, double ratio)
{
    apr_uint64_t x[3];
    randomize(x, 3);
    *context = (aip_trace_context_t){.sampled = false};
    write_hex(x[0], context->span_id);
    if (!aip_traceparent_parse(traceparent, context)) {
        write_hex(x[1], context->trace_id);
        write_hex(x[2], context->trace_id + AIP_SPAN_ID_HEX);
        context->sampled = is_sampled(x[2], ratio);
    }
}

/* One to one, so that no two children have the same id. */
void aip_trace_child(const aip_trace_context_t *context, unsigned n, char id[AIP_SPAN_ID_HEX + 1])
{
    apr_uint64_t x = mix(aip_hex_read(context->span_id) + ((apr_uint64_t)n + 1) * STEP);
    write_hex(x ? x : 1, id);
    id[AIP_SPAN_ID_HEX] = '\0';
}

void aip_traceparent_write(const aip_trace_context_t *context, const char *span_id,
                           char text[AIP_TRACEPARENT_LEN + 1])
{
    memcpy(text, "00-", 3);
    memcpy(text + 3, context->trace_id, AIP_TRACE_ID_HEX);
    text[35] = '-';
    memcpy(text + 36, span_id, AIP_SPAN_ID_HEX);
    memcpy(text + 52, context->sampled ? "-01" : "-00", 4);
}
