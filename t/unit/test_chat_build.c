/* SPDX-License-Identifier: Apache-2.0 */
/* The chat unit: the body for a target as its provider shall see it, and the error object that
 * reports a refusal. */

#include <jansson.h>

#include "chat_body.h"

Suite *chat_build_suite(void);

/* -- the body for a target -- */

static const struct {
    const char *model;
    bool expected;
} family_rows[] = {
    {"o1", true},
    {"o1-mini", true},
    {"o1-preview-2024-09-12", true},
    {"o3", true},
    {"o3-mini", true},
    {"o4-mini", true},
    {"gpt-5", true},
    {"gpt-5-nano", true},
    {"gpt-5.1", true},
    {"GPT-5", true},
    {"openai/gpt-5-mini", true},
    {"OpenAI/O3", true},
    {"a/b/o1", true},
    {"gpt-4o", false},
    {"gpt-4o-mini", false},
    {"gpt-4.1", false},
    {"gpt-3.5-turbo", false},
    {"o10", false},
    {"o1x", false},
    {"o2", false},
    {"gpt-50", false},
    {"gpt-5o", false},
    {"gpt5", false},
    {"o", false},
    {"xo1", false},
    {"o1/llama", false},
    {"openai/", false},
    {"", false},
    {"claude-o1", false},
    {"gpt-", false},
    {NULL, false},
};

START_TEST(test_families)
{
    ck_assert_msg(aip_chat_wants_completion_tokens(family_rows[_i].model) ==
                      family_rows[_i].expected,
                  "%s", family_rows[_i].model);
}
END_TEST

