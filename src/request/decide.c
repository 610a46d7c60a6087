/* SPDX-License-Identifier: Apache-2.0 */
/* The decision by distances: prompt text -> distances of the routes, out of the cache, of another
 * request that asks the same at this moment, or measured -> ranking. One call per request. */
#include "routers.h"

#include "aip/flights.h"
#include "aip/recent.h"
#include "aip/upstream.h"

#include <apr_strings.h>
#include <http_log.h>
#include <math.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define VALUE_VERSION 1u
/* More routes than this are not cached: socache values are small (AIP_CACHE_VALUE_MAX). */
#define CACHED_ROUTES 4096
/* How long a child uses what it has got from the cache without asking again. */
#define RECENT APR_USEC_PER_SEC

/* What the cache holds under a decision's key. The bytes may come from another machine: all of ours
 * are little-endian. */
typedef struct value_t {
    apr_uint32_t version, n;
    float distances[];
} value_t;

static aip_recent_t *recent; /* NULL: there is no cache */

void aip_decide_child_init(apr_pool_t *pchild)
{
    recent = aip_registry->caches->nelts ? aip_recent_create(pchild) : NULL;
}

static apr_status_t unavailable(aip_request_t *req, const char *code, const char *message,
                                aip_error_t *err)
{
    return aip_error_set(err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error", code, NULL,
                         "%s", message);
}

/* The vector of the prompt. APR_EOF: the text has no word that the local model knows, so nothing is
 * near. */
static apr_status_t embed(aip_request_t *req, const aip_router_entry_t *entry, aip_span_t text,
                          float *vector, aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    apr_interval_time_t limit = apr_time_from_msec(f->embeddings_timeout);
    if (req->deadline && req->deadline - apr_time_now() < limit) {
        limit = req->deadline - apr_time_now();
    }
    if (!aip_router_ready(entry->router, limit)) {
        return unavailable(req, "references_missing",
                           "the descriptions of the targets could not be embedded yet", err);
    }
    if (aip_router_conf(entry->router)->embedder.local) {
        return aip_router_embed_local(entry->router, text, vector) ? APR_SUCCESS : APR_EOF;
    }
    return aip_embed_call(req, entry->router, entry->endpoint, text, vector, err);
}

static apr_status_t measure(aip_request_t *req, const aip_router_entry_t *entry, aip_span_t text,
                            float *distances, aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    const aip_routes_t *routes = req->conf->targets->routes;
    apr_pool_t *pool = req->r->pool;
    apr_size_t dims = (apr_size_t)aip_router_conf(entry->router)->embedder.dims;
    float *vector = apr_palloc(pool, dims * sizeof *vector);
    float *of_texts = apr_palloc(pool, (apr_size_t)(routes->n_texts + 1) * sizeof *of_texts);
    apr_time_t start = apr_time_now();
    apr_status_t rv = embed(req, entry, text, vector, err);
    apr_time_t embedded = apr_time_now();
    req->route.embedder = f->embeddings_model_name;
    req->route.embed_start = start;
    req->route.embed_took = embedded - start;
    if (rv == APR_SUCCESS) {
        aip_router_distances(entry->router, vector, of_texts, req->deadline, &req->route.degraded,
                             pool);
        aip_routes_distances(routes, of_texts, (aip_aggregate_e)f->route_aggregate,
                             (int)f->route_aggregate_top_k, distances, pool);
        req->route.search_start = embedded;
        req->route.search_took = apr_time_now() - embedded;
    }
    return rv;
}

/* Everything that the distances depend on, so that an old value can never be taken for a new one's;
 * thresholds, margins and weights are not among it. */
static void make_key(const aip_request_t *req, const aip_router_entry_t *entry, aip_span_t text,
                     unsigned char *key)
{
    const aip_location_fields_t *f = &req->conf->f;
    bool top_k = f->route_aggregate == AIP_AGGREGATE_TOPK_MEAN;
    const char *head = apr_psprintf(req->r->pool, "decision\n%s\n%d\n%d\n", entry->key,
                                    f->route_aggregate, top_k ? (int)f->route_aggregate_top_k : 0);
    apr_size_t len = strlen(head);
    char *all = apr_palloc(req->r->pool, len + text.len);
    memcpy(all, head, len);
    memcpy(all + len, text.data, text.len);
    SHA256((const unsigned char *)all, len + text.len, key);
}

