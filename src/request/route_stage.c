/* SPDX-License-Identifier: Apache-2.0 */
/* The routing stage: from the chat to the candidate list. Owns the routers of this child: those of
 * checked gateways are started in child_init, one that only a combination of sections makes is
 * started by its first request. */
#include "aip/upstream.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* What makes two merged configurations share a router. Strings are compared by address: merges copy
 * pointers. */
typedef struct router_key_t {
    const aip_targets_t *targets;
    const char *model, *url, *header_name, *header_value, *param_name, *param_value, *host,
        *username, *password;
    const char *server_name, *state_dir;
    apr_int64_t numbers[16];
} router_key_t;

typedef struct router_entry_t {
    router_key_t key;
    aip_router_t *router;
    const aip_endpoint_t *endpoint; /* of the embeddings provider; NULL: local */
    struct router_entry_t *next;
} router_entry_t;

static struct {
    apr_pool_t *pool;
    apr_thread_mutex_t *mutex;
    router_entry_t *volatile first; /* only ever grows at the front */
} routers;

static void make_key(router_key_t *key, const aip_dir_conf_t *conf)
{
    const aip_location_fields_t *f = &conf->f;
    memset(key, 0, sizeof *key);
    key->targets = conf->targets;
    key->model = f->embeddings_model_name;
    key->url = f->embeddings_model_options_upstream_url;
    key->header_name = f->embeddings_auth_header_name;
    key->header_value = f->embeddings_auth_header_value;
    key->param_name = f->embeddings_auth_param_name;
    key->param_value = f->embeddings_auth_param_value;
    key->host = f->vectordb_redis_host;
    key->username = f->vectordb_redis_username;
    key->password = f->vectordb_redis_password;
    key->server_name = f->vectordb_redis_server_name;
    key->state_dir = f->state_dir;
    apr_int64_t numbers[] = {
        f->embeddings_model_provider,
        f->embeddings_auth_param_location,
        f->embeddings_send_dimensions,
        f->embeddings_timeout,
        f->vectordb_strategy,
        f->vectordb_dimensions,
        f->vectordb_distance_metric,
        f->vectordb_redis_port,
        f->vectordb_redis_database,
        f->vectordb_redis_connect_timeout,
        f->vectordb_redis_send_timeout,
        f->vectordb_redis_read_timeout,
        f->vectordb_redis_keepalive_pool_size,
        f->set[AIP_L_vectordb_redis_keepalive_backlog] ? f->vectordb_redis_keepalive_backlog : -1,
        f->vectordb_redis_ssl * 2 + f->vectordb_redis_ssl_verify,
        f->vectordb_redis_connection_is_proxied};
    memcpy(key->numbers, numbers, sizeof numbers);
}

static void log_line(void *baton, aip_log_level_e level, const char *message)
{
    ap_log_error(APLOG_MARK, (int)level, 0, (server_rec *)baton, "%s", message);
}

static aip_redis_conf_t *redis_conf(const aip_location_fields_t *f, apr_pool_t *pool)
{
    aip_redis_conf_t *redis = apr_pcalloc(pool, sizeof *redis);
    *redis = (aip_redis_conf_t){
        .host = f->vectordb_redis_host,
        .port = (int)f->vectordb_redis_port,
        .username = f->vectordb_redis_username,
        .password = f->vectordb_redis_password,
        .database = (int)f->vectordb_redis_database,
        .connect_timeout = (int)f->vectordb_redis_connect_timeout,
        .send_timeout = (int)f->vectordb_redis_send_timeout,
        .read_timeout = (int)f->vectordb_redis_read_timeout,
        .pool_size = (int)f->vectordb_redis_keepalive_pool_size,
        .backlog = f->set[AIP_L_vectordb_redis_keepalive_backlog]
                       ? (int)f->vectordb_redis_keepalive_backlog
                       : -1,
        .ssl = f->vectordb_redis_ssl,
        .ssl_verify = f->vectordb_redis_ssl_verify,
        .server_name = f->vectordb_redis_server_name,
        .proxied = f->vectordb_redis_connection_is_proxied,
    };
    return redis;
}

