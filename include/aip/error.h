/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ERROR_H
#define AIP_ERROR_H
/* The one error object of a request. Units fill it, the glue renders it once: JSON for the client,
 * a log line for the operator. */

#include "aip/aip.h"

/** Error in the words of OpenAI's API reference (type, code, param). All strings live as long as
 * the pool they were made in. */
typedef struct aip_error_t {
    int status;          /**< HTTP status for the client; 0: no error */
    const char *type;    /**< "invalid_request_error", "upstream_error", "gateway_error" ... */
    const char *code;    /**< machine-readable word, or NULL */
    const char *param;   /**< the member of the request that is wrong, or NULL */
    const char *message; /**< one sentence; never holds prompt text, a vector or a secret */
} aip_error_t;

/**
 * Fills `err`; `fmt` is an apr_psprintf() format for the message.
 * @return APR_EGENERAL, so that a caller can write `return aip_error_set(...)`.
 */
apr_status_t aip_error_set(aip_error_t *err, apr_pool_t *pool, int status, const char *type,
                           const char *code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 7, 8)));

/** The JSON body for the client: {"error":{"message","type","param","code"}}, ended by a newline.
 * Allocated in `pool`. */
const char *aip_error_json(const aip_error_t *err, apr_pool_t *pool);

#endif
