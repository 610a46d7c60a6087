/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoint facts of the providers, and the rules that hold between the fields of one target. Used
 * while the configuration is read. Endpoints: the providers' own API references. */
#include "aip/provider.h"

#include "aip/template.h"

#include "aip/cloud.h"
#include "aip/identity.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_uri.h>
#include <stdlib.h>
#include <string.h>

static const aip_provider_t providers[] = {
    {"openai", "https://api.openai.com", "/v1/chat/completions", false, false},
    {"azure", "https://%s.openai.azure.com", "/openai/deployments/%s/chat/completions", false,
     true},
    {"mistral", "https://api.mistral.ai", "/v1/chat/completions", false, false},
    {"deepseek", "https://api.deepseek.com", "/v1/chat/completions", false, false},
    {"xai", "https://api.x.ai", "/v1/chat/completions", false, false},
    {"cerebras", "https://api.cerebras.ai", "/v1/chat/completions", false, false},
    {"dashscope", "https://dashscope%s.aliyuncs.com", "/compatible-mode/v1/chat/completions", false,
     false},
    {"databricks", "https://%s.cloud.databricks.com", "/serving-endpoints/v1/chat/completions",
     true, false},
    {"vllm", NULL, "/v1/chat/completions", false, false},
    {"bedrock", "https://bedrock-runtime.%s.amazonaws.com", "/openai/v1/chat/completions", false,
     false},
    {"gemini", "https://generativelanguage.googleapis.com", "/v1beta/openai/chat/completions",
     false, false},
};

const aip_provider_t *aip_provider_find(const char *name)
{
    for (size_t i = 0; i < sizeof providers / sizeof *providers; i++) {
        if (strcmp(providers[i].name, name) == 0) {
            return &providers[i];
        }
    }
    return NULL;
}

static apr_status_t fail(const char **error, const char *text)
{
    *error = text;
    return APR_EGENERAL;
}

bool aip_port_ok(const char *text)
{
    size_t len = strspn(text, "0123456789");
    return len > 0 && len <= 5 && !text[len] && strtol(text, NULL, 10) >= 1 &&
           strtol(text, NULL, 10) <= 65535;
}

const char *aip_url_shown(const char *text, apr_pool_t *pool)
{
    const char *at = strrchr(text, '@'), *start = strstr(text, "://");
    if (!at) {
        return text;
    }
    start = start && start < at ? start + 3 : text;
    return apr_pstrcat(pool, apr_pstrmemdup(pool, text, (apr_size_t)(start - text)), "***", at,
                       NULL);
}

/* Kong fills them in; sent as they stand they would only be wrong. */
#define TEMPLATE                                                                                   \
    "holds a template such as $(headers.x) or $(uri_captures.x), which is not supported: write "   \
    "the "                                                                                         \
    "URL out, with one <AITarget> for each"

apr_status_t aip_url_parse(const char *text, aip_url_t *url, apr_pool_t *pool, const char **error)
{
    apr_uri_t uri;
    if (strstr(text, "$(")) {
        return fail(error, TEMPLATE);
    }
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f || (unsigned char)*p > 0x7f) {
            return fail(error,
                        "holds white space, control or non-ASCII bytes; percent-encode them");
        }
    }
    if (apr_uri_parse(pool, text, &uri) != APR_SUCCESS || !uri.scheme || !uri.hostname ||
        !*uri.hostname) {
        return fail(error, "must be a full URL such as https://host/v1/chat/completions");
    }
    bool tls = strcasecmp(uri.scheme, "https") == 0;
    if (!tls && strcasecmp(uri.scheme, "http") != 0) {
        return fail(error, "must begin with http:// or https://");
    }
    if (uri.user || uri.password || uri.fragment) {
        return fail(
            error,
            "must hold neither a user nor a fragment; credentials have their own directives");
    }
    if (uri.port_str && !aip_port_ok(uri.port_str)) {
        return fail(error, "must have a port from 1 to 65535");
    }
    bool v6 = strchr(uri.hostname, ':') != NULL;
    int standard = tls ? 443 : 80;
    *url = (aip_url_t){
        .full = text, .tls = tls, .host = uri.hostname, .port = uri.port_str ? uri.port : standard};
    const char *host = v6 ? apr_pstrcat(pool, "[", uri.hostname, "]", NULL) : uri.hostname;
    url->origin = apr_psprintf(pool, "%s://%s:%d", tls ? "https" : "http", host, url->port);
    url->authority = url->port == standard ? host : apr_psprintf(pool, "%s:%d", host, url->port);
    url->path = uri.path && *uri.path ? uri.path : "/";
    url->query = uri.query;
    return APR_SUCCESS;
}

