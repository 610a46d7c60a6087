/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_FRAGMENTS_H
#define AIP_SRC_OBSERVE_FRAGMENTS_H
/* Private to src/observe: the parts of lines and spans that are the same in each request of a
 * target, written once. */

#include "aip/config.h"
#include "aip/json_out.h"

typedef struct aip_fragments_t {
    aip_span_t meta;  /**< members of ai.proxy.meta */
    aip_span_t tried; /**< members of an entry of tried_targets */
    aip_span_t span;  /**< attributes of an attempt's span, see aip/otlp.h */
} aip_fragments_t;

/** The same for what has none. @param target  NULL: no target was tried */
void aip_fragment_meta(aip_json_out_t *out, const aip_target_t *target);

/** @param url  where the attempt went */
void aip_fragment_tried(aip_json_out_t *out, const aip_target_t *target, const aip_url_t *url);

#endif
