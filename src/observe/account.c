/* SPDX-License-Identifier: Apache-2.0 */
/* Closes the account of a request when it is to be logged: in the thread that ran it, after the
 * answer is on its way. Whoever keeps books is told here, once for each request. */
#include "aip/account.h"

#include "aip/observe.h"
#include "aip/traces.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define CLIENT_LEFT 499 /* nginx's number */

static const aip_target_t *target_of(const aip_request_t *req)
{
    return req->answered.target ? req->answered.target
           : req->upstream.n    ? req->upstream.attempts[req->upstream.n - 1].target
                                : NULL;
}

/* Whether the client left before anything of an answer was on its way. */
static bool client_left(const aip_request_t *req)
{
    return !req->answered.target && !req->error.status &&
           (req->answered.cut || req->r->connection->aborted);
}

static const char *error_type(const aip_request_t *req, int status)
{
    if (client_left(req)) {
        return aip_outcome_name(AIP_OUTCOME_CLIENT_GONE);
    }
    if (req->answered.cut) {
        return req->answered.cut;
    }
    if (req->error.status) {
        return req->error.code;
    }
    return status >= 400 ? apr_itoa(req->r->pool, status) : NULL;
}

static void measure(const aip_request_t *req, aip_account_t *account)
{
    const aip_answered_t *a = &req->answered;
    account->end = req->end ? req->end : apr_time_now();
    account->total = account->end - req->start;
    for (int i = 0; i < req->upstream.n; i++) {
        account->upstream += req->upstream.attempts[i].took;
    }
    account->embedding = req->route.embedder ? req->route.embed_took : -1;
    account->search =
        req->route.embedder && req->route.decision.distances ? req->route.search_took : -1;
    account->overhead = account->total - req->body_took - account->upstream -
                        req->upstream.passing - req->route.embed_took - req->route.search_took;
    account->overhead = account->overhead > 0 ? account->overhead : 0;
    account->first_token = a->stream && a->first_byte_at ? a->first_byte_at - req->start : -1;
    account->per_token =
        account->first_token >= 0 && account->usage.completion_tokens > 1
            ? (account->total - account->first_token) / (account->usage.completion_tokens - 1)
            : -1;
}

static void price(const aip_request_t *req, aip_account_t *account)
{
    const aip_rates_t *rates = account->target ? &account->target->rates : NULL;
    account->priced = rates && aip_cost_known(rates, &account->usage);
    account->cost_pico = account->priced ? req->answered.cost_pico : 0;
}

static void tell(const aip_request_t *req, const aip_account_t *a)
{
    const aip_usage_t *u = &a->usage;
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, req->r,
                  "AIP0300: target %s: %" APR_INT64_T_FMT "%s prompt and %" APR_INT64_T_FMT
                  "%s completion tokens, cost %" APR_INT64_T_FMT " pico; us: total %" APR_TIME_T_FMT
                  ", overhead %" APR_TIME_T_FMT ", upstream %" APR_TIME_T_FMT
                  ", embedding %" APR_TIME_T_FMT ", search %" APR_TIME_T_FMT
                  ", first token %" APR_TIME_T_FMT ", per token %" APR_TIME_T_FMT,
                  a->target ? a->target->name : "none", u->prompt_tokens,
                  u->prompt_estimated ? " (estimated)" : "", u->completion_tokens,
                  u->completion_estimated ? " (estimated)" : "", a->cost_pico, a->total,
                  a->overhead, a->upstream, a->embedding, a->search, a->first_token, a->per_token);
}

int aip_account_close(request_rec *r)
{
    aip_request_t *req = aip_request_get(r);
    if (!req || req->dry || !req->conf->targets) {
        return DECLINED;
    }
    aip_account_t *account = apr_pcalloc(r->pool, sizeof *account);
    account->status = client_left(req) ? CLIENT_LEFT : r->status;
    account->usage = req->answered.usage;
    account->target = target_of(req);
    account->counted = account->target && req->answered.observed &&
                       (req->answered.target || account->usage.prompt_tokens >= 0);
    account->error_type = error_type(req, account->status);
    measure(req, account);
    price(req, account);
    req->account = account;
    aip_metrics_count(req, account);
    aip_history_note(req, account);
    tell(req, account);
    aip_environment_set(req, account);
    aip_trace_finish(req, account);
    return OK;
}
