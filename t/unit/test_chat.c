/* SPDX-License-Identifier: Apache-2.0 */
/* The chat unit: what a request is refused for, what is read of it, and the prompt text. Rows are
 * written as a client sends them. The body for a target: test_chat_build.c. */

#include "chat_body.h"

Suite *chat_suite(void);

/* -- refusals -- */

static const struct {
    const char *name;
    aip_span_t body;
    const char *code, *param, *message; /* message: a part of it */
} refusal_rows[] = {
    {"empty", AIP_SPAN(""), "invalid_json", NULL, "syntax error at byte 0"},
    {"words", AIP_SPAN("hello"), "invalid_json", NULL, "at byte 0"},
    {"bad syntax", AIP_SPAN(CHAT("\"a\":tru,")), "invalid_json", NULL, "syntax error at byte 8"},
    {"cut", AIP_SPAN("{\"messages\":[{\"role\":\"us"), "invalid_json", NULL,
     "syntax error at byte 24"},
    {"bad UTF-8", AIP_SPAN(CHAT("\"a\":\"\xe4\",")), "invalid_json", NULL,
     "invalid UTF-8 at byte 6"},
    {"NUL", AIP_SPAN("{}\0"), "invalid_json", NULL, "at byte 2"},
    {"array", AIP_SPAN("[{}]"), "invalid_json", NULL, "not an object"},
    {"string", AIP_SPAN("\"x\""), "invalid_json", NULL, "not an object"},

    {"model twice", AIP_SPAN(CHAT("\"model\":\"a\",\"model\":\"a\",")), "duplicate_member", "model",
     "byte 13"},
    {"model twice, escaped", AIP_SPAN(CHAT("\"model\":\"a\",\"\\u006dodel\":\"b\",")),
     "duplicate_member", "model", "'model' occurs twice"},
    {"stream twice", AIP_SPAN(CHAT("\"stream\":true,\"stream\":true,")), "duplicate_member",
     "stream", NULL},
    {"messages twice", AIP_SPAN(CHAT("\"messages\":[{}],")), "duplicate_member", "messages", NULL},
    {"max_tokens twice", AIP_SPAN(CHAT("\"max_tokens\":1,\"max_tokens\":2,")), "duplicate_member",
     "max_tokens", NULL},
    {"max_completion_tokens twice",
     AIP_SPAN(CHAT("\"max_completion_tokens\":1,\"max_completion_tokens\":2,")), "duplicate_member",
     "max_completion_tokens", NULL},
    {"temperature twice", AIP_SPAN(CHAT("\"temperature\":1,\"temperature\":1,")),
     "duplicate_member", "temperature", NULL},
    {"top_p twice", AIP_SPAN(CHAT("\"top_p\":1,\"top_p\":1,")), "duplicate_member", "top_p", NULL},
    {"top_k twice", AIP_SPAN(CHAT("\"top_k\":1,\"top_k\":1,")), "duplicate_member", "top_k", NULL},
    {"stream_options twice", AIP_SPAN(CHAT("\"stream_options\":null,\"stream_options\":{},")),
     "duplicate_member", "stream_options", NULL},
    {"include_usage twice",
     AIP_SPAN(CHAT("\"stream_options\":{\"include_usage\":true,\"include\\u005fusage\":false},")),
     "duplicate_member", "stream_options.include_usage", "byte 40"},
    {"extra member twice", AIP_SPAN(CHAT("\"token\":1,\"token\":2,")), "duplicate_member", "token",
     NULL},

    {"model is a number", AIP_SPAN(CHAT("\"model\":5,")), "invalid_type", "model",
     "a string or null"},
    {"model is a list", AIP_SPAN(CHAT("\"model\":[\"a\"],")), "invalid_type", "model", NULL},
    {"model holds a NUL", AIP_SPAN(CHAT("\"model\":\"gpt\\u0000x\",")), "invalid_value", "model",
     "NUL"},
    {"stream is a string", AIP_SPAN(CHAT("\"stream\":\"true\",")), "invalid_type", "stream",
     "a boolean or null"},
    {"stream is a number", AIP_SPAN(CHAT("\"stream\":1,")), "invalid_type", "stream", NULL},
    {"stream_options is a boolean", AIP_SPAN(CHAT("\"stream_options\":true,")), "invalid_type",
     "stream_options", "an object or null"},
    {"stream_options is a list", AIP_SPAN(CHAT("\"stream_options\":[],")), "invalid_type",
     "stream_options", NULL},
    {"no messages", AIP_SPAN("{\"model\":\"a\"}"), "missing_messages", "messages", NULL},
    {"messages elsewhere", AIP_SPAN("{\"x\":{\"messages\":[{}]}}"), "missing_messages", "messages",
     NULL},
    {"messages null", AIP_SPAN("{\"messages\":null}"), "invalid_type", "messages", "an array"},
    {"messages is an object", AIP_SPAN("{\"messages\":{}}"), "invalid_type", "messages", NULL},
    {"messages is a string", AIP_SPAN("{\"messages\":\"hi\"}"), "invalid_type", "messages", NULL},
    {"messages empty", AIP_SPAN("{\"messages\":[ ]}"), "empty_array", "messages", "at least one"},
    {"message is a string", AIP_SPAN("{\"messages\":[{},\"hi\",1]}"), "invalid_type", "messages",
     "byte 16"},
    {"message is null", AIP_SPAN("{\"messages\":[null]}"), "invalid_type", "messages", "byte 13"},
    {"message is a list", AIP_SPAN("{\"messages\":[{}, [{}]]}"), "invalid_type", "messages",
     "byte 17"},
};

