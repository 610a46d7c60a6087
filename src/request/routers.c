/* SPDX-License-Identifier: Apache-2.0 */
/* The routers of this child: those of checked gateways are started in child_init, one that only a
 * combination of sections makes is started by its first request. */
#include "routers.h"

#include "../shared/background.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <http_log.h>
#include <openssl/sha.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* What makes two merged configurations share a router. Strings are compared by address: merges copy
 * pointers. */
typedef struct router_key_t {
    const aip_targets_t *targets;
    const char *model, *url, *header_name, *header_value, *param_name, *param_value, *host,
        *username, *password;
    const char *port, *server_name, *state_dir;
    const aip_egress_t *egress;
    const char *azure_client_id, *azure_client_secret, *azure_tenant_id;
    const char *gcp_metadata_url, *gcp_oauth_token_url, *gcp_service_account_json;
    const char *pg_host, *pg_database, *pg_user, *pg_password, *pg_cert, *pg_key;
    apr_int64_t numbers[16];
    apr_int64_t pg_numbers[5];
} router_key_t;

typedef struct entry_t {
    router_key_t key;
    server_rec *server;
    aip_router_entry_t public;
    struct entry_t *next;
} entry_t;

static struct {
    apr_pool_t *pool;
    apr_thread_mutex_t *mutex;
    entry_t *first; /* only ever grows at the front; read without the mutex */
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
    key->port = f->vectordb_redis_port;
    key->username = f->vectordb_redis_username;
    key->password = f->vectordb_redis_password;
    key->server_name = f->vectordb_redis_server_name;
    key->state_dir = f->state_dir;
    key->azure_client_id = f->embeddings_auth_azure_client_id;
    key->azure_client_secret = f->embeddings_auth_azure_client_secret;
    key->azure_tenant_id = f->embeddings_auth_azure_tenant_id;
    key->gcp_metadata_url = f->embeddings_auth_gcp_metadata_url;
    key->gcp_oauth_token_url = f->embeddings_auth_gcp_oauth_token_url;
    key->gcp_service_account_json = f->embeddings_auth_gcp_service_account_json;
    key->egress = aip_egress_for(f);
    apr_int64_t numbers[] = {
        f->embeddings_model_provider,
        f->embeddings_auth_param_location,
        f->embeddings_send_dimensions,
        f->embeddings_timeout,
        f->vectordb_strategy,
        f->vectordb_dimensions,
        f->vectordb_distance_metric,
        f->vectordb_redis_database,
        f->vectordb_redis_connect_timeout,
        f->vectordb_redis_send_timeout,
        f->vectordb_redis_read_timeout,
        f->vectordb_redis_keepalive_pool_size,
        f->set[AIP_L_vectordb_redis_keepalive_backlog] ? f->vectordb_redis_keepalive_backlog : -1,
        f->vectordb_redis_ssl * 2 + f->vectordb_redis_ssl_verify,
        f->vectordb_redis_connection_is_proxied,
        f->embeddings_auth_azure_use_managed_identity * 2 +
            f->embeddings_auth_gcp_use_service_account};
    memcpy(key->numbers, numbers, sizeof numbers);
    key->pg_host = f->vectordb_pgvector_host;
    key->pg_database = f->vectordb_pgvector_database;
    key->pg_user = f->vectordb_pgvector_user;
    key->pg_password = f->vectordb_pgvector_password;
    key->pg_cert = f->vectordb_pgvector_ssl_cert;
    key->pg_key = f->vectordb_pgvector_ssl_cert_key;
    apr_int64_t pg_numbers[] = {f->vectordb_pgvector_port,
                                (apr_int64_t)f->vectordb_pgvector_timeout.value,
                                f->vectordb_pgvector_ssl, f->vectordb_pgvector_ssl_verify,
                                f->vectordb_pgvector_ssl_version};
    memcpy(key->pg_numbers, pg_numbers, sizeof pg_numbers);
}

static void log_line(void *baton, aip_log_level_e level, const char *message)
{
    ap_log_error(APLOG_MARK, (int)level, 0, (server_rec *)baton, "%s", message);
}

/* The endpoint of the URL's origin, whose connections all its users share, with this URL's path and
 * query. */
static const aip_endpoint_t *endpoint_of(const aip_url_t *url, const aip_egress_t *egress,
                                         apr_pool_t *pool)
{
    const aip_endpoint_t *shared = aip_endpoint_find("embeddings", url, egress);
    aip_endpoint_t *own = shared ? apr_pmemdup(pool, shared, sizeof *own) : NULL;
    if (own) {
        own->url = *url;
    }
    return own;
}

/* @return NULL, or what is missing for a router */
static const char *embedder_conf(entry_t *entry, const aip_location_fields_t *f,
                                 aip_embedder_conf_t *conf, apr_pool_t *pool)
{
    const char *unparsable;
    const aip_model2vec_t *local =
        f->embeddings_model_name
            ? apr_hash_get(aip_registry->models, aip_model_dir(f->embeddings_model_name, pool),
                           APR_HASH_KEY_STRING)
            : NULL;
    const char *error = aip_embedder_conf_of(f, local, conf, pool);
    aip_url_t url;
    if (error || conf->local) {
        return error;
    }
    if (aip_url_parse(conf->url, &url, pool, &unparsable) == APR_SUCCESS) {
        conf->egress = aip_egress_for(f); /* with the files that were read as root */
        entry->public.endpoint = endpoint_of(&url, conf->egress, pool);
    }
    return entry->public.endpoint ? NULL : "the embeddings endpoint was not known at start";
}

