/* SPDX-License-Identifier: Apache-2.0 */
/* Text of answers and requests, in every place where it can stand, and the usage that is estimated
 * from it where a provider tells none, or only a part. */
#include <check.h>
#include <string.h>

#include "aip/usage.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Suite *estimate_suite(void);

static aip_span_t span(const char *text)
{
    return (aip_span_t){text, strlen(text)};
}

static const struct {
    const char *name, *choices; /* value of "choices" */
    apr_size_t bytes;
    bool brings;
} texts[] = {
    {"content", "[{\"message\":{\"role\":\"assistant\",\"content\":\"12345\"}}]", 5, false},
    {"a delta", "[{\"delta\":{\"content\":\"12345\"}}]", 5, true},
    {"all choices", "[{\"delta\":{\"content\":\"12\"}},{\"delta\":{\"content\":\"345\"}}]", 5,
     true},
    {"only the second speaks", "[{\"delta\":{}},{\"delta\":{\"content\":\"345\"}}]", 3, true},
    {"escapes count once", "[{\"delta\":{\"content\":\"a\\n\\\"\\u0041\"}}]", 4, true},
    {"UTF-8, written or escaped", "[{\"delta\":{\"content\":\"\xc3\xa9\\u00e9\\ud83d\\ude00\"}}]",
     8, true},
    {"reasoning", "[{\"delta\":{\"reasoning_content\":\"123\"}}]", 3, true},
    {"the same reasoning under two names",
     "[{\"delta\":{\"reasoning_content\":\"123\",\"reasoning\":\"123\"}}]", 3, true},
    {"reasoning and text", "[{\"message\":{\"reasoning\":\"123\",\"content\":\"45\"}}]", 5, false},
    {"arguments of tool calls",
     "[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\"\"}},"
     "{\"index\":1,\"function\":{\"name\":\"f\",\"arguments\":\"12\"}}]}}]",
     6, true},
    {"a tool call begins",
     "[{\"delta\":{\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]"
     "}}]",
     0, true},
    {"the old function call", "[{\"message\":{\"function_call\":{\"arguments\":\"1234\"}}}]", 4,
     false},
    {"a refusal", "[{\"delta\":{\"refusal\":\"no\"}}]", 2, true},
    {"parts",
     "[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"123\"},{\"type\":\"x\"},7]}}]", 3,
     false},
    {"sound is no text", "[{\"delta\":{\"audio\":{\"data\":\"AAAA\"}}}]", 0, true},
    {"the role alone", "[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]", 0, false},
    {"nothing but the end", "[{\"delta\":{},\"finish_reason\":\"stop\"}]", 0, false},
    {"things that are no messages", "[7,null,{\"delta\":[]},{\"message\":\"x\"}]", 0, false},
    {"calls that are none",
     "[{\"message\":{\"tool_calls\":[1,{\"function\":\"x\"},{\"function\":{"
     "\"arguments\":{}}}]}}]",
     0, false},
};

START_TEST(text_of_an_answer)
{
    char json[512] = "{\"choices\":";
    aip_answer_t answer;
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    size_t n = strlen(json), k = strlen(texts[_i].choices);
    ck_assert_uint_lt(n + k + 1, sizeof json);
    memcpy(json + n, texts[_i].choices, k);
    json[n + k] = '}';
    ck_assert(aip_answer_read((aip_span_t){json, n + k + 1}, &answer, &usage));
    ck_assert_msg(answer.text_bytes == texts[_i].bytes, "%s: %lu bytes", texts[_i].name,
                  (unsigned long)answer.text_bytes);
    ck_assert_msg(answer.brings == texts[_i].brings, "%s: brings", texts[_i].name);
}
END_TEST