static bool send_dimensions(const aip_location_fields_t *f)
{
    return f->embeddings_send_dimensions == AIP_DIMENSIONS_ON ||
           (f->embeddings_send_dimensions == AIP_DIMENSIONS_AUTO &&
            aip_embeddings_takes_dimensions(f->embeddings_model_name));
}

/* @return NULL, or what is missing for a router */
static const char *embedder_conf(router_entry_t *entry, const aip_location_fields_t *f,
                                 aip_embedder_conf_t *conf, apr_pool_t *pool)
{
    const char *error, *word = aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                                              f->embeddings_model_provider, pool);
    const aip_embeddings_provider_t *provider = aip_embeddings_provider(word);
    aip_url_t url;
    if (!f->embeddings_model_name || !f->set[AIP_L_embeddings_model_provider]) {
        return "no embeddings model is configured";
    }
    if (provider->local) {
        conf->local =
            apr_hash_get(aip_registry->models, aip_model_dir(f->embeddings_model_name, pool),
                         APR_HASH_KEY_STRING);
        conf->dims = conf->local ? aip_model2vec_dims(conf->local) : 0;
        return conf->local ? NULL : "the local embeddings model was not loaded at start";
    }
    const char *text = f->embeddings_model_options_upstream_url
                           ? f->embeddings_model_options_upstream_url
                           : provider->default_url;
    if (!text || aip_url_parse(text, &url, pool, &error) != APR_SUCCESS ||
        !f->set[AIP_L_vectordb_dimensions]) {
        return "the embeddings provider is not configured completely";
    }
    entry->endpoint = aip_endpoint_find("embeddings", &url);
    bool query_param =
        f->embeddings_auth_param_name && f->embeddings_auth_param_location == AIP_PARAM_QUERY;
    *conf = (aip_embedder_conf_t){
        .provider = provider->name,
        .model = f->embeddings_model_name,
        .url = text,
        .header_name = f->embeddings_auth_header_name,
        .header_value = f->embeddings_auth_header_value,
        .param_name = f->embeddings_auth_param_name,
        .param_value = f->embeddings_auth_param_value,
        .param_in_body = f->embeddings_auth_param_name && !query_param,
        .dims = (int)f->vectordb_dimensions,
        .send_dimensions = send_dimensions(f),
        .timeout = apr_time_from_msec(f->embeddings_timeout),
    };
    return entry->endpoint ? NULL : "the embeddings endpoint was not known at start";
}

static router_entry_t *start_router(const aip_dir_conf_t *conf, const char *where,
                                    server_rec *server)
{
    router_entry_t *entry = apr_pcalloc(routers.pool, sizeof *entry);
    const aip_location_fields_t *f = &conf->f;
    aip_router_conf_t rc = {.name = where,
                            .routes = conf->targets->routes,
                            .metric = (aip_metric_e)f->vectordb_distance_metric,
                            .announced = conf->targets->store,
                            .cache_dir = ap_runtime_dir_relative(routers.pool, f->state_dir),
                            .log = {log_line, server}};
    make_key(&entry->key, conf);
    const char *error = embedder_conf(entry, f, &rc.embedder, routers.pool);
    if (error) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, server, "AIP0040: %s: cannot route by meaning: %s",
                     where, error);
    } else {
        rc.redis = f->vectordb_strategy == AIP_STRATEGY_REDIS ? redis_conf(f, routers.pool) : NULL;
        apr_status_t rv = aip_router_create(&entry->router, &rc, routers.pool);
        if (rv != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, server, "AIP0041: %s: cannot start the router",
                         where);
            entry->router = NULL;
        }
    }
    entry->next = routers.first;
    routers.first = entry;
    return entry;
}

static router_entry_t *find_router(const router_key_t *key)
{
    for (router_entry_t *entry = routers.first; entry; entry = entry->next) {
        if (memcmp(&entry->key, key, sizeof *key) == 0) {
            return entry;
        }
    }
    return NULL;
}