/* All but letters, digits and what is in `plain`. */
static const char *encode(const char *text, const char *plain, apr_pool_t *pool)
{
    static const char hex[] = "0123456789ABCDEF";
    char *encoded = apr_palloc(pool, 3 * strlen(text) + 1), *out = encoded;
    for (; *text; text++) {
        if (apr_isalnum(*text) || strchr(plain, *text)) {
            *out++ = *text;
        } else {
            *out++ = '%';
            *out++ = hex[(unsigned char)*text >> 4];
            *out++ = hex[*text & 15];
        }
    }
    *out = '\0';
    return encoded;
}

const char *aip_url_encode(const char *text, apr_pool_t *pool)
{
    return encode(text, "-._~", pool);
}

const char *aip_url_requery(const char *value, apr_pool_t *pool)
{
    /* RFC 3986 query, without the two separators of parameters */
    return encode(value, "-._~!$'()*+,=:@/?%", pool);
}

static bool label_ok(const char *s)
{
    for (; *s; s++) {
        if (!apr_isalnum(*s) && !strchr("-._", *s)) {
            return false;
        }
    }
    return true;
}

static const char *instance(const aip_provider_t *provider, const aip_target_fields_t *f)
{
    if (strcmp(provider->name, "dashscope") == 0) {
        return f->dashscope_international ? "-intl" : "";
    }
    if (strcmp(provider->name, "bedrock") == 0) {
        return aip_aws_region(f->bedrock_aws_region);
    }
    return strcmp(provider->name, "azure") == 0 ? f->azure_instance
                                                : f->databricks_workspace_instance_id;
}

/* Google serves Gemini twice: by API key, and as Vertex AI, where a project pays. */
static bool is_vertex(const aip_provider_t *provider, const aip_target_fields_t *f)
{
    return strcmp(provider->name, "gemini") == 0 &&
           (f->auth_gcp_use_service_account || f->gemini_location_id || f->gemini_project_id ||
            f->gemini_api_endpoint);
}

static const char *vertex_url(const aip_target_fields_t *f, apr_pool_t *pool, const char **error)
{
    const char *location = f->gemini_location_id, *project = f->gemini_project_id;
    if (!location || !project) {
        *error = "AIModelOptionsGeminiLocationId and AIModelOptionsGeminiProjectId must be set for "
                 "Vertex AI, which AIAuthGcpUseServiceAccount and the other "
                 "AIModelOptionsGemini* ask for";
        return NULL;
    }
    size_t len = strspn(location, "abcdefghijklmnopqrstuvwxyz0123456789-");
    const char *colon = strchr(project, ':'), *host = f->gemini_api_endpoint;
    const char *id = colon ? colon + 1 : project, *domain = colon ? project : id;
    domain = apr_pstrmemdup(pool, domain, colon ? (apr_size_t)(colon - project) : strlen(domain));
    if (!len || location[len] || *location == '-' || !label_ok(id) || !label_ok(domain) || !*id ||
        *id == '.' || *domain == '.' || (host && (!label_ok(host) || *host == '.'))) {
        *error = "AIModelOptionsGeminiLocationId must look like us-central1, "
                 "AIModelOptionsGeminiProjectId like my-project and "
                 "AIModelOptionsGeminiApiEndpoint like us-central1-aiplatform.googleapis.com";
        return NULL;
    }
    if (!host) {
        host = strcmp(location, "global") == 0
                   ? "aiplatform.googleapis.com"
                   : apr_pstrcat(pool, location, "-aiplatform.googleapis.com", NULL);
    }
    return apr_pstrcat(pool, "https://", host, "/v1/projects/", project, "/locations/", location,
                       "/endpoints/openapi/chat/completions", NULL);
}

