/* SPDX-License-Identifier: Apache-2.0 */
/* Reads NUL-separated texts on stdin, embeds each, prints a JSON line {"ids":[...],"vector":[...]}
 * each. For t/differential.py, which compares the lines with the public Python library. usage:
 * embed_ids [-i] model-directory      -i: ids only */

#include "aip/model2vec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tool_t {
    const aip_model2vec_t *model;
    bool ids_only;
    int *ids;
    size_t room;
    float *vector;
} tool_t;

static void die(const char *what)
{
    fprintf(stderr, "embed_ids: %s\n", what);
    exit(1);
}

static void print_ids(tool_t *tool, aip_span_t text)
{
    size_t count = aip_model2vec_tokenize(tool->model, text, tool->ids, tool->room), i;

    if (count > tool->room) {
        tool->room = count;
        tool->ids = realloc(tool->ids, count * sizeof(*tool->ids));
        if (!tool->ids) {
            die("out of memory");
        }
        aip_model2vec_tokenize(tool->model, text, tool->ids, tool->room);
    }
    fputs("{\"ids\":[", stdout);
    for (i = 0; i < count; i++) {
        printf("%s%d", i ? "," : "", tool->ids[i]);
    }
    putchar(']');
}

static void print_vector(tool_t *tool, aip_span_t text)
{
    int dims = aip_model2vec_dims(tool->model), i;

    aip_model2vec_embed(tool->model, text, tool->vector);
    fputs(",\"vector\":[", stdout);
    for (i = 0; i < dims; i++) {
        printf("%s%.9g", i ? "," : "", (double)tool->vector[i]);
    }
    putchar(']');
}

int main(int argc, char **argv)
{
    tool_t tool = {.ids_only = argc == 3 && strcmp(argv[1], "-i") == 0};
    aip_model2vec_t *model;
    apr_pool_t *pool;
    const char *error;
    char *line = NULL;
    size_t room = 0;
    ssize_t len;

    if (argc < 2 || argc > 3 || (argc == 3 && !tool.ids_only)) {
        die("usage: embed_ids [-i] model-directory");
    }
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        die("APR does not start");
    }
    if (aip_model2vec_load(&model, argv[argc - 1], pool, &error) != APR_SUCCESS) {
        die(error);
    }
    tool.model = model;
    tool.vector = malloc((size_t)aip_model2vec_dims(model) * sizeof(*tool.vector));
    if (!tool.vector) {
        die("out of memory");
    }
    while ((len = getdelim(&line, &room, '\0', stdin)) > 0) {
        /* the last text may lack its NUL */
        aip_span_t text = {line, (size_t)len - (line[len - 1] == '\0')};

        print_ids(&tool, text);
        if (!tool.ids_only) {
            print_vector(&tool, text);
        }
        puts("}");
    }
    free(line);
    free(tool.ids);
    free(tool.vector);
    apr_terminate();
    return 0;
}
