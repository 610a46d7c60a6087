/* SPDX-License-Identifier: Apache-2.0 */
/* The local embedder: the shipped model against reference ids and vectors, small models made here
 * for the rules of the tokenizer, and every way in which a model directory can be broken. */

#include "aip/model2vec.h"

#include <apr_file_io.h>
#include <apr_strings.h>
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

Suite *model2vec_suite(void);

enum { REFERENCE_TEXTS = 200, IDS_MAX = 4096, MEGABYTE = 1 << 20 };

static const char *const file_names[] = {"config.json", "tokenizer.json", "model.safetensors"};

static apr_pool_t *pool;
static const char *dir; /* for models made here */

static void setup(void)
{
    const char *temp;
    char *made;

    ck_assert_int_eq(apr_initialize(), APR_SUCCESS);
    ck_assert_int_eq(apr_pool_create(&pool, NULL), APR_SUCCESS);
    ck_assert_int_eq(apr_temp_dir_get(&temp, pool), APR_SUCCESS);
    made = apr_pstrcat(pool, temp, "/aip-model2vec-XXXXXX", NULL);
    ck_assert_ptr_nonnull(mkdtemp(made));
    dir = made;
}

static const char *path_of(const char *file)
{
    return apr_pstrcat(pool, dir, "/", file, NULL);
}

static void remove_files(void)
{
    size_t i;

    for (i = 0; i < 3; i++) {
        if (unlink(path_of(file_names[i])) != 0) {
            rmdir(path_of(file_names[i]));
        }
    }
}

static void teardown(void)
{
    remove_files();
    rmdir(dir);
    apr_pool_destroy(pool);
    apr_terminate();
}

/* ---- making models ---- */

static void write_file(const char *file, const void *data, size_t len)
{
    FILE *out = fopen(path_of(file), "wb");

    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(fwrite(data, 1, len, out), len);
    ck_assert_int_eq(fclose(out), 0);
}

static void write_text(const char *file, const char *text)
{
    write_file(file, text, strlen(text));
}

/** @param header_len  what the first eight bytes say; 0: the truth */
static void write_table(const char *header, uint64_t header_len, const void *data, size_t len)
{
    size_t head = strlen(header), i;
    unsigned char *all = apr_palloc(pool, 8 + head + len);
    uint64_t said = header_len ? header_len : head;

    for (i = 0; i < 8; i++) {
        all[i] = (unsigned char)(said >> 8 * i);
    }
    memcpy(all + 8, header, head);
    memcpy(all + 8 + head, data, len);
    write_file("model.safetensors", all, 8 + head + len);
}

#define CONFIG "{\"model_type\":\"model2vec\",\"normalize\":true,\"max_length\":null}"
#define NORMALIZER(type, lower)                                                                                      \
    "{\"type\":\"" type "\",\"clean_text\":true,\"handle_chinese_chars\":true,"                                      \
    "\"strip_accents\":null,\"lowercase\":" lower "}"
#define WORDPIECE(vocab)                                                                                             \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","                          \
    "\"max_input_chars_per_word\":100,\"vocab\":" vocab "}"
#define TOKENIZER(added, normalizer, pre, model)                                                                     \
    "{\"added_tokens\":" added ",\"normalizer\":" normalizer ",\"pre_tokenizer\":{\"type\":\"" pre                   \
    "\"},\"model\":" model "}"
#define BERT(vocab) TOKENIZER("[]", NORMALIZER("BertNormalizer", "true"), "BertPreTokenizer", WORDPIECE(vocab))
#define TABLE(dtype, shape, offsets)                                                                                 \
    "{\"embeddings\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

/* The broken models are this one with one thing changed. */
#define VOCAB4 "{\"[UNK]\":0,\"ink\":1,\"##s\":2,\"well\":3}"
#define TABLE4 TABLE("I8", "[4,2]", "[0,8]")

static const signed char table4[8] = {0, 0, 3, 4, -1, 2, 100, -100};

static aip_model2vec_t *load(const char *where)
{
    aip_model2vec_t *model = NULL;
    const char *error = NULL;
    apr_status_t rv = aip_model2vec_load(&model, where, pool, &error);

    ck_assert_msg(rv == APR_SUCCESS, "%s", error ? error : "no error text");
    ck_assert_ptr_nonnull(model);
    ck_assert_ptr_null(error);
    return model;
}

