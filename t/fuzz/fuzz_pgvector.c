/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what a PostgreSQL says, behind libpq's reading of its protocol: results with rows, errors
 * with SQLSTATE and words, the words of a connection that failed. The first byte chooses metric,
 * call and number of references; the rest are results, one for each statement, or words. What must
 * hold: a query is good when a reader of our own finds each reference once, and has the same
 * distances, finite and in the metric's range; a sync is good when its last look found all, and
 * writes nothing that a look has found; a failure has a code, that of a refused log-in when, and
 * only when, the SQLSTATE is one of these, and a printable reason of bounded length, without the
 * password that was used. */

#include "fuzz.h"

#include "../../src/net/pg_pool.h"

#include <apr_strings.h>
#include <math.h>
#include <regex.h>

#define DIMS 3
#define MOST 70 /* more than one statement writes */
#define PASSWORD "pa55w0rd"

typedef enum call_e { QUERY, QUERY_TOO, SYNC, CONNECT } call_e;
typedef enum answer_e { ROWS, DONE, ERROR, GONE, ANSWERS } answer_e;

/* libpq's types, as what stands below in place of its functions sees them. */
struct pg_result {
    ExecStatusType status;
    int fields, rows;
    const char *state, *words; /* NULL: no error */
    char **values;             /* each ends where its allocation does */
    int *lengths;
};

struct pg_conn {
    const char *words;
    int needs_password;
};

static const uint8_t *rest;
static size_t left;
static aip_references_t refs;
static const PGresult *last;     /* NULL: there was no answer */
static bool found[MOST], looked; /* by the last look of a sync */

ExecStatusType __wrap_PQresultStatus(const PGresult *result);
int __wrap_PQnfields(const PGresult *result);
int __wrap_PQntuples(const PGresult *result);
char *__wrap_PQgetvalue(const PGresult *result, int row, int field);
int __wrap_PQgetlength(const PGresult *result, int row, int field);
char *__wrap_PQresultErrorField(const PGresult *result, int field);
PGconn *__wrap_PQconnectStartParams(const char *const *keywords, const char *const *values, int x);
PQnoticeReceiver __wrap_PQsetNoticeReceiver(PGconn *conn, PQnoticeReceiver receiver, void *data);
PGVerbosity __wrap_PQsetErrorVerbosity(PGconn *conn, PGVerbosity verbosity);
ConnStatusType __wrap_PQstatus(const PGconn *conn);
char *__wrap_PQerrorMessage(const PGconn *conn);
int __wrap_PQconnectionNeedsPassword(const PGconn *conn);
void __wrap_PQfinish(PGconn *conn);
apr_status_t __wrap_aip_pg_run(aip_pg_pool_t *pg, const aip_pg_command_t *command,
                               apr_time_t deadline, PGresult **result, apr_pool_t *pool,
                               aip_error_t *err);

/* ---- results, in place of libpq's ---- */

ExecStatusType __wrap_PQresultStatus(const PGresult *result)
{
    return result->status;
}

int __wrap_PQnfields(const PGresult *result)
{
    return result->fields;
}

int __wrap_PQntuples(const PGresult *result)
{
    return result->rows;
}

static int cell(const PGresult *result, int row, int field)
{
    require(row >= 0 && row < result->rows && field >= 0 && field < result->fields);
    return row * result->fields + field;
}

char *__wrap_PQgetvalue(const PGresult *result, int row, int field)
{
    return result->values[cell(result, row, field)];
}

int __wrap_PQgetlength(const PGresult *result, int row, int field)
{
    return result->lengths[cell(result, row, field)];
}

char *__wrap_PQresultErrorField(const PGresult *result, int field)
{
    require(field == PG_DIAG_SQLSTATE || field == PG_DIAG_MESSAGE_PRIMARY);
    return (char *)(uintptr_t)(field == PG_DIAG_SQLSTATE ? result->state : result->words);
}

static uint8_t next_byte(void)
{
    return left ? left--, *rest++ : 0;
}

static apr_status_t drop(void *cell)
{
    free(cell);
    return APR_SUCCESS;
}

/* A byte with the length of the value, then that: 255 is a null. */
static void next_cell(PGresult *result, int i, apr_pool_t *pool)
{
    size_t len = next_byte();

    len = len == 255 ? 0 : len < left ? len : left;
    result->values[i] = fuzz_copy(rest, len);
    result->lengths[i] = (int)len;
    apr_pool_cleanup_register(pool, result->values[i], drop, apr_pool_cleanup_null);
    rest += len;
    left -= len;
}

static void next_rows(PGresult *result, apr_pool_t *pool)
{
    result->status = PGRES_TUPLES_OK;
    result->fields = next_byte() % 4;
    result->rows = next_byte();
    const size_t n = (size_t)result->fields * (size_t)result->rows;
    result->values = apr_pcalloc(pool, (n + 1) * sizeof *result->values);
    result->lengths = apr_pcalloc(pool, (n + 1) * sizeof *result->lengths);
    for (size_t i = 0; i < n; i++)
        next_cell(result, (int)i, pool);
}

