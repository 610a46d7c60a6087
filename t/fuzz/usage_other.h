/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USAGE_OTHER_H
#define USAGE_OTHER_H
/* The reader of answers once more, on jansson's trees: for answers that are objects without a
 * member twice. */

#include "fuzz.h"

#include "aip/usage.h"

#include <jansson.h>

/* A count that is there and makes sense; -1: none. */
static inline json_int_t other_count(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    const json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;

    return n >= 0 && n <= AIP_TOKENS_MAX ? n : -1;
}

static inline void other_fold(apr_int64_t *count, json_int_t found)
{
    if (found >= 0)
        *count = found;
}

static inline void other_cache(const json_t *usage, aip_usage_t *u)
{
    const json_t *details = json_object_get(usage, "prompt_tokens_details"),
                 *lifetimes = json_object_get(usage, "cache_creation");
    static const char *const spellings[] = {"cache_creation_tokens", "cache_write_tokens"};
    apr_int64_t written = other_count(usage, "cache_creation_input_tokens");
    const aip_usage_t before = *u;

    other_fold(&u->cached_tokens, other_count(usage, "prompt_cache_hit_tokens"));
    other_fold(&u->cached_tokens, other_count(usage, "cache_read_input_tokens"));
    other_fold(&u->cached_tokens, other_count(details, "cached_tokens"));
    for (int i = 0; i < 2; i++)
        other_fold(&written, other_count(details, spellings[i]));
    other_fold(&u->cache_write_5m_tokens, other_count(lifetimes, "ephemeral_5m_input_tokens"));
    other_fold(&u->cache_write_1h_tokens, other_count(lifetimes, "ephemeral_1h_input_tokens"));
    if (written < 0 && (u->cache_write_5m_tokens != before.cache_write_5m_tokens ||
                        u->cache_write_1h_tokens != before.cache_write_1h_tokens)) {
        written = (u->cache_write_5m_tokens > 0 ? u->cache_write_5m_tokens : 0) +
                  (u->cache_write_1h_tokens > 0 ? u->cache_write_1h_tokens : 0);
    }
    other_fold(&u->cache_write_tokens, written);
}

static inline void other_usage(const json_t *usage, aip_usage_t *u)
{
    const aip_usage_t before = *u;
    const json_int_t total = other_count(usage, "total_tokens");

    if (!json_is_object(usage))
        return;
    other_fold(&u->prompt_tokens, other_count(usage, "prompt_tokens"));
    other_fold(&u->completion_tokens, other_count(usage, "completion_tokens"));
    other_cache(usage, u);
    other_fold(
        &u->reasoning_tokens,
        other_count(json_object_get(usage, "completion_tokens_details"), "reasoning_tokens"));
    if (total >= 0)
        u->total_tokens = total;
    else if (u->prompt_tokens >= 0 && u->completion_tokens >= 0 &&
             (before.total_tokens < 0 || u->prompt_tokens != before.prompt_tokens ||
              u->completion_tokens != before.completion_tokens))
        u->total_tokens = u->prompt_tokens + u->completion_tokens;
}

static inline size_t other_length(const json_t *object, const char *name)
{
    return json_string_length(json_object_get(object, name));
}

/* Bytes of text that a message or a delta has. */
static inline size_t other_bytes(const json_t *message)
{
    const json_t *parts = json_object_get(message, "content"),
                 *calls = json_object_get(message, "tool_calls");
    const size_t thought = other_length(message, "reasoning_content"),
                 too = other_length(message, "reasoning");
    size_t bytes = json_string_length(parts) + other_length(message, "refusal") +
                   (thought > too ? thought : too);

    for (size_t i = 0; i < json_array_size(parts); i++)
        bytes += other_length(json_array_get(parts, i), "text") +
                 other_length(json_array_get(parts, i), "refusal");
    for (size_t i = 0; i < json_array_size(calls); i++)
        bytes += other_length(json_object_get(json_array_get(calls, i), "function"), "arguments");
    return bytes + other_length(json_object_get(message, "function_call"), "arguments");
}

static inline bool other_same_text(aip_span_t raw, const json_t *value)
{
    const aip_span_t text = {json_string_value(value), json_string_length(value)};

    return json_is_string(value) ? aip_json_equals(raw, text) : !raw.data;
}

/* Whether `answer` and `usage` are what `tree` says; `before` is the usage as it was. */
static inline void other_answer(const json_t *tree, const aip_answer_t *answer,
                                const aip_usage_t *before, const aip_usage_t *usage)
{
    const json_t *choices = json_object_get(tree, "choices"),
                 *error = json_object_get(tree, "error"), *first = json_array_get(choices, 0),
                 *message = json_object_get(first, "message"),
                 *delta = json_object_get(first, "delta");
    aip_usage_t expected = *before;
    size_t bytes = 0;

    other_usage(json_object_get(tree, "usage"), &expected);
    require(memcmp(&expected.prompt_tokens, &usage->prompt_tokens,
                   6 * sizeof expected.prompt_tokens) == 0);
    require(expected.cache_write_5m_tokens == usage->cache_write_5m_tokens &&
            expected.cache_write_1h_tokens == usage->cache_write_1h_tokens);
    for (size_t i = 0; i < json_array_size(choices); i++) {
        const json_t *choice = json_array_get(choices, i);

        bytes += other_bytes(json_object_get(choice, "message")) +
                 other_bytes(json_object_get(choice, "delta"));
    }
    require(answer->text_bytes == bytes);
    require(answer->is_chunk == json_is_array(choices));
    require(answer->has_choices == (json_array_size(choices) > 0));
    require(answer->has_usage == json_is_object(json_object_get(tree, "usage")));
    require(answer->has_error == (error && !json_is_null(error)));
    require(other_same_text(answer->id, json_object_get(tree, "id")));
    require(other_same_text(answer->model, json_object_get(tree, "model")));
    require(other_same_text(answer->service_tier, json_object_get(tree, "service_tier")));
    require(other_same_text(answer->finish_reason, json_object_get(first, "finish_reason")));
    const json_t *said = json_object_get(message, "content"),
                 *told = json_object_get(delta, "content");
    require(other_same_text(answer->content, json_is_string(said) ? said : told));
}

#endif
