/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what clouds' token and metadata services answer, and the texts that lead there. The first
 * byte chooses the way to a credential; the rest are texts with \x1e between them: the first one is
 * configured (a file, a URL, a name), the others are answers in the order of the requests, of which
 * the first byte is the status. What must hold: nobody but the service in question is asked, with
 * nothing in the request that could end a header line; a credential can stand in a header and lasts
 * a day at most; a refusal has a reason, which shows nothing of an answer but a word of letters. */

#include "fuzz.h"

#include "aip/identity.h"
#include "aip/provider.h"
#include "aip/vault.h"

#include <apr_strings.h>
#include <apr_time.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEPARATOR 0x1e
#define DAY apr_time_from_sec(86400)
#define SECRET "k9-51Xq" /* in answers: what no refusal may show */

typedef enum way_e {
    GCP_METADATA,
    GCP_KEY,
    AZURE_SECRET,
    AZURE_FEDERATION,
    AZURE_APP_SERVICE,
    AZURE_METADATA,
    AWS_PROFILE,
    AWS_WEB_IDENTITY,
    AWS_CONTAINER,
    AWS_INSTANCE,
    AWS_ROLE,
    MEMBER,
    WAYS
} way_e;

/* The others are configured: there, https or this machine is the rule. */
static const char *const origins[WAYS] = {
    [GCP_METADATA] = "http://metadata.google.internal/",
    [AZURE_SECRET] = "https://login.microsoftonline.com/",
    [AZURE_FEDERATION] = "https://login.microsoftonline.com/",
    [AZURE_APP_SERVICE] = "http",
    [AZURE_METADATA] = "http://169.254.169.254/",
    [AWS_PROFILE] = "http://169.254.169.254/",
    [AWS_WEB_IDENTITY] = "https://sts.",
    [AWS_CONTAINER] = "http",
    [AWS_INSTANCE] = "http://169.254.169.254/",
    [AWS_ROLE] = "https://sts.",
};

static way_e way;
static const uint8_t *rest;
static size_t left;
static int n_given;

static aip_span_t next_text(void)
{
    const uint8_t *end = left ? memchr(rest, SEPARATOR, left) : NULL;
    const aip_span_t text = {(const char *)rest, end ? (size_t)(end - rest) : left};

    rest += end ? text.len + 1 : left;
    left -= end ? text.len + 1 : left;
    return text;
}

static void check_request(const aip_fetch_t *f)
{
    require(origins[way] ? strncasecmp(f->url, origins[way], strlen(origins[way])) == 0
                         : !aip_identity_url_problem(f->url, fuzz_pool()));
    for (const char *p = f->url; *p; p++)
        require(*p > ' ' && *p < 0x7f && *p != '#');
    if (way == AWS_INSTANCE) /* a part of its path was an answer */
        for (const char *p = f->url; (p = strstr(p, "/.")) != NULL; p++)
            require(strcspn(p + 1, "/") > 2 || strspn(p + 1, ".") < strcspn(p + 1, "/"));
    for (const char *const *h = f->headers; h && *h; h++)
        require(aip_header_value_ok(*h));
    for (size_t i = 0; i < f->body.len; i++)
        require(f->body.data[i] > ' ' && f->body.data[i] < 0x7f);
}

static apr_status_t answer_next(const aip_fetch_t *f, int *status, aip_span_t *answer,
                                apr_pool_t *pool, aip_error_t *err)
{
    static const int statuses[] = {200, 400, 401, 403, 404, 302, 500, 204};
    const aip_span_t text = next_text();

    check_request(f);
    if (text.len == 0 || n_given == 8)
        return aip_error_set(err, pool, 502, "gateway_error", "fetch_failed", NULL, "no answer");
    *status = statuses[text.data[0] & 7];
    n_given++;
    /* The allocation ends where the answer does, as it does not with libcurl. */
    char *copy = fuzz_copy(text.data + 1, text.len - 1);
    apr_pool_cleanup_register(pool, copy, (apr_status_t(*)(void *))(void *)free,
                              apr_pool_cleanup_null);
    *answer = (aip_span_t){copy, text.len - 1};
    return APR_SUCCESS;
}

static void check_refusal(const char *message)
{
    require(message && *message && strlen(message) < 2048);
    for (const char *p = message; *p; p++)
        require((unsigned char)*p >= 0x20 && *p != 0x7f);
    require(!strstr(message, SECRET));
}

static void check_lifetime(apr_interval_time_t lifetime)
{
    require(lifetime >= 0 && lifetime <= DAY);
}