/* A line of SQLSTATE and words; an empty one: an answer that is neither. */
static void next_error(PGresult *result, apr_pool_t *pool)
{
    char *line = fuzz_line(&rest, &left);

    result->status = PGRES_FATAL_ERROR;
    if (*line) {
        for (char *c = line; *c; c++)
            *c = *c == '\r' ? '\n' : *c;
        result->state = apr_pstrndup(pool, line, 5);
        result->words = apr_pstrdup(pool, line + strlen(result->state));
    }
    free(line);
}

/* ---- statements ---- */

static uint32_t number_at(const char *value)
{
    uint32_t number;

    memcpy(&number, value, sizeof number);
    return __builtin_bswap32(number);
}

static int number_of(const PGresult *result, int row)
{
    const int i = row * result->fields;

    return result->lengths[i] == 4 && number_at(result->values[i]) < (uint32_t)refs.n
               ? (int)number_at(result->values[i])
               : -1;
}

static void note_look(const PGresult *result)
{
    memset(found, 0, sizeof found);
    looked = result->status == PGRES_TUPLES_OK && result->fields == 1;
    for (int row = 0; looked && row < result->rows; row++)
        if (number_of(result, row) >= 0)
            found[number_of(result, row)] = true;
}

/* What is written: numbers that go up, none of them found before, a vector for each. */
static void check_insert(const aip_pg_command_t *command)
{
    const int n = (command->lengths[1] - 20) / 8;
    int before = -1;

    require(n > 0 && command->lengths[1] == 20 + 8 * n);
    require(command->lengths[2] == 20 + 8 * n * DIMS);
    for (int i = 0; i < n; i++) {
        const uint32_t number = number_at(command->values[1] + 20 + 8 * i + 4);

        require(number < (uint32_t)refs.n && (int)number > before && !found[number]);
        before = (int)number;
    }
}

apr_status_t __wrap_aip_pg_run(aip_pg_pool_t *pg, const aip_pg_command_t *command,
                               apr_time_t deadline, PGresult **result, apr_pool_t *pool,
                               aip_error_t *err)
{
    const answer_e answer = left ? (answer_e)(next_byte() % ANSWERS) : GONE;
    PGresult *made = apr_pcalloc(pool, sizeof *made);

    (void)pg, (void)deadline;
    for (int i = 0; i < command->n; i++)
        require(command->values[i] != NULL);
    if (strcmp(command->doing, "INSERT") == 0)
        check_insert(command);
    switch (answer) {
    case ROWS:
        next_rows(made, pool);
        break;
    case DONE:
        made->status = PGRES_COMMAND_OK;
        break;
    case ERROR:
        next_error(made, pool);
        break;
    case GONE:
    case ANSWERS:
        last = NULL;
        return aip_error_set(err, pool, 502, "gateway_error", "vectordb_unreachable", NULL,
                             "postgresql: gone");
    }
    if (command->n == 2)
        note_look(made);
    last = *result = made;
    return APR_SUCCESS;
}

/* ---- what must hold ---- */

static bool log_in(const char *state)
{
    return state && (strncmp(state, "28", 2) == 0 || strcmp(state, "42501") == 0);
}

static void check_error(const aip_error_t *err)
{
    require(err->code && strncmp(err->code, "vectordb_", 9) == 0);
    require(err->status == (strcmp(err->code, "vectordb_timeout") ? 502 : 504));
    require(err->message && strncmp(err->message, "postgresql", 10) == 0);
    require(strlen(err->message) < 1024 && !strstr(err->message, PASSWORD));
    for (const char *p = err->message; *p; p++)
        require(*p >= ' ' && *p <= '~');
}

/* The same reading, in other words. @return whether it is an answer to a query */
static bool read_rows(const PGresult *result, aip_metric_e metric, float *distances)
{
    int n = 0;

    for (int i = 0; i < refs.n; i++)
        distances[i] = NAN;
    if (!result || result->status != PGRES_TUPLES_OK || result->fields != 2)
        return false;
    for (int row = 0; row < result->rows; row++) {
        const int number = number_of(result, row);
        uint64_t bits;
        double distance;

        if (number < 0 || !isnan(distances[number]))
            continue;
        if (result->lengths[2 * row + 1] != 8)
            return false;
        memcpy(&bits, result->values[2 * row + 1], sizeof bits);
        bits = __builtin_bswap64(bits);
        memcpy(&distance, &bits, sizeof distance);
        if (!isfinite(distance))
            return false;
        distance = fmax(distance, 0);
        distances[number] = metric == AIP_METRIC_COSINE ? (float)fmin(distance, 2)
                                                        : (float)(distance * distance / 2);
        if (!isfinite(distances[number]))
            return false;
        n++;
    }
    return n == refs.n;
}

