/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching: when a secret is due, who fetches it, and what becomes of the outcome. Run by the
 * parent before it has children, then by one thread in each child; a lease in the slot makes sure
 * that one at a time fetches it, and that a fetcher that died is replaced. */
#include "store.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <openssl/rand.h>
#include <string.h>

#define NEVER APR_INT64_MAX
#define LEASE_EXTRA apr_time_from_sec(10)
#define AGAIN_FIRST apr_time_from_sec(1)
#define AGAIN_MOST apr_time_from_sec(30)
#define NAP apr_time_from_msec(5)

/* A number from `low` to `high` per cent of `span`, so that servers do not ask all at once. */
static apr_interval_time_t jitter(apr_interval_time_t span, int low, int high)
{
    unsigned char random = 128;
    (void)RAND_bytes(&random, 1);
    return (apr_interval_time_t)((double)span * (low + (double)(high - low) * random / 255.0) /
                                 100.0);
}

/* Saturates: the longest ttl and resurrect_ttl together are beyond all times. */
static apr_time_t later(apr_time_t now, apr_interval_time_t a, apr_interval_time_t b)
{
    return a > NEVER - now || b > NEVER - now - a ? NEVER : now + a + b;
}

static void __attribute__((format(printf, 4, 5)))
tell(const aip_source_t *source, aip_log_level_e level, apr_pool_t *pool, const char *fmt, ...)
{
    const aip_log_t *log = &source->store->log;
    va_list args;
    va_start(args, fmt);
    if (log->write) {
        log->write(log->baton, level, apr_pvsprintf(pool, fmt, args));
    }
    va_end(args);
}

static void take_value(const aip_source_t *source, aip_secret_slot_t *slot,
                       const aip_fetched_t *fetched, apr_pool_t *pool)
{
    const unsigned char *key = source->store->key, *id = source->store->ids[source->slot];
    apr_time_t now = apr_time_now();
    apr_uint64_t turn;
    const char *before = aip_slot_get(slot, id, key, &turn, pool);
    bool same = before && strcmp(before, fetched->value) == 0;
    if (!same && aip_slot_put(slot, id, key, fetched->value) != APR_SUCCESS) {
        tell(source, AIP_LOG_ERR, pool,
             "AIP0203: %s: cannot be kept: it is too long, or there is "
             "no AES-256-GCM",
             source->shown);
        atomic_store(&slot->due, now + AGAIN_MOST);
        return;
    }
    if (fetched->lifetime) {
        atomic_store(&slot->usable, later(now, fetched->lifetime, 0));
        atomic_store(&slot->due, now + jitter(fetched->lifetime, 60, 75));
    } else {
        atomic_store(&slot->usable,
                     source->ttl ? later(now, source->ttl, source->resurrect_ttl) : NEVER);
        atomic_store(&slot->due, source->ttl ? now + jitter(source->ttl, 70, 90) : NEVER);
    }
    atomic_store(&slot->failures, 0);
    apr_uint32_t state = atomic_exchange(&slot->state, AIP_SLOT_GOOD);
    if (state == AIP_SLOT_BAD || state == AIP_SLOT_GONE) {
        tell(source, AIP_LOG_WARNING, pool, "AIP0202: %s: can be fetched again", source->shown);
    } else if (before && !same) {
        tell(source, AIP_LOG_INFO, pool, "AIP0201: %s: has a new value", source->shown);
    }
}

static void refuse(const aip_source_t *source, aip_secret_slot_t *slot, aip_fetched_e outcome,
                   const aip_fetched_t *fetched, apr_pool_t *pool)
{
    apr_time_t now = apr_time_now();
    apr_uint32_t failures = atomic_fetch_add(&slot->failures, 1);
    apr_interval_time_t again = AGAIN_FIRST << (failures < 5 ? failures : 5);
    if (outcome == AIP_FETCHED_MISSING) {
        again = source->neg_ttl;
        atomic_store(&slot->usable, 0);
    }
    again = again > AGAIN_MOST && outcome != AIP_FETCHED_MISSING ? AGAIN_MOST : again;
    atomic_store(&slot->due, now + jitter(again, 80, 110));
    apr_interval_time_t left = atomic_load(&slot->usable) - now;
    apr_uint32_t state = outcome == AIP_FETCHED_MISSING ? AIP_SLOT_GONE : AIP_SLOT_BAD;
    if (atomic_exchange(&slot->state, state) == state) {
        return;
    }
    tell(source, AIP_LOG_WARNING, pool, "AIP0200: %s: %s; %s", source->shown, fetched->error,
         atomic_load(&slot->turn) && left > 0
             ? apr_psprintf(pool, "its last value is used for %" APR_INT64_T_FMT " s more",
                            apr_time_sec(left))
             : "what needs it is answered with 503");
}

