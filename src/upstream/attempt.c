/* SPDX-License-Identifier: Apache-2.0 */
/* The attempt loop: candidate after candidate until one is committed. Decides what an outcome means
 * for the next one; a paid POST that may have been acted upon goes to a second target only where
 * the operator said non_idempotent. */
#include "sink.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

static unsigned outcome_criterion(aip_outcome_e outcome)
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
        break;
    }
    return 0;
}

static bool may_move_on(const aip_request_t *req, const aip_http1_result_t *result)
{
    unsigned criteria = req->conf->f.balancer_failover_criteria;
    if (result->outcome == AIP_OUTCOME_WITHHELD) {
        return true;
    }
    if (!(outcome_criterion(result->outcome) & criteria)) {
        return false;
    }
    return result->written == 0 || (criteria & AIP_CRITERION_NON_IDEMPOTENT);
}

static aip_span_t int_json(bool set, apr_int64_t value, apr_pool_t *pool)
{
    const char *text = set ? apr_psprintf(pool, "%" APR_INT64_T_FMT, value) : NULL;
    return (aip_span_t){text, text ? strlen(text) : 0};
}

static aip_span_t num_json(bool set, aip_number_t number)
{
    return set ? (aip_span_t){number.json, strlen(number.json)} : (aip_span_t){NULL, 0};
}

/* With `redacted` as the statistics log may show it: without the credential, whosever it is. */
static aip_span_t build_body(const aip_request_t *req, const aip_target_t *target, bool redacted)
{
    const aip_target_fields_t *f = &target->f;
    apr_pool_t *pool = req->r->pool;
    aip_chat_options_t options = {
        .model = f->model_name,
        .max_tokens = int_json(f->set[AIP_T_max_tokens], f->max_tokens, pool),
        .temperature = num_json(f->set[AIP_T_temperature], f->temperature),
        .top_p = num_json(f->set[AIP_T_top_p], f->top_p),
        .top_k = int_json(f->set[AIP_T_top_k], f->top_k, pool),
        .max_tokens_name = (aip_max_tokens_e)f->max_tokens_name,
        .force_stream = req->conf->f.response_streaming == AIP_STREAMING_ALWAYS,
        .want_usage = f->logging_log_statistics,
        .drop_stream_options = target->provider->drop_stream_options,
        .extra_index = target->body_param,
        .extra_keep = f->auth_allow_override && !redacted,
    };
    if (target->body_param >= 0) {
        const char *value = redacted ? "***" : f->auth_param_value;
        options.extra_name = (aip_span_t){f->auth_param_name, strlen(f->auth_param_name)};
        options.extra_value = aip_json_quote((aip_span_t){value, strlen(value)}, pool);
    }
    return aip_chat_build(&req->chat, &options, pool);
}

/* One exchange on one connection. */
static void exchange(aip_request_t *req, const aip_target_t *target,
                     const aip_http1_request_t *request, aip_sink_state_t *state,
                     aip_http1_result_t *result, bool *reused)
{
    const aip_location_fields_t *f = &req->conf->f;
    aip_http1_limits_t limits = {.write_timeout = apr_time_from_msec(f->balancer_write_timeout),
                                 .read_timeout = apr_time_from_msec(f->balancer_read_timeout)};
    aip_http1_sink_t sink = aip_sink_functions(state);
    *result = (aip_http1_result_t){0};
    aip_backend_t *backend = aip_backend_open(req->r, target->endpoint, &result->outcome);
    *reused = false;
    if (!backend) {
        return;
    }
    *reused = aip_backend_reused(backend);
    aip_backend_write_timeout(backend, limits.write_timeout);
    apr_time_t start = apr_time_now();
    aip_http1_exchange(aip_backend_conn(backend), request, &limits, &sink, result, req->r->pool);
    if (state->failed) { /* that is why it stopped */
        result->outcome = AIP_OUTCOME_CLIENT_GONE;
    }
    if (result->outcome == AIP_OUTCOME_TLS &&
        apr_time_now() - start >= target->endpoint->connect_timeout) {
        result->outcome = AIP_OUTCOME_CONNECT_TIMEOUT;
    }
    aip_backend_close(backend, result->reusable);
}

