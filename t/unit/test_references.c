/* SPDX-License-Identifier: Apache-2.0 */
/* References and the router: the file cache and what it does with broken files, one embeddings call
 * for what is missing, digests, and the router's background thread with stores that are away. The
 * embeddings provider is a thread of this test; the local embedder is the one that is shipped. */

#include <apr_atomic.h>
#include <apr_file_info.h>
#include <apr_general.h>
#include <apr_strings.h>
#include <arpa/inet.h>
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/route/references.h"

Suite *references_suite(void);

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

static apr_pool_t *pool;
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

/* Routes of one text each; at most 8. */
static const aip_routes_t *routes_of(const char *list)
{
    aip_route_source_t sources[8];
    int n = 0;
    char *state = NULL, *copy = apr_pstrdup(pool, list);
    for (char *w = apr_strtok(copy, "|", &state); w; w = apr_strtok(NULL, "|", &state)) {
        sources[n++] = (aip_route_source_t){w, NULL};
    }
    return aip_routes_create(sources, n, pool);
}

/* All but the peer's thread: a test that forks starts it afterwards. */
static void setup_quiet(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
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
    apr_pool_destroy(pool);
}

static volatile apr_uint32_t stop_now;

static aip_references_t *make(int expected_calls)
{
    aip_references_t *refs = NULL;
    aip_error_t err = {0};
    int calls = -1;
    apr_status_t rv = aip_references_make(&conf, &stop_now, &refs, &calls, pool, &err);
    ck_assert_msg(rv == APR_SUCCESS, "%s", err.message);
    ck_assert_int_eq(calls, expected_calls);
    return refs;
}

/* Unit vectors of the texts, for cosine. */
static void check_vectors(const aip_references_t *refs)
{
    ck_assert_int_eq(refs->n, conf.routes->n_texts);
    ck_assert_int_eq(refs->dims, DIMS);
    ck_assert_uint_eq(strlen(refs->digest), 64);
    for (int t = 0; t < refs->n; t++) {
        float want[DIMS];
        vector_of(conf.routes->texts[t].data, want);
        ck_assert(aip_vector_normalize(want, DIMS));
        for (int i = 0; i < DIMS; i++) {
            ck_assert_float_eq_tol(refs->vectors[t * DIMS + i], want[i], 1e-6f);
        }
    }
}

/* ---- making references ---- */

START_TEST(one_call_then_none)
{
    check_vectors(make(1));
    ck_assert_uint_eq(peer.requests, 1);
    ck_assert_str_eq(peer.last, "{\"model\":\"embed-1\",\"input\":[\"one\",\"two\",\"three\"],"
                                "\"encoding_format\":\"base64\"}");
    ck_assert_int_eq(each_file(NULL), 3);
    check_vectors(make(0));
    ck_assert_uint_eq(peer.requests, 1);
    ck_assert_int_eq(logged("AIP"), 0);
}
END_TEST

START_TEST(only_what_is_missing_is_asked_for)
{
    make(1);
    conf.routes = routes_of("three|four|one|five");
    check_vectors(make(1));
    ck_assert_str_eq(
        peer.last,
        "{\"model\":\"embed-1\",\"input\":[\"four\",\"five\"],\"encoding_format\":\"base64\"}");
    ck_assert_int_eq(each_file(NULL), 5);
}
END_TEST

START_TEST(without_a_cache)
{
    conf.cache_dir = NULL;
    check_vectors(make(1));
    check_vectors(make(1));
    ck_assert_uint_eq(peer.requests, 2);
    ck_assert_int_eq(each_file(NULL), 0);
}
END_TEST

START_TEST(no_texts)
{
    conf.routes = routes_of("CATCHALL");
    ck_assert_int_eq(make(0)->n, 0);
    ck_assert_uint_eq(peer.requests, 0);
}
END_TEST

/* Delivered as they are for euclidean; the cache holds what was delivered, so both metrics share
 * it. */
