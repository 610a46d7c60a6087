/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_HISTORY_H
#define AIP_HISTORY_H
/* What the status page shows of the recent past, in memory that all children share and that
 * outlives graceful restarts: the last hour by minutes, the last decisions, the last errors. All
 * zero: nothing has happened. Bounded, without a lock; who reads while others write may miss or
 * half-see the newest entry of a minute, and never sees half an entry of a ring.
 *
 * Names are kept as digests: what the configuration no longer has cannot be taken for what came in
 * its place. */

#include "aip/aip.h"
#include <apr_time.h>

#define AIP_HISTORY_MINUTES 60
#define AIP_HISTORY_DECISIONS 64
#define AIP_HISTORY_ERRORS 8

/** What is added up by the minute. */
typedef enum aip_figure_e {
    AIP_FIGURE_REQUESTS,
    AIP_FIGURE_ERRORS,
    AIP_FIGURE_PROMPT_TOKENS,
    AIP_FIGURE_COMPLETION_TOKENS,
    AIP_FIGURE_COST_PICO,
    AIP_FIGURE_TOTAL_US,     /**< of all requests */
    AIP_FIGURE_FIRST_TOKENS, /**< requests that had a first token */
    AIP_FIGURE_FIRST_TOKEN_US,
    AIP_FIGURE_ATTEMPTS,
    AIP_FIGURE_FAILURES, /**< attempts that went wrong */
    AIP_FIGURE_CHOSEN,   /**< requests whose first candidate it was */
    AIP_FIGURES
} aip_figure_e;

typedef struct aip_minute_t {
    _Atomic(apr_uint64_t) stamp; /**< twice the minute since 1970; odd: is being emptied */
    _Atomic(apr_uint64_t) figures[AIP_FIGURES];
} aip_minute_t;

/** A ring's entry: a plain struct in words that are read and written one by one. */
#define AIP_RECORD_WORDS 11
typedef struct aip_record_t {
    _Atomic(apr_uint64_t) ticket; /**< of its writer; 0: is being written, or never was */
    _Atomic(apr_uint64_t) check;  /**< over ticket and words: writers may meet in one entry */
    _Atomic(apr_uint64_t) words[AIP_RECORD_WORDS];
} aip_record_t;

/** Where a request went and why. Digests are those of aip_history_digest(). */
typedef struct aip_decided_t {
    apr_time_t at;             /**< end of the request */
    apr_uint64_t target;       /**< of the name of the account's target; 0: none */
    apr_uint64_t route;        /**< of the description of the first candidate's route; 0: none */
    apr_uint64_t nearest;      /**< of the nearest route's description; 0: none was compared */
    apr_interval_time_t total; /**< time that the request took */
    float distance;            /**< of `route`; < 0: none */
    float nearest_distance;    /**< < 0: none */
    float threshold;           /**< that held for `route`; < 0: none */
    apr_int32_t attempts;
    apr_int32_t status; /**< what the client got */
    unsigned char reason, cache, sticky, degraded;
} aip_decided_t;

#define AIP_FAULT_WORD 40

/** What went wrong at a target. */
typedef struct aip_fault_t {
    apr_time_t at;
    apr_int32_t status;        /**< the upstream's; 0: none came */
    char word[AIP_FAULT_WORD]; /**< outcome or error word, cut to fit */
} aip_fault_t;

typedef struct aip_target_history_t {
    aip_minute_t minutes[AIP_HISTORY_MINUTES];
    _Atomic(apr_uint64_t) n_errors;
    aip_record_t errors[AIP_HISTORY_ERRORS];
} aip_target_history_t;

typedef struct aip_gateway_history_t {
    aip_minute_t minutes[AIP_HISTORY_MINUTES];
    _Atomic(apr_uint64_t) n_decisions;
    aip_record_t decisions[AIP_HISTORY_DECISIONS];
    _Atomic(apr_int64_t) embed_failed_at; /**< 0: never */
    _Atomic(apr_uint32_t) embed_failure;  /**< index of AIP_ROUTE_FAILURES */
} aip_gateway_history_t;

/** Figures of one request, or of the minutes of an hour. */
typedef struct aip_figures_row_t {
    apr_uint64_t figures[AIP_FIGURES];
} aip_figures_row_t;

/** Never 0; NULL: 0. */
apr_uint64_t aip_history_digest(const char *name);

/** Adds to the minute of `now`; empties it first if it is one of an hour ago. */
void aip_history_add(aip_minute_t *minutes, const aip_figures_row_t *row, apr_time_t now);

/** The last hour: rows[0] is the oldest minute, rows[AIP_HISTORY_MINUTES - 1] that of `now`. */
void aip_history_read(const aip_minute_t *minutes, apr_time_t now,
                      aip_figures_row_t rows[AIP_HISTORY_MINUTES]);

void aip_history_sum(const aip_figures_row_t rows[AIP_HISTORY_MINUTES], aip_figures_row_t *sum);

void aip_history_decided(aip_gateway_history_t *history, const aip_decided_t *decided);
void aip_history_fault(aip_target_history_t *history, const aip_fault_t *fault);

/** Newest first. @return how many */
int aip_history_decisions(const aip_gateway_history_t *history,
                          aip_decided_t out[AIP_HISTORY_DECISIONS]);
int aip_history_faults(const aip_target_history_t *history, aip_fault_t out[AIP_HISTORY_ERRORS]);

#endif
