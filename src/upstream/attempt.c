/* SPDX-License-Identifier: Apache-2.0 */
/* The attempt loop: candidate after candidate until one is committed. What an outcome means is
 * decided in judge.c, what the client gets in the end in last_word.c. */
#include "aip/access.h"
#include "aip/large.h"
#include "aip/state.h"
#include "credential.h"
#include "judge.h"
#include "last_word.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

static aip_span_t int_json(bool set, apr_int64_t value, apr_pool_t *pool)
{
    const char *text = set ? apr_psprintf(pool, "%" APR_INT64_T_FMT, value) : NULL;
    return (aip_span_t){text, text ? strlen(text) : 0};
}

static aip_span_t num_json(bool set, aip_number_t number)
{
    return set ? (aip_span_t){number.json, strlen(number.json)} : (aip_span_t){NULL, 0};
}

/* Whether the client's credential in the body is an API key of the gateway. */
static bool sends_key(const aip_request_t *req, const aip_target_t *target)
{
    if (target->body_param < 0) {
        return false;
    }
    const aip_json_member_t *member = &req->chat.members[AIP_CHAT_MEMBERS + target->body_param];
    return aip_access_is_key(req->r, aip_json_string(member->value, req->r->pool));
}

/* Whether the body keeps a credential of the client's. */
static bool keeps_own(const aip_request_t *req, const aip_target_t *target)
{
    return target->f.auth_allow_override && target->body_param >= 0 &&
           aip_chat_has_extra(&req->chat, target->body_param) && !sends_key(req, target);
}

/* Without a credential as the statistics log may show it: "***" stands for it, whosever it is. */
static aip_span_t build_body(const aip_request_t *req, const aip_target_t *target,
                             const aip_credential_t *credential, apr_pool_t *pool)
{
    const aip_target_fields_t *f = &target->f;
    aip_chat_options_t options = {
        .model = f->model_name,
        .max_tokens = int_json(f->set[AIP_T_max_tokens], f->max_tokens, pool),
        .temperature = num_json(f->set[AIP_T_temperature], f->temperature),
        .top_p = num_json(f->set[AIP_T_top_p], f->top_p),
        .top_k = int_json(f->set[AIP_T_top_k], f->top_k, pool),
        .max_tokens_name = (aip_max_tokens_e)f->max_tokens_name,
        .force_stream = req->conf->f.response_streaming == AIP_STREAMING_ALWAYS,
        .want_usage = aip_sink_asks_usage(req, target),
        .drop_stream_options = target->provider->drop_stream_options,
        .extra_index = target->body_param,
        .extra_keep = credential && keeps_own(req, target),
    };
    if (target->body_param >= 0) {
        options.extra_name = req->extra[target->body_param];
        options.extra_value =
            aip_json_quote(credential ? credential->body_value : AIP_SPAN("***"), pool);
    }
    return aip_chat_build(&req->chat, &options, pool);
}

/* For the body of the next attempt: a large one takes the place of the last attempt's. */
static apr_pool_t *body_pool(aip_request_t *req)
{
    if (req->body.len < AIP_LARGE) {
        return req->r->pool;
    }
    if (req->upstream.body) {
        apr_pool_clear(req->upstream.body);
    } else {
        apr_pool_create(&req->upstream.body, req->r->pool);
    }
    return req->upstream.body;
}

/* A handshake that failed because its time was over. */
static aip_outcome_e tls_outcome(const aip_request_t *req, const aip_target_t *target,
                                 apr_time_t start)
{
    apr_time_t now = apr_time_now();
    if (req->deadline && now >= req->deadline) {
        return AIP_OUTCOME_TOTAL_TIMEOUT;
    }
    return now - start >= target->endpoint->connect_timeout ? AIP_OUTCOME_CONNECT_TIMEOUT
                                                            : AIP_OUTCOME_TLS;
}

