/* SPDX-License-Identifier: Apache-2.0 */
/* From the fields of a section to what the core works with. Knows no httpd: aipctl uses it, too. */
#include "aip/gateway.h"

#include "aip/cloud_source.h"

#include <apr_strings.h>
#include <string.h>

const char *aip_model_dir(const char *name, apr_pool_t *pool)
{
    return *name == '/' ? name : apr_pstrcat(pool, AIP_EMBEDDER_DIR "/", name, NULL);
}

static bool send_dimensions(const aip_location_fields_t *f)
{
    return f->embeddings_send_dimensions == AIP_DIMENSIONS_ON ||
           (f->embeddings_send_dimensions == AIP_DIMENSIONS_AUTO &&
            aip_embeddings_takes_dimensions(f->embeddings_model_name));
}

const char *aip_embedder_conf_of(const aip_location_fields_t *f, const aip_model2vec_t *local,
                                 aip_embedder_conf_t *conf, apr_pool_t *pool)
{
    const char *word = aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                                      f->embeddings_model_provider, pool);
    const aip_embeddings_provider_t *provider = aip_embeddings_provider(word);
    if (!f->embeddings_model_name || !f->set[AIP_L_embeddings_model_provider]) {
        return "no embeddings model is configured";
    }
    if (provider->local) {
        conf->local = local;
        conf->dims = local ? aip_model2vec_dims(local) : 0;
        return local ? NULL : "the local embeddings model was not loaded at start";
    }
    const char *url = f->embeddings_model_options_upstream_url
                          ? f->embeddings_model_options_upstream_url
                          : provider->default_url;
    if (!url || !f->set[AIP_L_vectordb_dimensions]) {
        return "the embeddings provider is not configured completely";
    }
    aip_egress_t *egress = apr_pcalloc(pool, sizeof *egress);
    const char *error = aip_egress_conf_of(f, egress, pool);
    if (error) {
        return error;
    }
    bool query_param =
        f->embeddings_auth_param_name && f->embeddings_auth_param_location == AIP_PARAM_QUERY;
    *conf = (aip_embedder_conf_t){
        .provider = provider->name,
        .model = f->embeddings_model_name,
        .url = url,
        .header_name = f->embeddings_auth_header_name,
        .header_value = f->embeddings_auth_header_value,
        .param_name = f->embeddings_auth_param_name,
        .param_value = f->embeddings_auth_param_value,
        .param_in_body = f->embeddings_auth_param_name && !query_param,
        .dims = (int)f->vectordb_dimensions,
        .send_dimensions = send_dimensions(f),
        .timeout = apr_time_from_msec(f->embeddings_timeout),
        .egress = egress,
    };
    aip_cloud_auth_t auth = aip_cloud_of_embeddings(f, pool);
    conf->cloud = aip_cloud_kind(&auth) != AIP_CLOUD_NONE;
    conf->identity = aip_cloud_slot(&auth, &(aip_cloud_aws_t){0}, egress, pool);
    return NULL;
}

static const char *proxy_of(const aip_location_fields_t *f, aip_egress_t *egress, apr_pool_t *pool)
{
    aip_url_t url;
    const char *why, *shown = aip_url_shown(f->egress_proxy, pool);
    if (aip_url_parse(f->egress_proxy, &url, pool, &why) != APR_SUCCESS) {
        return strchr(f->egress_proxy, '@')
                   ? "AIEgressProxy must not hold credentials: add 'AIEgressProxyAuth "
                     "\"user:password\"'"
                   : apr_psprintf(pool, "AIEgressProxy '%s' must be http://host:port", shown);
    }
    if (url.tls) {
        return apr_psprintf(pool,
                            "AIEgressProxy '%s': TLS to the proxy itself is not supported; write "
                            "http://host:port (what goes through the tunnel is encrypted anyway)",
                            shown);
    }
    if (strcmp(url.path, "/") != 0 || url.query) {
        return apr_psprintf(pool, "AIEgressProxy '%s' must be http://host:port, without a path",
                            shown);
    }
    egress->proxy_host = url.host;
    egress->proxy_port = url.port;
    return NULL;
}

static const char *check_values(const aip_egress_t *egress, apr_pool_t *pool)
{
    const char *error = NULL;
    for (int i = 0; !error && egress->allow && i < egress->allow->nelts; i++) {
        error = aip_egress_allow_error(APR_ARRAY_IDX(egress->allow, i, const char *), pool);
    }
    if (error) {
        return apr_pstrcat(pool, "AIEgressAllow ", error, NULL);
    }
    for (int i = 0; !error && egress->no_proxy && i < egress->no_proxy->nelts; i++) {
        error = aip_egress_no_proxy_error(APR_ARRAY_IDX(egress->no_proxy, i, const char *), pool);
    }
    return error ? apr_pstrcat(pool, "AIEgressNoProxy ", error, NULL) : NULL;
}