START_TEST(test_refusals)
{
    const char *name = refusal_rows[_i].name;
    aip_error_t err = {0};
    aip_chat_t chat;

    ck_assert_msg(aip_chat_parse(&chat, refusal_rows[_i].body, extra, 2, pool, &err) != APR_SUCCESS,
                  "%s", name);
    ck_assert_msg(err.status == 400, "%s: %d", name, err.status);
    ck_assert_str_eq(err.type, "invalid_request_error");
    ck_assert_msg(!strcmp(err.code, refusal_rows[_i].code), "%s: %s", name, err.code);
    if (refusal_rows[_i].param)
        ck_assert_msg(err.param && !strcmp(err.param, refusal_rows[_i].param), "%s: %s", name,
                      err.param);
    else
        ck_assert_msg(!err.param, "%s: %s", name, err.param);
    if (refusal_rows[_i].message)
        ck_assert_msg(strstr(err.message, refusal_rows[_i].message) != NULL, "%s: %s", name,
                      err.message);
}
END_TEST

START_TEST(test_too_deep)
{
    char *body = apr_palloc(pool, 600);
    aip_error_t err = {0};
    aip_chat_t chat;
    size_t n = sizeof("{\"messages\":") - 1;

    memcpy(body, "{\"messages\":", n);
    memset(body + n, '[', 300);
    ck_assert_int_ne(aip_chat_parse(&chat, (aip_span_t){body, n + 300}, NULL, 0, pool, &err),
                     APR_SUCCESS);
    ck_assert_str_eq(err.code, "invalid_json");
    ck_assert_msg(strstr(err.message, "deep") && strstr(err.message, "byte 211"), "%s",
                  err.message);
}
END_TEST

START_TEST(test_too_many_extra)
{
    static const aip_span_t many[AIP_CHAT_EXTRA_MAX + 1];
    const char *body = CHAT("");
    aip_error_t err = {0};
    aip_chat_t chat;

    ck_assert_int_ne(aip_chat_parse(&chat, (aip_span_t){body, strlen(body)}, many,
                                    AIP_CHAT_EXTRA_MAX + 1, pool, &err),
                     APR_SUCCESS);
    ck_assert_int_eq(err.status, 500);
}
END_TEST

/* -- what is read -- */

static const struct {
    const char *name, *body, *model;
    bool stream, include_usage, has_options;
} read_rows[] = {
    {"least", MESSAGES("{}"), NULL, false, false, false},
    {"nulls", CHAT("\"model\":null,\"stream\":null,\"stream_options\":null,"), NULL, false, false,
     false},
    {"empty model", CHAT("\"model\":\"\","), NULL, false, false, false},
    {"model", CHAT("\"model\":\"gpt-4o\",\"stream\":false,"), "gpt-4o", false, false, false},
    {"escapes", CHAT("\"\\u006dodel\":\"m\\u00f6\\/x\",\"str\\u0065am\":true,"), "m\xc3\xb6/x",
     true, false, false},
    {"options", CHAT("\"stream\":true,\"stream_options\":{},"), NULL, true, false, true},
    {"usage", CHAT("\"stream\":true,\"stream_options\":{\"x\":1,\"include_usage\":true},"), NULL,
     true, true, true},
    {"no usage", CHAT("\"stream\":true,\"stream_options\":{\"include_usage\":false},"), NULL, true,
     false, true},
    {"twins of no interest", CHAT("\"seed\":1,\"seed\":2,"), NULL, false, false, false},
};

