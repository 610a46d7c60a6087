/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of JSON lines: whatever goes in, out comes one line of JSON that says the same. */
#include "fixture.h"
#include "suites.h"

#include "aip/json_out.h"

#include <jansson.h>
#include <math.h>

#define REPLACED "\xef\xbf\xbd"

/* What one call writes at the top. */
static const char *written(const aip_json_out_t *out)
{
    return apr_pstrmemdup(pool, out->data, out->len);
}

static const char *span(const char *data, size_t len, size_t max)
{
    aip_json_out_t out;
    aip_json_out_init(&out, pool, 1);
    aip_json_out_span(&out, NULL, (aip_span_t){data, len}, max);
    return written(&out);
}

/* The same, read again by somebody else. */
static const char *read_again(const char *json, size_t *len)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    ck_assert_msg(json_is_string(value), "no string: %s", json);
    *len = json_string_length(value);
    const char *copy = apr_pstrmemdup(pool, json_string_value(value), *len);
    json_decref(value);
    return copy;
}

/* One byte that is not plain, at each place of texts of each length. */
START_TEST(plain_texts)
{
    static const char stops[] = {'"', '\\', '\n', 0x7f, '\0', 0x1f, (char)0x80, (char)0xff};
    char text[50];
    for (size_t len = 0; len < sizeof text; len++) {
        memset(text, '~', sizeof text);
        text[len] = '"'; /* behind its end */
        ck_assert(aip_text_plain((aip_span_t){text, len}));
        for (size_t at = 0; at < len; at++) {
            for (size_t s = 0; s < sizeof stops; s++) {
                text[at] = stops[s];
                ck_assert_msg(!aip_text_plain((aip_span_t){text, len}), "%d at %zu of %zu",
                              stops[s], at, len);
            }
            text[at] = ' ';
            ck_assert(aip_text_plain((aip_span_t){text, len}));
        }
    }
}
END_TEST

START_TEST(structure)
{
    aip_json_out_t out;
    aip_json_out_init(&out, pool, 1);
    aip_json_out_object(&out, NULL);
    aip_json_out_array(&out, "none");
    aip_json_out_end(&out);
    aip_json_out_array(&out, "some");
    aip_json_out_int(&out, NULL, 1);
    aip_json_out_object(&out, NULL);
    aip_json_out_end(&out);
    aip_json_out_object(&out, NULL);
    aip_json_out_bool(&out, "a", true);
    aip_json_out_bool(&out, "b", false);
    aip_json_out_end(&out);
    aip_json_out_null(&out, NULL);
    aip_json_out_end(&out);
    aip_json_out_text(&out, "text", "x");
    aip_json_out_text(&out, "nothing", NULL);
    aip_json_out_end(&out);
    aip_json_out_byte(&out, '\n');
    ck_assert_str_eq(written(&out), "{\"none\":[],\"some\":[1,{},{\"a\":true,\"b\":false},null],"
                                    "\"text\":\"x\",\"nothing\":null}\n");
}
END_TEST

START_TEST(deep)
{
    aip_json_out_t out;
    aip_json_out_init(&out, pool, 1);
    for (int i = 0; i < AIP_JSON_OUT_DEPTH; i++) {
        i % 2 ? aip_json_out_object(&out, NULL) : aip_json_out_array(&out, i ? "k" : NULL);
    }
    for (int i = 0; i < AIP_JSON_OUT_DEPTH; i++) {
        aip_json_out_end(&out);
    }
    json_t *value = json_loads(written(&out), 0, NULL);
    ck_assert_ptr_nonnull(value);
    json_decref(value);
}
END_TEST

START_TEST(every_byte)
{
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'};
        size_t len;
        const char *json = span(text, 3, 100), *back = read_again(json, &len);
        for (const char *p = json; *p; p++) {
            ck_assert_msg((unsigned char)*p >= 0x20 && *p != 0x7f, "byte %d in %s", c, json);
        }
        if (c < 0x80) {
            ck_assert_uint_eq(len, 3);
            ck_assert_mem_eq(back, text, 3);
        } else {
            ck_assert_str_eq(back, "a" REPLACED "b");
        }
    }
}
END_TEST

