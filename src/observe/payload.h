/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_PAYLOAD_H
#define AIP_SRC_OBSERVE_PAYLOAD_H
/* Private to src/observe: what AILoggingLogPayloads logs. */

#include "aip/json_out.h"
#include "aip/request.h"

/** "payload": request and response, redacted and cut. */
void aip_payload_write(aip_json_out_t *out, const aip_request_t *req);

#endif
