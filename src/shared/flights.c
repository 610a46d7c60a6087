/* SPDX-License-Identifier: Apache-2.0 */
/* Flights: embeddings calls that are under way, in a table of shared memory. A slot belongs to a
 * key from the owner's call until the last one who waits has read the result. Waiting is polling: a
 * call takes many milliseconds, and prefork may end a child that waits. */
#include "aip/flights.h"

#include "aip/endpoint.h"
#include "aip/signals.h"

#include <apr_shm.h>
#include <apr_strings.h>
#include <http_log.h>
#include <stdatomic.h>
#include <unistd.h>
#include <util_mutex.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define MUTEX_TYPE "ai-route-flights"
#define SLOTS 512
#define KEY 32
#define POLL apr_time_from_msec(1)
#define CLIENT_POLLS 50 /* between two looks at the client */
#define PARENT_TRIES 50

typedef enum flight_state_e {
    FREE,
    RUNNING,
    ABANDONED, /* the owner is gone: the first of those who wait takes over */
    LANDED,
    FAILED
} flight_state_e;

/* All but `word` under the lock. */
typedef struct slot_t {
    _Atomic(apr_uint32_t)
        word; /* changes whenever the state does; its three low bits are the state */
    apr_uint32_t waiting;
    unsigned char key[KEY];
    pid_t owner;
    apr_time_t deadline; /* an owner that takes longer is forgotten */
    char code[32];
    float distances[];
} slot_t;

static struct {
    char *memory; /* NULL: nothing is embedded over the network */
    apr_size_t slot_size;
    int n_distances;
    apr_global_mutex_t *mutex;
} flights;

int aip_flights_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog, (void)ptemp;
    memset(&flights, 0, sizeof flights);
    return ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0) == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
}

/* @return the most routes that a list has; 0: no provider is asked over the network */
static int most_routes(void)
{
    int most = 0;
    bool remote = false;
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_location_fields_t *f =
            &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t).dir->f;
        remote = remote || (f->set[AIP_L_embeddings_model_provider] &&
                            f->embeddings_model_provider != AIP_EMBEDDER_LOCAL);
    }
    for (int i = 0; remote && i < aip_registry->targets->nelts; i++) {
        int n = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *)->routes->n;
        most = n > most ? n : most;
    }
    return most;
}

apr_status_t aip_flights_create(apr_pool_t *pconf, server_rec *s)
{
    apr_shm_t *segment;
    flights.n_distances = most_routes();
    if (!flights.n_distances) {
        return APR_SUCCESS;
    }
    flights.slot_size =
        (sizeof(slot_t) + (apr_size_t)flights.n_distances * sizeof(float) + 63) & ~(apr_size_t)63;
    apr_status_t rv = ap_global_mutex_create(&flights.mutex, NULL, MUTEX_TYPE, NULL, s, pconf, 0);
    rv = rv ? rv : apr_shm_create(&segment, SLOTS * flights.slot_size, NULL, pconf);
    if (rv == APR_SUCCESS) {
        flights.memory = apr_shm_baseaddr_get(segment);
        memset(flights.memory, 0, SLOTS * flights.slot_size);
    }
    return rv;
}

void aip_flights_child_init(apr_pool_t *pchild, server_rec *s)
{
    if (!flights.memory) {
        return;
    }
    apr_status_t rv = apr_global_mutex_child_init(&flights.mutex,
                                                  apr_global_mutex_lockfile(flights.mutex), pchild);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "AIP0064: no lock for embeddings calls in a child, which shares none");
        flights.memory = NULL;
    }
}

static slot_t *slot_at(int i)
{
    return (slot_t *)(void *)(flights.memory + (apr_size_t)i * flights.slot_size);
}

static flight_state_e state_of(const slot_t *slot)
{
    return (flight_state_e)(atomic_load(&slot->word) & 7u);
}

static void set_state(slot_t *slot, flight_state_e state)
{
    atomic_store(&slot->word, ((atomic_load(&slot->word) | 7u) + 1u) | (apr_uint32_t)state);
}

/* A child may be ended by a signal, but not in here. */
static bool lock(sigset_t *before)
{
    aip_signals_block(before);
    if (apr_global_mutex_lock(flights.mutex) == APR_SUCCESS) {
        return true;
    }
    aip_signals_restore(before);
    return false;
}

static void unlock(const sigset_t *before)
{
    apr_global_mutex_unlock(flights.mutex);
    aip_signals_restore(before);
}

/* The key's slot, else a free one, else -1; slots that were forgotten become free. */
static int find(const unsigned char *key, apr_time_t now)
{
    int spare = -1;
    for (int i = 0; i < SLOTS; i++) {
        slot_t *slot = slot_at(i);
        if (state_of(slot) != FREE && slot->deadline < now) {
            set_state(slot, FREE);
        }
        if (state_of(slot) == FREE) {
            spare = spare < 0 ? i : spare;
        } else if (memcmp(slot->key, key, KEY) == 0) {
            return i;
        }
    }
    return spare;
}

static void begin(slot_t *slot, const unsigned char *key, apr_time_t deadline)
{
    memcpy(slot->key, key, KEY);
    slot->owner = getpid();
    slot->deadline = deadline;
    set_state(slot, RUNNING);
}

/* Takes the result of a flight that has ended. */
static aip_flight_e read_result(slot_t *slot, float *distances, int n, aip_flight_t *flight)
{
    bool landed = state_of(slot) == LANDED;
    if (landed) {
        memcpy(distances, slot->distances, (size_t)n * sizeof *distances);
    } else {
        apr_cpystrn(flight->code, slot->code, sizeof flight->code);
    }
    return landed ? AIP_FLIGHT_RESULT : AIP_FLIGHT_FAILED;
}

