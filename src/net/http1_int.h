/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_HTTP1_INT_H
#define AIP_HTTP1_INT_H
/* What http1.c (the driver, which owns the buffer and the waiting) and http1_head.c (the grammar:
 * pure functions of one line each) say to each other. Lines are passed without their line end. */

#include "aip/http1.h"

typedef enum aip_http1_body_e {
    AIP_HTTP1_BODY_NONE, /**< 204, 304, or a length of 0 */
    AIP_HTTP1_BODY_LENGTH,
    AIP_HTTP1_BODY_CHUNKED,
    AIP_HTTP1_BODY_CLOSE /**< ends with the connection */
} aip_http1_body_e;

/** A head on its way in. */
typedef struct aip_http1_head_t {
    aip_http1_response_t response; /**< `length` is set by aip_http1_head_frame() */
    apr_off_t content_length;      /**< -1: no such field */
    unsigned encodings;            /**< Transfer-Encoding fields seen */
    bool chunked;                  /**< one of them is exactly "chunked" */
    bool close, keep_alive;        /**< tokens of Connection */
    bool persistent;               /**< the connection stays; set by aip_http1_head_frame() */
} aip_http1_head_t;

/** Prepares for the next head; the table of fields is made once and emptied afterwards. */
void aip_http1_head_reset(aip_http1_head_t *head, apr_pool_t *pool);

/** Whether `n` bytes can be the start of a status line. */
bool aip_http1_status_begins(const char *p, size_t n);

/** Parses the status line. @return false: not HTTP/1.0 or 1.1, or no status of 100..999 */
bool aip_http1_head_status(aip_http1_head_t *head, aip_span_t line);

/** Splits a field line (RFC 9112, section 5). @return false when it is none; `value` is trimmed */
bool aip_http1_field_split(aip_span_t line, aip_span_t *name, aip_span_t *value);

/** Parses and stores a field line. @return false: malformed, or a Content-Length that is bad or
 * differs */
bool aip_http1_head_field(aip_http1_head_t *head, aip_span_t line, apr_pool_t *pool);

/** Decides how long the body is (RFC 9112, section 6.3). @return false when the fields contradict
 * each other */
bool aip_http1_head_frame(aip_http1_head_t *head, aip_http1_body_e *body);

/** Whether what came while the request was being sent holds the start of a final head (or no HTTP
 * at all). */
bool aip_http1_final_begins(const char *p, size_t n);

/** Whether `n` bytes can be the start of a chunk-size line. */
bool aip_http1_chunk_begins(const char *p, size_t n);

/** Parses a chunk-size line; extensions are ignored. @return false when it is malformed or too
 * large */
bool aip_http1_chunk_size(aip_span_t line, apr_off_t *size);

#endif
