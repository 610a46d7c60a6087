/* SPDX-License-Identifier: Apache-2.0 */
/* Prices: how they are read, which part of a prompt has which, factors, rounding, and sums that do
 * not fit; and the rows of t/data/costs.tsv, computed by another implementation. */
#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aip/cost.h"
#include "fields_fixture.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Suite *cost_suite(void);

static const struct {
    const char *text;
    int decimals;
    bool ok;
    apr_uint64_t value;
} decimals[] = {
    {"0", 9, true, 0},
    {"0.1", 9, true, 100000000},
    {"0.15", 2, true, 15},
    {"15e-2", 2, true, 15},
    {"1.5E-1", 2, true, 15},
    {"0.0015e+2", 2, true, 15},
    {"0.1500000000000000000000000000000000", 2, true, 15},
    {"100", 0, true, 100},
    {"1e2", 0, true, 100},
    {"1E+19", 0, true, 10000000000000000000u},
    {"18446744073709551615", 0, true, APR_UINT64_MAX},
    {"0e99999999999999999999", 9, true, 0},
    {"0.000e-99999999999999999999", 9, true, 0},
    {"0.000000001", 9, true, 1},
    {"1e-9", 9, true, 1},
    {"0.151", 2, false, 0},
    {"1e-10", 9, false, 0},
    {"0.0000000001", 9, false, 0},
    {"18446744073709551616", 0, false, 0},
    {"1e20", 0, false, 0},
    {"1e99999999999999999999", 9, false, 0},
    {"1e-99999999999999999999", 9, false, 0},
    {"123456789012345678901234567890", 9, false, 0},
    {"-1", 9, false, 0},
    {"-0", 9, false, 0},
    {"+1", 9, false, 0},
    {".5", 9, false, 0},
    {"5.", 9, false, 0},
    {"01", 9, false, 0},
    {"1e", 9, false, 0},
    {"0x10", 9, false, 0},
    {"nan", 9, false, 0},
    {"true", 9, false, 0},
    {"\"1\"", 9, false, 0},
    {"1 ", 9, false, 0},
    {" 1", 9, false, 0},
    {"1,5", 9, false, 0},
    {"", 9, false, 0},
};

START_TEST(reads_decimals)
{
    apr_uint64_t value = 0;
    bool ok = aip_decimal_read(decimals[_i].text, decimals[_i].decimals, &value);
    ck_assert_msg(ok == decimals[_i].ok, "'%s' is %d", decimals[_i].text, ok);
    ck_assert_msg(!ok || value == decimals[_i].value, "'%s' is %" APR_UINT64_T_FMT,
                  decimals[_i].text, value);
}
END_TEST

