/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a document that the input chooses, with texts out of it, and reads it again with another
 * library. What must hold: it is JSON, one line without controls, and no text is longer than its
 * bound. */

#include "aip/json_out.h"
#include "aip/reassembly.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) ((what) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct fields_t {
    apr_int64_t number, time;
    const char *text;
    aip_span_t plain;
} fields_t;

static const aip_json_field_t table[] = {
    AIP_JSON_FIELD("pico", AIP_JSON_PICO, fields_t, number),
    AIP_JSON_FIELD("text", AIP_JSON_TEXT, fields_t, text),
    AIP_JSON_FIELD("ms", AIP_JSON_MS, fields_t, time),
    AIP_JSON_FIELD("count", AIP_JSON_COUNT, fields_t, number),
    AIP_JSON_FIELD("plain", AIP_JSON_PLAIN, fields_t, plain),
};

/* One value for each byte of the input; where there is a key, also some members of a struct. */
static void write_values(aip_json_out_t *out, const uint8_t *data, size_t size)
{
    const aip_span_t rest = {(const char *)data, size};
    bool object[AIP_JSON_OUT_DEPTH] = {false};
    unsigned depth = 0;

    aip_json_out_array(out, NULL);
    for (size_t i = 0; i < size; i++) {
        const char *key = object[depth] ? (const char *[]){"a", "b", "c", "d"}[i % 4] : NULL;
        const aip_span_t text = {rest.data + i, size - i};

        if (data[i] % 16 < 2 && depth + 2 < AIP_JSON_OUT_DEPTH) {
            object[++depth] = data[i] % 16;
            object[depth] ? aip_json_out_object(out, key) : aip_json_out_array(out, key);
        } else if (data[i] % 16 == 2 && depth) {
            aip_json_out_end(out);
            depth--;
        } else if (data[i] % 16 == 3 && key) {
            const fields_t fields = {.number = (apr_int64_t)((uint64_t)data[i] << (i % 60)),
                                     .time = -(apr_int64_t)i,
                                     .text = apr_pstrmemdup(out->pool, text.data, text.len),
                                     .plain = {"plainplainplain", data[i] / 16}};
            aip_json_out_fields(out, table, sizeof table / sizeof *table, &fields);
        } else if (data[i] % 16 == 4) {
            aip_json_out_int(out, key, -(apr_int64_t)((uint64_t)i << (i % 50)));
        } else if (data[i] % 16 < 7) {
            aip_json_out_span(out, key, text, data[i]);
        }
    }
    while (depth--)
        aip_json_out_end(out);
    aip_json_out_span(out, NULL, rest, 64);
    aip_json_out_end(out);
}

static void read_again(const char *data, size_t len)
{
    json_t *value = json_loadb(data, len, JSON_ALLOW_NUL, NULL);

    CHECK(value);
    CHECK(json_string_length(json_array_get(value, json_array_size(value) - 1)) <= 64);
    for (size_t i = 0; i < len; i++)
        CHECK((unsigned char)data[i] >= 0x20 && data[i] != 0x7f);
    json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static apr_pool_t *pool;
    aip_json_out_t out;

    if (size > 20000)
        return 0;
    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    aip_json_out_init(&out, pool, 1);
    write_values(&out, data, size);
    read_again(out.data, out.len);

    /* lines of the input as chunks of a stream */
    aip_reassembly_t *whole = aip_reassembly_create(500, pool);
    for (const uint8_t *line = data, *end = data + size; line < end;) {
        const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));

        stop = stop ? stop : end;
        aip_reassembly_add(whole, (aip_span_t){(const char *)line, (size_t)(stop - line)});
        line = stop + 1;
    }
    const aip_span_t text = aip_reassembly_text(whole, NULL);
    json_t *value = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
    CHECK(value);
    json_decref(value);
    apr_pool_clear(pool);
    return 0;
}
