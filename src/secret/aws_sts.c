/* SPDX-License-Identifier: Apache-2.0 */
/* AWS Security Token Service: one set of credentials for another (AssumeRole), or for a token of
 * another issuer (AssumeRoleWithWebIdentity, the service accounts of EKS). Amazon answers JSON to
 * who asks for it; other implementations know XML only, so both are read.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html */
#include "aws_private.h"

#include "aip/provider.h"
#include "aip/sigv4.h"

#include <apr_strings.h>
#include <string.h>

#define SERVICE "AWS STS"
#define VERSION "2011-06-15"
#define SESSION_NAME "mod_ai_proxy_adv"
#define GLOBAL_HOST "sts.amazonaws.com"
#define FORM_TYPE "application/x-www-form-urlencoded"

/* ---- answers ---- */

/* The inside of the only element `name`, which has no attributes. @return data NULL: it is not
 * there, or more than once */
static aip_span_t element(const char *text, const char *name, apr_pool_t *pool)
{
    const char *open = apr_pstrcat(pool, "<", name, ">", NULL);
    const char *close = apr_pstrcat(pool, "</", name, ">", NULL);
    const char *begin = strstr(text, open);
    const char *end = begin ? strstr(begin, close) : NULL;
    if (!end || strstr(begin + 1, open) || strstr(end + 1, close)) {
        return (aip_span_t){NULL, 0};
    }
    begin += strlen(open);
    return (aip_span_t){begin, (size_t)(end - begin)};
}

/* The four members of the credentials as the JSON that STS would have answered. What they hold is
 * plain text: an entity or an element in it makes the member no credential. */
static json_t *credentials_of_xml(const char *xml, apr_pool_t *pool)
{
    static const char *const names[] = {"AccessKeyId", "SecretAccessKey", "SessionToken",
                                        "Expiration"};
    aip_span_t inside = element(xml, "Credentials", pool);
    json_t *object = json_object();
    if (!inside.data) {
        return object;
    }
    char *text = apr_pstrmemdup(pool, inside.data, inside.len);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        aip_span_t value = element(text, names[i], pool);
        if (value.data && !memchr(value.data, '&', value.len) &&
            !memchr(value.data, '<', value.len)) {
            json_object_set_new(object, names[i], json_stringn(value.data, value.len));
        }
    }
    aip_identity_wipe((aip_span_t){text, inside.len});
    return object;
}

static json_t *credentials_of_json(const char *text, const char *action, apr_pool_t *pool)
{
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    json_t *response = json_object_get(root, apr_pstrcat(pool, action, "Response", NULL));
    json_t *result = json_object_get(response, apr_pstrcat(pool, action, "Result", NULL));
    json_t *credentials = json_incref(json_object_get(result, "Credentials"));
    json_decref(root);
    return credentials;
}

static apr_status_t read_answer(aip_span_t answer, const char *action, aip_aws_got_t *got,
                                apr_pool_t *pool, aip_error_t *err)
{
    char *copy = apr_pstrmemdup(pool, answer.data, answer.len);
    const char *text = copy + strspn(copy, " \t\r\n");
    json_t *credentials =
        *text == '<' ? credentials_of_xml(text, pool) : credentials_of_json(text, action, pool);
    apr_status_t rv;
    if (strlen(copy) != answer.len ||
        !json_is_string(json_object_get(credentials, "SessionToken"))) {
        rv = aip_identity_fail(err, pool, SERVICE " answered without temporary credentials");
    } else {
        rv = aip_aws_read_keys(credentials, "SessionToken", SERVICE, got, pool, err);
    }
    json_decref(credentials);
    aip_identity_wipe((aip_span_t){copy, answer.len});
    aip_identity_wipe(answer);
    return rv;
}

/* ---- requests ---- */

/* Where a request goes. `region` may be NULL. */
static apr_status_t endpoint_of(const aip_aws_conf_t *conf, const char *region, aip_url_t *url,
                                apr_pool_t *pool, aip_error_t *err)
{
    const char *text = conf->sts_endpoint_url, *problem;
    if (!text && region && !aip_aws_region_ok(region)) {
        return aip_identity_fail(err, pool, "the AWS region is no name of a region");
    }
    if (!text) {
        text = region ? apr_pstrcat(pool, "https://sts.", region, ".", aip_aws_domain(region), NULL)
                      : "https://" GLOBAL_HOST;
    }
    problem = aip_identity_url_problem(text, pool);
    return problem ? aip_identity_fail(err, pool, "the URL of " SERVICE " %s", problem)
                   : aip_url_parse(text, url, pool, &problem);
}

static const char *session_name(const char *configured)
{
    const char *name = configured ? configured : aip_identity_env("AWS_ROLE_SESSION_NAME");
    return name ? name : SESSION_NAME;
}

