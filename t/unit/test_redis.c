/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis vector store against a real Redis with RediSearch: right answers, damage that sync
 * heals, and rights. What a real server does not do on demand is in test_redis_peer.c, threads and
 * processes are in test_redis_pool.c. */

#include <apr_strings.h>
#include <check.h>
#include <hiredis/hiredis.h>
#include <string.h>

#include "redis_fixture.h"

Suite *redis_suite(void);

/* ---- Right answers ---- */

static const struct {
    int n, dims;
} sizes[] = {{1, 4},    {2, 4},    {17, 4},    {150, 4},  {1, 256},   {9, 256},
             {64, 256}, {65, 256}, {150, 256}, {1, 1536}, {10, 1536}, {150, 1536}};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

START_TEST(equals_memory)
{
    const int n = sizes[_i % SIZES].n, dims = sizes[_i % SIZES].dims;
    const aip_metric_e metric = _i < SIZES ? AIP_METRIC_COSINE : AIP_METRIC_EUCLIDEAN;
    const bool unit = metric == AIP_METRIC_COSINE;
    aip_references_t refs = {
        .n = n, .dims = dims, .vectors = redis_vectors(n, dims, 7, unit), .digest = DIGEST};
    const float *queries = redis_vectors(4, dims, 99, unit);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, metric, redis_test_pool);

    ck_assert_str_eq(db->kind->name, "redis");
    ASSERT_OK(redis_do_sync(db, &refs));
    for (int i = 0; i < 4; i++) {
        redis_assert_equal_stores(db, &refs, queries + (size_t)i * (size_t)dims);
    }
    redis_assert_equal_stores(db, &refs, refs.vectors); /* distance 0 or a rounding error below */
    ck_assert_int_eq(redis_admin_do("DBSIZE"), n);
}
END_TEST

START_TEST(second_sync_writes_nothing)
{
    aip_references_t refs = redis_references(150, 256);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    ASSERT_OK(redis_do_sync(db, &refs));
    redis_admin_do("CONFIG RESETSTAT");
    ASSERT_OK(redis_do_sync(db, &refs));
    ck_assert_ptr_null(strstr(redis_admin_text("INFO", "commandstats"), "cmdstat_hset:"));
    ck_assert_ptr_null(strcasestr(redis_admin_text("INFO", "commandstats"), "cmdstat_ft.create:"));
    redis_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

START_TEST(two_configurations_side_by_side)
{
    aip_references_t a = redis_references(3, 4), b = redis_references(5, 8);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    b.digest = "fedcba98765432100123456789abcdef";
    ASSERT_OK(redis_do_sync(db, &a));
    ASSERT_OK(redis_do_sync(db, &b));
    redis_assert_equal_stores(db, &a, a.vectors);
    redis_assert_equal_stores(db, &b, b.vectors);
}
END_TEST

START_TEST(no_references)
{
    aip_references_t refs = {.n = 0, .dims = 4, .digest = DIGEST};
    const float vector[4] = {1, 0, 0, 0};
    aip_vectordb_t *db;

    redis_conf.port = 1; /* nobody there: no connection is made */
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(db, &refs));
    ASSERT_OK(redis_do_query(db, &refs, vector, NULL));
}
END_TEST

START_TEST(zero_query_vector)
{
    aip_references_t refs = redis_references(3, 4);
    const float vector[4] = {0};
    float distances[3];
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    ASSERT_OK(redis_do_sync(db, &refs));
    ASSERT_CODE(redis_do_query(db, &refs, vector, distances),
                "vectordb_error"); /* the server says nan */
}
END_TEST

/* ---- Damage on the server, and that sync heals it ---- */

static const struct {
    const char *name;
    const char *commands[3];
} damages[] = {
    {"flushed", {"FLUSHALL"}},
    {"index dropped", {"FT.DROPINDEX " INDEX}},
    {"index and documents dropped", {"FT.DROPINDEX " INDEX " DD"}},
    {"one document missing", {"DEL " PREFIX "11"}},
    {"one vector missing", {"HDEL " PREFIX "2 vec", "HSET " PREFIX "2 other x"}},
    {"one vector of another length", {"HSET " PREFIX "3 vec abcd"}},
    {"other dimensions", {"FT.DROPINDEX " INDEX, CREATE(PREFIX, "8", "COSINE")}},
    {"other prefix", {"FT.DROPINDEX " INDEX, CREATE("else:", "4", "COSINE")}},
    {"other dimensions, no documents", {"FLUSHALL", CREATE(PREFIX, "1536", "COSINE")}},
    {"foreign documents",
     {"HSET " PREFIX "x vec aaaaaaaaaaaaaaaa", "HSET " PREFIX "012 vec bbbbbbbbbbbbbbbb",
      "HSET " PREFIX "99 vec cccccccccccccccc"}},
};

