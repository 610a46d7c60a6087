/* SPDX-License-Identifier: Apache-2.0 */
/* Writes spans as OTLP's JSON, at the end of a request in its own thread: no tree, one growing
 * text. Reading a collector's answer is the background thread's. */
#include "aip/otlp.h"

#include "aip/json.h"
#include "aip/json_out.h"

#include <apr_strings.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FIRST_ROOM 4096
#define MESSAGE_MAX 200

static void grow(aip_otlp_t *otlp, size_t more)
{
    size_t room = 2 * (otlp->len + more) + FIRST_ROOM;
    char *grown = apr_palloc(otlp->pool, room);
    if (otlp->len) {
        memcpy(grown, otlp->data, otlp->len);
    }
    otlp->data = grown;
    otlp->room = room;
}

static inline void put(aip_otlp_t *otlp, const char *text, size_t len)
{
    if (otlp->room - otlp->len < len) {
        grow(otlp, len);
    }
    memcpy(otlp->data + otlp->len, text, len);
    otlp->len += len;
}

/* Inline: of a literal the compiler knows the length. */
static inline void say(aip_otlp_t *otlp, const char *text)
{
    put(otlp, text, strlen(text));
}

/* Any text, bounded: at most AIP_OTLP_VALUE_MAX bytes, not cut inside a character. */
static void put_string(aip_otlp_t *otlp, const char *text)
{
    size_t len = strlen(text);
    if (len > AIP_OTLP_VALUE_MAX) {
        len = AIP_OTLP_VALUE_MAX;
        while (len > AIP_OTLP_VALUE_MAX - 4 && (text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    if (aip_text_plain((aip_span_t){text, len})) {
        put(otlp, "\"", 1);
        put(otlp, text, len);
        put(otlp, "\"", 1);
        return;
    }
    aip_span_t quoted = aip_json_quote((aip_span_t){text, len}, otlp->pool);
    put(otlp, quoted.data, quoted.len);
}

/* In quotes, as OTLP wants 64-bit integers. @param value  not negative */
static void put_int(aip_otlp_t *otlp, apr_int64_t value)
{
    char text[24], *p = text + sizeof text;
    *--p = '"';
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    *--p = '"';
    put(otlp, p, (size_t)(text + sizeof text - p));
}

void aip_otlp_begin(aip_otlp_t *otlp, const aip_trace_context_t *trace, const char *span_id,
                    const char *parent_id, aip_span_kind_e kind, const char *name, apr_time_t start,
                    apr_time_t end)
{
    char number[2] = {(char)('0' + kind), '\0'};
    say(otlp, otlp->spans++ ? ",{\"traceId\":\"" : "{\"traceId\":\"");
    say(otlp, trace->trace_id);
    say(otlp, "\",\"spanId\":\"");
    say(otlp, span_id);
    if (*parent_id) {
        say(otlp, "\",\"parentSpanId\":\"");
        say(otlp, parent_id);
    }
    say(otlp, "\",\"name\":");
    put_string(otlp, name);
    say(otlp, ",\"kind\":");
    say(otlp, number);
    say(otlp, ",\"startTimeUnixNano\":");
    put_int(otlp, start * 1000);
    say(otlp, ",\"endTimeUnixNano\":");
    put_int(otlp, (end > start ? end : start) * 1000);
    say(otlp, ",\"attributes\":[");
    otlp->attributes = false;
}

#define TYPE(name) "\",\"value\":{\"" name "\":"
#define STRING TYPE("stringValue")
#define ARRAY TYPE("arrayValue")
#define INT TYPE("intValue")
#define DOUBLE TYPE("doubleValue")
#define BOOL TYPE("boolValue")

/* Keys are ours: they need no escaping. */
static inline void begin_attribute(aip_otlp_t *otlp, const char *key, const char *type)
{
    if (otlp->attributes) {
        put(otlp, ",", 1);
    }
    say(otlp, "{\"key\":\"");
    say(otlp, key);
    say(otlp, type);
    otlp->attributes = true;
}

void aip_otlp_text(aip_otlp_t *otlp, const char *key, const char *value)
{
    if (value) {
        begin_attribute(otlp, key, STRING);
        put_string(otlp, value);
        say(otlp, "}}");
    }
}

void aip_otlp_text_list(aip_otlp_t *otlp, const char *key, const char *value)
{
    if (value) {
        begin_attribute(otlp, key, ARRAY);
        say(otlp, "{\"values\":[{\"stringValue\":");
        put_string(otlp, value);
        say(otlp, "}]}}}");
    }
}

void aip_otlp_count(aip_otlp_t *otlp, const char *key, apr_int64_t value)
{
    if (value >= 0) {
        begin_attribute(otlp, key, INT);
        put_int(otlp, value);
        say(otlp, "}}");
    }
}

void aip_otlp_real(aip_otlp_t *otlp, const char *key, double value)
{
    char text[40];
    if (isfinite(value)) {
        begin_attribute(otlp, key, DOUBLE);
        /* not apr_snprintf(), whose %g leaves out the zero of 0.5; httpd sets no locale */
        put(otlp, text, (size_t)snprintf(text, sizeof text, "%.9g", value));
        say(otlp, "}}");
    }
}

void aip_otlp_pico(aip_otlp_t *otlp, const char *key, apr_int64_t value)
{
    begin_attribute(otlp, key, DOUBLE);
    say(otlp, aip_pico_text(value, otlp->pool));
    say(otlp, "}}");
}

void aip_otlp_attributes(aip_otlp_t *otlp, aip_span_t attributes)
{
    if (attributes.len) {
        put(otlp, ",", otlp->attributes ? 1 : 0);
        put(otlp, attributes.data, attributes.len);
        otlp->attributes = true;
    }
}

void aip_otlp_flag(aip_otlp_t *otlp, const char *key, bool value)
{
    begin_attribute(otlp, key, BOOL);
    say(otlp, value ? "true}}" : "false}}");
}

void aip_otlp_end(aip_otlp_t *otlp, bool failed)
{
    say(otlp, failed ? "],\"status\":{\"code\":2}}" : "],\"status\":{}}");
}

void aip_otlp_envelope(const char *service, const char *version, const char *instance,
                       const char **head, const char **tail, apr_pool_t *pool)
{
    aip_otlp_t otlp = {.pool = pool};
    say(&otlp, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    aip_otlp_text(&otlp, "service.name", service);
    aip_otlp_text(&otlp, "service.version", version);
    aip_otlp_text(&otlp, "service.instance.id", instance);
    say(&otlp, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"mod_ai_proxy_adv\",\"version\":");
    put_string(&otlp, version);
    say(&otlp, "},\"spans\":[");
    *head = apr_pstrmemdup(pool, otlp.data, otlp.len);
    *tail = "]}]}]}";
}

/* ---- answers ---- */

static const char *printable(const char *text, apr_pool_t *pool)
{
    size_t len = strlen(text);
    char *copy = apr_pstrmemdup(pool, text, len > MESSAGE_MAX ? MESSAGE_MAX : len);
    for (char *p = copy; *p; p++) {
        *p = *p < 0x20 || *p == 0x7f ? '?' : *p;
    }
    return copy;
}

int aip_otlp_rejected(aip_span_t answer, int spans, const char **message, apr_pool_t *pool)
{
    json_t *root = json_loadb(answer.data, answer.len, 0, NULL);
    const json_t *part = json_object_get(root, "partialSuccess");
    const json_t *count = json_object_get(part, "rejectedSpans");
    const char *said = json_string_value(json_object_get(part, "errorMessage"));
    /* an int64, which protobuf's JSON writes as a string and takes as either */
    apr_int64_t n = json_is_integer(count)  ? json_integer_value(count)
                    : json_is_string(count) ? apr_atoi64(json_string_value(count))
                                            : 0;
    *message = said && *said ? printable(said, pool) : NULL;
    json_decref(root);
    return n < 0 ? 0 : n > spans ? spans : (int)n;
}
