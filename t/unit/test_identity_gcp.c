/* SPDX-License-Identifier: Apache-2.0 */
/* Google's tokens: the signed grant as Google would check it, the metadata server, refusals. */

#include <apr_base64.h>
#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "identity_fixture.h"

Suite *identity_gcp_suite(void);

#define TOKEN "{\"access_token\":\"ya29.c.x-_~+/=\",\"expires_in\":3599,\"token_type\":\"Bearer\"}"

static EVP_PKEY *key;

/* Once, before the tests fork. */
static void make_key(void)
{
    key = EVP_RSA_gen(2048);
}

static void drop_key(void)
{
    EVP_PKEY_free(key);
}

static const char *pem_of(EVP_PKEY *pkey, const char *passphrase)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    ck_assert_int_eq(PEM_write_bio_PKCS8PrivateKey(bio, pkey, passphrase ? EVP_aes_128_cbc() : NULL,
                                                   NULL, 0, NULL, (void *)(uintptr_t)passphrase),
                     1);
    long len = BIO_get_mem_data(bio, &data);
    const char *pem = apr_pstrmemdup(pool, data, (apr_size_t)len);
    BIO_free(bio);
    return pem;
}

/* The JSON of a service account; `edit` is merged over it, null removes. */
static const char *account(const char *edit)
{
    json_t *root = json_pack("{s:s,s:s,s:s,s:s,s:s}", "type", "service_account", "client_email",
                             "gw@p.iam.gserviceaccount.com", "private_key_id", "k1", "private_key",
                             pem_of(key, NULL), "token_uri", "http://127.0.0.1:1/token");
    json_t *more = json_loads(edit, 0, NULL);
    ck_assert_ptr_nonnull(more);
    json_object_update(root, more);
    char *text = json_dumps(root, 0);
    const char *copy = apr_pstrdup(pool, text);
    free(text);
    json_decref(root);
    json_decref(more);
    return copy;
}

static apr_status_t ask(const aip_gcp_conf_t *conf, aip_token_t *token, aip_error_t *err)
{
    *err = (aip_error_t){0};
    *token = (aip_token_t){0};
    return aip_gcp_token(conf, &scripted_net, token, pool, err);
}

/* One part of a JWT, decoded as base64url without padding. */
static unsigned char *decoded(const char *text, size_t len, size_t *n)
{
    char *copy = apr_pstrmemdup(pool, text, len);
    for (char *p = copy; *p; p++) {
        ck_assert_msg(*p != '+' && *p != '/' && *p != '=', "%s", copy);
        *p = *p == '-' ? '+' : *p == '_' ? '/' : *p;
    }
    copy = apr_pstrcat(pool, copy, len % 4 == 2 ? "==" : len % 4 == 3 ? "=" : "", NULL);
    unsigned char *out = apr_pcalloc(pool, len + 4);
    *n = (size_t)apr_base64_decode_binary(out, copy);
    out[*n] = '\0';
    return out;
}

static json_t *json_part(const char *text, size_t len)
{
    size_t n;
    json_t *root = json_loads((char *)decoded(text, len, &n), JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(root);
    return root;
}

static const char *text_of(const json_t *root, const char *name)
{
    const char *value = json_string_value(json_object_get(root, name));
    ck_assert_msg(value != NULL, "no %s", name);
    return value;
}

/* As the token service sees it: with the public half of the key. */
static bool verified(const char *input, size_t len, const unsigned char *signature, size_t n)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(bio, key);
    EVP_PKEY *public_key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, public_key) == 1 &&
              EVP_DigestVerify(ctx, signature, n, (const unsigned char *)input, len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(public_key);
    BIO_free(bio);
    return ok;
}

static void check_grant(const char *jwt, const char *audience)
{
    const char *dot = strchr(jwt, '.'), *last = strrchr(jwt, '.');
    size_t n;
    ck_assert(dot && last > dot && !memchr(dot + 1, '.', (size_t)(last - dot - 1)));
    unsigned char *signature = decoded(last + 1, strlen(last + 1), &n);
    ck_assert_uint_eq(n, 256);
    ck_assert(verified(jwt, (size_t)(last - jwt), signature, n));
    signature[7] ^= 1;
    ck_assert(!verified(jwt, (size_t)(last - jwt), signature, n));
    json_t *head = json_part(jwt, (size_t)(dot - jwt));
    json_t *claims = json_part(dot + 1, (size_t)(last - dot - 1));
    ck_assert_str_eq(text_of(head, "alg"), "RS256");
    ck_assert_str_eq(text_of(head, "typ"), "JWT");
    ck_assert_str_eq(text_of(head, "kid"), "k1");
    ck_assert_str_eq(text_of(claims, "iss"), "gw@p.iam.gserviceaccount.com");
    ck_assert_str_eq(text_of(claims, "scope"), "https://www.googleapis.com/auth/cloud-platform");
    ck_assert_str_eq(text_of(claims, "aud"), audience);
    json_int_t now = (json_int_t)apr_time_sec(apr_time_now());
    json_int_t iat = json_integer_value(json_object_get(claims, "iat"));
    ck_assert_int_le(iat, now);
    ck_assert_int_ge(iat, now - 30);
    ck_assert_int_eq(json_integer_value(json_object_get(claims, "exp")), iat + 3600);
    json_decref(head);
    json_decref(claims);
}