/** Loads a model with this vocabulary of `count` tokens, all rows {1}. */
static aip_model2vec_t *load_vocabulary(const char *config, const char *tokenizer, int count)
{
    unsigned char *rows = apr_palloc(pool, (size_t)count);

    memset(rows, 1, (size_t)count);
    write_text("config.json", config);
    write_text("tokenizer.json", tokenizer);
    write_table(apr_psprintf(pool, TABLE("I8", "[%d,1]", "[0,%d]"), count, count), 0, rows, (size_t)count);
    return load(dir);
}

static const char *shipped_dir(void)
{
    const char *root = getenv("AIP_SRCDIR");

    return apr_pstrcat(pool, root ? root : ".", "/share/embedder/aip-static-en-v1", NULL);
}

/* ---- the shipped model ---- */

static const char *join_ids(const int *ids, size_t count)
{
    const char *out = "";
    size_t i;

    for (i = 0; i < count; i++) {
        out = apr_psprintf(pool, "%s%s%d", out, i ? " " : "", ids[i]);
    }
    return out;
}

static const char *ids_of(const aip_model2vec_t *model, aip_span_t text)
{
    static int ids[IDS_MAX];
    size_t count = aip_model2vec_tokenize(model, text, ids, IDS_MAX);

    ck_assert_uint_le(count, IDS_MAX);
    return join_ids(ids, count);
}

