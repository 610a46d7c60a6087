/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the JSON scanner and the values. Oracle: jansson, which must accept exactly what
 * aip_json_validate() accepts and decode strings alike; where jansson is known to be narrower
 * (numbers that overflow, NUL in keys, lone surrogate escapes) or wider (depth), only one side is
 * asked. */

#include "aip/json.h"

#include <apr_general.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static aip_span_t trim(aip_span_t text)
{
    for (; text.len && is_space(text.data[0]); text.len--)
        text.data++;
    while (text.len && is_space(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* Limits of jansson, not faults of the text. */
static bool is_jansson_limit(const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_numeric_overflow:
    case json_error_null_byte_in_key:
    case json_error_stack_overflow:
        return true;
    default:
        return strstr(error->text, "invalid Unicode") != NULL; /* a lone surrogate escape */
    }
}

static void check_value(aip_span_t value, const json_t *expected, apr_pool_t *pool);

static void check_string(aip_span_t value, const json_t *expected, apr_pool_t *pool)
{
    const aip_span_t text = {json_string_value(expected), json_string_length(expected)};
    char *out = malloc(value.len);

    require(out && aip_json_decode(value, out) == text.len && !memcmp(out, text.data, text.len));
    free(out);
    require(aip_json_equals(value, text));
    require(aip_json_equals(aip_json_quote(text, pool), text));
}

static void check_number(aip_span_t value, const json_t *expected)
{
    apr_int64_t integer;
    double number;

    if (aip_json_double(value, &number))
        require(number == json_number_value(expected) || value.len >= 1024);
    else
        require(value.len >= 1024);
    if (aip_json_int64(value, &integer))
        require((double)integer == json_number_value(expected));
}

static void check_array(aip_span_t value, const json_t *expected, apr_pool_t *pool)
{
    const char *cursor = NULL;
    aip_span_t item;
    size_t n = 0;

    while (aip_json_array_next(value, &cursor, &item))
        check_value(item, json_array_get(expected, n++), pool);
    require(n == json_array_size(expected));
}

static void check_value(aip_span_t value, const json_t *expected, apr_pool_t *pool)
{
    switch (aip_json_type(value)) {
    case '"':
        require(json_is_string(expected));
        check_string(value, expected, pool);
        break;
    case '0':
        require(json_is_number(expected));
        check_number(value, expected);
        break;
    case '[':
        require(json_is_array(expected));
        check_array(value, expected, pool);
        break;
    case '{':
        require(json_is_object(expected));
        break;
    case 't':
        require(json_is_true(expected));
        break;
    case 'f':
        require(json_is_false(expected));
        break;
    case 'n':
        require(json_is_null(expected));
        break;
    default:
        abort();
    }
}

/* What is an object is one to who passes over what is nested, too. */
static void check_skim(aip_span_t text, const aip_span_t *names, const aip_json_member_t *members)
{
    aip_json_member_t skimmed[4];

    require(aip_json_object_skim(text, names, 4, skimmed) == AIP_JSON_OK);
    for (size_t i = 0; i < 4; i++)
        require(skimmed[i].key == members[i].key &&
                skimmed[i].value.data == members[i].value.data &&
                skimmed[i].value.len == members[i].value.len);
}

static void check_object(aip_span_t text, const json_t *tree, apr_pool_t *pool)
{
    static const aip_span_t names[] = {{"a", 1}, {"model", 5}, {"\xc3\xa4", 2}, {"", 0}};
    aip_json_member_t members[4];
    aip_json_error_t err;
    size_t i;

    aip_json_object_skim(text, names, 4, members); /* whatever it is: reads nothing beyond it */
    switch (aip_json_object(text, names, 4, members, &err)) {
    case AIP_JSON_OK:
        check_skim(text, names, members);
        require(tree == NULL || json_is_object(tree));
        break;
    case AIP_JSON_DUPLICATE: /* jansson takes the last one without a word */
        require(err.offset < text.len && text.data[err.offset] == '"' && err.member < 4);
        return;
    case AIP_JSON_NOT_OBJECT:
        require(tree == NULL || !json_is_object(tree));
        return;
    case AIP_JSON_DEPTH: /* jansson goes deeper */
        require(text.data[err.offset] == '[' || text.data[err.offset] == '{');
        return;
    case AIP_JSON_SYNTAX:
    case AIP_JSON_UTF8:
        require(tree == NULL && err.offset <= text.len);
        return;
    }
    for (i = 0; tree && i < 4; i++) {
        const json_t *expected = json_object_get(tree, names[i].data);

        require((members[i].key != NULL) == (expected != NULL));
        if (expected)
            check_value(members[i].value, expected, pool);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static apr_pool_t *pool;
    char *copy = malloc(size ? size : 1); /* exactly as long: a read beyond it is seen */
    const aip_span_t text = {copy, size};
    aip_json_error_t err;
    json_error_t error;
    json_t *tree;

    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    require(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    tree =
        json_loadb(copy, size, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &error);
    if (size &&
        memchr(copy, '\0', size)) { /* jansson overlooks a NUL behind a number; it is never JSON */
        json_decref(tree);
        tree = NULL;
        require(aip_json_validate(text, NULL) != AIP_JSON_OK);
    }
    if (aip_json_validate(text, &err)) {
        require(!tree || err.status == AIP_JSON_DEPTH);
        require(err.offset <= size);
    } else {
        require(tree || is_jansson_limit(&error));
        if (tree)
            check_value(trim(text), tree, pool);
    }
    check_object(text, tree, pool);
    require(aip_json_validate(aip_json_quote(text, pool), NULL) == AIP_JSON_OK);
    json_decref(tree);
    free(copy);
    apr_pool_clear(pool);
    return 0;
}
