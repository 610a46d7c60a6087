/* SPDX-License-Identifier: Apache-2.0 */
/* States of targets, and books of gateways, in shared memory. The slots, and the tables that say
 * whose they are, belong to the process and survive restarts: old and new children use the same
 * slot for the same target. A slot is given to another owner when neither this configuration nor
 * the one before uses it and nothing is in flight. Counters that need no memory beyond a restart
 * (turns of the wheels) are made anew with each configuration. */
#include "aip/state.h"

#include "aip/flights.h"

#include <ap_mpm.h>
#include <apr_escape.h>
#include <apr_general.h>
#include <apr_md5.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <http_log.h>
#include <openssl/sha.h>
#include <stdatomic.h>
#include <unistd.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define SLOTS_AT_ONCE 64

typedef _Atomic(apr_uint32_t) count_t;

/* In shared memory, of a target: its state and books, then what each child has in flight. */
typedef struct block_t {
    aip_target_state_t state;
    aip_target_metrics_t metrics;
    aip_target_history_t history;
    count_t by_child[];
} block_t;

/* In shared memory, of a gateway. */
typedef struct books_t {
    aip_gateway_metrics_t metrics;
    aip_gateway_history_t history;
} books_t;

/* In the parent's memory. */
typedef struct slot_t {
    unsigned char key[APR_MD5_DIGESTSIZE];
    unsigned generation; /* of the configuration that used it last; 0: free */
    void *block;
} slot_t;

/* Slots with blocks of one size. */
typedef struct shelf_t {
    apr_size_t size;
    bool (*busy)(const void *block); /* NULL: never */
    apr_array_header_t *slots;       /* slot_t */
} shelf_t;

typedef struct states_t {
    apr_pool_t *pool;
    unsigned generation;
    int n_children;
    aip_shared_words_t *words;
    count_t *pids; /* shared: who has claimed a record */
    char machine[33];
    shelf_t targets, gateways;
    apr_time_t since; /* when all of it was zero */
} states_t;

static states_t *states;
static int child = -1; /* this child's record; -1: none */

static apr_status_t shared(void **memory, apr_size_t size, apr_pool_t *pool)
{
    apr_shm_t *segment;
    apr_status_t rv = apr_shm_create(&segment, size, NULL, pool);
    if (rv == APR_SUCCESS) {
        *memory = apr_shm_baseaddr_get(segment); /* zero, and not touched before it is used */
    }
    return rv;
}

static bool in_flight(const void *block)
{
    return atomic_load(&((const block_t *)block)->state.in_flight) > 0;
}

static shelf_t shelf(apr_size_t size, bool (*busy)(const void *))
{
    return (shelf_t){.size = (size + 63) & ~(apr_size_t)63, /* no two in one cache line */
                     .busy = busy,
                     .slots = apr_array_make(states->pool, SLOTS_AT_ONCE, sizeof(slot_t))};
}

static apr_status_t retain(server_rec *s)
{
    unsigned char random[16];
    void *memory = NULL;
    char key[96];
    /* A graceful restart may load a newer module, to which the old one's memory means nothing. */
    apr_snprintf(key, sizeof key, "ai_proxy_adv-states-%s-%d-%d-%d-%d", AIP_VERSION,
                 (int)sizeof *states, (int)sizeof(slot_t), (int)sizeof(block_t),
                 (int)sizeof(books_t));
    states = ap_retained_data_get(key);
    if (states) {
        return APR_SUCCESS;
    }
    states = ap_retained_data_create(key, sizeof *states);
    states->pool = s->process->pool;
    states->since = apr_time_now();
    if (ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &states->n_children) != APR_SUCCESS ||
        states->n_children < 1) {
        states->n_children = 1;
    }
    states->targets = shelf(
        offsetof(block_t, by_child) + (apr_size_t)states->n_children * sizeof(count_t), in_flight);
    states->gateways = shelf(sizeof(books_t), NULL);
    apr_generate_random_bytes(random, sizeof random);
    apr_escape_hex(states->machine, random, sizeof random, 0, NULL);
    apr_status_t rv =
        shared(&memory, sizeof *states->words + (apr_size_t)states->n_children * sizeof(count_t),
               states->pool);
    if (rv == APR_SUCCESS) {
        states->words = memory;
        states->pids = (count_t *)(void *)(states->words + 1);
    }
    return rv;
}

