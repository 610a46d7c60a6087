/* SPDX-License-Identifier: Apache-2.0 */
/* Microsoft's tokens: what each kind of identity asks, and which one is taken. */

#include "identity_fixture.h"

Suite *identity_azure_suite(void);

#define TOKEN "{\"access_token\":\"eyJ0.a.b\",\"expires_in\":3599,\"token_type\":\"Bearer\"}"

static aip_token_t token;
static aip_error_t err;

static apr_status_t ask(const aip_azure_conf_t *conf)
{
    err = (aip_error_t){0};
    token = (aip_token_t){0};
    n_asked = 0;
    if (!answers[0].body) {
        answers[0] = (answer_t){200, TOKEN, 0};
    }
    return aip_azure_token(conf, &scripted_net, &token, pool, &err);
}

static void asks(const aip_azure_conf_t *conf, const char *request)
{
    ck_assert_msg(ask(conf) == APR_SUCCESS, "%s", err.message);
    ck_assert_int_eq(n_asked, 1);
    ck_assert_str_eq(asked[0], request);
    ck_assert_str_eq(token.text, "eyJ0.a.b");
}

static void refuses(const aip_azure_conf_t *conf, const char *message)
{
    ck_assert_int_ne(ask(conf), APR_SUCCESS);
    has(err.message, message);
    has_not(err.message, "s3cret");
}

#define FORM(scope)                                                                                \
    "/oauth2/v2.0/token\n\ngrant_type=client_credentials&client_id=app&scope=" scope               \
    "&client_secret=s3cret%26%3D%2B%20"
#define DEFAULT_SCOPE "https%3A%2F%2Fcognitiveservices.azure.com%2F.default"

START_TEST(by_secret)
{
    aip_azure_conf_t conf = {
        .tenant_id = "contoso.example", .client_id = "app", .client_secret = "s3cret&=+ "};
    asks(&conf, "POST https://login.microsoftonline.com/contoso.example" FORM(DEFAULT_SCOPE));
    ck_assert_int_eq(token.lifetime, apr_time_from_sec(3599));
    setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/", 1);
    asks(&conf, "POST https://login.microsoftonline.us/contoso.example" FORM(DEFAULT_SCOPE));
    setenv("AZURE_AUTHORITY_HOST", "login.chinacloudapi.cn", 1);
    asks(&conf, "POST https://login.chinacloudapi.cn/contoso.example" FORM(DEFAULT_SCOPE));
    conf.authority = "http://127.0.0.1:9";
    conf.scope = "api://x/.default";
    asks(&conf, "POST http://127.0.0.1:9/contoso.example" FORM("api%3A%2F%2Fx%2F.default"));
    /* A secret that is configured is what is used, whatever the machine has. */
    setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:8/", 1);
    setenv("IDENTITY_HEADER", "h", 1);
    setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent", 1);
    asks(&conf, "POST http://127.0.0.1:9/contoso.example" FORM("api%3A%2F%2Fx%2F.default"));
}
END_TEST

START_TEST(refuses_secrets)
{
    aip_azure_conf_t conf = {.tenant_id = "t", .client_id = "app", .client_secret = "s3cret"};
    static const char *const tenants[] = {NULL, "", "a/b", "a?b", "../x", "a b", "a\r\nb", "a%2f"};
    for (int i = 0; i < ROWS(tenants); i++) {
        conf.tenant_id = tenants[i];
        refuses(&conf, "tenant");
        ck_assert_int_eq(n_asked, 0);
    }
    conf.tenant_id = "t";
    conf.client_id = NULL;
    refuses(&conf, "client id");
    conf.client_id = "app";
    conf.authority = "http://login.example";
    refuses(&conf, "must begin with https://");
    conf.authority = "https://user:pw@login.example";
    refuses(&conf, "must hold neither a user");
    has_not(err.message, "pw");
    ck_assert_int_eq(n_asked, 0);
    conf.authority = NULL;
    answers[0] =
        (answer_t){401, "{\"error\":\"invalid_client\",\"error_description\":\"s3cret\"}", 0};
    refuses(&conf, "Microsoft's token service answered with status 401 (invalid_client)");
}
END_TEST

