/* SPDX-License-Identifier: Apache-2.0 */
/* Vault references: what is resolved from environment and files, what is refused, and that no error
 * shows a secret. */

#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aip/secret.h"
#include "fixture.h"

Suite *secret_suite(void);

#define SECRET "s3cr3t-value"

static char *dir;

static void setup(void)
{
    pool_setup();
    dir = apr_pstrdup(pool, "/tmp/aip-secret.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    setenv("AIP_T_KEY", SECRET, 1);
    setenv("AIP_T_KEY_PREVIOUS", "before", 1);
    setenv("AIP_T_OTHER_KEY", "other", 1);
    setenv("aip_t_lower", "lower", 1);
    setenv("AIP_T_EMPTY", "", 1);
    setenv("AIP_T_JSON", "{\"key\":\"" SECRET "\",\"n\":1,\"empty\":\"\",\"deep\":{\"key\":\"x\"}}",
           1);
    setenv("AIP_T_TWICE", "{\"key\":\"a\",\"key\":\"b\"}", 1);
    setenv("AIP_T_BRACES", "{vault://env/AIP_T_OTHER_KEY}", 1);
}

static void teardown(void)
{
    unlink(apr_pstrcat(pool, dir, "/secret", NULL));
    rmdir(dir);
    pool_teardown();
}

static const char *file_of(const char *name, const char *data, size_t len)
{
    const char *path = apr_pstrcat(pool, dir, "/", name, NULL);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, len, f), len);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

static const aip_vault_t *no_section(void *baton, const char *name)
{
    (void)baton, (void)name;
    return NULL;
}

/* What a request would get for a value of the configuration. @return NULL: `error` says why */
static const char *resolve(const char *value, const char **error)
{
    static unsigned char key[32];
    const char *local;
    aip_secrets_t *store = aip_secrets_create(pool);
    *error = aip_secrets_bind(store, value, no_section, NULL, &local);
    if (*error) {
        return NULL;
    }
    for (int i = 0; i < aip_secrets_count(store); i++) {
        aip_secrets_attach(store, i, apr_pcalloc(pool, aip_secret_slot_size()));
    }
    aip_secrets_ready(store, key, (aip_log_t){0});
    (void)aip_secrets_refresh(store, pool);
    aip_secrets_use(store);
    return aip_secret_text(value, pool, NULL);
}

