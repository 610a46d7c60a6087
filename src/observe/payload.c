/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in the statistics log, for operators who ask for them: cut to AILogPayloadMaxBytes, and
 * redacted before that. */
#include "payload.h"

#include "redact.h"

#include "aip/reassembly.h"

#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define UNLIMITED ((size_t)8 << 20)
#define BEHIND_CUT 4096 /* is looked at as well: what begins before the cut may end behind it */

/* @param cut  out: whether something is missing */
static aip_span_t shown(const aip_request_t *req, aip_span_t text, bool *cut)
{
    const aip_location_fields_t *f = &req->conf->f;
    size_t max = f->log_payload_max_bytes ? (size_t)f->log_payload_max_bytes : UNLIMITED;
    text = text.data ? text : AIP_SPAN("");
    *cut = text.len > max;
    size_t at = *cut ? max : text.len;
    text.len = text.len - at > BEHIND_CUT ? at + BEHIND_CUT : text.len;
    if (f->log_redact && !aip_redact(f->log_redact, &text, &at, req->r->pool)) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, req->r,
                      "AIP0313: a pattern of AILogRedact takes too many steps for a payload, which "
                      "is not logged");
        *cut = true;
        return AIP_SPAN("[REDACTED]");
    }
    return (aip_span_t){text.data, aip_text_cut(text, *cut ? at : text.len)};
}

static void write_one(aip_json_out_t *out, const aip_request_t *req, aip_span_t text,
                      const char *key, const char *truncated, bool cut_before)
{
    bool cut;
    aip_span_t part = shown(req, text, &cut);
    aip_json_out_span(out, key, part, 4 * part.len + 16);
    if (cut || cut_before) {
        aip_json_out_bool(out, truncated, true);
    }
}

void aip_payload_write(aip_json_out_t *out, const aip_request_t *req)
{
    const aip_answered_t *a = &req->answered;
    bool stream = a->stream && a->whole;
    aip_json_out_object(out, "payload");
    write_one(out, req, a->sent_body, "request", "request_truncated", false);
    write_one(out, req, stream ? aip_reassembly_text(a->whole, a->response_model) : a->payload,
              "response", "response_truncated",
              stream ? aip_reassembly_cut(a->whole) : a->payload.len >= UNLIMITED);
    aip_json_out_end(out);
}
