/* SPDX-License-Identifier: Apache-2.0 */
/* References: the file cache and what it does with broken files, one embeddings call for what is
 * missing, whichever process comes first, keys and digests. The embeddings provider is a thread of
 * this test; the local embedder is the one that is shipped. */

#include <sys/stat.h>
#include <sys/wait.h>

#include "aip/embed_texts.h"
#include "references_fixture.h"

Suite *references_suite(void);

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

static int last_done, last_total;

static void note_progress(void *baton, int done, int total)
{
    ++*(int *)baton;
    ck_assert_int_gt(done, last_done);
    last_done = done;
    last_total = total;
}

/* 150 texts, one of which is in the cache: three calls, progress after each, and the order holds.
 */
START_TEST(batches)
{
    const char *list = "three";
    int calls = -1, notes = 0;
    aip_error_t err = {0};
    conf.routes = routes_of(list);
    make(1);
    for (int i = 1; i < 150; i++) {
        list = apr_psprintf(pool, "%s|text %d", list, i);
    }
    conf.routes = routes_of(list);
    float *vectors = apr_palloc(pool, 150 * DIMS * sizeof *vectors);
    aip_embed_job_t job = {.embedder = &conf.embedder,
                           .cache_dir = conf.cache_dir,
                           .log = conf.log,
                           .texts = conf.routes->texts,
                           .n = conf.routes->n_texts,
                           .progress = note_progress,
                           .baton = &notes};
    ck_assert_int_eq(aip_embed_texts(&job, vectors, &calls, pool, &err), APR_SUCCESS);
    ck_assert_int_eq(calls, 3);
    ck_assert_int_eq(notes, 3);
    ck_assert_int_eq(last_done, 150);
    ck_assert_int_eq(last_total, 150);
    for (int t = 0; t < 150; t++) {
        float want[DIMS];
        vector_of(conf.routes->texts[t].data, want);
        ck_assert_mem_eq(vectors + t * DIMS, want, sizeof want);
    }
    ck_assert_int_eq(aip_embed_texts(&job, vectors, &calls, pool, &err), APR_SUCCESS);
    ck_assert_int_eq(calls, 0);
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

Suite *references_suite(void)
{
    Suite *suite = suite_create("references");
    TCase *tcase = tcase_create("references");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, one_call_then_none);
    tcase_add_test(tcase, batches);
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
    return suite;
}
