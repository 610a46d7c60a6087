/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SECRET_H
#define AIP_SECRET_H
/* The store of secrets: what vaults and token services gave, encrypted in memory that all children
 * share, fetched and refreshed in the background. Requests read it and never wait for a vault.
 *
 * Built while the configuration is read (create, bind, add), then attached to slots and never
 * changed; from then on every function may be called from any thread and process that shares the
 * slots. */

#include "aip/log.h"
#include "aip/vault.h"

typedef struct aip_secrets_t aip_secrets_t;
typedef struct aip_source_t aip_source_t;

/** What a source gave. */
typedef struct aip_fetched_t {
    const char *value;
    apr_interval_time_t lifetime; /**< of something that expires by itself; 0: as the source says */
    const char *error;            /**< why there is no value; never holds one */
} aip_fetched_t;

/** Where one secret comes from. */
struct aip_source_t {
    const char *id;    /**< two of the same id are the same secret, also over a restart */
    const char *shown; /**< for messages */
    apr_interval_time_t ttl, neg_ttl, resurrect_ttl; /**< ttl 0: a value lasts */
    apr_interval_time_t patience;                    /**< longest time that a fetch may take */
    const char *origin; /**< when one source of an origin is away, so are the others; NULL: none */
    bool once;          /**< can be fetched a single time: a refused value stays in use */
    bool changing;      /**< each fetch gives another value */
    bool fixed;         /**< never changes: environment variables */
    bool sticky; /**< a value that may no longer be read stays: files that root alone reads */
    /** Runs in one thread of one process at a time. */
    aip_fetched_e (*fetch)(const aip_source_t *source, aip_fetched_t *fetched, apr_pool_t *pool);
    void *ctx;
    aip_secrets_t *store; /**< set by aip_secrets_add() */
    int slot;             /**< set by aip_secrets_add() */
};

#define AIP_SECRET_ID 32

/** The memory of one secret. */
typedef struct aip_secret_slot_t aip_secret_slot_t;
apr_size_t aip_secret_slot_size(void);

/** An empty store. */
aip_secrets_t *aip_secrets_create(apr_pool_t *pool);

/** Adds a source, or finds the one of the same id. @return its slot's number */
int aip_secrets_add(aip_secrets_t *store, const aip_source_t *source);

/** Finds the vault of a name; NULL: there is none. */
typedef const aip_vault_t *aip_vault_find_t(void *baton, const char *name);

/**
 * Makes the references of a text known. `text` is remembered by its address, which is what
 * aip_secret_text() looks for. Secrets of env and file are fetched at once, to find mistakes.
 * @param local  out: the whole value where env and file know all of it, else NULL
 * @return NULL, or what is wrong, with the reference in it
 */
const char *aip_secrets_bind(aip_secrets_t *store, const char *text, aip_vault_find_t *find,
                             void *baton, const char **local);

/** How many slots the store needs, and the digest of the i-th id. */
int aip_secrets_count(const aip_secrets_t *store);
void aip_secrets_digest(const aip_secrets_t *store, int i, unsigned char digest[AIP_SECRET_ID]);

/** Gives secret i its memory: zeroed, or as another store of the same key left it. */
void aip_secrets_attach(aip_secrets_t *store, int i, aip_secret_slot_t *slot);

/** After all are attached. @param key  32 bytes, which must outlive the store */
void aip_secrets_ready(aip_secrets_t *store, const unsigned char *key, aip_log_t log);

/** From now on counts how fetches end. @param outcomes  shared, AIP_FETCHED_N of them, by
 * aip_fetched_e; or NULL */
void aip_secrets_count_into(aip_secrets_t *store, _Atomic(apr_uint64_t) *outcomes);

/** The store that aip_secret_text() reads; NULL: none. Once per process. */
void aip_secrets_use(aip_secrets_t *store);
aip_secrets_t *aip_secrets_used(void);

/** Fetches what is due and nobody else is fetching. May take long.
 * @return when something will be due next */
apr_time_t aip_secrets_refresh(aip_secrets_t *store, apr_pool_t *pool);

/** In the parent: the same for what is on this machine and what has no value that may be used; a
 * restart does not wait for the rest. @param end  nothing is begun after that */
void aip_secrets_first(aip_secrets_t *store, apr_time_t end, apr_pool_t *pool);

/** The value in a slot, or NULL. `turn` (may be NULL): tells values of one slot apart. */
const char *aip_secrets_get(const aip_secrets_t *store, int slot, apr_uint64_t *turn,
                            apr_pool_t *pool);

/** Fetches a slot now unless its value is another than that of `bad_turn` already; for sources that
 * stand on other sources. @return as aip_secrets_get(); NULL: `error` says why */
const char *aip_secrets_need(aip_secrets_t *store, int slot, apr_uint64_t bad_turn,
                             apr_uint64_t *turn, apr_pool_t *pool, const char **error);

/** The first secret that has no value: how it is shown, or NULL. */
const char *aip_secrets_missing(const aip_secrets_t *store, apr_pool_t *pool);

/** The same for the references of one text. */
const char *aip_secret_missing(const char *text, apr_pool_t *pool);

/** What may be shown of a secret: never a value. */
typedef struct aip_secret_look_t {
    const char *shown;  /**< the reference as written, or what a login or an identity is called */
    const char *state;  /**< "fresh"; "stale": an old value is used, since none can be fetched;
                           "missing": there is none */
    apr_time_t checked; /**< when it was last asked for, 0: never */
    apr_time_t due;     /**< when it will be asked for, 0: never again */
    apr_uint32_t failures; /**< in a row */
} aip_secret_look_t;

void aip_secrets_look(const aip_secrets_t *store, int i, apr_time_t now, aip_secret_look_t *look);

/** The source of a slot. */
const aip_source_t *aip_secrets_source(const aip_secrets_t *store, int slot);

/**
 * A text with its references replaced; one without any is returned as it is.
 * @return NULL when a secret has no value: `err` (may be NULL) is the 503 for the client, which
 * names nothing
 */
const char *aip_secret_text(const char *text, apr_pool_t *pool, aip_error_t *err);

/**
 * A peer refused a value that a text, or a slot, was resolved to: unless there is another one by
 * now it is fetched again soon, though the same value not more often than every AIP_SECRET_EARLY.
 * @return whether that is worth waiting for
 */
bool aip_secret_refused(const char *text, const char *value, apr_pool_t *pool);
bool aip_secrets_refused(aip_secrets_t *store, int slot, apr_uint64_t turn);

/** The same for the store in use; slot -1: false. */
bool aip_secret_slot_refused(int slot, const char *value, apr_pool_t *pool);
#define AIP_SECRET_EARLY apr_time_from_sec(5)

/** Waits until what aip_secret_refused() asked for has been looked at, at most until `end`. */
void aip_secret_wait(const char *text, apr_time_t end);
void aip_secrets_wait(const aip_secrets_t *store, int slot, apr_time_t end);

/** Whether there is anything that a background thread would have to do. */
bool aip_secrets_lasting(const aip_secrets_t *store);

/** For the process with the thread that refreshes. @param wake  called, from a request's thread,
 * when something has become due @param stop  not 0: fetches give up */
void aip_secrets_background(aip_secrets_t *store, void (*wake)(void),
                            const volatile apr_uint32_t *stop);

#endif
