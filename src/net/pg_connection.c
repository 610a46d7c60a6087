/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to PostgreSQL over libpq, never blocking: connected, used and judged within a
 * deadline. Stateless, called by the pool in pg_pool.c. libpq takes settings that are not given
 * from the environment and from files in the user's home, so all that matter here are given. */

#include "pg_connection.h"

#include "aip/secret.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <errno.h>
#include <openssl/x509.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A row is about thirty bytes: whoever sends this much is no PostgreSQL of ours. */
#define ANSWER_MAX_BYTES ((size_t)64 << 20)
/* Some libpq leave decrypted bytes behind, of which poll() knows nothing. */
enum { TLS_SLICE_MS = 20 };
/* The path of a file that cannot be: what libpq would otherwise look for in the user's home. */
#define NO_FILE "/dev/null/none"

#define FAIL(err, pool, status, code, ...)                                                         \
    aip_error_set(err, pool, status, "gateway_error", code, NULL, __VA_ARGS__)

/* ---- What the server says ---- */

/** First match of a prefix of the SQLSTATE wins.
 * https://www.postgresql.org/docs/current/errcodes-appendix.html */
static const struct {
    const char *state, *code;
    const char *advice; /* what the operator should look at, or NULL */
} causes[] = {
    {"28", "vectordb_auth", "look at user, password and pg_hba.conf"},
    {"42501", "vectordb_auth", "the user lacks a right"},
    {"3D000", "vectordb_error", "look at AIVectordbPgvectorDatabase"},
    {"3F000", "vectordb_index", "the user's search_path names no schema to make a table in"},
    {"53300", "vectordb_unreachable", NULL},
    {"57014", "vectordb_timeout", NULL},
    {"55P03", "vectordb_timeout", NULL},
    {"57P", "vectordb_unreachable", NULL},
    {"08", "vectordb_unreachable", NULL},
    {"25006", "vectordb_error", "the server takes no writes: name the primary"},
    {"42704", "vectordb_index", "is the extension vector there, and in the search_path?"},
    {"42883", "vectordb_index", "is the extension vector there, and in the search_path?"},
    {"42P01", "vectordb_index", NULL},
    {"42703", "vectordb_index", "the table has another form than ours"},
    {"42804", "vectordb_index", "the table has another form than ours"},
    {"42P10", "vectordb_index", "the table has another form than ours"},
    {"23", "vectordb_index", "the table has another form than ours"},
    {"22", "vectordb_index", "the table has another form than ours"},
};

/**
 * The server's words on one line: printable, short, without the lines that name its source code.
 * A hostile server could repeat the password that it was given: all from there on is left out.
 */
static const char *quotable(const char *words, const char *password, apr_pool_t *pool)
{
    char *text = apr_pstrdup(pool, words ? words : ""), *line, *state = NULL;
    char *secret = password && *password ? strstr(text, password) : NULL;
    const char *all = NULL;

    if (secret) {
        *secret = '\0';
    }
    for (line = apr_strtok(text, "\n", &state); line; line = apr_strtok(NULL, "\n", &state)) {
        if (strncmp(line, "LOCATION:", 9)) {
            all = all ? apr_pstrcat(pool, all, " ", line, NULL) : line;
        }
    }
    text = apr_pstrndup(pool, all ? all : "", 300);
    for (char *c = text; *c; c++) {
        if (!apr_isprint(*c)) {
            *c = *c == '\t' ? ' ' : '?';
        }
    }
    return text;
}

static apr_status_t refused(const char *state, const char *doing, const char *words,
                            apr_pool_t *pool, aip_error_t *err)
{
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        if (!strncmp(state, causes[i].state, strlen(causes[i].state))) {
            int status = !strcmp(causes[i].code, "vectordb_timeout") ? 504 : 502;

            return FAIL(err, pool, status, causes[i].code, "postgresql: %s: %s%s%s", doing, words,
                        causes[i].advice ? "; " : "", causes[i].advice ? causes[i].advice : "");
        }
    }
    return FAIL(err, pool, 502, "vectordb_error", "postgresql: %s: %s", doing, words);
}

