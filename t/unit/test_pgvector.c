/* SPDX-License-Identifier: Apache-2.0 */
/* The PostgreSQL vector store against a real PostgreSQL with pgvector: right answers, damage, and
 * rights. Outages and hostile peers are in test_pgvector_outage.c, TLS is in test_pgvector_tls.c.
 */

#include <apr_strings.h>
#include <check.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgvector_fixture.h"

Suite *pgvector_suite(void);

#define TABLE "ai_proxy_adv_vectors_4"

/* ---- Right answers ---- */

static const struct {
    int n, dims;
} sizes[] = {{1, 4},    {2, 4},     {17, 4},   {150, 4},   {1, 256},    {9, 256}, {64, 256},
             {65, 256}, {150, 256}, {1, 1536}, {10, 1536}, {150, 1536}, {2, 1},   {3, 16000}};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

START_TEST(equals_memory)
{
    const int n = sizes[_i % SIZES].n, dims = sizes[_i % SIZES].dims;
    const aip_metric_e metric = _i < SIZES ? AIP_METRIC_COSINE : AIP_METRIC_EUCLIDEAN;
    const bool unit = metric == AIP_METRIC_COSINE;
    aip_references_t refs = {
        .n = n, .dims = dims, .vectors = pg_vectors(n, dims, 7, unit), .digest = DIGEST};
    const float *queries = pg_vectors(4, dims, 99, unit);
    aip_vectordb_t *db = pg_store(metric);

    ck_assert_str_eq(db->kind->name, "pgvector");
    ASSERT_OK(pg_do_sync(db, &refs));
    for (int i = 0; i < 4; i++) {
        pg_assert_equal_stores(db, &refs, queries + (size_t)i * (size_t)dims);
    }
    pg_assert_equal_stores(db, &refs, refs.vectors); /* distance 0 or a rounding error below */
    ck_assert_int_eq(pg_admin_do(apr_psprintf(pg_test_pool,
                                              "SELECT count(*) FROM ai_proxy_adv_vectors_%d "
                                              "WHERE namespace = '" NAMESPACE "'",
                                              dims)),
                     n);
}
END_TEST

/** Every bit of a vector arrives. */
START_TEST(vectors_are_exact)
{
    const float vectors[] = {1.0f / 3, -1.17549435e-38f, 3.40282347e+19f, -0.1f};
    aip_references_t refs = {.n = 1, .dims = 4, .vectors = vectors, .digest = DIGEST};
    aip_vectordb_t *db = pg_store(AIP_METRIC_EUCLIDEAN);
    float distance;

    ASSERT_OK(pg_do_sync(db, &refs));
    ASSERT_OK(pg_do_query(db, &refs, vectors, &distance));
    ck_assert_float_eq(distance, 0);
    ck_assert_int_eq(pg_admin_do("SELECT count(*) FROM " TABLE
                                 " WHERE (embedding::real[])[1] = (1.0::float8 / 3)::real "
                                 "AND (embedding::real[])[2] = '-1.17549435e-38'::real"),
                     1);
}
END_TEST

START_TEST(second_sync_writes_nothing)
{
    aip_references_t refs = pg_references(150, 4);
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    pg_admin_do("REVOKE ALL ON SCHEMA public FROM public; CREATE ROLE plain LOGIN PASSWORD "
                "'" PASSWORD "'; GRANT USAGE ON SCHEMA public TO plain; GRANT SELECT ON " TABLE
                " TO plain");
    pg_conf.user = "plain";
    pg_conf.password = PASSWORD;
    db = pg_store(AIP_METRIC_COSINE);
    ASSERT_OK(pg_do_sync(db, &refs)); /* who may not write needs not to */
    pg_assert_equal_stores(db, &refs, refs.vectors);
    pg_admin_do("DELETE FROM " TABLE " WHERE number = 7");
    ASSERT_CODE(pg_do_sync(db, &refs), "vectordb_auth");
    pg_admin_do("GRANT INSERT ON " TABLE " TO plain");
    ASSERT_OK(pg_do_sync(db, &refs));
    pg_assert_equal_stores(db, &refs, refs.vectors);
    pg_admin_do("DROP OWNED BY plain");
}
END_TEST

START_TEST(two_configurations_side_by_side)
{
    aip_references_t a = pg_references(3, 4), b = pg_references(5, 4), c = pg_references(5, 8);
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    b.vectors = pg_vectors(5, 4, 8, true);
    b.digest = "fedcba98765432100123456789abcdef";
    ASSERT_OK(pg_do_sync(db, &a));
    ASSERT_OK(pg_do_sync(db, &b));
    ASSERT_OK(pg_do_sync(db, &c));
    pg_assert_equal_stores(db, &a, a.vectors);
    pg_assert_equal_stores(db, &b, a.vectors);
    pg_assert_equal_stores(db, &c, c.vectors);
}
END_TEST

