/* SPDX-License-Identifier: Apache-2.0 */
/* check_config: the rules between directives that can only be checked when all of the configuration
 * has been read. Each section is looked at as a request to its path would see it. `httpd -t` runs
 * this; nothing here touches the network. */
#include "check.h"

#include "aip/traces.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

void aip_complain(aip_check_t *check, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_ERR, 0, check->section->server,
                 "AIP0010: %s: %s", check->section->where, apr_pvsprintf(check->pool, fmt, args));
    va_end(args);
    check->errors++;
}

static bool deeper(const aip_check_t *check, const char *path)
{
    return path && check->section->path &&
           strncmp(path, check->section->path, strlen(check->section->path)) == 0;
}

/* A section without targets may be meant for those below it. */
static bool targets_elsewhere(const aip_check_t *check)
{
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *other = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (other->dir->targets && (!other->path || deeper(check, other->path))) {
            return true;
        }
    }
    return false;
}

static void __attribute__((format(printf, 2, 3)))
warn(const aip_check_t *check, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_WARNING, 0, check->section->server,
                 "AIP0011: %s: %s", check->section->where, apr_pvsprintf(check->pool, fmt, args));
    va_end(args);
}

/* Criteria that the operator wrote and that can have no effect: failover that silently does not
 * happen. */
static void check_criteria(const aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    unsigned ambiguous = AIP_CRITERION_ERROR | AIP_CRITERION_TIMEOUT | AIP_CRITERION_INVALID_HEADER;
    unsigned criteria = f->balancer_failover_criteria;
    if (!check->section->dir->f.set[AIP_L_balancer_failover_criteria]) {
        return; /* said for many sections, it need not be of use in each */
    }
    if (check->conf->targets->n == 1) {
        warn(check, "AIBalancerFailoverCriteria has no effect: there is one target only");
    } else if (f->balancer_retries == 0) {
        warn(check, "AIBalancerFailoverCriteria has no effect: AIBalancerRetries is 0");
    } else if (criteria & AIP_CRITERION_NON_IDEMPOTENT && !(criteria & ambiguous)) {
        warn(check,
             "AIBalancerFailoverCriteria non_idempotent has no effect without error, timeout or "
             "invalid_header; listed statuses move on anyway");
    } else if (criteria & AIP_CRITERION_INVALID_HEADER &&
               !(criteria & AIP_CRITERION_NON_IDEMPOTENT)) {
        warn(check, "AIBalancerFailoverCriteria invalid_header has no effect without "
                    "non_idempotent: the request has always been sent by then");
    }
}

/* Parts of the prompt have a price, or factors, but nothing is priced without the two prices that a
 * cost needs. */
static void check_prices(const aip_check_t *check)
{
    static const aip_target_index_e extras[] = {
        AIP_T_cache_read_cost, AIP_T_cache_write_cost, AIP_T_cache_write_cost_list,
        AIP_T_context_window_factor, AIP_T_service_tier_factor};
    const aip_targets_t *targets = check->section->dir->targets;
    for (int i = 0; targets && i < targets->n; i++) {
        const aip_target_t *target = targets->list[i];
        for (size_t k = 0; !target->rates.priced && k < sizeof extras / sizeof *extras; k++) {
            if (target->f.set[extras[k]]) {
                warn(check,
                     "<AITarget %s>: %s has no effect without AIModelOptionsInputCost and "
                     "AIModelOptionsOutputCost",
                     target->name, aip_target_table[extras[k]].directive);
            }
        }
    }
}

static void check_balancer(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    const aip_targets_t *targets = check->conf->targets;
    bool by_cost = f->balancer_algorithm == AIP_ALGORITHM_LOWEST_USAGE &&
                   f->balancer_tokens_count_strategy == AIP_USAGE_COST;
    for (int i = 0; by_cost && i < targets->n; i++) {
        const aip_target_fields_t *t = &targets->list[i]->f;
        if (!t->set[AIP_T_input_cost] || !t->set[AIP_T_output_cost]) {
            aip_complain(check,
                         "<AITarget %s>: AIBalancerTokensCountStrategy cost needs "
                         "AIModelOptionsInputCost and AIModelOptionsOutputCost in each target",
                         targets->list[i]->name);
        }
    }
    if (!aip_header_name_ok(f->balancer_hash_on_header)) {
        aip_complain(check, "AIBalancerHashOnHeader '%s' is no header name",
                     f->balancer_hash_on_header);
    }
    check_criteria(check);
}

/* Targets of one section may be reached through several; the shortest patience counts. */
static void apply_timeouts(const aip_dir_conf_t *conf)
{
    const aip_location_fields_t *f = &conf->f;
    apr_interval_time_t connect = apr_time_from_msec(f->balancer_connect_timeout);
    apr_interval_time_t io = apr_time_from_msec(f->balancer_read_timeout > f->balancer_write_timeout
                                                    ? f->balancer_read_timeout
                                                    : f->balancer_write_timeout);
    for (int i = 0; i < conf->targets->n; i++) {
        aip_endpoint_t *e = conf->targets->list[i]->endpoint;
        e->connect_timeout = connect < e->connect_timeout ? connect : e->connect_timeout;
        e->io_timeout = io < e->io_timeout ? io : e->io_timeout;
    }
}

/* Whether a section is a gateway that can be checked as a whole: what a pattern, an <If> or the
 * server level adds to other sections cannot be known here. */
