/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of the Redis vector store against a real Redis: killed, paused, limited, shared
 * by threads, apart after a fork, and several processes that bring one index up to date at once. */

#include <apr_strings.h>
#include <apr_time.h>
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redis_fixture.h"

Suite *redis_pool_suite(void);

/* ---- Connections ---- */

START_TEST(killed_connections)
{
    aip_references_t refs = redis_references(3, 4);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    ASSERT_OK(redis_do_sync(db, &refs));
    ck_assert_int_eq(redis_connections(), 1);
    for (int i = 0; i < 20; i++) {
        redis_admin_do("CLIENT KILL TYPE normal SKIPME yes");
        redis_assert_equal_stores(db, &refs, refs.vectors);
    }
    ck_assert_int_eq(redis_connections(), 1);
}
END_TEST

START_TEST(pool_of_none)
{
    aip_references_t refs = redis_references(3, 4);
    aip_vectordb_t *db;

    redis_conf.pool_size = 0;
    redis_conf.backlog = 0;
    redis_conf.connect_timeout = redis_conf.send_timeout = redis_conf.read_timeout =
        0; /* no limit at all */
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(db, &refs));
    redis_assert_equal_stores(db, &refs, refs.vectors);
    ck_assert_int_eq(redis_connections(), 0);
}
END_TEST

START_TEST(all_is_closed_with_the_pool)
{
    aip_references_t refs = redis_references(3, 4);
    apr_pool_t *own;
    aip_vectordb_t *db;

    apr_pool_create(&own, redis_test_pool);
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, own);
    ASSERT_OK(redis_do_sync(db, &refs));
    ck_assert_int_eq(redis_connections(), 1);
    apr_pool_destroy(own);
    for (int i = 0; i < 100 && redis_connections() > 0; i++) {
        usleep(10000); /* the server notices a closed connection in its own time */
    }
    ck_assert_int_eq(redis_connections(), 0);
}
END_TEST

START_TEST(server_pauses)
{
    aip_references_t refs = redis_references(3, 4);
    float distances[3];
    aip_vectordb_t *db;
    apr_time_t start;

    redis_conf.read_timeout = 200;
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(db, &refs));
    redis_admin_do("CLIENT PAUSE 2000");
    start = apr_time_now();
    ASSERT_CODE(redis_do_query(db, &refs, refs.vectors, distances), "vectordb_timeout");
    ck_assert_int_lt(apr_time_as_msec(apr_time_now() - start), 1000);
    redis_admin_do("CLIENT UNPAUSE");
    redis_assert_equal_stores(db, &refs,
                              refs.vectors); /* the late answer is not taken for this one's */
}
END_TEST

/** What a thread of the next tests does. */
typedef struct hammer_t {
    aip_vectordb_t *db;
    const aip_references_t *refs;
    const float *expected; /* float[n * n]: distances of every reference to every reference */
    int rounds, failed, number;
} hammer_t;

static void *hammer(void *data)
{
    hammer_t *h = data;
    const aip_references_t *refs = h->refs;
    apr_pool_t *own;

    apr_pool_create_unmanaged_ex(&own, NULL, NULL);
    for (int round = 0; round < h->rounds; round++) {
        int at = (round + h->number) % refs->n;
        float *got = apr_pcalloc(own, (size_t)refs->n * sizeof(float));
        aip_error_t fault = {0};
        bool right =
            h->db->kind->query(h->db, refs, refs->vectors + (size_t)at * (size_t)refs->dims, got,
                               own, &fault) == APR_SUCCESS;

        for (int i = 0; right && i < refs->n; i++) {
            right = fabsf(got[i] - h->expected[at * refs->n + i]) <= 1e-5f;
        }
        h->failed += !right;
        apr_pool_clear(own);
    }
    apr_pool_destroy(own);
    return NULL;
}

static const float *all_distances(const aip_references_t *refs)
{
    aip_vectordb_t *memory = aip_vectordb_memory(AIP_METRIC_COSINE, redis_test_pool);
    float *distances =
        apr_pcalloc(redis_test_pool, (size_t)refs->n * (size_t)refs->n * sizeof(float));

    for (int i = 0; i < refs->n; i++) {
        ASSERT_OK(redis_do_query(memory, refs, refs->vectors + (size_t)i * (size_t)refs->dims,
                                 distances + i * refs->n));
    }
    return distances;
}

/** Eight threads on one pool; answers must not be mixed up. @return failed queries */
static int hammer_all(aip_vectordb_t *db, const aip_references_t *refs, int rounds, int kills)
{
    pthread_t threads[8];
    hammer_t hammers[8];
    const float *expected = all_distances(refs);
    int failed = 0;

    for (int i = 0; i < 8; i++) {
        hammers[i] =
            (hammer_t){.db = db, .refs = refs, .expected = expected, .rounds = rounds, .number = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &hammers[i]), 0);
    }
    for (int i = 0; i < kills; i++) {
        redis_admin_do("CLIENT KILL TYPE normal SKIPME yes");
        usleep(2000);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        failed += hammers[i].failed;
    }
    return failed;
}