START_TEST(test_read)
{
    const char *name = read_rows[_i].name;
    aip_chat_t chat;

    parse(name, &chat, read_rows[_i].body);
    if (read_rows[_i].model)
        ck_assert_str_eq(chat.model, read_rows[_i].model);
    else
        ck_assert_ptr_null(chat.model);
    ck_assert_msg(chat.stream == read_rows[_i].stream, "%s", name);
    ck_assert_msg(chat.include_usage == read_rows[_i].include_usage, "%s", name);
    ck_assert_msg(chat.has_options == read_rows[_i].has_options, "%s", name);
    ck_assert_ptr_nonnull(chat.members[AIP_CHAT_MESSAGES].key);
}
END_TEST

START_TEST(test_extra_is_located)
{
    aip_chat_t chat;

    parse("extra", &chat, CHAT("\"token\":\"t\",\"api\\u005fkey\":\"k\","));
    ck_assert_int_eq(memcmp(chat.members[AIP_CHAT_MEMBERS].value.data, "\"k\"", 3), 0);
    ck_assert_int_eq(memcmp(chat.members[AIP_CHAT_MEMBERS + 1].value.data, "\"t\"", 3), 0);
}
END_TEST

/* -- prompt -- */

#define DIALOGUE                                                                                   \
    MESSAGES(OTHER("system", "S") "," USER("one") "," OTHER("assistant", "A") ", " USER(           \
        "two") "," OTHER("tool", "T"))

