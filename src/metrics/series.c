/* SPDX-License-Identifier: Apache-2.0 */
/* Series: which of a target's few books an answer belongs to, claimed without a lock by any thread
 * of any child; and the words of labels, all of bounded sets. Model names come from clients and
 * upstreams: whatever they say, a target has at most AIP_SERIES of them. */
#include "aip/metrics.h"

#include "aip/http1.h"
#include "aip/json_out.h"

#include <apr_lib.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

enum { FREE, CLAIMED, USED };

/* Claiming takes as long as three short copies; who died in the middle of it never ends. */
#define PATIENCE 64

size_t aip_utf8_length(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n = s[0] < 0x80   ? 1
               : s[0] < 0xc2 ? 0
               : s[0] < 0xe0 ? 2
               : s[0] < 0xf0 ? 3
               : s[0] < 0xf5 ? 4
                             : 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool too_long = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool beyond = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return n > 1 && (too_long || beyond) ? 0 : n;
}

void aip_label_clean(char *out, size_t size, const char *text)
{
    text = text ? text : "";
    size_t len = strnlen(text, size);
    if (len < size && aip_text_plain((aip_span_t){text, len})) { /* most are */
        memcpy(out, text, len);
        out[len] = '\0';
        return;
    }
    len = 0;
    for (const char *p = text; *p;) {
        size_t n = aip_utf8_length(p);
        bool bad = n == 0 || (n == 1 && (apr_iscntrl(*p) || *p == '"' || *p == '\\'));
        n = n ? n : 1;
        if (len + n >= size) {
            break;
        }
        memcpy(out + len, p, n);
        out[len] = bad ? '_' : out[len];
        len += n;
        p += n;
    }
    out[len] = '\0';
}

static bool same(const aip_series_t *a, const aip_series_t *b)
{
    return strcmp(a->response_model, b->response_model) == 0 &&
           strcmp(a->error_type, b->error_type) == 0 &&
           strcmp(a->request_model, b->request_model) == 0;
}

/* Waits for a series that another one is claiming. @return whether it is in use */
static bool settled(aip_series_t *series)
{
    for (int i = 0; i < PATIENCE; i++) {
        if (atomic_load_explicit(&series->state, memory_order_acquire) == USED) {
            return true;
        }
        sched_yield();
    }
    return false;
}

static aip_series_t *others(aip_series_t *table)
{
    atomic_store_explicit(&table[AIP_SERIES - 1].state, USED, memory_order_release);
    return &table[AIP_SERIES - 1];
}

/* `key` has the texts alone. */
static bool take(aip_series_t *series, const aip_series_t *key)
{
    apr_uint32_t before = FREE;
    if (!atomic_compare_exchange_strong(&series->state, &before, CLAIMED)) {
        return false;
    }
    memcpy(series->request_model, key->request_model, sizeof key->request_model);
    memcpy(series->response_model, key->response_model, sizeof key->response_model);
    memcpy(series->error_type, key->error_type, sizeof key->error_type);
    atomic_store_explicit(&series->state, USED, memory_order_release);
    return true;
}

aip_series_t *aip_series_find(aip_series_t *table, const char *request_model,
                              const char *response_model, const char *error_type)
{
    aip_series_t key;
    aip_label_clean(key.request_model, sizeof key.request_model, request_model);
    aip_label_clean(key.response_model, sizeof key.response_model, response_model);
    aip_label_clean(key.error_type, sizeof key.error_type, error_type);
    if (strcmp(key.response_model, AIP_SERIES_OTHER) == 0) {
        return others(table); /* a model of that name must not look like it */
    }
    for (int i = 0; i < AIP_SERIES - 1; i++) {
        aip_series_t *series = &table[i];
        apr_uint32_t state = atomic_load_explicit(&series->state, memory_order_acquire);
        if (state == FREE && take(series, &key)) {
            return series;
        }
        if (state != USED && !settled(series)) {
            break;
        }
        if (same(series, &key)) {
            return series;
        }
    }
    return others(table);
}

bool aip_series_used(const aip_series_t *series)
{
    return atomic_load_explicit(&series->state, memory_order_acquire) == USED;
}

static const struct {
    int status;
    char text[4];
} codes[AIP_CODES - 1] = {
    {200, "200"}, {201, "201"}, {202, "202"}, {203, "203"}, {204, "204"}, {206, "206"},
    {301, "301"}, {302, "302"}, {303, "303"}, {304, "304"}, {307, "307"}, {308, "308"},
    {400, "400"}, {401, "401"}, {402, "402"}, {403, "403"}, {404, "404"}, {405, "405"},
    {406, "406"}, {407, "407"}, {408, "408"}, {409, "409"}, {410, "410"}, {411, "411"},
    {412, "412"}, {413, "413"}, {414, "414"}, {415, "415"}, {416, "416"}, {417, "417"},
    {421, "421"}, {422, "422"}, {423, "423"}, {424, "424"}, {425, "425"}, {426, "426"},
    {428, "428"}, {429, "429"}, {431, "431"}, {451, "451"}, {499, "499"}, {500, "500"},
    {501, "501"}, {502, "502"}, {503, "503"}, {504, "504"}, {505, "505"}, {507, "507"},
    {508, "508"}, {520, "520"}, {529, "529"},
};

int aip_code_index(int status)
{
    int i = 0;
    while (i < AIP_CODES - 1 && codes[i].status != status) {
        i++;
    }
    return i;
}

const char *aip_code_text(int index)
{
    return index < AIP_CODES - 1 ? codes[index].text : AIP_SERIES_OTHER;
}

static const struct {
    int status;
    const char *text;
} withheld[AIP_CAUSES - AIP_OUTCOMES] = {
    {403, "http_403"}, {404, "http_404"}, {429, "http_429"},  {500, "http_500"},  {502, "http_502"},
    {503, "http_503"}, {504, "http_504"}, {0, "error_event"}, {-1, "http_other"},
};

int aip_cause_index(int outcome, int status)
{
    int i = 0;
    if (outcome != AIP_OUTCOME_WITHHELD) {
        return outcome < AIP_OUTCOMES ? outcome : 0;
    }
    status = status < 400 ? 0 : status; /* the answer began well: its first event was an error */
    while (i < AIP_CAUSES - AIP_OUTCOMES - 1 && withheld[i].status != status) {
        i++;
    }
    return AIP_OUTCOMES + i;
}

const char *aip_cause_text(int index)
{
    return index >= AIP_OUTCOMES        ? withheld[index - AIP_OUTCOMES].text
           : index > AIP_OUTCOME_SECRET ? ""
                                        : aip_outcome_name((aip_outcome_e)index);
}
