/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what the gateway wants to know of an answer: model, first choice, token usage, error.
 * Called with whole responses and with the data of each stream chunk. Providers differ in where and
 * how often they tell usage (on the last chunk with content, on one of its own, in parts, as null):
 * all of it is folded into one record, and nothing here fails an answer. */

#include "said.h"

#include <string.h>

static aip_span_t string_or_none(aip_span_t value)
{
    return aip_json_type(value) == '"' ? value : (aip_span_t){NULL, 0};
}

/* Takes a count that is there and makes sense. @return whether it has changed */
static bool fold(aip_span_t value, apr_int64_t *count)
{
    apr_int64_t n, before = *count;

    if (aip_json_int64(value, &n) && n >= 0 && n <= AIP_TOKENS_MAX) {
        *count = n;
    }
    return *count != before;
}

static bool find_in(aip_span_t value, const aip_span_t *names, size_t n, aip_json_member_t *m)
{
    memset(m, 0, n * sizeof *m);
    return aip_json_type(value) == '{' && aip_members_find(value, names, n, m);
}

/* Members of usage. */
enum {
    PROMPT,
    COMPLETION,
    TOTAL,
    PROMPT_PARTS,
    COMPLETION_PARTS,
    HIT,
    READ,
    CREATED,
    BY_TTL,
    COUNT
};

/* Tokens read from and written to the provider's cache have several spellings; the last that is
 * there wins, which is OpenAI's own. */
static void read_cache(const aip_json_member_t m[COUNT], aip_usage_t *usage)
{
    static const aip_span_t in_details[] = {AIP_NAME("cached_tokens"),
                                            AIP_NAME("cache_creation_tokens"),
                                            AIP_NAME("cache_write_tokens")};
    static const aip_span_t lifetimes[] = {AIP_NAME("ephemeral_5m_input_tokens"),
                                           AIP_NAME("ephemeral_1h_input_tokens")};
    aip_json_member_t d[3], t[2];
    apr_int64_t written = -1, *of_5m = &usage->cache_write_5m_tokens,
                *of_1h = &usage->cache_write_1h_tokens;
    find_in(m[PROMPT_PARTS].value, in_details, 3, d);
    fold(m[HIT].value, &usage->cached_tokens);
    fold(m[READ].value, &usage->cached_tokens);
    fold(d[0].value, &usage->cached_tokens);
    fold(m[CREATED].value, &written);
    fold(d[1].value, &written);
    fold(d[2].value, &written);
    if (find_in(m[BY_TTL].value, lifetimes, 2, t)) {
        bool changed = fold(t[0].value, of_5m);
        changed = fold(t[1].value, of_1h) || changed;
        if (changed && written < 0) {
            written = (*of_5m > 0 ? *of_5m : 0) + (*of_1h > 0 ? *of_1h : 0);
        }
    }
    usage->cache_write_tokens = written >= 0 ? written : usage->cache_write_tokens;
}

static void read_usage(aip_span_t json, aip_usage_t *usage)
{
    static const aip_span_t names[COUNT] = {
        [PROMPT] = AIP_NAME("prompt_tokens"),
        [COMPLETION] = AIP_NAME("completion_tokens"),
        [TOTAL] = AIP_NAME("total_tokens"),
        [PROMPT_PARTS] = AIP_NAME("prompt_tokens_details"),
        [COMPLETION_PARTS] = AIP_NAME("completion_tokens_details"),
        [HIT] = AIP_NAME("prompt_cache_hit_tokens"),
        [READ] = AIP_NAME("cache_read_input_tokens"),
        [CREATED] = AIP_NAME("cache_creation_input_tokens"),
        [BY_TTL] = AIP_NAME("cache_creation"),
    };
    static const aip_span_t reasoning[] = {AIP_NAME("reasoning_tokens")};
    aip_json_member_t m[COUNT], r;
    apr_int64_t total = -1;
    bool changed;

    if (!aip_members_find(json, names, COUNT, m)) {
        return;
    }
    changed = fold(m[PROMPT].value, &usage->prompt_tokens);
    changed = fold(m[COMPLETION].value, &usage->completion_tokens) || changed;
    read_cache(m, usage);
    if (find_in(m[COMPLETION_PARTS].value, reasoning, 1, &r)) {
        fold(r.value, &usage->reasoning_tokens);
    }
    if (fold(m[TOTAL].value, &total)) {
        usage->total_tokens = total;
    } else if ((changed || usage->total_tokens < 0) && usage->prompt_tokens >= 0 &&
               usage->completion_tokens >= 0) {
        /* No total with these counts: one that came with earlier counts would be out of date. */
        usage->total_tokens = usage->prompt_tokens + usage->completion_tokens;
    }
}

