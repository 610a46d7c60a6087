/* SPDX-License-Identifier: Apache-2.0 */
/* Signs a request with AWS Signature Version 4: checks what it is given, puts the stages together
 * and computes them with OpenSSL. Called for each attempt of a target with AWS credentials and by
 * the exchanges that fetch such credentials. */
#include "aip/sigv4.h"

#include "sigv4_private.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define PREFIX "AWS4"
#define DIGEST_BYTES 32

typedef struct digest_t {
    unsigned char bytes[DIGEST_BYTES];
} digest_t;

/* ---- what is refused ---- */

static bool visible(const char *text, const char *except)
{
    if (!text || !*text) {
        return false;
    }
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c <= 0x20 || c >= 0x7f || strchr(except, c)) {
            return false;
        }
    }
    return true;
}

/* A token of RFC 9110, section 5.6.2. */
static bool is_token(const char *text)
{
    return visible(text, "\"(),/:;<=>?@[\\]{}");
}

static bool scope_word(const char *text)
{
    return visible(text, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");
}

/* A field value: no control byte but the tabulator. */
static bool field_value(const char *text)
{
    for (; text && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return text != NULL;
}

static bool is_ours(const char *name)
{
    static const char *const ours[] = {"host", "authorization", "x-amz-date",
                                       "x-amz-security-token", "x-amz-content-sha256"};
    for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
        if (apr_cstr_casecmp(name, ours[i]) == 0) {
            return true;
        }
    }
    return false;
}

static const char *bad_field(const aip_sigv4_request_t *request)
{
    if (request->n_headers > INT_MAX / 8) {
        return "too many header fields to be signed";
    }
    for (size_t i = 0; i < request->n_headers; i++) {
        if (!is_token(request->headers[i][0])) {
            return "the name of a header field to be signed is no token";
        }
        if (is_ours(request->headers[i][0])) {
            return "a header field to be signed is one that signing makes itself";
        }
        if (!field_value(request->headers[i][1])) {
            return "the value of a header field to be signed has control bytes";
        }
    }
    return NULL;
}

/* NULL, or what is wrong. */
static const char *bad_request(const aip_sigv4_request_t *request)
{
    if (!is_token(request->method)) {
        return "the method is no token";
    }
    if (!visible(request->host, "\"#%/<>?@\\^`{|},;")) {
        return "the host is empty or has bytes that do not belong into Host";
    }
    if (!visible(request->path, "?#\"<>\\^`{|}") || *request->path != '/' ||
        !aip_sigv4_percent_good(request->path)) {
        return "the path does not begin with '/' or is not percent-encoded";
    }
    if (request->query && *request->query &&
        (!visible(request->query, "+#\"<>\\^`{|}") || !aip_sigv4_percent_good(request->query))) {
        return "the query is not percent-encoded, or has a '+'";
    }
    if (!scope_word(request->region)) {
        return "the region is empty or has other bytes than letters, digits, '-', '.' and '_'";
    }
    if (!scope_word(request->service)) {
        return "the service is empty or has other bytes than letters, digits, '-', '.' and '_'";
    }
    if (!request->body.data && request->body.len) {
        return "the body has a length, but no bytes";
    }
    return bad_field(request);
}

static const char *bad_keys(const aip_aws_keys_t *keys)
{
    if (!visible(keys->access_key, "/,\"")) {
        return "the access key is empty, or has white space, control bytes, '/', ',' or '\"'";
    }
    if (!visible(keys->secret_key, "") || strlen(keys->secret_key) > AIP_SIGV4_SECRET_MAX) {
        return "the secret key is empty or too long, or has white space or control bytes";
    }
    if (keys->token && *keys->token && !visible(keys->token, "")) {
        return "the session token has white space or control bytes";
    }
    return NULL;
}

/* ---- arithmetic ---- */

static bool sha256(const void *data, size_t len, digest_t *out)
{
    unsigned int n = 0;

    return EVP_Digest(data ? data : "", len, out->bytes, &n, EVP_sha256(), NULL) == 1 &&
           n == DIGEST_BYTES;
}

static bool hmac(const void *key, size_t key_len, const char *text, digest_t *out)
{
    unsigned int n = 0;

    return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, strlen(text),
                out->bytes, &n) != NULL &&
           n == DIGEST_BYTES;
}

static const char *hex(const digest_t *digest, apr_pool_t *pool)
{
    static const char digits[] = "0123456789abcdef";
    char *text = apr_palloc(pool, 2 * DIGEST_BYTES + 1);

    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        text[2 * i] = digits[digest->bytes[i] >> 4];
        text[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    text[2 * DIGEST_BYTES] = '\0';
    return text;
}

/* secret -> day -> region -> service -> the key that signs; what lies between is wiped. */
static bool signature_of(const char *secret, const char *const scope[4], const char *text,
                         digest_t *out)
{
    char start[sizeof(PREFIX) + AIP_SIGV4_SECRET_MAX];
    size_t len = strlen(secret);
    digest_t key[2];
    bool good;

    memcpy(start, PREFIX, sizeof(PREFIX) - 1);
    memcpy(start + sizeof(PREFIX) - 1, secret, len);
    good = hmac(start, sizeof(PREFIX) - 1 + len, scope[0], &key[0]);
    for (int i = 1; good && i < 4; i++) {
        good = hmac(key[(i - 1) & 1].bytes, DIGEST_BYTES, scope[i], &key[i & 1]);
    }
    good = good && hmac(key[1].bytes, DIGEST_BYTES, text, out);
    OPENSSL_cleanse(start, sizeof(start));
    OPENSSL_cleanse(key, sizeof(key));
    return good;
}

/* ---- stages ---- */

static const char *lower(const char *text, apr_pool_t *pool)
{
    char *copy = apr_pstrdup(pool, text);

    for (char *p = copy; *p; p++) {
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + ('a' - 'A')) : *p;
    }
    return copy;
}

