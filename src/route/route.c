/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and the decision. Routes are made once per configuration, a decision once per request;
 * both are pure. */
#include "aip/route.h"

#include <string.h>

static int find_route(const aip_routes_t *routes, const char *description)
{
    for (int i = 0; i < routes->n; i++) {
        if (strcmp(routes->routes[i].description, description) == 0) {
            return i;
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
        int r = find_route(routes, sources[i].description);
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

const char *aip_reason_name(aip_reason_e reason)
{
    switch (reason) {
    case AIP_REASON_NONE:
        return "none";
    case AIP_REASON_MATCH:
        return "match";
    case AIP_REASON_THRESHOLD:
        return "threshold";
    case AIP_REASON_EMPTY:
        return "empty";
    case AIP_REASON_FAILURE:
        return "failure";
    }
    return "none";
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

void aip_decide(const aip_routes_t *routes, const float *distances, const double *threshold,
                aip_decision_t *decision, apr_pool_t *pool)
{
    *decision = (aip_decision_t){.reason = AIP_REASON_THRESHOLD, .nearest = -1, .distance = -1};
    decision->ranked = apr_pcalloc(pool, (apr_size_t)(routes->n + 1) * sizeof *decision->ranked);
    for (int r = 0; r < routes->n; r++) {
        const aip_route_t *route = &routes->routes[r];
        if (route->catchall) {
            continue;
        }
        float best = distances[route->texts[0]];
        for (int t = 1; t < route->n_texts; t++) {
            best = distances[route->texts[t]] < best ? distances[route->texts[t]] : best;
        }
        if (decision->nearest < 0 || best < decision->distance) {
            decision->nearest = r;
            decision->distance = best;
        }
        if (!threshold || (double)best <= *threshold + AIP_DISTANCE_EPSILON) {
            insert(decision, (aip_ranked_t){r, best});
        }
    }
    if (decision->n) {
        decision->reason = AIP_REASON_MATCH;
    }
    if (routes->catchall >= 0) {
        decision->ranked[decision->n++] = (aip_ranked_t){routes->catchall, -1};
    }
}

float aip_decision_distance(const aip_routes_t *routes, const aip_decision_t *decision,
                            const char *description)
{
    for (int i = 0; description && i < decision->n; i++) {
        const aip_ranked_t *ranked = &decision->ranked[i];
        if (ranked->distance >= 0 &&
            strcmp(routes->routes[ranked->route].description, description) == 0) {
            return ranked->distance;
        }
    }
    return decision->distance;
}