START_TEST(no_references)
{
    aip_references_t refs = {.n = 0, .dims = 4, .digest = DIGEST};
    const float vector[4] = {1, 0, 0, 0};
    aip_vectordb_t *db;

    pg_conf.port = 1; /* nobody there: no connection is made */
    db = pg_store(AIP_METRIC_COSINE);
    ASSERT_OK(pg_do_sync(db, &refs));
    ASSERT_OK(pg_do_query(db, &refs, vector, NULL));
}
END_TEST

START_TEST(zero_query_vector)
{
    aip_references_t refs = pg_references(3, 4);
    const float vector[4] = {0};
    float distances[3];
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    ASSERT_CODE(pg_do_query(db, &refs, vector, distances), "vectordb_error");
    ASSERT_SAYS("not finite");
}
END_TEST

START_TEST(too_many_dimensions)
{
    aip_references_t refs = pg_references(1, AIP_PGVECTOR_DIMENSIONS_MAX + 1);

    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_index");
}
END_TEST

/* An approximate index that an administrator makes changes no answer: HNSW would leave rows out. */
START_TEST(index_of_somebody_else)
{
    aip_references_t refs = pg_references(150, 4);
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    pg_admin_do("CREATE INDEX ON " TABLE " USING hnsw (embedding vector_cosine_ops); "
                "ALTER TABLE " TABLE " DROP CONSTRAINT " TABLE "_pkey; "
                "ALTER ROLE " ADMIN " SET enable_seqscan = off");
    db = pg_store(AIP_METRIC_COSINE);
    pg_assert_equal_stores(db, &refs, refs.vectors);
    pg_admin_do("ALTER ROLE " ADMIN " RESET enable_seqscan");
}
END_TEST

/* ---- Damage on the server ---- */

static const struct {
    const char *sql;
    const char *query; /* what the query says before sync, NULL: nothing is wrong */
    const char *sync;  /* NULL: it heals */
    const char *words;
} damages[] = {
    {"DROP TABLE " TABLE, "vectordb_index", NULL, NULL},
    {"TRUNCATE " TABLE, "vectordb_index", NULL, NULL},
    {"DELETE FROM " TABLE " WHERE number IN (0, 11)", "vectordb_index", NULL, NULL},
    {"DROP EXTENSION vector CASCADE; DROP TABLE " TABLE, "vectordb_index", NULL, NULL},
    {"INSERT INTO " TABLE " VALUES ('" NAMESPACE "', 12, '[1,0,0,0]'), ('" NAMESPACE
     "', -1, '[1,0,0,0]'), ('other', 0, '[1,0,0,0]')",
     NULL, NULL, NULL},
    {"DROP EXTENSION vector CASCADE", "vectordb_index", "vectordb_index", "another form"},
    {"DROP TABLE " TABLE "; CREATE TABLE " TABLE " (a int)", "vectordb_index", "vectordb_index",
     "another form"},
    {"DROP TABLE " TABLE "; CREATE TABLE " TABLE
     " (namespace text, number int, embedding vector(8), PRIMARY KEY (namespace, number))",
     "vectordb_index", "vectordb_index", "another form"},
    {"DROP TABLE " TABLE "; CREATE TABLE " TABLE
     " (namespace text, number int, embedding vector(4))",
     "vectordb_index", "vectordb_index", "another form"},
    {"ALTER TABLE " TABLE " ALTER embedding TYPE vector; UPDATE " TABLE
     " SET embedding = '[1,2]' WHERE number = 3",
     "vectordb_index", "vectordb_index", "cannot be written"},
};

START_TEST(damage)
{
    aip_references_t refs = pg_references(12, 4);
    float distances[12];
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    pg_admin_do(damages[_i].sql);
    if (damages[_i].query) {
        ASSERT_CODE(pg_do_query(db, &refs, refs.vectors, distances), damages[_i].query);
    } else {
        pg_assert_equal_stores(db, &refs, refs.vectors);
    }
    if (damages[_i].sync) {
        ASSERT_CODE(pg_do_sync(db, &refs), damages[_i].sync);
        ASSERT_SAYS(damages[_i].words);
        return;
    }
    ASSERT_OK(pg_do_sync(db, &refs));
    pg_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

/* ---- Who may do what ---- */

START_TEST(passwords)
{
    static const struct {
        const char *user, *password, *database, *code, *words;
    } rows[] = {
        {"plain", PASSWORD, "postgres", NULL, NULL},
        {"plain", "wrong-" PASSWORD, "postgres", "vectordb_auth", "plain"},
        {"plain", NULL, "postgres", "vectordb_auth", "AIVectordbPgvectorPassword"},
        {"nobody-of-ours", PASSWORD, "postgres", "vectordb_auth", "nobody-of-ours"},
        {"plain", PASSWORD, "none-of-ours", "vectordb_error", "AIVectordbPgvectorDatabase"},
        /* a name, not a list of settings */
        {"plain", PASSWORD, "host=127.0.0.9 dbname=postgres", "vectordb_error", "host=127.0.0.9"},
    };
    aip_references_t refs = pg_references(3, 4);
    float distances[3];

    pg_admin_do("CREATE ROLE plain LOGIN PASSWORD '" PASSWORD "'; CREATE EXTENSION vector; "
                "GRANT CREATE ON SCHEMA public TO plain; GRANT USAGE ON SCHEMA public TO plain");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        aip_vectordb_t *db;

        pg_conf.user = rows[i].user;
        pg_conf.password = rows[i].password;
        pg_conf.database = rows[i].database;
        db = pg_store(AIP_METRIC_COSINE);
        if (rows[i].code) {
            ASSERT_CODE(pg_do_sync(db, &refs), rows[i].code);
            ASSERT_SAYS(rows[i].words);
            ASSERT_CODE(pg_do_query(db, &refs, refs.vectors, distances), rows[i].code);
        } else {
            ASSERT_OK(pg_do_sync(db, &refs));
            pg_assert_equal_stores(db, &refs, refs.vectors);
        }
    }
    pg_admin_do("DROP OWNED BY plain");
}
END_TEST