/* The URL of a provider whose own is not configured, or NULL and the error. */
static const char *provider_text(const aip_provider_t *provider, const aip_target_fields_t *f,
                                 apr_pool_t *pool, const char **error)
{
    const char *name = instance(provider, f), *path = provider->path;
    if (!provider->origin) {
        *error = "AIModelOptionsUpstreamUrl must be set for self-hosted models";
        return NULL;
    }
    if (is_vertex(provider, f)) {
        return vertex_url(f, pool, error);
    }
    if ((name && !label_ok(name)) ||
        (f->azure_deployment_id && !label_ok(f->azure_deployment_id))) {
        *error = "instance, workspace, region and deployment names hold letters, digits, '-', '.' "
                 "and '_' only";
        return NULL;
    }
    if (provider->api_version) {
        path = apr_pstrcat(pool, "/openai/deployments/", f->azure_deployment_id,
                           "/chat/completions", NULL);
    }
    const char *mark = strstr(provider->origin, "%s");
    if (!mark) {
        return apr_pstrcat(pool, provider->origin, path, NULL);
    }
    return apr_pstrcat(
        pool, apr_pstrmemdup(pool, provider->origin, (apr_size_t)(mark - provider->origin)), name,
        mark + 2, path, NULL);
}

static apr_status_t set_path(aip_url_t *url, const char *path, apr_pool_t *pool, const char **error)
{
    const char *p = path;
    if (strstr(path, "$(")) {
        return fail(error,
                    apr_psprintf(pool, "AIModelOptionsUpstreamPath '%s' %s", path, TEMPLATE));
    }
    while (*p > ' ' && *p < 0x7f && !strchr("?#", *p)) {
        p++;
    }
    if (*path != '/' || *p) {
        return fail(error,
                    apr_psprintf(pool,
                                 "AIModelOptionsUpstreamPath '%s' must begin with '/' and hold "
                                 "neither white space nor a query",
                                 path));
    }
    url->path = path;
    return APR_SUCCESS;
}

apr_status_t aip_provider_url(const aip_provider_t *provider, const aip_target_fields_t *f,
                              aip_url_t *url, apr_pool_t *pool, const char **error)
{
    const char *text = f->upstream_url ? f->upstream_url : provider_text(provider, f, pool, error);
    const char *reason;
    if (!text) {
        return APR_EGENERAL;
    }
    const char *template = aip_template_in(text) ? text : NULL;
    reason = template ? aip_template_error(text, pool) : NULL;
    if (reason || aip_url_parse(template ? aip_template_sample(text, pool) : text, url, pool,
                                &reason) != APR_SUCCESS) {
        return fail(error, apr_psprintf(pool, "AIModelOptionsUpstreamUrl '%s' %s",
                                        aip_url_shown(text, pool), reason));
    }
    url->template = template;
    if (template && f->upstream_path) {
        return fail(error, "AIModelOptionsUpstreamPath has no place beside a template in "
                           "AIModelOptionsUpstreamUrl; write the path there");
    }
    return f->upstream_path ? set_path(url, f->upstream_path, pool, error) : APR_SUCCESS;
}

bool aip_header_value_ok(const char *value)
{
    for (; *value; value++) {
        if (((unsigned char)*value < ' ' && *value != '\t') || *value == 0x7f) {
            return false;
        }
    }
    return true;
}

bool aip_header_name_ok(const char *name)
{
    static const char *const taken[] = {"Host",
                                        "Content-Length",
                                        "Transfer-Encoding",
                                        "Connection",
                                        "Upgrade",
                                        "Content-Type",
                                        "Content-Encoding",
                                        "Expect",
                                        "TE",
                                        "Accept-Encoding",
                                        "Trailer"};
    for (const char *p = name; *p; p++) {
        if (!apr_isalnum(*p) && !strchr("!#$%&'*+-.^_`|~", *p)) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        if (strcasecmp(taken[i], name) == 0) {
            return false;
        }
    }
    return *name != '\0';
}

bool aip_body_name_ok(const char *name)
{
    static const char *const owned[] = {"model",          "messages",   "stream",
                                        "stream_options", "max_tokens", "max_completion_tokens",
                                        "temperature",    "top_p",      "top_k"};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
        if (strcmp(owned[i], name) == 0) {
            return false;
        }
    }
    for (const char *p = name; *p; p++) {
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e || *p == '"' || *p == '\\') {
            return false;
        }
    }
    return true;
}