static const struct {
    const char *name, *body;
    aip_prompt_scope_e scope;
    int count;
    size_t max_bytes;
    const char *text;
    bool truncated;
} prompt_rows[] = {
    {"last user", DIALOGUE, AIP_PROMPT_LAST_USER, 1, 100, "two", false},
    {"all users", DIALOGUE, AIP_PROMPT_ALL_USER, 1, 100, "one\ntwo", false},
    {"last 1", DIALOGUE, AIP_PROMPT_LAST_N, 1, 100, "T", false},
    {"last 2", DIALOGUE, AIP_PROMPT_LAST_N, 2, 100, "two\nT", false},
    {"last 5", DIALOGUE, AIP_PROMPT_LAST_N, 5, 100, "S\none\nA\ntwo\nT", false},
    {"last 99", DIALOGUE, AIP_PROMPT_LAST_N, 99, 100, "S\none\nA\ntwo\nT", false},
    {"all", DIALOGUE, AIP_PROMPT_ALL, 1, 100, "S\none\nA\ntwo\nT", false},
    {"developer is no user", MESSAGES(USER("u") "," OTHER("developer", "d")), AIP_PROMPT_LAST_USER,
     1, 100, "u", false},
    {"no user", MESSAGES(OTHER("system", "s") "," OTHER("User", "x")), AIP_PROMPT_LAST_USER, 1, 100,
     "", false},
    {"no user, all", MESSAGES(OTHER("system", "s")), AIP_PROMPT_ALL_USER, 1, 100, "", false},
    {"no role", MESSAGES("{\"content\":\"x\"}"), AIP_PROMPT_LAST_USER, 1, 100, "", false},
    {"role is no string", MESSAGES("{\"role\":1,\"content\":\"x\"}"), AIP_PROMPT_LAST_USER, 1, 100,
     "", false},
    {"no role, all", MESSAGES("{\"content\":\"x\"}"), AIP_PROMPT_ALL, 1, 100, "x", false},
    {"escaped role and keys", MESSAGES("{\"r\\u006fle\":\"us\\u0065r\",\"c\\u006fntent\":\"x\"}"),
     AIP_PROMPT_LAST_USER, 1, 100, "x", false},
    {"escapes in the text", MESSAGES(USER("a\\n\\\"b\\\" \\u00e4 \\ud83d\\ude00 \\ud83d")),
     AIP_PROMPT_LAST_USER, 1, 100, "a\n\"b\" \xc3\xa4 \xf0\x9f\x98\x80 \xef\xbf\xbd", false},
    {"content first", MESSAGES("{\"content\":\"x\",\"name\":\"n\",\"role\":\"user\"}"),
     AIP_PROMPT_LAST_USER, 1, 100, "x", false},
    {"null content", MESSAGES("{\"role\":\"user\",\"content\":null}"), AIP_PROMPT_LAST_USER, 1, 100,
     "", false},
    {"no content", MESSAGES(USER("x") ",{\"role\":\"user\"}"), AIP_PROMPT_LAST_USER, 1, 100, "",
     false},
    {"content is a number", MESSAGES("{\"role\":\"user\",\"content\":5}"), AIP_PROMPT_LAST_USER, 1,
     100, "", false},
    {"content is an object",
     MESSAGES("{\"role\":\"user\",\"content\":{\"type\":\"text\",\"text\":\"x\"}}"),
     AIP_PROMPT_LAST_USER, 1, 100, "", false},
    {"null among others",
     MESSAGES(USER("a") ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}," USER("b")),
     AIP_PROMPT_ALL, 1, 100, "a\nb", false},
    {"empty content adds no line", MESSAGES(USER("a") "," USER("") "," USER("b")),
     AIP_PROMPT_ALL_USER, 1, 100, "a\nb", false},
    {"last N counts messages without text",
     MESSAGES(USER("a") "," USER("b") ",{\"role\":\"assistant\",\"content\":null}"),
     AIP_PROMPT_LAST_N, 2, 100, "b", false},
    {"parts",
     MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"},{\"type\":"
              "\"image_url\","
              "\"image_url\":{\"url\":\"data:,x\"},\"text\":\"no\"} , "
              "{\"text\":\"two\",\"type\":\"te\\u0078t\"}]}"),
     AIP_PROMPT_LAST_USER, 1, 100, "one\ntwo", false},
    {"images only",
     MESSAGES(USER("x") ",{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{"
                        "\"url\":\"u\"}},"
                        "{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"\"}}]}"),
     AIP_PROMPT_LAST_USER, 1, 100, "", false},
    {"odd parts",
     MESSAGES("{\"role\":\"user\",\"content\":[\"x\",null,[],{},{\"type\":\"text\"},{\"type\":"
              "\"text\",\"text\":null},"
              "{\"type\":\"text\",\"text\":\"\"},{\"type\":\"refusal\",\"text\":\"r\"},{\"type\":5,"
              "\"text\":\"f\"},"
              "{\"type\":\"text\",\"text\":\"y\"}]}"),
     AIP_PROMPT_LAST_USER, 1, 100, "y", false},
    {"no parts", MESSAGES("{\"role\":\"user\",\"content\":[]}"), AIP_PROMPT_LAST_USER, 1, 100, "",
     false},

    {"fits exactly", MESSAGES(USER("abcde")), AIP_PROMPT_LAST_USER, 1, 5, "abcde", false},
    {"one too long", MESSAGES(USER("abcdef")), AIP_PROMPT_LAST_USER, 1, 5, "abcde", true},
    {"cut before a character", MESSAGES(USER("abcd\xe2\x82\xac")), AIP_PROMPT_LAST_USER, 1, 6,
     "abcd", true},
    {"cut before an escaped one", MESSAGES(USER("abcd\\u20acx")), AIP_PROMPT_LAST_USER, 1, 6,
     "abcd", true},
    {"cut behind a character", MESSAGES(USER("abcd\\u20acx")), AIP_PROMPT_LAST_USER, 1, 7,
     "abcd\xe2\x82\xac", true},
    {"cut before a pair", MESSAGES(USER("a\\ud83d\\ude00")), AIP_PROMPT_LAST_USER, 1, 4, "a", true},
    {"first character too long", MESSAGES(USER("\xe2\x82\xac")), AIP_PROMPT_LAST_USER, 1, 2, "",
     true},
    {"all users keep the beginning", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_ALL_USER, 1,
     5, "abc\nd", true},
    {"cut at the line", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_ALL_USER, 1, 3, "abc",
     true},
    {"cut behind the line", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_ALL_USER, 1, 4,
     "abc\n", true},
    {"fits with the line", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_ALL_USER, 1, 7,
     "abc\ndef", false},
    {"all keeps the end", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_ALL, 1, 5, "c\ndef",
     true},
    {"last N keeps the end", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_LAST_N, 2, 2, "ef",
     true},
    {"end, fits exactly", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_ALL, 1, 7, "abc\ndef",
     false},
    {"end, exactly the last", MESSAGES(USER("abc") "," USER("def")), AIP_PROMPT_ALL, 1, 3, "def",
     true},
    {"end, at a character", MESSAGES(USER("\xe2\x82\xac\xe2\x82\xac")), AIP_PROMPT_ALL, 1, 5,
     "\xe2\x82\xac", true},
    {"end, nothing fits", MESSAGES(USER("\xe2\x82\xac")), AIP_PROMPT_ALL, 1, 2, "", true},
    {"end, escapes are short", MESSAGES(USER("x") "," USER("\\u0061\\u0062\\u0063\\u0064")),
     AIP_PROMPT_ALL, 1, 6, "x\nabcd", false},
    {"end, many pieces",
     MESSAGES(USER("1") "," USER("22") "," USER("333") "," USER("4444") "," USER("55555") "," USER(
         "\\u0036")),
     AIP_PROMPT_ALL, 1, 11, "444\n55555\n6", true},
};

