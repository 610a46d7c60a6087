/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format of POST /v1/embeddings and the facts about the providers that speak it. Pure
 * functions: the request path sends the body over the pooled exchange, the background over libcurl;
 * both read the answer here. https://platform.openai.com/docs/api-reference/embeddings */

#include "aip/embeddings.h"

#include <apr_strings.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "aip/json.h"

static const aip_embeddings_provider_t providers[] = {
    {.name = "openai", .default_url = "https://api.openai.com/v1/embeddings"},
    {.name = "mistral", .default_url = "https://api.mistral.ai/v1/embeddings"},
    {.name = "azure"},  /* the URL holds the resource and the deployment */
    {.name = "ollama"}, /* runs where the operator put it */
    {.name = "local", .local = true},
};

const aip_embeddings_provider_t *aip_embeddings_provider(const char *name)
{
    for (size_t i = 0; name && i < sizeof(providers) / sizeof(providers[0]); i++) {
        if (!strcmp(providers[i].name, name)) {
            return &providers[i];
        }
    }
    return NULL;
}

bool aip_embeddings_takes_dimensions(const char *model)
{
    static const char family[] = "text-embedding-3-";
    const char *vendor = model ? strrchr(model, '/') : NULL;

    return model && !strncmp(vendor ? vendor + 1 : model, family, sizeof(family) - 1);
}

static char *append(char *at, const char *data, size_t len)
{
    memcpy(at, data, len);
    return at + len;
}

aip_span_t aip_embeddings_request(const char *model, int dimensions, const aip_span_t *texts, int n,
                                  apr_pool_t *pool)
{
    const char *head = "{";
    const char *tail = "],\"encoding_format\":\"base64\"}";
    aip_span_t *quoted = apr_palloc(pool, (size_t)n * sizeof(*quoted) + 1);
    size_t len;

    if (model) {
        aip_span_t name = aip_json_quote((aip_span_t){model, strlen(model)}, pool);

        head = apr_pstrcat(pool, "{\"model\":", name.data, ",", NULL);
    }
    head = apr_pstrcat(pool, head, "\"input\":[", NULL);
    if (dimensions > 0) {
        tail =
            apr_psprintf(pool, "],\"encoding_format\":\"base64\",\"dimensions\":%d}", dimensions);
    }
    len = strlen(head) + strlen(tail);
    for (int i = 0; i < n; i++) {
        quoted[i] = aip_json_quote(texts[i], pool);
        len += quoted[i].len + (i > 0);
    }

    char *body = apr_palloc(pool, len + 1);
    char *at = append(body, head, strlen(head));

    for (int i = 0; i < n; i++) {
        if (i > 0) {
            *at++ = ',';
        }
        at = append(at, quoted[i].data, quoted[i].len);
    }
    at = append(at, tail, strlen(tail));
    *at = '\0';
    return (aip_span_t){body, len};
}

/** What one call of aip_embeddings_response() is about; spares every helper six parameters. */
typedef struct reader_t {
    int n, dims;
    float *vectors;
    apr_pool_t *pool;
    aip_error_t *err;
} reader_t;

/* The answer came from upstream, so the client is not to blame: 502. */
#define REFUSE(reader, ...)                                                                        \
    aip_error_set((reader)->err, (reader)->pool, 502, "upstream_error", "embeddings_response",     \
                  NULL, __VA_ARGS__)

#define NONE4 0xff, 0xff, 0xff, 0xff
#define NONE16 NONE4, NONE4, NONE4, NONE4
/** Value of a base64 digit; 0xff for every other byte. */
static const uint8_t base64_digits[256] = {
    NONE16, NONE16, NONE4,  NONE4,  0xff,   0xff,   0xff,   62,     0xff, 0xff, 0xff, 63, /* + / */
    52,     53,     54,     55,     56,     57,     58,     59,     60,   61,   0xff, 0xff,
    NONE4, /* 0-9 */
    0xff,   0,      1,      2,      3,      4,      5,      6,      7,    8,    9,    10,
    11,     12,     13,     14, /* A-O */
    15,     16,     17,     18,     19,     20,     21,     22,     23,   24,   25,   0xff,
    NONE4, /* P-Z */
    0xff,   26,     27,     28,     29,     30,     31,     32,     33,   34,   35,   36,
    37,     38,     39,     40, /* a-o */
    41,     42,     43,     44,     45,     46,     47,     48,     49,   50,   51,   0xff,
    NONE4, /* p-z */
    NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16,
};
#undef NONE16
#undef NONE4

