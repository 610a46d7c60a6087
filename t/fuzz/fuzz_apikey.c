/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes files of API keys. Lines up to an empty one are keys that clients send, the rest is a
 * file, in which *0 to *9 stand for the hash of a key with the salt in front of it, and !0 to !9
 * for the same with another last byte. What must hold: a file is taken when each of its lines has
 * the form that a regular expression tells, with 16 salts at most, and no key twice; a key has the
 * owner that a search through all lines finds, and nothing near it has one; a refusal names the
 * first line that is wrong, or the two names whose key is the same, and shows nothing else of the
 * file; the line that is made for a key is read. */

#include "fuzz.h"

#include "aip/apikey.h"

#include <apr_strings.h>
#include <openssl/evp.h>
#include <regex.h>

#define KEYS_MAX 10
#define SALTS_MAX 16
#define HASH_BYTES 32
#define SECRET "k9-51Xq" /* in files: what no refusal may show */

#define WORD "[^\001-\040\177#:,$][^\001-\040\177:,$]*"
#define LINE                                                                                       \
    "^(" WORD ")(:(" WORD "(," WORD ")*))?:sha256[$](([-A-Za-z0-9+/=._]+)[$])?([0-9A-Fa-f]{64})$"

enum { NAME = 1, GROUPS = 3, SALT = 6, HEX = 7, PARTS };

typedef struct owner_t {
    const char *name, *groups, *salt; /* "": none */
    unsigned char hash[HASH_BYTES];
} owner_t;

static bool matches(const char *pattern, regex_t *regex, bool *ready, const char *text,
                    regmatch_t *parts)
{
    if (!*ready) {
        require(regcomp(regex, pattern, REG_EXTENDED) == 0);
        *ready = true;
    }
    return regexec(regex, text, PARTS, parts, 0) == 0;
}

static bool word_form(const char *text)
{
    static regex_t regex;
    static bool ready;
    regmatch_t parts[PARTS];

    return matches("^" WORD "$", &regex, &ready, text, parts) && strlen(text) <= 256;
}

static void hash_of(const char *salt, const char *key, size_t len, unsigned char hash[HASH_BYTES])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    require(context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
    require(EVP_DigestUpdate(context, salt, strlen(salt)) == 1);
    require(EVP_DigestUpdate(context, key, len) == 1);
    require(EVP_DigestFinal_ex(context, hash, NULL) == 1);
    EVP_MD_CTX_free(context);
}

/* ---- the file ---- */

/* What stands between the last two $ of a line that ends with one; "": there are no two. */
static const char *salt_before(const char *line, size_t len)
{
    const char *text = apr_pstrmemdup(fuzz_pool(), line, len);
    char *last = strrchr(text, '$');

    if (!last || last[1])
        return "";
    *last = '\0';
    return strrchr(text, '$') ? strrchr(text, '$') + 1 : "";
}

/* The file with the hashes in it, to free(). */
static char *expand(const uint8_t *data, size_t size, char *const *keys, int n, size_t *len)
{
    char *text = malloc(size * HASH_BYTES + 1);
    size_t at = 0, line = 0;

    require(text != NULL);
    for (size_t i = 0; i < size; i++) {
        const bool stands = (data[i] == '*' || data[i] == '!') && i + 1 < size;
        const int which = stands ? data[i + 1] - '0' : -1;
        unsigned char hash[HASH_BYTES];

        if (which < 0 || which >= n) {
            text[at++] = (char)data[i];
            line = data[i] == '\n' ? at : line;
            continue;
        }
        hash_of(salt_before(text + line, at - line), keys[which], strlen(keys[which]), hash);
        hash[HASH_BYTES - 1] ^= data[i] == '!';
        for (int k = 0; k < HASH_BYTES; k++)
            at += (size_t)snprintf(text + at, 3, "%02x", hash[k]);
        i++;
    }
    *len = at;
    return text;
}

static const char *part(const char *line, regmatch_t at)
{
    return at.rm_so < 0
               ? ""
               : apr_pstrmemdup(fuzz_pool(), line + at.rm_so, (apr_size_t)(at.rm_eo - at.rm_so));
}

