/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and the decision. Routes are made once per configuration, a decision once per request;
 * both are pure. */
#include "aip/route.h"

#include <stdlib.h>
#include <string.h>

int aip_routes_find(const aip_routes_t *routes, const char *description)
{
    for (int i = 0; description && i < routes->n; i++) {
        if (strcmp(routes->routes[i].description, description) == 0) {
            return i;
        }
    }
    return -1;
}

int aip_route_of_target(const aip_routes_t *routes, int target)
{
    for (int r = 0; r < routes->n; r++) {
        for (int i = 0; i < routes->routes[r].n_targets; i++) {
            if (routes->routes[r].targets[i] == target) {
                return r;
            }
        }
    }
    return -1;
}

/* Index of a text in the list of all, added when new; the route gets it once. */
static void add_text(aip_routes_t *routes, aip_route_t *route, const char *text)
{
    size_t len = strlen(text);
    int t = 0;
    while (t < routes->n_texts &&
           !(routes->texts[t].len == len && memcmp(routes->texts[t].data, text, len) == 0)) {
        t++;
    }
    if (t == routes->n_texts) {
        routes->texts[routes->n_texts++] = (aip_span_t){text, len};
    }
    for (int i = 0; i < route->n_texts; i++) {
        if (route->texts[i] == t) {
            return;
        }
    }
    route->texts[route->n_texts++] = t;
}

static int count_texts(const aip_route_source_t *sources, int n)
{
    int texts = 0;
    for (int i = 0; i < n; i++) {
        texts += 1 + (sources[i].examples ? sources[i].examples->nelts : 0);
    }
    return texts;
}

