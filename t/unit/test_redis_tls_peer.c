/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis store over TLS against a scripted peer: silent, slow byte by byte in the handshake, in
 * a record and in reading, plain, and gone. A real server does none of it on demand. The
 * certificates are those of the tests against a real Redis. */

#include <apr_strings.h>
#include <apr_time.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "aip/vectordb.h"
#include "fixture.h"

Suite *redis_tls_peer_suite(void);

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY(n) "$42\r\naip:ref:0123456789abcdef0123456789abcdef:" n "\r\n"
#define HIT(n, d, len) KEY(n) "*2\r\n$1\r\nd\r\n$" len "\r\n" d "\r\n"
#define GOOD "*5\r\n:2\r\n" HIT("1", "0.5", "3") HIT("0", "1.25", "4")

static const float vectors[8] = {1, 0, 0, 0, 0, 1, 0, 0};
static const aip_references_t refs = {.n = 2, .dims = 4, .vectors = vectors, .digest = DIGEST};

static aip_redis_conf_t conf;
static aip_error_t err;

typedef enum deed_e {
    SILENT,            /* takes the connection and does nothing */
    SAYS_PLAIN,        /* an error of Redis' without TLS */
    HANGS_UP,          /* before the handshake */
    HANDSHAKE_TRICKLE, /* a record of the handshake, byte by byte */
    ANSWERS,           /* as it should */
    ANSWERS_SLOWLY,    /* each byte of the answer in a record of its own, never all of it */
    RECORD_TRICKLE,    /* a record that gets longer by a byte every 20 ms */
    READS_NOTHING,     /* after the handshake */
    BAD_RECORD,        /* after the handshake: noise */
    CLOSES_AFTER,      /* the handshake, without a word */
    CLOSES_SECOND      /* answers once and closes when it was asked again; then as it should */
} deed_e;

typedef struct peer_t {
    deed_e deed;
    int fd, accepted;
    char sni[64]; /* "-": none */
    SSL_CTX *ctx;
    pthread_t thread;
} peer_t;

static void nap(void)
{
    usleep(20000);
}

/** Sends the bytes one at a time until the other side is gone. */
static void trickle(int fd, const char *head, size_t n)
{
    char byte = 'x';

    for (size_t i = 0; send(fd, i < n ? head + i : &byte, 1, MSG_NOSIGNAL) == 1; i++) {
        nap();
    }
}

static void answer(SSL *ssl)
{
    char buf[65536];

    while (SSL_read(ssl, buf, sizeof(buf)) > 0) {
        SSL_write(ssl, GOOD, (int)strlen(GOOD));
    }
}

static void after_handshake(const peer_t *peer, SSL *ssl, int fd)
{
    char buf[65536];

    if (peer->deed == READS_NOTHING) {
        sleep(2);
        return;
    }
    if (peer->deed == CLOSES_AFTER || SSL_read(ssl, buf, sizeof(buf)) <= 0) {
        return;
    }
    if (peer->deed == RECORD_TRICKLE) {
        trickle(fd, "\x17\x03\x03\x40\x00", 5);
        return;
    }
    if (peer->deed == BAD_RECORD) {
        send(fd, "+what is this?\r\n", 16, MSG_NOSIGNAL);
        (void)!recv(fd, buf, sizeof(buf), 0);
        return;
    }
    if (peer->deed == ANSWERS_SLOWLY) {
        while (SSL_write(ssl, "+", 1) == 1) {
            nap();
        }
        return;
    }
    SSL_write(ssl, GOOD, (int)strlen(GOOD));
    if (peer->deed == CLOSES_SECOND && peer->accepted == 1) {
        (void)!recv(fd, buf, sizeof(buf), 0);
        return;
    }
    answer(ssl);
}

static void serve(peer_t *peer, int fd)
{
    char buf[65536];
    SSL *ssl;
    const char *sni;

    if (peer->deed == HANGS_UP) {
        return;
    }
    (void)!recv(fd, buf, sizeof(buf), MSG_PEEK);
    if (peer->deed == SILENT) {
        while (recv(fd, buf, sizeof(buf), 0) > 0) {
        }
        return;
    }
    if (peer->deed == SAYS_PLAIN) {
        static const char text[] = "-ERR unknown command\r\n";

        (void)!recv(fd, buf, sizeof(buf), 0);
        send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL);
        (void)!recv(fd, buf, sizeof(buf), 0);
        return;
    }
    if (peer->deed == HANDSHAKE_TRICKLE) {
        trickle(fd, "\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03", 11);
        return;
    }
    ssl = SSL_new(peer->ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        apr_cpystrn(peer->sni, sni ? sni : "-", sizeof(peer->sni));
        after_handshake(peer, ssl, fd);
    }
    SSL_free(ssl);
}

