/* SPDX-License-Identifier: Apache-2.0 */
/* The routing stage: from the chat to the ranking of routes. One call per request, in its thread:
 * guards, session, decision by distances, in this order. */
#include "routers.h"

#include "aip/observe.h"

#include <apr_strings.h>
#include <http_log.h>
#include <stdatomic.h>

APLOG_USE_MODULE(ai_proxy_adv);

static void log_decision(const aip_request_t *req)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    const double *threshold = req->route.rules.threshold;
    if (d->nearest >= 0) {
        threshold = aip_route_threshold(routes, d->nearest, &req->route.rules);
    }
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, req->r,
                  "AIP0044: %s: nearest route '%s', distance %.4f, threshold %s, %d routes, "
                  "embedding %" APR_TIME_T_FMT " us, search %" APR_TIME_T_FMT " us%s",
                  aip_reason_text(req),
                  d->nearest >= 0 ? routes->routes[d->nearest].description : "-",
                  (double)d->distance, threshold ? aip_real_text(*threshold, req->r->pool) : "none",
                  d->n, req->route.embed_took, req->route.search_took,
                  req->route.degraded ? ", from the mirror" : "");
}

static void count(const aip_request_t *req)
{
    static const char *const failures[AIP_ROUTE_N_FAILURES] = {AIP_ROUTE_FAILURES};
    aip_route_counts_t *counts = &req->conf->targets->metrics->routing;
    int cause = 0;
    if (req->dry) {
        return;
    }
    atomic_fetch_add(&counts->reasons[req->route.reason], 1);
    atomic_fetch_add(&counts->cache[req->route.cache], 1);
    if (req->route.degraded) {
        atomic_fetch_add(&counts->store_errors, 1);
    }
    if (req->route.failure) {
        while (cause + 1 < AIP_ROUTE_N_FAILURES &&
               strcmp(failures[cause], req->route.failure) != 0) {
            cause++;
        }
        atomic_fetch_add(&counts->failures[cause], 1);
    }
}

/* Whether a route that must not be tried would have matched. */
static bool barred_match(const aip_request_t *req)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    for (int r = 0; d->distances && r < routes->n; r++) {
        if (!aip_route_open(routes, r, &req->route.rules) &&
            (routes->routes[r].catchall ||
             aip_route_within(routes, r, d->distances[r], &req->route.rules))) {
            return true;
        }
    }
    return false;
}

static apr_status_t no_route(const aip_request_t *req, aip_error_t *err)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    if (barred_match(req)) {
        return aip_guards_refuse(req, err);
    }
    if (d->nearest < 0) {
        return aip_error_set(
            err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error", "no_matching_target",
            NULL,
            "the prompt could not be compared with any target, and there is no catch-all target");
    }
    return aip_error_set(
        err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error", "no_matching_target", NULL,
        "no target is near enough to the prompt: the nearest, '%s', has distance "
        "%.4f, the threshold is %s",
        routes->routes[d->nearest].description, (double)d->distance,
        aip_real_text(*aip_route_threshold(routes, d->nearest, &req->route.rules), req->r->pool));
}

static apr_status_t route(aip_request_t *req, aip_error_t *err)
{
    bool semantic = req->conf->f.balancer_algorithm == AIP_ALGORITHM_SEMANTIC;
    if (aip_guards(req, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (req->route.reason == AIP_REASON_FORCED) {
        return APR_SUCCESS;
    }
    req->route.rules.barred = req->route.barred;
    if (aip_session_find(req, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (semantic) {
        apr_status_t rv = aip_decide_request(req, err);
        req->route.reason = req->route.decision.reason;
        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    aip_session_apply(req);
    if (!semantic) {
        return APR_SUCCESS;
    }
    log_decision(req);
    return req->route.decision.n || req->route.preferred >= 0 ? APR_SUCCESS : no_route(req, err);
}

apr_status_t aip_route_stage(aip_request_t *req, aip_error_t *err)
{
    req->route.preferred = -1;
    req->route.session.target = -1;
    req->route.rules = aip_route_rules_of(&req->conf->f);
    apr_status_t rv = route(req, err);
    count(req);
    return rv;
}
