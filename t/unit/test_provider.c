/* SPDX-License-Identifier: Apache-2.0 */
/* Providers: URLs taken apart and refused, the endpoint of every provider, the cross-field rules of
 * a target. */

#include <apr_strings.h>
#include <string.h>

#include "aip/provider.h"
#include "fixture.h"

Suite *provider_suite(void);

static const struct {
    const char *text, *expected; /* "tls host port origin authority path query", NULL: refused */
} urls[] = {
    {"https://api.example.com/v1/chat",
     "1 api.example.com 443 https://api.example.com:443 api.example.com /v1/chat -"},
    {"http://api.example.com/v1/chat",
     "0 api.example.com 80 http://api.example.com:80 api.example.com /v1/chat -"},
    {"HTTPS://api.example.com/x",
     "1 api.example.com 443 https://api.example.com:443 api.example.com /x -"},
    {"http://h:8080/x", "0 h 8080 http://h:8080 h:8080 /x -"},
    {"http://h:80/x", "0 h 80 http://h:80 h /x -"},
    {"https://h:443/x", "1 h 443 https://h:443 h /x -"},
    {"https://h:80/x", "1 h 80 https://h:80 h:80 /x -"},
    {"http://h:65535/", "0 h 65535 http://h:65535 h:65535 / -"},
    {"http://h:1/", "0 h 1 http://h:1 h:1 / -"},
    {"http://h", "0 h 80 http://h:80 h / -"},
    {"http://h/", "0 h 80 http://h:80 h / -"},
    {"http://h/a?b=c&d=%20", "0 h 80 http://h:80 h /a b=c&d=%20"},
    {"http://h?b=c", "0 h 80 http://h:80 h / b=c"},
    {"http://127.0.0.1:9/x", "0 127.0.0.1 9 http://127.0.0.1:9 127.0.0.1:9 /x -"},
    {"http://[::1]:9/x", "0 ::1 9 http://[::1]:9 [::1]:9 /x -"},
    {"https://[2001:db8::1]/x", "1 2001:db8::1 443 https://[2001:db8::1]:443 [2001:db8::1] /x -"},
    {"http://h/a/../b/./%2e", "0 h 80 http://h:80 h /a/../b/./%2e -"},
    {"", NULL},
    {"h/x", NULL},
    {"/v1/chat", NULL},
    {"//h/x", NULL},
    {"http:h", NULL},
    {"http:///x", NULL},
    {"http://:80/x", NULL},
    {"ftp://h/x", NULL},
    {"unix:/run/x.sock|http://h/", NULL},
    {"http://user@h/x", NULL},
    {"http://user:pw@h/x", NULL},
    {"http://:pw@h/x", NULL},
    {"http://h/x#part", NULL},
    {"http://h:0/x", NULL},
    {"http://h:65536/x", NULL},
    {"http://h:99999/x", NULL},
    {"http://h:-1/x", NULL},
    {"http://h:80x/x", NULL},
    {"http://h/a b", NULL},
    {" http://h/x", NULL},
    {"http://h/x\n", NULL},
    {"http://h\r\nHost: other/x", NULL},
    {"http://h/\x01", NULL},
    {"http://h/\x7f", NULL},
    {"http://h/\xc3\xa4", NULL},
    {"http://$(headers.h)/x", NULL},
    {"http://h/$(uri_captures.x)", NULL},
    {"http://h/?x=$(query_params.x)", NULL},
    {"http://[::1/x", NULL},
};

static const struct {
    const char *text, *encoded, *requeried;
} encodings[] = {
    {"", "", ""},
    {"aZ0-._~", "aZ0-._~", "aZ0-._~"},
    {"2024-10-21 p", "2024-10-21%20p", "2024-10-21%20p"},
    {"a%20b%zz", "a%2520b%25zz", "a%20b%zz"},
    {"a&b=1#c;d", "a%26b%3D1%23c%3Bd", "a%26b=1%23c%3Bd"},
    {"\r\n\t\x7f\x01", "%0D%0A%09%7F%01", "%0D%0A%09%7F%01"},
    {"\xc3\xa4\xff", "%C3%A4%FF", "%C3%A4%FF"},
    {"\"<>\\^`{|}", "%22%3C%3E%5C%5E%60%7B%7C%7D", "%22%3C%3E%5C%5E%60%7B%7C%7D"},
    {"!$'()*+,=:@/?[]", "%21%24%27%28%29%2A%2B%2C%3D%3A%40%2F%3F%5B%5D", "!$'()*+,=:@/?%5B%5D"},
};

