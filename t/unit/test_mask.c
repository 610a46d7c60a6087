/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets are found in every spelling and wherever a text is cut, and nothing else is changed. */
#include "aip/mask.h"

#include <string.h>

#include "fixture.h"

Suite *mask_suite(void);

static const char *const secrets[] = {"sk-12345678", NULL, "a \"b\"/c=d", "short"};

/* clang-format off */
static const struct {
    const char *name, *text, *expected;
} rows[] = {
    {"nothing", "", ""},
    {"no secret", "hello sk-1234567", "hello sk-1234567"},
    {"a secret", "key sk-12345678.", "key ***********."},
    {"twice", "sk-12345678sk-12345678", "**********************"},
    {"after a false start", "sk-sk-12345678", "sk-***********"},
    {"at the end of one that is cut", "sk-1234567sk-12345678", "sk-1234567***********"},
    {"as it is", "a \"b\"/c=d", "*********"},
    {"in JSON", "{\"k\":\"a \\\"b\\\"/c=d\"}", "{\"k\":\"***********\"}"},
    {"in a URL", "?k=a%20%22b%22%2Fc%3Dd&", "?k=*******************&"},
    {"a short one", "short", "short"},
    {"another case", "SK-12345678", "SK-12345678"},
};
/* clang-format on */

static aip_mask_t *make(void)
{
    aip_mask_t *mask = aip_mask_create(secrets, 4, pool);
    ck_assert_ptr_nonnull(mask);
    return mask;
}

START_TEST(whole)
{
    char text[100];
    apr_cpystrn(text, rows[_i].text, sizeof text);
    ck_assert_int_eq(aip_mask_text(make(), text, strlen(text)),
                     strcmp(rows[_i].text, rows[_i].expected) != 0);
    ck_assert_str_eq(text, rows[_i].expected);
}
END_TEST

static size_t append(char *out, size_t n, aip_span_t piece)
{
    if (piece.len) {
        memcpy(out + n, piece.data, piece.len);
    }
    return n + piece.len;
}

/* Cut at every place, and into single bytes. */
START_TEST(pieces)
{
    const char *text = rows[_i].text;
    size_t len = strlen(text);
    char out[100];
    for (size_t cut = 0; cut <= len; cut++) {
        aip_mask_t *mask = make();
        size_t n = append(out, 0, aip_mask_feed(mask, text, cut));
        n = append(out, n, aip_mask_feed(mask, text + cut, len - cut));
        n = append(out, n, aip_mask_rest(mask));
        out[n] = '\0';
        ck_assert_str_eq(out, rows[_i].expected);
        ck_assert_uint_eq(aip_mask_rest(mask).len, 0);
    }
    aip_mask_t *mask = make();
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n = append(out, n, aip_mask_feed(mask, text + i, 1));
    }
    n = append(out, n, aip_mask_rest(mask));
    out[n] = '\0';
    ck_assert_str_eq(out, rows[_i].expected);
}
END_TEST

START_TEST(full_pieces)
{
    static char text[3 * AIP_MASK_PIECE], out[sizeof text];
    aip_mask_t *mask = make();
    size_t n = 0;
    memset(text, 'x', sizeof text);
    memcpy(text + AIP_MASK_PIECE - 5, secrets[0], strlen(secrets[0]));
    for (int i = 0; i < 3; i++) {
        n = append(out, n, aip_mask_feed(mask, text + i * AIP_MASK_PIECE, AIP_MASK_PIECE));
    }
    n = append(out, n, aip_mask_rest(mask));
    ck_assert_uint_eq(n, sizeof text);
    memset(text + AIP_MASK_PIECE - 5, '*', strlen(secrets[0]));
    ck_assert_mem_eq(out, text, n);
}
END_TEST

START_TEST(nothing_to_find)
{
    const char *const none[] = {NULL, "", "1234567"};
    ck_assert_ptr_null(aip_mask_create(none, 3, pool));
}
END_TEST

START_TEST(of_header)
{
    ck_assert_str_eq(aip_mask_of_header("Bearer  sk-12345678"), "sk-12345678");
    ck_assert_str_eq(aip_mask_of_header("sk-12345678"), "sk-12345678");
    ck_assert_str_eq(aip_mask_of_header("a-long-value x"), "a-long-value x");
    ck_assert_str_eq(aip_mask_of_header(""), "");
}
END_TEST

Suite *mask_suite(void)
{
    Suite *suite = suite_create("mask");
    TCase *tcase = tcase_create("mask");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_loop_test(tcase, whole, 0, ROWS(rows));
    tcase_add_loop_test(tcase, pieces, 0, ROWS(rows));
    tcase_add_test(tcase, full_pieces);
    tcase_add_test(tcase, nothing_to_find);
    tcase_add_test(tcase, of_header);
    suite_add_tcase(suite, tcase);
    return suite;
}
