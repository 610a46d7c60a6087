/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of Microsoft Entra ID: client credentials of an application, the workload identity of a
 * pod, or the managed identity of App Service, Container Apps or a virtual machine.
 * https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
 * https://learn.microsoft.com/azure/app-service/overview-managed-identity
 * https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
 */
#include "identity_private.h"

#include "aip/provider.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

#define AUTHORITY "https://login.microsoftonline.com"
#define METADATA "http://169.254.169.254"
#define ASSERTION_TYPE "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"

bool aip_azure_tenant_ok(const char *tenant)
{
    size_t len = 0;
    for (; tenant[len]; len++) {
        if (!apr_isalnum(tenant[len]) && !strchr("-._", tenant[len])) {
            return false;
        }
    }
    return len > 0 && len <= 255 && *tenant != '.';
}

static const char *scope_of(const aip_azure_conf_t *conf)
{
    return conf->scope ? conf->scope : AIP_AZURE_SCOPE;
}

/* Metadata services want the resource, which is the scope without its last part. */
static const char *resource_of(const aip_azure_conf_t *conf, apr_pool_t *pool)
{
    static const char suffix[] = "/.default";
    const char *scope = scope_of(conf);
    size_t len = strlen(scope), cut = sizeof suffix - 1;
    bool ends = len > cut && strcmp(scope + len - cut, suffix) == 0;
    return aip_url_encode(apr_pstrmemdup(pool, scope, ends ? len - cut : len), pool);
}

static const char *authority_of(const aip_azure_conf_t *conf, apr_pool_t *pool)
{
    const char *text = conf->authority ? conf->authority : aip_identity_env("AZURE_AUTHORITY_HOST");
    if (!text) {
        return AUTHORITY;
    }
    return strstr(text, "://") ? text : apr_pstrcat(pool, "https://", text, NULL);
}

/* `proof` is the encoded part of the form that proves who asks; it is wiped. */
static apr_status_t ask_entra(const aip_azure_conf_t *conf, const char *tenant, const char *client,
                              const char *proof, const aip_identity_net_t *net, aip_token_t *token,
                              apr_pool_t *pool, aip_error_t *err)
{
    const char *authority = authority_of(conf, pool);
    const char *problem = aip_identity_url_problem(authority, pool);
    apr_status_t rv;
    if (problem) {
        rv = aip_identity_fail(err, pool, "the URL of Microsoft's token service %s", problem);
    } else if (!tenant || !aip_azure_tenant_ok(tenant) || !client) {
        rv = aip_identity_fail(err, pool, "Azure needs a client id and the id of a tenant");
    } else {
        const char *path = apr_pstrcat(pool, "/", tenant, "/oauth2/v2.0/token", NULL);
        aip_ask_t ask = {.service = "Microsoft's token service",
                         .url = aip_identity_join(authority, path, pool),
                         .form = apr_pstrcat(pool, "grant_type=client_credentials&client_id=",
                                             aip_url_encode(client, pool), "&scope=",
                                             aip_url_encode(scope_of(conf), pool), proof, NULL)};
        rv = aip_identity_ask_token(&ask, net, token, pool, err);
        aip_identity_wipe((aip_span_t){ask.form, strlen(ask.form)});
    }
    aip_identity_wipe((aip_span_t){proof, strlen(proof)});
    return rv;
}

static apr_status_t by_secret(const aip_azure_conf_t *conf, const aip_identity_net_t *net,
                              aip_token_t *token, apr_pool_t *pool, aip_error_t *err)
{
    const char *secret = aip_url_encode(conf->client_secret, pool);
    const char *proof = apr_pstrcat(pool, "&client_secret=", secret, NULL);
    aip_identity_wipe((aip_span_t){secret, strlen(secret)});
    return ask_entra(conf, conf->tenant_id, conf->client_id, proof, net, token, pool, err);
}

