/* SPDX-License-Identifier: Apache-2.0 */
/* Reads how long a provider asks to be left alone. Called once for each answer of 429 or 5xx; the
 * text is hostile: what cannot be read asks for nothing. */
#include "aip/retry_after.h"

#include "aip/json.h"

#include <apr_date.h>
#include <apr_strings.h>
#include <string.h>

#define LONGEST (3650.0 * 86400) /* seconds */
#define EPOCH_SECONDS 1e9        /* a plain number from here on is a point in time ... */
#define EPOCH_MILLISECONDS 1e12  /* ... and from here on one in milliseconds */

typedef struct wait_t {
    const apr_table_t *headers;
    apr_time_t now;
    apr_interval_time_t longest;
} wait_t;

/* Digits with an optional fraction, nothing more than 15 of them. @return where they end; NULL: no
 * number */
static const char *read_number(const char *p, double *value)
{
    double scale = 1;
    int digits = 0;
    *value = 0;
    for (; *p >= '0' && *p <= '9'; p++, digits++) {
        *value = *value * 10 + (*p - '0');
    }
    if (!digits || digits > 15) {
        return NULL;
    }
    if (*p == '.') {
        for (p++, digits = 0; *p >= '0' && *p <= '9'; p++, digits++) {
            scale /= 10;
            *value += (*p - '0') * scale;
        }
        if (!digits || digits > 15) {
            return NULL;
        }
    }
    return p;
}

static apr_interval_time_t from_seconds(double seconds)
{
    seconds = seconds < LONGEST ? seconds : LONGEST;
    return (apr_interval_time_t)(seconds * APR_USEC_PER_SEC);
}

static int longer(void *baton, apr_interval_time_t wait)
{
    wait_t *w = baton;
    w->longest = wait > w->longest ? wait : w->longest;
    return 1;
}

static int read_milliseconds(void *baton, const char *name, const char *value)
{
    double number;
    const char *end = read_number(value, &number);
    (void)name;
    return end && !*end ? longer(baton, from_seconds(number / 1000)) : 1;
}

static int read_retry_after(void *baton, const char *name, const char *value)
{
    const wait_t *w = baton;
    double number;
    const char *end = read_number(value, &number);
    (void)name;
    if (end && !*end) {
        return longer(baton, from_seconds(number));
    }
    apr_time_t date = apr_date_parse_http(value);
    apr_interval_time_t most = from_seconds(LONGEST);
    if (date == APR_DATE_BAD || date <= w->now) {
        return 1;
    }
    return longer(baton, date - w->now < most ? date - w->now : most);
}

/* Seconds in a unit at `p`, which is moved behind it; 0: none. */
static double read_unit(const char **p)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t len = strlen(units[i].name);
        if (strncmp(*p, units[i].name, len) == 0) {
            *p += len;
            return units[i].seconds;
        }
    }
    return 0;
}

/* "6m0s", "20ms"; seconds; a Unix time. @return microseconds, 0: nothing is asked */
static apr_interval_time_t read_reset(const char *p, apr_time_t now)
{
    double number, unit, sum = 0;
    const char *end = read_number(p, &number);
    if (end && !*end) {
        double at = number >= EPOCH_MILLISECONDS ? number / 1000 : number;
        double left = at - (double)now / APR_USEC_PER_SEC;
        if (number < EPOCH_SECONDS) {
            return from_seconds(number);
        }
        return left > 0 ? from_seconds(left) : 0;
    }
    while (*p) {
        p = read_number(p, &number);
        unit = p ? read_unit(&p) : 0;
        if (unit <= 0) {
            return 0;
        }
        sum += number * unit;
    }
    return from_seconds(sum);
}

static int read_limit(void *baton, const char *name, const char *value)
{
    const wait_t *w = baton;
    const char *remaining = NULL;
    double left;
    if (strcasecmp(name, "x-ratelimit-reset") == 0) {
        remaining = apr_table_get(w->headers, "x-ratelimit-remaining");
    } else if (strcasecmp(name, "x-ratelimit-reset-requests") == 0) {
        remaining = apr_table_get(w->headers, "x-ratelimit-remaining-requests");
    } else if (strcasecmp(name, "x-ratelimit-reset-tokens") == 0) {
        remaining = apr_table_get(w->headers, "x-ratelimit-remaining-tokens");
    }
    const char *end = remaining ? read_number(remaining, &left) : NULL;
    return end && !*end && left < 0.5 ? longer(baton, read_reset(value, w->now)) : 1;
}

apr_interval_time_t aip_retry_after(const apr_table_t *headers, apr_time_t now)
{
    wait_t w = {headers, now, 0};
    apr_table_do(read_milliseconds, &w, headers, "retry-after-ms", NULL);
    if (!w.longest) {
        apr_table_do(read_retry_after, &w, headers, "Retry-After", NULL);
    }
    if (!w.longest) {
        apr_table_do(read_limit, &w, headers, NULL);
    }
    return w.longest;
}

static bool says_so(aip_span_t value)
{
    static const char *const words[] = {"\"insufficient_quota\"", "\"billing_hard_limit_reached\"",
                                        "\"insufficient_credits\"", "\"quota_exceeded\"",
                                        "\"billing_not_active\""};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (value.data && value.len == strlen(words[i]) &&
            memcmp(value.data, words[i], value.len) == 0) {
            return true;
        }
    }
    return false;
}

bool aip_quota_exhausted(aip_span_t body)
{
    const aip_span_t names[] = {AIP_SPAN("error"), AIP_SPAN("code"), AIP_SPAN("type")};
    aip_json_member_t m[3], inner[2];
    if (aip_json_object(body, names, 3, m, NULL) != AIP_JSON_OK) {
        return false;
    }
    if (says_so(m[1].value) || says_so(m[2].value)) {
        return true;
    }
    return aip_json_type(m[0].value) == '{' &&
           aip_json_object(m[0].value, names + 1, 2, inner, NULL) == AIP_JSON_OK &&
           (says_so(inner[0].value) || says_so(inner[1].value));
}
