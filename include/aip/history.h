/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_HISTORY_H
#define AIP_HISTORY_H
/* What the status page shows of the recent past, in memory that all children share and that
 * outlives graceful restarts. All zero: nothing has happened. */

#include <apr.h>

typedef struct aip_target_history_t {
    _Atomic(apr_uint64_t) requests;
} aip_target_history_t;

typedef struct aip_gateway_history_t {
    _Atomic(apr_uint64_t) requests;
} aip_gateway_history_t;

#endif
