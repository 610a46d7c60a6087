/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_LAST_WORD_H
#define AIP_SRC_UPSTREAM_LAST_WORD_H
/* Private to src/upstream: what the client gets when there is nothing more to try. */

#include "sink.h"

/**
 * Ends the answer of the last attempt, or answers with a withheld one, or says that nobody
 * answered.
 * @param state  of the last attempt, NULL: there was none
 * @param kept  the last withheld answer; its response is NULL when there is none
 * @return as aip_upstream_run()
 */
int aip_last_word(aip_request_t *req, aip_sink_state_t *state, const aip_http1_result_t *result,
                  const aip_kept_t *kept, aip_error_t *err);

#endif
