/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_EMBEDDINGS_WORDPIECE_H
#define AIP_EMBEDDINGS_WORDPIECE_H
/* BERT's tokenizer, private to the local embedder: UTF-8 text -> WordPiece token ids, equal to the
 * public tokenizers library with BertNormalizer (uncased), BertPreTokenizer and WordPiece. */

#include "aip/aip.h"

#include <stdint.h>

enum {
    AIP_WORDPIECE_WORD_MAX = 200, /* upper limit of word_chars */
    AIP_WORDPIECE_ADDED_MAX = 64  /* upper limit of added_count */
};

/** A node of the byte trie: its children are the nodes from `first` up to the next node's `first`.
 */
typedef struct aip_wordpiece_node_t {
    uint32_t first;
    int32_t id; /* of the token that ends here, or -1 */
} aip_wordpiece_node_t;

/** One token of the vocabulary, NUL-terminated; continuations carry "##". */
typedef struct aip_wordpiece_token_t {
    const char *text;
    int id;
} aip_wordpiece_token_t;

/** Read-only after aip_wordpiece_build(), hence safe for all threads. The fields from `unk` on are
 * set by the caller. */
typedef struct aip_wordpiece_t {
    const aip_wordpiece_node_t *nodes;
    const unsigned char *labels; /* the byte that leads to each node */
    uint32_t start[256];         /* nodes reached from the root by one byte; 0 = none */
    uint32_t continuation[256];  /* the same after "##" */
    int unk; /* id of the unknown token; never emitted, but it counts against max_tokens */
    unsigned word_chars; /* longer words are unknown */
    size_t max_tokens;   /* 0 = no limit */
    size_t max_chars;    /* code points of the text that are looked at; 0 = no limit */
    const aip_wordpiece_token_t
        *added; /* ASCII literals that are tokens wherever they stand in the text */
    unsigned added_count;
} aip_wordpiece_t;

/**
 * Builds the trie of a vocabulary. Time and memory are linear in the tokens' bytes, apart from the
 * sort.
 * @param tokens  distinct texts; sorted in place, not kept
 * @param scratch pool for what is needed meanwhile
 */
void aip_wordpiece_build(aip_wordpiece_t *wp, aip_wordpiece_token_t *tokens, size_t count,
                         apr_pool_t *pool, apr_pool_t *scratch);

/** Id of a token of exactly this text, "##" included; -1 if there is none. */
int aip_wordpiece_find(const aip_wordpiece_t *wp, const char *text);

typedef void (*aip_wordpiece_emit_t)(void *ctx, int id);

/** Calls `emit` for each token of the text, in order. Linear time, bounded stack, no allocation. */
void aip_wordpiece_run(const aip_wordpiece_t *wp, aip_span_t text, aip_wordpiece_emit_t emit,
                       void *ctx);

/** Reads one code point (U+FFFD for each maximal bad sequence, as Python's errors="replace") and
 * moves *at. */
uint32_t aip_wordpiece_decode(const unsigned char **at, const unsigned char *end);

#endif
