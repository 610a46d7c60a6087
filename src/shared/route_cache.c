/* SPDX-License-Identifier: Apache-2.0 */
/* AIRouteCache on httpd's socache providers: shmcb for the children of one server, redis and
 * memcache for a fleet. One that fails or is late is left alone for a while, so that a cache that
 * is away costs next to nothing. Called by requests of all threads. */
#include "aip/route_cache.h"

#include "aip/request.h"
#include "aip/signals.h"
#include "cache_calls.h"

#include <ap_provider.h>
#include <apr_strings.h>
#include <dlfcn.h>
#include <http_log.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <util_mutex.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define MUTEX_TYPE "ai-route-cache"
#define LIMIT apr_time_from_msec(250) /* for one call over the network */
#define LOOKS 100
#define PAUSE apr_time_from_sec(5)

struct aip_route_cache_t {
    const char *name; /* AIRouteCache and AIRouteCacheSize as the sections say them */
    apr_int64_t size;
    const char *spec;
    const ap_socache_provider_t *provider;
    ap_socache_instance_t *instance;
    apr_global_mutex_t *mutex; /* NULL: the provider needs none */
    bool open;
    _Atomic(apr_int64_t) paused_until; /* in this child; 0: not at all */
    atomic_bool away;                  /* in this child, as the log says */
    atomic_bool undecided;             /* away, but a retrieve has not failed since */
};

int aip_route_cache_register(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog, (void)ptemp;
    return ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0) == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
}

static const ap_socache_provider_t *find_provider(const char *name)
{
    return ap_lookup_provider(AP_SOCACHE_PROVIDER_GROUP, name, AP_SOCACHE_PROVIDER_VERSION);
}

bool aip_route_cache_known(const char *provider)
{
    return find_provider(provider) != NULL;
}

bool aip_route_cache_wanted(const aip_location_fields_t *f)
{
    bool decisions = f->balancer_algorithm == AIP_ALGORITHM_SEMANTIC &&
                     (f->set[AIP_L_route_cache] || aip_routing_is_remote(f));
    return strcasecmp(f->route_cache, "none") != 0 &&
           (decisions || f->route_sticky.kind != AIP_STICKY_OFF);
}

/* The provider and its argument, "shmcb:name(bytes)"; NULL: auto, and shmcb is not loaded. */
static const char *full_spec(const aip_location_fields_t *f, apr_pool_t *pool)
{
    bool automatic = strcasecmp(f->route_cache, "auto") == 0;
    if (automatic && !find_provider("shmcb")) {
        return NULL;
    }
    if (automatic || strcasecmp(f->route_cache, "shmcb") == 0) {
        return apr_psprintf(pool, "shmcb:ai-route-cache(%" APR_INT64_T_FMT ")",
                            f->route_cache_size);
    }
    if (strncasecmp(f->route_cache, "shmcb:", 6) == 0 && !ap_strchr_c(f->route_cache, '(')) {
        return apr_psprintf(pool, "%s(%" APR_INT64_T_FMT ")", f->route_cache, f->route_cache_size);
    }
    return f->route_cache;
}

static aip_route_cache_t *find(const char *name, apr_int64_t size)
{
    for (int i = 0; i < aip_registry->caches->nelts; i++) {
        aip_route_cache_t *cache = APR_ARRAY_IDX(aip_registry->caches, i, aip_route_cache_t *);
        if (cache->size == size && strcmp(cache->name, name) == 0) {
            return cache;
        }
    }
    return NULL;
}