START_TEST(encodes)
{
    ck_assert_str_eq(aip_url_encode(encodings[_i].text, pool), encodings[_i].encoded);
    ck_assert_str_eq(aip_url_requery(encodings[_i].text, pool), encodings[_i].requeried);
}
END_TEST

START_TEST(parses_urls)
{
    aip_url_t url;
    const char *error = NULL;
    apr_status_t rv = aip_url_parse(urls[_i].text, &url, pool, &error);
    if (!urls[_i].expected) {
        ck_assert_msg(rv != APR_SUCCESS, "'%s' was accepted: %s port %d", urls[_i].text, url.host,
                      url.port);
        ck_assert(error && *error);
        return;
    }
    ck_assert_msg(rv == APR_SUCCESS, "'%s' %s", urls[_i].text, error);
    ck_assert_str_eq(apr_psprintf(pool, "%d %s %d %s %s %s %s", url.tls, url.host, url.port,
                                  url.origin, url.authority, url.path, url.query ? url.query : "-"),
                     urls[_i].expected);
    ck_assert_str_eq(url.full, urls[_i].text);
}
END_TEST

/* Lines "Directive value", separated by ';'. */
static const aip_target_fields_t *target_of(const char *lines)
{
    aip_target_fields_t *fields = apr_palloc(pool, sizeof *fields);
    char *state = NULL, *copy = apr_pstrdup(pool, lines);
    aip_target_defaults(fields, pool);
    for (char *line = apr_strtok(copy, ";", &state); line; line = apr_strtok(NULL, ";", &state)) {
        char *value = strchr(line, ' ');
        const aip_field_t *row = NULL;
        ck_assert_ptr_nonnull(value);
        *value++ = '\0';
        for (int i = 0; i < AIP_TARGET_COUNT; i++) {
            row = strcmp(aip_target_table[i].directive, line) == 0 ? &aip_target_table[i] : row;
        }
        ck_assert_msg(row != NULL, "no directive %s", line);
        const char *error = aip_field_set(row, fields, 1, &value, pool);
        ck_assert_msg(error == NULL, "%s", error);
    }
    return fields;
}

