/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of secrets, and who refreshes them. Slots belong to the process and survive restarts,
 * so that a vault that is away does no harm to a graceful one; the key that seals them is in the
 * parent's memory and, by fork(), the children's, in a page that no core dump holds, and goes with
 * them. Every child has a thread; leases in the slots make sure that one at a time fetches. */
#include "aip/secrets.h"

#include "background.h"

#include "aip/router.h"
#include "aip/state.h"

#include <apr_shm.h>
#include <apr_strings.h>
#include <curl/curl.h>
#include <http_log.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/mman.h>
#include <unistd.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define SLOTS_AT_ONCE 16
#define KEY_BYTES 32
#define PATIENCE apr_time_from_sec(5)   /* a start waits for vaults so long, and one answer more */
#define LOOK_AGAIN apr_time_from_sec(1) /* other processes may have made something due */

/* In the parent's memory. */
typedef struct owned_t {
    unsigned char id[AIP_SECRET_ID];
    unsigned generation; /* of the configuration that used it last; 0: free */
    aip_secret_slot_t *slot;
} owned_t;

typedef struct kept_t {
    apr_pool_t *pool;
    unsigned generation;
    unsigned char *key;
    apr_array_header_t *slots; /* owned_t */
} kept_t;

static kept_t *kept;
static aip_background_t *background;

/* ---- memory ---- */

static unsigned char *make_key(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *key =
        mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (key == MAP_FAILED || RAND_bytes(key, KEY_BYTES) != 1) {
        return NULL;
    }
    (void)madvise(key, page, MADV_DONTDUMP);
    (void)mlock(key, page); /* not swapped out, where the limit allows it */
    return key;
}

static apr_status_t retain(server_rec *s)
{
    char name[80];
    /* A graceful restart may load a newer module, to which the old one's memory means nothing. */
    apr_snprintf(name, sizeof name, "ai_proxy_adv-secrets-%s-%d-%d", AIP_VERSION, (int)sizeof *kept,
                 (int)aip_secret_slot_size());
    kept = ap_retained_data_get(name);
    if (!kept) {
        kept = ap_retained_data_create(name, sizeof *kept);
        kept->pool = s->process->pool;
        kept->slots = apr_array_make(kept->pool, SLOTS_AT_ONCE, sizeof(owned_t));
    }
    kept->key = kept->key ? kept->key : make_key();
    return kept->key ? APR_SUCCESS : APR_EGENERAL;
}

static apr_status_t add_slots(void)
{
    apr_shm_t *segment;
    apr_size_t size = SLOTS_AT_ONCE * aip_secret_slot_size();
    apr_status_t rv = apr_shm_create(&segment, size, NULL, kept->pool); /* zeroed by the kernel */
    for (int i = 0; rv == APR_SUCCESS && i < SLOTS_AT_ONCE; i++) {
        char *base = apr_shm_baseaddr_get(segment);
        owned_t *owned = apr_array_push(kept->slots);
        *owned = (owned_t){
            .slot = (aip_secret_slot_t *)(void *)(base + (apr_size_t)i * aip_secret_slot_size())};
    }
    return rv;
}

/* The slot of an id, or one that neither this configuration nor the one before needs; NULL: there
 * is none. */
static owned_t *find_slot(const unsigned char *id)
{
    owned_t *spare = NULL;
    for (int i = 0; i < kept->slots->nelts; i++) {
        owned_t *owned = &APR_ARRAY_IDX(kept->slots, i, owned_t);
        if (owned->generation && memcmp(owned->id, id, sizeof owned->id) == 0) {
            return owned;
        }
        if (!owned->generation || owned->generation + 1 < kept->generation) {
            spare = spare ? spare : owned;
        }
    }
    if (spare && spare->generation) {
        memset((void *)spare->slot, 0, aip_secret_slot_size());
    }
    if (spare) {
        memcpy(spare->id, id, sizeof spare->id);
    }
    return spare;
}

static apr_status_t attach(aip_secrets_t *store)
{
    apr_status_t rv = APR_SUCCESS;
    kept->generation++;
    for (int i = 0; rv == APR_SUCCESS && i < aip_secrets_count(store); i++) {
        unsigned char id[AIP_SECRET_ID];
        aip_secrets_digest(store, i, id);
        owned_t *owned = find_slot(id);
        if (!owned) {
            rv = add_slots();
            owned = rv == APR_SUCCESS ? find_slot(id) : NULL;
        }
        if (owned) {
            owned->generation = kept->generation;
            aip_secrets_attach(store, i, owned->slot);
        }
    }
    return rv;
}

static void log_line(void *baton, aip_log_level_e level, const char *message)
{
    ap_log_error(APLOG_MARK, (int)level, 0, (server_rec *)baton, "%s", message);
}

