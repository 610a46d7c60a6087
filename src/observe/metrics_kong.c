/* SPDX-License-Identifier: Apache-2.0 */
/* kong_ai_*: the names and labels of Kong's Prometheus plugin, for its dashboards. Kong knows
 * models, not targets: targets of one provider and model are shown as one. */
#include "metrics_private.h"

static const aip_family_t requests = {"kong_ai_llm_requests", AIP_METRIC_COUNTER, NULL,
                                      "AI requests by provider and model."};
static const aip_family_t cost = {"kong_ai_llm_cost", AIP_METRIC_COUNTER, NULL,
                                  "Cost of AI requests by provider and model."};
static const aip_family_t tokens = {"kong_ai_llm_tokens", AIP_METRIC_COUNTER, NULL,
                                    "Tokens of AI requests by provider and model."};
static const aip_family_t latency = {"kong_ai_llm_provider_latency_ms", AIP_METRIC_HISTOGRAM, NULL,
                                     "Time of AI requests in milliseconds."};
static const aip_family_t fetch = {"kong_ai_cache_fetch_latency", AIP_METRIC_HISTOGRAM, NULL,
                                   "Time of vector searches in milliseconds."};
static const aip_family_t embeddings = {"kong_ai_cache_embeddings_latency", AIP_METRIC_HISTOGRAM,
                                        NULL, "Time of embeddings in milliseconds."};

/* Of all targets, or gateways, with the same labels. */
typedef struct row_t {
    const char *labels;
    apr_uint64_t prompt, completion, pico;
    aip_snapshot_t latency[2]; /* oneshot, stream */
    aip_snapshot_t fetch, embeddings;
} row_t;

/* cache_status is of Kong's cache of answers, which we have not. */
static const char *labels_of(const aip_pool_view_t *pool, const char *provider, const char *model,
                             apr_pool_t *apr)
{
    const aip_location_fields_t *f = pool->fields;
    const struct {
        const char *name, *value;
    } all[] = {
        {"ai_provider", provider},
        {"ai_model", model},
        {"cache_status", ""},
        {"vector_db", pool->semantic ? aip_field_word(&aip_location_table[AIP_L_vectordb_strategy],
                                                      f->vectordb_strategy, apr)
                                     : ""},
        {"embeddings_provider",
         pool->semantic ? aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                                         f->embeddings_model_provider, apr)
                        : ""},
        {"embeddings_model",
         pool->semantic && f->embeddings_model_name ? f->embeddings_model_name : ""},
        {"workspace", "default"},
        {"consumer", ""},
    };
    const char *labels = "";
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        labels = aip_label(labels, all[i].name, all[i].value, apr);
    }
    return labels;
}

static row_t *row_of(apr_array_header_t *rows, const char *labels)
{
    for (int i = 0; i < rows->nelts; i++) {
        row_t *row = &APR_ARRAY_IDX(rows, i, row_t);
        if (strcmp(row->labels, labels) == 0) {
            return row;
        }
    }
    row_t *row = apr_array_push(rows);
    *row = (row_t){.labels = labels};
    return row;
}

static apr_array_header_t *rows_of_targets(const aip_scrape_t *s)
{
    apr_array_header_t *rows = apr_array_make(s->apr, 8, sizeof(row_t));
    for (int i = 0; i < s->n_targets; i++) {
        const aip_target_t *target = s->targets[i].target;
        const aip_target_metrics_t *m = target->metrics;
        const char *model = target->f.model_name ? target->f.model_name : "UNSPECIFIED";
        row_t *row =
            row_of(rows, labels_of(s->targets[i].pool, target->provider_name, model, s->apr));
        row->prompt += aip_count_read(&m->prompt_tokens);
        row->completion += aip_count_read(&m->completion_tokens);
        row->pico += aip_count_read(&m->cost_pico);
        aip_histogram_read(&m->kong_latency[0], AIP_SCALE_KONG_MS, &row->latency[0]);
        aip_histogram_read(&m->kong_latency[1], AIP_SCALE_KONG_MS, &row->latency[1]);
    }
    return rows;
}

