/* SPDX-License-Identifier: Apache-2.0 */
/* check_config, the part about embeddings and the vector store. */
#include "check.h"

#include "aip/cloud_source.h"

#include "aip/cloud.h"
#include "aip/vectordb.h"

#include <apr_strings.h>

static aip_model2vec_t *load_model(aip_check_t *check)
{
    const char *name = check->conf->f.embeddings_model_name, *error;
    const char *dir = aip_model_dir(name, check->pool);
    aip_model2vec_t *model = apr_hash_get(aip_registry->models, dir, APR_HASH_KEY_STRING);
    if (!model && aip_model2vec_load(&model, dir, check->pool, &error) != APR_SUCCESS) {
        aip_complain(check, "AIEmbeddingsModelName '%s': %s", name, error);
        return NULL;
    }
    apr_hash_set(aip_registry->models, dir, APR_HASH_KEY_STRING, model);
    return model;
}

static void check_model(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    aip_model2vec_t *model = load_model(check);
    if (!model) {
        return;
    }
    int dims = aip_model2vec_dims(model);
    if (f->set[AIP_L_vectordb_dimensions] && f->vectordb_dimensions != dims) {
        aip_complain(check, "AIVectordbDimensions %d: the model %s has %d; leave the directive out",
                     (int)f->vectordb_dimensions, f->embeddings_model_name, dims);
    }
    aip_routes_t *routes = check->conf->targets->routes;
    float *vector = apr_palloc(check->pool, (apr_size_t)dims * sizeof *vector);
    for (int i = 0; i < routes->n_texts; i++) {
        if (aip_model2vec_embed(model, routes->texts[i], vector) == 0) {
            aip_complain(
                check,
                "AIDescription or AIRouteExample '%s' holds no word that the model %s knows; "
                "say it in English "
                "words",
                routes->texts[i].data, f->embeddings_model_name);
        }
    }
}

static void check_cloud(aip_check_t *check)
{
    aip_cloud_auth_t auth = aip_cloud_of_embeddings(&check->conf->f, check->pool);
    const char *error = aip_cloud_check(&auth, check->pool);
    if (error) {
        aip_complain(check, "%s", error);
    }
}

static void check_local(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    static const int remote_only[] = {AIP_L_embeddings_auth_header_name,
                                      AIP_L_embeddings_auth_param_name,
                                      AIP_L_embeddings_model_options_upstream_url};
    for (size_t i = 0; i < sizeof remote_only / sizeof *remote_only; i++) {
        if (f->set[remote_only[i]]) {
            aip_complain(check, "%s has no meaning with AIEmbeddingsModelProvider local; remove it",
                         aip_location_table[remote_only[i]].directive);
        }
    }
    check_cloud(check);
    check_model(check);
}

static void check_embeddings_auth(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    int params = (f->embeddings_auth_param_name != NULL) +
                 (f->embeddings_auth_param_value != NULL) +
                 f->set[AIP_L_embeddings_auth_param_location];
    if (!f->embeddings_auth_header_name != !f->embeddings_auth_header_value) {
        aip_complain(check,
                     "all or none of AIEmbeddingsAuthHeaderName and AIEmbeddingsAuthHeaderValue "
                     "must be set");
    } else if (f->embeddings_auth_header_name &&
               f->set[AIP_L_embeddings_auth_header_name] != AIP_SET_REFERENCE &&
               !aip_header_name_ok(f->embeddings_auth_header_name)) {
        aip_complain(check, "AIEmbeddingsAuthHeaderName '%s' is no name for a credential header",
                     f->embeddings_auth_header_name);
    } else if (f->embeddings_auth_header_value &&
               !aip_header_value_ok(f->embeddings_auth_header_value)) {
        aip_complain(check, "AIEmbeddingsAuthHeaderValue holds control bytes");
    }
    if (params != 0 && params != 3) {
        aip_complain(check,
                     "all or none of AIEmbeddingsAuthParamName, AIEmbeddingsAuthParamValue and "
                     "AIEmbeddingsAuthParamLocation must be set");
    }
}

static void add_endpoint(aip_check_t *check, const aip_url_t *url, const aip_egress_t *egress)
{
    const char *error = NULL;
    aip_endpoint_t *endpoint = aip_endpoint_find("embeddings", url, egress);
    if (!endpoint) {
        endpoint =
            aip_endpoint_create("embeddings", url, check->section->server, check->pool, &error);
    }
    if (!endpoint) {
        aip_complain(check, "%s", error);
        return;
    }
    apr_interval_time_t timeout = apr_time_from_msec(check->conf->f.embeddings_timeout);
    endpoint->egress = egress;
    endpoint->where = check->section->where;
    endpoint->connect_timeout =
        timeout < endpoint->connect_timeout ? timeout : endpoint->connect_timeout;
    endpoint->io_timeout = endpoint->connect_timeout;
}

