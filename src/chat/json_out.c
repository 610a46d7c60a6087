/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of JSON lines: for logs and exporters, whose readers must not be misled by what
 * clients and upstreams put into texts. */
#include "aip/json_out.h"

#include "json_private.h"

#include <apr_strings.h>
#include <math.h>
#include <stdio.h>

#define PICO_DIGITS 12
#define PICO UINT64_C(1000000000000)
#define SHORT 128

void aip_json_out_grow(aip_json_out_t *out, size_t more)
{
    size_t room = out->room;
    while (room < out->len + more) {
        room *= 2;
    }
    char *data = apr_palloc(out->pool, room);
    memcpy(data, out->data, out->len);
    out->data = data;
    out->room = room;
}

static inline void put(aip_json_out_t *out, const char *data, size_t len)
{
    memcpy(aip_json_out_room(out, len), data, len);
    out->len += len;
}

void aip_json_out_init(aip_json_out_t *out, apr_pool_t *pool, size_t room)
{
    *out = (aip_json_out_t){.pool = pool, .data = apr_palloc(pool, room), .room = room};
}

static void put_escape(aip_json_out_t *out, unsigned unit)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {
        '\\', 'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15], hex[unit & 15]};
    put(out, text, sizeof text);
}

static void put_ascii(aip_json_out_t *out, char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *found = c ? memchr(from, c, sizeof from - 1) : NULL;
    if (found) {
        char text[2] = {'\\', to[found - from]};
        put(out, text, sizeof text);
    } else if ((unsigned char)c < 0x20 || c == 0x7f) {
        put_escape(out, (unsigned char)c);
    } else {
        aip_json_out_byte(out, c);
    }
}

/* A well-formed character of two bytes or more. C1 controls move terminals, and U+2028 and U+2029
 * end lines for some readers. */
static void put_wide(aip_json_out_t *out, const char *p, size_t len)
{
    const unsigned char *s = (const unsigned char *)p;
    if (len == 2 && s[0] == 0xc2 && s[1] < 0xa0) {
        put_escape(out, s[1]);
    } else if (len == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] & 0xfe) == 0xa8) {
        put_escape(out, 0x2000u | (s[2] & 0x3fu));
    } else {
        put(out, p, len);
    }
}

static void put_text(aip_json_out_t *out, aip_span_t text, size_t max)
{
    const char *p = text.data, *end = text.data + text.len;
    while (p < end && max) {
        const char *plain = aip_json_plain_end(p, end);
        /* DEL is plain to JSON, but not to us. */
        const char *del = memchr(p, 0x7f, (size_t)(plain - p));
        size_t len = (size_t)((del ? del : plain) - p);
        len = len < max ? len : max;
        put(out, p, len);
        p += len;
        max -= len;
        if (p == end || !max) {
            break;
        }
        bool valid = aip_utf8_next(p, end, &len);
        size_t shown = valid ? len : 3;
        if (shown > max) {
            break;
        }
        if (!valid) {
            put(out, "\xef\xbf\xbd", 3);
        } else if (len == 1) {
            put_ascii(out, *p);
        } else {
            put_wide(out, p, len);
        }
        p += len;
        max -= shown;
    }
}

#ifdef AIP_JSON_SSE2
static bool is_plain(__m128i x)
{
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'),
                  space = _mm_set1_epi8(' '), del = _mm_set1_epi8(0x7f);
    const __m128i stop =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)),
                     _mm_or_si128(_mm_cmplt_epi8(x, space), _mm_cmpeq_epi8(x, del)));
    return !_mm_movemask_epi8(stop);
}

/* Fewer than 16 bytes, some of them twice. */
static __m128i load_short(const char *p, size_t len)
{
    apr_uint64_t first = 0, last = 0;
    if (len >= 8) {
        memcpy(&first, p, 8);
        memcpy(&last, p + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&first, p, 4);
        memcpy((char *)&first + 4, p + len - 4, 4);
        last = first;
    } else {
        const unsigned char *u = (const unsigned char *)p;
        first = UINT64_C(0x2020202020000000) | u[0] | (unsigned)u[len / 2] << 8 |
                (unsigned)u[len - 1] << 16;
        last = first;
    }
    return _mm_set_epi64x((apr_int64_t)last, (apr_int64_t)first);
}
#endif

