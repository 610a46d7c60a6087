/* SPDX-License-Identifier: Apache-2.0 */
/* %{item}^AI for LogFormat: what was decided about a request, in the operator's own access log. */
#include "aip/account.h"
#include "aip/json_out.h"
#include "aip/observe.h"

#include <apr_optional.h>
#include <apr_strings.h>
#include <mod_log_config.h>
#include <stdlib.h>

#define ITEM_MAX 1024 /* of what clients or upstreams choose */

static const char *microseconds(const aip_request_t *req, apr_interval_time_t t)
{
    return apr_off_t_toa(req->r->pool, t);
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

/* What follows ^AI, in alphabetical order. Without a function: a number of the account; negative:
 * there is none. */
typedef struct item_t {
    const char *name;
    const char *(*value)(const aip_request_t *req);
    size_t offset;
} item_t;

static const item_t items[] = {
    {"attempts", .value = item_attempts},
    {"cache", .value = item_cache},
    {"cached_tokens", .offset = offsetof(aip_account_t, usage.cached_tokens)},
    {"candidates", .value = item_candidates},
    {"completion_tokens", .offset = offsetof(aip_account_t, usage.completion_tokens)},
    {"cost", .value = item_cost},
    {"distance", .value = item_distance},
    {"embedding_us", .value = item_embedding},
    {"error_type", .value = item_error_type},
    {"estimated", .value = item_estimated},
    {"model", .value = item_model},
    {"outcome", .value = item_outcome},
    {"overhead_us", .offset = offsetof(aip_account_t, overhead)},
    {"prompt_tokens", .offset = offsetof(aip_account_t, usage.prompt_tokens)},
    {"provider", .value = item_provider},
    {"reason", .value = item_reason},
    {"reasoning_tokens", .offset = offsetof(aip_account_t, usage.reasoning_tokens)},
    {"response_model", .value = item_response_model},
    {"route", .value = item_route},
    {"search_us", .value = item_search},
    {"status", .value = item_status},
    {"target", .value = item_target},
    {"threshold", .value = item_threshold},
    {"total_ms", .value = item_total_ms},
    {"total_tokens", .offset = offsetof(aip_account_t, usage.total_tokens)},
    {"tpot_us", .offset = offsetof(aip_account_t, per_token)},
    {"trace_id", .value = item_trace_id},
    {"ttft_us", .offset = offsetof(aip_account_t, first_token)},
    {"upstream_us", .offset = offsetof(aip_account_t, upstream)},
};

static int compare(const void *name, const void *item)
{
    return strcmp(name, ((const item_t *)item)->name);
}

static const char *number(const aip_request_t *req, size_t offset)
{
    apr_int64_t value = -1;
    if (req->account) {
        memcpy(&value, (const char *)req->account + offset, sizeof value);
    }
    return value >= 0 ? microseconds(req, value) : NULL;
}

static const char *log_item(request_rec *r, char *name)
{
    const aip_request_t *req = aip_request_get(r);
    const item_t *item =
        req && req->conf->targets
            ? bsearch(name, items, sizeof items / sizeof *items, sizeof *items, compare)
            : NULL;
    return !item ? NULL : item->value ? item->value(req) : number(req, item->offset);
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
