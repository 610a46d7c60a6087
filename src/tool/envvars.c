/* SPDX-License-Identifier: Apache-2.0 */
/* The variables that httpd's start script would set: Debian's apache2.conf does not work without
 * them, and vault references may name one. The file is read, not run, so lines that need a shell
 * are passed over. Called by httpd.c; the values go to httpd alone. */
#include "tool.h"

#include <apr_strings.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

/* The value as a shell would see it; NULL: only a shell could tell. */
static const char *unquote(char *value)
{
    size_t len = strlen(value);
    if (len < 2 || (*value != '"' && *value != '\'') || value[len - 1] != *value) {
        return strpbrk(value, "$`\\\"' \t;&|<>()") ? NULL : value;
    }
    bool plain = *value == '\'';
    value[len - 1] = '\0';
    return strpbrk(value + 1, plain ? "'" : "$`\\\"") ? NULL : value + 1;
}

/* One line [export] NAME=VALUE. Debian's $SUFFIX is empty but for further instances. */
static void read_variable(char *line, const char *suffix, apr_array_header_t *env, apr_pool_t *pool)
{
    char *name = strncmp(line, "export ", 7) == 0 ? line + 7 : line, *equals = strchr(name, '=');
    if (!equals || equals == name || strspn(name, NAME_LETTERS) != (size_t)(equals - name)) {
        return;
    }
    *equals = '\0';
    char *value = equals + 1, *mark;
    value[strcspn(value, "\r\n")] = '\0';
    mark = strstr(value, "$SUFFIX");
    if (mark && *value != '\'') {
        *mark = '\0';
        value = apr_pstrcat(pool, value, suffix, mark + strlen("$SUFFIX"), NULL);
    }
    const char *text = unquote(value);
    if (text && !getenv(name)) {
        APR_ARRAY_PUSH(env, char *) = apr_pstrcat(pool, name, "=", text, NULL);
    }
}

static FILE *open_file(const aip_options_t *o, const char *dir, apr_pool_t *pool)
{
    FILE *file;
    if (o->envvars) {
        return fopen(o->envvars, "re");
    }
    file = fopen(apr_pstrcat(pool, dir, "/envvars", NULL), "re");
    return file ? file : fopen(apr_pstrcat(pool, dir, "/../envvars", NULL), "re");
}

int aip_envvars_read(const aip_options_t *options, apr_array_header_t *env, apr_pool_t *pool)
{
    static const char instances[] = "/apache2-";
    char line[8192];
    const char *conf = options->conf, *slash = strrchr(conf, '/');
    const char *dir = slash ? apr_pstrmemdup(pool, conf, (apr_size_t)(slash - conf)) : ".";
    const char *instance = strstr(dir, instances), *suffix = "";
    FILE *file = open_file(options, dir, pool);
    if (!file) {
        return options->envvars
                   ? aip_tool_fail("cannot read %s: %s", options->envvars, strerror(errno))
                   : AIP_EXIT_OK;
    }
    if (instance) {
        instance += sizeof instances - 2; /* with the dash, as Debian's script has it */
        suffix = apr_pstrmemdup(pool, instance, strcspn(instance, "/"));
    }
    while (fgets(line, sizeof line, file)) {
        read_variable(line, suffix, env, pool);
    }
    fclose(file);
    return AIP_EXIT_OK;
}