START_TEST(by_key)
{
    static const char form[] =
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    aip_gcp_conf_t conf = {.service_account_json = account("{}"),
                           .metadata_url = "http://127.0.0.1:9"};
    aip_token_t token;
    aip_error_t err;
    answers[0] = (answer_t){200, TOKEN, 0};
    ck_assert_int_eq(ask(&conf, &token, &err), APR_SUCCESS);
    ck_assert_str_eq(token.text, "ya29.c.x-_~+/=");
    ck_assert_int_eq(token.lifetime, apr_time_from_sec(3599));
    ck_assert_int_eq(n_asked, 1);
    ck_assert_int_eq(strncmp(asked[0], "POST http://127.0.0.1:1/token\n\n", 31), 0);
    const char *body = strstr(asked[0], "\n\n") + 2;
    ck_assert_int_eq(strncmp(body, form, strlen(form)), 0);
    check_grant(body + strlen(form), "http://127.0.0.1:1/token");

    /* Another way to the same issuer: the audience stays. */
    conf.oauth_token_url = "https://private.example/token";
    n_asked = 0;
    ck_assert_int_eq(ask(&conf, &token, &err), APR_SUCCESS);
    has(asked[0], "POST https://private.example/token\n");
    check_grant(strstr(asked[0], "assertion=") + 10, "http://127.0.0.1:1/token");

    /* Google's own when the JSON names none; the JSON from the environment. */
    json_t *root = json_loads(account("{}"), 0, NULL);
    json_object_del(root, "token_uri");
    char *text = json_dumps(root, 0);
    setenv("GCP_SERVICE_ACCOUNT", text, 1);
    free(text);
    json_decref(root);
    conf = (aip_gcp_conf_t){0};
    n_asked = 0;
    ck_assert_int_eq(ask(&conf, &token, &err), APR_SUCCESS);
    has(asked[0], "POST https://oauth2.googleapis.com/token\n");
    check_grant(strstr(asked[0], "assertion=") + 10, "https://oauth2.googleapis.com/token");
}
END_TEST

/* With a JSON the metadata server is never asked, whatever happens. */
START_TEST(never_metadata_with_a_json)
{
    aip_gcp_conf_t conf = {.service_account_json = account("{}")};
    aip_token_t token;
    aip_error_t err;
    answers[0] = (answer_t){400, "{\"error\":\"invalid_grant\",\"error_description\":\"sk-x\"}", 0};
    ck_assert_int_ne(ask(&conf, &token, &err), APR_SUCCESS);
    ck_assert_int_eq(n_asked, 1);
    ck_assert_str_eq(err.message,
                     "Google's token service answered with status 400 (invalid_grant)");
    conf.service_account_json = "{}";
    ck_assert_int_ne(ask(&conf, &token, &err), APR_SUCCESS);
    ck_assert_int_eq(n_asked, 1);
    conf.service_account_json = account("{}");
    conf.oauth_token_url = "http://elsewhere.example/";
    ck_assert_int_ne(ask(&conf, &token, &err), APR_SUCCESS);
    has(err.message, "https://");
    ck_assert_int_eq(n_asked, 1);
}
END_TEST

START_TEST(by_metadata)
{
    static const struct {
        const char *configured, *asked;
    } rows[] = {
        {NULL, "local GET http://metadata.google.internal/computeMetadata/v1/instance/"
               "service-accounts/default/token\nMetadata-Flavor: Google\n\n"},
        {"http://127.0.0.1:9", "local GET http://127.0.0.1:9/computeMetadata/v1/instance/"
                               "service-accounts/default/token\nMetadata-Flavor: Google\n\n"},
        {"http://127.0.0.1:9/", "local GET http://127.0.0.1:9/computeMetadata/v1/instance/"
                                "service-accounts/default/token\nMetadata-Flavor: Google\n\n"},
        {"http://127.0.0.1:9/a/token?x=y",
         "local GET http://127.0.0.1:9/a/token?x=y\nMetadata-Flavor: Google\n\n"},
    };
    for (int i = 0; i < ROWS(rows); i++) {
        aip_gcp_conf_t conf = {.metadata_url = rows[i].configured};
        aip_token_t token;
        aip_error_t err;
        answers[0] = (answer_t){200, TOKEN, 0};
        n_asked = 0;
        ck_assert_int_eq(ask(&conf, &token, &err), APR_SUCCESS);
        ck_assert_str_eq(asked[0], rows[i].asked);
        ck_assert_str_eq(token.text, "ya29.c.x-_~+/=");
    }
    aip_gcp_conf_t conf = {.metadata_url = "metadata"};
    aip_token_t token;
    aip_error_t err;
    ck_assert_int_ne(ask(&conf, &token, &err), APR_SUCCESS);
    has(err.message, "metadata server must be a full URL");
}
END_TEST