aip_routes_t *aip_routes_create(const aip_route_source_t *sources, int n, apr_pool_t *pool)
{
    aip_routes_t *routes = apr_pcalloc(pool, sizeof *routes);
    int max_texts = count_texts(sources, n);
    routes->routes = apr_pcalloc(pool, (apr_size_t)n * sizeof *routes->routes);
    routes->texts = apr_pcalloc(pool, (apr_size_t)max_texts * sizeof *routes->texts);
    routes->catchall = -1;
    for (int i = 0; i < n; i++) {
        if (!sources[i].description) {
            continue;
        }
        int r = aip_routes_find(routes, sources[i].description);
        if (r < 0) {
            r = routes->n++;
            routes->routes[r] =
                (aip_route_t){.description = sources[i].description,
                              .catchall = strcmp(sources[i].description, AIP_CATCHALL) == 0,
                              .targets = apr_pcalloc(pool, (apr_size_t)n * sizeof(int)),
                              .texts = apr_pcalloc(pool, (apr_size_t)max_texts * sizeof(int))};
        }
        aip_route_t *route = &routes->routes[r];
        route->targets[route->n_targets++] = i;
        route->threshold = sources[i].threshold ? sources[i].threshold : route->threshold;
        if (route->catchall) {
            routes->catchall = r;
            continue;
        }
        add_text(routes, route, sources[i].description);
        for (int e = 0; sources[i].examples && e < sources[i].examples->nelts; e++) {
            add_text(routes, route, APR_ARRAY_IDX(sources[i].examples, e, const char *));
        }
    }
    return routes;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Mean of the k least; sorts `d`. */
static float mean_of_least(float *d, int n, int k)
{
    double sum = 0;
    k = k < n ? k : n;
    if (k < n) {
        qsort(d, (size_t)n, sizeof *d, compare_floats);
    }
    for (int i = 0; i < k; i++) {
        sum += (double)d[i];
    }
    return (float)(sum / k);
}

static float route_distance(const aip_route_t *route, const float *texts, aip_aggregate_e aggregate,
                            int top_k, float *scratch)
{
    float best = texts[route->texts[0]];
    for (int t = 0; t < route->n_texts; t++) {
        scratch[t] = texts[route->texts[t]];
        best = scratch[t] < best ? scratch[t] : best;
    }
    return aggregate == AIP_AGGREGATE_MAX ? best
           : aggregate == AIP_AGGREGATE_MEAN
               ? mean_of_least(scratch, route->n_texts, route->n_texts)
               : mean_of_least(scratch, route->n_texts, top_k);
}

void aip_routes_distances(const aip_routes_t *routes, const float *texts, aip_aggregate_e aggregate,
                          int top_k, float *out, apr_pool_t *pool)
{
    float *scratch = apr_palloc(pool, (apr_size_t)(routes->n_texts + 1) * sizeof *scratch);
    for (int r = 0; r < routes->n; r++) {
        const aip_route_t *route = &routes->routes[r];
        out[r] = route->catchall ? -1 : route_distance(route, texts, aggregate, top_k, scratch);
    }
}

const char *aip_reason_name(aip_reason_e reason)
{
    static const char *const names[] = {"none",      "match",  "catchall", "empty",
                                        "ambiguous", "forced", "sticky",   "embed_error"};
    return names[reason];
}

void aip_decide_catchall(const aip_routes_t *routes, aip_reason_e reason, aip_decision_t *decision,
                         apr_pool_t *pool)
{
    *decision = (aip_decision_t){.reason = reason, .nearest = -1, .distance = -1};
    decision->ranked = apr_pcalloc(pool, (apr_size_t)(routes->n + 1) * sizeof *decision->ranked);
    if (routes->catchall >= 0) {
        decision->ranked[decision->n++] = (aip_ranked_t){routes->catchall, -1};
    }
}

/* Insertion keeps configuration order among equals, and routes are few. */
static void insert(aip_decision_t *decision, aip_ranked_t ranked)
{
    int i = decision->n++;
    for (; i > 0 && decision->ranked[i - 1].distance > ranked.distance; i--) {
        decision->ranked[i] = decision->ranked[i - 1];
    }
    decision->ranked[i] = ranked;
}

const double *aip_route_threshold(const aip_routes_t *routes, int route,
                                  const aip_route_rules_t *rules)
{
    return routes->routes[route].threshold ? routes->routes[route].threshold : rules->threshold;
}

bool aip_route_within(const aip_routes_t *routes, int route, float distance,
                      const aip_route_rules_t *rules)
{
    const double *threshold = aip_route_threshold(routes, route, rules);
    return !threshold || (double)distance <= *threshold + AIP_DISTANCE_EPSILON;
}

bool aip_route_open(const aip_routes_t *routes, int route, const aip_route_rules_t *rules)
{
    const aip_route_t *r = &routes->routes[route];
    bool open = !rules->barred;
    for (int i = 0; !open && i < r->n_targets; i++) {
        open = !rules->barred[r->targets[i]];
    }
    return open;
}

/* Whether some route is about as near as the nearest eligible one; one that is not eligible counts
 * as well, for the threshold is no less uncertain than the distances. */
static bool is_ambiguous(const aip_routes_t *routes, const aip_decision_t *decision,
                         const aip_route_rules_t *rules)
{
    const aip_ranked_t *first = &decision->ranked[0];
    for (int r = 0; r < routes->n; r++) {
        double difference = (double)decision->distances[r] - (double)first->distance;
        if (r != first->route && !routes->routes[r].catchall && aip_route_open(routes, r, rules) &&
            (difference < 0 ? -difference : difference) < rules->margin - AIP_DISTANCE_EPSILON) {
            return true;
        }
    }
    return false;
}

static void add_catchall(const aip_routes_t *routes, aip_decision_t *decision, bool first)
{
    int at = first ? 0 : decision->n;
    memmove(decision->ranked + at + 1, decision->ranked + at,
            (size_t)(decision->n - at) * sizeof *decision->ranked);
    decision->ranked[at] = (aip_ranked_t){routes->catchall, -1};
    decision->n++;
}

void aip_decide(const aip_routes_t *routes, const float *distances, const aip_route_rules_t *rules,
                aip_decision_t *decision, apr_pool_t *pool)
{
    *decision = (aip_decision_t){
        .reason = AIP_REASON_CATCHALL, .nearest = -1, .distance = -1, .distances = distances};
    decision->ranked = apr_pcalloc(pool, (apr_size_t)(routes->n + 1) * sizeof *decision->ranked);
    for (int r = 0; r < routes->n; r++) {
        if (routes->routes[r].catchall || !aip_route_open(routes, r, rules)) {
            continue;
        }
        if (decision->nearest < 0 || distances[r] < decision->distance) {
            decision->nearest = r;
            decision->distance = distances[r];
        }
        if (aip_route_within(routes, r, distances[r], rules)) {
            insert(decision, (aip_ranked_t){r, distances[r]});
        }
    }
    if (decision->n) {
        decision->reason =
            is_ambiguous(routes, decision, rules) ? AIP_REASON_AMBIGUOUS : AIP_REASON_MATCH;
    }
    if (routes->catchall >= 0 && aip_route_open(routes, routes->catchall, rules)) {
        add_catchall(routes, decision,
                     decision->reason == AIP_REASON_AMBIGUOUS && rules->ambiguous_catchall);
    }
}

float aip_decision_distance(const aip_routes_t *routes, const aip_decision_t *decision,
                            const char *description)
{
    int route = aip_routes_find(routes, description);
    return route >= 0 && route != routes->catchall && decision->distances
               ? decision->distances[route]
               : decision->distance;
}
