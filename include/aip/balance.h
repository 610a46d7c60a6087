/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_BALANCE_H
#define AIP_BALANCE_H
/* Candidate lists: every algorithm returns the targets of a location in the order in which they
 * shall be tried. Pure; the caller owns the counters, which may lie in shared memory. */

#include "aip/route.h"

/** Targets in the order in which they shall be tried, each at most once. */
typedef struct aip_candidates_t {
    int n;
    int *targets;
} aip_candidates_t;

/** Smooth weighted round-robin (the algorithm of nginx's ngx_http_upstream_round_robin) over a few
 * targets, unrolled into one period, so that a shared counter is all the state there is. */
typedef struct aip_wheel_t aip_wheel_t;

#define AIP_WHEEL_SLOTS                                                                            \
    10000 /**< longest period; weights are scaled down to fit, no weight below 1 */

/** @param weights  indexed by target, 1..65535 */
aip_wheel_t *aip_wheel_create(const int *targets, int n, const int *weights, apr_pool_t *pool);

/** Appends the wheel's targets: the one whose turn it is at `tick`, then the others by weight. */
void aip_wheel_append(const aip_wheel_t *wheel, apr_uint32_t tick, aip_candidates_t *candidates);

/** Members of each ranked route in turn. @param wheels  one per route @param ticks  one per route
 */
void aip_candidates_ranked(const aip_decision_t *decision, aip_wheel_t *const *wheels,
                           const apr_uint32_t *ticks, aip_candidates_t *candidates);

#endif
