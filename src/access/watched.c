/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are followed without a restart. The contents are generations, each with a pool of its
 * own. A reader counts itself in before it takes the current one; whoever replaces it frees old
 * ones only after he has seen nobody counted in, since those who come later find the new one. So
 * nobody waits, and a file that changes while requests never cease costs memory for one moment
 * more, not a lock. */
#include "aip/watched.h"

#include <apr_file_io.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (16 << 20)
#define INTERVAL apr_time_from_sec(1)

typedef struct generation_t {
    apr_pool_t *pool;
    const void *contents;
    bool public;
    apr_time_t at;
    struct generation_t *next; /* retired before it */
} generation_t;

/** What tells one state of a file from another. */
typedef struct stamp_t {
    apr_time_t mtime, ctime;
    apr_off_t size;
    apr_ino_t inode;
    apr_dev_t device;
    apr_int64_t
        status; /* of the look: no such file is a state, too; wide, so that nothing is padded */
} stamp_t;

struct aip_watched_t {
    const char *path;
    aip_watched_parse_fn *parse;
    _Atomic(generation_t *) current;
    atomic_int active; /* readers between acquire and release */
    atomic_bool busy;  /* some thread looks at the file; the members below are its own */
    _Atomic(apr_time_t) look_at;
    stamp_t stamp; /* of the file that was last read, whether it was good or not */
    bool settled;  /* it was old enough then: a later change has another time */
    generation_t *retired;
    _Atomic(apr_uint32_t) *complained; /* shared by all children: the state last complained of */
    pid_t owner;                       /* the process that frees what pools do not */
};

static const char *failed(const char *what, const char *path, apr_status_t rv, apr_pool_t *pool)
{
    char reason[120];
    return apr_psprintf(pool, "cannot %s '%s': %s", what, path,
                        apr_strerror(rv, reason, sizeof reason));
}

static stamp_t stamp_of(const apr_finfo_t *info, apr_status_t rv)
{
    stamp_t stamp;
    memset(&stamp, 0, sizeof stamp); /* the padding, too: stamps are compared as bytes */
    stamp.status = rv;
    if (rv == APR_SUCCESS) {
        stamp.mtime = info->mtime;
        stamp.ctime = info->ctime;
        stamp.size = info->size;
        stamp.inode = info->inode;
        stamp.device = info->device;
    }
    return stamp;
}

static stamp_t look(const char *path, apr_pool_t *pool)
{
    apr_finfo_t info;
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_MIN | APR_FINFO_IDENT, pool);
    return stamp_of(&info, rv == APR_INCOMPLETE ? APR_SUCCESS : rv);
}

/* Never 0, which stands for none. */
static apr_uint32_t digest(const stamp_t *stamp)
{
    const unsigned char *bytes = (const unsigned char *)stamp;
    apr_uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sizeof *stamp; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return hash ? hash : 1;
}

/* The whole file. An empty error: it changed meanwhile, and another look will tell more. */
static char *read_text(const char *path, size_t *len, bool *public, stamp_t *stamp,
                       apr_pool_t *pool, const char **error)
{
    apr_file_t *file;
    apr_finfo_t info;
    apr_int32_t wanted = APR_FINFO_MIN | APR_FINFO_IDENT | APR_FINFO_PROT;
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_TYPE, pool); /* a FIFO would block open() */
    if (rv == APR_SUCCESS && info.filetype != APR_REG) {
        *error = apr_psprintf(pool, "%s is no regular file", path);
        return NULL;
    }
    rv = apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BINARY, APR_FPROT_OS_DEFAULT, pool);
    rv = rv ? rv : apr_file_info_get(&info, wanted, file);
    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE) {
        *error = failed("read", path, rv, pool);
        return NULL;
    }
    if (info.size > FILE_MAX) {
        *error = apr_psprintf(pool, "%s is longer than %d bytes", path, FILE_MAX);
        return NULL;
    }
    *stamp = stamp_of(&info, APR_SUCCESS);
    *public = (info.protection & APR_FPROT_WREAD) != 0;
    char *text = apr_palloc(pool, (apr_size_t)info.size + 1);
    rv = apr_file_read_full(file, text, (apr_size_t)info.size, len);
    apr_file_close(file);
    stamp_t after = look(path, pool);
    if ((rv != APR_SUCCESS && rv != APR_EOF) || memcmp(&after, stamp, sizeof after) != 0) {
        *error = "";
        return NULL;
    }
    text[*len] = '\0';
    return text;
}