START_TEST(euclidean_keeps_lengths)
{
    make(1);
    conf.metric = AIP_METRIC_EUCLIDEAN;
    const aip_references_t *refs = make(0);
    float want[DIMS];
    vector_of("two", want);
    for (int i = 0; i < DIMS; i++) {
        ck_assert_float_eq_tol(refs->vectors[DIMS + i], want[i], 1e-6f);
    }
}
END_TEST

/* A cache file of one text, written over the right one. */
static void spoil(const char *data, size_t len)
{
    const char *path =
        apr_pstrcat(pool, dir, "/", aip_reference_key(&conf.embedder, conf.routes->texts[1], pool),
                    ".vec", NULL);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, len, f), len);
    fclose(f);
}

#define FILE_OF(n, a, b, c, d) "AIPVEC1\n" n a b c d
#define N4 "\x04\0\0\0"
#define F1 "\0\0\x80\x3f"
#define F0 "\0\0\0\0"
#define FNAN "\0\0\xc0\x7f"
#define FINF "\0\0\x80\x7f"
static const struct {
    const char *name, *data;
    size_t len;
} broken[] = {
    {"empty", "", 0},
    {"magic only", "AIPVEC1\n", 8},
    {"cut in the count", "AIPVEC1\n\x04\0", 10},
    {"no values", FILE_OF(N4, "", "", "", ""), 12},
    {"cut in the values", FILE_OF(N4, F1, F1, F1, "\0\0"), 26},
    {"a byte too long", FILE_OF(N4, F1, F1, F1, F1) "x", 29},
    {"other magic", "AIPVEC2\n" N4 F1 F1 F1 F1, 28},
    {"other count", FILE_OF("\x03\0\0\0", F1, F1, F1, F1), 28},
    {"huge count", FILE_OF("\xff\xff\xff\xff", F1, F1, F1, F1), 28},
    {"not a number", FILE_OF(N4, F1, FNAN, F1, F1), 28},
    {"infinite", FILE_OF(N4, F1, F1, F1, FINF), 28},
    {"zero vector", FILE_OF(N4, F0, F0, F0, F0), 28},
    {"text", "hello, I am not a vector at all", 31},
};

START_TEST(broken_files_are_made_again)
{
    make(1);
    spoil(broken[_i].data, broken[_i].len);
    check_vectors(make(1));
    ck_assert_str_eq(peer.last,
                     "{\"model\":\"embed-1\",\"input\":[\"two\"],\"encoding_format\":\"base64\"}");
    check_vectors(make(0));
}
END_TEST

/* A whole file is believed: the format above is the one that is read. */
START_TEST(a_whole_file_is_read)
{
    make(1);
    spoil(FILE_OF(N4, F0, F1, F0, F0), 28);
    const aip_references_t *refs = make(0);
    ck_assert_float_eq(refs->vectors[DIMS + 1], 1.0f);
    ck_assert_float_eq(refs->vectors[DIMS], 0.0f);
}
END_TEST

START_TEST(a_folder_that_cannot_be_written)
{
    if (_i == 1) {
        conf.cache_dir = apr_pstrcat(pool, dir, "/none", NULL);
    } else {
        chmod(dir, 0555);
        if (geteuid() == 0) {
            ck_assert_int_eq(seteuid(65534), 0); /* root writes everywhere */
        }
    }
    check_vectors(make(1));
    if (geteuid() != getuid()) {
        ck_assert_int_eq(seteuid(getuid()), 0);
    }
    chmod(dir, 0700);
    ck_assert_int_eq(each_file(NULL), 0);
    ck_assert_int_eq(logged("[4] AIP0101: "), 1);
}
END_TEST

static const struct {
    const char *name;
    int status;
    const char *body, *message;
} refusals[] = {
    {"401", 401, "{\"error\":{\"message\":\"bad key\"}}", "401"},
    {"503", 503, "", "503"},
    {"204", 204, "", "204"},
    {"no JSON", 200, "<html>", "JSON"},
    {"too few", 200, "{\"data\":[{\"index\":0,\"embedding\":[1,2,3,4]}]}", "expected 3"},
    {"other dimensions", 200,
     "{\"data\":[{\"index\":0,\"embedding\":[1,2,3]},{\"index\":1,\"embedding\":[1,2,3]},"
     "{\"index\":2,\"embedding\":[1,2,3]}]}",
     "expected 4"},
};

