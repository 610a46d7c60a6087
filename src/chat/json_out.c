/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of JSON lines: for logs and exporters, whose readers must not be misled by what
 * clients and upstreams put into texts. */
#include "aip/json_out.h"

#include "json_private.h"

#include <apr_strings.h>
#include <math.h>
#include <stdio.h>

#define SHORT 128

static void grow(aip_json_out_t *out, size_t more)
{
    size_t room = out->room;
    if (out->len + more <= room) {
        return;
    }
    while (room < out->len + more) {
        room *= 2;
    }
    char *data = apr_palloc(out->pool, room);
    memcpy(data, out->data, out->len);
    out->data = data;
    out->room = room;
}

static void put(aip_json_out_t *out, const char *data, size_t len)
{
    grow(out, len);
    memcpy(out->data + out->len, data, len);
    out->len += len;
}

void aip_json_out_byte(aip_json_out_t *out, char byte)
{
    grow(out, 1);
    out->data[out->len++] = byte;
}

void aip_json_out_init(aip_json_out_t *out, apr_pool_t *pool, size_t room)
{
    *out = (aip_json_out_t){.pool = pool, .data = apr_palloc(pool, room), .room = room};
}

/* What comes before a value: the comma, and in an object the key. */
static void begin(aip_json_out_t *out, const char *key)
{
    size_t len = key ? strlen(key) : 0;
    grow(out, len + 4);
    char *p = out->data + out->len;
    if (out->more) {
        *p++ = ',';
    }
    if (key) {
        *p++ = '"';
        memcpy(p, key, len);
        p += len;
        *p++ = '"';
        *p++ = ':';
    }
    out->len = (size_t)(p - out->data);
    out->more = true;
}

static void open_bracket(aip_json_out_t *out, const char *key, bool object)
{
    begin(out, key);
    aip_json_out_byte(out, object ? '{' : '[');
    out->depth++;
    apr_uint32_t bit = (apr_uint32_t)1 << out->depth;
    out->objects = object ? out->objects | bit : out->objects & ~bit;
    out->more = false;
}

void aip_json_out_object(aip_json_out_t *out, const char *key)
{
    open_bracket(out, key, true);
}

void aip_json_out_array(aip_json_out_t *out, const char *key)
{
    open_bracket(out, key, false);
}

void aip_json_out_end(aip_json_out_t *out)
{
    aip_json_out_byte(out, out->objects >> out->depth & 1 ? '}' : ']');
    out->depth--;
    out->more = true;
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

bool aip_text_plain(aip_span_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            return false;
        }
    }
    return true;
}

void aip_json_out_span(aip_json_out_t *out, const char *key, aip_span_t text, size_t max)
{
    if (!text.data) {
        aip_json_out_null(out, key);
        return;
    }
    begin(out, key);
    grow(out, (text.len < max ? text.len : max) + 2);
    out->data[out->len++] = '"';
    if (text.len <= SHORT && text.len <= max && aip_text_plain(text)) { /* most are like this */
        memcpy(out->data + out->len, text.data, text.len);
        out->len += text.len;
    } else {
        put_text(out, text, max);
    }
    aip_json_out_byte(out, '"');
}

void aip_json_out_text(aip_json_out_t *out, const char *key, const char *text)
{
    /* Of a longer text no more needs to be looked at; a character may lie across that place. */
    aip_json_out_span(out, key,
                      (aip_span_t){text, text ? strnlen(text, AIP_JSON_OUT_BOUND + 4) : 0},
                      AIP_JSON_OUT_BOUND);
}

void aip_json_out_raw(aip_json_out_t *out, const char *key, aip_span_t json)
{
    begin(out, key);
    put(out, json.data, json.len);
}

void aip_json_out_members(aip_json_out_t *out, aip_span_t members)
{
    begin(out, NULL);
    put(out, members.data, members.len);
}

#define DECIMAL 48 /* room for any */

/* Sign, whole part, and `digits` decimals less the zeros at their end; written from the back.
 * @return where it begins in `text`, which it fills to its end */
static const char *decimal(char text[DECIMAL], apr_int64_t value, int digits)
{
    apr_uint64_t left = value < 0 ? 0 - (apr_uint64_t)value : (apr_uint64_t)value;
    char *p = text + DECIMAL;
    for (int i = 0; i < digits || left || i == digits; i++) {
        if (i == digits && p < text + DECIMAL) {
            *--p = '.';
        }
        if (i >= digits || p < text + DECIMAL || left % 10) {
            *--p = (char)('0' + left % 10);
        }
        left /= 10;
    }
    if (value < 0) {
        *--p = '-';
    }
    return p;
}

static void put_decimal(aip_json_out_t *out, const char *key, apr_int64_t value, int digits)
{
    char text[DECIMAL];
    const char *from = decimal(text, value, digits);
    begin(out, key);
    put(out, from, (size_t)(text + DECIMAL - from));
}

void aip_json_out_int(aip_json_out_t *out, const char *key, apr_int64_t value)
{
    put_decimal(out, key, value, 0);
}

void aip_json_out_pico(aip_json_out_t *out, const char *key, apr_int64_t value)
{
    put_decimal(out, key, value, 12);
}

const char *aip_pico_text(apr_int64_t value, apr_pool_t *pool)
{
    char text[DECIMAL];
    const char *from = decimal(text, value, 12);
    return apr_pstrmemdup(pool, from, (size_t)(text + DECIMAL - from));
}

void aip_json_out_ms(aip_json_out_t *out, const char *key, apr_interval_time_t value)
{
    put_decimal(out, key, value, 3);
}

void aip_json_out_real(aip_json_out_t *out, const char *key, double value)
{
    char text[40];
    if (!isfinite(value)) {
        aip_json_out_null(out, key);
        return;
    }
    begin(out, key);
    put(out, text, (size_t)snprintf(text, sizeof text, "%.9g", value));
}

void aip_json_out_bool(aip_json_out_t *out, const char *key, bool value)
{
    begin(out, key);
    put(out, value ? "true" : "false", value ? 4 : 5);
}

void aip_json_out_null(aip_json_out_t *out, const char *key)
{
    begin(out, key);
    put(out, "null", 4);
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
