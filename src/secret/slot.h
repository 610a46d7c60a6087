/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_SECRET_SLOT_H
#define AIP_SRC_SECRET_SLOT_H
/* Private to src/secret: the memory of one secret, shared by all processes. Readers take no lock:
 * a value is written beside the one before it, then `turn` moves on. The seal (AES-256-GCM) also
 * tells a reader that it was overtaken twice, and that the slot is another secret's by now: a child
 * of an old generation may outlive two restarts. */

#include "aip/secret.h"

#include <stdatomic.h>

typedef struct aip_sealed_t {
    _Atomic(apr_uint32_t) len; /**< looked at before the seal has said that it is whole */
    unsigned char nonce[12], tag[16];
    unsigned char text[AIP_SECRET_MAX];
} aip_sealed_t;

typedef enum aip_slot_state_e {
    AIP_SLOT_NEW,
    AIP_SLOT_GOOD,
    AIP_SLOT_BAD,  /**< said that it cannot be fetched */
    AIP_SLOT_GONE, /**< said that there is no such secret */
    AIP_SLOT_FIXED /**< said that what was read at start stays */
} aip_slot_state_e;

struct aip_secret_slot_t {
    unsigned char id[AIP_SECRET_ID]; /**< whose slot it is: another one's after two restarts */
    _Atomic(apr_uint64_t) turn;   /**< 0: there never was a value; its last bit: which one counts */
    _Atomic(apr_int64_t) usable;  /**< until when the value may be used; all times are absolute */
    _Atomic(apr_int64_t) due;     /**< when it is to be fetched */
    _Atomic(apr_int64_t) lease;   /**< somebody is fetching it, at most until then; 0: nobody */
    _Atomic(apr_int64_t) checked; /**< when the fetch began that ended last */
    _Atomic(apr_int64_t) refused; /**< when aip_secrets_refused() last asked for a fetch */
    _Atomic(apr_uint64_t) refused_turn; /**< of which value */
    _Atomic(apr_uint32_t) state;        /**< aip_slot_state_e */
    _Atomic(apr_uint32_t) failures;     /**< in a row */
    aip_sealed_t sealed[2];
};

/** Writes a value of the secret `id`. One writer at a time. Errors: too long, or not its slot. */
apr_status_t aip_slot_put(aip_secret_slot_t *slot, const unsigned char *id,
                          const unsigned char *key, const char *value);

/** Reads it, whether it may still be used or not; NULL: there is none. */
const char *aip_slot_get(aip_secret_slot_t *slot, const unsigned char *id, const unsigned char *key,
                         apr_uint64_t *turn, apr_pool_t *pool);

#endif