START_TEST(every_character)
{
    for (unsigned c = 0x80; c < 0x110000; c += c < 0x3000 ? 1 : 251) {
        char text[5] = {0};
        size_t len;
        if (c >= 0xd800 && c < 0xe000) {
            continue;
        }
        if (c < 0x800) {
            text[0] = (char)(0xc0 | c >> 6), text[1] = (char)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            text[0] = (char)(0xe0 | c >> 12), text[1] = (char)(0x80 | (c >> 6 & 63));
            text[2] = (char)(0x80 | (c & 63));
        } else {
            text[0] = (char)(0xf0 | c >> 18), text[1] = (char)(0x80 | (c >> 12 & 63));
            text[2] = (char)(0x80 | (c >> 6 & 63)), text[3] = (char)(0x80 | (c & 63));
        }
        const char *json = span(text, strlen(text), 100);
        bool escaped = c < 0xa0 || c == 0x2028 || c == 0x2029;
        ck_assert_msg((json[1] == '\\') == escaped, "U+%04X: %s", c, json);
        ck_assert_str_eq(read_again(json, &len), text);
    }
}
END_TEST

START_TEST(invalid)
{
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        {"\xc0\xaf", REPLACED REPLACED},                           /* overlong */
        {"\xe0\x80\xaf", REPLACED REPLACED REPLACED},              /* overlong */
        {"\xed\xa0\x80", REPLACED REPLACED REPLACED},              /* a surrogate */
        {"\xf4\x90\x80\x80", REPLACED REPLACED REPLACED REPLACED}, /* beyond U+10FFFF */
        {"\xe2\x82", REPLACED},                                    /* broken off */
        {"\xe2\x82z", REPLACED "z"},
        {"\xf0\x9f\x98", REPLACED},
        {"\x80\xbf", REPLACED REPLACED},
        {"\xff\xfe", REPLACED REPLACED},
        {"ok \xc3\xa9 \xc3", "ok \xc3\xa9 " REPLACED},
        {"\xc3\"\xc3\n", REPLACED "\"" REPLACED "\n"}, /* must not swallow what follows */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len;
        ck_assert_str_eq(read_again(span(rows[i].text, strlen(rows[i].text), 100), &len),
                         rows[i].wanted);
    }
}
END_TEST

START_TEST(bounds)
{
    static const char text[] = "ab\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\n\xff-";
    static const size_t wanted[] = {0, 1, 2, 2, 4, 4, 4, 7, 7, 7, 7, 11, 12, 12, 12, 15, 16};
    for (size_t max = 0; max < sizeof wanted / sizeof *wanted; max++) {
        size_t len;
        read_again(span(text, sizeof text - 1, max), &len);
        ck_assert_uint_eq(len, wanted[max]);
    }
    char *longer = apr_palloc(pool, 5001);
    memset(longer, 'x', 5000);
    longer[5000] = '\0';
    memcpy(longer + AIP_JSON_OUT_BOUND - 1, "\xe2\x82\xac", 3);
    aip_json_out_t out;
    size_t len;
    aip_json_out_init(&out, pool, 16);
    aip_json_out_text(&out, NULL, longer);
    read_again(written(&out), &len);
    ck_assert_uint_eq(len, AIP_JSON_OUT_BOUND - 1);
}
END_TEST

