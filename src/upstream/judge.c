/* SPDX-License-Identifier: Apache-2.0 */
/* What the outcome of an attempt means: whether another target may be tried, and what all children
 * shall know of this one. A paid POST that may have been acted upon goes to a second target only
 * where the operator said non_idempotent. */
#include "judge.h"

#include "aip/retry_after.h"
#include "aip/state.h"

#include <http_log.h>
#include <stdatomic.h>

APLOG_USE_MODULE(ai_proxy_adv);

unsigned aip_outcome_criterion(aip_outcome_e outcome)
{
    switch (outcome) {
    case AIP_OUTCOME_CONNECT:
    case AIP_OUTCOME_TLS:
    case AIP_OUTCOME_DROP:
    case AIP_OUTCOME_BODY_CUT:
        return AIP_CRITERION_ERROR;
    case AIP_OUTCOME_CONNECT_TIMEOUT:
    case AIP_OUTCOME_WRITE_TIMEOUT:
    case AIP_OUTCOME_FIRST_BYTE_TIMEOUT:
    case AIP_OUTCOME_IDLE_TIMEOUT:
        return AIP_CRITERION_TIMEOUT;
    case AIP_OUTCOME_INVALID_HEADER:
        return AIP_CRITERION_INVALID_HEADER;
    case AIP_OUTCOME_OK:
    case AIP_OUTCOME_TOTAL_TIMEOUT:
    case AIP_OUTCOME_CLIENT_GONE:
    case AIP_OUTCOME_WITHHELD:
    case AIP_OUTCOME_STOPPED:
    case AIP_OUTCOME_SECRET:
        break;
    }
    return 0;
}

bool aip_may_move_on(const aip_request_t *req, const aip_sink_state_t *state,
                     const aip_http1_result_t *result)
{
    unsigned criteria = req->conf->f.balancer_failover_criteria;
    if (result->outcome == AIP_OUTCOME_SECRET) {
        return true; /* nothing was sent, and another target may have a credential */
    }
    if (result->outcome == AIP_OUTCOME_WITHHELD) {
        return !state->refused;
    }
    if (!(aip_outcome_criterion(result->outcome) & criteria)) {
        return false;
    }
    return result->written == 0 || (criteria & AIP_CRITERION_NON_IDEMPOTENT);
}

/* As in Kong: error, timeout and invalid_header count whether listed or not, statuses when they are
 * listed, 403 and 404 never. */
static bool blamed(const aip_sink_state_t *state, const aip_http1_result_t *result)
{
    unsigned never = AIP_CRITERION_HTTP_403 | AIP_CRITERION_HTTP_404;
    unsigned counted = state->req->conf->f.balancer_failover_criteria & ~never;
    if (result->outcome == AIP_OUTCOME_TOTAL_TIMEOUT) {
        return result->received == 0;
    }
    return aip_outcome_criterion(result->outcome) || state->error_event ||
           (aip_status_criterion(result->status) & counted);
}

/* Statuses that tell of the target (credentials, model, quota, its own trouble) and not of this
 * request. */
static bool refused(int status)
{
    switch (status) {
    case HTTP_BAD_REQUEST:
    case HTTP_REQUEST_ENTITY_TOO_LARGE:
    case HTTP_REQUEST_URI_TOO_LARGE:
    case HTTP_UNSUPPORTED_MEDIA_TYPE:
    case HTTP_UNPROCESSABLE_ENTITY:
        return false;
    }
    return status >= 400;
}

/* What answers nothing uses nothing and takes no time: without this an algorithm would prefer it.
 */
static void learn_failure(const aip_sink_state_t *state, const aip_attempt_t *attempt,
                          apr_time_t now)
{
    aip_state_penalize(state->target->state, attempt->took, now);
    aip_decay_add(&state->target->state->failed, 1, now,
                  apr_time_from_msec(state->req->conf->f.balancer_usage_window));
}

