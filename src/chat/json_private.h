/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_CHAT_JSON_PRIVATE_H
#define AIP_CHAT_JSON_PRIVATE_H
/* What the files of src/chat share below the public contract of aip/json.h: the walk over UTF-8 and
 * over plain string bytes, which scanner and writer must see alike, and variants of the scanner
 * that save the chat unit further passes. */

#include "aip/json.h"

#include <stdint.h>
#include <string.h>

/* AIP_JSON_PORTABLE forces the fallback, so that one machine can test both. */
#if defined(__SSE2__) && !defined(AIP_JSON_PORTABLE)
#include <emmintrin.h>
#define AIP_JSON_SSE2 1
#endif

/** The first byte from `p` on that a JSON string cannot hold as plain ASCII: '"', '\\', below 0x20,
 * above 0x7f; or `end`. */
static inline const char *aip_json_plain_end(const char *p, const char *end)
{
#ifdef AIP_JSON_SSE2
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i slash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(' ');

    while (end - p >= 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* bytes above 0x7f are negative here: one signed comparison finds them and the control
         * characters */
        const __m128i stop =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)),
                         _mm_cmplt_epi8(x, space));
        const unsigned mask = (unsigned)_mm_movemask_epi8(stop);

        if (mask)
            return p + __builtin_ctz(mask);
        p += 16;
    }
#else
    const uint64_t ones = UINT64_C(0x0101010101010101);

    while (end - p >= 8) {
        uint64_t x, quote, slash, stop;

        memcpy(&x, p, sizeof(x));
        quote = x ^ (ones * '"');
        slash = x ^ (ones * '\\');
        stop = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((x - ones * ' ') & ~x) | x;
        if (stop & (ones * 0x80))
            break;
        p += 8;
    }
#endif
    while (p < end && (unsigned char)(*p - ' ') < 0x60 && *p != '"' && *p != '\\')
        p++;
    return p;
}

/**
 * Looks at the character at `p` < `end` (RFC 3629).
 * @param len  out: its bytes; when it is malformed, the bytes that one U+FFFD stands for (the
 * maximal subpart)
 * @return whether it is well-formed
 */
static inline bool aip_utf8_next(const char *p, const char *end, size_t *len)
{
    const unsigned char *s = (const unsigned char *)p;
    const size_t left = (size_t)(end - p);
    unsigned char low = 0x80, high = 0xbf; /* range of the second byte */
    size_t need, i;

    *len = 1;
    if (s[0] < 0x80)
        return true;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return false;
    need = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] == 0xe0)
        low = 0xa0; /* below: overlong */
    else if (s[0] == 0xed)
        high = 0x9f; /* above: surrogates */
    else if (s[0] == 0xf0)
        low = 0x90; /* below: overlong */
    else if (s[0] == 0xf4)
        high = 0x8f; /* above: beyond U+10FFFF */
    for (i = 1; i < need; i++) {
        if (i == left || s[i] < low || s[i] > high) {
            *len = i;
            return false;
        }
        low = 0x80;
        high = 0xbf;
    }
    *len = need;
    return true;
}

/** The greatest length <= `cut` that splits no character of the well-formed `text`; cut < length of
 * the text. */
static inline size_t aip_utf8_floor(const char *text, size_t cut)
{
    while (cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
        cut--;
    return cut;
}

static inline const char *aip_json_skip_space(const char *p, const char *end)
{
    if (p < end && (unsigned char)*p > ' ') /* most often there is none */
        return p;
#ifdef AIP_JSON_SSE2
    while (end - p >= 16 && *p == ' ' && p[1] == ' ') { /* an indented text */
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        const unsigned other =
            ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8(' '))) & 0xffff;
        if (other) {
            p += __builtin_ctz(other);
            break;
        }
        p += 16;
    }
#endif
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/** The members to locate in one object. */
typedef struct aip_json_wanted_t {
    const aip_span_t *names;
    size_t n;
    uint64_t lengths; /**< bit l % 64 is set when a name has length l: most other keys need no
                         comparison */
    aip_json_member_t *members;
} aip_json_wanted_t;

/** @param members  out: none is found yet */
static inline aip_json_wanted_t aip_json_wanted(const aip_span_t *names, size_t n,
                                                aip_json_member_t *members)
{
    aip_json_wanted_t w = {.names = names, .n = n, .members = members};

    for (size_t i = 0; i < n; i++) {
        w.lengths |= UINT64_C(1) << (names[i].len & 63);
        members[i] = (aip_json_member_t){0};
    }
    return w;
}

/** The index of the wanted name that the key (with its quotes) spells, or w->n. */
static inline size_t aip_json_wanted_find(const aip_json_wanted_t *w, aip_span_t key, bool escaped)
{
    const size_t len = key.len - 2;
    size_t i = 0;

    if (escaped) {
        while (i < w->n && !aip_json_equals(key, w->names[i]))
            i++;
        return i;
    }
    if (!(w->lengths >> (len & 63) & 1))
        return w->n;
    while (i < w->n && (w->names[i].len != len || memcmp(w->names[i].data, key.data + 1, len) != 0))
        i++;
    return i;
}

/** What a pass saw in an array. */
typedef struct aip_json_items_t {
    size_t count;
    const char *other; /**< the first item that is no object, or NULL */
} aip_json_items_t;

/** aip_json_object() that also fills `items` for the member `names[items_of]` when it is an array.
 */
aip_json_status_e aip_json_object_items(aip_span_t text, const aip_span_t *names, size_t n,
                                        aip_json_member_t *members, size_t items_of,
                                        aip_json_items_t *items, aip_json_error_t *err);

/** The end of the value that starts at `p`, or NULL when there is none before `end`. */
const char *aip_json_value_end(const char *p, const char *end);

/**
 * aip_json_array_next() that locates `names` in an item that is an object; other items leave
 * `members` zeroed.
 * @param err  out: offset is counted from the start of the array
 * @return false at the end of the array (err->status is AIP_JSON_OK) and at a fault
 */
bool aip_json_array_next_members(aip_span_t array, const char **cursor, const aip_span_t *names,
                                 size_t n, aip_json_member_t *members, aip_json_error_t *err);

/**
 * aip_json_decode() of at most `max` bytes, cut at a character boundary.
 * @param cut  out: whether something was left out
 */
size_t aip_json_decode_max(aip_span_t value, char *out, size_t max, bool *cut);

#endif
