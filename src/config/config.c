/* SPDX-License-Identifier: Apache-2.0 */
/* Per-directory configuration: create, merge, and the command table made from the table of fields.
 * Runs while the configuration is read; merge also once per request and matching section. */
#include "aip/config.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <http_log.h>

aip_registry_t *aip_registry;

static apr_status_t forget_registry(void *data)
{
    (void)data;
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
    aip_registry->gateways = apr_array_make(pconf, 16, sizeof(aip_gateway_t));
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
    aip_dir_conf_t *merged = apr_pmemdup(pool, base, sizeof *merged);
    aip_location_merge(&merged->f, &base->f, &add->f);
    merged->targets = add->targets ? add->targets : base->targets;
    merged->inside = add->inside;
    return merged;
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

void aip_config_register(cmd_parms *cmd, aip_dir_conf_t *dir)
{
    if (dir->registered || dir->inside) {
        return;
    }
    dir->registered = true;
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

static const char *set_field(cmd_parms *cmd, void *mconfig, int argc, char *const argv[])
{
    const aip_field_t *row = cmd->info;
    aip_dir_conf_t *dir = mconfig;
    const char *error = aip_config_context(cmd);
    if (error) {
        return error;
    }
    if (row->target && !dir->inside) {
        return apr_psprintf(cmd->pool, "%s belongs inside <AITarget name> ... </AITarget>",
                            row->directive);
    }
    if (!row->target && dir->inside) {
        return apr_psprintf(cmd->pool, "%s is not allowed inside <AITarget %s>; put it outside",
                            row->directive, dir->inside->name);
    }
    aip_config_register(cmd, dir);
    error = aip_field_set(row, row->target ? (void *)&dir->inside->f : (void *)&dir->f, argc, argv,
                          cmd->pool);
    if (!error && row->flags & AIP_F_SECRET && !ap_strstr_c(cmd->directive->args, "{vault:")) {
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

const command_rec aip_commands[] = {
    AP_INIT_RAW_ARGS("<AITarget", aip_section_target, NULL, WHERE,
                     "One model endpoint: <AITarget name> ... </AITarget>"),
    AIP_LOCATION_FIELDS(LOCATION_COMMAND) AIP_TARGET_FIELDS(TARGET_COMMAND){NULL}};