bool aip_text_plain(aip_span_t text)
{
#ifdef AIP_JSON_SSE2
    size_t at = 0;
    if (text.len < 16) {
        return !text.len || is_plain(load_short(text.data, text.len));
    }
    for (; at + 16 < text.len; at += 16) {
        if (!is_plain(_mm_loadu_si128((const __m128i *)(const void *)(text.data + at)))) {
            return false;
        }
    }
    return is_plain(_mm_loadu_si128((const __m128i *)(const void *)(text.data + text.len - 16)));
#else
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            return false;
        }
    }
    return true;
#endif
}

void aip_json_out_string(aip_json_out_t *out, aip_span_t text, size_t max)
{
    if (!text.data) {
        put(out, "null", 4);
        return;
    }
    aip_json_out_byte(out, '"');
    if (text.len <= SHORT && text.len <= max && aip_text_plain(text)) { /* most are like this */
        put(out, text.data, text.len);
    } else {
        put_text(out, text, max);
    }
    aip_json_out_byte(out, '"');
}

void aip_json_out_chars(aip_json_out_t *out, const char *text)
{
    /* Of a longer text no more needs to be looked at; a character may lie across that place. */
    aip_json_out_string(out, (aip_span_t){text, text ? strnlen(text, AIP_JSON_OUT_BOUND + 4) : 0},
                        AIP_JSON_OUT_BOUND);
}

void aip_json_out_raw(aip_json_out_t *out, const char *key, aip_span_t json)
{
    aip_json_out_begin(out, key);
    put(out, json.data, json.len);
}

void aip_json_out_members(aip_json_out_t *out, aip_span_t members)
{
    aip_json_out_begin(out, NULL);
    put(out, members.data, members.len);
}

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233"
                            "34353637383940414243444546474849505152535455565758596061626364656667"
                            "6869707172737475767778798081828384858687888990919293949596979899";

/* Decimal digits. @return behind them */
static char *put_digits(char *p, apr_uint64_t value)
{
    /* clang-format off */
    static const apr_uint64_t powers[] = {
        1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000,
        UINT64_C(10000000000), UINT64_C(100000000000), UINT64_C(1000000000000),
        UINT64_C(10000000000000), UINT64_C(100000000000000), UINT64_C(1000000000000000),
        UINT64_C(10000000000000000), UINT64_C(100000000000000000),
        UINT64_C(1000000000000000000), UINT64_C(10000000000000000000),
    };
    /* clang-format on */
    /* As many as the binary digits say (log10 of 2 is 1233/4096), or one more. */
    unsigned n = (unsigned)(64 - __builtin_clzll(value | 1)) * 1233 >> 12;
    n += (value | 1) >= powers[n];
    char *end = p + n, *q = end;
    for (; value >= 100; value /= 100) {
        q = memcpy(q - 2, &pairs[value % 100 * 2], 2);
    }
    if (value < 10) {
        *p = (char)('0' + value);
    } else {
        memcpy(p, &pairs[value * 2], 2);
    }
    return end;
}

/* The same behind a sign. */
static char *put_signed(char *p, apr_int64_t value)
{
    *p = '-';
    return put_digits(p + (value < 0), value < 0 ? 0 - (apr_uint64_t)value : (apr_uint64_t)value);
}

size_t aip_json_out_digits(char *text, apr_int64_t value)
{
    return (size_t)(put_signed(text, value) - text);
}

static char *put_thousandths(char *p, apr_int64_t value)
{
    apr_uint64_t all = value < 0 ? 0 - (apr_uint64_t)value : (apr_uint64_t)value, rest = all % 1000;
    *p = '-';
    p = put_digits(p + (value < 0), all / 1000);
    if (rest) {
        p[0] = '.';
        p[1] = (char)('0' + rest / 100);
        memcpy(p + 2, &pairs[rest % 100 * 2], 2);
        p += rest % 10 ? 4 : rest % 100 ? 3 : 2;
    }
    return p;
}

/* 10^-12 of `value`. */
static char *put_pico(char *p, apr_int64_t value)
{
    apr_uint64_t all = value < 0 ? 0 - (apr_uint64_t)value : (apr_uint64_t)value, rest = all % PICO;
    *p = '-';
    p = put_digits(p + (value < 0), all / PICO);
    if (rest) {
        put_digits(p, rest + PICO); /* the 1 in front becomes the point, and all zeros are there */
        *p = '.';
        for (p += PICO_DIGITS; *p == '0'; p--) {
        }
        p++;
    }
    return p;
}

