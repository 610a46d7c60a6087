/* SPDX-License-Identifier: Apache-2.0 */
/* Embeds texts in the background: file cache, batches of embeddings calls for what is not in it.
 * Used by the routers' threads and by aipctl. A cache file is "AIPVEC1\n", the number of values as
 * uint32 and the values as float32, both little-endian, written under another name first so that a
 * reader never sees half of it. */
#include "aip/embed_texts.h"

#include "aip/cloud_source.h"
#include "aip/fetch.h"
#include "aip/provider.h"
#include "aip/secret.h"

#include <apr_file_io.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "AIPVEC1\n"
#define HEADER (sizeof(MAGIC) - 1 + sizeof(apr_uint32_t))
#ifdef F_OFD_SETLK
#define LOCK_OPEN_FILE F_OFD_SETLK
#else
#define LOCK_OPEN_FILE F_SETLK
#endif

static const char *cache_path(const aip_embed_job_t *job, int text, apr_pool_t *pool)
{
    return apr_pstrcat(pool, job->cache_dir, "/",
                       aip_reference_key(job->embedder, job->texts[text], pool), ".vec", NULL);
}

static bool vector_ok(const float *vector, int dims)
{
    double norm = 0;
    for (int i = 0; i < dims; i++) {
        norm += (double)vector[i] * (double)vector[i];
    }
    return isfinite(norm) && norm > 0;
}

