/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the cases of AWS's signing test suite (folders with request.txt, context.json and
 * header-*.txt, as scripts/lib/sigv4.sh fetches them) and prints TAP. usage: sigv4_vectors DIR
 *
 * The suite's paths are those before the first encoding: the driver encodes what no request line
 * can hold, and they are signed encoded once. Two cases have no context.json; there the path is
 * encoded twice, and keys, time and scope are those of the signed request. */
#include "aip/sigv4.h"

#include <apr_general.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_tables.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUITE_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

typedef struct vector_t {
    const char *dir;
    apr_pool_t *pool;
    aip_sigv4_request_t request;
    aip_aws_keys_t keys;
    apr_array_header_t *headers; /* of const char *[2] */
    apr_array_header_t *wrong;   /* lines to be printed below "not ok" */
} vector_t;

static void complain(vector_t *v, const char *what, const char *got, const char *want)
{
    APR_ARRAY_PUSH(v->wrong, const char *) =
        apr_psprintf(v->pool, "%s: got\n%s\nwant\n%s", what, got, want ? want : "(no file)");
}

/* NULL when there is no such file. */
static char *file_text(const vector_t *v, const char *name)
{
    FILE *in = fopen(apr_pstrcat(v->pool, v->dir, "/", name, NULL), "rb");
    char *text = apr_palloc(v->pool, 65537);
    size_t len;

    if (!in) {
        return NULL;
    }
    len = fread(text, 1, 65536, in);
    text[len] = '\0';
    fclose(in);
    return text;
}

/* What a stage should be; some files end with a line end. */
static const char *expected(const vector_t *v, const char *name)
{
    char *text = file_text(v, name);
    size_t len = text ? strlen(text) : 0;

    if (len && text[len - 1] == '\n') {
        text[len - 1] = '\0';
    }
    return text;
}

static const char *encoded(const char *text, apr_pool_t *pool)
{
    char *start = apr_palloc(pool, 3 * strlen(text) + 1), *out = start;

    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c <= 0x20 || c >= 0x7f) {
            out += apr_snprintf(out, 4, "%%%02X", c);
        } else {
            *out++ = (char)c;
        }
    }
    *out = '\0';
    return start;
}

static char *next_line(char **text)
{
    char *line = *text, *end = line + strcspn(line, "\n");

    *text = *end ? end + 1 : end;
    *end = '\0';
    if (end > line && end[-1] == '\r') {
        end[-1] = '\0';
    }
    return line;
}

static void take_header(vector_t *v, const char *name, const char *value)
{
    const char **pair;

    if (strcasecmp(name, "Host") == 0) {
        v->request.host = value;
    } else if (strncasecmp(name, "X-Amz-", 6) != 0) {
        pair = apr_array_push(v->headers);
        pair[0] = name;
        pair[1] = value;
    }
}

static bool read_request(vector_t *v)
{
    char *text = file_text(v, "request.txt"), *line, *end, *query;

    if (!text) {
        return false;
    }
    line = next_line(&text);
    end = strstr(line, " HTTP/1.1");
    v->request.method = apr_strtok(line, " ", &line);
    if (!end || !v->request.method) {
        return false;
    }
    *end = '\0';
    query = strchr(line, '?');
    if (query) {
        *query++ = '\0';
        v->request.query = encoded(query, v->pool);
    }
    v->request.path = encoded(line, v->pool);
    while (*text && *(line = next_line(&text))) {
        char *value = strchr(line, ':');
        while (*text == ' ') { /* folded: one line, as every client would send it */
            line = apr_pstrcat(v->pool, line, " ", next_line(&text), NULL);
            value = strchr(line, ':');
        }
        if (!value) {
            return false;
        }
        *value++ = '\0';
        take_header(v, line, value);
    }
    v->request.body = (aip_span_t){text, strlen(text)};
    v->request.headers = (const char *const(*)[2])(const void *)v->headers->elts;
    v->request.n_headers = (size_t)v->headers->nelts;
    return true;
}

/* "20150830T123600Z" or "2015-08-30T12:36:00Z" */
static apr_time_t time_of(const char *text)
{
    apr_time_exp_t t = {0};
    apr_time_t at = 0;
    int n = sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
                   &t.tm_min, &t.tm_sec);

    if (n != 6) {
        n = sscanf(text, "%4d%2d%2dT%2d%2d%2dZ", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
                   &t.tm_min, &t.tm_sec);
    }
    t.tm_year -= 1900;
    t.tm_mon--;
    return n == 6 && apr_time_exp_gmt_get(&at, &t) == APR_SUCCESS ? at : -1;
}

static const char *member(const vector_t *v, const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value ? apr_pstrdup(v->pool, value) : NULL;
}

static bool read_context(vector_t *v, const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    const json_t *keys = json_object_get(root, "credentials");
    const char *stamp = member(v, root, "timestamp");

    v->keys.access_key = member(v, keys, "access_key_id");
    v->keys.secret_key = member(v, keys, "secret_access_key");
    v->keys.token = member(v, keys, "token");
    v->request.region = member(v, root, "region");
    v->request.service = member(v, root, "service");
    v->request.now = stamp ? time_of(stamp) : -1;
    v->request.flags = AIP_SIGV4_ENCODE_ONCE;
    if (!json_is_true(json_object_get(root, "normalize"))) {
        v->request.flags |= AIP_SIGV4_KEEP_PATH;
    }
    if (json_is_true(json_object_get(root, "sign_body"))) {
        v->request.flags |= AIP_SIGV4_CONTENT_SHA256;
    }
    if (json_is_true(json_object_get(root, "omit_session_token"))) {
        v->request.flags |= AIP_SIGV4_TOKEN_UNSIGNED;
    }
    json_decref(root);
    return stamp != NULL;
}

