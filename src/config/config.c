/* SPDX-License-Identifier: Apache-2.0 */
/* Per-directory configuration: create, merge, and the command table made from the table of fields.
 * Runs while the configuration is read; merge also once per request and matching section. */
#include "aip/config.h"

#include "aip/access.h"
#include "aip/observe.h"
#include "aip/secret.h"

#include <ap_expr.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <http_log.h>

aip_registry_t *aip_registry;

static apr_status_t forget_registry(void *data)
{
    (void)data;
    aip_secrets_use(NULL);
    aip_registry = NULL;
    return APR_SUCCESS;
}

int aip_config_pre(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog, (void)ptemp;
    aip_registry = apr_pcalloc(pconf, sizeof *aip_registry);
    aip_registry->sections = apr_array_make(pconf, 16, sizeof(aip_section_t));
    aip_registry->targets = apr_array_make(pconf, 16, sizeof(aip_targets_t *));
    aip_registry->endpoints = apr_array_make(pconf, 16, sizeof(aip_endpoint_t *));
    aip_registry->vaults = apr_array_make(pconf, 4, sizeof(aip_vault_section_t));
    aip_registry->bound = apr_array_make(pconf, 8, sizeof(aip_bound_t));
    aip_registry->gateways = apr_array_make(pconf, 16, sizeof(aip_gateway_t));
    aip_registry->egresses = apr_array_make(pconf, 4, sizeof(aip_server_egress_t));
    aip_registry->caches = apr_array_make(pconf, 4, sizeof(struct aip_route_cache_t *));
    aip_registry->expressions = apr_hash_make(pconf);
    aip_registry->redactions = apr_hash_make(pconf);
    aip_registry->key_files = apr_hash_make(pconf);
    aip_registry->group_files = apr_hash_make(pconf);
    aip_registry->models = apr_hash_make(pconf);
    apr_pool_cleanup_register(pconf, NULL, forget_registry, apr_pool_cleanup_null);
    return OK;
}

void *aip_config_create_dir(apr_pool_t *pool, char *path)
{
    (void)path;
    aip_dir_conf_t *dir = apr_pcalloc(pool, sizeof *dir);
    aip_location_defaults(&dir->f, pool);
    return dir;
}

void *aip_config_merge_dir(apr_pool_t *pool, void *base_, void *add_)
{
    const aip_dir_conf_t *base = base_, *add = add_;
    if (add->merged && add->below == base) {
        return add->merged;
    }
    aip_dir_conf_t *merged = apr_pmemdup(pool, base, sizeof *merged);
    aip_location_merge(&merged->f, &base->f, &add->f);
    merged->targets = add->targets ? add->targets : base->targets;
    merged->inside = add->inside;
    merged->path = add->path ? add->path : base->path;
    merged->below = NULL;
    merged->merged = NULL;
    return merged;
}

void aip_config_merge_all(apr_pool_t *pconf)
{
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        aip_dir_conf_t *server =
            ap_get_module_config(section->server->lookup_defaults, &ai_proxy_adv_module);
        if (server && server != section->dir) {
            section->dir->merged = aip_config_merge_dir(pconf, server, section->dir);
            section->dir->below = server;
        }
    }
}

/* A plain <Location> has a path that can be compared; a pattern or an <If> has not. */
static const char *section_path(const cmd_parms *cmd)
{
    const ap_directive_t *parent = cmd->directive->parent;
    if (!cmd->path) {
        return "";
    }
    while (parent && strncasecmp(parent->directive, "<Location", 9) != 0 &&
           strncasecmp(parent->directive, "<If", 3) != 0) {
        parent = parent->parent;
    }
    bool plain = parent && strcasecmp(parent->directive, "<Location") == 0 &&
                 !ap_strchr_c(parent->args, '~');
    return plain ? cmd->path : NULL;
}

static const char *own_path(const cmd_parms *cmd)
{
    const char *path = section_path(cmd);
    apr_size_t len = path ? strlen(path) : 0;
    while (len && path[len - 1] == '/') {
        len--;
    }
    return path && *path ? apr_pstrmemdup(cmd->pool, path, len) : NULL;
}

void aip_config_register(cmd_parms *cmd, aip_dir_conf_t *dir)
{
    if (dir->registered || dir->inside || dir->vault) {
        return;
    }
    dir->registered = true;
    dir->path = own_path(cmd);
    aip_section_t *section = apr_array_push(aip_registry->sections);
    *section = (aip_section_t){.dir = dir,
                               .server = cmd->server,
                               .path = section_path(cmd),
                               .node = cmd->directive->parent,
                               .where = apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename,
                                                     cmd->directive->line_num)};
}

