/* SPDX-License-Identifier: Apache-2.0 */
/* Answers as providers send them: whole responses, stream chunks with usage in every place where it
 * has been seen, errors inside a 200, and objects that are not what they should be. */

#include "aip/usage.h"

#include <check.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

typedef struct answer_row_t {
    const char *name, *json;
    bool object;
    const char *model, *finish_reason, *content; /* raw, NULL: absent */
    bool has_choices, has_usage, has_error;
} answer_row_t;

/* clang-format off */
static const answer_row_t answers[] = {
    {"whole response",
     "{\"id\":\"c\",\"object\":\"chat.completion\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,"
     "\"message\":"
     "{\"role\":\"assistant\",\"content\":\"h\\\"i\"},\"finish_reason\":\"stop\"}],\"usage\":"
     "{\"prompt_tokens\":1}}", true, "\"gpt-4o\"", "\"stop\"", "\"h\\\"i\"", true, true, false},
    {"chunk",
     "{\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}],"
     "\"usage\":null}", true, "\"m\"", NULL, "\"a\"", true, false, false},
    {"last chunk", "{\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1}}", true,
     "\"m\"", NULL, NULL, false, true, false},
    {"first chunk with filter results", "{\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\","
     "\"prompt_filter_results\":[{\"prompt_index\":0,\"content_filter_results\":{\"hate\":"
     "{\"filtered\":false}}}]}", true, "\"\"", NULL, NULL, false, false, false},
    {"usage on a chunk with choices", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}],"
     "\"usage\":{\"total_tokens\":3}}", true, NULL, "\"length\"", NULL, true, true, false},
    {"first choice only",
     "{\"choices\":[{\"delta\":{\"content\":\"a\"}},{\"delta\":{\"content\":\"b\"},"
     "\"finish_reason\":\"stop\"}]}", true, NULL, NULL, "\"a\"", true, false, false},
    {"message before delta",
     "{\"choices\":[{\"delta\":{\"content\":\"d\"},\"message\":{\"content\":\"m\"}}]}", true, NULL,
     NULL, "\"m\"", true, false, false},
    {"message without content", "{\"choices\":[{\"delta\":{\"content\":\"d\"},\"message\":null}]}",
     true, NULL, NULL, "\"d\"", true, false, false},
    {"content null", "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[]}}]}", true,
     NULL, NULL, NULL, true, false, false},
    {"content in parts", "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\"}]}}]}", true,
     NULL, NULL, NULL, true, false, false},
    {"choices of no objects", "{\"choices\":[null,7]}", true, NULL, NULL, NULL, true, false, false},
    {"content of other bytes", "{\"choices\":[{\"delta\":{\"content\":\"caf\xe9\"}}],\"usage\":{\"prompt_tokens\":3}}",
     true, NULL, NULL, NULL, true, true, false},
    {"a choice cannot be read", "{\"choices\":[{\"delta\":{\"content\":\"a\"}},oops]}", true, NULL, NULL, "\"a\"", true,
     false, false},
    {"choices is no array", "{\"choices\":{\"a\":1}}", true, NULL, NULL, NULL, false, false, false},
    {"choices null", "{\"choices\":null,\"usage\":[],\"model\":7}", true, NULL, NULL, NULL, false,
     false, false},
    {"error inside a 200", "{\"error\":{\"message\":\"overloaded\"}}", true, NULL, NULL, NULL,
     false, false, true},
    {"error as a string", "{\"error\":\"overloaded\"}", true, NULL, NULL, NULL, false, false, true},
    {"error null", "{\"error\":null,\"model\":\"m\"}", true, "\"m\"", NULL, NULL, false, false,
     false},
    {"nothing", " {} ", true, NULL, NULL, NULL, false, false, false},
    {"a duplicate leaves the rest",
     "{\"model\":\"a\",\"model\":\"b\",\"choices\":[{\"finish_reason\":\"stop\"}]}", true, NULL,
     "\"stop\"", NULL, true, false, false},
    {"a duplicate, then bad syntax", "{\"model\":\"a\",\"model\":\"b\",", false, NULL, NULL, NULL,
     false, false, false},
    {"array", "[]", false, NULL, NULL, NULL, false, false, false},
    {"[DONE]", "[DONE]", false, NULL, NULL, NULL, false, false, false},
    {"cut", "{\"model\":\"a\"", false, NULL, NULL, NULL, false, false, false},
    {"empty", "", false, NULL, NULL, NULL, false, false, false},
};
/* clang-format on */

