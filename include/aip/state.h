/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_STATE_H
#define AIP_STATE_H
/* Glue: the memory shared by all children. One state for each target, which outlives a graceful
 * restart as long as the target's section, name, URL and model stay what they were. */

#include "aip/config.h"
#include "aip/trace_export.h"
#include "aip/vault.h"

#include <ap_mpm.h>

/** post_config: gives every target its state and every list its counters. */
apr_status_t aip_states_create(apr_pool_t *pconf, server_rec *s);

/** child_init: claims the record of what this child has in flight. */
void aip_states_child_init(apr_pool_t *pchild, server_rec *s);

/** child_status, in the parent: a child that died in the middle of requests has none in flight any
 * more. */
void aip_states_child_status(server_rec *s, pid_t pid, ap_generation_t generation, int slot,
                             mpm_child_status status);

#define AIP_SHARED_REDISES 8

/** What the threads of AIBalancerShared agree upon, and what belongs to no gateway; in shared
 * memory that outlives graceful restarts. */
typedef struct aip_shared_words_t {
    _Atomic(apr_int64_t) exchange_due; /**< microseconds; who moves it on does the exchange */
    _Atomic(apr_uint32_t) redis_state[AIP_SHARED_REDISES]; /**< last logged: 1 up, 2 away */
    aip_count_t secret_fetches[AIP_FETCHED_N];             /**< how they ended, aip_fetched_e */
    aip_count_t statistics_dropped;                        /**< lines of AIStatisticsLog */
    aip_traces_counts_t traces;
} aip_shared_words_t;

/** NULL before aip_states_create(). */
aip_shared_words_t *aip_shared_words(void);

/** When counting began: the start of the server, graceful restarts left aside. */
apr_time_t aip_states_since(void);

/** Tells this run of the server from all others: hex digits. */
const char *aip_machine_id(void);

/** child_init: starts the thread that exchanges figures with other machines, if one is asked for.
 */
void aip_exchange_init(apr_pool_t *pchild, server_rec *s);

/** An attempt at the target begins, ends. */
void aip_state_begin(const aip_target_t *target);
void aip_state_end(const aip_target_t *target);

/** The rules of health that hold in a section. */
static inline aip_health_rules_t aip_health_rules(const aip_location_fields_t *f)
{
    return (aip_health_rules_t){.max_fails = (apr_uint32_t)f->balancer_max_fails,
                                .fail_timeout = apr_time_from_msec(f->balancer_fail_timeout),
                                .cooldown_max = apr_time_from_msec(f->balancer_cooldown_max)};
}

#endif
