/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_EMBEDDINGS_MODEL2VEC_PRIVATE_H
#define AIP_EMBEDDINGS_MODEL2VEC_PRIVATE_H
/* What the files of the local embedder share: the model, and the state of its loading.
 * model2vec.c embeds, model2vec_load.c reads the directory, model2vec_tokenizer.c checks
 * tokenizer.json. */

#include "aip/model2vec.h"

#include "wordpiece.h"

#include <jansson.h>
#include <openssl/evp.h>

#include <string.h>

/** Bounds the stack of aip_model2vec_embed(). */
enum { AIP_M2V_DIMS_MAX = 2048 };

typedef enum aip_m2v_dtype_t { AIP_M2V_I8, AIP_M2V_F16, AIP_M2V_F32 } aip_m2v_dtype_t;

struct aip_model2vec_t {
    aip_wordpiece_t wordpiece;
    const unsigned char *rows; /* in the mapping, little-endian, perhaps unaligned */
    size_t dims;
    size_t row_bytes;
    aip_m2v_dtype_t dtype;
    char digest[2 * EVP_MAX_MD_SIZE + 1];
    void *map;
    size_t map_len;
};

/** What is known while a model is loaded. */
typedef struct aip_m2v_load_t {
    aip_model2vec_t *model;
    apr_pool_t *pool;    /* the model's */
    apr_pool_t *scratch; /* gone when loading ends */
    const char *dir;
    const char *error;
    EVP_MD_CTX *digest;
    size_t vocabulary;        /* tokens = rows */
    apr_uint64_t config_dims; /* 0: not stated */
    const char *config_dtype; /* NULL: not stated */
    size_t max_length;        /* tokens of a text that count; 0: all */
} aip_m2v_load_t;

/** Sets the error to "dir/file: ..." and returns APR_EGENERAL. */
apr_status_t aip_m2v_refuse(aip_m2v_load_t *load, const char *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** Whether the object has this string member. */
bool aip_m2v_has_string(const json_t *object, const char *key, const char *expected);

/** Checks tokenizer.json and builds the model's tokenizer from it. Needs max_length, sets
 * vocabulary. */
apr_status_t aip_m2v_read_tokenizer(aip_m2v_load_t *load, const json_t *root);

static inline apr_uint16_t aip_m2v_le16(const unsigned char *p)
{
    apr_uint16_t v;

    memcpy(&v, p, sizeof(v));
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap16(v) : v;
}

static inline apr_uint32_t aip_m2v_le32(const unsigned char *p)
{
    apr_uint32_t v;

    memcpy(&v, p, sizeof(v));
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(v) : v;
}

#endif
