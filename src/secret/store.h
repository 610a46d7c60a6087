/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_SECRET_STORE_H
#define AIP_SRC_SECRET_STORE_H
/* Private to src/secret. */

#include "slot.h"

#include <apr_hash.h>

struct aip_secrets_t {
    apr_pool_t *pool;
    apr_array_header_t *sources;         /**< aip_source_t *, by slot */
    aip_secret_slot_t **slots;           /**< NULL until attached */
    unsigned char (*ids)[AIP_SECRET_ID]; /**< by slot */
    apr_hash_t *texts;                   /**< address of a text -> template_t */
    const unsigned char *key;
    const volatile apr_uint32_t *stop;
    aip_log_t log;
    _Atomic(apr_uint64_t) *outcomes; /**< by aip_fetched_e; NULL: nobody counts */
    void (*wake)(void);
};

static inline const aip_source_t *aip_store_source(const aip_secrets_t *store, int slot)
{
    return APR_ARRAY_IDX(store->sources, slot, aip_source_t *);
}

/** The source of a reference; for hcv also those of its login. @return NULL: `error` says why */
const aip_source_t *aip_vault_source(aip_secrets_t *store, const aip_vault_t *vault,
                                     const aip_reference_t *ref, apr_pool_t *pool,
                                     const char **error);

#endif