bool aip_body_value_ok(const char *value, apr_pool_t *pool)
{
    aip_span_t text = {value, strlen(value)};
    return aip_json_equals(aip_json_quote(text, pool), text); /* nothing had to be replaced */
}

static const char *check_auth(const aip_target_fields_t *f, apr_pool_t *pool)
{
    if (!f->auth_header_name != !f->auth_header_value) {
        return "all or none of AIAuthHeaderName and AIAuthHeaderValue must be set";
    }
    int params = (f->auth_param_name != NULL) + (f->auth_param_value != NULL) +
                 f->set[AIP_T_auth_param_location];
    if (params != 0 && params != 3) {
        return "all or none of AIAuthParamName, AIAuthParamValue and AIAuthParamLocation must be "
               "set";
    }
    if (f->auth_param_name && f->auth_param_location == AIP_PARAM_BODY &&
        f->set[AIP_T_auth_param_name] != AIP_SET_REFERENCE &&
        !aip_body_name_ok(f->auth_param_name)) {
        return apr_psprintf(
            pool,
            "AIAuthParamName '%s' is no name for a credential in the body; use printable ASCII "
            "and no member that the gateway sets",
            f->auth_param_name);
    }
    if (f->auth_param_value && f->auth_param_location == AIP_PARAM_BODY &&
        !aip_body_value_ok(f->auth_param_value, pool)) {
        return "AIAuthParamValue holds bytes that are no UTF-8: a body cannot carry them";
    }
    if (f->auth_header_name && f->set[AIP_T_auth_header_name] != AIP_SET_REFERENCE &&
        !aip_header_name_ok(f->auth_header_name)) {
        return apr_psprintf(pool, "AIAuthHeaderName '%s' is no name for a credential header",
                            f->auth_header_name);
    }
    if (f->auth_header_value && !aip_header_value_ok(f->auth_header_value)) {
        return "AIAuthHeaderValue holds control bytes";
    }
    return NULL;
}

/* Options that only one provider reads must not be ignored silently under another. */
static const char *check_foreign(const aip_target_fields_t *f, const char *provider,
                                 apr_pool_t *pool)
{
    static const struct {
        int index;
        const char *provider;
    } own[] = {{AIP_T_mistral_format, "mistral"},
               {AIP_T_azure_instance, "azure"},
               {AIP_T_azure_api_version, "azure"},
               {AIP_T_azure_deployment_id, "azure"},
               {AIP_T_dashscope_international, "dashscope"},
               {AIP_T_databricks_workspace_instance_id, "databricks"},
               {AIP_T_bedrock_aws_region, "bedrock"},
               {AIP_T_bedrock_aws_assume_role_arn, "bedrock"},
               {AIP_T_bedrock_aws_role_session_name, "bedrock"},
               {AIP_T_bedrock_aws_sts_endpoint_url, "bedrock"},
               {AIP_T_gemini_api_endpoint, "gemini"},
               {AIP_T_gemini_location_id, "gemini"},
               {AIP_T_gemini_project_id, "gemini"}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (f->set[own[i].index] && strcmp(own[i].provider, provider) != 0) {
            return apr_psprintf(pool, "%s belongs to AIModelProvider %s, not %s; remove it",
                                aip_target_table[own[i].index].directive, own[i].provider,
                                provider);
        }
    }
    return NULL;
}

