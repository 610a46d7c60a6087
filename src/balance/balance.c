/* SPDX-License-Identifier: Apache-2.0 */
/* Weighted round-robin and the candidate list of a ranking. A wheel is made once per configuration
 * and shared by all requests; appending costs no walk over the period. */
#include "aip/balance.h"

#include <math.h>

struct aip_wheel_t {
    int n;
    int *by_weight; /* heaviest first, configuration order among equals */
    int *weights;   /* in the order of by_weight */
    int period;
    int *turns; /* target of each tick of the period */
};

static int gcd(int a, int b)
{
    return b ? gcd(b, a % b) : a;
}

/* Weights reduced by their common divisor and scaled so that their sum fits the period. */
static int reduce(const int *targets, int n, const int *weights, int *reduced)
{
    int divisor = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        divisor = gcd(divisor, weights[targets[i]]);
    }
    double total = 0;
    for (int i = 0; i < n; i++) {
        total += weights[targets[i]] / divisor;
    }
    for (int i = 0; i < n; i++) {
        int w = weights[targets[i]] / divisor;
        if (total > AIP_WHEEL_SLOTS) {
            w = (int)(w * (AIP_WHEEL_SLOTS / total));
        }
        reduced[i] = w > 0 ? w : 1;
        sum += reduced[i];
    }
    return sum;
}

static void fill_turns(aip_wheel_t *wheel, const int *targets, const int *reduced, apr_pool_t *pool)
{
    int *current = apr_pcalloc(pool, (apr_size_t)wheel->n * sizeof(int));
    for (int t = 0; t < wheel->period; t++) {
        int best = 0;
        for (int i = 0; i < wheel->n; i++) {
            current[i] += reduced[i];
            best = current[i] > current[best] ? i : best;
        }
        current[best] -= wheel->period;
        wheel->turns[t] = targets[best];
    }
}

aip_wheel_t *aip_wheel_create(const int *targets, int n, const int *weights, apr_pool_t *pool)
{
    aip_wheel_t *wheel = apr_pcalloc(pool, sizeof *wheel);
    int *reduced = apr_pcalloc(pool, (apr_size_t)n * sizeof(int));
    wheel->n = n;
    wheel->by_weight = apr_pcalloc(pool, (apr_size_t)n * sizeof(int));
    for (int i = 0; i < n; i++) {
        int k = i;
        for (; k > 0 && weights[wheel->by_weight[k - 1]] < weights[targets[i]]; k--) {
            wheel->by_weight[k] = wheel->by_weight[k - 1];
        }
        wheel->by_weight[k] = targets[i];
    }
    wheel->weights = apr_pcalloc(pool, (apr_size_t)n * sizeof(int));
    for (int i = 0; i < n; i++) {
        wheel->weights[i] = weights[wheel->by_weight[i]];
    }
    wheel->period = reduce(targets, n, weights, reduced);
    wheel->turns = apr_pcalloc(pool, (apr_size_t)wheel->period * sizeof(int));
    fill_turns(wheel, targets, reduced, pool);
    return wheel;
}

/* Who gets a turn of a target that is not available: a draw by weight among those that are. The
 * draws are spread evenly: over one period by the place of the turn in it, over periods by
 * multiples of the golden ratio (a Weyl sequence). @return -1: nobody is available */
static int draw(const aip_wheel_t *wheel, apr_uint32_t tick, const aip_availability_e *look)
{
    const double golden = 0.6180339887498949;
    apr_uint32_t period = (apr_uint32_t)wheel->period;
    double sum = 0, place = (double)(tick / period) * golden + (double)(tick % period) / period;
    for (int i = 0; i < wheel->n; i++) {
        sum += look[wheel->by_weight[i]] == AIP_AVAILABLE ? wheel->weights[i] : 0;
    }
    double left = (place - floor(place)) * sum;
    int drawn = -1;
    for (int i = 0; i < wheel->n && left >= 0; i++) {
        if (look[wheel->by_weight[i]] == AIP_AVAILABLE) {
            drawn = wheel->by_weight[i];
            left -= wheel->weights[i];
        }
    }
    return drawn;
}

void aip_wheel_append(const aip_wheel_t *wheel, apr_uint32_t tick, const aip_availability_e *look,
                      aip_candidates_t *candidates)
{
    int first = wheel->turns[tick % (apr_uint32_t)wheel->period];
    if (look && look[first] != AIP_AVAILABLE) {
        int drawn = draw(wheel, tick, look);
        first = drawn >= 0 ? drawn : first;
    }
    candidates->targets[candidates->n++] = first;
    for (int i = 0; i < wheel->n; i++) {
        if (wheel->by_weight[i] != first) {
            candidates->targets[candidates->n++] = wheel->by_weight[i];
        }
    }
}

void aip_candidates_ranked(const aip_decision_t *decision, aip_wheel_t *const *wheels,
                           const apr_uint32_t *ticks, const aip_availability_e *look,
                           aip_candidates_t *candidates)
{
    for (int i = 0; i < decision->n; i++) {
        int route = decision->ranked[i].route;
        aip_wheel_append(wheels[route], ticks[route], look, candidates);
    }
}

void aip_candidates_filter(aip_candidates_t *candidates, const aip_availability_e *availability)
{
    int *t = candidates->targets, n = 0;
    for (int i = 0; i < candidates->n; i++) {
        if (availability[t[i]] <= AIP_EJECTED) {
            t[n++] = t[i];
        }
    }
    candidates->n = candidates->healthy = n;
    for (int i = 0; i < candidates->healthy;) {
        if (availability[t[i]] == AIP_EJECTED) {
            aip_candidates_defer(candidates, i);
        } else {
            i++;
        }
    }
}

void aip_candidates_defer(aip_candidates_t *candidates, int i)
{
    int *t = candidates->targets, target = t[i];
    for (; i + 1 < candidates->n; i++) {
        t[i] = t[i + 1];
    }
    t[i] = target;
    candidates->healthy--;
}