/* OPTIONS(...) keeps the rows readable; `expected` NULL: the body itself comes back. */
#define OPTIONS(...)                                                                               \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static const struct {
    const char *name, *body;
    aip_chat_options_t options;
    const char *expected;
} build_rows[] = {
    {"nothing to do", CHAT("\"model\":\"a\",\"max_tokens\":5,\"top_k\":3,"), OPTIONS(.model = NULL),
     NULL},
    {"all as configured already",
     CHAT("\"model\":\"a\",\"max_tokens\":5,\"stream\":true,\"temperature\":0.7,"),
     OPTIONS(.model = "a", .max_tokens = AIP_SPAN("5"), .temperature = AIP_SPAN("0.7"),
             .force_stream = true),
     NULL},
    {"model replaced", CHAT("\"model\" : \"a\" ,"), OPTIONS(.model = "gpt-4o"),
     CHAT("\"model\" : \"gpt-4o\" ,")},
    {"model null", CHAT("\"model\":null,"), OPTIONS(.model = "m"), CHAT("\"model\":\"m\",")},
    {"model appended", MESSAGES("{}"), OPTIONS(.model = "m"),
     "{\"messages\":[{}],\"model\":\"m\"}"},
    {"model escaped", CHAT("\"\\u006dodel\":\"a\","), OPTIONS(.model = "m\"\\"),
     CHAT("\"\\u006dodel\":\"m\\\"\\\\\",")},
    {"numbers keep their spelling",
     CHAT("\"seed\":12345678901234567890,\"temperature\":7E-1,\"top_p\":0.10,\"logit_bias\":{\"1\":"
          "-1.0e+2},"),
     OPTIONS(.top_p = AIP_SPAN("1e-1")),
     CHAT("\"seed\":12345678901234567890,\"temperature\":7E-1,\"top_p\":1e-1,\"logit_bias\":{\"1\":"
          "-1.0e+2},")},

    {"options set", CHAT("\"temperature\":1,"),
     OPTIONS(.temperature = AIP_SPAN("0"), .top_p = AIP_SPAN("0.5"), .top_k = AIP_SPAN("40"),
             .max_tokens = AIP_SPAN("9")),
     "{\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":9,"
     "\"top_p\":0.5,\"top_k\":40}"},
    {"top_k dropped", CHAT("\"top_k\":5,"), OPTIONS(.drop_top_k = true, .top_k = AIP_SPAN("40")),
     CHAT("")},
    {"top_k not sent", CHAT(""), OPTIONS(.drop_top_k = true, .top_k = AIP_SPAN("40")), NULL},

    {"renamed for o1", CHAT("\"model\":\"o1\",\"max_tokens\":100,"), OPTIONS(.top_p = {NULL, 0}),
     "{\"model\":\"o1\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_completion_"
     "tokens\":100}"},
    {"renamed by the target's model", CHAT("\"model\":\"x\",\"max_tokens\":1e2,"),
     OPTIONS(.model = "gpt-5-mini"),
     "{\"model\":\"gpt-5-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_"
     "completion_tokens\":1e2}"},
    {"client's o1 does not matter", CHAT("\"model\":\"o1\",\"max_tokens\":1,"),
     OPTIONS(.model = "gpt-4o"), CHAT("\"model\":\"gpt-4o\",\"max_tokens\":1,")},
    {"renamed to old", CHAT("\"max_completion_tokens\":7,"), OPTIONS(.model = NULL),
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":7}"},
    {"forced new", CHAT("\"max_tokens\":7,"), OPTIONS(.max_tokens_name = AIP_MAX_TOKENS_NEW),
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_completion_tokens\":7}"},
    {"forced old", CHAT("\"model\":\"o3\",\"max_tokens\":7,"),
     OPTIONS(.max_tokens_name = AIP_MAX_TOKENS_OLD), NULL},
    {"null renamed", CHAT("\"max_tokens\":null,"), OPTIONS(.max_tokens_name = AIP_MAX_TOKENS_NEW),
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_completion_tokens\":null}"},
    {"both, old wanted", CHAT("\"max_tokens\":1,\"max_completion_tokens\":2,"),
     OPTIONS(.model = NULL), CHAT("\"max_tokens\":1,")},
    {"both, new wanted", CHAT("\"max_tokens\":1,\"max_completion_tokens\":2,"),
     OPTIONS(.max_tokens_name = AIP_MAX_TOKENS_NEW), CHAT("\"max_completion_tokens\":2,")},
    {"both, the right one null", CHAT("\"max_tokens\":1,\"max_completion_tokens\":null,"),
     OPTIONS(.max_tokens_name = AIP_MAX_TOKENS_NEW), CHAT("\"max_completion_tokens\":1,")},
    {"both, the wrong one null", CHAT("\"max_tokens\":null,\"max_completion_tokens\":2,"),
     OPTIONS(.max_tokens_name = AIP_MAX_TOKENS_NEW), CHAT("\"max_completion_tokens\":2,")},
    {"both, configured", CHAT("\"max_tokens\":1,\"max_completion_tokens\":2,"),
     OPTIONS(.max_tokens = AIP_SPAN("3")), CHAT("\"max_tokens\":3,")},
    {"both, configured, new", CHAT("\"max_tokens\":1,\"max_completion_tokens\":2,"),
     OPTIONS(.model = NULL, .max_tokens = AIP_SPAN("3"), .max_tokens_name = AIP_MAX_TOKENS_NEW),
     CHAT("\"max_completion_tokens\":3,")},
    {"wrong one, configured", CHAT("\"max_completion_tokens\":2,"),
     OPTIONS(.max_tokens = AIP_SPAN("3")),
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":3}"},
    {"configured, new, appended", CHAT("\"model\":\"o1\","), OPTIONS(.max_tokens = AIP_SPAN("3")),
     "{\"model\":\"o1\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_completion_"
     "tokens\":3}"},

    {"stream forced", CHAT("\"stream\":false,"), OPTIONS(.force_stream = true),
     CHAT("\"stream\":true,")},
    {"stream forced, null", CHAT("\"stream\":null,"), OPTIONS(.force_stream = true),
     CHAT("\"stream\":true,")},
    {"stream forced, absent", MESSAGES("{}"), OPTIONS(.force_stream = true),
     "{\"messages\":[{}],\"stream\":true}"},
    {"usage, no stream", CHAT("\"stream\":false,"), OPTIONS(.want_usage = true), NULL},
    {"usage, appended", "{\"messages\":[{}],\"stream\":true}", OPTIONS(.want_usage = true),
     "{\"messages\":[{}],\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
    {"usage, forced stream", MESSAGES("{}"), OPTIONS(.want_usage = true, .force_stream = true),
     "{\"messages\":[{}],\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
    {"usage for null", CHAT("\"stream\":true,\"stream_options\":null,"),
     OPTIONS(.want_usage = true),
     CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":true},")},
    {"usage into empty options", CHAT("\"stream\":true,\"stream_options\":{ },"),
     OPTIONS(.want_usage = true),
     CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":true },")},
    {"usage next to others",
     CHAT("\"stream\":true,\"stream_options\":{\"include_obfuscation\":false},"),
     OPTIONS(.want_usage = true),
     CHAT("\"stream\":true,\"stream_options\":{\"include_obfuscation\":false,\"include_usage\":"
          "true},")},
    {"usage switched on",
     CHAT("\"stream_options\":{\"include_usage\":false,\"x\":1},\"stream\":true,"),
     OPTIONS(.want_usage = true),
     CHAT("\"stream_options\":{\"include_usage\":true,\"x\":1},\"stream\":true,")},
    {"usage was asked for", CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":true},"),
     OPTIONS(.want_usage = true), NULL},
    {"usage for an odd value",
     CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":\"yes\"},"),
     OPTIONS(.want_usage = true),
     CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":true},")},
    {"usage not wanted", CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":false},"),
     OPTIONS(.want_usage = false), NULL},
    {"options dropped", CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":true},"),
     OPTIONS(.want_usage = true, .drop_stream_options = true), CHAT("\"stream\":true,")},
    {"no options to drop", CHAT("\"stream\":true,"),
     OPTIONS(.want_usage = true, .drop_stream_options = true), NULL},

    {"credential appended", MESSAGES("{}"),
     OPTIONS(.extra_name = AIP_SPAN("api_key"), .extra_value = AIP_SPAN("\"k\""), .extra_index = 0),
     "{\"messages\":[{}],\"api_key\":\"k\"}"},
    {"credential replaced", CHAT("\"token\":\"client\","),
     OPTIONS(.extra_name = AIP_SPAN("token"), .extra_value = AIP_SPAN("\"k\""), .extra_index = 1),
     CHAT("\"token\":\"k\",")},
    {"credential replaced, escaped key", CHAT("\"t\\u006fken\":\"client\","),
     OPTIONS(.extra_name = AIP_SPAN("token"), .extra_value = AIP_SPAN("\"k\""), .extra_index = 1),
     CHAT("\"t\\u006fken\":\"k\",")},
    {"credential kept", CHAT("\"token\":\"client\","),
     OPTIONS(.extra_name = AIP_SPAN("token"), .extra_value = AIP_SPAN("\"k\""), .extra_index = 1,
             .extra_keep = true),
     NULL},
    {"credential kept, but absent", MESSAGES("{}"),
     OPTIONS(.extra_name = AIP_SPAN("token"), .extra_value = AIP_SPAN("\"k\""), .extra_index = 1,
             .extra_keep = true),
     "{\"messages\":[{}],\"token\":\"k\"}"},
    {"credential kept, but null", CHAT("\"token\":null,"),
     OPTIONS(.extra_name = AIP_SPAN("token"), .extra_value = AIP_SPAN("\"k\""), .extra_index = 1,
             .extra_keep = true),
     CHAT("\"token\":\"k\",")},

    {"everything at once",
     "{ \"max_tokens\": 5,\n \"stream_options\": {},\n \"messages\": [{}],\n \"top_k\": 1, "
     "\"x\":0.10,\n \"stream\": true }\n",
     OPTIONS(.model = "o4-mini", .temperature = AIP_SPAN("1"), .top_p = AIP_SPAN("0.9"),
             .drop_top_k = true, .want_usage = true, .extra_name = AIP_SPAN("api_key"),
             .extra_value = AIP_SPAN("\"k\"")),
     "{ \"stream_options\": {\"include_usage\":true},\n \"messages\": [{}],\n \"x\":0.10,\n "
     "\"stream\": true"
     ",\"model\":\"o4-mini\",\"max_completion_tokens\":5,\"temperature\":1,\"top_p\":0.9,\"api_"
     "key\":\"k\" }\n"},
};

