/* SPDX-License-Identifier: Apache-2.0 */
/* Forms as browsers send them: what a field holds, which tokens count and for how long, and what
 * comes from another site. */

#include "aip/form.h"

#include <string.h>

#include "fixture.h"

Suite *form_suite(void);

#define FORM "action=try&prompt=a%20b+c%26d%3D%c3%A9&empty=&bad=%zz&cut=%4&nul=a%00b&action=drain"

static const struct {
    const char *name, *form, *field, *value;
} fields[] = {
    {"plain", FORM, "action", "try"},
    {"escapes", FORM, "prompt", "a b c&d=\xc3\xa9"},
    {"empty", FORM, "empty", ""},
    {"bad escape", FORM, "bad", NULL},
    {"cut escape", FORM, "cut", NULL},
    {"NUL", FORM, "nul", NULL},
    {"none", FORM, "act", NULL},
    {"end of another", FORM, "mpty", NULL},
    {"without a value", "action&action=x", "action", "x"},
    {"blank alone", "a=+", "a", " "},
    {"equals in a value", "a=b=c", "a", "b=c"},
    {"semicolon", "a=1;b=2", "b", NULL},
    {"encoded name", "%61=1", "a", NULL},
    {"ampersands", "&&a=1&&", "a", "1"},
    {"empty form", "", "a", NULL},
    {"no form", NULL, "a", NULL},
};

START_TEST(field)
{
    const char *value = aip_form_field(fields[_i].form, fields[_i].field, pool);
    const char *expected = fields[_i].value;
    ck_assert_msg(expected ? value && strcmp(value, expected) == 0 : !value, "%s: %s",
                  fields[_i].name, value ? value : "none");
}
END_TEST

#define NOW apr_time_from_sec(1700000000)
static const unsigned char key[AIP_FORM_KEY_BYTES] = "a key of a process", other[sizeof key] = "x";

static const struct {
    int seconds; /* since it was made */
    aip_form_token_e found;
} ages[] = {
    {0, AIP_FORM_TOKEN_GOOD},   {3600, AIP_FORM_TOKEN_GOOD}, {3601, AIP_FORM_TOKEN_OLD},
    {-60, AIP_FORM_TOKEN_GOOD}, {-61, AIP_FORM_TOKEN_OLD},
};

START_TEST(age)
{
    const char *token = aip_form_token_make(key, "alice", NOW, pool);
    ck_assert_int_eq(
        aip_form_token_check(key, "alice", token, NOW + apr_time_from_sec(ages[_i].seconds), pool),
        ages[_i].found);
}
END_TEST

static aip_form_token_e check(const unsigned char *with, const char *user, const char *token)
{
    return aip_form_token_check(with, user, token, NOW, pool);
}

START_TEST(others)
{
    const char *token = aip_form_token_make(key, "alice", NOW, pool);
    const char *machine = aip_form_token_make(key, NULL, NOW, pool);
    ck_assert_uint_eq(strlen(token), strlen("1700000000-") + 64);
    ck_assert_int_eq(check(key, "alice", token), AIP_FORM_TOKEN_GOOD);
    ck_assert_int_eq(check(key, NULL, machine), AIP_FORM_TOKEN_GOOD);
    ck_assert_int_eq(check(other, "alice", token), AIP_FORM_TOKEN_BAD);
    ck_assert_int_eq(check(key, "bob", token), AIP_FORM_TOKEN_BAD);
    ck_assert_int_eq(check(key, NULL, token), AIP_FORM_TOKEN_BAD);
    ck_assert_int_eq(check(key, "", machine), AIP_FORM_TOKEN_BAD);
}
END_TEST

static const char *const bad[] = {
    NULL, "", "-", "1700000000", "1700000000-", "-1700000000-", "1700000000000-", "x-", "0-0",
};

START_TEST(bad_token)
{
    const char *mac = strchr(aip_form_token_make(key, NULL, NOW, pool), '-') + 1;
    ck_assert_int_eq(check(key, NULL, bad[_i]), AIP_FORM_TOKEN_BAD);
    if (bad[_i] && strcmp(bad[_i], "1700000000-") != 0) {
        ck_assert_int_eq(check(key, NULL, apr_pstrcat(pool, bad[_i], mac, NULL)),
                         AIP_FORM_TOKEN_BAD);
    }
}
END_TEST

/* Any digit that is another one. */
START_TEST(changed)
{
    char *token = apr_pstrdup(pool, aip_form_token_make(key, NULL, NOW, pool));
    for (size_t i = 0; i < strlen(token); i++) {
        token[i] ^= 1;
        ck_assert_int_eq(check(key, NULL, token), AIP_FORM_TOKEN_BAD);
        token[i] ^= 1;
    }
    ck_assert_int_eq(check(key, NULL, apr_pstrcat(pool, token, "0", NULL)), AIP_FORM_TOKEN_BAD);
    token[strlen(token) - 1] = '\0';
    ck_assert_int_eq(check(key, NULL, token), AIP_FORM_TOKEN_BAD);
}
END_TEST

static const struct {
    const char *site, *origin, *host;
    bool foreign;
} senders[] = {
    {NULL, NULL, NULL, false},
    {NULL, NULL, "a.example", false},
    {"same-origin", NULL, "a.example", false},
    {"same-origin", "https://b.example", "a.example", false},
    {"same-site", "https://a.example", "a.example", true},
    {"cross-site", NULL, "a.example", true},
    {"none", NULL, "a.example", true},
    {"", NULL, "a.example", true},
    {NULL, "https://a.example", "a.example", false},
    {NULL, "http://A.example:8080", "a.EXAMPLE:8080", false},
    {NULL, "https://a.example", "a.example:8080", true},
    {NULL, "https://b.example", "a.example", true},
    {NULL, "https://a.example.b.example", "a.example", true},
    {NULL, "https://a.example", NULL, true},
    {NULL, "null", "null", true},
    {NULL, "", "", true},
};

START_TEST(sender)
{
    ck_assert_int_eq(aip_form_foreign(senders[_i].site, senders[_i].origin, senders[_i].host),
                     senders[_i].foreign);
}
END_TEST

Suite *form_suite(void)
{
    Suite *suite = suite_create("form");
    TCase *tcase = tcase_create("form");

    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, field, 0, ROWS(fields));
    tcase_add_loop_test(tcase, age, 0, ROWS(ages));
    tcase_add_test(tcase, others);
    tcase_add_loop_test(tcase, bad_token, 0, ROWS(bad));
    tcase_add_test(tcase, changed);
    tcase_add_loop_test(tcase, sender, 0, ROWS(senders));
    suite_add_tcase(suite, tcase);
    return suite;
}