START_TEST(refused_answers)
{
    aip_references_t *refs = NULL;
    aip_error_t err = {0};
    int calls = 0;
    peer.status = refusals[_i].status;
    peer.body = refusals[_i].body;
    ck_assert_int_ne(aip_references_make(&conf, &stop_now, &refs, &calls, pool, &err), APR_SUCCESS);
    ck_assert_int_eq(calls, 1);
    ck_assert_msg(strstr(err.message, refusals[_i].message) != NULL, "%s: %s", refusals[_i].name,
                  err.message);
    ck_assert_int_eq(each_file(NULL), 0);
    peer.status = 200;
    peer.body = NULL;
    check_vectors(make(1)); /* the lock was given back */
}
END_TEST

START_TEST(nobody_answers)
{
    aip_references_t *refs = NULL;
    aip_error_t err = {0};
    int calls = 0;
    conf.embedder.url = "http://127.0.0.1:1/v1/embeddings";
    ck_assert_int_ne(aip_references_make(&conf, &stop_now, &refs, &calls, pool, &err), APR_SUCCESS);
    ck_assert_ptr_nonnull(err.message);
}
END_TEST

static void *stop_soon(void *unused)
{
    usleep(300000);
    apr_atomic_set32(&stop_now, 1);
    return unused;
}

/* A graceful stop does not wait for a provider that hangs. */
START_TEST(stops)
{
    aip_references_t *refs = NULL;
    aip_error_t err = {0};
    int calls = 0;
    pthread_t thread;
    peer.delay_ms = 2500;
    conf.embedder.timeout = apr_time_from_sec(30);
    apr_time_t start = apr_time_now();
    ck_assert_int_eq(pthread_create(&thread, NULL, stop_soon, NULL), 0);
    ck_assert_int_ne(aip_references_make(&conf, &stop_now, &refs, &calls, pool, &err), APR_SUCCESS);
    ck_assert_int_lt(apr_time_now() - start, apr_time_from_msec(2000));
    pthread_join(thread, NULL);
    apr_atomic_set32(&stop_now, 0);
}
END_TEST

START_TEST(credentials)
{
    conf.embedder.header_name = "Authorization";
    conf.embedder.header_value = "Bearer k\"1";
    conf.embedder.param_name = "api_key";
    conf.embedder.param_value = "p\"2";
    conf.embedder.param_in_body = true;
    conf.embedder.send_dimensions = true;
    make(1);
    ck_assert_ptr_nonnull(strstr(peer.head, "POST /v1/embeddings HTTP/1.1\r\n"));
    ck_assert_ptr_nonnull(strstr(peer.head, "\r\nAuthorization: Bearer k\"1\r\n"));
    ck_assert_ptr_nonnull(strstr(peer.head, "\r\nContent-Type: application/json"));
    ck_assert_ptr_null(strstr(peer.head, "Expect:"));
    json_t *root = json_loads(peer.last, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(root, "api_key")), "p\"2");
    ck_assert_int_eq(json_integer_value(json_object_get(root, "dimensions")), DIMS);
    json_decref(root);
    conf.embedder.param_in_body = false; /* a query parameter is part of the URL already */
    conf.cache_dir = NULL;
    make(1);
    ck_assert_ptr_null(strstr(peer.last, "api_key"));
}
END_TEST

/* Several processes that start together make one call. */
START_TEST(one_process_asks)
{
    enum { PROCESSES = 4 };
    pid_t pids[PROCESSES];
    int status, gate[2];
    char byte;
    peer.delay_ms = 200;
    ck_assert_int_eq(pipe(gate), 0);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            close(gate[1]);
            (void)!read(gate[0], &byte, 1); /* all start together */
            aip_references_t *refs;
            aip_error_t err;
            int calls = 0;
            apr_status_t rv = aip_references_make(&conf, &stop_now, &refs, &calls, pool, &err);
            _exit(rv == APR_SUCCESS && refs->n == 3 ? calls : 99);
        }
    }
    peer_start();
    close(gate[0]);
    close(gate[1]);
    int calls = 0;
    for (int i = 0; i < PROCESSES; i++) {
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        calls += WEXITSTATUS(status);
    }
    ck_assert_int_eq(calls, 1);
    ck_assert_uint_eq(peer.requests, 1);
}
END_TEST

