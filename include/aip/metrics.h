/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_METRICS_H
#define AIP_METRICS_H
/* Counters and histograms of targets and gateways, in memory that all children share and that
 * outlives graceful restarts. All zero: nothing has happened. Plain structs with atomics: whoever
 * counts and whoever reads takes no lock. */

#include "aip/aip.h"

typedef _Atomic(apr_uint64_t) aip_count_t;

/* ---- histograms ---- */

#define AIP_BUCKETS_MAX 16

/** Bounds of buckets. Values are whole numbers: tokens, or millionths of the unit that is shown. */
typedef enum aip_scale_e {
    AIP_SCALE_TOKENS,
    AIP_SCALE_DURATION,    /**< .01 to 81.92 s, each the double of the one before */
    AIP_SCALE_FIRST_TOKEN, /**< of gen_ai.server.time_to_first_token */
    AIP_SCALE_PER_TOKEN,   /**< of gen_ai.server.time_per_output_token */
    AIP_SCALE_SHORT,       /**< .1 ms to 10 s: what the gateway does itself */
    AIP_SCALE_SHORT_MS,    /**< the same, shown in milliseconds */
    AIP_SCALE_KONG_MS,     /**< .25 to 60 s, shown in milliseconds */
    AIP_SCALE_DISTANCE,
    AIP_SCALES
} aip_scale_e;

typedef struct aip_scale_t {
    int n;                   /**< bounds without the infinite one, at most AIP_BUCKETS_MAX */
    int digits;              /**< decimal places of the sum as it is shown */
    const apr_int64_t *upto; /**< inclusive, ascending */
    const char *const *text; /**< the same as the label `le` */
} aip_scale_t;

const aip_scale_t *aip_scale(aip_scale_e scale);

/** Counts by bucket, the last one without bound: how many there are in all follows from them, so
 * that no reader finds the two at odds. */
typedef struct aip_histogram_t {
    aip_count_t buckets[AIP_BUCKETS_MAX + 1], sum;
} aip_histogram_t;

/** What a reader found. */
typedef struct aip_snapshot_t {
    apr_uint64_t upto[AIP_BUCKETS_MAX + 1]; /**< cumulated; the one behind the last bound is the
                                               number of all */
    apr_uint64_t count, sum;
} aip_snapshot_t;

/** Negative values count as 0. */
void aip_histogram_add(aip_histogram_t *histogram, aip_scale_e scale, apr_int64_t value);

/** Adds what a histogram holds to `into`, which begins as all zero. */
void aip_histogram_read(const aip_histogram_t *histogram, aip_scale_e scale, aip_snapshot_t *into);

/* ---- series of a target ---- */

#define AIP_SERIES 16      /**< of each target, the one of all others included */
#define AIP_LABEL_BYTES 64 /**< longest text that comes from a client or an upstream */
#define AIP_ERROR_BYTES 32

/** The answers of a target that name one model, and failed in one way. Texts are settled once
 * `state` says so. */
typedef struct aip_series_t {
    _Atomic(apr_uint32_t) state;                /**< 0: free, 1: being claimed, 2: in use */
    char request_model[AIP_LABEL_BYTES + 1];    /**< "": the target's own */
    char response_model[AIP_LABEL_BYTES + 1];   /**< "": not known */
    char error_type[AIP_ERROR_BYTES + 1];       /**< "": no error */
    aip_histogram_t input, output;              /**< tokens, AIP_SCALE_TOKENS */
    aip_histogram_t duration;                   /**< AIP_SCALE_DURATION */
    aip_histogram_t first_token;                /**< AIP_SCALE_FIRST_TOKEN */
    aip_histogram_t per_token;                  /**< AIP_SCALE_PER_TOKEN */
    aip_count_t cached, cache_write, reasoning; /**< tokens, parts of input and output */
} aip_series_t;

/** Model names of the series of all others. */
#define AIP_SERIES_OTHER "other"

