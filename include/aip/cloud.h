/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_CLOUD_H
#define AIP_CLOUD_H
/* Which identity of a cloud a target or the embeddings have by their fields, and the rules between
 * those fields. Pure but for the environment's region; while the configuration is read. */

#include "aip/fields.h"

typedef enum aip_cloud_e {
    AIP_CLOUD_NONE,
    AIP_CLOUD_AWS,
    AIP_CLOUD_AZURE,
    AIP_CLOUD_GCP
} aip_cloud_e;

/** The fields auth.* of a target or of the embeddings; texts may hold vault references. */
typedef struct aip_cloud_auth_t {
    const char *prefix;   /**< of the directives: "AIAuth" or "AIEmbeddingsAuth" */
    const char *provider; /**< word of the provider */
    bool own_url;         /**< the provider's URL is configured */
    const char *header_name, *param_name;
    bool allow_override;
    const char *aws_access_key_id, *aws_secret_access_key;
    const char *aws_assume_role_arn; /**< NULL for embeddings */
    const char *azure_client_id, *azure_client_secret, *azure_tenant_id;
    bool azure_use_managed_identity;
    const char *gcp_metadata_url, *gcp_oauth_token_url, *gcp_service_account_json;
    bool gcp_use_service_account;
    /** Tells apart what references of the same text mean; NULL: their address does. */
    const char *scope;
} aip_cloud_auth_t;

aip_cloud_auth_t aip_cloud_of_target(const aip_target_fields_t *fields, apr_pool_t *pool);
aip_cloud_auth_t aip_cloud_of_embeddings(const aip_location_fields_t *fields, apr_pool_t *pool);

/** Bedrock without another credential is asked as an AWS identity; Azure's and Google's are said
 * explicitly. */
aip_cloud_e aip_cloud_kind(const aip_cloud_auth_t *auth);

/** The rules between the fields. Texts with vault references are not looked into.
 * @return NULL or a sentence that names the directives; no value in it */
const char *aip_cloud_check(const aip_cloud_auth_t *auth, apr_pool_t *pool);

#endif
