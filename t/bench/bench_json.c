/* SPDX-License-Identifier: Apache-2.0 */
/* Microseconds that a chat costs in the core: aip_chat_parse() + aip_chat_build() as for a target
 * that sets the model, a temperature and the renamed max_tokens. Documents are made here: a first
 * question, a conversation, a long one and one of 1 MiB, plus one that holds hardly any ASCII.
 * Prints the median of several rounds, one line per document. */

#include "aip/chat.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 15

typedef struct document_t {
    const char *name;
    size_t bytes;
    const char *sentence;
} document_t;

static const char ascii[] =
    "The gateway keeps a connection open, reads \\\"what it must\\\" and passes the rest on.\\n";
static const char greek[] =
    "\xce\x97 \xcf\x80\xcf\x8d\xce\xbb\xce\xb7 \xce\xb4\xce\xb9\xce\xb1\xce\xb2\xce\xac\xce\xb6"
    "\xce\xb5\xce\xb9 \xcf\x8c,\xcf\x84\xce\xb9 \xcf\x80\xcf\x81\xce\xad\xcf\x80\xce\xb5\xce\xb9. ";

static const document_t documents[] = {
    {"310 B", 310, ascii},
    {"2.3 KB", 2300, ascii},
    {"33 KB", 33000, ascii},
    {"1 MiB", 1 << 20, ascii},
    {"33 KB, not ASCII", 33000, greek},
};

/* Messages of some 500 bytes until the size is reached. */
static aip_span_t make_chat(const document_t *document, apr_pool_t *pool)
{
    static const char head[] =
        "{\"model\":\"small\",\"stream\":false,\"max_tokens\":256,\"messages\":[";
    char *text = apr_palloc(pool, document->bytes + 2048);
    const size_t sentence = strlen(document->sentence);
    size_t n = sizeof(head) - 1;
    int count = 0;

    memcpy(text, head, n);
    do {
        size_t start;

        n += (size_t)snprintf(text + n, 64, "%s{\"role\":\"%s\",\"content\":\"", count ? "," : "",
                              count % 2 ? "assistant" : "user");
        start = n;
        while (n - start < 500 && n + sentence + 3 < document->bytes) {
            memcpy(text + n, document->sentence, sentence);
            n += sentence;
        }
        if (n - start < 500 && n + 4 < document->bytes) { /* the last one: to the byte */
            memset(text + n, '.', document->bytes - 4 - n);
            n = document->bytes - 4;
        }
        memcpy(text + n, "\"}", 2);
        n += 2;
        count++;
    } while (n + 200 < document->bytes);
    memcpy(text + n, "]}", 2);
    return (aip_span_t){text, n + 2};
}

static void work(aip_span_t body, apr_pool_t *pool)
{
    static const aip_chat_options_t options = {
        .model = "gpt-5-mini",
        .max_tokens = {"512", 3},
        .temperature = {"0.2", 3},
    };
    aip_chat_t chat;
    aip_error_t err;
    aip_span_t out;

    if (aip_chat_parse(&chat, body, NULL, 0, pool, &err) != APR_SUCCESS) {
        fprintf(stderr, "bench_json: %s\n", err.message);
        exit(1);
    }
    out = aip_chat_build(&chat, &options, pool);
    if (out.len <= body.len) {
        fprintf(stderr, "bench_json: nothing was spliced\n");
        exit(1);
    }
}

/* CPU time: other work on the machine does not count. */
static double cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(void)
{
    apr_pool_t *pool, *scratch;
    size_t i;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    apr_pool_create(&scratch, pool);
    for (i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        const aip_span_t body = make_chat(&documents[i], pool);
        const int repeat = (int)(40000000 / (body.len + 1000)) + 1;
        double us[ROUNDS];
        int round, j;

        for (round = 0; round < ROUNDS; round++) {
            const double start = cpu_us();

            for (j = 0; j < repeat; j++) {
                work(body, scratch);
                apr_pool_clear(scratch);
            }
            us[round] = (cpu_us() - start) / repeat;
        }
        qsort(us, ROUNDS, sizeof(us[0]), by_value);
        printf("parse and build %-18s %8" APR_SIZE_T_FMT " bytes  %9.3f us\n", documents[i].name,
               body.len, us[ROUNDS / 2]);
    }
    apr_terminate();
    return 0;
}
