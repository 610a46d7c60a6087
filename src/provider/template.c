/* SPDX-License-Identifier: Apache-2.0 */
/* Templates in upstream URLs: their form, checked with the configuration, and their expansion, once
 * for each attempt. Pure. */
#include "aip/template.h"

#include "aip/provider.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

#define START "$("
#define HOST_MAX 253

/* One template: $(source.key) */
typedef struct slot_t {
    const char *start, *end; /* of the whole, in the URL */
    const char *source, *key;
} slot_t;

bool aip_template_in(const char *text)
{
    return strstr(text, START) != NULL;
}

/* The next template from `p` on. @return false: there is none; `error` says whether it is broken */
static bool next(const char *p, slot_t *slot, apr_pool_t *pool, const char **error)
{
    static const char *const sources[] = {"headers", "query_params", "uri_captures"};
    const char *start = strstr(p, START), *end = start ? strchr(start, ')') : NULL;
    *error = NULL;
    if (!start) {
        return false;
    }
    *error = "holds a broken template; write $(headers.NAME), $(query_params.NAME) or "
             "$(uri_captures.NAME)";
    if (!end) {
        return false;
    }
    const char *inner = apr_pstrmemdup(pool, start + 2, (apr_size_t)(end - start - 2));
    const char *dot = strchr(inner, '.');
    if (!dot || !dot[1] ||
        dot[1 + strspn(dot + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
                                "WXYZ0123456789-_")]) {
        return false;
    }
    const char *source = apr_pstrmemdup(pool, inner, (apr_size_t)(dot - inner));
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (strcmp(source, sources[i]) == 0) {
            *slot = (slot_t){start, end + 1, sources[i], dot + 1};
            *error = NULL;
            return true;
        }
    }
    return false;
}

/* What a client shows to prove who it is must not go into a URL. */
static bool is_credential(const slot_t *slot)
{
    static const char *const names[] = {"authorization", "proxy-authorization", "cookie",
                                        "api-key",       "x-api-key",           "x-goog-api-key"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(slot->source, "headers") == 0 && strcasecmp(slot->key, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Where the host of a URL begins and ends. */
static const char *host_start(const char *url)
{
    const char *mark = strstr(url, "://");
    return mark ? mark + 3 : NULL;
}

static const char *host_end(const char *url)
{
    const char *start = host_start(url);
    start = start ? start : url;
    return start + strcspn(start, "/?#");
}

const char *aip_template_error(const char *url, apr_pool_t *pool)
{
    const char *start = host_start(url), *error = NULL;
    slot_t slot;
    if (!start || strstr(url, START) < start) {
        return "must say http:// or https:// itself; a template has no place there";
    }
    for (const char *p = url; next(p, &slot, pool, &error); p = slot.end) {
        if (is_credential(&slot)) {
            return "must not be made of a client's credential";
        }
        if (slot.end <= host_end(url) && slot.start > start && slot.start[-1] == ':') {
            return "must say the port itself; a template has no place there";
        }
    }
    return error;
}

static bool host_value_ok(const char *value)
{
    size_t len = strlen(value);
    return len && len <= HOST_MAX && apr_isalnum(value[0]) && apr_isalnum(value[len - 1]) &&
           !strstr(value, "..") &&
           !value[strspn(value,
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")];
}

static bool path_value_ok(const char *value)
{
    return *value && strlen(value) <= 1024 && strcmp(value, ".") != 0 && strcmp(value, "..") != 0;
}

apr_status_t aip_template_expand(const char *url, aip_template_look_up_t *look_up, void *baton,
                                 const char **expanded, apr_pool_t *pool, aip_error_t *err)
{
    const char *p = url, *error, *out = "", *end = host_end(url);
    slot_t slot;
    for (; next(p, &slot, pool, &error); p = slot.end) {
        const char *value = look_up(baton, slot.source, slot.key);
        bool host = slot.end <= end;
        if (!value) {
            return aip_error_set(err, pool, 400, "invalid_request_error", "template_source", NULL,
                                 "%s key %s was not provided", slot.source, slot.key);
        }
        if (host ? !host_value_ok(value) : !path_value_ok(value)) {
            return aip_error_set(err, pool, 400, "invalid_request_error", "template_source", NULL,
                                 "%s key %s cannot stand in a URL", slot.source, slot.key);
        }
        out = apr_pstrcat(pool, out, apr_pstrmemdup(pool, p, (apr_size_t)(slot.start - p)),
                          host ? value : aip_url_encode(value, pool), NULL);
    }
    *expanded = apr_pstrcat(pool, out, p, NULL);
    return APR_SUCCESS;
}

static const char *always_x(void *baton, const char *source, const char *key)
{
    (void)baton, (void)source, (void)key;
    return "x";
}

const char *aip_template_sample(const char *url, apr_pool_t *pool)
{
    const char *sample = url;
    aip_error_t err;
    (void)aip_template_expand(url, always_x, NULL, &sample, pool, &err);
    return sample;
}
