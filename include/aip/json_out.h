/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_JSON_OUT_H
#define AIP_JSON_OUT_H
/* Writes JSON (RFC 8259) from front to back, without a document tree. Commas and colons come by
 * themselves; whatever the texts hold, what is written is one line of valid UTF-8. Used by one
 * thread; grows in its pool. */

#include "aip/aip.h"
#include <apr_time.h>
#include <stddef.h>
#include <string.h>

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

/** Room for any number. */
#define AIP_JSON_OUT_NUMBER 48

/** @param room  bytes to begin with, at least 1 */
void aip_json_out_init(aip_json_out_t *out, apr_pool_t *pool, size_t room);

/** Parts of what follows, for it alone: what depends on a key is made where the key is known. */
void aip_json_out_grow(aip_json_out_t *out, size_t more);
void aip_json_out_string(aip_json_out_t *out, aip_span_t text, size_t max);
void aip_json_out_chars(aip_json_out_t *out, const char *text);
/* `text` has room for AIP_JSON_OUT_NUMBER bytes, which may all be written to. */
size_t aip_json_out_digits(char *text, apr_int64_t value);

/** @return where `more` bytes can be written; the caller adds what it has written to `len` */
static inline char *aip_json_out_room(aip_json_out_t *out, size_t more)
{
    if (__builtin_expect(out->room - out->len < more, 0)) {
        aip_json_out_grow(out, more);
    }
    return out->data + out->len;
}

/** What comes before a value: the comma, and in an object the key.
 * @return where the value is to be written, with room for any number */
static inline char *aip_json_out_begin(aip_json_out_t *out, const char *key)
{
    size_t len = key ? strlen(key) : 0;
    char *p = aip_json_out_room(out, len + 4 + AIP_JSON_OUT_NUMBER);
    *p = ',';
    p += out->more;
    if (key) {
        *p++ = '"';
        memcpy(p, key, len);
        memcpy(p + len, "\":", 2);
        p += len + 2;
    }
    out->more = true;
    out->len = (size_t)(p - out->data);
    return p;
}

static inline void aip_json_out_open(aip_json_out_t *out, const char *key, bool object)
{
    *aip_json_out_begin(out, key) = object ? '{' : '[';
    out->len++;
    out->depth++;
    apr_uint32_t bit = (apr_uint32_t)1 << out->depth;
    out->objects = object ? out->objects | bit : out->objects & ~bit;
    out->more = false;
}

/** A byte outside of any value, such as the newline behind a line. */
static inline void aip_json_out_byte(aip_json_out_t *out, char byte)
{
    *aip_json_out_room(out, 1) = byte;
    out->len++;
}

/** In all below: key NULL in an array and at the top; else plain ASCII of ours, which is not
 * escaped. */
static inline void aip_json_out_object(aip_json_out_t *out, const char *key)
{
    aip_json_out_open(out, key, true);
}

static inline void aip_json_out_array(aip_json_out_t *out, const char *key)
{
    aip_json_out_open(out, key, false);
}

/** Ends the innermost object or array. */
static inline void aip_json_out_end(aip_json_out_t *out)
{
    aip_json_out_byte(out, out->objects >> out->depth & 1 ? '}' : ']');
    out->depth--;
    out->more = true;
}

/**
 * A string. Escaped are quote, backslash, everything below U+0020, DEL, U+0080-009F, U+2028 and
 * U+2029; each maximal part of invalid UTF-8 becomes one U+FFFD.
 * @param text  data NULL: null
 * @param max   bytes of UTF-8 that a reader gets at most, cut between characters
 */
static inline void aip_json_out_span(aip_json_out_t *out, const char *key, aip_span_t text,
                                     size_t max)
{
    aip_json_out_begin(out, key);
    aip_json_out_string(out, text, max);
}

/** The same of a terminated text, of at most AIP_JSON_OUT_BOUND bytes; NULL: null. */
static inline void aip_json_out_text(aip_json_out_t *out, const char *key, const char *text)
{
    aip_json_out_begin(out, key);
    aip_json_out_chars(out, text);
}

/** A value that is JSON already, written as it is; it must hold no line ends. */
void aip_json_out_raw(aip_json_out_t *out, const char *key, aip_span_t json);

/** Members that were written before, at the top of a writer of their own. */
void aip_json_out_members(aip_json_out_t *out, aip_span_t members);