static const struct {
    const char *directive, *args; /* separated by '|', further lines by ';' */
    const char *shown, *error;
} lines[] = {
    {"AIModelOptionsInputCost", "0.123456789", "0.123456789=0.123457", NULL},
    {"AIModelOptionsInputCost", "0.1234567891", NULL,
     "AIModelOptionsInputCost: '0.1234567891' must be a number from 0 to 1000000000 with at most 9 "
     "decimals"},
    {"AIModelOptionsCacheReadCost", "1e-10", NULL, "at most 9 decimals"},
    {"AIModelOptionsCacheWriteCost", "1000000001", NULL, "a number from 0 to 1000000000"},
    {"AIModelOptionsCacheWriteCostList", "5m|3.75", "5m 3.75", NULL},
    {"AIModelOptionsCacheWriteCostList", "5m|3.75;1h|6", "5m 3.75|1h 6", NULL},
    {"AIModelOptionsCacheWriteCostList", "5m|3.75;5m|3.75", NULL,
     "AIModelOptionsCacheWriteCostList: '5m 3.75' is about the same as '5m 3.75'"},
    {"AIModelOptionsCacheWriteCostList", "5M|3.75", NULL, "the lifetime '5M' must be 5m or 1h"},
    {"AIModelOptionsCacheWriteCostList", "|3.75", NULL, "the lifetime '' must be 5m or 1h"},
    {"AIModelOptionsCacheWriteCostList", "5m", NULL,
     "AIModelOptionsCacheWriteCostList takes one TTL COST a line"},
    {"AIModelOptionsCacheWriteCostList", "5m|1|2", NULL, "takes one TTL COST"},
    {"AIModelOptionsCacheWriteCostList", "5m|-1", NULL,
     "the cost '-1' must be a number from 0 to 1000000000 with at most 9 decimals"},
    {"AIModelOptionsCacheWriteCostList", "5m|1000000001", NULL, "the cost '1000000001'"},
    {"AIModelOptionsContextWindowFactor", "200000|2|1.5", "200000 2 1.5", NULL},
    {"AIModelOptionsContextWindowFactor", "1|0|1000", "1 0 1000", NULL},
    {"AIModelOptionsContextWindowFactor", "1000000000000|1|1", "1000000000000 1 1", NULL},
    {"AIModelOptionsContextWindowFactor", "200000|2|1.5;200000|1|1", NULL, "is about the same as"},
    {"AIModelOptionsContextWindowFactor", "0|2|1.5", NULL,
     "the threshold '0' must be a whole number of tokens from 1"},
    {"AIModelOptionsContextWindowFactor", "1000000000001|2|1.5", NULL, "the threshold"},
    {"AIModelOptionsContextWindowFactor", "99999999999999999999|2|1.5", NULL, "the threshold"},
    {"AIModelOptionsContextWindowFactor", "200k|2|1.5", NULL, "the threshold '200k'"},
    {"AIModelOptionsContextWindowFactor", "-1|2|1.5", NULL, "the threshold '-1'"},
    {"AIModelOptionsContextWindowFactor", "|2|1.5", NULL, "the threshold ''"},
    {"AIModelOptionsContextWindowFactor", "1|1000.000001|1", NULL,
     "the factor '1000.000001' must be a number from 0 to 1000 with at most 6 decimals"},
    {"AIModelOptionsContextWindowFactor", "1|1|0.0000001", NULL, "the factor '0.0000001'"},
    {"AIModelOptionsContextWindowFactor", "1|1", NULL,
     "takes one ABOVE INPUT_FACTOR OUTPUT_FACTOR"},
    {"AIModelOptionsServiceTierFactor", "flex|0.5", "flex 0.5", NULL},
    {"AIModelOptionsServiceTierFactor", "a \"tier\"|0.5", "\"a \\\"tier\\\"\" 0.5", NULL},
    {"AIModelOptionsServiceTierFactor", "flex|0.5;FLEX|1", NULL, "'FLEX 1' is about the same as"},
    {"AIModelOptionsServiceTierFactor", "|0.5", NULL, "the name of the tier must not be empty"},
    {"AIModelOptionsServiceTierFactor", "flex|x", NULL, "the factor 'x'"},
    {"AIModelOptionsServiceTierFactor", NULL, NULL, "takes one TIER FACTOR"},
    {"AIModelOptionsServiceTierFactor", "flex", NULL, "takes one TIER FACTOR"},
};

/* Sets lines of one directive; the first error ends it. */
static const char *set_lines(const char *directive, const char *text)
{
    char *state = NULL, *copy = apr_pstrdup(pool, text ? text : "");
    const char *error = text ? NULL : set(directive, NULL);
    for (char *line = apr_strtok(copy, ";", &state); line && !error;
         line = apr_strtok(NULL, ";", &state)) {
        error = set(directive, line);
    }
    return error;
}

START_TEST(reads_lines)
{
    const char *error = set_lines(lines[_i].directive, lines[_i].args);
    if (lines[_i].error) {
        ck_assert_msg(error && strstr(error, lines[_i].error), "%s: %s", lines[_i].args, error);
        ck_assert(strncmp(error, lines[_i].directive, strlen(lines[_i].directive)) == 0);
        return;
    }
    const aip_field_t *row = row_of(lines[_i].directive);
    ck_assert_msg(!error, "%s", error);
    ck_assert(is_set(row));
    ck_assert_str_eq(shown(row, &target), lines[_i].shown);
}
END_TEST

