/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_FETCH_H
#define AIP_FETCH_H
/* One HTTP request in the background, over libcurl. Never on a request's path: a fresh TLS handle
 * reads a CA bundle. */

#include "aip/egress.h"
#include "aip/error.h"

typedef struct aip_fetch_t {
    const char *url;
    const char *method;         /**< NULL: POST with a body, else GET */
    const char *const *headers; /**< "Name: value", ended by NULL; may be NULL */
    aip_span_t body;            /**< sent as it is; data NULL: none */
    const aip_egress_t *egress; /**< NULL: no proxy, the system's CA bundle */
    bool local; /**< a metadata service of this machine: no proxy, link-local addresses allowed */
    size_t max; /**< longest body of an answer; 0: AIP_FETCH_BODY_MAX */
    apr_interval_time_t timeout;
    const volatile apr_uint32_t *stop; /**< not 0: give up; may be NULL */
    apr_interval_time_t grace;         /**< how long it may go on after that */
    apr_interval_time_t *retry_after;  /**< out: what the answer says of it, else left alone; may be
                                          NULL */
} aip_fetch_t;

#define AIP_FETCH_BODY_MAX (64u << 20)

/**
 * @param status  out: HTTP status
 * @param answer  out: body, allocated in `pool`
 * @return APR_SUCCESS for any complete HTTP answer; else err->message names host-free reasons
 * (libcurl's words)
 */
apr_status_t aip_fetch(const aip_fetch_t *fetch, int *status, aip_span_t *answer, apr_pool_t *pool,
                       aip_error_t *err);

#endif