static const char *amz_date(apr_time_t now, apr_pool_t *pool)
{
    apr_time_exp_t t;

    if (now < 0 || apr_time_exp_gmt(&t, now) != APR_SUCCESS || t.tm_year > 9999 - 1900) {
        return NULL;
    }
    return apr_psprintf(pool, "%04d%02d%02dT%02d%02d%02dZ", t.tm_year + 1900, t.tm_mon + 1,
                        t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
}

static bool has_token(const aip_aws_keys_t *keys)
{
    return keys->token && *keys->token;
}

static unsigned flags_of(const aip_sigv4_request_t *request)
{
    return request->flags | (strcmp(request->service, "s3") == 0 ? AIP_SIGV4_S3 : 0);
}

static const char *canonical_headers(const aip_sigv4_request_t *request, const aip_aws_keys_t *keys,
                                     const aip_sigv4_stages_t *stages, apr_pool_t *pool,
                                     const char **names)
{
    aip_sigv4_field_t *fields = apr_palloc(pool, (request->n_headers + 4) * sizeof(*fields));
    size_t n = 0;

    for (; n < request->n_headers; n++) {
        fields[n] =
            (aip_sigv4_field_t){lower(request->headers[n][0], pool), request->headers[n][1], n};
    }
    fields[n++] = (aip_sigv4_field_t){"host", request->host, 0};
    fields[n++] = (aip_sigv4_field_t){"x-amz-date", stages->amz_date, 0};
    if (has_token(keys) && !(request->flags & AIP_SIGV4_TOKEN_UNSIGNED)) {
        fields[n++] = (aip_sigv4_field_t){"x-amz-security-token", keys->token, 0};
    }
    if (flags_of(request) & AIP_SIGV4_CONTENT_SHA256) {
        fields[n++] = (aip_sigv4_field_t){"x-amz-content-sha256", stages->body_sha256, 0};
    }
    return aip_sigv4_canonical_headers(fields, n, pool, names);
}

apr_status_t aip_sigv4_stages(const aip_sigv4_request_t *request, const aip_aws_keys_t *keys,
                              apr_pool_t *pool, aip_sigv4_stages_t *stages, const char **error)
{
    const char *wrong = bad_request(request), *headers;
    const char *scope[4] = {NULL, request->region, request->service, "aws4_request"};
    digest_t body, whole, signature;

    wrong = wrong ? wrong : bad_keys(keys);
    stages->amz_date = wrong ? NULL : amz_date(request->now, pool);
    if (!stages->amz_date) {
        *error = wrong ? wrong : "the time is not between the years 1970 and 9999";
        return APR_EINVAL;
    }
    *error = "OpenSSL cannot compute the signature";
    if (!sha256(request->body.data, request->body.len, &body)) {
        return APR_EGENERAL;
    }
    stages->body_sha256 = hex(&body, pool);
    headers = canonical_headers(request, keys, stages, pool, &stages->signed_headers);
    stages->canonical_request =
        apr_pstrcat(pool, request->method, "\n",
                    aip_sigv4_canonical_path(request->path, flags_of(request), pool), "\n",
                    aip_sigv4_canonical_query(request->query, pool), "\n", headers, "\n",
                    stages->signed_headers, "\n", stages->body_sha256, NULL);
    if (!sha256(stages->canonical_request, strlen(stages->canonical_request), &whole)) {
        return APR_EGENERAL;
    }
    scope[0] = apr_pstrmemdup(pool, stages->amz_date, 8);
    stages->string_to_sign =
        apr_pstrcat(pool, ALGORITHM "\n", stages->amz_date, "\n", scope[0], "/", scope[1], "/",
                    scope[2], "/", scope[3], "\n", hex(&whole, pool), NULL);
    if (!signature_of(keys->secret_key, scope, stages->string_to_sign, &signature)) {
        return APR_EGENERAL;
    }
    stages->signature = hex(&signature, pool);
    *error = NULL;
    return APR_SUCCESS;
}

apr_status_t aip_sigv4_sign(const aip_sigv4_request_t *request, const aip_aws_keys_t *keys,
                            apr_pool_t *pool, const char **header_lines, const char **error)
{
    aip_sigv4_stages_t stages;
    apr_status_t rv = aip_sigv4_stages(request, keys, pool, &stages, error);
    const char *token = "", *sha = "";

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (has_token(keys)) {
        token = apr_pstrcat(pool, "X-Amz-Security-Token: ", keys->token, "\r\n", NULL);
    }
    if (flags_of(request) & AIP_SIGV4_CONTENT_SHA256) {
        sha = apr_pstrcat(pool, "X-Amz-Content-Sha256: ", stages.body_sha256, "\r\n", NULL);
    }
    *header_lines = apr_psprintf(
        pool,
        "Authorization: " ALGORITHM " Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=%s, "
        "Signature=%s\r\nX-Amz-Date: %s\r\n%s%s",
        keys->access_key, stages.amz_date, request->region, request->service, stages.signed_headers,
        stages.signature, stages.amz_date, token, sha);
    return APR_SUCCESS;
}
