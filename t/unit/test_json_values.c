/* SPDX-License-Identifier: Apache-2.0 */
/* JSON values: strings to and from text, numbers, types, the items of arrays. */

#include <locale.h>
#include <stdio.h>

#include "json_text.h"

Suite *json_values_suite(void);

/* -- strings -- */

static const struct {
    const char *name;
    aip_span_t json, text;
} decode_rows[] = {
    {"empty", AIP_SPAN("\"\""), AIP_SPAN("")},
    {"plain", AIP_SPAN("\"abc\""), AIP_SPAN("abc")},
    {"short escapes", AIP_SPAN("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), AIP_SPAN("\"\\/\b\f\n\r\t")},
    {"one, two, three bytes", AIP_SPAN("\"\\u0041\\u00e4\\u20AC\""),
     AIP_SPAN("A\xc3\xa4\xe2\x82\xac")},
    {"limits of two and three", AIP_SPAN("\"\\u007f\\u0080\\u07ff\\u0800\\uffff\""),
     AIP_SPAN("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf")},
    {"pair", AIP_SPAN("\"<\\ud83d\\ude00>\""), AIP_SPAN("<\xf0\x9f\x98\x80>")},
    {"first and last pair", AIP_SPAN("\"\\ud800\\udc00\\uDBFF\\uDFFF\""),
     AIP_SPAN("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")},
    {"lone high", AIP_SPAN("\"a\\ud83db\""),
     AIP_SPAN("a\xef\xbf\xbd"
              "b")},
    {"lone high at the end", AIP_SPAN("\"\\ud83d\""), AIP_SPAN("\xef\xbf\xbd")},
    {"lone low", AIP_SPAN("\"\\ude00\""), AIP_SPAN("\xef\xbf\xbd")},
    {"two low", AIP_SPAN("\"\\ude00\\ude00\""), AIP_SPAN("\xef\xbf\xbd\xef\xbf\xbd")},
    {"two high, then low", AIP_SPAN("\"\\ud83d\\ud83d\\ude00\""),
     AIP_SPAN("\xef\xbf\xbd\xf0\x9f\x98\x80")},
    {"high, then another escape", AIP_SPAN("\"\\ud83d\\n\""), AIP_SPAN("\xef\xbf\xbd\n")},
    {"high, then a letter's escape", AIP_SPAN("\"\\ud83d\\u0041\""),
     AIP_SPAN("\xef\xbf\xbd"
              "A")},
    {"NUL", AIP_SPAN("\"a\\u0000b\""), AIP_SPAN("a\0b")},
    {"raw UTF-8 stays", AIP_SPAN("\"\xe2\x82\xac\\n\xf0\x9f\x98\x80\""),
     AIP_SPAN("\xe2\x82\xac\n\xf0\x9f\x98\x80")},
    {"backslash before u", AIP_SPAN("\"\\\\u0041\""), AIP_SPAN("\\u0041")},
};

START_TEST(test_decode)
{
    const aip_span_t json = exact_copy(decode_rows[_i].json), text = decode_rows[_i].text;
    const char *name = decode_rows[_i].name;
    char *out = malloc(json.len), *other;
    const char *string;

    assert_span(name, (aip_span_t){out, aip_json_decode(json, out)}, text);
    string = aip_json_string(json, pool);
    ck_assert_msg(!memcmp(string, text.data, text.len) && !string[text.len], "%s", name);

    ck_assert_msg(aip_json_equals(json, text), "%s", name);
    ck_assert_msg(!text.len || !aip_json_equals(json, (aip_span_t){text.data, text.len - 1}), "%s",
                  name);
    other = apr_pstrmemdup(pool, text.data, text.len + 1);
    ck_assert_msg(!aip_json_equals(json, (aip_span_t){other, text.len + 1}), "%s", name);
    if (text.len) {
        other[text.len - 1] ^= 1;
        ck_assert_msg(!aip_json_equals(json, (aip_span_t){other, text.len}), "%s", name);
    }
    /* and back */
    ck_assert_msg(aip_json_equals(aip_json_quote(text, pool), text), "%s", name);
    free(out);
    free_copy(json);
}
END_TEST

