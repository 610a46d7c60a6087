/* SPDX-License-Identifier: Apache-2.0 */
/* AWS credentials that the machine hands out: to a container by an endpoint that its environment
 * names, to an instance by the metadata service, version 2 only: version 1 answers whoever can make
 * a process send a GET.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html */
#include "aws_private.h"

#include "aip/provider.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

#define CONTAINER "http://169.254.170.2"
#define INSTANCE "http://169.254.169.254"
#define INSTANCE_V6 "http://[fd00:ec2::254]"
#define ROLES "/latest/meta-data/iam/security-credentials/"

/* Without TLS only this machine and the agents of ECS and EKS may be told the authorization. */
static const char *container_url_problem(const char *text, apr_pool_t *pool)
{
    static const char *const agents[] = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23"};
    aip_url_t url;
    const char *problem;
    if (aip_url_parse(text, &url, pool, &problem) != APR_SUCCESS) {
        return problem;
    }
    bool ok = url.tls || aip_identity_loopback(url.host);
    for (size_t i = 0; i < sizeof agents / sizeof *agents; i++) {
        ok = ok || strcasecmp(url.host, agents[i]) == 0;
    }
    return ok ? NULL
              : "must begin with https://, or lead to this machine or to the agent of ECS or EKS";
}

/* The file wins: EKS writes a new token into it every now and then. */
static apr_status_t authorization(const char **header, apr_pool_t *pool, aip_error_t *err)
{
    const char *file = aip_identity_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
               *token = aip_identity_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (file) {
        apr_status_t rv = aip_identity_token_file(file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                                  &token, pool, err);
        if (rv != APR_SUCCESS) {
            return rv;
        }
    } else if (token && (strlen(token) > AIP_TOKEN_MAX || !aip_header_value_ok(token))) {
        return aip_identity_fail(err, pool,
                                 "the environment's AWS_CONTAINER_AUTHORIZATION_TOKEN is no "
                                 "header value");
    }
    *header = token ? apr_pstrcat(pool, "Authorization: ", token, NULL) : NULL;
    return APR_SUCCESS;
}

apr_status_t aip_aws_from_container(bool *found, const aip_identity_net_t *net, aip_aws_got_t *got,
                                    apr_pool_t *pool, aip_error_t *err)
{
    const char *relative = aip_identity_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
               *url = aip_identity_env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *headers[2] = {0};
    json_t *root;
    *found = relative || url;
    if (!*found) {
        return APR_SUCCESS;
    }
    /* What does not begin with '/' could go on with the host. */
    url =
        relative ? apr_pstrcat(pool, CONTAINER, *relative == '/' ? "" : "/", relative, NULL) : url;
    const char *problem = container_url_problem(url, pool);
    if (problem) {
        return aip_identity_fail(err, pool, "the environment's AWS_CONTAINER_CREDENTIALS_%s_URI %s",
                                 relative ? "RELATIVE" : "FULL", problem);
    }
    apr_status_t rv = authorization(&headers[0], pool, err);
    aip_ask_t ask = {.service = "the container's credentials endpoint",
                     .url = url,
                     .headers = headers,
                     .local = true};
    if (rv == APR_SUCCESS) {
        rv = aip_identity_ask_json(&ask, net, &root, pool, err);
    }
    if (rv == APR_SUCCESS) {
        rv = aip_aws_read_keys(root, "Token", ask.service, got, pool, err);
        json_decref(root);
    }
    return rv;
}

/* ---- an instance ---- */

#define SERVICE "the instance metadata service"

static apr_status_t instance_base(const char **base, apr_pool_t *pool, aip_error_t *err)
{
    const char *mode = aip_identity_env("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"), *problem;
    aip_url_t url;
    *base = aip_identity_env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    if (!*base) {
        *base = mode && strcasecmp(mode, "IPv6") == 0 ? INSTANCE_V6 : INSTANCE;
    }
    return aip_url_parse(*base, &url, pool, &problem) == APR_SUCCESS
               ? APR_SUCCESS
               : aip_identity_fail(
                     err, pool, "the environment's AWS_EC2_METADATA_SERVICE_ENDPOINT %s", problem);
}