/* "Directive args;..." without AIModelOptions: "InputCost 1;CacheWriteCostList 5m|2". */
static aip_rates_t rates_of(const char *settings)
{
    char *state = NULL, *copy = apr_pstrdup(pool, settings);
    for (char *line = apr_strtok(copy, ";", &state); line; line = apr_strtok(NULL, ";", &state)) {
        char *args = strchr(line, ' ');
        *args++ = '\0';
        const char *error = set(apr_pstrcat(pool, "AIModelOptions", line, NULL), args);
        ck_assert_msg(!error, "%s", error);
    }
    return aip_rates_of(&target);
}

#define PRICES "InputCost 2;OutputCost 10;"
#define TIERS                                                                                      \
    PRICES "ServiceTierFactor flex|0.5;ServiceTierFactor flexible|3;ServiceTierFactor priority|2"

static const struct {
    const char *name, *settings;
    /* prompt, completion, cached, written, of 5m, of 1h */
    apr_int64_t counts[6];
    const char *tier;
    apr_int64_t pico;
} costs[] = {
    {"the formula", PRICES, {1000, 200, -1, -1, -1, -1}, NULL, 4000000000},
    {"Kong's example", "InputCost 1.0;OutputCost 2.0", {25, 12, -1, -1, -1, -1}, NULL, 49000000},
    {"0.1 + 0.2 is 0.3",
     "InputCost 0.1;OutputCost 0.2",
     {1000000, 1000000, -1, -1, -1, -1},
     NULL,
     300000000000},
    {"three times 0.1",
     "InputCost 0.1;OutputCost 0.1",
     {3000000, 0, -1, -1, -1, -1},
     NULL,
     300000000000},
    {"0.7 x 1.1",
     "InputCost 0.7;OutputCost 1;ContextWindowFactor 1|1.1|1",
     {1000000, 0, -1, -1, -1, -1},
     NULL,
     770000000000},
    {"what a double cannot hold",
     "InputCost 999999999.999999999;OutputCost 0.000000001",
     {1000, 1, -1, -1, -1, -1},
     NULL,
     999999999999999999},
    {"rounded down", "InputCost 0.000000499;OutputCost 1", {1, 0, -1, -1, -1, -1}, NULL, 0},
    {"half a unit is rounded up",
     "InputCost 0.0000005;OutputCost 1",
     {1, 0, -1, -1, -1, -1},
     NULL,
     1},
    {"and once for the sum",
     "InputCost 0.0000005;OutputCost 0.0000005",
     {1, 1, -1, -1, -1, -1},
     NULL,
     1},
    {"no prices", "", {1000, 200, -1, -1, -1, -1}, NULL, 0},
    {"one price", "InputCost 1", {1000, 200, -1, -1, -1, -1}, NULL, 0},
    {"the prompt is not known", PRICES, {-1, 200, -1, -1, -1, -1}, NULL, 0},
    {"the completion is not known", PRICES, {1000, -1, -1, -1, -1, -1}, NULL, 0},
    {"nothing was used", PRICES, {0, 0, -1, -1, -1, -1}, NULL, 0},
    {"cached tokens without a price of theirs",
     PRICES,
     {1000, 0, 400, 100, -1, -1},
     NULL,
     2000000000},
    {"cached tokens", PRICES "CacheReadCost 0.5", {1000, 0, 400, -1, -1, -1}, NULL, 1400000000},
    {"cached tokens for free",
     PRICES "CacheReadCost 0",
     {1000, 0, 400, -1, -1, -1},
     NULL,
     1200000000},
    {"written tokens", PRICES "CacheWriteCost 4", {1000, 0, -1, 100, -1, -1}, NULL, 2200000000},
    {"more cached than there are",
     PRICES "CacheReadCost 0.5",
     {1000, 0, 4000, -1, -1, -1},
     NULL,
     500000000},
    {"cached first, then written",
     PRICES "CacheReadCost 0.5;CacheWriteCost 4",
     {1000, 0, 900, 400, -1, -1},
     NULL,
     850000000},
    {"lifetimes",
     PRICES "CacheWriteCost 4;CacheWriteCostList 5m|3;CacheWriteCostList 1h|6",
     {1000, 0, -1, 300, 100, 150},
     NULL,
     2800000000},
    {"a lifetime without a line",
     PRICES "CacheWriteCost 4;CacheWriteCostList 1h|6",
     {1000, 0, -1, 300, 100, 200},
     NULL,
     3000000000},
    {"lifetimes alone",
     PRICES "CacheWriteCostList 1h|6",
     {1000, 0, -1, 300, 100, 200},
     NULL,
     2800000000},
    {"lifetimes that are more than the sum",
     PRICES "CacheWriteCostList 5m|3;CacheWriteCostList 1h|6",
     {1000, 0, -1, 300, 200, 200},
     NULL,
     2600000000},
    {"a window is entered above its threshold",
     PRICES "ContextWindowFactor 1000|2|1.5",
     {1000, 200, -1, -1, -1, -1},
     NULL,
     4000000000},
    {"and then holds for all",
     PRICES "ContextWindowFactor 1000|2|1.5",
     {1001, 200, -1, -1, -1, -1},
     NULL,
     7004000000},
    {"the highest of several, in any order",
     PRICES
     "ContextWindowFactor 1000|2|1.5;ContextWindowFactor 5000|4|3;ContextWindowFactor 10|9|9",
     {5001, 0, -1, -1, -1, -1},
     NULL,
     40008000000},
    {"a window and the cache",
     PRICES "CacheReadCost 0.5;ContextWindowFactor 500|2|1",
     {1000, 0, 400, -1, -1, -1},
     NULL,
     2800000000},
    {"no tier is reported", TIERS, {1000, 0, -1, -1, -1, -1}, NULL, 2000000000},
    {"another tier", TIERS, {1000, 0, -1, -1, -1, -1}, "default", 2000000000},
    {"its tier", TIERS, {1000, 200, -1, -1, -1, -1}, "flex", 2000000000},
    {"whatever the case, within a word", TIERS, {1000, 0, -1, -1, -1, -1}, "x-FLEX2", 1000000000},
    {"the longest wins", TIERS, {1000, 0, -1, -1, -1, -1}, "flexible", 6000000000},
    {"priority", TIERS, {1000, 0, -1, -1, -1, -1}, "on_demand_priority", 4000000000},
    {"priority is also called fast", TIERS, {1000, 0, -1, -1, -1, -1}, "Fast", 4000000000},
    {"fast among words", TIERS, {1000, 0, -1, -1, -1, -1}, "very-fast", 4000000000},
    {"fast as a part of a word", TIERS, {1000, 0, -1, -1, -1, -1}, "breakfast", 2000000000},
    {"priority beats the shorter flex", TIERS, {1000, 0, -1, -1, -1, -1}, "fast flex", 4000000000},
    {"an empty tier", TIERS, {1000, 0, -1, -1, -1, -1}, "", 2000000000},
    {"a tier for free",
     PRICES "ServiceTierFactor free|0",
     {AIP_TOKENS_MAX, 1, -1, -1, -1, -1},
     "free",
     0},
    {"the largest cost",
     "InputCost 9223372.036854775;OutputCost 0.000000807",
     {1000000, 1000, -1, -1, -1, -1},
     NULL,
     APR_INT64_MAX},
    {"one less",
     "InputCost 9223372.036854775;OutputCost 0.000000806",
     {1000000, 1000, -1, -1, -1, -1},
     NULL,
     APR_INT64_MAX - 1},
    {"too large",
     "InputCost 9223372.036854775;OutputCost 0.000000808",
     {1000000, 1000, -1, -1, -1, -1},
     NULL,
     APR_INT64_MAX},
    {"far too large",
     "InputCost 1000000000;OutputCost 1000000000;ContextWindowFactor 1|1000|1000;"
     "ServiceTierFactor x|1000",
     {APR_INT64_MAX, APR_INT64_MAX, -1, -1, -1, -1},
     "x",
     APR_INT64_MAX},
};