static void check_span(const char *row, const char *what, aip_span_t got, const char *want)
{
    bool same =
        want ? got.data && got.len == strlen(want) && !memcmp(got.data, want, got.len) : !got.data;

    ck_assert_msg(same, "%s: %s is '%.*s'", row, what, (int)got.len, got.data ? got.data : "");
}

START_TEST(test_answer)
{
    const answer_row_t *row = &answers[_i];
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    aip_answer_t a;
    bool object;

    memset(&a, 0xa5, sizeof(a));
    object = aip_answer_read((aip_span_t){row->json, strlen(row->json)}, &a, &usage);
    ck_assert_msg(object == row->object, "%s: returns %d", row->name, object);
    check_span(row->name, "model", a.model, row->model);
    check_span(row->name, "finish_reason", a.finish_reason, row->finish_reason);
    check_span(row->name, "content", a.content, row->content);
    ck_assert_msg(a.has_choices == row->has_choices, "%s: has_choices", row->name);
    ck_assert_msg(a.has_usage == row->has_usage, "%s: has_usage", row->name);
    ck_assert_msg(a.has_error == row->has_error, "%s: has_error", row->name);
    usage = AIP_USAGE_UNKNOWN;
    object = aip_answer_read_usage((aip_span_t){row->json, strlen(row->json)}, true, &a, &usage);
    ck_assert_msg(object == row->object, "%s, usage alone: returns %d", row->name, object);
    check_span(row->name, "model, usage alone", a.model, row->model);
    check_span(row->name, "finish_reason, usage alone", a.finish_reason, row->finish_reason);
    ck_assert_msg(a.has_choices == row->has_choices, "%s, usage alone: has_choices", row->name);
    ck_assert_msg(a.has_error == row->has_error, "%s, usage alone: has_error", row->name);
}
END_TEST

/* Choices are looked at only when there is something to estimate. */
START_TEST(usage_alone)
{
    static const char told[] = "{\"choices\":[{\"message\":{\"content\":\"12345\"}}],\"usage\":"
                               "{\"prompt_tokens\":3,\"completion_tokens\":4}}";
    static const char half[] = "{\"choices\":[{\"message\":{\"content\":\"12345\"}}],\"usage\":"
                               "{\"prompt_tokens\":3}}";
    aip_usage_t u = AIP_USAGE_UNKNOWN;
    aip_answer_t a;

    ck_assert(aip_answer_read_usage(AIP_SPAN(told), false, &a, &u));
    ck_assert_int_eq(u.total_tokens, 7);
    ck_assert(a.has_choices && a.text_bytes == 0);
    u = AIP_USAGE_UNKNOWN;
    ck_assert(aip_answer_read_usage(AIP_SPAN(half), false, &a, &u));
    ck_assert_uint_eq(a.text_bytes, 5);
}
END_TEST

typedef struct usage_row_t {
    const char *name;
    const char *usage[4];    /* the value of "usage" in up to four chunks */
    apr_int64_t expected[5]; /* prompt, completion, total, cached, reasoning */
} usage_row_t;

