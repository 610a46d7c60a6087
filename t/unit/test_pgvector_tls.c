/* SPDX-License-Identifier: Apache-2.0 */
/* TLS to PostgreSQL, through t/lib/pg_tls_proxy.py in front of the real server: who is trusted, and
 * that nothing is sent in plaintext. Authorities and certificates are made for each test. */

#include <apr_strings.h>
#include <check.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgvector_fixture.h"

Suite *pgvector_tls_suite(void);

/* ---- Certificates ---- */

typedef struct identity_t {
    X509 *cert;
    EVP_PKEY *key;
    const char *cert_file, *key_file;
} identity_t;

static const char *scratch(void)
{
    static char dir[] = "/tmp/aip-pgtls.XXXXXX";
    static bool made;

    if (!made) {
        ck_assert_ptr_nonnull(mkdtemp(dir));
        made = true;
    }
    return dir;
}

static void write_files(identity_t *id, const char *name)
{
    FILE *out;

    id->cert_file = apr_psprintf(pg_test_pool, "%s/%s.pem", scratch(), name);
    id->key_file = apr_psprintf(pg_test_pool, "%s/%s.key", scratch(), name);
    out = fopen(id->cert_file, "w");
    ck_assert(out && PEM_write_X509(out, id->cert) && fclose(out) == 0);
    out = fopen(id->key_file, "w");
    ck_assert(out && fchmod(fileno(out), 0600) == 0);
    ck_assert(PEM_write_PrivateKey(out, id->key, NULL, NULL, 0, NULL, NULL) && fclose(out) == 0);
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    ck_assert_ptr_nonnull(extension);
    ck_assert(X509_add_ext(cert, extension, -1));
    X509_EXTENSION_free(extension);
}

/** @param issuer  NULL: signed by itself @param names  subjectAltName, NULL: an authority
 * @param from, to  days from now */
static identity_t identity(const char *name, const identity_t *issuer, const char *names, int from,
                           int to)
{
    static long serial = 1;
    identity_t id = {.cert = X509_new(), .key = EVP_RSA_gen(2048)};
    X509_NAME *subject = X509_get_subject_name(id.cert);

    ck_assert(id.cert && id.key);
    X509_set_version(id.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(id.cert, issuer ? X509_get_subject_name(issuer->cert) : subject);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), from * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), to * 86400L);
    X509_set_pubkey(id.cert, id.key);
    if (names) {
        add_extension(id.cert, NID_subject_alt_name, names);
    } else {
        add_extension(id.cert, NID_basic_constraints, "critical,CA:TRUE");
    }
    ck_assert(X509_sign(id.cert, issuer ? issuer->key : id.key, EVP_sha256()));
    write_files(&id, name);
    return id;
}

/* ---- The proxy ---- */

static pid_t proxy_pid;
static const char *proxy_log;

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

static const char *proxy_said(void)
{
    FILE *in = fopen(proxy_log, "r");
    char *text = apr_pcalloc(pg_test_pool, 4096);

    if (in) {
        text[fread(text, 1, 4095, in)] = '\0';
        fclose(in);
    }
    return text;
}

static void proxy_stop(void)
{
    if (proxy_pid > 0) {
        kill(proxy_pid, SIGKILL);
        waitpid(proxy_pid, NULL, 0);
    }
    proxy_pid = 0;
}

/** Starts a proxy, points pg_conf at it and asks for TLS. */
static void proxy_start(const identity_t *id, const char *max_tls, const char *answer,
                        const char *client_ca)
{
    const char *source = getenv("AIP_SRCDIR");
    const char *program =
        apr_pstrcat(pg_test_pool, source ? source : ".", "/t/lib/pg_tls_proxy.py", NULL);
    int port = free_port();

    proxy_stop();
    proxy_log = apr_psprintf(pg_test_pool, "%s/proxy-%d.log", scratch(), port);
    proxy_pid = fork();
    ck_assert_int_ge(proxy_pid, 0);
    if (proxy_pid == 0) {
        if (!freopen(proxy_log, "w", stdout) || dup2(1, 2) < 0) {
            _exit(126);
        }
        execlp("python3", "python3", "-Wignore", program, "--listen", apr_itoa(pg_test_pool, port),
               "--server", getenv("AIP_TEST_PGSQL_PORT"), "--cert", id->cert_file, "--key",
               id->key_file, "--max-tls", max_tls, "--answer", answer,
               client_ca ? "--client-ca" : NULL, client_ca, NULL);
        _exit(127);
    }
    for (int i = 0; i < 500 && !strstr(proxy_said(), "ready"); i++) {
        usleep(20000);
    }
    ck_assert_ptr_nonnull(strstr(proxy_said(), "ready"));
    pg_conf.port = port;
    pg_conf.ssl = pg_conf.ssl_verify = true;
}