const char *aip_egress_conf_of(const aip_location_fields_t *f, aip_egress_t *egress,
                               apr_pool_t *pool)
{
    const char *error;
    *egress = (aip_egress_t){.proxy_auth = f->egress_proxy_auth,
                             .no_proxy = f->egress_no_proxy,
                             .ca_file = f->egress_ca_file,
                             .client_cert = f->egress_client_cert,
                             .min_tls = 12 + f->egress_min_tls,
                             .allow = f->egress_allow};
    error = f->egress_proxy ? proxy_of(f, egress, pool) : NULL;
    if (!error && egress->proxy_auth) {
        if (!egress->proxy_host) {
            return "AIEgressProxyAuth needs AIEgressProxy";
        }
        if (!strchr(egress->proxy_auth, ':') || !aip_header_value_ok(egress->proxy_auth)) {
            return "AIEgressProxyAuth: the value must be user:password";
        }
    }
    return error ? error : check_values(egress, pool);
}

aip_redis_conf_t *aip_redis_conf_of(const aip_location_fields_t *f, apr_pool_t *pool)
{
    aip_redis_conf_t *redis = apr_pcalloc(pool, sizeof *redis);
    *redis = (aip_redis_conf_t){
        .host = f->vectordb_redis_host,
        .port_text = f->vectordb_redis_port,
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
        .ca_file = f->egress_ca_file,
        .client_cert = f->egress_client_cert,
        .min_tls = 12 + f->egress_min_tls,
        .proxied = f->vectordb_redis_connection_is_proxied,
    };
    return redis;
}

/* AIVectordbPgvectorSslRequired is a rule of the configuration alone: TLS that was asked for is
 * never left out. */
aip_pgvector_conf_t *aip_pgvector_conf_of(const aip_location_fields_t *f, apr_pool_t *pool)
{
    static const char *const versions[] = {
        [AIP_TLS_ANY] = NULL, [AIP_TLS_1_2] = "TLSv1.2", [AIP_TLS_1_3] = "TLSv1.3"};
    aip_pgvector_conf_t *pgvector = apr_pcalloc(pool, sizeof *pgvector);
    bool own_cert = f->vectordb_pgvector_ssl_cert;
    *pgvector = (aip_pgvector_conf_t){
        .host = f->vectordb_pgvector_host,
        .port = (int)f->vectordb_pgvector_port,
        .database = f->vectordb_pgvector_database,
        .user = f->vectordb_pgvector_user,
        .password = f->vectordb_pgvector_password,
        .timeout = (int)f->vectordb_pgvector_timeout.value,
        .ssl = f->vectordb_pgvector_ssl,
        .ssl_verify = f->vectordb_pgvector_ssl_verify,
        .min_tls = f->egress_min_tls ? "TLSv1.3" : versions[f->vectordb_pgvector_ssl_version],
        .ca_file = f->egress_ca_file,
        .client_cert = own_cert ? f->vectordb_pgvector_ssl_cert : f->egress_client_cert,
        .client_key = own_cert ? f->vectordb_pgvector_ssl_cert_key : f->egress_client_cert,
    };
    return pgvector;
}

aip_routes_t *aip_routes_of(const aip_target_fields_t *const *targets, int n, apr_pool_t *pool)
{
    aip_route_source_t *sources = apr_pcalloc(pool, (apr_size_t)(n + 1) * sizeof *sources);
    for (int i = 0; i < n; i++) {
        sources[i] = (aip_route_source_t){.description = targets[i]->description,
                                          .examples = targets[i]->route_example,
                                          .threshold = targets[i]->set[AIP_T_route_threshold]
                                                           ? &targets[i]->route_threshold.value
                                                           : NULL};
    }
    return aip_routes_create(sources, n, pool);
}

bool aip_routing_is_remote(const aip_location_fields_t *f)
{
    return f->embeddings_model_provider != AIP_EMBEDDER_LOCAL ||
           f->vectordb_strategy != AIP_STRATEGY_MEMORY;
}

aip_route_rules_t aip_route_rules_of(const aip_location_fields_t *f)
{
    return (aip_route_rules_t){
        .threshold = f->set[AIP_L_vectordb_threshold] ? &f->vectordb_threshold.value : NULL,
        .margin = f->set[AIP_L_route_margin] ? f->route_margin.value : 0,
        .ambiguous_catchall = strcmp(f->route_on_ambiguous, "catchall") == 0};
}
