/* SPDX-License-Identifier: Apache-2.0 */
/* aiproxy_*: what is counted of each gateway, of secrets, and of the server as a whole. */
#include "metrics_private.h"

#include "aip/observe.h"
#include "aip/traces.h"

static const aip_family_t embedding = {"aiproxy_embedding_duration_seconds", AIP_METRIC_HISTOGRAM,
                                       "seconds", "Time until the vector of a prompt was there."};
static const aip_family_t search = {"aiproxy_vector_search_duration_seconds", AIP_METRIC_HISTOGRAM,
                                    "seconds", "Time to compare a vector with the references."};
static const aip_family_t overhead = {
    "aiproxy_overhead_seconds", AIP_METRIC_HISTOGRAM, "seconds",
    "Time that the gateway itself took for a request: all but the client's body, embedding, search "
    "and targets."};
static const aip_family_t cache = {"aiproxy_route_cache", AIP_METRIC_COUNTER, NULL,
                                   "Where the distances of prompts came from."};
static const aip_family_t failures = {
    "aiproxy_routing_failures", AIP_METRIC_COUNTER, NULL,
    "Requests that could not be routed by meaning as they should."};
static const aip_family_t secrets = {"aiproxy_secret_refresh", AIP_METRIC_COUNTER, NULL,
                                     "Fetches of secrets by their result."};
static const aip_family_t dropped = {"aiproxy_log_lines_dropped", AIP_METRIC_COUNTER, NULL,
                                     "Lines of the statistics log that were dropped."};
static const aip_family_t spans = {"aiproxy_trace_spans", AIP_METRIC_COUNTER, NULL,
                                   "Spans by what became of them."};
static const aip_family_t build = {"aiproxy_build", AIP_METRIC_INFO, NULL,
                                   "The version of the module."};
static const aip_family_t since = {"aiproxy_start_time_seconds", AIP_METRIC_GAUGE, "seconds",
                                   "When counting began, in seconds since 1970."};

static void put_histogram(aip_scrape_t *s, const char *labels, const aip_histogram_t *histogram)
{
    aip_snapshot_t snapshot = {0};
    aip_histogram_read(histogram, AIP_SCALE_SHORT, &snapshot);
    if (snapshot.count) {
        aip_exposition_histogram(&s->out, labels, AIP_SCALE_SHORT, &snapshot);
    }
}

static void put_embedding(aip_scrape_t *s)
{
    static const char *const sources[AIP_EMBED_SOURCES] = {"cache", "static", "remote", "shared"};
    aip_exposition_family(&s->out, &embedding);
    for (int i = 0; i < s->n_pools; i++) {
        const aip_pool_view_t *pool = &s->pools[i];
        int provider = pool->fields->embeddings_model_provider;
        if (!pool->semantic) {
            continue;
        }
        const char *labels = aip_label(
            pool->labels, "provider",
            aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider], provider, s->apr),
            s->apr);
        for (int k = 0; k < AIP_EMBED_SOURCES; k++) {
            put_histogram(s, aip_label(labels, "source", sources[k], s->apr),
                          &pool->targets->metrics->embedding[k]);
        }
    }
    aip_exposition_family(&s->out, &search);
    for (int i = 0; i < s->n_pools; i++) {
        put_histogram(s, s->pools[i].labels, &s->pools[i].targets->metrics->search);
    }
    aip_exposition_family(&s->out, &overhead);
    for (int i = 0; i < s->n_pools; i++) {
        put_histogram(s, s->pools[i].labels, &s->pools[i].targets->metrics->overhead);
    }
}

static void put_counts(aip_scrape_t *s, const char *labels, const char *name,
                       const char *const *words, const aip_count_t *counts, int n)
{
    for (int i = 0; i < n; i++) {
        aip_exposition_value(&s->out, aip_label(labels, name, words[i], s->apr),
                             aip_count_read(&counts[i]), 0);
    }
}

static void put_routing(aip_scrape_t *s)
{
    static const char *const causes[AIP_ROUTE_N_FAILURES] = {AIP_ROUTE_FAILURES};
    static const char *const store_error[] = {"store_error"};
    const char *results[AIP_ROUTE_N_CACHE];
    for (int i = 0; i < AIP_ROUTE_N_CACHE; i++) {
        results[i] = aip_cache_state_name((aip_cache_state_e)i);
    }
    aip_exposition_family(&s->out, &cache);
    for (int i = 0; i < s->n_pools; i++) {
        if (s->pools[i].semantic) {
            put_counts(s, s->pools[i].labels, "result", results,
                       s->pools[i].targets->metrics->routing.cache, AIP_ROUTE_N_CACHE);
        }
    }
    aip_exposition_family(&s->out, &failures);
    for (int i = 0; i < s->n_pools; i++) {
        const aip_route_counts_t *counts = &s->pools[i].targets->metrics->routing;
        if (s->pools[i].semantic) {
            put_counts(s, s->pools[i].labels, "cause", causes, counts->failures,
                       AIP_ROUTE_N_FAILURES);
            put_counts(s, s->pools[i].labels, "cause", store_error, &counts->store_errors, 1);
        }
    }
}

static void put_spans(aip_scrape_t *s)
{
    const aip_traces_counts_t *counts = aip_traces_counts();
    const struct {
        const char *name;
        const aip_count_t *count;
    } results[] = {{"exported", &counts->exported},
                   {"dropped_queue", &counts->dropped_queue},
                   {"dropped_failed", &counts->dropped_failed}};
    aip_exposition_family(&s->out, &spans);
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        aip_exposition_value(&s->out, aip_label("", "result", results[i].name, s->apr),
                             aip_count_read(results[i].count), 0);
    }
}

void aip_metrics_pools(aip_scrape_t *s)
{
    static const char *const results[AIP_FETCHED_N] = {"ok", "missing", "denied", "away"};
    const aip_shared_words_t *words = aip_shared_words();
    put_embedding(s);
    put_routing(s);
    aip_exposition_family(&s->out, &secrets);
    if (words) {
        put_counts(s, "", "result", results, words->secret_fetches, AIP_FETCHED_N);
    }
    aip_exposition_family(&s->out, &dropped);
    aip_exposition_value(&s->out, "", aip_statistics_dropped(), 0);
    put_spans(s);
    aip_exposition_family(&s->out, &build);
    aip_exposition_value(&s->out, aip_label("", "version", AIP_VERSION, s->apr), 1, 0);
    aip_exposition_family(&s->out, &since);
    aip_exposition_value(&s->out, "", (apr_uint64_t)aip_states_since(), 6);
}