static void remove_scratch(void)
{
    const char *command = apr_psprintf(pg_test_pool, "rm -rf '%s'", scratch());

    proxy_stop();
    ck_assert_int_eq(system(command), 0);
}

/* ---- Who is trusted ---- */

static const struct {
    const char *what;
    bool own_ca; /* signed by the authority that is trusted; else by another one */
    const char *names;
    int from, to;
    const char *max_tls, *answer;
    bool verify;
    const char *min_tls;
    const char *words; /* of the refusal; NULL: trusted */
} rows[] = {
    {"good", true, "IP:127.0.0.1", -1, 1, "1.3", "S", true, "TLSv1.2", NULL},
    {"TLS 1.2", true, "IP:127.0.0.1", -1, 1, "1.2", "S", true, "TLSv1.2", NULL},
    {"TLS 1.2, 1.3 wanted", true, "IP:127.0.0.1", -1, 1, "1.2", "S", true, "TLSv1.3", "SSL error"},
    {"TLS 1.1", true, "IP:127.0.0.1", -1, 1, "1.1", "S", true, "TLSv1.2", "SSL error"},
    {"TLS 1.1, unverified", true, "IP:127.0.0.1", -1, 1, "1.1", "S", false, "TLSv1.2", "SSL error"},
    {"TLS 1.1, any", true, "IP:127.0.0.1", -1, 1, "1.1", "S", true, NULL, "SSL error"},
    {"other authority", false, "IP:127.0.0.1", -1, 1, "1.3", "S", true, "TLSv1.2",
     "certificate verify failed"},
    {"other authority, unverified", false, "IP:127.0.0.1", -1, 1, "1.3", "S", false, "TLSv1.2",
     NULL},
    {"expired", true, "IP:127.0.0.1", -9, -1, "1.3", "S", true, "TLSv1.2",
     "certificate verify failed"},
    {"not yet", true, "IP:127.0.0.1", 1, 9, "1.3", "S", true, "TLSv1.2",
     "certificate verify failed"},
    {"other name", true, "DNS:db.example.com", -1, 1, "1.3", "S", true, "TLSv1.2",
     "does not match host name"},
    {"other address", true, "IP:127.0.0.2", -1, 1, "1.3", "S", true, "TLSv1.2",
     "does not match host name"},
    {"plaintext only", true, "IP:127.0.0.1", -1, 1, "1.3", "N", true, "TLSv1.2",
     "server does not support SSL"},
    {"plaintext only, unverified", true, "IP:127.0.0.1", -1, 1, "1.3", "N", false, "TLSv1.2",
     "server does not support SSL"},
};