static apr_status_t add_slots(shelf_t *from)
{
    void *memory = NULL;
    apr_status_t rv = shared(&memory, SLOTS_AT_ONCE * from->size, states->pool);
    for (apr_size_t i = 0; rv == APR_SUCCESS && i < SLOTS_AT_ONCE; i++) {
        APR_ARRAY_PUSH(from->slots, slot_t) = (slot_t){.block = (char *)memory + i * from->size};
    }
    return rv;
}

/* The key's own slot, or one that nobody needs; NULL: there is none. @param taken  out: the key
 * belongs to another owner in this configuration */
static slot_t *find_slot(const shelf_t *from, const unsigned char *key, bool *taken)
{
    slot_t *spare = NULL;
    *taken = false;
    for (int i = 0; i < from->slots->nelts; i++) {
        slot_t *slot = &APR_ARRAY_IDX(from->slots, i, slot_t);
        if (slot->generation && memcmp(slot->key, key, sizeof slot->key) == 0) {
            *taken = slot->generation == states->generation;
            return slot;
        }
        bool unused = !slot->generation || slot->generation + 1 < states->generation;
        if (!spare && unused && !(from->busy && from->busy(slot->block))) {
            spare = slot;
        }
    }
    if (spare) {
        memset(spare->block, 0, from->size);
        memcpy(spare->key, key, sizeof spare->key);
    }
    return spare;
}

/* The block of the owner that `name` describes. @return NULL: no memory */
static void *take_block(shelf_t *from, const char *name, apr_pool_t *ptemp)
{
    for (int same = 0;; same++) { /* two sections may be alike */
        unsigned char key[APR_MD5_DIGESTSIZE];
        const char *text = apr_psprintf(ptemp, "%d\n%s", same, name);
        bool taken;
        apr_md5(key, text, strlen(text));
        slot_t *slot = find_slot(from, key, &taken);
        if (!slot && add_slots(from) == APR_SUCCESS) {
            slot = find_slot(from, key, &taken);
        }
        if (!slot) {
            return NULL;
        }
        if (!taken) {
            slot->generation = states->generation;
            return slot->block;
        }
    }
}

static apr_status_t assign(aip_target_t *target, const char *place, apr_pool_t *ptemp)
{
    const aip_url_t *url = &target->endpoint->url;
    block_t *block =
        take_block(&states->targets,
                   apr_psprintf(ptemp, "%s\n%s\n%s%s\n%s", place, target->name, url->origin,
                                url->path, target->f.model_name ? target->f.model_name : ""),
                   ptemp);
    if (!block) {
        return APR_ENOMEM;
    }
    target->state = &block->state;
    target->metrics = &block->metrics;
    target->history = &block->history;
    target->by_child = block->by_child;
    return APR_SUCCESS;
}

static bool id_taken(const char *id)
{
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        const aip_targets_t *targets = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        for (int k = 0; k < targets->n; k++) {
            if (targets->list[k]->shared_id && strcmp(targets->list[k]->shared_id, id) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* What other machines know the target by: nothing that differs between them, such as their names.
 * Targets that are alike are told apart by their order. */
static const char *shared_id(const aip_target_t *target, const char *path, apr_pool_t *pool)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const aip_url_t *url = &target->endpoint->url;
    const char *id = NULL;
    for (int same = 0; !id || id_taken(id); same++) {
        const char *text =
            apr_psprintf(pool, "%d\n%s\n%s\n%s%s\n%s", same, path, target->name, url->origin,
                         url->path, target->f.model_name ? target->f.model_name : "");
        SHA256((const unsigned char *)text, strlen(text), digest);
        id = apr_pescape_hex(pool, digest, sizeof digest, 0);
    }
    return id;
}

static const aip_section_t *section_of(const aip_targets_t *targets)
{
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (section->dir->targets == targets) {
            return section;
        }
    }
    return NULL;
}

static bool pool_taken(const aip_targets_t *targets, const char *pool)
{
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        const aip_targets_t *other = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        if (other->pool && strcmp(other->pool, pool) == 0 &&
            strcmp(other->server, targets->server) == 0) {
            return true;
        }
    }
    return false;
}

/* Sections may have the same path; labels must not. */
static const char *pool_name(const aip_targets_t *targets, apr_pool_t *pconf)
{
    const char *name = targets->path;
    for (int n = 2; pool_taken(targets, name); n++) {
        name = apr_psprintf(pconf, "%s#%d", targets->path, n);
    }
    return name;
}