static apr_array_header_t *rows_of_pools(const aip_scrape_t *s)
{
    apr_array_header_t *rows = apr_array_make(s->apr, 8, sizeof(row_t));
    for (int i = 0; i < s->n_pools; i++) {
        const aip_gateway_metrics_t *m = s->pools[i].targets->metrics;
        if (!s->pools[i].semantic) {
            continue;
        }
        row_t *row = row_of(rows, labels_of(&s->pools[i], "", "", s->apr));
        aip_histogram_read(&m->search, AIP_SCALE_SHORT_MS, &row->fetch);
        aip_histogram_read(&m->embedding[AIP_EMBED_STATIC], AIP_SCALE_SHORT_MS, &row->embeddings);
        aip_histogram_read(&m->embedding[AIP_EMBED_REMOTE], AIP_SCALE_SHORT_MS, &row->embeddings);
    }
    return rows;
}

/* @param histograms  else how many requests there were */
static void put_modes(aip_scrape_t *s, const apr_array_header_t *rows, bool histograms)
{
    static const char *const modes[] = {"oneshot", "stream"};
    for (int i = 0; i < 2 * rows->nelts; i++) {
        const row_t *row = &APR_ARRAY_IDX(rows, i / 2, row_t);
        const aip_snapshot_t *snapshot = &row->latency[i % 2];
        const char *labels = aip_label(row->labels, "request_mode", modes[i % 2], s->apr);
        if (snapshot->count && histograms) {
            aip_exposition_histogram(&s->out, labels, AIP_SCALE_KONG_MS, snapshot);
        } else if (snapshot->count) {
            aip_exposition_value(&s->out, labels, snapshot->count, 0);
        }
    }
}

static void put_tokens(aip_scrape_t *s, const row_t *row)
{
    const struct {
        const char *type;
        apr_uint64_t n;
    } counts[] = {{"prompt_tokens", row->prompt},
                  {"completion_tokens", row->completion},
                  {"total_tokens", row->prompt + row->completion}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        aip_exposition_value(&s->out, aip_label(row->labels, "token_type", counts[i].type, s->apr),
                             counts[i].n, 0);
    }
}

static void put_caches(aip_scrape_t *s, bool searches)
{
    const apr_array_header_t *rows = rows_of_pools(s);
    for (int i = 0; i < rows->nelts; i++) {
        const row_t *row = &APR_ARRAY_IDX(rows, i, row_t);
        const aip_snapshot_t *snapshot = searches ? &row->fetch : &row->embeddings;
        if (snapshot->count) {
            aip_exposition_histogram(&s->out, aip_label(row->labels, "request_mode", "", s->apr),
                                     AIP_SCALE_SHORT_MS, snapshot);
        }
    }
}

void aip_metrics_kong(aip_scrape_t *s)
{
    const apr_array_header_t *rows = rows_of_targets(s);
    aip_exposition_family(&s->out, &requests);
    put_modes(s, rows, false);
    aip_exposition_family(&s->out, &cost);
    for (int i = 0; i < rows->nelts; i++) {
        const row_t *row = &APR_ARRAY_IDX(rows, i, row_t);
        aip_exposition_value(&s->out, aip_label(row->labels, "request_mode", "", s->apr), row->pico,
                             12);
    }
    aip_exposition_family(&s->out, &tokens);
    for (int i = 0; i < rows->nelts; i++) {
        put_tokens(s, &APR_ARRAY_IDX(rows, i, row_t));
    }
    aip_exposition_family(&s->out, &latency);
    put_modes(s, rows, true);
    aip_exposition_family(&s->out, &fetch);
    put_caches(s, true);
    aip_exposition_family(&s->out, &embeddings);
    put_caches(s, false);
}
