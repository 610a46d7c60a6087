/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_BALANCE_H
#define AIP_BALANCE_H
/* Candidate lists: every algorithm returns the targets of a location in the order in which they
 * shall be tried. Pure; the caller owns the counters, which may lie in shared memory. */

#include "aip/health.h"
#include "aip/route.h"

/** Targets in the order in which they shall be tried, each at most once. */
typedef struct aip_candidates_t {
    int n;
    int *targets;
    int healthy; /**< so many at the front need admission; those behind are a last resort */
} aip_candidates_t;

/** Smooth weighted round-robin (the algorithm of nginx's ngx_http_upstream_round_robin) over a few
 * targets, unrolled into one period, so that a shared counter is all the state there is. */
typedef struct aip_wheel_t aip_wheel_t;

#define AIP_WHEEL_SLOTS                                                                            \
    10000 /**< longest period; weights are scaled down to fit, no weight below 1 */

/** @param weights  indexed by target, 1..65535 */
aip_wheel_t *aip_wheel_create(const int *targets, int n, const int *weights, apr_pool_t *pool);

/**
 * Appends the wheel's targets: the one whose turn it is at `tick`, then the others by weight. The
 * turns of targets that are not available go to the others by weight.
 * @param look  by target; NULL: all are available
 */
void aip_wheel_append(const aip_wheel_t *wheel, apr_uint32_t tick, const aip_availability_e *look,
                      aip_candidates_t *candidates);

/** What an algorithm looks at, one per target. */
typedef struct aip_load_t {
    int weight;
    apr_uint32_t in_flight;
    double usage;                    /**< recent usage of the kind asked for, all machines */
    double latency;                  /**< microseconds of the kind asked for; < 0: not measured */
    apr_interval_time_t latency_age; /**< since it was measured */
    double failures;                 /**< recent ones, faded like usage */
    bool unavailable;                /**< needs no probe of its latency */
} aip_load_t;

/* Scores, one per target, the least is best. */

/** Weighted least connections: (in flight + 1) / weight. */
void aip_score_connections(const aip_load_t *loads, int n, double *scores);

/** Usage / weight. Requests in flight, whose usage is not known yet, count as much as the answers
 * so far did on average, and a failure as much as AIP_REPROBE_TURNS of them: a target that only
 * fails uses nothing. @param typical  usage of one answer */
void aip_score_usage(const aip_load_t *loads, int n, double typical, double *scores);

/** Latency / weight. A target that was never measured goes first, unless it has a request in
 * flight: then it counts as the average of the others. At every AIP_REPROBE_TURNS-th tick the
 * available target that was measured longest ago goes first. */
void aip_score_latency(const aip_load_t *loads, int n, apr_uint32_t tick, double *scores);

#define AIP_REPROBE_TURNS 50

/** A slot of the ring that a key belongs to. @return 0..slots-1 */
apr_uint32_t aip_hash_slot(aip_span_t key, apr_uint32_t slots);

/** Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and
 * Schomaker 2005) of a slot over targets known by `names`: a target that leaves gives its slots to
 * the others by weight, and no other slot moves; nor does the order of the configuration matter.
 */
void aip_score_hash(apr_uint32_t slot, const char *const *names, const int *weights, int n,
                    double *scores);

/** Sorts by score; equal ones keep their order. @param scores  by target */
void aip_candidates_sort(aip_candidates_t *candidates, const double *scores);

/** Takes out what must not be tried and puts ejected targets last; sets `healthy`. The order is
 * kept otherwise. @param availability  by target */
void aip_candidates_filter(aip_candidates_t *candidates, const aip_availability_e *availability);

/** The healthy candidate at `i` was not admitted: it becomes the last of the last resort. */
void aip_candidates_defer(aip_candidates_t *candidates, int i);

/** Members of each ranked route in turn. @param wheels  one per route @param ticks  one per route
 * @param look  as for aip_wheel_append() */
void aip_candidates_ranked(const aip_decision_t *decision, aip_wheel_t *const *wheels,
                           const apr_uint32_t *ticks, const aip_availability_e *look,
                           aip_candidates_t *candidates);

#endif