/* httpd's own check counts <If> among the file sections, so those are looked for here. */
const char *aip_config_context(const cmd_parms *cmd)
{
    for (const ap_directive_t *parent = cmd->directive->parent; parent; parent = parent->parent) {
        if (strncasecmp(parent->directive, "<Files", 6) == 0) {
            return apr_psprintf(cmd->pool, "%s cannot occur within %s> section; use <Location>",
                                cmd->cmd->name, parent->directive);
        }
    }
    return ap_check_cmd_context((cmd_parms *)cmd,
                                NOT_IN_DIRECTORY | NOT_IN_HTACCESS | NOT_IN_LIMIT);
}

/* Parsed here, where a mistake still has its line. @return NULL: `error` says why */
static ap_expr_info_t *parse_expression(cmd_parms *cmd, const char *text, const char **error)
{
    const char *why;
    ap_expr_info_t *expression = ap_expr_parse_cmd(cmd, text, AP_EXPR_FLAG_DONT_VARY, &why, NULL);
    *error = why ? apr_psprintf(cmd->pool, "%s: cannot parse '%s': %s", cmd->cmd->name, text, why)
                 : NULL;
    return why ? NULL : expression;
}

static const char *add_expression(cmd_parms *cmd, apr_array_header_t **list, const char *text)
{
    const char *error;
    ap_expr_info_t *expression = parse_expression(cmd, text, &error);
    if (expression) {
        *list = *list ? *list : apr_array_make(cmd->pool, 2, sizeof(ap_expr_info_t *));
        APR_ARRAY_PUSH(*list, ap_expr_info_t *) = expression;
    }
    return error;
}

/* So that the log can say which line of the configuration refused a request. */
static void mark_rule(const cmd_parms *cmd, const apr_array_header_t *rules)
{
    aip_acl_rule_t *rule = APR_ARRAY_IDX(rules, rules->nelts - 1, aip_acl_rule_t *);
    rule->where =
        apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename, cmd->directive->line_num);
}

static const char *access_field_done(cmd_parms *cmd, const aip_location_fields_t *f, int index,
                                     const char *value)
{
    switch (index) {
    case AIP_L_acls_allow:
        mark_rule(cmd, f->acls_allow);
        return NULL;
    case AIP_L_acls_deny:
        mark_rule(cmd, f->acls_deny);
        return NULL;
    case AIP_L_api_key_file:
    case AIP_L_acls_group_file:
        return aip_access_open(cmd, index, value);
    case AIP_L_api_key_header:
        return aip_header_name_ok(value)
                   ? NULL
                   : apr_psprintf(cmd->pool, "AIApiKeyHeader: '%s' is no header name", value);
    default:
        return NULL;
    }
}

/* Relative to ServerRoot, as httpd's own file names are. */
static void make_absolute(const cmd_parms *cmd, const char **path)
{
    const char *full = ap_server_root_relative(cmd->pool, *path);
    *path = full ? full : *path;
}

static const char *field_done(cmd_parms *cmd, aip_location_fields_t *f, int index,
                              const char *value)
{
    const char *error = access_field_done(cmd, f, index, value);
    if (index == AIP_L_egress_ca_file) {
        make_absolute(cmd, &f->egress_ca_file);
    }
    if (index == AIP_L_egress_client_cert) {
        make_absolute(cmd, &f->egress_client_cert);
    }
    if (index == AIP_L_dry_run_path && (*value != '/' || !value[1])) {
        return apr_psprintf(cmd->pool, "AIDryRunPath '%s' must begin with '/' and have a name",
                            value);
    }
    if (index == AIP_L_cost_currency &&
        (strlen(value) != 3 || strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 3)) {
        return apr_psprintf(cmd->pool, "AICostCurrency '%s' must be three capital letters", value);
    }
    if (index == AIP_L_explain_for) {
        apr_hash_set(aip_registry->expressions, apr_pstrdup(cmd->pool, value), APR_HASH_KEY_STRING,
                     parse_expression(cmd, value, &error));
    }
    return error;
}

/* What a directive of a target means beyond its value. */
static const char *target_field_done(cmd_parms *cmd, aip_target_t *target, int index,
                                     const char *value)
{
    switch (index) {
    case AIP_T_route_force:
        return add_expression(cmd, &target->force, value);
    case AIP_T_route_forbid:
        return add_expression(cmd, &target->forbid, value);
    case AIP_T_route_examples_file:
        return aip_examples_read(cmd, &target->f, value);
    default:
        return NULL;
    }
}

