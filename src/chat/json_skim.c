/* SPDX-License-Identifier: Apache-2.0 */
/* Members of answers, found without a look at what is not wanted: of each answer and each event of
 * a stream that somebody keeps an account of. Only brackets and quotes are followed; a wanted text
 * or number is checked as the scanner checks it. Thread-safe, allocates nothing. */
#include "aip/json.h"
#include "json_private.h"

/* The next quote or backslash, or `end`. */
static const char *next_quote(const char *p, const char *end)
{
#ifdef AIP_JSON_SSE2
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');

    for (; end - p >= 16; p += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        const unsigned mask = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)));
        if (mask)
            return p + __builtin_ctz(mask);
    }
#endif
    while (p < end && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* p at the opening quote. @return behind the closing one; NULL: there is none */
static const char *pass_string(const char *p, const char *end, bool *escaped)
{
    for (p = next_quote(p + 1, end); p < end && *p == '\\'; p = next_quote(p + 2, end)) {
        *escaped = true;
        if (end - p < 2)
            return NULL;
    }
    return p < end ? p + 1 : NULL;
}

#ifdef AIP_JSON_SSE2
/* One bit for each of 64 bytes, the first is the lowest. */
typedef struct block_t {
    uint64_t quotes, slashes, opens, closes;
} block_t;

static block_t look_at(const char *p)
{
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'),
                  bit = _mm_set1_epi8('{' ^ '['), open = _mm_set1_epi8('{'),
                  close = _mm_set1_epi8('}');
    block_t b = {0, 0, 0, 0};

    for (int i = 0; i < 64; i += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        const __m128i either = _mm_or_si128(x, bit); /* '[' is '{' less one bit, and so ']' */

        b.quotes |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, quote)) << i;
        b.slashes |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, slash)) << i;
        b.opens |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(either, open)) << i;
        b.closes |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(either, close)) << i;
    }
    return b;
}

/* The bytes behind backslashes that are not escaped themselves. */
static uint64_t escaped_by(uint64_t slashes)
{
    uint64_t escaped = 0;

    while (slashes) {
        const uint64_t behind = (slashes & -slashes) << 1;

        escaped |= behind;
        slashes &= (slashes - 1) & ~behind;
    }
    return escaped;
}

/* From each opening quote to the byte before its closing one: how many quotes there are up to a
 * byte, odd or even, by halves (https://arxiv.org/abs/1902.08318, 3.1.1). */
static uint64_t strings_of(uint64_t quotes)
{
    for (int i = 1; i < 64; i *= 2)
        quotes ^= quotes << i;
    return quotes;
}

/* p at the opening bracket; brackets are counted, whatever their kind. @return NULL: no end, or a
 * backslash outside of strings */
static const char *pass_nested(const char *p, const char *end)
{
    size_t open = 1;
    bool escaped;

    for (p++; p && p < end;) {
        char last[64] = {0};
        const size_t left = (size_t)(end - p), n = left < sizeof(last) ? left : sizeof(last);
        block_t b;
        uint64_t strings, brackets, stray;

        if (n < sizeof(last))
            memcpy(last, p, n);
        b = look_at(n < sizeof(last) ? last : p);
        b.quotes &= ~escaped_by(b.slashes);
        strings = strings_of(b.quotes);
        b.closes &= ~strings;
        b.opens &= ~strings;
        stray = b.slashes & ~strings;
        if (open > (size_t)__builtin_popcountll(b.closes)) { /* the end is not among them */
            open += (size_t)__builtin_popcountll(b.opens);
            open -= (size_t)__builtin_popcountll(b.closes);
        } else {
            for (brackets = b.opens | b.closes; brackets; brackets &= brackets - 1) {
                if (b.opens & brackets & -brackets)
                    open++;
                else if (!--open)
                    return stray & ((brackets & -brackets) - 1) ? NULL
                                                                : p + __builtin_ctzll(brackets) + 1;
            }
        }
        if (stray)
            return NULL;
        if (strings >> 63) /* the last one goes on behind these bytes */
            p = pass_string(p + 63 - __builtin_clzll(b.quotes), end, &escaped);
        else
            p += n;
    }
    return NULL;
}
#else
/* The next byte that tells where an object or array ends, or a string begins, or a backslash; or
 * `end`. */