static void learn_health(const aip_sink_state_t *state, const aip_http1_result_t *result,
                         const aip_attempt_t *attempt, bool probe, apr_time_t now)
{
    request_rec *r = state->req->r;
    const aip_target_t *target = state->target;
    aip_health_rules_t rules = aip_health_rules(&state->req->conf->f);
    bool blame = blamed(state, result);
    if (blame || refused(result->status)) {
        learn_failure(state, attempt, now);
    }
    if (blame) {
        atomic_fetch_add(&target->state->failures, 1);
        if (aip_health_failure(target->state, &rules, probe, now)) {
            ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                          "AIP0025: target %s: ejected for %" APR_TIME_T_FMT
                          " ms after %u failures; the last: %s, status %d",
                          target->name, apr_time_as_msec(rules.fail_timeout),
                          atomic_load(&target->state->fails), aip_outcome_name(result->outcome),
                          result->status);
        }
    } else if (aip_health_success(target->state, &rules, probe, now)) {
        ap_log_rerror(APLOG_MARK, APLOG_NOTICE, 0, r, "AIP0026: target %s: back in service",
                      target->name);
    }
}

static void learn_pause(const aip_sink_state_t *state, const aip_http1_result_t *result,
                        const aip_kept_t *kept, aip_attempt_t *attempt, apr_time_t now)
{
    const aip_target_t *target = state->target;
    aip_health_rules_t rules = aip_health_rules(&state->req->conf->f);
    if (!state->response || (result->status != 429 && result->status < 500)) {
        return;
    }
    aip_span_t body =
        kept ? (aip_span_t){kept->body, kept->len} : (aip_span_t){state->copy, state->copied};
    attempt->no_quota = body.data && aip_quota_exhausted(body);
    apr_interval_time_t wait =
        attempt->no_quota ? rules.cooldown_max : aip_retry_after(state->response->headers, now);
    apr_interval_time_t pause =
        wait ? aip_health_cool(target->state, &rules, wait, result->status, now) : 0;
    if (pause) {
        ap_log_rerror(APLOG_MARK, APLOG_NOTICE, 0, state->req->r,
                      "AIP0027: target %s: no requests for %" APR_TIME_T_FMT
                      " ms: it answered with status %d and %s",
                      target->name, apr_time_as_msec(pause), result->status,
                      attempt->no_quota ? "has no quota left" : "asked for a pause");
    }
}

static void learn_usage(const aip_sink_state_t *state, const aip_http1_result_t *result,
                        const aip_attempt_t *attempt, apr_time_t now)
{
    const aip_target_t *target = state->target;
    const aip_location_fields_t *f = &state->req->conf->f;
    const aip_answered_t *answered = &state->req->answered;
    const aip_usage_t *usage = &answered->usage;
    if (usage->prompt_tokens >= 0) {
        aip_state_add_usage(target->state, usage, (double)answered->cost_pico / 1e12,
                            apr_time_from_msec(f->balancer_usage_window), now);
    }
    if (result->outcome == AIP_OUTCOME_OK && !state->error_event) {
        aip_state_add_latency(target->state, attempt->took, usage->completion_tokens, now);
        atomic_fetch_add(&target->state->answers, 1);
    }
}

void aip_learn(const aip_sink_state_t *state, const aip_http1_result_t *result,
               const aip_kept_t *kept, aip_attempt_t *attempt, bool probe)
{
    apr_time_t now = apr_time_now();
    bool gone = result->outcome == AIP_OUTCOME_CLIENT_GONE || state->failed ||
                result->outcome == AIP_OUTCOME_SECRET; /* it says nothing of the target */
    bool admitted = state->req->upstream.n <= state->req->candidates.healthy;
    if (gone && probe && admitted) {
        aip_health_forget_probe(state->target->state, now);
    } else if (!gone) {
        learn_health(state, result, attempt, probe, now);
        learn_pause(state, result, kept, attempt, now);
    }
    if (state->response && !state->withheld && result->status < 300) {
        learn_usage(state, result, attempt, now);
    }
}
