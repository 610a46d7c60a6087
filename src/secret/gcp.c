/* SPDX-License-Identifier: Apache-2.0 */
/* Access tokens of Google Cloud: by the key of a service account, or from the metadata server.
 * https://developers.google.com/identity/protocols/oauth2/service-account
 * https://cloud.google.com/compute/docs/access/authenticate-workloads */
#include "identity_private.h"

#include "aip/provider.h"

#include <apr_strings.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>

#define SCOPE "https://www.googleapis.com/auth/cloud-platform"
#define TOKEN_URL "https://oauth2.googleapis.com/token"
#define METADATA "http://metadata.google.internal"
#define METADATA_PATH "/computeMetadata/v1/instance/service-accounts/default/token"
#define KEY_BITS_MIN 2048
#define LIFETIME 3600

/* The clock of this machine may be ahead of Google's, which refuses tokens of the future. */
#define CLOCK_SKEW 10

typedef struct account_t {
    const char *email, *key_id, *token_uri;
    EVP_PKEY *key;
} account_t;

/* Without one, OpenSSL asks at the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *baton)
{
    (void)buf, (void)size, (void)rwflag, (void)baton;
    return -1;
}

static EVP_PKEY *read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error(); /* this thread's next user of OpenSSL would find what was wrong with it */
    if (key && (EVP_PKEY_base_id(key) != EVP_PKEY_RSA || EVP_PKEY_bits(key) < KEY_BITS_MIN)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

static bool printable(const char *text)
{
    return aip_token_ok(text) && strlen(text) <= 1024;
}

/* Values that are read into a JWT are written by jansson: whatever they hold, they stay values. */
static const char *read_members(const json_t *root, account_t *account, apr_pool_t *pool)
{
    const char *type = json_string_value(json_object_get(root, "type"));
    const char *email = json_string_value(json_object_get(root, "client_email"));
    const char *key_id = json_string_value(json_object_get(root, "private_key_id"));
    const json_t *uri = json_object_get(root, "token_uri");
    const char *pem = json_string_value(json_object_get(root, "private_key"));
    if (!json_is_object(root)) {
        return "is no JSON object";
    }
    if (type && strcmp(type, "service_account") != 0) {
        return "is no key of a service account: its type must be service_account";
    }
    if (!email || !printable(email)) {
        return "has no client_email";
    }
    if (key_id && !printable(key_id)) {
        return "has a private_key_id that is no name";
    }
    if (uri && (!json_is_string(uri) || aip_identity_url_problem(json_string_value(uri), pool))) {
        return "has a token_uri that is no https:// URL";
    }
    account->key = pem ? read_key(pem) : NULL;
    if (!account->key) {
        return "has no private_key that is an RSA key of at least 2048 bits in PEM without a "
               "passphrase";
    }
    account->email = apr_pstrdup(pool, email);
    account->key_id = key_id ? apr_pstrdup(pool, key_id) : NULL;
    account->token_uri = uri ? apr_pstrdup(pool, json_string_value(uri)) : TOKEN_URL;
    return NULL;
}

/* @return NULL, or what is wrong; then there is no key to free */
static const char *read_account(const char *text, account_t *account, apr_pool_t *pool)
{
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *problem = read_members(root, account, pool);
    aip_identity_wipe_json(json_object_get(root, "private_key"));
    json_decref(root);
    return problem;
}

const char *aip_gcp_json_problem(const char *json, apr_pool_t *pool)
{
    account_t account = {0};
    const char *problem = read_account(json, &account, pool);
    EVP_PKEY_free(account.key);
    return problem;
}

/* base64url without padding (RFC 7515, 2). */
static const char *base64url(const void *data, size_t len, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, 4 * ((len + 2) / 3) + 1);
    int n = EVP_EncodeBlock((unsigned char *)text, data, (int)len);
    while (n > 0 && text[n - 1] == '=') {
        n--;
    }
    text[n] = '\0';
    for (char *p = text; *p; p++) {
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    }
    return text;
}

/* Takes `object` over. */
static const char *encoded_json(json_t *object, apr_pool_t *pool)
{
    char *text = json_dumps(object, JSON_COMPACT);
    const char *encoded = text ? base64url(text, strlen(text), pool) : NULL;
    free(text);
    json_decref(object);
    return encoded;
}

