/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of the PostgreSQL store: ended, stopped, shared by threads, apart after a fork;
 * and peers that are no PostgreSQL, or a hostile one. */

#include <apr_strings.h>
#include <apr_time.h>
#include <check.h>
#include <math.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/net/pg_pool.h"
#include "pgvector_fixture.h"

Suite *pgvector_outage_suite(void);

#define OURS "application_name = 'mod_ai_proxy_adv'"
#define KILL "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE " OURS

static int took_ms(apr_time_t start)
{
    return (int)apr_time_as_msec(apr_time_now() - start);
}

/* ---- Connections ---- */

START_TEST(killed_connections)
{
    aip_references_t refs = pg_references(3, 4);
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    ck_assert_int_eq(pg_connections(), 1);
    for (int i = 0; i < 20; i++) {
        pg_admin_do(KILL);
        pg_assert_equal_stores(db, &refs, refs.vectors);
    }
    ck_assert_int_le(pg_connections(), 2);
}
END_TEST

START_TEST(all_is_closed_with_the_pool)
{
    aip_references_t refs = pg_references(3, 4);
    apr_pool_t *own;
    aip_vectordb_t *db;

    apr_pool_create(&own, pg_test_pool);
    db = aip_vectordb_pgvector(&pg_conf, AIP_METRIC_COSINE, own);
    ASSERT_OK(pg_do_sync(db, &refs));
    ck_assert_int_eq(pg_connections(), 1);
    apr_pool_destroy(own);
    for (int i = 0; i < 200 && pg_connections() > 0; i++) {
        usleep(10000); /* the server notices a closed connection in its own time */
    }
    ck_assert_int_eq(pg_connections(), 0);
}
END_TEST

START_TEST(nobody_listens)
{
    aip_references_t refs = pg_references(3, 4);
    apr_time_t start = apr_time_now();

    pg_conf.port = 1;
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
    ASSERT_SAYS("refused");
    ck_assert_int_lt(took_ms(start), 1000);
    pg_conf.host = "/nonexistent"; /* the directory of a Unix socket */
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
}
END_TEST

/* A backend that stands still; in the test's own process so that it is set going whatever happens.
 */
START_TEST(backend_stands_still)
{
    aip_references_t refs = pg_references(3, 4);
    float distances[3];
    apr_time_t start;
    aip_vectordb_t *db;
    pid_t backend;
    int took;

    pg_conf.timeout = 300;
    db = pg_store(AIP_METRIC_COSINE);
    ASSERT_OK(pg_do_sync(db, &refs));
    backend = (pid_t)pg_admin_do("SELECT pid FROM pg_stat_activity WHERE " OURS);
    ck_assert_int_eq(kill(backend, SIGSTOP), 0);
    start = apr_time_now();
    (void)pg_do_query(db, &refs, refs.vectors, distances);
    took = took_ms(start);
    kill(backend, SIGCONT);
    ASSERT_CODE(APR_EGENERAL, "vectordb_timeout");
    ck_assert_int_ge(took, 290);
    ck_assert_int_lt(took, 700);
    pg_assert_equal_stores(db, &refs, refs.vectors); /* the late answer is not taken for this one */
}
END_TEST

static pid_t parent_of(pid_t pid)
{
    char path[64], line[512] = "";
    FILE *in;
    int parent = 0;

    apr_snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    in = fopen(path, "r");
    ck_assert(in && fgets(line, sizeof(line), in));
    fclose(in);
    ck_assert_int_eq(sscanf(strrchr(line, ')'), ") %*c %d", &parent), 1);
    return (pid_t)parent;
}

/** The kernel takes the connection, and nobody ever answers. */
START_TEST(server_stands_still)
{
    aip_references_t refs = pg_references(3, 4);
    apr_time_t start;
    pid_t server = parent_of((pid_t)pg_admin_do("SELECT pg_backend_pid()"));
    aip_vectordb_t *db;
    int took;

    pg_conf.timeout = 300;
    db = pg_store(AIP_METRIC_COSINE);
    ck_assert_int_eq(kill(server, SIGSTOP), 0);
    start = apr_time_now();
    (void)pg_do_sync(db, &refs);
    took = took_ms(start);
    kill(server, SIGCONT);
    ASSERT_CODE(APR_EGENERAL, "vectordb_timeout");
    ck_assert_int_ge(took, 290);
    ck_assert_int_lt(took, 700);
    ASSERT_OK(pg_do_sync(db, &refs));
}
END_TEST

