/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_JSON_H
#define AIP_JSON_H
/* JSON (RFC 8259) without a document tree: one validating pass finds the members that matter, a
 * splice replaces them and leaves every other byte as it was. Pure functions; thread-safe; nothing
 * is allocated unless a pool is passed. */

#include "aip/aip.h"

/** Arrays and objects may be nested this deep; one more is AIP_JSON_DEPTH. */
#define AIP_JSON_DEPTH_MAX 200

typedef enum aip_json_status_e {
    AIP_JSON_OK = 0,
    AIP_JSON_SYNTAX,     /**< not JSON */
    AIP_JSON_UTF8,       /**< a string holds bytes that are not UTF-8 (overlong forms and surrogates
                            included) */
    AIP_JSON_DEPTH,      /**< nested deeper than AIP_JSON_DEPTH_MAX */
    AIP_JSON_NOT_OBJECT, /**< valid so far, but the value is no object */
    AIP_JSON_DUPLICATE /**< one of the wanted members occurs twice (also when one of them is spelled
                          with escapes) */
} aip_json_status_e;

typedef struct aip_json_error_t {
    aip_json_status_e status;
    size_t offset; /**< byte offset in the text where the fault was seen */
    size_t member; /**< AIP_JSON_DUPLICATE: index in the list of wanted names */
} aip_json_error_t;

/** Where a member of an object was found. All NULL/0 when it is absent. */
typedef struct aip_json_member_t {
    const char *key;  /**< at the opening quote of the key */
    aip_span_t value; /**< raw JSON of the value, without surrounding white space */
} aip_json_member_t;

/**
 * Validates `text` as exactly one JSON object (white space around it is allowed, a byte order mark
 * is not) and locates the members of that object whose decoded key equals one of `names`.
 * @param names    wanted keys, plain UTF-8 without escapes, no name twice
 * @param members  out, `n` entries in the order of `names`; absent members are zeroed
 * @param err      out, may be NULL
 * @return AIP_JSON_OK or the first fault in text order (a duplicate is reported at its second key)
 */
aip_json_status_e aip_json_object(aip_span_t text, const aip_span_t *names, size_t n,
                                  aip_json_member_t *members, aip_json_error_t *err);

/** The same members, of a text of which the rest need not be checked: only its quotes and brackets
 * are followed, and a wanted text, number or word is a right one.
 * @return AIP_JSON_OK, _NOT_OBJECT, _DUPLICATE, or _SYNTAX: the end of a member is not to be found
 */
aip_json_status_e aip_json_object_skim(aip_span_t text, const aip_span_t *names, size_t n,
                                       aip_json_member_t *members);

/** The same of the object that an array begins with, up to its end.
 * @return false when there is none, or one that cannot be read: then `members` are not to be used
 */
bool aip_json_first_skim(aip_span_t array, const aip_span_t *names, size_t n,
                         aip_json_member_t *members);

/** Validates `text` as exactly one JSON value of any type. */
aip_json_status_e aip_json_validate(aip_span_t text, aip_json_error_t *err);

/** A short lower-case description of a status, for messages ("syntax error", "invalid UTF-8" ...).
 */
const char *aip_json_strerror(aip_json_status_e status);

/**
 * Walks over the items of an array. Each is validated, what stands between them is not.
 * @param cursor  NULL before the first call; owned by the function afterwards, and NULL again where
 * an item cannot be read
 * @param item    out: raw JSON of the next item
 * @return false at the end, at an item that cannot be read, or when `array` is no array
 */
bool aip_json_array_next(aip_span_t array, const char **cursor, aip_span_t *item);

/** First byte of a value tells its type: '{' '[' '"' 't' 'f' 'n', or '0' for any number; 0 for an
 * absent value. */
char aip_json_type(aip_span_t value);

/**
 * Decodes a validated JSON string (with its quotes) to UTF-8. A lone surrogate escape becomes
 * U+FFFD.
 * @param out  at least value.len bytes; not terminated
 * @return bytes written
 */
size_t aip_json_decode(aip_span_t value, char *out);

/** How many bytes aip_json_decode() writes; 0 when `value` is no string. */
size_t aip_json_text_bytes(aip_span_t value);

/** Like aip_json_decode(), allocated in `pool` and NUL-terminated; NULL when `value` is no string.
 */
const char *aip_json_string(aip_span_t value, apr_pool_t *pool);

/** Whether a validated JSON string decodes to exactly `text`. */
bool aip_json_equals(aip_span_t value, aip_span_t text);

/** `text` as a JSON string with quotes; invalid UTF-8 becomes U+FFFD. Allocated in `pool`,
 * NUL-terminated. */
aip_span_t aip_json_quote(aip_span_t text, apr_pool_t *pool);

/** Value of a validated JSON number; false when it is none or does not fit (int64: fractions and
 * exponents do not fit). */
bool aip_json_int64(aip_span_t value, apr_int64_t *out);
bool aip_json_double(aip_span_t value, double *out);

/** One change of the top object: `value` is raw JSON that replaces the member or is appended;
 * value.data NULL removes it. */
typedef struct aip_json_edit_t {
    aip_span_t name; /**< plain key: needs no escaping */
    const aip_json_member_t
        *found; /**< where aip_json_object() found it, or NULL / zeroed when it is absent */
    aip_span_t value;
} aip_json_edit_t;

/**
 * Applies `edits` to the object `text` (validated before). Bytes that no edit names are copied as
 * they are; new members are appended before the closing brace in the order of `edits`. Each member
 * may be named by one edit only.
 * @return the new text, allocated in `pool`
 */
aip_span_t aip_json_splice(aip_span_t text, const aip_json_edit_t *edits, size_t n,
                           apr_pool_t *pool);

#endif
