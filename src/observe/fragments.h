/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_FRAGMENTS_H
#define AIP_SRC_OBSERVE_FRAGMENTS_H
/* Private to src/observe: the parts of lines and spans that are the same in each request of a
 * target, written once. */

#include "aip/config.h"
#include "aip/json_out.h"
#include "aip/otlp.h"

typedef struct aip_fragments_t {
    aip_span_t meta;    /**< members of ai.proxy.meta */
    aip_span_t tried;   /**< members of an entry of tried_targets */
    aip_span_t request; /**< attributes of the request's span, when the target has answered, see
                           aip/otlp.h */
    aip_span_t attempt; /**< those of an attempt's span */
    aip_span_t server;  /**< those of its own endpoint */
} aip_fragments_t;

/** The same for what has none. @param target  NULL: no target was tried */
void aip_fragment_meta(aip_json_out_t *out, const aip_target_t *target);

/** @param url  where the attempt went */
void aip_fragment_tried(aip_json_out_t *out, const aip_target_t *target, const aip_url_t *url);

/** Attributes of spans in the same way.
 * @param target  NULL: no target was tried */
void aip_fragment_request(aip_otlp_t *otlp, const aip_targets_t *targets,
                          const aip_target_t *target);
void aip_fragment_server(aip_otlp_t *otlp, const aip_url_t *url);

#endif
