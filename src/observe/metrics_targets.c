/* SPDX-License-Identifier: Apache-2.0 */
/* aiproxy_*: what is counted of each target and each route, and the state that targets are in. */
#include "metrics_private.h"

static const aip_family_t requests = {"aiproxy_requests", AIP_METRIC_COUNTER, NULL,
                                      "Requests by the status that the client got; target is empty "
                                      "when none was tried."};
static const aip_family_t attempts = {"aiproxy_attempts", AIP_METRIC_COUNTER, NULL,
                                      "Attempts at targets by what they came to."};
static const aip_family_t retries = {
    "aiproxy_retries", AIP_METRIC_COUNTER, NULL,
    "Attempts after which another one was made, by what this one came to."};
static const aip_family_t decisions = {"aiproxy_route_decisions", AIP_METRIC_COUNTER, NULL,
                                       "Decisions by route and reason."};
static const aip_family_t score = {
    "aiproxy_route_score", AIP_METRIC_HISTOGRAM, NULL,
    "Distances of prompts by the route decided for; of the catch-all, to the nearest other one."};
static const aip_family_t cost = {"aiproxy_cost", AIP_METRIC_COUNTER, NULL,
                                  "Cost of answers, where both prices are configured."};
static const aip_family_t tokens = {"aiproxy_tokens", AIP_METRIC_COUNTER, NULL,
                                    "Tokens of answers whose usage is known."};

static void put_counted(aip_scrape_t *s, const char *labels, const char *name, const char *value,
                        apr_uint64_t n)
{
    if (n) {
        aip_exposition_value(&s->out, aip_label(labels, name, value, s->apr), n, 0);
    }
}

static void put_codes(aip_scrape_t *s, const char *labels, const aip_count_t *codes)
{
    for (int i = 0; i < AIP_CODES; i++) {
        put_counted(s, labels, "code", aip_code_text(i), aip_count_read(&codes[i]));
    }
}

void aip_metrics_requests(aip_scrape_t *s)
{
    aip_exposition_family(&s->out, &requests);
    for (int i = 0; i < s->n_pools; i++) {
        put_codes(s, aip_label(s->pools[i].labels, "target", "", s->apr),
                  s->pools[i].targets->metrics->codes);
    }
    for (int i = 0; i < s->n_targets; i++) {
        put_codes(s, s->targets[i].labels, s->targets[i].target->metrics->codes);
    }
}

static void put_attempts(aip_scrape_t *s)
{
    aip_exposition_family(&s->out, &attempts);
    for (int i = 0; i < s->n_targets; i++) {
        const aip_target_metrics_t *m = s->targets[i].target->metrics;
        for (int k = 0; k < AIP_CAUSES; k++) {
            put_counted(s, s->targets[i].labels, "outcome", aip_cause_text(k),
                        aip_count_read(&m->attempts[k]));
        }
    }
    aip_exposition_family(&s->out, &retries);
    for (int i = 0; i < s->n_targets; i++) {
        const aip_target_metrics_t *m = s->targets[i].target->metrics;
        for (int k = 0; k < AIP_CAUSES; k++) {
            put_counted(s, s->targets[i].labels, "cause", aip_cause_text(k),
                        aip_count_read(&m->retries[k]));
        }
    }
}

static void put_reasons(aip_scrape_t *s, const aip_pool_view_t *pool, const char *route,
                        const aip_count_t *reasons)
{
    const char *labels = aip_label(pool->labels, "route", route, s->apr);
    for (int i = 0; i < AIP_ROUTE_N_REASONS; i++) {
        put_counted(s, labels, "reason", aip_reason_name((aip_reason_e)i),
                    aip_count_read(&reasons[i]));
    }
}

/* Routes are known by their first target, as in X-LLM-Route-Scores: descriptions are sentences. */
static const aip_target_t *first_of(const aip_pool_view_t *pool, int route)
{
    return pool->targets->list[pool->targets->routes->routes[route].targets[0]];
}

static void put_decisions(aip_scrape_t *s)
{
    aip_exposition_family(&s->out, &decisions);
    for (int i = 0; i < s->n_pools; i++) {
        const aip_pool_view_t *pool = &s->pools[i];
        put_reasons(s, pool, "", pool->targets->metrics->undecided);
        for (int r = 0; r < pool->targets->routes->n; r++) {
            const aip_target_t *target = first_of(pool, r);
            put_reasons(s, pool, target->name, target->metrics->decisions);
        }
    }
}

