/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds over several secrets: what is fetched first, what has to wait, and what a start or a
 * restart waits for. */

#include <apr_strings.h>
#include <string.h>

#include "../../src/secret/slot.h"
#include "aip/secret.h"
#include "fixture.h"

Suite *secret_rounds_suite(void);

#define MANY 3

static const unsigned char key[32] = "0123456789abcdef0123456789abcde";
static aip_fetched_e outcomes[MANY];
static aip_secrets_t *store;
static aip_secret_slot_t *slots[MANY];
static char order[40]; /* which were fetched */

static aip_fetched_e fetch(const aip_source_t *source, aip_fetched_t *fetched, apr_pool_t *p)
{
    (void)p;
    size_t len = strlen(order);
    apr_snprintf(order + len, sizeof order - len, "%d", source->slot);
    fetched->value = "value";
    fetched->error = "the reason";
    return outcomes[source->slot];
}

static void open_many(const char *a, const char *b, const char *c)
{
    const char *const origins[] = {a, b, c};
    store = aip_secrets_create(pool);
    for (int i = 0; i < MANY; i++) {
        outcomes[i] = AIP_FETCHED_OK;
        aip_source_t source = {.id = apr_psprintf(pool, "%d", i),
                               .shown = "one of many",
                               .ttl = apr_time_from_sec(100),
                               .patience = apr_time_from_sec(1),
                               .origin = origins[i],
                               .fetch = fetch};
        ck_assert_int_eq(aip_secrets_add(store, &source), i);
    }
    for (int i = 0; i < MANY; i++) {
        slots[i] = apr_pcalloc(pool, aip_secret_slot_size());
        aip_secrets_attach(store, i, slots[i]);
    }
    aip_secrets_ready(store, key, (aip_log_t){0});
    *order = '\0';
}

/* One round in which all are due. @return which were fetched, in order */
static const char *next_round(void)
{
    for (int i = 0; i < MANY; i++) {
        atomic_store(&slots[i]->due, 1);
    }
    *order = '\0';
    (void)aip_secrets_refresh(store, pool);
    return order;
}

START_TEST(what_is_on_this_machine_comes_first_and_what_failed_last)
{
    open_many("broken", "well", NULL);
    outcomes[0] = AIP_FETCHED_AWAY;
    ck_assert_str_eq(next_round(), "201");
    ck_assert_str_eq(next_round(), "210");
    outcomes[0] = AIP_FETCHED_OK;
    ck_assert_str_eq(next_round(), "210");
    ck_assert_str_eq(next_round(), "201"); /* in order again */
}
END_TEST

/* Each may hang until its time-out. */
START_TEST(one_failing_origin_in_a_round)
{
    open_many("broken", "broken too", "broken");
    for (int i = 0; i < MANY; i++) {
        outcomes[i] = AIP_FETCHED_AWAY;
    }
    ck_assert_str_eq(next_round(), "01"); /* nobody knew; 2 is where 0 is */
    ck_assert_str_eq(next_round(), "0");
    (void)aip_secrets_refresh(store, pool); /* 0 and 2 have their pause now */
    ck_assert_str_eq(order, "01");
}
END_TEST

START_TEST(a_restart_waits_for_what_is_missing_only)
{
    open_many("a", "b", NULL);
    aip_secrets_first(store, apr_time_now() - 1, pool);
    ck_assert_str_eq(order, ""); /* the time is over */
    outcomes[1] = AIP_FETCHED_AWAY;
    aip_secrets_first(store, APR_INT64_MAX, pool);
    ck_assert_str_eq(order, "201");
    apr_time_t due = atomic_load(&slots[0]->due);
    *order = '\0';
    aip_secrets_first(store, APR_INT64_MAX, pool);
    ck_assert_str_eq(order, "21"); /* files are read as root; 0 has its value */
    ck_assert_int_eq(atomic_load(&slots[0]->due), due);
    atomic_store(&slots[0]->due, 1);
    *order = '\0';
    aip_secrets_first(store, APR_INT64_MAX, pool);
    ck_assert_str_eq(order, "21"); /* a child will renew it */
}
END_TEST

/* What the status page tells. */
START_TEST(what_may_be_shown)
{
    aip_secret_look_t look;
    apr_time_t now = apr_time_now();
    open_many("a", "b", "c");
    aip_secrets_look(store, 0, now, &look);
    ck_assert_str_eq(look.shown, "one of many");
    ck_assert_str_eq(look.state, "missing");
    ck_assert(look.checked == 0);
    (void)next_round();
    now = apr_time_now();
    aip_secrets_look(store, 0, now, &look);
    ck_assert_str_eq(look.state, "fresh");
    ck_assert(look.checked > 0 && look.checked <= now && look.due > now && look.failures == 0);
    outcomes[0] = AIP_FETCHED_AWAY;
    atomic_store(&slots[0]->usable, now + apr_time_from_sec(9)); /* AIVaultResurrectTtl */
    (void)next_round();
    aip_secrets_look(store, 0, apr_time_now(), &look);
    ck_assert_str_eq(look.state, "stale");
    ck_assert_uint_eq(look.failures, 1);
    aip_secrets_look(store, 0, now + apr_time_from_sec(10), &look);
    ck_assert_str_eq(look.state, "missing");
}
END_TEST

Suite *secret_rounds_suite(void)
{
    Suite *suite = suite_create("secret_rounds");
    TCase *tcase = tcase_create("secret_rounds");
    tcase_add_checked_fixture(tcase, pool_setup, pool_teardown);
    tcase_add_test(tcase, what_is_on_this_machine_comes_first_and_what_failed_last);
    tcase_add_test(tcase, one_failing_origin_in_a_round);
    tcase_add_test(tcase, a_restart_waits_for_what_is_missing_only);
    tcase_add_test(tcase, what_may_be_shown);
    suite_add_tcase(suite, tcase);
    return suite;
}
