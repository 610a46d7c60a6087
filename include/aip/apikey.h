/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_APIKEY_H
#define AIP_APIKEY_H
/* Files of AIApiKeyFile: who has which API key, known by its SHA-256 alone. Keys are long and
 * random, so a slow hash would protect nothing and cost each request milliseconds. */

#include "aip/aip.h"

#include <apr_tables.h>

/** Shorter ones could be guessed; longer ones are none of ours. In bytes. */
#define AIP_APIKEY_MIN 20
#define AIP_APIKEY_MAX 1024

/** One line of the file. */
typedef struct aip_apikey_t {
    const char *name;
    const apr_array_header_t *groups; /**< const char * */
    unsigned char digest[32];
    int next; /**< in its bucket, or -1 */
} aip_apikey_t;

typedef struct aip_apikeys_t aip_apikeys_t;

/**
 * Parses lines "name[:group,group...]:sha256$HEX" or "...:sha256$SALT$HEX" (HEX of salt and key);
 * empty lines and those that begin with '#' are skipped. An aip_watched_parse_fn.
 * @return aip_apikeys_t; NULL: `error` has the line's number and what is wrong, but nothing of the
 * line, which may hold a key; or the names of two lines that have the same key
 */
void *aip_apikeys_parse(const char *text, size_t len, apr_pool_t *pool, const char **error);

/** Whose key it is, or NULL. How long it takes says nothing about how much of a key is right: the
 * key is hashed first, then all hashes that may be meant are compared as a whole. Thread-safe. */
const aip_apikey_t *aip_apikeys_find(const aip_apikeys_t *keys, const char *key, size_t len);

int aip_apikeys_count(const aip_apikeys_t *keys);

/** NULL, or why a name or a group cannot stand in the file. */
const char *aip_apikey_word_error(const char *word);

/** The line of a key for the file, without a line end. Groups: const char *. */
const char *aip_apikey_line(const char *name, const apr_array_header_t *groups, const char *key,
                            apr_pool_t *pool);

#endif