static void put_scores(aip_scrape_t *s)
{
    aip_exposition_family(&s->out, &score);
    for (int i = 0; i < s->n_pools; i++) {
        const aip_pool_view_t *pool = &s->pools[i];
        for (int r = 0; r < pool->targets->routes->n; r++) {
            const aip_target_t *target = first_of(pool, r);
            aip_snapshot_t snapshot = {0};
            aip_histogram_read(&target->metrics->score, AIP_SCALE_DISTANCE, &snapshot);
            if (snapshot.count) {
                aip_exposition_histogram(&s->out,
                                         aip_label(pool->labels, "route", target->name, s->apr),
                                         AIP_SCALE_DISTANCE, &snapshot);
            }
        }
    }
}

static void put_cost(aip_scrape_t *s)
{
    aip_exposition_family(&s->out, &cost);
    for (int i = 0; i < s->n_targets; i++) {
        const aip_target_view_t *view = &s->targets[i];
        const aip_target_fields_t *f = &view->target->f;
        apr_uint64_t pico = aip_count_read(&view->target->metrics->cost_pico);
        if (pico || (f->set[AIP_T_input_cost] && f->set[AIP_T_output_cost])) {
            aip_exposition_value(
                &s->out,
                aip_label(view->labels, "currency", view->pool->fields->cost_currency, s->apr),
                pico, 12);
        }
    }
    aip_exposition_family(&s->out, &tokens);
    for (int i = 0; i < s->n_targets; i++) {
        const aip_target_view_t *view = &s->targets[i];
        const aip_target_metrics_t *m = view->target->metrics;
        aip_exposition_value(&s->out, aip_label(view->labels, "type", "input", s->apr),
                             aip_count_read(&m->prompt_tokens), 0);
        aip_exposition_value(&s->out, aip_label(view->labels, "type", "output", s->apr),
                             aip_count_read(&m->completion_tokens), 0);
    }
}

static apr_uint64_t breaker(const aip_target_view_t *view, apr_time_t now)
{
    apr_int64_t until = atomic_load(&view->target->state->ejected_until);
    bool closed = until == 0 || !view->pool->fields->balancer_max_fails;
    return closed ? 0 : until > now ? 2 : 1;
}

static apr_uint64_t up(const aip_target_view_t *view, apr_time_t now)
{
    aip_health_rules_t rules = aip_health_rules(view->pool->fields);
    return aip_health_look(view->target->state, &rules, now) == AIP_AVAILABLE;
}

static apr_uint64_t drained(const aip_target_view_t *view, apr_time_t now)
{
    (void)now;
    return atomic_load(&view->target->state->drained) != 0;
}

static apr_uint64_t in_flight(const aip_target_view_t *view, apr_time_t now)
{
    (void)now;
    return atomic_load(&view->target->state->in_flight);
}

static const struct {
    aip_family_t family;
    apr_uint64_t (*value)(const aip_target_view_t *view, apr_time_t now);
} gauges[] = {
    {{"aiproxy_breaker_state", AIP_METRIC_GAUGE, NULL,
      "Circuit breaker: 0 closed, 1 half-open, 2 open."},
     breaker},
    {{"aiproxy_target_up", AIP_METRIC_GAUGE, NULL,
      "1: the target takes requests; 0: it is ejected, cooling down or drained."},
     up},
    {{"aiproxy_target_drained", AIP_METRIC_GAUGE, NULL, "1: taken out of service by the operator."},
     drained},
    {{"aiproxy_in_flight", AIP_METRIC_GAUGE, NULL, "Attempts that are going on."}, in_flight},
};

void aip_metrics_targets(aip_scrape_t *s)
{
    apr_time_t now = apr_time_now();
    put_attempts(s);
    put_decisions(s);
    put_scores(s);
    put_cost(s);
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
        aip_exposition_family(&s->out, &gauges[i].family);
        for (int t = 0; t < s->n_targets; t++) {
            aip_exposition_value(&s->out, s->targets[t].labels,
                                 gauges[i].value(&s->targets[t], now), 0);
        }
    }
}
