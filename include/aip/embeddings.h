/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_EMBEDDINGS_H
#define AIP_EMBEDDINGS_H
/* Embeddings providers: endpoint facts and the wire format of OpenAI's POST /v1/embeddings. No
 * transport here: the caller sends the request over the pooled exchange (request path) or libcurl
 * (background). */

#include "aip/error.h"

typedef struct aip_embeddings_provider_t {
    const char *name;        /**< value of AIEmbeddingsModelProvider */
    const char *default_url; /**< full URL, NULL: AIEmbeddingsModelOptionsUpstreamUrl is required */
    bool local;              /**< in process, no URL at all */
} aip_embeddings_provider_t;

/** The row of a provider, or NULL. */
const aip_embeddings_provider_t *aip_embeddings_provider(const char *name);

/** Whether a model takes the request member `dimensions`: text-embedding-3-* does, a vendor prefix
 * does not matter. */
bool aip_embeddings_takes_dimensions(const char *model);

/** The request body. dimensions 0 = not sent. encoding_format is base64. Invalid UTF-8 in a text
 * becomes U+FFFD. */
aip_span_t aip_embeddings_request(const char *model, int dimensions, const aip_span_t *texts, int n,
                                  apr_pool_t *pool);

/**
 * Reads a 200 answer: `data` items may come in any order (member index), each embedding as base64
 * of little-endian float32 or as an array of numbers. Checked: exactly n items, each index once,
 * exactly `dims` values, all finite, norm not zero.
 * @param vectors  out, float[n * dims], values as sent (not normalised)
 * @return APR_SUCCESS or APR_EGENERAL with err->message saying what is wrong (counts and sizes
 * only, never values)
 */
apr_status_t aip_embeddings_response(aip_span_t body, int n, int dims, float *vectors,
                                     apr_pool_t *pool, aip_error_t *err);

/** Scales to unit length in place. @return false (vector untouched) when the norm is zero or not
 * finite. */
bool aip_vector_normalize(float *vector, int dims);

#endif
