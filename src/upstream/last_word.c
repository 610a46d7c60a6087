/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a request: the answer that was committed, the best of those that were withheld, or an
 * error of our own. Always a complete message, unless a long answer broke off in the middle. */
#include "last_word.h"

#include "judge.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* Sending the same once more would come to the same. */
static bool pointless(const aip_request_t *req)
{
    for (int i = 0; i < req->upstream.n; i++) {
        const aip_attempt_t *a = &req->upstream.attempts[i];
        if (a->outcome != AIP_OUTCOME_TLS && !a->no_quota) {
            return false;
        }
    }
    return req->upstream.n > 0;
}

static void advise(const aip_request_t *req)
{
    if (pointless(req)) {
        apr_table_setn(req->r->headers_out, "x-should-retry", "false");
    }
}

static int out_of_time(const aip_request_t *req, aip_error_t *err)
{
    aip_error_set(err, req->r->pool, HTTP_GATEWAY_TIME_OUT, "upstream_error", "upstream_timeout",
                  NULL, "the time for the request was over before a target could be asked");
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, req->r,
                  "AIP0028: AITimeoutTotal was over before the first attempt");
    return DECLINED;
}

/* No target was asked last: its credential has no value, or the request did not say where to go. */
static int not_asked(const aip_request_t *req, const aip_target_t *target, aip_error_t *err)
{
    *err = req->upstream.unsent;
    if (err->status == HTTP_SERVICE_UNAVAILABLE) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, req->r,
                      "AIP0209: target %s was not asked: a secret of its credential has no value "
                      "that can be used",
                      target->name);
    }
    return DECLINED;
}

/* What the client is told when no target answered. */
static int no_answer(const aip_request_t *req, const aip_sink_state_t *state,
                     const aip_http1_result_t *result, aip_error_t *err)
{
    const aip_attempt_t *last = &req->upstream.attempts[req->upstream.n - 1];
    if (last->outcome == AIP_OUTCOME_SECRET) {
        return not_asked(req, last->target, err);
    }
    bool timeout = aip_outcome_criterion(last->outcome) == AIP_CRITERION_TIMEOUT ||
                   last->outcome == AIP_OUTCOME_TOTAL_TIMEOUT;
    bool sent = result->written > 0 && aip_outcome_criterion(last->outcome) &&
                !aip_may_move_on(req, state, result);
    aip_error_set(err, req->r->pool, timeout ? HTTP_GATEWAY_TIME_OUT : HTTP_BAD_GATEWAY,
                  "upstream_error", timeout ? "upstream_timeout" : "upstream_unreachable", NULL,
                  "no target answered; the last of %d: %s", req->upstream.n,
                  aip_outcome_name(last->outcome));
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, req->r,
                  "AIP0021: no target answered after %d attempts; the last, %s at %s: %s%s",
                  req->upstream.n, last->target->name, last->endpoint->url.origin,
                  aip_outcome_name(last->outcome),
                  sent ? " (the request had been sent: only the criterion non_idempotent would try "
                         "another target)"
                       : "");
    advise(req);
    return DECLINED;
}

static int client_gone(const aip_request_t *req)
{
    aip_request_get(req->r)->answered.cut = aip_outcome_name(AIP_OUTCOME_CLIENT_GONE);
    req->r->connection->keepalive = AP_CONN_CLOSE;
    apr_table_setn(req->r->notes, "ai-outcome", "client-gone");
    return DONE;
}

int aip_last_word(aip_request_t *req, aip_sink_state_t *state, const aip_http1_result_t *result,
                  const aip_kept_t *kept, aip_error_t *err)
{
    if (state && (result->outcome == AIP_OUTCOME_CLIENT_GONE || state->failed)) {
        return client_gone(req);
    }
    if (state && result->outcome == AIP_OUTCOME_OK) {
        if (!state->committed) {
            advise(req);
        }
        aip_sink_finish(state);
        return state->failed ? client_gone(req) : OK;
    }
    if (state && state->committed) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, req->r,
                      "AIP0022: target %s: the answer broke off after %" APR_OFF_T_FMT " bytes: %s",
                      state->target->name, result->body_bytes, aip_outcome_name(result->outcome));
        aip_sink_cut(state, result->outcome);
        return OK;
    }
    if (kept->response) {
        advise(req);
        aip_sink_replay(req, kept);
        return OK;
    }
    return state ? no_answer(req, state, result, err) : out_of_time(req, err);
}