/**
 * The series of an answer; NULL texts are "". A new one is claimed without a lock; when all are
 * taken, or somebody died while claiming, it is the last one, which stands for all others.
 * @param table  aip_series_t[AIP_SERIES]
 */
aip_series_t *aip_series_find(aip_series_t *table, const char *request_model,
                              const char *response_model, const char *error_type);

bool aip_series_used(const aip_series_t *series);

/** Length of the well-formed UTF-8 sequence (RFC 3629) that a text, which is not empty, begins
 * with; 0: there is none. */
size_t aip_utf8_length(const char *text);

/** Copies what somebody else wrote for use as a label: at most `size` - 1 bytes; quotes,
 * backslashes, control bytes and what is not UTF-8 become '_'. */
void aip_label_clean(char *out, size_t size, const char *text);

/* ---- bounded words ---- */

#define AIP_CODES 52 /**< statuses that are told apart; the last one is all others */

/** Index of a status among those that are told apart. */
int aip_code_index(int status);

/** "200" ..., "other". */
const char *aip_code_text(int index);

#define AIP_OUTCOMES 16
#define AIP_CAUSES (AIP_OUTCOMES + 9) /**< outcomes, then why an answer was withheld */

/** What an attempt came to. @param outcome  aip_outcome_e @param status  the upstream's, 0: none
 * came */
int aip_cause_index(int outcome, int status);

/** "ok", "connect", ..., "http_503", "error_event"; "": no such outcome. */
const char *aip_cause_text(int index);

/* ---- the books ---- */

#define AIP_ROUTE_N_REASONS 8 /**< aip_reason_e */
#define AIP_ROUTE_N_CACHE 4   /**< aip_cache_state_e */

/** Causes of routing failures, as error codes; the last one stands for any other. */
#define AIP_ROUTE_FAILURES                                                                         \
    "embeddings_timeout", "embeddings_unreachable", "embeddings_status", "embeddings_response",    \
        "references_missing", "other"
#define AIP_ROUTE_N_FAILURES 6

typedef struct aip_target_metrics_t {
    aip_count_t requests, errors;                            /**< whose account names the target */
    aip_count_t prompt_tokens, completion_tokens, cost_pico; /**< of answers that were counted */
    aip_count_t codes[AIP_CODES];
    aip_count_t attempts[AIP_CAUSES];
    aip_count_t retries[AIP_CAUSES];            /**< attempts after which another one was made */
    aip_count_t decisions[AIP_ROUTE_N_REASONS]; /**< for the route whose first target it is */
    aip_histogram_t score;                      /**< distances of those, AIP_SCALE_DISTANCE */
    aip_histogram_t kong_latency[2];            /**< AIP_SCALE_KONG_MS: oneshot, stream */
    aip_series_t series[AIP_SERIES];
} aip_target_metrics_t;

/** What was decided, where the distances came from, and what failed. */
typedef struct aip_route_counts_t {
    aip_count_t reasons[AIP_ROUTE_N_REASONS];
    aip_count_t cache[AIP_ROUTE_N_CACHE];
    aip_count_t failures[AIP_ROUTE_N_FAILURES];
    aip_count_t store_errors; /**< the mirror answered for a store that was away */
} aip_route_counts_t;

/** How the distances of a prompt came about. */
typedef enum aip_embed_source_e {
    AIP_EMBED_CACHE,  /**< remembered */
    AIP_EMBED_STATIC, /**< in process */
    AIP_EMBED_REMOTE,
    AIP_EMBED_SHARED, /**< another request asked for the same at that moment */
    AIP_EMBED_SOURCES
} aip_embed_source_e;

typedef struct aip_gateway_metrics_t {
    aip_count_t requests;                       /**< all of them */
    aip_count_t codes[AIP_CODES];               /**< of those for which no target was tried */
    aip_count_t undecided[AIP_ROUTE_N_REASONS]; /**< decisions that led to no route */
    aip_route_counts_t routing;
    aip_histogram_t embedding[AIP_EMBED_SOURCES], search, overhead; /**< AIP_SCALE_SHORT */
} aip_gateway_metrics_t;

#endif