/* The connections of an embeddings provider; sections that share it share them, and the shortest
 * patience counts. What stands in the main server is used by virtual hosts, too, which may have
 * rules of egress of their own. */
static void make_endpoint(aip_check_t *check, const char *text)
{
    aip_cloud_auth_t auth = aip_cloud_of_embeddings(&check->conf->f, check->pool);
    (void)aip_cloud_source(aip_registry->secrets, &auth, &(aip_cloud_aws_t){0},
                           aip_egress_for(&check->conf->f), check->pool);
    const char *error;
    const aip_egress_t *own = aip_egress_for(&check->conf->f);
    aip_url_t *url = apr_pcalloc(check->pool, sizeof *url);
    if (aip_url_parse(text, url, check->pool, &error) != APR_SUCCESS) {
        aip_complain(check, "AIEmbeddingsModelOptionsUpstreamUrl '%s' %s",
                     aip_url_shown(text, check->pool), error);
        return;
    }
    error = aip_egress_denied(own, url, check->pool);
    if (error) {
        aip_complain(check, "AIEmbeddingsModelOptionsUpstreamUrl: %s", error);
        return;
    }
    add_endpoint(check, url, own);
    for (int i = 0; !check->section->server->is_virtual && i < aip_registry->egresses->nelts; i++) {
        const aip_egress_t *other =
            APR_ARRAY_IDX(aip_registry->egresses, i, aip_server_egress_t).egress;
        if (other != own && aip_egress_allows(other, url)) {
            add_endpoint(check, url, other);
        }
    }
}

static const char *embeddings_url(const aip_location_fields_t *f,
                                  const aip_embeddings_provider_t *provider)
{
    return f->embeddings_model_options_upstream_url ? f->embeddings_model_options_upstream_url
                                                    : provider->default_url;
}

static void check_remote(aip_check_t *check, const aip_embeddings_provider_t *provider)
{
    const aip_location_fields_t *f = &check->conf->f;
    const char *text = embeddings_url(f, provider);
    check_embeddings_auth(check);
    check_cloud(check);
    if (!f->set[AIP_L_vectordb_dimensions]) {
        aip_complain(
            check,
            "AIVectordbDimensions is required: add the length of %s's vectors, for instance "
            "'AIVectordbDimensions 1536'",
            f->embeddings_model_name);
    }
    if (text) {
        make_endpoint(check, text);
    } else {
        aip_complain(
            check,
            "AIEmbeddingsModelOptionsUpstreamUrl must be set for AIEmbeddingsModelProvider %s",
            provider->name);
    }
}

static const aip_embeddings_provider_t *provider_of(const aip_check_t *check)
{
    return aip_embeddings_provider(
        aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                       check->conf->f.embeddings_model_provider, check->pool));
}

void aip_prepare_embedder(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (!f->set[AIP_L_embeddings_model_provider] || !f->embeddings_model_name) {
        return;
    }
    const aip_embeddings_provider_t *provider = provider_of(check);
    if (provider->local) {
        (void)load_model(check);
    } else if (embeddings_url(f, provider)) {
        make_endpoint(check, embeddings_url(f, provider));
    }
}

void aip_check_embeddings(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (!f->set[AIP_L_embeddings_model_provider]) {
        aip_complain(
            check, "AIBalancerAlgorithm semantic needs AIEmbeddingsModelProvider: add for instance "
                   "'AIEmbeddingsModelProvider local'");
        return;
    }
    if (!f->embeddings_model_name) {
        aip_complain(check,
                     "AIBalancerAlgorithm semantic needs AIEmbeddingsModelName: add for instance "
                     "'AIEmbeddingsModelName aip-static-en-v1' for provider local");
        return;
    }
    const aip_embeddings_provider_t *provider = provider_of(check);
    if (provider->local) {
        check_local(check);
    } else {
        check_remote(check, provider);
    }
}

/* A file of TLS to PostgreSQL. Children read it, so only that it is there is checked. */
static void check_pg_file(aip_check_t *check, int row, const char *path)
{
    const char *directive = aip_location_table[row].directive;
    apr_finfo_t info;
    if (!path) {
        return;
    }
    if (*path != '/') {
        aip_complain(check, "%s '%s': write the whole path, from '/' on", directive, path);
    } else if (apr_stat(&info, path, APR_FINFO_TYPE, check->pool) != APR_SUCCESS ||
               info.filetype != APR_REG) {
        aip_complain(check, "%s '%s': there is no such file", directive, path);
    }
}

