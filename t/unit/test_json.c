/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON scanner, values, and splice. Every text is tested in a heap block of exactly its size,
 * so that a run under AddressSanitizer or valgrind sees any read beyond it. The last test compares
 * splices of random documents with jansson. */

#include "aip/json.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <check.h>
#include <jansson.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

Suite *json_suite(void);

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
/* Bytes with their length: texts may hold NUL. */
#define BYTES(literal)                                                                             \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }
#define ABSENT                                                                                     \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

static apr_pool_t *pool;

static void setup(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
}

static void teardown(void)
{
    apr_pool_destroy(pool);
    apr_terminate();
}

static aip_span_t exact_copy(aip_span_t text)
{
    char *copy = malloc(text.len ? text.len : 1);

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, text.data, text.len);
    return (aip_span_t){copy, text.len};
}

static void free_copy(aip_span_t copy)
{
    free((void *)(uintptr_t)copy.data);
}

static bool spans_equal(aip_span_t a, aip_span_t b)
{
    return a.len == b.len && !memcmp(a.data, b.data, a.len);
}

static void assert_span(const char *name, aip_span_t got, aip_span_t expected)
{
    ck_assert_msg(spans_equal(got, expected), "%s: got <%.*s>, expected <%.*s>", name, (int)got.len,
                  got.data, (int)expected.len, expected.data);
}

/* -- validation -- */

