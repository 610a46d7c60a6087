/* SPDX-License-Identifier: Apache-2.0 */
/* The local embedder at work: text -> tokens -> sum of table rows -> unit length. Runs in any
 * thread, on the stack only, on a model that nobody writes to. */

#include "model2vec_private.h"

#include <math.h>

/** int8 rows that fit into an int32 sum, with room to spare. */
enum { PART_TOKENS_MAX = 1 << 23 };

int aip_model2vec_dims(const aip_model2vec_t *model)
{
    return (int)model->dims;
}

const char *aip_model2vec_digest(const aip_model2vec_t *model)
{
    return model->digest;
}

/* ---- embed ---- */

static float load_f32(const unsigned char *p)
{
    apr_uint32_t bits = aip_m2v_le32(p);
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

/** IEEE half to float, exact also for subnormals; infinities and NaN were refused when the model
 * was loaded. */
static float load_f16(const unsigned char *p)
{
    apr_uint16_t half = aip_m2v_le16(p);
    apr_uint32_t bits = (half & 0x7FFFu) << 13;
    float value;

    memcpy(&value, &bits, sizeof(value));
    value *= 0x1p112f;
    return half & 0x8000u ? -value : value;
}

/* The loops over a row are the embedder's main cost: let the compiler use vector instructions. */
#if defined(__GNUC__) && !defined(__clang__)
#define VECTORIZE __attribute__((optimize("O3")))
#else
#define VECTORIZE
#endif

VECTORIZE static void add_int8(apr_int32_t *restrict sum, const unsigned char *restrict row,
                               size_t dims)
{
    size_t i;

    for (i = 0; i < dims; i++) {
        sum[i] += (signed char)row[i];
    }
}

VECTORIZE static void add_f16(double *restrict sum, const unsigned char *restrict row, size_t dims)
{
    size_t i;

    for (i = 0; i < dims; i++) {
        sum[i] += (double)load_f16(row + 2 * i);
    }
}

VECTORIZE static void add_f32(double *restrict sum, const unsigned char *restrict row, size_t dims)
{
    size_t i;

    for (i = 0; i < dims; i++) {
        sum[i] += (double)load_f32(row + 4 * i);
    }
}

/** int8 rows are added as integers, so the order of tokens cannot matter; floats are added as
 * doubles. */
typedef struct sum_t {
    const aip_model2vec_t *model;
    size_t tokens;
    int part_tokens; /* in part[], not yet in total[] */
    apr_int32_t part[AIP_M2V_DIMS_MAX];
    double total[AIP_M2V_DIMS_MAX];
} sum_t;

static void flush_part(sum_t *sum)
{
    size_t i;

    for (i = 0; i < sum->model->dims; i++) {
        sum->total[i] += sum->part[i];
        sum->part[i] = 0;
    }
    sum->part_tokens = 0;
}

static void add_row(void *ctx, int id)
{
    sum_t *sum = ctx;
    const aip_model2vec_t *model = sum->model;
    const unsigned char *row = model->rows + (size_t)id * model->row_bytes;

    sum->tokens++;
    switch (model->dtype) {
    case AIP_M2V_I8:
        add_int8(sum->part, row, model->dims);
        if (++sum->part_tokens == PART_TOKENS_MAX) {
            flush_part(sum);
        }
        break;
    case AIP_M2V_F16:
        add_f16(sum->total, row, model->dims);
        break;
    case AIP_M2V_F32:
        add_f32(sum->total, row, model->dims);
        break;
    }
}

size_t aip_model2vec_embed(const aip_model2vec_t *model, aip_span_t text, float *vector)
{
    size_t dims = model->dims, i;
    double squares = 0, scale;
    sum_t sum; /* only the first `dims` entries are used */

    sum.model = model;
    sum.tokens = 0;
    memset(sum.part, 0, dims * sizeof(sum.part[0]));
    memset(sum.total, 0, dims * sizeof(sum.total[0]));
    sum.part_tokens = 0;
    aip_wordpiece_run(&model->wordpiece, text, add_row, &sum);
    flush_part(&sum);
    for (i = 0; i < dims; i++) {
        squares += sum.total[i] * sum.total[i];
    }
    scale = squares > 0 ? 1 / sqrt(squares) : 0;
    for (i = 0; i < dims; i++) {
        vector[i] = scale > 0 ? (float)(sum.total[i] * scale) : 0;
    }
    return sum.tokens;
}

/* ---- tokenize ---- */

typedef struct ids_t {
    int *ids;
    size_t max, count;
} ids_t;

static void add_id(void *ctx, int id)
{
    ids_t *list = ctx;

    if (list->count < list->max) {
        list->ids[list->count] = id;
    }
    list->count++;
}

size_t aip_model2vec_tokenize(const aip_model2vec_t *model, aip_span_t text, int *ids, size_t max)
{
    ids_t list = {.ids = ids, .max = max};

    aip_wordpiece_run(&model->wordpiece, text, add_id, &list);
    return list.count;
}
