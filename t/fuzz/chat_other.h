/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CHAT_OTHER_H
#define CHAT_OTHER_H
/* The rules for chats once more, on jansson's trees: which bodies are taken, what is the prompt,
 * what becomes of the body for a target. */

#include "fuzz.h"

#include "aip/chat.h"

#include <jansson.h>

#define OTHER_FLAGS (JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL)

/* Limits of jansson, not faults of the text; and nesting, of which it takes more. */
static inline bool other_cannot_say(aip_span_t body, const json_t *tree, const json_error_t *error)
{
    aip_json_error_t fault;

    /* jansson overlooks a NUL behind a number */
    if (tree)
        return aip_json_validate(body, &fault) == AIP_JSON_DEPTH || memchr(body.data, 0, body.len);
    const enum json_error_code code = json_error_code(error);
    return code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
           strstr(error->text, "invalid Unicode");
}

/* Whether some object has a member twice. */
static inline bool other_twice(aip_span_t body)
{
    json_error_t error = {0};
    json_t *tree = json_loadb(body.data, body.len, OTHER_FLAGS | JSON_REJECT_DUPLICATES, &error);

    json_decref(tree);
    return !tree && json_error_code(&error) == json_error_duplicate_key;
}

static inline bool absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static inline bool other_accepts(const json_t *tree)
{
    const json_t *model = json_object_get(tree, "model"), *stream = json_object_get(tree, "stream"),
                 *options = json_object_get(tree, "stream_options"),
                 *messages = json_object_get(tree, "messages");

    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return false;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (!json_is_object(json_array_get(messages, i)))
            return false;
    }
    return (absent(model) || (json_is_string(model) &&
                              strlen(json_string_value(model)) == json_string_length(model))) &&
           (absent(stream) || json_is_boolean(stream)) &&
           (absent(options) || json_is_object(options));
}

static inline void other_put(json_t *tree, const char *name, aip_span_t raw)
{
    json_object_set_new(tree, name,
                        json_loadb(raw.data, raw.len, OTHER_FLAGS | JSON_DECODE_ANY, NULL));
}

static inline void other_tokens(json_t *tree, const aip_chat_options_t *options)
{
    const char *model = json_string_value(json_object_get(tree, "model"));
    const bool new_name = options->max_tokens_name == AIP_MAX_TOKENS_NEW ||
                          (options->max_tokens_name == AIP_MAX_TOKENS_AUTO && model && *model &&
                           aip_chat_wants_completion_tokens(model));
    const char *right = new_name ? "max_completion_tokens" : "max_tokens";
    const char *wrong = new_name ? "max_tokens" : "max_completion_tokens";
    json_t *other = json_object_get(tree, wrong);

    if (options->max_tokens.data)
        other_put(tree, right, options->max_tokens);
    else if (other && absent(json_object_get(tree, right)))
        json_object_set(tree, right, other);
    json_object_del(tree, wrong);
}

static inline void other_stream(json_t *tree, const aip_chat_options_t *options)
{
    if (options->force_stream)
        json_object_set_new(tree, "stream", json_true());
    if (options->drop_stream_options) {
        json_object_del(tree, "stream_options");
    } else if (options->want_usage && json_is_true(json_object_get(tree, "stream"))) {
        if (!json_is_object(json_object_get(tree, "stream_options")))
            json_object_set_new(tree, "stream_options", json_object());
        json_object_set_new(json_object_get(tree, "stream_options"), "include_usage", json_true());
    }
}

/* Changes the tree as aip_chat_build() is to change the body. */
static inline void other_build(json_t *tree, const aip_chat_options_t *options)
{
    if (options->model)
        json_object_set_new(tree, "model", json_string(options->model));
    other_stream(tree, options);
    other_tokens(tree, options);
    if (options->temperature.data)
        other_put(tree, "temperature", options->temperature);
    if (options->top_p.data)
        other_put(tree, "top_p", options->top_p);
    if (options->drop_top_k)
        json_object_del(tree, "top_k");
    else if (options->top_k.data)
        other_put(tree, "top_k", options->top_k);
    if (options->extra_name.data &&
        !(options->extra_keep && !absent(json_object_get(tree, options->extra_name.data))))
        other_put(tree, options->extra_name.data, options->extra_value);
}

/* ---- the prompt ---- */

typedef struct other_text_t {
    char *data;
    size_t len;
} other_text_t;

static inline bool is_text(const json_t *value, const char *text)
{
    return json_is_string(value) && json_string_length(value) == strlen(text) &&
           memcmp(json_string_value(value), text, strlen(text)) == 0;
}

static inline void other_piece(other_text_t *text, const json_t *value)
{
    const size_t len = json_string_length(value);

    if (len == 0)
        return;
    text->data = realloc(text->data, text->len + len + 1);
    require(text->data != NULL);
    if (text->len)
        text->data[text->len++] = '\n';
    memcpy(text->data + text->len, json_string_value(value), len);
    text->len += len;
}

static inline void other_message(other_text_t *text, const json_t *content)
{
    other_piece(text, content);
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);

        if (is_text(json_object_get(part, "type"), "text"))
            other_piece(text, json_object_get(part, "text"));
    }
}

/* The whole prompt; free() its data. */
static inline other_text_t other_prompt(const json_t *tree, aip_prompt_scope_e scope, size_t count)
{
    const json_t *messages = json_object_get(tree, "messages");
    const size_t n = json_array_size(messages);
    other_text_t text = {0};

    for (size_t i = scope == AIP_PROMPT_LAST_N && n > count ? n - count : 0; i < n; i++) {
        const json_t *message = json_array_get(messages, i);
        const bool user = is_text(json_object_get(message, "role"), "user");

        if ((scope == AIP_PROMPT_LAST_USER || scope == AIP_PROMPT_ALL_USER) && !user)
            continue;
        if (scope == AIP_PROMPT_LAST_USER)
            text.len = 0;
        other_message(&text, json_object_get(message, "content"));
    }
    return text;
}

#endif
