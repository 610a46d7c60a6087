/* SPDX-License-Identifier: Apache-2.0 */
/* API keys: httpd's access phase for every request in a section with AIApiKeyFile, whatever handles
 * it. The key names r->user, so that Require, logs and expressions see it. No key is ever logged.
 */
#include "aip/access.h"

#include "aip/apikey.h"
#include "aip/groups.h"
#include "aip/watched.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define SLOT "aip_access"

bool aip_access_names_file(const char *value)
{
    return value && strcasecmp(value, "none") != 0;
}

const char *aip_access_open(cmd_parms *cmd, int index, const char *value)
{
    bool keys = index == AIP_L_api_key_file;
    apr_hash_t *files = keys ? aip_registry->key_files : aip_registry->group_files;
    const char *error = NULL;
    if (!aip_access_names_file(value) || apr_hash_get(files, value, APR_HASH_KEY_STRING)) {
        return NULL;
    }
    const char *path = ap_server_root_relative(cmd->pool, value);
    aip_watched_t *file = path ? aip_watched_open(path, keys ? aip_apikeys_parse : aip_groups_parse,
                                                  cmd->pool, &error)
                               : NULL;
    if (!file) {
        return apr_psprintf(cmd->pool, "%s: %s", cmd->cmd->name,
                            error ? error : "this is no file name");
    }
    if (keys && aip_watched_is_public(file)) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_WARNING, 0, cmd->server,
                     "AIP0170: %s:%d: everybody on this machine may read %s; let root own it and "
                     "the server's group read it (chmod 640)",
                     cmd->directive->filename, cmd->directive->line_num, path);
    }
    apr_hash_set(files, apr_pstrdup(cmd->pool, value), APR_HASH_KEY_STRING, file);
    return NULL;
}

static aip_access_t *stored(const request_rec *r)
{
    void *access = NULL;
    apr_pool_userdata_get(&access, SLOT, r->pool);
    return access && ((aip_access_t *)access)->r == r ? access : NULL;
}

const aip_access_t *aip_access_of(const request_rec *r)
{
    return stored(r);
}

/* What stands behind "Bearer", or NULL. */
static const char *bearer(const char *value)
{
    if (strncasecmp(value, "Bearer", 6) != 0 || (value[6] && value[6] != ' ')) {
        return NULL;
    }
    return value + 6 + strspn(value + 6, " ");
}

/* The first of the section's headers that has something to say. */
static const char *key_of(const request_rec *r, const aip_location_fields_t *f)
{
    static const char *const usual[] = {"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"};
    const char *const *names = usual;
    int n = sizeof usual / sizeof *usual;
    if (f->set[AIP_L_api_key_header]) {
        names = (const char *const *)(void *)f->api_key_header->elts;
        n = f->api_key_header->nelts;
    }
    for (int i = 0; i < n; i++) {
        const char *value = apr_table_get(r->headers_in, names[i]);
        if (value && strcasecmp(names[i], "Authorization") == 0) {
            value = bearer(value);
        }
        if (value && *value) {
            return value;
        }
    }
    return NULL;
}

static const void *acquire(const request_rec *r, aip_watched_t *file)
{
    const char *error;
    const void *contents = aip_watched_acquire(file, apr_time_now(), r->pool, &error);
    if (error) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "AIP0171: %s; what was read before still holds",
                      error);
    }
    return contents;
}

/* Copies what the file says of a key, since the file may be replaced at any moment. */
static void look_up(aip_access_t *access, aip_watched_t *file)
{
    apr_pool_t *pool = access->r->pool;
    const aip_apikeys_t *keys = acquire(access->r, file);
    const aip_apikey_t *found = aip_apikeys_find(keys, access->key, strlen(access->key));
    if (found) {
        access->consumer = apr_pstrdup(pool, found->name);
        access->groups = apr_array_make(pool, found->groups->nelts + 4, sizeof(const char *));
        for (int i = 0; i < found->groups->nelts; i++) {
            APR_ARRAY_PUSH(access->groups, const char *) =
                apr_pstrdup(pool, APR_ARRAY_IDX(found->groups, i, const char *));
        }
    }
    aip_watched_release(file);
}

static aip_access_t *check(request_rec *r, const aip_location_fields_t *f)
{
    aip_access_t *access = apr_pcalloc(r->pool, sizeof *access);
    aip_watched_t *file =
        apr_hash_get(aip_registry->key_files, f->api_key_file, APR_HASH_KEY_STRING);
    access->r = r;
    access->key = key_of(r, f);
    if (access->key && file) {
        look_up(access, file);
    }
    if (!access->consumer) {
        aip_error_set(&access->error, r->pool, HTTP_UNAUTHORIZED, "authentication_error",
                      "invalid_api_key", NULL,
                      access->key ? "this API key is not known here"
                                  : "an API key is required, for instance in the header "
                                    "Authorization: Bearer KEY");
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "AIP0172: refused: %s",
                      access->key ? "the API key is not known" : "no API key was given");
    }
    apr_pool_userdata_setn(access, SLOT, NULL, r->pool);
    return access;
}

int aip_hook_check_access(request_rec *r)
{
    const aip_location_fields_t *f = &aip_dir_conf(r)->f;
    if (!aip_access_names_file(f->api_key_file)) {
        return DECLINED;
    }
    aip_access_t *access = stored(r);
    access = access ? access : check(r, f);
    if (!access->consumer) {
        apr_table_setn(r->err_headers_out, "WWW-Authenticate", "Bearer");
        return HTTP_UNAUTHORIZED;
    }
    r->user = (char *)access->consumer;
    r->ap_auth_type = (char *)"ApiKey";
    return DECLINED;
}

int aip_hook_check_authn(request_rec *r)
{
    const aip_access_t *access =
        aip_access_names_file(aip_dir_conf(r)->f.api_key_file) ? stored(r) : NULL;
    return access && access->consumer ? OK : DECLINED;
}

static bool in_file(const request_rec *r, aip_watched_t *file, const char *key)
{
    bool known = aip_apikeys_find(acquire(r, file), key, strlen(key)) != NULL;
    aip_watched_release(file);
    return known;
}

/* Also in sections that want none, or keys of another file. */
bool aip_access_is_key(const request_rec *r, const char *value)
{
    const aip_access_t *access = stored(r);
    if (!value) {
        return false;
    }
    if (access && access->key && ap_strstr_c(value, access->key)) {
        return true;
    }
    const char *key = bearer(value) ? bearer(value) : value;
    for (apr_hash_index_t *i = apr_hash_first(r->pool, aip_registry->key_files); i;
         i = apr_hash_next(i)) {
        if (in_file(r, apr_hash_this_val(i), key)) {
            return true;
        }
    }
    return false;
}

/* Whether an authentication module of httpd's took the user out of Authorization: what stands there
 * is a password for this server. */
static bool is_servers(const request_rec *r, const char *name)
{
    static const char *const types[] = {"Basic", "Digest", "Bearer", "Negotiate", "oauth20"};
    for (size_t i = 0; r->ap_auth_type && i < sizeof types / sizeof *types; i++) {
        if (strcasecmp(r->ap_auth_type, types[i]) == 0) {
            return strcasecmp(name, "Authorization") == 0;
        }
    }
    return false;
}

const char *aip_access_client_header(const request_rec *r, const char *name)
{
    const char *value = apr_table_get(r->headers_in, name);
    return is_servers(r, name) || aip_access_is_key(r, value) ? NULL : value;
}
