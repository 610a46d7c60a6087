/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_REFERENCES_FIXTURE_H
#define AIP_T_UNIT_REFERENCES_FIXTURE_H
/* What the tests of references and of the router share: an embeddings provider, which is a thread
 * of the test, a configuration that points to it, a folder for the cache, and the log. */

#include <apr_atomic.h>
#include <apr_file_info.h>
#include <arpa/inet.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/route/references.h"
#include "fixture.h"

#define DIMS 4

/* ---- the embeddings provider ---- */

typedef struct peer_t {
    int fd, port;
    int status;     /* what it answers with */
    int fail_first; /* so many requests get a 503 before that */
    int delay_ms;
    const char *body; /* NULL: vectors of the texts */
    volatile apr_uint32_t requests;
    char head[4096], last[8192];
    pthread_t thread;
} peer_t;

static peer_t peer;

/* A vector that follows from the text, never of unit length. */
static void vector_of(const char *text, float *v)
{
    unsigned h = 2166136261u;
    for (; *text; text++) {
        h = (h ^ (unsigned char)*text) * 16777619u;
    }
    for (int i = 0; i < DIMS; i++) {
        v[i] = (float)((h >> (8 * i)) & 0xff) + 1.0f;
    }
}

static char *vectors_json(const char *request)
{
    json_t *root = json_loads(request, 0, NULL), *data = json_array(), *text;
    size_t i;
    json_array_foreach(json_object_get(root, "input"), i, text)
    {
        float v[DIMS];
        vector_of(json_string_value(text), v);
        json_array_append_new(data,
                              json_pack("{s:i,s:[f,f,f,f]}", "index", (int)i, "embedding",
                                        (double)v[0], (double)v[1], (double)v[2], (double)v[3]));
    }
    json_t *answer = json_pack("{s:o}", "data", data);
    char *out = json_dumps(answer, 0);
    json_decref(answer);
    json_decref(root);
    return out;
}

static void answer(int fd)
{
    char buf[16384];
    size_t got = 0;
    ssize_t n;
    char *end = NULL, *length;
    while (got < sizeof buf - 1 && (n = recv(fd, buf + got, sizeof buf - 1 - got, 0)) > 0) {
        got += (size_t)n;
        buf[got] = '\0';
        end = end ? end : strstr(buf, "\r\n\r\n");
        length = strstr(buf, "Content-Length: ");
        if (end && length && got >= (size_t)(end + 4 - buf) + strtoul(length + 16, NULL, 10)) {
            break;
        }
    }
    if (!end) {
        return;
    }
    *end = '\0';
    apr_cpystrn(peer.head, buf, sizeof peer.head);
    apr_cpystrn(peer.last, end + 4, sizeof peer.last);
    int status =
        apr_atomic_inc32(&peer.requests) < (apr_uint32_t)peer.fail_first ? 503 : peer.status;
    char *made = peer.body ? NULL : vectors_json(peer.last), out[16384];
    const char *body = made ? made : peer.body;
    usleep((useconds_t)peer.delay_ms * 1000);
    int len = snprintf(out, sizeof out,
                       "HTTP/1.1 %d Status\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                       status, strlen(body), body);
    (void)!send(fd, out, (size_t)len, MSG_NOSIGNAL);
    free(made);
}

static void *serve(void *unused)
{
    int fd;
    while ((fd = accept(peer.fd, NULL, NULL)) >= 0) {
        answer(fd);
        close(fd);
    }
    return unused;
}

static void peer_listen(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof addr;
    memset(&peer, 0, sizeof peer);
    peer.status = 200;
    peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(peer.fd, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(peer.fd, 16), 0);
    ck_assert_int_eq(getsockname(peer.fd, (struct sockaddr *)&addr, &len), 0);
    peer.port = ntohs(addr.sin_port);
}

static void peer_start(void)
{
    ck_assert_int_eq(pthread_create(&peer.thread, NULL, serve, NULL), 0);
}

static void peer_stop(void)
{
    shutdown(peer.fd, SHUT_RDWR);
    pthread_join(peer.thread, NULL);
    close(peer.fd);
}

/* ---- fixture ---- */

static aip_router_conf_t conf;
static char *dir;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char log_text[16384];

static void log_write(void *baton, aip_log_level_e level, const char *message)
{
    (void)baton;
    pthread_mutex_lock(&log_mutex);
    size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "[%d] %s\n", (int)level, message);
    pthread_mutex_unlock(&log_mutex);
}

static int logged(const char *what)
{
    int n = 0;
    pthread_mutex_lock(&log_mutex);
    for (const char *p = log_text; (p = strstr(p, what)) != NULL; p++) {
        n++;
    }
    pthread_mutex_unlock(&log_mutex);
    return n;
}

/* Routes of one text each; at most 200. */
static const aip_routes_t *routes_of(const char *list)
{
    aip_route_source_t sources[200];
    int n = 0;
    char *state = NULL, *copy = apr_pstrdup(pool, list);
    for (char *w = apr_strtok(copy, "|", &state); w; w = apr_strtok(NULL, "|", &state)) {
        sources[n++] = (aip_route_source_t){.description = w};
    }
    return aip_routes_create(sources, n, pool);
}

/* All but the peer's thread: a test that forks starts it afterwards. */
static void setup_quiet(void)
{
    pool_setup();
    dir = apr_pstrdup(pool, "/tmp/aip-references.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    peer_listen();
    log_text[0] = '\0';
    conf = (aip_router_conf_t){
        .name = "test",
        .routes = routes_of("one|two|three"),
        .embedder = {.provider = "openai",
                     .model = "embed-1",
                     .url = apr_psprintf(pool, "http://127.0.0.1:%d/v1/embeddings", peer.port),
                     .dims = DIMS,
                     .timeout = apr_time_from_sec(5)},
        .metric = AIP_METRIC_COSINE,
        .cache_dir = dir,
        .log = {log_write, NULL},
    };
}

static void setup(void)
{
    setup_quiet();
    peer_start();
}

/* Calls `visit` for every file of the cache; NULL counts only. */
static int each_file(void (*visit)(const char *path))
{
    apr_dir_t *d;
    apr_finfo_t info;
    int n = 0;
    if (apr_dir_open(&d, dir, pool) != APR_SUCCESS) {
        return 0;
    }
    while (apr_dir_read(&info, APR_FINFO_NAME, d) == APR_SUCCESS) {
        size_t len = strlen(info.name);
        if (len > 4 && strcmp(info.name + len - 4, ".vec") == 0) {
            n++;
            if (visit) {
                visit(apr_pstrcat(pool, dir, "/", info.name, NULL));
            }
        }
    }
    apr_dir_close(d);
    return n;
}

static void remove_file(const char *path)
{
    unlink(path);
}

static void teardown(void)
{
    peer_stop();
    each_file(remove_file);
    unlink(apr_pstrcat(pool, dir, "/lock", NULL));
    ck_assert_msg(rmdir(dir) == 0, "something is left in %s", dir);
    pool_teardown();
}

static void use_shipped_model(const char *routes)
{
    const char *error = NULL;
    aip_model2vec_t *model = NULL;
    apr_status_t rv =
        aip_model2vec_load(&model, source_file("share/embedder/aip-static-en-v1"), pool, &error);
    ck_assert_msg(rv == APR_SUCCESS, "%s", error);
    conf.embedder = (aip_embedder_conf_t){.local = model};
    conf.embedder.dims = aip_model2vec_dims(model);
    conf.routes = routes_of(routes);
}

#endif
