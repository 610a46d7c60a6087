/* SPDX-License-Identifier: Apache-2.0 */
/* What a chat needs of a model, and what its conversation begins with. */
#include <apr_strings.h>

#include "chat_body.h"

Suite *chat_needs_suite(void);

#define T AIP_NEED_TEXT
#define PART(type) "{\"type\":\"" type "\"}"
#define PARTS(parts) MESSAGES("{\"role\":\"user\",\"content\":[" parts "]}")

START_TEST(needs)
{
    static const struct {
        const char *name, *body;
        unsigned needs;
    } rows[] = {
        {"text", CHAT(""), T},
        {"text parts", PARTS(PART("text")), T},
        {"tools", CHAT("\"tools\":[{\"type\":\"function\"}],"), T | AIP_NEED_TOOLS},
        {"functions", CHAT("\"functions\":[{}],"), T | AIP_NEED_TOOLS},
        {"no tools", CHAT("\"tools\":[],\"functions\":null,"), T},
        {"image", PARTS(PART("text") "," PART("image_url")), T | AIP_NEED_IMAGES},
        {"image, escaped", PARTS("{\"type\":\"image\\u005furl\"}"), T | AIP_NEED_IMAGES},
        {"audio", PARTS(PART("input_audio")), T | AIP_NEED_AUDIO},
        {"image in an older message",
         MESSAGES("{\"role\":\"user\",\"content\":[" PART("image_url") "]}," USER("so?")),
         T | AIP_NEED_IMAGES},
        {"spoken answer", CHAT("\"modalities\":[\"text\",\"audio\"],"), T | AIP_NEED_AUDIO},
        {"written answer", CHAT("\"modalities\":[\"text\"],"), T},
        {"schema", CHAT("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}},"),
         T | AIP_NEED_JSON_SCHEMA},
        {"JSON mode", CHAT("\"response_format\":{\"type\":\"json_object\"},"), T},
        {"format of another type", CHAT("\"response_format\":\"json_schema\","), T},
        {"content of another type",
         MESSAGES("{\"role\":\"user\",\"content\":{\"type\":\"image_url\"}}"), T},
        {"all",
         "{\"tools\":[1],\"response_format\":{\"type\":\"json_schema\"},\"messages\":[{\"role\":"
         "\"user\",\"content\":[" PART("image_url") "," PART("input_audio") "]}]}",
         T | AIP_NEED_TOOLS | AIP_NEED_IMAGES | AIP_NEED_AUDIO | AIP_NEED_JSON_SCHEMA},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_chat_t chat;
        aip_error_t err = {0};
        unsigned found = 0;
        parse(rows[i].name, &chat, rows[i].body);
        ck_assert_msg(aip_chat_needs(&chat, &found, pool, &err) == APR_SUCCESS, "%s: %s",
                      rows[i].name, err.message);
        ck_assert_msg(found == rows[i].needs, "%s: %u", rows[i].name, found);
    }
}
END_TEST

START_TEST(needs_errors)
{
    static const struct {
        const char *body, *param;
    } rows[] = {
        {CHAT("\"tools\":[],\"tools\":[1],"), "tools"},
        {CHAT("\"modalities\":[],\"modali\\u0074ies\":[],"), "modalities"},
        {CHAT("\"response_format\":{\"type\":1,\"type\":2},"), "response_format.type"},
        {PARTS(PART("text") ",{\"type\":1,\"type\":2}"), "messages[0].content[1].type"},
        {MESSAGES(USER("a") ",{\"content\":1,\"content\":[]}"), "messages[1].content"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_chat_t chat;
        aip_error_t err = {0};
        unsigned found = 0;
        parse(rows[i].param, &chat, rows[i].body);
        ck_assert_int_eq(aip_chat_needs(&chat, &found, pool, &err), APR_EGENERAL);
        ck_assert_int_eq(err.status, 400);
        ck_assert_str_eq(err.code, "duplicate_member");
        ck_assert_str_eq(err.param, rows[i].param);
    }
}
END_TEST

START_TEST(opening)
{
    static const struct {
        const char *name, *body, *expected;
        bool first;
    } rows[] = {
        {"one message", MESSAGES(USER("hi")), "\"hi\";", true},
        {"with a system prompt", MESSAGES(OTHER("system", "be kind") "," USER("hi")),
         "\"be kind\";\"hi\";", true},
        {"a later turn",
         MESSAGES(
             OTHER("system", "s") "," USER("hi") "," OTHER("assistant", "yes?") "," USER("more")),
         "\"s\";\"hi\";", false},
        {"two system prompts",
         MESSAGES(OTHER("system", "s") "," OTHER("developer", "d") "," USER("hi")),
         "\"s\";\"d\";\"hi\";", true},
        {"parts", PARTS(PART("text")), "[{\"type\":\"text\"}];", true},
        {"no user", MESSAGES(OTHER("system", "s")), "", true},
        {"no content", MESSAGES("{\"role\":\"user\"}"), ";", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aip_chat_t chat;
        aip_error_t err = {0};
        apr_array_header_t *parts;
        const char *told = "";
        bool first;
        parse(rows[i].name, &chat, rows[i].body);
        ck_assert_int_eq(aip_chat_opening(&chat, &parts, &first, pool, &err), APR_SUCCESS);
        for (int k = 0; k < parts->nelts; k++) {
            const aip_span_t part = APR_ARRAY_IDX(parts, k, aip_span_t);
            told = apr_psprintf(pool, "%s%.*s;", told, (int)part.len, part.data ? part.data : "");
        }
        ck_assert_msg(strcmp(told, rows[i].expected) == 0, "%s: %s", rows[i].name, told);
        ck_assert_msg(first == rows[i].first, "%s", rows[i].name);
    }
}
END_TEST

START_TEST(opening_errors)
{
    aip_chat_t chat;
    aip_error_t err = {0};
    apr_array_header_t *parts;
    parse("role twice", &chat,
          MESSAGES(OTHER("system", "s") ",{\"role\":\"user\",\"role\":\"user\"}"));
    bool first;
    ck_assert_int_eq(aip_chat_opening(&chat, &parts, &first, pool, &err), APR_EGENERAL);
    ck_assert_str_eq(err.param, "messages[1].role");
}
END_TEST

Suite *chat_needs_suite(void)
{
    Suite *suite = suite_create("chat_needs");
    TCase *tc = tcase_create("chat_needs");
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_test(tc, needs);
    tcase_add_test(tc, needs_errors);
    tcase_add_test(tc, opening);
    tcase_add_test(tc, opening_errors);
    suite_add_tcase(suite, tc);
    return suite;
}
