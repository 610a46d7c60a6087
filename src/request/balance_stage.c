/* SPDX-License-Identifier: Apache-2.0 */
/* The balancing stage: from the targets of a gateway, or its ranking of routes, to the candidate
 * list. One call per request, in its thread; what it reads of other requests is in shared memory.
 */
#include "routers.h"

#include "aip/state.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <http_log.h>
#include <stdatomic.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* Of a route, or with routes->n of the list as a whole. A dry run takes nobody's turn, nor
 * does a session whose target is there. */
static apr_uint32_t next_tick(const aip_request_t *req, int route, const aip_availability_e *look)
{
    volatile apr_uint32_t *tick = &req->conf->targets->ticks[route];
    bool has_target = req->route.reason == AIP_REASON_STICKY &&
                      (!look || look[req->route.preferred] == AIP_AVAILABLE);
    return req->dry || has_target ? apr_atomic_read32(tick) : apr_atomic_inc32(tick);
}

static double all_usage(const aip_target_state_t *state, int kind, apr_time_t now,
                        apr_interval_time_t window)
{
    return aip_decay_read(&state->usage[kind], now, window) +
           aip_decay_read(&state->other_usage[kind], now, window);
}

/* Our own measurement, or what other machines measured since. */
static void set_latency(aip_load_t *load, const aip_target_state_t *state, int kind, apr_time_t now)
{
    const aip_decay_t *own = &state->latency[kind], *other = &state->other_latency[kind];
    const aip_decay_t *used = aip_decay_age(own, now) <= aip_decay_age(other, now) ? own : other;
    load->latency = aip_decay_last(used);
    load->latency_age = aip_decay_age(used, now);
}

static aip_load_t *read_loads(const aip_request_t *req, const aip_availability_e *look,
                              apr_time_t now)
{
    const aip_location_fields_t *f = &req->conf->f;
    const aip_targets_t *targets = req->conf->targets;
    apr_interval_time_t window = apr_time_from_msec(f->balancer_usage_window);
    aip_load_t *loads = apr_pcalloc(req->r->pool, (apr_size_t)targets->n * sizeof *loads);
    for (int i = 0; i < targets->n; i++) {
        const aip_target_state_t *state = targets->list[i]->state;
        loads[i].weight = (int)targets->list[i]->f.weight;
        loads[i].in_flight = atomic_load(&state->in_flight);
        loads[i].usage = all_usage(state, f->balancer_tokens_count_strategy, now, window);
        loads[i].failures = aip_decay_read(&state->failed, now, window);
        loads[i].unavailable = look && look[i] != AIP_AVAILABLE;
        set_latency(&loads[i], state, f->balancer_latency_strategy, now);
    }
    return loads;
}

/* Usage of one answer, on average over the targets. */
static double typical_usage(const aip_request_t *req, apr_time_t now)
{
    const aip_location_fields_t *f = &req->conf->f;
    apr_interval_time_t window = apr_time_from_msec(f->balancer_usage_window);
    double usage = 0, answers = 0;
    for (int i = 0; i < req->conf->targets->n; i++) {
        const aip_target_state_t *state = req->conf->targets->list[i]->state;
        usage += aip_decay_read(&state->usage[f->balancer_tokens_count_strategy], now, window);
        answers += aip_decay_read(&state->answered, now, window);
    }
    return answers > 0 && usage > 0 ? usage / answers : 1;
}

static void score_hash(const aip_request_t *req, double *scores)
{
    const aip_targets_t *targets = req->conf->targets;
    const aip_location_fields_t *f = &req->conf->f;
    apr_size_t n = (apr_size_t)targets->n;
    const char **names = apr_palloc(req->r->pool, n * sizeof *names);
    int *weights = apr_palloc(req->r->pool, n * sizeof *weights);
    const char *key = apr_table_get(req->r->headers_in, f->balancer_hash_on_header);
    if (!key || !*key) { /* by turn */
        return;
    }
    for (int i = 0; i < targets->n; i++) {
        names[i] = targets->list[i]->name;
        weights[i] = (int)targets->list[i]->f.weight;
    }
    apr_uint32_t slot =
        aip_hash_slot((aip_span_t){key, strlen(key)}, (apr_uint32_t)f->balancer_slots);
    aip_score_hash(slot, names, weights, targets->n, scores);
}

