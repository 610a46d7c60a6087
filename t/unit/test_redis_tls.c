/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis store over TLS against a real Redis, whose certificate, protocol and wish for a client
 * certificate change from row to row: who is trusted, who is refused, and what the message says. */

#include <apr_strings.h>
#include <apr_time.h>
#include <check.h>
#include <unistd.h>

#include "redis_fixture.h"

Suite *redis_tls_suite(void);

static const struct {
    const char *what;
    /* The server: its certificate, tls-protocols ("": its default) and tls-auth-clients. */
    const char *server, *protocols, *clients;
    /* Ours; files without their folder, NULL: not set. */
    const char *host, *name, *ca, *certificate;
    int min_tls;
    bool no_verify;
    /* NULL: it works. Alternatives are apart by "|". */
    const char *words;
} rows[] = {
    {"by name", "good", "", "no", "127.0.0.1", "redis.test", "ca.pem", NULL, 0, false, NULL},
    {"by address", "good", "", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, false, NULL},
    {"by the name of the host", "good", "", "no", "localhost", NULL, "ca.pem", NULL, 0, false,
     NULL},
    {"a name in capitals", "named", "", "no", "127.0.0.1", "REDIS.Test", "ca.pem", NULL, 0, false,
     NULL},
    {"a name with a dot", "named", "", "no", "127.0.0.1", "redis.test.", "ca.pem", NULL, 0, false,
     NULL},
    {"a wildcard", "wild", "", "no", "127.0.0.1", "a.redis.test", "ca.pem", NULL, 0, false, NULL},
    {"a wildcard is one label", "wild", "", "no", "127.0.0.1", "a.b.redis.test", "ca.pem", NULL, 0,
     false, "certificate verify failed: hostname mismatch (for a.b.redis.test)"},
    {"a wildcard is a label", "wild", "", "no", "127.0.0.1", "redis.test", "ca.pem", NULL, 0, false,
     "hostname mismatch"},
    {"another name", "good", "", "no", "127.0.0.1", "other.test", "ca.pem", NULL, 0, false,
     "certificate verify failed: hostname mismatch (for other.test)"},
    {"no address in it", "named", "", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, false,
     "certificate verify failed: IP address mismatch (for 127.0.0.1)"},
    {"another address", "good", "", "no", "127.0.0.1", "127.0.0.2", "ca.pem", NULL, 0, false,
     "IP address mismatch"},
    {"an empty name", "good", "", "no", "127.0.0.1", "", "ca.pem", NULL, 0, false, "server name"},
    {"signed by itself", "self", "", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, false,
     "certificate verify failed: self-signed certificate|certificate verify failed: self signed "
     "certificate"},
    {"signed by itself and trusted", "self", "", "no", "127.0.0.1", NULL, "self.pem", NULL, 0,
     false, NULL},
    {"expired", "expired", "", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, false,
     "certificate verify failed: certificate has expired"},
    {"another authority", "stranger", "", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, false,
     "certificate verify failed: unable to get local issuer certificate"},
    {"not in the system's bundle", "good", "", "no", "127.0.0.1", NULL, NULL, NULL, 0, false,
     "certificate verify failed: self-signed certificate in|certificate verify failed: self signed "
     "certificate in"},
    {"unverified: itself", "self", "", "no", "127.0.0.1", NULL, NULL, NULL, 0, true, NULL},
    {"unverified: expired", "expired", "", "no", "127.0.0.1", NULL, NULL, NULL, 0, true, NULL},
    {"unverified: authority", "stranger", "", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, true,
     NULL},
    {"unverified: name", "named", "", "no", "127.0.0.1", "other.test", "ca.pem", NULL, 0, true,
     NULL},
    {"client certificate", "good", "", "yes", "127.0.0.1", NULL, "ca.pem", "client.pem", 0, false,
     NULL},
    {"client certificate, 1.2", "good", "TLSv1.2", "yes", "127.0.0.1", NULL, "ca.pem", "client.pem",
     0, false, NULL},
    {"client certificate, nobody asks", "good", "", "no", "127.0.0.1", NULL, "ca.pem", "client.pem",
     0, false, NULL},
    {"no client certificate", "good", "", "yes", "127.0.0.1", NULL, "ca.pem", NULL, 0, false,
     "certificate required|no client certificate is configured"},
    {"no client certificate, 1.2", "good", "TLSv1.2", "yes", "127.0.0.1", NULL, "ca.pem", NULL, 0,
     false, "no client certificate is configured"},
    {"client certificate of another authority", "good", "", "yes", "127.0.0.1", NULL, "ca.pem",
     "client-stranger.pem", 0, false, "unknown ca|decrypt error|closed the connection"},
    {"only TLS 1.1", "good", "TLSv1.1", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, false,
     "protocol"},
    {"only TLS 1.1, unverified", "good", "TLSv1.1", "no", "127.0.0.1", NULL, NULL, NULL, 0, true,
     "protocol"},
    {"TLS 1.2", "good", "TLSv1.2", "no", "127.0.0.1", NULL, "ca.pem", NULL, 12, false, NULL},
    {"TLS 1.2, 1.3 wanted", "good", "TLSv1.2", "no", "127.0.0.1", NULL, "ca.pem", NULL, 13, false,
     "protocol"},
    {"TLS 1.3", "good", "TLSv1.3", "no", "127.0.0.1", NULL, "ca.pem", NULL, 13, false, NULL},
    {"TLS 1.3 by default", "good", "TLSv1.3", "no", "127.0.0.1", NULL, "ca.pem", NULL, 0, false,
     NULL},
};