static void check_query(aip_vectordb_t *db)
{
    static const float vector[DIMS] = {1, 0, 0};
    float *distances = malloc((size_t)refs.n * sizeof *distances), expected[MOST];
    aip_error_t err = {0};

    require(distances != NULL);
    const apr_status_t rv = db->kind->query(db, &refs, vector, distances, fuzz_pool(), &err);
    require(read_rows(last, db->metric, expected) == (rv == APR_SUCCESS));
    if (rv != APR_SUCCESS) {
        check_error(&err);
        require((strcmp(err.code, "vectordb_auth") == 0) == (last && log_in(last->state)));
    }
    for (int i = 0; rv == APR_SUCCESS && i < refs.n; i++) {
        require(distances[i] == expected[i] && distances[i] >= 0);
        require(db->metric != AIP_METRIC_COSINE || distances[i] <= 2);
    }
    free(distances);
}

static void check_sync(aip_vectordb_t *db)
{
    aip_error_t err = {0};

    looked = false;
    if (db->kind->sync(db, &refs, fuzz_pool(), &err) != APR_SUCCESS) {
        check_error(&err);
        return;
    }
    require(looked && !memchr(found, false, (size_t)refs.n));
}

/* ---- connections, in place of libpq's ---- */

static PGconn broken;

PGconn *__wrap_PQconnectStartParams(const char *const *keywords, const char *const *values, int x)
{
    (void)keywords, (void)values, (void)x;
    return &broken;
}

PQnoticeReceiver __wrap_PQsetNoticeReceiver(PGconn *conn, PQnoticeReceiver receiver, void *data)
{
    (void)conn, (void)receiver, (void)data;
    return NULL;
}

PGVerbosity __wrap_PQsetErrorVerbosity(PGconn *conn, PGVerbosity verbosity)
{
    (void)conn;
    return verbosity;
}

ConnStatusType __wrap_PQstatus(const PGconn *conn)
{
    (void)conn;
    return CONNECTION_BAD;
}

char *__wrap_PQerrorMessage(const PGconn *conn)
{
    return (char *)(uintptr_t)conn->words;
}

int __wrap_PQconnectionNeedsPassword(const PGconn *conn)
{
    return conn->needs_password;
}

void __wrap_PQfinish(PGconn *conn)
{
    require(conn == &broken);
}

/* The SQLSTATE of the last address that was tried; NULL: there is none. */
static const char *state_in(const char *words)
{
    static regex_t regex;
    static bool ready;
    regmatch_t parts[2];
    const char *state = NULL;

    if (!ready)
        require(regcomp(&regex, ":  ([0-9A-Z]{5}):", REG_EXTENDED) == 0);
    ready = true;
    for (; regexec(&regex, words, 2, parts, 0) == 0; words += parts[0].rm_so + 1)
        state = apr_pstrmemdup(fuzz_pool(), words + parts[1].rm_so, 5);
    return state;
}

static void check_connect(const aip_pgvector_conf_t *conf)
{
    char *words = fuzz_string(rest, left);
    const char *state = state_in(words);
    aip_error_t err = {0};
    PGconn *conn = NULL;

    broken = (PGconn){.words = words, .needs_password = left % 2};
    require(aip_pg_connect(conf, apr_time_now() + apr_time_from_sec(60), &conn, fuzz_pool(),
                           &err) == APR_EGENERAL);
    require(!conn);
    check_error(&err);
    require((strcmp(err.code, "vectordb_auth") == 0) ==
            (state ? log_in(state) : broken.needs_password));
    require(aip_pg_exchange_failed(&broken, AIP_PG_CLOSED, conf, fuzz_pool(), &err) ==
            APR_EGENERAL);
    require(strcmp(err.code, "vectordb_unreachable") == 0);
    check_error(&err);
    free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int sizes[] = {1, 2, 4, MOST};
    static const float vectors[MOST * DIMS];
    static const aip_pgvector_conf_t conf = {.host = "127.0.0.1",
                                             .port = 1,
                                             .database = "d",
                                             .user = "u",
                                             .password = PASSWORD,
                                             .timeout = 1000};

    if (size < 1)
        return 0;
    const aip_metric_e metric = data[0] & 1 ? AIP_METRIC_EUCLIDEAN : AIP_METRIC_COSINE;
    aip_vectordb_t *db = aip_vectordb_pgvector(&conf, metric, fuzz_pool());
    refs = (aip_references_t){
        .n = sizes[data[0] >> 3 & 3], .dims = DIMS, .vectors = vectors, .digest = "d"};
    rest = data + 1;
    left = size - 1;
    last = NULL;
    switch ((call_e)(data[0] >> 1 & 3)) {
    case QUERY:
    case QUERY_TOO:
        check_query(db);
        break;
    case SYNC:
        check_sync(db);
        break;
    case CONNECT:
        check_connect(&conf);
        break;
    }
    apr_pool_clear(fuzz_pool());
    return 0;
}