/* NULL, or where the directive belongs. */
static const char *wrong_place(cmd_parms *cmd, const aip_field_t *row, const aip_dir_conf_t *dir)
{
    aip_place_e place = dir->inside ? AIP_IN_TARGET : dir->vault ? AIP_IN_VAULT : AIP_IN_LOCATION;
    if (row->place == place) {
        return NULL;
    }
    switch (row->place) {
    case AIP_IN_TARGET:
        return apr_psprintf(cmd->pool, "%s belongs inside <AITarget name> ... </AITarget>",
                            row->directive);
    case AIP_IN_VAULT:
        return apr_psprintf(cmd->pool, "%s belongs inside <AIVault prefix> ... </AIVault>",
                            row->directive);
    case AIP_IN_LOCATION:
        break;
    }
    return apr_psprintf(cmd->pool, "%s is not allowed inside %s %s>; put it outside",
                        row->directive, dir->inside ? "<AITarget" : "<AIVault",
                        dir->inside ? dir->inside->name : dir->vault->prefix);
}

static void *fields_of(const aip_field_t *row, aip_dir_conf_t *dir)
{
    switch (row->place) {
    case AIP_IN_TARGET:
        return &dir->inside->f;
    case AIP_IN_VAULT:
        return &dir->vault->f;
    case AIP_IN_LOCATION:
        break;
    }
    return &dir->f;
}

/* Which vault a reference means is known when all of the configuration has been read. */
static void note_reference(const cmd_parms *cmd, const aip_field_t *row, void *fields,
                           const aip_dir_conf_t *dir)
{
    const char *text = *(const char **)((char *)fields + row->offset);
    aip_bound_t *bound = apr_array_push(aip_registry->bound);
    *bound = (aip_bound_t){.text = text,
                           .row = row,
                           .vault = dir->vault,
                           .server = cmd->server,
                           .where = apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename,
                                                 cmd->directive->line_num)};
}

static const char *set_field(cmd_parms *cmd, void *mconfig, int argc, char *const argv[])
{
    const aip_field_t *row = cmd->info;
    aip_dir_conf_t *dir = mconfig;
    const char *error = aip_config_context(cmd);
    error = error ? error : wrong_place(cmd, row, dir);
    if (error) {
        return error;
    }
    if (row->flags & AIP_F_SERVER && cmd->path) {
        return apr_psprintf(cmd->pool,
                            "%s holds for a whole server: it belongs into the main configuration "
                            "or a <VirtualHost>, outside of any <Location> or <If>",
                            row->directive);
    }
    aip_config_register(cmd, dir);
    void *fields = fields_of(row, dir);
    error = aip_field_set(row, fields, argc, argv, cmd->pool);
    if (!error && row->place == AIP_IN_TARGET) {
        error = target_field_done(cmd, dir->inside, row->index, argv[0]);
    } else if (!error && row->place == AIP_IN_LOCATION) {
        error = row->index == AIP_L_log_redact
                    ? aip_redact_compile(cmd, dir->f.log_redact, argc == 2 ? argv[1] : NULL)
                    : field_done(cmd, &dir->f, row->index, argv[0]);
    }
    bool reference = row->flags & AIP_F_VAULT && argc == 1 && aip_reference_in(argv[0]);
    if (!error && reference) {
        note_reference(cmd, row, fields, dir);
    } else if (!error && row->flags & AIP_F_SECRET) {
        cmd->directive->args = "***"; /* mod_info and -D DUMP_CONFIG show what stands here */
    }
    return error;
}

#define WHERE (RSRC_CONF | ACCESS_CONF)
#define LOCATION_COMMAND(kind, member, directive, field, dflt, low, high, words, flags, help)      \
    AP_INIT_TAKE_ARGV(directive, set_field, (void *)&aip_location_table[AIP_L_##member], WHERE,    \
                      help),
#define TARGET_COMMAND(kind, member, directive, field, dflt, low, high, words, flags, help)        \
    AP_INIT_TAKE_ARGV(directive, set_field, (void *)&aip_target_table[AIP_T_##member], WHERE, help),
#define VAULT_COMMAND(kind, member, directive, field, dflt, low, high, words, flags, help)         \
    AP_INIT_TAKE_ARGV(directive, set_field, (void *)&aip_vault_table[AIP_V_##member], WHERE, help),

const command_rec aip_commands[] = {
    AP_INIT_RAW_ARGS("<AITarget", aip_section_target, NULL, WHERE,
                     "One model endpoint: <AITarget name> ... </AITarget>"),
    AP_INIT_RAW_ARGS("<AIVault", aip_section_vault, NULL, RSRC_CONF,
                     "Where secrets come from: <AIVault prefix> ... </AIVault>"),
    AIP_LOCATION_FIELDS(LOCATION_COMMAND) AIP_TARGET_FIELDS(TARGET_COMMAND)
        AIP_VAULT_FIELDS(VAULT_COMMAND){NULL}};
