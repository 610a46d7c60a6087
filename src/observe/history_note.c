/* SPDX-License-Identifier: Apache-2.0 */
/* Notes a finished request in the books of the recent past, for the status page. Called once for
 * each request as its account is closed, in the thread that ran it. Names go in as digests; nothing
 * of the prompt does. */
#include "aip/observe.h"

#include <apr_strings.h>
#include <stdatomic.h>

static apr_uint64_t positive(apr_int64_t value)
{
    return value > 0 ? (apr_uint64_t)value : 0;
}

/* What an attempt that went wrong is called; NULL: it went well, or nobody can tell. */
static const char *fault_of(const aip_attempt_t *attempt, apr_pool_t *pool)
{
    if (attempt->outcome == AIP_OUTCOME_CLIENT_GONE || attempt->outcome == AIP_OUTCOME_STOPPED) {
        return NULL;
    }
    if (attempt->status >= 400) {
        return apr_psprintf(pool, "http_%d", attempt->status);
    }
    if (attempt->outcome == AIP_OUTCOME_WITHHELD) {
        return "error_event"; /* the first event of a stream was an error */
    }
    return attempt->outcome == AIP_OUTCOME_OK ? NULL : aip_outcome_name(attempt->outcome);
}

static void note_fault(const aip_target_t *target, const char *word, int status, apr_time_t at)
{
    aip_fault_t fault = {.at = at, .status = status};
    apr_cpystrn(fault.word, word, sizeof fault.word);
    aip_history_fault(target->history, &fault);
}

/* @return how many attempts failed */
static apr_uint64_t note_attempts(const aip_request_t *req)
{
    apr_uint64_t failures = 0;
    for (int i = 0; i < req->upstream.n; i++) {
        const aip_attempt_t *attempt = &req->upstream.attempts[i];
        const char *fault = fault_of(attempt, req->r->pool);
        aip_figures_row_t row = {.figures = {[AIP_FIGURE_ATTEMPTS] = 1}};
        if (fault) {
            note_fault(attempt->target, fault, attempt->status, attempt->start + attempt->took);
            row.figures[AIP_FIGURE_FAILURES] = 1;
            failures++;
        }
        aip_history_add(attempt->target->history->minutes, &row, attempt->start + attempt->took);
    }
    return failures;
}

static aip_figures_row_t row_of(const aip_account_t *account)
{
    aip_figures_row_t row = {.figures = {[AIP_FIGURE_REQUESTS] = 1}};
    row.figures[AIP_FIGURE_ERRORS] = account->error_type ? 1 : 0;
    row.figures[AIP_FIGURE_TOTAL_US] = positive(account->total);
    if (account->first_token >= 0) {
        row.figures[AIP_FIGURE_FIRST_TOKENS] = 1;
        row.figures[AIP_FIGURE_FIRST_TOKEN_US] = positive(account->first_token);
    }
    if (account->counted) {
        row.figures[AIP_FIGURE_PROMPT_TOKENS] = positive(account->usage.prompt_tokens);
        row.figures[AIP_FIGURE_COMPLETION_TOKENS] = positive(account->usage.completion_tokens);
        row.figures[AIP_FIGURE_COST_PICO] = positive(account->cost_pico);
    }
    return row;
}

static const char *route_name(const aip_targets_t *targets, int route)
{
    return route >= 0 ? targets->routes->routes[route].description : NULL;
}

static void note_decision(const aip_request_t *req, const aip_account_t *account,
                          const aip_target_t *first)
{
    const aip_targets_t *targets = req->conf->targets;
    const aip_decision_t *d = &req->route.decision;
    const double *threshold = d->distances ? aip_explain_threshold(req, first) : NULL;
    aip_decided_t decided = {.at = account->end,
                             .target =
                                 aip_history_digest(account->target ? account->target->name : NULL),
                             .route = aip_history_digest(first ? first->f.description : NULL),
                             .nearest = aip_history_digest(route_name(targets, d->nearest)),
                             .total = account->total,
                             .distance = -1,
                             .nearest_distance = d->nearest >= 0 ? d->distance : -1,
                             .threshold = threshold ? (float)*threshold : -1,
                             .attempts = req->upstream.n,
                             .status = account->status,
                             .reason = (unsigned char)req->route.reason,
                             .cache = (unsigned char)req->route.cache,
                             .sticky = req->route.reason == AIP_REASON_STICKY,
                             .degraded = req->route.degraded};
    if (first && d->distances) {
        decided.distance = aip_decision_distance(targets->routes, d, first->f.description);
    }
    aip_history_decided(targets->history, &decided);
}

static void note_failure(const aip_request_t *req, apr_time_t at)
{
    static const char *const failures[AIP_ROUTE_N_FAILURES] = {AIP_ROUTE_FAILURES};
    apr_uint32_t cause = 0;
    if (!req->route.failure) {
        return;
    }
    while (cause + 1 < AIP_ROUTE_N_FAILURES && strcmp(failures[cause], req->route.failure) != 0) {
        cause++;
    }
    atomic_store(&req->conf->targets->history->embed_failure, cause);
    atomic_store(&req->conf->targets->history->embed_failed_at, at);
}

void aip_history_note(const aip_request_t *req, const aip_account_t *account)
{
    const aip_targets_t *targets = req->conf->targets;
    const aip_target_t *first =
        req->candidates.n ? targets->list[req->candidates.targets[0]] : NULL;
    aip_figures_row_t row = row_of(account), chosen = {.figures = {[AIP_FIGURE_CHOSEN] = 1}};
    if (account->target) {
        aip_history_add(account->target->history->minutes, &row, account->end);
    }
    if (first) {
        aip_history_add(first->history->minutes, &chosen, account->end);
    }
    row.figures[AIP_FIGURE_FAILURES] = note_attempts(req);
    row.figures[AIP_FIGURE_ATTEMPTS] = (apr_uint64_t)req->upstream.n;
    aip_history_add(targets->history->minutes, &row, account->end);
    note_decision(req, account, first);
    note_failure(req, account->end);
}