static void *peer_run(void *data)
{
    peer_t *peer = data;

    for (;;) {
        int fd = accept(peer->fd, NULL, NULL);

        if (fd < 0) {
            return NULL;
        }
        peer->accepted++;
        serve(peer, fd);
        close(fd);
    }
}

static const char *certificate(const char *name)
{
    const char *dir = getenv("AIP_TEST_CERTS");

    ck_assert_msg(dir && *dir, "AIP_TEST_CERTS is not set: see scripts/lib/redis-certs.sh");
    return apr_pstrcat(pool, dir, "/", name, NULL);
}

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    pool_setup();
    conf = (aip_redis_conf_t){.host = "127.0.0.1",
                              .connect_timeout = 2000,
                              .send_timeout = 2000,
                              .read_timeout = 2000,
                              .pool_size = 4,
                              .backlog = -1,
                              .ssl = true,
                              .ssl_verify = true,
                              .ca_file = certificate("ca.pem")};
    err = (aip_error_t){0};
}

static void peer_start(peer_t *peer)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);

    peer->ctx = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(
        SSL_CTX_use_certificate_file(peer->ctx, certificate("good.pem"), SSL_FILETYPE_PEM), 1);
    ck_assert_int_eq(
        SSL_CTX_use_PrivateKey_file(peer->ctx, certificate("good.key"), SSL_FILETYPE_PEM), 1);
    peer->fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(peer->fd, (struct sockaddr *)&addr, len), 0);
    ck_assert_int_eq(listen(peer->fd, 8), 0);
    ck_assert_int_eq(getsockname(peer->fd, (struct sockaddr *)&addr, &len), 0);
    conf.port = ntohs(addr.sin_port);
    ck_assert_int_eq(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
}

/** Closes our connections first, for which the peer may be waiting. */
static void peer_stop(peer_t *peer)
{
    apr_pool_clear(pool);
    shutdown(peer->fd, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->fd);
    SSL_CTX_free(peer->ctx);
}

static apr_status_t query(aip_vectordb_t *db, float *distances)
{
    err = (aip_error_t){0};
    return db->kind->query(db, &refs, vectors, distances, pool, &err);
}

/* ---- Failures ---- */

static const struct {
    deed_e deed;
    int connect, read; /* time-outs; 0: as usual */
    const char *code, *words;
    int least, most; /* milliseconds */
} failures[] = {
    {SILENT, 200, 0, "vectordb_timeout", "no handshake in time", 190, 600},
    {HANDSHAKE_TRICKLE, 200, 0, "vectordb_timeout", "no handshake in time", 190, 600},
    {SAYS_PLAIN, 0, 0, "vectordb_unreachable", "wrong version number", 0, 500},
    {HANGS_UP, 0, 0, "vectordb_unreachable", "the handshake failed", 0, 500},
    {ANSWERS_SLOWLY, 0, 200, "vectordb_timeout", "in time", 190, 600},
    {RECORD_TRICKLE, 0, 200, "vectordb_timeout", "in time", 190, 600},
    {BAD_RECORD, 0, 0, "vectordb_unreachable", "the connection broke: TLS: ", 0, 500},
    {CLOSES_AFTER, 0, 0, "vectordb_unreachable", "closed the connection; over TLS", 0, 500},
};

START_TEST(every_failure)
{
    peer_t peer = {.deed = failures[_i].deed};
    float distances[2];
    apr_time_t start;
    clock_t cpu = clock();
    int took;

    peer_start(&peer);
    conf.connect_timeout = failures[_i].connect ? failures[_i].connect : conf.connect_timeout;
    conf.read_timeout = failures[_i].read ? failures[_i].read : conf.read_timeout;
    start = apr_time_now();
    ck_assert_int_eq(query(aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool), distances),
                     APR_EGENERAL);
    took = (int)apr_time_as_msec(apr_time_now() - start);
    ck_assert_msg(!strcmp(err.code, failures[_i].code), "%s: %s", err.code, err.message);
    ck_assert_msg(strstr(err.message, failures[_i].words), "%s", err.message);
    /* A hint at the client certificate only where its lack can be the cause. */
    ck_assert_msg(failures[_i].deed == HANGS_UP || failures[_i].deed == CLOSES_AFTER ||
                      !strstr(err.message, "client certificate"),
                  "%s", err.message);
    ck_assert_msg(took >= failures[_i].least && took <= failures[_i].most, "took %d ms", took);
    cpu = (clock() - cpu) * 1000 / CLOCKS_PER_SEC;
    ck_assert_msg(!failures[_i].least || cpu < 100, "%d ms of CPU: it must wait, not spin",
                  (int)cpu);
    peer_stop(&peer);
}
END_TEST

