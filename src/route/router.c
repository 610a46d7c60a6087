/* SPDX-License-Identifier: Apache-2.0 */
/* The router: one background thread makes the references, then keeps the vector store in step with
 * them. Requests read the published references without a lock; a store that fails is left alone
 * until the thread has brought it back. */
#include "aip/router.h"

#include "aip/signals.h"
#include "references.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_proc.h>
#include <stdatomic.h>
#include <string.h>

#define RETRY_FIRST apr_time_from_msec(500)
#define RETRY_LAST apr_time_from_sec(30)
#define HEAL_EVERY apr_time_from_sec(1)
#define READY_POLL apr_time_from_msec(5)
#define END_POLL apr_time_from_msec(2)

typedef enum store_state_e { STORE_UNKNOWN, STORE_UP, STORE_DOWN } store_state_e;

struct aip_router_t {
    aip_router_conf_t conf;
    apr_pool_t *pool;
    const char *digest;
    aip_references_t *refs; /* published once, under the mutex, before `ready` */
    _Atomic(bool) ready;
    _Atomic(bool) at_store, ended; /* how far the thread is */
    volatile apr_uint32_t stop, store_state;
    aip_vectordb_t *mirror, *store;
    apr_thread_t *thread;
    apr_thread_mutex_t *mutex;
    apr_thread_cond_t *changed; /* ready, stop or store_state */
};

static void say(const aip_router_t *router, aip_log_level_e level, const char *message)
{
    router->conf.log.write(router->conf.log.baton, level, message);
}

/* Waits for a change or the time-out. */
static void pause_for(aip_router_t *router, apr_interval_time_t timeout)
{
    apr_thread_mutex_lock(router->mutex);
    if (!apr_atomic_read32(&router->stop)) {
        apr_thread_cond_timedwait(router->changed, router->mutex, timeout);
    }
    apr_thread_mutex_unlock(router->mutex);
}

static void publish(aip_router_t *router, aip_references_t *refs)
{
    apr_thread_mutex_lock(router->mutex);
    router->refs = refs;
    atomic_store(&router->ready, true);
    apr_thread_cond_broadcast(router->changed);
    apr_thread_mutex_unlock(router->mutex);
}

static void load(aip_router_t *router)
{
    apr_interval_time_t wait = RETRY_FIRST;
    for (bool told = false; !apr_atomic_read32(&router->stop); told = true) {
        apr_pool_t *pool;
        aip_references_t *refs;
        aip_error_t err = {0};
        int calls;
        apr_pool_create(&pool, router->pool);
        if (aip_references_make(&router->conf, &router->stop, &refs, &calls, pool, &err) ==
            APR_SUCCESS) {
            say(router, AIP_LOG_INFO,
                apr_psprintf(pool,
                             "AIP0102: %s: %d references of %d dimensions are ready (%d "
                             "embeddings calls)",
                             router->conf.name, refs->n, refs->dims, calls));
            publish(router, refs);
            return;
        }
        if (!told && !apr_atomic_read32(&router->stop)) {
            say(router, AIP_LOG_WARNING,
                apr_psprintf(pool,
                             "AIP0103: %s: the references cannot be embedded: %s; trying "
                             "again until they can",
                             router->conf.name, err.message));
        }
        apr_pool_destroy(pool);
        pause_for(router, wait);
        wait = 2 * wait > RETRY_LAST ? RETRY_LAST : 2 * wait;
    }
}

/* One log line per change of state, from whichever thread of whichever child saw it first. */
static bool first_to_see(const aip_router_t *router, store_state_e state)
{
    return !router->conf.announced ||
           apr_atomic_xchg32(router->conf.announced, state) != (apr_uint32_t)state;
}

/* Where the store is, for the operator. */
static const char *place(const aip_router_t *router, apr_pool_t *pool)
{
    const aip_router_conf_t *conf = &router->conf;
    if (!conf->redis) {
        return apr_psprintf(pool, "%s:%d", conf->pgvector->host, conf->pgvector->port);
    }
    return apr_pstrcat(
        pool, conf->redis->host, ":",
        conf->redis->port_text ? conf->redis->port_text : apr_itoa(pool, conf->redis->port), NULL);
}