/* A service account's text, in which # stands for a good key as JSON. */
static const char *with_key(const char *text)
{
    static char *pem;
    const char *at = strchr(text, '#');

    if (!pem) {
        EVP_PKEY *key = EVP_RSA_gen(2048);
        BIO *bio = BIO_new(BIO_s_mem());
        char *data;

        require(key && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
        const long len = BIO_get_mem_data(bio, &data);
        json_t *string = json_stringn(data, (size_t)len);
        pem = json_dumps(string, JSON_ENCODE_ANY);
        json_decref(string);
        BIO_free(bio);
        EVP_PKEY_free(key);
    }
    return at ? apr_pstrcat(fuzz_pool(), apr_pstrmemdup(fuzz_pool(), text, (apr_size_t)(at - text)),
                            pem, at + 1, NULL)
              : text;
}

/* A file that holds `text`, for the environment. */
static const char *file_of(const char *text)
{
    static char path[40];
    static int fd;

    if (!fd) {
        fd = memfd_create("fuzz", 0);
        require(fd > 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0 && pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
    return path;
}

static const aip_identity_net_t net = {.timeout = 1000000, .fetch = answer_next};

static void check_token(const char *text)
{
    const aip_gcp_conf_t gcp = {.service_account_json = way == GCP_KEY ? with_key(text) : NULL};
    const aip_azure_conf_t azure = {.tenant_id = way == AZURE_SECRET ? text : "tenant",
                                    .client_id = "client",
                                    .client_secret = way == AZURE_SECRET ? "s&cret" : NULL};
    aip_token_t token = {.text = NULL};
    aip_error_t err = {0};
    const apr_status_t rv = way <= GCP_KEY
                                ? aip_gcp_token(&gcp, &net, &token, fuzz_pool(), &err)
                                : aip_azure_token(&azure, &net, &token, fuzz_pool(), &err);

    if (rv == APR_SUCCESS) {
        require(aip_token_ok(token.text) && aip_header_value_ok(token.text));
        check_lifetime(token.lifetime);
    } else {
        check_refusal(err.message);
    }
}

static void check_keys(void)
{
    const bool role = way == AWS_ROLE;
    const aip_aws_conf_t conf = {.access_key = role ? "AKID" : NULL,
                                 .secret_key = role ? "secret" : NULL,
                                 .region = "eu-central-1",
                                 .assume_role_arn = role ? "arn:aws:iam::1:role/r" : NULL};
    aip_aws_keys_t keys = {0};
    apr_interval_time_t lifetime = 0;
    aip_error_t err = {0};

    if (aip_aws_credentials(&conf, &net, &keys, &lifetime, fuzz_pool(), &err) == APR_SUCCESS) {
        require(aip_token_ok(keys.access_key) && aip_token_ok(keys.secret_key));
        require(strlen(keys.secret_key) <= AIP_SIGV4_SECRET_MAX);
        require(!keys.token || aip_token_ok(keys.token));
        check_lifetime(lifetime);
    } else {
        check_refusal(err.message);
    }
}

static void set_environment(const char *text)
{
    switch (way) {
    case AZURE_FEDERATION:
        setenv("AZURE_FEDERATED_TOKEN_FILE", file_of(text), 1);
        break;
    case AZURE_APP_SERVICE:
        setenv("IDENTITY_ENDPOINT", text, 1);
        setenv("IDENTITY_HEADER", "header", 1);
        break;
    case AWS_PROFILE:
        setenv("AWS_SHARED_CREDENTIALS_FILE", file_of(text), 1);
        break;
    case AWS_WEB_IDENTITY:
        setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
        setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file_of(text), 1);
        break;
    case AWS_CONTAINER:
        setenv(*text == '/' ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
                            : "AWS_CONTAINER_CREDENTIALS_FULL_URI",
               text, 1);
        setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token", 1);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    way = (way_e)(data[0] % WAYS);
    rest = data + 1;
    left = size - 1;
    const aip_span_t first = next_text();
    const char *text = apr_pstrmemdup(fuzz_pool(), first.data, first.len);
    if (strstr(text, SECRET))
        return 0; /* a URL may be shown */
    clearenv();
    set_environment(text);
    if (way == MEMBER) {
        const char *key = apr_pstrmemdup(fuzz_pool(), (const char *)rest, left);
        const char *value = aip_secret_member(text, key, fuzz_pool());

        require(!value || *value);
    } else if (way < AWS_PROFILE) {
        check_token(text);
    } else {
        check_keys();
    }
    n_given = 0;
    apr_pool_clear(fuzz_pool());
    return 0;
}
