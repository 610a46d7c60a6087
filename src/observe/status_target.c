/* SPDX-License-Identifier: Apache-2.0 */
/* One target in the status document: whether it may be tried and why not, what it has done, and
 * what went wrong there last. */
#include "status.h"

#include <stdatomic.h>

static json_t *usage_object(const aip_target_state_t *s, apr_interval_time_t window, apr_time_t now)
{
    static const char *const names[AIP_USAGE_KINDS] = {"total_tokens", "prompt_tokens",
                                                       "completion_tokens", "cost"};
    json_t *object = json_object();
    for (int i = 0; i < AIP_USAGE_KINDS; i++) {
        json_object_set_new(object, names[i], json_real(aip_decay_read(&s->usage[i], now, window)));
    }
    json_object_set_new(object, "other_machines",
                        json_real(aip_decay_read(&s->other_usage[AIP_USAGE_TOTAL], now, window)));
    return object;
}

static json_t *latency_object(const aip_target_state_t *s)
{
    static const char *const names[AIP_LATENCY_KINDS] = {"tpot_ms", "e2e_ms"};
    json_t *object = json_object();
    for (int i = 0; i < AIP_LATENCY_KINDS; i++) {
        double last = aip_decay_last(&s->latency[i]);
        json_object_set_new(object, names[i], last < 0 ? json_null() : json_real(last / 1000));
    }
    return object;
}

static json_t *breaker_object(const aip_target_state_t *s, const aip_health_rules_t *rules,
                              apr_time_t now)
{
    apr_time_t until = rules->max_fails ? atomic_load(&s->ejected_until) : 0;
    const char *state = !rules->max_fails ? "off"
                        : until == 0      ? "closed"
                        : until > now     ? "open"
                                          : "half-open";
    return json_pack("{s:s, s:o}", "state", state, "until",
                     aip_status_time(until > now ? until : 0));
}

static json_t *cooldown_object(const aip_target_state_t *s, const aip_health_rules_t *rules,
                               apr_time_t now)
{
    apr_time_t until = rules->cooldown_max ? atomic_load(&s->cooling_until) : 0;
    if (until <= now) {
        return json_null();
    }
    return json_pack("{s:o, s:I}", "until", aip_status_time(until), "status",
                     (json_int_t)atomic_load(&s->cooling_status));
}

static json_t *identity_object(const aip_target_t *target)
{
    static const char *const clouds[] = {[AIP_CLOUD_NONE] = NULL,
                                         [AIP_CLOUD_AWS] = "aws",
                                         [AIP_CLOUD_AZURE] = "azure",
                                         [AIP_CLOUD_GCP] = "gcp"};
    const aip_secrets_t *store = aip_secrets_used();
    aip_secret_look_t look;
    if (target->cloud == AIP_CLOUD_NONE || target->identity < 0 || !store) {
        return json_null();
    }
    aip_secrets_look(store, target->identity, apr_time_now(), &look);
    return json_pack("{s:s, s:s}", "cloud", clouds[target->cloud], "state", look.state);
}

static json_t *errors_list(const aip_target_t *target)
{
    aip_fault_t faults[AIP_HISTORY_ERRORS];
    int n = aip_history_faults(target->history, faults);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:o}", "time", aip_status_time(faults[i].at), "error",
                            faults[i].word, "status",
                            faults[i].status ? json_integer(faults[i].status) : json_null()));
    }
    return list;
}

json_t *aip_status_target(const aip_target_t *target, const aip_location_fields_t *f,
                          apr_time_t now, apr_pool_t *pool)
{
    const aip_target_state_t *s = target->state;
    aip_health_rules_t rules = aip_health_rules(f);
    apr_time_t back = aip_health_back_at(s, &rules, now);
    aip_target_t *self = (aip_target_t *)(apr_uintptr_t)target;
    json_t *object = json_pack(
        "{s:o, s:s, s:o, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "name",
        aip_status_text(target->name, pool), "provider", target->provider_name, "model",
        aip_status_text(target->f.model_name, pool), "weight", (int)target->f.weight,
        "availability", aip_availability_name(aip_health_look(s, &rules, now)), "back_in_ms",
        back ? (json_int_t)apr_time_as_msec(back - now) : (json_int_t)0, "in_flight",
        (json_int_t)atomic_load(&s->in_flight), "fails", (json_int_t)atomic_load(&s->fails),
        "attempts", (json_int_t)atomic_load(&s->attempts), "failures",
        (json_int_t)atomic_load(&s->failures), "answers", (json_int_t)atomic_load(&s->answers),
        "usage", usage_object(s, apr_time_from_msec(f->balancer_usage_window), now), "latency",
        latency_object(s));
    json_object_set_new(object, "description", aip_status_text(target->f.description, pool));
    json_object_set_new(object, "drained", json_boolean(atomic_load(&s->drained)));
    json_object_set_new(object, "breaker", breaker_object(s, &rules, now));
    json_object_set_new(object, "cooldown", cooldown_object(s, &rules, now));
    json_object_set_new(object, "identity", identity_object(target));
    json_object_set_new(object, "totals", aip_status_totals(&self, 1, pool));
    aip_status_figures(object, target->history->minutes, now, pool);
    json_object_set_new(object, "last_errors", errors_list(target));
    return object;
}
