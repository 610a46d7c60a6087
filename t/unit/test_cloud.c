/* SPDX-License-Identifier: Apache-2.0 */
/* Identities of clouds in the configuration: which one fields mean, and what must not be together,
 * the same for targets and for the embeddings. */

#include <apr_strings.h>
#include <string.h>

#include "aip/cloud.h"
#include "identity_fixture.h"

Suite *cloud_suite(void);

/* Members of aip_cloud_auth_t that a row sets. */
static const struct {
    const char *name;
    aip_cloud_auth_t auth;
    aip_cloud_e kind;
    const char *error; /* NULL: accepted */
} rows[] = {
    {"nothing", {.provider = "openai"}, AIP_CLOUD_NONE, NULL},
    {"bedrock", {.provider = "bedrock"}, AIP_CLOUD_AWS, NULL},
    {"an API key of bedrock",
     {.provider = "bedrock", .header_name = "Authorization"},
     AIP_CLOUD_NONE,
     NULL},
    {"a parameter of bedrock", {.provider = "bedrock", .param_name = "k"}, AIP_CLOUD_NONE, NULL},
    {"keys",
     {.provider = "bedrock", .aws_access_key_id = "A", .aws_secret_access_key = "s"},
     AIP_CLOUD_AWS,
     NULL},
    {"keys beside another header",
     {.provider = "bedrock",
      .header_name = "X-Gateway",
      .aws_access_key_id = "A",
      .aws_secret_access_key = "s"},
     AIP_CLOUD_AWS,
     NULL},
    {"keys beside Authorization",
     {.provider = "bedrock",
      .header_name = "AUTHORIZATION",
      .aws_access_key_id = "A",
      .aws_secret_access_key = "s"},
     AIP_CLOUD_AWS,
     "@HeaderName Authorization has no place"},
    {"a role beside Authorization",
     {.provider = "bedrock", .header_name = "Authorization", .aws_assume_role_arn = "arn:x"},
     AIP_CLOUD_AWS,
     "@HeaderName Authorization has no place"},
    {"half of the keys",
     {.provider = "bedrock", .aws_access_key_id = "A"},
     AIP_CLOUD_AWS,
     "all or none of @AwsAccessKeyId and @AwsSecretAccessKey"},
    {"the other half",
     {.provider = "bedrock", .aws_secret_access_key = "s"},
     AIP_CLOUD_AWS,
     "all or none of @AwsAccessKeyId and @AwsSecretAccessKey"},
    {"a key with a blank",
     {.provider = "bedrock", .aws_access_key_id = "A B", .aws_secret_access_key = "s"},
     AIP_CLOUD_AWS,
     "@AwsAccessKeyId holds white space"},
    {"a secret with a line end",
     {.provider = "bedrock", .aws_access_key_id = "A", .aws_secret_access_key = "s\n"},
     AIP_CLOUD_AWS,
     "@AwsSecretAccessKey holds white space"},
    {"keys out of a vault",
     {.provider = "bedrock",
      .aws_access_key_id = "{vault://env/A B}",
      .aws_secret_access_key = "{vault://env/B }"},
     AIP_CLOUD_AWS,
     NULL},
    {"keys elsewhere",
     {.provider = "openai", .aws_access_key_id = "A", .aws_secret_access_key = "s"},
     AIP_CLOUD_NONE,
     "@AwsAccessKeyId has no meaning with @Provider openai; remove it"},
    {"an override of bedrock",
     {.provider = "bedrock", .allow_override = true},
     AIP_CLOUD_AWS,
     "@AllowOverride must be Off with @Provider bedrock"},
    {"an override of gemini",
     {.provider = "gemini", .header_name = "Authorization", .allow_override = true},
     AIP_CLOUD_NONE,
     "@AllowOverride must be Off with @Provider gemini"},
    {"an override", {.provider = "openai", .allow_override = true}, AIP_CLOUD_NONE, NULL},
    {"a managed identity",
     {.provider = "azure", .azure_use_managed_identity = true},
     AIP_CLOUD_AZURE,
     NULL},
    {"one of several",
     {.provider = "azure", .azure_use_managed_identity = true, .azure_client_id = "i"},
     AIP_CLOUD_AZURE,
     NULL},
    {"a managed identity beside api-key",
     {.provider = "azure", .azure_use_managed_identity = true, .header_name = "api-key"},
     AIP_CLOUD_AZURE,
     NULL},
    {"a managed identity beside Authorization",
     {.provider = "azure", .azure_use_managed_identity = true, .header_name = "authorization"},
     AIP_CLOUD_AZURE,
     "@HeaderName Authorization has no place"},
    {"an override of an identity",
     {.provider = "azure", .azure_use_managed_identity = true, .allow_override = true},
     AIP_CLOUD_AZURE,
     "@AllowOverride must be Off with @Provider azure and an identity"},
    {"an override of azure", {.provider = "azure", .allow_override = true}, AIP_CLOUD_NONE, NULL},
    {"an application",
     {.provider = "azure",
      .azure_client_id = "i",
      .azure_client_secret = "s",
      .azure_tenant_id = "t.example"},
     AIP_CLOUD_AZURE,
     NULL},
    {"an application, as Kong writes it",
     {.provider = "azure",
      .azure_client_id = "i",
      .azure_client_secret = "s",
      .azure_tenant_id = "t",
      .azure_use_managed_identity = true},
     AIP_CLOUD_AZURE,
     NULL},
    {"no tenant",
     {.provider = "azure", .azure_client_id = "i", .azure_client_secret = "s"},
     AIP_CLOUD_AZURE,
     "@AzureClientSecret needs @AzureClientId and @AzureTenantId"},
    {"no id",
     {.provider = "azure", .azure_tenant_id = "t", .azure_client_secret = "s"},
     AIP_CLOUD_AZURE,
     "@AzureClientSecret needs @AzureClientId and @AzureTenantId"},
    {"no secret",
     {.provider = "azure", .azure_client_id = "i", .azure_tenant_id = "t"},
     AIP_CLOUD_NONE,
     "@AzureClientId needs @AzureClientSecret, or @AzureUseManagedIdentity On"},
    {"a tenant alone",
     {.provider = "azure", .azure_tenant_id = "t"},
     AIP_CLOUD_NONE,
     "@AzureTenantId needs @AzureClientSecret, or @AzureUseManagedIdentity On"},
    {"a tenant that is a path",
     {.provider = "azure",
      .azure_client_id = "i",
      .azure_client_secret = "s",
      .azure_tenant_id = "t/../x"},
     AIP_CLOUD_AZURE,
     "@AzureTenantId must be an id or a domain name"},
    {"a tenant out of a vault",
     {.provider = "azure",
      .azure_client_id = "i",
      .azure_client_secret = "s",
      .azure_tenant_id = "{vault://env/T}"},
     AIP_CLOUD_AZURE,
     NULL},
    {"a managed identity elsewhere",
     {.provider = "openai", .azure_use_managed_identity = true},
     AIP_CLOUD_AZURE,
     "@AzureUseManagedIdentity has no meaning with @Provider openai"},
    {"a client id elsewhere",
     {.provider = "mistral", .azure_client_id = "i"},
     AIP_CLOUD_NONE,
     "@AzureClientId has no meaning with @Provider mistral"},
    {"google", {.provider = "gemini", .gcp_use_service_account = true}, AIP_CLOUD_GCP, NULL},
    {"google by URLs",
     {.provider = "gemini",
      .gcp_use_service_account = true,
      .gcp_metadata_url = "http://metadata.example",
      .gcp_oauth_token_url = "https://o.example/t"},
     AIP_CLOUD_GCP,
     NULL},
    {"google's URLs out of a vault",
     {.provider = "gemini",
      .gcp_use_service_account = true,
      .gcp_metadata_url = "{vault://env/A}",
      .gcp_oauth_token_url = "{vault://env/B}",
      .gcp_service_account_json = "{vault://env/C}"},
     AIP_CLOUD_GCP,
     NULL},
    {"google beside Authorization",
     {.provider = "gemini", .gcp_use_service_account = true, .header_name = "Authorization"},
     AIP_CLOUD_GCP,
     "@HeaderName Authorization has no place"},
    {"a JSON alone",
     {.provider = "gemini", .gcp_service_account_json = "{}"},
     AIP_CLOUD_NONE,
     "@GcpServiceAccountJson needs @GcpUseServiceAccount On"},
    {"a metadata server alone",
     {.provider = "gemini", .gcp_metadata_url = "http://m"},
     AIP_CLOUD_NONE,
     "@GcpMetadataUrl needs @GcpUseServiceAccount On"},
    {"a token URL alone",
     {.provider = "gemini", .gcp_oauth_token_url = "https://m"},
     AIP_CLOUD_NONE,
     "@GcpOauthTokenUrl needs @GcpUseServiceAccount On"},
    {"a JSON that is none",
     {.provider = "gemini", .gcp_use_service_account = true, .gcp_service_account_json = "sk-x"},
     AIP_CLOUD_GCP,
     "@GcpServiceAccountJson is no JSON object"},
    {"a JSON without a key",
     {.provider = "gemini",
      .gcp_use_service_account = true,
      .gcp_service_account_json = "{\"client_email\":\"a\",\"private_key\":\"sk-x\"}"},
     AIP_CLOUD_GCP,
     "@GcpServiceAccountJson has no private_key"},
    {"a token URL without TLS",
     {.provider = "gemini",
      .gcp_use_service_account = true,
      .gcp_oauth_token_url = "http://o.example/t"},
     AIP_CLOUD_GCP,
     "@GcpOauthTokenUrl 'http://o.example/t' must begin with https://"},
    {"a metadata URL that is none",
     {.provider = "gemini", .gcp_use_service_account = true, .gcp_metadata_url = "u:sk-x@m"},
     AIP_CLOUD_GCP,
     "@GcpMetadataUrl '***@m' must be"},
};

