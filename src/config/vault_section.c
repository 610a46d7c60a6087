/* SPDX-License-Identifier: Apache-2.0 */
/* <AIVault prefix>, and the check that every reference of the configuration means a vault. Runs
 * while the configuration is read; files and variables are looked at, no vault is asked. */
#include "aip/cloud_source.h"
#include "aip/config.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

static aip_vault_section_t *find_section(const server_rec *server, const char *name)
{
    for (int i = 0; i < aip_registry->vaults->nelts; i++) {
        aip_vault_section_t *section = &APR_ARRAY_IDX(aip_registry->vaults, i, aip_vault_section_t);
        if (section->server == server && strcmp(section->vault->prefix, name) == 0) {
            return section;
        }
    }
    return NULL;
}

static const char *warn_plain(const cmd_parms *cmd, const aip_vault_t *vault)
{
    const aip_vault_fields_t *f = &vault->f;
    bool own = strcmp(f->host, "localhost") == 0 || strncmp(f->host, "127.", 4) == 0 ||
               strcmp(f->host, "::1") == 0 || strcmp(f->host, "[::1]") == 0;
    if (f->name == AIP_VAULT_HCV && f->protocol == 0 && !own) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_WARNING, 0, cmd->server,
                     "AIP0208: <AIVault %s>: tokens and secrets go to %s unencrypted; say "
                     "AIVaultProtocol https",
                     vault->prefix, f->host);
    }
    return NULL;
}

const char *aip_section_vault(cmd_parms *cmd, void *mconfig, const char *args)
{
    aip_dir_conf_t *dir = mconfig;
    const char *name, *error = ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT | NOT_IN_LIMIT);
    error = error ? error : aip_section_name(cmd, "<AIVault", args, &name);
    if (error) {
        return error;
    }
    if (dir->inside || dir->vault) {
        return "<AIVault> cannot stand inside an <AITarget> or another <AIVault>";
    }
    if (find_section(cmd->server, name)) {
        return apr_psprintf(
            cmd->pool, "<AIVault %s>: there is a vault of that name already; choose another", name);
    }
    ap_conf_vector_t *vector = ap_create_per_dir_config(cmd->pool);
    aip_dir_conf_t *inner = aip_config_create_dir(cmd->pool, NULL);
    ap_set_module_config(vector, &ai_proxy_adv_module, inner);
    aip_vault_t *vault = apr_pcalloc(cmd->pool, sizeof *vault);
    vault->prefix = name;
    aip_vault_defaults(&vault->f, cmd->pool);
    inner->vault = vault;
    error = aip_section_read(cmd, "<AIVault", NULL, vector);
    if (error) {
        return error;
    }
    error = aip_vault_check(vault, cmd->pool);
    if (error) {
        return apr_psprintf(cmd->pool, "<AIVault %s>: %s", name, error);
    }
    aip_vault_section_t *section = apr_array_push(aip_registry->vaults);
    *section = (aip_vault_section_t){.vault = vault, .server = cmd->server};
    return warn_plain(cmd, vault);
}

typedef struct search_t {
    const server_rec *server, *main;
} search_t;

/* A virtual host's own vaults, then the main server's. */
static const aip_vault_t *find_vault(void *baton, const char *name)
{
    const search_t *search = baton;
    aip_vault_section_t *section = find_section(search->server, name);
    section = section ? section : find_section(search->main, name);
    if (section) {
        section->used = true;
    }
    return section ? section->vault : NULL;
}

/* What logs in to a vault must not need one. */
static const aip_vault_t *find_local(void *baton, const char *name)
{
    const aip_vault_t *vault = find_vault(baton, name);
    return vault && aip_vault_is_local(vault) ? vault : NULL;
}

/* What env and file say is checked like a value that was written. */
static const char *check_value(const aip_bound_t *bound, const char *value)
{
    static const char *const headers[] = {"AIAuthHeaderValue", "AIEmbeddingsAuthHeaderValue"};
    static const char *const names[] = {"AIAuthHeaderName", "AIEmbeddingsAuthHeaderName"};
    if (bound->row->kind == AIP_KIND_PORT && !aip_port_ok(value)) {
        return "the value must be a whole number from 1 to 65535";
    }
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        if (strcmp(bound->row->directive, headers[i]) == 0 && !aip_header_value_ok(value)) {
            return "the value holds control bytes";
        }
        if (strcmp(bound->row->directive, names[i]) == 0 && !aip_header_name_ok(value)) {
            return "the value is no name for a credential header";
        }
    }
    return strcmp(bound->row->directive, "AIAuthParamName") == 0 && !aip_body_name_ok(value)
               ? "the value is no name for a credential"
               : NULL;
}

