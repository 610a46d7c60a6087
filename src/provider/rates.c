/* SPDX-License-Identifier: Apache-2.0 */
/* Prices and factors as the configuration spells them. Runs while the configuration is read. */
#include "aip/cost.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define EXPONENT_MAX 10000 /* larger ones come to the same */
#define ABOVE_MAX 1000000000000

/* The digits of a number, as mantissa x 10^exponent with no zero at the mantissa's end. @return
 * false when they do not fit */
static bool read_digits(const char **p, apr_uint64_t *mantissa, long *exponent)
{
    bool behind = false;
    int zeros = 0;
    *mantissa = 0;
    *exponent = 0;
    for (; apr_isdigit(**p) || **p == '.'; ++*p) {
        if (**p == '.') {
            behind = true;
            continue;
        }
        *exponent -= behind;
        zeros++;
        if (**p == '0') {
            continue;
        }
        for (; zeros > 0; zeros--) {
            if (__builtin_mul_overflow(*mantissa, 10u, mantissa)) {
                return false;
            }
        }
        if (__builtin_add_overflow(*mantissa, (apr_uint64_t)(**p - '0'), mantissa)) {
            return false;
        }
    }
    *exponent += zeros;
    return true;
}

bool aip_decimal_read(const char *json, int decimals, apr_uint64_t *value)
{
    aip_span_t text = {json, strlen(json)};
    apr_uint64_t n;
    long exponent;
    if (aip_json_type(text) != '0' || *json == '-' || !apr_isdigit(json[text.len - 1]) ||
        aip_json_validate(text, NULL) != AIP_JSON_OK || !read_digits(&json, &n, &exponent)) {
        return false;
    }
    long written = *json ? strtol(json + 1, NULL, 10) : 0;
    written = written > EXPONENT_MAX ? EXPONENT_MAX : written;
    written = written < -EXPONENT_MAX ? -EXPONENT_MAX : written;
    exponent += written + decimals;
    for (; n && exponent > 0; exponent--) {
        if (__builtin_mul_overflow(n, 10u, &n)) {
            return false;
        }
    }
    *value = n;
    return n == 0 || exponent == 0;
}

static const char *read_price(const char *text, apr_uint64_t *value, apr_pool_t *pool)
{
    return aip_decimal_read(text, AIP_PRICE_DECIMALS, value) &&
                   *value <= AIP_PRICE_MAX * APR_UINT64_C(1000000000)
               ? NULL
               : apr_psprintf(
                     pool, "the cost '%s' must be a number from 0 to %d with at most %d decimals",
                     text, AIP_PRICE_MAX, AIP_PRICE_DECIMALS);
}

static const char *read_factor(const char *text, apr_uint64_t *value, apr_pool_t *pool)
{
    return aip_decimal_read(text, AIP_FACTOR_DECIMALS, value) &&
                   *value <= AIP_FACTOR_MAX * APR_UINT64_C(1000000)
               ? NULL
               : apr_psprintf(
                     pool, "the factor '%s' must be a number from 0 to %d with at most %d decimals",
                     text, AIP_FACTOR_MAX, AIP_FACTOR_DECIMALS);
}

static const char *parse_write_cost(aip_rate_t *rate, char *const argv[], apr_pool_t *pool)
{
    if (strcmp(argv[0], "5m") != 0 && strcmp(argv[0], "1h") != 0) {
        return apr_psprintf(pool, "the lifetime '%s' must be 5m or 1h", argv[0]);
    }
    rate->name = apr_pstrdup(pool, argv[0]);
    return read_price(argv[1], &rate->first, pool);
}

static const char *parse_window(aip_rate_t *rate, char *const argv[], apr_pool_t *pool)
{
    char *end;
    rate->above = apr_strtoi64(argv[0], &end, 10);
    if (!apr_isdigit(*argv[0]) || *end || rate->above < 1 || rate->above > ABOVE_MAX) {
        return apr_psprintf(pool, "the threshold '%s' must be a whole number of tokens from 1",
                            argv[0]);
    }
    const char *error = read_factor(argv[1], &rate->first, pool);
    return error ? error : read_factor(argv[2], &rate->second, pool);
}

static const char *parse_tier(aip_rate_t *rate, char *const argv[], apr_pool_t *pool)
{
    if (!*argv[0]) {
        return "the name of the tier must not be empty";
    }
    rate->name = apr_pstrdup(pool, argv[0]);
    return read_factor(argv[1], &rate->first, pool);
}

static const struct {
    const char *words, *shown;
    int args;
    const char *(*parse)(aip_rate_t *rate, char *const argv[], apr_pool_t *pool);
} kinds[] = {{"TTL|COST", "takes one TTL COST a line, for instance 5m 3.75", 2, parse_write_cost},
             {"ABOVE|INPUT_FACTOR|OUTPUT_FACTOR",
              "takes one ABOVE INPUT_FACTOR OUTPUT_FACTOR a line, for instance 200000 2 1.5", 3,
              parse_window},
             {"TIER|FACTOR", "takes one TIER FACTOR a line, for instance flex 0.5", 2, parse_tier}};

const aip_rate_t *aip_rate_parse(const char *words, int argc, char *const argv[], apr_pool_t *pool,
                                 const char **error)
{
    aip_rate_t *rate = apr_pcalloc(pool, sizeof *rate);
    rate->text = "";
    for (int i = 0; i < argc; i++) {
        rate->text =
            apr_pstrcat(pool, rate->text, i ? " " : "", aip_field_argument(argv[i], pool), NULL);
    }
    *error = "unknown";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(words, kinds[i].words) == 0) {
            *error = argc == kinds[i].args ? kinds[i].parse(rate, argv, pool) : kinds[i].shown;
        }
    }
    return *error ? NULL : rate;
}

bool aip_rate_same(const aip_rate_t *a, const aip_rate_t *b)
{
    return a->above == b->above &&
           (a->name && b->name ? strcasecmp(a->name, b->name) == 0 : a->name == b->name);
}

/* A price of the fields, which the table has checked; or that of what it is a part of. */
static apr_uint64_t price_or(bool set, aip_number_t number, apr_uint64_t otherwise)
{
    apr_uint64_t value;
    return set && aip_decimal_read(number.json, AIP_PRICE_DECIMALS, &value) ? value : otherwise;
}

static apr_uint64_t of_lifetime(const apr_array_header_t *list, const char *ttl,
                                apr_uint64_t otherwise)
{
    for (int i = 0; list && i < list->nelts; i++) {
        const aip_rate_t *rate = APR_ARRAY_IDX(list, i, const aip_rate_t *);
        if (strcmp(rate->name, ttl) == 0) {
            return rate->first;
        }
    }
    return otherwise;
}

aip_rates_t aip_rates_of(const aip_target_fields_t *f)
{
    aip_rates_t rates = {.priced = f->set[AIP_T_input_cost] && f->set[AIP_T_output_cost],
                         .input = price_or(f->set[AIP_T_input_cost], f->input_cost, 0),
                         .output = price_or(f->set[AIP_T_output_cost], f->output_cost, 0),
                         .windows = f->context_window_factor,
                         .tiers = f->service_tier_factor};
    rates.cache_read = price_or(f->set[AIP_T_cache_read_cost], f->cache_read_cost, rates.input);
    rates.cache_write = price_or(f->set[AIP_T_cache_write_cost], f->cache_write_cost, rates.input);
    rates.cache_write_5m = of_lifetime(f->cache_write_cost_list, "5m", rates.cache_write);
    rates.cache_write_1h = of_lifetime(f->cache_write_cost_list, "1h", rates.cache_write);
    return rates;
}