static aip_usage_t usage_of(const apr_int64_t *counts)
{
    aip_usage_t usage = AIP_USAGE_UNKNOWN;
    usage.prompt_tokens = counts[0];
    usage.completion_tokens = counts[1];
    usage.cached_tokens = counts[2];
    usage.cache_write_tokens = counts[3];
    usage.cache_write_5m_tokens = counts[4];
    usage.cache_write_1h_tokens = counts[5];
    return usage;
}

START_TEST(prices)
{
    aip_rates_t rates = rates_of(costs[_i].settings);
    aip_usage_t usage = usage_of(costs[_i].counts);
    apr_int64_t pico = aip_cost_pico(&rates, &usage, costs[_i].tier);
    ck_assert_msg(pico == costs[_i].pico, "%s: %" APR_INT64_T_FMT, costs[_i].name, pico);
}
END_TEST

/* The columns of costs.tsv. */
enum {
    INPUT,
    OUTPUT,
    READ,
    WRITE,
    WRITE_5M,
    WRITE_1H,
    ABOVE,
    IN_FACTOR,
    OUT_FACTOR,
    TIER,
    FACTOR,
    PROMPT,
    REPORTED = PROMPT + 6,
    PICO,
    COLUMNS
};

static aip_rates_t rates_of_row(char *const *row)
{
    const char *text = "";
    static const char *const names[] = {"InputCost %s;",
                                        "OutputCost %s;",
                                        "CacheReadCost %s;",
                                        "CacheWriteCost %s;",
                                        "CacheWriteCostList 5m|%s;",
                                        "CacheWriteCostList 1h|%s;"};
    aip_target_defaults(&target, pool);
    for (int i = INPUT; i <= WRITE_1H; i++) {
        const char *line = strcmp(row[i], "-") ? apr_psprintf(pool, names[i], row[i]) : "";
        text = apr_pstrcat(pool, text, line, NULL);
    }
    if (strcmp(row[ABOVE], "-") != 0) {
        text = apr_pstrcat(pool, text, "ContextWindowFactor ", row[ABOVE], "|", row[IN_FACTOR], "|",
                           row[OUT_FACTOR], ";", NULL);
    }
    if (strcmp(row[TIER], "-") != 0) {
        text = apr_pstrcat(pool, text, "ServiceTierFactor ", row[TIER], "|", row[FACTOR], NULL);
    }
    return rates_of(text);
}