/* @param pool  of the error */
static generation_t *load(aip_watched_t *w, stamp_t *stamp, apr_pool_t *pool, const char **error)
{
    apr_pool_t *own, *text_pool;
    bool public = false;
    size_t len = 0;
    *error = NULL;
    if (apr_pool_create_unmanaged_ex(&own, NULL, NULL) != APR_SUCCESS) {
        *error = "no memory";
        return NULL;
    }
    apr_pool_create(&text_pool, own);
    const char *text = read_text(w->path, &len, &public, stamp, text_pool, error);
    generation_t *made = text ? apr_pcalloc(own, sizeof *made) : NULL;
    const void *contents = text ? w->parse(text, len, own, error) : NULL;
    if (!contents) {
        *error = text && **error ? apr_psprintf(pool, "%s: %s", w->path, *error)
                                 : apr_pstrdup(pool, *error);
        apr_pool_destroy(own);
        return NULL;
    }
    apr_pool_destroy(text_pool);
    *made =
        (generation_t){.pool = own, .contents = contents, .public = public, .at = apr_time_now()};
    return made;
}

static void free_retired(aip_watched_t *w)
{
    while (w->retired) {
        generation_t *g = w->retired;
        w->retired = g->next;
        apr_pool_destroy(g->pool);
    }
}

/* When the configuration goes; not in a child, whose threads may still read. */
static apr_status_t close_file(void *data)
{
    aip_watched_t *w = data;
    if (w->owner == getpid()) {
        free_retired(w);
        apr_pool_destroy(atomic_load(&w->current)->pool);
    }
    return APR_SUCCESS;
}

/* A file that had just been written when it was read is read once more: another change within the
 * same tick of the clock would not show. */
static bool is_settled(const stamp_t *stamp, apr_time_t now)
{
    return stamp->ctime < now - 2 * INTERVAL;
}

aip_watched_t *aip_watched_open(const char *path, aip_watched_parse_fn *parse, apr_pool_t *pool,
                                const char **error)
{
    apr_shm_t *shm;
    aip_watched_t *w = apr_pcalloc(pool, sizeof *w);
    w->path = apr_pstrdup(pool, path);
    w->parse = parse;
    w->owner = getpid();
    generation_t *first = load(w, &w->stamp, pool, error);
    if (!first) {
        *error = **error ? *error : apr_psprintf(pool, "%s changed while it was read", path);
        return NULL;
    }
    w->settled = is_settled(&w->stamp, apr_time_now());
    atomic_store(&w->current, first);
    apr_pool_cleanup_register(pool, w, close_file, apr_pool_cleanup_null);
    apr_status_t rv = apr_shm_create(&shm, sizeof *w->complained, NULL, pool);
    if (rv != APR_SUCCESS) {
        *error = failed("get shared memory for", path, rv, pool);
        return NULL;
    }
    w->complained = apr_shm_baseaddr_get(shm);
    atomic_store(w->complained, 0);
    return w;
}

bool aip_watched_is_public(const aip_watched_t *watched)
{
    return atomic_load(&watched->current)->public;
}

apr_time_t aip_watched_loaded(const aip_watched_t *watched)
{
    return atomic_load(&watched->current)->at;
}

/* By the one thread that is busy. */
static void follow(aip_watched_t *w, apr_time_t now, apr_pool_t *pool, const char **error)
{
    stamp_t stamp = look(w->path, pool);
    if (w->settled && memcmp(&stamp, &w->stamp, sizeof stamp) == 0) {
        return;
    }
    const char *why = NULL;
    generation_t *made = load(w, &stamp, pool, &why);
    w->stamp = stamp;
    w->settled = is_settled(&stamp, now) && !(why && !*why);
    if (made) {
        generation_t *old = atomic_exchange(&w->current, made);
        old->next = w->retired;
        w->retired = old;
        atomic_store(w->complained, 0);
        return;
    }
    apr_uint32_t state = digest(&stamp);
    if (*why && atomic_exchange(w->complained, state) != state) {
        *error = why;
    }
}

/* Also when the clock was set back. */
static bool is_due(const aip_watched_t *w, apr_time_t now)
{
    apr_time_t at = atomic_load(&w->look_at);
    return now >= at || at > now + 2 * INTERVAL;
}

const void *aip_watched_acquire(aip_watched_t *watched, apr_time_t now, apr_pool_t *pool,
                                const char **error)
{
    bool idle = false;
    *error = NULL;
    if (is_due(watched, now) && atomic_compare_exchange_strong(&watched->busy, &idle, true)) {
        if (is_due(watched, now)) {
            follow(watched, now, pool, error);
            atomic_store(&watched->look_at, now + INTERVAL);
            if (watched->retired && atomic_load(&watched->active) == 0) {
                free_retired(watched);
            }
        }
        atomic_store(&watched->busy, false);
    }
    atomic_fetch_add(&watched->active, 1);
    return atomic_load(&watched->current)->contents;
}

void aip_watched_release(aip_watched_t *watched)
{
    atomic_fetch_sub(&watched->active, 1);
}