static const struct {
    const char *provider, *lines, *expected; /* URL without port, or NULL and what the error says */
    const char *error;
} endpoints[] = {
    {"openai", "", "https://api.openai.com/v1/chat/completions", NULL},
    {"mistral", "", "https://api.mistral.ai/v1/chat/completions", NULL},
    {"deepseek", "", "https://api.deepseek.com/v1/chat/completions", NULL},
    {"xai", "", "https://api.x.ai/v1/chat/completions", NULL},
    {"cerebras", "", "https://api.cerebras.ai/v1/chat/completions", NULL},
    {"dashscope", "", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
     NULL},
    {"dashscope", "AIModelOptionsDashscopeInternational Off",
     "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions", NULL},
    {"databricks", "AIModelOptionsDatabricksWorkspaceInstanceId dbc-1",
     "https://dbc-1.cloud.databricks.com/serving-endpoints/v1/chat/completions", NULL},
    {"azure", "AIModelOptionsAzureInstance my-ai;AIModelOptionsAzureDeploymentId gpt-4o",
     "https://my-ai.openai.azure.com/openai/deployments/gpt-4o/chat/completions", NULL},
    {"vllm", "AIModelOptionsUpstreamUrl http://gpu:8000/v1/chat/completions",
     "http://gpu:8000/v1/chat/completions", NULL},
    {"openai", "AIModelOptionsUpstreamUrl http://127.0.0.1:9/v1/x?k=v",
     "http://127.0.0.1:9/v1/x?k=v", NULL},
    {"openai", "AIModelOptionsUpstreamPath /other/chat", "https://api.openai.com/other/chat", NULL},
    {"openai", "AIModelOptionsUpstreamUrl http://h:9/a?k=v;AIModelOptionsUpstreamPath /b",
     "http://h:9/b?k=v", NULL},
    {"azure", "AIModelOptionsUpstreamUrl https://my.host/chat", "https://my.host/chat", NULL},
    {"bedrock", "AIModelOptionsBedrockAwsRegion eu-west-1",
     "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1/chat/completions", NULL},
    {"bedrock", "AIModelOptionsUpstreamUrl https://vpce.example/x", "https://vpce.example/x", NULL},
    {"gemini", "",
     "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", NULL},
    {"gemini",
     "AIAuthGcpUseServiceAccount On;AIModelOptionsGeminiLocationId us-central1;"
     "AIModelOptionsGeminiProjectId my-project",
     "https://us-central1-aiplatform.googleapis.com/v1/projects/my-project/locations/us-central1/"
     "endpoints/openapi/chat/completions",
     NULL},
    {"gemini",
     "AIModelOptionsGeminiLocationId global;AIModelOptionsGeminiProjectId example.com:my-project",
     "https://aiplatform.googleapis.com/v1/projects/example.com:my-project/locations/global/"
     "endpoints/openapi/chat/completions",
     NULL},
    {"gemini",
     "AIModelOptionsGeminiLocationId eu;AIModelOptionsGeminiProjectId p;"
     "AIModelOptionsGeminiApiEndpoint vertex.p.googleapis.com",
     "https://vertex.p.googleapis.com/v1/projects/p/locations/eu/endpoints/openapi/chat/"
     "completions",
     NULL},
    {"gemini", "AIAuthGcpUseServiceAccount On;AIModelOptionsUpstreamUrl https://h/x",
     "https://h/x", NULL},
    {"gemini", "AIAuthGcpUseServiceAccount On", NULL, "AIModelOptionsGeminiLocationId and"},
    {"gemini", "AIModelOptionsGeminiLocationId eu", NULL, "AIModelOptionsGeminiProjectId must be"},
    {"gemini", "AIModelOptionsGeminiProjectId p", NULL, "AIModelOptionsGeminiLocationId and"},
    {"gemini", "AIModelOptionsGeminiApiEndpoint h", NULL, "AIModelOptionsGeminiLocationId and"},
    {"gemini", "AIModelOptionsGeminiLocationId evil.example/;AIModelOptionsGeminiProjectId p", NULL,
     "must look like"},
    {"gemini", "AIModelOptionsGeminiLocationId ..;AIModelOptionsGeminiProjectId p", NULL,
     "must look like"},
    {"gemini", "AIModelOptionsGeminiLocationId eu;AIModelOptionsGeminiProjectId ..", NULL,
     "must look like"},
    {"gemini", "AIModelOptionsGeminiLocationId eu;AIModelOptionsGeminiProjectId a/../b", NULL,
     "must look like"},
    {"gemini", "AIModelOptionsGeminiLocationId eu;AIModelOptionsGeminiProjectId a:b:c", NULL,
     "must look like"},
    {"gemini",
     "AIModelOptionsGeminiLocationId eu;AIModelOptionsGeminiProjectId p;"
     "AIModelOptionsGeminiApiEndpoint evil.example/x",
     NULL, "must look like"},
    {"gemini",
     "AIModelOptionsGeminiLocationId eu;AIModelOptionsGeminiProjectId p;"
     "AIModelOptionsGeminiApiEndpoint a@evil.example",
     NULL, "must look like"},
    {"vllm", "", NULL, "AIModelOptionsUpstreamUrl must be set"},
    {"openai", "AIModelOptionsUpstreamUrl ftp://h/", NULL, "AIModelOptionsUpstreamUrl 'ftp://h/'"},
    {"openai", "AIModelOptionsUpstreamPath v1/chat", NULL, "AIModelOptionsUpstreamPath 'v1/chat'"},
    {"openai", "AIModelOptionsUpstreamPath /v1?x=y", NULL, "AIModelOptionsUpstreamPath"},
    {"openai", "AIModelOptionsUpstreamPath /v1#x", NULL, "AIModelOptionsUpstreamPath"},
    {"openai", "AIModelOptionsUpstreamPath /v1 x", NULL, "AIModelOptionsUpstreamPath"},
    {"openai", "AIModelOptionsUpstreamPath /v1\r\nX: y", NULL, "AIModelOptionsUpstreamPath"},
    {"openai", "AIModelOptionsUpstreamPath /\xc3\xa4", NULL, "AIModelOptionsUpstreamPath"},
    {"azure", "AIModelOptionsAzureInstance evil.com/x;AIModelOptionsAzureDeploymentId d", NULL,
     "instance"},
    {"azure", "AIModelOptionsAzureInstance a;AIModelOptionsAzureDeploymentId d/../../x", NULL,
     "deployment"},
    {"azure", "AIModelOptionsAzureInstance a@b;AIModelOptionsAzureDeploymentId d", NULL,
     "instance"},
    {"databricks", "AIModelOptionsDatabricksWorkspaceInstanceId evil.com:1/", NULL, "workspace"},
};