/** Any of the alternatives in `words`. */
static bool says(const char *message, const char *words)
{
    char *copy = apr_pstrdup(redis_test_pool, words), *state, *part;

    for (part = strtok_r(copy, "|", &state); part; part = strtok_r(NULL, "|", &state)) {
        if (strstr(message, part)) {
            return true;
        }
    }
    return false;
}

static const char *file(const char *name)
{
    return name ? redis_tls_file(name) : NULL;
}

START_TEST(every_row)
{
    aip_references_t refs = redis_references(3, 4);
    aip_vectordb_t *db;

    redis_tls_server(rows[_i].server, rows[_i].protocols, rows[_i].clients);
    redis_conf.host = rows[_i].host;
    redis_conf.server_name = rows[_i].name;
    redis_conf.ca_file = file(rows[_i].ca);
    redis_conf.client_cert = file(rows[_i].certificate);
    redis_conf.min_tls = rows[_i].min_tls;
    redis_conf.ssl_verify = !rows[_i].no_verify;
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    for (int round = 0; round < 2; round++) {
        apr_status_t status = redis_do_sync(db, &refs);

        if (rows[_i].words) {
            ck_assert_msg(status != APR_SUCCESS, "%s: must be refused", rows[_i].what);
            ck_assert_msg(says(redis_err.message, rows[_i].words), "%s: %s", rows[_i].what,
                          redis_err.message);
            ck_assert_str_eq(redis_err.code, !strcmp(rows[_i].what, "an empty name")
                                                 ? "vectordb_error"
                                                 : "vectordb_unreachable");
        } else {
            ck_assert_msg(status == APR_SUCCESS, "%s: %s: %s", rows[_i].what, redis_err.code,
                          redis_err.message);
            redis_assert_equal_stores(db, &refs, refs.vectors);
        }
    }
    for (int i = 0; i < 100 && redis_connections() > (rows[_i].words ? 0 : 1); i++) {
        usleep(10000); /* the server notices a closed connection in its own time */
    }
    ck_assert_int_eq(redis_connections(), rows[_i].words ? 0 : 1);
}
END_TEST

/* ---- Logging in ---- */

START_TEST(password)
{
    aip_references_t refs = redis_references(3, 4);

    redis_admin_do("CONFIG SET requirepass " PASSWORD);
    ASSERT_CODE(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs),
        "vectordb_auth");
    redis_conf.password = "another";
    ASSERT_CODE(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs),
        "vectordb_auth");
    redis_conf.password = PASSWORD;
    ASSERT_OK(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs));
}
END_TEST

START_TEST(acl_user_with_certificate)
{
    aip_references_t refs = redis_references(3, 4);

    redis_tls_server("good", "", "yes");
    redis_admin_do("ACL SETUSER gw on >" PASSWORD
                   " ~aip:* +ft.search +ft.info +hstrlen +ft.create +hset");
    redis_conf.client_cert = redis_tls_file("client.pem");
    redis_conf.username = "gw";
    redis_conf.password = PASSWORD;
    ASSERT_OK(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs));
    redis_conf.password = "another";
    ASSERT_CODE(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs),
        "vectordb_auth");
}
END_TEST

/** A password must not go to somebody who has not shown who it is. */
START_TEST(no_password_for_strangers)
{
    aip_references_t refs = redis_references(3, 4);

    redis_admin_do("CONFIG RESETSTAT");
    redis_tls_server("stranger", "", "no");
    redis_conf.password = PASSWORD;
    ASSERT_CODE(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs),
        "vectordb_unreachable");
    ck_assert_ptr_null(strstr(redis_admin_text("INFO", "commandstats"), "cmdstat_auth"));
}
END_TEST

/* ---- Sizes and files ---- */