static const struct {
    const char *name, *value, *expected; /* expected NULL: an error */
} values[] = {
    {"plain", "Bearer abc", "Bearer abc"},
    {"empty", "", ""},
    {"other braces", "{not} {vault} }{", "{not} {vault} }{"},
    {"env", "{vault://env/AIP_T_KEY}", SECRET},
    {"inside text", "Bearer {vault://env/AIP_T_KEY}!", "Bearer " SECRET "!"},
    {"two", "{vault://env/AIP_T_KEY}:{vault://env/AIP_T_OTHER_KEY}", SECRET ":other"},
    {"three in a row",
     "{vault://env/AIP_T_KEY}{vault://env/AIP_T_KEY}{vault://env/AIP_T_OTHER_KEY}",
     SECRET SECRET "other"},
    {"lower case and dashes", "{vault://env/aip-t-key}", SECRET},
    {"lower case and dashes, two words", "{vault://env/aip-t-other-key}", "other"},
    {"the exact name first", "{vault://env/aip_t_lower}", "lower"},
    {"member of JSON", "{vault://env/AIP_T_JSON/key}", SECRET},
    {"a whole JSON", "{vault://env/aip-t-twice}", "{\"key\":\"a\",\"key\":\"b\"}"},
    {"a secret is not resolved again", "{vault://env/AIP_T_BRACES}",
     "{vault://env/AIP_T_OTHER_KEY}"},
    {"no such variable", "{vault://env/AIP_T_NONE}", NULL},
    {"empty variable", "{vault://env/AIP_T_EMPTY}", NULL},
    {"no name", "{vault://env/}", NULL},
    {"no name but a member", "{vault://env//key}", NULL},
    {"no such member", "{vault://env/AIP_T_JSON/none}", NULL},
    {"member that is no text", "{vault://env/AIP_T_JSON/n}", NULL},
    {"no nesting", "{vault://env/AIP_T_JSON/deep/key}", NULL},
    {"member of no JSON", "{vault://env/AIP_T_KEY/key}", NULL},
    {"member twice", "{vault://env/AIP_T_TWICE/key}", NULL},
    {"other vault", "{vault://hcv/secret/key}", NULL},
    {"vault without path", "{vault://env}", NULL},
    {"empty reference", "{vault://}", NULL},
    {"not closed", "Bearer {vault://env/AIP_T_KEY", NULL},
    {"one slash", "{vault:/env/AIP_T_KEY}", NULL},
    {"second one is bad", "{vault://env/AIP_T_KEY} {vault://env/AIP_T_NONE}", NULL},
    {"case of the scheme's vault", "{vault://ENV/AIP_T_KEY}", NULL},
    {"no such file", "{vault://file/nonexistent/aip/file}", NULL},
    {"a directory", "{vault://file/tmp}", NULL},
    {"prefix in the query", "{vault://env/KEY?prefix=AIP_T_}", SECRET},
    {"prefix, lower case", "{vault://env/key?prefix=aip-t-}", SECRET},
    {"unknown field in the query", "{vault://env/AIP_T_KEY?nonsense=1}", NULL},
    {"secret field in the query", "{vault://env/AIP_T_KEY?token=1}", NULL},
    {"foreign field in the query", "{vault://env/AIP_T_KEY?mount=kv}", NULL},
    {"query without value", "{vault://env/AIP_T_KEY?prefix}", NULL},
    {"version 1", "{vault://env/AIP_T_KEY#1}", SECRET},
    {"version 2 is the previous one", "{vault://env/AIP_T_KEY#2}", "before"},
    {"version 3", "{vault://env/AIP_T_KEY#3}", NULL},
    {"version 0", "{vault://env/AIP_T_KEY#0}", NULL},
    {"version that is no number", "{vault://env/AIP_T_KEY#a}", NULL},
    {"version with a tail", "{vault://env/AIP_T_KEY#1x}", NULL},
    {"version of a file", "{vault://file/etc/hostname#1}", NULL},
    {"dots lead out", "{vault://file/etc/../etc/hostname}", NULL},
    {"a dot alone", "{vault://file/etc/./hostname}", NULL},
    {"an empty part", "{vault://file/etc//hostname}", NULL},
    {"a slash at the end", "{vault://file/etc/hostname/}", NULL},
    {"a line end in the path", "{vault://env/AIP_T\n_KEY}", NULL},
};

START_TEST(resolves)
{
    const char *error = NULL, *resolved = resolve(values[_i].value, &error);
    if (values[_i].expected) {
        ck_assert_msg(resolved != NULL, "%s: %s", values[_i].name, error);
        ck_assert_msg(strcmp(resolved, values[_i].expected) == 0, "%s: %s", values[_i].name,
                      resolved);
    } else {
        ck_assert_msg(resolved == NULL, "%s: %s", values[_i].name, resolved);
        ck_assert_msg(error && *error, "%s", values[_i].name);
        ck_assert_msg(!strstr(error, SECRET), "%s: the error shows the secret: %s", values[_i].name,
                      error);
    }
}
END_TEST

START_TEST(names_the_reference)
{
    const char *error;
    ck_assert_ptr_null(resolve("Bearer {vault://env/AIP_T_NONE}", &error));
    ck_assert_ptr_nonnull(strstr(error, "{vault://env/AIP_T_NONE}"));
    ck_assert_ptr_nonnull(strstr(error, "not set"));
    ck_assert_ptr_null(resolve("{vault://env/AIP_T_EMPTY}", &error));
    ck_assert_ptr_nonnull(strstr(error, "empty"));
    ck_assert_ptr_null(resolve("{vault://aws/x}", &error));
    ck_assert_ptr_nonnull(strstr(error, "{vault://aws/x}"));
    ck_assert_ptr_nonnull(strstr(error, "<AIVault aws>"));
}
END_TEST

START_TEST(a_value_without_reference_is_returned_as_it_is)
{
    const char *value = "Bearer abc", *error;
    ck_assert_ptr_eq(resolve(value, &error), value);
    aip_secrets_use(NULL);
    ck_assert_ptr_eq(aip_secret_text(value, pool, NULL), value);
}
END_TEST

