/* SPDX-License-Identifier: Apache-2.0 */
/* The file of API keys: parsed into an index by digest, one for each salt, and looked up in.
 * Parsed while the configuration is read and by requests that find the file changed; looked up in
 * the threads of requests; aipctl makes lines for it. */
#include "aip/apikey.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#define SCHEME "sha256$"
#define SALT_MAX 64
/* Each costs every look-up a hash. */
#define SALTS_MAX 16
#define WORD_MAX 256

/** Keys with the same salt. */
typedef struct table_t {
    const char *salt; /* "": none */
    int n, n_buckets; /* a power of two */
    int *buckets;     /* index of the first key, or -1 */
} table_t;

struct aip_apikeys_t {
    apr_array_header_t *keys;     /* aip_apikey_t */
    apr_array_header_t *tables;   /* table_t */
    apr_array_header_t *table_of; /* int, by key; while the file is read */
};

const char *aip_apikey_word_error(const char *word)
{
    size_t len = strlen(word);
    if (!len || len > WORD_MAX) {
        return "a name or group is empty, or longer than 256 bytes";
    }
    for (const char *p = word; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == ':' || *p == ',' || *p == '$') {
            return "a name or group holds a blank, ':', ',', '$' or a control character";
        }
    }
    return *word == '#' ? "a name or group begins with '#'" : NULL;
}

