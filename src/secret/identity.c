/* SPDX-License-Identifier: Apache-2.0 */
/* What the identities of all clouds share: asking a token service, strict reading of what it
 * answers, and refusals that name the service and the status but never show an answer, which may
 * hold a secret. Background threads only. */
#include "identity_private.h"

#include "aip/provider.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define DAY 86400

apr_status_t aip_identity_fail(aip_error_t *err, apr_pool_t *pool, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const char *text = apr_pvsprintf(pool, fmt, args);
    va_end(args);
    return aip_error_set(err, pool, 502, "gateway_error", "identity_failed", NULL, "%s", text);
}

void aip_identity_wipe(aip_span_t secret)
{
    if (secret.len) {
        OPENSSL_cleanse((void *)(uintptr_t)secret.data, secret.len);
    }
}

void aip_identity_wipe_json(json_t *string)
{
    if (json_is_string(string)) {
        aip_identity_wipe((aip_span_t){json_string_value(string), json_string_length(string)});
    }
}

const char *aip_identity_env(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

const char *aip_identity_join(const char *base, const char *path, apr_pool_t *pool)
{
    size_t len = strlen(base);
    while (len && base[len - 1] == '/') {
        len--;
    }
    return apr_pstrcat(pool, apr_pstrmemdup(pool, base, len), path, NULL);
}

bool aip_token_ok(const char *text)
{
    size_t len = 0;
    for (; text && text[len] && len <= AIP_TOKEN_MAX; len++) {
        if (text[len] <= ' ' || text[len] > '~') {
            return false;
        }
    }
    return len > 0 && len <= AIP_TOKEN_MAX;
}

/* Only whole addresses count: "127.example.com" is a name like any other. */
bool aip_identity_loopback(const char *host)
{
    unsigned char v4[4];
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           (inet_pton(AF_INET, host, v4) == 1 && v4[0] == 127);
}

const char *aip_identity_url_problem(const char *url, apr_pool_t *pool)
{
    aip_url_t parsed;
    const char *error;
    if (aip_url_parse(url, &parsed, pool, &error) != APR_SUCCESS) {
        return error;
    }
    return parsed.tls || aip_identity_loopback(parsed.host)
               ? NULL
               : "must begin with https://: a credential is sent there";
}

/* A machine's word, no sentence: short, of the letters that `extra` and the alphabet have. */
static const char *word_of(const char *text, size_t len, bool upper, apr_pool_t *pool)
{
    bool ok = text && len > 0 && len <= 40;
    for (size_t i = 0; ok && i < len; i++) {
        ok = (text[i] >= 'a' && text[i] <= 'z') ||
             (upper ? text[i] >= 'A' && text[i] <= 'Z' : text[i] == '_');
    }
    return ok ? apr_psprintf(pool, " (%.*s)", (int)len, text) : NULL;
}

/* Why a service refused: OAuth's error, or Amazon's Error.Code, in JSON or XML. */
static const char *refusal(aip_span_t answer, apr_pool_t *pool)
{
    static const char open[] = "<Code>";
    json_t *root = json_loadb(answer.data, answer.len, JSON_REJECT_DUPLICATES, NULL);
    json_t *error = json_object_get(root, "error"),
           *code = json_object_get(json_object_get(root, "Error"), "Code");
    const char *word = word_of(json_string_value(error), json_string_length(error), false, pool);
    word = word ? word : word_of(json_string_value(code), json_string_length(code), true, pool);
    json_decref(root);
    for (size_t i = 0; !root && !word && i + sizeof open <= answer.len; i++) {
        if (memcmp(answer.data + i, open, sizeof open - 1) == 0) {
            const char *text = answer.data + i + sizeof open - 1;
            const char *end = memchr(text, '<', answer.len - i - sizeof open + 1);
            return end && (word = word_of(text, (size_t)(end - text), true, pool)) ? word : "";
        }
    }
    return word ? word : "";
}

apr_status_t aip_identity_ask(const aip_ask_t *ask, const aip_identity_net_t *net,
                              aip_span_t *answer, apr_pool_t *pool, aip_error_t *err)
{
    aip_fetch_t fetch = {.url = ask->url,
                         .method = ask->method,
                         .headers = ask->headers,
                         .body = {ask->form, ask->form ? strlen(ask->form) : 0},
                         .egress = net->egress,
                         .local = ask->local,
                         .max = AIP_IDENTITY_ANSWER_MAX,
                         .timeout = net->timeout,
                         .stop = net->stop};
    aip_error_t reason = {0};
    int status = 0;
    apr_status_t rv = (net->fetch ? net->fetch : aip_fetch)(&fetch, &status, answer, pool, &reason);
    if (rv != APR_SUCCESS) {
        return aip_identity_fail(err, pool, "%s did not answer: %s", ask->service, reason.message);
    }
    if (status != 200) {
        rv = aip_identity_fail(err, pool, "%s answered with status %d%s", ask->service, status,
                               refusal(*answer, pool));
        aip_identity_wipe(*answer);
        return rv;
    }
    return APR_SUCCESS;
}

apr_status_t aip_identity_ask_json(const aip_ask_t *ask, const aip_identity_net_t *net,
                                   json_t **root, apr_pool_t *pool, aip_error_t *err)
{
    aip_span_t answer;
    apr_status_t rv = aip_identity_ask(ask, net, &answer, pool, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    *root = json_loadb(answer.data, answer.len, JSON_REJECT_DUPLICATES, NULL);
    aip_identity_wipe(answer);
    if (!json_is_object(*root)) {
        json_decref(*root);
        return aip_identity_fail(err, pool, "%s answered with what is no JSON object",
                                 ask->service);
    }
    return APR_SUCCESS;
}

bool aip_identity_number(const json_t *value, double *out)
{
    const char *text = json_string_value(value);
    if (json_is_number(value)) {
        *out = json_number_value(value);
        return true;
    }
    size_t len = text ? strspn(text, "0123456789") : 0;
    if (len == 0 || len > 15 || text[len]) {
        return false;
    }
    *out = (double)strtoll(text, NULL, 10);
    return true;
}

apr_interval_time_t aip_identity_lifetime(double seconds)
{
    return apr_time_from_sec((apr_interval_time_t)(seconds < DAY ? seconds : DAY));
}

apr_interval_time_t aip_identity_until(double end)
{
    double left = end - (double)apr_time_sec(apr_time_now());
    return left > 0 ? aip_identity_lifetime(left) : 0;
}

/* Microsoft's services say expires_in, expires_on or both. */
static apr_status_t read_lifetime(const json_t *root, const char *service, aip_token_t *token,
                                  apr_pool_t *pool, aip_error_t *err)
{
    const json_t *in = json_object_get(root, "expires_in"),
                 *on = json_object_get(root, "expires_on");
    double seconds;
    token->lifetime = 0;
    if (!in && !on) {
        return APR_SUCCESS;
    }
    if (!aip_identity_number(in ? in : on, &seconds)) {
        return aip_identity_fail(err, pool, "%s answered with a lifetime that is no number",
                                 service);
    }
    if (in) {
        token->lifetime = seconds >= 1 ? aip_identity_lifetime(seconds) : 0;
    } else {
        token->lifetime = aip_identity_until(seconds);
    }
    return token->lifetime > 0
               ? APR_SUCCESS
               : aip_identity_fail(err, pool, "%s answered with a token that has expired", service);
}

static apr_status_t read_token(const json_t *root, const char *service, aip_token_t *token,
                               apr_pool_t *pool, aip_error_t *err)
{
    const json_t *type = json_object_get(root, "token_type");
    const char *text = json_string_value(json_object_get(root, "access_token"));
    if (type && (!json_is_string(type) || strcasecmp(json_string_value(type), "Bearer") != 0)) {
        return aip_identity_fail(err, pool, "%s answered with a token that is no bearer token",
                                 service);
    }
    if (!text || !aip_token_ok(text)) {
        return aip_identity_fail(err, pool, "%s answered %s", service,
                                 text ? "with a token that is empty, too long or holds bytes that "
                                        "no token has"
                                      : "without a token");
    }
    token->text = apr_pstrdup(pool, text);
    return read_lifetime(root, service, token, pool, err);
}

apr_status_t aip_identity_ask_token(const aip_ask_t *ask, const aip_identity_net_t *net,
                                    aip_token_t *token, apr_pool_t *pool, aip_error_t *err)
{
    json_t *root;
    apr_status_t rv = aip_identity_ask_json(ask, net, &root, pool, err);
    if (rv == APR_SUCCESS) {
        rv = read_token(root, ask->service, token, pool, err);
        aip_identity_wipe_json(json_object_get(root, "access_token"));
        json_decref(root);
    }
    return rv;
}

apr_status_t aip_identity_token_file(const char *path, const char *what, const char **text,
                                     apr_pool_t *pool, aip_error_t *err)
{
    apr_file_t *file;
    char *data = apr_palloc(pool, AIP_TOKEN_MAX + 2), reason[120];
    apr_size_t len = AIP_TOKEN_MAX + 1, begin = 0;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_FPROT_OS_DEFAULT, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_file_read_full(file, data, len, &len);
        apr_file_close(file);
    }
    if (rv != APR_SUCCESS && rv != APR_EOF) {
        return aip_identity_fail(err, pool, "cannot read %s '%s': %s", what, path,
                                 apr_strerror(rv, reason, sizeof reason));
    }
    while (len && apr_isspace(data[len - 1])) {
        len--;
    }
    while (begin < len && apr_isspace(data[begin])) {
        begin++;
    }
    data[len] = '\0';
    if (strlen(data) != len || !aip_token_ok(data + begin)) {
        return aip_identity_fail(err, pool, "%s '%s' holds no token", what, path);
    }
    *text = data + begin;
    return APR_SUCCESS;
}
