/* SPDX-License-Identifier: Apache-2.0 */
/* Single JSON values: strings to and from UTF-8, comparison without decoding, numbers. Called with
 * spans that the scanner of json.c found; reads never leave the span, also when it was not
 * validated. Thread-safe; results live in the caller's buffer or pool. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strtod_l */
#endif

#include "aip/json.h"
#include "json_private.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#define REPLACEMENT 0xfffdu

/* Longer numbers do not fit a double as far as aip_json_double() is concerned: no sender means
 * them. */
#define NUMBER_MAX 1024

char aip_json_type(aip_span_t value)
{
    if (!value.data || !value.len)
        return 0;
    switch (value.data[0]) {
    case '{':
    case '[':
    case '"':
    case 't':
    case 'f':
    case 'n':
        return value.data[0];
    default:
        return value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9') ? '0' : 0;
    }
}

/* The text between the quotes; false when the value is no string. */
static bool string_body(aip_span_t value, const char **p, const char **end)
{
    if (aip_json_type(value) != '"' || value.len < 2)
        return false;
    *p = value.data + 1;
    *end = value.data + value.len - 1;
    return true;
}

/* The four hex digits of \uXXXX at p, or REPLACEMENT when they are not all there. */
static unsigned hex4(const char *p, const char *end)
{
    unsigned code = 0;
    int i;

    if (end - p < 6)
        return REPLACEMENT;
    for (i = 2; i < 6; i++) {
        const unsigned c = (unsigned char)p[i];

        code = code << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10) % 16;
    }
    return code;
}

/* The code point of the \u escape at *p, which is moved behind it. A lone surrogate is REPLACEMENT.
 */