/* ---- keys and digests ---- */

START_TEST(keys)
{
    aip_embedder_conf_t base = conf.embedder, other;
    const char *key = aip_reference_key(&base, AIP_SPAN("text"), pool);
    ck_assert_uint_eq(strlen(key), 64);
    ck_assert_uint_eq(strspn(key, "0123456789abcdef"), 64);
    ck_assert_str_eq(key, aip_reference_key(&base, AIP_SPAN("text"), pool));
    ck_assert_str_ne(key, aip_reference_key(&base, AIP_SPAN("Text"), pool));
    ck_assert_str_ne(key, aip_reference_key(&base, AIP_SPAN(""), pool));
#define DIFFERS(member, value)                                                                     \
    (other = base, other.member = (value),                                                         \
     strcmp(key, aip_reference_key(&other, AIP_SPAN("text"), pool)) != 0)
    ck_assert(DIFFERS(provider, "azure"));
    ck_assert(DIFFERS(model, "embed-2"));
    ck_assert(DIFFERS(url, "http://127.0.0.1:1/"));
    ck_assert(DIFFERS(dims, DIMS + 1));
    ck_assert(DIFFERS(send_dimensions, true));
    /* A new credential or time-out is no reason to embed again. */
    ck_assert(!DIFFERS(header_value, "x"));
    ck_assert(!DIFFERS(param_value, "x"));
    ck_assert(!DIFFERS(timeout, 1));
#undef DIFFERS
    /* Parts do not run into each other. */
    base.provider = "ab", base.model = "c";
    other = base;
    other.provider = "a", other.model = "bc";
    ck_assert_str_ne(aip_reference_key(&base, AIP_SPAN("t"), pool),
                     aip_reference_key(&other, AIP_SPAN("t"), pool));
}
END_TEST

START_TEST(digests)
{
    const char *digest = make(1)->digest;
    ck_assert_str_eq(digest, make(0)->digest);
    conf.metric = AIP_METRIC_EUCLIDEAN;
    ck_assert_str_ne(digest, make(0)->digest);
    conf.metric = AIP_METRIC_COSINE;
    conf.routes = routes_of("one|three|two");
    ck_assert_str_ne(digest, make(0)->digest);
    conf.routes = routes_of("one|two");
    ck_assert_str_ne(digest, make(0)->digest);
    conf.routes = routes_of("one|two|three|CATCHALL");
    ck_assert_str_eq(digest, make(0)->digest);
    conf.embedder.model = "embed-2";
    conf.routes = routes_of("one|two|three");
    ck_assert_str_ne(digest, make(1)->digest);
}
END_TEST

/* ---- the router ---- */

static apr_pool_t *router_pool;

static aip_router_t *start(void)
{
    aip_router_t *router = NULL;
    apr_pool_create(&router_pool, pool);
    ck_assert_int_eq(aip_router_create(&router, &conf, router_pool), APR_SUCCESS);
    ck_assert_str_eq(aip_router_conf(router)->name, "test");
    return router;
}

static const aip_model2vec_t *shipped_model(void)
{
    const char *src = getenv("AIP_SRCDIR"), *error = NULL;
    aip_model2vec_t *model = NULL;
    apr_status_t rv = aip_model2vec_load(
        &model, apr_pstrcat(pool, src ? src : ".", "/share/embedder/aip-static-en-v1", NULL), pool,
        &error);
    ck_assert_msg(rv == APR_SUCCESS, "%s", error);
    return model;
}

static void use_shipped_model(const char *routes)
{
    conf.embedder = (aip_embedder_conf_t){.local = shipped_model()};
    conf.embedder.dims = aip_model2vec_dims(conf.embedder.local);
    conf.routes = routes_of(routes);
}

