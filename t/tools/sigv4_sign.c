/* SPDX-License-Identifier: Apache-2.0 */
/* Signs requests for t/sigv4_live.py: reads JSON objects on stdin, one a line, with the members
 * method, host, path, query, region, service, body, time (seconds), headers ([[name, value]]),
 * flags, access_key, secret_key, token; prints {"headers": "..."} or {"error": "..."} for each. */
#include "aip/sigv4.h"

#include <apr_general.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char *text(const json_t *in, const char *name)
{
    return json_string_value(json_object_get(in, name));
}

static json_t *sign(const json_t *in, apr_pool_t *pool)
{
    const json_t *body = json_object_get(in, "body"), *given = json_object_get(in, "headers");
    size_t n = json_array_size(given);
    const char *(*headers)[2] = apr_palloc(pool, (n + 1) * sizeof(*headers)), *lines, *error;
    aip_aws_keys_t keys = {text(in, "access_key"), text(in, "secret_key"), text(in, "token")};
    aip_sigv4_request_t request = {
        .method = text(in, "method"),
        .host = text(in, "host"),
        .path = text(in, "path"),
        .query = text(in, "query"),
        .region = text(in, "region"),
        .service = text(in, "service"),
        .body = {json_string_value(body), json_string_length(body)},
        .now = apr_time_from_sec(json_integer_value(json_object_get(in, "time"))),
        .headers = (const char *const(*)[2])headers,
        .n_headers = n,
        .flags = (unsigned)json_integer_value(json_object_get(in, "flags")),
    };

    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(given, i);
        headers[i][0] = json_string_value(json_array_get(pair, 0));
        headers[i][1] = json_string_value(json_array_get(pair, 1));
    }
    return aip_sigv4_sign(&request, &keys, pool, &lines, &error) == APR_SUCCESS
               ? json_pack("{s:s}", "headers", lines)
               : json_pack("{s:s}", "error", error);
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    apr_pool_t *pool;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return 1;
    }
    while (getline(&line, &room, stdin) > 0) {
        json_t *in = json_loads(line, 0, NULL), *out;

        if (!json_is_object(in)) {
            fputs("sigv4_sign: a line is no JSON object\n", stderr);
            return 1;
        }
        out = sign(in, pool);
        json_dumpf(out, stdout, 0);
        putchar('\n');
        fflush(stdout);
        json_decref(out);
        json_decref(in);
        apr_pool_clear(pool);
    }
    free(line);
    apr_terminate();
    return 0;
}
