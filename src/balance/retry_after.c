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
    bool good; /* a field could be read, even if it asks for no time at all */
    apr_interval_time_t longest;
} wait_t;

/* Digits, not more than 15 of them, with an optional fraction. Read by hand: neither the locale nor
 * "inf", "nan", signs and exponents have a say. @return where they end; NULL: no number */
static const char *read_number(const char *p, double *value)
{
    const char *start = p;
    double scale = 0.1;
    *value = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        *value = *value * 10 + (*p - '0');
    }
    if (p == start || p - start > 15) {
        return NULL;
    }
    if (*p != '.') {
        return p;
    }
    for (start = ++p; *p >= '0' && *p <= '9'; p++, scale /= 10) {
        *value += (*p - '0') * scale;
    }
    return p == start ? NULL : p;
}

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t");
}

/* A field that holds a number and nothing else. */
static bool is_number(const char *field, double *value)
{
    const char *end = read_number(skip_space(field), value);
    return end && !*skip_space(end);
}

static apr_interval_time_t from_seconds(double seconds)
{
    seconds = seconds < LONGEST ? seconds : LONGEST;
    return (apr_interval_time_t)(seconds * APR_USEC_PER_SEC + 0.5);
}

static int longer(wait_t *w, apr_interval_time_t wait)
{
    w->good = true;
    w->longest = wait > w->longest ? wait : w->longest;
    return 1;
}

static int read_milliseconds(void *baton, const char *name, const char *value)
{
    double number;
    (void)name;
    return is_number(value, &number) ? longer(baton, from_seconds(number / 1000)) : 1;
}

static int read_retry_after(void *baton, const char *name, const char *value)
{
    wait_t *w = baton;
    double number;
    (void)name;
    if (is_number(value, &number)) {
        return longer(w, from_seconds(number));
    }
    apr_time_t date = apr_date_parse_http(value);
    apr_interval_time_t most = from_seconds(LONGEST);
    if (date == APR_DATE_BAD || date <= w->now) {
        return 1;
    }
    return longer(w, date - w->now < most ? date - w->now : most);
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

/* Seconds that a plain number stands for: so many, or until a Unix time. */
static double read_plain(double number, apr_time_t now)
{
    if (number < EPOCH_SECONDS) {
        return number;
    }
    double at = number >= EPOCH_MILLISECONDS ? number / 1000 : number;
    double left = at - (double)now / APR_USEC_PER_SEC;
    return left > 0 ? left : 0;
}

/* "6m0s", "20ms"; seconds; a Unix time. @return microseconds, 0: nothing is asked */
static apr_interval_time_t read_reset(const char *p, apr_time_t now)
{
    double number, sum = 0;
    if (is_number(p, &number)) {
        return from_seconds(read_plain(number, now));
    }
    for (p = skip_space(p); *p && *skip_space(p);) {
        p = read_number(p, &number);
        if (!p) {
            return 0;
        }
        double unit = read_unit(&p);
        if (unit <= 0) {
            return 0;
        }
        sum += number * unit;
    }
    return from_seconds(sum);
}

static int read_limit(void *baton, const char *name, const char *value)
{
    static const char *const kinds[][2] = {
        {"x-ratelimit-reset", "x-ratelimit-remaining"},
        {"x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"},
        {"x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"}};
    wait_t *w = baton;
    double left;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcasecmp(name, kinds[i][0]) == 0) {
            const char *remaining = apr_table_get(w->headers, kinds[i][1]);
            if (remaining && is_number(remaining, &left) && left <= 0) {
                return longer(w, read_reset(value, w->now));
            }
        }
    }
    return 1;
}

apr_interval_time_t aip_retry_after(const apr_table_t *headers, apr_time_t now)
{
    wait_t w = {.headers = headers, .now = now};
    apr_table_do(read_milliseconds, &w, headers, "retry-after-ms", NULL);
    if (!w.good) {
        apr_table_do(read_retry_after, &w, headers, "Retry-After", NULL);
    }
    if (!w.good) {
        apr_table_do(read_limit, &w, headers, NULL);
    }
    return w.longest;
}

static bool says_so(aip_span_t value)
{
    static const aip_span_t words[] = {AIP_SPAN("insufficient_quota"),
                                       AIP_SPAN("billing_hard_limit_reached"),
                                       AIP_SPAN("insufficient_credits"), AIP_SPAN("quota_exceeded"),
                                       AIP_SPAN("billing_not_active")};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (aip_json_type(value) == '"' && aip_json_equals(value, words[i])) {
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
