/* SPDX-License-Identifier: Apache-2.0 */
/* Health of a target: circuit breaker with half-open single probes, cool-down, drain, and the
 * figures that algorithms compare. Called before and after each attempt, by any thread of any
 * child. The breaker is one word, ejected_until: 0 is closed, a time to come is open, a time gone
 * by is half-open; who probes moves it ahead by a lease, so that the others see it open. */
#include "aip/health.h"

#include <stdatomic.h>

#define PENALTY apr_time_from_sec(60) /* longer than any answer should take */

const char *aip_availability_name(aip_availability_e availability)
{
    switch (availability) {
    case AIP_AVAILABLE:
        return "available";
    case AIP_EJECTED:
        return "ejected";
    case AIP_COOLING:
        return "cooling";
    case AIP_DRAINED:
        return "drained";
    case AIP_BARRED:
        return "barred";
    }
    return "unknown";
}

aip_availability_e aip_health_look(const aip_target_state_t *state, const aip_health_rules_t *rules,
                                   apr_time_t now)
{
    if (atomic_load(&state->drained)) {
        return AIP_DRAINED;
    }
    if (rules->cooldown_max && atomic_load(&state->cooling_until) > now) {
        return AIP_COOLING;
    }
    return rules->max_fails && atomic_load(&state->ejected_until) > now ? AIP_EJECTED
                                                                        : AIP_AVAILABLE;
}

aip_admission_e aip_health_admit(aip_target_state_t *state, const aip_health_rules_t *rules,
                                 apr_interval_time_t lease, apr_time_t now)
{
    apr_int64_t until = rules->max_fails ? atomic_load(&state->ejected_until) : 0;
    if (until == 0) {
        return AIP_ADMIT_NORMAL;
    }
    return until <= now &&
                   atomic_compare_exchange_strong(&state->ejected_until, &until, now + lease)
               ? AIP_ADMIT_PROBE
               : AIP_ADMIT_NO;
}

bool aip_health_success(aip_target_state_t *state, const aip_health_rules_t *rules, bool probe,
                        apr_time_t now)
{
    if (!rules->max_fails) {
        return false;
    }
    if (atomic_load(&state->ejected_until) != 0) {
        if (!probe) { /* begun before it was ejected */
            return false;
        }
        atomic_store(&state->fails, 0);
        return atomic_exchange(&state->ejected_until, 0) != 0;
    }
    if (atomic_load(&state->fails) && now - atomic_load(&state->failed_at) >= rules->fail_timeout) {
        atomic_store(&state->fails, 0);
    }
    return false;
}

bool aip_health_failure(aip_target_state_t *state, const aip_health_rules_t *rules, bool probe,
                        apr_time_t now)
{
    apr_int64_t until;
    if (!rules->max_fails) {
        return false;
    }
    atomic_store(&state->failed_at, now);
    if (atomic_fetch_add(&state->fails, 1) + 1 < rules->max_fails) {
        return false;
    }
    until = atomic_load(&state->ejected_until);
    if (until != 0 && !probe) { /* begun before it was ejected: no reason to wait longer */
        return false;
    }
    return atomic_compare_exchange_strong(&state->ejected_until, &until, now + rules->fail_timeout);
}

void aip_health_forget_probe(aip_target_state_t *state, apr_time_t now)
{
    apr_int64_t until = atomic_load(&state->ejected_until);
    if (until != 0) {
        atomic_compare_exchange_strong(&state->ejected_until, &until, now);
    }
}

apr_interval_time_t aip_health_cool(aip_target_state_t *state, const aip_health_rules_t *rules,
                                    apr_interval_time_t wait, int status, apr_time_t now)
{
    if (rules->cooldown_max == 0) {
        return 0;
    }
    wait = wait < rules->cooldown_max ? wait : rules->cooldown_max;
    apr_int64_t until = atomic_load(&state->cooling_until);
    while (now + wait > until && wait > 0) {
        if (atomic_compare_exchange_weak(&state->cooling_until, &until, now + wait)) {
            atomic_store(&state->cooling_status, (apr_uint32_t)status);
            return wait;
        }
    }
    return until > now ? until - now : 0;
}

apr_time_t aip_health_back_at(const aip_target_state_t *state, const aip_health_rules_t *rules,
                              apr_time_t now)
{
    switch (aip_health_look(state, rules, now)) {
    case AIP_COOLING:
        return atomic_load(&state->cooling_until);
    case AIP_EJECTED:
        return atomic_load(&state->ejected_until);
    case AIP_AVAILABLE:
    case AIP_DRAINED:
    case AIP_BARRED:
        break;
    }
    return 0;
}

void aip_state_add_usage(aip_target_state_t *state, const aip_usage_t *usage, double cost,
                         apr_interval_time_t window, apr_time_t now)
{
    const apr_int64_t counts[] = {[AIP_USAGE_TOTAL] = usage->total_tokens,
                                  [AIP_USAGE_PROMPT] = usage->prompt_tokens,
                                  [AIP_USAGE_COMPLETION] = usage->completion_tokens};
    for (int i = 0; i < AIP_USAGE_COST; i++) {
        if (counts[i] > 0) {
            aip_decay_add(&state->usage[i], (double)counts[i], now, window);
        }
    }
    if (cost > 0) {
        aip_decay_add(&state->usage[AIP_USAGE_COST], cost, now, window);
    }
    aip_decay_add(&state->answered, 1, now, window);
}

void aip_state_add_latency(aip_target_state_t *state, apr_interval_time_t took, apr_int64_t tokens,
                           apr_time_t now)
{
    aip_decay_sample(&state->took, (double)took, now, AIP_LATENCY_WINDOW);
    aip_decay_sample(&state->latency[AIP_LATENCY_E2E], (double)took, now, AIP_LATENCY_WINDOW);
    if (tokens > 0) {
        aip_decay_sample(&state->latency[AIP_LATENCY_TPOT], (double)took / (double)tokens, now,
                         AIP_LATENCY_WINDOW);
    }
}

void aip_state_penalize(aip_target_state_t *state, apr_interval_time_t took, apr_time_t now)
{
    double least = (double)(took > PENALTY ? took : PENALTY);
    for (int i = 0; i < AIP_LATENCY_KINDS; i++) {
        double last = aip_decay_last(&state->latency[i]);
        aip_decay_sample(&state->latency[i], last > least ? last : least, now, AIP_LATENCY_WINDOW);
    }
}
