/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ROUTE_H
#define AIP_ROUTE_H
/* Routes: the targets that share one description, the texts that prompts are compared with, and the
 * decision: a ranking of routes by distance. Pure. */

#include "aip/aip.h"
#include <apr_tables.h>

/** The description that marks the catch-all route. Exact, never embedded. */
#define AIP_CATCHALL "CATCHALL"

/** What a target contributes. */
typedef struct aip_route_source_t {
    const char *description;            /**< NULL: the target is in no route */
    const apr_array_header_t *examples; /**< const char *, or NULL */
    const double *threshold;            /**< of its route; NULL: the location's */
} aip_route_source_t;

typedef struct aip_route_t {
    const char *description;
    bool catchall;
    int n_targets, *targets; /**< indexes of the sources, configuration order */
    int n_texts, *texts;     /**< indexes into aip_routes_t.texts; none for the catch-all */
    const double *threshold; /**< its own, NULL: the location's */
} aip_route_t;

typedef struct aip_routes_t {
    int n;
    aip_route_t *routes; /**< configuration order of their first target */
    int n_texts;
    aip_span_t *texts; /**< every text once, in configuration order */
    int catchall;      /**< index of the catch-all route, or -1 */
} aip_routes_t;

/** Groups targets into routes: same description = same route; the examples of all its members are
 * its texts. */
aip_routes_t *aip_routes_create(const aip_route_source_t *sources, int n, apr_pool_t *pool);

/** The route with that description, or -1; NULL has none. */
int aip_routes_find(const aip_routes_t *routes, const char *description);

/** The route that a target (index of its source) is in, or -1. */
int aip_route_of_target(const aip_routes_t *routes, int target);

/** In the order of the words of AIRouteAggregate. */
typedef enum aip_aggregate_e {
    AIP_AGGREGATE_MAX, /**< similarity of the nearest text: an added text never lowers it */
    AIP_AGGREGATE_MEAN,
    AIP_AGGREGATE_TOPK_MEAN
} aip_aggregate_e;

/**
 * The distance of each route from those of its texts.
 * @param texts   float[routes->n_texts]
 * @param top_k   for AIP_AGGREGATE_TOPK_MEAN, >= 1
 * @param out     float[routes->n]; the catch-all's is -1
 */
void aip_routes_distances(const aip_routes_t *routes, const float *texts, aip_aggregate_e aggregate,
                          int top_k, float *out, apr_pool_t *pool);

typedef enum aip_reason_e {
    AIP_REASON_NONE,       /**< not routed by meaning */
    AIP_REASON_MATCH,      /**< the nearest route is within its threshold */
    AIP_REASON_CATCHALL,   /**< no route is */
    AIP_REASON_EMPTY,      /**< no prompt text: catch-all */
    AIP_REASON_AMBIGUOUS,  /**< two routes are about as near: AIRouteOnAmbiguous */
    AIP_REASON_FORCED,     /**< AIRouteForce: nothing was compared */
    AIP_REASON_STICKY,     /**< the session's target */
    AIP_REASON_EMBED_ERROR /**< no vector of the prompt: AIRouteOnFailure */
} aip_reason_e;

/** Lower-case word for logs: "none", "match", "catchall", "empty", "ambiguous", "forced", "sticky",
 * "embed_error". */
const char *aip_reason_name(aip_reason_e reason);

typedef struct aip_ranked_t {
    int route;
    float distance;
} aip_ranked_t;

/** What a location says about decisions. */
typedef struct aip_route_rules_t {
    const double *threshold;     /**< NULL: every route is eligible that has none of its own */
    double margin;               /**< 0: nothing is ambiguous */
    bool ambiguous_catchall;     /**< ambiguous: the catch-all goes first */
    const unsigned char *barred; /**< by target, not 0: must not be tried; a route that has no other
                                    takes no part. NULL: none is */
} aip_route_rules_t;

typedef struct aip_decision_t {
    aip_reason_e reason;
    int n; /**< eligible routes, nearest first; the catch-all, if any, is the last of them */
    aip_ranked_t *ranked;   /**< aip_routes_t.n entries; the catch-all's distance is -1 */
    int nearest;            /**< nearest route that is no catch-all, eligible or not; -1: none */
    float distance;         /**< its distance */
    const float *distances; /**< of all routes, the catch-all's is -1; NULL: nothing was compared */
} aip_decision_t;

/** Distances are float32: this much above the threshold still counts as equal to it. */
#define AIP_DISTANCE_EPSILON 1e-6

/** Whether some target of the route may be tried. */
bool aip_route_open(const aip_routes_t *routes, int route, const aip_route_rules_t *rules);

/** The threshold that holds for a route, NULL: none. */
const double *aip_route_threshold(const aip_routes_t *routes, int route,
                                  const aip_route_rules_t *rules);

/** Whether a route's distance is within its threshold; not what the catch-all's is for. */
bool aip_route_within(const aip_routes_t *routes, int route, float distance,
                      const aip_route_rules_t *rules);

/**
 * Ranks routes. Eligible iff distance <= threshold; equal distances keep configuration order; the
 * catch-all comes last. When another route's distance differs from the nearest eligible one's by
 * less than the margin the decision is ambiguous; the catch-all goes first then, if so ruled.
 * @param distances  float[routes->n]; kept by the decision
 */
void aip_decide(const aip_routes_t *routes, const float *distances, const aip_route_rules_t *rules,
                aip_decision_t *decision, apr_pool_t *pool);

/** The distance that goes with a description: that of its route, for the catch-all the nearest
 * one's; -1: none was measured. */
float aip_decision_distance(const aip_routes_t *routes, const aip_decision_t *decision,
                            const char *description);

/** A decision without distances: the catch-all route alone, if there is one. */
void aip_decide_catchall(const aip_routes_t *routes, aip_reason_e reason, aip_decision_t *decision,
                         apr_pool_t *pool);

#endif