static json_t *reference_texts(void)
{
    const char *root = getenv("AIP_SRCDIR");
    FILE *in = fopen(apr_pstrcat(pool, root ? root : ".", "/t/data/reference-vectors.jsonl", NULL), "r");
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
    const json_t *want = json_object_get(reference, "ids"), *vector = json_object_get(reference, "vector");
    aip_span_t text = text_of(reference);
    int ids[IDS_MAX];
    float got[256];
    size_t i, count = json_array_size(want);

    ck_assert_uint_eq(aip_model2vec_tokenize(model, text, ids, IDS_MAX), count);
    for (i = 0; i < count; i++) {
        ck_assert_msg(ids[i] == json_integer_value(json_array_get(want, i)), "text %d: id %d is %d", (int)number,
                      (int)i, ids[i]);
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
    return (uint16_t)((value < 0 ? 0x8000u : 0) | (exponent + 15) << 10 | ((magnitude << (10 - exponent)) & 0x3FFu));
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
    header = apr_psprintf(pool, TABLE("%s", "[%d,256]", "[0,%" APR_SIZE_T_FMT "]"), dtype, (int)(count / 256),
                          count * size);
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
        ck_assert_uint_eq(aip_model2vec_embed(model, (aip_span_t){rows[i].word, strlen(rows[i].word)}, got), 1);
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
        {"bad bytes", AIP_SPAN("\xff\xfe\x80\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80\xf8\x88\x80\x80\x80")},
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
        {"soft hyphen, joiner, BOM", AIP_SPAN("\xef\xbb\xbfket\xc2\xadt\xe2\x80\x8dle"), AIP_SPAN("kettle")},
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
        {"spaces of all kinds", AIP_SPAN("\xe2\x80\x83ink\xe2\x80\xa8well\xe3\x80\x80"), AIP_SPAN("ink well")},
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

/* ---- rules, on small vocabularies ---- */

static const char *repeat(const char *what, size_t times)
{
    size_t len = strlen(what), i;
    char *out = apr_palloc(pool, len * times + 1);

    for (i = 0; i < times; i++) {
        memcpy(out + i * len, what, len);
    }
    out[len * times] = '\0';
    return out;
}

START_TEST(greedy_pieces)
{
    static const char vocab[] = BERT("{\"[UNK]\":0,\"a\":1,\"ab\":2,\"##c\":3,\"##cd\":4,\"abcx\":5,\"##\":6,"
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
        {"a word of 100 characters", repeat("a", 100), apr_pstrcat(pool, "1", repeat(" 7", 99), NULL)},
        {"a word of 101 characters", repeat("a", 101), ""},
        {"100 that came from 200", repeat("a\xcc\x81", 100), apr_pstrcat(pool, "1", repeat(" 7", 99), NULL)},
        {"the word after one of 101", apr_pstrcat(pool, repeat("a", 101), " ab", NULL), "2"},
        {"no literal [UNK]", "[UNK]z", "12"},
    };
    aip_model2vec_t *model = load_vocabulary(CONFIG, vocab, 13);
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *got = ids_of(model, (aip_span_t){rows[i].text, strlen(rows[i].text)});

        ck_assert_msg(strcmp(got, rows[i].want) == 0, "%s: %s", rows[i].name, got);
    }
}
END_TEST

/* Kept marks are U+1D165 (class 216) and U+1D16D (class 226); U+0301 (230) and U+0902 (0) vanish.
 */
#define STEM "\xf0\x9d\x85\xa5"
#define DOT "\xf0\x9d\x85\xad"
#define FLAG "\xf0\x9d\x85\xae" /* U+1D16E, of STEM's class */

START_TEST(canonical_order)
{
    static const char vocab[] = BERT("{\"[UNK]\":0,\"x\":1,\"##" STEM "\":2,\"##" DOT "\":3,\"" STEM "\":4,"
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
    const char *many = repeat(DOT STEM, 50), *want = apr_pstrcat(pool, "4", repeat(" 2", 49), repeat(" 3", 50), NULL);
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *got = ids_of(model, (aip_span_t){rows[i].text, strlen(rows[i].text)});

        ck_assert_msg(strcmp(got, rows[i].want) == 0, "%s: %s", rows[i].name, got);
    }
    ck_assert_str_eq(ids_of(model, (aip_span_t){many, strlen(many)}), want);
    many = apr_pstrcat(pool, repeat(DOT STEM, 51), " x", NULL);
    ck_assert_str_eq(ids_of(model, (aip_span_t){many, strlen(many)}), "1");
}
END_TEST

#define ADDED(id, text)                                                                                              \
    "{\"id\":" id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,"                                \
    "\"rstrip\":false,\"normalized\":false,\"special\":true}"

START_TEST(added_tokens)
{
    static const char tokenizer[] =
        TOKENIZER("[" ADDED("1", "[PAD]") "," ADDED("0", "[UNK]") "," ADDED("2", "in") "," ADDED("3", "ink") "]",
                  NORMALIZER("BertNormalizer", "true"), "BertPreTokenizer",
                  WORDPIECE("{\"[UNK]\":0,\"[PAD]\":1,\"in\":2,\"ink\":3,\"a\":4,\"##b\":5,\"b\":6,\"[\":7}"));
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"a[PAD]b", "4 1 6"}, {"ab", "4 5"},        {"[UNK]a", "4"}, {"[pad]", "7"},
        {"[PA", "7"},         {"aink in", "4 3 2"}, {"INK", "3"},    {"[[PAD]", "7 1"},
    };
    aip_model2vec_t *model = load_vocabulary(CONFIG, tokenizer, 8);
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *got = ids_of(model, (aip_span_t){rows[i].text, strlen(rows[i].text)});

        ck_assert_msg(strcmp(got, rows[i].want) == 0, "%s: %s", rows[i].text, got);
    }
}
END_TEST

#define CONFIG_MAX(max) "{\"model_type\":\"model2vec\",\"normalize\":true" max "}"

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

        ck_assert_uint_eq(aip_model2vec_tokenize(model, (aip_span_t){spaced, 2000}, NULL, 0), rows[i].spaced);
        ck_assert_uint_eq(aip_model2vec_tokenize(model, (aip_span_t){dense, 1000}, NULL, 0), rows[i].dense);
    }
    /* median 2.5 -> 2, so six characters count; of their tokens the first three, the unknown among them */
    model = load_vocabulary(rows[2].config,
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

/* ---- time ---- */

static double cpu_ms(const aip_model2vec_t *model, const char *text, size_t len)
{
    float vector[256];
    double best = 1e30;
    int round;

    for (round = 0; round < 5; round++) {
        struct timespec from, to;
        double spent;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        aip_model2vec_embed(model, (aip_span_t){text, len}, vector);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        spent = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
        best = spent < best ? spent : best;
    }
    return best;
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
        double once = cpu_ms(model, text, len), twice = cpu_ms(model, text, 2 * len);

        ck_assert_msg(twice < 3 * once, "%s: %.1f ms for 1 MB, %.1f ms for 2 MB", rows[i].name, once, twice);
    }
}
END_TEST

