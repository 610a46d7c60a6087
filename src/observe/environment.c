/* SPDX-License-Identifier: Apache-2.0 */
/* The environment that a finished request leaves for those who log it: %{AI_TARGET}e in a
 * LogFormat, env=AI_TARGET for a CustomLog. Set before anything is logged. */
#include "aip/account.h"
#include "aip/json_out.h"
#include "aip/observe.h"

#include <apr_strings.h>

#define VALUE_MAX 1024

typedef struct env_t {
    apr_pool_t *pool;
    apr_table_t *table;
    bool fresh; /* nothing of ours is in it: a table compares a name with all that begin alike */
} env_t;

static bool is_fresh(const apr_table_t *table)
{
    const apr_array_header_t *all = apr_table_elts(table);
    for (int i = 0; i < all->nelts; i++) {
        const char *key = APR_ARRAY_IDX(all, i, apr_table_entry_t).key;
        if (key && strncasecmp(key, "AI_", 3) == 0) {
            return false;
        }
    }
    return true;
}

static void put(const env_t *env, const char *name, const char *value)
{
    (env->fresh ? apr_table_addn : apr_table_setn)(env->table, name, value);
}

/* Clients and upstreams choose some values: what could end a line or a field is not in them. */
static void set(const env_t *env, const char *name, const char *value)
{
    if (!value || !*value) {
        return;
    }
    size_t len = strnlen(value, VALUE_MAX + 4);
    if (len > VALUE_MAX || !aip_text_plain((aip_span_t){value, len})) {
        char *clean =
            apr_pstrmemdup(env->pool, value, aip_text_cut((aip_span_t){value, len}, VALUE_MAX));
        for (char *p = clean; *p; p++) {
            if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '"' || *p == '\\') {
                *p = '_';
            }
        }
        value = clean;
    }
    put(env, name, value);
}

static void set_count(const env_t *env, const char *name, apr_int64_t value)
{
    if (value >= 0) {
        char digits[AIP_JSON_OUT_NUMBER];
        put(env, name, apr_pstrmemdup(env->pool, digits, aip_json_out_digits(digits, value)));
    }
}

static void set_route(const env_t *env, const aip_request_t *req, const aip_account_t *account)
{
    const aip_decision_t *d = &req->route.decision;
    const char *route = account->target ? account->target->f.description : NULL;
    if (req->route.reason == AIP_REASON_NONE) {
        return;
    }
    set(env, "AI_ROUTE", route);
    set(env, "AI_REASON", aip_reason_name(req->route.reason));
    set(env, "AI_CACHE", aip_cache_state_name(req->route.cache));
    if (d->distances && d->nearest >= 0) {
        double distance = (double)aip_decision_distance(req->conf->targets->routes, d, route);
        set(env, "AI_DISTANCE", apr_psprintf(env->pool, "%.4f", distance));
    }
}

void aip_environment_set(const aip_request_t *req, const aip_account_t *account)
{
    const aip_target_t *target = account->target;
    const aip_usage_t *u = &account->usage;
    apr_table_t *table = req->r->subprocess_env;
    const env_t env = {req->r->pool, table, is_fresh(table)};
    set(&env, "AI_TARGET", target ? target->name : NULL);
    set(&env, "AI_PROVIDER", target ? target->provider_name : NULL);
    set(&env, "AI_MODEL", req->answered.model);
    set(&env, "AI_RESPONSE_MODEL", req->answered.response_model);
    set_route(&env, req, account);
    set_count(&env, "AI_PROMPT_TOKENS", u->prompt_tokens);
    set_count(&env, "AI_COMPLETION_TOKENS", u->completion_tokens);
    set_count(&env, "AI_TOTAL_TOKENS", u->total_tokens);
    set(&env, "AI_COST", account->priced ? aip_pico_text(account->cost_pico, req->r->pool) : NULL);
    set_count(&env, "AI_ATTEMPTS", req->upstream.n);
    set_count(&env, "AI_TTFT_MS",
              account->first_token >= 0 ? apr_time_as_msec(account->first_token) : -1);
    set(&env, "AI_TRACE_ID", req->trace.trace_id);
}