static const struct {
    const char *name;
    aip_span_t text;
    aip_json_status_e status;
    size_t offset;
} validate_rows[] = {
    {"empty object", BYTES("{}"), AIP_JSON_OK, 0},
    {"empty array in white space", BYTES(" \t\r\n[ \n] \t"), AIP_JSON_OK, 0},
    {"words", BYTES("[true,false,null]"), AIP_JSON_OK, 0},
    {"numbers", BYTES("[0,-0,1,-1,10,1.5,0.25,1e5,1E+5,1e-5,0e0,-0.0e-0]"), AIP_JSON_OK, 0},
    {"number beyond 2^64", BYTES("123456789012345678901234567890"), AIP_JSON_OK, 0},
    {"number beyond double", BYTES("1e99999"), AIP_JSON_OK, 0},
    {"all short escapes", BYTES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), AIP_JSON_OK, 0},
    {"hex escapes", BYTES("\"\\u0000\\uABCD\\uabcd\\u09aF\""), AIP_JSON_OK, 0},
    {"lone surrogate escapes", BYTES("\"\\ud800 \\udc00 \\udbff\\u0041\""), AIP_JSON_OK, 0},
    {"DEL is plain", BYTES("\"\x7f\""), AIP_JSON_OK, 0},
    {"slash and JS separators", BYTES("\"/ \xe2\x80\xa8\""), AIP_JSON_OK, 0},
    {"nested", BYTES("{\"a\":[{\"b\":{}},[[]],\"\"]}"), AIP_JSON_OK, 0},
    {"duplicates nobody asked for", BYTES("{\"a\":1,\"a\":2}"), AIP_JSON_OK, 0},

    {"nothing", BYTES(""), AIP_JSON_SYNTAX, 0},
    {"no text at all", ABSENT, AIP_JSON_SYNTAX, 0},
    {"white space only", BYTES("  \n"), AIP_JSON_SYNTAX, 3},
    {"byte order mark", BYTES("\xef\xbb\xbf{}"), AIP_JSON_SYNTAX, 0},
    {"bare word", BYTES("nope"), AIP_JSON_SYNTAX, 1},
    {"upper case word", BYTES("True"), AIP_JSON_SYNTAX, 0},
    {"word too short", BYTES("tru"), AIP_JSON_SYNTAX, 3},
    {"word too long", BYTES("nulll"), AIP_JSON_SYNTAX, 4},
    {"NaN", BYTES("[NaN]"), AIP_JSON_SYNTAX, 1},
    {"Infinity", BYTES("[-Infinity]"), AIP_JSON_SYNTAX, 2},
    {"two values", BYTES("{} {}"), AIP_JSON_SYNTAX, 3},
    {"trailing garbage", BYTES("{}x"), AIP_JSON_SYNTAX, 2},
    {"trailing NUL", BYTES("{}\0"), AIP_JSON_SYNTAX, 2},
    {"vertical tab is no space", BYTES("\v{}"), AIP_JSON_SYNTAX, 0},
    {"comment", BYTES("{/**/}"), AIP_JSON_SYNTAX, 1},
    {"open object", BYTES("{"), AIP_JSON_SYNTAX, 1},
    {"open object after a key", BYTES("{\"a\""), AIP_JSON_SYNTAX, 4},
    {"open object after a colon", BYTES("{\"a\":"), AIP_JSON_SYNTAX, 5},
    {"open object after a value", BYTES("{\"a\":1"), AIP_JSON_SYNTAX, 6},
    {"open object after a comma", BYTES("{\"a\":1,"), AIP_JSON_SYNTAX, 7},
    {"open array", BYTES("["), AIP_JSON_SYNTAX, 1},
    {"open array after a comma", BYTES("[1,"), AIP_JSON_SYNTAX, 3},
    {"trailing comma in an object", BYTES("{\"a\":1, }"), AIP_JSON_SYNTAX, 8},
    {"trailing comma in an array", BYTES("[1,]"), AIP_JSON_SYNTAX, 3},
    {"leading comma", BYTES("[,1]"), AIP_JSON_SYNTAX, 1},
    {"leading comma in an object", BYTES("{,\"a\":1}"), AIP_JSON_SYNTAX, 1},
    {"two commas", BYTES("[1,,2]"), AIP_JSON_SYNTAX, 3},
    {"no comma", BYTES("[1 2]"), AIP_JSON_SYNTAX, 3},
    {"wrong bracket", BYTES("[1}"), AIP_JSON_SYNTAX, 2},
    {"wrong brace", BYTES("{\"a\":1]"), AIP_JSON_SYNTAX, 6},
    {"key without quotes", BYTES("{a:1}"), AIP_JSON_SYNTAX, 1},
    {"key in single quotes", BYTES("{'a':1}"), AIP_JSON_SYNTAX, 1},
    {"number as key", BYTES("{1:1}"), AIP_JSON_SYNTAX, 1},
    {"no colon", BYTES("{\"a\" 1}"), AIP_JSON_SYNTAX, 5},
    {"two colons", BYTES("{\"a\"::1}"), AIP_JSON_SYNTAX, 5},
    {"no value", BYTES("{\"a\":}"), AIP_JSON_SYNTAX, 5},
    {"closed too often", BYTES("[]]"), AIP_JSON_SYNTAX, 2},

    {"leading zero", BYTES("[01]"), AIP_JSON_SYNTAX, 2},
    {"leading plus", BYTES("[+1]"), AIP_JSON_SYNTAX, 1},
    {"minus only", BYTES("[-]"), AIP_JSON_SYNTAX, 2},
    {"minus at the end", BYTES("-"), AIP_JSON_SYNTAX, 1},
    {"no digit before the point", BYTES("[.5]"), AIP_JSON_SYNTAX, 1},
    {"no digit after the point", BYTES("[1.]"), AIP_JSON_SYNTAX, 3},
    {"no digit after e", BYTES("[1e]"), AIP_JSON_SYNTAX, 3},
    {"no digit after e+", BYTES("[1e+]"), AIP_JSON_SYNTAX, 4},
    {"ends after e", BYTES("1e"), AIP_JSON_SYNTAX, 2},
    {"hexadecimal", BYTES("[0x1]"), AIP_JSON_SYNTAX, 2},
    {"two points", BYTES("[1.2.3]"), AIP_JSON_SYNTAX, 4},

    {"open string", BYTES("\"abc"), AIP_JSON_SYNTAX, 4},
    {"open string of one quote", BYTES("\""), AIP_JSON_SYNTAX, 1},
    {"raw newline", BYTES("\"a\nb\""), AIP_JSON_SYNTAX, 2},
    {"raw NUL", BYTES("\"a\0b\""), AIP_JSON_SYNTAX, 2},
    {"raw 0x1f", BYTES("\"\x1f\""), AIP_JSON_SYNTAX, 1},
    {"bad escape", BYTES("\"\\x41\""), AIP_JSON_SYNTAX, 2},
    {"upper case U", BYTES("\"\\U0041\""), AIP_JSON_SYNTAX, 2},
    {"short hex", BYTES("\"\\u12\""), AIP_JSON_SYNTAX, 5},
    {"bad hex", BYTES("\"\\u12g4\""), AIP_JSON_SYNTAX, 5},
    {"hex with a sign", BYTES("\"\\u+123\""), AIP_JSON_SYNTAX, 3},
    {"ends in an escape", BYTES("\"\\"), AIP_JSON_SYNTAX, 2},
    {"ends in hex", BYTES("\"\\u00"), AIP_JSON_SYNTAX, 5},
    {"escaped closing quote", BYTES("\"\\\""), AIP_JSON_SYNTAX, 3},

    {"first of two bytes", BYTES("\"\xc2\x80\""), AIP_JSON_OK, 0},
    {"last of two bytes", BYTES("\"\xdf\xbf\""), AIP_JSON_OK, 0},
    {"first of three bytes", BYTES("\"\xe0\xa0\x80\""), AIP_JSON_OK, 0},
    {"below the surrogates", BYTES("\"\xed\x9f\xbf\""), AIP_JSON_OK, 0},
    {"above the surrogates", BYTES("\"\xee\x80\x80\""), AIP_JSON_OK, 0},
    {"U+FFFF", BYTES("\"\xef\xbf\xbf\""), AIP_JSON_OK, 0},
    {"first of four bytes", BYTES("\"\xf0\x90\x80\x80\""), AIP_JSON_OK, 0},
    {"U+10FFFF", BYTES("\"\xf4\x8f\xbf\xbf\""), AIP_JSON_OK, 0},
    {"lone continuation", BYTES("\"a\x80\""), AIP_JSON_UTF8, 2},
    {"0xbf", BYTES("\"\xbf\""), AIP_JSON_UTF8, 1},
    {"overlong of two, 0xc0", BYTES("\"\xc0\x80\""), AIP_JSON_UTF8, 1},
    {"overlong of two, 0xc1", BYTES("\"\xc1\xbf\""), AIP_JSON_UTF8, 1},
    {"overlong of three", BYTES("\"\xe0\x9f\xbf\""), AIP_JSON_UTF8, 1},
    {"overlong of four", BYTES("\"\xf0\x8f\xbf\xbf\""), AIP_JSON_UTF8, 1},
    {"first surrogate", BYTES("\"\xed\xa0\x80\""), AIP_JSON_UTF8, 1},
    {"last surrogate", BYTES("\"\xed\xbf\xbf\""), AIP_JSON_UTF8, 1},
    {"U+110000", BYTES("\"\xf4\x90\x80\x80\""), AIP_JSON_UTF8, 1},
    {"0xf5", BYTES("\"\xf5\x80\x80\x80\""), AIP_JSON_UTF8, 1},
    {"0xff", BYTES("\"\xff\""), AIP_JSON_UTF8, 1},
    {"two bytes cut by the quote", BYTES("\"\xc3\""), AIP_JSON_UTF8, 1},
    {"three bytes cut by the quote", BYTES("\"ab\xe2\x82\""), AIP_JSON_UTF8, 3},
    {"four bytes cut by a letter", BYTES("\"\xf0\x9f\x98z\""), AIP_JSON_UTF8, 1},
    {"cut by the end", BYTES("\"\xe2\x82"), AIP_JSON_UTF8, 1},
    {"good, then bad", BYTES("\"\xc3\xa4\xc3\""), AIP_JSON_UTF8, 3},
    {"bad in a key", BYTES("{\"\xff\":1}"), AIP_JSON_UTF8, 2},
    {"not ASCII outside of a string", BYTES("[\xc3\xa4]"), AIP_JSON_SYNTAX, 1},
};

