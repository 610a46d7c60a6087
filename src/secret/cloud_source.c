/* SPDX-License-Identifier: Apache-2.0 */
/* Sources of the store that cloud identities are behind. What the fields say may hold references:
 * those are resolved at each fetch. */
#include "aip/cloud_source.h"

#include "aip/identity.h"
#include "store.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <openssl/sha.h>
#include <string.h>

#define TIMEOUT apr_time_from_sec(5)
#define UNKNOWN_LIFE apr_time_from_sec(300) /* of keys that do not say when they end */
#define KEEP apr_time_from_sec(100000000)

typedef struct identity_t {
    aip_cloud_e kind;
    aip_cloud_auth_t auth;
    aip_cloud_aws_t aws;
    const aip_egress_t *egress;
} identity_t;

/* What references mean depends on where they stand: the scope says it, or else their address. */
static const char *part(const char *text, const char *scope, apr_pool_t *pool)
{
    if (!text || !aip_reference_in(text)) {
        return text ? text : "-";
    }
    return scope ? apr_pstrcat(pool, text, "@", scope, NULL)
                 : apr_psprintf(pool, "%s@%pp", text, (const void *)text);
}

static const char *id_of(const identity_t *identity, apr_pool_t *pool)
{
    const aip_cloud_auth_t *a = &identity->auth;
    const char *const texts[] = {a->aws_access_key_id,
                                 a->aws_secret_access_key,
                                 a->aws_assume_role_arn,
                                 a->azure_client_id,
                                 a->azure_client_secret,
                                 a->azure_tenant_id,
                                 a->gcp_metadata_url,
                                 a->gcp_oauth_token_url,
                                 a->gcp_service_account_json,
                                 identity->aws.region,
                                 identity->aws.role_session_name,
                                 identity->aws.sts_endpoint_url,
                                 identity->egress ? identity->egress->proxy_host : NULL,
                                 identity->egress ? identity->egress->ca_file : NULL};
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *all = apr_itoa(pool, (int)identity->kind);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        all = apr_pstrcat(pool, all, "\n", part(texts[i], a->scope, pool), NULL);
    }
    SHA256((const unsigned char *)all, strlen(all), digest);
    return apr_pstrcat(pool, "identity ", apr_pescape_hex(pool, digest, sizeof digest, 0), NULL);
}

/* @return false: a secret that it is made of has no value */
static bool resolve(const char *text, const char **value, apr_pool_t *pool)
{
    *value = aip_secret_text(text, pool, NULL);
    return !text || *value;
}

static aip_fetched_e outcome(apr_status_t rv, const aip_error_t *err, aip_fetched_t *fetched)
{
    fetched->error = err->message;
    return rv == APR_SUCCESS ? AIP_FETCHED_OK : AIP_FETCHED_AWAY;
}

static aip_fetched_e missing(aip_fetched_t *fetched)
{
    fetched->error = "a secret that it is made of has no value";
    return AIP_FETCHED_AWAY;
}

static aip_fetched_e fetch_aws(const identity_t *identity, const aip_identity_net_t *net,
                               aip_fetched_t *fetched, apr_pool_t *pool)
{
    const aip_cloud_auth_t *a = &identity->auth;
    aip_aws_conf_t conf = {.region = identity->aws.region,
                           .role_session_name = identity->aws.role_session_name,
                           .sts_endpoint_url = identity->aws.sts_endpoint_url};
    aip_aws_keys_t keys;
    aip_error_t err = {0};
    if (!resolve(a->aws_access_key_id, &conf.access_key, pool) ||
        !resolve(a->aws_secret_access_key, &conf.secret_key, pool) ||
        !resolve(a->aws_assume_role_arn, &conf.assume_role_arn, pool)) {
        return missing(fetched);
    }
    apr_status_t rv = aip_aws_credentials(&conf, net, &keys, &fetched->lifetime, pool, &err);
    if (rv == APR_SUCCESS) {
        fetched->value = apr_pstrcat(pool, keys.access_key, "\n", keys.secret_key, "\n",
                                     keys.token ? keys.token : "", NULL);
    }
    return outcome(rv, &err, fetched);
}

static aip_fetched_e fetch_bearer(const identity_t *identity, const aip_identity_net_t *net,
                                  aip_fetched_t *fetched, apr_pool_t *pool)
{
    const aip_cloud_auth_t *a = &identity->auth;
    aip_azure_conf_t azure = {0};
    aip_gcp_conf_t gcp = {0};
    aip_token_t token = {0};
    aip_error_t err = {0};
    if (!resolve(a->azure_client_id, &azure.client_id, pool) ||
        !resolve(a->azure_client_secret, &azure.client_secret, pool) ||
        !resolve(a->azure_tenant_id, &azure.tenant_id, pool) ||
        !resolve(a->gcp_metadata_url, &gcp.metadata_url, pool) ||
        !resolve(a->gcp_oauth_token_url, &gcp.oauth_token_url, pool) ||
        !resolve(a->gcp_service_account_json, &gcp.service_account_json, pool)) {
        return missing(fetched);
    }
    apr_status_t rv = identity->kind == AIP_CLOUD_GCP
                          ? aip_gcp_token(&gcp, net, &token, pool, &err)
                          : aip_azure_token(&azure, net, &token, pool, &err);
    fetched->value = token.text;
    fetched->lifetime = token.lifetime;
    return outcome(rv, &err, fetched);
}

