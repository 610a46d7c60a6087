/* SPDX-License-Identifier: Apache-2.0 */
/* The local embedder's model directory: every way in which it can be broken and how that is told,
 * values that are not finite, and the digest of its files. */

#include <sys/stat.h>

#include "model2vec_files.h"

Suite *model2vec_files_suite(void);

/* The broken models are this one with one thing changed. */
#define VOCAB4 "{\"[UNK]\":0,\"ink\":1,\"##s\":2,\"well\":3}"
#define TABLE4 TABLE("I8", "[4,2]", "[0,8]")

static const signed char table4[8] = {0, 0, 3, 4, -1, 2, 100, -100};

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

static void write_good(void)
{
    write_text("config.json", CONFIG);
    write_text("tokenizer.json", BERT(VOCAB4));
    write_table(TABLE4, 0, table4, sizeof(table4));
}

#define BAD_BERT(normalizer, pre, model) TOKENIZER("[]", normalizer, pre, model)
#define GOOD_NORMALIZER NORMALIZER("BertNormalizer", "true")
#define MODEL(type, unk, prefix, chars)                                                            \
    "{\"type\":\"" type "\",\"unk_token\":" unk ",\"continuing_subword_prefix\":\"" prefix         \
    "\",\"max_input_chars_per_word\":" chars ",\"vocab\":" VOCAB4 "}"

