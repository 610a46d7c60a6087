/* SPDX-License-Identifier: Apache-2.0 */
/* The store of secrets: what becomes of the outcomes of fetches, who fetches, and that a sealed
 * value cannot be read or exchanged without the key. Sources are of the test's own; nothing waits
 * longer than some milliseconds. */

#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/secret/slot.h"
#include "aip/secret.h"
#include "fixture.h"

Suite *secret_store_suite(void);

#define SECRET "s3cr3t-value"

static unsigned char id[AIP_SECRET_ID];
static unsigned char key[32] = "0123456789abcdef0123456789abcde";

/* What the source says next, and how often it was asked; shared with child processes. */
typedef struct script_t {
    aip_fetched_e outcome;
    char value[80];
    apr_interval_time_t lifetime, takes;
    bool refused_meanwhile; /* a peer refuses the value while the fetch runs */
    _Atomic(int) asked, inside, together;
} script_t;

static script_t *script;
static aip_secrets_t *store;
static aip_secret_slot_t *slot;
static char said[4000];

static aip_fetched_e fetch(const aip_source_t *source, aip_fetched_t *fetched, apr_pool_t *p)
{
    script_t *s = source->ctx;
    if (atomic_fetch_add(&s->inside, 1) > 0) {
        atomic_store(&s->together, 1);
    }
    atomic_fetch_add(&s->asked, 1);
    apr_sleep(s->takes);
    if (s->refused_meanwhile) {
        apr_uint64_t turn;
        (void)aip_secrets_get(source->store, source->slot, &turn, p);
        ck_assert(aip_secrets_refused(source->store, source->slot, turn));
    }
    fetched->value = apr_pstrdup(p, s->value);
    fetched->lifetime = s->lifetime;
    fetched->error = "the reason";
    atomic_fetch_sub(&s->inside, 1);
    return s->outcome;
}

static void note(void *baton, aip_log_level_e level, const char *message)
{
    (void)baton, (void)level;
    size_t len = strlen(said);
    apr_snprintf(said + len, sizeof said - len, "%s\n", message);
}

static void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

static void open_store(apr_interval_time_t ttl, apr_interval_time_t resurrect)
{
    aip_source_t source = {.id = "x",
                           .shown = "{vault://t/x}",
                           .ttl = ttl,
                           .neg_ttl = apr_time_from_sec(60),
                           .resurrect_ttl = resurrect,
                           .patience = apr_time_from_sec(1),
                           .origin = "t",
                           .fetch = fetch,
                           .ctx = script};
    store = aip_secrets_create(pool);
    ck_assert_int_eq(aip_secrets_add(store, &source), 0);
    ck_assert_int_eq(aip_secrets_add(store, &source), 0); /* the same id is the same secret */
    aip_secrets_attach(store, 0, slot);
    aip_secrets_digest(store, 0, id);
    aip_secrets_ready(store, key, (aip_log_t){note, NULL});
}

static void setup(void)
{
    pool_setup();
    script = shared_memory(sizeof *script);
    slot = shared_memory(aip_secret_slot_size());
    *script = (script_t){.outcome = AIP_FETCHED_OK, .value = SECRET};
    *said = '\0';
    open_store(apr_time_from_sec(100), apr_time_from_sec(1000));
}

static void teardown(void)
{
    munmap(script, sizeof *script);
    munmap((void *)slot, aip_secret_slot_size());
    pool_teardown();
}

static const char *get(void)
{
    return aip_secrets_get(store, 0, NULL, pool);
}

/* As if time had passed. */
static void make_due(void)
{
    atomic_store(&slot->due, 1);
}

START_TEST(fetches_once_and_keeps)
{
    apr_time_t before = apr_time_now();
    ck_assert_ptr_null(get());
    apr_time_t next = aip_secrets_refresh(store, pool);
    ck_assert_str_eq(get(), SECRET);
    ck_assert_int_ge(next, before + apr_time_from_sec(70));
    ck_assert_int_le(next, apr_time_now() + apr_time_from_sec(90)); /* before ttl is over */
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 1);
    ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(ttl_zero_is_for_ever)
{
    open_store(0, 0);
    ck_assert_int_eq(aip_secrets_refresh(store, pool), APR_INT64_MAX);
    ck_assert_str_eq(get(), SECRET);
}
END_TEST

