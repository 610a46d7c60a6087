/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the references of a router: file cache, one embeddings call for what is not in it, digest
 * of the whole. Runs in the router's background thread. A cache file is "AIPVEC1\n", the number of
 * values as uint32 and the values as float32, both little-endian, written under another name first
 * so that a reader never sees half of it. */
#include "references.h"

#include "aip/fetch.h"
#include "aip/provider.h"

#include <apr_file_io.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "AIPVEC1\n"
#define HEADER (sizeof(MAGIC) - 1 + sizeof(apr_uint32_t))
#ifdef F_OFD_SETLK
#define LOCK_OPEN_FILE F_OFD_SETLK
#else
#define LOCK_OPEN_FILE F_SETLK
#endif

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

static const char *index_digest(const aip_router_conf_t *conf, apr_pool_t *pool)
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

static const char *cache_path(const aip_router_conf_t *conf, int text, apr_pool_t *pool)
{
    return apr_pstrcat(pool, conf->cache_dir, "/",
                       aip_reference_key(&conf->embedder, conf->routes->texts[text], pool), ".vec",
                       NULL);
}

static bool vector_ok(const float *vector, int dims)
{
    double norm = 0;
    for (int i = 0; i < dims; i++) {
        norm += (double)vector[i] * (double)vector[i];
    }
    return isfinite(norm) && norm > 0;
}

static bool cache_read(const aip_router_conf_t *conf, int text, float *vector, apr_pool_t *pool)
{
    apr_file_t *file;
    int dims = conf->embedder.dims;
    apr_size_t size = (apr_size_t)dims * sizeof(float), got;
    char header[HEADER], extra;
    apr_uint32_t n;
    if (!conf->cache_dir || apr_file_open(&file, cache_path(conf, text, pool), APR_FOPEN_READ,
                                          APR_FPROT_OS_DEFAULT, pool) != APR_SUCCESS) {
        return false;
    }
    bool ok = apr_file_read_full(file, header, HEADER, &got) == APR_SUCCESS &&
              memcmp(header, MAGIC, sizeof(MAGIC) - 1) == 0;
    memcpy(&n, header + sizeof(MAGIC) - 1, sizeof n);
    ok = ok && n == (apr_uint32_t)dims &&
         apr_file_read_full(file, vector, size, &got) == APR_SUCCESS &&
         apr_file_read_full(file, &extra, 1, &got) == APR_EOF && vector_ok(vector, dims);
    apr_file_close(file);
    return ok;
}

static apr_status_t cache_write(const aip_router_conf_t *conf, int text, const float *vector,
                                apr_pool_t *pool)
{
    apr_file_t *file;
    const char *path = cache_path(conf, text, pool);
    char *temp = apr_psprintf(pool, "%s/.new.XXXXXX", conf->cache_dir);
    char header[HEADER];
    apr_uint32_t n = (apr_uint32_t)conf->embedder.dims;
    memcpy(header, MAGIC, sizeof(MAGIC) - 1);
    memcpy(header + sizeof(MAGIC) - 1, &n, sizeof n);
    apr_status_t rv =
        apr_file_mktemp(&file, temp, APR_FOPEN_CREATE | APR_FOPEN_WRITE | APR_FOPEN_EXCL, pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_file_write_full(file, header, HEADER, NULL);
    rv = rv ? rv : apr_file_write_full(file, vector, n * sizeof(float), NULL);
    apr_file_close(file);
    rv = rv ? rv : apr_file_rename(temp, path, pool);
    if (rv != APR_SUCCESS) {
        apr_file_remove(temp, pool);
    }
    return rv;
}

/* Reads what the cache has; missing[] gets the texts it has not. */
static int cache_fill(const aip_router_conf_t *conf, float *vectors, int *missing, apr_pool_t *pool)
{
    int n = 0;
    for (int i = 0; i < conf->routes->n_texts; i++) {
        if (!cache_read(conf, i, vectors + (size_t)i * (size_t)conf->embedder.dims, pool)) {
            missing[n++] = i;
        }
    }
    return n;
}

static void warn_not_kept(const aip_router_conf_t *conf, apr_status_t rv, apr_pool_t *pool)
{
    char reason[120];
    conf->log.write(
        conf->log.baton, AIP_LOG_WARNING,
        apr_psprintf(
            pool,
            "AIP0101: cannot write a reference vector below %s: %s; each start will call the "
            "embeddings provider",
            conf->cache_dir, apr_strerror(rv, reason, sizeof reason)));
}

/* Takes one byte of the lock file for an embedder, so that a provider that hangs keeps only its own
 * texts waiting. A lock of the open file: it holds between threads of a process as well, and
 * closing the same file elsewhere does not drop it. @return whether somebody else has it */
static bool lock_busy(apr_file_t *file, const aip_embedder_conf_t *conf, apr_pool_t *pool)
{
    const char *key = aip_reference_key(conf, (aip_span_t){"", 0}, pool);
    struct flock byte = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = (off_t)apr_strtoi64(apr_pstrmemdup(pool, key, 7), NULL, 16),
                         .l_len = 1};
    apr_os_file_t fd;
    apr_os_file_get(&fd, file);
    return fcntl(fd, LOCK_OPEN_FILE, &byte) < 0 && (errno == EAGAIN || errno == EACCES);
}

/* Only one at a time asks a provider, over all processes and threads. Polls, so that a stop is
 * seen.
 */