START_TEST(test_validate)
{
    const aip_span_t text = validate_rows[_i].text;
    const aip_span_t copy = text.data ? exact_copy(text) : text;
    const char *name = validate_rows[_i].name;
    aip_json_error_t err = {.offset = 99};

    ck_assert_msg(aip_json_validate(copy, &err) == validate_rows[_i].status, "%s: %s", name,
                  aip_json_strerror(err.status));
    ck_assert_msg(err.status == validate_rows[_i].status, "%s: %d", name, (int)err.status);
    ck_assert_msg(err.offset == validate_rows[_i].offset, "%s: offset %zu, expected %zu", name,
                  err.offset, validate_rows[_i].offset);
    ck_assert_int_eq(aip_json_validate(copy, NULL), validate_rows[_i].status);
    free_copy(copy);
}
END_TEST

/* Strings of every length up to 70 with one special byte at every place: the wide steps and their
 * ends. */
START_TEST(test_every_position)
{
    static const struct {
        char byte;
        aip_json_status_e status;
    } bytes[] = {{'a', AIP_JSON_OK},      {' ', AIP_JSON_OK},      {'!', AIP_JSON_OK},
                 {'#', AIP_JSON_OK},      {'[', AIP_JSON_OK},      {']', AIP_JSON_OK},
                 {'\x7f', AIP_JSON_OK},   {'\0', AIP_JSON_SYNTAX}, {'\x1f', AIP_JSON_SYNTAX},
                 {'\x80', AIP_JSON_UTF8}, {'\xff', AIP_JSON_UTF8}, {'"', AIP_JSON_SYNTAX},
                 {'\\', AIP_JSON_SYNTAX}};
    const char byte = bytes[_i].byte;
    size_t len, at;

    for (len = 1; len <= 70; len++) {
        for (at = 1; at <= len; at++) {
            char *text = malloc(len + 2);
            aip_json_error_t err;
            size_t offset = at;

            memset(text, 'x', len + 2);
            text[0] = text[len + 1] = '"';
            text[at] = byte;
            aip_json_validate((aip_span_t){text, len + 2}, &err);
            if (byte == '"')
                offset = at + 1; /* the string ends, something follows */
            else if (byte == '\\')
                offset =
                    at == len ? len + 2 : at + 1; /* \x is no escape; \" leaves the string open */
            ck_assert_msg(err.status == bytes[_i].status && (!err.status || err.offset == offset),
                          "byte 0x%02x at %zu of %zu: status %d, offset %zu", (unsigned char)byte,
                          at, len, (int)err.status, err.offset);
            free(text);
        }
    }
}
END_TEST

static aip_span_t nested(size_t depth, const char *open, const char *middle, const char *close)
{
    const size_t open_len = strlen(open), middle_len = strlen(middle);
    char *text = apr_palloc(pool, depth * (open_len + 1) + middle_len);
    size_t i, n = 0;

    for (i = 0; i < depth; i++, n += open_len)
        memcpy(text + n, open, open_len);
    memcpy(text + n, middle, middle_len);
    n += middle_len;
    memset(text + n, *close, depth);
    return (aip_span_t){text, n + depth};
}

START_TEST(test_depth)
{
    const aip_span_t names[] = {BYTES("a")};
    aip_json_member_t member;
    aip_json_error_t err;

    ck_assert_int_eq(aip_json_validate(nested(AIP_JSON_DEPTH_MAX, "[", "", "]"), NULL),
                     AIP_JSON_OK);
    ck_assert_int_eq(aip_json_validate(nested(AIP_JSON_DEPTH_MAX + 1, "[", "", "]"), &err),
                     AIP_JSON_DEPTH);
    ck_assert_uint_eq(err.offset, AIP_JSON_DEPTH_MAX);
    ck_assert_int_eq(
        aip_json_object(nested(AIP_JSON_DEPTH_MAX, "{\"a\":", "1", "}"), names, 1, &member, NULL),
        AIP_JSON_OK);
    ck_assert_int_eq(aip_json_object(nested(AIP_JSON_DEPTH_MAX + 1, "{\"a\":", "1", "}"), names, 1,
                                     &member, &err),
                     AIP_JSON_DEPTH);
    ck_assert_uint_eq(err.offset, AIP_JSON_DEPTH_MAX * 5);
    /* far deeper than the stack could take */
    ck_assert_int_eq(aip_json_validate(nested(5000000, "[", "", "]"), NULL), AIP_JSON_DEPTH);
    ck_assert_int_eq(aip_json_validate(nested(5000000, "{\"a\":", "1", "}"), NULL), AIP_JSON_DEPTH);
}
END_TEST

