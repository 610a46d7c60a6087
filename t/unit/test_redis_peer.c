/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis vector store against a scripted peer: wrong, late, torn and missing answers, time-outs
 * and limits, which a real server does not give on demand. Needs no Redis. */

#include <apr_time.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aip/vectordb.h"
#include "fixture.h"

Suite *redis_peer_suite(void);

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PREFIX "aip:ref:0123456789abcdef0123456789abcdef:"
#define INDEX "aip:index:0123456789abcdef0123456789abcdef"
#define PASSWORD "pa55-w0rd-never-shown"

static const float vectors[8] = {1, 0, 0, 0, 0, 1, 0, 0};
static const aip_references_t refs = {.n = 2, .dims = 4, .vectors = vectors, .digest = DIGEST};

static aip_redis_conf_t conf;
static aip_error_t err;

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    pool_setup();
    conf = (aip_redis_conf_t){.host = "127.0.0.1",
                              .connect_timeout = 2000,
                              .send_timeout = 2000,
                              .read_timeout = 2000,
                              .pool_size = 4,
                              .backlog = -1};
    err = (aip_error_t){0};
}

static apr_status_t do_sync(aip_vectordb_t *db)
{
    err = (aip_error_t){0};
    return db->kind->sync(db, &refs, pool, &err);
}

static apr_status_t do_query(aip_vectordb_t *db, float *distances)
{
    err = (aip_error_t){0};
    return db->kind->query(db, &refs, vectors, distances, pool, &err);
}

#define ASSERT_OK(call) ck_assert_msg((call) == APR_SUCCESS, "%s: %s", err.code, err.message)
#define ASSERT_CODE(call, expected)                                                                \
    do {                                                                                           \
        ck_assert_int_eq((call), APR_EGENERAL);                                                    \
        ck_assert_msg(err.code && !strcmp(err.code, expected), "expected %s: %s: %s", expected,    \
                      err.code, err.message);                                                      \
        ck_assert_ptr_null(strstr(err.message, PASSWORD));                                         \
    } while (0)

/* ---- A scripted peer ---- */

/** What it does per connection: reads something, sends a reply, and so on; NULL ends it. */
typedef struct peer_t {
    const char *replies[4][4]; /* [connection][reply] */
    bool trickle;              /* replies byte by byte, 20 ms apart, over and over */
    bool hang_up;              /* closes after the last reply; else only after one more command */
    int delay_ms;              /* before each reply */
    const char *late;          /* sent unasked 20 ms after each reply, if any */
    int fd, port, accepted, answered;
    pthread_t thread;
} peer_t;

