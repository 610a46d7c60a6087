/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what the gateway wants to know of an answer: model, first choice, token usage, error.
 * Called with whole responses and with the data of each stream chunk. Providers differ in where and
 * how often they tell usage (on the last chunk with content, on one of its own, in parts, as null):
 * all of it is folded into one record, and nothing here fails an answer. */

#include "aip/usage.h"

/* AIP_SPAN() for static tables: a compound literal is no constant expression. */
/* clang-format off */
#define NAME(literal) {(literal), sizeof(literal) - 1}
/* clang-format on */

/* Finds members as aip_json_object() does. A duplicate makes that member ambiguous, hence absent;
 * the others still count. */
static bool find(aip_span_t json, const aip_span_t *names, size_t n, aip_json_member_t *members)
{
    aip_json_status_e status = aip_json_object(json, names, n, members, NULL);

    if (status == AIP_JSON_DUPLICATE) {
        for (size_t i = 0; i < n; i++) {
            status = aip_json_object(json, &names[i], 1, &members[i], NULL);
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

static aip_span_t string_or_none(aip_span_t value)
{
    return aip_json_type(value) == '"' ? value : (aip_span_t){NULL, 0};
}

/* Takes a count that is there and makes sense. @return whether it has changed */
static bool fold(aip_span_t value, apr_int64_t *count)
{
    apr_int64_t n, before = *count;

    if (aip_json_int64(value, &n) && n >= 0) {
        *count = n;
    }
    return *count != before;
}

static void fold_detail(aip_span_t details, aip_span_t name, apr_int64_t *count)
{
    aip_json_member_t member;

    if (aip_json_type(details) == '{' && find(details, &name, 1, &member)) {
        fold(member.value, count);
    }
}

static void read_usage(aip_span_t json, aip_usage_t *usage)
{
    static const aip_span_t names[] = {
        NAME("prompt_tokens"),         NAME("completion_tokens"),         NAME("total_tokens"),
        NAME("prompt_tokens_details"), NAME("completion_tokens_details"),
    };
    aip_json_member_t m[5];
    apr_int64_t total = -1;
    bool changed;

    if (!find(json, names, 5, m)) {
        return;
    }
    changed = fold(m[0].value, &usage->prompt_tokens);
    changed = fold(m[1].value, &usage->completion_tokens) || changed;
    fold_detail(m[3].value, AIP_SPAN("cached_tokens"), &usage->cached_tokens);
    fold_detail(m[4].value, AIP_SPAN("reasoning_tokens"), &usage->reasoning_tokens);
    if (fold(m[2].value, &total)) {
        usage->total_tokens = total;
    } else if ((changed || usage->total_tokens < 0) && usage->prompt_tokens >= 0 &&
               usage->completion_tokens >= 0 &&
               usage->prompt_tokens <= APR_INT64_MAX - usage->completion_tokens) {
        /* No total with these counts: one that came with earlier counts would be out of date. */
        usage->total_tokens = usage->prompt_tokens + usage->completion_tokens;
    }
}

/* What a delta may hold beside the role. */
static bool brings_content(aip_span_t delta)
{
    static const aip_span_t names[] = {
        NAME("content"), NAME("tool_calls"),        NAME("function_call"),
        NAME("refusal"), NAME("reasoning_content"), NAME("reasoning"),
        NAME("audio"),   NAME("reasoning_details"),
    };
    aip_json_member_t m[8];
    bool brings = false;

    if (aip_json_type(delta) != '{' || !find(delta, names, 8, m)) {
        return false;
    }
    for (size_t i = 0; i < 8; i++) {
        char type = aip_json_type(m[i].value);
        bool empty = (type == '"' || type == '[') && m[i].value.len <= 2;
        brings = brings || (type && type != 'n' && !empty);
    }
    return brings;
}

static void read_choice(aip_span_t choice, aip_answer_t *answer)
{
    static const aip_span_t names[] = {NAME("finish_reason"), NAME("message"), NAME("delta")};
    static const aip_span_t content = NAME("content");
    aip_json_member_t m[3], text;

    if (aip_json_type(choice) != '{' || !find(choice, names, 3, m)) {
        return;
    }
    answer->finish_reason = string_or_none(m[0].value);
    answer->speaks = answer->finish_reason.data || brings_content(m[2].value);
    for (size_t i = 1; i < 3 && !answer->content.data; i++) {
        if (aip_json_type(m[i].value) == '{' && find(m[i].value, &content, 1, &text)) {
            answer->content = string_or_none(text.value);
        }
    }
}

bool aip_answer_read(aip_span_t json, aip_answer_t *answer, aip_usage_t *usage)
{
    static const aip_span_t names[] = {NAME("model"), NAME("choices"), NAME("usage"),
                                       NAME("error")};
    aip_json_member_t m[4];
    const char *cursor = NULL;
    aip_span_t choice;

    *answer = (aip_answer_t){0};
    if (!find(json, names, 4, m)) {
        return false;
    }
    answer->model = string_or_none(m[0].value);
    answer->is_chunk = aip_json_type(m[1].value) == '[';
    answer->has_choices = answer->is_chunk && aip_json_array_next(m[1].value, &cursor, &choice);
    if (answer->has_choices) {
        read_choice(choice, answer);
    }
    answer->has_usage = aip_json_type(m[2].value) == '{';
    if (answer->has_usage) {
        read_usage(m[2].value, usage);
    }
    answer->has_error = m[3].value.data && aip_json_type(m[3].value) != 'n';
    return true;
}

double aip_usage_cost(const aip_usage_t *usage, double input_cost, double output_cost)
{
    if (usage->prompt_tokens < 0 || usage->completion_tokens < 0) {
        return 0.0;
    }
    return ((double)usage->prompt_tokens * input_cost +
            (double)usage->completion_tokens * output_cost) /
           1000000.0;
}
