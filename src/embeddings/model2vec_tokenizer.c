/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json of the local embedder: refuses every tokenizer but BERT's uncased WordPiece, which
 * is the one that wordpiece.c implements, and builds that from the vocabulary. Runs while a model
 * is loaded. */

#include "model2vec_private.h"

#include <apr_strings.h>

#include <stdlib.h>

enum { VOCABULARY_MAX = 4 * 1024 * 1024 };

static const char tokenizer_name[] = "tokenizer.json";

static apr_status_t check_steps(aip_m2v_load_t *l, const json_t *root)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *accents = json_object_get(normalizer, "strip_accents");

    if (!aip_m2v_has_string(normalizer, "type", "BertNormalizer")) {
        return aip_m2v_refuse(l, tokenizer_name, "the normalizer's type is not \"BertNormalizer\"");
    }
    if (!json_is_true(json_object_get(normalizer, "clean_text"))
        || !json_is_true(json_object_get(normalizer, "handle_chinese_chars"))
        || !json_is_true(json_object_get(normalizer, "lowercase"))
        || (accents && !json_is_null(accents) && !json_is_true(accents))) {
        return aip_m2v_refuse(
            l, tokenizer_name,
            "the normalizer must clean, set ideographs apart, strip accents and lower-case");
    }
    if (!aip_m2v_has_string(json_object_get(root, "pre_tokenizer"), "type", "BertPreTokenizer")) {
        return aip_m2v_refuse(l, tokenizer_name,
                              "the pre_tokenizer's type is not \"BertPreTokenizer\"");
    }
    return APR_SUCCESS;
}

static apr_status_t check_wordpiece(aip_m2v_load_t *l, const json_t *model)
{
    const json_t *chars = json_object_get(model, "max_input_chars_per_word");

    if (!aip_m2v_has_string(model, "type", "WordPiece")) {
        return aip_m2v_refuse(l, tokenizer_name, "the model's type is not \"WordPiece\"");
    }
    if (!aip_m2v_has_string(model, "continuing_subword_prefix", "##")) {
        return aip_m2v_refuse(l, tokenizer_name, "\"continuing_subword_prefix\" is not \"##\"");
    }
    if (!json_is_integer(chars) || json_integer_value(chars) < 1
        || json_integer_value(chars) > AIP_WORDPIECE_WORD_MAX) {
        return aip_m2v_refuse(l, tokenizer_name,
                              "\"max_input_chars_per_word\" is not a number from 1 to %d",
                              (int)AIP_WORDPIECE_WORD_MAX);
    }
    l->model->wordpiece.word_chars = (unsigned)json_integer_value(chars);
    return APR_SUCCESS;
}

/** Every id from 0 to V - 1 must occur once: a row without a token, or a token without a row, is a
 * mix-up of files. */
static apr_status_t collect_tokens(aip_m2v_load_t *l, json_t *vocab, aip_wordpiece_token_t *tokens)
{
    unsigned char *seen = apr_pcalloc(l->scratch, l->vocabulary);
    size_t used = 0;
    const char *text;
    json_t *value;

    json_object_foreach(vocab, text, value)
    {
        json_int_t id = json_integer_value(value);

        if (!json_is_integer(value) || id < 0 || (apr_uint64_t)id >= l->vocabulary) {
            return aip_m2v_refuse(l, tokenizer_name,
                                  "the vocabulary of %" APR_SIZE_T_FMT
                                  " tokens has an id that is not in 0..%" APR_SIZE_T_FMT,
                                  l->vocabulary, l->vocabulary - 1);
        }
        if (seen[id]) {
            return aip_m2v_refuse(l, tokenizer_name, "the vocabulary has the id %d twice", (int)id);
        }
        seen[id] = 1;
        tokens[used++] = (aip_wordpiece_token_t){.text = text, .id = (int)id};
    }
    return APR_SUCCESS;
}

static int compare_sizes(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return x < y ? -1 : x > y;
}

/** The library cuts a text at max_length x this many characters before it counts tokens. */
static size_t median_chars(aip_m2v_load_t *l, const aip_wordpiece_token_t *tokens)
{
    size_t n = l->vocabulary, i, *chars = apr_palloc(l->scratch, n * sizeof(*chars));
    const char *c;

    for (i = 0; i < n; i++) {
        for (chars[i] = 0, c = tokens[i].text; *c; c++) {
            chars[i] += (*c & 0xC0) != 0x80;
        }
    }
    qsort(chars, n, sizeof(*chars), compare_sizes);
    return n % 2 ? chars[n / 2] : (chars[n / 2 - 1] + chars[n / 2]) / 2;
}

