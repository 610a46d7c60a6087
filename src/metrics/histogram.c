/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms: bounds of buckets, counting, reading. Counting is two additions, in the thread of a
 * request; nothing orders them, since a reader may come between any two of them anyway. */
#include "aip/metrics.h"

#include <stdatomic.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

/* https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ (v1.41) */
static const apr_int64_t tokens[] = {1,     4,     16,     64,      256,     1024,     4096,
                                     16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
static const char *const tokens_text[] = {
    "1",     "4",     "16",     "64",           "256",          "1024",          "4096",
    "16384", "65536", "262144", "1.048576e+06", "4.194304e+06", "1.6777216e+07", "6.7108864e+07"};

static const apr_int64_t duration[] = {10000,    20000,    40000,    80000,   160000,
                                       320000,   640000,   1280000,  2560000, 5120000,
                                       10240000, 20480000, 40960000, 81920000};
static const char *const duration_text[] = {"0.01",  "0.02",  "0.04",  "0.08", "0.16",
                                            "0.32",  "0.64",  "1.28",  "2.56", "5.12",
                                            "10.24", "20.48", "40.96", "81.92"};

static const apr_int64_t first_token[] = {1000,    5000,    10000,   20000,   40000,  60000,
                                          80000,   100000,  250000,  500000,  750000, 1000000,
                                          2500000, 5000000, 7500000, 10000000};
static const char *const first_token_text[] = {"0.001", "0.005", "0.01", "0.02", "0.04", "0.06",
                                               "0.08",  "0.1",   "0.25", "0.5",  "0.75", "1",
                                               "2.5",   "5",     "7.5",  "10"};

static const apr_int64_t per_token[] = {10000,  25000,  50000,  75000,  100000,  150000, 200000,
                                        300000, 400000, 500000, 750000, 1000000, 2500000};
static const char *const per_token_text[] = {"0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.2",
                                             "0.3",  "0.4",   "0.5",  "0.75",  "1",   "2.5"};

static const apr_int64_t brief[] = {100,     250,     500,     1000,    2500,   5000,
                                    10000,   25000,   50000,   100000,  250000, 500000,
                                    1000000, 2500000, 5000000, 10000000};
static const char *const brief_text[] = {"0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005",
                                         "0.01",   "0.025",   "0.05",   "0.1",   "0.25",   "0.5",
                                         "1",      "2.5",     "5",      "10"};
static const char *const brief_ms_text[] = {"0.1",  "0.25", "0.5",  "1",    "2.5", "5",
                                            "10",   "25",   "50",   "100",  "250", "500",
                                            "1000", "2500", "5000", "10000"};

/* kong/plugins/prometheus/exporter.lua */
static const apr_int64_t kong[] = {250000,  500000,   1000000,  1500000, 2000000,
                                   2500000, 3000000,  3500000,  4000000, 4500000,
                                   5000000, 10000000, 30000000, 60000000};
static const char *const kong_text[] = {"250",  "500",  "1000", "1500", "2000",  "2500",  "3000",
                                        "3500", "4000", "4500", "5000", "10000", "30000", "60000"};

static const apr_int64_t distance[] = {50000,  100000, 150000,  200000, 250000, 300000,
                                       350000, 400000, 450000,  500000, 600000, 700000,
                                       800000, 900000, 1000000, 2000000};
static const char *const distance_text[] = {"0.05", "0.1", "0.15", "0.2", "0.25", "0.3",
                                            "0.35", "0.4", "0.45", "0.5", "0.6",  "0.7",
                                            "0.8",  "0.9", "1",    "2"};

static const aip_scale_t scales[AIP_SCALES] = {
    [AIP_SCALE_TOKENS] = {COUNT(tokens), 0, tokens, tokens_text},
    [AIP_SCALE_DURATION] = {COUNT(duration), 6, duration, duration_text},
    [AIP_SCALE_FIRST_TOKEN] = {COUNT(first_token), 6, first_token, first_token_text},
    [AIP_SCALE_PER_TOKEN] = {COUNT(per_token), 6, per_token, per_token_text},
    [AIP_SCALE_SHORT] = {COUNT(brief), 6, brief, brief_text},
    [AIP_SCALE_SHORT_MS] = {COUNT(brief), 3, brief, brief_ms_text},
    [AIP_SCALE_KONG_MS] = {COUNT(kong), 3, kong, kong_text},
    [AIP_SCALE_DISTANCE] = {COUNT(distance), 6, distance, distance_text},
};

const aip_scale_t *aip_scale(aip_scale_e scale)
{
    return &scales[scale];
}

void aip_histogram_add(aip_histogram_t *histogram, aip_scale_e scale, apr_int64_t value)
{
    const aip_scale_t *s = &scales[scale];
    int i = 0;
    value = value > 0 ? value : 0;
    while (i < s->n && value > s->upto[i]) {
        i++;
    }
    /* The sum first: a reader that finds the count finds what it counts. */
    atomic_fetch_add_explicit(&histogram->sum, (apr_uint64_t)value, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->buckets[i], 1, memory_order_release);
}

void aip_histogram_read(const aip_histogram_t *histogram, aip_scale_e scale, aip_snapshot_t *into)
{
    const aip_scale_t *s = &scales[scale];
    apr_uint64_t n = 0;
    for (int i = 0; i <= s->n; i++) {
        n += atomic_load_explicit(&histogram->buckets[i], memory_order_acquire);
        into->upto[i] += n;
    }
    into->count += n;
    into->sum += atomic_load_explicit(&histogram->sum, memory_order_relaxed);
}