/* The names of directives in a row of the table: '@' is the prefix of those of the credentials. */
static const char *named(const char *text, const char *prefix, const char *provider)
{
    const char *out = "";
    for (const char *at; (at = strchr(text, '@')) != NULL; text = at + 1) {
        bool whole = strncmp(at, "@Provider", 9) == 0;
        bool address = strncmp(at, "@m'", 3) == 0;
        out = apr_pstrcat(pool, out, apr_pstrmemdup(pool, text, (apr_size_t)(at - text)),
                          address ? "@"
                          : whole ? provider
                                  : prefix,
                          NULL);
        at += whole ? strlen("Provider") : 0;
    }
    return apr_pstrcat(pool, out, text, NULL);
}

START_TEST(checks)
{
    aip_cloud_auth_t auth = rows[_i].auth;
    auth.prefix = "AIAuth";
    ck_assert_msg(aip_cloud_kind(&auth) == rows[_i].kind, "%s", rows[_i].name);
    const char *error = aip_cloud_check(&auth, pool);
    if (!rows[_i].error) {
        ck_assert_msg(error == NULL, "%s: %s", rows[_i].name, error);
        return;
    }
    ck_assert_msg(error != NULL, "%s was accepted", rows[_i].name);
    has(error, named(rows[_i].error, "AIAuth", "AIModelProvider"));
    has_not(error, "sk-x");
}
END_TEST