/* -- location of members -- */

#define NAMES 4
static const aip_span_t names[NAMES] = {BYTES("model"), BYTES("messages"), BYTES("s\xc3\xa4"),
                                        BYTES("")};

static const struct {
    const char *name;
    aip_span_t text;
    aip_json_status_e status;
    size_t offset, member;
    const char *values[NAMES];
} object_rows[] = {
    {"none", BYTES("{}"), AIP_JSON_OK, 0, 0, {NULL}},
    {"all",
     BYTES("{\"messages\":[1, 2],\"\":\"\",\"s\xc3\xa4\":{},\"model\":\"m\"}"),
     AIP_JSON_OK,
     0,
     0,
     {"\"m\"", "[1, 2]", "{}", "\"\""}},
    {"white space is no part",
     BYTES(" { \"model\" : 1.0 , \"messages\"\n:\tnull } "),
     AIP_JSON_OK,
     0,
     0,
     {"1.0", "null"}},
    {"escaped key",
     BYTES("{\"\\u006dodel\":1,\"s\\u00E4\":2}"),
     AIP_JSON_OK,
     0,
     0,
     {"1", NULL, "2"}},
    {"only the top counts",
     BYTES("{\"x\":{\"model\":1},\"y\":[{\"model\":2}]}"),
     AIP_JSON_OK,
     0,
     0,
     {NULL}},
    {"nested twins are no twins",
     BYTES("{\"model\":{\"model\":1,\"model\":2}}"),
     AIP_JSON_OK,
     0,
     0,
     {"{\"model\":1,\"model\":2}"}},
    {"near misses",
     BYTES("{\"Model\":1,\"mode\":2,\"models\":3,\"model \":4,\"model\\u0000\":5}"),
     AIP_JSON_OK,
     0,
     0,
     {NULL}},
    {"same length", BYTES("{\"mudel\":1,\"\\u006dudel\":1}"), AIP_JSON_OK, 0, 0, {NULL}},
    {"others may repeat", BYTES("{\"x\":1,\"x\":2,\"model\":3}"), AIP_JSON_OK, 0, 0, {"3"}},

    {"twice", BYTES("{\"model\":1,\"model\":1}"), AIP_JSON_DUPLICATE, 11, 0, {NULL}},
    {"twice, second escaped",
     BYTES("{\"messages\":1,\"mess\\u0061ges\":2}"),
     AIP_JSON_DUPLICATE,
     14,
     1,
     {NULL}},
    {"twice, first escaped",
     BYTES("{\"mode\\u006C\":1, \"model\":2}"),
     AIP_JSON_DUPLICATE,
     17,
     0,
     {NULL}},
    {"twice, both escaped",
     BYTES("{\"\\u006dodel\":1,\"m\\u006fdel\":2}"),
     AIP_JSON_DUPLICATE,
     16,
     0,
     {NULL}},
    {"twice, empty", BYTES("{\"\":1,\"\":2}"), AIP_JSON_DUPLICATE, 6, 3, {NULL}},
    {"twice, before bad syntax",
     BYTES("{\"model\":1,\"model\":x}"),
     AIP_JSON_DUPLICATE,
     11,
     0,
     {NULL}},
    {"bad syntax before twice",
     BYTES("{\"model\":1,\"a\":x,\"model\":1}"),
     AIP_JSON_SYNTAX,
     15,
     0,
     {NULL}},
    {"array", BYTES(" [1]"), AIP_JSON_NOT_OBJECT, 1, 0, {NULL}},
    {"string", BYTES("\"a\" x"), AIP_JSON_NOT_OBJECT, 0, 0, {NULL}},
    {"null", BYTES("null"), AIP_JSON_NOT_OBJECT, 0, 0, {NULL}},
    {"broken array", BYTES("[1"), AIP_JSON_SYNTAX, 2, 0, {NULL}},
    {"words", BYTES("hello"), AIP_JSON_SYNTAX, 0, 0, {NULL}},
    {"nothing", BYTES(""), AIP_JSON_SYNTAX, 0, 0, {NULL}},
    {"fault after members", BYTES("{\"model\":1,\"messages\":2"), AIP_JSON_SYNTAX, 23, 0, {NULL}},
    {"something after it", BYTES("{\"model\":1}}"), AIP_JSON_SYNTAX, 11, 0, {NULL}},
};