static void set_store(aip_router_t *router, store_state_e state, const aip_error_t *err,
                      apr_pool_t *pool)
{
    if (apr_atomic_xchg32(&router->store_state, state) == (apr_uint32_t)state ||
        !first_to_see(router, state)) {
        return;
    }
    if (state == STORE_UP) {
        say(router, AIP_LOG_INFO,
            apr_psprintf(pool, "AIP0104: %s: the vector store is in step", router->conf.name));
    } else if (state == STORE_DOWN) {
        say(router, AIP_LOG_WARNING,
            apr_psprintf(pool,
                         "AIP0105: %s: the vector store at %s does not answer (%s: %s); the "
                         "in-process mirror does until it is back",
                         router->conf.name, place(router, pool), err->code, err->message));
    }
}

static void keep_store(aip_router_t *router)
{
    apr_pool_t *pool;
    apr_pool_create(&pool, router->pool);
    while (!apr_atomic_read32(&router->stop)) {
        if (apr_atomic_read32(&router->store_state) != STORE_UP) {
            aip_error_t err = {0};
            apr_status_t rv = router->store->kind->sync(router->store, router->refs, pool, &err);
            set_store(router, rv == APR_SUCCESS ? STORE_UP : STORE_DOWN, &err, pool);
        }
        apr_pool_clear(pool);
        pause_for(router, HEAL_EVERY);
    }
    apr_pool_destroy(pool);
}

static void *APR_THREAD_FUNC run(apr_thread_t *thread, void *data)
{
    aip_router_t *router = data;
    load(router);
    if (router->conf.start && !apr_atomic_read32(&router->stop)) {
        router->conf.start(router->conf.start_baton);
    }
    if (router->store && atomic_load(&router->ready)) {
        atomic_store(&router->at_store, true);
        keep_store(router);
    }
    atomic_store(&router->ended, true);
    apr_thread_exit(thread, APR_SUCCESS);
    return NULL;
}

void aip_router_end(aip_router_t *router)
{
    apr_thread_mutex_lock(router->mutex);
    apr_atomic_set32(&router->stop, 1);
    apr_thread_cond_broadcast(router->changed);
    apr_thread_mutex_unlock(router->mutex);
}

/* Runs before the children of the pool are destroyed, so that the thread never sees a dead pool. */
static apr_status_t stop(void *data)
{
    aip_router_t *router = data;
    apr_status_t rv;
    aip_router_end(router);
    return apr_thread_join(&rv, router->thread);
}

void aip_router_leave(aip_router_t *router, apr_time_t until)
{
    while (!atomic_load(&router->ended) &&
           (!atomic_load(&router->at_store) || apr_time_now() < until)) {
        apr_sleep(END_POLL);
    }
    if (atomic_load(&router->ended)) {
        apr_pool_cleanup_run(router->pool, router, stop);
    } else {
        apr_pool_cleanup_kill(router->pool, router, stop);
    }
}

/* The process's signals are for its own threads: prefork ends a child from inside its handler,
 * which must not run in a thread that is joined there. */
static apr_status_t start_thread(aip_router_t *router)
{
    sigset_t before;
    aip_signals_block(&before);
    apr_status_t rv = apr_thread_create(&router->thread, NULL, run, router, router->pool);
    aip_signals_restore(&before);
    return rv;
}

apr_status_t aip_pool_create_locked(apr_pool_t **pool, apr_pool_t *parent)
{
    apr_allocator_t *allocator;
    apr_thread_mutex_t *mutex;
    apr_status_t rv = apr_allocator_create(&allocator);
    rv = rv ? rv : apr_pool_create_ex(pool, parent, NULL, allocator);
    if (rv == APR_SUCCESS) {
        apr_allocator_owner_set(allocator, *pool);
        rv = apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_DEFAULT, *pool);
    }
    if (rv == APR_SUCCESS) {
        apr_allocator_mutex_set(allocator, mutex);
    }
    return rv;
}