/* The region is in the signature, too, so that a URL does not make it superfluous. */
static const char *check_bedrock(const aip_target_fields_t *f, apr_pool_t *pool)
{
    aip_cloud_auth_t auth = aip_cloud_of_target(f, pool);
    const char *region = aip_aws_region(f->bedrock_aws_region), *problem;
    if (!region && (!f->upstream_url || aip_cloud_kind(&auth) == AIP_CLOUD_AWS)) {
        return "AIModelOptionsBedrockAwsRegion must be set for AIModelProvider bedrock, or "
               "AWS_REGION in the environment of httpd";
    }
    if (region && !aip_aws_region_ok(region)) {
        return apr_psprintf(pool, "%s must look like us-east-1",
                            f->bedrock_aws_region ? "AIModelOptionsBedrockAwsRegion"
                                                  : "the environment's AWS_REGION");
    }
    if (f->bedrock_aws_role_session_name && !f->bedrock_aws_assume_role_arn) {
        return "AIModelOptionsBedrockAwsRoleSessionName needs "
               "AIModelOptionsBedrockAwsAssumeRoleArn";
    }
    if (f->bedrock_aws_assume_role_arn && (!aip_token_ok(f->bedrock_aws_assume_role_arn) ||
                                           strncmp(f->bedrock_aws_assume_role_arn, "arn:", 4))) {
        return "AIModelOptionsBedrockAwsAssumeRoleArn must look like "
               "arn:aws:iam::123456789012:role/name";
    }
    if (f->bedrock_aws_role_session_name &&
        !aip_aws_session_name_ok(f->bedrock_aws_role_session_name)) {
        return "AIModelOptionsBedrockAwsRoleSessionName must have 2 to 64 letters, digits and "
               "characters of _+=,.@-";
    }
    if (f->bedrock_aws_sts_endpoint_url &&
        (problem = aip_identity_url_problem(f->bedrock_aws_sts_endpoint_url, pool)) != NULL) {
        return apr_psprintf(pool, "AIModelOptionsBedrockAwsStsEndpointUrl '%s' %s",
                            aip_url_shown(f->bedrock_aws_sts_endpoint_url, pool), problem);
    }
    return NULL;
}

static const char *check_provider(const aip_target_fields_t *f, const char *provider,
                                  apr_pool_t *pool)
{
    if (strcmp(provider, "vllm") == 0 && !f->upstream_url) {
        return "AIModelOptionsUpstreamUrl must be set for self-hosted providers: add the URL of "
               "vLLM's chat completions";
    }
    if (strcmp(provider, "mistral") == 0 && !f->set[AIP_T_mistral_format]) {
        return "AIModelOptionsMistralFormat must be set for AIModelProvider mistral: add "
               "'AIModelOptionsMistralFormat openai'";
    }
    if (strcmp(provider, "azure") == 0 && !f->upstream_url && !f->azure_instance) {
        return "AIModelOptionsAzureInstance must be set for AIModelProvider azure";
    }
    if (strcmp(provider, "azure") == 0 && !f->upstream_url && !f->azure_deployment_id) {
        return "AIModelOptionsAzureDeploymentId must be set for AIModelProvider azure";
    }
    if (strcmp(provider, "databricks") == 0 && !f->upstream_url &&
        !f->databricks_workspace_instance_id) {
        return "AIModelOptionsDatabricksWorkspaceInstanceId must be set for AIModelProvider "
               "databricks";
    }
    const char *error = check_foreign(f, provider, pool);
    return !error && strcmp(provider, "bedrock") == 0 ? check_bedrock(f, pool) : error;
}

const char *aip_target_check(const aip_target_fields_t *f, apr_pool_t *pool)
{
    if (!f->set[AIP_T_route_type]) {
        return "AIRouteType is required: add 'AIRouteType llm/v1/chat'";
    }
    if (!f->set[AIP_T_model_provider]) {
        return "AIModelProvider is required: add for instance 'AIModelProvider openai'";
    }
    const char *provider =
        aip_field_word(&aip_target_table[AIP_T_model_provider], f->model_provider, pool);
    const char *error = check_auth(f, pool);
    error = error ? error : check_provider(f, provider, pool);
    aip_cloud_auth_t cloud = aip_cloud_of_target(f, pool);
    error = error ? error : aip_cloud_check(&cloud, pool);
    if (error) {
        return error;
    }
    if ((f->set[AIP_T_input_cost] && f->input_cost.value <= 0) ||
        (f->set[AIP_T_output_cost] && f->output_cost.value <= 0)) {
        return "AIModelOptionsInputCost and AIModelOptionsOutputCost must be greater than 0; leave "
               "them out for a free model";
    }
    if (f->description && strcmp(f->description, "CATCHALL") == 0 && f->route_example) {
        return "AIRouteExample has no place beside 'AIDescription CATCHALL', which is never "
               "compared with a prompt";
    }
    aip_url_t url;
    return aip_provider_url(aip_provider_find(provider), f, &url, pool, &error) == APR_SUCCESS
               ? NULL
               : error;
}