START_TEST(agrees_with_decimal)
{
    const char *top = getenv("AIP_SRCDIR");
    char line[1024], *row[COLUMNS];
    int n = 0;
    FILE *file = fopen(apr_pstrcat(pool, top ? top : ".", "/t/data/costs.tsv", NULL), "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file)) {
        int i = 0;
        char *state = NULL;
        for (char *word = apr_strtok(line, "\t\n", &state); word && i < COLUMNS;
             word = apr_strtok(NULL, "\t\n", &state)) {
            row[i++] = word;
        }
        if (i < COLUMNS || strcmp(row[INPUT], "input") == 0) {
            continue;
        }
        apr_int64_t counts[6];
        for (int k = 0; k < 6; k++) {
            counts[k] = apr_atoi64(row[PROMPT + k]);
        }
        aip_rates_t rates = rates_of_row(row);
        aip_usage_t usage = usage_of(counts);
        apr_int64_t pico = aip_cost_pico(&rates, &usage, row[REPORTED]);
        ck_assert_msg(pico == apr_atoi64(row[PICO]), "row %d: %" APR_INT64_T_FMT ", not %s", n,
                      pico, row[PICO]);
        n++;
    }
    fclose(file);
    ck_assert_int_ge(n, 200);
}
END_TEST

Suite *cost_suite(void)
{
    Suite *suite = suite_create("cost");
    TCase *tcase = tcase_create("cost");
    tcase_add_checked_fixture(tcase, setup, pool_teardown);
    tcase_add_loop_test(tcase, reads_decimals, 0, (int)COUNT(decimals));
    tcase_add_loop_test(tcase, reads_lines, 0, (int)COUNT(lines));
    tcase_add_loop_test(tcase, prices, 0, (int)COUNT(costs));
    tcase_add_test(tcase, agrees_with_decimal);
    suite_add_tcase(suite, tcase);
    return suite;
}