static void attempt(aip_request_t *req, const aip_target_t *target, aip_sink_state_t *state,
                    aip_http1_result_t *result)
{
    aip_span_t body = build_body(req, target, false);
    aip_http1_request_t request = {.head = aip_request_head(req, target, body.len), .body = body};
    aip_attempt_t *entry = &req->upstream.attempts[req->upstream.n++];
    apr_time_t start = apr_time_now();
    bool reused;
    req->answered.model = target->f.model_name ? target->f.model_name : req->chat.model;
    req->answered.sent_body = target->f.logging_log_payloads && target->body_param >= 0
                                  ? build_body(req, target, true)
                                  : body;
    exchange(req, target, &request, state, result, &reused);
    if (reused && result->written == 0 && result->received == 0 &&
        outcome_criterion(result->outcome) == AIP_CRITERION_ERROR) {
        exchange(req, target, &request, state, result,
                 &reused); /* the pooled connection was dead: nothing was sent */
    }
    *entry = (aip_attempt_t){.target = target,
                             .outcome = result->outcome,
                             .status = result->status,
                             .took = apr_time_now() - start};
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, req->r,
                  "AIP0020: attempt %d: target %s: %s, status %d, %" APR_TIME_T_FMT " us",
                  req->upstream.n, target->name, aip_outcome_name(result->outcome), result->status,
                  entry->took);
}

/* What the client is told when no target answered. */
static int no_answer(const aip_request_t *req, const aip_http1_result_t *result, aip_error_t *err)
{
    const aip_attempt_t *last = &req->upstream.attempts[req->upstream.n - 1];
    bool timeout = outcome_criterion(last->outcome) == AIP_CRITERION_TIMEOUT ||
                   last->outcome == AIP_OUTCOME_TOTAL_TIMEOUT;
    bool sent = result->written > 0 && last->outcome != AIP_OUTCOME_WITHHELD;
    aip_error_set(err, req->r->pool, timeout ? HTTP_GATEWAY_TIME_OUT : HTTP_BAD_GATEWAY,
                  "upstream_error", timeout ? "upstream_timeout" : "upstream_unreachable", NULL,
                  "no target answered; the last of %d: %s", req->upstream.n,
                  aip_outcome_name(last->outcome));
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, req->r,
                  "AIP0021: no target answered after %d attempts; the last, %s at %s: %s%s",
                  req->upstream.n, last->target->name, last->target->endpoint->url.origin,
                  aip_outcome_name(last->outcome),
                  sent ? " (the request had been sent: only the criterion non_idempotent would try "
                         "another target)"
                       : "");
    return DECLINED;
}

static int client_gone(const aip_request_t *req)
{
    req->r->connection->keepalive = AP_CONN_CLOSE;
    apr_table_setn(req->r->notes, "ai-outcome", "client-gone");
    return DONE;
}

/* After an attempt that ended the loop. */
static int conclude(aip_request_t *req, aip_sink_state_t *state, const aip_http1_result_t *result,
                    const aip_kept_t *kept, aip_error_t *err)
{
    if (result->outcome == AIP_OUTCOME_CLIENT_GONE || state->failed) {
        return client_gone(req);
    }
    if (result->outcome == AIP_OUTCOME_OK) {
        aip_sink_finish(state);
        return OK;
    }
    if (state->committed) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, req->r,
                      "AIP0022: target %s: the answer broke off after %" APR_OFF_T_FMT " bytes: %s",
                      state->target->name, result->body_bytes, aip_outcome_name(result->outcome));
        aip_sink_cut(state, result->outcome);
        return OK;
    }
    if (kept->response) {
        aip_sink_replay(req, kept);
        return OK;
    }
    return no_answer(req, result, err);
}

int aip_upstream_run(aip_request_t *req, aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    int n = req->candidates.n;
    aip_kept_t kept = {0}, held;
    aip_sink_state_t state;
    aip_http1_result_t result;
    if (n > f->balancer_retries + 1) {
        n = (int)f->balancer_retries + 1;
    }
    req->upstream.attempts =
        apr_pcalloc(req->r->pool, (apr_size_t)n * sizeof *req->upstream.attempts);
    for (int i = 0; i < n; i++) {
        const aip_target_t *target = req->conf->targets->list[req->candidates.targets[i]];
        aip_sink_init(&state, req, target, i + 1 < n ? f->balancer_failover_criteria : 0, &held);
        attempt(req, target, &state, &result);
        if (result.outcome == AIP_OUTCOME_WITHHELD && result.complete) {
            kept = held; /* another one cannot be replayed, and does not replace it */
        }
        if (state.committed || state.failed || !may_move_on(req, &result)) {
            break;
        }
    }
    return conclude(req, &state, &result, &kept, err);
}
