/* SPDX-License-Identifier: Apache-2.0 */
/* Kept connections, one shelf for each process. Called from request threads and from background
 * threads. */

#include "shelf.h"

#include <apr_thread_mutex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct kept_t {
    void *connection;
    struct kept_t *next;
} kept_t;

struct aip_shelf_t {
    pid_t pid;
    aip_shelf_close_t *close;
    apr_pool_t *pool;
    apr_thread_mutex_t *lock;
    kept_t *idle;
    int n_idle, in_use;
    /* Of the parent process: emptied, but kept, because other threads may look at its pid. */
    aip_shelf_t *inherited;
};

struct aip_shelves_t {
    aip_shelf_close_t *close;
    _Atomic(aip_shelf_t *) shelf;
};

/* The most recently used connection, or NULL. By the holder of the lock. */
static kept_t *pop(aip_shelf_t *shelf)
{
    kept_t *kept = shelf->idle;

    if (kept) {
        shelf->idle = kept->next;
        shelf->n_idle--;
    }
    return kept;
}

/* Outside the lock. */
static void *unwrap(kept_t *kept)
{
    void *connection = kept ? kept->connection : NULL;

    free(kept);
    return connection;
}

static void empty(aip_shelf_t *shelf)
{
    while (shelf->idle) {
        shelf->close(unwrap(pop(shelf)), shelf->pid == getpid());
    }
}

static void destroy(aip_shelf_t *shelf)
{
    while (shelf) {
        aip_shelf_t *inherited = shelf->inherited;

        empty(shelf);
        apr_pool_destroy(shelf->pool);
        shelf = inherited;
    }
}

static aip_shelf_t *create(aip_shelf_close_t *close, aip_shelf_t *inherited)
{
    apr_pool_t *pool;
    aip_shelf_t *shelf;

    /* Unmanaged: the configuration pool that a managed one would hang on must not be touched by
     * request threads. */
    if (apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return NULL;
    }
    shelf = apr_pcalloc(pool, sizeof(*shelf));
    *shelf = (aip_shelf_t){.pid = getpid(), .close = close, .pool = pool, .inherited = inherited};
    if (apr_thread_mutex_create(&shelf->lock, APR_THREAD_MUTEX_DEFAULT, pool) != APR_SUCCESS) {
        apr_pool_destroy(pool);
        return NULL;
    }
    return shelf;
}

aip_shelf_t *aip_shelf_get(aip_shelves_t *shelves)
{
    aip_shelf_t *found = atomic_load(&shelves->shelf);
    aip_shelf_t *own;

    if (found && found->pid == getpid()) {
        return found;
    }
    own = create(shelves->close, found);
    if (!own) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&shelves->shelf, &found, own)) {
        /* Another thread of this process was first; `found` is its shelf now. */
        own->inherited = NULL;
        destroy(own);
        return found;
    }
    if (own->inherited) {
        empty(own->inherited);
    }
    return own;
}

static apr_status_t cleanup(void *data)
{
    aip_shelves_t *shelves = data;

    destroy(atomic_exchange(&shelves->shelf, NULL));
    return APR_SUCCESS;
}

aip_shelves_t *aip_shelves_create(aip_shelf_close_t *close, apr_pool_t *pool)
{
    aip_shelves_t *shelves = apr_pcalloc(pool, sizeof(*shelves));

    shelves->close = close;
    atomic_init(&shelves->shelf, NULL);
    apr_pool_cleanup_register(pool, shelves, cleanup, apr_pool_cleanup_null);
    return shelves;
}

bool aip_shelf_take(aip_shelf_t *shelf, apr_int64_t most, void **connection)
{
    kept_t *kept;
    bool allowed;

    apr_thread_mutex_lock(shelf->lock);
    allowed = shelf->idle || most < 0 || shelf->in_use < most;
    kept = pop(shelf);
    shelf->in_use += allowed;
    apr_thread_mutex_unlock(shelf->lock);
    *connection = unwrap(kept);
    return allowed;
}

void *aip_shelf_next(aip_shelf_t *shelf)
{
    kept_t *kept;

    apr_thread_mutex_lock(shelf->lock);
    kept = pop(shelf);
    apr_thread_mutex_unlock(shelf->lock);
    return unwrap(kept);
}

void aip_shelf_give(aip_shelf_t *shelf, int most, void *connection)
{
    kept_t *kept = connection ? malloc(sizeof(*kept)) : NULL;

    apr_thread_mutex_lock(shelf->lock);
    shelf->in_use--;
    if (kept && shelf->n_idle < most) {
        *kept = (kept_t){connection, shelf->idle};
        shelf->idle = kept;
        shelf->n_idle++;
        kept = NULL;
        connection = NULL;
    }
    apr_thread_mutex_unlock(shelf->lock);
    free(kept);
    if (connection) {
        shelf->close(connection, true);
    }
}
