/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_REQUEST_ROUTERS_H
#define AIP_SRC_REQUEST_ROUTERS_H
/* Private to src/request: the parts of the routing stage, and the routers of this child. */

#include "aip/request.h"

typedef struct aip_router_entry_t {
    aip_router_t *router;           /**< NULL: it could not be started, which was logged */
    const aip_endpoint_t *endpoint; /**< of the embeddings provider; NULL: local */
    const char *key;                /**< hex digest of all that distances of routes depend on, but
                                       for the prompt and the aggregate */
} aip_router_entry_t;

/** The router of a request's merged configuration, started now if there is none yet. Thread-safe.
 */
const aip_router_entry_t *aip_router_of(const aip_request_t *req);

/** Which targets may take the request; AIP_REASON_FORCED when AIRouteForce chose. */
apr_status_t aip_guards(aip_request_t *req, aip_error_t *err);

/** Nobody among the candidates may take the request. @return APR_EGENERAL */
apr_status_t aip_guards_refuse(const aip_request_t *req, aip_error_t *err);

/** The decision by distances, from the cache where it can. */
apr_status_t aip_decide_request(aip_request_t *req, aip_error_t *err);

/** Finds the request's session. */
apr_status_t aip_session_find(aip_request_t *req, aip_error_t *err);

/** Lets the session's target stand before the decision, unless another one is nearer by
 * AIRouteStickyMargin. */
void aip_session_apply(aip_request_t *req);

#endif