START_TEST(eight_threads)
{
    aip_references_t refs = redis_references(12, 256);
    aip_vectordb_t *db;

    redis_conf.pool_size = 3;
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(db, &refs));
    ck_assert_int_eq(hammer_all(db, &refs, 300, 0), 0);
    for (int i = 0; i < 100 && redis_connections() > 3; i++) {
        usleep(10000);
    }
    ck_assert_int_le(redis_connections(), 3);
}
END_TEST

START_TEST(eight_threads_within_the_limit)
{
    aip_references_t refs = redis_references(12, 256);
    aip_vectordb_t *db;

    redis_conf.pool_size = 3;
    redis_conf.backlog = 5;
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(db, &refs));
    ck_assert_int_eq(hammer_all(db, &refs, 100, 0), 0);
}
END_TEST

/** Connections die under way: a query whose fresh connection is killed as well may fail, but none
 * may be wrong or hang. */
START_TEST(eight_threads_and_a_killer)
{
    aip_references_t refs = redis_references(12, 256);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    ASSERT_OK(redis_do_sync(db, &refs));
    ck_assert_int_lt(hammer_all(db, &refs, 400, 50), 8 * 400 / 10);
    redis_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

/** Runs `work` in `n` child processes. @return how many of them did not exit with 0 */
static int in_processes(int n, int (*work)(void *), void *data)
{
    int failed = 0;

    for (int i = 0; i < n; i++) {
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            _exit(work(data));
        }
    }
    for (int i = 0; i < n; i++) {
        int status = -1;

        ck_assert_int_gt(wait(&status), 0);
        failed += status != 0;
    }
    return failed;
}

static int sync_and_query(void *data)
{
    hammer_t *h = data;
    aip_error_t fault = {0};

    if (h->db->kind->sync(h->db, h->refs, redis_test_pool, &fault) != APR_SUCCESS) {
        return 1;
    }
    hammer(h);
    return h->failed ? 2 : 0;
}

START_TEST(processes_sync_at_once)
{
    aip_references_t refs = redis_references(150, 256);
    hammer_t work = {.refs = &refs, .expected = all_distances(&refs), .rounds = 5};

    work.db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ck_assert_int_eq(in_processes(6, sync_and_query, &work), 0);
    ck_assert_int_eq(redis_admin_do("DBSIZE"), 150);
}
END_TEST

/** All of them find an index of another shape first. */
START_TEST(processes_heal_at_once)
{
    aip_references_t refs = redis_references(150, 256);
    hammer_t work = {.refs = &refs, .expected = all_distances(&refs), .rounds = 0};

    redis_admin_do(CREATE(PREFIX, "8", "L2"));
    work.db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    in_processes(6, sync_and_query,
                 &work); /* one that was dropped under may give up: it would try again later */
    ASSERT_OK(redis_do_sync(work.db, &refs));
    redis_assert_equal_stores(work.db, &refs, refs.vectors);
}
END_TEST

static int query_often(void *data)
{
    hammer_t *h = data;

    hammer(h);
    return h->failed ? 1 : 0;
}

/** Children must not speak on their parent's connection. */
START_TEST(fork_keeps_connections_apart)
{
    aip_references_t refs = redis_references(12, 4);
    hammer_t work = {.refs = &refs, .expected = all_distances(&refs), .rounds = 100};
    const char *before;

    work.db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(work.db, &refs));
    before = redis_admin_text("INFO", "stats");
    ck_assert_int_eq(in_processes(4, query_often, &work), 0);
    ck_assert_int_eq(
        apr_atoi64(strstr(redis_admin_text("INFO", "stats"), "total_connections_received:") + 27),
        apr_atoi64(strstr(before, "total_connections_received:") + 27) + 4);
    redis_assert_equal_stores(work.db, &refs, refs.vectors);
}
END_TEST

Suite *redis_pool_suite(void)
{
    Suite *suite = suite_create("redis_pool");
    TCase *tcase = redis_tcase_add(suite, "connections");
    tcase_add_test(tcase, killed_connections);
    tcase_add_test(tcase, pool_of_none);
    tcase_add_test(tcase, all_is_closed_with_the_pool);
    tcase_add_test(tcase, server_pauses);
    tcase_add_test(tcase, eight_threads);
    tcase_add_test(tcase, eight_threads_within_the_limit);
    tcase_add_test(tcase, eight_threads_and_a_killer);
    tcase_add_test(tcase, processes_sync_at_once);
    tcase_add_test(tcase, processes_heal_at_once);
    tcase_add_test(tcase, fork_keeps_connections_apart);
    return suite;
}