static int listen_on_any_port(int backlog, int *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

static void *peer_run(void *data)
{
    peer_t *peer = data;
    char buf[65536];

    for (int i = 0; i < 4; i++) {
        int fd = accept(peer->fd, NULL, NULL);

        if (fd < 0) {
            break;
        }
        peer->accepted++;
        for (int k = 0; k < 4 && peer->replies[i][k]; k++) {
            const char *reply = peer->replies[i][k];

            if (recv(fd, buf, sizeof(buf), 0) <= 0) {
                break;
            }
            usleep((useconds_t)peer->delay_ms * 1000);
            if (peer->trickle) {
                while (send(fd, reply, 1, MSG_NOSIGNAL) == 1) {
                    usleep(20000);
                }
            } else {
                peer->answered++;
                send(fd, reply, strlen(reply), MSG_NOSIGNAL);
            }
            if (peer->late) {
                usleep(20000);
                send(fd, peer->late, strlen(peer->late), MSG_NOSIGNAL);
            }
        }
        if (peer->replies[i][0] && !peer->hang_up) {
            (void)!recv(fd, buf, sizeof(buf), 0);
        }
        close(fd);
    }
    return NULL;
}

static void peer_start(peer_t *peer)
{
    peer->fd = listen_on_any_port(8, &peer->port);
    conf.port = peer->port;
    ck_assert_int_eq(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
}

static void peer_stop(peer_t *peer)
{
    shutdown(peer->fd, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->fd);
}

#define KEY(n) "$42\r\n" PREFIX n "\r\n"
#define HIT(n, d, len) KEY(n) "*2\r\n$1\r\nd\r\n$" len "\r\n" d "\r\n"
#define GOOD "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "1.25", "4")

static const struct {
    const char *name, *reply, *code; /* NULL: good */
} answers[] = {
    {"good", GOOD, NULL},
    {"tiny negative", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "-1.2e-07", "8"), NULL},
    {"no hits", "*1\r\n:0\r\n", "vectordb_index"},
    {"one hit", "*3\r\n:1\r\n" HIT("1", "0.5", "3"), "vectordb_index"},
    {"same hit twice", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("1", "0.5", "3"), "vectordb_index"},
    {"number out of range", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("2", "0.5", "3"),
     "vectordb_index"},
    {"huge number", "*5\r\n:2\r\n" HIT("1", "0.5", "3") "$52\r\n" PREFIX "42949672960\r\n*0\r\n",
     "vectordb_index"},
    {"number written with a zero",
     "*5\r\n:2\r\n" HIT("1", "0.5", "3") "$43\r\n" PREFIX "00\r\n*0\r\n", "vectordb_index"},
    {"key without number", "*5\r\n:2\r\n" HIT("1", "0.5", "3") "$41\r\n" PREFIX "\r\n*0\r\n",
     "vectordb_index"},
    {"key of another prefix", "*5\r\n:2\r\n" HIT("1", "0.5", "3") "$5\r\nother\r\n*0\r\n",
     "vectordb_index"},
    {"key is a number", "*5\r\n:2\r\n" HIT("1", "0.5", "3") ":0\r\n*0\r\n", "vectordb_index"},
    {"fields are nil", "*5\r\n:2\r\n" HIT("1", "0.5", "3") KEY("0") "*-1\r\n", "vectordb_error"},
    {"no fields", "*5\r\n:2\r\n" HIT("1", "0.5", "3") KEY("0") "*0\r\n", "vectordb_error"},
    {"another field", "*5\r\n:2\r\n" HIT("1", "0.5", "3") KEY("0") "*2\r\n$1\r\ne\r\n$1\r\n1\r\n",
     "vectordb_error"},
    {"distance nan", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "nan", "3"), "vectordb_error"},
    {"distance inf", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "inf", "3"), "vectordb_error"},
    {"distance too large", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "1e400", "5"),
     "vectordb_error"},
    {"distance with a comma", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "0,5", "3"),
     "vectordb_error"},
    {"distance empty", "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "", "0"), "vectordb_error"},
    {"distance an integer", "*5\r\n:2\r\n" HIT("1", "0.5", "3") KEY("0") "*2\r\n$1\r\nd\r\n:1\r\n",
     "vectordb_error"},
    {"even count", "*2\r\n:1\r\n" KEY("0"), "vectordb_error"},
    {"total is no integer", "*1\r\n$1\r\n0\r\n", "vectordb_error"},
    {"empty array", "*0\r\n", "vectordb_error"},
    {"nil array", "*-1\r\n", "vectordb_error"},
    {"nil", "$-1\r\n", "vectordb_error"},
    {"status", "+OK\r\n", "vectordb_error"},
    {"integer", ":1\r\n", "vectordb_error"},
    {"no RESP", "HTTP/1.1 400 Bad Request\r\n\r\n", "vectordb_error"},
    {"auth needed", "-NOAUTH Authentication required.\r\n", "vectordb_auth"},
    {"not allowed", "-NOPERM User gw has no permissions to run the 'ft.search' command\r\n",
     "vectordb_auth"},
    {"no index", "-" INDEX ": no such index\r\n", "vectordb_index"},
    {"no index, older words", "-Unknown Index name\r\n", "vectordb_index"},
    {"other dimensions",
     "-Error parsing vector similarity query: query vector blob size (16) does not match index's "
     "expected size (32).\r\n",
     "vectordb_index"},
    {"no such command",
     "-ERR unknown command 'FT.SEARCH', with args beginning with: '" PASSWORD "'\r\n",
     "vectordb_error"},
    {"loading", "-LOADING Redis is loading the dataset in memory\r\n", "vectordb_unreachable"},
    {"full", "-ERR max number of clients reached\r\n", "vectordb_unreachable"},
    {"anything else", "-ERR \x01strange\r\n", "vectordb_error"},
};