/* The file is read each time: Kubernetes writes a new token every hour. */
static apr_status_t by_federation(const aip_azure_conf_t *conf, const char *file,
                                  const aip_identity_net_t *net, aip_token_t *token,
                                  apr_pool_t *pool, aip_error_t *err)
{
    const char *text;
    apr_status_t rv = aip_identity_token_file(file, "AZURE_FEDERATED_TOKEN_FILE", &text, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    const char *proof = apr_pstrcat(pool, "&client_assertion_type=" ASSERTION_TYPE,
                                    "&client_assertion=", aip_url_encode(text, pool), NULL);
    aip_identity_wipe((aip_span_t){text, strlen(text)});
    return ask_entra(conf, conf->tenant_id ? conf->tenant_id : aip_identity_env("AZURE_TENANT_ID"),
                     conf->client_id ? conf->client_id : aip_identity_env("AZURE_CLIENT_ID"), proof,
                     net, token, pool, err);
}

/* The query of a metadata service, behind what the URL has already. */
static const char *metadata_query(const aip_azure_conf_t *conf, const char *version,
                                  apr_pool_t *pool)
{
    return apr_pstrcat(pool, "api-version=", version, "&resource=", resource_of(conf, pool),
                       conf->client_id ? "&client_id=" : "",
                       conf->client_id ? aip_url_encode(conf->client_id, pool) : "", NULL);
}

static apr_status_t by_app_service(const aip_azure_conf_t *conf, const char *endpoint,
                                   const char *key, const aip_identity_net_t *net,
                                   aip_token_t *token, apr_pool_t *pool, aip_error_t *err)
{
    const char *problem;
    aip_url_t url;
    if (aip_url_parse(endpoint, &url, pool, &problem) != APR_SUCCESS) {
        return aip_identity_fail(err, pool, "the environment's IDENTITY_ENDPOINT %s", problem);
    }
    if (!aip_token_ok(key)) {
        return aip_identity_fail(err, pool, "the environment's IDENTITY_HEADER is no header value");
    }
    const char *headers[] = {apr_pstrcat(pool, "X-IDENTITY-HEADER: ", key, NULL), NULL};
    aip_ask_t ask = {.service = "Azure's identity endpoint",
                     .url = apr_pstrcat(pool, endpoint, url.query ? "&" : "?",
                                        metadata_query(conf, "2019-08-01", pool), NULL),
                     .headers = headers,
                     .local = true};
    return aip_identity_ask_token(&ask, net, token, pool, err);
}

static apr_status_t by_metadata(const aip_azure_conf_t *conf, const aip_identity_net_t *net,
                                aip_token_t *token, apr_pool_t *pool, aip_error_t *err)
{
    static const char *const headers[] = {"Metadata: true", NULL};
    const char *path = apr_pstrcat(pool, "/metadata/identity/oauth2/token?",
                                   metadata_query(conf, "2018-02-01", pool), NULL);
    aip_ask_t ask = {
        .service = "Azure's instance metadata service",
        .url = aip_identity_join(conf->metadata_url ? conf->metadata_url : METADATA, path, pool),
        .headers = headers,
        .local = true};
    return aip_identity_ask_token(&ask, net, token, pool, err);
}

apr_status_t aip_azure_token(const aip_azure_conf_t *conf, const aip_identity_net_t *net,
                             aip_token_t *token, apr_pool_t *pool, aip_error_t *err)
{
    const char *file = aip_identity_env("AZURE_FEDERATED_TOKEN_FILE");
    const char *endpoint = aip_identity_env("IDENTITY_ENDPOINT"),
               *key = aip_identity_env("IDENTITY_HEADER");
    if (conf->client_secret) {
        return by_secret(conf, net, token, pool, err);
    }
    if (file) {
        return by_federation(conf, file, net, token, pool, err);
    }
    return endpoint && key ? by_app_service(conf, endpoint, key, net, token, pool, err)
                           : by_metadata(conf, net, token, pool, err);
}
