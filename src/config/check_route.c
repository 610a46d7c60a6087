/* SPDX-License-Identifier: Apache-2.0 */
/* check_config, the part about routes: thresholds, margins, sessions, the cache. */
#include "check.h"

#include "aip/route_cache.h"

#include <apr_strings.h>

static void check_semantic(aip_check_t *check)
{
    const aip_targets_t *targets = check->conf->targets;
    for (int i = 0; i < targets->n; i++) {
        if (!targets->list[i]->f.description) {
            aip_complain(check,
                         "<AITarget %s>: AIBalancerAlgorithm semantic needs AIDescription in each "
                         "target (CATCHALL for "
                         "the one that takes the rest)",
                         targets->list[i]->name);
        }
    }
    aip_check_embeddings(check);
    aip_check_vectordb(check);
}

/* Words of a directive, or the name of a target. */
static void check_action(aip_check_t *check, int row, const char *value, const char *a,
                         const char *b)
{
    if (strcmp(value, a) != 0 && strcmp(value, b) != 0 &&
        aip_targets_find(check->conf->targets, value, strlen(value)) < 0) {
        aip_complain(check, "%s '%s' is neither %s, %s nor the name of a target of this section",
                     aip_location_table[row].directive, value, a, b);
    }
}

/* A threshold belongs to a route, which several targets may share. */
static void check_thresholds(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    const aip_targets_t *targets = check->conf->targets;
    for (int i = 0; i < targets->n; i++) {
        const aip_target_fields_t *t = &targets->list[i]->f;
        if (!t->set[AIP_T_route_threshold]) {
            continue;
        }
        if (t->description && strcmp(t->description, AIP_CATCHALL) == 0) {
            aip_complain(check,
                         "<AITarget %s>: AIRouteThreshold has no meaning with AIDescription "
                         "CATCHALL: what matches nothing has no distance to it",
                         targets->list[i]->name);
        }
        if (f->vectordb_distance_metric == AIP_METRIC_COSINE && t->route_threshold.value > 2) {
            aip_complain(check,
                         "<AITarget %s>: AIRouteThreshold %s: cosine distances lie between 0 and 2",
                         targets->list[i]->name, t->route_threshold.json);
        }
        for (int k = 0; k < i; k++) {
            const aip_target_fields_t *other = &targets->list[k]->f;
            if (other->set[AIP_T_route_threshold] && t->description && other->description &&
                strcmp(t->description, other->description) == 0 &&
                t->route_threshold.value != other->route_threshold.value) {
                aip_complain(check,
                             "<AITarget %s> and <AITarget %s> share one AIDescription, which is "
                             "one route, but their AIRouteThreshold differ: make them equal",
                             targets->list[k]->name, targets->list[i]->name);
            }
        }
    }
}

static void check_sticky(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (f->route_sticky.kind == AIP_STICKY_OFF) {
        return;
    }
    if (strcasecmp(f->route_cache, "none") == 0) {
        aip_complain(check, "AIRouteSticky keeps sessions in AIRouteCache, which is none here");
    } else if (strcasecmp(f->route_cache, "auto") == 0 && !aip_route_cache_known("shmcb")) {
        aip_complain(check, "AIRouteSticky keeps sessions in AIRouteCache, and mod_socache_shmcb "
                            "is not loaded: load it, or name another cache");
    }
}

void aip_check_cache(aip_check_t *check)
{
    const char *error = aip_route_cache_wanted(&check->conf->f)
                            ? aip_route_cache_declare(&check->conf->f, check->pool)
                            : NULL;
    if (error) {
        aip_complain(check, "%s", error);
    }
}

void aip_check_routing(aip_check_t *check)
{
    const aip_location_fields_t *f = &check->conf->f;
    if (f->balancer_algorithm == AIP_ALGORITHM_SEMANTIC) {
        check_semantic(check);
        check_thresholds(check);
        check_action(check, AIP_L_route_on_failure, f->route_on_failure, "catchall", "fail");
        check_action(check, AIP_L_route_on_ambiguous, f->route_on_ambiguous, "nearest", "catchall");
        if (strcmp(f->route_on_ambiguous, "catchall") == 0 && f->set[AIP_L_route_margin] &&
            check->conf->targets->routes->catchall < 0) {
            aip_complain(check,
                         "AIRouteOnAmbiguous catchall: no target has AIDescription CATCHALL");
        }
    }
    check_sticky(check);
    aip_check_cache(check);
}