START_TEST(test_build)
{
    const char *name = build_rows[_i].name, *expected = build_rows[_i].expected;
    aip_chat_t chat, again;
    aip_span_t out;

    parse(name, &chat, build_rows[_i].body);
    out = aip_chat_build(&chat, &build_rows[_i].options, pool);
    if (!expected) {
        ck_assert_msg(out.data == chat.body.data && out.len == chat.body.len, "%s: <%.*s>", name,
                      (int)out.len, out.data);
        return;
    }
    ck_assert_msg(out.len == strlen(expected) && !memcmp(out.data, expected, out.len), "%s: <%.*s>",
                  name, (int)out.len, out.data);
    parse(name, &again, apr_pstrmemdup(pool, out.data, out.len));
    /* the chat serves the next attempt as well */
    out = aip_chat_build(&chat, &build_rows[_i].options, pool);
    ck_assert_msg(out.len == strlen(expected) && !memcmp(out.data, expected, out.len),
                  "%s: second time", name);
}
END_TEST

/* -- errors -- */

START_TEST(test_error_json)
{
    aip_error_t err;

    ck_assert_int_eq(
        aip_error_set(&err, pool, 503, "gateway_error", "no_route", NULL, "%s is %d\n", "\"x\"", 7),
        APR_EGENERAL);
    ck_assert_int_eq(err.status, 503);
    ck_assert_str_eq(err.message, "\"x\" is 7\n");
    ck_assert_str_eq(aip_error_json(&err, pool),
                     "{\"error\":{\"message\":\"\\\"x\\\" is 7\\n\",\"type\":\"gateway_error\","
                     "\"param\":null,\"code\":\"no_route\"}}\n");
}
END_TEST

