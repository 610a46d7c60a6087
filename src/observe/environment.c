/* SPDX-License-Identifier: Apache-2.0 */
/* The environment that a finished request leaves for those who log it: %{AI_TARGET}e in a
 * LogFormat, env=AI_TARGET for a CustomLog. Set before anything is logged. */
#include "aip/account.h"
#include "aip/json_out.h"
#include "aip/observe.h"

#include <apr_strings.h>

#define VALUE_MAX 1024

/* Clients and upstreams choose some values: what could end a line or a field is not in them. */
static void set(const aip_request_t *req, const char *name, const char *value)
{
    if (!value || !*value) {
        return;
    }
    size_t len = strnlen(value, VALUE_MAX + 4);
    if (len > VALUE_MAX || !aip_text_plain((aip_span_t){value, len})) {
        char *clean =
            apr_pstrmemdup(req->r->pool, value, aip_text_cut((aip_span_t){value, len}, VALUE_MAX));
        for (char *p = clean; *p; p++) {
            if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '"' || *p == '\\') {
                *p = '_';
            }
        }
        value = clean;
    }
    apr_table_setn(req->r->subprocess_env, name, value);
}

static void set_count(const aip_request_t *req, const char *name, apr_int64_t value)
{
    if (value >= 0) {
        apr_table_setn(req->r->subprocess_env, name, apr_off_t_toa(req->r->pool, value));
    }
}

static void set_route(const aip_request_t *req, const aip_account_t *account)
{
    const aip_decision_t *d = &req->route.decision;
    const char *route = account->target ? account->target->f.description : NULL;
    if (req->route.reason == AIP_REASON_NONE) {
        return;
    }
    set(req, "AI_ROUTE", route);
    set(req, "AI_REASON", aip_reason_name(req->route.reason));
    set(req, "AI_CACHE", aip_cache_state_name(req->route.cache));
    if (d->distances && d->nearest >= 0) {
        double distance = (double)aip_decision_distance(req->conf->targets->routes, d, route);
        set(req, "AI_DISTANCE", apr_psprintf(req->r->pool, "%.4f", distance));
    }
}

void aip_environment_set(const aip_request_t *req, const aip_account_t *account)
{
    const aip_target_t *target = account->target;
    const aip_usage_t *u = &account->usage;
    set(req, "AI_TARGET", target ? target->name : NULL);
    set(req, "AI_PROVIDER", target ? target->provider_name : NULL);
    set(req, "AI_MODEL", req->answered.model);
    set(req, "AI_RESPONSE_MODEL", req->answered.response_model);
    set_route(req, account);
    set_count(req, "AI_PROMPT_TOKENS", u->prompt_tokens);
    set_count(req, "AI_COMPLETION_TOKENS", u->completion_tokens);
    set_count(req, "AI_TOTAL_TOKENS", u->total_tokens);
    set(req, "AI_COST", account->priced ? aip_pico_text(account->cost_pico, req->r->pool) : NULL);
    set_count(req, "AI_ATTEMPTS", req->upstream.n);
    set_count(req, "AI_TTFT_MS",
              account->first_token >= 0 ? apr_time_as_msec(account->first_token) : -1);
    set(req, "AI_TRACE_ID", req->trace.trace_id);
}