const char *aip_pico_text(apr_int64_t value, apr_pool_t *pool)
{
    char text[AIP_JSON_OUT_NUMBER];
    return apr_pstrmemdup(pool, text, (size_t)(put_pico(text, value) - text));
}

void aip_json_out_real(aip_json_out_t *out, const char *key, double value)
{
    if (!isfinite(value)) {
        aip_json_out_null(out, key);
        return;
    }
    char *p = aip_json_out_begin(out, key);
    out->len += (size_t)snprintf(p, AIP_JSON_OUT_NUMBER, "%.9g", value);
}

/* A text behind what is there already, up to `p`. @return behind it */
static char *put_chars(aip_json_out_t *out, char *p, const char *text)
{
    out->len = (size_t)(p - out->data);
    aip_json_out_chars(out, text);
    return out->data + out->len;
}

static char *put_plain(aip_json_out_t *out, char *p, aip_span_t text)
{
    out->len = (size_t)(p - out->data);
    p = aip_json_out_room(out, text.len + 2);
    *p = '"';
    memcpy(p + 1, text.data, text.len);
    p[text.len + 1] = '"';
    return p + text.len + 2;
}

static char *put_word(char *p, const char *word, size_t len)
{
    return (char *)memcpy(p, word, 5) + len;
}

static apr_int64_t number_at(const void *value)
{
    return *(const apr_int64_t *)value;
}

/* One member, which its key does not show yet. @param p  behind the key, with room for a number
 * @return behind the value; NULL: it is left out */
static char *put_value(aip_json_out_t *out, char *p, aip_json_kind_e kind, const void *value)
{
    switch (kind) {
    case AIP_JSON_TEXT_SET:
        return *(const char *const *)value ? put_chars(out, p, *(const char *const *)value) : NULL;
    case AIP_JSON_TEXT:
        return put_chars(out, p, *(const char *const *)value);
    case AIP_JSON_PLAIN_SET:
        return ((const aip_span_t *)value)->data ? put_plain(out, p, *(const aip_span_t *)value)
                                                 : NULL;
    case AIP_JSON_PLAIN:
        return put_plain(out, p, *(const aip_span_t *)value);
    case AIP_JSON_INT:
        return put_signed(p, *(const int *)value);
    case AIP_JSON_COUNT:
        return number_at(value) >= 0 ? put_digits(p, (apr_uint64_t)number_at(value)) : NULL;
    case AIP_JSON_INT64:
        return put_signed(p, number_at(value));
    case AIP_JSON_BOOL:
        return *(const bool *)value ? put_word(p, "true\0", 4) : put_word(p, "false", 5);
    case AIP_JSON_MS_NULL:
        return number_at(value) >= 0 ? put_thousandths(p, number_at(value))
                                     : put_word(p, "null\0", 4);
    case AIP_JSON_MS_SET:
        return number_at(value) >= 0 ? put_thousandths(p, number_at(value)) : NULL;
    case AIP_JSON_MS:
        return put_thousandths(p, number_at(value));
    case AIP_JSON_PICO:
        return put_pico(p, number_at(value));
    }
    return NULL;
}

void aip_json_out_fields(aip_json_out_t *out, const aip_json_field_t *fields, size_t n,
                         const void *from)
{
    for (const aip_json_field_t *f = fields; f < fields + n; f++) {
        char *p = aip_json_out_room(out, 1 + sizeof f->key + AIP_JSON_OUT_NUMBER);
        *p = ',';
        memcpy(p + out->more, f->key, sizeof f->key); /* a length that is known needs no call */
        p = put_value(out, p + out->more + f->len, (aip_json_kind_e)f->kind,
                      (const char *)from + f->offset);
        if (p) {
            out->len = (size_t)(p - out->data);
            out->more = true;
        }
    }
}

size_t aip_text_cut(aip_span_t text, size_t max)
{
    size_t len;
    if (text.len <= max) {
        return text.len;
    }
    /* A character is at most four bytes: the one that lies across the cut begins in the three
     * before it, if there is one. */
    for (size_t at = max > 3 ? max - 3 : 0; at < max; at++) {
        if (aip_utf8_next(text.data + at, text.data + text.len, &len) && at + len > max) {
            return at;
        }
    }
    return max;
}