/** A request's deadline ends a call before the store's own time-out does. */
START_TEST(deadline)
{
    aip_references_t refs = pg_references(3, 4);
    float distances[3];
    apr_time_t start;
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    pg_admin_do("BEGIN; LOCK TABLE ai_proxy_adv_vectors_4");
    start = apr_time_now();
    pg_err = (aip_error_t){0};
    ASSERT_CODE(db->kind->query_by(db, &refs, refs.vectors, distances,
                                   start + apr_time_from_msec(200), pg_test_pool, &pg_err),
                "vectordb_timeout");
    ck_assert_int_ge(took_ms(start), 190);
    ck_assert_int_lt(took_ms(start), 600);
    pg_admin_do("COMMIT");
    pg_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

/** Statements that wait for a lock are ended on the server, too: they would use up its connections.
 */
START_TEST(locked_table)
{
    aip_references_t refs = pg_references(3, 4);
    float distances[3];
    aip_vectordb_t *db;

    pg_conf.timeout = 300;
    db = pg_store(AIP_METRIC_COSINE);
    ASSERT_OK(pg_do_sync(db, &refs));
    pg_admin_do("BEGIN; LOCK TABLE ai_proxy_adv_vectors_4");
    for (int i = 0; i < 4; i++) {
        ASSERT_CODE(pg_do_query(db, &refs, refs.vectors, distances), "vectordb_timeout");
    }
    for (int i = 0; i < 200 && pg_connections() > 1; i++) {
        usleep(10000);
        pg_admin_do("SELECT pg_stat_clear_snapshot()");
    }
    ck_assert_int_le(pg_connections(), 1);
    pg_admin_do("COMMIT");
    pg_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

/* ---- Threads and processes ---- */

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
    aip_vectordb_t *memory = aip_vectordb_memory(AIP_METRIC_COSINE, pg_test_pool);
    float *distances = apr_pcalloc(pg_test_pool, (size_t)refs->n * (size_t)refs->n * sizeof(float));

    for (int i = 0; i < refs->n; i++) {
        ASSERT_OK(pg_do_query(memory, refs, refs->vectors + (size_t)i * (size_t)refs->dims,
                              distances + i * refs->n));
    }
    return distances;
}

/** Twelve threads on one pool; answers must not be mixed up. @return failed queries */
static int hammer_all(aip_vectordb_t *db, const aip_references_t *refs, int rounds, int kills)
{
    pthread_t threads[12];
    hammer_t hammers[12];
    const float *expected = all_distances(refs);
    int failed = 0, most = 0;

    for (int i = 0; i < 12; i++) {
        hammers[i] =
            (hammer_t){.db = db, .refs = refs, .expected = expected, .rounds = rounds, .number = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &hammers[i]), 0);
    }
    for (int i = 0; i < kills; i++) {
        pg_admin_do(KILL);
        usleep(2000);
    }
    for (int i = 0; !kills && i < 100; i++) {
        int now = pg_connections();

        usleep(2000);
        most = now > most ? now : most;
    }
    for (int i = 0; i < 12; i++) {
        pthread_join(threads[i], NULL);
        failed += hammers[i].failed;
    }
    ck_assert_int_le(most, AIP_PG_CONNECTIONS);
    return failed;
}

START_TEST(threads)
{
    aip_references_t refs = pg_references(12, 256);
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    ck_assert_int_eq(hammer_all(db, &refs, 150, 0), 0);
    ck_assert_int_eq(pg_connections(), AIP_PG_CONNECTIONS);
}
END_TEST

/** Connections die under way: a query whose fresh connection is killed as well may fail, but none
 * may be wrong or hang. */