START_TEST(damage_heals)
{
    aip_references_t refs = redis_references(12, 4);
    float distances[12];
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    ASSERT_OK(redis_do_sync(db, &refs));
    for (int i = 0; i < 3 && damages[_i].commands[i]; i++) {
        redis_admin_do(damages[_i].commands[i]);
    }
    if (strcmp(damages[_i].name, "foreign documents")) {
        ASSERT_CODE(redis_do_query(db, &refs, refs.vectors, distances), "vectordb_index");
    }
    ck_assert_msg(redis_do_sync(db, &refs) == APR_SUCCESS, "%s: %s", damages[_i].name,
                  redis_err.message);
    redis_assert_equal_stores(db, &refs, refs.vectors);
    ck_assert_int_eq(redis_admin_do("DBSIZE"), 12);
}
END_TEST

START_TEST(other_metric_heals)
{
    aip_references_t refs = redis_references(5, 4);
    const float *query = redis_vectors(1, 4, 5, false);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_EUCLIDEAN, redis_test_pool);

    redis_admin_do(CREATE(PREFIX, "4", "COSINE"));
    ASSERT_OK(redis_do_sync(db, &refs));
    redis_assert_equal_stores(db, &refs, query);
}
END_TEST

/** A foreign document that is nearer than a reference pushes it out of the k nearest: an error,
 * never a wrong answer. */
START_TEST(foreign_document_is_noticed)
{
    aip_references_t refs = redis_references(2, 4);
    float distances[2];
    const char *argv[4] = {"HSET", PREFIX "near", "vec", (const char *)refs.vectors};
    const size_t lens[4] = {4, strlen(PREFIX "near"), 3, 16};
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    ASSERT_OK(redis_do_sync(db, &refs));
    freeReplyObject(redisCommandArgv(redis_admin, 4, argv, lens));
    ASSERT_CODE(redis_do_query(db, &refs, refs.vectors, distances), "vectordb_index");
    ASSERT_OK(redis_do_sync(db, &refs));
    redis_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

START_TEST(key_of_another_type)
{
    aip_references_t refs = redis_references(2, 4);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    redis_admin_do("SET " PREFIX "1 text");
    ASSERT_CODE(redis_do_sync(db, &refs), "vectordb_error");
    ck_assert_ptr_nonnull(strstr(redis_err.message, "WRONGTYPE"));
}
END_TEST

/* ---- Who may do what ---- */

START_TEST(passwords)
{
    static const struct {
        const char *setting, *username, *password, *code;
    } rows[] = {
        {"CONFIG SET requirepass " PASSWORD, NULL, NULL, "vectordb_auth"},
        {"CONFIG SET requirepass " PASSWORD, NULL, "wrong-" PASSWORD, "vectordb_auth"},
        {"CONFIG SET requirepass " PASSWORD, NULL, PASSWORD, NULL},
        {"CONFIG SET requirepass " PASSWORD, "default", PASSWORD, NULL},
        {"CONFIG SET requirepass " PASSWORD, "nobody", PASSWORD, "vectordb_auth"},
        {"PING", NULL, PASSWORD, "vectordb_auth"}, /* the server has none */
        {"ACL SETUSER gw on >" PASSWORD " ~aip:* +@all", "gw", PASSWORD, NULL},
        {"ACL SETUSER gw on >" PASSWORD " ~aip:* +@all", "gw", "wrong-" PASSWORD, "vectordb_auth"},
        {"ACL SETUSER gw off >" PASSWORD " ~aip:* +@all", "gw", PASSWORD, "vectordb_auth"},
    };
    aip_references_t refs = redis_references(3, 4);
    float distances[3];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        aip_vectordb_t *db;

        redis_conf.username = rows[i].username;
        redis_conf.password = rows[i].password;
        db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
        redis_admin_do(rows[i].setting);
        if (rows[i].code) {
            ASSERT_CODE(redis_do_sync(db, &refs), rows[i].code);
            ASSERT_CODE(redis_do_query(db, &refs, refs.vectors, distances), rows[i].code);
        } else {
            ASSERT_OK(redis_do_sync(db, &refs));
            redis_assert_equal_stores(db, &refs, refs.vectors);
        }
        redis_open_access();
    }
}
END_TEST

/** The smallest set of rights: all of it suffices for everything, and without any one of them
 * something is refused. */