START_TEST(every_answer)
{
    peer_t peer = {.replies = {{answers[_i].reply}}};
    float distances[2];
    aip_vectordb_t *db;

    peer_start(&peer);
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    if (answers[_i].code) {
        ck_assert_msg(do_query(db, distances) == APR_EGENERAL, "%s", answers[_i].name);
        ck_assert_msg(!strcmp(err.code, answers[_i].code), "%s: %s: %s", answers[_i].name, err.code,
                      err.message);
        ck_assert_msg(!strstr(err.message, PASSWORD), "%s: %s", answers[_i].name, err.message);
        ck_assert_ptr_null(strchr(err.message, '\x01'));
    } else {
        ASSERT_OK(do_query(db, distances));
        ck_assert(distances[1] == 0.5f && (distances[0] == 1.25f || distances[0] == 0));
    }
    apr_pool_clear(pool); /* closes the connection */
    peer_stop(&peer);
}
END_TEST

START_TEST(missing_module_is_named)
{
    peer_t peer = {
        .replies = {{"-ERR unknown command `FT.INFO`, with args beginning with: `x`, \r\n"}}};
    aip_vectordb_t *db;

    peer_start(&peer);
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    ASSERT_CODE(do_sync(db), "vectordb_error");
    ck_assert_ptr_nonnull(strstr(err.message, "RediSearch"));
    ck_assert_ptr_null(strstr(err.message, "beginning"));
    apr_pool_clear(pool);
    peer_stop(&peer);
}
END_TEST

/** A server that repeats what it was sent must not get the password into a message. */
START_TEST(password_is_never_repeated)
{
    peer_t peer = {.replies = {{"-ERR I do not know " PASSWORD "\r\n"}}};
    float distances[2];
    aip_vectordb_t *db;

    peer_start(&peer);
    conf.password = PASSWORD;
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    ASSERT_CODE(do_query(db, distances), "vectordb_error");
    apr_pool_clear(pool);
    peer_stop(&peer);
}
END_TEST

/** Two queries of one store; the first is answered. @param code  of the second; NULL: answered too
 */
static void check_second_query(peer_t *peer, const char *code, int connections)
{
    float distances[2];
    aip_vectordb_t *db;

    peer_start(peer);
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    ASSERT_OK(do_query(db, distances));
    if (code) {
        ASSERT_CODE(do_query(db, distances), code);
    } else {
        ASSERT_OK(do_query(db, distances));
    }
    ck_assert_int_eq(peer->accepted, connections);
    apr_pool_clear(pool);
    peer_stop(peer);
}

/** The pooled connection is closed only when the command is there: once more on a new one, and
 * nobody notices. */
START_TEST(dead_connection_is_replaced)
{
    peer_t peer = {.replies = {{GOOD}, {GOOD}}};

    check_second_query(&peer, NULL, 2);
}
END_TEST

/** Not twice: a server that closes fresh connections is away. */
START_TEST(fresh_connection_is_not_replaced)
{
    peer_t peer = {.replies = {{GOOD}, {NULL}, {GOOD}}};

    check_second_query(&peer, "vectordb_unreachable", 2);
}
END_TEST

#define OTHER "*5\r\n:2\r\n" HIT("1", "1", "1") HIT("0", "2", "1")
#define HALF "*5\r\n:2\r\n" HIT("1", "0.5", "3")

