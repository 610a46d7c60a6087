/* SPDX-License-Identifier: Apache-2.0 */
/* aipctl apikey: a key for a client, and the line by which the server knows it. The key is written
 * once and kept nowhere; it is never an argument, which a list of processes would show. */
#include "tool.h"

#include "aip/apikey.h"

#include <apr_strings.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

/* What finds lost keys in texts goes by such beginnings. */
#define PREFIX "aip-"

/* 256 bits in 43 characters of base64url. */
static int make_key(char key[64])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char random[33] = {0};
    size_t at = strlen(PREFIX);
    if (RAND_bytes(random, 32) != 1) {
        return aip_tool_fail("there is no randomness to make a key of");
    }
    memcpy(key, PREFIX, at);
    for (int i = 0; i < 33; i += 3) {
        unsigned three =
            (unsigned)random[i] << 16 | (unsigned)random[i + 1] << 8 | (unsigned)random[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) {
            key[at++] = digits[three >> shift & 63];
        }
    }
    key[at - 1] = '\0'; /* the last of 44 stands for the byte that was added */
    OPENSSL_cleanse(random, sizeof random);
    return AIP_EXIT_OK;
}

static int read_key(char key[AIP_APIKEY_MAX + 3])
{
    size_t len = fread(key, 1, AIP_APIKEY_MAX + 2, stdin);
    if (len && key[len - 1] == '\n') {
        len--;
    }
    if (len && key[len - 1] == '\r') {
        len--;
    }
    key[len] = '\0';
    if (len < AIP_APIKEY_MIN || len > AIP_APIKEY_MAX) {
        return aip_tool_fail("the key must have %d to %d characters: shorter ones can be guessed",
                             AIP_APIKEY_MIN, AIP_APIKEY_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if (key[i] <= ' ' || key[i] > '~') {
            return aip_tool_fail("the key must be one line of ASCII without blanks");
        }
    }
    return AIP_EXIT_OK;
}

int aip_run_apikey(const aip_options_t *options, apr_pool_t *pool)
{
    char key[AIP_APIKEY_MAX + 3];
    apr_array_header_t *groups = apr_array_make(pool, options->n_words, sizeof(const char *));
    for (int i = 0; i < options->n_words; i++) {
        const char *error = aip_apikey_word_error(options->words[i]);
        if (error) {
            return aip_tool_misuse("'%s': %s", options->words[i], error);
        }
        if (i) {
            APR_ARRAY_PUSH(groups, const char *) = options->words[i];
        }
    }
    int status = options->from_stdin ? read_key(key) : make_key(key);
    if (status == AIP_EXIT_OK) {
        if (!options->from_stdin) {
            puts(key);
        }
        puts(aip_apikey_line(options->words[0], groups, key, pool));
    }
    OPENSSL_cleanse(key, sizeof key);
    return status;
}
