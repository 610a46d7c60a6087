/* SPDX-License-Identifier: Apache-2.0 */
/* HashiCorp Vault and OpenBao over their HTTP API: login, renewal, KV versions 1 and 2. Background
 * only. API: https://developer.hashicorp.com/vault/api-docs . Answers are read, never repeated in
 * messages. */
#include "aip/fetch.h"
#include "aip/provider.h"
#include "aip/secret.h"

#include <apr_strings.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <string.h>

/* One call; `token` and `body` may be NULL. */
typedef struct call_t {
    const aip_vault_t *vault;
    const char *path; /* behind /v1/, encoded */
    const char *token;
    json_t *body; /* released by ask() */
    const volatile apr_uint32_t *stop;
} call_t;

static const char *encode_path(const char *path, apr_pool_t *pool)
{
    const char *encoded = "";
    for (const char *p = path;; p++) {
        size_t len = strcspn(p, "/");
        encoded = apr_pstrcat(pool, encoded, *encoded ? "/" : "",
                              aip_url_encode(apr_pstrmemdup(pool, p, len), pool), NULL);
        p += len;
        if (!*p) {
            return encoded;
        }
    }
}

static const char *url_of(const call_t *call, apr_pool_t *pool)
{
    const aip_vault_fields_t *f = &call->vault->f;
    bool v6 = strchr(f->host, ':') && *f->host != '[';
    return apr_psprintf(pool, "%s://%s%s%s:%d/v1/%s", f->protocol ? "https" : "http", v6 ? "[" : "",
                        f->host, v6 ? "]" : "", (int)f->port, call->path);
}

static const char *say(apr_pool_t *pool, const aip_vault_t *vault, const char *what)
{
    return apr_psprintf(pool, "the vault at %s:%d %s", vault->f.host, (int)vault->f.port, what);
}

/* Vault tells a sealed node apart in words only. */
static bool is_sealed(const json_t *answer)
{
    const char *word = json_string_value(json_array_get(json_object_get(answer, "errors"), 0));
    return word && strstr(word, "sealed");
}

static aip_fetched_e judge(const call_t *call, int status, const json_t *answer, apr_pool_t *pool,
                           const char **error)
{
    if (status == 404) {
        *error = say(pool, call->vault, "has no such secret (404)");
        return AIP_FETCHED_MISSING;
    }
    if (status == 400 || status == 401 || status == 403) {
        *error = say(pool, call->vault,
                     apr_psprintf(pool, "refuses: %s (%d)",
                                  call->token ? "permission denied, or the token is not valid"
                                              : "the login is not accepted",
                                  status));
        return AIP_FETCHED_DENIED;
    }
    *error = say(pool, call->vault,
                 status == 503 && is_sealed(answer) ? "is sealed (503)"
                 : status == 200 ? "answers with something that is no JSON object, or holds a NUL"
                 : status >= 300 && status < 400
                     ? apr_psprintf(pool,
                                    "answers with a redirect (%d), which is not followed; name the "
                                    "active node in AIVaultHost",
                                    status)
                     : apr_psprintf(pool, "answers with status %d", status));
    return AIP_FETCHED_AWAY;
}

static bool token_ok(const char *token)
{
    return *token && aip_header_value_ok(token) && !strchr(token, '\t');
}

static const char **headers_of(const call_t *call, apr_pool_t *pool)
{
    const char **headers = apr_pcalloc(pool, 5 * sizeof *headers);
    int n = 0;
    headers[n++] = "X-Vault-Request: true";
    headers[n++] = "Content-Type: application/json";
    if (call->token) {
        headers[n++] = apr_pstrcat(pool, "X-Vault-Token: ", call->token, NULL);
    }
    if (call->vault->f.namespace) {
        headers[n++] = apr_pstrcat(pool, "X-Vault-Namespace: ", call->vault->f.namespace, NULL);
    }
    return headers;
}

