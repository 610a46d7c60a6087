/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_JSON_OUT_H
#define AIP_JSON_OUT_H
/* Writes JSON (RFC 8259) from front to back, without a document tree. Commas and colons come by
 * themselves; whatever the texts hold, what is written is one line of valid UTF-8. Used by one
 * thread; grows in its pool. */

#include "aip/aip.h"
#include <apr_time.h>

/** Objects and arrays may be nested this deep. */
#define AIP_JSON_OUT_DEPTH 30

/** For texts that clients or upstreams choose. */
#define AIP_JSON_OUT_BOUND 1024

typedef struct aip_json_out_t {
    apr_pool_t *pool;
    char *data; /**< what has been written so far; not terminated */
    size_t len, room;
    unsigned depth;
    apr_uint32_t objects; /**< by depth: 1 an object, 0 an array */
    bool more;            /**< the next value needs a comma */
} aip_json_out_t;

/** @param room  bytes to begin with, at least 1 */
void aip_json_out_init(aip_json_out_t *out, apr_pool_t *pool, size_t room);

/** In all below: key NULL in an array and at the top; else plain ASCII of ours, which is not
 * escaped. */
void aip_json_out_object(aip_json_out_t *out, const char *key);
void aip_json_out_array(aip_json_out_t *out, const char *key);

/** Ends the innermost object or array. */
void aip_json_out_end(aip_json_out_t *out);

/**
 * A string. Escaped are quote, backslash, everything below U+0020, DEL, U+0080-009F, U+2028 and
 * U+2029; each maximal part of invalid UTF-8 becomes one U+FFFD.
 * @param text  data NULL: null
 * @param max   bytes of UTF-8 that a reader gets at most, cut between characters
 */
void aip_json_out_span(aip_json_out_t *out, const char *key, aip_span_t text, size_t max);

/** The same of a terminated text, of at most AIP_JSON_OUT_BOUND bytes; NULL: null. */
void aip_json_out_text(aip_json_out_t *out, const char *key, const char *text);

/** A value that is JSON already, written as it is; it must hold no line ends. */
void aip_json_out_raw(aip_json_out_t *out, const char *key, aip_span_t json);

/** Members that were written before, at the top of a writer of their own. */
void aip_json_out_members(aip_json_out_t *out, aip_span_t members);

void aip_json_out_int(aip_json_out_t *out, const char *key, apr_int64_t value);

/** `value` * 10^-12 as an exact decimal without an exponent or zeros at its end. */
void aip_json_out_pico(aip_json_out_t *out, const char *key, apr_int64_t value);

/** Microseconds, written as milliseconds with up to three decimals. */
void aip_json_out_ms(aip_json_out_t *out, const char *key, apr_interval_time_t value);

/** Nine significant digits; null when it is not finite. */
void aip_json_out_real(aip_json_out_t *out, const char *key, double value);

void aip_json_out_bool(aip_json_out_t *out, const char *key, bool value);
void aip_json_out_null(aip_json_out_t *out, const char *key);

/** A byte outside of any value, such as the newline behind a line. */
void aip_json_out_byte(aip_json_out_t *out, char byte);

/** An exact decimal as in aip_json_out_pico(). */
const char *aip_pico_text(apr_int64_t value, apr_pool_t *pool);

/** Whether a text is ASCII of which nothing has to be escaped. */
bool aip_text_plain(aip_span_t text);

/** The longest beginning of `text` of at most `max` bytes that does not end inside a character of
 * UTF-8. */
size_t aip_text_cut(aip_span_t text, size_t max);

#endif