static const char *signature_of(const char *input, EVP_PKEY *key, apr_pool_t *pool)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const unsigned char *data = (const unsigned char *)input;
    unsigned char *signature = apr_palloc(pool, (apr_size_t)EVP_PKEY_size(key));
    size_t len = (size_t)EVP_PKEY_size(key);
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(ctx, signature, &len, data, strlen(input)) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok ? base64url(signature, len, pool) : NULL;
}

/* The signed JWT that is the grant, or NULL. */
static const char *assertion(const account_t *account, apr_pool_t *pool)
{
    json_int_t now = (json_int_t)apr_time_sec(apr_time_now()) - CLOCK_SKEW;
    json_t *header = json_pack("{s:s,s:s}", "alg", "RS256", "typ", "JWT");
    json_t *claims = json_pack("{s:s,s:s,s:s,s:I,s:I}", "iss", account->email, "scope", SCOPE,
                               "aud", account->token_uri, "iat", now, "exp", now + LIFETIME);
    if (account->key_id && header) {
        json_object_set_new(header, "kid", json_string(account->key_id));
    }
    const char *head = encoded_json(header, pool), *body = encoded_json(claims, pool);
    if (!head || !body) {
        return NULL;
    }
    const char *input = apr_pstrcat(pool, head, ".", body, NULL);
    const char *signature = signature_of(input, account->key, pool);
    return signature ? apr_pstrcat(pool, input, ".", signature, NULL) : NULL;
}

static apr_status_t by_key(const char *json, const aip_gcp_conf_t *conf,
                           const aip_identity_net_t *net, aip_token_t *token, apr_pool_t *pool,
                           aip_error_t *err)
{
    account_t account = {0};
    const char *problem = read_account(json, &account, pool);
    if (problem) {
        return aip_identity_fail(err, pool, "the JSON of Google's service account %s", problem);
    }
    const char *url = conf->oauth_token_url ? conf->oauth_token_url : account.token_uri;
    const char *grant = assertion(&account, pool);
    EVP_PKEY_free(account.key);
    problem = aip_identity_url_problem(url, pool);
    if (problem || !grant) {
        return aip_identity_fail(err, pool, "%s %s",
                                 grant ? "the URL of Google's token service"
                                       : "the key of Google's service account",
                                 grant ? problem : "cannot sign");
    }
    aip_ask_t ask = {
        .service = "Google's token service",
        .url = url,
        .form = apr_pstrcat(
            pool, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=",
            grant, NULL)};
    apr_status_t rv = aip_identity_ask_token(&ask, net, token, pool, err);
    aip_identity_wipe((aip_span_t){ask.form, strlen(ask.form)});
    aip_identity_wipe((aip_span_t){grant, strlen(grant)});
    return rv;
}

static apr_status_t by_metadata(const aip_gcp_conf_t *conf, const aip_identity_net_t *net,
                                aip_token_t *token, apr_pool_t *pool, aip_error_t *err)
{
    static const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    const char *base = conf->metadata_url ? conf->metadata_url : METADATA, *problem;
    aip_url_t url;
    if (aip_url_parse(base, &url, pool, &problem) != APR_SUCCESS) {
        return aip_identity_fail(err, pool, "the URL of Google's metadata server %s", problem);
    }
    aip_ask_t ask = {.service = "Google's metadata server",
                     .url = strcmp(url.path, "/") == 0 && !url.query
                                ? aip_identity_join(base, METADATA_PATH, pool)
                                : base,
                     .headers = headers,
                     .local = true};
    return aip_identity_ask_token(&ask, net, token, pool, err);
}

apr_status_t aip_gcp_token(const aip_gcp_conf_t *conf, const aip_identity_net_t *net,
                           aip_token_t *token, apr_pool_t *pool, aip_error_t *err)
{
    const char *json = conf->service_account_json ? conf->service_account_json
                                                  : aip_identity_env("GCP_SERVICE_ACCOUNT");
    return json ? by_key(json, conf, net, token, pool, err)
                : by_metadata(conf, net, token, pool, err);
}
