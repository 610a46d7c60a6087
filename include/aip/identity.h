/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_IDENTITY_H
#define AIP_IDENTITY_H
/* Identities of clouds: who the gateway is at Google, Microsoft and Amazon, and the tokens that say
 * so. Background only: every function asks the network (some more than once) and reads the
 * environment and files. Thread-safe as long as nobody changes the environment. What comes back is
 * allocated in `pool`, which should be destroyed soon: it holds secrets, and so do libraries'
 * remains in it. */

#include "aip/fetch.h"
#include "aip/sigv4.h"

/** Longest token and longest part of AWS credentials that is taken, in bytes. */
#define AIP_TOKEN_MAX 16000u

/** Longest answer of a token or metadata service that is read. */
#define AIP_IDENTITY_ANSWER_MAX (128u << 10)

typedef apr_status_t (*aip_fetch_fn)(const aip_fetch_t *fetch, int *status, aip_span_t *answer,
                                     apr_pool_t *pool, aip_error_t *err);

/** How token services are reached. Each single request has the whole `timeout`. */
typedef struct aip_identity_net_t {
    const aip_egress_t *egress; /**< not for metadata services: they are asked directly */
    apr_interval_time_t timeout;
    const volatile apr_uint32_t *stop; /**< not 0: give up; may be NULL */
    aip_fetch_fn fetch;                /**< NULL: aip_fetch() */
} aip_identity_net_t;

/** A bearer token: visible ASCII, at most AIP_TOKEN_MAX bytes. */
typedef struct aip_token_t {
    const char *text;
    apr_interval_time_t lifetime; /**< from now on, a day at most; 0: not known */
} aip_token_t;

/** Whether `text` is fit to be a token: visible ASCII, neither empty nor too long. */
bool aip_token_ok(const char *text);

/** Whether a credential may be sent to `url` at all: a good URL, and https or a loopback host.
 * @return NULL, or what is wrong with it, to follow the URL in a sentence */
const char *aip_identity_url_problem(const char *url, apr_pool_t *pool);

/* ---- Google ---- */

typedef struct aip_gcp_conf_t {
    const char *service_account_json; /**< text; NULL: the environment's GCP_SERVICE_ACCOUNT */
    const char *oauth_token_url;      /**< where the request goes; NULL: the JSON's token_uri */
    const char *metadata_url; /**< base, or the whole URL when it has a path; NULL: Google's */
} aip_gcp_conf_t;

/**
 * An access token for https://www.googleapis.com/auth/cloud-platform. With a service account's JSON
 * by a JWT bearer grant (RFC 7523, signed RS256); the metadata server is never asked then. Without
 * one, the metadata server's default account. The grant's audience is the JSON's token_uri (default
 * https://oauth2.googleapis.com/token) also when oauth_token_url leads elsewhere: that is a way to
 * Google, such as a private endpoint, and Google looks at the audience.
 * @return APR_SUCCESS; else err->message names the service and a status or an OAuth error word
 */
apr_status_t aip_gcp_token(const aip_gcp_conf_t *conf, const aip_identity_net_t *net,
                           aip_token_t *token, apr_pool_t *pool, aip_error_t *err);

/** What is wrong with the text of a service account, or NULL. For checks of the configuration;
 * shows nothing of the text. Includes that the key can be read. */
const char *aip_gcp_json_problem(const char *json, apr_pool_t *pool);

/* ---- Microsoft ---- */

#define AIP_AZURE_SCOPE "https://cognitiveservices.azure.com/.default"

typedef struct aip_azure_conf_t {
    const char *tenant_id, *client_id;
    const char *client_secret; /**< set: client credentials of this application; NULL: the
                                  identity of this machine */
    const char *scope;         /**< NULL: AIP_AZURE_SCOPE */
    const char
        *authority; /**< NULL: AZURE_AUTHORITY_HOST, else https://login.microsoftonline.com */
    const char *metadata_url; /**< base of the instance metadata service; NULL: Azure's */
} aip_azure_conf_t;

/**
 * A token of Microsoft Entra ID. With a secret: client credentials, which need tenant and client
 * id. Without: the workload identity of a Kubernetes pod (AZURE_FEDERATED_TOKEN_FILE), else the
 * managed identity of App Service and Container Apps (IDENTITY_ENDPOINT, IDENTITY_HEADER), else of
 * the virtual machine; client_id chooses one of several.
 */
apr_status_t aip_azure_token(const aip_azure_conf_t *conf, const aip_identity_net_t *net,
                             aip_token_t *token, apr_pool_t *pool, aip_error_t *err);

/** Whether `tenant` can be a tenant: an id or a domain name. */
bool aip_azure_tenant_ok(const char *tenant);

/* ---- Amazon ---- */

typedef struct aip_aws_conf_t {
    const char *access_key, *secret_key; /**< both or none */
    const char *region;                  /**< of STS; NULL: AWS_REGION, else AWS_DEFAULT_REGION */
    const char *assume_role_arn;         /**< NULL: the credentials themselves */
    const char *role_session_name;       /**< NULL: AWS_ROLE_SESSION_NAME, else a name of ours */
    const char *sts_endpoint_url;        /**< NULL: the region's */
} aip_aws_conf_t;

/**
 * Credentials that sign requests. The first of these that is there: `conf`; AWS_ACCESS_KEY_ID and
 * its sisters; the profile AWS_PROFILE (default) of the shared file; a web identity (AWS_ROLE_ARN
 * and AWS_WEB_IDENTITY_TOKEN_FILE); the container's (AWS_CONTAINER_CREDENTIALS_*_URI); the
 * instance's, by IMDSv2 and never v1. A source that is there and fails is an error; the next one
 * would be somebody else. Then sts:AssumeRole, if a role is named.
 * @param lifetime  out: from now on, a day at most; 0: static, or not known
 */
apr_status_t aip_aws_credentials(const aip_aws_conf_t *conf, const aip_identity_net_t *net,
                                 aip_aws_keys_t *keys, apr_interval_time_t *lifetime,
                                 apr_pool_t *pool, aip_error_t *err);

/** `region`, else AWS_REGION, else AWS_DEFAULT_REGION, else NULL; not copied. */
const char *aip_aws_region(const char *region);

/** Whether `region` can be a part of a host name: lower case letters, digits and '-'. */
bool aip_aws_region_ok(const char *region);

/** Domain of the region's services: amazonaws.com, in China amazonaws.com.cn. */
const char *aip_aws_domain(const char *region);

/** Whether `name` can be a role session name. */
bool aip_aws_session_name_ok(const char *name);

#endif