START_TEST(test_no_string)
{
    static const aip_span_t values[] = {ABSENT, AIP_SPAN("null"), AIP_SPAN("12"),
                                        AIP_SPAN("{\"a\":1}"), AIP_SPAN("[\"a\"]")};
    char out[16];

    ck_assert_ptr_null(aip_json_string(values[_i], pool));
    ck_assert_uint_eq(aip_json_decode(values[_i], out), 0);
    ck_assert(!aip_json_equals(values[_i], AIP_SPAN("")));
    ck_assert(!aip_json_equals(values[_i], values[_i]));
}
END_TEST

static const struct {
    const char *name;
    aip_span_t text, json;
} quote_rows[] = {
    {"nothing", ABSENT, AIP_SPAN("\"\"")},
    {"empty", AIP_SPAN(""), AIP_SPAN("\"\"")},
    {"plain", AIP_SPAN("gpt-4o"), AIP_SPAN("\"gpt-4o\"")},
    {"quote and backslash", AIP_SPAN("a\"b\\c/"), AIP_SPAN("\"a\\\"b\\\\c/\"")},
    {"controls", AIP_SPAN("\0\x01\b\t\n\v\f\r\x1f\x7f"),
     AIP_SPAN("\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\"")},
    {"UTF-8 stays", AIP_SPAN("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
     AIP_SPAN("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"")},
    {"bad bytes, one each", AIP_SPAN("a\x80\xff\xc0z"),
     AIP_SPAN("\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"")},
    {"cut sequence is one", AIP_SPAN("\xe2\x82z"), AIP_SPAN("\"\xef\xbf\xbdz\"")},
    {"cut by the end", AIP_SPAN("ab\xf0\x9f\x98"), AIP_SPAN("\"ab\xef\xbf\xbd\"")},
    {"surrogate is three", AIP_SPAN("\xed\xa0\x80"),
     AIP_SPAN("\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"")},
    {"long", AIP_SPAN("0123456789abcdef0123456789abcdef\n0123456789"),
     AIP_SPAN("\"0123456789abcdef0123456789abcdef\\n0123456789\"")},
};

START_TEST(test_quote)
{
    const aip_span_t text = quote_rows[_i].text;
    const aip_span_t copy = text.data ? exact_copy(text) : text;
    const aip_span_t got = aip_json_quote(copy, pool);

    assert_span(quote_rows[_i].name, got, quote_rows[_i].json);
    ck_assert_int_eq(got.data[got.len], '\0');
    ck_assert_int_eq(aip_json_validate(got, NULL), AIP_JSON_OK);
    if (text.data)
        free_copy(copy);
}
END_TEST

/* -- numbers, types, arrays -- */

static const struct {
    aip_span_t json;
    bool is_int;
    apr_int64_t integer;
    bool is_double;
    double number;
} number_rows[] = {
    {AIP_SPAN("0"), true, 0, true, 0.0},
    {AIP_SPAN("-0"), true, 0, true, 0.0},
    {AIP_SPAN("42"), true, 42, true, 42.0},
    {AIP_SPAN("-17"), true, -17, true, -17.0},
    {AIP_SPAN("9223372036854775807"), true, INT64_MAX, true, 9223372036854775807.0},
    {AIP_SPAN("-9223372036854775808"), true, INT64_MIN, true, -9223372036854775808.0},
    {AIP_SPAN("9223372036854775808"), false, 0, true, 9223372036854775808.0},
    {AIP_SPAN("-9223372036854775809"), false, 0, true, -9223372036854775809.0},
    {AIP_SPAN("99999999999999999999"), false, 0, true, 99999999999999999999.0},
    {AIP_SPAN("1.0"), false, 0, true, 1.0},
    {AIP_SPAN("1e2"), false, 0, true, 100.0},
    {AIP_SPAN("0.7"), false, 0, true, 0.7},
    {AIP_SPAN("-0.1"), false, 0, true, -0.1},
    {AIP_SPAN("0.0000001"), false, 0, true, 1e-7},
    {AIP_SPAN("0.00000000000000000000000000012345"), false, 0, true, 1.2345e-28},
    {AIP_SPAN("123456789.012345"), false, 0, true, 123456789.012345},
    {AIP_SPAN("3.141592653589793115997963468544"), false, 0, true, 3.141592653589793},
    {AIP_SPAN("9007199254740993"), true, 9007199254740993, true, 9007199254740992.0},
    {AIP_SPAN("1E-5"), false, 0, true, 1e-5},
    {AIP_SPAN("1.7976931348623157e308"), false, 0, true, 1.7976931348623157e308},
    {AIP_SPAN("5e-324"), false, 0, true, 5e-324},
    {AIP_SPAN("1e-400"), false, 0, true, 0.0},
    {AIP_SPAN("1e400"), false, 0, false, 0},
    {AIP_SPAN("-1e400"), false, 0, false, 0},
    {AIP_SPAN("\"1\""), false, 0, false, 0},
    {AIP_SPAN("true"), false, 0, false, 0},
    {AIP_SPAN("null"), false, 0, false, 0},
    {AIP_SPAN("-"), false, 0, false, 0},
    {ABSENT, false, 0, false, 0},
};

START_TEST(test_numbers)
{
    const aip_span_t text = number_rows[_i].json;
    const aip_span_t json = text.data ? exact_copy(text) : text;
    apr_int64_t integer = 7;
    double number = 7;

    ck_assert_msg(aip_json_int64(json, &integer) == number_rows[_i].is_int, "%s", text.data);
    if (number_rows[_i].is_int)
        ck_assert_msg(integer == number_rows[_i].integer, "%s", text.data);
    ck_assert_msg(aip_json_double(json, &number) == number_rows[_i].is_double, "%s", text.data);
    if (number_rows[_i].is_double)
        ck_assert_msg(number == number_rows[_i].number, "%s: %.17g", text.data, number);
    if (text.data)
        free_copy(json);
}
END_TEST

/* Short numbers take a way of their own: it must agree with strtod() to the last bit. */
START_TEST(test_double_exact)
{
    unsigned long seed = 1;
    int i;

    for (i = 0; i < 20000; i++) {
        char text[64];
        double got;

        seed = seed * 6364136223846793005UL + 1442695040888963407UL;
        snprintf(text, sizeof(text), "%s%lu.%0*lu", seed & 1 ? "-" : "", (seed >> 50) % 1000,
                 1 + (int)(seed >> 60), (seed >> 20) % 10);
        ck_assert_msg(aip_json_double((aip_span_t){text, strlen(text)}, &got) &&
                          got == strtod(text, NULL),
                      "%s", text);
    }
}
END_TEST

/* Where the machine has a locale with a decimal comma, it must not matter. */
START_TEST(test_double_locale)
{
    const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "C"};
    double got;
    int i;

    for (i = 0; !setlocale(LC_ALL, locales[i]); i++)
        ;
    ck_assert(aip_json_double(AIP_SPAN("2.5e0"), &got) && got == 2.5);
    ck_assert(aip_json_double(AIP_SPAN("0.1234567890123456789"), &got) && got > 0.12 && got < 0.13);
    setlocale(LC_ALL, "C");
}
END_TEST

/* A caller hands over the number only: what follows in the buffer is not looked at. */
START_TEST(test_number_ends)
{
    const aip_span_t text = {"1234567.5e1", 4};
    apr_int64_t integer;
    double number;
    char *digits = apr_palloc(pool, 5000);

    ck_assert(aip_json_int64(text, &integer) && integer == 1234);
    ck_assert(aip_json_double(text, &number) && number == 1234.0);
    memset(digits, '1', 5000);
    ck_assert(!aip_json_int64((aip_span_t){digits, 5000}, &integer));
    ck_assert(!aip_json_double((aip_span_t){digits, 5000}, &number));
    ck_assert(aip_json_double((aip_span_t){digits, 300}, &number) && number > 1e299);
}
END_TEST

static const struct {
    aip_span_t json;
    char type;
} type_rows[] = {
    {AIP_SPAN("{}"), '{'},
    {AIP_SPAN("[]"), '['},
    {AIP_SPAN("\"\""), '"'},
    {AIP_SPAN("true"), 't'},
    {AIP_SPAN("false"), 'f'},
    {AIP_SPAN("null"), 'n'},
    {AIP_SPAN("0"), '0'},
    {AIP_SPAN("9"), '0'},
    {AIP_SPAN("-1"), '0'},
    {AIP_SPAN(""), 0},
    {ABSENT, 0},
    {AIP_SPAN("x"), 0},
};

START_TEST(test_type)
{
    ck_assert_int_eq(aip_json_type(type_rows[_i].json), type_rows[_i].type);
}
END_TEST

static const struct {
    const char *name;
    aip_span_t array;
    const char *items[8];
} array_rows[] = {
    {"empty", AIP_SPAN("[]"), {NULL}},
    {"white space only", AIP_SPAN("[ \n ]"), {NULL}},
    {"one", AIP_SPAN("[1]"), {"1"}},
    {"all types",
     AIP_SPAN("[ {\"a\":[1,2]} ,[ ],\"],[\" , -1.5e3,true,false ,null ]"),
     {"{\"a\":[1,2]}", "[ ]", "\"],[\"", "-1.5e3", "true", "false", "null"}},
    {"escaped quotes",
     AIP_SPAN("[\"\\\"\",\"\\\\\",\"\\\\\\\"]\"]"),
     {"\"\\\"\"", "\"\\\\\"", "\"\\\\\\\"]\""}},
    {"no array", AIP_SPAN("{\"a\":1}"), {NULL}},
    {"a string", AIP_SPAN("\"[1]\""), {NULL}},
    {"absent", ABSENT, {NULL}},
};

START_TEST(test_array)
{
    const char *name = array_rows[_i].name;
    const char *cursor = NULL;
    aip_span_t item;
    int n = 0;

    while (aip_json_array_next(array_rows[_i].array, &cursor, &item)) {
        ck_assert_msg(array_rows[_i].items[n] != NULL, "%s: too many", name);
        assert_span(name, item,
                    (aip_span_t){array_rows[_i].items[n], strlen(array_rows[_i].items[n])});
        n++;
    }
    ck_assert_msg(!array_rows[_i].items[n], "%s: %d items", name, n);
    ck_assert_msg(!aip_json_array_next(array_rows[_i].array, &cursor, &item), "%s: again", name);
}
END_TEST

Suite *json_values_suite(void)
{
    Suite *suite = suite_create("json_values");
    TCase *tc = tcase_create("json_values");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, test_decode, 0, ROWS(decode_rows));
    tcase_add_loop_test(tc, test_no_string, 0, 5);
    tcase_add_loop_test(tc, test_quote, 0, ROWS(quote_rows));
    tcase_add_loop_test(tc, test_numbers, 0, ROWS(number_rows));
    tcase_add_test(tc, test_double_exact);
    tcase_add_test(tc, test_double_locale);
    tcase_add_test(tc, test_number_ends);
    tcase_add_loop_test(tc, test_type, 0, ROWS(type_rows));
    tcase_add_loop_test(tc, test_array, 0, ROWS(array_rows));
    suite_add_tcase(suite, tc);
    return suite;
}