START_TEST(embeddings)
{
    static const struct {
        const char *provider;
        aip_cloud_auth_t auth;
        const char *error;
    } all[] = {
        {"azure", {.azure_use_managed_identity = true}, NULL},
        {"azure", {.azure_client_id = "i"}, "AIEmbeddingsAuthAzureClientId needs"},
        {"openai",
         {.azure_use_managed_identity = true},
         "AIEmbeddingsAuthAzureUseManagedIdentity has no meaning with AIEmbeddingsModelProvider "
         "openai; remove it"},
        {"openai",
         {.aws_access_key_id = "A", .aws_secret_access_key = "s"},
         "AIEmbeddingsAuthAwsAccessKeyId has no meaning with AIEmbeddingsModelProvider openai"},
        {"openai", {.gcp_use_service_account = true, .own_url = true}, NULL},
        {"openai",
         {.gcp_use_service_account = true},
         "AIEmbeddingsAuthGcpUseServiceAccount has no meaning with AIEmbeddingsModelProvider "
         "openai without AIEmbeddingsModelOptionsUpstreamUrl"},
        {"mistral",
         {.gcp_use_service_account = true, .own_url = true},
         "AIEmbeddingsAuthGcpUseServiceAccount has no meaning with AIEmbeddingsModelProvider "
         "mistral; remove it"},
        {"local", {.azure_use_managed_identity = true}, "has no meaning"},
        {"local", {0}, NULL},
    };
    for (int i = 0; i < ROWS(all); i++) {
        aip_cloud_auth_t auth = all[i].auth;
        auth.prefix = "AIEmbeddingsAuth";
        auth.provider = all[i].provider;
        const char *error = aip_cloud_check(&auth, pool);
        ck_assert_msg(!error == !all[i].error, "row %d: %s", i, error ? error : "accepted");
        if (error) {
            has(error, all[i].error);
        }
    }
}
END_TEST

