/* SPDX-License-Identifier: Apache-2.0 */
/* Seals and opens the value of one slot: AES-256-GCM (NIST SP 800-38D) with a random nonce for each
 * value. The key is the caller's. */
#include "slot.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#define TRIES 100

/* Looked up by name once per process: that takes locks and is slower than all else here. */
static const EVP_CIPHER *cipher(void)
{
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    static _Atomic(EVP_CIPHER *) known;
    EVP_CIPHER *found = atomic_load(&known), *nobody = NULL;
    if (!found) {
        found = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
        if (!atomic_compare_exchange_strong(&known, &nobody, found)) {
            EVP_CIPHER_free(found);
            found = nobody;
        }
    }
    return found;
#else
    return EVP_aes_256_gcm();
#endif
}

/* Whose value it is and its turn are authenticated too: neither an old value nor another secret's
 * can stand in its place. */
static bool seal(aip_sealed_t *sealed, const unsigned char *id, const unsigned char *key,
                 apr_uint64_t turn, const char *value, size_t len)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, rest = 0;
    bool ok =
        ctx && RAND_bytes(sealed->nonce, sizeof sealed->nonce) == 1 &&
        EVP_EncryptInit_ex(ctx, cipher(), NULL, key, sealed->nonce) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, id, AIP_SECRET_ID) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)&turn, sizeof turn) == 1 &&
        EVP_EncryptUpdate(ctx, sealed->text, &n, (const unsigned char *)value, (int)len) == 1 &&
        EVP_EncryptFinal_ex(ctx, sealed->text + n, &rest) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, sizeof sealed->tag, sealed->tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    atomic_store(&sealed->len, ok ? (apr_uint32_t)len : 0);
    return ok;
}

/* From a copy: a cipher reads its input twice, once for the tag and once for the text, and a writer
 * may come between the two. */
static bool unseal(const aip_sealed_t *sealed, const unsigned char *id, const unsigned char *key,
                   apr_uint64_t turn, char *value, size_t len)
{
    unsigned char tag[sizeof sealed->tag], nonce[sizeof sealed->nonce], *text = (void *)value;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, rest = 0;
    memcpy(tag, sealed->tag, sizeof tag);
    memcpy(nonce, sealed->nonce, sizeof nonce);
    memcpy(text, sealed->text, len);
    bool ok = ctx && EVP_DecryptInit_ex(ctx, cipher(), NULL, key, nonce) == 1 &&
              EVP_DecryptUpdate(ctx, NULL, &n, id, AIP_SECRET_ID) == 1 &&
              EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)&turn, sizeof turn) == 1 &&
              EVP_DecryptUpdate(ctx, text, &n, text, (int)len) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, sizeof tag, tag) == 1 &&
              EVP_DecryptFinal_ex(ctx, text + n, &rest) == 1;
    EVP_CIPHER_CTX_free(ctx);
    value[ok ? len : 0] = '\0';
    return ok;
}

apr_size_t aip_secret_slot_size(void)
{
    return (sizeof(aip_secret_slot_t) + 63) & ~(apr_size_t)63;
}

apr_status_t aip_slot_put(aip_secret_slot_t *slot, const unsigned char *id,
                          const unsigned char *key, const char *value)
{
    apr_uint64_t turn = atomic_load(&slot->turn) + 1;
    size_t len = strlen(value);
    if (len > AIP_SECRET_MAX || memcmp(slot->id, id, AIP_SECRET_ID) != 0 ||
        !seal(&slot->sealed[turn & 1], id, key, turn, value, len)) {
        return APR_EGENERAL;
    }
    atomic_store(&slot->turn, turn);
    return APR_SUCCESS;
}

const char *aip_slot_get(aip_secret_slot_t *slot, const unsigned char *id, const unsigned char *key,
                         apr_uint64_t *turn, apr_pool_t *pool)
{
    for (int i = 0; i < TRIES; i++) {
        apr_uint64_t now = atomic_load(&slot->turn);
        const aip_sealed_t *sealed = &slot->sealed[now & 1];
        size_t len = atomic_load(&sealed->len);
        if (!now) {
            return NULL;
        }
        char *value = len <= AIP_SECRET_MAX ? apr_palloc(pool, len + 1) : NULL;
        if (value && unseal(sealed, id, key, now, value, len)) {
            *turn = now;
            return value;
        }
        if (atomic_load(&slot->turn) == now) {
            return NULL; /* spoilt, not overtaken */
        }
    }
    return NULL;
}
