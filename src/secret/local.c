/* SPDX-License-Identifier: Apache-2.0 */
/* The vaults that need no network: environment variables and files. Called while the configuration
 * is read (as root) and by the thread that refreshes secrets. Rules of env:
 * https://developer.konghq.com/gateway/entities/vault/ */
#include "aip/vault.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

const char *aip_secret_member(const char *json, const char *key, apr_pool_t *pool)
{
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    const char *value = json_string_value(json_object_get(root, key));
    value = value && *value ? apr_pstrdup(pool, value) : NULL;
    json_decref(root);
    return value;
}

const char *aip_secret_file(const char *path, apr_status_t *rv, apr_pool_t *pool,
                            const char **error)
{
    apr_file_t *file;
    char *buf = apr_palloc(pool, AIP_SECRET_MAX + 1), reason[120];
    apr_size_t len = AIP_SECRET_MAX + 1;
    *rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_FPROT_OS_DEFAULT, pool);
    if (*rv == APR_SUCCESS) {
        *rv = apr_file_read_full(file, buf, len, &len);
        apr_file_close(file);
    }
    if (*rv != APR_SUCCESS && *rv != APR_EOF) {
        *error = apr_psprintf(pool, "cannot read %s: %s", path,
                              apr_strerror(*rv, reason, sizeof reason));
        return NULL;
    }
    *rv = APR_EGENERAL;
    if (len > AIP_SECRET_MAX) {
        *error = apr_psprintf(pool, "%s is longer than %d bytes", path, AIP_SECRET_MAX);
        return NULL;
    }
    if (len && buf[len - 1] == '\n') {
        len--;
    }
    if (len && buf[len - 1] == '\r') {
        len--;
    }
    if (!len || memchr(buf, '\0', len)) {
        *error = apr_psprintf(pool, "%s is empty or no text", path);
        return NULL;
    }
    buf[len] = '\0';
    *rv = APR_SUCCESS;
    return buf;
}

static const char *upper(const char *name, apr_pool_t *pool)
{
    char *text = apr_pstrdup(pool, name);
    for (char *p = text; *p; p++) {
        *p = *p == '-' ? '_' : (char)apr_toupper(*p);
    }
    return text;
}

/* The variable as written, else in upper case with '_' for '-'; version 2 is NAME_PREVIOUS. */
static aip_fetched_e read_env(const aip_vault_t *vault, const aip_reference_t *ref,
                              const char **value, apr_pool_t *pool, const char **error)
{
    const char *slash = strchr(ref->path, '/');
    const char *name =
        slash ? apr_pstrmemdup(pool, ref->path, (apr_size_t)(slash - ref->path)) : ref->path;
    name = apr_pstrcat(pool, vault->f.prefix ? vault->f.prefix : "", name,
                       ref->version == 2 ? "_PREVIOUS" : "", NULL);
    const char *text = getenv(name);
    text = text ? text : getenv(upper(name, pool));
    if (!text || !*text) {
        *error = apr_psprintf(pool,
                              "the environment variable %s is %s; export it to httpd (Debian: "
                              "/etc/apache2/envvars)",
                              name, text ? "empty" : "not set");
        return AIP_FETCHED_MISSING;
    }
    *value = slash ? aip_secret_member(text, slash + 1, pool) : apr_pstrdup(pool, text);
    if (!*value) {
        *error =
            apr_psprintf(pool, "the secret is no JSON object with a text member '%s'", slash + 1);
        return AIP_FETCHED_MISSING;
    }
    return AIP_FETCHED_OK;
}

static aip_fetched_e file_outcome(apr_status_t rv)
{
    return APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv) ? AIP_FETCHED_MISSING
           : APR_STATUS_IS_EACCES(rv)                            ? AIP_FETCHED_DENIED
                                                                 : AIP_FETCHED_AWAY;
}

/* The file of that path, else the last part of the path as a member of the JSON file above. */
static aip_fetched_e read_file(const aip_vault_t *vault, const aip_reference_t *ref,
                               const char **value, apr_pool_t *pool, const char **error)
{
    const char *base = vault->f.directory ? vault->f.directory : "", *other_error;
    char *path = apr_pstrcat(pool, base, "/", ref->path, NULL), *slash = strrchr(path, '/');
    apr_status_t rv, other;
    *value = aip_secret_file(path, &rv, pool, error);
    if (*value) {
        return AIP_FETCHED_OK;
    }
    if (file_outcome(rv) != AIP_FETCHED_MISSING || slash <= path + strlen(base)) {
        return file_outcome(rv);
    }
    *slash = '\0';
    const char *json = aip_secret_file(path, &other, pool, &other_error);
    if (!json) {
        return file_outcome(rv);
    }
    *value = aip_secret_member(json, slash + 1, pool);
    *error = *value ? NULL
                    : apr_psprintf(pool, "%s is no JSON object with a text member '%s'", path,
                                   slash + 1);
    return *value ? AIP_FETCHED_OK : AIP_FETCHED_MISSING;
}

aip_fetched_e aip_vault_read_local(const aip_vault_t *vault, const aip_reference_t *ref,
                                   const char **value, apr_pool_t *pool, const char **error)
{
    return vault->f.name == AIP_VAULT_ENV ? read_env(vault, ref, value, pool, error)
                                          : read_file(vault, ref, value, pool, error);
}