/* clang-format off */
static const usage_row_t usages[] = {
    {"all",
     {"{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30,"
     "\"prompt_tokens_details\":"
     "{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":5}}"}, {10, 20, 30,
     4, 5}},
    {"the provider's total stands",
     {"{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":35}"}, {10, 20, 35, -1, -1}},
    {"total added up", {"{\"prompt_tokens\":10,\"completion_tokens\":20}"}, {10, 20, 30, -1, -1}},
    {"embeddings", {"{\"prompt_tokens\":8,\"total_tokens\":8}"}, {8, -1, 8, -1, -1}},
    {"zero is known", {"{\"prompt_tokens\":0,\"completion_tokens\":0}"}, {0, 0, 0, -1, -1}},
    {"null does not erase", {"{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}",
     "null",
     "{\"prompt_tokens\":null,\"completion_tokens\":null,\"total_tokens\":null,"
     "\"prompt_tokens_details\":null}"}, {1, 2, 3, -1, -1}},
    {"null first", {"null", "null", "{\"prompt_tokens\":1,\"completion_tokens\":2}"}, {1, 2, 3, -1,
     -1}},
    {"in parts", {"{\"prompt_tokens\":7}", "{\"completion_tokens\":2}"}, {7, 2, 9, -1, -1}},
    {"cumulative, with totals", {"{\"prompt_tokens\":7,\"completion_tokens\":1,\"total_tokens\":8}",
     "{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}",
     "{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}"}, {7, 3, 10, -1, -1}},
    {"later counts outdate a total",
     {"{\"prompt_tokens\":7,\"completion_tokens\":1,\"total_tokens\":8}",
     "{\"completion_tokens\":5}"}, {7, 5, 12, -1, -1}},
    {"a later prompt count outdates a total",
     {"{\"prompt_tokens\":7,\"completion_tokens\":1,\"total_tokens\":8}",
     "{\"prompt_tokens\":9,\"completion_tokens\":1}"}, {9, 1, 10, -1, -1}},
    {"repeated counts keep a total",
     {"{\"prompt_tokens\":7,\"completion_tokens\":1,\"total_tokens\":20}",
     "{\"prompt_tokens\":7,\"completion_tokens\":1}"}, {7, 1, 20, -1, -1}},
    {"last value wins, also a smaller one", {"{\"prompt_tokens\":7,\"completion_tokens\":9}",
     "{\"completion_tokens\":5}"}, {7, 5, 12, -1, -1}},
    {"details later", {"{\"prompt_tokens\":7,\"prompt_tokens_details\":{\"audio_tokens\":1}}",
     "{\"prompt_tokens_details\":{\"cached_tokens\":3}}"}, {7, -1, -1, 3, -1}},
    {"details of the wrong type",
     {"{\"prompt_tokens_details\":[1],\"completion_tokens_details\":\"x\"}"}, {-1, -1, -1, -1, -1}},
    {"counts of the wrong type",
     {"{\"prompt_tokens\":\"7\",\"completion_tokens\":true,\"total_tokens\":{}}"}, {-1, -1, -1, -1,
     -1}},
    {"counts that make no sense",
     {"{\"prompt_tokens\":-7,\"completion_tokens\":1.5,\"total_tokens\":1e99}"}, {-1, -1, -1, -1,
     -1}},
    {"the largest counts", {"{\"prompt_tokens\":1000000000000,\"completion_tokens\":1000000000000}"},
     {AIP_TOKENS_MAX, AIP_TOKENS_MAX, 2 * AIP_TOKENS_MAX, -1, -1}},
    {"a count beyond", {"{\"prompt_tokens\":1000000000001,\"completion_tokens\":1}"}, {-1, 1, -1, -1,
     -1}},
    {"count too large", {"{\"prompt_tokens\":9223372036854775808,\"completion_tokens\":1}"}, {-1, 1,
     -1, -1, -1}},
    {"a duplicate leaves the rest",
     {"{\"prompt_tokens\":1,\"prompt_tokens\":2,\"completion_tokens\":3}"}, {-1, 3, -1, -1, -1}},
    {"no object", {"7", "[]", "\"x\"", "{}"}, {-1, -1, -1, -1, -1}},
};
/* clang-format on */