/* One exchange on one connection. */
static void exchange(aip_request_t *req, const aip_target_t *target, const aip_endpoint_t *endpoint,
                     const aip_http1_request_t *request, aip_sink_state_t *state,
                     aip_http1_result_t *result, bool *reused)
{
    const aip_location_fields_t *f = &req->conf->f;
    aip_http1_limits_t limits = {.write_timeout = apr_time_from_msec(f->balancer_write_timeout),
                                 .read_timeout = apr_time_from_msec(f->balancer_read_timeout),
                                 .first_byte = apr_time_from_msec(f->timeout_first_byte),
                                 .deadline = req->deadline,
                                 .idle_until = &state->idle_until};
    aip_http1_sink_t sink = aip_sink_functions(state);
    *result = (aip_http1_result_t){0};
    aip_backend_t *backend = aip_backend_open(req->r, endpoint, req->deadline, &result->outcome);
    *reused = false;
    if (!backend) {
        return;
    }
    *reused = aip_backend_reused(backend);
    aip_backend_write_timeout(backend, limits.write_timeout);
    apr_time_t start = apr_time_now();
    aip_http1_exchange(aip_backend_conn(backend), request, &limits, &sink, result, req->r->pool);
    aip_sink_end(state);
    if (state->failed) { /* that is why it stopped */
        result->outcome = AIP_OUTCOME_CLIENT_GONE;
    } else if (state->withheld && result->outcome == AIP_OUTCOME_STOPPED) { /* an error event */
        result->outcome = AIP_OUTCOME_WITHHELD;
        result->complete = true;
    } else if (result->outcome == AIP_OUTCOME_TLS) {
        result->outcome = tls_outcome(req, target, start);
    }
    aip_backend_close(backend, result->reusable);
}

/* One request to the target; a pooled connection that was dead has sent nothing, and is replaced
 * once. */
static void ask(aip_request_t *req, const aip_target_t *target, const aip_credential_t *credential,
                aip_sink_state_t *state, aip_http1_result_t *result)
{
    aip_span_t body = build_body(req, target, credential, body_pool(req));
    aip_http1_request_t request = {.head = aip_request_head(req, target, credential, body),
                                   .body = body};
    bool reused;
    state->mask = aip_credential_mask(credential, req->r->pool);
    req->answered = (aip_answered_t){.usage = AIP_USAGE_UNKNOWN};
    req->answered.model = aip_request_model(req, target);
    req->answered.sent_body = target->f.logging_log_payloads && target->body_param >= 0
                                  ? build_body(req, target, NULL, req->r->pool)
                                  : body;
    if (!request.head.data) {
        *result = (aip_http1_result_t){.outcome = AIP_OUTCOME_SECRET};
        return;
    }
    exchange(req, target, credential->endpoint, &request, state, result, &reused);
    if (reused && result->written == 0 && result->received == 0 &&
        aip_outcome_criterion(result->outcome) == AIP_CRITERION_ERROR) {
        exchange(req, target, credential->endpoint, &request, state, result, &reused);
    }
    aip_credential_wipe(&request.head);
}

/* A secret may have been changed in its vault a moment ago: a target that refuses the old one is
 * asked again with the new one. It has done nothing but to look at the credential. */
static void ask_twice(aip_request_t *req, const aip_target_t *target, aip_credential_t *credential,
                      aip_sink_state_t *state, aip_http1_result_t *result)
{
    bool renewable = aip_credential_renewable(target, credential);
    state->hold_401 = renewable;
    state->hold_403 = renewable && target->cloud == AIP_CLOUD_AWS; /* where AWS says 403 */
    ask(req, target, credential, state, result);
    if (!state->refused || !state->withheld || !aip_credential_renew(req, target, credential)) {
        return;
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, req->r,
                  "AIP0211: target %s: refused the credential; asked again with a newer one",
                  target->name);
    aip_sink_init(state, req, target, state->withhold, state->kept);
    ask(req, target, credential, state, result);
}