static bool is_gateway(const aip_check_t *check)
{
    bool elsewhere = !check->section->path || !*check->section->path;
    return check->conf->f.enabled && check->conf->targets &&
           (!elsewhere || check->section->dir->targets);
}

static void check_section(aip_check_t *check)
{
    const aip_dir_conf_t *conf = check->conf;
    if (conf->targets) {
        apply_timeouts(conf);
    } else if (conf->f.enabled && check->section->dir->f.set[AIP_L_enabled] &&
               check->section->path && *check->section->path && !targets_elsewhere(check)) {
        aip_complain(check, "AIProxy On, but there is no target; add an <AITarget name> section");
    }
    if (!is_gateway(check)) {
        aip_prepare_embedder(check);
        aip_check_cache(check);
        return;
    }
    if (!aip_header_name_ok(conf->f.model_name_header_name)) {
        aip_complain(check, "AIModelNameHeaderName '%s' is no header name",
                     conf->f.model_name_header_name);
    }
    check_balancer(check);
    check_prices(check);
    aip_check_routing(check);
    aip_gateway_t *gateway = apr_array_push(aip_registry->gateways);
    *gateway = (aip_gateway_t){conf, check->section->server, check->section->where,
                               check->section->path ? check->section->path : ""};
}

/* The section around an <If>, if it has directives of ours. */
static const aip_section_t *enclosing(const aip_section_t *section)
{
    for (const ap_directive_t *node = section->node ? section->node->parent : NULL; node;
         node = node->parent) {
        for (int i = 0; i < aip_registry->sections->nelts; i++) {
            const aip_section_t *other = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
            if (other->node == node && !(other->path && !*other->path)) {
                return other;
            }
        }
    }
    return NULL;
}

static bool applies(const aip_section_t *outer, const aip_section_t *inner)
{
    size_t len = outer->path ? strlen(outer->path) : 0;
    if (outer == inner) {
        return true;
    }
    return outer->path && len && inner->path && strncmp(outer->path, inner->path, len) == 0 &&
           (outer->server == inner->server || !outer->server->is_virtual) &&
           (outer->path[len - 1] == '/' || inner->path[len] == '/' || inner->path[len] == '\0');
}

/* The server's directives, then every <Location> on the way, in configuration order, as httpd
 * merges them. */
static aip_dir_conf_t *effective(const aip_section_t *section, apr_pool_t *pool)
{
    aip_dir_conf_t *conf =
        ap_get_module_config(section->server->lookup_defaults, &ai_proxy_adv_module);
    const aip_section_t *around = section->path ? NULL : enclosing(section);
    if (around) {
        return aip_config_merge_dir(pool, effective(around, pool), section->dir);
    }
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *outer = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (applies(outer, section) && !(outer->path && !*outer->path)) {
            conf = aip_config_merge_dir(pool, conf, outer->dir);
        }
    }
    return conf;
}

static int heaviest_below(const int *weights, int n, int limit)
{
    int heaviest = 0;
    for (int i = 0; i < n; i++) {
        heaviest = weights[i] < limit && weights[i] > heaviest ? weights[i] : heaviest;
    }
    return heaviest;
}

static void make_groups(aip_targets_t *targets, const int *weights, apr_pool_t *pool)
{
    int *members = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof(int));
    int weight = heaviest_below(weights, targets->n, INT_MAX);
    targets->groups = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof *targets->groups);
    for (; weight > 0; weight = heaviest_below(weights, targets->n, weight)) {
        int n = 0;
        for (int i = 0; i < targets->n; i++) {
            if (weights[i] == weight) {
                members[n++] = i;
            }
        }
        targets->groups[targets->n_groups++] = aip_wheel_create(members, n, weights, pool);
    }
}

static void finish_targets(aip_targets_t *targets, apr_pool_t *pool)
{
    const aip_target_fields_t **fields = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof *fields);
    int *weights = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof(int));
    int *all = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof(int));
    for (int i = 0; i < targets->n; i++) {
        const aip_target_fields_t *f = &targets->list[i]->f;
        fields[i] = f;
        targets->guarded = targets->guarded || f->set[AIP_T_accepts] || targets->list[i]->force ||
                           targets->list[i]->forbid;
        weights[i] = (int)f->weight;
        all[i] = i;
    }
    targets->routes = aip_routes_of(fields, targets->n, pool);
    targets->all = aip_wheel_create(all, targets->n, weights, pool);
    targets->by_route =
        apr_pcalloc(pool, (apr_size_t)(targets->routes->n + 1) * sizeof *targets->by_route);
    for (int i = 0; i < targets->routes->n; i++) {
        const aip_route_t *route = &targets->routes->routes[i];
        targets->by_route[i] = aip_wheel_create(route->targets, route->n_targets, weights, pool);
    }
    make_groups(targets, weights, pool);
}

int aip_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog, (void)ptemp;
    int errors = aip_egress_prepare(pconf, s);
    errors += aip_check_secrets(pconf, s);
    errors += aip_traces_prepare(pconf, s);
    if (errors) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        finish_targets(APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *), pconf);
    }
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        aip_check_t check = {.pool = pconf,
                             .section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t)};
        check.conf = effective(check.section, pconf);
        check_section(&check);
        errors += check.errors;
    }
    errors += aip_endpoints_prepare(pconf);
    return errors ? HTTP_INTERNAL_SERVER_ERROR : OK;
}