/* What stands behind `name` in `text`, up to one of `end`. */
static const char *behind(const vector_t *v, const char *text, const char *name, const char *end)
{
    const char *at = strcasestr(text, name);

    return at ? apr_pstrmemdup(v->pool, at + strlen(name), strcspn(at + strlen(name), end)) : "";
}

static void read_signed_request(vector_t *v, const char *text)
{
    char *scope = apr_pstrdup(v->pool, behind(v, text, "Credential=", ","));

    v->keys.access_key = apr_strtok(scope, "/", &scope);
    apr_strtok(scope, "/", &scope); /* the day */
    v->request.region = apr_strtok(scope, "/", &scope);
    v->request.service = apr_strtok(scope, "/", &scope);
    /* secrets of the suite and of the crate's own tests */
    v->keys.secret_key = v->keys.access_key && strcmp(v->keys.access_key, "ANOTREAL") == 0
                             ? "notrealrnrELgWzOk3IfjzDKtFBhDby"
                             : SUITE_SECRET;
    v->request.now = time_of(behind(v, text, "X-Amz-Date:", "\r\n"));
}

/* Expected and computed stages of the vector's own time. */
static void compare(vector_t *v, const char *signed_request, bool canonical)
{
    aip_sigv4_stages_t stages;
    const char *error, *lines, *want;

    if (aip_sigv4_stages(&v->request, &v->keys, v->pool, &stages, &error) != APR_SUCCESS ||
        aip_sigv4_sign(&v->request, &v->keys, v->pool, &lines, &error) != APR_SUCCESS) {
        complain(v, "refused", error, "a signature");
        return;
    }
    want = expected(v, "header-canonical-request.txt");
    if (canonical && (!want || strcmp(want, stages.canonical_request) != 0)) {
        complain(v, "canonical request", stages.canonical_request, want);
    }
    want = expected(v, "header-string-to-sign.txt");
    if (want && strcmp(want, stages.string_to_sign) != 0) {
        complain(v, "string to sign", stages.string_to_sign, want);
    }
    want = expected(v, "header-signature.txt");
    if (want && strcmp(want, stages.signature) != 0) {
        complain(v, "signature", stages.signature, want);
    }
    want = behind(v, signed_request, "\nAuthorization:", "\r\n");
    want += strspn(want, " ");
    if (strcmp(behind(v, lines, "Authorization: ", "\r\n"), want) != 0) {
        complain(v, "Authorization", lines, want);
    }
    want = behind(v, signed_request, "X-Amz-Security-Token:", "\r\n");
    if (strcmp(behind(v, lines, "X-Amz-Security-Token: ", "\r\n"), want) != 0) {
        complain(v, "X-Amz-Security-Token", lines, want);
    }
}

static void run(vector_t *v)
{
    const char *context = file_text(v, "context.json");
    const char *signed_request = file_text(v, "header-signed-request.txt");

    if (!signed_request || !read_request(v) || (context && !read_context(v, context))) {
        complain(v, "files", "cannot be read", "request.txt, header-signed-request.txt");
        return;
    }
    if (!context) {
        const char *canonical = expected(v, "header-canonical-request.txt");
        apr_time_t at;
        read_signed_request(v, signed_request);
        at = time_of(behind(v, canonical ? canonical : "", "x-amz-date:", "\n"));
        if (at != v->request.now) { /* of another time than the signature */
            apr_time_t now = v->request.now;
            aip_sigv4_stages_t stages = {0};
            const char *error;
            v->request.now = at;
            if (aip_sigv4_stages(&v->request, &v->keys, v->pool, &stages, &error) != APR_SUCCESS ||
                strcmp(canonical, stages.canonical_request) != 0) {
                complain(v, "canonical request", stages.canonical_request, canonical);
            }
            v->request.now = now;
            compare(v, signed_request, false);
            return;
        }
    }
    compare(v, signed_request, true);
}

static void print(const vector_t *v, int n, const char *name)
{
    printf("%s %d - %s\n", v->wrong->nelts ? "not ok" : "ok", n, name);
    for (int i = 0; i < v->wrong->nelts; i++) {
        char *rest = apr_pstrdup(v->pool, APR_ARRAY_IDX(v->wrong, i, const char *));
        while (*rest) {
            printf("#   %s\n", next_line(&rest));
        }
    }
}

static int no_dots(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    struct dirent **entries;
    int n = argc == 2 ? scandir(argv[1], &entries, no_dots, alphasort) : -1, failed = 0;
    apr_pool_t *parent;

    if (n <= 0 || apr_initialize() != APR_SUCCESS ||
        apr_pool_create(&parent, NULL) != APR_SUCCESS) {
        fputs("usage: sigv4_vectors DIR      the folder v4 of aws-signing-test-suite\n", stderr);
        return 2;
    }
    for (int i = 0; i < n; i++) {
        vector_t v = {0};
        apr_pool_create(&v.pool, parent);
        v.dir = apr_pstrcat(v.pool, argv[1], "/", entries[i]->d_name, NULL);
        v.headers = apr_array_make(v.pool, 8, sizeof(const char *[2]));
        v.wrong = apr_array_make(v.pool, 4, sizeof(const char *));
        run(&v);
        print(&v, i + 1, entries[i]->d_name);
        failed += v.wrong->nelts > 0;
        apr_pool_destroy(v.pool);
        free(entries[i]);
    }
    free(entries);
    printf("1..%d\n", n);
    apr_terminate();
    return failed > 0;
}
