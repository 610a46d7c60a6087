/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_SINK_H
#define AIP_SRC_UPSTREAM_SINK_H
/* Private to src/upstream: where the response of one attempt goes. */

#include "aip/mask.h"
#include "aip/reassembly.h"
#include "aip/sse.h"
#include "aip/upstream.h"

#include <util_filter.h>

/** An answer that was withheld, kept in case no other target does better; whole or not. */
typedef struct aip_kept_t {
    const aip_http1_response_t *response;
    const aip_target_t *target;
    aip_mask_t *mask;
    aip_answered_t answered; /**< as it was noted until then */
    char *body;
    apr_size_t len;
} aip_kept_t;

typedef struct aip_sink_state_t {
    aip_request_t *req;
    const aip_target_t *target;
    unsigned
        withhold; /**< criteria (http_* bits) whose status is kept back; 0 for the last candidate */
    const aip_http1_response_t *response;
    aip_kept_t *kept;
    bool hold_401, hold_403; /**< these are kept back: there may be a newer credential */
    bool refused;            /**< that has happened */
    bool withheld, committed, sse, failed; /**< failed: the client is gone */
    bool judged;      /**< a stream has brought content, its end, or an error */
    bool error_event; /**< a stream brought an error */
    bool error_body;  /**< another answer that was read is one, whatever its status */
    bool strip_usage, observe, payloads;
    aip_mask_t *mask; /**< secrets that must not come back to the client; NULL: none */
    aip_sse_t *events;
    aip_reassembly_t *whole; /**< of a stream whose payload is logged, else NULL */
    apr_bucket_brigade *out;
    apr_size_t held;
    apr_size_t text_bytes;    /**< of the text that was read, see aip_answer_t */
    apr_size_t told_at;       /**< so many of them had come when the target last told its usage */
    bool brought;             /**< content of any kind has come */
    apr_interval_time_t idle; /**< AITimeoutIdle, 0: off */
    apr_time_t idle_until;    /**< see aip_http1_limits_t */
    apr_time_t hold_until; /**< when another answer than a stream passes though it is not whole */
    char *copy;            /**< what observe/ reads afterwards */
    apr_size_t copied, copy_room;
} aip_sink_state_t;

/** Whether a stream of the target is asked for its token usage: it is counted, be it for the log or
 * for the algorithm, and the target is known to take the question. */
bool aip_sink_asks_usage(const aip_request_t *req, const aip_target_t *target);

/** A sink for one attempt. */
void aip_sink_init(aip_sink_state_t *state, aip_request_t *req, const aip_target_t *target,
                   unsigned withhold, aip_kept_t *kept);

/** The functions for the exchange. */
aip_http1_sink_t aip_sink_functions(aip_sink_state_t *state);

/** The exchange is over, however it ended: what was held back for the sake of the mask is not any
 * longer. */
void aip_sink_end(aip_sink_state_t *state);

/** Notes in req->answered what was learned of the answer, however it ended; a usage that was not
 * told is estimated. */
void aip_sink_note(aip_sink_state_t *state);

/** The exchange ended well: passes on the rest and the end. */
void aip_sink_finish(aip_sink_state_t *state);

/** The exchange broke after commit: a stream ends with an error event, another body is visibly cut.
 */
void aip_sink_cut(aip_sink_state_t *state, aip_outcome_e outcome);

/** Answers with what was kept. */
void aip_sink_replay(aip_request_t *req, const aip_kept_t *kept);

/** The criterion of a status, or 0. */
unsigned aip_status_criterion(int status);

#endif