START_TEST(cuts)
{
    static const struct {
        const char *text;
        size_t max, wanted;
    } rows[] = {
        {"abc", 5, 3},
        {"abc", 3, 3},
        {"abc", 2, 2},
        {"abc", 0, 0},
        {"\xc3\xa9", 1, 0},
        {"a\xc3\xa9", 2, 1},
        {"a\xc3\xa9", 3, 3},
        {"\xe2\x82\xac", 2, 0},
        {"\xf0\x9f\x98\x80", 3, 0},
        {"ab\xf0\x9f\x98\x80", 5, 2},
        {"\xc3\xa9\xc3\xa9", 3, 2},
        {"\xff\xff\xff", 2, 2},
        {"\xa9\xa9\xa9\xa9\xa9", 4, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_span_t text = {rows[i].text, strlen(rows[i].text)};
        ck_assert_uint_eq(aip_text_cut(text, rows[i].max), rows[i].wanted);
    }
}
END_TEST

typedef struct number_row_t {
    apr_int64_t value;
    const char *integer, *pico, *ms;
} number_row_t;

static const aip_json_field_t decimals[] = {
    AIP_JSON_FIELD("pico", AIP_JSON_PICO, number_row_t, value),
    AIP_JSON_FIELD("ms", AIP_JSON_MS, number_row_t, value),
};

START_TEST(numbers)
{
    static const number_row_t rows[] = {
        {0, "0", "0", "0"},
        {1, "1", "0.000000000001", "0.001"},
        {-1, "-1", "-0.000000000001", "-0.001"},
        {10, "10", "0.00000000001", "0.01"},
        {1000, "1000", "0.000000001", "1"},
        {1234567, "1234567", "0.000001234567", "1234.567"},
        {49000000, "49000000", "0.000049", "49000"},
        {APR_INT64_C(1000000000000), "1000000000000", "1", "1000000000"},
        {APR_INT64_C(12500000000000), "12500000000000", "12.5", "12500000000"},
        {APR_INT64_MAX, "9223372036854775807", "9223372.036854775807", "9223372036854775.807"},
        {APR_INT64_MIN, "-9223372036854775808", "-9223372.036854775808", "-9223372036854775.808"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_json_out_t out;
        aip_json_out_init(&out, pool, 1);
        aip_json_out_int(&out, NULL, rows[i].value);
        aip_json_out_fields(&out, decimals, 2, &rows[i]);
        ck_assert_str_eq(written(&out), apr_psprintf(pool, "%s,\"pico\":%s,\"ms\":%s",
                                                     rows[i].integer, rows[i].pico, rows[i].ms));
        ck_assert_str_eq(aip_pico_text(rows[i].value, pool), rows[i].pico);
    }
}
END_TEST

/* Around each power of ten a number gets one more digit. */
START_TEST(lengths)
{
    for (apr_int64_t power = 1; power <= APR_INT64_C(1000000000000000); power *= 10) {
        for (apr_int64_t value = power - 1; value <= power + 1; value++) {
            aip_json_out_t out;
            aip_json_out_init(&out, pool, 1);
            aip_json_out_int(&out, NULL, value);
            aip_json_out_fields(&out, &decimals[1], 1,
                                &(number_row_t){.value = value * 1000 + 120});
            ck_assert_str_eq(written(&out),
                             apr_psprintf(pool,
                                          "%" APR_INT64_T_FMT ",\"ms\":%" APR_INT64_T_FMT ".12",
                                          value, value));
        }
    }
}
END_TEST

typedef struct all_kinds_t {
    const char *text;
    aip_span_t plain;
    int number;
    apr_int64_t count, time;
    bool flag;
} all_kinds_t;

static const char *fields_of(const all_kinds_t *all)
{
    static const aip_json_field_t table[] = {
        AIP_JSON_FIELD("text", AIP_JSON_TEXT, all_kinds_t, text),
        AIP_JSON_FIELD("text_set", AIP_JSON_TEXT_SET, all_kinds_t, text),
        AIP_JSON_FIELD("plain_set", AIP_JSON_PLAIN_SET, all_kinds_t, plain),
        AIP_JSON_FIELD("number", AIP_JSON_INT, all_kinds_t, number),
        AIP_JSON_FIELD("int64", AIP_JSON_INT64, all_kinds_t, count),
        AIP_JSON_FIELD("count", AIP_JSON_COUNT, all_kinds_t, count),
        AIP_JSON_FIELD("flag", AIP_JSON_BOOL, all_kinds_t, flag),
        AIP_JSON_FIELD("ms", AIP_JSON_MS, all_kinds_t, time),
        AIP_JSON_FIELD("ms_null", AIP_JSON_MS_NULL, all_kinds_t, time),
        AIP_JSON_FIELD("ms_set", AIP_JSON_MS_SET, all_kinds_t, time),
        AIP_JSON_FIELD("a_key_of_24_characters_.", AIP_JSON_PICO, all_kinds_t, count),
    };
    static const aip_json_field_t plain[] = {
        AIP_JSON_FIELD("plain", AIP_JSON_PLAIN, all_kinds_t, plain),
    };
    aip_json_out_t out;
    aip_json_out_init(&out, pool, 1);
    aip_json_out_object(&out, NULL);
    aip_json_out_fields(&out, table, sizeof table / sizeof *table, all);
    if (all->plain.data) {
        aip_json_out_fields(&out, plain, 1, all);
    }
    aip_json_out_end(&out);
    return written(&out);
}

START_TEST(fields)
{
    const all_kinds_t some = {"a \"b\"", AIP_SPAN("c"), -7, 49000000, 1500, true};
    const all_kinds_t none = {.number = 7, .count = -1, .time = -1500};
    ck_assert_str_eq(fields_of(&some),
                     "{\"text\":\"a \\\"b\\\"\",\"text_set\":\"a \\\"b\\\"\",\"plain_set\":\"c\","
                     "\"number\":-7,\"int64\":49000000,\"count\":49000000,\"flag\":true,\"ms\":1.5,"
                     "\"ms_null\":1.5,\"ms_set\":1.5,\"a_key_of_24_characters_.\":0.000049,"
                     "\"plain\":\"c\"}");
    for (int len = 1; len < 1000; len++) { /* grows in the middle of a member */
        const char *text = apr_psprintf(pool, "%0*d", len, 7);
        const all_kinds_t longer = {
            .text = apr_pstrcat(pool, "\"", text, NULL), .plain = {text, (size_t)len}, .number = 1};
        const char *quoted = apr_pstrcat(pool, "\"\\\"", text, "\"", NULL);
        ck_assert_str_eq(fields_of(&longer),
                         apr_psprintf(pool,
                                      "{\"text\":%s,\"text_set\":%s,\"plain_set\":\"%s\","
                                      "\"number\":1,\"int64\":0,\"count\":0,\"flag\":false,"
                                      "\"ms\":0,\"ms_null\":0,\"ms_set\":0,"
                                      "\"a_key_of_24_characters_.\":0,\"plain\":\"%s\"}",
                                      quoted, quoted, text, text));
    }
    ck_assert_str_eq(fields_of(&none),
                     "{\"text\":null,\"number\":7,\"int64\":-1,\"flag\":false,\"ms\":-1.5,"
                     "\"ms_null\":null,\"a_key_of_24_characters_.\":-0.000000000001}");
}
END_TEST

START_TEST(reals)
{
    static const double values[] = {0.0, 0.5, -0.25, 1e300, 1e-300, 0.1, 123456789.0};
    aip_json_out_t out;
    aip_json_out_init(&out, pool, 1);
    aip_json_out_array(&out, NULL);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        aip_json_out_real(&out, NULL, values[i]);
    }
    aip_json_out_real(&out, NULL, (double)NAN);
    aip_json_out_real(&out, NULL, (double)INFINITY);
    aip_json_out_end(&out);
    json_t *list = json_loads(written(&out), 0, NULL);
    ck_assert_ptr_nonnull(list);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        double got = json_number_value(json_array_get(list, i));
        ck_assert_msg(fabs(got - values[i]) <= fabs(values[i]) * 1e-8, "%g: %g", values[i], got);
    }
    ck_assert(json_is_null(json_array_get(list, 7)) && json_is_null(json_array_get(list, 8)));
    json_decref(list);
}
END_TEST

Suite *json_out_suite(void)
{
    Suite *suite = suite_create("json_out");
    TCase *tests = tcase_create("json_out");
    tcase_add_checked_fixture(tests, pool_setup, pool_teardown);
    tcase_add_test(tests, plain_texts);
    tcase_add_test(tests, structure);
    tcase_add_test(tests, deep);
    tcase_add_test(tests, every_byte);
    tcase_add_test(tests, every_character);
    tcase_add_test(tests, invalid);
    tcase_add_test(tests, bounds);
    tcase_add_test(tests, cuts);
    tcase_add_test(tests, numbers);
    tcase_add_test(tests, lengths);
    tcase_add_test(tests, fields);
    tcase_add_test(tests, reals);
    suite_add_tcase(suite, tests);
    return suite;
}
