/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_COST_H
#define AIP_COST_H
/* What an answer costs, in exact decimal arithmetic: prices and factors are whole numbers of a
 * fixed small unit, read from their decimal spelling, and one division at the end rounds once.
 * Pure; thread-safe. */

#include "aip/fields.h"
#include "aip/usage.h"

/** Digits behind the point that a price, and a factor, may have. */
#define AIP_PRICE_DECIMALS 9
#define AIP_FACTOR_DECIMALS 6

/** Largest price, and factor. */
#define AIP_PRICE_MAX 1000000000
#define AIP_FACTOR_MAX 1000

/**
 * Reads a JSON number, in any spelling (0.15, 1.5E-1), as a multiple of 10^-decimals.
 * @return false when it is no JSON number, is negative, has more decimals, or does not fit
 */
bool aip_decimal_read(const char *json, int decimals, apr_uint64_t *value);

/** One line of a list of prices or factors. */
typedef struct aip_rate_t {
    const char *text;           /**< as it would be written, one blank between the words */
    const char *name;           /**< "5m" or "1h", or the tier; NULL: a context window */
    apr_int64_t above;          /**< prompt tokens that a context window begins above */
    apr_uint64_t first, second; /**< the cost, the factor, or input and output factor */
} aip_rate_t;

/**
 * Reads the arguments of a line. @param words  what they are, as in the table of fields:
 * "TTL|COST", "ABOVE|INPUT_FACTOR|OUTPUT_FACTOR" or "TIER|FACTOR"
 * @return NULL when `error` says what is wrong; both are allocated in `pool`
 */
const aip_rate_t *aip_rate_parse(const char *words, int argc, char *const argv[], apr_pool_t *pool,
                                 const char **error);

/** Whether both lines are about the same lifetime, threshold or tier. */
bool aip_rate_same(const aip_rate_t *a, const aip_rate_t *b);

/** The prices of a target. What has no price of its own has that of any prompt token. */
typedef struct aip_rates_t {
    bool priced; /**< prompt and completion tokens have a price */
    apr_uint64_t input, output, cache_read, cache_write, cache_write_5m, cache_write_1h;
    const apr_array_header_t *windows, *tiers; /**< const aip_rate_t *; NULL: none */
} aip_rates_t;

/** The prices that a target's fields name; refers to their lists. */
aip_rates_t aip_rates_of(const aip_target_fields_t *fields);

/** Whether the usage has a price. */
bool aip_cost_known(const aip_rates_t *rates, const aip_usage_t *usage);

/**
 * The price of an answer in 10^-12 of the currency, rounded once, half up; APR_INT64_MAX when it is
 * larger. Cached and cache-write tokens are parts of the prompt tokens; counts that claim more are
 * cut. 0 when it is not known.
 * @param service_tier  that the provider reported, or NULL
 */
apr_int64_t aip_cost_pico(const aip_rates_t *rates, const aip_usage_t *usage,
                          const char *service_tier);

#endif
