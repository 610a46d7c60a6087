/* SPDX-License-Identifier: Apache-2.0 */
/* The spelling of vault references inside configuration values, Kong's:
 * https://developer.konghq.com/gateway/entities/vault/ . Beyond it, a reference may be a part of a
 * longer value. Pure; while the configuration is read. */
#include "aip/vault.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define START "{vault://"
#define VERSION_MAX 1000000000L

bool aip_reference_in(const char *text)
{
    return strstr(text, "{vault:") != NULL;
}

static bool name_ok(const char *name)
{
    for (const char *p = name; *p; p++) {
        if (!apr_isalnum(*p) && !strchr("-_.", *p)) {
            return false;
        }
    }
    return *name != '\0';
}

/* No segment may lead out of where the vault keeps its secrets. */
static bool path_ok(const char *path)
{
    for (const char *p = path;; p++) {
        size_t len = strcspn(p, "/");
        if (len == 0 || (len == 1 && *p == '.') || (len == 2 && p[0] == '.' && p[1] == '.')) {
            return false;
        }
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)p[i] < ' ' || p[i] == 0x7f || p[i] == '{' || p[i] == '\\') {
                return false;
            }
        }
        p += len;
        if (!*p) {
            return true;
        }
    }
}

static const char *read_version(const char *text, int *version, const char *shown, apr_pool_t *pool)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (!apr_isdigit(*text) || *end || n < 1 || n > VERSION_MAX) {
        return apr_psprintf(pool, "%s: after '#' stands a version, a whole number from 1", shown);
    }
    *version = (int)n;
    return NULL;
}

/* `inner` is what stands between {vault:// and }; it is cut up. */
static const char *read_reference(char *inner, aip_reference_t *ref, apr_pool_t *pool)
{
    char *hash = strchr(inner, '#'), *mark, *slash;
    if (hash) {
        const char *error = read_version(hash + 1, &ref->version, ref->shown, pool);
        if (error) {
            return error;
        }
        *hash = '\0';
    }
    if ((mark = strchr(inner, '?')) != NULL) {
        *mark = '\0';
        ref->query = mark + 1;
    }
    slash = strchr(inner, '/');
    if (!slash) {
        return apr_psprintf(
            pool, "%s: a reference names a vault and a secret: {vault://VAULT/SECRET[/KEY]}",
            ref->shown);
    }
    *slash = '\0';
    ref->vault = inner;
    ref->path = slash + 1;
    if (strcmp(ref->vault, "file") == 0 && *ref->path == '/') {
        ref->path++;
    }
    if (!name_ok(ref->vault)) {
        return apr_psprintf(pool, "%s: '%s' is no name of a vault", ref->shown, ref->vault);
    }
    if (!path_ok(ref->path)) {
        return apr_psprintf(pool,
                            "%s: the secret's path must hold neither empty, '.' or '..' parts nor "
                            "control bytes, '{' or '\\'",
                            ref->shown);
    }
    return NULL;
}

static void add_literal(apr_array_header_t *parts, const char *start, const char *end,
                        apr_pool_t *pool)
{
    if (end > start) {
        aip_part_t *part = apr_array_push(parts);
        *part = (aip_part_t){.literal = apr_pstrmemdup(pool, start, (apr_size_t)(end - start))};
    }
}

const char *aip_reference_split(const char *text, apr_array_header_t **parts, apr_pool_t *pool)
{
    const char *start;
    *parts = apr_array_make(pool, 3, sizeof(aip_part_t));
    while ((start = strstr(text, "{vault:")) != NULL) {
        const char *end = strchr(start, '}');
        if (!end || strncmp(start, START, strlen(START)) != 0) {
            return "a vault reference must look like {vault://env/NAME}, {vault://file/path} or "
                   "{vault://VAULT/SECRET/KEY}";
        }
        add_literal(*parts, text, start, pool);
        aip_part_t *part = apr_array_push(*parts);
        *part =
            (aip_part_t){.ref.shown = apr_pstrmemdup(pool, start, (apr_size_t)(end + 1 - start))};
        const char *inner = start + strlen(START);
        const char *error = read_reference(apr_pstrmemdup(pool, inner, (apr_size_t)(end - inner)),
                                           &part->ref, pool);
        if (error) {
            return error;
        }
        text = end + 1;
    }
    add_literal(*parts, text, text + strlen(text), pool);
    return NULL;
}