START_TEST(threads_and_a_killer)
{
    aip_references_t refs = pg_references(12, 256);
    aip_vectordb_t *db = pg_store(AIP_METRIC_COSINE);

    ASSERT_OK(pg_do_sync(db, &refs));
    ck_assert_int_lt(hammer_all(db, &refs, 100, 30), 12 * 100 / 10);
    pg_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

/** Children must neither speak on their parent's connection nor end it. */
START_TEST(fork_keeps_connections_apart)
{
    aip_references_t refs = pg_references(12, 4);
    hammer_t work = {.refs = &refs, .expected = all_distances(&refs), .rounds = 30};
    long long before;

    work.db = pg_store(AIP_METRIC_COSINE);
    ASSERT_OK(pg_do_sync(work.db, &refs));
    before = pg_admin_do("SELECT pid FROM pg_stat_activity WHERE " OURS);
    for (int i = 0; i < 4; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            hammer(&work);
            _exit(work.failed ? 1 : 0);
        }
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;

        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
    pg_assert_equal_stores(work.db, &refs, refs.vectors);
    for (int i = 0; i < 200 && pg_connections() > 1; i++) {
        usleep(10000);
    }
    ck_assert_int_eq(pg_admin_do("SELECT pid FROM pg_stat_activity WHERE " OURS), before);
}
END_TEST

/* ---- Peers that are no PostgreSQL of ours ---- */

static void say(int fd, const void *bytes, size_t n)
{
    for (const char *at = bytes; n > 0;) {
        ssize_t wrote = write(fd, at, n);

        if (wrote <= 0) {
            return;
        }
        at += wrote;
        n -= (size_t)wrote;
    }
}
#define SAY(fd, literal) say(fd, literal, sizeof(literal) - 1)

/* "AuthenticationOk", "ReadyForQuery" */
#define WELCOME "R\0\0\0\010\0\0\0\0Z\0\0\0\5I"

/** Asks for the password in plaintext. @return whether it came; behind five bytes of `got` */
static bool ask(int fd, char got[1024])
{
    ssize_t n;

    SAY(fd, "R\0\0\0\010\0\0\0\3");
    n = read(fd, got, 1023);
    got[n < 0 ? 0 : n] = '\0';
    return n >= 6;
}

static void echo(int fd, const char *severity, const char *state, const char *password)
{
    char answer[1200] = "E";
    size_t len = 4 + (size_t)apr_snprintf(answer + 5, 1000, "S%s%cC%s%cMno, not %s%c%c", severity,
                                          0, state, 0, password, 0, 0);

    answer[4] = (char)len;
    say(fd, answer, len + 1);
}

static void play_echo(int fd)
{
    char got[1024];

    if (ask(fd, got)) {
        echo(fd, "FATAL", "28P01", got + 5);
    }
}

/** After the handshake, when the client has sent its first statement. */
static void play_welcome(int fd)
{
    char statement[1024];

    SAY(fd, WELCOME);
    ck_assert(read(fd, statement, sizeof(statement)) > 0);
}

/** The first statement, or the one behind it, is refused with the password that was given. */
static void play_late_echo(int fd, bool first)
{
    char got[1024], statement[1024];

    if (!ask(fd, got)) {
        return;
    }
    SAY(fd, WELCOME);
    ck_assert(read(fd, statement, sizeof(statement)) > 0);
    if (!first) {
        SAY(fd, "1\0\0\0\0042\0\0\0\4T\0\0\0\032\0\1x\0\0\0\0\0\0\0\0\0\0\031\377\377"
                "\377\377\377\377\0\1D\0\0\0\013\0\1\0\0\0\1xC\0\0\0\015SELECT 1\0Z\0\0\0\5I");
        ck_assert(read(fd, statement, sizeof(statement)) > 0);
    }
    echo(fd, "ERROR", "42501", got + 5);
    SAY(fd, "Z\0\0\0\5I");
}

static void play_first_echo(int fd)
{
    play_late_echo(fd, true);
}

static void play_second_echo(int fd)
{
    play_late_echo(fd, false);
}

static void play_flood(int fd)
{
    static char row[1 << 20] = "D\0\017\377\377\0\1\0\017\377\365";

    play_welcome(fd);
    SAY(fd, "1\0\0\0\0042\0\0\0\4T\0\0\0\032\0\1x\0\0\0\0\0\0\0\0\0\0\031\377\377"
            "\377\377\377\377\0\1");
    for (int i = 0; i < 4000; i++) {
        say(fd, row, sizeof(row));
    }
}

static void play_copy(int fd)
{
    play_welcome(fd);
    SAY(fd, "1\0\0\0\0042\0\0\0\4H\0\0\0\007\0\0\0");
}

static void play_garbage(int fd)
{
    SAY(fd, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
}

static void play_trickle(int fd)
{
    SAY(fd, "R\0\0\0\010\0\0\0\0");
    for (int i = 0; i < 100; i++) {
        SAY(fd, "N\0\0\0\015SLOG\0Mx\0\0");
        usleep(50000);
    }
}

static void play_nothing(int fd)
{
    (void)fd;
}

static const struct {
    const char *name;
    void (*play)(int fd);
    bool closes;
    const char *code;
} peers[] = {
    {"repeats the password", play_echo, true, "vectordb_auth"},
    {"repeats it to the first statement", play_first_echo, true, "vectordb_auth"},
    {"repeats it to the second statement", play_second_echo, true, "vectordb_auth"},
    {"floods", play_flood, false, "vectordb_error"},
    {"copies", play_copy, false, "vectordb_error"},
    {"speaks HTTP", play_garbage, true, "vectordb_unreachable"},
    {"closes", play_nothing, true, "vectordb_unreachable"},
    {"is silent", play_nothing, false, "vectordb_timeout"},
    {"trickles notices", play_trickle, false, "vectordb_timeout"},
};

static pid_t start_peer(void (*play)(int fd), bool closes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    pid_t pid;

    ck_assert(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 &&
              listen(listener, 5) == 0 &&
              getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    pg_conf.port = ntohs(address.sin_port);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    while (pid == 0) {
        char start[1024];
        int fd = accept(listener, NULL, NULL);

        if (fd >= 0 && read(fd, start, sizeof(start)) > 0) {
            play(fd);
        }
        if (closes) {
            close(fd);
        }
    }
    close(listener);
    return pid;
}

START_TEST(peer)
{
    aip_references_t refs = pg_references(3, 4);
    pid_t pid = start_peer(peers[_i].play, peers[_i].closes);
    apr_time_t start = apr_time_now();
    int took;

    pg_conf.password = PASSWORD;
    pg_conf.timeout = strcmp(peers[_i].code, "vectordb_timeout") ? 10000 : 300;
    (void)pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs);
    took = took_ms(start);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert_ptr_nonnull(pg_err.code);
    ck_assert_msg(!strcmp(pg_err.code, peers[_i].code), "%s: %s: %s", peers[_i].name, pg_err.code,
                  pg_err.message);
    ck_assert_ptr_null(strstr(pg_err.message, PASSWORD));
    ck_assert_int_lt(took, pg_conf.timeout + 400);
}
END_TEST

Suite *pgvector_outage_suite(void)
{
    Suite *suite = suite_create("pgvector_outage");
    TCase *tcase = pg_tcase_add(suite, "connections");

    tcase_add_test(tcase, killed_connections);
    tcase_add_test(tcase, all_is_closed_with_the_pool);
    tcase_add_test(tcase, nobody_listens);
    tcase_add_test(tcase, backend_stands_still);
    tcase_add_test(tcase, server_stands_still);
    tcase_add_test(tcase, deadline);
    tcase_add_test(tcase, locked_table);
    tcase_add_test(tcase, threads);
    tcase_add_test(tcase, threads_and_a_killer);
    tcase_add_test(tcase, fork_keeps_connections_apart);

    tcase = pg_tcase_add(suite, "peers");
    tcase_add_loop_test(tcase, peer, 0, sizeof(peers) / sizeof(peers[0]));
    return suite;
}
