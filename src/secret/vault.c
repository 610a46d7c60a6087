/* SPDX-License-Identifier: Apache-2.0 */
/* Vaults as the configuration knows them: those that are always there, the rules between the
 * directives of one section, and what a reference's query changes. Pure; while the configuration is
 * read. */
#include "aip/vault.h"

#include <apr_strings.h>
#include <string.h>

const aip_vault_t *aip_vault_builtin(const char *prefix, apr_pool_t *pool)
{
    bool env = strcmp(prefix, "env") == 0;
    if (!env && strcmp(prefix, "file") != 0) {
        return NULL;
    }
    aip_vault_t *vault = apr_pcalloc(pool, sizeof *vault);
    vault->prefix = env ? "env" : "file";
    aip_vault_defaults(&vault->f, pool);
    vault->f.name = env ? AIP_VAULT_ENV : AIP_VAULT_FILE;
    vault->f.set[AIP_V_name] = AIP_SET_WRITTEN;
    return vault;
}

bool aip_vault_is_local(const aip_vault_t *vault)
{
    return vault->f.name != AIP_VAULT_HCV;
}

#define IN(name) (1u << AIP_VAULT_##name)
#define BY(method) (1u << AIP_VAULT_AUTH_##method)

/* For which AIVaultName, and which AIVaultAuthMethod (0: any), a directive means something. */
static const struct {
    int index;
    unsigned names, methods;
} uses[] = {
    {AIP_V_prefix, IN(ENV), 0},
    {AIP_V_directory, IN(FILE), 0},
    {AIP_V_protocol, IN(HCV), 0},
    {AIP_V_host, IN(HCV), 0},
    {AIP_V_port, IN(HCV), 0},
    {AIP_V_mount, IN(HCV), 0},
    {AIP_V_kv, IN(HCV), 0},
    {AIP_V_namespace, IN(HCV), 0},
    {AIP_V_auth_method, IN(HCV), 0},
    {AIP_V_timeout, IN(HCV), 0},
    {AIP_V_token, IN(HCV), BY(TOKEN)},
    {AIP_V_token_file, IN(HCV), BY(TOKEN)},
    {AIP_V_approle_auth_path, IN(HCV), BY(APPROLE)},
    {AIP_V_approle_role_id, IN(HCV), BY(APPROLE)},
    {AIP_V_approle_secret_id, IN(HCV), BY(APPROLE)},
    {AIP_V_approle_secret_id_file, IN(HCV), BY(APPROLE)},
    {AIP_V_approle_response_wrapping, IN(HCV), BY(APPROLE)},
    {AIP_V_kube_auth_path, IN(HCV), BY(KUBERNETES)},
    {AIP_V_kube_role, IN(HCV), BY(KUBERNETES)},
    {AIP_V_kube_api_token_file, IN(HCV), BY(KUBERNETES)},
    {AIP_V_cert_auth_role_name, IN(HCV), BY(CERT)},
    {AIP_V_ttl, IN(FILE) | IN(HCV), 0},
    {AIP_V_neg_ttl, IN(FILE) | IN(HCV), 0},
    {AIP_V_resurrect_ttl, IN(FILE) | IN(HCV), 0},
};

static const char *check_uses(const aip_vault_fields_t *f, apr_pool_t *pool)
{
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        const char *directive = aip_vault_table[uses[i].index].directive;
        if (!f->set[uses[i].index]) {
            continue;
        }
        if (!(uses[i].names >> f->name & 1)) {
            return apr_psprintf(pool, "%s has no meaning with AIVaultName %s; remove it", directive,
                                aip_field_word(&aip_vault_table[AIP_V_name], f->name, pool));
        }
        if (uses[i].methods && !(uses[i].methods >> f->auth_method & 1)) {
            return apr_psprintf(
                pool, "%s has no meaning with AIVaultAuthMethod %s; remove it", directive,
                aip_field_word(&aip_vault_table[AIP_V_auth_method], f->auth_method, pool));
        }
    }
    return NULL;
}

static const char *check_login(const aip_vault_fields_t *f)
{
    switch ((aip_vault_auth_e)f->auth_method) {
    case AIP_VAULT_AUTH_TOKEN:
        return !f->token == !f->token_file
                   ? "AIVaultAuthMethod token needs either AIVaultToken or AIVaultTokenFile"
                   : NULL;
    case AIP_VAULT_AUTH_APPROLE:
        if (!f->approle_role_id) {
            return "AIVaultAuthMethod approle needs AIVaultApproleRoleId";
        }
        return !f->approle_secret_id == !f->approle_secret_id_file
                   ? "AIVaultAuthMethod approle needs either AIVaultApproleSecretId or "
                     "AIVaultApproleSecretIdFile"
                   : NULL;
    case AIP_VAULT_AUTH_KUBERNETES:
        return f->kube_role ? NULL : "AIVaultAuthMethod kubernetes needs AIVaultKubeRole";
    case AIP_VAULT_AUTH_CERT:
        return f->protocol == 0 ? "AIVaultAuthMethod cert needs AIVaultProtocol https" : NULL;
    }
    return NULL;
}