START_TEST(a_token_is_renewed_before_it_expires_and_never_used_after)
{
    script->lifetime = apr_time_from_sec(10);
    apr_time_t next = aip_secrets_refresh(store, pool);
    ck_assert_int_le(next, apr_time_now() + apr_time_from_sec(8));
    ck_assert_str_eq(get(), SECRET);
    atomic_store(&slot->usable, apr_time_now());
    ck_assert_ptr_null(get());
}
END_TEST

START_TEST(a_new_value_is_said_without_the_value)
{
    (void)aip_secrets_refresh(store, pool);
    apr_uint64_t first, second;
    (void)aip_secrets_get(store, 0, &first, pool);
    make_due();
    (void)aip_secrets_refresh(store, pool);
    (void)aip_secrets_get(store, 0, &second, pool);
    ck_assert_uint_eq(first, second); /* the same value is no new one */
    apr_cpystrn(script->value, "other", sizeof script->value);
    make_due();
    (void)aip_secrets_refresh(store, pool);
    ck_assert_str_eq(aip_secrets_get(store, 0, &second, pool), "other");
    ck_assert_uint_ne(first, second);
    ck_assert_str_eq(said, "AIP0201: {vault://t/x}: has a new value\n");
}
END_TEST

START_TEST(the_last_value_outlives_an_outage_for_resurrect_ttl)
{
    (void)aip_secrets_refresh(store, pool);
    script->outcome = AIP_FETCHED_AWAY;
    for (int i = 0; i < 3; i++) {
        make_due();
        (void)aip_secrets_refresh(store, pool);
        ck_assert_str_eq(get(), SECRET);
    }
    ck_assert_msg(strncmp(said, "AIP0200: {vault://t/x}: the reason; its last value is used for 1",
                          60) == 0 &&
                      strchr(said, '\n') == said + strlen(said) - 1,
                  "%s", said);
    atomic_store(&slot->usable, apr_time_now()); /* ttl and resurrect_ttl are over */
    ck_assert_ptr_null(get());
    script->outcome = AIP_FETCHED_OK;
    make_due();
    (void)aip_secrets_refresh(store, pool);
    ck_assert_str_eq(get(), SECRET);
    ck_assert_ptr_nonnull(strstr(said, "AIP0202: {vault://t/x}: can be fetched again"));
}
END_TEST

START_TEST(what_the_vault_has_no_more_is_not_used)
{
    (void)aip_secrets_refresh(store, pool);
    script->outcome = AIP_FETCHED_MISSING;
    make_due();
    apr_time_t next = aip_secrets_refresh(store, pool);
    ck_assert_ptr_null(get());
    ck_assert_int_ge(next, apr_time_now() + apr_time_from_sec(45)); /* neg_ttl */
    ck_assert_ptr_nonnull(strstr(said, "what needs it is answered with 503"));
}
END_TEST

START_TEST(pauses_grow)
{
    apr_interval_time_t last = 0;
    script->outcome = AIP_FETCHED_AWAY;
    for (int i = 0; i < 10; i++) {
        make_due();
        apr_interval_time_t pause = aip_secrets_refresh(store, pool) - apr_time_now();
        ck_assert_int_ge(pause, i < 5 ? last : apr_time_from_sec(20));
        ck_assert_int_le(pause, apr_time_from_sec(33));
        last = pause;
    }
}
END_TEST

START_TEST(a_file_that_only_root_may_read_stays)
{
    aip_source_t *source = (aip_source_t *)aip_secrets_source(store, 0);
    source->sticky = true;
    (void)aip_secrets_refresh(store, pool);
    script->outcome = AIP_FETCHED_DENIED;
    for (int i = 0; i < 2; i++) {
        make_due();
        (void)aip_secrets_refresh(store, pool);
    }
    ck_assert_str_eq(get(), SECRET);
    ck_assert_str_eq(said, "AIP0204: {vault://t/x}: the reason; what the server read as it started "
                           "stays in use until a restart\n");
}
END_TEST

/* ---- early refreshes ---- */

static int woken;

static void wake(void)
{
    woken++;
}

