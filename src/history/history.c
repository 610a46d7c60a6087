/* SPDX-License-Identifier: Apache-2.0 */
/* The books of the recent past. Written by the thread that closes a request's account, read by the
 * status page, both in any child. A minute's bucket is emptied by whoever comes first in its new
 * minute; the others wait for a moment, and add in any case: a child that was killed while it
 * emptied one must not keep anybody. */
#include "aip/history.h"

#include <stdatomic.h>
#include <string.h>

#define LOOKS 1000

_Static_assert(sizeof(aip_decided_t) <= AIP_RECORD_WORDS * sizeof(apr_uint64_t), "fits a record");
_Static_assert(sizeof(aip_fault_t) <= AIP_RECORD_WORDS * sizeof(apr_uint64_t), "fits a record");

/* FNV-1a. */
apr_uint64_t aip_history_digest(const char *name)
{
    apr_uint64_t hash = 14695981039346656037u;
    if (!name) {
        return 0;
    }
    for (const char *p = name; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    }
    return hash ? hash : 1;
}

static apr_uint64_t minute_of(apr_time_t now)
{
    return (apr_uint64_t)(now > 0 ? now : 0) / (60 * APR_USEC_PER_SEC);
}

/* ---- minutes ---- */

/* The bucket of a minute, empty if nothing was added in it. A clock that was set back empties, too.
 */
static aip_minute_t *bucket_of(aip_minute_t *minutes, apr_uint64_t minute)
{
    aip_minute_t *bucket = &minutes[minute % AIP_HISTORY_MINUTES];
    apr_uint64_t stamp = atomic_load(&bucket->stamp);
    if (stamp >> 1 != minute &&
        atomic_compare_exchange_strong(&bucket->stamp, &stamp, minute << 1 | 1)) {
        for (int i = 0; i < AIP_FIGURES; i++) {
            atomic_store(&bucket->figures[i], 0);
        }
        atomic_store(&bucket->stamp, minute << 1);
    }
    for (int i = 0; i < LOOKS && (atomic_load(&bucket->stamp) & 1); i++) {
    }
    return bucket;
}

void aip_history_add(aip_minute_t *minutes, const aip_figures_row_t *row, apr_time_t now)
{
    aip_minute_t *bucket = bucket_of(minutes, minute_of(now));
    for (int i = 0; i < AIP_FIGURES; i++) {
        if (row->figures[i]) {
            atomic_fetch_add(&bucket->figures[i], row->figures[i]);
        }
    }
}

void aip_history_read(const aip_minute_t *minutes, apr_time_t now,
                      aip_figures_row_t rows[AIP_HISTORY_MINUTES])
{
    apr_uint64_t last = minute_of(now);
    memset(rows, 0, AIP_HISTORY_MINUTES * sizeof *rows);
    for (apr_uint64_t back = 0; back < AIP_HISTORY_MINUTES && back <= last; back++) {
        const aip_minute_t *bucket = &minutes[(last - back) % AIP_HISTORY_MINUTES];
        aip_figures_row_t *row = &rows[AIP_HISTORY_MINUTES - 1 - back];
        for (int i = 0; atomic_load(&bucket->stamp) >> 1 == last - back && i < AIP_FIGURES; i++) {
            row->figures[i] = atomic_load(&bucket->figures[i]);
        }
    }
}

void aip_history_sum(const aip_figures_row_t rows[AIP_HISTORY_MINUTES], aip_figures_row_t *sum)
{
    memset(sum, 0, sizeof *sum);
    for (int m = 0; m < AIP_HISTORY_MINUTES; m++) {
        for (int i = 0; i < AIP_FIGURES; i++) {
            sum->figures[i] += rows[m].figures[i];
        }
    }
}

/* ---- rings ---- */

/* A writer that was held up may write on while the ring has come round to its entry again. */
static apr_uint64_t check_of(apr_uint64_t ticket, const apr_uint64_t words[AIP_RECORD_WORDS])
{
    apr_uint64_t hash = ticket;
    for (int i = 0; i < AIP_RECORD_WORDS; i++) {
        hash = (hash ^ words[i]) * 1099511628211u;
        hash ^= hash >> 32;
    }
    return hash;
}

/* In this order for all who look; a total order with other memory, which costs a locked instruction
 * for each word, is not needed. */
static void write_word(_Atomic(apr_uint64_t) *word, apr_uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

static apr_uint64_t read_word(const _Atomic(apr_uint64_t) *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static void put(aip_record_t *ring, int n, _Atomic(apr_uint64_t) *next, const void *data,
                size_t size)
{
    apr_uint64_t ticket = atomic_fetch_add(next, 1) + 1, words[AIP_RECORD_WORDS] = {0};
    aip_record_t *record = &ring[(ticket - 1) % (apr_uint64_t)n];
    memcpy(words, data, size);
    write_word(&record->ticket, 0);
    write_word(&record->check, check_of(ticket, words));
    for (int i = 0; i < AIP_RECORD_WORDS; i++) {
        write_word(&record->words[i], words[i]);
    }
    write_word(&record->ticket, ticket);
}

/* @return false: it is being written, or was overtaken, or two have written in it */
static bool get(const aip_record_t *record, apr_uint64_t ticket, void *data, size_t size)
{
    apr_uint64_t words[AIP_RECORD_WORDS];
    if (read_word(&record->ticket) != ticket) {
        return false;
    }
    for (int i = 0; i < AIP_RECORD_WORDS; i++) {
        words[i] = read_word(&record->words[i]);
    }
    memcpy(data, words, size);
    return read_word(&record->check) == check_of(ticket, words) &&
           read_word(&record->ticket) == ticket;
}

/* Newest first. */
static int list(const aip_record_t *ring, int n, const _Atomic(apr_uint64_t) *next, void *out,
                size_t size)
{
    apr_uint64_t ticket = atomic_load(next);
    int found = 0;
    for (int i = 0; i < n && ticket > 0; i++, ticket--) {
        if (get(&ring[(ticket - 1) % (apr_uint64_t)n], ticket, (char *)out + (size_t)found * size,
                size)) {
            found++;
        }
    }
    return found;
}

void aip_history_decided(aip_gateway_history_t *history, const aip_decided_t *decided)
{
    put(history->decisions, AIP_HISTORY_DECISIONS, &history->n_decisions, decided, sizeof *decided);
}

void aip_history_fault(aip_target_history_t *history, const aip_fault_t *fault)
{
    put(history->errors, AIP_HISTORY_ERRORS, &history->n_errors, fault, sizeof *fault);
}

int aip_history_decisions(const aip_gateway_history_t *history,
                          aip_decided_t out[AIP_HISTORY_DECISIONS])
{
    return list(history->decisions, AIP_HISTORY_DECISIONS, &history->n_decisions, out, sizeof *out);
}

int aip_history_faults(const aip_target_history_t *history, aip_fault_t out[AIP_HISTORY_ERRORS])
{
    int n = list(history->errors, AIP_HISTORY_ERRORS, &history->n_errors, out, sizeof *out);
    for (int i = 0; i < n; i++) {
        out[i].word[AIP_FAULT_WORD - 1] = '\0';
    }
    return n;
}