START_TEST(a_word_of_a_megabyte)
{
    aip_model2vec_t *model = load(shipped_dir());
    const char *word = repeat("a", MEGABYTE), *text = apr_pstrcat(pool, word, " kettle", NULL);
    float got[256];

    ck_assert_uint_eq(aip_model2vec_embed(model, (aip_span_t){word, MEGABYTE}, got), 0);
    ck_assert_str_eq(ids_of(model, (aip_span_t){text, strlen(text)}), ids_of(model, AIP_SPAN("kettle")));
}
END_TEST

/* ---- broken directories ---- */

static const char *load_error(void)
{
    aip_model2vec_t *model = (aip_model2vec_t *)&model;
    const char *error = NULL;

    if (aip_model2vec_load(&model, dir, pool, &error) == APR_SUCCESS) {
        return "loaded";
    }
    ck_assert_ptr_null(model);
    ck_assert_ptr_nonnull(error);
    return error;
}

static void check_error(const char *name, const char *file, const char *want)
{
    const char *error = load_error(), *prefix = apr_pstrcat(pool, dir, "/", file, ": ", NULL);

    ck_assert_msg(strncmp(error, prefix, strlen(prefix)) == 0, "%s: %s", name, error);
    ck_assert_msg(strstr(error, want) != NULL, "%s: %s", name, error);
    ck_assert_msg(strchr(error, '\n') == NULL, "%s: %s", name, error);
}

#define BAD_BERT(normalizer, pre, model) TOKENIZER("[]", normalizer, pre, model)
#define GOOD_NORMALIZER NORMALIZER("BertNormalizer", "true")
#define MODEL(type, unk, prefix, chars)                                                                              \
    "{\"type\":\"" type "\",\"unk_token\":" unk ",\"continuing_subword_prefix\":\"" prefix                           \
    "\",\"max_input_chars_per_word\":" chars ",\"vocab\":" VOCAB4 "}"

