/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SHARE_H
#define AIP_SHARE_H
/* Usage and latency of targets, exchanged between machines through Redis. Each machine writes its
 * own figures and reads those of the others: nothing is counted twice, nothing has to be locked,
 * and a machine that disappears fades away.
 *
 * Redis: one hash for each target, "ai_proxy_adv:balance:<id>"; a field for each machine; its value
 * is text: "1 <ms> <total> <prompt> <completion> <cost> <answers> <tpot> <tpot age> <e2e> <e2e
 * age>", where 1 is the version, ms is the wall clock of the writer, usage is as of then, latencies
 * are microseconds and their ages milliseconds, both "-" when not measured. Other versions must
 * begin with "<version> <ms> ", too; they are left alone, but not counted. The clocks of the
 * machines should agree within a second or so.
 *
 * An ACL user needs `~ai_proxy_adv:balance:* +hset +pexpire +hgetall +hdel`. */

#include "aip/error.h"
#include "aip/health.h"
#include "aip/vectordb.h"

typedef struct aip_shared_target_t {
    const char *id; /**< hex digits: the same on all machines, another one for each state of one */
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
 * Writes this machine's figures and takes in those of the others: the sums of usage, each faded to
 * `now`, and latencies averaged by freshness, as of the youngest. A target without figures of this
 * machine is not written; without a latency of others, what was taken in before goes on ageing.
 * Blocks for the time-outs of Redis, which are met at most twice; one thread at a time.
 * @return APR_SUCCESS, or an error in `err` (codes as in vectordb.h). States of targets whose
 * figures could not be read stay as they are; a refusal that concerns one target does not keep the
 * others from being exchanged.
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

/** @return false when there is nothing to tell, or nothing any more */
bool aip_figures_of(const aip_target_state_t *state, apr_interval_time_t window, apr_time_t now,
                    aip_figures_t *figures);
const char *aip_figures_text(const aip_figures_t *figures, apr_pool_t *pool);

/** Strict: finite numbers from 0 to a bound, single spaces. @return false when `text` is not as it
 * should be, or from more than a minute ahead of `now` */
bool aip_figures_read(aip_span_t text, apr_time_t now, aip_figures_t *figures);

#endif