START_TEST(trust)
{
    identity_t ca = identity("ca", NULL, NULL, -10, 10);
    identity_t other = identity("other", NULL, NULL, -10, 10);
    identity_t server = identity("server", rows[_i].own_ca ? &ca : &other, rows[_i].names,
                                 rows[_i].from, rows[_i].to);
    aip_references_t refs = pg_references(150, 256);
    float distances[150];
    aip_vectordb_t *db;

    proxy_start(&server, rows[_i].max_tls, rows[_i].answer, NULL);
    pg_conf.ca_file = ca.cert_file;
    pg_conf.ssl_verify = rows[_i].verify;
    pg_conf.min_tls = rows[_i].min_tls;
    db = pg_store(AIP_METRIC_COSINE);
    if (!rows[_i].words) {
        ck_assert_msg(pg_do_sync(db, &refs) == APR_SUCCESS, "%s: %s", rows[_i].what,
                      pg_err.message);
        pg_assert_equal_stores(db, &refs, refs.vectors);
        ck_assert_ptr_nonnull(
            strstr(proxy_said(), rows[_i].max_tls[2] == '2' ? "tls TLSv1.2" : "tls TLSv1.3"));
    } else {
        ASSERT_CODE(pg_do_sync(db, &refs), "vectordb_unreachable");
        ck_assert_msg(strstr(pg_err.message, rows[_i].words) != NULL, "%s: %s", rows[_i].what,
                      pg_err.message);
        ASSERT_CODE(pg_do_query(db, &refs, refs.vectors, distances), "vectordb_unreachable");
    }
    ck_assert_ptr_null(strstr(proxy_said(), "plaintext"));
    ck_assert_int_eq(pg_admin_do("SELECT count(*) FROM pg_class WHERE relname LIKE "
                                 "'ai_proxy_adv_vectors_256'"),
                     !rows[_i].words);
    remove_scratch();
}
END_TEST

START_TEST(signed_by_itself)
{
    identity_t server = identity("server", NULL, "IP:127.0.0.1", -1, 1);
    aip_references_t refs = pg_references(3, 4);

    proxy_start(&server, "1.3", "S", NULL);
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
    ASSERT_SAYS("certificate verify failed"); /* by the system's authorities */
    pg_conf.ca_file = "/nonexistent/authorities.pem";
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
    ASSERT_SAYS("/nonexistent/authorities.pem");
    pg_conf.ca_file = server.cert_file;
    ASSERT_OK(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs));
    remove_scratch();
}
END_TEST

START_TEST(client_certificate)
{
    identity_t ca = identity("ca", NULL, NULL, -10, 10);
    identity_t other = identity("other", NULL, NULL, -10, 10);
    identity_t server = identity("server", &ca, "IP:127.0.0.1", -1, 1);
    identity_t client = identity("client", &ca, "DNS:gateway", -1, 1);
    identity_t foreign = identity("foreign", &other, "DNS:gateway", -1, 1);
    aip_references_t refs = pg_references(3, 4);

    proxy_start(&server, "1.2", "S", ca.cert_file);
    pg_conf.ca_file = ca.cert_file;
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
    pg_conf.client_cert = foreign.cert_file;
    pg_conf.client_key = foreign.key_file;
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
    pg_conf.client_cert = client.cert_file;
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
    ASSERT_SAYS("could not load private key file");
    pg_conf.client_key = client.key_file;
    ASSERT_OK(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs));
    pg_assert_equal_stores(pg_store(AIP_METRIC_COSINE), &refs, refs.vectors);
    remove_scratch();
}
END_TEST

/** What libpq would find in the environment changes nothing. */
START_TEST(environment)
{
    identity_t ca = identity("ca", NULL, NULL, -10, 10);
    identity_t other = identity("other", NULL, NULL, -10, 10);
    identity_t server = identity("server", &ca, "IP:127.0.0.1", -1, 1);
    aip_references_t refs = pg_references(3, 4);

    proxy_start(&server, "1.3", "S", NULL);
    setenv("PGSSLMODE", "disable", 1);
    setenv("PGSSLROOTCERT", ca.cert_file, 1);
    setenv("PGSSLMINPROTOCOLVERSION", "TLSv1", 1);
    pg_conf.ca_file = other.cert_file;
    ASSERT_CODE(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs), "vectordb_unreachable");
    pg_conf.ca_file = ca.cert_file;
    ASSERT_OK(pg_do_sync(pg_store(AIP_METRIC_COSINE), &refs));
    ck_assert_ptr_null(strstr(proxy_said(), "plaintext"));
    remove_scratch();
}
END_TEST

Suite *pgvector_tls_suite(void)
{
    Suite *suite = suite_create("pgvector_tls");
    TCase *tcase = pg_tcase_add(suite, "tls");

    tcase_add_loop_test(tcase, trust, 0, sizeof(rows) / sizeof(rows[0]));
    tcase_add_test(tcase, signed_by_itself);
    tcase_add_test(tcase, client_certificate);
    tcase_add_test(tcase, environment);
    return suite;
}
