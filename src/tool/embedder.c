/* SPDX-License-Identifier: Apache-2.0 */
/* A gateway's embedder outside of the server: the same model, provider, credential, references and
 * distances, with a cache of its own on disk. The store is always the exact one in memory, which is
 * what the server's answers are when Redis is away. */
#include "tool.h"

#include "aip/embed_texts.h"

#include <apr_file_io.h>
#include <apr_strings.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* AIEmbeddingsTimeout is for one prompt while a client waits; here nobody does. */
#define LEAST_TIMEOUT apr_time_from_sec(60)

static void write_log(void *baton, aip_log_level_e level, const char *message)
{
    (void)baton;
    if (level <= AIP_LOG_WARNING) {
        aip_tool_fail("%s", message);
    }
}

static void show_progress(void *baton, int done, int total)
{
    (void)baton;
    fprintf(stderr, "%sembedded %d of %d texts%s", isatty(STDERR_FILENO) ? "\r" : "", done, total,
            isatty(STDERR_FILENO) && done < total ? "" : "\n");
}

static const char *default_cache(apr_pool_t *pool)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    return cache && *cache == '/' ? apr_pstrcat(pool, cache, "/aipctl", NULL)
           : home && *home == '/' ? apr_pstrcat(pool, home, "/.cache/aipctl", NULL)
                                  : NULL;
}

/* The vectors say something about the prompts: nobody else may read them. */
static int open_cache(aip_tool_embedder_t *e, const aip_options_t *o, apr_pool_t *pool)
{
    const char *dir = o->no_cache ? NULL : o->cache ? o->cache : default_cache(pool);
    char reason[120];
    if (!dir) {
        return AIP_EXIT_OK;
    }
    apr_status_t rv =
        apr_dir_make_recursive(dir, APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE, pool);
    if (rv == APR_SUCCESS && access(dir, R_OK | W_OK | X_OK) != 0) {
        rv = APR_FROM_OS_ERROR(errno);
    }
    if (rv != APR_SUCCESS) {
        return aip_tool_fail("cannot keep vectors in %s: %s; name a folder with --cache, or say "
                             "--no-cache",
                             dir, apr_strerror(rv, reason, sizeof reason));
    }
    e->cache_dir = dir;
    return AIP_EXIT_OK;
}

int aip_embedder_open(aip_tool_embedder_t *embedder, const aip_options_t *options,
                      const aip_tool_gateway_t *gateway, apr_pool_t *pool)
{
    const aip_location_fields_t *f = &gateway->f;
    aip_model2vec_t *model = NULL;
    const char *error = NULL;
    *embedder = (aip_tool_embedder_t){.gateway = gateway,
                                      .metric = (aip_metric_e)f->vectordb_distance_metric,
                                      .progress = options->progress || isatty(STDERR_FILENO)};
    if (f->set[AIP_L_embeddings_model_provider] &&
        f->embeddings_model_provider == AIP_EMBEDDER_LOCAL && f->embeddings_model_name &&
        aip_model2vec_load(&model, aip_model_dir(f->embeddings_model_name, pool), pool, &error) !=
            APR_SUCCESS) {
        return aip_tool_fail("%s", error);
    }
    error = aip_embedder_conf_of(f, model, &embedder->conf, pool);
    if (error) {
        return aip_tool_fail("gateway %s: %s", gateway->path, error);
    }
    if (embedder->conf.timeout < LEAST_TIMEOUT) {
        embedder->conf.timeout = LEAST_TIMEOUT;
    }
    return embedder->conf.local ? AIP_EXIT_OK : open_cache(embedder, options, pool);
}

int aip_embedder_embed(aip_tool_embedder_t *embedder, const aip_span_t *texts, int n,
                       float *vectors, apr_pool_t *pool)
{
    size_t dims = (size_t)embedder->conf.dims;
    aip_span_t *some = apr_palloc(pool, (apr_size_t)(n + 1) * sizeof *some);
    float *out = apr_pcalloc(pool, (apr_size_t)(n + 1) * dims * sizeof *out);
    aip_embed_job_t job = {.embedder = &embedder->conf,
                           .cache_dir = embedder->cache_dir,
                           .log = {write_log, NULL},
                           .texts = some,
                           .progress = embedder->progress ? show_progress : NULL};
    aip_error_t err = {0};
    int calls;
    for (int i = 0; i < n; i++) { /* providers refuse empty texts */
        if (texts[i].len) {
            some[job.n++] = texts[i];
        }
    }
    if (aip_embed_texts(&job, out, &calls, pool, &err) != APR_SUCCESS) {
        return aip_tool_fail("cannot embed: %s%s", err.message,
                             embedder->cache_dir
                                 ? "; what is embedded is kept, another run goes on "
                                   "from there"
                                 : "");
    }
    for (int i = 0, from = 0; i < n; i++) {
        memset(vectors + (size_t)i * dims, 0, dims * sizeof *vectors);
        if (texts[i].len) {
            memcpy(vectors + (size_t)i * dims, out + (size_t)from++ * dims, dims * sizeof *vectors);
        }
    }
    return AIP_EXIT_OK;
}