START_TEST(test_usage)
{
    const usage_row_t *row = &usages[_i];
    aip_usage_t u = AIP_USAGE_UNKNOWN;

    for (size_t i = 0; i < 4 && row->usage[i]; i++) {
        char json[512] = "{\"choices\":[{\"delta\":{}}],\"usage\":";
        size_t n = strlen(json), k = strlen(row->usage[i]);
        aip_answer_t answer;

        ck_assert_uint_lt(n + k + 1, sizeof(json));
        memcpy(json + n, row->usage[i], k);
        json[n + k] = '}';
        ck_assert(aip_answer_read((aip_span_t){json, n + k + 1}, &answer, &u));
    }
    ck_assert_msg(u.prompt_tokens == row->expected[0], "%s: prompt %ld", row->name,
                  (long)u.prompt_tokens);
    ck_assert_msg(u.completion_tokens == row->expected[1], "%s: completion %ld", row->name,
                  (long)u.completion_tokens);
    ck_assert_msg(u.total_tokens == row->expected[2], "%s: total %ld", row->name,
                  (long)u.total_tokens);
    ck_assert_msg(u.cached_tokens == row->expected[3], "%s: cached %ld", row->name,
                  (long)u.cached_tokens);
    ck_assert_msg(u.reasoning_tokens == row->expected[4], "%s: reasoning %ld", row->name,
                  (long)u.reasoning_tokens);
}
END_TEST

/* Cache and tier: each provider has its own spelling. */
static const struct {
    const char *name, *json;
    apr_int64_t cached, written, of_5m, of_1h;
    const char *tier;
} caches[] = {
    {"OpenAI",
     "{\"service_tier\":\"flex\",\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":4,\"cache_"
     "write_tokens\":5}}}",
     4, 5, -1, -1, "\"flex\""},
    {"the other name", "{\"usage\":{\"prompt_tokens_details\":{\"cache_creation_tokens\":5}}}", -1,
     5, -1, -1, NULL},
    {"Anthropic's", "{\"usage\":{\"cache_read_input_tokens\":4,\"cache_creation_input_tokens\":5}}",
     4, 5, -1, -1, NULL},
    {"DeepSeek's", "{\"usage\":{\"prompt_cache_hit_tokens\":4,\"prompt_cache_miss_tokens\":6}}", 4,
     -1, -1, -1, NULL},
    {"lifetimes",
     "{\"usage\":{\"cache_creation_input_tokens\":9,\"cache_creation\":{\"ephemeral_5m_input_"
     "tokens\":5,\"ephemeral_1h_input_tokens\":4}}}",
     -1, 9, 5, 4, NULL},
    {"lifetimes without a sum",
     "{\"usage\":{\"cache_creation\":{\"ephemeral_5m_input_tokens\":5,\"ephemeral_1h_input_"
     "tokens\":4}}}",
     -1, 9, 5, 4, NULL},
    {"one lifetime", "{\"usage\":{\"cache_creation\":{\"ephemeral_1h_input_tokens\":4}}}", -1, 4,
     -1, 4, NULL},
    {"several spellings: OpenAI's own",
     "{\"usage\":{\"prompt_cache_hit_tokens\":1,\"cache_read_input_tokens\":2,\"cache_creation_"
     "input_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":3,\"cache_creation_tokens\":2,"
     "\"cache_write_tokens\":3}}}",
     3, 3, -1, -1, NULL},
    {"null beside a count",
     "{\"service_tier\":null,\"usage\":{\"prompt_cache_hit_tokens\":1,\"cache_creation\":null,"
     "\"prompt_tokens_details\":{\"cached_tokens\":null}}}",
     1, -1, -1, -1, NULL},
    {"what makes no sense",
     "{\"service_tier\":7,\"usage\":{\"cache_read_input_tokens\":-1,\"cache_creation_input_"
     "tokens\":1.5,\"prompt_cache_hit_tokens\":\"4\",\"cache_creation\":[1]}}",
     -1, -1, -1, -1, NULL},
    {"too much",
     "{\"usage\":{\"cache_read_input_tokens\":1000000000001,\"cache_creation_input_tokens\":1e3}}",
     -1, -1, -1, -1, NULL},
    {"no usage", "{\"usage\":null,\"service_tier\":\"\"}", -1, -1, -1, -1, "\"\""},
};

