/* SPDX-License-Identifier: Apache-2.0 */
/* How a gateway decides, in the status document: its routes, what was decided, the last decisions,
 * and what decisions need: embedder, vector store, cache. Distances and names, never a prompt. */
#include "status.h"

#include "aip/gateway.h"

#include <apr_atomic.h>
#include <stdatomic.h>

static const char *const failure_words[AIP_ROUTE_N_FAILURES] = {AIP_ROUTE_FAILURES};

static void add_count(json_t *object, const char *name, _Atomic(apr_uint64_t) *count)
{
    json_object_set_new(object, name, json_integer((json_int_t)atomic_load(count)));
}

/* What was decided, where the distances came from, and what failed. */
static json_t *routing_object(aip_route_counts_t *counts)
{
    json_t *reasons = json_object(), *cache = json_object(), *failed = json_object();
    for (int i = 0; i < AIP_ROUTE_N_REASONS; i++) {
        add_count(reasons, aip_reason_name((aip_reason_e)i), &counts->reasons[i]);
    }
    for (int i = 0; i < AIP_ROUTE_N_CACHE; i++) {
        add_count(cache, aip_cache_state_name((aip_cache_state_e)i), &counts->cache[i]);
    }
    for (int i = 0; i < AIP_ROUTE_N_FAILURES; i++) {
        add_count(failed, failure_words[i], &counts->failures[i]);
    }
    add_count(failed, "store_error", &counts->store_errors);
    return json_pack("{s:o, s:o, s:o}", "decisions", reasons, "cache", cache, "failures", failed);
}

/* Requests of the last hour whose first candidate was one of the route's. */
static json_int_t decisions_of(const aip_targets_t *targets, const aip_route_t *route,
                               apr_time_t now)
{
    apr_uint64_t n = 0;
    for (int i = 0; i < route->n_targets; i++) {
        aip_figures_row_t rows[AIP_HISTORY_MINUTES], sum;
        aip_history_read(targets->list[route->targets[i]]->history->minutes, now, rows);
        aip_history_sum(rows, &sum);
        n += sum.figures[AIP_FIGURE_CHOSEN];
    }
    return (json_int_t)n;
}

static json_t *routes_list(const aip_targets_t *targets, const aip_location_fields_t *f,
                           apr_pool_t *pool)
{
    aip_route_rules_t rules = aip_route_rules_of(f);
    json_t *list = json_array();
    for (int r = 0; r < targets->routes->n; r++) {
        const aip_route_t *route = &targets->routes->routes[r];
        const double *threshold =
            route->catchall ? NULL : aip_route_threshold(targets->routes, r, &rules);
        json_t *names = json_array();
        for (int i = 0; i < route->n_targets; i++) {
            json_array_append_new(names,
                                  aip_status_text(targets->list[route->targets[i]]->name, pool));
        }
        json_array_append_new(
            list, json_pack("{s:o, s:b, s:o, s:o, s:i, s:I}", "description",
                            aip_status_text(route->description, pool), "catchall", route->catchall,
                            "threshold", threshold ? json_real(*threshold) : json_null(), "targets",
                            names, "texts", route->n_texts, "first_choice_hour",
                            decisions_of(targets, route, apr_time_now())));
    }
    return list;
}

static json_t *target_known_by(const aip_targets_t *targets, apr_uint64_t digest, apr_pool_t *pool)
{
    for (int i = 0; i < targets->n; i++) {
        if (digest && aip_history_digest(targets->list[i]->name) == digest) {
            return aip_status_text(targets->list[i]->name, pool);
        }
    }
    return json_null();
}

static json_t *route_known_by(const aip_targets_t *targets, apr_uint64_t digest, apr_pool_t *pool)
{
    for (int i = 0; i < targets->routes->n; i++) {
        const char *description = targets->routes->routes[i].description;
        if (digest && aip_history_digest(description) == digest) {
            return aip_status_text(description, pool);
        }
    }
    return json_null();
}

static json_t *distance(float value)
{
    return value >= 0 ? json_real((double)value) : json_null();
}

