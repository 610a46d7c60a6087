/* SPDX-License-Identifier: Apache-2.0 */
/* Who is in which group: the file of AIAclsGroupFile, turned round, and lists of groups as they
 * come in environment variables. Parsed while the configuration is read and by requests that find
 * the file changed; looked up in the threads of requests. */
#include "aip/groups.h"

#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

struct aip_groups_t {
    apr_hash_t *by_user; /* name -> apr_array_header_t * of const char * */
};

/* The next word of a list, in quotes where it has blanks. @return NULL: there is none */
static char *next_word(char **text)
{
    char *p = *text, *word;
    while (apr_isspace(*p)) {
        p++;
    }
    if (!*p) {
        return NULL;
    }
    char quote = *p == '"' || *p == '\'' ? *p++ : '\0';
    for (word = p; *p && (quote ? *p != quote : !apr_isspace(*p)); p++) {
    }
    *text = *p ? p + 1 : p;
    *p = '\0';
    return word;
}

static const char *read_line(aip_groups_t *groups, char *line, apr_pool_t *pool)
{
    char *colon = strchr(line, ':'), *users, *user;
    if (!colon) {
        return "a line must be group: user user ...";
    }
    *colon = '\0';
    users = colon + 1;
    while (colon > line && apr_isspace(colon[-1])) {
        *--colon = '\0';
    }
    if (!*line) {
        return "a group has no name";
    }
    while ((user = next_word(&users)) != NULL) {
        apr_array_header_t *list = apr_hash_get(groups->by_user, user, APR_HASH_KEY_STRING);
        if (!list) {
            list = apr_array_make(pool, 2, sizeof(const char *));
            apr_hash_set(groups->by_user, user, APR_HASH_KEY_STRING, list);
        }
        APR_ARRAY_PUSH(list, const char *) = line;
    }
    return NULL;
}

/* A line, and those that follow a backslash at an end. @return where the next one begins */
static const char *take_line(const char *p, const char *end, char **line, int *lines,
                             apr_pool_t *pool)
{
    *line = apr_pstrdup(pool, "");
    for (bool more = true; more && p < end; ++*lines) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p), keep = n;
        while (keep && apr_isspace(p[keep - 1])) {
            keep--;
        }
        more = keep && p[keep - 1] == '\\';
        *line =
            apr_pstrcat(pool, *line, apr_pstrmemdup(pool, p, keep - more), more ? " " : "", NULL);
        p += n + (stop ? 1 : 0);
    }
    return p;
}

void *aip_groups_parse(const char *text, size_t len, apr_pool_t *pool, const char **error)
{
    aip_groups_t *groups = apr_palloc(pool, sizeof *groups);
    groups->by_user = apr_hash_make(pool);
    if (memchr(text, '\0', len)) {
        *error = "the file holds a NUL character; it must be text";
        return NULL;
    }
    int lines = 0;
    for (const char *p = text, *end = text + len; p < end;) {
        char *line;
        int number = lines + 1;
        p = take_line(p, end, &line, &lines, pool);
        while (apr_isspace(*line)) {
            line++;
        }
        const char *why = !*line || *line == '#' ? NULL : read_line(groups, line, pool);
        if (why) {
            *error = apr_psprintf(pool, "line %d: %s", number, why);
            return NULL;
        }
    }
    return groups;
}

void aip_groups_of(const aip_groups_t *groups, const char *user, apr_array_header_t *list,
                   apr_pool_t *pool)
{
    const apr_array_header_t *of = apr_hash_get(groups->by_user, user, APR_HASH_KEY_STRING);
    for (int i = 0; of && i < of->nelts; i++) {
        APR_ARRAY_PUSH(list, const char *) = apr_pstrdup(pool, APR_ARRAY_IDX(of, i, const char *));
    }
}

void aip_groups_split(const char *text, apr_array_header_t *list, apr_pool_t *pool)
{
    while (*text) {
        size_t n = strcspn(text, ", \t");
        if (n) {
            APR_ARRAY_PUSH(list, const char *) = apr_pstrmemdup(pool, text, n);
        }
        text += n + (text[n] != '\0');
    }
}