const char *aip_route_cache_declare(const aip_location_fields_t *f, apr_pool_t *pconf)
{
    const char *spec = full_spec(f, pconf);
    if (!spec || find(f->route_cache, f->route_cache_size)) {
        return NULL;
    }
    const char *colon = ap_strchr_c(spec, ':');
    const char *name = colon ? apr_pstrmemdup(pconf, spec, (apr_size_t)(colon - spec)) : spec;
    aip_route_cache_t *cache = apr_pcalloc(pconf, sizeof *cache);
    *cache = (aip_route_cache_t){.name = f->route_cache, .size = f->route_cache_size, .spec = spec};
    cache->provider = find_provider(name);
    if (!cache->provider) {
        return apr_psprintf(pconf,
                            "AIRouteCache '%s': there is no cache '%s'; load mod_socache_%s, or "
                            "write one of auto, none, shmcb, redis:HOST:PORT, memcache:HOST:PORT",
                            f->route_cache, name, name);
    }
    const char *error =
        cache->provider->create(&cache->instance, colon ? colon + 1 : NULL, pconf, pconf);
    if (error) {
        return apr_psprintf(pconf, "AIRouteCache '%s': %s", f->route_cache, error);
    }
    APR_ARRAY_PUSH(aip_registry->caches, aip_route_cache_t *) = cache;
    return NULL;
}

/* A cache in shared memory outlives a graceful restart, so that sessions stay together. */
typedef struct kept_t {
    ap_socache_instance_t *instance;
    apr_global_mutex_t *mutex;
} kept_t;

static apr_status_t make(const aip_route_cache_t *cache, ap_socache_instance_t *instance,
                         apr_global_mutex_t **mutex, apr_pool_t *pool, server_rec *s)
{
    struct ap_socache_hints hints = {
        .avg_id_len = AIP_CACHE_KEY, .avg_obj_size = 48, .expiry_interval = apr_time_from_sec(30)};
    apr_status_t rv = APR_SUCCESS;
    if (cache->provider->flags & AP_SOCACHE_FLAG_NOTMPSAFE) {
        rv = ap_global_mutex_create(mutex, NULL, MUTEX_TYPE, NULL, s, pool, 0);
    }
    return rv ? rv : cache->provider->init(instance, "ai-route-cache", &hints, s, pool);
}

/* What the instance looks like is known to the module's file alone: another file, another key. */
static const char *kept_key(const aip_route_cache_t *cache, apr_pool_t *pool)
{
    Dl_info code;
    struct stat file;
    if (!dladdr((void *)(uintptr_t)cache->provider->store, &code) || !code.dli_fname ||
        stat(code.dli_fname, &file) != 0) {
        return NULL;
    }
    return apr_psprintf(
        pool, "ai_proxy_adv-cache-%s-%" APR_UINT64_T_FMT "-%" APR_INT64_T_FMT "-%" APR_INT64_T_FMT,
        cache->spec, (apr_uint64_t)file.st_ino, (apr_int64_t)file.st_size,
        (apr_int64_t)file.st_mtime);
}

static apr_status_t keep_or_make(aip_route_cache_t *cache, apr_pool_t *pconf, server_rec *s)
{
    apr_pool_t *process = s->process->pool;
    const char *key = kept_key(cache, process);
    kept_t *kept = key ? ap_retained_data_get(key) : NULL;
    if (!key) {
        return make(cache, cache->instance, &cache->mutex, pconf, s);
    }
    if (!kept) {
        const char *argument = ap_strchr_c(cache->spec, ':');
        ap_socache_instance_t *instance;
        apr_global_mutex_t *mutex = NULL;
        const char *error =
            cache->provider->create(&instance, argument ? argument + 1 : NULL, pconf, process);
        apr_status_t rv = error ? APR_EGENERAL : make(cache, instance, &mutex, process, s);
        if (rv != APR_SUCCESS) {
            return rv;
        }
        /* The provider has cleanups in the pool of the process, which ends after its modules are
         * unloaded: its code stays. */
        Dl_info code;
        if (dladdr((void *)(uintptr_t)cache->provider->store, &code)) {
            (void)dlopen(code.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
        }
        kept = ap_retained_data_create(key, sizeof *kept);
        *kept = (kept_t){instance, mutex};
    }
    cache->instance = kept->instance;
    cache->mutex = kept->mutex;
    return APR_SUCCESS;
}

typedef struct opened_t {
    aip_route_cache_t *cache;
    server_rec *server;
} opened_t;

static apr_status_t close_cache(void *data)
{
    opened_t *opened = data;
    opened->cache->provider->destroy(opened->cache->instance, opened->server);
    return APR_SUCCESS;
}

static apr_status_t open_cache(aip_route_cache_t *cache, apr_pool_t *pconf, server_rec *s)
{
    if (strncmp(cache->spec, "shmcb:", 6) == 0) {
        apr_status_t rv = keep_or_make(cache, pconf, s);
        cache->open = rv == APR_SUCCESS;
        return rv;
    }
    apr_status_t rv = make(cache, cache->instance, &cache->mutex, pconf, s);
    if (rv == APR_SUCCESS) {
        opened_t *opened = apr_palloc(pconf, sizeof *opened);
        *opened = (opened_t){cache, s};
        apr_pool_cleanup_register(pconf, opened, close_cache, apr_pool_cleanup_null);
        cache->open = true;
    }
    return rv;
}

apr_status_t aip_route_cache_open(apr_pool_t *pconf, server_rec *s)
{
    for (int i = 0; i < aip_registry->caches->nelts; i++) {
        aip_route_cache_t *cache = APR_ARRAY_IDX(aip_registry->caches, i, aip_route_cache_t *);
        apr_status_t rv = open_cache(cache, pconf, s);
        if (rv != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "AIP0060: cannot open AIRouteCache %s",
                         cache->name);
            return rv;
        }
    }
    return APR_SUCCESS;
}

