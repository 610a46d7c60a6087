/* SPDX-License-Identifier: Apache-2.0 */
/* Identities of clouds in the configuration: which one a target or the embeddings have, and what
 * must not be said together. The same rules for both; only the names of the directives differ. */
#include "aip/cloud.h"

#include "aip/identity.h"
#include "aip/provider.h"

#include <apr_strings.h>
#include <string.h>

/* The same members of both structs of fields. */
#define AUTH_MEMBERS(f, member)                                                                    \
    .header_name = f->member##auth_header_name, .param_name = f->member##auth_param_name,          \
    .allow_override = f->member##auth_allow_override,                                              \
    .aws_access_key_id = f->member##auth_aws_access_key_id,                                        \
    .aws_secret_access_key = f->member##auth_aws_secret_access_key,                                \
    .azure_client_id = f->member##auth_azure_client_id,                                            \
    .azure_client_secret = f->member##auth_azure_client_secret,                                    \
    .azure_tenant_id = f->member##auth_azure_tenant_id,                                            \
    .azure_use_managed_identity = f->member##auth_azure_use_managed_identity,                      \
    .gcp_metadata_url = f->member##auth_gcp_metadata_url,                                          \
    .gcp_oauth_token_url = f->member##auth_gcp_oauth_token_url,                                    \
    .gcp_service_account_json = f->member##auth_gcp_service_account_json,                          \
    .gcp_use_service_account = f->member##auth_gcp_use_service_account

aip_cloud_auth_t aip_cloud_of_target(const aip_target_fields_t *f, apr_pool_t *pool)
{
    return (aip_cloud_auth_t){.prefix = "AIAuth",
                              .provider = aip_field_word(&aip_target_table[AIP_T_model_provider],
                                                         f->model_provider, pool),
                              .own_url = f->upstream_url != NULL,
                              .aws_assume_role_arn = f->bedrock_aws_assume_role_arn,
                              AUTH_MEMBERS(f, )};
}

aip_cloud_auth_t aip_cloud_of_embeddings(const aip_location_fields_t *f, apr_pool_t *pool)
{
    return (aip_cloud_auth_t){
        .prefix = "AIEmbeddingsAuth",
        .provider = aip_field_word(&aip_location_table[AIP_L_embeddings_model_provider],
                                   f->embeddings_model_provider, pool),
        .own_url = f->embeddings_model_options_upstream_url != NULL,
        AUTH_MEMBERS(f, embeddings_)};
}

static bool is(const aip_cloud_auth_t *auth, const char *provider)
{
    return strcmp(auth->provider, provider) == 0;
}

aip_cloud_e aip_cloud_kind(const aip_cloud_auth_t *auth)
{
    if (auth->azure_use_managed_identity || auth->azure_client_secret) {
        return AIP_CLOUD_AZURE;
    }
    if (auth->gcp_use_service_account) {
        return AIP_CLOUD_GCP;
    }
    bool keys = auth->aws_access_key_id || auth->aws_secret_access_key || auth->aws_assume_role_arn;
    bool other = auth->header_name || auth->param_name; /* an API key of Bedrock */
    return is(auth, "bedrock") && (keys || !other) ? AIP_CLOUD_AWS : AIP_CLOUD_NONE;
}

/* What is known now: a text whose value comes out of a vault later is not. */
static bool known(const char *text)
{
    return text && !strstr(text, "{vault:");
}

static const char *model_provider(const aip_cloud_auth_t *auth)
{
    return strcmp(auth->prefix, "AIAuth") == 0 ? "AIModelProvider" : "AIEmbeddingsModelProvider";
}

/* A credential for one provider beside another one would be ignored, or sent to a stranger. */
static const char *check_owner(const aip_cloud_auth_t *auth, apr_pool_t *pool)
{
    bool target = strcmp(auth->prefix, "AIAuth") == 0;
    bool google = target ? is(auth, "gemini") : is(auth, "openai") && auth->own_url;
    const struct {
        const char *name;
        bool set, right;
    } rows[] = {
        {"AwsAccessKeyId", auth->aws_access_key_id != NULL, is(auth, "bedrock")},
        {"AwsSecretAccessKey", auth->aws_secret_access_key != NULL, is(auth, "bedrock")},
        {"AzureClientId", auth->azure_client_id != NULL, is(auth, "azure")},
        {"AzureClientSecret", auth->azure_client_secret != NULL, is(auth, "azure")},
        {"AzureTenantId", auth->azure_tenant_id != NULL, is(auth, "azure")},
        {"AzureUseManagedIdentity", auth->azure_use_managed_identity, is(auth, "azure")},
        {"GcpServiceAccountJson", auth->gcp_service_account_json != NULL, google},
        {"GcpMetadataUrl", auth->gcp_metadata_url != NULL, google},
        {"GcpOauthTokenUrl", auth->gcp_oauth_token_url != NULL, google},
        {"GcpUseServiceAccount", auth->gcp_use_service_account, google},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].set && !rows[i].right) {
            const char *hint = !target && *rows[i].name == 'G' && is(auth, "openai")
                                   ? " without AIEmbeddingsModelOptionsUpstreamUrl, a URL of Google"
                                   : "; remove it";
            return apr_psprintf(pool, "%s%s has no meaning with %s %s%s", auth->prefix,
                                rows[i].name, model_provider(auth), auth->provider, hint);
        }
    }
    return NULL;
}

