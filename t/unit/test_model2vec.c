/* SPDX-License-Identifier: Apache-2.0 */
/* The local embedder: the shipped model against reference ids and vectors, with tables of other
 * types, with texts of every kind, and the time that it takes. Rules of the tokenizer:
 * test_model2vec_rules.c; broken directories: test_model2vec_files.c. */

#include <jansson.h>
#include <math.h>
#include <sys/stat.h>
#include <time.h>

#include "model2vec_files.h"

Suite *model2vec_suite(void);

enum { REFERENCE_TEXTS = 200, MEGABYTE = 1 << 20 };

static const char *shipped_dir(void)
{
    return source_file("share/embedder/aip-static-en-v1");
}

static json_t *reference_texts(void)
{
    FILE *in = fopen(source_file("t/data/reference-vectors.jsonl"), "r");
    json_t *all = json_array(), *one;

    ck_assert_ptr_nonnull(in);
    while ((one = json_loadf(in, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL)) != NULL) {
        json_array_append_new(all, one);
    }
    fclose(in);
    ck_assert_uint_eq(json_array_size(all), REFERENCE_TEXTS);
    return all;
}

static aip_span_t text_of(const json_t *reference)
{
    const json_t *text = json_object_get(reference, "text");

    return (aip_span_t){json_string_value(text), json_string_length(text)};
}

static void check_reference(const aip_model2vec_t *model, const json_t *reference, size_t number)
{
    const json_t *want = json_object_get(reference, "ids"),
                 *vector = json_object_get(reference, "vector");
    aip_span_t text = text_of(reference);
    int ids[IDS_MAX];
    float got[256];
    size_t i, count = json_array_size(want);

    ck_assert_uint_eq(aip_model2vec_tokenize(model, text, ids, IDS_MAX), count);
    for (i = 0; i < count; i++) {
        ck_assert_msg(ids[i] == json_integer_value(json_array_get(want, i)), "text %d: id %d is %d",
                      (int)number, (int)i, ids[i]);
    }
    ck_assert_uint_eq(aip_model2vec_embed(model, text, got), count);
    ck_assert_uint_eq(json_array_size(vector), 256);
    for (i = 0; i < 256; i++) {
        double off = fabs((double)got[i] - json_number_value(json_array_get(vector, i)));

        ck_assert_msg(off <= 1e-5, "text %d: dimension %d is off by %g", (int)number, (int)i, off);
    }
}

START_TEST(reference_vectors)
{
    aip_model2vec_t *model = load(shipped_dir());
    json_t *all = reference_texts(), *one;
    size_t i;

    ck_assert_int_eq(aip_model2vec_dims(model), 256);
    json_array_foreach(all, i, one)
    {
        check_reference(model, one, i);
    }
    json_decref(all);
}
END_TEST

static unsigned char *read_shipped(const char *file, size_t *len)
{
    const char *path = apr_pstrcat(pool, shipped_dir(), "/", file, NULL);
    unsigned char *data;
    struct stat st;
    FILE *in = fopen(path, "rb");

    ck_assert_ptr_nonnull(in);
    ck_assert_int_eq(stat(path, &st), 0);
    *len = (size_t)st.st_size;
    data = apr_palloc(pool, *len);
    ck_assert_uint_eq(fread(data, 1, *len, in), *len);
    fclose(in);
    return data;
}

/** IEEE half of a whole number -128..127, by hand: sign, exponent + 15, ten bits behind the leading
 * one. */
static uint16_t half_of(int value)
{
    unsigned magnitude = (unsigned)abs(value), exponent = 0;

    if (magnitude == 0) {
        return 0;
    }
    while (magnitude >> (exponent + 1)) {
        exponent++;
    }
    return (uint16_t)((value < 0 ? 0x8000u : 0) | (exponent + 15) << 10 |
                      ((magnitude << (10 - exponent)) & 0x3FFu));
}

