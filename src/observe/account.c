/* SPDX-License-Identifier: Apache-2.0 */
/* Closes the account of a request when it is to be logged: in the thread that ran it, after the
 * answer is on its way. Whoever keeps books is told here, once for each request. */
#include "aip/account.h"
#include "aip/observe.h"

#include <apr_strings.h>
#include <stdatomic.h>

static void find_target(const aip_request_t *req, aip_account_t *account)
{
    const aip_targets_t *targets = req->conf->targets;
    account->target = req->answered.target ? req->answered.target
                      : req->upstream.n    ? req->upstream.attempts[req->upstream.n - 1].target
                                           : NULL;
    account->index = -1;
    for (int i = 0; account->target && i < targets->n; i++) {
        account->index = targets->list[i] == account->target ? i : account->index;
    }
}

static const char *error_type(const aip_request_t *req, int status)
{
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
    account->search = req->route.decision.distances ? req->route.search_took : -1;
    account->overhead = account->total - req->body_took - account->upstream -
                        req->route.embed_took - req->route.search_took;
    account->overhead = account->overhead > 0 ? account->overhead : 0;
    account->first_token = a->stream && a->first_byte_at ? a->first_byte_at - req->start : -1;
    account->per_token =
        account->first_token >= 0 && account->usage.completion_tokens > 1
            ? (account->total - account->first_token) / (account->usage.completion_tokens - 1)
            : -1;
}

static void price(aip_account_t *account)
{
    const aip_target_fields_t *f = account->target ? &account->target->f : NULL;
    account->priced = f && f->set[AIP_T_input_cost] && f->set[AIP_T_output_cost] &&
                      account->usage.prompt_tokens >= 0 && account->usage.completion_tokens >= 0;
    if (account->priced) {
        account->cost_pico = (apr_int64_t)(aip_usage_cost(&account->usage, f->input_cost.value,
                                                          f->output_cost.value) *
                                               1e12 +
                                           0.5);
    }
}

/* Totals: what log, metrics and page have in common. */
static void add(const aip_request_t *req, const aip_account_t *account)
{
    aip_target_metrics_t *m = account->target ? account->target->metrics : NULL;
    const aip_usage_t *u = &account->usage;
    atomic_fetch_add(&req->conf->targets->metrics->requests, 1);
    if (!m) {
        return;
    }
    atomic_fetch_add(&m->requests, 1);
    atomic_fetch_add(&m->errors, account->error_type ? 1 : 0);
    if (account->counted) {
        atomic_fetch_add(&m->prompt_tokens,
                         (apr_uint64_t)(u->prompt_tokens > 0 ? u->prompt_tokens : 0));
        atomic_fetch_add(&m->completion_tokens,
                         (apr_uint64_t)(u->completion_tokens > 0 ? u->completion_tokens : 0));
        atomic_fetch_add(&m->cost_pico, (apr_uint64_t)account->cost_pico);
    }
}

int aip_account_close(request_rec *r)
{
    aip_request_t *req = aip_request_get(r);
    if (!req || req->dry || !req->conf->targets) {
        return DECLINED;
    }
    aip_account_t *account = apr_pcalloc(r->pool, sizeof *account);
    account->status = r->status;
    account->usage = req->answered.usage;
    find_target(req, account);
    account->counted = account->target && req->answered.target && req->answered.observed;
    account->error_type = error_type(req, r->status);
    measure(req, account);
    price(account);
    req->account = account;
    add(req, account);
    aip_history_note(req, account);
    return OK;
}

const aip_account_t *aip_account_of(const request_rec *r)
{
    const aip_request_t *req = aip_request_get(r);
    return req ? req->account : NULL;
}