/* @param answer  out: new reference when AIP_FETCHED_OK */
static aip_fetched_e ask(const call_t *call, json_t **answer, apr_pool_t *pool, const char **error)
{
    aip_error_t err = {0};
    int status = 0;
    aip_span_t text;
    if (call->token && !token_ok(call->token)) {
        json_decref(call->body);
        *error = "the vault's token holds white space or control bytes, or is empty";
        return AIP_FETCHED_DENIED;
    }
    char *body = call->body ? json_dumps(call->body, JSON_COMPACT) : NULL;
    json_decref(call->body);
    aip_fetch_t fetch = {.url = url_of(call, pool),
                         .headers = headers_of(call, pool),
                         .body = {body, body ? strlen(body) : 0},
                         .egress = call->vault->egress,
                         .timeout = apr_time_from_msec(call->vault->f.timeout),
                         .stop = call->stop};
    apr_status_t rv = aip_fetch(&fetch, &status, &text, pool, &err);
    if (body) {
        OPENSSL_cleanse(body, strlen(body));
        free(body);
    }
    if (rv != APR_SUCCESS) {
        *error = say(pool, call->vault, apr_psprintf(pool, "cannot be reached: %s", err.message));
        return AIP_FETCHED_AWAY;
    }
    *answer = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (status == 200 && json_is_object(*answer)) {
        return AIP_FETCHED_OK;
    }
    aip_fetched_e outcome = judge(call, status, *answer, pool, error);
    json_decref(*answer);
    *answer = NULL;
    return outcome;
}

/* ---- login ---- */

static aip_fetched_e no_text(apr_status_t rv)
{
    return APR_STATUS_IS_EACCES(rv) ? AIP_FETCHED_DENIED : AIP_FETCHED_AWAY;
}

/* The auth object of a login or a renewal. */
static aip_fetched_e read_auth(const aip_vault_t *vault, const json_t *answer,
                               aip_vault_token_t *token, apr_pool_t *pool, const char **error)
{
    const json_t *auth = json_object_get(answer, "auth");
    const char *text = json_string_value(json_object_get(auth, "client_token"));
    json_int_t seconds = json_integer_value(json_object_get(auth, "lease_duration"));
    if (!text || !token_ok(text) || seconds < 0 || seconds > (json_int_t)AIP_YEAR * 100) {
        *error = say(pool, vault, "answers without a token");
        return AIP_FETCHED_AWAY;
    }
    *token = (aip_vault_token_t){.text = apr_pstrdup(pool, text),
                                 .renewable = json_is_true(json_object_get(auth, "renewable")),
                                 .lifetime = apr_time_from_sec(seconds)};
    return AIP_FETCHED_OK;
}

/* A call that is answered with a token. */
static aip_fetched_e ask_token(const call_t *call, aip_vault_token_t *token, apr_pool_t *pool,
                               const char **error)
{
    json_t *answer = NULL;
    aip_fetched_e outcome = ask(call, &answer, pool, error);
    if (outcome == AIP_FETCHED_OK) {
        outcome = read_auth(call->vault, answer, token, pool, error);
        json_decref(answer);
    }
    return outcome;
}

aip_fetched_e aip_hcv_look_up(const aip_vault_t *vault, aip_vault_token_t *token,
                              const volatile apr_uint32_t *stop, apr_pool_t *pool,
                              const char **error)
{
    call_t call = {
        .vault = vault, .path = "auth/token/lookup-self", .token = token->text, .stop = stop};
    json_t *answer = NULL;
    aip_fetched_e outcome = ask(&call, &answer, pool, error);
    if (outcome == AIP_FETCHED_OK) {
        const json_t *data = json_object_get(answer, "data");
        json_int_t seconds = json_integer_value(json_object_get(data, "ttl"));
        token->renewable = json_is_true(json_object_get(data, "renewable"));
        token->lifetime = seconds > 0 ? apr_time_from_sec(seconds) : 0;
        json_decref(answer);
    }
    return outcome;
}