static apr_file_t *cache_lock(const aip_router_conf_t *conf, const volatile apr_uint32_t *stop,
                              apr_pool_t *pool)
{
    apr_file_t *file;
    if (!conf->cache_dir) {
        return NULL;
    }
    apr_status_t rv =
        apr_file_open(&file, apr_pstrcat(pool, conf->cache_dir, "/lock", NULL),
                      APR_FOPEN_CREATE | APR_FOPEN_WRITE, APR_FPROT_UREAD | APR_FPROT_UWRITE, pool);
    if (rv != APR_SUCCESS) {
        warn_not_kept(conf, rv, pool);
        return NULL;
    }
    while (!*stop && lock_busy(file, &conf->embedder, pool)) {
        apr_sleep(apr_time_from_msec(20));
    }
    return file;
}

/* A credential in the query is no part of conf->url: it must not decide over cache keys. */
static const char *full_url(const aip_embedder_conf_t *conf, apr_pool_t *pool)
{
    if (!conf->param_name || conf->param_in_body) {
        return conf->url;
    }
    return apr_pstrcat(pool, conf->url, strchr(conf->url, '?') ? "&" : "?",
                       aip_url_encode(conf->param_name, pool), "=",
                       aip_url_encode(conf->param_value, pool), NULL);
}

static apr_status_t embed_remote(const aip_router_conf_t *conf, const int *missing, int n,
                                 float *vectors, const volatile apr_uint32_t *stop,
                                 apr_pool_t *pool, aip_error_t *err)
{
    const aip_embedder_conf_t *e = &conf->embedder;
    size_t dims = (size_t)e->dims;
    aip_span_t *texts = apr_palloc(pool, (apr_size_t)n * sizeof *texts), answer;
    float *batch = apr_palloc(pool, (apr_size_t)n * dims * sizeof *batch);
    const char *headers[] = {"Content-Type: application/json", "Accept: application/json", NULL,
                             NULL};
    int status;
    for (int i = 0; i < n; i++) {
        texts[i] = conf->routes->texts[missing[i]];
    }
    if (e->header_name) {
        headers[2] = apr_pstrcat(pool, e->header_name, ": ", e->header_value, NULL);
    }
    aip_fetch_t fetch = {.url = full_url(e, pool),
                         .headers = headers,
                         .body = aip_router_request(e, texts, n, pool),
                         .timeout = e->timeout,
                         .stop = stop};
    apr_status_t rv = aip_fetch(&fetch, &status, &answer, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (status != 200) {
        return aip_error_set(err, pool, 502, "gateway_error", "embeddings_status", NULL,
                             "the embeddings provider answered with status %d", status);
    }
    rv = aip_embeddings_response(answer, n, e->dims, batch, pool, err);
    for (int i = 0; rv == APR_SUCCESS && i < n; i++) {
        memcpy(vectors + (size_t)missing[i] * dims, batch + (size_t)i * dims, dims * sizeof *batch);
    }
    return rv;
}

static apr_status_t embed_missing(const aip_router_conf_t *conf, float *vectors, int *calls,
                                  const volatile apr_uint32_t *stop, apr_pool_t *pool,
                                  aip_error_t *err)
{
    int *missing = apr_palloc(pool, (apr_size_t)(conf->routes->n_texts + 1) * sizeof *missing);
    int n = cache_fill(conf, vectors, missing, pool);
    if (n == 0) {
        return APR_SUCCESS;
    }
    apr_file_t *lock = cache_lock(conf, stop, pool);
    n = lock ? cache_fill(conf, vectors, missing, pool) : n;
    apr_status_t rv = APR_SUCCESS;
    if (n > 0) {
        ++*calls;
        rv = embed_remote(conf, missing, n, vectors, stop, pool, err);
    }
    for (int i = 0; rv == APR_SUCCESS && lock && i < n; i++) {
        apr_status_t wrote = cache_write(
            conf, missing[i], vectors + (size_t)missing[i] * (size_t)conf->embedder.dims, pool);
        if (wrote != APR_SUCCESS) {
            warn_not_kept(conf, wrote, pool);
            break;
        }
    }
    if (lock) {
        apr_file_close(lock);
    }
    return rv;
}

apr_status_t aip_references_make(const aip_router_conf_t *conf, const volatile apr_uint32_t *stop,
                                 aip_references_t **refs, int *calls, apr_pool_t *pool,
                                 aip_error_t *err)
{
    int n = conf->routes->n_texts, dims = conf->embedder.dims;
    float *vectors =
        apr_pcalloc(pool, (apr_size_t)(n ? n : 1) * (apr_size_t)dims * sizeof *vectors);
    apr_status_t rv = APR_SUCCESS;
    *calls = 0;
    if (conf->embedder.local) {
        for (int i = 0; i < n; i++) {
            (void)aip_model2vec_embed(conf->embedder.local, conf->routes->texts[i],
                                      vectors + (size_t)i * (size_t)dims);
        }
    } else {
        rv = embed_missing(conf, vectors, calls, stop, pool, err);
    }
    for (int i = 0; rv == APR_SUCCESS && conf->metric == AIP_METRIC_COSINE && i < n; i++) {
        (void)aip_vector_normalize(vectors + (size_t)i * (size_t)dims, dims);
    }
    *refs = apr_pcalloc(pool, sizeof **refs);
    **refs = (aip_references_t){
        .n = n, .dims = dims, .vectors = vectors, .digest = index_digest(conf, pool)};
    return rv;
}
