/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_MODEL2VEC_H
#define AIP_MODEL2VEC_H
/* The local embedder: a static embedding table in the public model2vec format, read-only in memory
 * (mmap), one copy for all children. Text -> BERT WordPiece tokens -> sum of table rows -> unit
 * length. */

#include "aip/aip.h"

typedef struct aip_model2vec_t aip_model2vec_t;

/**
 * Loads config.json, tokenizer.json (BERT normalizer and pre-tokenizer, WordPiece) and
 * model.safetensors (tensor "embeddings", [V, D], I8, F16 or F32) from `dir`. Any other or broken
 * file is refused, never trusted. The model lives as long as `pool`; it survives fork() and is safe
 * for all threads.
 * @param error  out on failure: one sentence naming the file and what is wrong with it
 */
apr_status_t aip_model2vec_load(aip_model2vec_t **model, const char *dir, apr_pool_t *pool,
                                const char **error);

/** D, the length of its vectors. */
int aip_model2vec_dims(const aip_model2vec_t *model);

/** Hex SHA-256 of the model's files: part of every cache key. */
const char *aip_model2vec_digest(const aip_model2vec_t *model);

/**
 * Embeds UTF-8 text (bad bytes count as U+FFFD, which the tokenizer drops). Linear time, no
 * allocation, any length.
 * @param vector  out, float[D], unit length; all zero when the text has no known token
 * @return tokens used
 */
size_t aip_model2vec_embed(const aip_model2vec_t *model, aip_span_t text, float *vector);

/** Token ids of a text as the public tokenizers library gives them, [UNK] left out; for tests and
 * tools.
 * @return how many there are, also when that is more than max */
size_t aip_model2vec_tokenize(const aip_model2vec_t *model, aip_span_t text, int *ids, size_t max);

#endif