START_TEST(test_error_json_bad_bytes)
{
    aip_error_t err;
    const char *text;
    json_t *root, *json;

    aip_error_set(&err, pool, 400, "invalid_request_error", NULL,
                  "mod\x01"
                  "el",
                  "a\xff\xe2\x82z\x1b</script>");
    text = aip_error_json(&err, pool);
    root = json_loads(text, 0, NULL);
    ck_assert_msg(root != NULL, "%s", text);
    json = json_object_get(root, "error");
    ck_assert_str_eq(json_string_value(json_object_get(json, "message")),
                     "a\xef\xbf\xbd\xef\xbf\xbdz\x1b</script>");
    ck_assert_str_eq(json_string_value(json_object_get(json, "param")), "mod\x01"
                                                                        "el");
    ck_assert(json_is_null(json_object_get(json, "code")));
    ck_assert_int_eq(text[strlen(text) - 1], '\n');
    json_decref(root);
}
END_TEST

Suite *chat_build_suite(void)
{
    Suite *suite = suite_create("chat_build");
    TCase *tc = tcase_create("chat_build");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, test_families, 0, ROWS(family_rows));
    tcase_add_loop_test(tc, test_build, 0, ROWS(build_rows));
    tcase_add_test(tc, test_error_json);
    tcase_add_test(tc, test_error_json_bad_bytes);
    suite_add_tcase(suite, tc);
    return suite;
}