static bool groups_form(const char *groups)
{
    for (const char *p = groups; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") > 256)
            return false;
    return true;
}

static bool read_line(const char *line, owner_t *owner)
{
    static regex_t regex;
    static bool ready;
    regmatch_t parts[PARTS];

    if (!matches(LINE, &regex, &ready, line, parts))
        return false;
    *owner = (owner_t){.name = part(line, parts[NAME]),
                       .groups = part(line, parts[GROUPS]),
                       .salt = part(line, parts[SALT])};
    for (int i = 0; i < HASH_BYTES; i++) {
        const char digits[] = {line[parts[HEX].rm_so + 2 * i], line[parts[HEX].rm_so + 2 * i + 1],
                               '\0'};

        owner->hash[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return strlen(owner->name) <= 256 && groups_form(owner->groups) && strlen(owner->salt) <= 64;
}

/* Whether this line has the first use of its salt. */
static bool new_salt(const apr_array_header_t *owners)
{
    const owner_t *last = &APR_ARRAY_IDX(owners, owners->nelts - 1, owner_t);

    for (int i = 0; i < owners->nelts - 1; i++)
        if (strcmp(APR_ARRAY_IDX(owners, i, owner_t).salt, last->salt) == 0)
            return false;
    return *last->salt;
}

/* All lines; *wrong: number of the first one that cannot be read, or 0. */
static apr_array_header_t *read_file(const char *text, size_t len, int *wrong)
{
    apr_array_header_t *owners = apr_array_make(fuzz_pool(), 4, sizeof(owner_t));
    int number = 0, salts = 0;

    *wrong = 0;
    for (size_t at = 0; at < len && !*wrong;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at;
        char *line = apr_pstrmemdup(fuzz_pool(), text + at, n);

        at += n + 1;
        number++;
        while (n && strchr(" \t\v\f\r", line[n - 1]))
            line[--n] = '\0';
        if (!n || *line == '#')
            continue;
        if (!read_line(line, apr_array_push(owners)))
            *wrong = number;
        else if (new_salt(owners) && ++salts > SALTS_MAX)
            *wrong = number;
    }
    return owners;
}

/* The message for the first key that an earlier line has as well; NULL: there is none. */
static const char *twice(const apr_array_header_t *owners)
{
    for (int i = 0; i < owners->nelts; i++) {
        const owner_t *owner = &APR_ARRAY_IDX(owners, i, owner_t);

        for (int k = 0; k < i; k++) {
            const owner_t *before = &APR_ARRAY_IDX(owners, k, owner_t);

            if (!strcmp(owner->salt, before->salt) &&
                !memcmp(owner->hash, before->hash, HASH_BYTES))
                return apr_psprintf(fuzz_pool(), "'%s' and '%s' have the same key", before->name,
                                    owner->name);
        }
    }
    return NULL;
}

static void check_refusal(const char *error, int wrong, const char *same)
{
    require(error && strlen(error) < 640);
    for (const char *p = error; *p; p++)
        require((unsigned char)*p >= ' ' && *p != 0x7f);
    if (wrong) {
        const char *head = apr_psprintf(fuzz_pool(), "line %d: ", wrong);

        require(strncmp(error, head, strlen(head)) == 0 && error[strlen(head)]);
        require(strlen(error) < 128 && !strstr(error, SECRET));
    } else {
        require(same && strcmp(error, same) == 0);
    }
}

/* ---- look-ups ---- */

static bool is_owner(const owner_t *owner, const aip_apikey_t *found)
{
    return strcmp(owner->name, found->name) == 0 &&
           strcmp(owner->groups,
                  found->groups->nelts ? apr_array_pstrcat(fuzz_pool(), found->groups, ',') : "") ==
               0;
}

static void check_find(const aip_apikeys_t *keys, const apr_array_header_t *owners, const char *key,
                       size_t len)
{
    char *copy = fuzz_copy(key, len);
    const aip_apikey_t *found = aip_apikeys_find(keys, copy, len);
    bool known = false, right = false;

    for (int i = 0; i < owners->nelts && len >= AIP_APIKEY_MIN && len <= AIP_APIKEY_MAX; i++) {
        const owner_t *owner = &APR_ARRAY_IDX(owners, i, owner_t);
        unsigned char hash[HASH_BYTES];

        hash_of(owner->salt, copy, len, hash);
        if (memcmp(hash, owner->hash, HASH_BYTES) != 0)
            continue;
        known = true;
        right = right || (found && is_owner(owner, found));
    }
    require(known ? right : !found);
    free(copy);
}

/* A key, and what is near it: one byte less, one more, another one at the end, a salt in front. */
static void check_finds(const aip_apikeys_t *keys, const apr_array_header_t *owners,
                        const char *key)
{
    const size_t len = strlen(key);
    char *other = apr_pstrcat(fuzz_pool(), key, "x", NULL);

    check_find(keys, owners, key, len);
    check_find(keys, owners, other, len + 1);
    if (len) {
        check_find(keys, owners, key, len - 1);
        other[len - 1] ^= 1;
        check_find(keys, owners, other, len);
    }
    if (owners->nelts) {
        const char *salt = APR_ARRAY_IDX(owners, owners->nelts - 1, owner_t).salt;

        check_find(keys, owners, apr_pstrcat(fuzz_pool(), salt, key, NULL), strlen(salt) + len);
    }
}

/* The line for a key, of a name and groups that were read. */
static void check_line(const owner_t *owner, const char *key)
{
    apr_array_header_t *groups = apr_array_make(fuzz_pool(), 2, sizeof(const char *));
    const char *error = NULL;
    char *state = NULL, *list = apr_pstrdup(fuzz_pool(), owner->groups);

    for (char *p = apr_strtok(list, ",", &state); p; p = apr_strtok(NULL, ",", &state))
        APR_ARRAY_PUSH(groups, const char *) = p;
    const char *line = aip_apikey_line(owner->name, groups, key, fuzz_pool());
    const aip_apikeys_t *keys = aip_apikeys_parse(line, strlen(line), fuzz_pool(), &error);
    require(keys && !error && aip_apikeys_count(keys) == 1);
    const aip_apikey_t *found = aip_apikeys_find(keys, key, strlen(key));
    require(!found == (strlen(key) < AIP_APIKEY_MIN || strlen(key) > AIP_APIKEY_MAX));
    require(!found || is_owner(owner, found));
}

static void check_file(const char *text, size_t len, char *const *sent, int n)
{
    const char *error = NULL;
    const aip_apikeys_t *keys = aip_apikeys_parse(text, len, fuzz_pool(), &error);
    int wrong;

    require(!keys == !!error);
    if (memchr(text, '\0', len)) {
        require(!keys && strstr(error, "NUL") && strlen(error) < 128);
        return;
    }
    const apr_array_header_t *owners = read_file(text, len, &wrong);
    const char *same = wrong ? NULL : twice(owners);
    if (wrong || same) {
        check_refusal(error, wrong, same);
        return;
    }
    require(keys && aip_apikeys_count(keys) == owners->nelts);
    for (int i = 0; i < n; i++)
        check_finds(keys, owners, sent[i]);
    if (n && owners->nelts)
        check_line(&APR_ARRAY_IDX(owners, 0, owner_t), sent[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *sent[KEYS_MAX];
    int n = 0;
    size_t len;

    while (size && n < KEYS_MAX) {
        sent[n] = fuzz_line(&data, &size);
        require(!aip_apikey_word_error(sent[n]) == word_form(sent[n]));
        if (!*sent[n++])
            break;
    }
    char *expanded = expand(data, size, sent, n, &len), *text = fuzz_copy(expanded, len);
    check_file(text, len, sent, n);
    free(text);
    free(expanded);
    while (n)
        free(sent[--n]);
    apr_pool_clear(fuzz_pool());
    return 0;
}
