/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the reader of embeddings answers against one that stands on jansson and OpenSSL's base64.
 * The first byte chooses how many vectors of how many dimensions are expected (low and high half,
 * plus one), the rest is the answer. What must hold: both accept the same answers and have the same
 * vectors of them; what is accepted is finite, not zero and normalisable; a refusal has a reason.
 */

#include "fuzz.h"

#include "aip/embeddings.h"
#include "aip/json.h"

#include <jansson.h>
#include <math.h>
#include <openssl/evp.h>

#define MOST 16

/* Padded base64 of little-endian floats. */
static bool other_base64(const char *text, size_t len, int dims, float *vector)
{
    unsigned char bytes[3 * (MOST * 4 / 3 + 2)];
    const size_t want = (size_t)dims * 4, digits = (want + 2) / 3 * 4,
                 padding = digits / 4 * 3 - want;

    /* EVP_DecodeBlock() forgives white space, and padding in the wrong place */
    if (len != digits ||
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                     "0123456789+/") != digits - padding ||
        (padding && text[len - 1] != '=') || (padding == 2 && text[len - 2] != '='))
        return false;
    require(EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len) >= (int)want);
    memcpy(vector, bytes, want);
    return true;
}

static bool other_numbers(const json_t *array, int dims, float *vector)
{
    if (json_array_size(array) != (size_t)dims)
        return false;
    for (int i = 0; i < dims; i++) {
        const json_t *item = json_array_get(array, (size_t)i);

        vector[i] = (float)json_number_value(item);
        if (!json_is_number(item) || !isfinite(vector[i]))
            return false;
    }
    return true;
}

static bool other_item(const json_t *item, int n, int dims, float *vectors, bool *seen)
{
    const json_t *index = json_object_get(item, "index"),
                 *value = json_object_get(item, "embedding");
    const json_int_t i = json_is_integer(index) ? json_integer_value(index) : -1;

    if (i < 0 || i >= n || seen[i])
        return false;
    seen[i] = true;
    float *vector = vectors + i * dims, sum = 0;
    if (json_is_string(value)
            ? !other_base64(json_string_value(value), json_string_length(value), dims, vector)
            : !other_numbers(value, dims, vector))
        return false;
    for (int k = 0; k < dims; k++) {
        if (!isfinite(vector[k]))
            return false;
        sum = vector[k] != 0 ? 1 : sum;
    }
    return sum > 0;
}

static bool other_read(const json_t *root, int n, int dims, float *vectors)
{
    const json_t *data = json_object_get(root, "data");
    bool seen[MOST] = {false};

    if (!json_is_array(data) || json_array_size(data) != (size_t)n)
        return false;
    for (int i = 0; i < n; i++) {
        if (!other_item(json_array_get(data, (size_t)i), n, dims, vectors, seen))
            return false;
    }
    return true;
}

/* What we refuse or take otherwise on purpose: nesting deeper than 200, members twice where they
 * matter, a NUL behind a number, which jansson overlooks, numbers that it finds too large, a lone
 * surrogate or NUL in an escape. */
static bool may_differ(const char *text, size_t len, const json_t *root, const json_error_t *error)
{
    aip_json_error_t fault;
    const aip_span_t all = {text, len};

    if ((len && memchr(text, 0, len)) || aip_json_validate(all, &fault) == AIP_JSON_DEPTH)
        return true;
    if (root) { /* jansson can be asked to refuse all duplicates */
        json_t *strict = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);

        json_decref(strict);
        return !strict;
    }
    const enum json_error_code code = json_error_code(error);
    return code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
           strstr(error->text, "invalid Unicode");
}

static void check_accepted(const float *vectors, int n, int dims)
{
    float copy[MOST];

    for (int i = 0; i < n; i++) {
        for (int k = 0; k < dims; k++)
            require(isfinite(vectors[i * dims + k]));
        memcpy(copy, vectors + i * dims, (size_t)dims * sizeof *copy);
        require(aip_vector_normalize(copy, dims));
    }
}

static void check(const char *text, size_t len, int n, int dims)
{
    float *vectors = malloc(sizeof(float) * (size_t)(n * dims)); /* ends where they do */
    float expected[MOST * MOST];
    aip_error_t err = {0};
    json_error_t error = {0};
    json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, &error);

    require(vectors != NULL);
    const bool taken = aip_embeddings_response((aip_span_t){text, len}, n, dims, vectors,
                                               fuzz_pool(), &err) == APR_SUCCESS;
    require(taken || (err.message && err.status != 0));
    if (taken)
        check_accepted(vectors, n, dims);
    if (!may_differ(text, len, root, &error)) {
        require(other_read(root, n, dims, expected) == taken);
        for (int i = 0; taken && i < n * dims; i++)
            require(vectors[i] == expected[i]);
    }
    json_decref(root);
    free(vectors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *copy = fuzz_copy(data + 1, size - 1);
    check(copy, size - 1, (data[0] & 15) + 1, (data[0] >> 4) + 1);
    free(copy);
    apr_pool_clear(fuzz_pool());
    return 0;
}
