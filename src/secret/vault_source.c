/* SPDX-License-Identifier: Apache-2.0 */
/* Sources of the store that vaults are behind: one for each secret and, for HashiCorp Vault, one
 * for the token and one for an unwrapped secret ID of each login. The token is a secret like the
 * others: fetched once for all children, kept sealed, renewed before it expires. */
#include "store.h"

#include <apr_base64.h>
#include <apr_escape.h>
#include <apr_strings.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

typedef struct secret_t {
    const aip_vault_t *vault;
    aip_reference_t ref;
    int token; /* slot */
} secret_t;

typedef struct login_t {
    const aip_vault_t *vault;
    int secret_id; /* slot, or -1 */
} login_t;

/* What tells two vaults apart, as one word: nothing of it can be read back. */
static const char *fingerprint(const aip_vault_t *vault, bool login, apr_pool_t *pool)
{
    static const int of_secrets[] = {AIP_V_name,  AIP_V_prefix,  AIP_V_directory,
                                     AIP_V_mount, AIP_V_kv,      AIP_V_base64_decode,
                                     AIP_V_ttl,   AIP_V_neg_ttl, AIP_V_resurrect_ttl};
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *all = "";
    for (int i = AIP_V_protocol; i < AIP_VAULT_COUNT; i++) {
        bool mine = i < AIP_V_ttl && i != AIP_V_base64_decode && i != AIP_V_mount && i != AIP_V_kv;
        const apr_array_header_t *words =
            mine ? aip_field_text(&aip_vault_table[i], &vault->f, pool) : NULL;
        all = apr_pstrcat(pool, all, "\n", words ? apr_array_pstrcat(pool, words, ' ') : "", NULL);
    }
    for (size_t i = 0; !login && i < sizeof of_secrets / sizeof *of_secrets; i++) {
        const apr_array_header_t *words =
            aip_field_text(&aip_vault_table[of_secrets[i]], &vault->f, pool);
        all = apr_pstrcat(pool, all, "\n", words ? apr_array_pstrcat(pool, words, ' ') : "", NULL);
    }
    all = apr_pstrcat(pool, all, "\n", vault->scope ? vault->scope : "", NULL);
    if (vault->egress) {
        const aip_egress_t *e = vault->egress;
        const char *const ways[] = {e->client_cert, e->ca_file, e->proxy_host};
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            all = apr_pstrcat(pool, all, "\n", ways[i] ? ways[i] : "", NULL);
        }
    }
    SHA256((const unsigned char *)all, strlen(all), digest);
    return apr_pescape_hex(pool, digest, sizeof digest, 0);
}

/* ---- secrets ---- */

static bool decode(const secret_t *secret, aip_fetched_t *fetched, apr_pool_t *pool)
{
    if (!secret->vault->f.base64_decode) {
        return true;
    }
    const char *text = fetched->value;
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    len += strspn(text + len, "=");
    char *plain = apr_palloc(pool, (apr_size_t)apr_base64_decode_len(text) + 1);
    int n = text[len] || len % 4 ? 0 : apr_base64_decode(plain, text);
    plain[n] = '\0';
    if (n <= 0 || memchr(plain, '\0', (size_t)n)) {
        fetched->error = "the secret is no base64 of a text";
        return false;
    }
    fetched->value = plain;
    return true;
}

static aip_fetched_e fetch_local(const aip_source_t *source, aip_fetched_t *fetched,
                                 apr_pool_t *pool)
{
    const secret_t *secret = source->ctx;
    aip_fetched_e outcome =
        aip_vault_read_local(secret->vault, &secret->ref, &fetched->value, pool, &fetched->error);
    return outcome == AIP_FETCHED_OK && !decode(secret, fetched, pool) ? AIP_FETCHED_MISSING
                                                                       : outcome;
}

/* Whether it was the token that was refused; a good one just must not read the secret. */
static bool is_stale(const aip_vault_t *vault, const char *text, const aip_source_t *source,
                     apr_pool_t *pool)
{
    aip_vault_token_t token = {.text = text};
    const char *unused;
    return aip_hcv_look_up(vault, &token, source->store->stop, pool, &unused) == AIP_FETCHED_DENIED;
}

/* A token that is refused may have expired or been revoked: a fresh login is tried, once. */
static aip_fetched_e fetch_hcv(const aip_source_t *source, aip_fetched_t *fetched, apr_pool_t *pool)
{
    const secret_t *secret = source->ctx;
    apr_uint64_t bad = 0, turn = 0;
    aip_fetched_e outcome = AIP_FETCHED_AWAY;
    for (int tries = 0; tries < 2; tries++) {
        const char *why;
        const char *token = aip_secrets_need(source->store, secret->token, bad, &turn, pool, &why);
        if (!token) {
            fetched->error = why;
            return AIP_FETCHED_AWAY;
        }
        if (turn == bad) {
            return AIP_FETCHED_DENIED; /* with the words of the refusal */
        }
        outcome = aip_hcv_read(secret->vault, &secret->ref, token + 1, &fetched->value,
                               source->store->stop, pool, &fetched->error);
        if (outcome != AIP_FETCHED_DENIED || !is_stale(secret->vault, token + 1, source, pool)) {
            break;
        }
        bad = turn;
    }
    return outcome == AIP_FETCHED_OK && !decode(secret, fetched, pool) ? AIP_FETCHED_MISSING
                                                                       : outcome;
}