START_TEST(finds_endpoints)
{
    const aip_provider_t *provider = aip_provider_find(endpoints[_i].provider);
    const char *error = NULL;
    aip_url_t url;
    ck_assert_ptr_nonnull(provider);
    apr_status_t rv =
        aip_provider_url(provider, target_of(endpoints[_i].lines), &url, pool, &error);
    if (!endpoints[_i].expected) {
        ck_assert_msg(rv != APR_SUCCESS, "%s %s gives %s%s", endpoints[_i].provider,
                      endpoints[_i].lines, url.origin, url.path);
        ck_assert_msg(strstr(error, endpoints[_i].error) != NULL, "%s", error);
        return;
    }
    ck_assert_msg(rv == APR_SUCCESS, "%s", error);
    ck_assert_str_eq(apr_pstrcat(pool, url.tls ? "https://" : "http://", url.authority, url.path,
                                 url.query ? "?" : "", url.query, NULL),
                     endpoints[_i].expected);
}
END_TEST

/* Every word of AIModelProvider has a row, and no other word has. */
START_TEST(every_word_has_a_row)
{
    const aip_field_t *row = &aip_target_table[AIP_T_model_provider];
    const char *word;
    int n = 0;
    for (; *(word = aip_field_word(row, n, pool)); n++) {
        const aip_provider_t *provider = aip_provider_find(word);
        ck_assert_msg(provider != NULL, "%s", word);
        ck_assert_str_eq(provider->name, word);
        ck_assert_int_eq(provider->api_version, strcmp(word, "azure") == 0);
        ck_assert_int_eq(provider->drop_stream_options, strcmp(word, "databricks") == 0);
        ck_assert_int_eq(provider->origin == NULL, strcmp(word, "vllm") == 0);
    }
    ck_assert_int_eq(n, 11);
    ck_assert_ptr_null(aip_provider_find("OpenAI"));
    ck_assert_ptr_null(aip_provider_find(""));
    ck_assert_ptr_null(aip_provider_find("anthropic"));
}
END_TEST

#define OPENAI "AIRouteType llm/v1/chat;AIModelProvider openai;"
#define OF(provider) "AIRouteType llm/v1/chat;AIModelProvider " provider ";"

