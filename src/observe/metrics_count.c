/* SPDX-License-Identifier: Apache-2.0 */
/* Adds the account of a request to the books of its target and gateway: in the thread that ran it,
 * once its answer is on its way. Additions only, no lock. */
#include "aip/account.h"

#include <stdatomic.h>

_Static_assert(AIP_REASON_EMBED_ERROR + 1 == AIP_ROUTE_N_REASONS, "a count for each reason");
_Static_assert(AIP_CACHE_SHARED + 1 == AIP_ROUTE_N_CACHE, "a count for each state of the cache");
_Static_assert(AIP_OUTCOME_SECRET < AIP_OUTCOMES, "a count for each outcome");

static void add(aip_count_t *count, apr_int64_t n)
{
    if (n > 0) {
        atomic_fetch_add_explicit(count, (apr_uint64_t)n, memory_order_relaxed);
    }
}

static void count_tokens(aip_target_metrics_t *m, aip_series_t *series,
                         const aip_account_t *account)
{
    const aip_usage_t *u = &account->usage;
    add(&m->prompt_tokens, u->prompt_tokens);
    add(&m->completion_tokens, u->completion_tokens);
    add(&m->cost_pico, account->cost_pico);
    if (u->prompt_tokens >= 0) {
        aip_histogram_add(&series->input, AIP_SCALE_TOKENS, u->prompt_tokens);
    }
    if (u->completion_tokens >= 0) {
        aip_histogram_add(&series->output, AIP_SCALE_TOKENS, u->completion_tokens);
    }
    add(&series->cached, u->cached_tokens);
    add(&series->cache_write, u->cache_write_tokens);
    add(&series->reasoning, u->reasoning_tokens);
}

static void count_target(const aip_request_t *req, const aip_account_t *account)
{
    aip_target_metrics_t *m = account->target->metrics;
    const char *own = account->target->f.model_name;
    aip_series_t *series = aip_series_find(m->series, own ? NULL : req->chat.model,
                                           req->answered.response_model, account->error_type);
    add(&m->requests, 1);
    add(&m->errors, account->error_type ? 1 : 0);
    aip_histogram_add(&series->duration, AIP_SCALE_DURATION, account->total);
    aip_histogram_add(&m->kong_latency[req->stream ? 1 : 0], AIP_SCALE_KONG_MS, account->total);
    if (account->first_token >= 0) {
        aip_histogram_add(&series->first_token, AIP_SCALE_FIRST_TOKEN, account->first_token);
    }
    if (account->per_token >= 0) {
        aip_histogram_add(&series->per_token, AIP_SCALE_PER_TOKEN, account->per_token);
    }
    if (account->counted) {
        count_tokens(m, series, account);
    }
}

static void count_attempts(const aip_request_t *req)
{
    for (int i = 0; i < req->upstream.n; i++) {
        const aip_attempt_t *a = &req->upstream.attempts[i];
        int cause = aip_cause_index((int)a->outcome, a->status);
        add(&a->target->metrics->attempts[cause], 1);
        if (i + 1 < req->upstream.n) {
            add(&a->target->metrics->retries[cause], 1);
        }
    }
}

/* The route that was decided for, or -1. */
static int decided_route(const aip_request_t *req)
{
    const aip_decision_t *d = &req->route.decision;
    const aip_routes_t *routes = req->conf->targets->routes;
    if (req->route.preferred >= 0) {
        return aip_route_of_target(routes, req->route.preferred);
    }
    if (d->n) {
        return d->ranked[0].route;
    }
    return req->candidates.n ? aip_route_of_target(routes, req->candidates.targets[0]) : -1;
}

static void count_decision(const aip_request_t *req)
{
    const aip_targets_t *targets = req->conf->targets;
    const aip_decision_t *d = &req->route.decision;
    if (req->route.reason == AIP_REASON_NONE) {
        return;
    }
    int r = decided_route(req);
    if (r < 0) {
        add(&targets->metrics->undecided[req->route.reason], 1);
        return;
    }
    const aip_route_t *route = &targets->routes->routes[r];
    aip_target_metrics_t *m = targets->list[route->targets[0]]->metrics;
    add(&m->decisions[req->route.reason], 1);
    float distance =
        d->distances ? aip_decision_distance(targets->routes, d, route->description) : -1;
    if (distance >= 0) {
        aip_histogram_add(&m->score, AIP_SCALE_DISTANCE,
                          (apr_int64_t)((double)distance * 1e6 + 0.5));
    }
}

/* Where the time for the vector of the prompt went, and that for its distances. */
static void count_routing(const aip_request_t *req, const aip_account_t *account)
{
    aip_gateway_metrics_t *m = req->conf->targets->metrics;
    bool local = req->conf->f.embeddings_model_provider == AIP_EMBEDDER_LOCAL;
    switch (req->route.cache) {
    case AIP_CACHE_HIT:
        aip_histogram_add(&m->embedding[AIP_EMBED_CACHE], AIP_SCALE_SHORT, req->route.recall_took);
        return;
    case AIP_CACHE_SHARED:
        aip_histogram_add(&m->embedding[AIP_EMBED_SHARED], AIP_SCALE_SHORT, req->route.embed_took);
        return;
    case AIP_CACHE_OFF:
    case AIP_CACHE_MISS:
        break;
    }
    if (account->embedding >= 0) {
        aip_histogram_add(&m->embedding[local ? AIP_EMBED_STATIC : AIP_EMBED_REMOTE],
                          AIP_SCALE_SHORT, account->embedding);
    }
    if (account->search >= 0) {
        aip_histogram_add(&m->search, AIP_SCALE_SHORT, account->search);
    }
}

void aip_metrics_count(const aip_request_t *req, const aip_account_t *account)
{
    aip_gateway_metrics_t *m = req->conf->targets->metrics;
    add(&m->requests, 1);
    aip_histogram_add(&m->overhead, AIP_SCALE_SHORT, account->overhead);
    if (account->target) {
        count_target(req, account);
    }
    count_attempts(req);
    count_decision(req);
    count_routing(req, account);
    /* Last, and read first: a scrape that shows a request shows all that it added. */
    aip_count_t *codes = account->target ? account->target->metrics->codes : m->codes;
    atomic_fetch_add_explicit(&codes[aip_code_index(account->status)], 1, memory_order_release);
}