static const struct {
    const char *name, *messages;
    apr_int64_t tokens;
} prompts[] = {
    {"four bytes are a token", "[{\"role\":\"user\",\"content\":\"12345678\"}]", 2},
    {"a rest is one, too", "[{\"role\":\"user\",\"content\":\"123456789\"}]", 3},
    {"all messages",
     "[{\"role\":\"system\",\"content\":\"123\"},{\"role\":\"user\",\"content\":\"45678\"}]", 2},
    {"text parts, and no image",
     "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"1234\"},{\"type\":\"image_"
     "url\","
     "\"image_url\":{\"url\":\"data:image/png;base64,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}},"
     "{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AAAAAAAAAAAA\"}}]}]",
     1},
    {"arguments of earlier calls",
     "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"function\":{"
     "\"name\":"
     "\"f\",\"arguments\":\"12345\"}}]}]",
     2},
    {"none", "[{\"role\":\"user\",\"content\":\"\"}]", 0},
};

START_TEST(text_of_a_prompt)
{
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    aip_usage_estimate(&usage, span(prompts[_i].messages), 0, 0);
    ck_assert_msg(usage.prompt_tokens == prompts[_i].tokens, "%s: %ld", prompts[_i].name,
                  (long)usage.prompt_tokens);
    ck_assert(usage.prompt_estimated);
}
END_TEST

/* The prompt of all rows is of three tokens. */
static const struct {
    const char *name;
    apr_int64_t told[3]; /* prompt, completion, total */
    apr_size_t bytes, later;
    apr_int64_t want[3];
    bool prompt, completion; /* estimated */
} wholes[] = {
    {"nothing was told", {-1, -1, -1}, 25, 25, {3, 7, 10}, true, true},
    {"nothing was told or said", {-1, -1, -1}, 0, 0, {3, 0, 3}, true, true},
    {"all was told", {10, 20, 30}, 25, 0, {10, 20, 30}, false, false},
    {"a total of its own", {10, 20, 35}, 25, 0, {10, 20, 35}, false, false},
    {"told as none", {0, 0, 0}, 0, 0, {0, 0, 0}, false, false},
    {"the prompt alone", {10, -1, -1}, 25, 25, {10, 7, 17}, false, true},
    {"the completion alone", {-1, 20, -1}, 25, 0, {3, 20, 23}, true, false},
    {"prompt and total", {10, -1, 30}, 25, 0, {10, 20, 30}, false, false},
    {"completion and total", {-1, 20, 30}, 25, 0, {10, 20, 30}, false, false},
    {"a total that is too small", {10, -1, 5}, 25, 25, {10, 7, 5}, false, true},
    {"the total alone stands", {-1, -1, 30}, 25, 25, {3, 7, 30}, true, true},
    {"told before the first word", {10, 0, 10}, 25, 25, {10, 7, 17}, false, true},
    {"told in the middle, then cut", {10, 5, 15}, 25, 9, {10, 8, 18}, false, true},
};

START_TEST(what_was_not_told)
{
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    usage.prompt_tokens = wholes[_i].told[0];
    usage.completion_tokens = wholes[_i].told[1];
    usage.total_tokens = wholes[_i].told[2];
    aip_usage_estimate(&usage, span("[{\"role\":\"user\",\"content\":\"1234567890\"}]"),
                       wholes[_i].bytes, wholes[_i].later);
    ck_assert_msg(usage.prompt_tokens == wholes[_i].want[0], "%s: prompt %ld", wholes[_i].name,
                  (long)usage.prompt_tokens);
    ck_assert_msg(usage.completion_tokens == wholes[_i].want[1], "%s: completion %ld",
                  wholes[_i].name, (long)usage.completion_tokens);
    ck_assert_msg(usage.total_tokens == wholes[_i].want[2], "%s: total %ld", wholes[_i].name,
                  (long)usage.total_tokens);
    ck_assert_msg(usage.prompt_estimated == wholes[_i].prompt, "%s", wholes[_i].name);
    ck_assert_msg(usage.completion_estimated == wholes[_i].completion, "%s", wholes[_i].name);
}
END_TEST

Suite *estimate_suite(void)
{
    Suite *suite = suite_create("estimate");
    TCase *tc = tcase_create("estimate");
    tcase_add_loop_test(tc, text_of_an_answer, 0, (int)COUNT(texts));
    tcase_add_loop_test(tc, text_of_a_prompt, 0, (int)COUNT(prompts));
    tcase_add_loop_test(tc, what_was_not_told, 0, (int)COUNT(wholes));
    suite_add_tcase(suite, tc);
    return suite;
}