START_TEST(test_prompt)
{
    const char *name = prompt_rows[_i].name, *text = prompt_rows[_i].text;
    aip_error_t err = {0};
    aip_prompt_t prompt;
    aip_chat_t chat;

    parse(name, &chat, prompt_rows[_i].body);
    ck_assert_int_eq(aip_chat_prompt(&chat, prompt_rows[_i].scope, prompt_rows[_i].count,
                                     prompt_rows[_i].max_bytes, &prompt, pool, &err),
                     APR_SUCCESS);
    ck_assert_msg(prompt.text.len == strlen(text) && !memcmp(prompt.text.data, text, strlen(text)),
                  "%s: <%.*s>", name, (int)prompt.text.len, prompt.text.data);
    ck_assert_msg(prompt.truncated == prompt_rows[_i].truncated, "%s: truncated %d", name,
                  prompt.truncated);
}
END_TEST

static const struct {
    const char *name, *body;
    aip_prompt_scope_e scope;
    const char *param, *message;
} prompt_error_rows[] = {
    {"role", MESSAGES(USER("a") ",{\"role\":\"user\",\"content\":\"\",\"role\":\"system\"}"),
     AIP_PROMPT_ALL, "messages[1].role", "byte 71"},
    {"content, escaped", MESSAGES("{\"role\":\"user\",\"content\":\"a\",\"conten\\u0074\":\"b\"}"),
     AIP_PROMPT_LAST_USER, "messages[0].content", "byte 42"},
    {"content of another role", MESSAGES(OTHER("system", "a\",\"content\":\"b") "," USER("c")),
     AIP_PROMPT_LAST_USER, "messages[0].content", NULL},
    {"text",
     MESSAGES(
         "{\"role\":\"user\",\"content\":[{},{\"type\":\"text\",\"text\":\"a\",\"text\":\"b\"}]}"),
     AIP_PROMPT_LAST_USER, "messages[0].content[1].text", "byte 68"},
    {"type",
     MESSAGES("{},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"type\":\"image_url\","
              "\"text\":\"a\"}]}"),
     AIP_PROMPT_LAST_USER, "messages[1].content[0].type", NULL},
};

START_TEST(test_prompt_errors)
{
    const char *name = prompt_error_rows[_i].name;
    aip_error_t err = {0};
    aip_prompt_t prompt;
    aip_chat_t chat;

    parse(name, &chat, prompt_error_rows[_i].body);
    ck_assert_int_ne(
        aip_chat_prompt(&chat, prompt_error_rows[_i].scope, 1, 100, &prompt, pool, &err),
        APR_SUCCESS);
    ck_assert_int_eq(err.status, 400);
    ck_assert_str_eq(err.code, "duplicate_member");
    ck_assert_str_eq(err.param, prompt_error_rows[_i].param);
    if (prompt_error_rows[_i].message)
        ck_assert_msg(strstr(err.message, prompt_error_rows[_i].message) != NULL, "%s: %s", name,
                      err.message);
}
END_TEST

Suite *chat_suite(void)
{
    Suite *suite = suite_create("chat");
    TCase *tc = tcase_create("chat");

    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, test_refusals, 0, ROWS(refusal_rows));
    tcase_add_test(tc, test_too_deep);
    tcase_add_test(tc, test_too_many_extra);
    tcase_add_loop_test(tc, test_read, 0, ROWS(read_rows));
    tcase_add_test(tc, test_extra_is_located);
    tcase_add_loop_test(tc, test_prompt, 0, ROWS(prompt_rows));
    tcase_add_loop_test(tc, test_prompt_errors, 0, ROWS(prompt_error_rows));
    suite_add_tcase(suite, tc);
    return suite;
}