static json_t *decision_object(const aip_targets_t *targets, const aip_decided_t *d,
                               apr_pool_t *pool)
{
    bool reason = d->reason < AIP_ROUTE_N_REASONS, cache = d->cache < AIP_ROUTE_N_CACHE;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:b, s:b, s:i, s:i, s:f}", "time",
        aip_status_time(d->at), "target", target_known_by(targets, d->target, pool), "route",
        route_known_by(targets, d->route, pool), "distance", distance(d->distance), "threshold",
        distance(d->threshold), "nearest", route_known_by(targets, d->nearest, pool),
        "nearest_distance", distance(d->nearest_distance), "reason",
        reason ? aip_reason_name((aip_reason_e)d->reason) : "none", "cache",
        cache ? aip_cache_state_name((aip_cache_state_e)d->cache) : "off", "sticky", d->sticky,
        "degraded", d->degraded, "attempts", d->attempts, "status", d->status, "total_ms",
        (double)d->total / 1000);
}

static json_t *decisions_list(const aip_targets_t *targets, apr_pool_t *pool)
{
    aip_decided_t decided[AIP_HISTORY_DECISIONS];
    int n = aip_history_decisions(targets->history, decided);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, decision_object(targets, &decided[i], pool));
    }
    return list;
}

/* Whether this child can compare prompts by now: true, false, or null where it is not known. */
static json_t *references_ready(const aip_gateway_t *gateway)
{
    aip_router_t *router = gateway ? aip_router_running(gateway->conf) : NULL;
    return gateway ? json_boolean(router && aip_router_ready(router, 0)) : json_null();
}

static json_t *embedder_object(const aip_targets_t *targets, const aip_gateway_t *gateway,
                               const aip_location_fields_t *f, apr_pool_t *pool)
{
    const char *provider =
        f->set[AIP_L_embeddings_model_provider]
            ? aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                             f->embeddings_model_provider, pool)
            : NULL;
    apr_time_t at = atomic_load(&targets->history->embed_failed_at);
    apr_uint32_t cause = atomic_load(&targets->history->embed_failure);
    json_t *failure =
        at && cause < AIP_ROUTE_N_FAILURES
            ? json_pack("{s:o, s:s}", "time", aip_status_time(at), "error", failure_words[cause])
            : json_null();
    return json_pack("{s:o, s:o, s:b, s:I, s:o, s:o}", "provider", aip_status_text(provider, pool),
                     "model", aip_status_text(f->embeddings_model_name, pool), "local",
                     provider && strcmp(provider, "local") == 0, "dimensions",
                     (json_int_t)f->vectordb_dimensions, "references_ready",
                     references_ready(gateway), "last_failure", failure);
}

static json_t *store_object(const aip_targets_t *targets, const aip_location_fields_t *f,
                            apr_pool_t *pool)
{
    static const char *const states[] = {"unknown", "up", "down"};
    apr_uint32_t state = apr_atomic_read32(targets->store);
    const char *shown = f->vectordb_strategy == AIP_STRATEGY_MEMORY ? "in process"
                        : state < 3                                 ? states[state]
                                                                    : "unknown";
    return json_pack(
        "{s:s, s:s}", "strategy",
        aip_field_word(&aip_location_table[AIP_L_vectordb_strategy], f->vectordb_strategy, pool),
        "state", shown);
}

static json_t *cache_object(aip_route_counts_t *counts, const aip_location_fields_t *f,
                            apr_pool_t *pool)
{
    return json_pack("{s:o, s:b, s:I, s:I, s:I}", "provider", aip_status_text(f->route_cache, pool),
                     "in_use", aip_route_cache_wanted(f) && aip_route_cache_of(f), "hits",
                     (json_int_t)atomic_load(&counts->cache[AIP_CACHE_HIT]), "misses",
                     (json_int_t)atomic_load(&counts->cache[AIP_CACHE_MISS]), "shared",
                     (json_int_t)atomic_load(&counts->cache[AIP_CACHE_SHARED]));
}

void aip_status_routing(json_t *object, const aip_targets_t *targets, const aip_gateway_t *gateway,
                        const aip_location_fields_t *f, apr_pool_t *pool)
{
    bool semantic = f->balancer_algorithm == AIP_ALGORITHM_SEMANTIC;
    json_object_set_new(object, "routing", routing_object(&targets->metrics->routing));
    json_object_set_new(object, "routes", routes_list(targets, f, pool));
    json_object_set_new(object, "recent_decisions", decisions_list(targets, pool));
    json_object_set_new(object, "embedder",
                        semantic ? embedder_object(targets, gateway, f, pool) : json_null());
    json_object_set_new(object, "vector_store",
                        semantic ? store_object(targets, f, pool) : json_null());
    json_object_set_new(object, "route_cache", cache_object(&targets->metrics->routing, f, pool));
}
