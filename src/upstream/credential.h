/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_UPSTREAM_CREDENTIAL_H
#define AIP_SRC_UPSTREAM_CREDENTIAL_H
/* Private to src/upstream: the credential of one attempt, in the request's pool. */

#include "aip/cloud_source.h"
#include "aip/mask.h"
#include "aip/upstream.h"

typedef struct aip_credential_t {
    const aip_endpoint_t *endpoint;         /**< where the attempt goes */
    const char *fields;                     /**< header fields, each with its line end; "": none */
    const char *header_name, *header_value; /**< what they were made of; NULL: none */
    const char *param;                      /**< "name=value", encoded, for the query; NULL: none */
    const char *param_value;                /**< what they were resolved to */
    aip_span_t body_value;                  /**< of the member in the body; data NULL: none */
    const char *token;                      /**< of a cloud identity, or NULL */
    aip_aws_keys_t aws;                     /**< access_key NULL: the request is not signed */
    bool clients;                           /**< the header is the client's own */
    bool clients_param;                     /**< the parameter is */
} aip_credential_t;

/** Resolves it. Errors: 503, a secret has no value or one that cannot be used. */
apr_status_t aip_credential_read(const aip_request_t *req, const aip_target_t *target,
                                 aip_credential_t *credential, aip_error_t *err);

/** Where an attempt at the target goes. Errors: 400 and 403 of a URL that the request is to fill
 * in. */
apr_status_t aip_destination(const aip_request_t *req, const aip_target_t *target,
                             const aip_endpoint_t **endpoint, aip_error_t *err);

/** Whether a target that refuses it (401) may know a newer one. */
bool aip_credential_renewable(const aip_target_t *target, const aip_credential_t *credential);

/** After a 401: has the vault asked once more, and waits for it. @return whether `credential` is
 * another now */
bool aip_credential_renew(const aip_request_t *req, const aip_target_t *target,
                          aip_credential_t *credential);

/** Overwrites a request head that held one. */
void aip_credential_wipe(const aip_span_t *head);

/** What a target's answer is searched for: the operator's secrets in it, not a client's own.
 * @return NULL: none */
aip_mask_t *aip_credential_mask(const aip_credential_t *credential, apr_pool_t *pool);

/** A query parameter of the client, fit to stand in another query; or NULL. */
const char *aip_client_param(const aip_request_t *req, const char *name);

/** Request line and header fields for one attempt at a target, signed if it has to be; data NULL:
 * it cannot be. */
aip_span_t aip_request_head(const aip_request_t *req, const aip_target_t *target,
                            const aip_credential_t *credential, aip_span_t body);

#endif