static apr_status_t assign_list(aip_targets_t *targets, apr_pool_t *pconf)
{
    const aip_section_t *section = section_of(targets);
    const server_rec *server = section ? section->server : NULL;
    apr_status_t rv = APR_SUCCESS;
    targets->path = section && section->path ? section->path : targets->where;
    targets->server = server && server->server_hostname ? server->server_hostname : "";
    targets->pool = pool_name(targets, pconf);
    const char *place =
        apr_psprintf(pconf, "%s:%u %s", targets->server, server ? server->port : 0u, targets->path);
    books_t *books = take_block(&states->gateways, place, pconf);
    if (!books) {
        return APR_ENOMEM;
    }
    targets->metrics = &books->metrics;
    targets->history = &books->history;
    for (int i = 0; rv == APR_SUCCESS && i < targets->n; i++) {
        targets->list[i]->shared_id = shared_id(targets->list[i], targets->path, pconf);
        rv = assign(targets->list[i], place, pconf);
    }
    return rv;
}

/* One tick for each route, one for the list as a whole; the state of the vector store. */
static apr_status_t create_counters(apr_pool_t *pconf)
{
    apr_size_t n = 0;
    void *memory = NULL;
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        n += (apr_size_t)APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *)->routes->n + 2;
    }
    apr_status_t rv = shared(&memory, n * sizeof(apr_uint32_t), pconf);
    apr_uint32_t *next = memory;
    for (int i = 0; rv == APR_SUCCESS && i < aip_registry->targets->nelts; i++) {
        aip_targets_t *targets = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        targets->ticks = next;
        targets->store = next + targets->routes->n + 1;
        next += targets->routes->n + 2;
    }
    return rv;
}

apr_status_t aip_states_create(apr_pool_t *pconf, server_rec *s)
{
    apr_status_t rv = aip_registry->targets->nelts ? create_counters(pconf) : APR_SUCCESS;
    rv = rv ? rv : retain(s);
    if (rv == APR_SUCCESS) {
        states->generation++;
    }
    for (int i = 0; rv == APR_SUCCESS && i < aip_registry->targets->nelts; i++) {
        rv = assign_list(APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *), pconf);
    }
    return rv;
}

aip_shared_words_t *aip_shared_words(void)
{
    return states ? states->words : NULL;
}

apr_time_t aip_states_since(void)
{
    return states->since;
}

const char *aip_machine_id(void)
{
    return states->machine;
}

void aip_states_child_init(apr_pool_t *pchild, server_rec *s)
{
    (void)pchild;
    child = -1;
    for (int i = 0; i < states->n_children && child < 0; i++) {
        apr_uint32_t nobody = 0;
        if (atomic_compare_exchange_strong(&states->pids[i], &nobody, (apr_uint32_t)getpid())) {
            child = i;
        }
    }
    if (child < 0) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s,
                     "AIP0005: more children than records: should this one crash, its requests "
                     "stay counted as in flight");
    }
}

void aip_states_child_status(server_rec *s, pid_t pid, ap_generation_t generation, int slot,
                             mpm_child_status status)
{
    (void)s, (void)generation, (void)slot;
    if (status != MPM_CHILD_EXITED || !states) {
        return;
    }
    aip_flights_child_gone(pid);
    for (int i = 0; i < states->n_children; i++) {
        if (atomic_load(&states->pids[i]) != (apr_uint32_t)pid) {
            continue;
        }
        for (int k = 0; k < states->targets.slots->nelts; k++) {
            block_t *block = APR_ARRAY_IDX(states->targets.slots, k, slot_t).block;
            atomic_fetch_sub(&block->state.in_flight, atomic_exchange(&block->by_child[i], 0));
        }
        atomic_store(&states->pids[i], 0);
    }
}

void aip_state_begin(const aip_target_t *target)
{
    atomic_fetch_add(&target->state->in_flight, 1);
    atomic_fetch_add(&target->state->attempts, 1);
    if (child >= 0) {
        atomic_fetch_add(&target->by_child[child], 1);
    }
}

void aip_state_end(const aip_target_t *target)
{
    atomic_fetch_sub(&target->state->in_flight, 1);
    if (child >= 0) {
        atomic_fetch_sub(&target->by_child[child], 1);
    }
}