START_TEST(a_reference_that_nobody_knows_is_an_error)
{
    aip_error_t err = {0};
    aip_secrets_use(NULL);
    ck_assert_ptr_null(aip_secret_text("{vault://env/AIP_T_KEY}", pool, &err));
    ck_assert_int_eq(err.status, 503);
    ck_assert_str_eq(err.code, "secret_unavailable");
    ck_assert_msg(!strstr(err.message, "vault"), "%s", err.message);
}
END_TEST

static const struct {
    const char *name, *data;
    size_t len;
    const char *expected;
} files[] = {
    {"no line end", "abc", 3, "abc"},
    {"line end", "abc\n", 4, "abc"},
    {"DOS line end", "abc\r\n", 5, "abc"},
    {"one line end only", "abc\n\n", 5, "abc\n"},
    {"spaces stay", " abc ", 5, " abc "},
    {"UTF-8", "\xc3\xa4", 2, "\xc3\xa4"},
    {"empty", "", 0, NULL},
    {"a line end alone", "\n", 1, NULL},
    {"a DOS line end alone", "\r\n", 2, NULL},
    {"NUL inside", "a\0b", 3, NULL},
    {"NUL at the end", "ab\0", 3, NULL},
};

START_TEST(files_are_read)
{
    const char *path = file_of("secret", files[_i].data, files[_i].len), *error = NULL;
    const char *resolved = resolve(apr_pstrcat(pool, "<{vault://file", path, "}>", NULL), &error);
    if (files[_i].expected) {
        ck_assert_msg(resolved != NULL, "%s: %s", files[_i].name, error);
        ck_assert_str_eq(resolved, apr_pstrcat(pool, "<", files[_i].expected, ">", NULL));
    } else {
        ck_assert_msg(resolved == NULL, "%s: %s", files[_i].name, resolved);
        ck_assert_ptr_nonnull(strstr(error, path));
    }
}
END_TEST

/* 64 KiB is the limit, line end included; one byte more is refused, never cut. */
START_TEST(long_files)
{
    char *data = malloc(65537);
    const char *error;
    memset(data, 'x', 65537);
    const char *value =
        apr_pstrcat(pool, "{vault://file", file_of("secret", data, 65536), "}", NULL);
    const char *resolved = resolve(value, &error);
    ck_assert_ptr_nonnull(resolved);
    ck_assert_uint_eq(strlen(resolved), 65536);
    file_of("secret", data, 65537);
    ck_assert_ptr_null(resolve(value, &error));
    ck_assert_ptr_nonnull(strstr(error, "65536"));
    free(data);
}
END_TEST

START_TEST(unreadable_file)
{
    const char *path = file_of("secret", SECRET, strlen(SECRET)), *error;
    const uid_t self = geteuid();
    if (self == 0) {
        ck_assert_int_eq(chown(dir, 65534, 65534), 0);
        ck_assert_int_eq(seteuid(65534), 0); /* root reads everything */
    }
    chmod(dir, 0);
    const char *resolved = resolve(apr_pstrcat(pool, "{vault://file", path, "}", NULL), &error);
    chmod(dir, 0700);
    ck_assert_int_eq(seteuid(self), 0);
    ck_assert_ptr_null(resolved);
    ck_assert_ptr_nonnull(strstr(error, path));
    ck_assert_ptr_nonnull(strstr(error, "ermission denied"));
}
END_TEST

Suite *secret_suite(void)
{
    Suite *suite = suite_create("secret");
    TCase *tcase = tcase_create("secret");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, resolves, 0, sizeof values / sizeof *values);
    tcase_add_test(tcase, names_the_reference);
    tcase_add_test(tcase, a_value_without_reference_is_returned_as_it_is);
    tcase_add_test(tcase, a_reference_that_nobody_knows_is_an_error);
    tcase_add_loop_test(tcase, files_are_read, 0, sizeof files / sizeof *files);
    tcase_add_test(tcase, long_files);
    tcase_add_test(tcase, unreadable_file);
    suite_add_tcase(suite, tcase);
    return suite;
}