START_TEST(least_rights)
{
    static const char *rights[] = {"~aip:*",     "+ft.search", "+ft.info",
                                   "+ft.create", "+hstrlen",   "+hset"};
    const int n = sizeof(rights) / sizeof(rights[0]);

    redis_conf.username = "gw";
    redis_conf.password = PASSWORD;
    for (int without = -1; without < n; without++) {
        aip_references_t refs = redis_references(3, 4);
        float distances[3];
        const char *user = "ACL SETUSER gw reset on >" PASSWORD;
        aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

        for (int i = 0; i < n; i++) {
            user = i == without ? user : apr_pstrcat(redis_test_pool, user, " ", rights[i], NULL);
        }
        redis_admin_do("FLUSHALL");
        redis_admin_do(user);
        if (without < 0) {
            ASSERT_OK(redis_do_sync(db, &refs));
            redis_assert_equal_stores(db, &refs, refs.vectors);
        } else if (redis_do_sync(db, &refs) == APR_SUCCESS) {
            ASSERT_CODE(redis_do_query(db, &refs, refs.vectors, distances), "vectordb_auth");
        } else {
            ck_assert_msg(!strcmp(redis_err.code, "vectordb_auth"), "without %s: %s",
                          rights[without], redis_err.message);
        }
    }
    redis_open_access();
}
END_TEST

/** Readers of an index that somebody else keeps need no right to write. */
START_TEST(read_only_user)
{
    aip_references_t refs = redis_references(3, 4);
    aip_vectordb_t *writer = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool),
                   *reader;

    ASSERT_OK(redis_do_sync(writer, &refs));
    redis_admin_do("ACL SETUSER gw reset on >" PASSWORD " ~aip:* +ft.search +ft.info +hstrlen");
    redis_conf.username = "gw";
    redis_conf.password = PASSWORD;
    reader = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(reader, &refs));
    redis_assert_equal_stores(reader, &refs, refs.vectors);
    redis_admin_do("DEL " PREFIX "1");
    ASSERT_CODE(redis_do_sync(reader, &refs), "vectordb_auth");
    redis_open_access();
}
END_TEST

START_TEST(other_database)
{
    aip_references_t refs = redis_references(3, 4);
    float distances[3];
    aip_vectordb_t *db;

    redis_conf.database = 1;
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_CODE(redis_do_sync(db, &refs), "vectordb_error");
    ck_assert_ptr_nonnull(strstr(redis_err.message, "database 0"));
    ASSERT_CODE(redis_do_query(db, &refs, refs.vectors, distances), "vectordb_index");

    redis_conf.database = 99; /* the server has 16 */
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_CODE(redis_do_sync(db, &refs), "vectordb_error");
    ck_assert_ptr_nonnull(strstr(redis_err.message, "SELECT"));

    redis_conf.proxied = true; /* no SELECT behind a proxy */
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ASSERT_OK(redis_do_sync(db, &refs));
    redis_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

START_TEST(tls_needs_a_build_with_it)
{
    aip_references_t refs = redis_references(3, 4);
    aip_vectordb_t *db;

    redis_conf.ssl = true;
    redis_conf.port = redis_plain_port();
    redis_conf.connect_timeout = 300;
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    if (aip_redis_has_tls()) { /* the plain port answers no handshake */
        ck_assert_int_eq(redis_do_sync(db, &refs), APR_EGENERAL);
        ck_assert_ptr_nonnull(strstr(redis_err.message, "redis: TLS: "));
    } else {
        ASSERT_CODE(redis_do_sync(db, &refs), "vectordb_error");
        ck_assert_ptr_nonnull(aip_redis_tls_check(&redis_conf, redis_test_pool));
    }
}
END_TEST

Suite *redis_suite(void)
{
    Suite *suite = suite_create("redis");
    TCase *tcase = redis_tcase_add(suite, "answers");

    tcase_add_loop_test(tcase, equals_memory, 0, 2 * SIZES);
    tcase_add_test(tcase, second_sync_writes_nothing);
    tcase_add_test(tcase, two_configurations_side_by_side);
    tcase_add_test(tcase, no_references);
    tcase_add_test(tcase, zero_query_vector);

    tcase = redis_tcase_add(suite, "damage");
    tcase_add_loop_test(tcase, damage_heals, 0, sizeof(damages) / sizeof(damages[0]));
    tcase_add_test(tcase, other_metric_heals);
    tcase_add_test(tcase, foreign_document_is_noticed);
    tcase_add_test(tcase, key_of_another_type);

    tcase = redis_tcase_add(suite, "rights");
    tcase_add_test(tcase, passwords);
    tcase_add_test(tcase, least_rights);
    tcase_add_test(tcase, read_only_user);
    tcase_add_test(tcase, other_database);
    tcase_add_test(tcase, tls_needs_a_build_with_it);
    return suite;
}
