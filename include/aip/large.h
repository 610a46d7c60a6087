/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_LARGE_H
#define AIP_LARGE_H
/* Memory for what may be large and lives as long as a request: bodies and copies of answers. What a
 * pool once had stays with its allocator (MaxMemFree, 2 MiB), and under event each connection has
 * an allocator of its own: without this a thousand idle connections that have sent a megabyte each
 * would keep two gigabytes. Blocks of AIP_LARGE bytes and more come from malloc() and go back to it
 * when the pool is cleared; smaller ones are the pool's own. */

#include <apr_pools.h>

#define AIP_LARGE 32768

/** Like apr_palloc(): never NULL; without memory the pool's abort function is called. */
void *aip_large_alloc(apr_pool_t *pool, apr_size_t size);

/** A block of `size` bytes that begins with the first `used` of `old`. `old` is of
 * aip_large_alloc() or this function with the same pool, `room` bytes long and smaller than `size`;
 * it is gone afterwards. NULL with a room of 0: there was none. */
void *aip_large_grow(apr_pool_t *pool, void *old, apr_size_t used, apr_size_t room,
                     apr_size_t size);

#endif