/* The session that every further question has to name. */
static apr_status_t open_session(const char *base, const char **header,
                                 const aip_identity_net_t *net, apr_pool_t *pool, aip_error_t *err)
{
    static const char *const headers[] = {"X-aws-ec2-metadata-token-ttl-seconds: 60", NULL};
    aip_span_t answer;
    aip_ask_t ask = {.service = SERVICE,
                     .method = "PUT",
                     .url = aip_identity_join(base, "/latest/api/token", pool),
                     .headers = headers,
                     .form = "",
                     .local = true};
    apr_status_t rv = aip_identity_ask(&ask, net, &answer, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    const char *token = apr_pstrmemdup(pool, answer.data, answer.len);
    if (strlen(token) != answer.len || !aip_token_ok(token)) {
        return aip_identity_fail(err, pool, SERVICE " answered without a session token");
    }
    *header = apr_pstrcat(pool, "X-aws-ec2-metadata-token: ", token, NULL);
    return APR_SUCCESS;
}

/* The first line; it becomes a part of a path. */
static apr_status_t read_role(aip_span_t answer, const char **role, apr_pool_t *pool,
                              aip_error_t *err)
{
    const char *end = memchr(answer.data, '\n', answer.len);
    *role = apr_pstrmemdup(pool, answer.data, end ? (apr_size_t)(end - answer.data) : answer.len);
    size_t len = strlen(*role);
    bool ok = len > 0 && len <= 64 && !strstr(*role, "..");
    for (size_t i = 0; ok && i < len; i++) {
        ok = apr_isalnum((*role)[i]) || strchr("_+=,.@-", (*role)[i]);
    }
    return ok ? APR_SUCCESS
              : aip_identity_fail(err, pool, SERVICE " answered without the name of a role");
}

static apr_status_t ask_role(const char *base, const char *session, const aip_identity_net_t *net,
                             aip_aws_got_t *got, apr_pool_t *pool, aip_error_t *err)
{
    const char *headers[] = {session, NULL}, *role;
    aip_span_t answer;
    json_t *root;
    aip_ask_t ask = {.service = SERVICE,
                     .url = aip_identity_join(base, ROLES, pool),
                     .headers = headers,
                     .local = true};
    apr_status_t rv = aip_identity_ask(&ask, net, &answer, pool, err);
    rv = rv == APR_SUCCESS ? read_role(answer, &role, pool, err) : rv;
    if (rv != APR_SUCCESS) {
        return rv;
    }
    ask.url = apr_pstrcat(pool, ask.url, role, NULL);
    rv = aip_identity_ask_json(&ask, net, &root, pool, err);
    if (rv == APR_SUCCESS) {
        const char *code = json_string_value(json_object_get(root, "Code"));
        rv = code && strcmp(code, "Success") != 0
                 ? aip_identity_fail(err, pool, SERVICE " has no credentials for the role")
                 : aip_aws_read_keys(root, "Token", SERVICE, got, pool, err);
        json_decref(root);
    }
    return rv;
}

apr_status_t aip_aws_from_instance(const aip_identity_net_t *net, aip_aws_got_t *got,
                                   apr_pool_t *pool, aip_error_t *err)
{
    const char *disabled = aip_identity_env("AWS_EC2_METADATA_DISABLED");
    const char *base = NULL, *session = NULL;
    if (disabled && strcasecmp(disabled, "true") == 0) {
        return aip_identity_fail(err, pool,
                                 "there are no AWS credentials: neither configured nor in the "
                                 "environment nor in a profile, and AWS_EC2_METADATA_DISABLED is "
                                 "true");
    }
    apr_status_t rv = instance_base(&base, pool, err);
    rv = rv == APR_SUCCESS ? open_session(base, &session, net, pool, err) : rv;
    return rv == APR_SUCCESS ? ask_role(base, session, net, got, pool, err) : rv;
}