static void put_float(unsigned char *out, const char *dtype, int value)
{
    float f = (float)value;
    uint32_t bits;
    size_t i, size = strcmp(dtype, "F16") == 0 ? 2 : 4;

    memcpy(&bits, &f, sizeof(bits));
    bits = size == 2 ? half_of(value) : bits;
    for (i = 0; i < size; i++) {
        out[i] = (unsigned char)(bits >> 8 * i);
    }
}

/** The shipped model with another dtype. The header's length is odd: rows need not be aligned. */
static void convert_shipped(const char *dtype)
{
    size_t size = strcmp(dtype, "F16") == 0 ? 2 : 4, len, start, count, i;
    unsigned char *table = read_shipped("model.safetensors", &len), *out;
    char *header;

    start = 8 + table[0] + ((size_t)table[1] << 8);
    count = len - start;
    out = apr_palloc(pool, count * size);
    for (i = 0; i < count; i++) {
        put_float(out + i * size, dtype, (signed char)table[start + i]);
    }
    header = apr_psprintf(pool, TABLE("%s", "[%d,256]", "[0,%" APR_SIZE_T_FMT "]"), dtype,
                          (int)(count / 256), count * size);
    header = strlen(header) % 2 ? header : apr_pstrcat(pool, header, " ", NULL);
    write_table(header, 0, out, count * size);
    write_text("config.json", CONFIG);
    table = read_shipped("tokenizer.json", &len);
    write_file("tokenizer.json", table, len);
}

START_TEST(float_models_equal_int8)
{
    static const char *const names[] = {"F16", "F32"};
    aip_model2vec_t *model = load(shipped_dir()), *other;
    json_t *all = reference_texts(), *one;
    float want[256], got[256];
    size_t i, j;

    convert_shipped(names[_i]);
    other = load(dir);
    json_array_foreach(all, i, one)
    {
        ck_assert_uint_eq(aip_model2vec_embed(model, text_of(one), want),
                          aip_model2vec_embed(other, text_of(one), got));
        for (j = 0; j < 256; j++) {
            ck_assert_msg(fabsf(want[j] - got[j]) < 1e-7F, "%s, text %d", names[_i], (int)i);
        }
    }
    json_decref(all);
}
END_TEST

START_TEST(half_floats)
{
    /* value of each half: 1, -2, smallest subnormal 2^-24, largest 65504; a row of each */
    static const struct {
        const char *word;
        uint16_t half[2];
        double want[2];
    } rows[] = {
        {"ink", {0x3C00, 0xC000}, {0.4472136, -0.8944272}},
        {"well", {0x0001, 0x0001}, {0.7071068, 0.7071068}},
        {"s", {0x7BFF, 0x0400}, {1.0, 9.3177e-10}},
    };
    unsigned char data[16] = {0};
    aip_model2vec_t *model;
    float got[2];
    size_t i, j;

    for (i = 0; i < 3; i++) {
        for (j = 0; j < 2; j++) {
            data[4 * (i + 1) + 2 * j] = (unsigned char)rows[i].half[j];
            data[4 * (i + 1) + 2 * j + 1] = (unsigned char)(rows[i].half[j] >> 8);
        }
    }
    write_text("config.json", CONFIG);
    write_text("tokenizer.json", BERT("{\"[UNK]\":0,\"ink\":1,\"well\":2,\"s\":3}"));
    write_table(TABLE("F16", "[4,2]", "[0,16]"), 0, data, sizeof(data));
    model = load(dir);
    for (i = 0; i < 3; i++) {
        ck_assert_uint_eq(
            aip_model2vec_embed(model, (aip_span_t){rows[i].word, strlen(rows[i].word)}, got), 1);
        ck_assert_double_eq_tol((double)got[0], rows[i].want[0], 1e-6);
        ck_assert_double_eq_tol((double)got[1], rows[i].want[1], 1e-6);
    }
}
END_TEST