/* Every field of both tables arrives in its own member. */
START_TEST(fields_arrive)
{
    static const char *const names[] = {
        "AwsAccessKeyId", "AwsSecretAccessKey", "AzureClientId",    "AzureClientSecret",
        "AzureTenantId",  "GcpMetadataUrl",     "GcpOauthTokenUrl", "GcpServiceAccountJson",
        "HeaderName",     "ParamName"};
    aip_target_fields_t t;
    aip_location_fields_t l;
    aip_target_defaults(&t, pool);
    aip_location_defaults(&l, pool);
    for (int i = 0; i < AIP_TARGET_COUNT + AIP_LOCATION_COUNT; i++) {
        bool target = i < AIP_TARGET_COUNT;
        const aip_field_t *row =
            target ? &aip_target_table[i] : &aip_location_table[i - AIP_TARGET_COUNT];
        const char *prefix = target ? "AIAuth" : "AIEmbeddingsAuth";
        if (strncmp(row->directive, prefix, strlen(prefix)) == 0 && row->kind == AIP_KIND_STR) {
            char *value = apr_pstrdup(pool, row->directive);
            ck_assert_ptr_null(aip_field_set(row, target ? (void *)&t : &l, 1, &value, pool));
        }
    }
    for (int side = 0; side < 2; side++) {
        aip_cloud_auth_t a =
            side ? aip_cloud_of_embeddings(&l, pool) : aip_cloud_of_target(&t, pool);
        const char *const values[] = {a.aws_access_key_id,   a.aws_secret_access_key,
                                      a.azure_client_id,     a.azure_client_secret,
                                      a.azure_tenant_id,     a.gcp_metadata_url,
                                      a.gcp_oauth_token_url, a.gcp_service_account_json,
                                      a.header_name,         a.param_name};
        ck_assert_str_eq(a.prefix, side ? "AIEmbeddingsAuth" : "AIAuth");
        for (int i = 0; i < ROWS(names); i++) {
            ck_assert_str_eq(values[i], apr_pstrcat(pool, a.prefix, names[i], NULL));
        }
    }
}
END_TEST

Suite *cloud_suite(void)
{
    Suite *suite = suite_create("cloud");
    TCase *tcase = tcase_create("cloud");
    tcase_add_checked_fixture(tcase, identity_setup, pool_teardown);
    tcase_add_loop_test(tcase, checks, 0, ROWS(rows));
    tcase_add_test(tcase, embeddings);
    tcase_add_test(tcase, fields_arrive);
    suite_add_tcase(suite, tcase);
    return suite;
}
