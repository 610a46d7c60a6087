/* SPDX-License-Identifier: Apache-2.0 */
/* Counters shared by all children: one anonymous segment, made in post_config and inherited by
 * fork. */
#include "aip/request.h"

#include <apr_shm.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

apr_status_t aip_counters_create(apr_pool_t *pconf)
{
    apr_size_t n = 0;
    apr_shm_t *segment;
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        n += (apr_size_t)APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *)->routes->n + 2;
    }
    if (n == 0) {
        return APR_SUCCESS;
    }
    apr_status_t rv = apr_shm_create(&segment, n * sizeof(apr_uint32_t), NULL, pconf);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_uint32_t *next = apr_shm_baseaddr_get(segment);
    memset(next, 0, n * sizeof *next);
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        aip_targets_t *targets = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        targets->ticks = next;
        targets->store = next + targets->routes->n + 1;
        next += targets->routes->n + 2;
    }
    return APR_SUCCESS;
}
