/* SPDX-License-Identifier: Apache-2.0 */
/* The local embedder: every rule of its tokenizer, on vocabularies that are just large enough, and
 * the limits of texts and sums. */

#include "model2vec_files.h"

Suite *model2vec_rules_suite(void);

/** Loads a model with this vocabulary of `count` tokens, all rows {1}. */
static aip_model2vec_t *load_vocabulary(const char *config, const char *tokenizer, int count)
{
    unsigned char *rows = apr_palloc(pool, (size_t)count);

    memset(rows, 1, (size_t)count);
    write_text("config.json", config);
    write_text("tokenizer.json", tokenizer);
    write_table(apr_psprintf(pool, TABLE("I8", "[%d,1]", "[0,%d]"), count, count), 0, rows,
                (size_t)count);
    return load(dir);
}

static void check_ids(const aip_model2vec_t *model, const char *name, const char *text,
                      const char *want)
{
    const char *got = ids_of(model, (aip_span_t){text, strlen(text)});

    ck_assert_msg(strcmp(got, want) == 0, "%s: %s", name, got);
}

START_TEST(greedy_pieces)
{
    static const char vocab[] =
        BERT("{\"[UNK]\":0,\"a\":1,\"ab\":2,\"##c\":3,\"##cd\":4,\"abcx\":5,\"##\":6,"
             "\"##a\":7,\"!\":8,\"#\":9,\"\\u4e2d\":10,\"##\\u4e2d\":11,\"z\":12}");
    const struct {
        const char *name, *text, *want;
    } rows[] = {
        {"longest first", "abcd", "2 4"},
        {"a longer token that does not fit", "abc", "2 3"},
        {"dead end makes the word unknown", "abq", ""},
        {"dead end after a piece does not spoil the next word", "abq a", "1"},
        {"pieces never start a word", "cd", ""},
        {"ends with the piece", "aa", "1 7"},
        {"## is no piece of nothing", "ab", "2"},
        {"punctuation is a word", "a!a!!", "1 8 1 8 8"},
        {"# is punctuation", "##c", "9 9"},
        {"ideographs are words",
         "a\xe4\xb8\xad"
         "a\xe4\xb8\xad\xe4\xb8\xad",
         "1 10 1 10 10"},
        {"a word of 100 characters", repeat("a", 100),
         apr_pstrcat(pool, "1", repeat(" 7", 99), NULL)},
        {"a word of 101 characters", repeat("a", 101), ""},
        {"100 that came from 200", repeat("a\xcc\x81", 100),
         apr_pstrcat(pool, "1", repeat(" 7", 99), NULL)},
        {"the word after one of 101", apr_pstrcat(pool, repeat("a", 101), " ab", NULL), "2"},
        {"no literal [UNK]", "[UNK]z", "12"},
    };
    aip_model2vec_t *model = load_vocabulary(CONFIG, vocab, 13);
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_ids(model, rows[i].name, rows[i].text, rows[i].want);
    }
}
END_TEST

START_TEST(canonical_order)
{
    static const char vocab[] =
        BERT("{\"[UNK]\":0,\"x\":1,\"##" STEM "\":2,\"##" DOT "\":3,\"" STEM "\":4,"
             "\"" DOT "\":5,\"\\u1100\":6,\"##\\u1161\":7,\"##\\u11a8\":8,"
             "\"##\\u1100\":9,\"##y\":10,\"!\":11,\"##" FLAG "\":12}");
    static const struct {
        const char *name, *text, *want;
    } rows[] = {
        {"in order", "x" STEM DOT, "1 2 3"},
        {"out of order", "x" DOT STEM, "1 2 3"},
        {"several", "x" DOT STEM DOT STEM, "1 2 2 3 3"},
        {"stable", "x" DOT FLAG STEM, "1 12 2 3"},
        {"at the start", DOT STEM, "4 3"},
        {"a mark that vanishes does not stop it", "x" DOT "\xcc\x81" STEM, "1 2 3"},
        {"a starter that vanishes does", "x" DOT "\xe0\xa4\x82" STEM, "1 3 2"},
        {"a soft hyphen is gone before", "x" DOT "\xc2\xad" STEM, "1 2 3"},
        {"a letter stops it", "x" DOT "y" STEM, "1 3 10 2"},
        {"punctuation stops it", "x" DOT "!" STEM, "1 3 11 4"},
        {"a space stops it", "x" DOT " " STEM, "1 3 4"},
        {"Hangul with a tail", "\xea\xb0\x81", "6 7 8"},
        {"Hangul without", "\xea\xb0\x80\xea\xb0\x81", "6 7 9 7 8"},
    };
    aip_model2vec_t *model = load_vocabulary(CONFIG, vocab, 13);
    const char *many = repeat(DOT STEM, 50),
               *want = apr_pstrcat(pool, "4", repeat(" 2", 49), repeat(" 3", 50), NULL);
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_ids(model, rows[i].name, rows[i].text, rows[i].want);
    }
    ck_assert_str_eq(ids_of(model, (aip_span_t){many, strlen(many)}), want);
    many = apr_pstrcat(pool, repeat(DOT STEM, 51), " x", NULL);
    ck_assert_str_eq(ids_of(model, (aip_span_t){many, strlen(many)}), "1");
}
END_TEST

