/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_EMBED_TEXTS_H
#define AIP_EMBED_TEXTS_H
/* Many texts to vectors, outside of requests: references and what aipctl is given. Blocks. */

#include "aip/router.h"

/** `out`: `conf` with its references resolved, for one call. Errors: 503, a secret has no value or
 * one that cannot be used. */
apr_status_t aip_embedder_resolve(const aip_embedder_conf_t *conf, aip_embedder_conf_t *out,
                                  apr_pool_t *pool, aip_error_t *err);

/** The provider refused the credential (401) in `resolved`: has the vaults asked again. @return
 * whether that is worth waiting for */
bool aip_embedder_refused(const aip_embedder_conf_t *conf, const aip_embedder_conf_t *resolved,
                          apr_pool_t *pool);

/** Waits for it, at most until `end`. */
void aip_embedder_wait(const aip_embedder_conf_t *conf, apr_time_t end);

/** Texts in one embeddings call. */
#define AIP_EMBED_BATCH 64

typedef struct aip_embed_job_t {
    const aip_embedder_conf_t *embedder;
    const char
        *cache_dir; /**< directory of the file cache, or NULL; not used for the local model */
    aip_log_t log;
    const aip_span_t *texts;
    int n;
    const volatile apr_uint32_t *stop;                  /**< not 0: give up; or NULL */
    void (*progress)(void *baton, int done, int total); /**< after each call; or NULL */
    void *baton;
} aip_embed_job_t;

/**
 * Embeds texts: from the file cache where it can, the rest in calls of AIP_EMBED_BATCH texts, which
 * only one process makes at a time when there is a cache. What a call brought is kept even when a
 * later one fails.
 * @param vectors  out, float[n * dims], as delivered (not normalised); with the local model all
 *                 zero for a text that has no word it knows
 * @param calls    out: embeddings calls made
 */
apr_status_t aip_embed_texts(const aip_embed_job_t *job, float *vectors, int *calls,
                             apr_pool_t *pool, aip_error_t *err);

#endif
