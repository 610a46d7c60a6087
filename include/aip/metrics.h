/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_METRICS_H
#define AIP_METRICS_H
/* Counters and histograms of targets and gateways, in memory that all children share and that
 * outlives graceful restarts. All zero: nothing has happened. */

#include <apr.h>

typedef struct aip_target_metrics_t {
    _Atomic(apr_uint64_t) requests, errors; /**< whose account names the target */
    _Atomic(apr_uint64_t) prompt_tokens, completion_tokens, cost_pico; /**< of answers that were
                                                                          counted */
} aip_target_metrics_t;

typedef struct aip_gateway_metrics_t {
    _Atomic(apr_uint64_t) requests; /**< all of them */
} aip_gateway_metrics_t;

#endif
