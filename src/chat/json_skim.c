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

/* The next byte that tells where an object or array ends, or a string begins; or `end`. */
static const char *next_bracket(const char *p, const char *end)
{
#ifdef AIP_JSON_SSE2
    const __m128i quote = _mm_set1_epi8('"'), bit = _mm_set1_epi8('{' ^ '['),
                  open = _mm_set1_epi8('{'), close = _mm_set1_epi8('}');

    for (; end - p >= 16; p += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        const __m128i either = _mm_or_si128(x, bit); /* '[' is '{' less one bit, and so ']' */
        const unsigned mask = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_or_si128(_mm_cmpeq_epi8(either, open),
                                                                _mm_cmpeq_epi8(either, close))));
        if (mask)
            return p + __builtin_ctz(mask);
    }
#endif
    while (p < end && *p != '"' && (*p | 0x20) != '{' && (*p | 0x20) != '}')
        p++;
    return p;
}

/* p at the opening bracket; brackets are counted, whatever their kind. @return NULL: no end */
static const char *pass_nested(const char *p, const char *end)
{
    size_t open = 1;
    bool escaped;

    for (p++; (p = next_bracket(p, end)) < end;) {
        if (*p == '"') {
            p = pass_string(p, end, &escaped);
            if (!p)
                return NULL;
        } else if ((*p++ | 0x20) == '{')
            open++;
        else if (!--open)
            return p;
    }
    return NULL;
}

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