START_TEST(texts_without_tokens)
{
    static const struct {
        const char *name;
        aip_span_t text;
    } rows[] = {
        {"no value", {NULL, 0}},
        {"empty", AIP_SPAN("")},
        {"white space", AIP_SPAN(" \t\r\n\xc2\xa0\xe3\x80\x80")},
        {"controls", AIP_SPAN("\x01\x02\x7f\xc2\x85")},
        {"a NUL", AIP_SPAN("\0")},
        {"bad bytes",
         AIP_SPAN("\xff\xfe\x80\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80\xf8\x88\x80\x80\x80")},
        {"accents alone", AIP_SPAN("\xcc\x81\xcc\x88")},
        {"private use", AIP_SPAN("\xee\x80\x80\xf4\x8f\xbf\xbd")},
        {"unknown characters", AIP_SPAN("\xf0\x9f\xa6\x96\xf0\x9f\x98\x80")},
    };
    aip_model2vec_t *model = load(shipped_dir());
    float got[256];
    size_t i, j;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(got, 0x55, sizeof(got));
        ck_assert_msg(aip_model2vec_embed(model, rows[i].text, got) == 0, "%s", rows[i].name);
        ck_assert_uint_eq(aip_model2vec_tokenize(model, rows[i].text, NULL, 0), 0);
        for (j = 0; j < 256; j++) {
            ck_assert_msg(got[j] == 0, "%s: dimension %d", rows[i].name, (int)j);
        }
    }
}
END_TEST

START_TEST(same_tokens)
{
    /* texts that must give the ids of the plain one */
    static const struct {
        const char *name;
        aip_span_t text;
        aip_span_t plain;
    } rows[] = {
        {"a byte that starts nothing", AIP_SPAN("kett\xffle"), AIP_SPAN("kettle")},
        {"a continuation alone", AIP_SPAN("\x80kettle\x80"), AIP_SPAN("kettle")},
        {"cut at the end", AIP_SPAN("kettle\xf0\x9f\x98"), AIP_SPAN("kettle")},
        {"cut before a letter", AIP_SPAN("\xe2\x82kettle"), AIP_SPAN("kettle")},
        {"cut before a character", AIP_SPAN("kett\xf0\x9f\xc5\x81"), AIP_SPAN("kett\xc5\x81")},
        {"surrogate", AIP_SPAN("kett\xed\xa0\x80le"), AIP_SPAN("kettle")},
        {"overlong", AIP_SPAN("kett\xc0\xa0le\xe0\x80\xa0"), AIP_SPAN("kettle")},
        {"above U+10FFFF", AIP_SPAN("kett\xf4\x90\x80\x80le"), AIP_SPAN("kettle")},
        {"NUL", AIP_SPAN("kett\0le"), AIP_SPAN("kettle")},
        {"controls", AIP_SPAN("ke\x07tt\xc2\x85le\x0b"), AIP_SPAN("kettle")},
        {"soft hyphen, joiner, BOM", AIP_SPAN("\xef\xbb\xbfket\xc2\xadt\xe2\x80\x8dle"),
         AIP_SPAN("kettle")},
        {"upper case", AIP_SPAN("KETTLE"), AIP_SPAN("kettle")},
        {"accents, composed", AIP_SPAN("k\xc3\xa9tt\xc5\x82le"), AIP_SPAN("kett\xc5\x82le")},
        {"accents, apart", AIP_SPAN("ke\xcc\x81\xcc\xa7ttle"), AIP_SPAN("kettle")},
        {"dotted capital I", AIP_SPAN("\xc4\xb0NK"), AIP_SPAN("ink")},
        {"kelvin sign",
         AIP_SPAN("\xe2\x84\xaa"
                  "ettle"),
         AIP_SPAN("kettle")},
        {"not equal",
         AIP_SPAN("a\xe2\x89\xa0"
                  "b"),
         AIP_SPAN("a=b")},
        {"Greek question mark", AIP_SPAN("ink\xcd\xbe"), AIP_SPAN("ink;")},
        {"spaces of all kinds", AIP_SPAN("\xe2\x80\x83ink\xe2\x80\xa8well\xe3\x80\x80"),
         AIP_SPAN("ink well")},
    };
    aip_model2vec_t *model = load(shipped_dir());
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *want = ids_of(model, rows[i].plain);

        ck_assert_msg(*want, "%s: the plain text has no tokens", rows[i].name);
        ck_assert_msg(strcmp(ids_of(model, rows[i].text), want) == 0, "%s", rows[i].name);
    }
}
END_TEST