/* The texts alone do not tell which route each belongs to. */
static const char *decision_key(const aip_router_t *router, const aip_routes_t *routes,
                                apr_pool_t *pool)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *all = aip_router_key(router);
    for (int r = 0; r < routes->n; r++) {
        apr_array_header_t *texts = apr_array_make(pool, 8, sizeof(const char *));
        for (int i = 0; i < routes->routes[r].n_texts; i++) {
            APR_ARRAY_PUSH(texts, const char *) = apr_itoa(pool, routes->routes[r].texts[i]);
        }
        all = apr_pstrcat(pool, all, "\n", apr_array_pstrcat(pool, texts, ','), NULL);
    }
    SHA256((const unsigned char *)all, strlen(all), digest);
    return apr_pescape_hex(pool, digest, sizeof digest, 0);
}

static void warm_up(void *data)
{
    const entry_t *entry = data;
    aip_endpoint_warm(entry->public.endpoint, entry->server, routers.pool);
}

static entry_t *start_router(const aip_dir_conf_t *conf, const char *where, server_rec *server)
{
    entry_t *entry = apr_pcalloc(routers.pool, sizeof *entry);
    const aip_location_fields_t *f = &conf->f;
    aip_router_conf_t rc = {.name = where,
                            .routes = conf->targets->routes,
                            .metric = (aip_metric_e)f->vectordb_distance_metric,
                            .announced = conf->targets->store,
                            .cache_dir = ap_runtime_dir_relative(routers.pool, f->state_dir),
                            .log = {log_line, server}};
    make_key(&entry->key, conf);
    entry->server = server;
    const char *error = embedder_conf(entry, f, &rc.embedder, routers.pool);
    if (error) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, server, "AIP0040: %s: cannot route by meaning: %s",
                     where, error);
    } else {
        rc.redis =
            f->vectordb_strategy == AIP_STRATEGY_REDIS ? aip_redis_conf_of(f, routers.pool) : NULL;
        rc.pgvector = f->vectordb_strategy == AIP_STRATEGY_PGVECTOR
                          ? aip_pgvector_conf_of(f, routers.pool)
                          : NULL;
        rc.start = entry->public.endpoint ? warm_up : NULL;
        rc.start_baton = entry;
        apr_status_t rv = aip_router_create(&entry->public.router, &rc, routers.pool);
        if (rv != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, server, "AIP0041: %s: cannot start the router",
                         where);
            entry->public.router = NULL;
        } else {
            entry->public.key = decision_key(entry->public.router, rc.routes, routers.pool);
        }
    }
    entry->next = routers.first;
    __atomic_store_n(&routers.first, entry, __ATOMIC_RELEASE);
    return entry;
}

static entry_t *find_router(const router_key_t *key)
{
    for (entry_t *entry = __atomic_load_n(&routers.first, __ATOMIC_ACQUIRE); entry;
         entry = entry->next) {
        if (memcmp(&entry->key, key, sizeof *key) == 0) {
            return entry;
        }
    }
    return NULL;
}

const aip_router_entry_t *aip_router_of(const aip_request_t *req)
{
    router_key_t key;
    make_key(&key, req->conf);
    entry_t *entry = find_router(&key);
    if (!entry) {
        apr_thread_mutex_lock(routers.mutex);
        entry = find_router(&key);
        entry =
            entry ? entry : start_router(req->conf, "a combination of sections", req->r->server);
        apr_thread_mutex_unlock(routers.mutex);
    }
    return &entry->public;
}

aip_router_t *aip_router_running(const aip_dir_conf_t *conf)
{
    router_key_t key;
    make_key(&key, conf);
    const entry_t *entry = find_router(&key);
    return entry ? entry->public.router : NULL;
}

/* Before anything of the child is destroyed: warm_up() uses mod_proxy's connections, whose end is a
 * pre-cleanup of the same pool, registered earlier. All are told first, so that their waits pass at
 * the same time. */
static apr_status_t end_routers(void *data)
{
    apr_time_t until = apr_time_now() + AIP_BACKGROUND_GRACE;
    (void)data;
    for (const entry_t *entry = routers.first; entry; entry = entry->next) {
        if (entry->public.router) {
            aip_router_end(entry->public.router);
        }
    }
    for (const entry_t *entry = routers.first; entry; entry = entry->next) {
        if (entry->public.router) {
            aip_router_leave(entry->public.router, until);
        }
    }
    return APR_SUCCESS;
}

void aip_routers_init(apr_pool_t *pchild, server_rec *s)
{
    memset(&routers, 0, sizeof routers);
    apr_pool_pre_cleanup_register(pchild, NULL, end_routers);
    if (aip_pool_create_locked(&routers.pool, NULL) != APR_SUCCESS ||
        apr_thread_mutex_create(&routers.mutex, APR_THREAD_MUTEX_DEFAULT, routers.pool) !=
            APR_SUCCESS) {
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
