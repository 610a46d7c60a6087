/* SPDX-License-Identifier: Apache-2.0 */
/* The answer that the chunks of a stream add up to. */
#include "fixture.h"
#include "suites.h"

#include "aip/reassembly.h"

#include <jansson.h>

static const char *whole(const char *const *chunks, size_t most, bool *cut)
{
    aip_reassembly_t *all = aip_reassembly_create(most, pool);
    for (; *chunks; chunks++) {
        aip_reassembly_add(all, (aip_span_t){*chunks, strlen(*chunks)});
    }
    aip_span_t text = aip_reassembly_text(all, "m");
    *cut = aip_reassembly_cut(all);
    const char *copy = apr_pstrmemdup(pool, text.data, text.len);
    json_t *value = json_loads(copy, 0, NULL);
    ck_assert_msg(value != NULL, "no JSON: %s", copy);
    json_decref(value);
    return copy;
}

#define BEGIN "{\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":["
#define CHOICE(n, message, reason)                                                                 \
    "{\"index\":" n ",\"message\":{\"role\":\"assistant\"," message "},\"finish_reason\":" reason  \
    "}"

static const struct {
    const char *name, *chunks[6], *wanted;
} rows[] = {
    {"nothing", {"", "[]", "7", "{}", "{\"choices\":7}"}, BEGIN "]}"},
    {"pieces are joined as they are spelled",
     {"{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}",
      "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\u0062\\n\"}}]}",
      "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\xc3\xa9\"},\"finish_reason\":\"stop\"}]"
      "}"},
     BEGIN CHOICE("0", "\"content\":\"a\\u0062\\n\xc3\xa9\"", "\"stop\"") "]}"},
    {"choices in the order in which they came",
     {"{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}},{\"index\":0,\"delta\":{}}]}",
      "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"c\"}}]}"},
     BEGIN CHOICE("1", "\"content\":\"bc\"", "null") "," CHOICE("0", "\"content\":null",
                                                                "null") "]}"},
    {"reasoning and refusal",
     {"{\"choices\":[{\"delta\":{\"reasoning_content\":\"a\",\"reasoning\":\"b\",\"refusal\":\"c\"}"
      "}]}"},
     BEGIN CHOICE(
         "0", "\"content\":null,\"reasoning_content\":\"a\",\"reasoning\":\"b\",\"refusal\":\"c\"",
         "null") "]}"},
    {"tool calls",
     {"{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"i\",\"function\":{\"name\":"
      "\"f\",\"arguments\":\"{\"}}]}}]}",
      "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"i\",\"function\":{"
      "\"arguments\":\"}\"}},7]}}]}"},
     BEGIN CHOICE("0",
                  "\"content\":null,\"tool_calls\":[{\"id\":\"i\",\"type\":\"function\","
                  "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]",
                  "null") "]}"},
    {"what is of another type is passed over",
     {"{\"choices\":[7,null,{\"delta\":7},{\"delta\":{\"content\":7,\"tool_calls\":{}}}]}"},
     BEGIN CHOICE("0", "\"content\":null", "null") "]}"},
};

START_TEST(adds_up)
{
    bool cut;
    ck_assert_str_eq(whole(rows[_i].chunks, 1000, &cut), rows[_i].wanted);
    ck_assert_msg(!cut, "%s", rows[_i].name);
}
END_TEST

START_TEST(bounded)
{
    static const char *const chunks[] = {"{\"choices\":[{\"delta\":{\"content\":\"12345\"}}]}",
                                         "{\"choices\":[{\"delta\":{\"content\":\"\\u0041\"}}]}",
                                         "{\"choices\":[{\"delta\":{\"content\":\"z\"}}]}", NULL};
    bool cut;
    ck_assert_str_eq(whole(chunks, 12, &cut),
                     BEGIN CHOICE("0", "\"content\":\"12345\\u0041z\"", "null") "]}");
    ck_assert(!cut);
    /* no escape is split, and nothing is kept from behind a gap */
    ck_assert_str_eq(whole(chunks, 9, &cut),
                     BEGIN CHOICE("0", "\"content\":\"12345\"", "null") "]}");
    ck_assert(cut);
}
END_TEST

/* Providers begin with an empty text. UBSan has a say as well. */
START_TEST(begins_empty)
{
    static const char *const chunks[] = {"{\"choices\":[{\"delta\":{\"content\":\"\"}}]}", NULL};
    bool cut;
    ck_assert_str_eq(whole(chunks, 12, &cut), BEGIN CHOICE("0", "\"content\":\"\"", "null") "]}");
    ck_assert(!cut);
}
END_TEST

START_TEST(many)
{
    aip_reassembly_t *all = aip_reassembly_create(1 << 20, pool);
    for (int i = 0; i < 1000; i++) {
        const char *chunk = apr_psprintf(pool,
                                         "{\"choices\":[{\"index\":%d,\"delta\":{\"tool_calls\":[{"
                                         "\"index\":%d,\"id\":\"x\"}]}}]}",
                                         i % 100, i);
        aip_reassembly_add(all, (aip_span_t){chunk, strlen(chunk)});
    }
    ck_assert(aip_reassembly_cut(all));
    ck_assert_uint_lt(aip_reassembly_text(all, NULL).len, 100000);
}
END_TEST

Suite *reassembly_suite(void)
{
    Suite *suite = suite_create("reassembly");
    TCase *tests = tcase_create("reassembly");
    tcase_add_checked_fixture(tests, pool_setup, pool_teardown);
    tcase_add_loop_test(tests, adds_up, 0, ROWS(rows));
    tcase_add_test(tests, bounded);
    tcase_add_test(tests, begins_empty);
    tcase_add_test(tests, many);
    suite_add_tcase(suite, tests);
    return suite;
}