static aip_fetched_e fetch(const aip_source_t *source, aip_fetched_t *fetched, apr_pool_t *pool)
{
    const identity_t *identity = source->ctx;
    aip_identity_net_t net = {
        .egress = identity->egress, .timeout = TIMEOUT, .stop = source->store->stop};
    return identity->kind == AIP_CLOUD_AWS ? fetch_aws(identity, &net, fetched, pool)
                                           : fetch_bearer(identity, &net, fetched, pool);
}

static bool is_static(aip_cloud_e kind, const aip_cloud_auth_t *auth)
{
    return kind == AIP_CLOUD_AWS && auth->aws_access_key_id && !auth->aws_assume_role_arn;
}

static identity_t *identity_of(const aip_cloud_auth_t *auth, const aip_cloud_aws_t *aws,
                               const aip_egress_t *egress, apr_pool_t *pool)
{
    identity_t *identity = apr_pcalloc(pool, sizeof *identity);
    *identity = (identity_t){aip_cloud_kind(auth), *auth, *aws, egress};
    return identity->kind == AIP_CLOUD_NONE || is_static(identity->kind, auth) ? NULL : identity;
}

int aip_cloud_source(aip_secrets_t *store, const aip_cloud_auth_t *auth, const aip_cloud_aws_t *aws,
                     const aip_egress_t *egress, apr_pool_t *pool)
{
    static const char *const names[] = {[AIP_CLOUD_AWS] = "the identity at AWS",
                                        [AIP_CLOUD_AZURE] = "the identity at Azure",
                                        [AIP_CLOUD_GCP] = "the identity at Google Cloud"};
    identity_t *identity = identity_of(auth, aws, egress, pool);
    if (!identity) {
        return -1;
    }
    aip_source_t source = {.id = id_of(identity, pool),
                           .shown = names[identity->kind],
                           .ttl = UNKNOWN_LIFE,
                           .neg_ttl = UNKNOWN_LIFE,
                           .resurrect_ttl = KEEP,
                           .patience = 6 * TIMEOUT,
                           .changing = true,
                           .fetch = fetch,
                           .ctx = identity};
    source.origin = source.id; /* one that is away says nothing of others */
    return aip_secrets_add(store, &source);
}

int aip_cloud_slot(const aip_cloud_auth_t *auth, const aip_cloud_aws_t *aws,
                   const aip_egress_t *egress, apr_pool_t *pool)
{
    const aip_secrets_t *store = aip_secrets_used();
    const identity_t *identity = identity_of(auth, aws, egress, pool);
    const char *id = identity ? id_of(identity, pool) : NULL;
    for (int i = 0; id && store && i < store->sources->nelts; i++) {
        if (strcmp(aip_store_source(store, i)->id, id) == 0) {
            return i;
        }
    }
    return -1;
}

const char *aip_cloud_token(int slot, apr_pool_t *pool, aip_error_t *err)
{
    const char *value = slot >= 0 && aip_secrets_used()
                            ? aip_secrets_get(aip_secrets_used(), slot, NULL, pool)
                            : NULL;
    if (!value) {
        aip_error_set(err, pool, 503, "gateway_error", "secret_unavailable", NULL,
                      "a credential that this request needs cannot be read at the moment");
    }
    return value;
}

apr_status_t aip_cloud_keys(const aip_cloud_auth_t *auth, int slot, aip_aws_keys_t *keys,
                            apr_pool_t *pool, aip_error_t *err)
{
    *keys = (aip_aws_keys_t){0};
    if (is_static(AIP_CLOUD_AWS, auth)) {
        keys->access_key = aip_secret_text(auth->aws_access_key_id, pool, err);
        keys->secret_key = aip_secret_text(auth->aws_secret_access_key, pool, err);
        return keys->access_key && keys->secret_key ? APR_SUCCESS : APR_EGENERAL;
    }
    char *value = (char *)aip_cloud_token(slot, pool, err);
    char *secret = value ? strchr(value, '\n') : NULL;
    char *token = secret ? strchr(secret + 1, '\n') : NULL;
    if (!token) {
        return APR_EGENERAL;
    }
    *secret++ = *token++ = '\0';
    *keys = (aip_aws_keys_t){value, secret, *token ? token : NULL};
    return APR_SUCCESS;
}