/* By turn, then by what the algorithm compares: whom it finds equal keep their turn. */
static void add_scored(aip_request_t *req, const aip_availability_e *look, apr_time_t now)
{
    const aip_targets_t *targets = req->conf->targets;
    int algorithm = req->conf->f.balancer_algorithm;
    double *scores = apr_pcalloc(req->r->pool, (apr_size_t)targets->n * sizeof *scores);
    apr_uint32_t tick = next_tick(req, targets->routes->n, look);
    aip_wheel_append(targets->all, tick, look, &req->candidates);
    if (algorithm == AIP_ALGORITHM_LEAST_CONNECTIONS) {
        aip_score_connections(read_loads(req, look, now), targets->n, scores);
    } else if (algorithm == AIP_ALGORITHM_LOWEST_USAGE) {
        aip_score_usage(read_loads(req, look, now), targets->n, typical_usage(req, now), scores);
    } else if (algorithm == AIP_ALGORITHM_LOWEST_LATENCY) {
        aip_score_latency(read_loads(req, look, now), targets->n, tick, scores);
    } else if (algorithm == AIP_ALGORITHM_CONSISTENT_HASHING) {
        score_hash(req, scores);
    }
    aip_candidates_sort(&req->candidates, scores);
}

static void add_groups(aip_request_t *req, const aip_availability_e *look)
{
    const aip_targets_t *targets = req->conf->targets;
    apr_uint32_t tick = next_tick(req, targets->routes->n, look);
    for (int i = 0; i < targets->n_groups; i++) {
        aip_wheel_append(targets->groups[i], tick, look, &req->candidates);
    }
}

static bool has_available(const aip_route_t *route, const aip_availability_e *look)
{
    bool available = !look;
    for (int i = 0; i < route->n_targets && !available; i++) {
        available = look[route->targets[i]] == AIP_AVAILABLE;
    }
    return available;
}

/* One tick of the wheel of the nearest route that is there; the others stand by, their heaviest
 * member first. */
static void add_ranked(aip_request_t *req, const aip_availability_e *look)
{
    const aip_targets_t *targets = req->conf->targets;
    const aip_decision_t *d = &req->route.decision;
    apr_uint32_t *ticks = apr_pcalloc(req->r->pool, (apr_size_t)targets->routes->n * sizeof *ticks);
    for (int i = 0; i < d->n; i++) {
        int route = d->ranked[i].route;
        if (has_available(&targets->routes->routes[route], look)) {
            ticks[route] = next_tick(req, route, look);
            break;
        }
    }
    aip_candidates_ranked(d, targets->by_route, ticks, look, &req->candidates);
}

/* Before all others, whether the algorithm named it or not. */
static void put_first(aip_candidates_t *candidates, int target)
{
    int at = 0;
    while (at < candidates->n && candidates->targets[at] != target) {
        at++;
    }
    candidates->n += at == candidates->n;
    memmove(candidates->targets + 1, candidates->targets, (size_t)at * sizeof *candidates->targets);
    candidates->targets[0] = target;
}

