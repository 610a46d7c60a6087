/* SPDX-License-Identifier: Apache-2.0 */
/* %{item}^AI for LogFormat: what was decided about a request, in the operator's own access log. */
#include "aip/account.h"
#include "aip/json_out.h"
#include "aip/observe.h"

#include <apr_optional.h>
#include <apr_strings.h>
#include <mod_log_config.h>

#define ITEM_MAX 1024 /* of what clients or upstreams choose */

static const char *microseconds(const aip_request_t *req, apr_interval_time_t t)
{
    return apr_psprintf(req->r->pool, "%" APR_TIME_T_FMT, t);
}

static const char *real(const aip_request_t *req, double value)
{
    return apr_psprintf(req->r->pool, "%.4f", value);
}

/* The target that answered, else the last that was tried, else the first candidate. */
static const aip_target_t *target_of(const aip_request_t *req)
{
    return req->answered.target ? req->answered.target
           : req->upstream.n    ? req->upstream.attempts[req->upstream.n - 1].target
           : req->candidates.n  ? req->conf->targets->list[req->candidates.targets[0]]
                                : NULL;
}

static const char *item_target(const aip_request_t *req)
{
    const aip_target_t *target = target_of(req);
    return target ? target->name : NULL;
}

static const char *item_route(const aip_request_t *req)
{
    const aip_target_t *target = target_of(req);
    return target && target->f.description ? ap_escape_logitem(req->r->pool, target->f.description)
                                           : NULL;
}

static const char *item_distance(const aip_request_t *req)
{
    const aip_target_t *target = target_of(req);
    const aip_decision_t *d = &req->route.decision;
    return d->distances && d->nearest >= 0
               ? real(req, (double)aip_decision_distance(req->conf->targets->routes, d,
                                                         target ? target->f.description : NULL))
               : NULL;
}

static const char *item_threshold(const aip_request_t *req)
{
    const aip_target_t *target = req->route.decision.distances ? target_of(req) : NULL;
    const double *threshold = aip_explain_threshold(req, target);
    return threshold ? real(req, *threshold) : NULL;
}

static const char *item_reason(const aip_request_t *req)
{
    return req->route.reason != AIP_REASON_NONE ? aip_reason_text(req) : NULL;
}

static const char *item_cache(const aip_request_t *req)
{
    return aip_cache_state_name(req->route.cache);
}

static const char *item_candidates(const aip_request_t *req)
{
    return apr_itoa(req->r->pool, req->candidates.n);
}

static const char *item_attempts(const aip_request_t *req)
{
    return apr_itoa(req->r->pool, req->upstream.n);
}

static const char *item_embedding(const aip_request_t *req)
{
    return microseconds(req, req->route.embed_took);
}

static const char *item_search(const aip_request_t *req)
{
    return microseconds(req, req->route.search_took);
}

static const char *text(const aip_request_t *req, const char *value)
{
    if (!value) {
        return NULL;
    }
    size_t len = strnlen(value, ITEM_MAX + 4);
    len = aip_text_cut((aip_span_t){value, len}, ITEM_MAX);
    return ap_escape_logitem(req->r->pool, apr_pstrmemdup(req->r->pool, value, len));
}

static const char *item_model(const aip_request_t *req)
{
    return text(req, req->answered.model);
}

static const char *item_response_model(const aip_request_t *req)
{
    return text(req, req->answered.response_model);
}

static const char *item_provider(const aip_request_t *req)
{
    const aip_target_t *target = target_of(req);
    return target ? target->provider_name : NULL;
}

static const char *item_outcome(const aip_request_t *req)
{
    int n = req->upstream.n;
    return n ? aip_outcome_name(req->upstream.attempts[n - 1].outcome) : NULL;
}

static const char *item_status(const aip_request_t *req)
{
    int n = req->upstream.n;
    return n ? apr_itoa(req->r->pool, req->upstream.attempts[n - 1].status) : NULL;
}

static const char *item_trace_id(const aip_request_t *req)
{
    return *req->trace.trace_id ? req->trace.trace_id : NULL;
}

static const char *item_error_type(const aip_request_t *req)
{
    return req->account ? req->account->error_type : NULL;
}

static const char *item_estimated(const aip_request_t *req)
{
    const aip_usage_t *u = &req->answered.usage;
    return u->prompt_estimated || u->completion_estimated ? "estimated" : NULL;
}

static const char *item_cost(const aip_request_t *req)
{
    const aip_account_t *account = req->account;
    return account && account->priced ? aip_pico_text(account->cost_pico, req->r->pool) : NULL;
}

static const char *item_total_ms(const aip_request_t *req)
{
    return req->account ? microseconds(req, apr_time_as_msec(req->account->total)) : NULL;
}

static const struct {
    const char *name;
    const char *(*value)(const aip_request_t *req);
} items[] = {{"target", item_target},
             {"route", item_route},
             {"distance", item_distance},
             {"threshold", item_threshold},
             {"reason", item_reason},
             {"cache", item_cache},
             {"candidates", item_candidates},
             {"attempts", item_attempts},
             {"embedding_us", item_embedding},
             {"search_us", item_search},
             {"model", item_model},
             {"response_model", item_response_model},
             {"provider", item_provider},
             {"outcome", item_outcome},
             {"status", item_status},
             {"error_type", item_error_type},
             {"estimated", item_estimated},
             {"cost", item_cost},
             {"total_ms", item_total_ms},
             {"trace_id", item_trace_id}};

/* Numbers of the account; negative: there is none. */
static const struct {
    const char *name;
    size_t offset;
} numbers[] = {{"prompt_tokens", offsetof(aip_account_t, usage.prompt_tokens)},
               {"completion_tokens", offsetof(aip_account_t, usage.completion_tokens)},
               {"total_tokens", offsetof(aip_account_t, usage.total_tokens)},
               {"cached_tokens", offsetof(aip_account_t, usage.cached_tokens)},
               {"reasoning_tokens", offsetof(aip_account_t, usage.reasoning_tokens)},
               {"upstream_us", offsetof(aip_account_t, upstream)},
               {"overhead_us", offsetof(aip_account_t, overhead)},
               {"ttft_us", offsetof(aip_account_t, first_token)},
               {"tpot_us", offsetof(aip_account_t, per_token)}};

static const char *number(const aip_request_t *req, const char *name)
{
    for (size_t i = 0; req->account && i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            apr_int64_t value;
            memcpy(&value, (const char *)req->account + numbers[i].offset, sizeof value);
            return value >= 0 ? microseconds(req, value) : NULL;
        }
    }
    return NULL;
}

static const char *log_item(request_rec *r, char *name)
{
    const aip_request_t *req = aip_request_get(r);
    for (size_t i = 0; req && req->conf->targets && i < sizeof items / sizeof *items; i++) {
        if (strcmp(items[i].name, name) == 0) {
            return items[i].value(req);
        }
    }
    return req && req->conf->targets ? number(req, name) : NULL;
}

int aip_log_items_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    APR_OPTIONAL_FN_TYPE(ap_register_log_handler) *add =
        APR_RETRIEVE_OPTIONAL_FN(ap_register_log_handler);
    (void)plog, (void)ptemp;
    if (add) {
        add(pconf, (char *)"^AI", log_item, 1);
    }
    return OK;
}