START_TEST(test_object)
{
    const aip_span_t copy = exact_copy(object_rows[_i].text);
    const char *name = object_rows[_i].name;
    aip_json_member_t members[NAMES];
    aip_json_error_t err;
    size_t i;

    memset(members, 0xff, sizeof(members));
    ck_assert_msg(aip_json_object(copy, names, NAMES, members, &err) == object_rows[_i].status,
                  "%s: %s", name, aip_json_strerror(err.status));
    ck_assert_msg(err.offset == object_rows[_i].offset, "%s: offset %zu", name, err.offset);
    ck_assert_msg(err.member == object_rows[_i].member, "%s: member %zu", name, err.member);
    for (i = 0; i < NAMES; i++) {
        const char *expected = object_rows[_i].values[i];

        if (!expected) {
            ck_assert_msg(!members[i].key && !members[i].value.data && !members[i].value.len,
                          "%s: %zu", name, i);
            continue;
        }
        ck_assert_msg(members[i].key && *members[i].key == '"', "%s: key of %zu", name, i);
        ck_assert_msg(members[i].key < members[i].value.data, "%s: key of %zu", name, i);
        assert_span(name, members[i].value, (aip_span_t){expected, strlen(expected)});
    }
    free_copy(copy);
}
END_TEST

/* -- strings -- */

