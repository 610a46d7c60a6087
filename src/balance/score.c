/* SPDX-License-Identifier: Apache-2.0 */
/* The algorithms that compare targets: each gives a score to every target, the least is best. Pure;
 * called once per request with what the shared state holds at that moment. */
#include "aip/balance.h"

#include <math.h>
#include <string.h>

#define GOLDEN 0x9e3779b97f4a7c15u

void aip_score_connections(const aip_load_t *loads, int n, double *scores)
{
    for (int i = 0; i < n; i++) {
        scores[i] = ((double)loads[i].in_flight + 1) / loads[i].weight;
    }
}

void aip_score_usage(const aip_load_t *loads, int n, double typical, double *scores)
{
    for (int i = 0; i < n; i++) {
        double unknown = loads[i].in_flight + AIP_REPROBE_TURNS * loads[i].failures;
        scores[i] = (loads[i].usage + unknown * typical) / loads[i].weight;
    }
}

/* Average of what was measured; 0 when nothing was. */
static double mean_latency(const aip_load_t *loads, int n)
{
    double sum = 0;
    int measured = 0;
    for (int i = 0; i < n; i++) {
        if (loads[i].latency >= 0) {
            sum += loads[i].latency;
            measured++;
        }
    }
    return measured ? sum / measured : 0;
}

/* @return -1: none that is available was measured */
static int measured_longest_ago(const aip_load_t *loads, int n)
{
    int oldest = -1;
    for (int i = 0; i < n; i++) {
        if (loads[i].latency >= 0 && !loads[i].unavailable &&
            (oldest < 0 || loads[i].latency_age > loads[oldest].latency_age)) {
            oldest = i;
        }
    }
    return oldest;
}

void aip_score_latency(const aip_load_t *loads, int n, apr_uint32_t tick, double *scores)
{
    double mean = mean_latency(loads, n);
    for (int i = 0; i < n; i++) {
        if (loads[i].latency >= 0) {
            scores[i] = loads[i].latency / loads[i].weight;
        } else {
            scores[i] = loads[i].in_flight ? mean / loads[i].weight : -1;
        }
    }
    int oldest = measured_longest_ago(loads, n);
    if (oldest >= 0 && tick % AIP_REPROBE_TURNS == AIP_REPROBE_TURNS - 1) {
        scores[oldest] = -2;
    }
}

/* The finalizer of SplitMix64 (Steele, Lea, Flood 2014). */
static apr_uint64_t mix(apr_uint64_t x)
{
    x += GOLDEN;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* FNV-1a, whose low bits alone are not good enough, finished by mix(). */
static apr_uint64_t hash(const char *data, size_t len)
{
    apr_uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (unsigned char)data[i]) * 0x100000001b3u;
    }
    return mix(h);
}

apr_uint32_t aip_hash_slot(aip_span_t key, apr_uint32_t slots)
{
    return (apr_uint32_t)(hash(key.data, key.len) % slots);
}

void aip_score_hash(apr_uint32_t slot, const char *const *names, const int *weights, int n,
                    double *scores)
{
    for (int i = 0; i < n; i++) {
        apr_uint64_t h = mix(hash(names[i], strlen(names[i])) ^ mix(slot));
        double u = ((double)(h >> 11) + 0.5) / 9007199254740992.0; /* 2^53: inside (0, 1) */
        scores[i] = -log(u) / weights[i];
    }
}

void aip_candidates_sort(aip_candidates_t *candidates, const double *scores)
{
    int *t = candidates->targets;
    for (int i = 1; i < candidates->n; i++) {
        int target = t[i], k = i;
        for (; k > 0 && scores[t[k - 1]] > scores[target]; k--) {
            t[k] = t[k - 1];
        }
        t[k] = target;
    }
}
