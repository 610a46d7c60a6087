/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_VAULT_H
#define AIP_VAULT_H
/* Vaults: what an <AIVault> section says, and how one secret is fetched. Nothing here caches; see
 * aip/secret.h. */

#include "aip/egress.h"
#include "aip/error.h"
#include "aip/fields.h"

/** Longest secret, in bytes. */
#define AIP_SECRET_MAX 65536

/** One reference: {vault://vault/path[?query][#version]}. */
typedef struct aip_reference_t {
    const char *shown; /**< as written, braces included */
    const char *vault; /**< prefix of its <AIVault>, or env or file */
    const char *path;  /**< without a slash at either end; no empty, "." or ".." segment */
    const char *query; /**< NULL: none */
    int version;       /**< 0: the current one */
} aip_reference_t;

/** A piece of a value: a reference, or the text between two. */
typedef struct aip_part_t {
    const char *literal; /**< NULL: a reference */
    aip_reference_t ref;
} aip_part_t;

/** Whether a text holds the beginning of a reference. */
bool aip_reference_in(const char *text);

/**
 * Takes a value apart.
 * @param parts  out: aip_part_t, in `pool`
 * @return NULL, or what is wrong with the spelling of a reference
 */
const char *aip_reference_split(const char *text, apr_array_header_t **parts, apr_pool_t *pool);

/** An <AIVault>, or one that is always there. Immutable after the configuration is read. */
typedef struct aip_vault_t {
    const char *prefix; /**< what references name */
    aip_vault_fields_t f;
    const aip_egress_t *egress; /**< NULL: the defaults */
    const char *scope; /**< tells apart what references in equal sections mean; NULL: nothing */
} aip_vault_t;

/** env and file, which need no section. @return NULL for another name */
const aip_vault_t *aip_vault_builtin(const char *prefix, apr_pool_t *pool);

/** NULL, or which directive of the section is missing or has no meaning for its AIVaultName. */
const char *aip_vault_check(const aip_vault_t *vault, apr_pool_t *pool);

/**
 * The vault that a reference means: `vault` with the reference's query on top.
 * @param error  out: what is wrong with the reference for this vault
 * @return NULL after an error
 */
const aip_vault_t *aip_vault_for(const aip_vault_t *vault, const aip_reference_t *ref,
                                 apr_pool_t *pool, const char **error);

/** Whether fetching stays on this machine: such a reference is checked with the configuration. */
bool aip_vault_is_local(const aip_vault_t *vault);

/** How a fetch ended. */
typedef enum aip_fetched_e {
    AIP_FETCHED_OK,
    AIP_FETCHED_MISSING, /**< the vault answered: there is no such secret */
    AIP_FETCHED_DENIED,  /**< the vault refused the token, or a file its reader */
    AIP_FETCHED_AWAY     /**< no usable answer: unreachable, sealed, out of order */
} aip_fetched_e;

#define AIP_FETCHED_N 4

/** env and file. Errors name the reference, the variable or file and what to do; never a value. */
aip_fetched_e aip_vault_read_local(const aip_vault_t *vault, const aip_reference_t *ref,
                                   const char **value, apr_pool_t *pool, const char **error);

/** A text file without the line end at its end, at most AIP_SECRET_MAX bytes.
 * @return NULL: `error` says why, `rv` how */
const char *aip_secret_file(const char *path, apr_status_t *rv, apr_pool_t *pool,
                            const char **error);

/** The text member `key` of a JSON object, all of it as JSON when `key` is NULL; or NULL. */
const char *aip_secret_member(const char *json, const char *key, apr_pool_t *pool);

/** A token of HashiCorp Vault. */
typedef struct aip_vault_token_t {
    const char *text;
    bool renewable;
    apr_interval_time_t lifetime; /**< 0: it does not expire */
} aip_vault_token_t;

/**
 * Logs in by the vault's AIVaultAuthMethod.
 * @param secret_id  of AppRole, unwrapped; NULL with other methods
 */
aip_fetched_e aip_hcv_login(const aip_vault_t *vault, const char *secret_id,
                            aip_vault_token_t *token, const volatile apr_uint32_t *stop,
                            apr_pool_t *pool, const char **error);

/** Whether `token` is good, and how long it lives. AIP_FETCHED_DENIED: it is not, or must not look
 * itself up. */
aip_fetched_e aip_hcv_look_up(const aip_vault_t *vault, aip_vault_token_t *token,
                              const volatile apr_uint32_t *stop, apr_pool_t *pool,
                              const char **error);

/** Renews `token`; lifetime is the new one. */
aip_fetched_e aip_hcv_renew(const aip_vault_t *vault, aip_vault_token_t *token,
                            const volatile apr_uint32_t *stop, apr_pool_t *pool,
                            const char **error);

/** AppRole's secret id as configured; exchanges a wrapping token for it. */
aip_fetched_e aip_hcv_secret_id(const aip_vault_t *vault, const char **secret_id,
                                const volatile apr_uint32_t *stop, apr_pool_t *pool,
                                const char **error);

/** Reads a secret of a KV engine, version 1 or 2. */
aip_fetched_e aip_hcv_read(const aip_vault_t *vault, const aip_reference_t *ref, const char *token,
                           const char **value, const volatile apr_uint32_t *stop, apr_pool_t *pool,
                           const char **error);

#endif