/* Children may not be allowed to read what the parent read as root. */
static void keep(const aip_source_t *source, aip_secret_slot_t *slot, const aip_fetched_t *fetched,
                 apr_pool_t *pool)
{
    apr_time_t now = apr_time_now();
    atomic_store(&slot->due, now + (source->ttl ? source->ttl : AGAIN_MOST));
    atomic_store(&slot->usable, NEVER);
    if (atomic_exchange(&slot->state, AIP_SLOT_FIXED) != AIP_SLOT_FIXED) {
        tell(source, AIP_LOG_INFO, pool,
             "AIP0204: %s: %s; what the server read as it started stays in use until a restart",
             source->shown, fetched->error);
    }
}

static bool take(aip_secret_slot_t *slot, apr_interval_time_t patience, apr_int64_t *lease)
{
    apr_int64_t before = atomic_load(&slot->lease);
    apr_time_t now = apr_time_now();
    *lease = now + patience + LEASE_EXTRA;
    bool over = before <= now || before > *lease; /* the clock was set back */
    return over && atomic_compare_exchange_strong(&slot->lease, &before, *lease);
}

/* By the holder of the lease. @param away  it is known that nothing will come */
static aip_fetched_e fetch(const aip_source_t *source, aip_secret_slot_t *slot, apr_int64_t lease,
                           bool away, const char **error, apr_pool_t *pool)
{
    aip_fetched_t fetched = {.error = "its vault is away"};
    apr_time_t start = apr_time_now();
    aip_fetched_e outcome = away ? AIP_FETCHED_AWAY : source->fetch(source, &fetched, pool);
    *error = fetched.error;
    if (source->store->outcomes) {
        atomic_fetch_add(&source->store->outcomes[outcome], 1);
    }
    if (atomic_load(&slot->lease) != lease) {
        *error = "fetching took too long"; /* somebody else has taken over */
        return AIP_FETCHED_AWAY;
    }
    if (outcome == AIP_FETCHED_OK) {
        take_value(source, slot, &fetched, pool);
    } else if (source->sticky && outcome == AIP_FETCHED_DENIED && atomic_load(&slot->turn)) {
        keep(source, slot, &fetched, pool);
    } else if (!aip_is_stopping(source->store->stop)) {
        refuse(source, slot, outcome, &fetched, pool);
    }
    atomic_store(&slot->checked, start);
    apr_int64_t refused = atomic_load(&slot->refused);
    if (refused > start && refused <= apr_time_now()) { /* meanwhile: once more */
        atomic_store(&slot->due, refused);
    }
    atomic_compare_exchange_strong(&slot->lease, &lease, 0);
    return outcome;
}

/* Whether another source of the origin was found away in this round. */
static bool known_away(const apr_array_header_t *away, const char *origin)
{
    for (int i = 0; origin && i < away->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(away, i, const char *), origin) == 0) {
            return true;
        }
    }
    return false;
}

/* Fetches one secret if it is due and nobody else is at it. */
static void refresh(const aip_source_t *source, aip_secret_slot_t *slot, apr_array_header_t *away,
                    apr_pool_t *scratch)
{
    apr_int64_t lease;
    const char *error;
    if (memcmp(slot->id, source->store->ids[source->slot], AIP_SECRET_ID) != 0) {
        return; /* another one's: this child is of an old generation */
    }
    if (apr_time_now() < atomic_load(&slot->due) || !take(slot, source->patience, &lease)) {
        return;
    }
    if (apr_time_now() < atomic_load(&slot->due)) { /* somebody did it meanwhile */
        atomic_compare_exchange_strong(&slot->lease, &lease, 0);
        return;
    }
    if (fetch(source, slot, lease, known_away(away, source->origin), &error, scratch) ==
            AIP_FETCHED_AWAY &&
        source->origin) {
        APR_ARRAY_PUSH(away, const char *) = source->origin;
    }
}

/* What is on this machine comes first, since logins may need it; then what is in order; what failed
 * before comes last. */
typedef enum turn_e { TURN_LOCAL, TURN_GOOD, TURN_FAILED, TURNS } turn_e;

static turn_e turn_of(const aip_source_t *source, aip_secret_slot_t *slot)
{
    return !source->origin ? TURN_LOCAL : atomic_load(&slot->failures) ? TURN_FAILED : TURN_GOOD;
}

/* One origin that keeps its callers waiting does not do so with the others. */
static bool must_wait(turn_e turn, const apr_array_header_t *away, const char *origin)
{
    return turn == TURN_FAILED && away->nelts && !known_away(away, origin);
}

static bool is_usable(aip_secret_slot_t *slot)
{
    return apr_time_now() < atomic_load(&slot->usable);
}

/* @param urgent  leaves what a vault gave and may still be used @param end  nothing is begun after
 * that */