static void check_pg_tls(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (f->vectordb_pgvector_ssl_required && !f->vectordb_pgvector_ssl) {
        aip_complain(check, "AIVectordbPgvectorSslRequired On, but AIVectordbPgvectorSsl is Off: "
                            "add 'AIVectordbPgvectorSsl On'");
    }
    if (f->vectordb_pgvector_ssl && *f->vectordb_pgvector_host == '/') {
        aip_complain(check,
                     "AIVectordbPgvectorSsl On: there is no TLS over the Unix socket in '%s'; name "
                     "a host, or remove the directive",
                     f->vectordb_pgvector_host);
    }
    if (!f->vectordb_pgvector_ssl_cert != !f->vectordb_pgvector_ssl_cert_key) {
        aip_complain(check, "both or none of AIVectordbPgvectorSslCert and "
                            "AIVectordbPgvectorSslCertKey must be set");
    } else if (f->vectordb_pgvector_ssl_cert && !f->vectordb_pgvector_ssl) {
        aip_complain(check, "AIVectordbPgvectorSslCert needs 'AIVectordbPgvectorSsl On'");
    }
    check_pg_file(check, AIP_L_vectordb_pgvector_ssl_cert, f->vectordb_pgvector_ssl_cert);
    check_pg_file(check, AIP_L_vectordb_pgvector_ssl_cert_key, f->vectordb_pgvector_ssl_cert_key);
}

static void check_pgvector(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (!f->set[AIP_L_vectordb_distance_metric]) {
        aip_complain(check,
                     "AIVectordbDistanceMetric is required with AIVectordbStrategy pgvector: add "
                     "'AIVectordbDistanceMetric cosine'");
    }
    if (f->set[AIP_L_vectordb_dimensions] && f->vectordb_dimensions > AIP_PGVECTOR_DIMENSIONS_MAX) {
        aip_complain(check, "AIVectordbDimensions %d: pgvector takes at most %d",
                     (int)f->vectordb_dimensions, AIP_PGVECTOR_DIMENSIONS_MAX);
    }
    check_pg_tls(check);
}

/* Directives of a store that is not asked. One that is inherited while a section says memory was
 * switched off on purpose. */
static void check_no_pgvector(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (f->set[AIP_L_vectordb_strategy] && f->vectordb_strategy == AIP_STRATEGY_MEMORY) {
        return;
    }
    for (int i = AIP_L_vectordb_pgvector_host; i <= AIP_L_vectordb_pgvector_ssl_cert_key; i++) {
        if (f->set[i]) {
            aip_complain(check,
                         "%s has no meaning with AIVectordbStrategy %s; remove it, or add "
                         "'AIVectordbStrategy pgvector'",
                         aip_location_table[i].directive,
                         f->vectordb_strategy == AIP_STRATEGY_REDIS ? "redis" : "memory");
            return;
        }
    }
}

void aip_check_vectordb(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (f->vectordb_strategy == AIP_STRATEGY_PGVECTOR) {
        check_pgvector(check);
    } else {
        check_no_pgvector(check);
    }
    if (f->vectordb_strategy == AIP_STRATEGY_REDIS) {
        if (!f->set[AIP_L_vectordb_distance_metric]) {
            aip_complain(check,
                         "AIVectordbDistanceMetric is required with AIVectordbStrategy redis: add "
                         "'AIVectordbDistanceMetric cosine'");
        }
        if (f->vectordb_redis_ssl && !aip_redis_has_tls()) {
            aip_complain(check,
                         "AIVectordbRedisSsl On: this build has no TLS to Redis (hiredis 1.0 or "
                         "newer with hiredis_ssl "
                         "is needed); use a local TLS proxy or rebuild");
        }
        if (f->vectordb_redis_username && !f->vectordb_redis_password) {
            aip_complain(check, "AIVectordbRedisUsername needs AIVectordbRedisPassword");
        }
    }
    if (f->set[AIP_L_vectordb_threshold] && f->vectordb_distance_metric == AIP_METRIC_COSINE &&
        f->vectordb_threshold.value > 2) {
        aip_complain(check, "AIVectordbThreshold %s: cosine distances lie between 0 and 2",
                     f->vectordb_threshold.json);
    }
}
