/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embeddings stub's vectors: a pure function of text and dimensions, no model. The first dims/2
 * components, at most 64, are axes; topic i lies on axis i, so topics are orthogonal. A text is
 * placed by
 *   - "axis:<k> <cos> [axis:<k> <cos> ...] [anything]": exactly these cosines, 0 on all other axes;
 *   - the table (vectors_table.c): its distance from its topic, about 1 from the others;
 *   - otherwise: within 0.02 of distance 1 from every axis, in a direction of its own.
 * What is left of the unit length goes into the other components, spread by a generator seeded with
 * the text's FNV-1a hash. From 128 dimensions up no two axes fall together; below, axis k is k
 * modulo dims/2. Called by embed.c.
 */
#include "mock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AXES_MAX 64
#define NOISE 0.02

static uint64_t row_hash[256];

static uint64_t next_random(uint64_t *state)
{
    /* splitmix64 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* In (-1, 1), never 0. */
static double next_signed(uint64_t *state)
{
    int64_t n = (int64_t)(next_random(state) >> 11) | 1;

    return (double)n / 4503599627370496.0 - 1.0;
}

void mock_vectors_init(void)
{
    if (mock_vector_rows_n > sizeof(row_hash) / sizeof(row_hash[0]) || mock_topics_n > AXES_MAX) {
        fputs("mock: vector table too long\n", stderr);
        abort();
    }
    for (size_t i = 0; i < mock_vector_rows_n; i++) {
        row_hash[i] = mock_fnv1a64(mock_vector_rows[i].text, strlen(mock_vector_rows[i].text));
    }
}

static const mock_vector_row_t *find_row(uint64_t hash)
{
    for (size_t i = 0; i < mock_vector_rows_n; i++) {
        if (row_hash[i] == hash) {
            return &mock_vector_rows[i];
        }
    }
    return NULL;
}

static void place_row(const mock_vector_row_t *row, double *axis, size_t axes)
{
    for (size_t i = 0; i < mock_topics_n; i++) {
        if (!strcmp(row->topic, "*") || !strcmp(row->topic, mock_topics[i])) {
            axis[i % axes] = 1.0 - row->distance;
        }
    }
}

/* Reads "axis:<k> <cos>" pairs; false when the text does not begin with one. */
static bool place_explicit(const char *text, size_t len, double *axis, size_t axes)
{
    char copy[512];
    const char *p = copy;
    bool any = false;

    if (len < 6 || memcmp(text, "axis:", 5)) {
        return false;
    }
    len = len < sizeof(copy) - 1 ? len : sizeof(copy) - 1;
    memcpy(copy, text, len);
    copy[len] = '\0';
    while (!strncmp(p, "axis:", 5)) {
        char *end;
        unsigned long k = strtoul(p + 5, &end, 10);
        double c;

        if (end == p + 5 || *end != ' ') {
            break;
        }
        p = end;
        c = strtod(p, &end);
        if (end == p || !(c >= -1.0 && c <= 1.0)) {
            break;
        }
        axis[k % axes] = c;
        any = true;
        p = end + strspn(end, " ");
    }
    return any;
}

/* Gives the components from `from` on a random direction of the length that the axes left over. */
static void fill_rest(float *v, size_t from, size_t dims, double left, uint64_t state)
{
    double sum = 0;
    double scale;
    uint64_t again = state;

    for (size_t i = from; i < dims; i++) {
        double x = next_signed(&state);

        sum += x * x;
    }
    scale = left > 0 && sum > 0 ? sqrt(left / sum) : 0;
    for (size_t i = from; i < dims; i++) {
        v[i] = (float)(next_signed(&again) * scale);
    }
}

void mock_vector_of(const char *text, size_t len, float *v, size_t dims)
{
    double axis[AXES_MAX] = {0};
    size_t axes = dims / 2 < AXES_MAX ? dims / 2 : AXES_MAX;
    uint64_t hash = mock_fnv1a64(text, len);
    uint64_t state = hash;
    const mock_vector_row_t *row = find_row(hash);
    double sum = 0;
    double scale;

    if (axes && !place_explicit(text, len, axis, axes)) {
        bool exact = row && row->distance <= 0;

        for (size_t i = 0; i < axes && !exact; i++) {
            axis[i] = NOISE * next_signed(&state);
        }
        if (row) {
            place_row(row, axis, axes);
        }
    }
    for (size_t i = 0; i < axes; i++) {
        sum += axis[i] * axis[i];
    }
    /* Cosines that cannot stand together in one unit vector are scaled down. */
    scale = sum > 1 ? 1 / sqrt(sum) : 1;
    for (size_t i = 0; i < axes; i++) {
        v[i] = (float)(axis[i] * scale);
    }
    fill_rest(v, axes, dims, 1 - sum, state);
}