START_TEST(ids_beyond_max)
{
    aip_model2vec_t *model = load(shipped_dir());
    aip_span_t text = AIP_SPAN("ink ink ink");
    int ids[3] = {-7, -7, -7};

    ck_assert_uint_eq(aip_model2vec_tokenize(model, text, ids, 1), 3);
    ck_assert_int_ge(ids[0], 0);
    ck_assert_int_eq(ids[1], -7);
    ck_assert_uint_eq(aip_model2vec_tokenize(model, text, NULL, 0), 3);
}
END_TEST

/* ---- time ---- */

static double cpu_ms(const aip_model2vec_t *model, const char *text, size_t len)
{
    float vector[256];
    struct timespec from, to;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    aip_model2vec_embed(model, (aip_span_t){text, len}, vector);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
}

START_TEST(linear_time)
{
    /* no text may cost more than twice as much when it is twice as long, nor much more than an
     * ordinary one */
    static const struct {
        const char *name, *unit;
    } rows[] = {
        {"one word", "a"},
        {"one word of accents", "\xc3\xa9"},
        {"one word of marks", DOT STEM},
        {"one run of marks that vanish", "\xcc\xa1\xcc\x81"},
        {"words of 100 characters, all pieces tried",
         "zqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqzqz"
         "qzqzqzqzqzq "},
        {"words", "kettle "},
        {"punctuation", "!"},
        {"bad bytes", "\xf0\x9f"},
    };
    aip_model2vec_t *model = load(shipped_dir());
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = MEGABYTE / strlen(rows[i].unit) * strlen(rows[i].unit);
        const char *text = repeat(rows[i].unit, 2 * len / strlen(rows[i].unit));
        double once = 1e30, twice = 1e30;

        /* in turn: a machine that is slower for a while is so for both, or it is asked again */
        for (int round = 0; round < 5 || (round < 50 && twice >= 3 * once); round++) {
            double first = cpu_ms(model, text, len), second = cpu_ms(model, text, 2 * len);
            once = first < once ? first : once;
            twice = second < twice ? second : twice;
        }

        ck_assert_msg(twice < 3 * once, "%s: %.1f ms for 1 MB, %.1f ms for 2 MB", rows[i].name,
                      once, twice);
    }
}
END_TEST

START_TEST(a_word_of_a_megabyte)
{
    aip_model2vec_t *model = load(shipped_dir());
    const char *word = repeat("a", MEGABYTE), *text = apr_pstrcat(pool, word, " kettle", NULL);
    float got[256];

    ck_assert_uint_eq(aip_model2vec_embed(model, (aip_span_t){word, MEGABYTE}, got), 0);
    ck_assert_str_eq(ids_of(model, (aip_span_t){text, strlen(text)}),
                     ids_of(model, AIP_SPAN("kettle")));
}
END_TEST

Suite *model2vec_suite(void)
{
    Suite *suite = suite_create("model2vec");
    TCase *tc = tcase_create("model2vec");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, reference_vectors);
    tcase_add_loop_test(tc, float_models_equal_int8, 0, 2);
    tcase_add_test(tc, half_floats);
    tcase_add_test(tc, texts_without_tokens);
    tcase_add_test(tc, same_tokens);
    tcase_add_test(tc, ids_beyond_max);
    tcase_add_test(tc, a_word_of_a_megabyte);
    suite_add_tcase(suite, tc);
    TCase *timing = tcase_create("linear_time");
    tcase_add_checked_fixture(timing, setup, teardown);
    tcase_set_tags(timing, "timing"); /* a quarter of an hour under valgrind */
    tcase_set_timeout(timing, 120);
    tcase_add_test(timing, linear_time);
    suite_add_tcase(suite, timing);
    return suite;
}
