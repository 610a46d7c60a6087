/* SPDX-License-Identifier: Apache-2.0 */
/* The routing stage: from the chat to the ranking of routes. One call per request, in its thread.
 */
#include "routers.h"

#include "aip/upstream.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* The vector of the prompt. APR_EOF: the text has no word that the local model knows, so nothing is
 * near. */
static apr_status_t embed(aip_request_t *req, const aip_router_entry_t *entry, aip_span_t text,
                          float *vector, aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    apr_pool_t *pool = req->r->pool;
    if (!entry->router) {
        return aip_error_set(err, pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error",
                             "router_unavailable", NULL, "routing by meaning is not available");
    }
    if (!aip_router_ready(entry->router, apr_time_from_msec(f->embeddings_timeout))) {
        return aip_error_set(err, pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error",
                             "references_missing", NULL,
                             "the descriptions of the targets could not be embedded yet");
    }
    if (aip_router_conf(entry->router)->embedder.local) {
        return aip_router_embed_local(entry->router, text, vector) ? APR_SUCCESS : APR_EOF;
    }
    return aip_embed_call(req, entry->router, entry->endpoint, text, vector, err);
}

static void decide_vector(aip_request_t *req, const aip_router_entry_t *entry, const float *vector)
{
    const aip_location_fields_t *f = &req->conf->f;
    const aip_routes_t *routes = req->conf->targets->routes;
    float *distances =
        apr_palloc(req->r->pool, (apr_size_t)(routes->n_texts + 1) * sizeof *distances);
    apr_time_t start = apr_time_now();
    aip_router_distances(entry->router, vector, distances, &req->route.degraded, req->r->pool);
    req->route.search_took = apr_time_now() - start;
    aip_decide(routes, distances,
               f->set[AIP_L_vectordb_threshold] ? &f->vectordb_threshold.value : NULL,
               &req->route.decision, req->r->pool);
}

/* AIRouteOnFailure. */
static apr_status_t on_failure(aip_request_t *req, const aip_error_t *cause, aip_error_t *err)
{
    const char *action = req->conf->f.route_on_failure;
    const aip_targets_t *targets = req->conf->targets;
    req->route.failure = cause->code;
    if (req->r->connection->aborted) {
        return APR_ECONNABORTED;
    }
    ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, req->r,
                  "AIP0043: cannot route by meaning (%s: %s); AIRouteOnFailure %s", cause->code,
                  cause->message, action);
    if (strcmp(action, "fail") == 0) {
        return aip_error_set(err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error",
                             cause->code, NULL, "%s", cause->message);
    }
    aip_decide_catchall(targets->routes, AIP_REASON_FAILURE, &req->route.decision, req->r->pool);
    for (int i = 0; strcmp(action, "catchall") != 0 && i < targets->n; i++) {
        if (strcmp(targets->list[i]->name, action) == 0) {
            req->route.preferred = i; /* the catch-all follows, should it fail */
        }
    }
    return APR_SUCCESS;
}

static apr_status_t decide(aip_request_t *req, aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    const aip_routes_t *routes = req->conf->targets->routes;
    apr_pool_t *pool = req->r->pool;
    aip_prompt_t prompt;
    aip_error_t cause = {0};
    apr_status_t rv = aip_chat_prompt(&req->chat, f->route_prompt.scope, f->route_prompt.count,
                                      (size_t)f->route_prompt_max_bytes, &prompt, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    req->route.truncated = prompt.truncated;
    if (prompt.text.len == 0) {
        aip_decide_catchall(routes, AIP_REASON_EMPTY, &req->route.decision, pool);
        return APR_SUCCESS;
    }
    const aip_router_entry_t *entry = aip_router_of(req);
    int dims = entry->router ? aip_router_conf(entry->router)->embedder.dims : 1;
    float *vector = apr_palloc(pool, (apr_size_t)dims * sizeof *vector);
    apr_time_t start = apr_time_now();
    rv = embed(req, entry, prompt.text, vector, &cause);
    req->route.embed_took = apr_time_now() - start;
    req->route.embedder = f->embeddings_model_name;
    if (rv == APR_EOF) {
        aip_decide_catchall(routes, AIP_REASON_EMPTY, &req->route.decision, pool);
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return on_failure(req, &cause, err);
    }
    decide_vector(req, entry, vector);
    return APR_SUCCESS;
}

static void log_decision(const aip_request_t *req)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    const aip_location_fields_t *f = &req->conf->f;
    ap_log_rerror(
        APLOG_MARK, APLOG_DEBUG, 0, req->r,
        "AIP0044: %s: nearest route '%s', distance %.4f, threshold %s, %d routes, embedding "
        "%" APR_TIME_T_FMT " us, search %" APR_TIME_T_FMT " us%s",
        aip_reason_name(d->reason), d->nearest >= 0 ? routes->routes[d->nearest].description : "-",
        (double)d->distance, f->set[AIP_L_vectordb_threshold] ? f->vectordb_threshold.json : "none",
        d->n, req->route.embed_took, req->route.search_took,
        req->route.degraded ? ", from the mirror" : "");
}

static apr_status_t no_route(const aip_request_t *req, aip_error_t *err)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_location_fields_t *f = &req->conf->f;
    if (d->nearest < 0) {
        return aip_error_set(
            err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error", "no_matching_target",
            NULL,
            "the prompt could not be compared with any target, and there is no catch-all target");
    }
    return aip_error_set(err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error",
                         "no_matching_target", NULL,
                         "no target is near enough to the prompt: the nearest, '%s', has distance "
                         "%.4f, the threshold is %s",
                         req->conf->targets->routes->routes[d->nearest].description,
                         (double)d->distance, f->vectordb_threshold.json);
}

apr_status_t aip_route_stage(aip_request_t *req, aip_error_t *err)
{
    req->route.preferred = -1;
    if (req->conf->f.balancer_algorithm != AIP_ALGORITHM_SEMANTIC) {
        return APR_SUCCESS;
    }
    apr_status_t rv = decide(req, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    log_decision(req);
    return req->route.decision.n || req->route.preferred >= 0 ? APR_SUCCESS : no_route(req, err);
}
