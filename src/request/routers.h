/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_REQUEST_ROUTERS_H
#define AIP_SRC_REQUEST_ROUTERS_H
/* Private to src/request: the routers of this child. */

#include "aip/request.h"

typedef struct aip_router_entry_t {
    aip_router_t *router;           /**< NULL: it could not be started, which was logged */
    const aip_endpoint_t *endpoint; /**< of the embeddings provider; NULL: local */
} aip_router_entry_t;

/** The router of a request's merged configuration, started now if there is none yet. Thread-safe.
 */
const aip_router_entry_t *aip_router_of(const aip_request_t *req);

#endif
