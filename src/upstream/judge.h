/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_JUDGE_H
#define AIP_SRC_UPSTREAM_JUDGE_H
/* Private to src/upstream: what the outcome of an attempt means, for the request and for those to
 * come. */

#include "sink.h"

/** The criterion that an outcome falls under, or 0. */
unsigned aip_outcome_criterion(aip_outcome_e outcome);

/** Whether the next candidate may be tried after this one. */
bool aip_may_move_on(const aip_request_t *req, const aip_sink_state_t *state,
                     const aip_http1_result_t *result);

/**
 * Tells the target's shared state how an attempt went: breaker, cool-down, usage, latency.
 * @param kept  the withheld answer, when it was one
 * @param probe  whether the attempt decides about an open breaker
 */
void aip_learn(const aip_sink_state_t *state, const aip_http1_result_t *result,
               const aip_kept_t *kept, aip_attempt_t *attempt, bool probe);

#endif