apr_status_t aip_router_create(aip_router_t **out, const aip_router_conf_t *conf,
                               apr_pool_t *parent)
{
    apr_pool_t *pool;
    apr_status_t rv = aip_pool_create_locked(&pool, parent);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    aip_router_t *router = apr_pcalloc(pool, sizeof *router);
    router->conf = *conf;
    router->pool = pool;
    router->digest = aip_router_digest(conf, pool);
    router->mirror = aip_vectordb_memory(conf->metric, pool);
    router->store = conf->redis      ? aip_vectordb_redis(conf->redis, conf->metric, pool)
                    : conf->pgvector ? aip_vectordb_pgvector(conf->pgvector, conf->metric, pool)
                                     : NULL;
    rv = apr_thread_mutex_create(&router->mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    rv = rv ? rv : apr_thread_cond_create(&router->changed, pool);
    rv = rv ? rv : start_thread(router);
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(pool, router, stop);
    }
    *out = router;
    return rv;
}

/* Polls instead of waiting for the condition: prefork may end the child out of this very wait, and
 * a condition that is waited for cannot be destroyed. */
bool aip_router_ready(aip_router_t *router, apr_interval_time_t timeout)
{
    apr_time_t end = apr_time_now() + timeout;
    while (!atomic_load(&router->ready) && !apr_atomic_read32(&router->stop) &&
           apr_time_now() < end) {
        apr_sleep(READY_POLL);
    }
    return atomic_load(&router->ready);
}

aip_span_t aip_router_request(const aip_embedder_conf_t *conf, const aip_span_t *texts, int n,
                              apr_pool_t *pool)
{
    aip_span_t body =
        aip_embeddings_request(conf->model, conf->send_dimensions ? conf->dims : 0, texts, n, pool);
    if (!conf->param_name || !conf->param_in_body) {
        return body;
    }
    aip_json_edit_t edit = {
        .name = {conf->param_name, strlen(conf->param_name)},
        .value = aip_json_quote((aip_span_t){conf->param_value, strlen(conf->param_value)}, pool)};
    return aip_json_splice(body, &edit, 1, pool);
}

apr_status_t aip_router_response(const aip_router_t *router, aip_span_t body, float *vector,
                                 apr_pool_t *pool, aip_error_t *err)
{
    int dims = router->conf.embedder.dims;
    apr_status_t rv = aip_embeddings_response(body, 1, dims, vector, pool, err);
    if (rv == APR_SUCCESS && router->conf.metric == AIP_METRIC_COSINE) {
        (void)aip_vector_normalize(vector, dims);
    }
    return rv;
}

bool aip_router_embed_local(const aip_router_t *router, aip_span_t text, float *vector)
{
    return aip_model2vec_embed(router->conf.embedder.local, text, vector) > 0;
}

static apr_status_t ask_store(aip_router_t *router, const float *vector, float *distances,
                              apr_time_t deadline, apr_pool_t *pool, aip_error_t *err)
{
    aip_vectordb_t *store = router->store;
    return store->kind->query_by
               ? store->kind->query_by(store, router->refs, vector, distances, deadline, pool, err)
               : store->kind->query(store, router->refs, vector, distances, pool, err);
}

void aip_router_distances(aip_router_t *router, const float *vector, float *distances,
                          apr_time_t deadline, bool *degraded, apr_pool_t *pool)
{
    aip_error_t err = {0};
    *degraded = false;
    if (router->store && apr_atomic_read32(&router->store_state) == STORE_UP) {
        apr_time_t start = apr_time_now();
        if (ask_store(router, vector, distances, deadline, pool, &err) == APR_SUCCESS) {
            return;
        }
        /* What the request had no time for says nothing about the store. */
        if (!router->conf.pgvector || !deadline || apr_time_now() < deadline ||
            deadline >= start + apr_time_from_msec(router->conf.pgvector->timeout)) {
            set_store(router, STORE_DOWN, &err, pool);
        }
    }
    *degraded = router->store != NULL;
    (void)router->mirror->kind->query(router->mirror, router->refs, vector, distances, pool, &err);
}

const char *aip_router_key(const aip_router_t *router)
{
    return router->digest;
}

const aip_router_conf_t *aip_router_conf(const aip_router_t *router)
{
    return &router->conf;
}