/* The same key always has the same distances: what is older than the cache's life is not wrong. */
static void remember(const aip_request_t *req, const unsigned char *key, const float *distances,
                     int n)
{
    apr_interval_time_t life = apr_time_from_sec(req->conf->f.route_cache_ttl);
    aip_recent_put(recent, key, apr_time_now() + (life < RECENT ? life : RECENT), distances, n);
}

static bool recall(aip_request_t *req, aip_route_cache_t *cache, const unsigned char *key,
                   float *distances, int n)
{
    if (aip_recent_get(recent, key, apr_time_now(), distances, n)) {
        return true;
    }
    unsigned len = (unsigned)(sizeof(value_t) + (size_t)n * sizeof(float)), got = len;
    value_t *value = apr_palloc(req->r->pool, len);
    if (!aip_route_cache_get(cache, req->r, key, value, &got) || got != len ||
        value->version != VALUE_VERSION || value->n != (apr_uint32_t)n) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (!isfinite(value->distances[i])) {
            return false;
        }
        distances[i] = value->distances[i];
    }
    remember(req, key, distances, n);
    return true;
}

static void keep(aip_request_t *req, aip_route_cache_t *cache, const unsigned char *key,
                 const float *distances, int n)
{
    unsigned len = (unsigned)(sizeof(value_t) + (size_t)n * sizeof(float));
    value_t *value = apr_palloc(req->r->pool, len);
    value->version = VALUE_VERSION;
    value->n = (apr_uint32_t)n;
    memcpy(value->distances, distances, (size_t)n * sizeof(float));
    aip_route_cache_put(cache, req->r, key, value, len,
                        apr_time_from_sec(req->conf->f.route_cache_ttl), false);
    remember(req, key, distances, n);
}

static apr_status_t measure_and_keep(aip_request_t *req, const aip_router_entry_t *entry,
                                     aip_span_t text, const unsigned char *key,
                                     aip_route_cache_t *cache, float *distances, aip_error_t *err)
{
    int n = req->conf->targets->routes->n;
    apr_status_t rv = measure(req, entry, text, distances, err);
    if (rv == APR_SUCCESS && cache) {
        keep(req, cache, key, distances, n);
    }
    return rv;
}

/* Whether the embeddings call goes with a credential of the client's: its failure is nobody else's.
 */
static bool pays_itself(const aip_request_t *req)
{
    const aip_location_fields_t *f = &req->conf->f;
    return f->embeddings_auth_allow_override && f->embeddings_auth_header_name &&
           apr_table_get(req->r->headers_in, f->embeddings_auth_header_name);
}

/* Measures, unless another request does so already. */
static apr_status_t measure_once(aip_request_t *req, const aip_router_entry_t *entry,
                                 aip_span_t text, const unsigned char *key,
                                 aip_route_cache_t *cache, float *distances, aip_error_t *err)
{
    int n = req->conf->targets->routes->n;
    apr_time_t start = apr_time_now();
    apr_time_t deadline = start + apr_time_from_msec(req->conf->f.embeddings_timeout);
    aip_flight_t flight;
    apr_status_t rv = APR_SUCCESS;
    deadline = req->deadline && req->deadline < deadline ? req->deadline : deadline;
    aip_flight_e what = aip_flight_join(req->r, key, deadline, distances, n, &flight);
    if (what == AIP_FLIGHT_OWN || what == AIP_FLIGHT_ALONE) {
        rv = measure_and_keep(req, entry, text, key, cache, distances, err);
        if (what == AIP_FLIGHT_OWN) {
            /* what ended this request alone, the others may try */
            bool own = req->r->connection->aborted || deadline == req->deadline;
            aip_flight_land(&flight, rv == APR_SUCCESS ? distances : NULL, n,
                            own ? NULL : err->code);
        }
        return rv;
    }
    req->route.cache = AIP_CACHE_SHARED;
    req->route.embed_took = apr_time_now() - start;
    if (what == AIP_FLIGHT_TOO_LATE) {
        return unavailable(req, "embeddings_timeout",
                           "the embeddings call of an identical request took too long", err);
    }
    return what == AIP_FLIGHT_RESULT
               ? APR_SUCCESS
               : unavailable(req, apr_pstrdup(req->r->pool, flight.code),
                             "the embeddings call of an identical request failed", err);
}

