/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the reader of answers, the estimate and the price. The first line is a number, the rest is
 * an answer, read twice as the chunks of a stream are. What must hold: the answer is read as by the
 * second reader in usage_other.h; what is read lies within the answer; counts are unknown or make
 * sense; an estimate leaves no count open; the price is no less than nothing, and a price that was
 * read is spelled as JSON does. */

#include "usage_other.h"

#include "aip/cost.h"

#include <apr_strings.h>

static void check_span(aip_span_t value, aip_span_t text)
{
    require(!value.data ||
            (value.data >= text.data && value.data + value.len <= text.data + text.len));
}

static void check_counts(const aip_usage_t *u, apr_int64_t least, apr_int64_t most)
{
    const apr_int64_t counts[] = {u->prompt_tokens,        u->completion_tokens,
                                  u->cached_tokens,        u->reasoning_tokens,
                                  u->cache_write_tokens,   u->cache_write_5m_tokens,
                                  u->cache_write_1h_tokens};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        require(counts[i] >= (i < 2 ? least : -1) && counts[i] <= 2 * most);
    require(u->total_tokens >= least && u->total_tokens <= 4 * most);
}

/* Who reads usage alone finds the same of it; of choices, too, if they are JSON. */
static void check_usage_alone(aip_span_t text)
{
    aip_usage_t all = AIP_USAGE_UNKNOWN, alone = AIP_USAGE_UNKNOWN;
    aip_answer_t a, b;
    const bool read = aip_answer_read(text, &a, &all);

    require(aip_answer_read_usage(text, true, &b, &alone) == read);
    require(all.prompt_tokens == alone.prompt_tokens && all.total_tokens == alone.total_tokens &&
            all.completion_tokens == alone.completion_tokens &&
            all.cached_tokens == alone.cached_tokens &&
            all.cache_write_tokens == alone.cache_write_tokens);
    require(a.has_usage == b.has_usage && a.has_error == b.has_error && a.id.data == b.id.data &&
            a.model.data == b.model.data && a.has_choices == b.has_choices);
    if (aip_json_validate(text, NULL) != AIP_JSON_OK)
        return;
    require(a.finish_reason.data == b.finish_reason.data);
    if (alone.prompt_tokens < 0 || alone.completion_tokens < 0)
        require(a.text_bytes == b.text_bytes);
}

/* Reads again what jansson reads as well. */
static void check_other(aip_span_t text)
{
    json_t *tree = json_loadb(text.data, text.len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    const bool shallow = aip_json_validate(text, NULL) != AIP_JSON_DEPTH;
    aip_usage_t usage = AIP_USAGE_UNKNOWN, before = usage;
    aip_answer_t answer;

    /* an array, and a NUL behind a number, are fine with jansson */
    if (json_is_object(tree) && shallow && !memchr(text.data, 0, text.len)) {
        for (int i = 0; i < 2; i++, before = usage) {
            require(aip_answer_read(text, &answer, &usage));
            other_answer(tree, &answer, &before, &usage);
        }
    } /* of what is no JSON some may be read: what is nested is not checked */
    json_decref(tree);
}

static void check(const char *number, aip_span_t text, apr_pool_t *pool)
{
    static const char messages[] = "[{\"role\":\"user\",\"content\":\"12345\"}]";
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    aip_answer_t answer;
    apr_size_t bytes = 0;
    aip_rates_t rates = {.priced = true};
    apr_uint64_t price;

    check_usage_alone(text);
    check_other(text);
    for (int i = 0; i < 2; i++) {
        aip_answer_read(text, &answer, &usage);
        check_span(answer.id, text);
        check_span(answer.model, text);
        check_span(answer.service_tier, text);
        check_span(answer.content, text);
        check_counts(&usage, -1, AIP_TOKENS_MAX);
        require(answer.text_bytes <= text.len);
        bytes += answer.text_bytes;
    }
    aip_usage_estimate(&usage, (aip_span_t){messages, sizeof messages - 1}, bytes, bytes / 2);
    check_counts(&usage, 0, AIP_TOKENS_MAX);
    if (aip_decimal_read(number, AIP_PRICE_DECIMALS, &price)) {
        require(aip_json_validate((aip_span_t){number, strlen(number)}, NULL) == AIP_JSON_OK);
        rates.input = rates.output = rates.cache_read = rates.cache_write = price;
    }
    require(aip_cost_pico(&rates, &usage, aip_json_string(answer.service_tier, pool)) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *number = fuzz_line(&data, &size), *text = fuzz_copy(data, size);

    check(number, (aip_span_t){text, size}, fuzz_pool());
    free(number);
    free(text);
    apr_pool_clear(fuzz_pool());
    return 0;
}
