/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_CLOUD_SOURCE_H
#define AIP_CLOUD_SOURCE_H
/* Tokens and keys of cloud identities as secrets of the store: fetched in the background, sealed,
 * renewed before they expire. */

#include "aip/cloud.h"
#include "aip/secret.h"
#include "aip/sigv4.h"

/** What tokens of AWS need beyond aip_cloud_auth_t; all may be NULL. */
typedef struct aip_cloud_aws_t {
    const char *region, *role_session_name, *sts_endpoint_url;
} aip_cloud_aws_t;

/** While the configuration is checked: adds the identity's source, or finds it. @return its slot,
 * or -1: the fields mean no identity, or static keys, which need none */
int aip_cloud_source(aip_secrets_t *store, const aip_cloud_auth_t *auth, const aip_cloud_aws_t *aws,
                     const aip_egress_t *egress, apr_pool_t *pool);

/** Later: the slot of an identity in the store in use, or -1. */
int aip_cloud_slot(const aip_cloud_auth_t *auth, const aip_cloud_aws_t *aws,
                   const aip_egress_t *egress, apr_pool_t *pool);

/** The bearer token in a slot. @return NULL: `err` is the 503 for the client */
const char *aip_cloud_token(int slot, apr_pool_t *pool, aip_error_t *err);

/** The keys of an AWS identity: static ones out of the fields, else those in the slot. Errors: 503
 */
apr_status_t aip_cloud_keys(const aip_cloud_auth_t *auth, int slot, aip_aws_keys_t *keys,
                            apr_pool_t *pool, aip_error_t *err);

#endif
