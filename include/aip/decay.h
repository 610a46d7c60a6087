/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_DECAY_H
#define AIP_DECAY_H
/* Values that fade with time, for sums over a sliding window and for latencies. One 64-bit word
 * holds the value (float32) and the time of its last change (milliseconds, modulo 2^32), so that
 * processes share it without a lock. Reading needs no write. */

#include "aip/aip.h"
#include <apr_time.h>

/** All zero: nothing was ever put in. In memory that is shared by processes. */
typedef _Atomic(apr_uint64_t) aip_decay_t;

/** The value at `now`, faded by exp(-age / window); 0 when nothing was ever put in. A clock that
 * went back counts as age 0. @param window  time constant, > 0 */
double aip_decay_read(const aip_decay_t *decay, apr_time_t now, apr_interval_time_t window);

/** The value as it was put in last, not faded; -1 when nothing was ever put in. */
double aip_decay_last(const aip_decay_t *decay);

/** Time since the last change; APR_INT64_MAX when nothing was ever put in. Ages beyond 24 days are
 * told as 24 days. */
apr_interval_time_t aip_decay_age(const aip_decay_t *decay, apr_time_t now);

/** Fades the value and adds to it: a sum over roughly one window. @param amount  >= 0 */
void aip_decay_add(aip_decay_t *decay, double amount, apr_time_t now, apr_interval_time_t window);

/** Peak-sensitive exponentially weighted moving average (as in Finagle's PeakEwma): a sample above
 * the average replaces it; one below moves it by 1 - exp(-age / window). @param sample  >= 0 */
void aip_decay_sample(aip_decay_t *decay, double sample, apr_time_t now,
                      apr_interval_time_t window);

/** Replaces the value, as of `at`. */
void aip_decay_put(aip_decay_t *decay, double value, apr_time_t at);

#endif
