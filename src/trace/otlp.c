/* SPDX-License-Identifier: Apache-2.0 */
/* Writes spans as protobuf's messages, at the end of a request in its own thread: no tree, one
 * growing text. Reading a collector's answer is the background thread's.
 *
 * https://protobuf.dev/programming-guides/encoding/: a field is a tag, number * 8 + type, and a
 * value; a message within another one is preceded by its length. */
#include "aip/otlp.h"

#include "aip/json_out.h"
#include "aip/metrics.h"

#include <apr_strings.h>
#include <math.h>

#define FIRST_ROOM 2048
#define MESSAGE_MAX 200

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

#define TAG(field, type) ((field)*8 + (type))

/* https://github.com/open-telemetry/opentelemetry-proto: collector/trace/v1, trace/v1,
 * resource/v1, common/v1 */
#define REQUEST_RESOURCE_SPANS TAG(1, BYTES)
#define RESOURCE_SPANS_RESOURCE TAG(1, BYTES)
#define RESOURCE_SPANS_SCOPE_SPANS TAG(2, BYTES)
#define RESOURCE_ATTRIBUTES TAG(1, BYTES)
#define SCOPE_SPANS_SCOPE TAG(1, BYTES)
#define SCOPE_SPANS_SPANS TAG(2, BYTES)
#define SCOPE_NAME TAG(1, BYTES)
#define SCOPE_VERSION TAG(2, BYTES)
#define SPAN_TRACE_ID TAG(1, BYTES)
#define SPAN_SPAN_ID TAG(2, BYTES)
#define SPAN_PARENT_SPAN_ID TAG(4, BYTES)
#define SPAN_NAME TAG(5, BYTES)
#define SPAN_KIND TAG(6, VARINT)
#define SPAN_START_TIME TAG(7, FIXED64)
#define SPAN_END_TIME TAG(8, FIXED64)
#define SPAN_ATTRIBUTES TAG(9, BYTES)
#define SPAN_STATUS TAG(15, BYTES)
#define STATUS_CODE TAG(3, VARINT)
#define STATUS_CODE_ERROR 2
#define KEY_VALUE_KEY TAG(1, BYTES)
#define KEY_VALUE_VALUE TAG(2, BYTES)
#define VALUE_STRING TAG(1, BYTES)
#define VALUE_BOOL TAG(2, VARINT)
#define VALUE_INT TAG(3, VARINT)
#define VALUE_DOUBLE TAG(4, FIXED64)
#define VALUE_ARRAY TAG(5, BYTES)
#define ARRAY_VALUES TAG(1, BYTES)
#define RESPONSE_PARTIAL_SUCCESS TAG(1, BYTES)
#define PARTIAL_REJECTED_SPANS TAG(1, VARINT)
#define PARTIAL_ERROR_MESSAGE TAG(2, BYTES)

/* The length of a span is written at its end, in as many bytes as were left for it: a varint may be
 * longer than it need be. 2 MB, where a span has some KB. */
#define SPAN_LENGTH 3

static char *room(aip_otlp_t *otlp, size_t more)
{
    if (otlp->room - otlp->len < more) {
        otlp->room = 2 * (otlp->len + more) + FIRST_ROOM;
        char *grown = apr_palloc(otlp->pool, otlp->room);
        if (otlp->len) {
            memcpy(grown, otlp->data, otlp->len);
        }
        otlp->data = grown;
    }
    return otlp->data + otlp->len;
}

static void written(aip_otlp_t *otlp, const char *end)
{
    otlp->len = (size_t)(end - otlp->data);
}

static char *put_varint(char *p, apr_uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        *p++ = (char)(value | 0x80);
    }
    *p++ = (char)value;
    return p;
}

static size_t varint_size(apr_uint64_t value)
{
    size_t n = 1;
    while (value >>= 7) {
        n++;
    }
    return n;
}

static char *put_fixed64(char *p, apr_uint64_t value)
{
    for (int i = 0; i < 8; i++, value >>= 8) {
        *p++ = (char)value;
    }
    return p;
}