/** A user who may not make the extension is told what an administrator has to do. */
START_TEST(extension_is_missing)
{
    aip_references_t refs = pg_references(3, 4);
    aip_vectordb_t *db;

    pg_admin_do("CREATE ROLE plain LOGIN PASSWORD '" PASSWORD "'; "
                "GRANT ALL ON SCHEMA public TO plain");
    pg_conf.user = "plain";
    pg_conf.password = PASSWORD;
    db = pg_store(AIP_METRIC_COSINE);
    ASSERT_CODE(pg_do_sync(db, &refs), "vectordb_index");
    ASSERT_SAYS("CREATE EXTENSION vector in that database");
    pg_admin_do("CREATE EXTENSION vector");
    ASSERT_OK(pg_do_sync(db, &refs));
    pg_assert_equal_stores(db, &refs, refs.vectors);
    pg_admin_do("DROP OWNED BY plain");
}
END_TEST

START_TEST(may_not_make_the_table)
{
    aip_references_t refs = pg_references(3, 4);
    aip_vectordb_t *db;

    pg_admin_do("CREATE EXTENSION vector; CREATE ROLE plain LOGIN PASSWORD '" PASSWORD "'; "
                "GRANT USAGE ON SCHEMA public TO plain");
    pg_conf.user = "plain";
    pg_conf.password = PASSWORD;
    db = pg_store(AIP_METRIC_COSINE);
    ASSERT_CODE(pg_do_sync(db, &refs), "vectordb_auth");
    ASSERT_SAYS("CREATE TABLE");
    pg_admin_do("DROP OWNED BY plain");
}
END_TEST

/* ---- Several servers ---- */

static int sync_all(const aip_references_t *refs, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        aip_error_t err = {0};
        aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

        if (db->kind->sync(db, refs, pg_test_pool, &err) != APR_SUCCESS) {
            fprintf(stderr, "%s: %s\n", err.code, err.message);
            return 1;
        }
    }
    return 0;
}

/** All find nothing at first, not even the extension. */
START_TEST(processes_sync_at_once)
{
    aip_references_t refs = pg_references(150, 64);
    int failed = 0;

    for (int i = 0; i < 6; i++) {
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            _exit(sync_all(&refs, 2));
        }
    }
    for (int i = 0; i < 6; i++) {
        int status = -1;

        ck_assert_int_gt(wait(&status), 0);
        failed += status != 0;
    }
    ck_assert_int_eq(failed, 0);
    ck_assert_int_eq(pg_admin_do("SELECT count(*) FROM ai_proxy_adv_vectors_64"), 150);
    pg_assert_equal_stores(pg_store(AIP_METRIC_COSINE), &refs, refs.vectors);
}
END_TEST

Suite *pgvector_suite(void)
{
    Suite *suite = suite_create("pgvector");
    TCase *tcase = pg_tcase_add(suite, "answers");

    tcase_add_loop_test(tcase, equals_memory, 0, 2 * SIZES);
    tcase_add_test(tcase, vectors_are_exact);
    tcase_add_test(tcase, second_sync_writes_nothing);
    tcase_add_test(tcase, two_configurations_side_by_side);
    tcase_add_test(tcase, no_references);
    tcase_add_test(tcase, zero_query_vector);
    tcase_add_test(tcase, too_many_dimensions);
    tcase_add_test(tcase, index_of_somebody_else);

    tcase = pg_tcase_add(suite, "damage");
    tcase_add_loop_test(tcase, damage, 0, sizeof(damages) / sizeof(damages[0]));

    tcase = pg_tcase_add(suite, "rights");
    tcase_add_test(tcase, passwords);
    tcase_add_test(tcase, extension_is_missing);
    tcase_add_test(tcase, may_not_make_the_table);

    tcase = pg_tcase_add(suite, "servers");
    tcase_add_loop_test(tcase, processes_sync_at_once, 0, 3);
    return suite;
}