/* As the metric compares it. @return false: nothing is near such a vector */
static bool prepare(const aip_tool_embedder_t *e, float *vector)
{
    float norm = 0;
    for (int i = 0; i < e->conf.dims; i++) {
        norm += fabsf(vector[i]);
    }
    return norm > 0 &&
           (e->metric != AIP_METRIC_COSINE || aip_vector_normalize(vector, e->conf.dims));
}

static int make_references(aip_tool_embedder_t *e, apr_pool_t *pool)
{
    const aip_routes_t *routes = e->gateway->routes;
    size_t dims = (size_t)e->conf.dims;
    float *vectors = apr_palloc(pool, (apr_size_t)(routes->n_texts + 1) * dims * sizeof *vectors);
    int status = aip_embedder_embed(e, routes->texts, routes->n_texts, vectors, pool);
    for (int i = 0; status == AIP_EXIT_OK && i < routes->n_texts; i++) {
        if (!prepare(e, vectors + (size_t)i * dims)) {
            status = aip_tool_fail("the text '%.*s' holds no word that the model knows",
                                   (int)routes->texts[i].len, routes->texts[i].data);
        }
    }
    e->refs = (aip_references_t){.n = routes->n_texts, .dims = (int)dims, .vectors = vectors};
    return status;
}

int aip_embedder_distances(aip_tool_embedder_t *embedder, const aip_span_t *prompts, int n,
                           float *distances, apr_pool_t *pool)
{
    const aip_tool_gateway_t *g = embedder->gateway;
    size_t dims = (size_t)embedder->conf.dims, n_routes = (size_t)g->routes->n;
    float *vectors = apr_palloc(pool, (apr_size_t)(n + 1) * dims * sizeof *vectors);
    float *of_texts = apr_palloc(pool, (apr_size_t)(g->routes->n_texts + 1) * sizeof *of_texts);
    aip_vectordb_t *store = aip_vectordb_memory(embedder->metric, pool);
    aip_error_t err = {0};
    int status = embedder->refs.vectors ? AIP_EXIT_OK : make_references(embedder, pool);
    status = status ? status : aip_embedder_embed(embedder, prompts, n, vectors, pool);
    for (int i = 0; status == AIP_EXIT_OK && i < n; i++) {
        float *vector = vectors + (size_t)i * dims, *out = distances + (size_t)i * n_routes;
        bool known = prepare(embedder, vector);
        if (known && store->kind->query(store, &embedder->refs, vector, of_texts, pool, &err) !=
                         APR_SUCCESS) {
            status = aip_tool_fail("%s", err.message);
        } else if (known) {
            aip_routes_distances(g->routes, of_texts, (aip_aggregate_e)g->f.route_aggregate,
                                 (int)g->f.route_aggregate_top_k, out, pool);
        }
        for (int r = 0; r < g->routes->n; r++) {
            out[r] = known && r != g->routes->catchall ? out[r] : INFINITY;
        }
    }
    return status;
}

/* The core makes the text out of a chat, so that it is cut as in the server. */
int aip_prompt_text(const aip_tool_gateway_t *gateway, aip_span_t prompt, aip_span_t *text,
                    apr_pool_t *pool)
{
    const aip_location_fields_t *f = &gateway->f;
    aip_chat_t chat;
    aip_prompt_t made = {.text = AIP_SPAN("")};
    aip_error_t err = {0};
    json_t *body = json_pack("{s:[{s:s, s:s%}]}", "messages", "role", "user", "content",
                             prompt.data, prompt.len);
    char *bytes = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!bytes) {
        return aip_tool_fail("a prompt is not UTF-8");
    }
    apr_status_t rv =
        aip_chat_parse(&chat, (aip_span_t){bytes, strlen(bytes)}, NULL, 0, pool, &err);
    if (rv == APR_SUCCESS) {
        rv = aip_chat_prompt(&chat, f->route_prompt.scope, f->route_prompt.count,
                             (size_t)f->route_prompt_max_bytes, &made, pool, &err);
    }
    *text = (aip_span_t){apr_pstrmemdup(pool, made.text.data, made.text.len), made.text.len};
    free(bytes);
    return rv == APR_SUCCESS ? AIP_EXIT_OK : aip_tool_fail("a prompt: %s", err.message);
}