/* Nobody of the candidates may be tried; `ordered` are all of them. */
static apr_status_t unavailable(const aip_request_t *req, const aip_candidates_t *ordered,
                                const aip_health_rules_t *rules, apr_time_t now, aip_error_t *err)
{
    request_rec *r = req->r;
    apr_time_t back = 0;
    int barred = 0;
    for (int i = 0; i < ordered->n; i++) {
        const aip_target_t *target = req->conf->targets->list[ordered->targets[i]];
        if (req->route.barred && req->route.barred[ordered->targets[i]]) {
            barred++;
            continue;
        }
        apr_time_t at = aip_health_back_at(target->state, rules, now);
        back = at && (!back || at < back) ? at : back;
    }
    if (barred == ordered->n) {
        return aip_guards_refuse(req, err);
    }
    if (back) {
        apr_int64_t seconds = apr_time_sec(back - now + APR_USEC_PER_SEC - 1);
        apr_table_setn(r->headers_out, "Retry-After",
                       apr_psprintf(r->pool, "%" APR_INT64_T_FMT, seconds));
        return aip_error_set(
            err, r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error", "targets_cooling_down", NULL,
            "every target asked for a pause; the first is back in %" APR_INT64_T_FMT " s", seconds);
    }
    apr_table_setn(r->headers_out, "x-should-retry", "false");
    return aip_error_set(err, r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error", "targets_drained",
                         NULL, "every target has been taken out of service");
}

/* @return by target; NULL: all are available */
static aip_availability_e *look_at(const aip_request_t *req, const aip_health_rules_t *rules,
                                   apr_time_t now)
{
    const aip_targets_t *targets = req->conf->targets;
    aip_availability_e *look = apr_palloc(req->r->pool, (apr_size_t)targets->n * sizeof *look);
    bool all = true;
    for (int i = 0; i < targets->n; i++) {
        look[i] = aip_health_look(targets->list[i]->state, rules, now);
        if (look[i] == AIP_COOLING && targets->n == 1) {
            look[i] = AIP_AVAILABLE; /* who is alone speaks for himself */
        }
        if (req->route.barred && req->route.barred[i]) {
            look[i] = AIP_BARRED;
        }
        all = all && look[i] == AIP_AVAILABLE;
    }
    return all ? NULL : look;
}

static apr_status_t filter(aip_request_t *req, const aip_availability_e *look,
                           const aip_health_rules_t *rules, apr_time_t now, aip_error_t *err)
{
    aip_candidates_t *candidates = &req->candidates;
    aip_candidates_t ordered = *candidates;
    candidates->healthy = candidates->n;
    if (!look) {
        return APR_SUCCESS;
    }
    ordered.targets =
        apr_pmemdup(req->r->pool, ordered.targets, (apr_size_t)ordered.n * sizeof(int));
    aip_candidates_filter(candidates, look);
    return candidates->n ? APR_SUCCESS : unavailable(req, &ordered, rules, now, err);
}

apr_status_t aip_balance_stage(aip_request_t *req, aip_error_t *err)
{
    apr_time_t now = apr_time_now();
    aip_health_rules_t rules = aip_health_rules(&req->conf->f);
    const aip_availability_e *look = look_at(req, &rules, now);
    req->candidates.targets =
        apr_pcalloc(req->r->pool, (apr_size_t)(req->conf->targets->n + 1) * sizeof(int));
    switch ((aip_algorithm_e)req->conf->f.balancer_algorithm) {
    case AIP_ALGORITHM_SEMANTIC:
        if (req->route.reason == AIP_REASON_FORCED) { /* nothing was compared */
            add_scored(req, look, now);
        } else {
            add_ranked(req, look);
        }
        break;
    case AIP_ALGORITHM_PRIORITY:
        add_groups(req, look);
        break;
    case AIP_ALGORITHM_ROUND_ROBIN:
    case AIP_ALGORITHM_CONSISTENT_HASHING:
    case AIP_ALGORITHM_LEAST_CONNECTIONS:
    case AIP_ALGORITHM_LOWEST_USAGE:
    case AIP_ALGORITHM_LOWEST_LATENCY:
        add_scored(req, look, now);
        break;
    }
    if (req->route.preferred >= 0) {
        put_first(&req->candidates, req->route.preferred);
    }
    return filter(req, look, &rules, now, err);
}
