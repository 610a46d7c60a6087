/* SPDX-License-Identifier: Apache-2.0 */
/* Edits of a JSON object in place: each case that the bytes around a member make, and splices of
 * random documents compared with jansson. */

#include <jansson.h>

#include "json_text.h"

Suite *json_splice_suite(void);

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

static const aip_span_t abc[] = {AIP_SPAN("a"), AIP_SPAN("b"), AIP_SPAN("c")};

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
static const aip_span_t keys[KEYS] = {AIP_SPAN("a"),          AIP_SPAN("model"),
                                      AIP_SPAN("max_tokens"), AIP_SPAN("\xc3\xa4"),
                                      AIP_SPAN("e"),          AIP_SPAN("")};

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
    static const aip_span_t values[] = {
        AIP_SPAN("1"), AIP_SPAN("\"x\""), AIP_SPAN("{\"y\":[1,2]}"), AIP_SPAN("[]"), ABSENT,
        ABSENT};
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

Suite *json_splice_suite(void)
{
    Suite *suite = suite_create("json_splice");
    TCase *tc = tcase_create("json_splice");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_splice, 0, ROWS(splice_rows));
    tcase_add_loop_test(tc, test_random_documents, 0, 20);
    suite_add_tcase(suite, tc);
    return suite;
}
