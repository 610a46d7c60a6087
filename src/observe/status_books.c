/* SPDX-License-Identifier: Apache-2.0 */
/* Figures for the status page, out of the books that all children share: totals since the books
 * were begun, the last hour, and its minutes. */
#include "status.h"

#include <apr_strings.h>
#include <stdatomic.h>

#define PICO 1000000000000u

json_t *aip_status_text(const char *text, apr_pool_t *pool)
{
    json_t *value = text ? json_string(text) : json_null();
    if (!value) {
        aip_span_t quoted = aip_json_quote((aip_span_t){text, strlen(text)}, pool);
        value = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
    }
    return value;
}

json_t *aip_status_time(apr_time_t at)
{
    char text[32];
    apr_time_exp_t t;
    if (at <= 0) {
        return json_null();
    }
    apr_time_exp_gmt(&t, at);
    apr_snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", t.tm_year + 1900,
                 t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
    return json_string(text);
}

const char *aip_status_cost(apr_uint64_t pico, apr_pool_t *pool)
{
    char *text =
        apr_psprintf(pool, "%" APR_UINT64_T_FMT ".%012" APR_UINT64_T_FMT, pico / PICO, pico % PICO);
    size_t len = strlen(text);
    while (text[len - 1] == '0') {
        len--;
    }
    text[text[len - 1] == '.' ? len - 1 : len] = '\0';
    return text;
}

static void set_count(json_t *object, const char *key, apr_uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

json_t *aip_status_totals(aip_target_t *const *targets, int n, apr_pool_t *pool)
{
    apr_uint64_t requests = 0, errors = 0, prompt = 0, completion = 0, cost = 0;
    for (int i = 0; i < n; i++) {
        aip_target_metrics_t *m = targets[i]->metrics;
        requests += atomic_load(&m->requests);
        errors += atomic_load(&m->errors);
        prompt += atomic_load(&m->prompt_tokens);
        completion += atomic_load(&m->completion_tokens);
        cost += atomic_load(&m->cost_pico);
    }
    json_t *object = json_object();
    set_count(object, "requests", requests);
    set_count(object, "errors", errors);
    set_count(object, "prompt_tokens", prompt);
    set_count(object, "completion_tokens", completion);
    json_object_set_new(object, "cost", json_string(aip_status_cost(cost, pool)));
    return object;
}

/* Mean milliseconds, or null. */
static json_t *mean(const aip_figures_row_t *row, aip_figure_e sum, aip_figure_e n)
{
    apr_uint64_t count = row->figures[n];
    return count ? json_real((double)row->figures[sum] / (double)count / 1000) : json_null();
}

static const struct {
    const char *key;
    aip_figure_e figure;
} counts[] = {{"requests", AIP_FIGURE_REQUESTS},
              {"errors", AIP_FIGURE_ERRORS},
              {"prompt_tokens", AIP_FIGURE_PROMPT_TOKENS},
              {"completion_tokens", AIP_FIGURE_COMPLETION_TOKENS},
              {"attempts", AIP_FIGURE_ATTEMPTS},
              {"failures", AIP_FIGURE_FAILURES}};
#define COUNTS (sizeof counts / sizeof *counts)

static json_t *hour_object(const aip_figures_row_t *rows, apr_pool_t *pool)
{
    aip_figures_row_t sum;
    json_t *object = json_object();
    aip_history_sum(rows, &sum);
    for (size_t i = 0; i < COUNTS; i++) {
        set_count(object, counts[i].key, sum.figures[counts[i].figure]);
    }
    set_count(object, "first_choice", sum.figures[AIP_FIGURE_CHOSEN]);
    json_object_set_new(object, "cost",
                        json_string(aip_status_cost(sum.figures[AIP_FIGURE_COST_PICO], pool)));
    json_object_set_new(object, "latency_ms", mean(&sum, AIP_FIGURE_TOTAL_US, AIP_FIGURE_REQUESTS));
    json_object_set_new(object, "ttft_ms",
                        mean(&sum, AIP_FIGURE_FIRST_TOKEN_US, AIP_FIGURE_FIRST_TOKENS));
    return object;
}

static json_t *minutes_object(const aip_figures_row_t *rows, apr_time_t now)
{
    json_t *object = json_object();
    json_object_set_new(object, "from",
                        aip_status_time(now - now % apr_time_from_sec(60) -
                                        apr_time_from_sec(60 * (AIP_HISTORY_MINUTES - 1))));
    for (size_t i = 0; i < COUNTS; i++) {
        json_t *list = json_array();
        for (int m = 0; m < AIP_HISTORY_MINUTES; m++) {
            json_array_append_new(list,
                                  json_integer((json_int_t)rows[m].figures[counts[i].figure]));
        }
        json_object_set_new(object, counts[i].key, list);
    }
    json_t *latency = json_array(), *ttft = json_array();
    for (int m = 0; m < AIP_HISTORY_MINUTES; m++) {
        json_array_append_new(latency, mean(&rows[m], AIP_FIGURE_TOTAL_US, AIP_FIGURE_REQUESTS));
        json_array_append_new(ttft,
                              mean(&rows[m], AIP_FIGURE_FIRST_TOKEN_US, AIP_FIGURE_FIRST_TOKENS));
    }
    json_object_set_new(object, "latency_ms", latency);
    json_object_set_new(object, "ttft_ms", ttft);
    return object;
}

void aip_status_figures(json_t *object, const aip_minute_t *minutes, apr_time_t now,
                        apr_pool_t *pool)
{
    aip_figures_row_t rows[AIP_HISTORY_MINUTES];
    aip_history_read(minutes, now, rows);
    json_object_set_new(object, "hour", hour_object(rows, pool));
    json_object_set_new(object, "minutes", minutes_object(rows, now));
}