/**
 * Decodes padded base64 (RFC 4648 section 4) in place: three bytes never need more room than their
 * four digits.
 * @return bytes decoded, or SIZE_MAX when the text is no base64
 */
static size_t base64_decode(char *text, size_t len)
{
    const uint8_t *digits = base64_digits;
    const uint8_t *in = (const uint8_t *)text;
    char *out = text;
    size_t padding = 0;

    if (len % 4) {
        return SIZE_MAX;
    }
    while (padding < 2 && padding < len && in[len - 1 - padding] == '=') {
        padding++;
    }
    for (size_t i = 0; i < len; i += 4) {
        size_t given = i + 4 == len ? 4 - padding : 4;
        uint8_t a = digits[in[i]], b = digits[in[i + 1]];
        uint8_t c = given > 2 ? digits[in[i + 2]] : 0, d = given > 3 ? digits[in[i + 3]] : 0;

        if ((a | b | c | d) & 0x80) {
            return SIZE_MAX;
        }
        *out++ = (char)(a << 2 | b >> 4);
        *out++ = (char)(b << 4 | c >> 2);
        *out++ = (char)(c << 6 | d);
    }
    return len / 4 * 3 - padding;
}

static apr_status_t read_base64(const reader_t *reader, int index, aip_span_t value, char *scratch,
                                float *vector)
{
    size_t want = (size_t)reader->dims * 4;
    size_t len;

    /* The value may be much longer than what is wanted: decide before it is decoded. */
    if (value.len > 2 + 6 * ((want + 2) / 3 * 4)) {
        return REFUSE(reader, "embedding %d has more than %d values", index, reader->dims);
    }
    len = base64_decode(scratch, aip_json_decode(value, scratch));
    if (len == SIZE_MAX) {
        return REFUSE(reader, "embedding %d is a string that is not base64", index);
    }
    if (len != want) {
        return REFUSE(reader,
                      "embedding %d has %" APR_SIZE_T_FMT " bytes, expected %" APR_SIZE_T_FMT
                      " (%d values)",
                      index, len, want, reader->dims);
    }
    for (int i = 0; i < reader->dims; i++) {
        const uint8_t *b = (const uint8_t *)scratch + (size_t)i * 4;
        uint32_t bits =
            (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;

        memcpy(&vector[i], &bits, sizeof(bits));
    }
    return APR_SUCCESS;
}

static apr_status_t read_numbers(const reader_t *reader, int index, aip_span_t value, float *vector)
{
    const char *cursor = NULL;
    aip_span_t item;
    double number;
    int count = 0;

    while (aip_json_array_next(value, &cursor, &item)) {
        if (count == reader->dims) {
            return REFUSE(reader, "embedding %d has more than %d values", index, reader->dims);
        }
        if (aip_json_type(item) != '0') {
            return REFUSE(reader, "embedding %d: value %d is no number", index, count);
        }
        if (!aip_json_double(item, &number) || !isfinite((float)number)) {
            return REFUSE(reader, "embedding %d: value %d does not fit a float", index, count);
        }
        vector[count++] = (float)number;
    }
    if (count != reader->dims) {
        return REFUSE(reader, "embedding %d has %d values, expected %d", index, count,
                      reader->dims);
    }
    return APR_SUCCESS;
}

/** Sum of squares in double: finite for all finite vectors, and zero for a zero vector only. */
static double square_sum(const float *vector, int dims)
{
    double sum = 0;

    for (int i = 0; i < dims; i++) {
        sum += (double)vector[i] * (double)vector[i];
    }
    return sum;
}

/** One item of `data`. `seen`: a flag per index; `scratch`: room for the longest good string. */
static apr_status_t read_item(const reader_t *reader, int position, aip_span_t item, char *seen,
                              char *scratch)
{
    static const aip_span_t names[] = {AIP_SPAN("index"), AIP_SPAN("embedding")};
    aip_json_member_t found[2];
    aip_json_error_t fault;
    apr_int64_t wide;
    apr_status_t status;

    if (aip_json_object(item, names, 2, found, &fault) != AIP_JSON_OK) {
        return REFUSE(reader, "data[%d]: %s", position, aip_json_strerror(fault.status));
    }
    if (!aip_json_int64(found[0].value, &wide) || wide < 0 || wide >= reader->n) {
        return REFUSE(reader, "data[%d]: \"index\" is no integer from 0 to %d", position,
                      reader->n - 1);
    }

    int index = (int)wide;
    float *vector = reader->vectors + (size_t)index * (size_t)reader->dims;

    if (seen[index]) {
        return REFUSE(reader, "data[%d]: index %d occurs twice", position, index);
    }
    seen[index] = 1;
    switch (aip_json_type(found[1].value)) {
    case '"':
        status = read_base64(reader, index, found[1].value, scratch, vector);
        break;
    case '[':
        status = read_numbers(reader, index, found[1].value, vector);
        break;
    default:
        return REFUSE(reader, "data[%d]: \"embedding\" is neither a string nor an array", position);
    }
    if (status != APR_SUCCESS) {
        return status;
    }

    double sum = square_sum(vector, reader->dims);

    if (!isfinite(sum)) {
        return REFUSE(reader, "embedding %d has a value that is not finite", index);
    }
    if (!(sum > 0)) {
        return REFUSE(reader, "embedding %d is a zero vector", index);
    }
    return APR_SUCCESS;
}

apr_status_t aip_embeddings_response(aip_span_t body, int n, int dims, float *vectors,
                                     apr_pool_t *pool, aip_error_t *err)
{
    static const aip_span_t names[] = {AIP_SPAN("data")};
    const reader_t reader = {.n = n, .dims = dims, .vectors = vectors, .pool = pool, .err = err};
    aip_json_member_t data;
    aip_json_error_t fault;
    const char *cursor = NULL;
    aip_span_t item;
    int count = 0;

    if (aip_json_object(body, names, 1, &data, &fault) != AIP_JSON_OK) {
        return REFUSE(&reader, "the answer is not the expected JSON: %s at byte %" APR_SIZE_T_FMT,
                      aip_json_strerror(fault.status), fault.offset);
    }
    if (aip_json_type(data.value) != '[') {
        return REFUSE(&reader, "the answer has no array \"data\"");
    }

    char *seen = apr_pcalloc(pool, (size_t)n + 1);
    char *scratch = apr_palloc(pool, 2 + 6 * (((size_t)dims * 4 + 2) / 3 * 4));

    while (aip_json_array_next(data.value, &cursor, &item)) {
        if (count == n) {
            return REFUSE(&reader, "the answer has more than %d embeddings", n);
        }
        if (read_item(&reader, count, item, seen, scratch) != APR_SUCCESS) {
            return APR_EGENERAL;
        }
        count++;
    }
    if (count != n) {
        return REFUSE(&reader, "the answer has %d embeddings, expected %d", count, n);
    }
    return APR_SUCCESS;
}

bool aip_vector_normalize(float *vector, int dims)
{
    double sum = square_sum(vector, dims);

    if (!isfinite(sum) || !(sum > 0)) {
        return false;
    }

    double scale = 1 / sqrt(sum);

    for (int i = 0; i < dims; i++) {
        vector[i] = (float)((double)vector[i] * scale);
    }
    return true;
}