static aip_attempt_t *attempt(aip_request_t *req, const aip_target_t *target,
                              aip_sink_state_t *state, aip_http1_result_t *result)
{
    aip_attempt_t *entry = &req->upstream.attempts[req->upstream.n++];
    apr_time_t start = apr_time_now();
    aip_credential_t credential;
    *result = (aip_http1_result_t){.outcome = AIP_OUTCOME_SECRET};
    req->answered = (aip_answered_t){.usage = AIP_USAGE_UNKNOWN};
    aip_state_begin(target);
    if (aip_credential_read(req, target, &credential, &req->upstream.unsent) == APR_SUCCESS) {
        credential.clients_param |= keeps_own(req, target);
        ask_twice(req, target, &credential, state, result);
    }
    aip_state_end(target);
    *entry = (aip_attempt_t){.target = target,
                             .endpoint = credential.endpoint,
                             .outcome = result->outcome,
                             .status = result->status,
                             .start = start,
                             .took = apr_time_now() - start};
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, req->r,
                  "AIP0020: attempt %d: target %s: %s, status %d, %" APR_TIME_T_FMT " us",
                  req->upstream.n, target->name, aip_outcome_name(result->outcome), result->status,
                  entry->took);
    return entry;
}

/* Whether an attempt at the target could end before AITimeoutTotal is over. */
static bool in_time(const aip_request_t *req, const aip_target_t *target)
{
    apr_interval_time_t left = req->deadline - apr_time_now();
    double needed = req->upstream.n ? aip_decay_last(&target->state->took) : 0;
    if (!req->deadline || (left > 0 && (double)left > needed)) {
        return true;
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, req->r,
                  "AIP0029: target %s is not tried: %" APR_TIME_T_FMT
                  " ms of AITimeoutTotal are left",
                  target->name, apr_time_as_msec(left > 0 ? left : 0));
    return false;
}

/* The next candidate that may be tried; NULL: there is no time for it. Half-open ones admit one
 * request at a time; for the others they are a last resort. @param probe  out: the attempt decides
 * about an open breaker */
static const aip_target_t *next_target(aip_request_t *req, bool *probe)
{
    aip_candidates_t *c = &req->candidates;
    aip_health_rules_t rules = aip_health_rules(&req->conf->f);
    apr_interval_time_t lease = apr_time_from_msec(req->conf->f.balancer_connect_timeout +
                                                   req->conf->f.balancer_read_timeout);
    const aip_target_t *target;
    for (;;) {
        int i = req->upstream.n;
        target = req->conf->targets->list[c->targets[i]];
        *probe = i >= c->healthy;
        if (!in_time(req, target)) {
            return NULL;
        }
        if (*probe) {
            return target;
        }
        switch (aip_health_admit(target->state, &rules, lease, apr_time_now())) {
        case AIP_ADMIT_NORMAL:
            return target;
        case AIP_ADMIT_PROBE:
            *probe = true;
            return target;
        case AIP_ADMIT_NO:
            aip_candidates_defer(c, i);
            break;
        }
    }
}

int aip_upstream_run(aip_request_t *req, aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    int n = req->candidates.n, asked = 0, limit = (int)f->balancer_retries + 1;
    aip_kept_t kept = {0}, held = {0};
    aip_sink_state_t state;
    aip_http1_result_t result = {0};
    bool probe;
    req->upstream.attempts =
        apr_pcalloc(req->r->pool, (apr_size_t)n * sizeof *req->upstream.attempts);
    while (req->upstream.n < n && asked < limit) {
        const aip_target_t *target = next_target(req, &probe);
        if (!target) {
            break;
        }
        bool last = req->upstream.n + 1 == n || asked + 1 == limit;
        aip_sink_init(&state, req, target, last ? 0 : f->balancer_failover_criteria, &held);
        aip_attempt_t *entry = attempt(req, target, &state, &result);
        asked += result.outcome != AIP_OUTCOME_SECRET; /* without a credential nobody was asked */
        bool withheld = result.outcome == AIP_OUTCOME_WITHHELD;
        if (!withheld) {
            aip_sink_note(&state);
        } else if (result.complete) {
            kept = held; /* another one cannot be replayed, and does not replace it */
        }
        aip_learn(&state, &result, withheld ? &held : NULL, entry, probe);
        if (state.committed || state.failed || !aip_may_move_on(req, &state, &result)) {
            break;
        }
    }
    apr_time_t before = apr_time_now();
    int rc = aip_last_word(req, req->upstream.n ? &state : NULL, &result, &kept, err);
    req->upstream.passing = apr_time_now() - before;
    return rc;
}
