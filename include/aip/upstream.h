/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_UPSTREAM_H
#define AIP_UPSTREAM_H
/* Glue: from the candidate list to an answer at the client. */

#include "aip/request.h"

/**
 * Tries the candidates in order until one is committed; then its answer has gone to the client.
 * @return OK or DONE: answered, or the client is gone; DECLINED: nothing has reached the client,
 * `err` says what to answer
 */
int aip_upstream_run(aip_request_t *req, aip_error_t *err);

/** The endpoint, credential and body of an embeddings call on the request path; the vector comes
 * back.
 * @param vector  out, float[dims] */
apr_status_t aip_embed_call(aip_request_t *req, aip_router_t *router,
                            const aip_endpoint_t *endpoint, aip_span_t text, float *vector,
                            aip_error_t *err);

#endif
