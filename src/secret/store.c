/* SPDX-License-Identifier: Apache-2.0 */
/* The store as the configuration builds it and requests read it: texts with references, and the
 * slots that their secrets are in. Fetching is in refresh.c. */
#include "store.h"

#include <apr_strings.h>
#include <openssl/sha.h>
#include <string.h>

/* A piece of a text: a literal, or the secret in a slot. */
typedef struct piece_t {
    const char *literal;
    int slot;
} piece_t;

typedef struct template_t {
    const char *text;
    apr_array_header_t *pieces; /* piece_t */
} template_t;

static aip_secrets_t *used;

aip_secrets_t *aip_secrets_create(apr_pool_t *pool)
{
    aip_secrets_t *store = apr_pcalloc(pool, sizeof *store);
    *store = (aip_secrets_t){.pool = pool,
                             .sources = apr_array_make(pool, 8, sizeof(aip_source_t *)),
                             .texts = apr_hash_make(pool)};
    return store;
}

void aip_secrets_use(aip_secrets_t *store)
{
    used = store;
}

aip_secrets_t *aip_secrets_used(void)
{
    return used;
}

int aip_secrets_add(aip_secrets_t *store, const aip_source_t *source)
{
    for (int i = 0; i < store->sources->nelts; i++) {
        if (strcmp(aip_store_source(store, i)->id, source->id) == 0) {
            return i;
        }
    }
    aip_source_t *own = apr_pmemdup(store->pool, source, sizeof *own);
    own->store = store;
    own->slot = store->sources->nelts;
    APR_ARRAY_PUSH(store->sources, aip_source_t *) = own;
    return own->slot;
}

int aip_secrets_count(const aip_secrets_t *store)
{
    return store->sources->nelts;
}

const aip_source_t *aip_secrets_source(const aip_secrets_t *store, int slot)
{
    return aip_store_source(store, slot);
}

void aip_secrets_digest(const aip_secrets_t *store, int i, unsigned char digest[AIP_SECRET_ID])
{
    const char *id = aip_store_source(store, i)->id;
    SHA256((const unsigned char *)id, strlen(id), digest);
}

void aip_secrets_attach(aip_secrets_t *store, int i, aip_secret_slot_t *slot)
{
    apr_size_t n = (apr_size_t)store->sources->nelts;
    if (!store->slots) {
        store->slots = apr_pcalloc(store->pool, n * sizeof *store->slots);
        store->ids = apr_pcalloc(store->pool, n * sizeof *store->ids);
    }
    aip_secrets_digest(store, i, store->ids[i]);
    memcpy(slot->id, store->ids[i], sizeof slot->id);
    store->slots[i] = slot;
}

void aip_secrets_ready(aip_secrets_t *store, const unsigned char *key, aip_log_t log)
{
    store->key = key;
    store->log = log;
}

void aip_secrets_count_into(aip_secrets_t *store, _Atomic(apr_uint64_t) *outcomes)
{
    store->outcomes = outcomes;
}

bool aip_secrets_lasting(const aip_secrets_t *store)
{
    for (int i = 0; i < store->sources->nelts; i++) {
        if (!aip_store_source(store, i)->fixed) {
            return true;
        }
    }
    return false;
}

void aip_secrets_background(aip_secrets_t *store, void (*wake)(void),
                            const volatile apr_uint32_t *stop)
{
    store->wake = wake;
    store->stop = stop;
}

/* ---- texts ---- */

/* @param value  out: what env or file say now, or NULL */
static const char *bind_reference(aip_secrets_t *store, const aip_reference_t *ref,
                                  aip_vault_find_t *find, void *baton, piece_t *piece,
                                  const char **value)
{
    apr_pool_t *pool = store->pool;
    const char *error = NULL;
    const aip_vault_t *vault = find(baton, ref->vault);
    vault = vault ? vault : aip_vault_builtin(ref->vault, pool);
    if (!vault) {
        return apr_psprintf(pool,
                            "%s: there is no vault of that name; add <AIVault %s>, or use "
                            "{vault://env/NAME} or {vault://file/path}",
                            ref->shown, ref->vault);
    }
    vault = aip_vault_for(vault, ref, pool, &error);
    if (vault && aip_vault_is_local(vault) &&
        aip_vault_read_local(vault, ref, value, pool, &error) == AIP_FETCHED_OK) {
        error = NULL;
    }
    const aip_source_t *source = error ? NULL : aip_vault_source(store, vault, ref, pool, &error);
    if (!source) {
        return apr_psprintf(pool, "%s: %s", ref->shown, error);
    }
    *piece = (piece_t){.slot = aip_secrets_add(store, source)};
    return NULL;
}

