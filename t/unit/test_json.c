/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON scanner: what is valid, where a fault is, and where the members are that a caller asks
 * for. Values: test_json_values.c; edits: test_json_splice.c. */

#include "json_text.h"

Suite *json_suite(void);

/* -- validation -- */

static const struct {
    const char *name;
    aip_span_t text;
    aip_json_status_e status;
    size_t offset;
} validate_rows[] = {
    {"empty object", AIP_SPAN("{}"), AIP_JSON_OK, 0},
    {"empty array in white space", AIP_SPAN(" \t\r\n[ \n] \t"), AIP_JSON_OK, 0},
    {"words", AIP_SPAN("[true,false,null]"), AIP_JSON_OK, 0},
    {"numbers", AIP_SPAN("[0,-0,1,-1,10,1.5,0.25,1e5,1E+5,1e-5,0e0,-0.0e-0]"), AIP_JSON_OK, 0},
    {"number beyond 2^64", AIP_SPAN("123456789012345678901234567890"), AIP_JSON_OK, 0},
    {"number beyond double", AIP_SPAN("1e99999"), AIP_JSON_OK, 0},
    {"all short escapes", AIP_SPAN("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), AIP_JSON_OK, 0},
    {"hex escapes", AIP_SPAN("\"\\u0000\\uABCD\\uabcd\\u09aF\""), AIP_JSON_OK, 0},
    {"lone surrogate escapes", AIP_SPAN("\"\\ud800 \\udc00 \\udbff\\u0041\""), AIP_JSON_OK, 0},
    {"DEL is plain", AIP_SPAN("\"\x7f\""), AIP_JSON_OK, 0},
    {"slash and JS separators", AIP_SPAN("\"/ \xe2\x80\xa8\""), AIP_JSON_OK, 0},
    {"nested", AIP_SPAN("{\"a\":[{\"b\":{}},[[]],\"\"]}"), AIP_JSON_OK, 0},
    {"duplicates nobody asked for", AIP_SPAN("{\"a\":1,\"a\":2}"), AIP_JSON_OK, 0},

    {"nothing", AIP_SPAN(""), AIP_JSON_SYNTAX, 0},
    {"no text at all", ABSENT, AIP_JSON_SYNTAX, 0},
    {"white space only", AIP_SPAN("  \n"), AIP_JSON_SYNTAX, 3},
    {"byte order mark", AIP_SPAN("\xef\xbb\xbf{}"), AIP_JSON_SYNTAX, 0},
    {"bare word", AIP_SPAN("nope"), AIP_JSON_SYNTAX, 1},
    {"upper case word", AIP_SPAN("True"), AIP_JSON_SYNTAX, 0},
    {"word too short", AIP_SPAN("tru"), AIP_JSON_SYNTAX, 3},
    {"word too long", AIP_SPAN("nulll"), AIP_JSON_SYNTAX, 4},
    {"NaN", AIP_SPAN("[NaN]"), AIP_JSON_SYNTAX, 1},
    {"Infinity", AIP_SPAN("[-Infinity]"), AIP_JSON_SYNTAX, 2},
    {"two values", AIP_SPAN("{} {}"), AIP_JSON_SYNTAX, 3},
    {"trailing garbage", AIP_SPAN("{}x"), AIP_JSON_SYNTAX, 2},
    {"trailing NUL", AIP_SPAN("{}\0"), AIP_JSON_SYNTAX, 2},
    {"vertical tab is no space", AIP_SPAN("\v{}"), AIP_JSON_SYNTAX, 0},
    {"comment", AIP_SPAN("{/**/}"), AIP_JSON_SYNTAX, 1},
    {"open object", AIP_SPAN("{"), AIP_JSON_SYNTAX, 1},
    {"open object after a key", AIP_SPAN("{\"a\""), AIP_JSON_SYNTAX, 4},
    {"open object after a colon", AIP_SPAN("{\"a\":"), AIP_JSON_SYNTAX, 5},
    {"open object after a value", AIP_SPAN("{\"a\":1"), AIP_JSON_SYNTAX, 6},
    {"open object after a comma", AIP_SPAN("{\"a\":1,"), AIP_JSON_SYNTAX, 7},
    {"open array", AIP_SPAN("["), AIP_JSON_SYNTAX, 1},
    {"open array after a comma", AIP_SPAN("[1,"), AIP_JSON_SYNTAX, 3},
    {"trailing comma in an object", AIP_SPAN("{\"a\":1, }"), AIP_JSON_SYNTAX, 8},
    {"trailing comma in an array", AIP_SPAN("[1,]"), AIP_JSON_SYNTAX, 3},
    {"leading comma", AIP_SPAN("[,1]"), AIP_JSON_SYNTAX, 1},
    {"leading comma in an object", AIP_SPAN("{,\"a\":1}"), AIP_JSON_SYNTAX, 1},
    {"two commas", AIP_SPAN("[1,,2]"), AIP_JSON_SYNTAX, 3},
    {"no comma", AIP_SPAN("[1 2]"), AIP_JSON_SYNTAX, 3},
    {"wrong bracket", AIP_SPAN("[1}"), AIP_JSON_SYNTAX, 2},
    {"wrong brace", AIP_SPAN("{\"a\":1]"), AIP_JSON_SYNTAX, 6},
    {"key without quotes", AIP_SPAN("{a:1}"), AIP_JSON_SYNTAX, 1},
    {"key in single quotes", AIP_SPAN("{'a':1}"), AIP_JSON_SYNTAX, 1},
    {"number as key", AIP_SPAN("{1:1}"), AIP_JSON_SYNTAX, 1},
    {"no colon", AIP_SPAN("{\"a\" 1}"), AIP_JSON_SYNTAX, 5},
    {"two colons", AIP_SPAN("{\"a\"::1}"), AIP_JSON_SYNTAX, 5},
    {"no value", AIP_SPAN("{\"a\":}"), AIP_JSON_SYNTAX, 5},
    {"closed too often", AIP_SPAN("[]]"), AIP_JSON_SYNTAX, 2},

    {"leading zero", AIP_SPAN("[01]"), AIP_JSON_SYNTAX, 2},
    {"leading plus", AIP_SPAN("[+1]"), AIP_JSON_SYNTAX, 1},
    {"minus only", AIP_SPAN("[-]"), AIP_JSON_SYNTAX, 2},
    {"minus at the end", AIP_SPAN("-"), AIP_JSON_SYNTAX, 1},
    {"no digit before the point", AIP_SPAN("[.5]"), AIP_JSON_SYNTAX, 1},
    {"no digit after the point", AIP_SPAN("[1.]"), AIP_JSON_SYNTAX, 3},
    {"no digit after e", AIP_SPAN("[1e]"), AIP_JSON_SYNTAX, 3},
    {"no digit after e+", AIP_SPAN("[1e+]"), AIP_JSON_SYNTAX, 4},
    {"ends after e", AIP_SPAN("1e"), AIP_JSON_SYNTAX, 2},
    {"hexadecimal", AIP_SPAN("[0x1]"), AIP_JSON_SYNTAX, 2},
    {"two points", AIP_SPAN("[1.2.3]"), AIP_JSON_SYNTAX, 4},

    {"open string", AIP_SPAN("\"abc"), AIP_JSON_SYNTAX, 4},
    {"open string of one quote", AIP_SPAN("\""), AIP_JSON_SYNTAX, 1},
    {"raw newline", AIP_SPAN("\"a\nb\""), AIP_JSON_SYNTAX, 2},
    {"raw NUL", AIP_SPAN("\"a\0b\""), AIP_JSON_SYNTAX, 2},
    {"raw 0x1f", AIP_SPAN("\"\x1f\""), AIP_JSON_SYNTAX, 1},
    {"bad escape", AIP_SPAN("\"\\x41\""), AIP_JSON_SYNTAX, 2},
    {"upper case U", AIP_SPAN("\"\\U0041\""), AIP_JSON_SYNTAX, 2},
    {"short hex", AIP_SPAN("\"\\u12\""), AIP_JSON_SYNTAX, 5},
    {"bad hex", AIP_SPAN("\"\\u12g4\""), AIP_JSON_SYNTAX, 5},
    {"hex with a sign", AIP_SPAN("\"\\u+123\""), AIP_JSON_SYNTAX, 3},
    {"ends in an escape", AIP_SPAN("\"\\"), AIP_JSON_SYNTAX, 2},
    {"ends in hex", AIP_SPAN("\"\\u00"), AIP_JSON_SYNTAX, 5},
    {"escaped closing quote", AIP_SPAN("\"\\\""), AIP_JSON_SYNTAX, 3},

    {"first of two bytes", AIP_SPAN("\"\xc2\x80\""), AIP_JSON_OK, 0},
    {"last of two bytes", AIP_SPAN("\"\xdf\xbf\""), AIP_JSON_OK, 0},
    {"first of three bytes", AIP_SPAN("\"\xe0\xa0\x80\""), AIP_JSON_OK, 0},
    {"below the surrogates", AIP_SPAN("\"\xed\x9f\xbf\""), AIP_JSON_OK, 0},
    {"above the surrogates", AIP_SPAN("\"\xee\x80\x80\""), AIP_JSON_OK, 0},
    {"U+FFFF", AIP_SPAN("\"\xef\xbf\xbf\""), AIP_JSON_OK, 0},
    {"first of four bytes", AIP_SPAN("\"\xf0\x90\x80\x80\""), AIP_JSON_OK, 0},
    {"U+10FFFF", AIP_SPAN("\"\xf4\x8f\xbf\xbf\""), AIP_JSON_OK, 0},
    {"lone continuation", AIP_SPAN("\"a\x80\""), AIP_JSON_UTF8, 2},
    {"0xbf", AIP_SPAN("\"\xbf\""), AIP_JSON_UTF8, 1},
    {"overlong of two, 0xc0", AIP_SPAN("\"\xc0\x80\""), AIP_JSON_UTF8, 1},
    {"overlong of two, 0xc1", AIP_SPAN("\"\xc1\xbf\""), AIP_JSON_UTF8, 1},
    {"overlong of three", AIP_SPAN("\"\xe0\x9f\xbf\""), AIP_JSON_UTF8, 1},
    {"overlong of four", AIP_SPAN("\"\xf0\x8f\xbf\xbf\""), AIP_JSON_UTF8, 1},
    {"first surrogate", AIP_SPAN("\"\xed\xa0\x80\""), AIP_JSON_UTF8, 1},
    {"last surrogate", AIP_SPAN("\"\xed\xbf\xbf\""), AIP_JSON_UTF8, 1},
    {"U+110000", AIP_SPAN("\"\xf4\x90\x80\x80\""), AIP_JSON_UTF8, 1},
    {"0xf5", AIP_SPAN("\"\xf5\x80\x80\x80\""), AIP_JSON_UTF8, 1},
    {"0xff", AIP_SPAN("\"\xff\""), AIP_JSON_UTF8, 1},
    {"two bytes cut by the quote", AIP_SPAN("\"\xc3\""), AIP_JSON_UTF8, 1},
    {"three bytes cut by the quote", AIP_SPAN("\"ab\xe2\x82\""), AIP_JSON_UTF8, 3},
    {"four bytes cut by a letter", AIP_SPAN("\"\xf0\x9f\x98z\""), AIP_JSON_UTF8, 1},
    {"cut by the end", AIP_SPAN("\"\xe2\x82"), AIP_JSON_UTF8, 1},
    {"good, then bad", AIP_SPAN("\"\xc3\xa4\xc3\""), AIP_JSON_UTF8, 3},
    {"bad in a key", AIP_SPAN("{\"\xff\":1}"), AIP_JSON_UTF8, 2},
    {"not ASCII outside of a string", AIP_SPAN("[\xc3\xa4]"), AIP_JSON_SYNTAX, 1},
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
    const aip_span_t names[] = {AIP_SPAN("a")};
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
static const aip_span_t names[NAMES] = {AIP_SPAN("model"), AIP_SPAN("messages"),
                                        AIP_SPAN("s\xc3\xa4"), AIP_SPAN("")};

/* clang-format off */
static const struct {
    const char *name;
    aip_span_t text;
    aip_json_status_e status;
    size_t offset, member;
    const char *values[NAMES];
} object_rows[] = {
    {"none", AIP_SPAN("{}"), AIP_JSON_OK, 0, 0, {NULL}},
    {"all", AIP_SPAN("{\"messages\":[1, 2],\"\":\"\",\"s\xc3\xa4\":{},\"model\":\"m\"}"),
     AIP_JSON_OK, 0, 0, {"\"m\"", "[1, 2]", "{}", "\"\""}},
    {"white space is no part", AIP_SPAN(" { \"model\" : 1.0 , \"messages\"\n:\tnull } "),
     AIP_JSON_OK, 0, 0, {"1.0", "null"}},
    {"escaped key", AIP_SPAN("{\"\\u006dodel\":1,\"s\\u00E4\":2}"),
     AIP_JSON_OK, 0, 0, {"1", NULL, "2"}},
    {"only the top counts", AIP_SPAN("{\"x\":{\"model\":1},\"y\":[{\"model\":2}]}"),
     AIP_JSON_OK, 0, 0, {NULL}},
    {"nested twins are no twins", AIP_SPAN("{\"model\":{\"model\":1,\"model\":2}}"),
     AIP_JSON_OK, 0, 0, {"{\"model\":1,\"model\":2}"}},
    {"near misses",
     AIP_SPAN("{\"Model\":1,\"mode\":2,\"models\":3,\"model \":4,\"model\\u0000\":5}"),
     AIP_JSON_OK, 0, 0, {NULL}},
    {"same length", AIP_SPAN("{\"mudel\":1,\"\\u006dudel\":1}"), AIP_JSON_OK, 0, 0, {NULL}},
    {"others may repeat", AIP_SPAN("{\"x\":1,\"x\":2,\"model\":3}"), AIP_JSON_OK, 0, 0, {"3"}},

    {"twice", AIP_SPAN("{\"model\":1,\"model\":1}"), AIP_JSON_DUPLICATE, 11, 0, {NULL}},
    {"twice, second escaped", AIP_SPAN("{\"messages\":1,\"mess\\u0061ges\":2}"),
     AIP_JSON_DUPLICATE, 14, 1, {NULL}},
    {"twice, first escaped", AIP_SPAN("{\"mode\\u006C\":1, \"model\":2}"),
     AIP_JSON_DUPLICATE, 17, 0, {NULL}},
    {"twice, both escaped", AIP_SPAN("{\"\\u006dodel\":1,\"m\\u006fdel\":2}"),
     AIP_JSON_DUPLICATE, 16, 0, {NULL}},
    {"twice, empty", AIP_SPAN("{\"\":1,\"\":2}"), AIP_JSON_DUPLICATE, 6, 3, {NULL}},
    {"twice, before bad syntax", AIP_SPAN("{\"model\":1,\"model\":x}"),
     AIP_JSON_DUPLICATE, 11, 0, {NULL}},
    {"bad syntax before twice", AIP_SPAN("{\"model\":1,\"a\":x,\"model\":1}"),
     AIP_JSON_SYNTAX, 15, 0, {NULL}},
    {"array", AIP_SPAN(" [1]"), AIP_JSON_NOT_OBJECT, 1, 0, {NULL}},
    {"string", AIP_SPAN("\"a\" x"), AIP_JSON_NOT_OBJECT, 0, 0, {NULL}},
    {"null", AIP_SPAN("null"), AIP_JSON_NOT_OBJECT, 0, 0, {NULL}},
    {"broken array", AIP_SPAN("[1"), AIP_JSON_SYNTAX, 2, 0, {NULL}},
    {"words", AIP_SPAN("hello"), AIP_JSON_SYNTAX, 0, 0, {NULL}},
    {"nothing", AIP_SPAN(""), AIP_JSON_SYNTAX, 0, 0, {NULL}},
    {"fault after members", AIP_SPAN("{\"model\":1,\"messages\":2"),
     AIP_JSON_SYNTAX, 23, 0, {NULL}},
    {"something after it", AIP_SPAN("{\"model\":1}}"), AIP_JSON_SYNTAX, 11, 0, {NULL}},
};
/* clang-format on */

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

/* Who only passes over what is nested finds the same members of whatever is an object. */
START_TEST(test_skim)
{
    const aip_span_t copy = exact_copy(object_rows[_i].text);
    aip_json_member_t members[NAMES], skimmed[NAMES];

    if (aip_json_object(copy, names, NAMES, members, NULL) == AIP_JSON_OK) {
        ck_assert_int_eq(aip_json_object_skim(copy, names, NAMES, skimmed), AIP_JSON_OK);
        ck_assert_msg(!memcmp(members, skimmed, sizeof(members)), "%s", object_rows[_i].name);
    }
    free_copy(copy);
}
END_TEST

/* Something nested, with so many bytes between two of its values or in a string. */
static const char *nested_with(int pad, bool in_string)
{
    static const char shape[] =
        "{\"x\":[%*s\"]}\",\"\\\"]\",[],{\"y\":{}}],\"%.*s\\\\\":\"\\\\\\\"]\",\"z\":\"[{\"}";
    const char *text = apr_psprintf(pool, "%*s", pad, "");

    for (char *p = (char *)text; *p; p++)
        *p = "a[{}]"[(p - text) % 5];
    return apr_psprintf(pool, shape, in_string ? 0 : pad, "", in_string ? pad : 0, text);
}

static void check_nested(const char *nested, int pad)
{
    const aip_span_t name = AIP_SPAN("n"), expected = {nested, strlen(nested)};
    const char *text = apr_psprintf(pool, "{\"m\":%*s%s,\"n\":%s}", pad, "", nested, nested);
    const char *array = apr_psprintf(pool, "[%*s%s,oops", pad, "", text);
    const aip_span_t copy = exact_copy((aip_span_t){text, strlen(text)});
    aip_json_member_t n;

    ck_assert_int_eq(aip_json_object_skim(copy, &name, 1, &n), AIP_JSON_OK);
    assert_span("nested", n.value, expected);
    for (size_t cut = 1; cut < copy.len; cut++) {
        const aip_span_t less = exact_copy((aip_span_t){text, cut});
        ck_assert_int_ne(aip_json_object_skim(less, &name, 1, &n), AIP_JSON_OK);
        free_copy(less);
    }
    free_copy(copy);
    ck_assert(aip_json_first_skim((aip_span_t){array, strlen(array)}, &name, 1, &n));
    assert_span("first", n.value, expected);
}

/* Brackets in strings, behind escapes, and at every place of a block of bytes. */
START_TEST(test_skim_nested)
{
    const aip_span_t name = AIP_SPAN("n");
    aip_json_member_t n;

    for (int pad = 0; pad < 140; pad++) {
        check_nested(nested_with(pad, false), 0);
        check_nested(nested_with(pad, true), 0);
        check_nested(nested_with(0, false), pad);
    }
    ck_assert(!aip_json_first_skim(AIP_SPAN("[]"), &name, 1, &n));
    ck_assert(!aip_json_first_skim(AIP_SPAN("[1]"), &name, 1, &n));
    ck_assert(!aip_json_first_skim(AIP_SPAN("{\"n\":1}"), &name, 1, &n));
    ck_assert(!aip_json_first_skim(AIP_SPAN("[{\"n\":1"), &name, 1, &n));
    ck_assert(!aip_json_first_skim(ABSENT, &name, 1, &n));
}
END_TEST

/* clang-format off */
static const struct {
    const char *text;
    aip_json_status_e status;
} skim_rows[] = {
    {"{\"n\":[\"\xff\"]}", AIP_JSON_OK},      /* not looked at */
    {"{\"m\":\"\xff\\q\",\"n\":1}", AIP_JSON_OK},
    {"{\"m\":oops,\"n\":1}", AIP_JSON_OK},
    {"{\"m\":[],\"\\u006e\":1}", AIP_JSON_OK},
    {"{\"m\":[\\\"],\"n\":1,\"z\":[\"]}", AIP_JSON_SYNTAX}, /* outside of strings */
    {"{\"m\":[\\],\"n\":1}", AIP_JSON_SYNTAX},
    {"{\"m\":[\\                                                                      ],\"n\":1}", AIP_JSON_SYNTAX},
    {" {\"\\u006e\" : -1.5e3 } ", AIP_JSON_OK},
    {"{\"n\":1,\"\\u006e\":2}", AIP_JSON_DUPLICATE},
    {"{\"n\":1,\"n\":2}", AIP_JSON_DUPLICATE},
    {"{\"\\q\":1,\"n\":1}", AIP_JSON_SYNTAX},
    {"{\"\\u00\":1,\"n\":1}", AIP_JSON_SYNTAX},
    {"{\"n\":\"\xff\"}", AIP_JSON_SYNTAX},    /* wanted */
    {"{\"n\":oops}", AIP_JSON_SYNTAX},
    {"{\"n\":}", AIP_JSON_SYNTAX},
    {"{\"n\":1,}", AIP_JSON_SYNTAX},
    {"{\"n\":1 2}", AIP_JSON_SYNTAX},
    {"{\"n\" 1}", AIP_JSON_SYNTAX},
    {"{\"n\":1", AIP_JSON_SYNTAX},
    {"{\"n\":1}}", AIP_JSON_SYNTAX},
    {"{\"n\":1,\"m\\", AIP_JSON_SYNTAX},
    {"{\"n", AIP_JSON_SYNTAX},
    {"{n:1}", AIP_JSON_SYNTAX},
    {"{", AIP_JSON_SYNTAX},
    {"[]", AIP_JSON_NOT_OBJECT},
    {"", AIP_JSON_NOT_OBJECT},
};
/* clang-format on */

START_TEST(test_skim_status)
{
    const aip_span_t name = AIP_SPAN("n");
    const aip_span_t copy =
        exact_copy((aip_span_t){skim_rows[_i].text, strlen(skim_rows[_i].text)});
    aip_json_member_t n;

    ck_assert_int_eq(aip_json_object_skim(copy, &name, 1, &n), skim_rows[_i].status);
    ck_assert_int_eq(n.key != NULL, skim_rows[_i].status == AIP_JSON_OK);
    free_copy(copy);
}
END_TEST

START_TEST(test_strerror)
{
    const char *text = aip_json_strerror((aip_json_status_e)_i);

    ck_assert(text && *text && strcmp(text, "unknown error") != 0);
    ck_assert_str_eq(aip_json_strerror((aip_json_status_e)99), "unknown error");
}
END_TEST

Suite *json_suite(void)
{
    Suite *suite = suite_create("json");
    TCase *tc = tcase_create("json");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_validate, 0, ROWS(validate_rows));
    tcase_add_loop_test(tc, test_every_position, 0, 13);
    tcase_add_test(tc, test_depth);
    tcase_add_loop_test(tc, test_object, 0, ROWS(object_rows));
    tcase_add_loop_test(tc, test_skim, 0, ROWS(object_rows));
    tcase_add_test(tc, test_skim_nested);
    tcase_add_loop_test(tc, test_skim_status, 0, ROWS(skim_rows));
    tcase_add_loop_test(tc, test_strerror, 0, AIP_JSON_DUPLICATE + 1);
    suite_add_tcase(suite, tc);
    return suite;
}