/* One look under the lock. @return whether `what` is decided; false: to wait for a change of
 * flight->word */
static bool look(const unsigned char *key, apr_time_t deadline, float *distances, int n,
                 aip_flight_t *flight, aip_flight_e *what)
{
    flight->slot = find(key, apr_time_now());
    if (flight->slot < 0) {
        *what = AIP_FLIGHT_ALONE;
        return true;
    }
    slot_t *slot = slot_at(flight->slot);
    switch (state_of(slot)) {
    case FREE:
        slot->waiting = 0;
        begin(slot, key, deadline);
        *what = AIP_FLIGHT_OWN;
        break;
    case ABANDONED:
        begin(slot, key, deadline);
        *what = AIP_FLIGHT_OWN;
        break;
    case RUNNING:
        slot->waiting++;
        flight->word = atomic_load(&slot->word);
        return false;
    case LANDED:
    case FAILED:
        *what = read_result(slot, distances, n, flight);
        break;
    }
    flight->word = atomic_load(&slot->word);
    return true;
}

typedef enum news_e { DECIDED, WAIT_ON, NOT_OURS } news_e;

/* The word has changed. NOT_OURS: the flight was forgotten, and the slot may be another's. */
static news_e awaited(const unsigned char *key, apr_time_t deadline, float *distances, int n,
                      aip_flight_t *flight, aip_flight_e *what)
{
    slot_t *slot = slot_at(flight->slot);
    if (state_of(slot) == FREE || memcmp(slot->key, key, KEY) != 0) {
        return NOT_OURS;
    }
    if (state_of(slot) == RUNNING) { /* one of the others has taken over */
        flight->word = atomic_load(&slot->word);
        return WAIT_ON;
    }
    slot->waiting--;
    if (state_of(slot) == ABANDONED) {
        begin(slot, key, deadline);
        flight->word = atomic_load(&slot->word);
        *what = AIP_FLIGHT_OWN;
        return DECIDED;
    }
    *what = read_result(slot, distances, n, flight);
    if (slot->waiting == 0) {
        set_state(slot, FREE);
    }
    return DECIDED;
}

/* One who waits no longer. */
static void leave(const aip_flight_t *flight)
{
    sigset_t before;
    slot_t *slot = slot_at(flight->slot);
    if (lock(&before)) {
        if (atomic_load(&slot->word) == flight->word && slot->waiting) {
            slot->waiting--;
        }
        unlock(&before);
    }
}

/* Until the word changes. @return false: the time is over, or the client has left */
static bool wait_for(request_rec *r, const aip_flight_t *flight, apr_time_t deadline)
{
    const slot_t *slot = slot_at(flight->slot);
    for (int polls = 1; atomic_load(&slot->word) == flight->word; polls++) {
        if (apr_time_now() >= deadline || (polls % CLIENT_POLLS == 0 && aip_client_gone(r))) {
            return false;
        }
        apr_sleep(POLL);
    }
    return true;
}

aip_flight_e aip_flight_join(request_rec *r, const unsigned char *key, apr_time_t deadline,
                             float *distances, int n, aip_flight_t *flight)
{
    sigset_t before;
    aip_flight_e what = AIP_FLIGHT_ALONE;
    news_e news = NOT_OURS;
    if (!flights.memory || n > flights.n_distances) {
        return AIP_FLIGHT_ALONE;
    }
    while (news != DECIDED) {
        if (news == WAIT_ON && !wait_for(r, flight, deadline)) {
            leave(flight);
            return AIP_FLIGHT_TOO_LATE;
        }
        if (!lock(&before)) {
            return AIP_FLIGHT_ALONE;
        }
        if (news == WAIT_ON) {
            news = awaited(key, deadline, distances, n, flight, &what);
        }
        if (news == NOT_OURS) {
            news = look(key, deadline, distances, n, flight, &what) ? DECIDED : WAIT_ON;
        }
        unlock(&before);
    }
    return what;
}

void aip_flight_land(const aip_flight_t *flight, const float *distances, int n, const char *code)
{
    sigset_t before;
    if (!lock(&before)) {
        return; /* forgotten at its deadline */
    }
    slot_t *slot = slot_at(flight->slot);
    if (atomic_load(&slot->word) == flight->word) {
        if (distances) {
            memcpy(slot->distances, distances, (size_t)n * sizeof *distances);
        } else {
            apr_cpystrn(slot->code, code ? code : "", sizeof slot->code);
        }
        set_state(slot, slot->waiting == 0 ? FREE : distances ? LANDED : code ? FAILED : ABANDONED);
    }
    unlock(&before);
}

/* The parent must not hang on a lock that died with a child: whoever waits has a deadline anyway.
 */
static bool try_lock(void)
{
    for (int i = 0; i < PARENT_TRIES; i++) {
        apr_status_t rv = apr_global_mutex_trylock(flights.mutex);
        if (rv == APR_SUCCESS || !APR_STATUS_IS_EBUSY(rv)) {
            return rv == APR_SUCCESS;
        }
        apr_sleep(POLL);
    }
    return false;
}

void aip_flights_child_gone(pid_t pid)
{
    if (!flights.memory || !try_lock()) {
        return;
    }
    for (int i = 0; i < SLOTS; i++) {
        slot_t *slot = slot_at(i);
        if (state_of(slot) == RUNNING && slot->owner == pid) {
            set_state(slot, slot->waiting ? ABANDONED : FREE);
        }
    }
    apr_global_mutex_unlock(flights.mutex);
}
