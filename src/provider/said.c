/* SPDX-License-Identifier: Apache-2.0 */
/* The text of messages, deltas and requests, and the tokens that it is estimated to be where a
 * provider tells none. Called for each observed answer and chunk; the estimate once, at the end. */
#include "said.h"

#define BYTES_PER_TOKEN 4

bool aip_members_find(aip_span_t json, const aip_span_t *names, size_t n,
                      aip_json_member_t *members)
{
    aip_json_status_e status = aip_json_object_skim(json, names, n, members);

    if (status == AIP_JSON_DUPLICATE) {
        for (size_t i = 0; i < n; i++) {
            status = aip_json_object_skim(json, &names[i], 1, &members[i]);
            if (status == AIP_JSON_DUPLICATE) {
                members[i] = (aip_json_member_t){0};
            } else if (status != AIP_JSON_OK) {
                return false;
            }
        }
        return true;
    }
    return status == AIP_JSON_OK;
}

static aip_span_t member_of(aip_span_t object, aip_span_t name)
{
    aip_json_member_t member;
    return aip_json_type(object) == '{' && aip_members_find(object, &name, 1, &member)
               ? member.value
               : (aip_span_t){NULL, 0};
}

/* The text in the parts of a content; images, sound and files are none. */
static apr_size_t bytes_of_parts(aip_span_t parts)
{
    static const aip_span_t names[] = {AIP_NAME("text"), AIP_NAME("refusal")};
    const char *cursor = NULL;
    aip_span_t part;
    apr_size_t bytes = 0;
    while (aip_json_array_next(parts, &cursor, &part)) {
        aip_json_member_t m[2];
        if (aip_json_type(part) == '{' && aip_members_find(part, names, 2, m)) {
            bytes += aip_json_text_bytes(m[0].value) + aip_json_text_bytes(m[1].value);
        }
    }
    return bytes;
}

static apr_size_t bytes_of_calls(aip_span_t calls)
{
    const char *cursor = NULL;
    aip_span_t call;
    apr_size_t bytes = 0;
    while (aip_json_array_next(calls, &cursor, &call)) {
        aip_span_t function = member_of(call, AIP_SPAN("function"));
        bytes += aip_json_text_bytes(member_of(function, AIP_SPAN("arguments")));
    }
    return bytes;
}

static bool is_something(aip_span_t value)
{
    char type = aip_json_type(value);
    bool empty = (type == '"' || type == '[') && value.len <= 2;
    return type && type != 'n' && !empty;
}

aip_said_t aip_said_read(aip_span_t message)
{
    enum { CONTENT, REFUSAL, THOUGHT, THOUGHT_TOO, CALLS, CALL, AUDIO, DETAILS, COUNT };
    static const aip_span_t names[COUNT] = {
        AIP_NAME("content"),   AIP_NAME("refusal"),           AIP_NAME("reasoning_content"),
        AIP_NAME("reasoning"), AIP_NAME("tool_calls"),        AIP_NAME("function_call"),
        AIP_NAME("audio"),     AIP_NAME("reasoning_details"),
    };
    aip_json_member_t m[COUNT];
    aip_said_t said = {.content = {NULL, 0}};
    if (aip_json_type(message) != '{' || !aip_members_find(message, names, COUNT, m)) {
        return said;
    }
    for (size_t i = 0; i < COUNT; i++) {
        said.brings = said.brings || is_something(m[i].value);
    }
    /* some servers send the same reasoning under both names */
    apr_size_t thought = aip_json_text_bytes(m[THOUGHT].value),
               too = aip_json_text_bytes(m[THOUGHT_TOO].value);
    if (aip_json_type(m[CONTENT].value) == '"') {
        said.content = m[CONTENT].value;
    }
    said.bytes = aip_json_text_bytes(m[CONTENT].value) + bytes_of_parts(m[CONTENT].value) +
                 aip_json_text_bytes(m[REFUSAL].value) + (thought > too ? thought : too) +
                 bytes_of_calls(m[CALLS].value) +
                 aip_json_text_bytes(member_of(m[CALL].value, AIP_SPAN("arguments")));
    return said;
}

static apr_int64_t tokens_of(apr_size_t bytes)
{
    return (apr_int64_t)(bytes / BYTES_PER_TOKEN + (bytes % BYTES_PER_TOKEN != 0));
}

static apr_int64_t prompt_of(aip_span_t messages)
{
    const char *cursor = NULL;
    aip_span_t message;
    apr_size_t bytes = 0;
    while (aip_json_array_next(messages, &cursor, &message)) {
        bytes += aip_said_read(message).bytes;
    }
    return tokens_of(bytes);
}

/* Two of the three counts make the third. */
static void complete(aip_usage_t *usage)
{
    apr_int64_t *prompt = &usage->prompt_tokens, *completion = &usage->completion_tokens;
    if (*completion < 0 && *prompt >= 0 && usage->total_tokens >= *prompt) {
        *completion = usage->total_tokens - *prompt;
    } else if (*prompt < 0 && *completion >= 0 && usage->total_tokens >= *completion) {
        *prompt = usage->total_tokens - *completion;
    }
}

void aip_usage_estimate(aip_usage_t *usage, aip_span_t messages, apr_size_t bytes, apr_size_t later)
{
    complete(usage);
    if (usage->prompt_tokens < 0) {
        usage->prompt_tokens = prompt_of(messages);
        usage->prompt_estimated = true;
    }
    if (usage->completion_tokens < 0) {
        usage->completion_tokens = tokens_of(bytes);
        usage->completion_estimated = true;
    } else if (later) {
        usage->completion_tokens += tokens_of(later);
        usage->completion_estimated = true;
        usage->total_tokens = -1;
    }
    if (usage->total_tokens < 0) {
        usage->total_tokens = usage->prompt_tokens + usage->completion_tokens;
    }
}
