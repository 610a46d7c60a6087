/* SPDX-License-Identifier: Apache-2.0 */
/* The file that httpd is given: the --define lines and an Include of CONF; for a fragment also what
 * every server needs, as far as the httpd at hand has it. Called by httpd.c. */
#include "tool.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Modules whose directives stand beside a gateway's in real configurations. The module itself comes
 * first, because it may stand anywhere. */
static const char *const modules[] = {
    "authz_core",
    "authz_host",
    "authz_user",
    "authn_core",
    "authn_file",
    "auth_basic",
    "unixd",
    "log_config",
    "logio",
    "env",
    "setenvif",
    "headers",
    "rewrite",
    "alias",
    "filter",
    "deflate",
    "socache_shmcb",
    "socache_redis",
    "socache_memcache",
    "proxy",
    "proxy_http",
    "ssl",
    "http2",
    "status",
};

/* A whole configuration loads modules, includes files that do, or says where the server listens. */
static bool is_server_line(const char *line)
{
    static const char *const words[] = {"LoadModule", "Include", "IncludeOptional", "ServerRoot",
                                        "Listen"};
    while (apr_isspace(*line)) {
        line++;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t len = strlen(words[i]);
        if (strncasecmp(line, words[i], len) == 0 && apr_isspace(line[len])) {
            return true;
        }
    }
    return false;
}

/* Reads CONF once; it must be there, and its lines may tell what it is. */
static int look_at(const aip_options_t *o, bool *whole)
{
    char line[512];
    FILE *file = fopen(o->conf, "re");
    bool begins = true, found = false;
    if (!file) {
        return aip_tool_fail("cannot read %s: %s", o->conf, strerror(errno));
    }
    while (fgets(line, sizeof line, file)) {
        found = found || (begins && is_server_line(line));
        begins = strchr(line, '\n') != NULL;
    }
    bool failed = ferror(file);
    fclose(file);
    if (failed) {
        return aip_tool_fail("cannot read %s: %s", o->conf, strerror(EISDIR));
    }
    *whole = o->layout == AIP_LAYOUT_AUTO ? found : o->layout == AIP_LAYOUT_WHOLE;
    return AIP_EXIT_OK;
}

/* A value in quotes, as httpd reads it. */
static const char *quoted(const char *value, apr_pool_t *pool)
{
    char *out = apr_palloc(pool, 2 * strlen(value) + 3), *p = out;
    *p++ = '"';
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') {
            *p++ = '\\';
        }
        *p++ = *value;
    }
    *p++ = '"';
    *p = '\0';
    return out;
}

static const char *absolute(const char *path, apr_pool_t *pool)
{
    char *full = NULL;
    if (*path == '/' || apr_filepath_merge(&full, NULL, path, APR_FILEPATH_TRUENAME, pool)) {
        return path;
    }
    return full;
}

static bool exists(const char *path)
{
    return access(path, R_OK) == 0;
}

static void load(FILE *out, const char *name, const char *path, apr_pool_t *pool)
{
    if (exists(path)) {
        fprintf(out, "<IfModule !%s_module>\nLoadModule %s_module %s\n</IfModule>\n", name, name,
                quoted(path, pool));
    }
}

static int write_server(FILE *out, const aip_options_t *o, const char *dir, apr_pool_t *pool)
{
    const char *own = o->module ? absolute(o->module, pool) : AIP_MODULE_PATH;
    const char *from = o->modules ? absolute(o->modules, pool) : AIP_HTTPD_MODULES;
    if (!exists(own)) {
        return aip_tool_fail("there is no module %s; name it with --module", own);
    }
    fprintf(out,
            "ServerName aipctl.invalid\nListen 127.0.0.1:1\nDefaultRuntimeDir %s\n"
            "PidFile \"%s/pid\"\nErrorLog \"%s/error_log\"\n",
            quoted(dir, pool), dir, dir);
    load(out, "ai_proxy_adv", own, pool);
    fputs("<IfModule !mpm_prefork_module>\n<IfModule !mpm_worker_module>\n", out);
    load(out, "mpm_event", apr_pstrcat(pool, from, "/mod_mpm_event.so", NULL), pool);
    fputs("</IfModule>\n</IfModule>\n", out);
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        load(out, modules[i], apr_pstrcat(pool, from, "/mod_", modules[i], ".so", NULL), pool);
    }
    return AIP_EXIT_OK;
}

static void write_defines(FILE *out, const aip_options_t *o, apr_pool_t *pool)
{
    for (int i = 0; i < o->defines->nelts; i++) {
        const char *define = APR_ARRAY_IDX(o->defines, i, const char *);
        const char *equals = strchr(define, '=');
        if (equals) {
            fprintf(out, "Define %s %s\n",
                    apr_pstrmemdup(pool, define, (apr_size_t)(equals - define)),
                    quoted(equals + 1, pool));
        } else {
            fprintf(out, "Define %s\n", define);
        }
    }
}

int aip_wrapper_write(const aip_options_t *options, const char *dir, const char **path,
                      apr_pool_t *pool)
{
    bool whole;
    int status = look_at(options, &whole);
    if (status != AIP_EXIT_OK) {
        return status;
    }
    *path = apr_pstrcat(pool, dir, "/aipctl.conf", NULL);
    FILE *out = fopen(*path, "wxe");
    if (!out) {
        return aip_tool_fail("cannot write %s: %s", *path, strerror(errno));
    }
    if (options->root) {
        fprintf(out, "ServerRoot %s\n", quoted(absolute(options->root, pool), pool));
    }
    write_defines(out, options, pool);
    status = whole ? AIP_EXIT_OK : write_server(out, options, dir, pool);
    fprintf(out, "Include %s\n", quoted(absolute(options->conf, pool), pool));
    if (fclose(out) != 0 && status == AIP_EXIT_OK) {
        status = aip_tool_fail("cannot write %s: %s", *path, strerror(errno));
    }
    return status;
}
