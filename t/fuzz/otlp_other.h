/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OTLP_OTHER_H
#define OTLP_OTHER_H
/* Reads exports of spans into the trees that their JSON encoding would give
 * (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding), except that 64-bit numbers
 * are numbers. Strict: a field that a message does not have, one twice, a length beyond the
 * message's end, or text that is no UTF-8 is no export. */

#include "aip/aip.h"

#include <jansson.h>
#include <stdint.h>
#include <string.h>

typedef enum other_form_e {
    OTHER_TEXT,
    OTHER_ID,
    OTHER_INT,
    OTHER_TIME,
    OTHER_REAL,
    OTHER_FLAG,
    OTHER_ONE,
    OTHER_MANY
} other_form_e;

typedef struct other_field_t {
    unsigned number;
    const char *name;
    other_form_e form;
    const struct other_field_t *message; /* of OTHER_ONE and OTHER_MANY */
} other_field_t;

/* Fields end with one without a name. */
static const other_field_t other_item[] = {{1, "stringValue", OTHER_TEXT, NULL}, {0}};
static const other_field_t other_array[] = {{1, "values", OTHER_MANY, other_item}, {0}};
static const other_field_t other_value[] = {
    {1, "stringValue", OTHER_TEXT, NULL},      {2, "boolValue", OTHER_FLAG, NULL},
    {3, "intValue", OTHER_INT, NULL},          {4, "doubleValue", OTHER_REAL, NULL},
    {5, "arrayValue", OTHER_ONE, other_array}, {0}};
static const other_field_t other_pair[] = {
    {1, "key", OTHER_TEXT, NULL}, {2, "value", OTHER_ONE, other_value}, {0}};
static const other_field_t other_status[] = {{3, "code", OTHER_INT, NULL}, {0}};
static const other_field_t other_span[] = {{1, "traceId", OTHER_ID, NULL},
                                           {2, "spanId", OTHER_ID, NULL},
                                           {4, "parentSpanId", OTHER_ID, NULL},
                                           {5, "name", OTHER_TEXT, NULL},
                                           {6, "kind", OTHER_INT, NULL},
                                           {7, "startTimeUnixNano", OTHER_TIME, NULL},
                                           {8, "endTimeUnixNano", OTHER_TIME, NULL},
                                           {9, "attributes", OTHER_MANY, other_pair},
                                           {15, "status", OTHER_ONE, other_status},
                                           {0}};
static const other_field_t other_scope[] = {
    {1, "name", OTHER_TEXT, NULL}, {2, "version", OTHER_TEXT, NULL}, {0}};
static const other_field_t other_scope_spans[] = {
    {1, "scope", OTHER_ONE, other_scope}, {2, "spans", OTHER_MANY, other_span}, {0}};
static const other_field_t other_resource[] = {{1, "attributes", OTHER_MANY, other_pair}, {0}};
static const other_field_t other_resource_spans[] = {
    {1, "resource", OTHER_ONE, other_resource},
    {2, "scopeSpans", OTHER_MANY, other_scope_spans},
    {0}};
static const other_field_t other_export[] = {{1, "resourceSpans", OTHER_MANY, other_resource_spans},
                                             {0}};

static inline json_t *other_message(const unsigned char *p, size_t len,
                                    const other_field_t *fields);

static inline bool other_varint(const unsigned char **p, const unsigned char *end, uint64_t *value)
{
    unsigned i = 0;

    for (*value = 0; *p < end && i < 10; i++) {
        const unsigned char c = *(*p)++;

        *value |= (uint64_t)(c & 127) << (7 * i);
        if (!(c & 128))
            return true;
    }
    return false;
}

static inline json_t *other_hex(const unsigned char *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char text[64];

    if (len != 8 && len != 16)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[p[i] >> 4];
        text[2 * i + 1] = digits[p[i] & 15];
    }
    return json_stringn(text, 2 * len);
}

/* The value of a field; NULL: it is none. */
static inline json_t *other_read(const other_field_t *field, unsigned type, const unsigned char **p,
                                 const unsigned char *end)
{
    static const unsigned types[] = {2, 2, 0, 1, 1, 0, 2, 2};
    uint64_t number = 0;
    double real;

    if (type != types[field->form])
        return NULL;
    if (type == 1) {
        if (end - *p < 8)
            return NULL;
        for (int i = 7; i >= 0; i--)
            number = number << 8 | (*p)[i];
        *p += 8;
        memcpy(&real, &number, sizeof real);
        return field->form == OTHER_REAL ? json_real(real) : json_integer((json_int_t)number);
    }
    if (!other_varint(p, end, &number))
        return NULL;
    if (type == 0)
        return field->form == OTHER_FLAG ? json_boolean(number) : json_integer((json_int_t)number);
    if (number > (uint64_t)(end - *p))
        return NULL;
    const unsigned char *bytes = *p;

    *p += number;
    return field->form == OTHER_TEXT ? json_stringn((const char *)bytes, number)
           : field->form == OTHER_ID ? other_hex(bytes, number)
                                     : other_message(bytes, number, field->message);
}

static inline bool other_put(json_t *object, const other_field_t *field, json_t *value)
{
    json_t *present = json_object_get(object, field->name);

    if (!value || (present && field->form != OTHER_MANY)) {
        json_decref(value);
        return false;
    }
    if (field->form != OTHER_MANY)
        return json_object_set_new(object, field->name, value) == 0;
    if (!present) {
        present = json_array();
        json_object_set_new(object, field->name, present);
    }
    return json_array_append_new(present, value) == 0;
}

static inline json_t *other_message(const unsigned char *p, size_t len, const other_field_t *fields)
{
    const unsigned char *end = p + len;
    json_t *object = json_object();
    uint64_t tag;

    while (p < end) {
        const other_field_t *field = fields;
        const bool read = other_varint(&p, end, &tag);

        while (field->name && field->number != tag >> 3)
            field++;
        if (!read || !field->name ||
            !other_put(object, field, other_read(field, (unsigned)(tag & 7), &p, end))) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* @return NULL: it is no export */
static inline json_t *other_spans(aip_span_t data)
{
    return other_message((const unsigned char *)data.data, data.len, other_export);
}

#endif