const char *aip_pg_state(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return state ? state : "";
}

apr_status_t aip_pg_refused(const PGresult *result, const char *doing, const char *password,
                            apr_pool_t *pool, aip_error_t *err)
{
    const char *words = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (!words) {
        return FAIL(err, pool, 502, "vectordb_error",
                    "postgresql: %s: the answer has an unexpected form", doing);
    }
    return refused(aip_pg_state(result), doing, quotable(words, password, pool), pool, err);
}

/** The SQLSTATE in what a failed connection says at verbosity verbose: "FATAL:  28P01: words".
 * Addresses are tried one after another; the last one counts. */
static const char *connect_state(const char *words, apr_pool_t *pool)
{
    const char *found = "";

    for (const char *at = strstr(words, ":  "); at; at = strstr(at + 1, ":  ")) {
        size_t len = strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");

        if (len == 5 && at[8] == ':') {
            found = apr_pstrmemdup(pool, at + 3, 5);
        }
    }
    return found;
}

/* ---- Waiting ---- */

/** Waits for the socket. @return false when the time is up */
static bool await(PGconn *conn, short events, apr_time_t deadline)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = events};

    for (;;) {
        apr_interval_time_t left = deadline - apr_time_now();
        int ms = left > apr_time_from_sec(3600) ? 3600000 : (int)((left + 999) / 1000);
        bool sliced = PQsslInUse(conn) && ms > TLS_SLICE_MS;
        int n;

        if (left <= 0) {
            return false;
        }
        n = poll(&fd, 1, sliced ? TLS_SLICE_MS : ms);
        if (n > 0 || (n == 0 && sliced) || (n < 0 && errno != EINTR)) {
            return true; /* an error shows in what libpq does next */
        }
    }
}

/** Lets libpq read what there is; *taken counts the bytes, roughly. */
static aip_pg_outcome_e take(PGconn *conn, size_t *taken)
{
    int bytes = 0;

    if (ioctl(PQsocket(conn), FIONREAD, &bytes) == 0 && bytes > 0) {
        *taken += (size_t)bytes;
    }
    if (*taken > ANSWER_MAX_BYTES) {
        return AIP_PG_FAILED;
    }
    return PQconsumeInput(conn) ? AIP_PG_DONE : AIP_PG_CLOSED;
}

static aip_pg_outcome_e send_all(PGconn *conn, apr_time_t deadline, size_t *taken)
{
    for (int rest = PQflush(conn); rest != 0; rest = PQflush(conn)) {
        aip_pg_outcome_e outcome;

        if (rest < 0) {
            return AIP_PG_CLOSED;
        }
        if (!await(conn, POLLIN | POLLOUT, deadline)) {
            return AIP_PG_TIMEOUT;
        }
        outcome = take(conn, taken); /* a server that talks does not listen */
        if (outcome != AIP_PG_DONE) {
            return outcome;
        }
    }
    return AIP_PG_DONE;
}

/** The next result, NULL after the last. */
static aip_pg_outcome_e next_result(PGconn *conn, apr_time_t deadline, size_t *taken,
                                    PGresult **result)
{
    while (PQisBusy(conn)) {
        aip_pg_outcome_e outcome;

        if (!await(conn, POLLIN, deadline)) {
            return AIP_PG_TIMEOUT;
        }
        outcome = take(conn, taken);
        if (outcome != AIP_PG_DONE) {
            return outcome;
        }
    }
    *result = PQgetResult(conn);
    return AIP_PG_DONE;
}