static apr_status_t find_distances(aip_request_t *req, aip_span_t text, float *distances,
                                   aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    const aip_router_entry_t *entry = aip_router_of(req);
    int n = req->conf->targets->routes->n;
    bool remote = aip_routing_is_remote(f);
    aip_route_cache_t *cache = remote || f->set[AIP_L_route_cache] ? aip_route_cache_of(f) : NULL;
    unsigned char key[AIP_CACHE_KEY];
    if (!entry->router) {
        return unavailable(req, "router_unavailable", "routing by meaning is not available", err);
    }
    cache = n <= CACHED_ROUTES ? cache : NULL;
    if (cache || remote) {
        make_key(req, entry, text, key);
    }
    apr_time_t start = apr_time_now();
    if (cache && recall(req, cache, key, distances, n)) {
        req->route.cache = AIP_CACHE_HIT;
        req->route.recall_took = apr_time_now() - start;
        return APR_SUCCESS;
    }
    req->route.cache = cache ? AIP_CACHE_MISS : AIP_CACHE_OFF;
    return remote && !pays_itself(req)
               ? measure_once(req, entry, text, key, cache, distances, err)
               : measure_and_keep(req, entry, text, key, cache, distances, err);
}

/* The target that an action names, unless it is one of the two words. */
static void prefer(aip_request_t *req, const char *name, const char *a, const char *b)
{
    if (strcmp(name, a) != 0 && strcmp(name, b) != 0) {
        req->route.preferred = aip_targets_find(req->conf->targets, name, strlen(name));
    }
}

/* AIRouteOnFailure. */
static apr_status_t on_failure(aip_request_t *req, const aip_error_t *cause, aip_error_t *err)
{
    const char *action = req->conf->f.route_on_failure;
    req->route.failure = cause->code;
    if (req->r->connection->aborted) {
        return APR_ECONNABORTED;
    }
    ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, req->r,
                  "AIP0043: cannot route by meaning (%s: %s); AIRouteOnFailure %s", cause->code,
                  cause->message, action);
    aip_decide_catchall(req->conf->targets->routes, AIP_REASON_EMBED_ERROR, &req->route.decision,
                        req->r->pool);
    int session = req->route.session.target;
    bool kept = session >= 0 && !(req->route.barred && req->route.barred[session]);
    if (strcmp(action, "fail") == 0 && kept) {
        req->route.decision.n = 0; /* its target alone */
    } else if (strcmp(action, "fail") == 0) {
        return aip_error_set(err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error",
                             cause->code, NULL, "%s", cause->message);
    }
    prefer(req, action, "catchall", "fail"); /* the catch-all follows, should it fail */
    return APR_SUCCESS;
}

apr_status_t aip_decide_request(aip_request_t *req, aip_error_t *err)
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
    float *distances = apr_palloc(pool, (apr_size_t)(routes->n + 1) * sizeof *distances);
    rv = prompt.text.len ? find_distances(req, prompt.text, distances, &cause) : APR_EOF;
    if (rv == APR_EOF) {
        aip_decide_catchall(routes, AIP_REASON_EMPTY, &req->route.decision, pool);
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return on_failure(req, &cause, err);
    }
    aip_decide(routes, distances, &req->route.rules, &req->route.decision, pool);
    if (req->route.decision.reason == AIP_REASON_AMBIGUOUS) {
        prefer(req, f->route_on_ambiguous, "nearest", "catchall");
    }
    return APR_SUCCESS;
}
