/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the local embedder's tokenizer on the shipped model. What must hold: no more tokens than
 * characters; each is one of the vocabulary, and more room changes nothing; words do not see each
 * other: what stands on two sides of a line end has the tokens of both; the vector is finite, of
 * length one or zero, and the same each time. t/differential.py compares the tokens with those of
 * the public library. */

#include "fuzz.h"

#include "aip/model2vec.h"

#include <math.h>

#define MOST 4096

static aip_model2vec_t *model;

static size_t tokens_of(const char *text, size_t len, int *ids)
{
    char *copy = fuzz_copy(text, len);
    const size_t n = aip_model2vec_tokenize(model, (aip_span_t){copy, len}, ids, MOST);

    free(copy);
    return n;
}

static void check_vector(aip_span_t text, bool any)
{
    const int dims = aip_model2vec_dims(model);
    float *vector = malloc((size_t)dims * sizeof *vector),
          *again = malloc((size_t)dims * sizeof *again);
    double sum = 0;

    require(vector && again);
    const size_t n = aip_model2vec_embed(model, text, vector);
    require((n > 0) == any);
    for (int i = 0; i < dims; i++) {
        require(isfinite(vector[i]));
        sum += (double)vector[i] * (double)vector[i];
    }
    require(sum == 0 || fabs(sum - 1) < 1e-5);
    require(any || sum == 0);
    require(aip_model2vec_embed(model, text, again) == n);
    require(memcmp(vector, again, (size_t)dims * sizeof *vector) == 0);
    free(vector);
    free(again);
}

/* A line end stands alone: the library's normalizer makes a space of it. The model looks at no more
 * than so many tokens, so short texts only. */
static void check_halves(const char *text, size_t len, const int *ids, size_t n)
{
    static int parts[2 * MOST];
    const char *end = len ? memchr(text, '\n', len) : NULL;

    if (!end || len > 256)
        return;
    const size_t first = (size_t)(end - text), a = tokens_of(text, first, parts),
                 b = tokens_of(end + 1, len - first - 1, parts + a);
    require(a + b == n && memcmp(parts, ids, n * sizeof *ids) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static apr_pool_t *forever;
    static int ids[MOST];
    const char *error = NULL;

    if (size > MOST)
        return 0;
    if (!model) {
        apr_pool_create(&forever, (fuzz_pool(), NULL));
        require(aip_model2vec_load(&model, AIP_EMBEDDER_DIR "/aip-static-en-v1", forever, &error) ==
                APR_SUCCESS);
    }
    char *copy = fuzz_copy(data, size);
    const size_t n = tokens_of(copy, size, ids);
    require(n <= size);
    for (size_t i = 0; i < n; i++)
        require(ids[i] >= 0);
    require(aip_model2vec_tokenize(model, (aip_span_t){copy, size}, ids, n / 2) == n);
    check_vector((aip_span_t){copy, size}, n > 0);
    check_halves(copy, size, ids, tokens_of(copy, size, ids));
    free(copy);
    apr_pool_clear(fuzz_pool());
    return 0;
}
