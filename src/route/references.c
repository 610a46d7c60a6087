/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the references of a router and the digests that name them. Runs in the router's background
 * thread. */
#include "references.h"

#include "aip/embed_texts.h"

#include <apr_strings.h>
#include <openssl/evp.h>
#include <string.h>

static void add_part(EVP_MD_CTX *md, const char *data, size_t len)
{
    apr_uint64_t n = len; /* lengths in front keep parts apart */
    EVP_DigestUpdate(md, &n, sizeof n);
    EVP_DigestUpdate(md, data, len);
}

static void add_embedder(EVP_MD_CTX *md, const aip_embedder_conf_t *conf)
{
    const char *parts[] = {conf->local ? "local" : conf->provider,
                           conf->local ? aip_model2vec_digest(conf->local) : conf->model,
                           conf->local ? "" : conf->url};
    apr_int32_t numbers[] = {conf->dims, conf->send_dimensions};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        add_part(md, parts[i] ? parts[i] : "", parts[i] ? strlen(parts[i]) : 0);
    }
    EVP_DigestUpdate(md, numbers, sizeof numbers);
}

static const char *finish(EVP_MD_CTX *md, apr_pool_t *pool)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    EVP_DigestFinal_ex(md, digest, &len);
    EVP_MD_CTX_free(md);
    char *hex = apr_palloc(pool, 2 * len + 1);
    for (unsigned int i = 0; i < len; i++) {
        apr_snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    return hex;
}

const char *aip_reference_key(const aip_embedder_conf_t *conf, aip_span_t text, apr_pool_t *pool)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    add_embedder(md, conf);
    add_part(md, text.data, text.len);
    return finish(md, pool);
}

const char *aip_router_digest(const aip_router_conf_t *conf, apr_pool_t *pool)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    apr_int32_t metric = conf->metric;
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    add_embedder(md, &conf->embedder);
    EVP_DigestUpdate(md, &metric, sizeof metric);
    for (int i = 0; i < conf->routes->n_texts; i++) {
        add_part(md, conf->routes->texts[i].data, conf->routes->texts[i].len);
    }
    return finish(md, pool);
}

apr_status_t aip_references_make(const aip_router_conf_t *conf, const volatile apr_uint32_t *stop,
                                 aip_references_t **refs, int *calls, apr_pool_t *pool,
                                 aip_error_t *err)
{
    int n = conf->routes->n_texts, dims = conf->embedder.dims;
    float *vectors =
        apr_pcalloc(pool, (apr_size_t)(n ? n : 1) * (apr_size_t)dims * sizeof *vectors);
    aip_embed_job_t job = {.embedder = &conf->embedder,
                           .cache_dir = conf->cache_dir,
                           .log = conf->log,
                           .texts = conf->routes->texts,
                           .n = n,
                           .stop = stop};
    apr_status_t rv = aip_embed_texts(&job, vectors, calls, pool, err);
    for (int i = 0; rv == APR_SUCCESS && conf->metric == AIP_METRIC_COSINE && i < n; i++) {
        (void)aip_vector_normalize(vectors + (size_t)i * (size_t)dims, dims);
    }
    *refs = apr_pcalloc(pool, sizeof **refs);
    **refs = (aip_references_t){
        .n = n, .dims = dims, .vectors = vectors, .digest = aip_router_digest(conf, pool)};
    return rv;
}