static const struct {
    const char *edit, *problem; /* what is wrong, NULL: nothing */
} jsons[] = {
    {"{}", NULL},
    {"{\"type\":null}", NULL},
    {"{\"token_uri\":\"https://oauth2.googleapis.com/token\"}", NULL},
    {"{\"unknown\":[1]}", NULL},
    {"{\"type\":\"authorized_user\"}", "service_account"},
    {"{\"client_email\":null}", "client_email"},
    {"{\"client_email\":\"\"}", "client_email"},
    {"{\"client_email\":\"a\\nb\"}", "client_email"},
    {"{\"client_email\":1}", "client_email"},
    {"{\"private_key_id\":\"a b\"}", "private_key_id"},
    {"{\"private_key\":null}", "RSA key"},
    {"{\"private_key\":\"\"}", "RSA key"},
    {"{\"private_key\":\"nonsense\"}", "RSA key"},
    {"{\"private_key\":\"-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n\"}",
     "RSA key"},
    {"{\"token_uri\":null}", "token_uri"},
    {"{\"token_uri\":\"http://evil.example/\"}", "token_uri"},
    {"{\"token_uri\":\"http://127.0.0.1.evil.example/\"}", "token_uri"},
    {"{\"token_uri\":\"file:///etc/passwd\"}", "token_uri"},
    {"{\"token_uri\":5}", "token_uri"},
};

START_TEST(reads_accounts)
{
    const char *text = account(jsons[_i].edit);
    const char *problem = aip_gcp_json_problem(text, pool);
    if (!jsons[_i].problem) {
        ck_assert_msg(problem == NULL, "%s: %s", jsons[_i].edit, problem);
        return;
    }
    has(problem, jsons[_i].problem);
    has_not(problem, "nonsense");
    aip_gcp_conf_t conf = {.service_account_json = text};
    aip_token_t token;
    aip_error_t err;
    ck_assert_int_ne(ask(&conf, &token, &err), APR_SUCCESS);
    has(err.message, jsons[_i].problem);
    ck_assert_int_eq(n_asked, 0);
}
END_TEST

static const char *with_key(const char *pem)
{
    json_t *edit = json_pack("{s:s}", "private_key", pem);
    char *dumped = json_dumps(edit, 0);
    const char *text = account(dumped);
    free(dumped);
    json_decref(edit);
    return text;
}

START_TEST(refuses_other_keys)
{
    EVP_PKEY *others[] = {EVP_RSA_gen(1024), EVP_EC_gen("P-256")};
    for (int i = 0; i < ROWS(others); i++) {
        has(aip_gcp_json_problem(with_key(pem_of(others[i], NULL)), pool), "RSA key of at least");
        EVP_PKEY_free(others[i]);
    }
    has(aip_gcp_json_problem(with_key(pem_of(key, "secret")), pool), "without a passphrase");
    has(aip_gcp_json_problem("", pool), "no JSON object");
    has(aip_gcp_json_problem("[]", pool), "no JSON object");
    has(aip_gcp_json_problem("{\"type\":1", pool), "no JSON object");
    has(aip_gcp_json_problem("{\"a\":1,\"a\":2}", pool), "no JSON object");
}
END_TEST

Suite *identity_gcp_suite(void)
{
    Suite *suite = suite_create("identity_gcp");
    TCase *tcase = tcase_create("identity_gcp");
    tcase_add_unchecked_fixture(tcase, make_key, drop_key);
    tcase_add_checked_fixture(tcase, identity_setup, pool_teardown);
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, by_key);
    tcase_add_test(tcase, never_metadata_with_a_json);
    tcase_add_test(tcase, by_metadata);
    tcase_add_loop_test(tcase, reads_accounts, 0, ROWS(jsons));
    tcase_add_test(tcase, refuses_other_keys);
    suite_add_tcase(suite, tcase);
    return suite;
}