START_TEST(a_refused_value_is_fetched_early_once)
{
    static const volatile apr_uint32_t stop;
    apr_uint64_t turn;
    (void)aip_secrets_refresh(store, pool);
    (void)aip_secrets_get(store, 0, &turn, pool);
    aip_secrets_background(store, wake, &stop);
    woken = 0;
    ck_assert(aip_secrets_refused(store, 0, turn));
    ck_assert_int_eq(woken, 1);
    ck_assert(aip_secrets_refused(store, 0, turn)); /* still being looked at: worth waiting */
    ck_assert_int_eq(woken, 1);
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 2);
    aip_secrets_wait(store, 0, apr_time_now() + apr_time_from_sec(10)); /* over already */
    ck_assert(!aip_secrets_refused(store, 0, turn)); /* the same value again: not so soon */
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 2);
    apr_cpystrn(script->value, "other", sizeof script->value);
    make_due();
    (void)aip_secrets_refresh(store, pool);
    ck_assert(!aip_secrets_refused(store, 0, turn)); /* there is a newer one */
    (void)aip_secrets_get(store, 0, &turn, pool);
    ck_assert(aip_secrets_refused(store, 0, turn)); /* which may be refused as well */
}
END_TEST

START_TEST(waiting_ends)
{
    apr_uint64_t turn;
    (void)aip_secrets_refresh(store, pool);
    (void)aip_secrets_get(store, 0, &turn, pool);
    ck_assert(aip_secrets_refused(store, 0, turn));
    apr_time_t start = apr_time_now();
    aip_secrets_wait(store, 0, start + apr_time_from_msec(50)); /* nobody fetches */
    ck_assert_int_ge(apr_time_now() - start, apr_time_from_msec(50));
    ck_assert_int_le(apr_time_now() - start, apr_time_from_sec(5));
}
END_TEST

START_TEST(a_refusal_during_a_fetch_asks_for_another)
{
    (void)aip_secrets_refresh(store, pool);
    script->refused_meanwhile = true;
    make_due();
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 2);
    script->refused_meanwhile = false; /* what it gave may be from before the rotation */
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 3);
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 3);
}
END_TEST

/* A token is another one after each fetch: only time can limit the fetches that refusals cause. */
START_TEST(a_changing_value_is_fetched_early_once)
{
    aip_source_t *source = (aip_source_t *)aip_secrets_source(store, 0);
    apr_uint64_t turn;
    source->changing = true;
    (void)aip_secrets_refresh(store, pool);
    for (int i = 0; i < 5; i++) {
        (void)aip_secrets_get(store, 0, &turn, pool);
        ck_assert_int_eq(aip_secrets_refused(store, 0, turn), i == 0);
        apr_snprintf(script->value, sizeof script->value, "token %d", i);
        (void)aip_secrets_refresh(store, pool);
    }
    ck_assert_int_eq(script->asked, 2);
    ck_assert_str_eq(get(), "token 0");
}
END_TEST

START_TEST(what_can_be_fetched_once_survives_a_refusal)
{
    aip_source_t *source = (aip_source_t *)aip_secrets_source(store, 0);
    apr_uint64_t turn, other;
    const char *error;
    for (int once = 1; once >= 0; once--) {
        source->once = once;
        script->outcome = AIP_FETCHED_OK;
        make_due();
        (void)aip_secrets_refresh(store, pool);
        (void)aip_secrets_get(store, 0, &turn, pool);
        script->outcome = AIP_FETCHED_DENIED;
        ck_assert_ptr_null(aip_secrets_need(store, 0, turn, &other, pool, &error));
        ck_assert_str_eq(error, "the reason");
        ck_assert_int_eq(get() != NULL, once);
    }
}
END_TEST

START_TEST(a_clock_that_was_set_back)
{
    apr_time_t later = apr_time_now() + apr_time_from_sec(3600);
    apr_uint64_t turn;
    atomic_store(&slot->lease, later);
    (void)aip_secrets_refresh(store, pool);
    ck_assert_str_eq(get(), SECRET);
    (void)aip_secrets_get(store, 0, &turn, pool);
    atomic_store(&slot->refused, later);
    atomic_store(&slot->refused_turn, turn);
    ck_assert(aip_secrets_refused(store, 0, turn));
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 2);
}
END_TEST