/* ---- login ---- */

static aip_fetched_e fetch_secret_id(const aip_source_t *source, aip_fetched_t *fetched,
                                     apr_pool_t *pool)
{
    const login_t *login = source->ctx;
    return aip_hcv_secret_id(login->vault, &fetched->value, source->store->stop, pool,
                             &fetched->error);
}

static aip_fetched_e log_in(const aip_source_t *source, aip_vault_token_t *token, apr_pool_t *pool,
                            const char **error)
{
    const login_t *login = source->ctx;
    aip_secrets_t *store = source->store;
    const char *secret_id = NULL;
    apr_uint64_t turn = 0, bad = 0;
    aip_fetched_e outcome = AIP_FETCHED_AWAY;
    if (login->secret_id < 0) {
        return aip_hcv_login(login->vault, NULL, token, store->stop, pool, error);
    }
    for (int tries = 0; tries < 2; tries++) { /* a refused one may have been replaced */
        secret_id = aip_secrets_need(store, login->secret_id, bad, &turn, pool, error);
        if (!secret_id || turn == bad) {
            return secret_id ? outcome : AIP_FETCHED_AWAY;
        }
        outcome = aip_hcv_login(login->vault, secret_id, token, store->stop, pool, error);
        if (outcome != AIP_FETCHED_DENIED) {
            break;
        }
        bad = turn;
    }
    return outcome;
}

/* The first byte of the value says whether the token can be renewed. */
static aip_fetched_e fetch_token(const aip_source_t *source, aip_fetched_t *fetched,
                                 apr_pool_t *pool)
{
    const login_t *login = source->ctx;
    const char *current = aip_secrets_get(source->store, source->slot, NULL, pool);
    aip_vault_token_t token = {0};
    aip_fetched_e outcome = AIP_FETCHED_DENIED;
    if (current && *current == 'r') {
        token.text = current + 1;
        outcome = aip_hcv_renew(login->vault, &token, source->store->stop, pool, &fetched->error);
    }
    /* A token at the end of its life is refused in many ways, or gets no time. */
    if (outcome != AIP_FETCHED_OK || token.lifetime == 0) {
        outcome = log_in(source, &token, pool, &fetched->error);
    }
    if (outcome == AIP_FETCHED_OK) {
        fetched->value = apr_pstrcat(pool, token.renewable ? "r" : "n", token.text, NULL);
        fetched->lifetime = token.lifetime;
    }
    return outcome;
}

static const char *origin_of(const aip_vault_t *vault, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s:%d", vault->f.host, (int)vault->f.port);
}

static int add_login(aip_secrets_t *store, const aip_vault_t *vault, apr_pool_t *pool)
{
    const char *id = fingerprint(vault, true, pool);
    login_t *login = apr_pcalloc(pool, sizeof *login);
    aip_source_t source = {.neg_ttl = apr_time_from_sec(vault->f.neg_ttl),
                           .patience = 6 * apr_time_from_msec(vault->f.timeout),
                           .origin = origin_of(vault, pool),
                           .ctx = login};
    *login = (login_t){vault, -1};
    if (vault->f.auth_method == AIP_VAULT_AUTH_APPROLE) {
        source.id = apr_pstrcat(pool, "secret-id ", id, NULL);
        source.shown = apr_psprintf(pool, "AIVaultApproleSecretId of <AIVault %s>", vault->prefix);
        source.fetch = fetch_secret_id;
        source.once = vault->f.approle_response_wrapping;
        login->secret_id = aip_secrets_add(store, &source);
    }
    source.id = apr_pstrcat(pool, "token ", id, NULL);
    source.shown = apr_psprintf(pool, "the login to <AIVault %s>", vault->prefix);
    source.once = false;
    source.fetch = fetch_token;
    return aip_secrets_add(store, &source);
}

const aip_source_t *aip_vault_source(aip_secrets_t *store, const aip_vault_t *vault,
                                     const aip_reference_t *ref, apr_pool_t *pool,
                                     const char **error)
{
    aip_source_t *source = apr_pcalloc(pool, sizeof *source);
    secret_t *secret = apr_pcalloc(pool, sizeof *secret);
    bool env = vault->f.name == AIP_VAULT_ENV;
    *secret = (secret_t){.vault = vault, .ref = *ref, .token = -1};
    *source =
        (aip_source_t){.id = apr_pstrcat(pool, "secret ", fingerprint(vault, false, pool), " ",
                                         ref->path, apr_psprintf(pool, "#%d", ref->version), NULL),
                       .shown = ref->shown,
                       .ttl = env ? 0 : apr_time_from_sec(vault->f.ttl),
                       .neg_ttl = apr_time_from_sec(vault->f.neg_ttl),
                       .resurrect_ttl = apr_time_from_sec(vault->f.resurrect_ttl),
                       .patience = apr_time_from_sec(1),
                       .fixed = env,
                       .sticky = !env,
                       .fetch = fetch_local,
                       .ctx = secret};
    *error = NULL;
    if (!aip_vault_is_local(vault)) {
        secret->token = add_login(store, vault, pool);
        source->origin = origin_of(vault, pool);
        source->patience = 12 * apr_time_from_msec(vault->f.timeout);
        source->sticky = false;
        source->fetch = fetch_hcv;
    }
    return source;
}