static const char *check_aws(const aip_cloud_auth_t *auth, apr_pool_t *pool)
{
    const char *p = auth->prefix;
    if (!auth->aws_access_key_id != !auth->aws_secret_access_key) {
        return apr_psprintf(pool,
                            "all or none of %sAwsAccessKeyId and %sAwsSecretAccessKey must "
                            "be set",
                            p, p);
    }
    bool id = known(auth->aws_access_key_id) && !aip_token_ok(auth->aws_access_key_id);
    bool secret = known(auth->aws_secret_access_key) && !aip_token_ok(auth->aws_secret_access_key);
    return id || secret ? apr_psprintf(pool, "%sAws%s holds white space or control bytes", p,
                                       id ? "AccessKeyId" : "SecretAccessKey")
                        : NULL;
}

static const char *check_azure(const aip_cloud_auth_t *auth, apr_pool_t *pool)
{
    const char *p = auth->prefix;
    if (auth->azure_client_secret && (!auth->azure_client_id || !auth->azure_tenant_id)) {
        return apr_psprintf(pool, "%sAzureClientSecret needs %sAzureClientId and %sAzureTenantId",
                            p, p, p);
    }
    if ((auth->azure_client_id || auth->azure_tenant_id) && !auth->azure_client_secret &&
        !auth->azure_use_managed_identity) {
        return apr_psprintf(pool,
                            "%sAzure%s needs %sAzureClientSecret, or %sAzureUseManagedIdentity On",
                            p, auth->azure_client_id ? "ClientId" : "TenantId", p, p);
    }
    if (known(auth->azure_tenant_id) && !aip_azure_tenant_ok(auth->azure_tenant_id)) {
        return apr_psprintf(pool, "%sAzureTenantId must be an id or a domain name", p);
    }
    return NULL;
}

static const char *check_gcp(const aip_cloud_auth_t *auth, apr_pool_t *pool)
{
    const char *p = auth->prefix, *problem;
    const char *orphan = auth->gcp_service_account_json ? "ServiceAccountJson"
                         : auth->gcp_oauth_token_url    ? "OauthTokenUrl"
                         : auth->gcp_metadata_url       ? "MetadataUrl"
                                                        : NULL;
    aip_url_t url;
    if (orphan && !auth->gcp_use_service_account) {
        return apr_psprintf(pool, "%sGcp%s needs %sGcpUseServiceAccount On", p, orphan, p);
    }
    if (known(auth->gcp_service_account_json) &&
        (problem = aip_gcp_json_problem(auth->gcp_service_account_json, pool)) != NULL) {
        return apr_psprintf(pool, "%sGcpServiceAccountJson %s", p, problem);
    }
    if (known(auth->gcp_oauth_token_url) &&
        (problem = aip_identity_url_problem(auth->gcp_oauth_token_url, pool)) != NULL) {
        return apr_psprintf(pool, "%sGcpOauthTokenUrl '%s' %s", p,
                            aip_url_shown(auth->gcp_oauth_token_url, pool), problem);
    }
    if (known(auth->gcp_metadata_url) &&
        aip_url_parse(auth->gcp_metadata_url, &url, pool, &problem) != APR_SUCCESS) {
        return apr_psprintf(pool, "%sGcpMetadataUrl '%s' %s", p,
                            aip_url_shown(auth->gcp_metadata_url, pool), problem);
    }
    return NULL;
}

/* An identity writes the header Authorization of each request itself. */
static const char *check_place(const aip_cloud_auth_t *auth, apr_pool_t *pool)
{
    aip_cloud_e kind = aip_cloud_kind(auth);
    if (auth->allow_override &&
        (kind != AIP_CLOUD_NONE || is(auth, "bedrock") || is(auth, "gemini"))) {
        return apr_psprintf(pool, "%sAllowOverride must be Off with %s %s%s", auth->prefix,
                            model_provider(auth), auth->provider,
                            kind == AIP_CLOUD_NONE ? "" : " and an identity of a cloud");
    }
    if (kind != AIP_CLOUD_NONE && auth->header_name &&
        strcasecmp(auth->header_name, "Authorization") == 0) {
        return apr_psprintf(pool,
                            "%sHeaderName Authorization has no place beside an identity of a "
                            "cloud, which writes that header itself; remove one of them",
                            auth->prefix);
    }
    return NULL;
}

const char *aip_cloud_check(const aip_cloud_auth_t *auth, apr_pool_t *pool)
{
    const char *error = check_owner(auth, pool);
    error = error ? error : check_aws(auth, pool);
    error = error ? error : check_azure(auth, pool);
    error = error ? error : check_gcp(auth, pool);
    return error ? error : check_place(auth, pool);
}
