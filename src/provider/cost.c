/* SPDX-License-Identifier: Apache-2.0 */
/* The price of an answer. Called once for each attempt whose answer was not kept back.
 *
 * A price is P x 10^-9 for 10^6 tokens, a factor F x 10^-6: tokens x P x F x F is the cost in units
 * of 10^-27, and 10^15 of these are 10^-12. All terms have that unit, so they are added before
 * anything is rounded. What does not fit 128 bits is 10^19 times what the result can hold. */
#include "aip/cost.h"

#include <apr_lib.h>
#include <string.h>

#define ONE 1000000u                     /* a factor of 1 */
#define UNITS_PER_PICO 1000000000000000u /* 10^15 */

__extension__ typedef unsigned __int128 wide_t;

typedef struct sum_t {
    wide_t units;
    bool overflown;
} sum_t;

static void add(sum_t *sum, apr_int64_t tokens, apr_uint64_t price, apr_uint64_t factor,
                apr_uint64_t tier)
{
    wide_t product = (wide_t)tokens * price; /* 63 + 64 bits */
    if (!product || !factor || !tier) {
        return;
    }
    sum->overflown = __builtin_mul_overflow(product, (wide_t)factor, &product) ||
                     __builtin_mul_overflow(product, (wide_t)tier, &product) ||
                     __builtin_add_overflow(sum->units, product, &sum->units) || sum->overflown;
}

static apr_int64_t to_pico(const sum_t *sum)
{
    wide_t pico = sum->units / UNITS_PER_PICO;
    pico += sum->units % UNITS_PER_PICO >= UNITS_PER_PICO / 2;
    return sum->overflown || pico > APR_INT64_MAX ? APR_INT64_MAX : (apr_int64_t)pico;
}

/* Where `word` stands in `text`, whatever the case; @param alone  no letter or digit next to it */
static bool mentions(const char *text, const char *word, bool alone)
{
    size_t len = strlen(word);
    for (const char *p = text; *p; p++) {
        if (strncasecmp(p, word, len) == 0 &&
            (!alone || ((p == text || !apr_isalnum(p[-1])) && !apr_isalnum(p[len])))) {
            return true;
        }
    }
    return false;
}

static apr_uint64_t tier_factor(const aip_rates_t *rates, const char *tier)
{
    apr_uint64_t factor = ONE;
    size_t longest = 0;
    for (int i = 0; tier && rates->tiers && i < rates->tiers->nelts; i++) {
        const aip_rate_t *rate = APR_ARRAY_IDX(rates->tiers, i, const aip_rate_t *);
        bool holds = mentions(tier, rate->name, false) ||
                     (strcasecmp(rate->name, "priority") == 0 && mentions(tier, "fast", true));
        if (holds && strlen(rate->name) > longest) {
            longest = strlen(rate->name);
            factor = rate->first;
        }
    }
    return factor;
}

/* The context window that a prompt is in: the highest threshold that it exceeds. */
static const aip_rate_t *window_of(const aip_rates_t *rates, apr_int64_t prompt_tokens)
{
    const aip_rate_t *window = NULL;
    for (int i = 0; rates->windows && i < rates->windows->nelts; i++) {
        const aip_rate_t *rate = APR_ARRAY_IDX(rates->windows, i, const aip_rate_t *);
        if (prompt_tokens > rate->above && (!window || rate->above > window->above)) {
            window = rate;
        }
    }
    return window;
}

/* Takes up to `count` tokens (less than 0: not told) off what is left. */
static apr_int64_t take(apr_int64_t *left, apr_int64_t count)
{
    apr_int64_t taken = count < 0 ? 0 : count < *left ? count : *left;
    *left -= taken;
    return taken;
}

bool aip_cost_known(const aip_rates_t *rates, const aip_usage_t *usage)
{
    return rates->priced && usage->prompt_tokens >= 0 && usage->completion_tokens >= 0;
}

apr_int64_t aip_cost_pico(const aip_rates_t *rates, const aip_usage_t *usage,
                          const char *service_tier)
{
    sum_t sum = {0};
    if (!aip_cost_known(rates, usage)) {
        return 0;
    }
    const aip_rate_t *window = window_of(rates, usage->prompt_tokens);
    apr_uint64_t in = window ? window->first : ONE, out = window ? window->second : ONE;
    apr_uint64_t tier = tier_factor(rates, service_tier);
    apr_int64_t plain = usage->prompt_tokens;
    apr_int64_t read = take(&plain, usage->cached_tokens);
    apr_int64_t written = take(&plain, usage->cache_write_tokens);
    apr_int64_t minutes = take(&written, usage->cache_write_5m_tokens);
    apr_int64_t hour = take(&written, usage->cache_write_1h_tokens);
    const apr_int64_t prompt[] = {plain, read, written, minutes, hour};
    const apr_uint64_t prices[] = {rates->input, rates->cache_read, rates->cache_write,
                                   rates->cache_write_5m, rates->cache_write_1h};
    for (size_t i = 0; i < sizeof prices / sizeof *prices; i++) {
        add(&sum, prompt[i], prices[i], in, tier);
    }
    add(&sum, usage->completion_tokens, rates->output, out, tier);
    return to_pico(&sum);
}
