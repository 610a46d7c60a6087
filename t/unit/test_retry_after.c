/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses as providers ask for them, in every spelling seen, and those that mean nothing. */
#include "aip/retry_after.h"

#include <string.h>

#include "fixture.h"

#define NOW apr_time_from_sec(1795000000) /* Wed, 18 Nov 2026 11:06:40 GMT */
#define YEARS 315360000000.0              /* ten, in milliseconds */
#define USED_UP(reset) "x-ratelimit-remaining", "0", "x-ratelimit-reset", reset
#define DIGITS_100                                                                                 \
    "00000000001111111111222222222233333333334444444444555555555566666666667777777777888888888899" \
    "99999999"

Suite *retry_after_suite(void);

/* clang-format off */
static const struct {
    const char *name;
    const char *headers[9];
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
    {"requests used up", {"x-ratelimit-remaining-requests", "0", "x-ratelimit-reset-requests",
     "1s"}, 1000},
    {"requests left", {"x-ratelimit-remaining-requests", "3", "x-ratelimit-reset-requests", "1s"},
     0},
    {"nothing said of what is left", {"x-ratelimit-reset-requests", "1s"}, 0},
    {"tokens used up", {"X-RateLimit-Remaining-Tokens", "0", "X-RateLimit-Reset-Tokens", "6m0s"},
     360000},
    {"of another kind", {"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-requests",
     "6m0s"}, 0},
    {"milliseconds as a unit", {"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens",
     "20ms"}, 20},
    {"a fraction of seconds", {"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens",
     "2m59.56s"}, 179560},
    {"hours", {USED_UP("1h2m")}, 3720000},
    {"plain seconds", {USED_UP("12")}, 12000},
    {"a point in time", {USED_UP("1795000030")}, 30000},
    {"in milliseconds", {USED_UP("1795000030500")}, 30500},
    {"that is over", {USED_UP("1794000000")}, 0},
    {"no duration", {USED_UP("5 minutes")}, 0},
    {"a unit alone", {USED_UP("ms")}, 0},
    {"Retry-After goes first", {USED_UP("60"), "Retry-After", "2"}, 2000},
    {"zero milliseconds is an answer", {"Retry-After", "9", "retry-after-ms", "0"}, 0},
    {"zero seconds, too", {USED_UP("60"), "Retry-After", "0"}, 0},
    {"a date that is over is none", {USED_UP("60"),
     "Retry-After", "Wed, 18 Nov 2026 11:05:40 GMT"}, 60000},
    {"one of several milliseconds", {"retry-after-ms", "x", "retry-after-ms", "20", "Retry-After",
     "9"}, 20},
    {"a fraction of a millisecond", {"retry-after-ms", "12.5"}, 12.5},
    {"least", {"retry-after-ms", "0.001"}, 0.001},
    {"rounded, not cut", {"retry-after-ms", "0.015"}, 0.015},
    {"less than a microsecond", {"retry-after-ms", "0.0001"}, 0},
    {"a fraction as scripts write it", {"Retry-After", "0.30000000000000004"}, 300},
    {"a fraction without end", {"Retry-After", "1." DIGITS_100}, 1000},
    {"zeros in front", {"Retry-After", "007"}, 7000},
    {"15 digits", {"retry-after-ms", "000000000000250"}, 250},
    {"16 digits", {"retry-after-ms", "0000000000000250"}, 0},
    {"100 digits", {"Retry-After", DIGITS_100}, 0},
    {"ten years", {"Retry-After", "315360000"}, YEARS},
    {"a second less", {"Retry-After", "315359999"}, YEARS - 1000},
    {"a second more", {"Retry-After", "315360001"}, YEARS},
    {"huge milliseconds", {"retry-after-ms", "999999999999999"}, YEARS},
    {"white space around it", {"Retry-After", " \t7 \t"}, 7000},
    {"white space inside", {"Retry-After", "1 7"}, 0},
    {"white space alone", {"Retry-After", "  "}, 0},
    {"a plus", {"Retry-After", "+5"}, 0},
    {"minus zero", {"Retry-After", "-0"}, 0},
    {"a dot in front", {"Retry-After", ".5"}, 0},
    {"a comma", {"Retry-After", "0,5"}, 0},
    {"two dots", {"Retry-After", "1.2.3"}, 0},
    {"a list", {"Retry-After", "5, 7"}, 0},
    {"NaN", {"Retry-After", "NaN"}, 0},
    {"nan(7)", {"retry-after-ms", "nan(7)"}, 0},
    {"-inf", {"retry-after-ms", "-inf"}, 0},
    {"infinity", {"retry-after-ms", "INFINITY"}, 0},
    {"negative milliseconds", {"retry-after-ms", "-5", "Retry-After", "3"}, 3000},
    {"digits of another script", {"Retry-After", "\xd9\xa7"}, 0},
    {"a date as of RFC 850", {"Retry-After", "Wednesday, 18-Nov-26 11:06:45 GMT"}, 5000},
    {"a date as of asctime", {"Retry-After", "Wed Nov 18 11:06:45 2026"}, 5000},
    {"now", {"Retry-After", "Wed, 18 Nov 2026 11:06:40 GMT"}, 0},
    {"now is no pause", {USED_UP("7"), "Retry-After", "Wed, 18 Nov 2026 11:06:40 GMT"}, 7000},
    {"no such month", {"Retry-After", "Wed, 18 Foo 2026 11:07:40 GMT"}, 0},
    {"no such day", {"Retry-After", "Wed, 31 Feb 2027 11:07:40 GMT"}, 0},
    {"no such hour", {"Retry-After", "Wed, 18 Nov 2026 25:07:40 GMT"}, 0},
    {"half a date", {"Retry-After", "Wed, 18 Nov 2026"}, 0},
    {"another calendar", {"Retry-After", "2026-11-18T11:07:40Z"}, 0},
    {"the first dates", {"Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"}, 0},
    {"a date and seconds, the date later", {"Retry-After", "3", "Retry-After",
     "Wed, 18 Nov 2026 11:06:45 GMT"}, 5000},
    {"a date and seconds, the date sooner", {"Retry-After", "8", "Retry-After",
     "Wed, 18 Nov 2026 11:06:45 GMT"}, 8000},
    {"a date as milliseconds", {"retry-after-ms", "Wed, 18 Nov 2026 11:07:40 GMT"}, 0},
    {"the longer of two limits", {"x-ratelimit-remaining-requests", "0",
     "x-ratelimit-reset-requests", "2s",
     "x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "3s"}, 3000},
    {"the one that is used up", {"x-ratelimit-remaining-requests", "0",
     "x-ratelimit-reset-requests", "2s",
     "x-ratelimit-remaining-tokens", "1", "x-ratelimit-reset-tokens", "3s"}, 2000},
    {"the longest of one kind", {"x-ratelimit-remaining", "0", "x-ratelimit-reset", "2s",
     "x-ratelimit-reset", "1m",
     "x-ratelimit-reset", "3s"}, 60000},
    {"less than one left", {"x-ratelimit-remaining", "0.4", "x-ratelimit-reset", "5"}, 0},
    {"zero with a fraction", {"x-ratelimit-remaining", "0.0", "x-ratelimit-reset", "5"}, 5000},
    {"less than nothing left", {"x-ratelimit-remaining", "-1", "x-ratelimit-reset", "5"}, 0},
    {"left: no number", {"x-ratelimit-remaining", "none", "x-ratelimit-reset", "5"}, 0},
    {"left: empty", {"x-ratelimit-remaining", "", "x-ratelimit-reset", "5"}, 0},
    {"left, but not when", {"x-ratelimit-remaining", "0"}, 0},
    {"a limit of something else", {"x-ratelimit-remaining-images", "0",
     "x-ratelimit-reset-images", "5"}, 0},
    {"all units", {USED_UP("1d2h3m4s5ms")}, 93784005},
    {"days", {USED_UP("4000d")}, YEARS},
    {"a duration that overflows", {USED_UP("999999999999999d999999999999999d")}, YEARS},
    {"a negative duration", {USED_UP("-5s")}, 0},
    {"a negative part", {USED_UP("1m-5s")}, 0},
    {"a part without a unit", {USED_UP("1m30")}, 0},
    {"an unknown unit", {USED_UP("5y")}, 0},
    {"text behind it", {USED_UP("5s later")}, 0},
    {"no duration at all", {USED_UP("0s")}, 0},
    {"nan as a duration", {USED_UP("nans")}, 0},
    {"white space around a duration", {"x-ratelimit-remaining", " 0 ", "x-ratelimit-reset",
     " 6m0s "}, 360000},
    {"the last number of seconds", {USED_UP("999999999")}, YEARS},
    {"the first point in time", {USED_UP("1000000000")}, 0},
    {"a point in time with a fraction", {USED_UP("1795000030.25")}, 30250},
    {"milliseconds that are over", {USED_UP("1794999999999")}, 0},
    {"microseconds", {USED_UP("1795000030000000")}, 0},
    {"a point in far future", {USED_UP("99999999999")}, YEARS},
    {"bad Retry-After, then a limit", {USED_UP("5"), "Retry-After", "soon"}, 5000},
};

static const struct {
    const char *name, *body;
    bool exhausted;
} bodies[] = {
    {"by code", "{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":\"insufficient_quota\"}}",
     true},
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
    {"not active", "{\"error\":{\"type\":\"billing_not_active\"}}", true},
    {"credits", " \n{\"type\":\"insufficient_credits\"} ", true},
    {"one of two", "{\"error\":{\"code\":\"x\",\"type\":\"quota_exceeded\"}}", true},
    {"spelled with escapes", "{\"error\":{\"c\\u006fde\":\"insufficient\\u005fquota\"}}", true},
    {"in capitals", "{\"error\":{\"code\":\"INSUFFICIENT_QUOTA\"}}", false},
    {"a beginning", "{\"error\":{\"code\":\"insufficient_quot\"}}", false},
    {"empty text", "{\"error\":{\"code\":\"\"}}", false},
    {"a list", "{\"error\":{\"code\":[\"insufficient_quota\"]}}", false},
    {"null", "{\"error\":null,\"code\":null}", false},
    {"a level deeper", "{\"error\":{\"inner\":{\"code\":\"insufficient_quota\"}}}", false},
    {"a list of errors", "[{\"error\":{\"code\":\"insufficient_quota\"}}]", false},
    {"text behind it", "{\"code\":\"quota_exceeded\"}x", false},
    {"a broken neighbour", "{\"code\":\"quota_exceeded\",\"x\":01}", false},
    {"not UTF-8", "{\"code\":\"quota_exceeded\",\"x\":\"\xff\"}", false},
};
/* clang-format on */

START_TEST(asked)
{
    apr_table_t *headers = apr_table_make(pool, 4);
    for (int i = 0; rows[_i].headers[i]; i += 2) {
        apr_table_add(headers, rows[_i].headers[i], rows[_i].headers[i + 1]);
    }
    double got = (double)aip_retry_after(headers, NOW) / 1000;
    ck_assert_msg(got > rows[_i].ms - 0.0005 && got < rows[_i].ms + 0.0005, "%s: %f ms, not %f",
                  rows[_i].name, got, rows[_i].ms);
}
END_TEST

/* A date is whole seconds, now is not. */
START_TEST(between_seconds)
{
    apr_table_t *headers = apr_table_make(pool, 1);
    apr_table_setn(headers, "Retry-After", "Wed, 18 Nov 2026 11:06:41 GMT");
    ck_assert_int_eq(aip_retry_after(headers, NOW + 400000), 600000);
    ck_assert_int_eq(aip_retry_after(headers, NOW + 999999), 1);
    ck_assert_int_eq(aip_retry_after(headers, NOW + 1000000), 0);
}
END_TEST

START_TEST(quota)
{
    aip_span_t body = {bodies[_i].body, strlen(bodies[_i].body)};
    ck_assert_msg(aip_quota_exhausted(body) == bodies[_i].exhausted, "%s", bodies[_i].name);
}
END_TEST

/* Wherever a body is cut, it says no, and nothing behind the cut is read. */
START_TEST(cut_bodies)
{
    const char *body = "{\"error\":{\"message\":\"m\",\"code\":\"insufficient_quota\"}}";
    for (size_t len = 0; len < strlen(body); len++) {
        char *copy = malloc(len ? len : 1); /* ends where its memory ends */
        memcpy(copy, body, len);
        ck_assert_msg(!aip_quota_exhausted((aip_span_t){copy, len}), "%d bytes", (int)len);
        free(copy);
    }
    ck_assert(aip_quota_exhausted((aip_span_t){body, strlen(body)}));
    ck_assert(!aip_quota_exhausted((aip_span_t){NULL, 0}));
}
END_TEST

Suite *retry_after_suite(void)
{
    Suite *suite = suite_create("retry_after");
    TCase *tc = tcase_create("retry_after");
    tcase_add_checked_fixture(tc, pool_setup, pool_teardown);
    tcase_add_loop_test(tc, asked, 0, ROWS(rows));
    tcase_add_test(tc, between_seconds);
    tcase_add_loop_test(tc, quota, 0, ROWS(bodies));
    tcase_add_test(tc, cut_bodies);
    suite_add_tcase(suite, tc);
    return suite;
}