void aip_route_cache_child_init(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t threads = -1; /* not asked for yet */
    for (int i = 0; i < aip_registry->caches->nelts; i++) {
        aip_route_cache_t *cache = APR_ARRAY_IDX(aip_registry->caches, i, aip_route_cache_t *);
        apr_status_t rv;
        if (cache->mutex) {
            rv = apr_global_mutex_child_init(&cache->mutex, apr_global_mutex_lockfile(cache->mutex),
                                             pchild);
        } else {
            threads = threads < 0 ? aip_cache_calls_init() : threads;
            rv = threads; /* of all caches on the network */
        }
        if (rv != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                         "AIP0061: AIRouteCache %s cannot be used in a child, which does without",
                         cache->name);
            cache->open = false;
        }
    }
}

aip_route_cache_t *aip_route_cache_of(const aip_location_fields_t *f)
{
    aip_route_cache_t *cache =
        aip_route_cache_wanted(f) ? find(f->route_cache, f->route_cache_size) : NULL;
    return cache && cache->open ? cache : NULL;
}

/* Looks a few times whether the lock can be had: it is held for less than a microsecond, while to
 * be put to sleep and woken up costs ten. Other kinds of locks cost a system call a look. */
static bool seen_free(apr_global_mutex_t *mutex)
{
    apr_lockmech_e mech = apr_global_mutex_mech(mutex);
    int looks = mech == APR_LOCK_PROC_PTHREAD || mech == APR_LOCK_DEFAULT ? LOOKS : 0;
    for (int i = 0; i < looks; i++) {
        if (apr_global_mutex_trylock(mutex) == APR_SUCCESS) {
            return true;
        }
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
    return false;
}

/* A change of shared memory must not stop half-way. */
static bool lock(const aip_route_cache_t *cache, sigset_t *before)
{
    aip_signals_block(before);
    if (seen_free(cache->mutex) || apr_global_mutex_lock(cache->mutex) == APR_SUCCESS) {
        return true;
    }
    aip_signals_restore(before);
    return false;
}

static void unlock(const aip_route_cache_t *cache, const sigset_t *before)
{
    apr_global_mutex_unlock(cache->mutex);
    aip_signals_restore(before);
}

/* What a call over the network tells of the cache. Providers say "not found" of a server that they
 * hold for dead as well: to a retrieve that is a miss, or nothing at all, and the next store tells
 * which; to a store it is a failure. */
static void judge(aip_route_cache_t *cache, apr_status_t rv, bool store, request_rec *r)
{
    if (rv == APR_EBUSY || rv == APR_EINVAL || rv == APR_ENOMEM || rv == APR_ENOSPC) {
        return; /* nothing about the cache: a value that does not fit, a busy moment */
    }
    if (rv == APR_SUCCESS) {
        atomic_store(&cache->paused_until, 0);
        if (atomic_exchange(&cache->away, false)) {
            ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "AIP0063: AIRouteCache %s is back",
                          cache->name);
        }
    } else if (APR_STATUS_IS_NOTFOUND(rv) && !store) {
        atomic_store(&cache->undecided, atomic_load(&cache->away));
    } else {
        atomic_store(&cache->paused_until, apr_time_now() + PAUSE);
        if (!atomic_exchange(&cache->away, true)) {
            ap_log_rerror(APLOG_MARK, APLOG_WARNING, rv, r,
                          "AIP0062: AIRouteCache %s does not answer; this child decides without it "
                          "and tries again every %d s",
                          cache->name, (int)apr_time_sec(PAUSE));
        }
    }
}

