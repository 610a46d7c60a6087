/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_MODEL2VEC_FILES_H
#define AIP_T_UNIT_MODEL2VEC_FILES_H
/* What the tests of the local embedder share: a directory for each test, and the three files of a
 * small model, each written as the test wants it. */

#include "aip/model2vec.h"

#include <apr_file_io.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

enum { IDS_MAX = 4096 };

static const char *const file_names[] = {"config.json", "tokenizer.json", "model.safetensors"};

static const char *dir; /* for models made here */

static void setup(void)
{
    const char *temp;
    char *made;

    pool_setup();
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
    pool_teardown();
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
#define NORMALIZER(type, lower)                                                                    \
    "{\"type\":\"" type "\",\"clean_text\":true,\"handle_chinese_chars\":true,"                    \
    "\"strip_accents\":null,\"lowercase\":" lower "}"
#define WORDPIECE(vocab)                                                                           \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","        \
    "\"max_input_chars_per_word\":100,\"vocab\":" vocab "}"
#define TOKENIZER(added, normalizer, pre, model)                                                   \
    "{\"added_tokens\":" added ",\"normalizer\":" normalizer ",\"pre_tokenizer\":{\"type\":\"" pre \
    "\"},\"model\":" model "}"
#define BERT(vocab)                                                                                \
    TOKENIZER("[]", NORMALIZER("BertNormalizer", "true"), "BertPreTokenizer", WORDPIECE(vocab))
#define TABLE(dtype, shape, offsets)                                                               \
    "{\"embeddings\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

#define ADDED(id, text)                                                                            \
    "{\"id\":" id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,"              \
    "\"rstrip\":false,\"normalized\":false,\"special\":true}"

#define CONFIG_MAX(max) "{\"model_type\":\"model2vec\",\"normalize\":true" max "}"

/* Marks that are kept, of class 216 and 226; U+0301 (230) and U+0902 (0) vanish. */
#define STEM "\xf0\x9d\x85\xa5" /* U+1D165 */
#define DOT "\xf0\x9d\x85\xad"  /* U+1D16D */
#define FLAG "\xf0\x9d\x85\xae" /* U+1D16E, of STEM's class */

/* ---- loading and asking ---- */

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

/** The ids of a text, with spaces between them. */
static inline const char *ids_of(const aip_model2vec_t *model, aip_span_t text)
{
    static int ids[IDS_MAX];
    size_t count = aip_model2vec_tokenize(model, text, ids, IDS_MAX), i;
    const char *out = "";

    ck_assert_uint_le(count, IDS_MAX);
    for (i = 0; i < count; i++) {
        out = apr_psprintf(pool, "%s%s%d", out, i ? " " : "", ids[i]);
    }
    return out;
}

static inline const char *repeat(const char *what, size_t times)
{
    size_t len = strlen(what), i;
    char *out = apr_palloc(pool, len * times + 1);

    for (i = 0; i < times; i++) {
        memcpy(out + i * len, what, len);
    }
    out[len * times] = '\0';
    return out;
}

#endif
