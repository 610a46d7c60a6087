/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_NET_FETCH_EGRESS_H
#define AIP_SRC_NET_FETCH_EGRESS_H
/* Private to src/net: the rules of egress on a libcurl handle. */

#include "aip/fetch.h"

#include <curl/curl.h>

typedef struct aip_fetch_egress_t {
    const aip_fetch_t *fetch;
    const char *host;
    bool proxied;
    struct curl_slist *proxy_headers; /* the caller's to free, when the call is over */
    aip_address_e refused;            /* out: the last address that was not gone to */
} aip_fetch_egress_t;

/** Sets proxy, authorities, versions, client certificate and the look at addresses. `state` lives
 * as long as the handle. @return false: the URL may not be fetched, err says why */
bool aip_fetch_egress_set(CURL *curl, aip_fetch_egress_t *state, apr_pool_t *pool,
                          aip_error_t *err);

/** Why a call failed, in words without the host. */
const char *aip_fetch_reason(CURL *curl, CURLcode code, const aip_fetch_egress_t *state,
                             const char *said, apr_pool_t *pool);

#endif