/* ---- the parent ---- */

static void first_round(aip_secrets_t *store, bool wait, apr_pool_t *pool)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
    aip_secrets_first(store, wait ? APR_INT64_MAX : apr_time_now() + PATIENCE, pool);
    curl_global_cleanup();
}

/* OpenAI and its kin want "Bearer KEY"; a vault often holds the bare key. */
static void check_scheme(const aip_target_t *target, server_rec *s, apr_pool_t *pool)
{
    const aip_target_fields_t *f = &target->f;
    if (!f->auth_header_name || strcasecmp(f->auth_header_name, "Authorization") != 0) {
        return;
    }
    const char *value = aip_secret_text(f->auth_header_value, pool, NULL);
    if (value && !ap_strchr_c(value, ' ')) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "AIP0205: target %s: the value of AIAuthHeaderValue has no scheme, which the "
                     "Authorization header wants; if the secret is the bare key, write "
                     "\"Bearer {vault://...}\"",
                     target->name);
    }
}

static void check_schemes(server_rec *s, apr_pool_t *pool)
{
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        const aip_targets_t *targets = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        for (int k = 0; k < targets->n; k++) {
            check_scheme(targets->list[k], s, pool);
        }
    }
}

static bool required(server_rec *s)
{
    for (; s; s = s->next) {
        const aip_dir_conf_t *conf = ap_get_module_config(s->lookup_defaults, &ai_proxy_adv_module);
        if (conf && conf->f.secrets_required) {
            return true;
        }
    }
    return false;
}

apr_status_t aip_secrets_open(apr_pool_t *pconf, server_rec *s)
{
    aip_secrets_t *store = aip_registry->secrets;
    apr_pool_t *scratch;
    apr_status_t rv = APR_SUCCESS;
    aip_secrets_use(store);
    apr_pool_create(&scratch, pconf);
    if (aip_secrets_count(store)) {
        rv = retain(s);
        rv = rv ? rv : attach(store);
    }
    if (rv == APR_SUCCESS && aip_secrets_count(store)) {
        aip_shared_words_t *words = aip_shared_words();
        aip_secrets_count_into(store, words ? words->secret_fetches : NULL);
        aip_secrets_ready(store, kept->key, (aip_log_t){log_line, s});
        first_round(store, required(s), scratch);
        const char *missing = aip_secrets_missing(store, scratch);
        if (missing && required(s)) {
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, s,
                         "AIP0206: %s has no value, and AISecretsRequired is On: the server does "
                         "not start",
                         missing);
            rv = APR_EGENERAL;
        }
    }
    check_schemes(s, scratch);
    apr_pool_destroy(scratch);
    return rv;
}

apr_status_t aip_secrets_first_look(apr_pool_t *pconf, server_rec *s)
{
    return required(s) ? aip_secrets_open(pconf, s) : APR_SUCCESS;
}

apr_status_t aip_secrets_open_private(apr_pool_t *pool)
{
    static unsigned char key[KEY_BYTES];
    aip_secrets_t *store = aip_registry->secrets;
    if (RAND_bytes(key, sizeof key) != 1) {
        return APR_EGENERAL;
    }
    for (int i = 0; i < aip_secrets_count(store); i++) {
        aip_secrets_attach(store, i, apr_pcalloc(pool, aip_secret_slot_size()));
    }
    aip_secrets_use(store);
    aip_secrets_ready(store, key, (aip_log_t){0});
    first_round(store, true, pool);
    return APR_SUCCESS;
}

/* ---- children ---- */

static void run(aip_background_t *self, void *data)
{
    apr_pool_t *pool = data, *round;
    aip_secrets_t *store = aip_registry->secrets;
    apr_pool_create(&round, pool);
    apr_interval_time_t wait = 0;
    while (aip_background_wait(self, wait)) {
        apr_time_t next = aip_secrets_refresh(store, round);
        apr_pool_clear(round);
        wait = next - apr_time_now();
        wait = wait < 0 ? 0 : wait > LOOK_AGAIN ? LOOK_AGAIN : wait;
    }
}

static void wake(void)
{
    if (background) {
        aip_background_wake(background);
    }
}

void aip_secrets_child_init(apr_pool_t *pchild, server_rec *s)
{
    aip_secrets_t *store = aip_registry->secrets;
    apr_pool_t *pool;
    background = NULL;
    if (!aip_secrets_lasting(store)) {
        return;
    }
    apr_status_t rv = aip_pool_create_locked(&pool, pchild);
    rv = rv ? rv : aip_background_start(&background, run, pool, pool);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "AIP0207: this child has no thread that refreshes secrets");
        return;
    }
    aip_secrets_background(store, wake, aip_background_stop(background));
}
