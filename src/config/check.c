/* SPDX-License-Identifier: Apache-2.0 */
/* check_config: the rules between directives that can only be checked when all of the configuration
 * has been read. Each section is looked at as a request to its path would see it. `httpd -t` runs
 * this; nothing here touches the network. */
#include "aip/config.h"
#include "aip/vectordb.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

typedef struct check_t {
    apr_pool_t *pool;
    const aip_section_t *section;
    aip_dir_conf_t *conf; /* effective */
    int errors;
} check_t;

static void __attribute__((format(printf, 2, 3))) complain(check_t *check, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_ERR, 0, check->section->server,
                 "AIP0010: %s: %s", check->section->where, apr_pvsprintf(check->pool, fmt, args));
    va_end(args);
    check->errors++;
}

const char *aip_model_dir(const char *name, apr_pool_t *pool)
{
    return *name == '/' ? name : apr_pstrcat(pool, AIP_EMBEDDER_DIR "/", name, NULL);
}

static bool is_target(const check_t *check, const char *name)
{
    for (int i = 0; i < check->conf->targets->n; i++) {
        if (strcmp(check->conf->targets->list[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool deeper(const check_t *check, const char *path)
{
    return path && check->section->path &&
           strncmp(path, check->section->path, strlen(check->section->path)) == 0;
}

/* A section without targets may be meant for those below it. */
static bool targets_elsewhere(const check_t *check)
{
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *other = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (other->dir->targets && (!other->path || deeper(check, other->path))) {
            return true;
        }
    }
    return false;
}

static aip_model2vec_t *load_model(check_t *check)
{
    const char *name = check->conf->f.embeddings_model_name, *error;
    const char *dir = aip_model_dir(name, check->pool);
    aip_model2vec_t *model = apr_hash_get(aip_registry->models, dir, APR_HASH_KEY_STRING);
    if (!model && aip_model2vec_load(&model, dir, check->pool, &error) != APR_SUCCESS) {
        complain(check, "AIEmbeddingsModelName '%s': %s", name, error);
        return NULL;
    }
    apr_hash_set(aip_registry->models, dir, APR_HASH_KEY_STRING, model);
    return model;
}

static void check_model(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    aip_model2vec_t *model = load_model(check);
    if (!model) {
        return;
    }
    int dims = aip_model2vec_dims(model);
    if (f->set[AIP_L_vectordb_dimensions] && f->vectordb_dimensions != dims) {
        complain(check, "AIVectordbDimensions %d: the model %s has %d; leave the directive out",
                 (int)f->vectordb_dimensions, f->embeddings_model_name, dims);
    }
    aip_routes_t *routes = check->conf->targets->routes;
    float *vector = apr_palloc(check->pool, (apr_size_t)dims * sizeof *vector);
    for (int i = 0; i < routes->n_texts; i++) {
        if (aip_model2vec_embed(model, routes->texts[i], vector) == 0) {
            complain(check,
                     "AIDescription or AIRouteExample '%s' holds no word that the model %s knows; "
                     "say it in English "
                     "words",
                     routes->texts[i].data, f->embeddings_model_name);
        }
    }
}

static void check_local(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    static const int remote_only[] = {AIP_L_embeddings_auth_header_name,
                                      AIP_L_embeddings_auth_param_name,
                                      AIP_L_embeddings_model_options_upstream_url};
    for (size_t i = 0; i < sizeof remote_only / sizeof *remote_only; i++) {
        if (f->set[remote_only[i]]) {
            complain(check, "%s has no meaning with AIEmbeddingsModelProvider local; remove it",
                     aip_location_table[remote_only[i]].directive);
        }
    }
    check_model(check);
}

static void check_embeddings_auth(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    int params = (f->embeddings_auth_param_name != NULL) +
                 (f->embeddings_auth_param_value != NULL) +
                 f->set[AIP_L_embeddings_auth_param_location];
    if (!f->embeddings_auth_header_name != !f->embeddings_auth_header_value) {
        complain(check, "all or none of AIEmbeddingsAuthHeaderName and AIEmbeddingsAuthHeaderValue "
                        "must be set");
    } else if (f->embeddings_auth_header_name &&
               !aip_header_name_ok(f->embeddings_auth_header_name)) {
        complain(check, "AIEmbeddingsAuthHeaderName '%s' is no name for a credential header",
                 f->embeddings_auth_header_name);
    } else if (f->embeddings_auth_header_value &&
               !aip_header_value_ok(f->embeddings_auth_header_value)) {
        complain(check, "AIEmbeddingsAuthHeaderValue holds control bytes");
    }
    if (params != 0 && params != 3) {
        complain(check, "all or none of AIEmbeddingsAuthParamName, AIEmbeddingsAuthParamValue and "
                        "AIEmbeddingsAuthParamLocation must be set");
    }
}

/* The connections of an embeddings provider; sections that share it share them, and the shortest
 * patience counts. */
static void make_endpoint(check_t *check, const char *text)
{
    const char *error;
    aip_url_t *url = apr_pcalloc(check->pool, sizeof *url);
    if (aip_url_parse(text, url, check->pool, &error) != APR_SUCCESS) {
        complain(check, "AIEmbeddingsModelOptionsUpstreamUrl '%s' %s",
                 aip_url_shown(text, check->pool), error);
        return;
    }
    aip_endpoint_t *endpoint = aip_endpoint_find("embeddings", url);
    if (!endpoint) {
        endpoint = aip_endpoint_create("embeddings", url, check->section->server, NULL, check->pool,
                                       &error);
    }
    if (!endpoint) {
        complain(check, "%s", error);
        return;
    }
    apr_interval_time_t timeout = apr_time_from_msec(check->conf->f.embeddings_timeout);
    endpoint->connect_timeout =
        timeout < endpoint->connect_timeout ? timeout : endpoint->connect_timeout;
    endpoint->io_timeout = endpoint->connect_timeout;
}

static const char *embeddings_url(const aip_location_fields_t *f,
                                  const aip_embeddings_provider_t *provider)
{
    return f->embeddings_model_options_upstream_url ? f->embeddings_model_options_upstream_url
                                                    : provider->default_url;
}

static void check_remote(check_t *check, const aip_embeddings_provider_t *provider)
{
    const aip_location_fields_t *f = &check->conf->f;
    const char *text = embeddings_url(f, provider);
    check_embeddings_auth(check);
    if (!f->set[AIP_L_vectordb_dimensions]) {
        complain(check,
                 "AIVectordbDimensions is required: add the length of %s's vectors, for instance "
                 "'AIVectordbDimensions 1536'",
                 f->embeddings_model_name);
    }
    if (text) {
        make_endpoint(check, text);
    } else {
        complain(check,
                 "AIEmbeddingsModelOptionsUpstreamUrl must be set for AIEmbeddingsModelProvider %s",
                 provider->name);
    }
}

static const aip_embeddings_provider_t *provider_of(const check_t *check)
{
    return aip_embeddings_provider(
        aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                       check->conf->f.embeddings_model_provider, check->pool));
}

/* What a request may need that gets its configuration from a combination of sections, which cannot
 * be checked as a whole: after the start neither a model can be loaded nor an endpoint be made. */
static void prepare_embedder(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (!f->set[AIP_L_embeddings_model_provider] || !f->embeddings_model_name) {
        return;
    }
    const aip_embeddings_provider_t *provider = provider_of(check);
    if (provider->local) {
        (void)load_model(check);
    } else if (embeddings_url(f, provider)) {
        make_endpoint(check, embeddings_url(f, provider));
    }
}

static void check_embeddings(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (!f->set[AIP_L_embeddings_model_provider]) {
        complain(check,
                 "AIBalancerAlgorithm semantic needs AIEmbeddingsModelProvider: add for instance "
                 "'AIEmbeddingsModelProvider local'");
        return;
    }
    if (!f->embeddings_model_name) {
        complain(check,
                 "AIBalancerAlgorithm semantic needs AIEmbeddingsModelName: add for instance "
                 "'AIEmbeddingsModelName aip-static-en-v1' for provider local");
        return;
    }
    const aip_embeddings_provider_t *provider = provider_of(check);
    if (provider->local) {
        check_local(check);
    } else {
        check_remote(check, provider);
    }
}

static void check_vectordb(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (f->vectordb_strategy == AIP_STRATEGY_REDIS) {
        if (!f->set[AIP_L_vectordb_distance_metric]) {
            complain(check,
                     "AIVectordbDistanceMetric is required with AIVectordbStrategy redis: add "
                     "'AIVectordbDistanceMetric cosine'");
        }
        if (f->vectordb_redis_ssl && !aip_redis_has_tls()) {
            complain(check, "AIVectordbRedisSsl On: this build has no TLS to Redis (hiredis 1.0 or "
                            "newer with hiredis_ssl "
                            "is needed); use a local TLS proxy or rebuild");
        }
        if (f->vectordb_redis_username && !f->vectordb_redis_password) {
            complain(check, "AIVectordbRedisUsername needs AIVectordbRedisPassword");
        }
    }
    if (f->set[AIP_L_vectordb_threshold] && f->vectordb_distance_metric == AIP_METRIC_COSINE &&
        f->vectordb_threshold.value > 2) {
        complain(check, "AIVectordbThreshold %s: cosine distances lie between 0 and 2",
                 f->vectordb_threshold.json);
    }
}

static void check_semantic(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    const aip_targets_t *targets = check->conf->targets;
    for (int i = 0; i < targets->n; i++) {
        if (!targets->list[i]->f.description) {
            complain(check,
                     "<AITarget %s>: AIBalancerAlgorithm semantic needs AIDescription in each "
                     "target (CATCHALL for "
                     "the one that takes the rest)",
                     targets->list[i]->name);
        }
    }
    check_embeddings(check);
    check_vectordb(check);
    if (strcmp(f->route_on_failure, "catchall") != 0 && strcmp(f->route_on_failure, "fail") != 0 &&
        !is_target(check, f->route_on_failure)) {
        complain(check,
                 "AIRouteOnFailure '%s' is neither catchall, fail nor the name of a target of this "
                 "section",
                 f->route_on_failure);
    }
}

static void __attribute__((format(printf, 2, 3))) warn(const check_t *check, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_WARNING, 0, check->section->server,
                 "AIP0011: %s: %s", check->section->where, apr_pvsprintf(check->pool, fmt, args));
    va_end(args);
}

/* Criteria that the operator wrote and that can have no effect: failover that silently does not
 * happen. */
static void check_criteria(const check_t *check)
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

static void check_balancer(check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    const aip_targets_t *targets = check->conf->targets;
    bool by_cost = f->balancer_algorithm == AIP_ALGORITHM_LOWEST_USAGE &&
                   f->balancer_tokens_count_strategy == AIP_USAGE_COST;
    for (int i = 0; by_cost && i < targets->n; i++) {
        const aip_target_fields_t *t = &targets->list[i]->f;
        if (!t->set[AIP_T_input_cost] || !t->set[AIP_T_output_cost]) {
            complain(check,
                     "<AITarget %s>: AIBalancerTokensCountStrategy cost needs "
                     "AIModelOptionsInputCost and AIModelOptionsOutputCost in each target",
                     targets->list[i]->name);
        }
    }
    if (!aip_header_name_ok(f->balancer_hash_on_header)) {
        complain(check, "AIBalancerHashOnHeader '%s' is no header name",
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
static bool is_gateway(const check_t *check)
{
    bool elsewhere = !check->section->path || !*check->section->path;
    return check->conf->f.enabled && check->conf->targets &&
           (!elsewhere || check->section->dir->targets);
}

static void check_section(check_t *check)
{
    const aip_dir_conf_t *conf = check->conf;
    if (conf->targets) {
        apply_timeouts(conf);
    } else if (conf->f.enabled && check->section->dir->f.set[AIP_L_enabled] &&
               check->section->path && *check->section->path && !targets_elsewhere(check)) {
        complain(check, "AIProxy On, but there is no target; add an <AITarget name> section");
    }
    if (!is_gateway(check)) {
        prepare_embedder(check);
        return;
    }
    if (!aip_header_name_ok(conf->f.model_name_header_name)) {
        complain(check, "AIModelNameHeaderName '%s' is no header name",
                 conf->f.model_name_header_name);
    }
    check_balancer(check);
    if (conf->f.balancer_algorithm == AIP_ALGORITHM_SEMANTIC) {
        check_semantic(check);
    }
    aip_gateway_t *gateway = apr_array_push(aip_registry->gateways);
    *gateway = (aip_gateway_t){conf, check->section->server, check->section->where};
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
    aip_route_source_t *sources = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof *sources);
    int *weights = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof(int));
    int *all = apr_pcalloc(pool, (apr_size_t)targets->n * sizeof(int));
    for (int i = 0; i < targets->n; i++) {
        const aip_target_fields_t *f = &targets->list[i]->f;
        sources[i] = (aip_route_source_t){f->description, f->route_example};
        weights[i] = (int)f->weight;
        all[i] = i;
    }
    targets->routes = aip_routes_create(sources, targets->n, pool);
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
    (void)plog, (void)ptemp, (void)s;
    int errors = 0;
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        finish_targets(APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *), pconf);
    }
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        check_t check = {.pool = pconf,
                         .section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t)};
        check.conf = effective(check.section, pconf);
        check_section(&check);
        errors += check.errors;
    }
    return errors ? HTTP_INTERNAL_SERVER_ERROR : OK;
}