static void read_choice(aip_span_t choice, bool first, aip_answer_t *answer)
{
    static const aip_span_t names[] = {AIP_NAME("finish_reason"), AIP_NAME("message"),
                                       AIP_NAME("delta")};
    aip_json_member_t m[3];

    if (!find_in(choice, names, 3, m)) {
        return;
    }
    aip_said_t message = aip_said_read(m[1].value), delta = aip_said_read(m[2].value);
    answer->brings = answer->brings || delta.brings;
    answer->text_bytes += message.bytes + delta.bytes;
    if (first) {
        answer->finish_reason = string_or_none(m[0].value);
        answer->content = message.content.data ? message.content : delta.content;
    }
}

/* Whether a value that is known to be an array has an item. */
static bool has_item(aip_span_t array)
{
    size_t at = 1;
    while (at < array.len && strchr(" \t\r\n", array.data[at])) {
        at++;
    }
    return at < array.len && array.data[at] != ']';
}

/* What of the choices cannot be read may be what the model says. */
static void read_choices(aip_span_t choices, aip_answer_t *answer)
{
    const char *cursor = NULL;
    aip_span_t choice;
    bool first = true;
    answer->has_choices = has_item(choices);
    while (aip_json_array_next(choices, &cursor, &choice)) {
        read_choice(choice, first, answer);
        first = false;
    }
    bool unread = answer->has_choices && !cursor;
    answer->speaks = answer->brings || answer->finish_reason.data || unread;
}

/* Why the first choice has ended, without a look at what it says. */
static aip_span_t first_finish(aip_span_t choices)
{
    static const aip_span_t names[] = {AIP_NAME("finish_reason")};
    aip_json_member_t m[1];
    return aip_json_first_skim(choices, names, 1, m) ? string_or_none(m[0].value)
                                                     : (aip_span_t){NULL, 0};
}

typedef enum choices_e {
    ALL,    /* are read */
    FINISH, /* only how the first one ends, unless usage has to be estimated */
    NONE    /* unless usage has to be estimated */
} choices_e;

static bool read_answer(aip_span_t json, choices_e choices, aip_answer_t *answer,
                        aip_usage_t *usage)
{
    static const aip_span_t names[] = {AIP_NAME("model"),        AIP_NAME("choices"),
                                       AIP_NAME("usage"),        AIP_NAME("error"),
                                       AIP_NAME("service_tier"), AIP_NAME("id")};
    aip_json_member_t m[6];

    *answer = (aip_answer_t){0};
    if (!aip_members_find(json, names, 6, m)) {
        return false;
    }
    answer->id = string_or_none(m[5].value);
    answer->model = string_or_none(m[0].value);
    answer->service_tier = string_or_none(m[4].value);
    answer->is_chunk = aip_json_type(m[1].value) == '[';
    answer->has_usage = aip_json_type(m[2].value) == '{';
    if (answer->has_usage) {
        read_usage(m[2].value, usage);
    }
    if (choices != ALL && usage->prompt_tokens >= 0 && usage->completion_tokens >= 0) {
        answer->has_choices = answer->is_chunk && has_item(m[1].value);
        if (choices == FINISH && answer->has_choices) {
            answer->finish_reason = first_finish(m[1].value);
        }
    } else if (answer->is_chunk) {
        read_choices(m[1].value, answer);
    }
    answer->has_error = m[3].value.data && aip_json_type(m[3].value) != 'n';
    return true;
}

bool aip_answer_read(aip_span_t json, aip_answer_t *answer, aip_usage_t *usage)
{
    return read_answer(json, ALL, answer, usage);
}

bool aip_answer_read_usage(aip_span_t json, bool finish, aip_answer_t *answer, aip_usage_t *usage)
{
    return read_answer(json, finish ? FINISH : NONE, answer, usage);
}