static const struct json_row_t {
    const char *name, *config, *tokenizer; /* NULL: the good one */
    const char *want;
} json_rows[] = {
    {"config cut", "{\"model_type\":", NULL, "not valid JSON (line 1)"},
    {"config empty", "", NULL, "empty file"},
    {"config an array", "[]", NULL, "not a JSON object"},
    {"config member twice", "{\"normalize\":true,\"normalize\":true}", NULL, "duplicate"},
    {"config of another model", "{\"model_type\":\"bert\",\"normalize\":true}", NULL,
     "\"model_type\""},
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
    {"wrong normalizer", NULL,
     BAD_BERT(NORMALIZER("NFC", "true"), "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "the normalizer's type is not \"BertNormalizer\""},
    {"cased", NULL,
     BAD_BERT(NORMALIZER("BertNormalizer", "false"), "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "lower-case"},
    {"keeps accents", NULL,
     BAD_BERT("{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
              "\"strip_accents\":false,\"lowercase\":true}",
              "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "strip accents"},
    {"pre_tokenizer", NULL, BAD_BERT(GOOD_NORMALIZER, "Whitespace", WORDPIECE(VOCAB4)),
     "the pre_tokenizer's"},
    {"BPE", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("BPE", "\"[UNK]\"", "##", "100")),
     "the model's type"},
    {"prefix", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"[UNK]\"", "@@", "100")),
     "\"continuing_subword_prefix\""},
    {"no limit", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"[UNK]\"", "##", "null")),
     "\"max_input_chars_per_word\""},
    {"long words", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"[UNK]\"", "##", "201")),
     "\"max_input_chars_per_word\" is not a number from 1 to 200"},
    {"unk not there", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"<u>\"", "##", "100")),
     "\"unk_token\""},
    {"unk a part of a token", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "\"in\"", "##", "100")),
     "\"unk_token\""},
    {"unk null", NULL,
     BAD_BERT(GOOD_NORMALIZER, "BertPreTokenizer", MODEL("WordPiece", "null", "##", "100")),
     "\"unk_token\""},
    {"vocabulary empty", NULL, BERT("{}"), "\"vocab\""},
    {"vocabulary an array", NULL, BERT("[\"[UNK]\"]"), "\"vocab\""},
    {"hole", NULL, BERT("{\"[UNK]\":0,\"ink\":1,\"##s\":2,\"well\":4}"),
     "an id that is not in 0..3"},
    {"negative id", NULL, BERT("{\"[UNK]\":0,\"ink\":-1,\"##s\":2,\"well\":3}"),
     "an id that is not in 0..3"},
    {"id is text", NULL, BERT("{\"[UNK]\":0,\"ink\":\"1\",\"##s\":2,\"well\":3}"),
     "an id that is not in"},
    {"id is a fraction", NULL, BERT("{\"[UNK]\":0,\"ink\":1.0,\"##s\":2,\"well\":3}"),
     "an id that is not in"},
    {"huge id", NULL, BERT("{\"[UNK]\":0,\"ink\":4294967297,\"##s\":2,\"well\":3}"),
     "an id that is not in"},
    {"id twice", NULL, BERT("{\"[UNK]\":0,\"ink\":1,\"##s\":1,\"well\":3}"), "the id 1 twice"},
    {"token twice", NULL, BERT("{\"[UNK]\":0,\"ink\":1,\"ink\":2,\"well\":3}"), "duplicate"},
    {"added tokens an object", NULL,
     TOKENIZER("{}", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)), "\"added_tokens\""},
    {"added with another id", NULL,
     TOKENIZER("[" ADDED("2", "ink") "]", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "under its id"},
    {"added not in the vocabulary", NULL,
     TOKENIZER("[" ADDED("-1", "pen") "]", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "under its id"},
    {"added empty", NULL,
     TOKENIZER("[" ADDED("-1", "") "]", GOOD_NORMALIZER, "BertPreTokenizer", WORDPIECE(VOCAB4)),
     "printable ASCII"},
    {"added without rules", NULL,
     TOKENIZER("[{\"id\":1,\"content\":\"ink\"}]", GOOD_NORMALIZER, "BertPreTokenizer",
               WORDPIECE(VOCAB4)),
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
    {"header length overflows with 8 added", TABLE4, UINT64_MAX - 7, 8,
     "beyond the end of the file"},
    {"header too short", TABLE4, 10, 8, "not valid JSON"},
    {"header into the data", TABLE4, sizeof(TABLE4) + 3, 8, "not valid JSON"},
    {"header an array", "[]", 0, 8, "not a JSON object"},
    {"header empty", "", 0, 8, "not valid JSON"},
    {"other tensor",
     "{\"embedding.weight\":{\"dtype\":\"I8\",\"shape\":[4,2],\"data_offsets\":[0,8]}}", 0, 8,
     "no tensor \"embeddings\""},
    {"tensor is a number", "{\"embeddings\":1}", 0, 8, "no tensor \"embeddings\""},
    {"tensor twice", "{\"embeddings\":{},\"embeddings\":{}}", 0, 8, "duplicate"},
    {"more tensors",
     "{\"embeddings\":{\"dtype\":\"I8\",\"shape\":[4,2],\"data_offsets\":[0,8]},"
     "\"weights\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}",
     0, 24, "a tensor besides"},
    {"wrong dtype", TABLE("BF16", "[4,2]", "[0,16]"), 0, 16, "not I8, F16 or F32"},
    {"unsigned", TABLE("U8", "[4,2]", "[0,8]"), 0, 8, "not I8, F16 or F32"},
    {"no dtype", "{\"embeddings\":{\"shape\":[4,2],\"data_offsets\":[0,8]}}", 0, 8,
     "not I8, F16 or F32"},
    {"rows missing", TABLE("I8", "[3,2]", "[0,6]"), 0, 6,
     "has 3 rows, but tokenizer.json has 4 tokens"},
    {"rows too many", TABLE("I8", "[5,2]", "[0,10]"), 0, 10,
     "has 5 rows, but tokenizer.json has 4"},
    {"one dimension", TABLE("I8", "[8]", "[0,8]"), 0, 8, "the shape"},
    {"three dimensions", TABLE("I8", "[4,2,1]", "[0,8]"), 0, 8, "the shape"},
    {"negative", TABLE("I8", "[4,-2]", "[0,8]"), 0, 8, "the shape"},
    {"fractions", TABLE("I8", "[4.0,2.0]", "[0,8]"), 0, 8, "the shape"},
    {"no dims", TABLE("I8", "[4,0]", "[0,0]"), 0, 0, "has 0 dimensions, not 1 to 2048"},
    {"huge dims", TABLE("I8", "[4,2049]", "[0,8196]"), 0, 8196,
     "has 2049 dimensions, not 1 to 2048"},
    {"dims overflow", TABLE("I8", "[4,4611686018427387906]", "[0,8]"), 0, 8,
     "dimensions, not 1 to 2048"},
    {"dims beyond 64 bits", TABLE("I8", "[4,99999999999999999999]", "[0,8]"), 0, 8,
     "not valid JSON"},
    {"offset not 0", TABLE("I8", "[4,2]", "[1,9]"), 0, 9, "the data_offsets"},
    {"offsets out of range", TABLE("I8", "[4,2]", "[0,16]"), 0, 8, "the data_offsets"},
    {"offsets of less than the rows", TABLE("I8", "[4,2]", "[1,8]"), 0, 8, "the data_offsets"},
    {"offsets reversed", TABLE("I8", "[4,2]", "[8,0]"), 0, 8, "the data_offsets"},
    {"offsets negative", TABLE("I8", "[4,2]", "[-8,0]"), 0, 8, "the data_offsets"},
    {"offsets overflow", TABLE("I8", "[4,2]", "[9223372036854775800,9223372036854775807]"), 0, 8,
     "the data_offsets"},
    {"offsets missing", "{\"embeddings\":{\"dtype\":\"I8\",\"shape\":[4,2]}}", 0, 8,
     "the data_offsets"},
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
    write_good();
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
        {"F32 NaN", TABLE("F32", "[4,2]", "[0,32]"), 4, 0x7FC00000,
         "row 2 has a value that is not finite"},
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
        ck_assert_msg(got[0] == 0 && got[1] == 1, "%s: %g %g", rows[_i].name, (double)got[0],
                      (double)got[1]);
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

Suite *model2vec_files_suite(void)
{
    Suite *suite = suite_create("model2vec_files");
    TCase *tc = tcase_create("model2vec_files");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, digest_of_the_files);
    tcase_add_loop_test(tc, broken_json, 0, JSON_ROWS);
    tcase_add_loop_test(tc, broken_table, 0, TABLE_ROWS);
    tcase_add_test(tc, table_against_config);
    tcase_add_loop_test(tc, values_not_finite, 0, 7);
    tcase_add_test(tc, values_changed_later);
    tcase_add_loop_test(tc, files_missing, 0, 3);
    tcase_add_test(tc, safetensors_cut_anywhere);
    suite_add_tcase(suite, tc);
    return suite;
}