/* ---- several processes ---- */

START_TEST(one_at_a_time_fetches)
{
    pid_t children[6];
    script->takes = apr_time_from_msec(30);
    for (int i = 0; i < ROWS(children); i++) {
        children[i] = fork();
        if (children[i] == 0) {
            for (int n = 0; n < 20; n++) {
                (void)aip_secrets_refresh(store, pool);
                apr_sleep(apr_time_from_msec(5));
            }
            _exit(get() && strcmp(get(), SECRET) == 0 ? 0 : 1);
        }
    }
    for (int i = 0; i < ROWS(children); i++) {
        int status;
        waitpid(children[i], &status, 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_eq(script->asked, 1);
    ck_assert_int_eq(script->together, 0);
}
END_TEST

START_TEST(a_fetcher_that_died_is_replaced)
{
    script->takes = apr_time_from_sec(100);
    pid_t child = fork();
    if (child == 0) {
        (void)aip_secrets_refresh(store, pool);
        _exit(0);
    }
    while (!script->asked) {
        apr_sleep(1000);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    script->takes = 0;
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 1); /* the lease still runs */
    atomic_store(&slot->lease, apr_time_now() - 1);
    (void)aip_secrets_refresh(store, pool);
    ck_assert_str_eq(get(), SECRET);
}
END_TEST

/* Readers never see half of a value, nor a mixture of two. */
START_TEST(readers_and_a_writer)
{
    pid_t children[3];
    char a[3000], b[9000];
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    a[sizeof a - 1] = b[sizeof b - 1] = '\0';
    ck_assert_int_eq(aip_slot_put(slot, id, key, a), APR_SUCCESS);
    for (int i = 0; i < ROWS(children); i++) {
        children[i] = fork();
        if (children[i] == 0) {
            int bad = 0, none = 0;
            for (int n = 0; n < 20000; n++) {
                apr_pool_t *p;
                apr_uint64_t turn;
                apr_pool_create(&p, pool);
                const char *value = aip_slot_get(slot, id, key, &turn, p);
                none += !value;
                bad += value && strcmp(value, a) != 0 && strcmp(value, b) != 0;
                apr_pool_destroy(p);
            }
            _exit(bad ? 1 : none ? 2 : 0);
        }
    }
    for (int n = 0; n < 20000; n++) {
        ck_assert_int_eq(aip_slot_put(slot, id, key, n & 1 ? a : b), APR_SUCCESS);
    }
    for (int i = 0; i < ROWS(children); i++) {
        int status;
        waitpid(children[i], &status, 0);
        ck_assert_int_eq(status, 0);
    }
}
END_TEST

/* ---- the seal ---- */

START_TEST(the_memory_does_not_hold_the_value)
{
    (void)aip_secrets_refresh(store, pool);
    ck_assert_ptr_null(memmem((void *)slot, aip_secret_slot_size(), SECRET, strlen(SECRET)));
    ck_assert_ptr_null(memmem((void *)slot, aip_secret_slot_size(), key, 16));
}
END_TEST

START_TEST(another_key_opens_nothing)
{
    unsigned char other[32] = {1};
    apr_uint64_t turn;
    ck_assert_int_eq(aip_slot_put(slot, id, key, SECRET), APR_SUCCESS);
    ck_assert_ptr_null(aip_slot_get(slot, id, other, &turn, pool));
    ck_assert_str_eq(aip_slot_get(slot, id, key, &turn, pool), SECRET);
}
END_TEST

/* A child that outlived two restarts: its slot is another secret's by now. */
START_TEST(a_slot_that_was_given_away)
{
    unsigned char other[AIP_SECRET_ID] = {2};
    apr_uint64_t turn;
    (void)aip_secrets_refresh(store, pool);
    memset(slot, 0, aip_secret_slot_size());
    memcpy(slot->id, other, sizeof other);
    ck_assert_int_eq(aip_slot_put(slot, other, key, "another's"), APR_SUCCESS);
    atomic_store(&slot->usable, APR_INT64_MAX);
    ck_assert_ptr_null(get());
    (void)aip_secrets_refresh(store, pool);
    ck_assert_int_eq(script->asked, 1); /* nor does it write */
    ck_assert_int_ne(aip_slot_put(slot, id, key, SECRET), APR_SUCCESS);
    ck_assert_str_eq(aip_slot_get(slot, other, key, &turn, pool), "another's");
}
END_TEST

START_TEST(spoilt_memory_is_no_value)
{
    apr_uint64_t turn;
    ck_assert_int_eq(aip_slot_put(slot, id, key, SECRET), APR_SUCCESS);
    unsigned char *bytes = slot->sealed[1].text;
    bytes[0] ^= 1;
    ck_assert_ptr_null(aip_slot_get(slot, id, key, &turn, pool));
    bytes[0] ^= 1;
    slot->sealed[1].len = AIP_SECRET_MAX + 1;
    ck_assert_ptr_null(aip_slot_get(slot, id, key, &turn, pool));
    slot->sealed[1].len = (apr_uint32_t)strlen(SECRET) - 1;
    ck_assert_ptr_null(aip_slot_get(slot, id, key, &turn, pool));
    slot->sealed[1].len = (apr_uint32_t)strlen(SECRET);
    ck_assert_str_eq(aip_slot_get(slot, id, key, &turn, pool), SECRET);
    /* an old value in the place of a new one */
    ck_assert_int_eq(aip_slot_put(slot, id, key, "b"), APR_SUCCESS);
    ck_assert_int_eq(aip_slot_put(slot, id, key, "c"), APR_SUCCESS);
    slot->sealed[1] = slot->sealed[0];
    ck_assert_ptr_null(aip_slot_get(slot, id, key, &turn, pool));
}
END_TEST

START_TEST(lengths)
{
    char *value = malloc(AIP_SECRET_MAX + 2);
    apr_uint64_t turn;
    memset(value, 'x', AIP_SECRET_MAX + 1);
    value[AIP_SECRET_MAX + 1] = '\0';
    ck_assert_int_ne(aip_slot_put(slot, id, key, value), APR_SUCCESS);
    value[AIP_SECRET_MAX] = '\0';
    ck_assert_int_eq(aip_slot_put(slot, id, key, value), APR_SUCCESS);
    ck_assert_str_eq(aip_slot_get(slot, id, key, &turn, pool), value);
    ck_assert_int_eq(aip_slot_put(slot, id, key, ""), APR_SUCCESS);
    ck_assert_str_eq(aip_slot_get(slot, id, key, &turn, pool), "");
    free(value);
}
END_TEST

Suite *secret_store_suite(void)
{
    Suite *suite = suite_create("secret_store");
    TCase *tcase = tcase_create("secret_store");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, fetches_once_and_keeps);
    tcase_add_test(tcase, ttl_zero_is_for_ever);
    tcase_add_test(tcase, a_token_is_renewed_before_it_expires_and_never_used_after);
    tcase_add_test(tcase, a_new_value_is_said_without_the_value);
    tcase_add_test(tcase, the_last_value_outlives_an_outage_for_resurrect_ttl);
    tcase_add_test(tcase, what_the_vault_has_no_more_is_not_used);
    tcase_add_test(tcase, pauses_grow);
    tcase_add_test(tcase, a_file_that_only_root_may_read_stays);
    tcase_add_test(tcase, a_refused_value_is_fetched_early_once);
    tcase_add_test(tcase, waiting_ends);
    tcase_add_test(tcase, a_refusal_during_a_fetch_asks_for_another);
    tcase_add_test(tcase, a_changing_value_is_fetched_early_once);
    tcase_add_test(tcase, what_can_be_fetched_once_survives_a_refusal);
    tcase_add_test(tcase, a_clock_that_was_set_back);
    tcase_add_test(tcase, one_at_a_time_fetches);
    tcase_add_test(tcase, a_fetcher_that_died_is_replaced);
    tcase_add_test(tcase, readers_and_a_writer);
    tcase_add_test(tcase, the_memory_does_not_hold_the_value);
    tcase_add_test(tcase, another_key_opens_nothing);
    tcase_add_test(tcase, a_slot_that_was_given_away);
    tcase_add_test(tcase, spoilt_memory_is_no_value);
    tcase_add_test(tcase, lengths);
    suite_add_tcase(suite, tcase);
    return suite;
}
