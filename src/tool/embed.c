/* SPDX-License-Identifier: Apache-2.0 */
/* aipctl embed: the vectors of lines, as the gateway's embedder delivers them. Each line has one,
 * so that the n-th vector belongs to the n-th line; that of an empty line is all zero. */
#include "tool.h"

#include <apr_strings.h>
#include <stdio.h>
#include <string.h>

/* Nine digits bring every float back. */
static void print_json(const float *vector, int dims)
{
    for (int i = 0; i < dims; i++) {
        printf("%c%.9g", i ? ',' : '[', (double)vector[i]);
    }
    puts("]");
}

static void print_f32le(const float *vector, int dims)
{
    for (int i = 0; i < dims; i++) {
        apr_uint32_t bits;
        memcpy(&bits, &vector[i], sizeof bits);
        const unsigned char bytes[] = {(unsigned char)bits, (unsigned char)(bits >> 8),
                                       (unsigned char)(bits >> 16), (unsigned char)(bits >> 24)};
        fwrite(bytes, 1, sizeof bytes, stdout);
    }
}

static int embed_lines(const aip_options_t *options, const aip_tool_gateway_t *gateway,
                       const apr_array_header_t *lines, apr_pool_t *pool)
{
    aip_tool_embedder_t embedder;
    int n = lines->nelts, status = aip_embedder_open(&embedder, options, gateway, pool);
    if (status != AIP_EXIT_OK) {
        return status;
    }
    size_t dims = (size_t)embedder.conf.dims;
    aip_span_t *texts = apr_palloc(pool, (apr_size_t)(n + 1) * sizeof *texts);
    float *vectors = apr_palloc(pool, (apr_size_t)(n + 1) * dims * sizeof *vectors);
    for (int i = 0; i < n; i++) {
        texts[i] = APR_ARRAY_IDX(lines, i, aip_line_t).text;
    }
    status = aip_embedder_embed(&embedder, texts, n, vectors, pool);
    for (int i = 0; status == AIP_EXIT_OK && i < n; i++) {
        (options->f32le ? print_f32le : print_json)(vectors + (size_t)i * dims, (int)dims);
    }
    return status;
}

int aip_run_embed(const aip_options_t *options, apr_pool_t *pool)
{
    json_t *document = NULL;
    aip_tool_gateway_t gateway;
    aip_lines_t lines = {.input = options->input, .keep_empty = true};
    int status = aip_httpd_dump(options, true, &document, pool);
    status = status ? status : aip_gateway_find(document, options, &gateway, pool);
    status = status ? status : aip_lines_read(&lines, NULL, pool);
    status = status ? status : embed_lines(options, &gateway, lines.list, pool);
    json_decref(document);
    return status;
}