static bool is_used(const aip_vault_t *vault)
{
    for (int i = 0; i < aip_registry->vaults->nelts; i++) {
        const aip_vault_section_t *section =
            &APR_ARRAY_IDX(aip_registry->vaults, i, aip_vault_section_t);
        if (section->vault == vault) {
            return section->used;
        }
    }
    return false;
}

/* @return number of errors: 0 or 1 */
static int check_reference(const aip_bound_t *bound, const server_rec *s)
{
    search_t search = {bound->server, s};
    const char *value;
    const char *error = aip_secrets_bind(aip_registry->secrets, bound->text,
                                         bound->vault ? find_local : find_vault, &search, &value);
    error = error || !value ? error : check_value(bound, value);
    if (error) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_ERR, 0, bound->server,
                     "AIP0012: %s: %s: %s%s", bound->where, bound->row->directive, error,
                     bound->vault ? " (what logs in to a vault comes from env or file)" : "");
    }
    return error ? 1 : 0;
}

/* A name for what a server's references mean, the same after a restart. */
static const char *scope_of(const server_rec *server, const server_rec *main, apr_pool_t *pool)
{
    const char *name = server->server_hostname ? server->server_hostname : "";
    return server == main
               ? ""
               : apr_psprintf(pool, "%s %s:%d", name, server->addrs ? server->addrs->virthost : "",
                              server->addrs ? server->addrs->host_port : 0);
}

/* @return number of errors: 0 or 1 */
static int check_egress(const aip_vault_section_t *section, apr_pool_t *pool)
{
    aip_vault_t *vault = section->vault;
    const aip_vault_fields_t *f = &vault->f;
    aip_url_t url;
    const char *error;
    vault->egress = aip_egress_of(section->server);
    if (f->name != AIP_VAULT_HCV) {
        return 0;
    }
    bool v6 = ap_strchr_c(f->host, ':') && *f->host != '[';
    const char *text = apr_psprintf(pool, "%s://%s%s%s:%d/v1/", f->protocol ? "https" : "http",
                                    v6 ? "[" : "", f->host, v6 ? "]" : "", (int)f->port);
    error = aip_url_parse(text, &url, pool, &error) == APR_SUCCESS
                ? aip_egress_denied(vault->egress, &url, pool)
                : apr_psprintf(pool, "%s %s", text, error);
    if (!error && f->auth_method == AIP_VAULT_AUTH_CERT && !vault->egress->client_cert) {
        error = "AIVaultAuthMethod cert needs AIEgressClientCert";
    }
    if (error) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_ERR, 0, section->server,
                     "AIP0013: <AIVault %s>: %s", vault->prefix, error);
    }
    return error ? 1 : 0;
}

static void add_identities(aip_targets_t *targets, const server_rec *main, apr_pool_t *pool)
{
    for (int i = 0; i < targets->n; i++) {
        aip_target_t *target = targets->list[i];
        aip_cloud_auth_t auth = aip_cloud_of_target(&target->f, pool);
        auth.scope = scope_of(target->endpoint->server, main, pool);
        aip_cloud_aws_t aws = {.region = target->f.bedrock_aws_region,
                               .role_session_name = target->f.bedrock_aws_role_session_name,
                               .sts_endpoint_url = target->f.bedrock_aws_sts_endpoint_url};
        target->cloud = aip_cloud_kind(&auth);
        target->identity = aip_cloud_source(aip_registry->secrets, &auth, &aws,
                                            aip_egress_of(target->endpoint->server), pool);
    }
}

/* First what requests need, then the logins of the vaults that it is in. */
int aip_check_secrets(apr_pool_t *pconf, const server_rec *s)
{
    int errors = 0;
    aip_registry->secrets = aip_secrets_create(pconf);
    for (int i = 0; i < aip_registry->vaults->nelts; i++) {
        const aip_vault_section_t *section =
            &APR_ARRAY_IDX(aip_registry->vaults, i, aip_vault_section_t);
        section->vault->scope = scope_of(section->server, s, pconf);
        errors += check_egress(section, pconf);
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < aip_registry->bound->nelts; i++) {
            const aip_bound_t *bound = &APR_ARRAY_IDX(aip_registry->bound, i, aip_bound_t);
            if (pass == 0 ? !bound->vault : bound->vault && is_used(bound->vault)) {
                errors += check_reference(bound, s);
            }
        }
    }
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        add_identities(APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *), s, pconf);
    }
    return errors;
}
