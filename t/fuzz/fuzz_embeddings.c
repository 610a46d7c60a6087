/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: the reader of embeddings answers. The first byte chooses how many vectors of how
 * many dimensions are expected (low and high half, plus one), the rest is the answer. What is
 * accepted must be finite, not zero, and normalisable. */

#include <apr_pools.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "aip/embeddings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static apr_pool_t *root;
    float vectors[16 * 16];
    aip_error_t err = {0};
    apr_pool_t *pool;
    int n, dims;

    if (!root) {
        apr_initialize();
        apr_pool_create(&root, NULL);
    }
    if (size == 0) {
        return 0;
    }
    n = (data[0] & 15) + 1;
    dims = (data[0] >> 4) + 1;
    apr_pool_create(&pool, root);
    if (aip_embeddings_response((aip_span_t){(const char *)data + 1, size - 1}, n, dims, vectors,
                                pool, &err) == APR_SUCCESS) {
        for (int i = 0; i < n * dims; i++) {
            if (!isfinite(vectors[i])) {
                abort();
            }
        }
        for (int i = 0; i < n; i++) {
            if (!aip_vector_normalize(vectors + i * dims, dims)) {
                abort();
            }
        }
    } else if (!err.message || err.status == 0) {
        abort();
    }
    apr_pool_destroy(pool);
    return 0;
}