static unsigned unicode_escape(const char **p, const char *end)
{
    unsigned code = hex4(*p, end);

    *p = end - *p < 6 ? end : *p + 6;
    if (code < 0xd800 || code > 0xdfff)
        return code;
    if (code < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        const unsigned low = hex4(*p, end);

        if (low >= 0xdc00 && low <= 0xdfff) {
            *p += 6;
            return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return REPLACEMENT;
}

/* Any escape at *p (a backslash), which is moved behind it. */
static unsigned escape(const char **p, const char *end)
{
    static const char letters[] = "bfnrt";
    static const char meanings[] = "\b\f\n\r\t";
    const char *letter;
    char c;

    if (end - *p < 2) {
        *p = end;
        return REPLACEMENT;
    }
    c = (*p)[1];
    if (c == 'u')
        return unicode_escape(p, end);
    *p += 2;
    letter = memchr(letters, c, sizeof(letters) - 1);
    return (unsigned char)(letter ? meanings[letter - letters] : c);
}

static size_t utf8_encode(unsigned code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Bytes from p up to the next backslash. */
static size_t run_length(const char *p, const char *end)
{
    const char *slash = memchr(p, '\\', (size_t)(end - p));

    return (size_t)((slash ? slash : end) - p);
}

size_t aip_json_decode_max(aip_span_t value, char *out, size_t max, bool *cut)
{
    const char *p, *end;
    size_t n = 0;

    *cut = false;
    if (!string_body(value, &p, &end))
        return 0;
    while (p < end) {
        size_t len = run_length(p, end);
        char character[4];
        const char *piece = p;

        if (len) {
            p += len;
        } else {
            len = utf8_encode(escape(&p, end), character);
            piece = character;
        }
        if (len > max - n) {
            *cut = true;
            len = aip_utf8_floor(piece, max - n);
        }
        memcpy(out + n, piece, len);
        n += len;
        if (*cut)
            break;
    }
    return n;
}

size_t aip_json_decode(aip_span_t value, char *out)
{
    bool cut;

    return aip_json_decode_max(value, out, value.len, &cut);
}

size_t aip_json_text_bytes(aip_span_t value)
{
    const char *p, *end;
    size_t n = 0;

    if (!string_body(value, &p, &end))
        return 0;
    while (p < end) {
        size_t len = run_length(p, end);
        char character[4];

        p += len;
        n += len ? len : utf8_encode(escape(&p, end), character);
    }
    return n;
}

const char *aip_json_string(aip_span_t value, apr_pool_t *pool)
{
    char *text;

    if (aip_json_type(value) != '"')
        return NULL;
    text = apr_palloc(pool, value.len + 1);
    text[aip_json_decode(value, text)] = '\0';
    return text;
}

bool aip_json_equals(aip_span_t value, aip_span_t text)
{
    const char *p, *end;
    size_t n = 0;

    if (!string_body(value, &p, &end))
        return false;
    while (p < end) {
        size_t len = run_length(p, end);
        char character[4];
        const char *piece = p;

        if (len) {
            p += len;
        } else {
            len = utf8_encode(escape(&p, end), character);
            piece = character;
        }
        if (len > text.len - n || memcmp(text.data + n, piece, len) != 0)
            return false;
        n += len;
    }
    return n == text.len;
}

/* The JSON spelling of the character at *p that aip_json_plain_end() stopped at; moves *p behind
 * it. At most 6 bytes are written to `out`. */
static size_t quote_character(const char **p, const char *end, char *out)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "btnfr"; /* 0x08 to 0x0d; 0x0b has none */
    const unsigned char c = (unsigned char)**p;
    size_t len;

    if (c >= 0x80) {
        const bool good = aip_utf8_next(*p, end, &len);
        const char *from = *p;

        *p += len;
        if (!good)
            return utf8_encode(REPLACEMENT, out);
        memcpy(out, from, len);
        return len;
    }
    ++*p;
    out[0] = '\\';
    if (c == '"' || c == '\\') {
        out[1] = (char)c;
        return 2;
    }
    if (c >= 0x08 && c <= 0x0d && c != 0x0b) {
        out[1] = letters[c - 0x08 - (c > 0x0b)];
        return 2;
    }
    memcpy(out + 1, "u00", 3);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

/* Writes the text without quotes to `out`, or only counts when it is NULL. */
static size_t quote_text(aip_span_t text, char *out)
{
    const char *p = text.data, *end = text.data + text.len;
    size_t n = 0;

    while (p < end) {
        const char *stop = aip_json_plain_end(p, end);
        const size_t len = (size_t)(stop - p);
        char character[6];
        size_t more;

        if (out)
            memcpy(out + n, p, len);
        n += len;
        p = stop;
        if (p < end) {
            more = quote_character(&p, end, character);
            if (out)
                memcpy(out + n, character, more);
            n += more;
        }
    }
    return n;
}

aip_span_t aip_json_quote(aip_span_t text, apr_pool_t *pool)
{
    const aip_span_t source = text.data ? text : AIP_SPAN("");
    const size_t len = quote_text(source, NULL);
    char *out = apr_palloc(pool, len + 3);

    out[0] = '"';
    quote_text(source, out + 1);
    out[len + 1] = '"';
    out[len + 2] = '\0';
    return (aip_span_t){out, len + 2};
}

bool aip_json_int64(aip_span_t value, apr_int64_t *out)
{
    const bool negative = value.len && value.data[0] == '-';
    size_t i = negative;
    apr_int64_t number = 0;

    if (aip_json_type(value) != '0' || i == value.len)
        return false;
    for (; i < value.len; i++) {
        const int digit = value.data[i] - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(number, 10, &number))
            return false;
        /* towards the sign: INT64_MIN has no positive counterpart */
        if (negative ? __builtin_sub_overflow(number, digit, &number)
                     : __builtin_add_overflow(number, digit, &number))
            return false;
    }
    *out = number;
    return true;
}

/* Numbers with at most 15 significant digits and a small power of ten: one correctly rounded
 * operation on two exact doubles. Vectors of embeddings are full of them. */
static bool short_double(aip_span_t value, double *out)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const bool negative = value.data[0] == '-';
    apr_int64_t mantissa = 0;
    size_t i, digits = 0, fraction = 0;
    bool point = false;

    if (FLT_EVAL_METHOD != 0)
        return false;
    for (i = negative; i < value.len; i++) {
        const char c = value.data[i];

        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9' || digits == 15)
            return false;
        mantissa = mantissa * 10 + (c - '0');
        digits += mantissa != 0;
        fraction += point;
    }
    if (i == negative || fraction >= sizeof(powers) / sizeof(powers[0]))
        return false;
    *out = (double)mantissa / powers[fraction];
    if (negative)
        *out = -*out;
    return true;
}

static locale_t c_locale;

static void c_locale_make(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bool aip_json_double(aip_span_t value, double *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char text[NUMBER_MAX];
    char *stop;

    if (aip_json_type(value) != '0' || value.len >= sizeof(text))
        return false;
    if (short_double(value, out))
        return true;
    if (pthread_once(&once, c_locale_make) || !c_locale)
        return false;
    memcpy(text, value.data, value.len);
    text[value.len] = '\0';
    *out = strtod_l(text, &stop, c_locale);
    return stop == text + value.len && isfinite(*out);
}