static char *put_span(char *p, aip_span_t bytes)
{
    memcpy(p, bytes.data, bytes.len);
    return p + bytes.len;
}

static char *put_bytes(char *p, unsigned char tag, aip_span_t bytes)
{
    *p++ = (char)tag;
    return put_span(put_varint(p, bytes.len), bytes);
}

/* A tag, a length, and so many bytes */
static size_t bytes_size(size_t len)
{
    return 1 + varint_size(len) + len;
}

/* With each byte that is not of UTF-8 replaced by U+FFFD: collectors refuse all of an export for
 * one such byte. */
static aip_span_t mended(aip_span_t text, apr_pool_t *pool)
{
    char *out = apr_palloc(pool, 3 * text.len + 1), *p = out;
    const char *in = apr_pstrmemdup(pool, text.data, text.len);
    while (*in) {
        size_t n = aip_utf8_length(in);
        memcpy(p, n ? in : "\xef\xbf\xbd", n ? n : 3);
        p += n ? n : 3;
        in += n ? n : 1;
    }
    return (aip_span_t){out, (size_t)(p - out)};
}

/* Any text as a value: of at most AIP_OTLP_VALUE_MAX bytes, not cut inside a character. */
static aip_span_t value_of(const char *text, apr_pool_t *pool)
{
    size_t len = strnlen(text, AIP_OTLP_VALUE_MAX + 1);
    if (len > AIP_OTLP_VALUE_MAX) {
        len = AIP_OTLP_VALUE_MAX;
        while (len > AIP_OTLP_VALUE_MAX - 4 && (text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    aip_span_t value = {text, len};
    return aip_text_plain(value) ? value : mended(value, pool);
}

/* Of 16 or 32 digits. */
static char *put_id(char *p, unsigned char tag, const char *hex, size_t digits)
{
    *p++ = (char)tag;
    *p++ = (char)(digits / 2);
    for (size_t i = 0; i < digits; i += 16) {
        apr_uint64_t x = aip_hex_read(hex + i);
        for (int shift = 56; shift >= 0; shift -= 8) {
            *p++ = (char)(x >> shift);
        }
    }
    return p;
}

void aip_otlp_begin(aip_otlp_t *otlp, const aip_trace_context_t *trace, const char *span_id,
                    const char *parent_id, aip_span_kind_e kind, aip_span_name_t name,
                    apr_time_t start, apr_time_t end)
{
    aip_span_t what = {name.operation, strlen(name.operation)},
               object = name.object && *name.object ? value_of(name.object, otlp->pool)
                                                    : (aip_span_t){NULL, 0};
    char *p = room(otlp, 128 + what.len + object.len);
    otlp->spans++;
    *p++ = SCOPE_SPANS_SPANS;
    p += SPAN_LENGTH;
    otlp->span = (size_t)(p - otlp->data);
    p = put_id(p, SPAN_TRACE_ID, trace->trace_id, AIP_TRACE_ID_HEX);
    p = put_id(p, SPAN_SPAN_ID, span_id, AIP_SPAN_ID_HEX);
    if (*parent_id) {
        p = put_id(p, SPAN_PARENT_SPAN_ID, parent_id, AIP_SPAN_ID_HEX);
    }
    *p++ = SPAN_NAME;
    p = put_varint(p, what.len + (object.len ? 1 + object.len : 0));
    p = put_span(p, what);
    if (object.len) {
        *p++ = ' ';
        p = put_span(p, object);
    }
    *p++ = SPAN_KIND;
    *p++ = (char)kind;
    *p++ = SPAN_START_TIME;
    p = put_fixed64(p, (apr_uint64_t)start * 1000);
    *p++ = SPAN_END_TIME;
    written(otlp, put_fixed64(p, (apr_uint64_t)(end > start ? end : start) * 1000));
}

void aip_otlp_end(aip_otlp_t *otlp, bool failed)
{
    static const char error[] = {SPAN_STATUS, 2, STATUS_CODE, STATUS_CODE_ERROR};
    if (failed) {
        memcpy(room(otlp, sizeof error), error, sizeof error);
        otlp->len += sizeof error;
    }
    size_t len = otlp->len - otlp->span;
    char *p = otlp->data + otlp->span - SPAN_LENGTH;
    p[0] = (char)(len | 0x80);
    p[1] = (char)(len >> 7 | 0x80);
    p[2] = (char)(len >> 14 & 0x7f);
}

/* ---- attributes ---- */

/* An attribute up to its value, a message of `size` bytes. @return where that is to be written */
static char *begin(aip_otlp_t *otlp, unsigned char tag, aip_span_t key, size_t size)
{
    size_t pair = bytes_size(key.len) + bytes_size(size);
    char *p = room(otlp, bytes_size(pair));
    *p++ = (char)tag;
    p = put_varint(p, pair);
    p = put_bytes(p, KEY_VALUE_KEY, key);
    *p++ = KEY_VALUE_VALUE;
    return put_varint(p, size);
}

static void put_text(aip_otlp_t *otlp, unsigned char tag, aip_span_t key, const char *text)
{
    aip_span_t value = value_of(text, otlp->pool);
    char *p = begin(otlp, tag, key, bytes_size(value.len));
    written(otlp, put_bytes(p, VALUE_STRING, value));
}

void aip_otlp_put_text(aip_otlp_t *otlp, aip_span_t key, const char *value)
{
    put_text(otlp, SPAN_ATTRIBUTES, key, value);
}

void aip_otlp_put_list(aip_otlp_t *otlp, aip_span_t key, const char *text)
{
    aip_span_t value = value_of(text, otlp->pool);
    size_t item = bytes_size(value.len), array = bytes_size(item);
    char *p = begin(otlp, SPAN_ATTRIBUTES, key, bytes_size(array));
    *p++ = VALUE_ARRAY;
    p = put_varint(p, array);
    *p++ = ARRAY_VALUES;
    p = put_varint(p, item);
    written(otlp, put_bytes(p, VALUE_STRING, value));
}

void aip_otlp_put_count(aip_otlp_t *otlp, aip_span_t key, apr_uint64_t value)
{
    char *p = begin(otlp, SPAN_ATTRIBUTES, key, 1 + varint_size(value));
    *p++ = VALUE_INT;
    written(otlp, put_varint(p, value));
}

void aip_otlp_put_real(aip_otlp_t *otlp, aip_span_t key, double value)
{
    apr_uint64_t bits;
    if (isfinite(value)) {
        char *p = begin(otlp, SPAN_ATTRIBUTES, key, 9);
        memcpy(&bits, &value, sizeof bits);
        *p++ = VALUE_DOUBLE;
        written(otlp, put_fixed64(p, bits));
    }
}

void aip_otlp_put_flag(aip_otlp_t *otlp, aip_span_t key, bool value)
{
    char *p = begin(otlp, SPAN_ATTRIBUTES, key, 2);
    *p++ = VALUE_BOOL;
    *p++ = value ? 1 : 0;
    written(otlp, p);
}

void aip_otlp_attributes(aip_otlp_t *otlp, aip_span_t attributes)
{
    if (attributes.len) {
        memcpy(room(otlp, attributes.len), attributes.data, attributes.len);
        otlp->len += attributes.len;
    }
}

/* ---- exports ---- */

static aip_span_t wrapped(unsigned char tag, const aip_otlp_t *inside, apr_pool_t *pool)
{
    char *data = apr_palloc(pool, bytes_size(inside->len));
    char *end = put_bytes(data, tag, (aip_span_t){inside->data, inside->len});
    return (aip_span_t){data, (size_t)(end - data)};
}

void aip_otlp_origin(aip_otlp_origin_t *origin, const char *service, const char *version,
                     const char *instance, apr_pool_t *pool)
{
    aip_otlp_t resource = {.pool = pool}, scope = {.pool = pool};
    put_text(&resource, RESOURCE_ATTRIBUTES, AIP_SPAN("service.name"), service);
    put_text(&resource, RESOURCE_ATTRIBUTES, AIP_SPAN("service.version"), version);
    put_text(&resource, RESOURCE_ATTRIBUTES, AIP_SPAN("service.instance.id"), instance);
    origin->resource = wrapped(RESOURCE_SPANS_RESOURCE, &resource, pool);
    aip_span_t name = AIP_SPAN("mod_ai_proxy_adv"), said = value_of(version, pool);
    char *p = room(&scope, bytes_size(name.len) + bytes_size(said.len));
    written(&scope, put_bytes(put_bytes(p, SCOPE_NAME, name), SCOPE_VERSION, said));
    origin->scope = wrapped(SCOPE_SPANS_SCOPE, &scope, pool);
}

aip_span_t aip_otlp_head(const aip_otlp_origin_t *origin, size_t len, apr_pool_t *pool)
{
    size_t scope_spans = origin->scope.len + len,
           resource_spans = origin->resource.len + bytes_size(scope_spans);
    char *head = apr_palloc(pool, 2 * 11 + origin->resource.len + origin->scope.len), *p = head;
    *p++ = REQUEST_RESOURCE_SPANS;
    p = put_varint(p, resource_spans);
    p = put_span(p, origin->resource);
    *p++ = RESOURCE_SPANS_SCOPE_SPANS;
    p = put_varint(p, scope_spans);
    p = put_span(p, origin->scope);
    return (aip_span_t){head, (size_t)(p - head)};
}

/* ---- answers ---- */

typedef struct field_t {
    apr_uint64_t tag;
    apr_uint64_t number; /* of VARINT */
    aip_span_t bytes;    /* of BYTES */
} field_t;

static bool read_varint(aip_span_t *from, apr_uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; from->len && shift < 64; shift += 7) {
        unsigned char c = (unsigned char)*from->data++;
        from->len--;
        *value |= (apr_uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            return true;
        }
    }
    return false;
}

static bool read_bytes(aip_span_t *from, apr_uint64_t len, aip_span_t *bytes)
{
    if (len > from->len) {
        return false;
    }
    *bytes = (aip_span_t){from->data, (size_t)len};
    from->data += len;
    from->len -= (size_t)len;
    return true;
}

/* The next field of a message. @return false: its end, or nothing that can be read */
static bool read_field(aip_span_t *from, field_t *field)
{
    apr_uint64_t len;
    *field = (field_t){.tag = 0};
    if (!read_varint(from, &field->tag)) {
        return false;
    }
    switch (field->tag & 7) {
    case VARINT:
        return read_varint(from, &field->number);
    case BYTES:
        return read_varint(from, &len) && read_bytes(from, len, &field->bytes);
    case FIXED64:
        return read_bytes(from, 8, &field->bytes);
    case FIXED32:
        return read_bytes(from, 4, &field->bytes);
    default:
        return false;
    }
}

/* NULL: it says nothing */
static const char *printable(aip_span_t text, apr_pool_t *pool)
{
    char *copy = apr_pstrmemdup(pool, text.data, text.len > MESSAGE_MAX ? MESSAGE_MAX : text.len);
    for (size_t i = 0; copy[i]; i++) {
        copy[i] = copy[i] < 0x20 || copy[i] > 0x7e ? '?' : copy[i];
    }
    return *copy ? copy : NULL;
}

int aip_otlp_rejected(aip_span_t answer, int spans, const char **message, apr_pool_t *pool)
{
    field_t field, inner;
    apr_int64_t n = 0;
    *message = NULL;
    while (read_field(&answer, &field)) {
        while (field.tag == RESPONSE_PARTIAL_SUCCESS && read_field(&field.bytes, &inner)) {
            if (inner.tag == PARTIAL_REJECTED_SPANS) {
                n = (apr_int64_t)inner.number;
            } else if (inner.tag == PARTIAL_ERROR_MESSAGE) {
                *message = printable(inner.bytes, pool);
            }
        }
    }
    return n < 0 ? 0 : n > spans ? spans : (int)n;
}