static const char *next_bracket(const char *p, const char *end)
{
    while (p < end && *p != '"' && *p != '\\' && (*p | 0x20) != '{' && (*p | 0x20) != '}')
        p++;
    return p;
}

/* The same. */
static const char *pass_nested(const char *p, const char *end)
{
    size_t open = 1;
    bool escaped;

    for (p++; (p = next_bracket(p, end)) < end;) {
        if (*p == '"') {
            p = pass_string(p, end, &escaped);
            if (!p)
                return NULL;
        } else if (*p == '\\')
            return NULL;
        else if ((*p++ | 0x20) == '{')
            open++;
        else if (!--open)
            return p;
    }
    return NULL;
}
#endif

static const char *pass_value(const char *p, const char *end, bool wanted)
{
    bool escaped;

    if (p == end)
        return NULL;
    if ((*p | 0x20) == '{')
        return pass_nested(p, end);
    if (wanted)
        return aip_json_value_end(p, end);
    if (*p == '"')
        return pass_string(p, end, &escaped);
    while (p < end && (unsigned char)*p > ' ' && *p != ',' && *p != '}')
        p++;
    return p;
}

/* One member, its key at p. @return behind it, or NULL; status: set where it is a duplicate */
static const char *pass_member(const aip_json_wanted_t *w, const char *p, const char *end,
                               aip_json_status_e *status)
{
    const char *key = p, *value;
    bool escaped = false;
    size_t i;

    p = p < end && *p == '"' ? pass_string(p, end, &escaped) : NULL;
    if (!p || (escaped && !aip_json_value_end(key, p)))
        return NULL;
    i = aip_json_wanted_find(w, (aip_span_t){key, (size_t)(p - key)}, escaped);
    p = aip_json_skip_space(p, end);
    if (p == end || *p != ':')
        return NULL;
    value = aip_json_skip_space(p + 1, end);
    p = pass_value(value, end, i < w->n);
    if (p && i < w->n) {
        if (w->members[i].key) {
            *status = AIP_JSON_DUPLICATE;
            return NULL;
        }
        w->members[i] = (aip_json_member_t){key, {value, (size_t)(p - value)}};
    }
    return p;
}

/* p at the opening brace. @return behind the closing one, or NULL */
static const char *pass_object(const aip_json_wanted_t *w, const char *p, const char *end,
                               aip_json_status_e *status)
{
    p = aip_json_skip_space(p + 1, end);
    if (p < end && *p == '}')
        return p + 1;
    while ((p = pass_member(w, p, end, status)) != NULL) {
        p = aip_json_skip_space(p, end);
        if (p == end)
            return NULL;
        if (*p == '}')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = aip_json_skip_space(p + 1, end);
    }
    return NULL;
}

aip_json_status_e aip_json_object_skim(aip_span_t text, const aip_span_t *names, size_t n,
                                       aip_json_member_t *members)
{
    aip_json_wanted_t w = aip_json_wanted(names, n, members);
    aip_json_status_e status = AIP_JSON_SYNTAX;
    const char *p = text.data, *end = text.data + text.len;

    p = p ? aip_json_skip_space(p, end) : end;
    if (p == end || *p != '{')
        return AIP_JSON_NOT_OBJECT;
    p = pass_object(&w, p, end, &status);
    if (p && aip_json_skip_space(p, end) == end)
        return AIP_JSON_OK;
    memset(members, 0, n * sizeof(*members));
    return status;
}

bool aip_json_first_skim(aip_span_t array, const aip_span_t *names, size_t n,
                         aip_json_member_t *members)
{
    aip_json_wanted_t w = aip_json_wanted(names, n, members);
    aip_json_status_e status;
    const char *end = array.data + array.len, *p = end;

    if (aip_json_type(array) == '[')
        p = aip_json_skip_space(array.data + 1, end);
    return p < end && *p == '{' && pass_object(&w, p, end, &status);
}