/** Half an answer came: the server was at work on it, so it is not asked again. */
START_TEST(half_an_answer_and_end)
{
    peer_t peer = {.replies = {{GOOD, HALF}, {GOOD}}, .hang_up = true};

    check_second_query(&peer, "vectordb_unreachable", 1);
}
END_TEST

/** What nobody asked for, together with an answer or after it, must not answer the next question.
 */
START_TEST(unasked_answers)
{
    float distances[2];

    for (int late = 0; late < 2; late++) {
        peer_t peer = {.replies = {{late ? GOOD : GOOD OTHER}, {GOOD}},
                       .late = late ? OTHER : NULL};
        aip_vectordb_t *db;

        peer_start(&peer);
        db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
        ASSERT_OK(do_query(db, distances));
        usleep(100000);
        ASSERT_OK(do_query(db, distances));
        ck_assert(distances[1] == 0.5f && distances[0] == 1.25f);
        ck_assert_int_eq(peer.accepted, 2);
        apr_pool_clear(pool);
        peer_stop(&peer);
    }
}
END_TEST

#define INFO(docs) "*4\r\n$8\r\nnum_docs\r\n:" docs "\r\n$8\r\nindexing\r\n:0\r\n"

/** sync is done when the index says so, not when everything was written. */
START_TEST(sync_waits_for_the_index)
{
    peer_t peer = {.replies = {{INFO("1"), ":16\r\n:16\r\n", INFO("2"), ":16\r\n:16\r\n"}}};
    aip_vectordb_t *db;

    peer_start(&peer);
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    ASSERT_OK(do_sync(db));
    ck_assert_int_eq(peer.answered, 4);
    apr_pool_clear(pool);
    peer_stop(&peer);
}
END_TEST

START_TEST(half_an_answer)
{
    peer_t peer = {.replies = {{GOOD, HALF}, {GOOD}}};
    float distances[2];
    aip_vectordb_t *db;

    peer_start(&peer);
    conf.read_timeout = 300;
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    ASSERT_OK(do_query(db, distances));
    ASSERT_CODE(do_query(db, distances), "vectordb_timeout");
    ck_assert_int_eq(peer.accepted, 1);
    /* The late rest must not become the answer of the next question. */
    ASSERT_OK(do_query(db, distances));
    ck_assert_int_eq(peer.accepted, 2);
    apr_pool_clear(pool);
    peer_stop(&peer);
}
END_TEST

/* ---- Time-outs and limits ---- */

/** Runs a query that must fail with `code` after `least` to `most` milliseconds. */
static void assert_fails_within(const char *code, int least, int most)
{
    float distances[2];
    aip_vectordb_t *db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    apr_time_t start = apr_time_now();
    apr_int64_t took;

    ASSERT_CODE(do_query(db, distances), code);
    took = apr_time_as_msec(apr_time_now() - start);
    ck_assert_msg(took >= least && took <= most, "took %d ms, expected %d to %d", (int)took, least,
                  most);
}

START_TEST(server_never_answers)
{
    int fd = listen_on_any_port(8, &conf.port); /* the kernel accepts, nobody reads */

    conf.read_timeout = 200;
    assert_fails_within("vectordb_timeout", 190, 600);
    conf.password = PASSWORD; /* the same while logging in */
    assert_fails_within("vectordb_timeout", 190, 600);
    close(fd);
}
END_TEST

START_TEST(server_trickles)
{
    peer_t peer = {.replies = {{"+"}}, .trickle = true};

    peer_start(&peer);
    conf.read_timeout = 200;
    assert_fails_within("vectordb_timeout", 190, 600);
    apr_pool_clear(pool);
    peer_stop(&peer);
}
END_TEST

/** The first half comes late: the second has what is left of the time, not all of it again. */
START_TEST(server_stops_half_way)
{
    peer_t peer = {.replies = {{HALF}}, .delay_ms = 250};

    peer_start(&peer);
    conf.read_timeout = 400;
    assert_fails_within("vectordb_timeout", 390, 600);
    apr_pool_clear(pool);
    peer_stop(&peer);
}
END_TEST