static const char *form_of(const char *action, const char *role, const char *session,
                           apr_pool_t *pool)
{
    return apr_pstrcat(pool, "Action=", action,
                       "&Version=" VERSION "&RoleArn=", aip_url_encode(role, pool),
                       "&RoleSessionName=", aip_url_encode(session, pool), NULL);
}

apr_status_t aip_aws_from_web_identity(const aip_aws_conf_t *conf, bool *found,
                                       const aip_identity_net_t *net, aip_aws_got_t *got,
                                       apr_pool_t *pool, aip_error_t *err)
{
    static const char action[] = "AssumeRoleWithWebIdentity";
    static const char *const headers[] = {"Accept: application/json", NULL};
    const char *role = aip_identity_env("AWS_ROLE_ARN"),
               *file = aip_identity_env("AWS_WEB_IDENTITY_TOKEN_FILE"), *token;
    aip_url_t url;
    aip_span_t answer;
    *found = role && file;
    if (!*found) {
        return APR_SUCCESS;
    }
    apr_status_t rv =
        aip_identity_token_file(file, "AWS_WEB_IDENTITY_TOKEN_FILE", &token, pool, err);
    rv = rv == APR_SUCCESS ? endpoint_of(conf, aip_aws_region(conf->region), &url, pool, err) : rv;
    if (rv != APR_SUCCESS) {
        return rv;
    }
    aip_ask_t ask = {.service = SERVICE,
                     .url = url.full,
                     .headers = headers,
                     .form = apr_pstrcat(pool, form_of(action, role, session_name(NULL), pool),
                                         "&WebIdentityToken=", aip_url_encode(token, pool), NULL)};
    rv = aip_identity_ask(&ask, net, &answer, pool, err);
    aip_identity_wipe((aip_span_t){ask.form, strlen(ask.form)});
    return rv == APR_SUCCESS ? read_answer(answer, action, got, pool, err) : rv;
}

/* The fields that sign a POST of `form`, as a list of headers ended by NULL. */
static apr_status_t sign(const aip_url_t *url, const char *form, const char *region,
                         const aip_aws_keys_t *keys, const char *headers[8], apr_pool_t *pool,
                         aip_error_t *err)
{
    static const char *const sent[][2] = {{"Content-Type", FORM_TYPE},
                                          {"Accept", "application/json"}};
    const char *lines, *error;
    char *state = NULL;
    int n = 0;
    aip_sigv4_request_t request = {.method = "POST",
                                   .host = url->authority,
                                   .path = url->path,
                                   .query = url->query,
                                   .region = region,
                                   .service = "sts",
                                   .body = {form, strlen(form)},
                                   .now = apr_time_now(),
                                   .headers = sent,
                                   .n_headers = sizeof sent / sizeof *sent};
    if (aip_sigv4_sign(&request, keys, pool, &lines, &error) != APR_SUCCESS) {
        return aip_identity_fail(err, pool, "cannot sign a request to " SERVICE ": %s", error);
    }
    for (; n < 2; n++) {
        headers[n] = apr_pstrcat(pool, sent[n][0], ": ", sent[n][1], NULL);
    }
    for (char *line = apr_strtok(apr_pstrdup(pool, lines), "\r\n", &state); line && n < 7;
         line = apr_strtok(NULL, "\r\n", &state)) {
        headers[n++] = line;
    }
    headers[n] = NULL;
    return APR_SUCCESS;
}

/* The region of the signature: the old endpoint for all regions has one of its own. */
static const char *signing_region(const aip_url_t *url, const char *region)
{
    return strcasecmp(url->host, GLOBAL_HOST) == 0 ? "us-east-1" : region;
}

apr_status_t aip_aws_assume_role(const aip_aws_conf_t *conf, const aip_identity_net_t *net,
                                 aip_aws_got_t *got, apr_pool_t *pool, aip_error_t *err)
{
    static const char action[] = "AssumeRole";
    const char *region = aip_aws_region(conf->region);
    const char *form =
        form_of(action, conf->assume_role_arn, session_name(conf->role_session_name), pool);
    const char *headers[8];
    aip_url_t url;
    aip_span_t answer;
    apr_status_t rv = endpoint_of(conf, region, &url, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    region = signing_region(&url, region);
    if (!region || !aip_aws_region_ok(region)) {
        return aip_identity_fail(err, pool, "the AWS region of " SERVICE " is not known");
    }
    rv = sign(&url, form, region, &got->keys, headers, pool, err);
    if (rv == APR_SUCCESS) {
        aip_ask_t ask = {.service = SERVICE, .url = url.full, .headers = headers, .form = form};
        rv = aip_identity_ask(&ask, net, &answer, pool, err);
    }
    return rv == APR_SUCCESS ? read_answer(answer, action, got, pool, err) : rv;
}