aip_pg_outcome_e aip_pg_exchange(PGconn *conn, const aip_pg_command_t *command, apr_time_t deadline,
                                 PGresult **result)
{
    aip_pg_outcome_e outcome = AIP_PG_CLOSED;
    PGresult *next = NULL;
    size_t taken = 0;

    *result = NULL;
    if (PQsendQueryParams(conn, command->sql, command->n, NULL, command->values, command->lengths,
                          command->formats, 1)) {
        outcome = send_all(conn, deadline, &taken);
    }
    if (outcome == AIP_PG_DONE) {
        outcome = next_result(conn, deadline, &taken, result);
    }
    /* One statement has one result. A COPY would have them for ever, and is not asked for more. */
    if (outcome == AIP_PG_DONE) {
        outcome = next_result(conn, deadline, &taken, &next);
    }
    if (outcome == AIP_PG_DONE) {
        outcome = PQstatus(conn) != CONNECTION_OK                                 ? AIP_PG_CLOSED
                  : !*result || next || PQtransactionStatus(conn) != PQTRANS_IDLE ? AIP_PG_FAILED
                                                                                  : AIP_PG_DONE;
    }
    PQclear(next);
    if (outcome != AIP_PG_DONE) {
        PQclear(*result);
        *result = NULL;
    }
    return outcome;
}

apr_status_t aip_pg_exchange_failed(const PGconn *conn, aip_pg_outcome_e outcome,
                                    const aip_pgvector_conf_t *conf, apr_pool_t *pool,
                                    aip_error_t *err)
{
    switch (outcome) {
    case AIP_PG_TIMEOUT:
        return FAIL(err, pool, 504, "vectordb_timeout", "postgresql did not answer in time (%d ms)",
                    conf->timeout);
    case AIP_PG_CLOSED:
        return FAIL(err, pool, 502, "vectordb_unreachable", "postgresql: the connection broke: %s",
                    quotable(PQerrorMessage(conn), conf->password, pool));
    case AIP_PG_FAILED:
    case AIP_PG_DONE:
        break;
    }
    return FAIL(err, pool, 502, "vectordb_error",
                "postgresql: the answer is none to one statement, or too long");
}

/* ---- Connecting ---- */

/** The system's authorities; OpenSSL's own idea of them where the usual places are empty. */
static const char *system_bundle(void)
{
    static const char *const usual[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
        if (access(usual[i], R_OK) == 0) {
            return usual[i];
        }
    }
    return X509_get_default_cert_file();
}

static PGconn *start(const aip_pgvector_conf_t *conf, apr_pool_t *pool)
{
    const char *authorities = conf->ca_file ? conf->ca_file : system_bundle();
    const char *const settings[][2] = {
        {"host", conf->host},
        {"port", apr_itoa(pool, conf->port)},
        {"dbname", conf->database},
        {"user", conf->user},
        {"password", conf->password},
        {"passfile", NO_FILE},
        {"client_encoding", "UTF8"},
        {"application_name", "mod_ai_proxy_adv"},
        {"gssencmode", "disable"},
        {"channel_binding", "prefer"},
        {"target_session_attrs", "any"},
        /* Of libpq's modes these three never fall back to plaintext, or from it to TLS. */
        {"sslmode", !conf->ssl         ? "disable"
                    : conf->ssl_verify ? "verify-full"
                                       : "require"},
        {"sslrootcert", conf->ssl_verify ? authorities : NO_FILE},
        {"sslcrl", NO_FILE},
        {"sslcert", conf->client_cert ? conf->client_cert : NO_FILE},
        {"sslkey", conf->client_key ? conf->client_key : NO_FILE},
        {"ssl_min_protocol_version", conf->min_tls ? conf->min_tls : "TLSv1"},
    };
    enum { N = sizeof(settings) / sizeof(settings[0]) };
    const char *keywords[N + 1] = {NULL}, *values[N + 1] = {NULL};

    for (int i = 0; i < N; i++) {
        keywords[i] = settings[i][0];
        values[i] = settings[i][1];
    }
    /* 0: a database's name is a name, never a list of further settings. */
    return PQconnectStartParams(keywords, values, 0);
}

static void ignore_notice(void *data, const PGresult *result)
{
    (void)data, (void)result; /* libpq would print it */
}

/** Drives the handshake. @return false when the time is up */
static bool handshake(PGconn *conn, apr_time_t deadline)
{
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;

    while (PQstatus(conn) != CONNECTION_BAD && next != PGRES_POLLING_OK &&
           next != PGRES_POLLING_FAILED) {
        if (!await(conn, next == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline)) {
            return false;
        }
        next = PQconnectPoll(conn);
    }
    return true;
}