/** 3 MB in one go, and answers of many records. */
START_TEST(many_references)
{
    aip_references_t refs = redis_references(500, 1536);
    aip_vectordb_t *db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);

    ASSERT_OK(redis_do_sync(db, &refs));
    for (int i = 0; i < 20; i++) {
        redis_assert_equal_stores(db, &refs, refs.vectors + i * 1536);
    }
    ck_assert_int_eq(redis_connections(), 1);
}
END_TEST

/** Files are read once, not for each connection. */
START_TEST(files_are_read_once)
{
    aip_references_t refs = redis_references(3, 4);
    const char *ca = redis_tls_file("passing-ca.pem"), *own = redis_tls_file("passing-client.pem");
    aip_vectordb_t *db;

    redis_tls_server("good", "", "yes");
    ck_assert_int_eq(link(redis_tls_file("ca.pem"), ca), 0);
    ck_assert_int_eq(link(redis_tls_file("client.pem"), own), 0);
    redis_conf.ca_file = ca;
    redis_conf.client_cert = own;
    redis_conf.pool_size = 0; /* each exchange has a connection of its own */
    db = aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool);
    ck_assert_int_eq(unlink(ca), 0);
    ck_assert_int_eq(unlink(own), 0);
    ASSERT_OK(redis_do_sync(db, &refs));
    redis_assert_equal_stores(db, &refs, refs.vectors);
}
END_TEST

static const struct {
    const char *ca, *certificate, *words; /* words NULL: good */
} files[] = {
    {"ca.pem", "client.pem", NULL},
    {NULL, NULL, NULL},
    {"not-there.pem", NULL, "not-there.pem: No such file or directory"},
    {"ca.key", NULL, "the CA file "}, /* a PEM file without a certificate */
    {"ca.pem", "not-there.pem", "not-there.pem: No such file or directory"},
    {"ca.pem", "machine.pem",
     "the client certificate's key (in the same file, not encrypted) "}, /* none in it */
    {"ca.pem", "client-mismatch.pem", "client-mismatch.pem: key values mismatch"},
    {"ca.pem", "client-encrypted.pem", "not encrypted"},
    {"ca.pem", "machine.key", "the client certificate "},
};

/** A file that cannot be used: said when the configuration is checked, and by each connection,
 * which goes on without nothing. */
START_TEST(every_file)
{
    aip_references_t refs = redis_references(3, 4);
    const char *fault;

    redis_tls_server("good", "", files[_i].ca ? "no" : "optional");
    redis_conf.ca_file = file(files[_i].ca);
    redis_conf.client_cert = file(files[_i].certificate);
    fault = aip_redis_tls_check(&redis_conf, redis_test_pool);
    if (!files[_i].words) {
        ck_assert_msg(!fault, "%s", fault);
        return;
    }
    ck_assert_ptr_nonnull(fault);
    ck_assert_msg(strstr(fault, files[_i].words), "%s", fault);
    ASSERT_CODE(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs),
        "vectordb_error");
    ck_assert_ptr_nonnull(strstr(redis_err.message, fault));
}
END_TEST

/** TLS to the port of those who speak plainly: Redis waits for the end of the line, or complains.
 */
START_TEST(plain_port)
{
    aip_references_t refs = redis_references(3, 4);
    apr_time_t start = apr_time_now();

    redis_conf.port = redis_plain_port();
    redis_conf.connect_timeout = 300;
    ck_assert_int_eq(
        redis_do_sync(aip_vectordb_redis(&redis_conf, AIP_METRIC_COSINE, redis_test_pool), &refs),
        APR_EGENERAL);
    ck_assert_msg(says(redis_err.message,
                       "is it the port for TLS|wrong version number|closed the connection|reset"),
                  "%s", redis_err.message);
    ck_assert_int_lt(apr_time_as_msec(apr_time_now() - start), 700);
}
END_TEST

Suite *redis_tls_suite(void)
{
    Suite *suite = suite_create("redis_tls");
    TCase *tcase = redis_tcase_add(suite, "trust");
    tcase_add_loop_test(tcase, every_row, 0, sizeof(rows) / sizeof(rows[0]));

    tcase = redis_tcase_add(suite, "logging in");
    tcase_add_test(tcase, password);
    tcase_add_test(tcase, acl_user_with_certificate);
    tcase_add_test(tcase, no_password_for_strangers);

    tcase = redis_tcase_add(suite, "sizes and files");
    tcase_add_test(tcase, many_references);
    tcase_add_test(tcase, files_are_read_once);
    tcase_add_loop_test(tcase, every_file, 0, sizeof(files) / sizeof(files[0]));
    tcase_add_test(tcase, plain_port);
    return suite;
}