START_TEST(cache_and_tier)
{
    aip_usage_t u = AIP_USAGE_UNKNOWN;
    aip_answer_t answer;
    ck_assert(aip_answer_read((aip_span_t){caches[_i].json, strlen(caches[_i].json)}, &answer, &u));
    ck_assert_msg(u.cached_tokens == caches[_i].cached, "%s: cached %ld", caches[_i].name,
                  (long)u.cached_tokens);
    ck_assert_msg(u.cache_write_tokens == caches[_i].written, "%s: written %ld", caches[_i].name,
                  (long)u.cache_write_tokens);
    ck_assert_msg(u.cache_write_5m_tokens == caches[_i].of_5m, "%s: 5m", caches[_i].name);
    ck_assert_msg(u.cache_write_1h_tokens == caches[_i].of_1h, "%s: 1h", caches[_i].name);
    check_span(caches[_i].name, "service_tier", answer.service_tier, caches[_i].tier);
}
END_TEST

typedef struct speaks_row_t {
    const char *name, *json;
    bool speaks, is_chunk;
} speaks_row_t;

/* clang-format off */
static const speaks_row_t speaking[] = {
    {"the role", "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}", false, true},
    {"no content", "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null,\"refusal\":null}}]}", false, true},
    {"empty choices", "{\"choices\":[],\"prompt_filter_results\":[]}", false, true},
    {"text", "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}", true, true},
    {"a tool call", "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}", true, true},
    {"no tool call", "{\"choices\":[{\"delta\":{\"tool_calls\":[]}}]}", false, true},
    {"reasoning", "{\"choices\":[{\"delta\":{\"reasoning_content\":\"so\"}}]}", true, true},
    {"sound", "{\"choices\":[{\"delta\":{\"audio\":{\"data\":\"x\"}}}]}", true, true},
    {"the end", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", true, true},
    {"another dialect", "{\"n\":1}", false, false},
    {"bytes that are no UTF-8", "{\"choices\":[{\"delta\":{\"content\":\"caf\xe9\"}}]}", true, true},
    {"a bad escape", "{\"choices\":[{\"delta\":{\"content\":\"a\\xb\"}}]}", true, true},
    {"a choice behind one that cannot be read", "{\"choices\":[oops,{\"delta\":{}}]}", true, true},
    {"white space alone", "{\"choices\":[ \n ]}", false, true},
};
/* clang-format on */

START_TEST(speaks)
{
    aip_answer_t answer;
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    aip_span_t json = {speaking[_i].json, strlen(speaking[_i].json)};
    ck_assert(aip_answer_read(json, &answer, &usage));
    ck_assert_msg(answer.speaks == speaking[_i].speaks, "%s", speaking[_i].name);
    ck_assert_msg(answer.is_chunk == speaking[_i].is_chunk, "%s", speaking[_i].name);
}
END_TEST

Suite *usage_suite(void);

Suite *usage_suite(void)
{
    Suite *suite = suite_create("usage");
    TCase *tc = tcase_create("answers");

    tcase_add_loop_test(tc, test_answer, 0, (int)COUNT(answers));
    tcase_add_test(tc, usage_alone);
    tcase_add_loop_test(tc, test_usage, 0, (int)COUNT(usages));
    tcase_add_loop_test(tc, cache_and_tier, 0, (int)COUNT(caches));
    tcase_add_loop_test(tc, speaks, 0, (int)COUNT(speaking));
    suite_add_tcase(suite, tc);
    return suite;
}