static aip_fetched_e given_token(const aip_vault_t *vault, aip_vault_token_t *token,
                                 const volatile apr_uint32_t *stop, apr_pool_t *pool,
                                 const char **error)
{
    const aip_vault_fields_t *f = &vault->f;
    apr_status_t rv = APR_SUCCESS;
    *token =
        (aip_vault_token_t){.text = f->token ? aip_secret_text(f->token, pool, NULL)
                                             : aip_secret_file(f->token_file, &rv, pool, error)};
    if (!token->text) {
        *error = f->token ? "AIVaultToken has no value" : *error;
        return no_text(rv);
    }
    aip_fetched_e outcome = aip_hcv_look_up(vault, token, stop, pool, error);
    bool sent = token_ok(token->text); /* one that may not look itself up is used as it is */
    return outcome == AIP_FETCHED_DENIED && sent ? AIP_FETCHED_OK : outcome;
}

static aip_fetched_e log_in(const aip_vault_t *vault, const char *method_path, json_t *body,
                            aip_vault_token_t *token, const volatile apr_uint32_t *stop,
                            apr_pool_t *pool, const char **error)
{
    call_t call = {.vault = vault,
                   .path =
                       apr_pstrcat(pool, "auth/", encode_path(method_path, pool), "/login", NULL),
                   .body = body,
                   .stop = stop};
    aip_fetched_e outcome = ask_token(&call, token, pool, error);
    return outcome == AIP_FETCHED_MISSING ? AIP_FETCHED_DENIED : outcome;
}

static aip_fetched_e kubernetes(const aip_vault_t *vault, aip_vault_token_t *token,
                                const volatile apr_uint32_t *stop, apr_pool_t *pool,
                                const char **error)
{
    const aip_vault_fields_t *f = &vault->f;
    apr_status_t rv;
    const char *jwt = aip_secret_file(f->kube_api_token_file, &rv, pool, error);
    return jwt ? log_in(vault, f->kube_auth_path,
                        json_pack("{s:s, s:s}", "role", f->kube_role, "jwt", jwt), token, stop,
                        pool, error)
               : no_text(rv);
}

aip_fetched_e aip_hcv_login(const aip_vault_t *vault, const char *secret_id,
                            aip_vault_token_t *token, const volatile apr_uint32_t *stop,
                            apr_pool_t *pool, const char **error)
{
    const aip_vault_fields_t *f = &vault->f;
    const char *role;
    switch ((aip_vault_auth_e)f->auth_method) {
    case AIP_VAULT_AUTH_TOKEN:
        return given_token(vault, token, stop, pool, error);
    case AIP_VAULT_AUTH_APPROLE:
        role = aip_secret_text(f->approle_role_id, pool, NULL);
        if (!role) {
            *error = "AIVaultApproleRoleId has no value";
            return AIP_FETCHED_AWAY;
        }
        return log_in(vault, f->approle_auth_path,
                      json_pack("{s:s, s:s}", "role_id", role, "secret_id", secret_id), token, stop,
                      pool, error);
    case AIP_VAULT_AUTH_KUBERNETES:
        return kubernetes(vault, token, stop, pool, error);
    case AIP_VAULT_AUTH_CERT:
        return log_in(vault, "cert",
                      f->cert_auth_role_name ? json_pack("{s:s}", "name", f->cert_auth_role_name)
                                             : json_object(),
                      token, stop, pool, error);
    }
    return AIP_FETCHED_AWAY;
}

aip_fetched_e aip_hcv_renew(const aip_vault_t *vault, aip_vault_token_t *token,
                            const volatile apr_uint32_t *stop, apr_pool_t *pool, const char **error)
{
    call_t call = {.vault = vault,
                   .path = "auth/token/renew-self",
                   .token = token->text,
                   .body = json_object(),
                   .stop = stop};
    return ask_token(&call, token, pool, error);
}

