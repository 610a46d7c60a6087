/* SPDX-License-Identifier: Apache-2.0 */
/* Large blocks of a request, outside the allocator of its pool. Called wherever a body is read,
 * built or copied; thread-safe as pools are: one thread for each. */
#include "aip/large.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* In front of each block. */
typedef union header_t {
    apr_size_t size;
    max_align_t align;
} header_t;

static apr_status_t give_back(void *header)
{
    free(header);
    return APR_SUCCESS;
}

/* A new block, or `old` with another size. */
static void *resize(apr_pool_t *pool, header_t *old, apr_size_t size)
{
    header_t *header =
        size < SIZE_MAX - sizeof *header ? realloc(old, sizeof *header + size) : NULL;
    if (!header) {
        apr_abortfunc_t out_of_memory = apr_pool_abort_get(pool);
        if (out_of_memory) {
            out_of_memory(APR_ENOMEM);
        }
        abort();
    }
    header->size = size;
    apr_pool_cleanup_register(pool, header, give_back, apr_pool_cleanup_null);
    return header + 1;
}

void *aip_large_alloc(apr_pool_t *pool, apr_size_t size)
{
    return size < AIP_LARGE ? apr_palloc(pool, size) : resize(pool, NULL, size);
}

void *aip_large_grow(apr_pool_t *pool, void *old, apr_size_t used, apr_size_t room, apr_size_t size)
{
    if (room >= AIP_LARGE) {
        header_t *header = (header_t *)old - 1;
        apr_pool_cleanup_kill(pool, header, give_back);
        return resize(pool, header, size);
    }
    void *grown = aip_large_alloc(pool, size);
    if (used) {
        memcpy(grown, old, used);
    }
    return grown;
}
