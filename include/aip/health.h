/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_HEALTH_H
#define AIP_HEALTH_H
/* What all children know of one target: requests in flight, usage, latency, and whether it may be
 * tried: circuit breaker, cool-down, drain. Plain structs with atomics; the caller owns the memory,
 * which is shared by processes. Times are microseconds of apr_time_now(). */

#include "aip/decay.h"
#include "aip/usage.h"

#define AIP_LATENCY_WINDOW apr_time_from_sec(10)

/** In the order of the words of AIBalancerTokensCountStrategy. */
typedef enum aip_usage_kind_e {
    AIP_USAGE_TOTAL,
    AIP_USAGE_PROMPT,
    AIP_USAGE_COMPLETION,
    AIP_USAGE_COST,
    AIP_USAGE_KINDS
} aip_usage_kind_e;

/** In the order of the words of AIBalancerLatencyStrategy. */
typedef enum aip_latency_kind_e {
    AIP_LATENCY_TPOT, /**< time per output token */
    AIP_LATENCY_E2E,  /**< from the start of the attempt to the end of its answer */
    AIP_LATENCY_KINDS
} aip_latency_kind_e;

/** All zero: a target that nothing is known of. */
typedef struct aip_target_state_t {
    _Atomic(apr_uint32_t) in_flight;
    _Atomic(apr_uint32_t) drained;        /**< 1: by order of the operator */
    _Atomic(apr_uint32_t) fails;          /**< failures that count towards max_fails */
    _Atomic(apr_uint32_t) cooling_status; /**< what the target said when it asked for a pause */
    _Atomic(apr_int64_t) failed_at;       /**< last failure that counted */
    _Atomic(apr_int64_t) ejected_until;   /**< 0: the breaker is closed */
    _Atomic(apr_int64_t) cooling_until;   /**< no request before that */
    _Atomic(apr_uint64_t) attempts, failures, answers; /**< since the state was made */
    aip_decay_t took;     /**< average time of an answer, microseconds; failures leave it alone */
    aip_decay_t failed;   /**< attempts that an algorithm shall hold against it, faded like usage */
    aip_decay_t answered; /**< answers whose usage was added, faded like it */
    aip_decay_t usage[AIP_USAGE_KINDS];       /**< of this machine; window: AIBalancerUsageWindow */
    aip_decay_t latency[AIP_LATENCY_KINDS];   /**< microseconds, of this machine */
    aip_decay_t other_usage[AIP_USAGE_KINDS]; /**< the same of the other machines, as last told */
    aip_decay_t other_latency[AIP_LATENCY_KINDS];
} aip_target_state_t;

typedef struct aip_health_rules_t {
    apr_uint32_t max_fails; /**< 0: no breaker */
    apr_interval_time_t fail_timeout;
    apr_interval_time_t cooldown_max; /**< 0: no cool-down */
} aip_health_rules_t;

/** Best first. */
typedef enum aip_availability_e {
    AIP_AVAILABLE, /**< a half-open breaker, too: who tries it must be admitted */
    AIP_EJECTED,   /**< the breaker is open: a last resort */
    AIP_COOLING,   /**< asked for a pause: not to be tried */
    AIP_DRAINED,   /**< not to be tried */
    AIP_BARRED     /**< not for this request: AIRouteForbid and its sisters */
} aip_availability_e;

/** Lower-case word for status and logs: "available", "ejected", "cooling", "drained",
 * "barred". */
const char *aip_availability_name(aip_availability_e availability);

aip_availability_e aip_health_look(const aip_target_state_t *state, const aip_health_rules_t *rules,
                                   apr_time_t now);

typedef enum aip_admission_e {
    AIP_ADMIT_NORMAL,
    AIP_ADMIT_PROBE, /**< half-open, and this is the one probe */
    AIP_ADMIT_NO     /**< half-open, and another one probes */
} aip_admission_e;

/**
 * Before an attempt at an available target. A probe that is never concluded gives way to another
 * one after `lease`.
 */
aip_admission_e aip_health_admit(aip_target_state_t *state, const aip_health_rules_t *rules,
                                 apr_interval_time_t lease, apr_time_t now);

/** The attempt went well. @param probe  it was a probe or a last resort: closes the breaker
 * @return whether it closed the breaker */
bool aip_health_success(aip_target_state_t *state, const aip_health_rules_t *rules, bool probe,
                        apr_time_t now);

/**
 * The attempt failed in a way that counts. As in Kong, failures are counted in total, not in a row;
 * the count is dropped by a success that comes fail_timeout after the last failure.
 * @return whether it opened the breaker (or kept it open, after a probe)
 */
bool aip_health_failure(aip_target_state_t *state, const aip_health_rules_t *rules, bool probe,
                        apr_time_t now);

/** A probe ended without a verdict (the client left): the next request may probe. */
void aip_health_forget_probe(aip_target_state_t *state, apr_time_t now);

/** The target asked for a pause of `wait`, capped by the rules; never shortens one that is going
 * on. @return the pause that holds now, 0: none */
apr_interval_time_t aip_health_cool(aip_target_state_t *state, const aip_health_rules_t *rules,
                                    apr_interval_time_t wait, int status, apr_time_t now);

/** When a request may be tried again, for a target that is not available; 0: never by itself. */
apr_time_t aip_health_back_at(const aip_target_state_t *state, const aip_health_rules_t *rules,
                              apr_time_t now);

/** Adds an answer's usage; unknown counts (-1) add nothing. @param cost  in the currency of the
 * prices */
void aip_state_add_usage(aip_target_state_t *state, const aip_usage_t *usage, double cost,
                         apr_interval_time_t window, apr_time_t now);

/** Takes in an answer's latencies. @param tokens  completion tokens, <= 0: not known */
void aip_state_add_latency(aip_target_state_t *state, apr_interval_time_t took, apr_int64_t tokens,
                           apr_time_t now);

/** After a failure: puts the target behind the others until it is probed again. */
void aip_state_penalize(aip_target_state_t *state, apr_interval_time_t took, apr_time_t now);

#endif