/** A statement must not go on, or wait for a lock, on the server after its client gave up. */
static apr_status_t bound_statements(const aip_pgvector_conf_t *conf, PGconn *conn,
                                     apr_time_t deadline, apr_pool_t *pool, aip_error_t *err)
{
    const char *values[] = {apr_itoa(pool, conf->timeout)};
    const aip_pg_command_t command = {.doing = "set_config",
                                      .sql =
                                          "SELECT set_config('statement_timeout', $1::text, false)",
                                      .n = 1,
                                      .values = values};
    PGresult *result;
    aip_pg_outcome_e outcome = aip_pg_exchange(conn, &command, deadline, &result);
    apr_status_t status = APR_SUCCESS;

    if (outcome != AIP_PG_DONE) {
        return aip_pg_exchange_failed(conn, outcome, conf, pool, err);
    }
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        status = aip_pg_refused(result, command.doing, conf->password, pool, err);
    }
    PQclear(result);
    return status;
}

static apr_status_t connect_failed(const aip_pgvector_conf_t *conf, const PGconn *conn,
                                   apr_pool_t *pool, aip_error_t *err)
{
    const char *words = PQerrorMessage(conn);
    const char *state = connect_state(words, pool);

    words = quotable(words, conf->password, pool);
    if (*state) {
        return refused(state, "connecting", words, pool, err);
    }
    if (PQconnectionNeedsPassword(conn)) {
        return FAIL(err, pool, 502, "vectordb_auth",
                    "postgresql: a password is needed, see AIVectordbPgvectorPassword");
    }
    return FAIL(err, pool, 502, "vectordb_unreachable", "postgresql: cannot connect: %s", words);
}

/** User and password as they are now: secrets may have changed since the last connection. */
static apr_status_t resolve(const aip_pgvector_conf_t *written, aip_pgvector_conf_t *conf,
                            apr_pool_t *pool, aip_error_t *err)
{
    *conf = *written;
    conf->user = aip_secret_text(written->user, pool, err);
    conf->password = aip_secret_text(written->password, pool, err);
    return (written->user && !conf->user) || (written->password && !conf->password) ? APR_EGENERAL
                                                                                    : APR_SUCCESS;
}

apr_status_t aip_pg_connect(const aip_pgvector_conf_t *written, apr_time_t deadline,
                            PGconn **connected, apr_pool_t *pool, aip_error_t *err)
{
    aip_pgvector_conf_t resolved;
    const aip_pgvector_conf_t *conf = &resolved;
    if (resolve(written, &resolved, pool, err) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    PGconn *conn = start(conf, pool);
    apr_status_t status;

    if (!conn) {
        return FAIL(err, pool, 502, "vectordb_error", "postgresql: no memory for a connection");
    }
    PQsetNoticeReceiver(conn, ignore_notice, NULL);
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE); /* for the SQLSTATE */
    if (!handshake(conn, deadline)) {
        status = FAIL(err, pool, 504, "vectordb_timeout",
                      "postgresql took no connection in time (%d ms)", conf->timeout);
    } else if (PQstatus(conn) != CONNECTION_OK) {
        status = connect_failed(conf, conn, pool, err);
        if (strcmp(err->code, "vectordb_auth") == 0) {
            (void)aip_secret_refused(written->password, conf->password, pool);
        }
    } else if (conf->ssl && !PQsslInUse(conn)) {
        /* Unix sockets: libpq takes them for safe. */
        status =
            FAIL(err, pool, 502, "vectordb_unreachable", "postgresql: no TLS to %s", conf->host);
    } else if (PQsetnonblocking(conn, 1) != 0) {
        status = FAIL(err, pool, 502, "vectordb_error", "postgresql: no nonblocking connection");
    } else {
        status = bound_statements(conf, conn, deadline, pool, err);
    }
    if (status != APR_SUCCESS) {
        PQfinish(conn);
        return status;
    }
    *connected = conn;
    return APR_SUCCESS;
}