static const struct {
    const char *name, *lines, *error; /* NULL: accepted */
} targets[] = {
    {"smallest", "AIRouteType llm/v1/chat;AIModelProvider openai", NULL},
    {"nothing", "", "AIRouteType is required"},
    {"no provider", "AIRouteType llm/v1/chat", "AIModelProvider is required"},
    {"no route type", "AIModelProvider openai", "AIRouteType is required"},
    {"header", OPENAI "AIAuthHeaderName Authorization;AIAuthHeaderValue Bearer x", NULL},
    {"header without value", OPENAI "AIAuthHeaderName Authorization",
     "all or none of AIAuthHeaderName"},
    {"header without name", OPENAI "AIAuthHeaderValue Bearer x", "all or none of AIAuthHeaderName"},
    {"parameter", OPENAI "AIAuthParamName key;AIAuthParamValue x;AIAuthParamLocation query", NULL},
    {"parameter in body", OPENAI "AIAuthParamName key;AIAuthParamValue x;AIAuthParamLocation body",
     NULL},
    {"parameter and header",
     OPENAI "AIAuthHeaderName X-Key;AIAuthHeaderValue x;AIAuthParamName key;AIAuthParamValue x;"
            "AIAuthParamLocation query",
     NULL},
    {"parameter without location", OPENAI "AIAuthParamName key;AIAuthParamValue x",
     "AIAuthParamLocation must be set"},
    {"parameter without value", OPENAI "AIAuthParamName key;AIAuthParamLocation query",
     "AIAuthParamValue"},
    {"location alone", OPENAI "AIAuthParamLocation query", "AIAuthParamName"},
    {"header name with a space", OPENAI "AIAuthHeaderName X Key;AIAuthHeaderValue x",
     "AIAuthHeaderName 'X Key'"},
    {"header that frames", OPENAI "AIAuthHeaderName content-length;AIAuthHeaderValue 0",
     "AIAuthHeaderName 'content-length'"},
    {"header value with a line end", OPENAI "AIAuthHeaderName X-Key;AIAuthHeaderValue a\nb",
     "AIAuthHeaderValue holds control"},
    {"mistral", OF("mistral") "AIModelOptionsMistralFormat openai", NULL},
    {"mistral without format", OF("mistral"), "AIModelOptionsMistralFormat must be set"},
    {"format without mistral", OPENAI "AIModelOptionsMistralFormat openai",
     "AIModelOptionsMistralFormat belongs to"},
    {"azure", OF("azure") "AIModelOptionsAzureInstance a;AIModelOptionsAzureDeploymentId d", NULL},
    {"azure with version",
     OF("azure") "AIModelOptionsAzureInstance a;AIModelOptionsAzureDeploymentId d;"
                 "AIModelOptionsAzureApiVersion 2024-10-21",
     NULL},
    {"azure without instance", OF("azure") "AIModelOptionsAzureDeploymentId d",
     "AIModelOptionsAzureInstance must be set"},
    {"azure without deployment", OF("azure") "AIModelOptionsAzureInstance a",
     "AIModelOptionsAzureDeploymentId must be set"},
    {"azure with a URL", OF("azure") "AIModelOptionsUpstreamUrl https://h/x", NULL},
    {"instance without azure", OPENAI "AIModelOptionsAzureInstance a",
     "AIModelOptionsAzureInstance belongs to"},
    {"version without azure", OPENAI "AIModelOptionsAzureApiVersion 1",
     "AIModelOptionsAzureApiVersion belongs to"},
    {"deployment without azure", OPENAI "AIModelOptionsAzureDeploymentId d",
     "AIModelOptionsAzureDeploymentId belongs to"},
    {"vllm", OF("vllm") "AIModelOptionsUpstreamUrl http://h/x", NULL},
    {"vllm without URL", OF("vllm"), "AIModelOptionsUpstreamUrl must be set for self-hosted"},
    {"vllm with a path only", OF("vllm") "AIModelOptionsUpstreamPath /x",
     "AIModelOptionsUpstreamUrl must be set"},
    {"databricks", OF("databricks") "AIModelOptionsDatabricksWorkspaceInstanceId a", NULL},
    {"databricks without workspace", OF("databricks"),
     "AIModelOptionsDatabricksWorkspaceInstanceId must be set"},
    {"workspace without databricks", OPENAI "AIModelOptionsDatabricksWorkspaceInstanceId a",
     "AIModelOptionsDatabricksWorkspaceInstanceId belongs to"},
    {"dashscope", OF("dashscope") "AIModelOptionsDashscopeInternational Off", NULL},
    {"international without dashscope", OPENAI "AIModelOptionsDashscopeInternational On",
     "AIModelOptionsDashscopeInternational belongs to"},
    {"deepseek", OF("deepseek"), NULL},
    {"xai", OF("xai"), NULL},
    {"cerebras", OF("cerebras"), NULL},
    {"costs", OPENAI "AIModelOptionsInputCost 0.5;AIModelOptionsOutputCost 1", NULL},
    {"input cost 0", OPENAI "AIModelOptionsInputCost 0;AIModelOptionsOutputCost 1",
     "must be greater than 0"},
    {"output cost 0", OPENAI "AIModelOptionsOutputCost 0", "must be greater than 0"},
    {"temperature 0", OPENAI "AIModelOptionsTemperature 0", NULL},
    {"catch-all", OPENAI "AIDescription CATCHALL", NULL},
    {"catch-all with an example", OPENAI "AIDescription CATCHALL;AIRouteExample x",
     "AIRouteExample has no place"},
    {"examples beside a description", OPENAI "AIDescription mathematics;AIRouteExample x", NULL},
    {"bedrock", OF("bedrock") "AIModelOptionsBedrockAwsRegion us-east-1", NULL},
    {"bedrock without region", OF("bedrock"), "AIModelOptionsBedrockAwsRegion must be set"},
    {"bedrock with a URL, which is signed", OF("bedrock") "AIModelOptionsUpstreamUrl https://h/x",
     "AIModelOptionsBedrockAwsRegion must be set"},
    {"bedrock by API key at a URL",
     OF("bedrock") "AIModelOptionsUpstreamUrl https://h/x;AIAuthHeaderName Authorization;"
                   "AIAuthHeaderValue Bearer x",
     NULL},
    {"bedrock, bad region", OF("bedrock") "AIModelOptionsBedrockAwsRegion evil.example/",
     "AIModelOptionsBedrockAwsRegion must look like"},
    {"bedrock, half of the keys",
     OF("bedrock") "AIModelOptionsBedrockAwsRegion us-east-1;AIAuthAwsAccessKeyId A",
     "all or none of AIAuthAwsAccessKeyId"},
    {"bedrock, a role",
     OF("bedrock") "AIModelOptionsBedrockAwsRegion us-east-1;"
                   "AIModelOptionsBedrockAwsAssumeRoleArn arn:aws:iam::1:role/r;"
                   "AIModelOptionsBedrockAwsRoleSessionName gw;"
                   "AIModelOptionsBedrockAwsStsEndpointUrl http://127.0.0.1:9/",
     NULL},
    {"bedrock, no role",
     OF("bedrock") "AIModelOptionsBedrockAwsRegion us-east-1;"
                   "AIModelOptionsBedrockAwsAssumeRoleArn r",
     "AIModelOptionsBedrockAwsAssumeRoleArn must look like"},
    {"bedrock, a session without a role",
     OF("bedrock") "AIModelOptionsBedrockAwsRegion us-east-1;"
                   "AIModelOptionsBedrockAwsRoleSessionName gw",
     "AIModelOptionsBedrockAwsRoleSessionName needs"},
    {"bedrock, no session name",
     OF("bedrock") "AIModelOptionsBedrockAwsRegion us-east-1;"
                   "AIModelOptionsBedrockAwsAssumeRoleArn arn:aws:iam::1:role/r;"
                   "AIModelOptionsBedrockAwsRoleSessionName a b",
     "AIModelOptionsBedrockAwsRoleSessionName must have"},
    {"bedrock, STS without TLS",
     OF("bedrock") "AIModelOptionsBedrockAwsRegion us-east-1;"
                   "AIModelOptionsBedrockAwsStsEndpointUrl http://sts.example/",
     "AIModelOptionsBedrockAwsStsEndpointUrl 'http://sts.example/' must begin with https"},
    {"region without bedrock", OPENAI "AIModelOptionsBedrockAwsRegion us-east-1",
     "AIModelOptionsBedrockAwsRegion belongs to"},
    {"role without bedrock", OPENAI "AIModelOptionsBedrockAwsAssumeRoleArn arn:x",
     "AIModelOptionsBedrockAwsAssumeRoleArn belongs to"},
    {"session without bedrock", OPENAI "AIModelOptionsBedrockAwsRoleSessionName x",
     "AIModelOptionsBedrockAwsRoleSessionName belongs to"},
    {"STS without bedrock", OPENAI "AIModelOptionsBedrockAwsStsEndpointUrl https://x",
     "AIModelOptionsBedrockAwsStsEndpointUrl belongs to"},
    {"gemini", OF("gemini"), NULL},
    {"gemini by service account",
     OF("gemini") "AIAuthGcpUseServiceAccount On;AIModelOptionsGeminiLocationId eu;"
                  "AIModelOptionsGeminiProjectId p",
     NULL},
    {"gemini by service account, no project", OF("gemini") "AIAuthGcpUseServiceAccount On",
     "AIModelOptionsGeminiLocationId and AIModelOptionsGeminiProjectId must be set"},
    {"location without gemini", OPENAI "AIModelOptionsGeminiLocationId eu",
     "AIModelOptionsGeminiLocationId belongs to"},
    {"project without gemini", OPENAI "AIModelOptionsGeminiProjectId p",
     "AIModelOptionsGeminiProjectId belongs to"},
    {"endpoint without gemini", OPENAI "AIModelOptionsGeminiApiEndpoint h",
     "AIModelOptionsGeminiApiEndpoint belongs to"},
    {"an identity of another cloud", OPENAI "AIAuthAzureUseManagedIdentity On",
     "AIAuthAzureUseManagedIdentity has no meaning with AIModelProvider openai"},
    {"bad URL", OPENAI "AIModelOptionsUpstreamUrl nowhere", "AIModelOptionsUpstreamUrl 'nowhere'"},
};

