/* SPDX-License-Identifier: Apache-2.0 */
/* Resolves vault references while the configuration is read, as root, so that a file may be
 * readable by root only. Spelling and the env rules:
 * https://developer.konghq.com/gateway/entities/vault/ */
#include "aip/secret.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX 65536

static apr_status_t fail(const char **error, const char *text)
{
    *error = text;
    return APR_EGENERAL;
}

static const char *env_value(const char *name, apr_pool_t *pool)
{
    const char *value = getenv(name);
    if (!value) {
        char *upper = apr_pstrdup(pool, name);
        for (char *p = upper; *p; p++) {
            *p = *p == '-' ? '_' : (char)apr_toupper(*p);
        }
        value = getenv(upper);
    }
    return value;
}

/* One member of a secret that is a JSON object. */
static apr_status_t json_member(const char *json, const char *key, const char **out,
                                apr_pool_t *pool, const char *ref, const char **error)
{
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    const char *value = json_string_value(json_object_get(root, key));
    *out = value ? apr_pstrdup(pool, value) : NULL;
    json_decref(root);
    return *out
               ? APR_SUCCESS
               : fail(error,
                      apr_psprintf(pool, "%s: the secret is no JSON object with a text member '%s'",
                                   ref, key));
}

static apr_status_t from_env(const char *path, const char **out, apr_pool_t *pool, const char *ref,
                             const char **error)
{
    const char *slash = strchr(path, '/');
    const char *name = slash ? apr_pstrmemdup(pool, path, (apr_size_t)(slash - path)) : path;
    const char *value = *name ? env_value(name, pool) : NULL;
    if (!value || !*value) {
        return fail(error, apr_psprintf(
                               pool,
                               "%s: the environment variable %s is %s; export it to httpd (Debian: "
                               "/etc/apache2/envvars)",
                               ref, name, value ? "empty" : "not set"));
    }
    if (slash) {
        return json_member(value, slash + 1, out, pool, ref, error);
    }
    *out = apr_pstrdup(pool, value);
    return APR_SUCCESS;
}

static apr_status_t from_file(const char *path, const char **out, apr_pool_t *pool, const char *ref,
                              const char **error)
{
    apr_file_t *file;
    char *buf = apr_palloc(pool, FILE_MAX + 1);
    apr_size_t len = FILE_MAX + 1;
    char reason[120];
    const char *name = apr_pstrcat(pool, *path == '/' ? "" : "/", path, NULL);
    apr_status_t rv = apr_file_open(&file, name, APR_FOPEN_READ, APR_FPROT_OS_DEFAULT, pool);
    if (rv == APR_SUCCESS) {
        rv = apr_file_read_full(file, buf, len, &len);
        apr_file_close(file);
    }
    if (rv != APR_SUCCESS && rv != APR_EOF) {
        return fail(error, apr_psprintf(pool, "%s: cannot read %s: %s", ref, name,
                                        apr_strerror(rv, reason, sizeof reason)));
    }
    if (len > FILE_MAX) {
        return fail(error,
                    apr_psprintf(pool, "%s: %s is longer than %d bytes", ref, name, FILE_MAX));
    }
    if (len && buf[len - 1] == '\n') {
        len--;
    }
    if (len && buf[len - 1] == '\r') {
        len--;
    }
    if (!len || memchr(buf, '\0', len)) {
        return fail(error, apr_psprintf(pool, "%s: %s is empty or no text", ref, name));
    }
    buf[len] = '\0';
    *out = buf;
    return APR_SUCCESS;
}

static apr_status_t resolve_one(const char *ref, const char **out, apr_pool_t *pool,
                                const char **error)
{
    const char *path = ref + strlen("{vault://");
    apr_size_t len = strlen(path) - 1;
    char *inner = apr_pstrmemdup(pool, path, len);
    if (strncmp(inner, "env/", 4) == 0) {
        return from_env(inner + 4, out, pool, ref, error);
    }
    if (strncmp(inner, "file/", 5) == 0) {
        return from_file(inner + 5, out, pool, ref, error);
    }
    return fail(error, apr_psprintf(pool,
                                    "%s: there is no vault of that name; use {vault://env/NAME} or "
                                    "{vault://file/path}",
                                    ref));
}

apr_status_t aip_secret_resolve(const char *value, const char **resolved, apr_pool_t *pool,
                                const char **error)
{
    const char *start, *result = "";
    if (!strstr(value, "{vault:")) {
        *resolved = value;
        return APR_SUCCESS;
    }
    while ((start = strstr(value, "{vault:")) != NULL) {
        const char *end = strchr(start, '}'), *secret;
        if (!end || strncmp(start, "{vault://", 9) != 0) {
            return fail(
                error,
                "a vault reference must look like {vault://env/NAME} or {vault://file/path}");
        }
        apr_status_t rv = resolve_one(apr_pstrmemdup(pool, start, (apr_size_t)(end + 1 - start)),
                                      &secret, pool, error);
        if (rv != APR_SUCCESS) {
            return rv;
        }
        result = apr_pstrcat(pool, result, apr_pstrmemdup(pool, value, (apr_size_t)(start - value)),
                             secret, NULL);
        value = end + 1;
    }
    *resolved = apr_pstrcat(pool, result, value, NULL);
    return APR_SUCCESS;
}