/** More than the sockets hold to somebody who does not read. */
START_TEST(peer_reads_nothing)
{
    enum { N = 600, DIMS = 4096 };
    peer_t peer = {.deed = READS_NOTHING};
    float *many = apr_pcalloc(pool, sizeof(float) * N * DIMS);
    aip_references_t large = {.n = N, .dims = DIMS, .vectors = many, .digest = DIGEST};
    aip_vectordb_t *db;
    apr_time_t start;
    int took;

    for (int i = 0; i < N; i++) {
        many[i * DIMS + i] = 1;
    }
    peer_start(&peer);
    conf.send_timeout = conf.read_timeout = 200;
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    start = apr_time_now();
    ck_assert_int_eq(db->kind->sync(db, &large, pool, &err), APR_EGENERAL);
    took = (int)apr_time_as_msec(apr_time_now() - start);
    ck_assert_str_eq(err.code, "vectordb_timeout");
    ck_assert_msg(took >= 190 && took <= 700, "took %d ms", took);
    peer_stop(&peer);
}
END_TEST

/* ---- What works ---- */

static const struct {
    const char *host, *name, *sni;
} names[] = {
    {"127.0.0.1", NULL, "-"},
    {"127.0.0.1", "redis.test", "redis.test"},
    {"127.0.0.1", "redis.test.", "redis.test"},
    {"localhost", NULL, "localhost"},
    {"localhost", "127.0.0.1", "-"},
};

START_TEST(every_name)
{
    peer_t peer = {.deed = ANSWERS};
    float distances[2];

    peer_start(&peer);
    conf.host = names[_i].host;
    conf.server_name = names[_i].name;
    ck_assert_msg(query(aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool), distances) ==
                      APR_SUCCESS,
                  "%s", err.message);
    ck_assert(distances[1] == 0.5f && distances[0] == 1.25f);
    ck_assert_str_eq(peer.sni, names[_i].sni);
    peer_stop(&peer);
}
END_TEST

/** The pooled connection ends when it is used again: once more on a new one, nobody notices. */
START_TEST(dead_connection_is_replaced)
{
    peer_t peer = {.deed = CLOSES_SECOND};
    float distances[2];
    aip_vectordb_t *db;

    peer_start(&peer);
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    for (int i = 0; i < 4; i++) {
        ck_assert_msg(query(db, distances) == APR_SUCCESS, "%d: %s", i, err.message);
    }
    ck_assert_int_eq(peer.accepted, 2);
    peer_stop(&peer);
}
END_TEST

/** What others left in this thread's queue of errors is not taken for ours. */
START_TEST(errors_of_others)
{
    peer_t peer = {.deed = ANSWERS};
    float distances[2];
    aip_vectordb_t *db;

    peer_start(&peer);
    db = aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_ne(SSL_CTX_load_verify_locations(peer.ctx, "/not/there", NULL), 1);
        ck_assert_msg(query(db, distances) == APR_SUCCESS, "%d: %s", i, err.message);
    }
    ck_assert_int_eq(peer.accepted, 1);
    peer_stop(&peer);
}
END_TEST

/** No time-outs at all. */
START_TEST(without_limits)
{
    peer_t peer = {.deed = ANSWERS};
    float distances[2];

    peer_start(&peer);
    conf.connect_timeout = conf.send_timeout = conf.read_timeout = 0;
    ck_assert_msg(query(aip_vectordb_redis(&conf, AIP_METRIC_COSINE, pool), distances) ==
                      APR_SUCCESS,
                  "%s", err.message);
    peer_stop(&peer);
}
END_TEST

Suite *redis_tls_peer_suite(void)
{
    Suite *suite = suite_create("redis_tls_peer");
    TCase *tcase = tcase_create("scripted");

    tcase_add_checked_fixture(tcase, setup, pool_teardown);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    tcase_add_loop_test(tcase, every_failure, 0, sizeof(failures) / sizeof(failures[0]));
    tcase_add_test(tcase, peer_reads_nothing);
    tcase_add_loop_test(tcase, every_name, 0, sizeof(names) / sizeof(names[0]));
    tcase_add_test(tcase, dead_connection_is_replaced);
    tcase_add_test(tcase, errors_of_others);
    tcase_add_test(tcase, without_limits);
    return suite;
}