START_TEST(checks_targets)
{
    const char *error = aip_target_check(target_of(targets[_i].lines), pool);
    if (!targets[_i].error) {
        ck_assert_msg(error == NULL, "%s: %s", targets[_i].name, error);
        return;
    }
    ck_assert_msg(error != NULL, "%s was accepted", targets[_i].name);
    ck_assert_msg(strstr(error, targets[_i].error) != NULL, "%s: %s", targets[_i].name, error);
}
END_TEST

START_TEST(header_names)
{
    static const struct {
        const char *name;
        bool ok;
    } rows[] = {
        {"Authorization", true},
        {"api-key", true},
        {"X_1!#$%&'*+-.^_`|~", true},
        {"x", true},
        {"", false},
        {"a b", false},
        {"a:", false},
        {"a\n", false},
        {"(a)", false},
        {"a\"", false},
        {"\xc3\xa4", false},
        {"Host", false},
        {"HOST", false},
        {"content-length", false},
        {"Transfer-Encoding", false},
        {"connection", false},
        {"Upgrade", false},
        {"Content-Type", false},
        {"Content-Encoding", false},
        {"Expect", false},
        {"TE", false},
        {"Accept-Encoding", false},
        {"Trailer", false},
        {"Hosts", true},
        {"X-Host", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(aip_header_name_ok(rows[i].name) == rows[i].ok, "'%s'", rows[i].name);
    }
}
END_TEST

START_TEST(header_values)
{
    char text[] = "a?b";
    for (int c = 1; c < 256; c++) {
        text[1] = (char)c;
        ck_assert_msg(aip_header_value_ok(text) == (c == '\t' || (c >= ' ' && c != 0x7f)),
                      "byte %d", c);
    }
    ck_assert(aip_header_value_ok(""));
}
END_TEST

/* The environment's region is the one of the machine; the field's wins. */
START_TEST(regions_of_the_environment)
{
    const char *error = NULL;
    aip_url_t url;
    setenv("AWS_DEFAULT_REGION", "eu-west-2", 1);
    ck_assert_ptr_null(aip_target_check(target_of(OF("bedrock")), pool));
    ck_assert_int_eq(
        aip_provider_url(aip_provider_find("bedrock"), target_of(""), &url, pool, &error), 0);
    ck_assert_str_eq(url.host, "bedrock-runtime.eu-west-2.amazonaws.com");
    setenv("AWS_REGION", "eu-west-3", 1);
    aip_provider_url(aip_provider_find("bedrock"), target_of(""), &url, pool, &error);
    ck_assert_str_eq(url.host, "bedrock-runtime.eu-west-3.amazonaws.com");
    aip_provider_url(aip_provider_find("bedrock"),
                     target_of("AIModelOptionsBedrockAwsRegion us-east-1"), &url, pool, &error);
    ck_assert_str_eq(url.host, "bedrock-runtime.us-east-1.amazonaws.com");
    setenv("AWS_REGION", "evil.example/", 1);
    ck_assert_str_eq(aip_target_check(target_of(OF("bedrock")), pool),
                     "the environment's AWS_REGION must look like us-east-1");
}
END_TEST

static void setup(void)
{
    pool_setup();
    unsetenv("AWS_REGION");
    unsetenv("AWS_DEFAULT_REGION");
}

Suite *provider_suite(void)
{
    Suite *suite = suite_create("provider");
    TCase *tcase = tcase_create("provider");
    tcase_add_checked_fixture(tcase, setup, pool_teardown);
    tcase_add_test(tcase, regions_of_the_environment);
    tcase_add_loop_test(tcase, parses_urls, 0, sizeof urls / sizeof *urls);
    tcase_add_loop_test(tcase, encodes, 0, sizeof encodings / sizeof *encodings);
    tcase_add_loop_test(tcase, finds_endpoints, 0, sizeof endpoints / sizeof *endpoints);
    tcase_add_test(tcase, every_word_has_a_row);
    tcase_add_loop_test(tcase, checks_targets, 0, sizeof targets / sizeof *targets);
    tcase_add_test(tcase, header_names);
    tcase_add_test(tcase, header_values);
    tcase_add_loop_test(tcase, encodes, 0, ROWS(encodings));
    suite_add_tcase(suite, tcase);
    return suite;
}
