/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SHARE_H
#define AIP_SHARE_H
/* Usage and latency of targets, exchanged between machines through Redis. Each machine writes its
 * own figures and reads those of the others: nothing is counted twice, nothing has to be locked,
 * and a machine that disappears fades away.
 *
 * Redis: one hash for each target, "ai_proxy_adv:balance:<id>"; a field for each machine; its value
 * is text: "1 <ms> <total> <prompt> <completion> <cost> <answers> <tpot> <tpot age> <e2e> <e2e
 * age>", where ms is the wall clock of the writer, usage is as of then, latencies are microseconds
 * (-1: not measured) and their ages milliseconds. The clocks of the machines should agree within a
 * second or so. */

#include "aip/error.h"
#include "aip/health.h"
#include "aip/vectordb.h"

typedef struct aip_shared_target_t {
    const char *id; /**< the same on all machines: hex digits */
    aip_target_state_t *state;
    apr_interval_time_t window; /**< of usage */
} aip_shared_target_t;

typedef struct aip_share_t aip_share_t;

/**
 * @param machine  tells this machine from the others: letters and digits
 * @param targets  copied; what they point to must live as long as `pool`
 */
aip_share_t *aip_share_create(const aip_redis_conf_t *redis, const char *machine,
                              const aip_shared_target_t *targets, int n, apr_pool_t *pool);

/**
 * Writes this machine's figures and takes in those of the others: the sums of usage, and latencies
 * averaged by freshness. Blocks for the time-outs of Redis; one thread at a time.
 * @return APR_SUCCESS, or an error in `err` (codes as in vectordb.h) that leaves the states of
 * targets not reached yet as they are
 */
apr_status_t aip_share_exchange(aip_share_t *share, apr_time_t now, apr_pool_t *pool,
                                aip_error_t *err);

/** A machine's figures, and their text. Exposed for tests. */
typedef struct aip_figures_t {
    apr_time_t at; /**< wall clock, whole milliseconds */
    double usage[AIP_USAGE_KINDS], answers;
    double latency[AIP_LATENCY_KINDS]; /**< < 0: not measured */
    apr_interval_time_t latency_age[AIP_LATENCY_KINDS];
} aip_figures_t;

/** @return false when there is nothing to tell */
bool aip_figures_of(const aip_target_state_t *state, apr_interval_time_t window, apr_time_t now,
                    aip_figures_t *figures);
const char *aip_figures_text(const aip_figures_t *figures, apr_pool_t *pool);

/** @return false when `text` is not as it should be, or from more than a minute ahead of `now` */
bool aip_figures_read(aip_span_t text, apr_time_t now, aip_figures_t *figures);

#endif
