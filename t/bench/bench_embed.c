/* SPDX-License-Identifier: Apache-2.0 */
/* CPU time of the local embedder: microseconds per text, best of ten runs, this process's CPU
 * clock. usage: bench_embed [model-directory]      default: the model in share/embedder of
 * AIP_SRCDIR */

#include "aip/model2vec.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 10, REPEAT = 20000 };

typedef struct row_t {
    const char *name;
    aip_span_t text;
    double goal_us; /* 0: none */
} row_t;

static const row_t rows[] = {
    {"50 characters", AIP_SPAN("Which shelves in our cellar can hold 40 jam jars?!"), 25},
    {"20 words",
     AIP_SPAN(
         "Please compare the three quotes for the new roof and tell me which builder can start "
         "before the first autumn storms"),
     0},
    {"50 characters, accents", AIP_SPAN("Où sont rangées les clés de l'école près du café ?"), 0},
};

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double best_us(const aip_model2vec_t *model, aip_span_t text, float *vector)
{
    double best = 1e30;
    int round, i;

    for (round = 0; round < ROUNDS; round++) {
        double start = now_us(), spent;

        for (i = 0; i < REPEAT; i++) {
            aip_model2vec_embed(model, text, vector);
        }
        spent = (now_us() - start) / REPEAT;
        best = spent < best ? spent : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    const char *root = getenv("AIP_SRCDIR"), *error, *dir;
    double start;
    aip_model2vec_t *model;
    apr_pool_t *pool;
    float *vector;
    size_t i;
    int missed = 0;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return 1;
    }
    dir = argc > 1 ? argv[1]
                   : apr_pstrcat(pool, root ? root : ".", "/share/embedder/aip-static-en-v1", NULL);
    start = now_us();
    if (aip_model2vec_load(&model, dir, pool, &error) != APR_SUCCESS) {
        fprintf(stderr, "bench_embed: %s\n", error);
        return 1;
    }
    printf("load                       %9.1f ms CPU\n", (now_us() - start) / 1e3);
    vector = apr_palloc(pool, (size_t)aip_model2vec_dims(model) * sizeof(*vector));
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t tokens = aip_model2vec_embed(model, rows[i].text, vector);
        double us = best_us(model, rows[i].text, vector);

        printf("%-26s %9.2f us CPU, %2d bytes, %2d tokens\n", rows[i].name, us,
               (int)rows[i].text.len, (int)tokens);
        if (rows[i].goal_us > 0 && us > rows[i].goal_us) {
            printf("  slower than the goal of %.0f us\n", rows[i].goal_us);
            missed = 1;
        }
    }
    apr_terminate();
    return missed;
}