static inline void aip_json_out_int(aip_json_out_t *out, const char *key, apr_int64_t value)
{
    out->len += aip_json_out_digits(aip_json_out_begin(out, key), value);
}

/** Nine significant digits; null when it is not finite. */
void aip_json_out_real(aip_json_out_t *out, const char *key, double value);

static inline void aip_json_out_bool(aip_json_out_t *out, const char *key, bool value)
{
    memcpy(aip_json_out_begin(out, key), value ? "true" : "false", 5);
    out->len += value ? 4 : 5;
}

static inline void aip_json_out_null(aip_json_out_t *out, const char *key)
{
    memcpy(aip_json_out_begin(out, key), "null", 4);
    out->len += 4;
}

/** What a member of a struct is, and when it is told. */
typedef enum aip_json_kind_e {
    AIP_JSON_TEXT,      /**< const char *, as in aip_json_out_text() */
    AIP_JSON_TEXT_SET,  /**< the same, unless it is NULL */
    AIP_JSON_PLAIN,     /**< aip_span_t, plain ASCII of ours, which is not escaped */
    AIP_JSON_PLAIN_SET, /**< the same, unless its data is NULL */
    AIP_JSON_INT,       /**< int */
    AIP_JSON_INT64,     /**< apr_int64_t */
    AIP_JSON_COUNT,     /**< apr_int64_t, unless it is negative */
    AIP_JSON_BOOL,      /**< bool */
    AIP_JSON_MS,        /**< apr_interval_time_t, as milliseconds with up to three decimals */
    AIP_JSON_MS_NULL,   /**< the same; negative: null */
    AIP_JSON_MS_SET,    /**< the same, unless it is negative */
    AIP_JSON_PICO /**< apr_int64_t, `value` * 10^-12 as an exact decimal without an exponent or
                     zeros at its end */
} aip_json_kind_e;

#define AIP_JSON_FIELD_KEY 28

/** For many members at once: a table is shorter than calls, for the processor as well. */
typedef struct aip_json_field_t {
    char key[AIP_JSON_FIELD_KEY]; /**< with its quotes and colon */
    unsigned char len, kind;      /**< of the key; aip_json_kind_e */
    unsigned short offset;
} aip_json_field_t;

/** 0, or an error of the compiler when a member is not of its kind. */
#define AIP_JSON_KIND_OF(x)                                                                        \
    _Generic((x), char *: AIP_JSON_TEXT, const char *: AIP_JSON_TEXT, aip_span_t: AIP_JSON_PLAIN,  \
             int: AIP_JSON_INT, bool: AIP_JSON_BOOL, apr_int64_t: AIP_JSON_INT64)
#define AIP_JSON_KIND_BASE(kind)                                                                   \
    ((kind) <= AIP_JSON_TEXT_SET                         ? AIP_JSON_TEXT                           \
     : (kind) <= AIP_JSON_PLAIN_SET                      ? AIP_JSON_PLAIN                          \
     : (kind) == AIP_JSON_INT || (kind) == AIP_JSON_BOOL ? (kind)                                  \
                                                         : AIP_JSON_INT64)
#define AIP_JSON_KIND_CHECK(kind, x)                                                               \
    (0 * sizeof(char[AIP_JSON_KIND_OF(x) == AIP_JSON_KIND_BASE(kind) ? 1 : -1]))

/** @param key  a literal, plain ASCII, at most 24 characters */
#define AIP_JSON_FIELD(key, kind, type, member)                                                    \
    {                                                                                              \
        "\"" key "\":", sizeof(key) + 2, kind,                                                     \
            offsetof(type, member) + AIP_JSON_KIND_CHECK(kind, ((type *)0)->member)                \
    }

/** Members of the struct at `from`, in the order of the table. */
void aip_json_out_fields(aip_json_out_t *out, const aip_json_field_t *fields, size_t n,
                         const void *from);

/** An exact decimal as that of AIP_JSON_PICO. */
const char *aip_pico_text(apr_int64_t value, apr_pool_t *pool);

/** Whether a text is ASCII of which nothing has to be escaped. */
bool aip_text_plain(aip_span_t text);

/** The longest beginning of `text` of at most `max` bytes that does not end inside a character of
 * UTF-8. */
size_t aip_text_cut(aip_span_t text, size_t max);

#endif
