/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses as providers ask for them, in every spelling seen, and those that mean nothing. */
#include "aip/retry_after.h"

#include <apr_general.h>
#include <check.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW apr_time_from_sec(1795000000) /* Wed, 18 Nov 2026 11:06:40 GMT */
#define YEARS 315360000000.0              /* ten, in milliseconds */

static apr_pool_t *pool;

static void setup(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
}

static void teardown(void)
{
    apr_pool_destroy(pool);
    apr_terminate();
}

/* clang-format off */
static const struct {
    const char *name;
    const char *headers[8];
    double ms;
} rows[] = {
    {"nothing", {NULL}, 0},
    {"seconds", {"Retry-After", "7"}, 7000},
    {"any case", {"retry-AFTER", "7"}, 7000},
    {"a fraction", {"Retry-After", "0.25"}, 250},
    {"a date", {"Retry-After", "Wed, 18 Nov 2026 11:07:40 GMT"}, 60000},
    {"a date that is over", {"Retry-After", "Wed, 18 Nov 2026 11:05:40 GMT"}, 0},
    {"a date in far future", {"Retry-After", "Wed, 18 Nov 2226 11:07:40 GMT"}, YEARS},
    {"zero", {"Retry-After", "0"}, 0},
    {"negative", {"Retry-After", "-5"}, 0},
    {"not a number", {"Retry-After", "nan"}, 0},
    {"infinite", {"Retry-After", "inf"}, 0},
    {"hexadecimal", {"Retry-After", "0x10"}, 0},
    {"an exponent", {"Retry-After", "1e3"}, 0},
    {"a unit that does not belong", {"Retry-After", "5s"}, 0},
    {"an open fraction", {"Retry-After", "5."}, 0},
    {"empty", {"Retry-After", ""}, 0},
    {"huge", {"Retry-After", "999999999999999"}, YEARS},
    {"more digits than a number has", {"Retry-After", "99999999999999999999999999"}, 0},
    {"the longest of several", {"Retry-After", "3", "Retry-After", "9", "Retry-After", "x"}, 9000},
    {"milliseconds", {"retry-after-ms", "1500"}, 1500},
    {"milliseconds go first", {"Retry-After", "9", "retry-after-ms", "20"}, 20},
    {"bad milliseconds do not", {"Retry-After", "9", "retry-after-ms", "soon"}, 9000},
    {"requests used up", {"x-ratelimit-remaining-requests", "0", "x-ratelimit-reset-requests", "1s"}, 1000},
    {"requests left", {"x-ratelimit-remaining-requests", "3", "x-ratelimit-reset-requests", "1s"}, 0},
    {"nothing said of what is left", {"x-ratelimit-reset-requests", "1s"}, 0},
    {"tokens used up", {"X-RateLimit-Remaining-Tokens", "0", "X-RateLimit-Reset-Tokens", "6m0s"}, 360000},
    {"of another kind", {"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-requests", "6m0s"}, 0},
    {"milliseconds as a unit", {"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "20ms"}, 20},
    {"a fraction of seconds", {"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "2m59.56s"}, 179560},
    {"hours", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "1h2m"}, 3720000},
    {"plain seconds", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "12"}, 12000},
    {"a point in time", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "1795000030"}, 30000},
    {"in milliseconds", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "1795000030500"}, 30500},
    {"that is over", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "1794000000"}, 0},
    {"no duration", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "5 minutes"}, 0},
    {"a unit alone", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "ms"}, 0},
    {"Retry-After goes first", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "60", "Retry-After", "2"}, 2000},
};

static const struct {
    const char *name, *body;
    bool exhausted;
} bodies[] = {
    {"by code", "{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":\"insufficient_quota\"}}", true},
    {"by type", "{\"error\":{\"type\":\"insufficient_quota\",\"code\":null}}", true},
    {"billing", "{\"error\":{\"code\":\"billing_hard_limit_reached\"}}", true},
    {"at top level", "{\"code\":\"quota_exceeded\"}", true},
    {"a rate limit", "{\"error\":{\"code\":\"rate_limit_exceeded\"}}", false},
    {"in the message only", "{\"error\":{\"message\":\"insufficient_quota\"}}", false},
    {"a part of a word", "{\"error\":{\"code\":\"insufficient_quota_maybe\"}}", false},
    {"a number", "{\"error\":{\"code\":429}}", false},
    {"an error as text", "{\"error\":\"insufficient_quota\"}", false},
    {"cut", "{\"error\":{\"code\":\"insufficient_quota\"", false},
    {"no JSON", "insufficient_quota", false},
    {"nothing", "", false},
};
/* clang-format on */

START_TEST(asked)
{
    apr_table_t *headers = apr_table_make(pool, 4);
    for (int i = 0; rows[_i].headers[i]; i += 2) {
        apr_table_add(headers, rows[_i].headers[i], rows[_i].headers[i + 1]);
    }
    double got = (double)aip_retry_after(headers, NOW) / 1000;
    ck_assert_msg(got > rows[_i].ms - 1 && got < rows[_i].ms + 1, "%s: %g ms instead of %g",
                  rows[_i].name, got, rows[_i].ms);
}
END_TEST

START_TEST(quota)
{
    aip_span_t body = {bodies[_i].body, strlen(bodies[_i].body)};
    ck_assert_msg(aip_quota_exhausted(body) == bodies[_i].exhausted, "%s", bodies[_i].name);
}
END_TEST

Suite *retry_after_suite(void)
{
    Suite *suite = suite_create("retry_after");
    TCase *tc = tcase_create("retry_after");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, asked, 0, COUNT(rows));
    tcase_add_loop_test(tc, quota, 0, COUNT(bodies));
    suite_add_tcase(suite, tc);
    return suite;
}