aip_fetched_e aip_hcv_secret_id(const aip_vault_t *vault, const char **secret_id,
                                const volatile apr_uint32_t *stop, apr_pool_t *pool,
                                const char **error)
{
    const aip_vault_fields_t *f = &vault->f;
    apr_status_t rv = APR_SUCCESS;
    const char *text = f->approle_secret_id
                           ? aip_secret_text(f->approle_secret_id, pool, NULL)
                           : aip_secret_file(f->approle_secret_id_file, &rv, pool, error);
    if (!text) {
        *error = f->approle_secret_id ? "AIVaultApproleSecretId has no value" : *error;
        return no_text(rv);
    }
    *secret_id = text;
    if (!f->approle_response_wrapping) {
        return AIP_FETCHED_OK;
    }
    call_t call = {.vault = vault,
                   .path = "sys/wrapping/unwrap",
                   .token = text,
                   .body = json_object(),
                   .stop = stop};
    json_t *answer = NULL;
    aip_fetched_e outcome = ask(&call, &answer, pool, error);
    if (outcome == AIP_FETCHED_OK) {
        const char *id =
            json_string_value(json_object_get(json_object_get(answer, "data"), "secret_id"));
        *secret_id = id ? apr_pstrdup(pool, id) : NULL;
        json_decref(answer);
    }
    if (outcome == AIP_FETCHED_OK && !*secret_id) {
        *error = "the wrapping token holds no secret_id";
        return AIP_FETCHED_AWAY;
    }
    return outcome;
}

/* ---- secrets ---- */

/* The last part of the path is the key, if there are two. */
static const char *path_of(const aip_vault_t *vault, const aip_reference_t *ref, const char **key,
                           apr_pool_t *pool)
{
    const char *slash = strrchr(ref->path, '/');
    const char *path =
        slash ? apr_pstrmemdup(pool, ref->path, (apr_size_t)(slash - ref->path)) : ref->path;
    *key = slash ? slash + 1 : NULL;
    const char *mount = encode_path(vault->f.mount, pool);
    if (vault->f.kv == AIP_VAULT_KV_V1) {
        return apr_pstrcat(pool, mount, "/", encode_path(path, pool), NULL);
    }
    return apr_pstrcat(pool, mount, "/data/", encode_path(path, pool),
                       ref->version ? apr_psprintf(pool, "?version=%d", ref->version) : "", NULL);
}

static const char *pick(const json_t *data, const char *key, apr_pool_t *pool)
{
    if (key) {
        const char *value = json_string_value(json_object_get(data, key));
        return value && *value ? apr_pstrdup(pool, value) : NULL;
    }
    char *all = json_dumps(data, JSON_COMPACT);
    const char *value = all ? apr_pstrdup(pool, all) : NULL;
    if (all) {
        OPENSSL_cleanse(all, strlen(all));
        free(all);
    }
    return value;
}

aip_fetched_e aip_hcv_read(const aip_vault_t *vault, const aip_reference_t *ref, const char *token,
                           const char **value, const volatile apr_uint32_t *stop, apr_pool_t *pool,
                           const char **error)
{
    const char *key;
    call_t call = {
        .vault = vault, .path = path_of(vault, ref, &key, pool), .token = token, .stop = stop};
    json_t *answer = NULL;
    aip_fetched_e outcome = ask(&call, &answer, pool, error);
    if (outcome != AIP_FETCHED_OK) {
        return outcome;
    }
    const json_t *data = json_object_get(answer, "data");
    data = vault->f.kv == AIP_VAULT_KV_V2 ? json_object_get(data, "data") : data;
    *value = json_is_object(data) ? pick(data, key, pool) : NULL;
    bool v1_in_v2 = vault->f.kv == AIP_VAULT_KV_V1 &&
                    json_is_object(json_object_get(data, "data")) &&
                    json_object_get(data, "metadata");
    json_decref(answer);
    if (!*value) {
        *error = apr_psprintf(pool, "the secret has no text member '%s'%s", key ? key : "",
                              v1_in_v2 ? "; it looks like KV version 2: say AIVaultKv v2" : "");
        return AIP_FETCHED_MISSING;
    }
    return AIP_FETCHED_OK;
}