static void go_round(aip_secrets_t *store, bool urgent, apr_time_t end, apr_pool_t *pool)
{
    int n = store->sources->nelts;
    apr_array_header_t *away = apr_array_make(pool, 4, sizeof(const char *));
    apr_pool_t *scratch;
    apr_pool_create(&scratch, pool);
    for (turn_e turn = TURN_LOCAL; turn < TURNS; turn++) {
        for (int i = 0; i < n && !aip_is_stopping(store->stop) && apr_time_now() < end; i++) {
            const aip_source_t *source = aip_store_source(store, i);
            bool later = urgent && source->origin && is_usable(store->slots[i]);
            if (!later && turn_of(source, store->slots[i]) == turn &&
                !must_wait(turn, away, source->origin)) {
                refresh(source, store->slots[i], away, scratch);
                apr_pool_clear(scratch);
            }
        }
    }
    apr_pool_destroy(scratch);
}

apr_time_t aip_secrets_refresh(aip_secrets_t *store, apr_pool_t *pool)
{
    apr_time_t next = NEVER;
    go_round(store, false, NEVER, pool);
    for (int i = 0; i < store->sources->nelts; i++) {
        apr_time_t due = atomic_load(&store->slots[i]->due);
        next = due < next ? due : next;
    }
    return next;
}

void aip_secrets_first(aip_secrets_t *store, apr_time_t end, apr_pool_t *pool)
{
    for (int i = 0; i < store->sources->nelts; i++) {
        aip_secret_slot_t *slot = store->slots[i];
        if (!aip_store_source(store, i)->origin || !is_usable(slot)) {
            atomic_store(&slot->failures, 0);
            atomic_store(&slot->due, 0);
        }
    }
    go_round(store, true, end, pool);
}

const char *aip_secrets_get(const aip_secrets_t *store, int slot, apr_uint64_t *turn,
                            apr_pool_t *pool)
{
    apr_uint64_t unused;
    aip_secret_slot_t *s = store->slots ? store->slots[slot] : NULL;
    if (!s || apr_time_now() >= atomic_load(&s->usable)) {
        return NULL;
    }
    return aip_slot_get(s, store->ids[slot], store->key, turn ? turn : &unused, pool);
}

const char *aip_secrets_need(aip_secrets_t *store, int i, apr_uint64_t bad_turn, apr_uint64_t *turn,
                             apr_pool_t *pool, const char **error)
{
    const aip_source_t *source = aip_store_source(store, i);
    aip_secret_slot_t *slot = store->slots[i];
    apr_time_t end = apr_time_now() + source->patience + LEASE_EXTRA;
    apr_int64_t lease;
    *error = "it is being fetched";
    do {
        const char *value = aip_secrets_get(store, i, turn, pool);
        if (value && *turn != bad_turn) {
            return value;
        }
        if (take(slot, source->patience, &lease)) {
            if (value && !source->once) {
                atomic_store(&slot->usable, 0); /* it was refused: not to be renewed */
            }
            return fetch(source, slot, lease, false, error, pool) == AIP_FETCHED_OK
                       ? aip_secrets_get(store, i, turn, pool)
                       : NULL;
        }
        apr_sleep(NAP);
    } while (apr_time_now() < end && !aip_is_stopping(store->stop));
    return NULL;
}

const char *aip_secrets_missing(const aip_secrets_t *store, apr_pool_t *pool)
{
    for (int i = 0; i < store->sources->nelts; i++) {
        if (!aip_secrets_get(store, i, NULL, pool)) {
            return aip_store_source(store, i)->shown;
        }
    }
    return NULL;
}

bool aip_secrets_refused(aip_secrets_t *store, int i, apr_uint64_t turn)
{
    const aip_source_t *source = aip_store_source(store, i);
    aip_secret_slot_t *slot = store->slots[i];
    apr_time_t now = apr_time_now();
    apr_int64_t before = atomic_load(&slot->refused);
    if (source->fixed || atomic_load(&slot->turn) != turn) {
        return false;
    }
    if (before <= now && now - before < AIP_SECRET_EARLY &&
        (source->changing || atomic_load(&slot->refused_turn) == turn)) {
        return atomic_load(&slot->checked) < before; /* still being looked at */
    }
    if (atomic_compare_exchange_strong(&slot->refused, &before, now)) {
        atomic_store(&slot->refused_turn, turn);
        atomic_store(&slot->due, now);
        if (store->wake) {
            store->wake();
        }
    }
    return true;
}

void aip_secrets_wait(const aip_secrets_t *store, int i, apr_time_t end)
{
    aip_secret_slot_t *slot = store->slots[i];
    while (atomic_load(&slot->checked) < atomic_load(&slot->refused) && apr_time_now() < end) {
        apr_sleep(NAP);
    }
}
