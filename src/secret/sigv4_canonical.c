/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical form of path, query and header fields in Signature Version 4.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
#include "sigv4_private.h"

#include <apr_strings.h>
#include <apr_tables.h>
#include <stdlib.h>
#include <string.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool aip_sigv4_percent_good(const char *text)
{
    for (; (text = strchr(text, '%')); text++) {
        if (hex_value(text[1]) < 0 || hex_value(text[2]) < 0) {
            return false;
        }
    }
    return true;
}

static bool unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* Appends a byte, encoded unless it is unreserved. Room for three. */
static char *put_encoded(char *out, unsigned char c)
{
    static const char digits[] = "0123456789ABCDEF";

    if (unreserved(c)) {
        *out++ = (char)c;
    } else {
        *out++ = '%';
        *out++ = digits[c >> 4];
        *out++ = digits[c & 15];
    }
    return out;
}

/* Decodes what is encoded and encodes it again: whatever spelling was sent, a service that does the
 * same sees this one. @param keep  a byte that stays as it is, or 0 */
static char *recode(const char *text, size_t len, char keep, apr_pool_t *pool)
{
    char *start = apr_palloc(pool, 3 * len + 1), *out = start;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%') {
            out = put_encoded(out, (unsigned char)(hex_value(text[i + 1]) * 16 + //
                                                   hex_value(text[i + 2])));
            i += 2;
        } else if (keep && text[i] == keep) {
            *out++ = keep;
        } else {
            out = put_encoded(out, (unsigned char)text[i]);
        }
    }
    *out = '\0';
    return start;
}

static bool is(const char *segment, size_t len, const char *what)
{
    return len == strlen(what) && memcmp(segment, what, len) == 0;
}

/* RFC 3986, section 5.2.4, and empty segments go, too. */
static const char *without_dots(const char *path, apr_pool_t *pool)
{
    char *start = apr_palloc(pool, strlen(path) + 2), *out = start;
    bool open = true; /* whether a '/' ends the path */

    for (const char *p = path; *p;) {
        size_t len;

        p += strspn(p, "/");
        len = strcspn(p, "/");
        open = p[len] == '/' || len == 0 || is(p, len, ".") || is(p, len, "..");
        if (is(p, len, "..")) {
            while (out > start && *--out != '/') {
            }
        } else if (len && !is(p, len, ".")) {
            *out++ = '/';
            memcpy(out, p, len);
            out += len;
        }
        p += len;
    }
    if (open) {
        *out++ = '/';
    }
    *out = '\0';
    return start;
}

const char *aip_sigv4_canonical_path(const char *path, unsigned flags, apr_pool_t *pool)
{
    char *start, *out;

    if (!(flags & AIP_SIGV4_KEEP_PATH)) {
        path = without_dots(path, pool);
    }
    if (flags & AIP_SIGV4_ENCODE_ONCE) {
        return recode(path, strlen(path), '/', pool);
    }
    /* What is sent is the first encoding; its '%' is encoded like any other byte. */
    start = out = apr_palloc(pool, 3 * strlen(path) + 1);
    for (; *path; path++) {
        if (*path == '/') {
            *out++ = '/';
        } else {
            out = put_encoded(out, (unsigned char)*path);
        }
    }
    *out = '\0';
    return start;
}

typedef struct parameter_t {
    const char *name, *value;
} parameter_t;

/* Name first: compared as one text, "a-1=" would stand before "a=". */
static int by_name_and_value(const void *left, const void *right)
{
    const parameter_t *a = left, *b = right;
    int order = strcmp(a->name, b->name);

    return order ? order : strcmp(a->value, b->value);
}

const char *aip_sigv4_canonical_query(const char *query, apr_pool_t *pool)
{
    apr_array_header_t *parameters = apr_array_make(pool, 4, sizeof(parameter_t));
    apr_array_header_t *parts = apr_array_make(pool, 16, sizeof(const char *));
    const parameter_t *all;

    while (query && *query) {
        size_t len = strcspn(query, "&"), name = strcspn(query, "&=");

        if (len) {
            parameter_t *parameter = apr_array_push(parameters);
            bool has_value = name < len;

            parameter->name = recode(query, name, 0, pool);
            parameter->value = has_value ? recode(query + name + 1, len - name - 1, 0, pool) : "";
        }
        query += len + (query[len] == '&');
    }
    if (parameters->nelts == 0) {
        return "";
    }
    qsort(parameters->elts, (size_t)parameters->nelts, sizeof(parameter_t), by_name_and_value);
    all = (const parameter_t *)parameters->elts;
    for (int i = 0; i < parameters->nelts; i++) {
        if (i) {
            APR_ARRAY_PUSH(parts, const char *) = "&";
        }
        APR_ARRAY_PUSH(parts, const char *) = all[i].name;
        APR_ARRAY_PUSH(parts, const char *) = "=";
        APR_ARRAY_PUSH(parts, const char *) = all[i].value;
    }
    return apr_array_pstrcat(pool, parts, 0);
}

static int by_name_and_order(const void *left, const void *right)
{
    const aip_sigv4_field_t *a = left, *b = right;
    int order = strcmp(a->name, b->name);

    return order ? order : (a->order > b->order) - (a->order < b->order);
}

/* Without white space around it, and one space where there was some inside. */
static const char *trimmed(const char *value, apr_pool_t *pool)
{
    char *start = apr_palloc(pool, strlen(value) + 1), *out = start;

    for (value += strspn(value, " \t"); *value;) {
        size_t len = strcspn(value, " \t");

        memcpy(out, value, len);
        out += len;
        value += len;
        value += strspn(value, " \t");
        if (*value) {
            *out++ = ' ';
        }
    }
    *out = '\0';
    return start;
}

const char *aip_sigv4_canonical_headers(aip_sigv4_field_t *fields, size_t n, apr_pool_t *pool,
                                        const char **names)
{
    apr_array_header_t *lines = apr_array_make(pool, (int)n * 4, sizeof(const char *));
    apr_array_header_t *list = apr_array_make(pool, (int)n, sizeof(const char *));

    qsort(fields, n, sizeof(*fields), by_name_and_order);
    for (size_t i = 0; i < n; i++) {
        if (i && strcmp(fields[i].name, fields[i - 1].name) == 0) {
            APR_ARRAY_PUSH(lines, const char *) = ",";
        } else {
            if (i) {
                APR_ARRAY_PUSH(lines, const char *) = "\n";
            }
            APR_ARRAY_PUSH(lines, const char *) = fields[i].name;
            APR_ARRAY_PUSH(lines, const char *) = ":";
            APR_ARRAY_PUSH(list, const char *) = fields[i].name;
        }
        APR_ARRAY_PUSH(lines, const char *) = trimmed(fields[i].value, pool);
    }
    APR_ARRAY_PUSH(lines, const char *) = "\n";
    *names = apr_array_pstrcat(pool, list, ';');
    return apr_array_pstrcat(pool, lines, 0);
}