/* Paths go into URLs, each part encoded, so that only their form matters. */
static bool path_ok(const char *path)
{
    for (const char *p = path;; p++) {
        size_t len = strcspn(p, "/");
        if (len == 0 || (len == 1 && *p == '.')) {
            return false;
        }
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)p[i] <= ' ' || p[i] == 0x7f || strchr("?#%\\", p[i])) {
                return false;
            }
        }
        p += len;
        if (!*p) {
            return !strstr(path, "..");
        }
    }
}

static const char *check_texts(const aip_vault_fields_t *f, apr_pool_t *pool)
{
    const struct {
        int index;
        const char *value;
    } paths[] = {{AIP_V_mount, f->mount},
                 {AIP_V_approle_auth_path, f->approle_auth_path},
                 {AIP_V_kube_auth_path, f->kube_auth_path},
                 {AIP_V_namespace, f->namespace}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (paths[i].value && !path_ok(paths[i].value)) {
            return apr_psprintf(pool,
                                "%s '%s' must be a path such as 'team/kv': no slash at its ends, "
                                "no '.' or '..', white "
                                "space or URL characters",
                                aip_vault_table[paths[i].index].directive, paths[i].value);
        }
    }
    if (f->host[strspn(f->host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:"
                                "[]")]) {
        return apr_psprintf(pool, "AIVaultHost '%s' must be a host name or an address", f->host);
    }
    if (f->directory && *f->directory != '/') {
        return apr_psprintf(pool, "AIVaultDirectory '%s' must be an absolute path", f->directory);
    }
    return NULL;
}

const char *aip_vault_check(const aip_vault_t *vault, apr_pool_t *pool)
{
    const aip_vault_fields_t *f = &vault->f;
    if (!f->set[AIP_V_name]) {
        return "AIVaultName is required: add 'AIVaultName hcv', env or file";
    }
    const char *error = check_uses(f, pool);
    error = error ? error : check_texts(f, pool);
    return error || f->name != AIP_VAULT_HCV ? error : check_login(f);
}

/* A query names fields of the vault as Kong's configuration does: ?mount=kv2&kv=v2 . Where the
 * vault is and how one logs in to it is the section's alone. */
static const char * override(aip_vault_t *vault, const char *name, const char *value,
                             apr_pool_t *pool)
{
    static const struct {
        const char *name;
        int index;
    } settable[] = {{"prefix", AIP_V_prefix},
                    {"directory", AIP_V_directory},
                    {"mount", AIP_V_mount},
                    {"kv", AIP_V_kv},
                    {"namespace", AIP_V_namespace},
                    {"base64_decode", AIP_V_base64_decode},
                    {"ttl", AIP_V_ttl},
                    {"neg_ttl", AIP_V_neg_ttl},
                    {"resurrect_ttl", AIP_V_resurrect_ttl}};
    for (size_t i = 0; i < sizeof settable / sizeof *settable; i++) {
        if (strcmp(name, settable[i].name) == 0) {
            char *argv[] = {(char *)value};
            return aip_field_set(&aip_vault_table[settable[i].index], &vault->f, 1, argv, pool);
        }
    }
    return apr_psprintf(pool, "'%s' is no field of a vault that a reference can set", name);
}

const aip_vault_t *aip_vault_for(const aip_vault_t *vault, const aip_reference_t *ref,
                                 apr_pool_t *pool, const char **error)
{
    aip_vault_t *own = apr_pmemdup(pool, vault, sizeof *own);
    char *state = NULL, *query = ref->query ? apr_pstrdup(pool, ref->query) : NULL;
    *error = NULL;
    for (char *item = query ? apr_strtok(query, "&", &state) : NULL; item && !*error;
         item = apr_strtok(NULL, "&", &state)) {
        char *value = strchr(item, '=');
        if (!value || !value[1]) {
            *error = apr_psprintf(pool, "after '?' stand name=value pairs, joined by '&'");
            break;
        }
        *value = '\0';
        *error = override(own, item, value + 1, pool);
    }
    *error = *error ? *error : aip_vault_check(own, pool);
    if (!*error && ref->version &&
        (own->f.name == AIP_VAULT_FILE ||
         (own->f.name == AIP_VAULT_HCV && own->f.kv == AIP_VAULT_KV_V1))) {
        *error = "there are no versions of secrets in files and in KV version 1; remove '#'";
    }
    if (!*error && own->f.name == AIP_VAULT_ENV && ref->version > 2) {
        *error = "the environment knows versions 1 and 2 (NAME_PREVIOUS) only";
    }
    return *error ? NULL : own;
}