START_TEST(local_references)
{
    use_shipped_model("questions about mathematics|cooking recipes");
    const aip_references_t *refs = make(0);
    int dims = conf.embedder.dims;
    float *want = apr_palloc(pool, (apr_size_t)dims * sizeof *want);
    ck_assert_int_eq(refs->dims, dims);
    for (int t = 0; t < 2; t++) {
        ck_assert_uint_gt(aip_model2vec_embed(conf.embedder.local, conf.routes->texts[t], want), 0);
        for (int i = 0; i < dims; i++) {
            ck_assert_float_eq_tol(refs->vectors[t * dims + i], want[i], 1e-6f);
        }
    }
    ck_assert_uint_eq(peer.requests, 0);
    ck_assert_int_eq(each_file(NULL), 0);
}
END_TEST

START_TEST(routes_by_meaning)
{
    static const struct {
        const char *prompt;
        int nearest;
    } rows[] = {
        {"what is the derivative of x squared", 0},
        {"solve this equation for me", 0},
        {"how long do I bake bread", 1},
        {"a sauce for pasta with garlic", 1},
    };
    use_shipped_model(
        "questions about mathematics, algebra and equations|cooking recipes, baking and food");
    aip_router_t *router = start();
    float *vector = apr_palloc(pool, (apr_size_t)conf.embedder.dims * sizeof *vector), distances[2];
    bool degraded = true;
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert(aip_router_embed_local(
            router, (aip_span_t){rows[i].prompt, strlen(rows[i].prompt)}, vector));
        aip_router_distances(router, vector, distances, &degraded, pool);
        ck_assert(!degraded);
        ck_assert_msg(distances[rows[i].nearest] < distances[1 - rows[i].nearest], "%s: %f %f",
                      rows[i].prompt, (double)distances[0], (double)distances[1]);
    }
    ck_assert(aip_router_embed_local(router, conf.routes->texts[0], vector));
    aip_router_distances(router, vector, distances, &degraded, pool);
    ck_assert_float_eq_tol(distances[0], 0.0f, 1e-5f);
    ck_assert(!aip_router_embed_local(router, AIP_SPAN(""), vector));
    ck_assert(!aip_router_embed_local(router, AIP_SPAN(" \t\n"), vector));
    apr_pool_destroy(router_pool);
    ck_assert_int_eq(logged("[6] AIP0102: test: 2 references"), 1);
    ck_assert_int_eq(logged("AIP"), 1);
}
END_TEST

/* A provider that is away at the start is asked again until it is there; the operator is told once.
 */
START_TEST(asks_again)
{
    peer.fail_first = 2;
    aip_router_t *router = start();
    ck_assert(!aip_router_ready(router, apr_time_from_msec(50)));
    ck_assert(aip_router_ready(router, apr_time_from_sec(10)));
    ck_assert(aip_router_ready(router, 0));
    ck_assert_uint_eq(peer.requests, 3);
    apr_pool_destroy(router_pool);
    ck_assert_int_eq(logged("[4] AIP0103: test: "), 1);
    ck_assert_int_eq(logged("503"), 1);
    ck_assert_int_eq(logged("AIP0102"), 1);
}
END_TEST

START_TEST(waits_no_longer_than_told)
{
    peer.fail_first = 1000;
    aip_router_t *router = start();
    apr_time_t begin = apr_time_now();
    ck_assert(!aip_router_ready(router, apr_time_from_msec(300)));
    apr_interval_time_t took = apr_time_now() - begin;
    ck_assert_int_ge(took, apr_time_from_msec(290));
    ck_assert_int_lt(took, apr_time_from_msec(1500));
    begin = apr_time_now();
    ck_assert(!aip_router_ready(router, 0));
    ck_assert_int_lt(apr_time_now() - begin, apr_time_from_msec(200));
    begin = apr_time_now();
    apr_pool_destroy(router_pool); /* while it waits for its next try */
    ck_assert_int_lt(apr_time_now() - begin, apr_time_from_msec(1500));
}
END_TEST