static int hex_digit(char c)
{
    return apr_isdigit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *hex, unsigned char digest[32])
{
    char lower[65];
    if (strlen(hex) != 64) {
        return false;
    }
    for (int i = 0; i < 64; i++) {
        lower[i] = (char)apr_tolower(hex[i]);
    }
    for (int i = 0; i < 32; i++) {
        int high = hex_digit(lower[2 * i]), low = hex_digit(lower[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        digest[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static bool salt_ok(const char *salt)
{
    size_t len = strlen(salt);
    for (const char *p = salt; *p; p++) {
        if (!apr_isalnum(*p) && !strchr("+/=._-", *p)) {
            return false;
        }
    }
    return len && len <= SALT_MAX;
}

/* @return index, or -1: too many */
static int table_for(aip_apikeys_t *keys, const char *salt)
{
    for (int i = 0; i < keys->tables->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(keys->tables, i, table_t).salt, salt) == 0) {
            return i;
        }
    }
    if (keys->tables->nelts > SALTS_MAX) {
        return -1;
    }
    APR_ARRAY_PUSH(keys->tables, table_t) = (table_t){.salt = salt};
    return keys->tables->nelts - 1;
}

/* "sha256$HEX" or "sha256$SALT$HEX" */
static const char *read_hash(aip_apikeys_t *keys, char *hash, aip_apikey_t *key, int *table)
{
    char *salt = hash + strlen(SCHEME), *dollar;
    if (strncmp(hash, SCHEME, strlen(SCHEME)) != 0) {
        return "the hash must begin with sha256$; make the line with aipctl apikey";
    }
    dollar = strchr(salt, '$');
    if (dollar) {
        *dollar = '\0';
        if (!salt_ok(salt)) {
            return "the salt must be 1 to 64 letters, digits or one of + / = . _ -";
        }
    }
    if (!read_hex(dollar ? dollar + 1 : salt, key->digest)) {
        return "the hash must have 64 hexadecimal digits";
    }
    *table = table_for(keys, dollar ? salt : "");
    return *table < 0 ? "more than 16 different salts; one for the whole file is enough" : NULL;
}

static const char *read_groups(char *text, aip_apikey_t *key, apr_pool_t *pool)
{
    apr_array_header_t *groups = apr_array_make(pool, 2, sizeof(const char *));
    const char *error = NULL;
    for (char *p = text; p && !error;) {
        char *comma = strchr(p, ',');
        if (comma) {
            *comma = '\0';
        }
        error = aip_apikey_word_error(p);
        APR_ARRAY_PUSH(groups, const char *) = p;
        p = comma ? comma + 1 : NULL;
    }
    key->groups = groups;
    return error;
}

/* @param line  changed, and kept */
static const char *read_line(aip_apikeys_t *keys, char *line, apr_pool_t *pool)
{
    aip_apikey_t key = {.next = -1};
    char *first = strchr(line, ':'), *last = strrchr(line, ':');
    int table = 0;
    if (!first) {
        return "a line must be name:hash or name:group,group:hash";
    }
    *first = *last = '\0';
    key.name = line;
    const char *error = aip_apikey_word_error(line);
    if (!error && first != last) {
        error = read_groups(first + 1, &key, pool);
    } else if (!error) {
        key.groups = apr_array_make(pool, 0, sizeof(const char *));
    }
    error = error ? error : read_hash(keys, last + 1, &key, &table);
    if (!error) {
        APR_ARRAY_PUSH(keys->keys, aip_apikey_t) = key;
        APR_ARRAY_PUSH(keys->table_of, int) = table;
        APR_ARRAY_IDX(keys->tables, table, table_t).n++;
    }
    return error;
}

static int bucket_of(const table_t *table, const unsigned char digest[32])
{
    unsigned hash = digest[0] | (unsigned)digest[1] << 8 | (unsigned)digest[2] << 16 |
                    (unsigned)digest[3] << 24;
    return (int)(hash & (unsigned)(table->n_buckets - 1));
}

/* Looks at all of a bucket, also behind a hit. */
static const aip_apikey_t *find_in(const aip_apikeys_t *keys, const table_t *table,
                                   const unsigned char digest[32])
{
    const aip_apikey_t *found = NULL;
    for (int i = table->buckets[bucket_of(table, digest)]; i >= 0;) {
        const aip_apikey_t *key = &APR_ARRAY_IDX(keys->keys, i, aip_apikey_t);
        found = CRYPTO_memcmp(key->digest, digest, sizeof key->digest) == 0 ? key : found;
        i = key->next;
    }
    return found;
}

/* @return NULL, or what is wrong */
static const char *make_index(aip_apikeys_t *keys, apr_pool_t *pool)
{
    for (int t = 0; t < keys->tables->nelts; t++) {
        table_t *table = &APR_ARRAY_IDX(keys->tables, t, table_t);
        for (table->n_buckets = 16; table->n_buckets < table->n;) {
            table->n_buckets *= 2;
        }
        table->buckets = apr_palloc(pool, (apr_size_t)table->n_buckets * sizeof(int));
        memset(table->buckets, 0xff, (apr_size_t)table->n_buckets * sizeof(int));
    }
    for (int i = 0; i < keys->keys->nelts; i++) {
        aip_apikey_t *key = &APR_ARRAY_IDX(keys->keys, i, aip_apikey_t);
        table_t *table =
            &APR_ARRAY_IDX(keys->tables, APR_ARRAY_IDX(keys->table_of, i, int), table_t);
        const aip_apikey_t *same = find_in(keys, table, key->digest);
        if (same) {
            return apr_psprintf(pool, "'%s' and '%s' have the same key", same->name, key->name);
        }
        int *bucket = &table->buckets[bucket_of(table, key->digest)];
        key->next = *bucket;
        *bucket = i;
    }
    return NULL;
}

void *aip_apikeys_parse(const char *text, size_t len, apr_pool_t *pool, const char **error)
{
    aip_apikeys_t *keys = apr_pcalloc(pool, sizeof *keys);
    keys->keys = apr_array_make(pool, 64, sizeof(aip_apikey_t));
    keys->tables = apr_array_make(pool, 1, sizeof(table_t));
    keys->table_of = apr_array_make(pool, 64, sizeof(int));
    APR_ARRAY_PUSH(keys->tables, table_t) = (table_t){.salt = ""};
    if (memchr(text, '\0', len)) {
        *error = "the file holds a NUL character; it must be text";
        return NULL;
    }
    int number = 1;
    for (const char *p = text, *end = text + len; p < end; number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p);
        char *line = apr_pstrmemdup(pool, p, n);
        p += n + 1;
        for (; n && apr_isspace(line[n - 1]); n--) {
            line[n - 1] = '\0';
        }
        const char *why = !*line || *line == '#' ? NULL : read_line(keys, line, pool);
        if (why) {
            *error = apr_psprintf(pool, "line %d: %s", number, why);
            return NULL;
        }
    }
    *error = make_index(keys, pool);
    return *error ? NULL : keys;
}

int aip_apikeys_count(const aip_apikeys_t *keys)
{
    return keys->keys->nelts;
}

const aip_apikey_t *aip_apikeys_find(const aip_apikeys_t *keys, const char *key, size_t len)
{
    unsigned char salted[SALT_MAX + AIP_APIKEY_MAX], digest[SHA256_DIGEST_LENGTH];
    const aip_apikey_t *found = NULL;
    if (len < AIP_APIKEY_MIN || len > AIP_APIKEY_MAX) {
        return NULL;
    }
    for (int t = 0; t < keys->tables->nelts; t++) {
        const table_t *table = &APR_ARRAY_IDX(keys->tables, t, table_t);
        size_t n = strlen(table->salt);
        if (!table->n) {
            continue; /* the one without a salt, when each key has one */
        }
        memcpy(salted, table->salt, n);
        memcpy(salted + n, key, len);
        SHA256(salted, n + len, digest);
        const aip_apikey_t *here = find_in(keys, table, digest);
        found = here ? here : found;
    }
    OPENSSL_cleanse(salted, sizeof salted);
    return found;
}

const char *aip_apikey_line(const char *name, const apr_array_header_t *groups, const char *key,
                            apr_pool_t *pool)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char hex[2 * SHA256_DIGEST_LENGTH + 1];
    SHA256((const unsigned char *)key, strlen(key), digest);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        static const char digits[] = "0123456789abcdef";
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[sizeof hex - 1] = '\0';
    return apr_pstrcat(pool, name, groups->nelts ? ":" : "",
                       groups->nelts ? apr_array_pstrcat(pool, groups, ',') : "", ":" SCHEME, hex,
                       NULL);
}
