/* SPDX-License-Identifier: Apache-2.0 */
/* A table with one place for each digest, each guarded by a sequence number: odd while a thread
 * writes, another one after each write (a sequence lock, as in Linux' seqlock.h). Readers write
 * nothing, so that threads do not wait for each other. All words are loaded with acquire and stored
 * with release order, which costs nothing on x86. */
#include "aip/recent.h"

#include <stdatomic.h>
#include <string.h>

#define SLOTS 512 /* a power of two */
#define KEY_WORDS (AIP_RECENT_KEY / 8)
#define WORDS (KEY_WORDS + 2 + AIP_RECENT_ROUTES / 2)

/* What a slot holds: digest, expiry, number, distances. */
typedef struct content_t {
    unsigned char key[AIP_RECENT_KEY];
    apr_time_t until;
    apr_int64_t n;
    float distances[AIP_RECENT_ROUTES];
} content_t;
_Static_assert(sizeof(content_t) == WORDS * sizeof(apr_uint64_t), "content in words");

typedef struct slot_t {
    _Alignas(64) _Atomic(apr_uint64_t) sequence;
    _Atomic(apr_uint64_t) words[WORDS];
} slot_t;

struct aip_recent_t {
    slot_t *slots;
};

aip_recent_t *aip_recent_create(apr_pool_t *pool)
{
    aip_recent_t *recent = apr_palloc(pool, sizeof *recent);
    char *memory = apr_pcalloc(pool, (SLOTS + 1) * sizeof *recent->slots);
    recent->slots =
        (slot_t *)(void *)(memory + _Alignof(slot_t) - (apr_uintptr_t)memory % _Alignof(slot_t));
    return recent;
}

static slot_t *slot_of(aip_recent_t *recent, const unsigned char *key)
{
    apr_uint64_t word;
    memcpy(&word, key, sizeof word);
    return &recent->slots[word % SLOTS];
}

bool aip_recent_get(aip_recent_t *recent, const unsigned char *key, apr_time_t now,
                    float *distances, int n)
{
    slot_t *slot = slot_of(recent, key);
    apr_uint64_t words[WORDS];
    content_t content;
    apr_uint64_t before = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    for (int i = 0; i < WORDS; i++) {
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    }
    if (before & 1 || atomic_load_explicit(&slot->sequence, memory_order_acquire) != before) {
        return false;
    }
    memcpy(&content, words, sizeof content);
    if (content.n != n || content.until <= now || memcmp(content.key, key, sizeof content.key)) {
        return false;
    }
    memcpy(distances, content.distances, (size_t)n * sizeof *distances);
    return true;
}

void aip_recent_put(aip_recent_t *recent, const unsigned char *key, apr_time_t until,
                    const float *distances, int n)
{
    slot_t *slot = slot_of(recent, key);
    apr_uint64_t words[WORDS], sequence = atomic_load(&slot->sequence);
    content_t content = {.until = until, .n = n};
    if (n > AIP_RECENT_ROUTES || sequence & 1 ||
        !atomic_compare_exchange_strong(&slot->sequence, &sequence, sequence + 1)) {
        return; /* another thread writes there */
    }
    memcpy(content.key, key, sizeof content.key);
    memcpy(content.distances, distances, (size_t)n * sizeof *distances);
    memcpy(words, &content, sizeof words);
    for (int i = 0; i < WORDS; i++) {
        atomic_store_explicit(&slot->words[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&slot->sequence, sequence + 2, memory_order_release);
}