START_TEST(server_takes_no_connection)
{
    int fd = listen_on_any_port(0, &conf.port);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((in_port_t)conf.port)};
    int fillers[4];

    for (int i = 0; i < 4; i++) { /* a full queue lets further SYNs fall */
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (struct sockaddr *)&addr, sizeof(addr));
    }
    conf.connect_timeout = 200;
    assert_fails_within("vectordb_timeout", 190, 600);
    for (int i = 0; i < 4; i++) {
        close(fillers[i]);
    }
    close(fd);
}
END_TEST

START_TEST(refused_and_unknown)
{
    int fd = listen_on_any_port(1, &conf.port);

    close(fd); /* a port on which nobody listens */
    assert_fails_within("vectordb_unreachable", 0, 500);
    conf.host = "name.invalid";
    assert_fails_within("vectordb_unreachable", 0, 10000);
}
END_TEST

typedef struct waiter_t {
    aip_vectordb_t *db;
    aip_error_t err;
} waiter_t;

static void *wait_for_answer(void *data)
{
    waiter_t *waiter = data;
    apr_pool_t *own;
    float distances[2];

    apr_pool_create_unmanaged_ex(&own, NULL, NULL);
    waiter->db->kind->query(waiter->db, &refs, vectors, distances, own, &waiter->err);
    waiter->err.message = NULL;
    apr_pool_destroy(own);
    return NULL;
}

/** Pool size 1 + backlog 1: two wait for a silent server, the third is turned away at once. */
START_TEST(backlog_is_a_limit)
{
    int fd = listen_on_any_port(8, &conf.port);
    waiter_t waiters[2];
    pthread_t threads[2];
    float distances[2];
    aip_vectordb_t *db;
    apr_time_t start;

    conf.read_timeout = 1500;
    conf.pool_size = 1;
    conf.backlog = 1;
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    for (int i = 0; i < 2; i++) {
        waiters[i] = (waiter_t){.db = db};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_for_answer, &waiters[i]), 0);
        ck_assert_int_ge(accept(fd, NULL, NULL), 0); /* it has its connection now */
    }
    start = apr_time_now();
    ASSERT_CODE(do_query(db, distances), "vectordb_unreachable");
    ck_assert_int_lt(apr_time_as_msec(apr_time_now() - start), 200);
    ck_assert_ptr_nonnull(strstr(err.message, "in use"));
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_str_eq(waiters[i].err.code, "vectordb_timeout");
    }
    ASSERT_CODE(do_query(db, distances), "vectordb_timeout"); /* places are free again */
    close(fd);
}
END_TEST

static TCase *add(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, setup, pool_teardown);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}

Suite *redis_peer_suite(void)
{
    Suite *suite = suite_create("redis_peer");
    TCase *tcase = add(suite, "scripted");
    tcase_add_loop_test(tcase, every_answer, 0, sizeof(answers) / sizeof(answers[0]));
    tcase_add_test(tcase, missing_module_is_named);
    tcase_add_test(tcase, password_is_never_repeated);
    tcase_add_test(tcase, dead_connection_is_replaced);
    tcase_add_test(tcase, fresh_connection_is_not_replaced);
    tcase_add_test(tcase, half_an_answer);
    tcase_add_test(tcase, half_an_answer_and_end);
    tcase_add_test(tcase, unasked_answers);
    tcase_add_test(tcase, sync_waits_for_the_index);

    tcase = add(suite, "limits");
    tcase_add_test(tcase, server_never_answers);
    tcase_add_test(tcase, server_trickles);
    tcase_add_test(tcase, server_stops_half_way);
    tcase_add_test(tcase, server_takes_no_connection);
    tcase_add_test(tcase, refused_and_unknown);
    tcase_add_test(tcase, backlog_is_a_limit);
    return suite;
}