/* While the cache is away one request in each PAUSE finds out, by one retrieve and, where that left
 * it open, one store; the others go on without. */
static bool may_call(aip_route_cache_t *cache, bool store, apr_time_t now)
{
    apr_int64_t paused = atomic_load(&cache->paused_until);
    if (!paused || (store && atomic_exchange(&cache->undecided, false))) {
        return true;
    }
    return now >= paused &&
           atomic_compare_exchange_strong(&cache->paused_until, &paused, now + PAUSE);
}

static apr_status_t call(aip_route_cache_t *cache, request_rec *r, const unsigned char *key,
                         apr_time_t expiry, void *data, unsigned *len)
{
    aip_cache_call_t c = {.provider = cache->provider,
                          .instance = cache->instance,
                          .server = r->server,
                          .key = key,
                          .key_len = AIP_CACHE_KEY,
                          .store = expiry != 0,
                          .expiry = expiry};
    apr_time_t now = apr_time_now();
    if (!may_call(cache, c.store, now)) {
        return APR_TIMEUP;
    }
    const aip_request_t *req = aip_request_get(r);
    apr_interval_time_t limit = LIMIT;
    if (req && req->deadline && req->deadline - now < limit) {
        limit = req->deadline - now;
    }
    if (limit <= 0) {
        return APR_TIMEUP;
    }
    apr_status_t rv = aip_cache_call(&c, data, len, limit);
    judge(cache, rv, c.store, r);
    return rv;
}

bool aip_route_cache_get(aip_route_cache_t *cache, request_rec *r, const unsigned char *key,
                         void *data, unsigned *len)
{
    sigset_t before;
    if (!cache->mutex) {
        return call(cache, r, key, 0, data, len) == APR_SUCCESS;
    }
    if (!lock(cache, &before)) {
        return false;
    }
    apr_status_t rv = cache->provider->retrieve(cache->instance, r->server, key, AIP_CACHE_KEY,
                                                data, len, r->pool);
    unlock(cache, &before);
    return rv == APR_SUCCESS;
}

void aip_route_cache_put(aip_route_cache_t *cache, request_rec *r, const unsigned char *key,
                         const void *data, unsigned len, apr_interval_time_t ttl, bool replace)
{
    apr_time_t expiry = apr_time_now() + ttl;
    unsigned char *value = (unsigned char *)(uintptr_t)data;
    sigset_t before;
    if (!cache->mutex) {
        /* they count in whole seconds, memcached in no more than 30 days */
        ttl = ttl < apr_time_from_sec(30 * 86400 - 2) ? ttl : apr_time_from_sec(30 * 86400 - 2);
        (void)call(cache, r, key, apr_time_now() + ttl + APR_USEC_PER_SEC, value, &len);
        return;
    }
    if (!lock(cache, &before)) {
        return;
    }
    if (replace) { /* shmcb finds the older one of two values */
        cache->provider->remove(cache->instance, r->server, key, AIP_CACHE_KEY, r->pool);
    }
    (void)cache->provider->store(cache->instance, r->server, key, AIP_CACHE_KEY, expiry, value, len,
                                 r->pool); /* one that does not fit is not kept */
    unlock(cache, &before);
}
