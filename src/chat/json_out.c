/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of JSON lines: for logs and exporters, whose readers must not be misled by what
 * clients and upstreams put into texts. */
#include "aip/json_out.h"

#include "json_private.h"

#include <apr_strings.h>
#include <math.h>
#include <stdio.h>

#define DECIMAL AIP_JSON_OUT_NUMBER
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

/* Decimal digits, written from the back, at least `min`. @return where they begin */
static char *digits_before(char *end, apr_uint64_t value, int min)
{
    char *p = end;
    for (; value >= 100; value /= 100) {
        p = memcpy(p - 2, &pairs[value % 100 * 2], 2);
    }
    for (; value >= 10; value /= 10) {
        *--p = (char)('0' + value % 10);
    }
    if (value || p == end) {
        *--p = (char)('0' + value);
    }
    while (end - p < min) {
        *--p = '0';
    }
    return p;
}

/* Sign, whole part, and `digits` decimals less the zeros at their end. @param unit 10^digits
 * @return how many bytes there are at `text`, at most DECIMAL */
static inline size_t decimal(char *text, apr_int64_t value, int digits, apr_uint64_t unit)
{
    char room[2 * DECIMAL] = {0}, *end = room + DECIMAL, *from = end;
    apr_uint64_t all = value < 0 ? 0 - (apr_uint64_t)value : (apr_uint64_t)value;
    apr_uint64_t rest = all % unit;
    if (rest) {
        from = digits_before(end, rest, digits);
        while (end[-1] == '0') {
            end--;
        }
        *--from = '.';
    }
    from = digits_before(from, all / unit, 1);
    if (value < 0) {
        *--from = '-';
    }
    memcpy(text, from, DECIMAL); /* more than there is: a length that is known needs no call */
    return (size_t)(end - from);
}

size_t aip_json_out_digits(char *text, apr_int64_t value)
{
    return decimal(text, value, 0, 1);
}

size_t aip_json_out_thousandths(char *text, apr_int64_t value)
{
    return decimal(text, value, 3, 1000);
}

void aip_json_out_pico(aip_json_out_t *out, const char *key, apr_int64_t value)
{
    out->len += decimal(aip_json_out_begin(out, key), value, PICO_DIGITS, PICO);
}

const char *aip_pico_text(apr_int64_t value, apr_pool_t *pool)
{
    char text[DECIMAL];
    return apr_pstrmemdup(pool, text, decimal(text, value, PICO_DIGITS, PICO));
}

void aip_json_out_real(aip_json_out_t *out, const char *key, double value)
{
    if (!isfinite(value)) {
        aip_json_out_null(out, key);
        return;
    }
    char *p = aip_json_out_begin(out, key);
    out->len += (size_t)snprintf(p, DECIMAL, "%.9g", value);
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