START_TEST(remote_answers)
{
    float v[DIMS], distances[3];
    bool degraded = true;
    aip_error_t err = {0};
    aip_router_t *router = start();
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    aip_span_t body = aip_router_request(&conf.embedder, &conf.routes->texts[1], 1, pool);
    ck_assert_str_eq(apr_pstrmemdup(pool, body.data, body.len),
                     "{\"model\":\"embed-1\",\"input\":[\"two\"],\"encoding_format\":\"base64\"}");
    char *made = vectors_json(body.data);
    ck_assert_int_eq(aip_router_response(router, (aip_span_t){made, strlen(made)}, v, pool, &err),
                     APR_SUCCESS);
    free(made);
    float norm = 0;
    for (int i = 0; i < DIMS; i++) {
        norm += v[i] * v[i];
    }
    ck_assert_float_eq_tol(norm, 1.0f, 1e-5f);
    aip_router_distances(router, v, distances, &degraded, pool);
    ck_assert(!degraded);
    ck_assert_float_eq_tol(distances[1], 0.0f, 1e-5f);
    ck_assert_float_gt(distances[0], 1e-4f);
    ck_assert_int_ne(aip_router_response(router, AIP_SPAN("{\"data\":[]}"), v, pool, &err),
                     APR_SUCCESS);
    ck_assert_ptr_nonnull(err.message);
    apr_pool_destroy(router_pool);
}
END_TEST

static int wait_for_log(const char *what)
{
    for (int i = 0; i < 100 && !logged(what); i++) {
        usleep(50000);
    }
    return logged(what);
}

/* A store that is away: the mirror answers, the operator is told once. */
START_TEST(store_is_away)
{
    aip_redis_conf_t redis = {.host = "127.0.0.1",
                              .port = 1,
                              .connect_timeout = 500,
                              .send_timeout = 500,
                              .read_timeout = 500,
                              .pool_size = 4,
                              .backlog = -1};
    float v[DIMS], distances[3], plain[3];
    bool degraded;
    aip_router_t *router = start();
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    vector_of("three", v);
    ck_assert(aip_vector_normalize(v, DIMS));
    aip_router_distances(router, v, plain, &degraded, pool);
    apr_pool_destroy(router_pool);
    conf.redis = &redis;
    router = start();
    ck_assert(aip_router_ready(router, apr_time_from_sec(5)));
    ck_assert_int_eq(wait_for_log("[4] AIP0105: test: "), 1);
    for (int i = 0; i < 50; i++) {
        degraded = false;
        aip_router_distances(router, v, distances, &degraded, pool);
        ck_assert(degraded);
        for (int t = 0; t < 3; t++) {
            ck_assert_float_eq_tol(distances[t], plain[t], 1e-6f);
        }
    }
    apr_pool_destroy(router_pool);
    ck_assert_int_eq(logged("AIP0105"), 1);
}
END_TEST

Suite *references_suite(void)
{
    Suite *suite = suite_create("references");
    TCase *tcase = tcase_create("references");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_call_then_none);
    tcase_add_test(tcase, only_what_is_missing_is_asked_for);
    tcase_add_test(tcase, without_a_cache);
    tcase_add_test(tcase, no_texts);
    tcase_add_test(tcase, euclidean_keeps_lengths);
    tcase_add_loop_test(tcase, broken_files_are_made_again, 0, sizeof broken / sizeof *broken);
    tcase_add_test(tcase, a_whole_file_is_read);
    tcase_add_loop_test(tcase, a_folder_that_cannot_be_written, 0, 2);
    tcase_add_loop_test(tcase, refused_answers, 0, sizeof refusals / sizeof *refusals);
    tcase_add_test(tcase, nobody_answers);
    tcase_add_test(tcase, stops);
    tcase_add_test(tcase, credentials);
    tcase_add_test(tcase, keys);
    tcase_add_test(tcase, digests);
    tcase_add_test(tcase, local_references);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("processes");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup_quiet, teardown);
    tcase_add_test(tcase, one_process_asks);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("router");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, routes_by_meaning);
    tcase_add_test(tcase, asks_again);
    tcase_add_test(tcase, waits_no_longer_than_told);
    tcase_add_test(tcase, remote_answers);
    tcase_add_test(tcase, store_is_away);
    suite_add_tcase(suite, tcase);
    return suite;
}