static const struct json_row_t {
    const char *name, *config, *tokenizer; /* NULL: the good one */
    const char *want;
} json_rows[] = {
    {"config cut", "{\"model_type\":", NULL, "not valid JSON (line 1)"},
    {"config empty", "", NULL, "empty file"},
    {"config an array", "[]", NULL, "not a JSON object"},
    {"config member twice", "{\"normalize\":true,\"normalize\":true}", NULL, "duplicate"},
    {"config of another model", "{\"model_type\":\"bert\",\"normalize\":true}", NULL, "\"model_type\""},
    {"not normalized", "{\"model_type\":\"model2vec\"}", NULL, "\"normalize\""},
    {"pooling", CONFIG_MAX(",\"pooling\":\"max\""), NULL, "\"pooling\""},
    {"clusters", CONFIG_MAX(",\"vocabulary_quantization\":4"), NULL, "\"vocabulary_quantization\""},
    {"hidden_dim text", CONFIG_MAX(",\"hidden_dim\":\"2\""), NULL, "\"hidden_dim\""},
    {"hidden_dim 0", CONFIG_MAX(",\"hidden_dim\":0"), NULL, "\"hidden_dim\""},
    {"dtype number", CONFIG_MAX(",\"embedding_dtype\":8"), NULL, "\"embedding_dtype\""},
    {"max_length 0", CONFIG_MAX(",\"max_length\":0"), NULL, "\"max_length\""},
    {"max_length text", CONFIG_MAX(",\"max_length\":\"9\""), NULL, "\"max_length\""},
    {"max_length huge", CONFIG_MAX(",\"max_length\":9223372036854775807"), NULL, "\"max_length\""},
    {"tokenizer cut", NULL, "{\"model\":{", "not valid JSON"},
    {"tokenizer bad UTF-8", NULL, "{\"a\":\"\xff\"}", "not valid JSON"},
    {"tokenizer empty", NULL, "", "empty file"},
    {"no normalizer", NULL, "{}", "the normalizer's type"},
    {"wrong normalizer", NULL, BAD_BERT(NORMALIZER("NFC", "true"), "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "the normalizer's type is not \"BertNormalizer\""},
    {"cased", NULL, BAD_BERT(NORMALIZER("BertNormalizer", "false"), "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "lower-case"},
    {"keeps accents", NULL,
     BAD_BERT("{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
              "\"strip_accents\":false,\"lowercase\":true}",
              "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "strip accents"},
    {"pre_tokenizer", NULL, BAD_BERT(GOOD_NORMALIZER, "Whitespace", WORDPIECE(VOCAB4)), "the pre_tokenizer's"},
    {"BPE", NULL, BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("BPE", "\"[UNK]\"", "##", "100")),
     "the model's type"},
    {"prefix", NULL, BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"[UNK]\"", "@@", "100")),
     "\"continuing_subword_prefix\""},
    {"no limit", NULL, BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"[UNK]\"", "##", "null")),
     "\"max_input_chars_per_word\""},
    {"long words", NULL, BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"[UNK]\"", "##", "201")),
     "\"max_input_chars_per_word\" is not a number from 1 to 200"},
    {"unk not there", NULL, BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"<u>\"", "##", "100")),
     "\"unk_token\""},
    {"unk a part of a token", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"in\"", "##", "100")), "\"unk_token\""},
    {"unk null", NULL, BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "null", "##", "100")),
     "\"unk_token\""},
    {"vocabulary empty", NULL, BERT("{}"), "\"vocab\""},
    {"vocabulary an array", NULL, BERT("[\"[UNK]\"]"), "\"vocab\""},
    {"hole", NULL, BERT("{\"[UNK]\":0,\"ink\":1,\"##s\":2,\"well\":4}"), "an id that is not in 0..3"},
    {"negative id", NULL, BERT("{\"[UNK]\":0,\"ink\":-1,\"##s\":2,\"well\":3}"), "an id that is not in 0..3"},
    {"id is text", NULL, BERT("{\"[UNK]\":0,\"ink\":\"1\",\"##s\":2,\"well\":3}"), "an id that is not in"},
    {"id is a fraction", NULL, BERT("{\"[UNK]\":0,\"ink\":1.0,\"##s\":2,\"well\":3}"), "an id that is not in"},
    {"huge id", NULL, BERT("{\"[UNK]\":0,\"ink\":4294967297,\"##s\":2,\"well\":3}"), "an id that is not in"},
    {"id twice", NULL, BERT("{\"[UNK]\":0,\"ink\":1,\"##s\":1,\"well\":3}"), "the id 1 twice"},
    {"token twice", NULL, BERT("{\"[UNK]\":0,\"ink\":1,\"ink\":2,\"well\":3}"), "duplicate"},
    {"added tokens an object", NULL, TOKENIZER("{}", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "\"added_tokens\""},
    {"added with another id", NULL,
     TOKENIZER("[" ADDED("2", "ink") "]", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)), "under its id"},
    {"added not in the vocabulary", NULL,
     TOKENIZER("[" ADDED("-1", "pen") "]", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)), "under its id"},
    {"added empty", NULL, TOKENIZER("[" ADDED("-1", "") "]", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "printable ASCII"},
    {"added without rules", NULL,
     TOKENIZER("[{\"id\":1,\"content\":\"ink\"}]", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "the added token \"ink\""},
};

enum { JSON_ROWS = sizeof(json_rows) / sizeof(json_rows[0]) };

START_TEST(broken_json)
{
    const struct json_row_t *row = &json_rows[_i];
    const char *file = row->config ? "config.json" : "tokenizer.json";

    write_text("config.json", row->config ? row->config : CONFIG);
    write_text("tokenizer.json", row->tokenizer ? row->tokenizer : BERT(VOCAB4));
    write_table(TABLE4, 0, table4, sizeof(table4));
    check_error(row->name, file, row->want);
}
END_TEST

static const struct table_row_t {
    const char *name, *header;
    uint64_t header_len; /* 0: the truth */
    size_t data_len;
    const char *want;
} table_rows[] = {
    {"truncated", TABLE4, 0, 7, "it is truncated"},
    {"no data", TABLE4, 0, 0, "it is truncated"},
    {"too long", TABLE4, 0, 9, "it is too long"},
    {"header beyond the file", TABLE4, 5000, 8, "beyond the end of the file"},
    {"header length overflows", TABLE4, UINT64_MAX, 8, "beyond the end of the file"},
    {"header length overflows with 8 added", TABLE4, UINT64_MAX - 7, 8, "beyond the end of the file"},
    {"header too short", TABLE4, 10, 8, "not valid JSON"},
    {"header into the data", TABLE4, sizeof(TABLE4) + 3, 8, "not valid JSON"},
    {"header an array", "[]", 0, 8, "not a JSON object"},
    {"header empty", "", 0, 8, "not valid JSON"},
    {"other tensor", "{\"embedding.weight\":{\"dtype\":\"I8\",\"shape\":[4,2],\"data_offsets\":[0,8]}}", 0, 8,
     "no tensor \"embeddings\""},
    {"tensor is a number", "{\"embeddings\":1}", 0, 8, "no tensor \"embeddings\""},
    {"tensor twice", "{\"embeddings\":{},\"embeddings\":{}}", 0, 8, "duplicate"},
    {"more tensors",
     "{\"embeddings\":{\"dtype\":\"I8\",\"shape\":[4,2],\"data_offsets\":[0,8]},"
     "\"weights\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}",
     0, 24, "a tensor besides"},
    {"wrong dtype", TABLE("BF16", "[4,2]", "[0,16]"), 0, 16, "not I8, F16 or F32"},
    {"unsigned", TABLE("U8", "[4,2]", "[0,8]"), 0, 8, "not I8, F16 or F32"},
    {"no dtype", "{\"embeddings\":{\"shape\":[4,2],\"data_offsets\":[0,8]}}", 0, 8, "not I8, F16 or F32"},
    {"rows missing", TABLE("I8", "[3,2]", "[0,6]"), 0, 6, "has 3 rows, but tokenizer.json has 4 tokens"},
    {"rows too many", TABLE("I8", "[5,2]", "[0,10]"), 0, 10, "has 5 rows, but tokenizer.json has 4"},
    {"one dimension", TABLE("I8", "[8]", "[0,8]"), 0, 8, "the shape"},
    {"three dimensions", TABLE("I8", "[4,2,1]", "[0,8]"), 0, 8, "the shape"},
    {"negative", TABLE("I8", "[4,-2]", "[0,8]"), 0, 8, "the shape"},
    {"fractions", TABLE("I8", "[4.0,2.0]", "[0,8]"), 0, 8, "the shape"},
    {"no dims", TABLE("I8", "[4,0]", "[0,0]"), 0, 0, "has 0 dimensions, not 1 to 2048"},
    {"huge dims", TABLE("I8", "[4,2049]", "[0,8196]"), 0, 8196, "has 2049 dimensions, not 1 to 2048"},
    {"dims overflow", TABLE("I8", "[4,4611686018427387906]", "[0,8]"), 0, 8, "dimensions, not 1 to 2048"},
    {"dims beyond 64 bits", TABLE("I8", "[4,99999999999999999999]", "[0,8]"), 0, 8, "not valid JSON"},
    {"offset not 0", TABLE("I8", "[4,2]", "[1,9]"), 0, 9, "the data_offsets"},
    {"offsets out of range", TABLE("I8", "[4,2]", "[0,16]"), 0, 8, "the data_offsets"},
    {"offsets of less than the rows", TABLE("I8", "[4,2]", "[1,8]"), 0, 8, "the data_offsets"},
    {"offsets reversed", TABLE("I8", "[4,2]", "[8,0]"), 0, 8, "the data_offsets"},
    {"offsets negative", TABLE("I8", "[4,2]", "[-8,0]"), 0, 8, "the data_offsets"},
    {"offsets overflow", TABLE("I8", "[4,2]", "[9223372036854775800,9223372036854775807]"), 0, 8, "the data_offsets"},
    {"offsets missing", "{\"embeddings\":{\"dtype\":\"I8\",\"shape\":[4,2]}}", 0, 8, "the data_offsets"},
    {"more bytes a value", TABLE("F32", "[4,2]", "[0,8]"), 0, 8, "the data_offsets"},
};

enum { TABLE_ROWS = sizeof(table_rows) / sizeof(table_rows[0]) };

START_TEST(broken_table)
{
    const struct table_row_t *row = &table_rows[_i];

    write_text("config.json", CONFIG);
    write_text("tokenizer.json", BERT(VOCAB4));
    write_table(row->header, row->header_len, apr_pcalloc(pool, row->data_len + 1), row->data_len);
    check_error(row->name, "model.safetensors", row->want);
}
END_TEST

START_TEST(table_against_config)
{
    write_text("tokenizer.json", BERT(VOCAB4));
    write_table(TABLE4, 0, table4, sizeof(table4));
    write_text("config.json", CONFIG_MAX(",\"hidden_dim\":3"));
    check_error("dims", "model.safetensors", "has 2 dimensions, but config.json says 3");
    write_text("config.json", CONFIG_MAX(",\"embedding_dtype\":\"float32\""));
    check_error("dtype", "model.safetensors", "is I8, but config.json says \"float32\"");
    write_text("config.json", CONFIG_MAX(",\"embedding_dtype\":\"int8\",\"hidden_dim\":2"));
    ck_assert_str_eq(load_error(), "loaded");
}
END_TEST

START_TEST(values_not_finite)
{
    static const struct {
        const char *name, *header;
        size_t size;
        uint32_t bits;
        const char *want; /* NULL: it loads */
    } rows[] = {
        {"F32 NaN", TABLE("F32", "[4,2]", "[0,32]"), 4, 0x7FC00000, "row 2 has a value that is not finite"},
        {"F32 signalling NaN", TABLE("F32", "[4,2]", "[0,32]"), 4, 0xFF800001, "row 2"},
        {"F32 infinity", TABLE("F32", "[4,2]", "[0,32]"), 4, 0x7F800000, "row 2"},
        {"F32 largest", TABLE("F32", "[4,2]", "[0,32]"), 4, 0x7F7FFFFF, NULL},
        {"F16 NaN", TABLE("F16", "[4,2]", "[0,16]"), 2, 0x7E00, "row 2"},
        {"F16 -infinity", TABLE("F16", "[4,2]", "[0,16]"), 2, 0xFC00, "row 2"},
        {"F16 largest", TABLE("F16", "[4,2]", "[0,16]"), 2, 0x7BFF, NULL},
    };
    unsigned char data[32] = {0};
    size_t i, size = rows[_i].size;
    float got[2];

    for (i = 0; i < size; i++) {
        data[5 * size + i] = (unsigned char)(rows[_i].bits >> 8 * i);
    }
    write_text("config.json", CONFIG);
    write_text("tokenizer.json", BERT("{\"[UNK]\":0,\"ink\":1,\"well\":2,\"##s\":3}"));
    write_table(rows[_i].header, 0, data, 8 * size);
    if (rows[_i].want) {
        check_error(rows[_i].name, "model.safetensors", rows[_i].want);
    } else {
        ck_assert_uint_eq(aip_model2vec_embed(load(dir), AIP_SPAN("well well well"), got), 3);
        ck_assert_msg(got[0] == 0 && got[1] == 1, "%s: %g %g", rows[_i].name, (double)got[0], (double)got[1]);
    }
}
END_TEST

START_TEST(values_changed_later)
{
    /* whoever writes into the file of a running server gets no route, but no NaN either */
    static const unsigned char nan_rows[32] = {[23] = 0x7F, [22] = 0xC0, [31] = 0x7F, [30] = 0x80};
    aip_model2vec_t *model;
    float got[2] = {9, 9};
    FILE *out;

    write_text("config.json", CONFIG);
    write_text("tokenizer.json", BERT("{\"[UNK]\":0,\"ink\":1,\"well\":2,\"##s\":3}"));
    write_table(TABLE("F32", "[4,2]", "[0,32]"), 0, apr_pcalloc(pool, 32), 32);
    model = load(dir);
    out = fopen(path_of("model.safetensors"), "r+b");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(fseek(out, -32, SEEK_END), 0);
    ck_assert_uint_eq(fwrite(nan_rows, 1, 32, out), 32);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_uint_eq(aip_model2vec_embed(model, AIP_SPAN("well"), got), 1);
    ck_assert(got[0] == 0 && got[1] == 0);
}
END_TEST

static void write_good(void)
{
    write_text("config.json", CONFIG);
    write_text("tokenizer.json", BERT(VOCAB4));
    write_table(TABLE4, 0, table4, sizeof(table4));
}

START_TEST(files_missing)
{
    const char *file = file_names[_i];

    write_good();
    ck_assert_str_eq(load_error(), "loaded");
    ck_assert_int_eq(unlink(path_of(file)), 0);
    check_error("missing", file, "cannot open: No such file");
    ck_assert_int_eq(mkdir(path_of(file), 0700), 0);
    check_error("a directory", file, "not a regular file");
    ck_assert_int_eq(rmdir(path_of(file)), 0);
    ck_assert_int_eq(mkfifo(path_of(file), 0600), 0);
    check_error("a FIFO", file, "not a regular file");
    ck_assert_int_eq(unlink(path_of(file)), 0);
    write_text(file, "");
    check_error("empty", file, "empty file");
}
END_TEST

START_TEST(safetensors_cut_anywhere)
{
    unsigned char all[8 + sizeof(TABLE4) - 1 + sizeof(table4)];
    FILE *in;
    size_t len;

    write_good();
    in = fopen(path_of("model.safetensors"), "rb");
    ck_assert_ptr_nonnull(in);
    ck_assert_uint_eq(fread(all, 1, sizeof(all), in), sizeof(all));
    fclose(in);
    for (len = 0; len < sizeof(all); len++) {
        write_file("model.safetensors", all, len);
        check_error("cut", "model.safetensors", "");
    }
    write_file("model.safetensors", all, len);
    ck_assert_str_eq(load_error(), "loaded");
}
END_TEST

START_TEST(digest_of_the_files)
{
    char first[65];
    float got[2];
    aip_model2vec_t *model;

    write_good();
    model = load(dir);
    ck_assert_int_eq(aip_model2vec_dims(model), 2);
    ck_assert_uint_eq(strlen(aip_model2vec_digest(model)), 64);
    ck_assert_uint_eq(strspn(aip_model2vec_digest(model), "0123456789abcdef"), 64);
    memcpy(first, aip_model2vec_digest(model), sizeof(first));
    ck_assert_str_eq(aip_model2vec_digest(load(dir)), first);
    ck_assert_uint_eq(aip_model2vec_embed(model, AIP_SPAN("Ink!"), got), 1);
    ck_assert_double_eq_tol((double)got[0], 0.6, 1e-7);
    ck_assert_double_eq_tol((double)got[1], 0.8, 1e-7);
    write_text("config.json", CONFIG " ");
    ck_assert_str_ne(aip_model2vec_digest(load(dir)), first);
    write_good();
    write_text("tokenizer.json", " " BERT(VOCAB4));
    ck_assert_str_ne(aip_model2vec_digest(load(dir)), first);
    write_good();
    write_table(TABLE4, 0, "\0\0\3\4\1\2\144\1", 8);
    ck_assert_str_ne(aip_model2vec_digest(load(dir)), first);
    write_good();
    ck_assert_str_eq(aip_model2vec_digest(load(dir)), first);
}
END_TEST

Suite *model2vec_suite(void)
{
    Suite *suite = suite_create("model2vec");
    TCase *model = tcase_create("model"), *broken = tcase_create("broken");

    tcase_add_checked_fixture(model, setup, teardown);
    tcase_set_timeout(model, 120);
    tcase_add_test(model, reference_vectors);
    tcase_add_loop_test(model, float_models_equal_int8, 0, 2);
    tcase_add_test(model, half_floats);
    tcase_add_test(model, texts_without_tokens);
    tcase_add_test(model, same_tokens);
    tcase_add_test(model, ids_beyond_max);
    tcase_add_test(model, greedy_pieces);
    tcase_add_test(model, canonical_order);
    tcase_add_test(model, added_tokens);
    tcase_add_test(model, max_length);
    tcase_add_test(model, sum_of_many_tokens);
    tcase_add_test(model, linear_time);
    tcase_add_test(model, a_word_of_a_megabyte);
    tcase_add_test(model, digest_of_the_files);
    suite_add_tcase(suite, model);
    tcase_add_checked_fixture(broken, setup, teardown);
    tcase_add_loop_test(broken, broken_json, 0, JSON_ROWS);
    tcase_add_loop_test(broken, broken_table, 0, TABLE_ROWS);
    tcase_add_test(broken, table_against_config);
    tcase_add_loop_test(broken, values_not_finite, 0, 7);
    tcase_add_test(broken, values_changed_later);
    tcase_add_loop_test(broken, files_missing, 0, 3);
    tcase_add_test(broken, safetensors_cut_anywhere);
    suite_add_tcase(suite, broken);
    return suite;
}