const char *aip_secrets_bind(aip_secrets_t *store, const char *text, aip_vault_find_t *find,
                             void *baton, const char **local)
{
    apr_array_header_t *parts;
    const char *error = aip_reference_split(text, &parts, store->pool), *whole = "";
    template_t *template = apr_pcalloc(store->pool, sizeof *template);
    template->text = text;
    template->pieces = apr_array_make(store->pool, 3, sizeof(piece_t));
    for (int i = 0; !error && i < parts->nelts; i++) {
        const aip_part_t *part = &APR_ARRAY_IDX(parts, i, aip_part_t);
        const char *value = part->literal;
        piece_t *piece = apr_array_push(template->pieces);
        *piece = (piece_t){.literal = part->literal, .slot = -1};
        if (!part->literal) {
            error = bind_reference(store, &part->ref, find, baton, piece, &value);
        }
        whole = whole && value ? apr_pstrcat(store->pool, whole, value, NULL) : NULL;
    }
    *local = error ? NULL : whole;
    if (!error) {
        apr_hash_set(store->texts, &template->text, sizeof template->text, template);
    }
    return error;
}

static const template_t *template_of(const char *text)
{
    return used ? apr_hash_get(used->texts, &text, sizeof text) : NULL;
}

static const char *unavailable(apr_pool_t *pool, aip_error_t *err)
{
    if (err) {
        aip_error_set(err, pool, 503, "gateway_error", "secret_unavailable", NULL,
                      "a credential that this request needs cannot be read at the moment");
    }
    return NULL;
}

/* @param turns  out: of each piece; or NULL */
static const char *resolve(const template_t *template, apr_uint64_t *turns, apr_pool_t *pool)
{
    const char *whole = NULL;
    for (int i = 0; i < template->pieces->nelts; i++) {
        const piece_t *piece = &APR_ARRAY_IDX(template->pieces, i, piece_t);
        const char *value =
            piece->literal ? piece->literal
                           : aip_secrets_get(used, piece->slot, turns ? &turns[i] : NULL, pool);
        if (!value) {
            return NULL;
        }
        whole = whole ? apr_pstrcat(pool, whole, value, NULL) : value;
    }
    return whole;
}

const char *aip_secret_text(const char *text, apr_pool_t *pool, aip_error_t *err)
{
    if (!text || !aip_reference_in(text)) {
        return text;
    }
    const template_t *template = template_of(text);
    const char *value = template ? resolve(template, NULL, pool) : NULL;
    return value ? value : unavailable(pool, err);
}

void aip_secrets_look(const aip_secrets_t *store, int i, apr_time_t now, aip_secret_look_t *look)
{
    aip_secret_slot_t *slot = store->slots ? store->slots[i] : NULL;
    *look = (aip_secret_look_t){.shown = aip_store_source(store, i)->shown, .state = "missing"};
    if (!slot) {
        return;
    }
    apr_uint32_t state = atomic_load(&slot->state);
    apr_time_t due = atomic_load(&slot->due);
    if (atomic_load(&slot->turn) && atomic_load(&slot->usable) > now) {
        look->state = state == AIP_SLOT_BAD || state == AIP_SLOT_GONE ? "stale" : "fresh";
    }
    look->checked = atomic_load(&slot->checked);
    look->due = due == APR_INT64_MAX ? 0 : due;
    look->failures = atomic_load(&slot->failures);
}

/* ---- what peers refuse ---- */

bool aip_secret_refused(const char *text, const char *value, apr_pool_t *pool)
{
    const template_t *template = text && aip_reference_in(text) ? template_of(text) : NULL;
    bool worth = false;
    if (!template || !value) {
        return false;
    }
    apr_uint64_t *turns = apr_pcalloc(pool, (apr_size_t) template->pieces->nelts * sizeof *turns);
    const char *now = resolve(template, turns, pool);
    for (int i = 0; now && strcmp(now, value) == 0 && i < template->pieces->nelts; i++) {
        const piece_t *piece = &APR_ARRAY_IDX(template->pieces, i, piece_t);
        if (!piece->literal && aip_secrets_refused(used, piece->slot, turns[i])) {
            worth = true;
        }
    }
    return worth;
}

bool aip_secret_slot_refused(int slot, const char *value, apr_pool_t *pool)
{
    apr_uint64_t turn;
    const char *now = slot >= 0 && used ? aip_secrets_get(used, slot, &turn, pool) : NULL;
    return now && value && strcmp(now, value) == 0 && aip_secrets_refused(used, slot, turn);
}

void aip_secret_wait(const char *text, apr_time_t end)
{
    const template_t *template = text && aip_reference_in(text) ? template_of(text) : NULL;
    for (int i = 0; template && i < template->pieces->nelts; i++) {
        const piece_t *piece = &APR_ARRAY_IDX(template->pieces, i, piece_t);
        if (!piece->literal) {
            aip_secrets_wait(used, piece->slot, end);
        }
    }
}

const char *aip_secret_missing(const char *text, apr_pool_t *pool)
{
    const template_t *template = text && aip_reference_in(text) ? template_of(text) : NULL;
    for (int i = 0; template && i < template->pieces->nelts; i++) {
        const piece_t *piece = &APR_ARRAY_IDX(template->pieces, i, piece_t);
        if (!piece->literal && !aip_secrets_get(used, piece->slot, NULL, pool)) {
            return aip_store_source(used, piece->slot)->shown;
        }
    }
    return NULL;
}