static router_entry_t *router_of(const aip_request_t *req)
{
    router_key_t key;
    make_key(&key, req->conf);
    router_entry_t *entry = find_router(&key);
    if (!entry) {
        apr_thread_mutex_lock(routers.mutex);
        entry = find_router(&key);
        entry =
            entry ? entry : start_router(req->conf, "a combination of sections", req->r->server);
        apr_thread_mutex_unlock(routers.mutex);
    }
    return entry;
}

void aip_routers_init(apr_pool_t *pchild, server_rec *s)
{
    memset(&routers, 0, sizeof routers);
    routers.pool = pchild;
    if (apr_thread_mutex_create(&routers.mutex, APR_THREAD_MUTEX_DEFAULT, pchild) != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s, "AIP0042: no mutex for the routers");
        return;
    }
    for (int i = 0; i < aip_registry->gateways->nelts; i++) {
        const aip_gateway_t *gateway = &APR_ARRAY_IDX(aip_registry->gateways, i, aip_gateway_t);
        router_key_t key;
        make_key(&key, gateway->conf);
        if (gateway->conf->f.balancer_algorithm == AIP_ALGORITHM_SEMANTIC && !find_router(&key)) {
            (void)start_router(gateway->conf, gateway->where, gateway->server);
        }
    }
}

/* The vector of the prompt. APR_EOF: the text has no word that the local model knows, so nothing is
 * near. */
static apr_status_t embed(aip_request_t *req, const router_entry_t *entry, aip_span_t text,
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

static void decide_vector(aip_request_t *req, const router_entry_t *entry, const float *vector)
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
            req->candidates.targets[req->candidates.n++] =
                i; /* the catch-all follows, should it fail */
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
    const router_entry_t *entry = router_of(req);
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
        "AIP0044: %s: nearest route '%s', distance %.4f, threshold %s, %d candidates, embedding "
        "%" APR_TIME_T_FMT " us, search %" APR_TIME_T_FMT " us%s",
        aip_reason_name(d->reason), d->nearest >= 0 ? routes->routes[d->nearest].description : "-",
        (double)d->distance, f->set[AIP_L_vectordb_threshold] ? f->vectordb_threshold.json : "none",
        req->candidates.n, req->route.embed_took, req->route.search_took,
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

/* One tick of every wheel that this request turns. */
static void add_ranked(aip_request_t *req)
{
    const aip_targets_t *targets = req->conf->targets;
    const aip_decision_t *d = &req->route.decision;
    apr_uint32_t *ticks = apr_pcalloc(req->r->pool, (apr_size_t)targets->routes->n * sizeof *ticks);
    if (d->n) {
        int first = d->ranked[0].route;
        ticks[first] = apr_atomic_inc32(&targets->ticks[first]);
    }
    aip_candidates_t ranked = {
        .targets = apr_pcalloc(req->r->pool, (apr_size_t)(targets->n + 1) * sizeof(int))};
    aip_candidates_ranked(d, targets->by_route, ticks, &ranked);
    for (int i = 0; i < ranked.n; i++) {
        if (req->candidates.n == 0 || ranked.targets[i] != req->candidates.targets[0]) {
            req->candidates.targets[req->candidates.n++] = ranked.targets[i];
        }
    }
}

apr_status_t aip_route_stage(aip_request_t *req, aip_error_t *err)
{
    const aip_targets_t *targets = req->conf->targets;
    req->candidates.targets = apr_pcalloc(req->r->pool, (apr_size_t)(targets->n + 1) * sizeof(int));
    if (req->conf->f.balancer_algorithm == AIP_ALGORITHM_ROUND_ROBIN) {
        aip_wheel_append(targets->all, apr_atomic_inc32(&targets->ticks[targets->routes->n]),
                         &req->candidates);
        return APR_SUCCESS;
    }
    apr_status_t rv = decide(req, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    add_ranked(req);
    log_decision(req);
    return req->candidates.n ? APR_SUCCESS : no_route(req, err);
}