START_TEST(added_tokens)
{
    /* clang-format off */
    static const char tokenizer[] = TOKENIZER(
        "[" ADDED("1", "[PAD]") "," ADDED("0", "[UNK]") ","
            ADDED("2", "in") "," ADDED("3", "ink") "]",
        NORMALIZER("BertNormalizer", "true"), "BertPreTokenizer",
        WORDPIECE("{\"[UNK]\":0,\"[PAD]\":1,\"in\":2,\"ink\":3,\"a\":4,"
                  "\"##b\":5,\"b\":6,\"[\":7}"));
    /* clang-format on */
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"a[PAD]b", "4 1 6"}, {"ab", "4 5"},        {"[UNK]a", "4"}, {"[pad]", "7"},
        {"[PA", "7"},         {"aink in", "4 3 2"}, {"INK", "3"},    {"[[PAD]", "7 1"},
    };
    aip_model2vec_t *model = load_vocabulary(CONFIG, tokenizer, 8);
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_ids(model, rows[i].text, rows[i].text, rows[i].want);
    }
}
END_TEST

START_TEST(max_length)
{
    /* median length of the tokens is 1 character: a text is cut at max_length characters, then
     * tokens */
    static const struct {
        const char *name, *config;
        size_t spaced, dense; /* tokens of "a a a ..." and of "!!! ..." with 1000 tokens each */
    } rows[] = {
        {"null", CONFIG_MAX(",\"max_length\":null"), 1000, 1000},
        {"absent", CONFIG_MAX(""), 256, 512},
        {"three", CONFIG_MAX(",\"max_length\":3"), 2, 3},
    };
    aip_model2vec_t *model;
    const char *spaced = repeat("a ", 1000), *dense = repeat("!", 1000);
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        model = load_vocabulary(rows[i].config, BERT("{\"[UNK]\":0,\"a\":1,\"!\":2,\"b\":3}"), 4);

        ck_assert_uint_eq(aip_model2vec_tokenize(model, (aip_span_t){spaced, 2000}, NULL, 0),
                          rows[i].spaced);
        ck_assert_uint_eq(aip_model2vec_tokenize(model, (aip_span_t){dense, 1000}, NULL, 0),
                          rows[i].dense);
    }
    /* median 2.5 -> 2, so six characters count; of their tokens the first three, the unknown among
     * them */
    model = load_vocabulary(
        rows[2].config,
        BERT("{\"[UNK]\":0,\"a\":1,\"!\":2,\"\u00e9\u00e9\":3,\"##\u00e9\":4,\"ink!\":5}"), 6);
    ck_assert_str_eq(ids_of(model, AIP_SPAN("zz!a!!")), "2 1");
    ck_assert_str_eq(ids_of(model, AIP_SPAN("a    !!")), "1 2");
    ck_assert_str_eq(ids_of(model, AIP_SPAN("\xe2\x82\xf0\x9f\x98\xffxa!a")), "2");
    /* each byte of a surrogate is a bad character of its own */
    ck_assert_str_eq(ids_of(model, AIP_SPAN("\xed\xa0\x80  a!")), "1");
}
END_TEST

START_TEST(sum_of_many_tokens)
{
    /* 18 million rows of 127 do not fit into 32 bits */
    static const signed char rows[4] = {0, 0, 127, 127};
    size_t count = 18000000;
    char *text = malloc(count);
    aip_model2vec_t *model;
    float got[2];

    ck_assert_ptr_nonnull(text);
    memset(text, '!', count);
    write_text("config.json", CONFIG);
    write_text("tokenizer.json", BERT("{\"[UNK]\":0,\"!\":1}"));
    write_table(TABLE("I8", "[2,2]", "[0,4]"), 0, rows, sizeof(rows));
    model = load(dir);
    ck_assert_uint_eq(aip_model2vec_embed(model, (aip_span_t){text, count}, got), count);
    ck_assert_double_eq_tol((double)got[0], 0.70710678, 1e-7);
    ck_assert_double_eq_tol((double)got[1], 0.70710678, 1e-7);
    free(text);
}
END_TEST

Suite *model2vec_rules_suite(void)
{
    Suite *suite = suite_create("model2vec_rules");
    TCase *tc = tcase_create("model2vec_rules");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, greedy_pieces);
    tcase_add_test(tc, canonical_order);
    tcase_add_test(tc, added_tokens);
    tcase_add_test(tc, max_length);
    tcase_add_test(tc, sum_of_many_tokens);
    suite_add_tcase(suite, tc);
    return suite;
}
