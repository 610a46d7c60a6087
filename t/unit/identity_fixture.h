/* SPDX-License-Identifier: Apache-2.0 */
#ifndef T_UNIT_IDENTITY_FIXTURE_H
#define T_UNIT_IDENTITY_FIXTURE_H
/* Token services without a network: a list of answers in the order of the requests, a note of each
 * request as text, and an environment that is empty but for what a test sets. */

#include "aip/identity.h"

#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define ANSWERS 8

typedef struct answer_t {
    int status; /* 0: no answer at all */
    const char *body;
    size_t len; /* 0: strlen(body) */
} answer_t;

static answer_t answers[ANSWERS];
static int n_asked;
static const char *asked[ANSWERS]; /* "METHOD URL\nheader\n...\n\nbody", local ones with "local " */

static inline apr_status_t scripted(const aip_fetch_t *f, int *status, aip_span_t *answer,
                                    apr_pool_t *p, aip_error_t *err)
{
    ck_assert_msg(n_asked < ANSWERS && answers[n_asked].body, "one request too many: %s", f->url);
    const answer_t *a = &answers[n_asked];
    const char *note = apr_pstrcat(p, f->local ? "local " : "",
                                   f->method      ? f->method
                                   : f->body.data ? "POST"
                                                  : "GET",
                                   " ", f->url, "\n", NULL);
    for (const char *const *h = f->headers; h && *h; h++) {
        note = apr_pstrcat(p, note, *h, "\n", NULL);
    }
    ck_assert_uint_eq(f->max, AIP_IDENTITY_ANSWER_MAX);
    ck_assert_int_eq(f->timeout, 7000000);
    asked[n_asked++] = apr_pstrcat(
        p, note, "\n", apr_pstrmemdup(p, f->body.data ? f->body.data : "", f->body.len), NULL);
    if (a->status == 0) {
        return aip_error_set(err, p, 502, "gateway_error", "fetch_failed", NULL, "%s", a->body);
    }
    size_t len = a->len ? a->len : strlen(a->body);
    *status = a->status;
    *answer = (aip_span_t){apr_pmemdup(p, a->body, len + 1), len};
    return APR_SUCCESS;
}

static const aip_identity_net_t scripted_net = {.timeout = 7000000, .fetch = scripted};

static inline void clear_environment(void)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_PROFILE",
                                        "AWS_ROLE_ARN",
                                        "AWS_ROLE_SESSION_NAME",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
                                        "AWS_EC2_METADATA_DISABLED",
                                        "AWS_REGION",
                                        "AWS_DEFAULT_REGION",
                                        "AZURE_AUTHORITY_HOST",
                                        "AZURE_FEDERATED_TOKEN_FILE",
                                        "AZURE_TENANT_ID",
                                        "AZURE_CLIENT_ID",
                                        "IDENTITY_ENDPOINT",
                                        "IDENTITY_HEADER",
                                        "GCP_SERVICE_ACCOUNT",
                                        "HOME"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unsetenv(names[i]);
    }
}

static inline void identity_setup(void)
{
    pool_setup();
    clear_environment();
    memset(answers, 0, sizeof answers);
    memset(asked, 0, sizeof asked);
    n_asked = 0;
}

/* A file in the folder for temporary files, gone with the test's pool. */
static apr_status_t remove_temporary(void *path)
{
    return apr_file_remove(path, pool);
}

static inline const char *temporary(const char *text)
{
    apr_file_t *file;
    const char *dir = getenv("TMPDIR");
    char *path = apr_pstrcat(pool, dir ? dir : "/tmp", "/aip-unit-XXXXXX", NULL);
    ck_assert_int_eq(apr_file_mktemp(&file, path, APR_FOPEN_CREATE | APR_FOPEN_WRITE, pool),
                     APR_SUCCESS);
    ck_assert_int_eq(apr_file_write_full(file, text, strlen(text), NULL), APR_SUCCESS);
    apr_file_close(file);
    apr_pool_pre_cleanup_register(pool, path, remove_temporary);
    return path;
}

static inline void has(const char *text, const char *part)
{
    ck_assert_msg(text && strstr(text, part), "'%s' is not in: %s", part, text ? text : "(null)");
}

static inline void has_not(const char *text, const char *part)
{
    ck_assert_msg(text && !strstr(text, part), "'%s' is in: %s", part, text ? text : "(null)");
}

#endif