START_TEST(by_federation)
{
    aip_azure_conf_t conf = {0};
    setenv("AZURE_FEDERATED_TOKEN_FILE", temporary("eyJh.b.c\n"), 1);
    setenv("AZURE_TENANT_ID", "tenant", 1);
    setenv("AZURE_CLIENT_ID", "pod", 1);
    asks(&conf, "POST https://login.microsoftonline.com/tenant/oauth2/v2.0/token\n\n"
                "grant_type=client_credentials&client_id=pod&scope=" DEFAULT_SCOPE
                "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3A"
                "jwt-bearer&client_assertion=eyJh.b.c");
    conf.client_id = "other";
    ck_assert_int_eq(ask(&conf), APR_SUCCESS);
    has(asked[0], "client_id=other&");
    setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token", 1);
    refuses(&conf, "cannot read AZURE_FEDERATED_TOKEN_FILE '/nonexistent/token'");
    setenv("AZURE_FEDERATED_TOKEN_FILE", temporary("s3cret with blanks"), 1);
    refuses(&conf, "holds no token");
}
END_TEST

START_TEST(by_app_service)
{
    aip_azure_conf_t conf = {0};
    double soon = (double)apr_time_sec(apr_time_now()) + 1000;
    setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token", 1);
    setenv("IDENTITY_HEADER", "key-1", 1);
    answers[0] = (answer_t){
        200, apr_psprintf(pool, "{\"access_token\":\"eyJ0.a.b\",\"expires_on\":\"%.0f\"}", soon),
        0};
    asks(&conf, "local GET http://127.0.0.1:41/msi/token?api-version=2019-08-01&resource="
                "https%3A%2F%2Fcognitiveservices.azure.com\nX-IDENTITY-HEADER: key-1\n\n");
    ck_assert_int_gt(token.lifetime, apr_time_from_sec(990));
    ck_assert_int_le(token.lifetime, apr_time_from_sec(1000));
    conf.client_id = "a&b";
    setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token?x=y", 1);
    asks(&conf, "local GET http://127.0.0.1:41/msi/token?x=y&api-version=2019-08-01&resource="
                "https%3A%2F%2Fcognitiveservices.azure.com&client_id=a%26b\n"
                "X-IDENTITY-HEADER: key-1\n\n");
    setenv("IDENTITY_HEADER", "s3cret\r\nX: y", 1);
    refuses(&conf, "IDENTITY_HEADER is no header value");
    setenv("IDENTITY_HEADER", "key-1", 1);
    setenv("IDENTITY_ENDPOINT", "msi", 1);
    refuses(&conf, "IDENTITY_ENDPOINT must be a full URL");
    ck_assert_int_eq(n_asked, 0);
}
END_TEST

START_TEST(by_metadata)
{
    aip_azure_conf_t conf = {0};
    answers[0] = (answer_t){200,
                            "{\"access_token\":\"eyJ0.a.b\",\"expires_in\":\"86399\","
                            "\"expires_on\":\"1\",\"not_before\":\"1\",\"resource\":\"r\","
                            "\"token_type\":\"Bearer\"}",
                            0};
    asks(&conf, "local GET http://169.254.169.254/metadata/identity/oauth2/token?"
                "api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com\n"
                "Metadata: true\n\n");
    ck_assert_int_eq(token.lifetime, apr_time_from_sec(86399));
    setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41/", 1); /* alone it says nothing */
    conf = (aip_azure_conf_t){
        .client_id = "id", .metadata_url = "http://127.0.0.1:9/", .scope = "api://x"};
    asks(&conf, "local GET http://127.0.0.1:9/metadata/identity/oauth2/token?"
                "api-version=2018-02-01&resource=api%3A%2F%2Fx&client_id=id\nMetadata: true\n\n");
    answers[0] = (answer_t){0, "Timeout was reached", 0};
    refuses(&conf, "Azure's instance metadata service did not answer: Timeout was reached");
}
END_TEST

Suite *identity_azure_suite(void)
{
    Suite *suite = suite_create("identity_azure");
    TCase *tcase = tcase_create("identity_azure");
    tcase_add_checked_fixture(tcase, identity_setup, pool_teardown);
    tcase_add_test(tcase, by_secret);
    tcase_add_test(tcase, refuses_secrets);
    tcase_add_test(tcase, by_federation);
    tcase_add_test(tcase, by_app_service);
    tcase_add_test(tcase, by_metadata);
    suite_add_tcase(suite, tcase);
    return suite;
}
