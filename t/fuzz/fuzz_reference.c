/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes references and what a vault answers to them. The first byte chooses status and call, the
 * first line is a value with references, the rest is the vault's answer. What must hold: the parts
 * are the value, in order; a path leads nowhere but below its vault; the URL that is asked for is
 * one of the vault's, whatever the reference says; a token can stand in a header; each failure has
 * a reason. */

#include "aip/fetch.h"
#include "aip/provider.h"
#include "aip/vault.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ORIGIN "http://127.0.0.1:8200/v1/"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
apr_status_t __wrap_aip_fetch(const aip_fetch_t *fetch, int *status, aip_span_t *answer,
                              apr_pool_t *pool, aip_error_t *err);

static aip_span_t vault_says;
static int vault_status;

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* No part of a path is "." or "..", encoded or not. */
static void check_path(const char *path)
{
    for (const char *p = path;; p++) {
        const size_t len = strcspn(p, "/");

        require(len && !(len == 1 && *p == '.') && !(len == 2 && p[0] == '.' && p[1] == '.'));
        p += len;
        if (!*p)
            return;
    }
}

/* fuzz.sh links this in place of aip_fetch(). */
apr_status_t __wrap_aip_fetch(const aip_fetch_t *fetch, int *status, aip_span_t *answer,
                              apr_pool_t *pool, aip_error_t *err)
{
    const char *query = strchr(fetch->url, '?');

    (void)err;
    require(strncmp(fetch->url, ORIGIN, strlen(ORIGIN)) == 0);
    for (const char *p = fetch->url; *p; p++)
        require(*p > ' ' && *p < 0x7f && *p != '#' && *p != '\\');
    require(!query || strncmp(query, "?version=", 9) == 0);
    require(!query || strspn(query + 9, "0123456789") == strlen(query + 9));
    check_path(apr_pstrndup(pool, fetch->url + strlen("http://"),
                            (query ? (size_t)(query - fetch->url) : strlen(fetch->url)) - 7));
    for (const char *const *h = fetch->headers; *h; h++)
        require(aip_header_value_ok(*h));
    *status = vault_status;
    *answer = vault_says;
    return APR_SUCCESS;
}

static aip_vault_t make_vault(unsigned bits, apr_pool_t *pool)
{
    aip_vault_t vault = {.prefix = "v"};

    aip_vault_defaults(&vault.f, pool);
    vault.f.name = AIP_VAULT_HCV;
    vault.f.set[AIP_V_name] = AIP_SET_WRITTEN;
    vault.f.protocol = 0;
    vault.f.host = "127.0.0.1";
    vault.f.kv = bits & 1 ? AIP_VAULT_KV_V2 : AIP_VAULT_KV_V1;
    vault.f.token = "token";
    vault.f.set[AIP_V_token] = AIP_SET_WRITTEN;
    return vault;
}

static void check_read(const aip_vault_t *vault, const aip_reference_t *ref, apr_pool_t *pool)
{
    const char *error = NULL, *value = NULL;
    const aip_vault_t *own = aip_vault_for(vault, ref, pool, &error);

    require(!own == !!error);
    if (!own || own->f.name != AIP_VAULT_HCV || own->f.protocol != 0 ||
        strcmp(own->f.host, "127.0.0.1") != 0 || own->f.port != 8200)
        return;
    if (aip_hcv_read(own, ref, "token", &value, NULL, pool, &error) == AIP_FETCHED_OK)
        require(value && *value);
    else
        require(error && *error);
}

static void check_references(const char *text, unsigned bits, apr_pool_t *pool)
{
    const aip_vault_t vault = make_vault(bits, pool);
    apr_array_header_t *parts;
    const char *error = aip_reference_split(text, &parts, pool), *again = "";

    if (error) {
        require(*error && aip_reference_in(text));
        return;
    }
    for (int i = 0; i < parts->nelts; i++) {
        const aip_part_t *part = &APR_ARRAY_IDX(parts, i, aip_part_t);

        again = apr_pstrcat(pool, again, part->literal ? part->literal : part->ref.shown, NULL);
        if (part->literal)
            continue;
        require(*part->ref.vault && !part->ref.vault[strcspn(part->ref.vault, "/{}?#%: \\")]);
        require(part->ref.version >= 0);
        check_path(part->ref.path);
        check_read(&vault, &part->ref, pool);
    }
    require(strcmp(again, text) == 0);
}

static void check_token(aip_fetched_e outcome, const aip_vault_token_t *token, const char *error)
{
    if (outcome == AIP_FETCHED_OK)
        require(*token->text && aip_header_value_ok(token->text) && token->lifetime >= 0);
    else
        require(error && *error);
}

static void check_login(unsigned bits, apr_pool_t *pool)
{
    aip_vault_t vault = make_vault(bits, pool);
    aip_vault_token_t token = {.text = "token"};
    const char *error = NULL, *id = NULL;

    check_token(aip_hcv_renew(&vault, &token, NULL, pool, &error), &token, error);
    vault.f.auth_method = AIP_VAULT_AUTH_CERT;
    check_token(aip_hcv_login(&vault, NULL, &token, NULL, pool, &error), &token, error);
    vault.f.approle_secret_id = "wrapped";
    vault.f.approle_response_wrapping = 1;
    if (aip_hcv_secret_id(&vault, &id, NULL, pool, &error) == AIP_FETCHED_OK)
        require(id != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 404, 400, 403, 503, 302, 500, 200};
    static apr_pool_t *pool;
    const uint8_t *line;
    char *copy;
    size_t rest;

    if (size < 2)
        return 0;
    if (!pool) {
        apr_initialize();
        apr_pool_create(&pool, NULL);
    }
    line = memchr(data + 1, '\n', size - 1);
    line = line ? line : data + size;
    rest = line < data + size ? (size_t)(data + size - line - 1) : 0;
    copy = malloc(rest + 1); /* the allocation ends where the answer does */
    require(copy != NULL);
    if (rest)
        memcpy(copy, line + 1, rest);
    vault_says = (aip_span_t){copy, rest};
    vault_status = statuses[data[0] & 7];
    check_references(apr_pstrmemdup(pool, (const char *)data + 1, (apr_size_t)(line - data - 1)),
                     data[0] >> 3, pool);
    check_login(data[0] >> 3, pool);
    free(copy);
    apr_pool_clear(pool);
    return 0;
}
