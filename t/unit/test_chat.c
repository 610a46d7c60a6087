/* SPDX-License-Identifier: Apache-2.0 */
/* The chat unit: what a request is refused for, the prompt text, the body for a target, and the
 * error object that reports a refusal. Rows are written as a client, a target and a provider see
 * them. */

#include "aip/chat.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <check.h>
#include <jansson.h>
#include <string.h>

Suite *chat_suite(void);

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define BYTES(literal)                                                                             \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }
#define RAW(literal)                                                                               \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }

/* A body with one message and `members` before it. */
#define CHAT(members) "{" members "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define MESSAGES(items) "{\"messages\":[" items "]}"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define OTHER(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"

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

static const aip_span_t extra[] = {BYTES("api_key"), BYTES("token")};

static void parse(const char *name, aip_chat_t *chat, const char *body)
{
    aip_error_t err = {0};
    const apr_status_t rv =
        aip_chat_parse(chat, (aip_span_t){body, strlen(body)}, extra, 2, pool, &err);

    ck_assert_msg(rv == APR_SUCCESS, "%s: %s", name, err.message);
}

/* -- refusals -- */

static const struct {
    const char *name;
    aip_span_t body;
    const char *code, *param, *message; /* message: a part of it */
} refusal_rows[] = {
    {"empty", BYTES(""), "invalid_json", NULL, "syntax error at byte 0"},
    {"words", BYTES("hello"), "invalid_json", NULL, "at byte 0"},
    {"bad syntax", BYTES(CHAT("\"a\":tru,")), "invalid_json", NULL, "syntax error at byte 8"},
    {"cut", BYTES("{\"messages\":[{\"role\":\"us"), "invalid_json", NULL,
     "syntax error at byte 24"},
    {"bad UTF-8", BYTES(CHAT("\"a\":\"\xe4\",")), "invalid_json", NULL, "invalid UTF-8 at byte 6"},
    {"NUL", BYTES("{}\0"), "invalid_json", NULL, "at byte 2"},
    {"array", BYTES("[{}]"), "invalid_json", NULL, "not an object"},
    {"string", BYTES("\"x\""), "invalid_json", NULL, "not an object"},

    {"model twice", BYTES(CHAT("\"model\":\"a\",\"model\":\"a\",")), "duplicate_member", "model",
     "byte 13"},
    {"model twice, escaped", BYTES(CHAT("\"model\":\"a\",\"\\u006dodel\":\"b\",")),
     "duplicate_member", "model", "'model' occurs twice"},
    {"stream twice", BYTES(CHAT("\"stream\":true,\"stream\":true,")), "duplicate_member", "stream",
     NULL},
    {"messages twice", BYTES(CHAT("\"messages\":[{}],")), "duplicate_member", "messages", NULL},
    {"max_tokens twice", BYTES(CHAT("\"max_tokens\":1,\"max_tokens\":2,")), "duplicate_member",
     "max_tokens", NULL},
    {"max_completion_tokens twice",
     BYTES(CHAT("\"max_completion_tokens\":1,\"max_completion_tokens\":2,")), "duplicate_member",
     "max_completion_tokens", NULL},
    {"temperature twice", BYTES(CHAT("\"temperature\":1,\"temperature\":1,")), "duplicate_member",
     "temperature", NULL},
    {"top_p twice", BYTES(CHAT("\"top_p\":1,\"top_p\":1,")), "duplicate_member", "top_p", NULL},
    {"top_k twice", BYTES(CHAT("\"top_k\":1,\"top_k\":1,")), "duplicate_member", "top_k", NULL},
    {"stream_options twice", BYTES(CHAT("\"stream_options\":null,\"stream_options\":{},")),
     "duplicate_member", "stream_options", NULL},
    {"include_usage twice",
     BYTES(CHAT("\"stream_options\":{\"include_usage\":true,\"include\\u005fusage\":false},")),
     "duplicate_member", "stream_options.include_usage", "byte 40"},
    {"extra member twice", BYTES(CHAT("\"token\":1,\"token\":2,")), "duplicate_member", "token",
     NULL},

    {"model is a number", BYTES(CHAT("\"model\":5,")), "invalid_type", "model", "a string or null"},
    {"model is a list", BYTES(CHAT("\"model\":[\"a\"],")), "invalid_type", "model", NULL},
    {"model holds a NUL", BYTES(CHAT("\"model\":\"gpt\\u0000x\",")), "invalid_value", "model",
     "NUL"},
    {"stream is a string", BYTES(CHAT("\"stream\":\"true\",")), "invalid_type", "stream",
     "a boolean or null"},
    {"stream is a number", BYTES(CHAT("\"stream\":1,")), "invalid_type", "stream", NULL},
    {"stream_options is a boolean", BYTES(CHAT("\"stream_options\":true,")), "invalid_type",
     "stream_options", "an object or null"},
    {"stream_options is a list", BYTES(CHAT("\"stream_options\":[],")), "invalid_type",
     "stream_options", NULL},
    {"no messages", BYTES("{\"model\":\"a\"}"), "missing_messages", "messages", NULL},
    {"messages elsewhere", BYTES("{\"x\":{\"messages\":[{}]}}"), "missing_messages", "messages",
     NULL},
    {"messages null", BYTES("{\"messages\":null}"), "invalid_type", "messages", "an array"},
    {"messages is an object", BYTES("{\"messages\":{}}"), "invalid_type", "messages", NULL},
    {"messages is a string", BYTES("{\"messages\":\"hi\"}"), "invalid_type", "messages", NULL},
    {"messages empty", BYTES("{\"messages\":[ ]}"), "empty_array", "messages", "at least one"},
    {"message is a string", BYTES("{\"messages\":[{},\"hi\",1]}"), "invalid_type", "messages",
     "byte 16"},
    {"message is null", BYTES("{\"messages\":[null]}"), "invalid_type", "messages", "byte 13"},
    {"message is a list", BYTES("{\"messages\":[{}, [{}]]}"), "invalid_type", "messages",
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
     OPTIONS(.model = "a", .max_tokens = RAW("5"), .temperature = RAW("0.7"), .force_stream = true),
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
     OPTIONS(.top_p = RAW("1e-1")),
     CHAT("\"seed\":12345678901234567890,\"temperature\":7E-1,\"top_p\":1e-1,\"logit_bias\":{\"1\":"
          "-1.0e+2},")},

    {"options set", CHAT("\"temperature\":1,"),
     OPTIONS(.temperature = RAW("0"), .top_p = RAW("0.5"), .top_k = RAW("40"),
             .max_tokens = RAW("9")),
     "{\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":9,"
     "\"top_p\":0.5,\"top_k\":40}"},
    {"top_k dropped", CHAT("\"top_k\":5,"), OPTIONS(.drop_top_k = true, .top_k = RAW("40")),
     CHAT("")},
    {"top_k not sent", CHAT(""), OPTIONS(.drop_top_k = true, .top_k = RAW("40")), NULL},

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
     OPTIONS(.max_tokens = RAW("3")), CHAT("\"max_tokens\":3,")},
    {"both, configured, new", CHAT("\"max_tokens\":1,\"max_completion_tokens\":2,"),
     OPTIONS(.model = NULL, .max_tokens = RAW("3"), .max_tokens_name = AIP_MAX_TOKENS_NEW),
     CHAT("\"max_completion_tokens\":3,")},
    {"wrong one, configured", CHAT("\"max_completion_tokens\":2,"), OPTIONS(.max_tokens = RAW("3")),
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":3}"},
    {"configured, new, appended", CHAT("\"model\":\"o1\","), OPTIONS(.max_tokens = RAW("3")),
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
     OPTIONS(.extra_name = RAW("api_key"), .extra_value = RAW("\"k\""), .extra_index = 0),
     "{\"messages\":[{}],\"api_key\":\"k\"}"},
    {"credential replaced", CHAT("\"token\":\"client\","),
     OPTIONS(.extra_name = RAW("token"), .extra_value = RAW("\"k\""), .extra_index = 1),
     CHAT("\"token\":\"k\",")},
    {"credential replaced, escaped key", CHAT("\"t\\u006fken\":\"client\","),
     OPTIONS(.extra_name = RAW("token"), .extra_value = RAW("\"k\""), .extra_index = 1),
     CHAT("\"t\\u006fken\":\"k\",")},
    {"credential kept", CHAT("\"token\":\"client\","),
     OPTIONS(.extra_name = RAW("token"), .extra_value = RAW("\"k\""), .extra_index = 1,
             .extra_keep = true),
     NULL},
    {"credential kept, but absent", MESSAGES("{}"),
     OPTIONS(.extra_name = RAW("token"), .extra_value = RAW("\"k\""), .extra_index = 1,
             .extra_keep = true),
     "{\"messages\":[{}],\"token\":\"k\"}"},
    {"credential kept, but null", CHAT("\"token\":null,"),
     OPTIONS(.extra_name = RAW("token"), .extra_value = RAW("\"k\""), .extra_index = 1,
             .extra_keep = true),
     CHAT("\"token\":\"k\",")},

    {"everything at once",
     "{ \"max_tokens\": 5,\n \"stream_options\": {},\n \"messages\": [{}],\n \"top_k\": 1, "
     "\"x\":0.10,\n \"stream\": true }\n",
     OPTIONS(.model = "o4-mini", .temperature = RAW("1"), .top_p = RAW("0.9"), .drop_top_k = true,
             .want_usage = true, .extra_name = RAW("api_key"), .extra_value = RAW("\"k\"")),
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

Suite *chat_suite(void)
{
    Suite *suite = suite_create("chat");
    TCase *tc = tcase_create("chat");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_refusals, 0, ROWS(refusal_rows));
    tcase_add_test(tc, test_too_deep);
    tcase_add_test(tc, test_too_many_extra);
    tcase_add_loop_test(tc, test_read, 0, ROWS(read_rows));
    tcase_add_test(tc, test_extra_is_located);
    tcase_add_loop_test(tc, test_prompt, 0, ROWS(prompt_rows));
    tcase_add_loop_test(tc, test_prompt_errors, 0, ROWS(prompt_error_rows));
    tcase_add_loop_test(tc, test_families, 0, ROWS(family_rows));
    tcase_add_loop_test(tc, test_build, 0, ROWS(build_rows));
    tcase_add_test(tc, test_error_json);
    tcase_add_test(tc, test_error_json_bad_bytes);
    suite_add_tcase(suite, tc);
    return suite;
}
