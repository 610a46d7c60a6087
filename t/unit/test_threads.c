/* SPDX-License-Identifier: Apache-2.0 */
/* What threads share, used by many at once: kept connections, the memory of a secret, the books of
 * the recent past. Run by ThreadSanitizer as well (scripts/test tsan). */
#include "../../src/net/shelf.h"
#include "../../src/secret/slot.h"
#include "aip/history.h"
#include "fixture.h"
#include "suites.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define THREADS 6
#define MOST 4 /* connections */

typedef void *body_t(void *number);

static _Atomic(bool) stop;

/* Runs `body` in THREADS threads until all have come back. */
static void together(body_t *body)
{
    pthread_t threads[THREADS];
    atomic_store(&stop, false);
    for (intptr_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, body, (void *)i), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* ---- kept connections ---- */

typedef struct connection_t {
    _Atomic(int) holders;
    int uses; /* by the holder: only the shelf's own lock orders these */
} connection_t;

static aip_shelves_t *shelves;
static _Atomic(int) opened, closed, used, refused, held, too_many, shared_by_two;

static void close_connection(void *data, bool own)
{
    connection_t *connection = data;
    ck_assert(own);
    atomic_fetch_add(&closed, 1);
    atomic_fetch_add(&used, connection->uses);
    free(connection);
}

static void *take_and_give(void *number)
{
    for (int i = 0; i < 3000; i++) {
        aip_shelf_t *shelf = aip_shelf_get(shelves);
        void *got = NULL;
        if (!aip_shelf_take(shelf, MOST, &got)) {
            atomic_fetch_add(&refused, 1);
            continue;
        }
        atomic_fetch_add(&too_many, atomic_fetch_add(&held, 1) >= MOST);
        connection_t *connection = got;
        if (!connection) {
            connection = calloc(1, sizeof *connection);
            atomic_fetch_add(&opened, 1);
        }
        atomic_fetch_add(&shared_by_two, atomic_fetch_add(&connection->holders, 1) != 0);
        connection->uses++;
        atomic_fetch_sub(&connection->holders, 1);
        atomic_fetch_sub(&held, 1);
        /* Of some threads, now and then: it broke, and is not kept. */
        bool broke = (intptr_t)number % 2 && i % 7 == 0;
        if (broke) {
            close_connection(connection, true);
        }
        aip_shelf_give(shelf, MOST - 2, broke ? NULL : connection);
    }
    return NULL;
}

START_TEST(connections)
{
    apr_pool_t *life;
    ck_assert_int_eq(apr_pool_create(&life, pool), APR_SUCCESS);
    shelves = aip_shelves_create(close_connection, life);
    together(take_and_give);
    apr_pool_destroy(life);
    ck_assert_int_eq(atomic_load(&shared_by_two), 0);
    ck_assert_int_eq(atomic_load(&too_many), 0);
    ck_assert_int_eq(atomic_load(&closed), atomic_load(&opened));
    ck_assert_int_eq(atomic_load(&used) + atomic_load(&refused), THREADS * 3000);
}
END_TEST

/* ---- a secret ---- */

static aip_secret_slot_t *slot;
static const unsigned char id[AIP_SECRET_ID] = "whose", key[32] = "key";
static _Atomic(int) torn, missed, backwards;

/* The value of turn n is a letter, as often as n says. */
static const char *value_of(apr_uint64_t turn, char *text)
{
    size_t len = (size_t)(turn % 200) + 1;
    memset(text, (int)('a' + turn % 26), len);
    text[len] = '\0';
    return text;
}

static void *read_secret(void *number)
{
    char expected[256];
    apr_pool_t *mine;
    apr_uint64_t before = 0;
    if (number == 0) { /* the one writer */
        for (apr_uint64_t turn = 2; turn < 400; turn++) {
            aip_slot_put(slot, id, key, value_of(turn, expected));
        }
        atomic_store(&stop, true);
        return NULL;
    }
    while (!atomic_load(&stop)) {
        apr_uint64_t turn = 0;
        apr_pool_create_unmanaged_ex(&mine, NULL, NULL);
        const char *value = aip_slot_get(slot, id, key, &turn, mine);
        atomic_fetch_add(&missed, !value);
        atomic_fetch_add(&torn, value && strcmp(value, value_of(turn, expected)) != 0);
        atomic_fetch_add(&backwards, value && turn < before);
        before = turn;
        apr_pool_destroy(mine);
    }
    return NULL;
}

START_TEST(secrets)
{
    char text[256];
    slot = apr_pcalloc(pool, aip_secret_slot_size());
    memcpy(slot->id, id, sizeof id);
    ck_assert_int_eq(aip_slot_put(slot, id, key, value_of(1, text)), APR_SUCCESS);
    together(read_secret);
    ck_assert_int_eq(atomic_load(&torn), 0);
    ck_assert_int_eq(atomic_load(&missed), 0);
    ck_assert_int_eq(atomic_load(&backwards), 0);
}
END_TEST

/* ---- the recent past ---- */

static aip_gateway_history_t *gateway;
static aip_target_history_t *target;
static _Atomic(int) mixed, faults_seen;

/* What a thread writes says the same in all its members. */
static void *write_books(void *number)
{
    aip_fault_t out[AIP_HISTORY_ERRORS], fault = {.status = (apr_int32_t)(intptr_t)number};
    aip_figures_row_t row = {{0}};
    for (int i = 0; i < AIP_FIGURES; i++) {
        row.figures[i] = 1;
    }
    memset(fault.word, 'a' + (int)(intptr_t)number, sizeof fault.word - 1);
    for (int i = 0; i < 4000; i++) {
        fault.at = fault.status;
        aip_history_fault(target, &fault);
        aip_history_add(gateway->minutes, &row, apr_time_from_sec(60));
        int n = i % 4 == 0 ? aip_history_faults(target, out) : 0;
        for (int f = 0; f < n; f++) {
            bool whole = out[f].at == out[f].status;
            for (size_t c = 0; c < sizeof fault.word - 1; c++) {
                whole &= out[f].word[c] == 'a' + out[f].status;
            }
            atomic_fetch_add(&mixed, !whole);
            atomic_fetch_add(&faults_seen, 1);
        }
    }
    return NULL;
}

START_TEST(books)
{
    aip_figures_row_t rows[AIP_HISTORY_MINUTES], sum;
    gateway = apr_pcalloc(pool, sizeof *gateway);
    target = apr_pcalloc(pool, sizeof *target);
    together(write_books);
    aip_history_read(gateway->minutes, apr_time_from_sec(60), rows);
    aip_history_sum(rows, &sum);
    for (int i = 0; i < AIP_FIGURES; i++) {
        ck_assert_uint_eq(sum.figures[i], THREADS * 4000);
    }
    ck_assert_int_eq(atomic_load(&mixed), 0);
    ck_assert_int_gt(atomic_load(&faults_seen), 100);
}
END_TEST

Suite *threads_suite(void)
{
    Suite *suite = suite_create("threads");
    TCase *cases = tcase_create("threads");
    tcase_set_timeout(cases, 120);
    tcase_add_checked_fixture(cases, pool_setup, pool_teardown);
    tcase_add_test(cases, connections);
    tcase_add_test(cases, secrets);
    tcase_add_test(cases, books);
    suite_add_tcase(suite, cases);
    return suite;
}