static apr_status_t read_vocabulary(aip_m2v_load_t *l, const json_t *model)
{
    json_t *vocab = json_object_get(model, "vocab");
    const char *unk = json_string_value(json_object_get(model, "unk_token"));
    aip_wordpiece_t *wp = &l->model->wordpiece;
    aip_wordpiece_token_t *tokens;
    apr_status_t rv;

    l->vocabulary = json_object_size(vocab);
    if (!json_is_object(vocab) || l->vocabulary == 0 || l->vocabulary > VOCABULARY_MAX) {
        return aip_m2v_refuse(l, tokenizer_name, "\"vocab\" is not an object of 1 to %d tokens",
                              (int)VOCABULARY_MAX);
    }
    tokens = apr_palloc(l->scratch, l->vocabulary * sizeof(*tokens));
    rv = collect_tokens(l, vocab, tokens);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (l->max_length) {
        wp->max_tokens = l->max_length;
        wp->max_chars = l->max_length * median_chars(l, tokens);
    }
    aip_wordpiece_build(wp, tokens, l->vocabulary, l->pool, l->scratch);
    wp->unk = unk ? aip_wordpiece_find(wp, unk) : -1;
    if (wp->unk < 0) {
        return aip_m2v_refuse(l, tokenizer_name, "\"unk_token\" is not a token of the vocabulary");
    }
    return APR_SUCCESS;
}

static bool is_ascii_literal(const char *text)
{
    const char *c;

    for (c = text; *c > 0x20 && *c < 0x7F; c++) {
    }
    return c > text && *c == '\0';
}

static apr_status_t read_added_token(aip_m2v_load_t *l, const json_t *item,
                                     aip_wordpiece_token_t *out)
{
    const json_t *id = json_object_get(item, "id");
    const char *text = json_string_value(json_object_get(item, "content"));

    if (!text || !is_ascii_literal(text) || !json_is_integer(id) || json_integer_value(id) < 0
        || json_integer_value(id) != aip_wordpiece_find(&l->model->wordpiece, text)) {
        return aip_m2v_refuse(
            l, tokenizer_name,
            "an added token is not printable ASCII or not in the vocabulary under its id");
    }
    if (!json_is_false(json_object_get(item, "single_word"))
        || !json_is_false(json_object_get(item, "lstrip"))
        || !json_is_false(json_object_get(item, "rstrip"))
        || !json_is_false(json_object_get(item, "normalized"))) {
        return aip_m2v_refuse(
            l, tokenizer_name,
            "the added token \"%s\" is not matched literally (single_word, lstrip, rstrip "
            "and normalized must be false)",
            text);
    }
    *out = (aip_wordpiece_token_t){.text = apr_pstrdup(l->pool, text),
                                   .id = (int)json_integer_value(id)};
    return APR_SUCCESS;
}

static apr_status_t read_added_tokens(aip_m2v_load_t *l, const json_t *root)
{
    const json_t *list = json_object_get(root, "added_tokens");
    size_t count = json_array_size(list), i;
    aip_wordpiece_token_t *added;

    if (!list || json_is_null(list)) {
        return APR_SUCCESS;
    }
    if (!json_is_array(list) || count > AIP_WORDPIECE_ADDED_MAX) {
        return aip_m2v_refuse(l, tokenizer_name,
                              "\"added_tokens\" is not an array of at most %d tokens",
                              (int)AIP_WORDPIECE_ADDED_MAX);
    }
    added = apr_palloc(l->pool, (count + 1) * sizeof(*added));
    for (i = 0; i < count; i++) {
        apr_status_t rv = read_added_token(l, json_array_get(list, i), &added[i]);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    l->model->wordpiece.added = added;
    l->model->wordpiece.added_count = (unsigned)count;
    return APR_SUCCESS;
}

apr_status_t aip_m2v_read_tokenizer(aip_m2v_load_t *l, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    apr_status_t rv = check_steps(l, root);

    if (rv == APR_SUCCESS) {
        rv = check_wordpiece(l, model);
    }
    if (rv == APR_SUCCESS) {
        rv = read_vocabulary(l, model);
    }
    return rv == APR_SUCCESS ? read_added_tokens(l, root) : rv;
}
