/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ACCOUNT_H
#define AIP_ACCOUNT_H
/* Glue: the account of a finished request. It is made once, before anything is logged; the
 * statistics log, log items, environment, metrics, traces and the status page all read it, so that
 * their figures agree. */

#include "aip/request.h"

/** Times are microseconds; -1: there is none. */
struct aip_account_t {
    const aip_target_t *target; /**< that answered, else the last that was tried, else NULL */
    int status;                 /**< what the client got */
    const char *error_type; /**< NULL: all went well. Else a word of a bounded set: the code of our
                               own error, the outcome that cut an answer, or an upstream's status */
    aip_usage_t usage;      /**< see aip_answered_t */
    bool counted;           /**< the answer was read for its usage, which is part of all totals */
    bool priced;            /**< both prices are set and both counts are known */
    apr_int64_t cost_pico;  /**< 10^-12 of the currency of the prices; 0 unless priced */
    apr_time_t end;         /**< the answer was handed to httpd in full */
    apr_interval_time_t total;       /**< from the request's first line to `end` */
    apr_interval_time_t upstream;    /**< of all attempts, the time a slow client took included */
    apr_interval_time_t embedding;   /**< -1: nothing was embedded for this request */
    apr_interval_time_t search;      /**< -1: no distances were computed for it */
    apr_interval_time_t overhead;    /**< what the gateway itself took: total without reading the
                                        client's body, embedding, search, upstream, and handing
                                        over what was held of the answer */
    apr_interval_time_t first_token; /**< from the request's start to the first piece of content of
                                        a stream */
    apr_interval_time_t per_token;   /**< (total - first_token) / (completion tokens - 1) of a
                                        stream, as gen_ai.server.time_per_output_token */
};
typedef struct aip_account_t aip_account_t;

/** log_transaction, first of all: closes the account of a request of ours and tells all who keep
 * books. A dry run has none. */
int aip_account_close(request_rec *r);

/** Adds the account to the books of its target and gateway. */
void aip_metrics_count(const aip_request_t *req, const aip_account_t *account);

#endif
