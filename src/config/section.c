/* SPDX-License-Identifier: Apache-2.0 */
/* <AITarget name>: reads its lines into a configuration vector of its own, so that SSLProxy* is
 * legal inside, checks the target as a whole and makes its endpoint. Runs while the configuration
 * is read. */
#include "aip/config.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <http_log.h>

/* Directives of other modules would be read and never used, so they are refused. */
static const char *check_children(const cmd_parms *cmd, const char *directive, const char *other)
{
    for (const ap_directive_t *child = cmd->directive->first_child; child; child = child->next) {
        if (strncasecmp(child->directive, "AI", 2) != 0 &&
            !(other && strncasecmp(child->directive, other, strlen(other)) == 0)) {
            return apr_psprintf(cmd->pool, "%s is not allowed inside %s>; AI*%s%s%s (line %d)",
                                child->directive, directive, other ? " and " : "",
                                other ? other : "", other ? "* directives are" : " directives are",
                                child->line_num);
        }
    }
    return NULL;
}

int aip_targets_find(const aip_targets_t *targets, const char *name, size_t len)
{
    for (int i = 0; targets && i < targets->n; i++) {
        const char *other = targets->list[i]->name;
        if (strlen(other) == len && memcmp(other, name, len) == 0) {
            return i;
        }
    }
    return -1;
}

const char *aip_section_name(cmd_parms *cmd, const char *directive, const char *args,
                             const char **name)
{
    const char *end = ap_strrchr_c(args, '>');
    if (!end || end[1]) {
        return apr_psprintf(cmd->pool, "%s needs a '>' at the end of its line", directive);
    }
    const char *inner = apr_pstrmemdup(cmd->pool, args, (apr_size_t)(end - args));
    *name = ap_getword_conf(cmd->pool, &inner);
    if (!**name || *inner) {
        return apr_psprintf(cmd->pool, "%s name> takes exactly one name", directive);
    }
    for (const char *p = *name; *p; p++) {
        if (!apr_isalnum(*p) && !ap_strchr_c("-_.", *p)) {
            return apr_psprintf(cmd->pool,
                                "%s %s>: a name holds letters, digits, '-', '_' and '.' only",
                                directive, *name);
        }
    }
    return NULL;
}

static const char *read_name(cmd_parms *cmd, const char *args, const aip_targets_t *targets,
                             const char **name)
{
    const char *error = aip_section_name(cmd, "<AITarget", args, name);
    if (error || aip_targets_find(targets, *name, strlen(*name)) < 0) {
        return error;
    }
    return apr_psprintf(cmd->pool,
                        "<AITarget %s>: there is a target of that name in this section already; "
                        "choose another",
                        *name);
}

const char *aip_section_read(cmd_parms *cmd, const char *directive, const char *other,
                             ap_conf_vector_t *vector)
{
    int override = cmd->override;
    ap_directive_t *node = cmd->directive;
    const char *error = check_children(cmd, directive, other);
    if (error) {
        return error;
    }
    cmd->override = ACCESS_CONF | PROXY_CONF;
    error = ap_walk_config(node->first_child, cmd, vector);
    cmd->override = override;
    if (!error) {
        cmd->directive = node; /* on an error httpd reports the line that it stands at */
    }
    return error;
}

static const char *add_body_param(aip_targets_t *targets, aip_target_t *target)
{
    target->body_param = -1;
    if (!target->f.auth_param_name || target->f.auth_param_location != AIP_PARAM_BODY) {
        return NULL;
    }
    aip_span_t name = {target->f.auth_param_name, strlen(target->f.auth_param_name)};
    for (size_t i = 0; i < targets->n_extra; i++) {
        if (targets->extra[i].len == name.len &&
            memcmp(targets->extra[i].data, name.data, name.len) == 0) {
            target->body_param = (int)i;
            return NULL;
        }
    }
    if (targets->n_extra == AIP_CHAT_EXTRA_MAX) {
        return "AIAuthParamLocation body: too many different AIAuthParamName in one section";
    }
    targets->extra_secret =
        targets->extra_secret || target->f.set[AIP_T_auth_param_name] == AIP_SET_REFERENCE;
    target->body_param = (int)targets->n_extra;
    targets->extra[targets->n_extra++] = name;
    return NULL;
}

static const char *finish_target(cmd_parms *cmd, aip_targets_t *targets, aip_target_t *target,
                                 ap_conf_vector_t *vector)
{
    aip_url_t *url = apr_pcalloc(cmd->pool, sizeof *url);
    const char *error = aip_target_check(&target->f, cmd->pool);
    if (error) {
        return error;
    }
    target->provider_name = aip_field_word(&aip_target_table[AIP_T_model_provider],
                                           target->f.model_provider, cmd->pool);
    target->provider = aip_provider_find(target->provider_name);
    target->rates = aip_rates_of(&target->f);
    if (aip_provider_url(target->provider, &target->f, url, cmd->pool, &error) != APR_SUCCESS) {
        return error;
    }
    error = add_body_param(targets, target);
    if (!error) {
        target->endpoint = aip_endpoint_create(target->name, url, cmd->server, cmd->pool, &error);
    }
    if (!error) {
        target->endpoint->user = vector;
        target->endpoint->where =
            apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename, cmd->directive->line_num);
    }
    return error;
}

const char *aip_section_target(cmd_parms *cmd, void *mconfig, const char *args)
{
    aip_dir_conf_t *dir = mconfig;
    const char *name, *error = aip_config_context(cmd);
    if (error) {
        return error;
    }
    if (dir->inside || dir->vault) {
        return "<AITarget> cannot stand inside another <AITarget> or an <AIVault>";
    }
    error = read_name(cmd, args, dir->targets, &name);
    if (error) {
        return error;
    }
    aip_config_register(cmd, dir);
    ap_conf_vector_t *vector = ap_create_per_dir_config(cmd->pool);
    aip_dir_conf_t *inner = aip_config_create_dir(
        cmd->pool, NULL); /* httpd makes one at a module's first directive only */
    ap_set_module_config(vector, &ai_proxy_adv_module, inner);
    aip_target_t *target = apr_pcalloc(cmd->pool, sizeof *target);
    target->name = name;
    aip_target_defaults(&target->f, cmd->pool);
    inner->inside = target;
    error = aip_section_read(cmd, "<AITarget", "SSLProxy", vector);
    if (error) {
        return error;
    }
    if (!dir->targets) {
        dir->targets = apr_pcalloc(cmd->pool, sizeof *dir->targets);
        dir->targets->array = apr_array_make(cmd->pool, 4, sizeof(aip_target_t *));
        dir->targets->where =
            apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename, cmd->directive->line_num);
        APR_ARRAY_PUSH(aip_registry->targets, aip_targets_t *) = dir->targets;
    }
    error = finish_target(cmd, dir->targets, target, vector);
    if (error) {
        return apr_psprintf(cmd->pool, "<AITarget %s>: %s", name, error);
    }
    APR_ARRAY_PUSH(dir->targets->array, aip_target_t *) = target;
    dir->targets->list = (aip_target_t **)(void *)dir->targets->array->elts;
    dir->targets->n = dir->targets->array->nelts;
    return NULL;
}