static const struct {
    const char *name;
    aip_span_t json, text;
} decode_rows[] = {
    {"empty", BYTES("\"\""), BYTES("")},
    {"plain", BYTES("\"abc\""), BYTES("abc")},
    {"short escapes", BYTES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), BYTES("\"\\/\b\f\n\r\t")},
    {"one, two, three bytes", BYTES("\"\\u0041\\u00e4\\u20AC\""), BYTES("A\xc3\xa4\xe2\x82\xac")},
    {"limits of two and three", BYTES("\"\\u007f\\u0080\\u07ff\\u0800\\uffff\""),
     BYTES("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf")},
    {"pair", BYTES("\"<\\ud83d\\ude00>\""), BYTES("<\xf0\x9f\x98\x80>")},
    {"first and last pair", BYTES("\"\\ud800\\udc00\\uDBFF\\uDFFF\""),
     BYTES("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")},
    {"lone high", BYTES("\"a\\ud83db\""),
     BYTES("a\xef\xbf\xbd"
           "b")},
    {"lone high at the end", BYTES("\"\\ud83d\""), BYTES("\xef\xbf\xbd")},
    {"lone low", BYTES("\"\\ude00\""), BYTES("\xef\xbf\xbd")},
    {"two low", BYTES("\"\\ude00\\ude00\""), BYTES("\xef\xbf\xbd\xef\xbf\xbd")},
    {"two high, then low", BYTES("\"\\ud83d\\ud83d\\ude00\""),
     BYTES("\xef\xbf\xbd\xf0\x9f\x98\x80")},
    {"high, then another escape", BYTES("\"\\ud83d\\n\""), BYTES("\xef\xbf\xbd\n")},
    {"high, then a letter's escape", BYTES("\"\\ud83d\\u0041\""),
     BYTES("\xef\xbf\xbd"
           "A")},
    {"NUL", BYTES("\"a\\u0000b\""), BYTES("a\0b")},
    {"raw UTF-8 stays", BYTES("\"\xe2\x82\xac\\n\xf0\x9f\x98\x80\""),
     BYTES("\xe2\x82\xac\n\xf0\x9f\x98\x80")},
    {"backslash before u", BYTES("\"\\\\u0041\""), BYTES("\\u0041")},
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
    static const aip_span_t values[] = {ABSENT, BYTES("null"), BYTES("12"), BYTES("{\"a\":1}"),
                                        BYTES("[\"a\"]")};
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
    {"nothing", ABSENT, BYTES("\"\"")},
    {"empty", BYTES(""), BYTES("\"\"")},
    {"plain", BYTES("gpt-4o"), BYTES("\"gpt-4o\"")},
    {"quote and backslash", BYTES("a\"b\\c/"), BYTES("\"a\\\"b\\\\c/\"")},
    {"controls", BYTES("\0\x01\b\t\n\v\f\r\x1f\x7f"),
     BYTES("\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\"")},
    {"UTF-8 stays", BYTES("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
     BYTES("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"")},
    {"bad bytes, one each", BYTES("a\x80\xff\xc0z"),
     BYTES("\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"")},
    {"cut sequence is one", BYTES("\xe2\x82z"), BYTES("\"\xef\xbf\xbdz\"")},
    {"cut by the end", BYTES("ab\xf0\x9f\x98"), BYTES("\"ab\xef\xbf\xbd\"")},
    {"surrogate is three", BYTES("\xed\xa0\x80"),
     BYTES("\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"")},
    {"long", BYTES("0123456789abcdef0123456789abcdef\n0123456789"),
     BYTES("\"0123456789abcdef0123456789abcdef\\n0123456789\"")},
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
    {BYTES("0"), true, 0, true, 0.0},
    {BYTES("-0"), true, 0, true, 0.0},
    {BYTES("42"), true, 42, true, 42.0},
    {BYTES("-17"), true, -17, true, -17.0},
    {BYTES("9223372036854775807"), true, INT64_MAX, true, 9223372036854775807.0},
    {BYTES("-9223372036854775808"), true, INT64_MIN, true, -9223372036854775808.0},
    {BYTES("9223372036854775808"), false, 0, true, 9223372036854775808.0},
    {BYTES("-9223372036854775809"), false, 0, true, -9223372036854775809.0},
    {BYTES("99999999999999999999"), false, 0, true, 99999999999999999999.0},
    {BYTES("1.0"), false, 0, true, 1.0},
    {BYTES("1e2"), false, 0, true, 100.0},
    {BYTES("0.7"), false, 0, true, 0.7},
    {BYTES("-0.1"), false, 0, true, -0.1},
    {BYTES("0.0000001"), false, 0, true, 1e-7},
    {BYTES("0.00000000000000000000000000012345"), false, 0, true, 1.2345e-28},
    {BYTES("123456789.012345"), false, 0, true, 123456789.012345},
    {BYTES("3.141592653589793115997963468544"), false, 0, true, 3.141592653589793},
    {BYTES("9007199254740993"), true, 9007199254740993, true, 9007199254740992.0},
    {BYTES("1E-5"), false, 0, true, 1e-5},
    {BYTES("1.7976931348623157e308"), false, 0, true, 1.7976931348623157e308},
    {BYTES("5e-324"), false, 0, true, 5e-324},
    {BYTES("1e-400"), false, 0, true, 0.0},
    {BYTES("1e400"), false, 0, false, 0},
    {BYTES("-1e400"), false, 0, false, 0},
    {BYTES("\"1\""), false, 0, false, 0},
    {BYTES("true"), false, 0, false, 0},
    {BYTES("null"), false, 0, false, 0},
    {BYTES("-"), false, 0, false, 0},
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
    {BYTES("{}"), '{'},    {BYTES("[]"), '['},   {BYTES("\"\""), '"'}, {BYTES("true"), 't'},
    {BYTES("false"), 'f'}, {BYTES("null"), 'n'}, {BYTES("0"), '0'},    {BYTES("9"), '0'},
    {BYTES("-1"), '0'},    {BYTES(""), 0},       {ABSENT, 0},          {BYTES("x"), 0},
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
    {"empty", BYTES("[]"), {NULL}},
    {"white space only", BYTES("[ \n ]"), {NULL}},
    {"one", BYTES("[1]"), {"1"}},
    {"all types",
     BYTES("[ {\"a\":[1,2]} ,[ ],\"],[\" , -1.5e3,true,false ,null ]"),
     {"{\"a\":[1,2]}", "[ ]", "\"],[\"", "-1.5e3", "true", "false", "null"}},
    {"escaped quotes",
     BYTES("[\"\\\"\",\"\\\\\",\"\\\\\\\"]\"]"),
     {"\"\\\"\"", "\"\\\\\"", "\"\\\\\\\"]\""}},
    {"no array", BYTES("{\"a\":1}"), {NULL}},
    {"a string", BYTES("\"[1]\""), {NULL}},
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

START_TEST(test_strerror)
{
    const char *text = aip_json_strerror((aip_json_status_e)_i);

    ck_assert(text && *text && strcmp(text, "unknown error") != 0);
    ck_assert_str_eq(aip_json_strerror((aip_json_status_e)99), "unknown error");
}
END_TEST

/* -- splice -- */

/* Edits of a, b, c: NULL leaves the member alone, "" removes it. */
static const struct {
    const char *name, *text, *edits[3], *expected;
} splice_rows[] = {
    {"nothing", " {\"a\": 1 } ", {NULL, NULL, NULL}, " {\"a\": 1 } "},
    {"replace first", "{\"a\":1,\"b\":2,\"c\":3}", {"10"}, "{\"a\":10,\"b\":2,\"c\":3}"},
    {"replace middle",
     "{\"a\":1, \"b\" : 2 ,\"c\":3}",
     {NULL, "{}"},
     "{\"a\":1, \"b\" : {} ,\"c\":3}"},
    {"replace last", "{\"a\":1,\"c\":[3]}\n", {NULL, NULL, "\"x\""}, "{\"a\":1,\"c\":\"x\"}\n"},
    {"replace all, other order",
     "{\"c\":3,\"b\":2,\"a\":1}",
     {"10", "20", "30"},
     "{\"c\":30,\"b\":20,\"a\":10}"},
    {"replace an escaped key", "{\"\\u0061\":1}", {"2"}, "{\"\\u0061\":2}"},
    {"append to empty", "{}", {"1"}, "{\"a\":1}"},
    {"append to empty with space", "{ }", {"1"}, "{\"a\":1 }"},
    {"append two to empty", "{}", {"1", NULL, "3"}, "{\"a\":1,\"c\":3}"},
    {"append", "{\"x\":{}}", {"1", "2"}, "{\"x\":{},\"a\":1,\"b\":2}"},
    {"append in lines", "{\n  \"x\": 0\n}\n", {"1"}, "{\n  \"x\": 0,\"a\":1\n}\n"},
    {"replace and append", "{\"b\":1 }", {"1", "2", "3"}, "{\"b\":2,\"a\":1,\"c\":3 }"},
    {"remove only", "{\"a\":1}", {""}, "{}"},
    {"remove only, spaces", " { \"a\" : 1 } ", {""}, " { } "},
    {"remove first", "{\"a\":1,\"b\":2}", {""}, "{\"b\":2}"},
    {"remove first, lines", "{\n  \"a\": 1,\n  \"b\": 2\n}", {""}, "{\n  \"b\": 2\n}"},
    {"remove middle", "{\"x\":0,\"b\":2 , \"c\":3}", {NULL, ""}, "{\"x\":0,\"c\":3}"},
    {"remove last", "{\"x\":0,\"c\":3}", {NULL, NULL, ""}, "{\"x\":0}"},
    {"remove last, lines", "{\n  \"x\": 0 ,\n  \"c\": 3\n}", {NULL, NULL, ""}, "{\n  \"x\": 0 \n}"},
    {"remove first two", "{\"a\":1,\"b\":2,\"x\":0}", {"", ""}, "{\"x\":0}"},
    {"remove last two", "{\"x\":0,\"a\":1,\"b\":2}", {"", ""}, "{\"x\":0}"},
    {"remove first and last", "{\"a\":1,\"x\":0,\"b\":2}", {"", ""}, "{\"x\":0}"},
    {"remove all", "{\"a\":1,\"b\":2,\"c\":3}", {"", "", ""}, "{}"},
    {"remove all, spaces", "{ \"a\":1 , \"b\":2 , \"c\":3 }", {"", "", ""}, "{ }"},
    {"remove absent", "{\"x\":0}", {"", "", ""}, "{\"x\":0}"},
    {"remove last, append", "{\"x\":0,\"a\":1}", {"", "2"}, "{\"x\":0,\"b\":2}"},
    {"remove only, append", "{\"a\":1}", {"", "2"}, "{\"b\":2}"},
    {"remove all, append", "{\"a\":1 , \"b\":2}", {"", "", "3"}, "{\"c\":3}"},
    {"remove middle, replace last", "{\"x\":0,\"b\":2,\"a\":1}", {"9", ""}, "{\"x\":0,\"a\":9}"},
    {"replace, remove last", "{\"a\":1,\"b\":2}", {"9", ""}, "{\"a\":9}"},
    {"braces in strings", "{\"x\":\"}{,\",\"a\":\"}\"}", {""}, "{\"x\":\"}{,\"}"},
    {"string ends in a comma", "{\"x\":\",\",\"a\":\",\"}", {""}, "{\"x\":\",\"}"},
    {"other bytes stay",
     "{\"n\":12345678901234567890,\"e\":1.50E+2,\"a\":1,\"s\":\"\\u00e4\\/\\ud800\",\"n\":0.10}",
     {"2"},
     "{\"n\":12345678901234567890,\"e\":1.50E+2,\"a\":2,\"s\":\"\\u00e4\\/\\ud800\",\"n\":0.10}"},
};

static const aip_span_t abc[] = {BYTES("a"), BYTES("b"), BYTES("c")};

START_TEST(test_splice)
{
    const char *expected = splice_rows[_i].expected;
    aip_span_t text = {splice_rows[_i].text, strlen(splice_rows[_i].text)};
    aip_json_member_t members[3];
    aip_json_edit_t edits[3];
    size_t i, n = 0;

    text = exact_copy(text);
    ck_assert_int_eq(aip_json_object(text, abc, 3, members, NULL), AIP_JSON_OK);
    for (i = 0; i < 3; i++) {
        const char *value = splice_rows[_i].edits[i];

        if (value)
            edits[n++] = (aip_json_edit_t){
                abc[i],
                i % 2 && !members[i].key ? NULL : &members[i],
                {*value ? value : NULL, strlen(value)},
            };
    }
    assert_span(splice_rows[_i].name, aip_json_splice(text, edits, n, pool),
                (aip_span_t){expected, strlen(expected)});
    free_copy(text);
}
END_TEST

/* -- random documents against jansson -- */

typedef struct random_t {
    uint64_t state;
    char *text;
    size_t n;
} random_t;

static unsigned pick(random_t *r, unsigned below)
{
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(r->state >> 33) % below;
}

static void add(random_t *r, const char *text)
{
    const size_t len = strlen(text);

    memcpy(r->text + r->n, text, len);
    r->n += len;
}

static void add_space(random_t *r)
{
    static const char *const spaces[] = {"", "", "", "", " ", "\n", "\r\n\t", "  "};

    add(r, spaces[pick(r, 8)]);
}

static void add_value(random_t *r, int depth)
{
    static const char *const scalars[] = {
        "0",
        "-1.5",
        "1e3",
        "9007199254740993",
        "true",
        "false",
        "null",
        "\"\"",
        "\"}{,:\"",
        "\"\\\"\"",
        "\"\\\\\"",
        "\"\\ud83d\\ude00\"",
        "\"\xc3\xa4\"",
        "\"a\\/b \\u0041\"",
    };
    const unsigned kind = pick(r, depth < 4 ? 6 : 4);
    unsigned i, count;

    if (kind < 4) {
        add(r, scalars[pick(r, (unsigned)ROWS(scalars))]);
        return;
    }
    count = pick(r, 4);
    add(r, kind == 4 ? "[" : "{");
    for (i = 0; i < count; i++) {
        const char key[] = {'"', (char)('a' + i), '"', ':', '\0'};

        add(r, i ? "," : "");
        add_space(r);
        if (kind == 5)
            add(r, key);
        add_space(r);
        add_value(r, depth + 1);
        add_space(r);
    }
    add_space(r);
    add(r, kind == 4 ? "]" : "}");
}

#define KEYS 6
static const aip_span_t keys[KEYS] = {BYTES("a"),        BYTES("model"), BYTES("max_tokens"),
                                      BYTES("\xc3\xa4"), BYTES("e"),     BYTES("")};

/* An object that holds some of the keys, each at most once, in any order and spelling. */
static aip_span_t random_object(random_t *r)
{
    static const char *const spellings[KEYS][3] = {
        {"\"a\"", "\"\\u0061\"", "\"a\""},
        {"\"model\"", "\"\\u006dodel\"", "\"mode\\u006C\""},
        {"\"max_tokens\"", "\"max\\u005ftokens\"", "\"\\u006d\\u0061x_tokens\""},
        {"\"\xc3\xa4\"", "\"\\u00e4\"", "\"\\u00E4\""},
        {"\"e\"", "\"\\u0065\"", "\"e\""},
        {"\"\"", "\"\"", "\"\""},
    };
    unsigned left = pick(r, 1 << KEYS), first = 1;

    r->n = 0;
    add_space(r);
    add(r, "{");
    while (left) {
        const unsigned key = pick(r, KEYS);

        if (!(left & 1u << key))
            continue;
        left &= ~(1u << key);
        add(r, first ? "" : ",");
        first = 0;
        add_space(r);
        add(r, spellings[key][pick(r, 3)]);
        add_space(r);
        add(r, ":");
        add_space(r);
        add_value(r, 1);
        add_space(r);
    }
    add_space(r);
    add(r, "}");
    add_space(r);
    return (aip_span_t){r->text, r->n};
}

static json_t *load(aip_span_t text)
{
    json_error_t error;
    json_t *json = json_loadb(text.data, text.len, JSON_DECODE_ANY, &error);

    ck_assert_msg(json != NULL, "jansson: %s in <%.*s>", error.text, (int)text.len, text.data);
    return json;
}

/* Edits some keys at random, in the text and in jansson's tree. */
static size_t random_edits(random_t *r, const aip_json_member_t *members, aip_json_edit_t *edits,
                           json_t *tree)
{
    static const aip_span_t values[] = {BYTES("1"),  BYTES("\"x\""), BYTES("{\"y\":[1,2]}"),
                                        BYTES("[]"), ABSENT,         ABSENT};
    size_t i, n = 0;

    for (i = 0; i < KEYS; i++) {
        aip_json_edit_t *edit = &edits[n];

        if (pick(r, 2))
            continue;
        n++;
        *edit = (aip_json_edit_t){keys[i], &members[i], values[pick(r, (unsigned)ROWS(values))]};
        if (edit->value.data)
            json_object_set_new(tree, keys[i].data, load(edit->value));
        else
            json_object_del(tree, keys[i].data);
    }
    return n;
}

START_TEST(test_random_documents)
{
    random_t r = {.state = (uint64_t)_i * 7919, .text = malloc(1 << 16)};
    int round;

    for (round = 0; round < 500; round++) {
        const aip_span_t text = exact_copy(random_object(&r));
        aip_json_member_t before[KEYS], after[KEYS];
        aip_json_edit_t edits[KEYS];
        json_t *expected = load(text), *got;
        aip_span_t result;
        size_t n, i;

        ck_assert_msg(aip_json_object(text, keys, KEYS, before, NULL) == AIP_JSON_OK, "<%.*s>",
                      (int)text.len, text.data);
        n = random_edits(&r, before, edits, expected);
        result = aip_json_splice(text, edits, n, pool);
        got = load(result);
        ck_assert_msg(json_equal(expected, got), "<%.*s> became <%.*s>", (int)text.len, text.data,
                      (int)result.len, result.data);
        ck_assert_int_eq(aip_json_object(result, keys, KEYS, after, NULL), AIP_JSON_OK);
        for (i = 0; i < KEYS; i++) { /* what no edit names keeps its bytes */
            size_t j;

            for (j = 0; j < n && !spans_equal(edits[j].name, keys[i]); j++)
                ;
            if (j == n && before[i].key)
                assert_span("value without edit", after[i].value, before[i].value);
        }
        json_decref(expected);
        json_decref(got);
        free_copy(text);
        apr_pool_clear(pool);
    }
    free(r.text);
}
END_TEST

Suite *json_suite(void)
{
    Suite *suite = suite_create("json");
    TCase *tc = tcase_create("json");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_validate, 0, ROWS(validate_rows));
    tcase_add_loop_test(tc, test_every_position, 0, 13);
    tcase_add_test(tc, test_depth);
    tcase_add_loop_test(tc, test_object, 0, ROWS(object_rows));
    tcase_add_loop_test(tc, test_decode, 0, ROWS(decode_rows));
    tcase_add_loop_test(tc, test_no_string, 0, 5);
    tcase_add_loop_test(tc, test_quote, 0, ROWS(quote_rows));
    tcase_add_loop_test(tc, test_numbers, 0, ROWS(number_rows));
    tcase_add_test(tc, test_double_exact);
    tcase_add_test(tc, test_double_locale);
    tcase_add_test(tc, test_number_ends);
    tcase_add_loop_test(tc, test_type, 0, ROWS(type_rows));
    tcase_add_loop_test(tc, test_array, 0, ROWS(array_rows));
    tcase_add_loop_test(tc, test_strerror, 0, AIP_JSON_DUPLICATE + 1);
    tcase_add_loop_test(tc, test_splice, 0, ROWS(splice_rows));
    tcase_add_loop_test(tc, test_random_documents, 0, 20);
    suite_add_tcase(suite, tc);
    return suite;
}
