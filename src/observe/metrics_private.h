/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_METRICS_PRIVATE_H
#define AIP_SRC_OBSERVE_METRICS_PRIVATE_H
/* Private to src/observe: one scrape. Text of labels is made once for each thing that has any. */

#include "aip/metrics_text.h"
#include "aip/state.h"

#include <stdatomic.h>

typedef struct aip_pool_view_t {
    const aip_targets_t *targets;
    const aip_location_fields_t *fields; /**< that hold for it, never NULL */
    const char *labels;                  /**< server, pool */
    bool semantic;
} aip_pool_view_t;

typedef struct aip_target_view_t {
    const aip_target_t *target;
    const aip_pool_view_t *pool;
    const char *labels;             /**< server, pool, target */
    const char *series[AIP_SERIES]; /**< labels of gen_ai_*; NULL: not in use */
} aip_target_view_t;

typedef struct aip_scrape_t {
    aip_exposition_t out;
    apr_pool_t *apr;
    const aip_location_fields_t *f; /**< of the location that is scraped */
    int n_pools, n_targets;
    aip_pool_view_t *pools;
    aip_target_view_t *targets;
} aip_scrape_t;

static inline apr_uint64_t aip_count_read(const aip_count_t *count)
{
    return atomic_load_explicit(count, memory_order_acquire);
}

/** Requests by status: first of all families, see aip_metrics_count(). */
void aip_metrics_requests(aip_scrape_t *scrape);

/** The other families of targets: gen_ai_*, then ours. */
void aip_metrics_gen_ai(aip_scrape_t *scrape);
void aip_metrics_targets(aip_scrape_t *scrape);

/** Those of gateways, secrets and the server. */
void aip_metrics_pools(aip_scrape_t *scrape);

/** AIMetricsKongNames. */
void aip_metrics_kong(aip_scrape_t *scrape);

#endif