static bool cache_read(const aip_embed_job_t *job, int text, float *vector, apr_pool_t *pool)
{
    apr_file_t *file;
    int dims = job->embedder->dims;
    apr_size_t size = (apr_size_t)dims * sizeof(float), got;
    char header[HEADER], extra;
    apr_uint32_t n;
    if (!job->cache_dir || apr_file_open(&file, cache_path(job, text, pool), APR_FOPEN_READ,
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

static apr_status_t cache_write(const aip_embed_job_t *job, int text, const float *vector,
                                apr_pool_t *pool)
{
    apr_file_t *file;
    const char *path = cache_path(job, text, pool);
    char *temp = apr_psprintf(pool, "%s/.new.XXXXXX", job->cache_dir);
    char header[HEADER];
    apr_uint32_t n = (apr_uint32_t)job->embedder->dims;
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
static int cache_fill(const aip_embed_job_t *job, float *vectors, int *missing, apr_pool_t *pool)
{
    int n = 0;
    for (int i = 0; i < job->n; i++) {
        if (!cache_read(job, i, vectors + (size_t)i * (size_t)job->embedder->dims, pool)) {
            missing[n++] = i;
        }
    }
    return n;
}

static void warn_not_kept(const aip_embed_job_t *job, apr_status_t rv, apr_pool_t *pool)
{
    char reason[120];
    job->log.write(
        job->log.baton, AIP_LOG_WARNING,
        apr_psprintf(
            pool,
            "AIP0101: cannot write a reference vector below %s: %s; each start will call the "
            "embeddings provider",
            job->cache_dir, apr_strerror(rv, reason, sizeof reason)));
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

static bool stopped(const aip_embed_job_t *job)
{
    return aip_is_stopping(job->stop);
}

/* Only one at a time asks a provider, over all processes and threads. Polls, so that a stop is
 * seen.
 */
static apr_file_t *cache_lock(const aip_embed_job_t *job, apr_pool_t *pool)
{
    apr_file_t *file;
    if (!job->cache_dir) {
        return NULL;
    }
    apr_status_t rv =
        apr_file_open(&file, apr_pstrcat(pool, job->cache_dir, "/lock", NULL),
                      APR_FOPEN_CREATE | APR_FOPEN_WRITE, APR_FPROT_UREAD | APR_FPROT_UWRITE, pool);
    if (rv != APR_SUCCESS) {
        warn_not_kept(job, rv, pool);
        return NULL;
    }
    while (!stopped(job) && lock_busy(file, job->embedder, pool)) {
        apr_sleep(apr_time_from_msec(20));
    }
    return file;
}

apr_status_t aip_embedder_resolve(const aip_embedder_conf_t *conf, aip_embedder_conf_t *out,
                                  apr_pool_t *pool, aip_error_t *err)
{
    *out = *conf;
    const char **members[] = {&out->header_name, &out->header_value, &out->param_name,
                              &out->param_value};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (*members[i] && !(*members[i] = aip_secret_text(*members[i], pool, err))) {
            return APR_EGENERAL;
        }
    }
    if (conf->cloud) {
        const char *token = aip_cloud_token(conf->identity, pool, err);
        if (!token) {
            return APR_EGENERAL;
        }
        out->header_name = "Authorization";
        out->header_value = apr_pstrcat(pool, "Bearer ", token, NULL);
    }
    if ((out->header_name &&
         (!aip_header_name_ok(out->header_name) || !aip_header_value_ok(out->header_value))) ||
        (out->param_name && out->param_in_body &&
         (!aip_body_name_ok(out->param_name) || !aip_body_value_ok(out->param_value, pool)))) {
        return aip_error_set(err, pool, 503, "gateway_error", "secret_unavailable", NULL,
                             "a credential that the embeddings call needs cannot be used");
    }
    return APR_SUCCESS;
}

bool aip_embedder_refused(const aip_embedder_conf_t *conf, const aip_embedder_conf_t *resolved,
                          apr_pool_t *pool)
{
    if (conf->cloud) {
        return aip_secret_slot_refused(conf->identity, resolved->header_value + strlen("Bearer "),
                                       pool);
    }
    bool header = aip_secret_refused(conf->header_value, resolved->header_value, pool);
    return aip_secret_refused(conf->param_value, resolved->param_value, pool) || header;
}

void aip_embedder_wait(const aip_embedder_conf_t *conf, apr_time_t end)
{
    aip_secret_wait(conf->header_value, end);
    aip_secret_wait(conf->param_value, end);
    if (conf->cloud && conf->identity >= 0) {
        aip_secrets_wait(aip_secrets_used(), conf->identity, end);
    }
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

static apr_status_t embed_remote(const aip_embed_job_t *job, const int *missing, int n,
                                 float *vectors, apr_pool_t *pool, aip_error_t *err)
{
    aip_embedder_conf_t resolved;
    const aip_embedder_conf_t *e = &resolved;
    size_t dims = (size_t)job->embedder->dims;
    aip_span_t *texts = apr_palloc(pool, (apr_size_t)n * sizeof *texts), answer;
    float *batch = apr_palloc(pool, (apr_size_t)n * dims * sizeof *batch);
    const char *headers[] = {"Content-Type: application/json", "Accept: application/json", NULL,
                             NULL};
    int status;
    if (aip_embedder_resolve(job->embedder, &resolved, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    for (int i = 0; i < n; i++) {
        texts[i] = job->texts[missing[i]];
    }
    if (e->header_name) {
        headers[2] = apr_pstrcat(pool, e->header_name, ": ", e->header_value, NULL);
    }
    aip_fetch_t fetch = {.url = full_url(e, pool),
                         .headers = headers,
                         .body = aip_router_request(e, texts, n, pool),
                         .egress = e->egress,
                         .timeout = e->timeout,
                         .stop = job->stop};
    apr_status_t rv = aip_fetch(&fetch, &status, &answer, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (status == 401) {
        (void)aip_embedder_refused(job->embedder, e, pool);
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

/* One call, and what it brought goes to the cache at once: a later failure does not lose it. */
static apr_status_t embed_batch(const aip_embed_job_t *job, const int *missing, int n, bool keep,
                                float *vectors, apr_pool_t *pool, aip_error_t *err)
{
    size_t dims = (size_t)job->embedder->dims;
    apr_status_t wrote = APR_SUCCESS, rv = embed_remote(job, missing, n, vectors, pool, err);
    for (int i = 0; rv == APR_SUCCESS && keep && wrote == APR_SUCCESS && i < n; i++) {
        wrote = cache_write(job, missing[i], vectors + (size_t)missing[i] * dims, pool);
    }
    if (wrote != APR_SUCCESS) {
        warn_not_kept(job, wrote, pool);
    }
    return rv;
}

static apr_status_t embed_missing(const aip_embed_job_t *job, float *vectors, int *calls,
                                  apr_pool_t *pool, aip_error_t *err)
{
    int *missing = apr_palloc(pool, (apr_size_t)(job->n + 1) * sizeof *missing);
    int n = cache_fill(job, vectors, missing, pool);
    if (n == 0) {
        return APR_SUCCESS;
    }
    apr_file_t *lock = cache_lock(job, pool);
    n = lock ? cache_fill(job, vectors, missing, pool) : n;
    apr_status_t rv = APR_SUCCESS;
    for (int done = 0; rv == APR_SUCCESS && done < n; done += AIP_EMBED_BATCH) {
        int batch = n - done < AIP_EMBED_BATCH ? n - done : AIP_EMBED_BATCH;
        ++*calls;
        rv = embed_batch(job, missing + done, batch, lock != NULL, vectors, pool, err);
        if (rv == APR_SUCCESS && job->progress) {
            job->progress(job->baton, job->n - n + done + batch, job->n);
        }
    }
    if (lock) {
        apr_file_close(lock);
    }
    return rv;
}

apr_status_t aip_embed_texts(const aip_embed_job_t *job, float *vectors, int *calls,
                             apr_pool_t *pool, aip_error_t *err)
{
    *calls = 0;
    if (!job->embedder->local) {
        return embed_missing(job, vectors, calls, pool, err);
    }
    for (int i = 0; i < job->n; i++) {
        (void)aip_model2vec_embed(job->embedder->local, job->texts[i],
                                  vectors + (size_t)i * (size_t)job->embedder->dims);
    }
    return APR_SUCCESS;
}
