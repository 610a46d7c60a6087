/* SPDX-License-Identifier: Apache-2.0 */
/* Fading values in one lock-free word: the upper half is a float32, the lower half the millisecond
 * of its last change, modulo 2^32 and never 0. Writers retry until nobody came between. */
#include "aip/decay.h"

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define AGE_MAX 0x7fffffffu         /* milliseconds, 24 days */
#define BACK_MAX (6u * 3600 * 1000) /* of the circle so much means that the clock went back */

static apr_uint32_t stamp(apr_time_t t)
{
    apr_uint32_t ms = (apr_uint32_t)(apr_uint64_t)apr_time_as_msec(t);
    return ms ? ms : 1;
}

static apr_uint64_t pack(double value, apr_uint32_t at)
{
    float f = (float)value;
    apr_uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (apr_uint64_t)bits << 32 | at;
}

static double value_of(apr_uint64_t word)
{
    apr_uint32_t bits = (apr_uint32_t)(word >> 32);
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static bool went_back(apr_uint64_t word, apr_time_t now)
{
    return stamp(now) - (apr_uint32_t)word > UINT32_MAX - BACK_MAX;
}

static apr_interval_time_t age_of(apr_uint64_t word, apr_time_t now)
{
    apr_uint32_t age = stamp(now) - (apr_uint32_t)word;
    age = went_back(word, now) ? 0 : age > AGE_MAX ? AGE_MAX : age;
    return apr_time_from_msec((apr_interval_time_t)age);
}

static double faded(apr_uint64_t word, apr_time_t now, apr_interval_time_t window)
{
    apr_interval_time_t age = word ? age_of(word, now) : 0;
    double value = word ? value_of(word) : 0;
    return age ? value * exp(-(double)age / (double)window) : value;
}

/* A clock that went back must not make the word look older than it was. */
static apr_uint32_t later_stamp(apr_uint64_t word, apr_time_t now)
{
    return word && went_back(word, now) ? (apr_uint32_t)word : stamp(now);
}

double aip_decay_read(const aip_decay_t *decay, apr_time_t now, apr_interval_time_t window)
{
    return faded(atomic_load(decay), now, window);
}

double aip_decay_last(const aip_decay_t *decay)
{
    apr_uint64_t word = atomic_load(decay);
    return word ? value_of(word) : -1;
}

apr_interval_time_t aip_decay_age(const aip_decay_t *decay, apr_time_t now)
{
    apr_uint64_t word = atomic_load(decay);
    return word ? age_of(word, now) : APR_INT64_MAX;
}

void aip_decay_add(aip_decay_t *decay, double amount, apr_time_t now, apr_interval_time_t window)
{
    apr_uint64_t old = atomic_load(decay), new;
    do {
        new = pack(faded(old, now, window) + amount, later_stamp(old, now));
    } while (!atomic_compare_exchange_weak(decay, &old, new));
}

void aip_decay_sample(aip_decay_t *decay, double sample, apr_time_t now, apr_interval_time_t window)
{
    apr_uint64_t old = atomic_load(decay), new;
    do {
        double average = sample;
        if (old && sample < value_of(old)) {
            double keep = exp(-(double)age_of(old, now) / (double)window);
            average = value_of(old) * keep + sample * (1 - keep);
        }
        new = pack(average, later_stamp(old, now));
    } while (!atomic_compare_exchange_weak(decay, &old, new));
}

void aip_decay_put(aip_decay_t *decay, double value, apr_time_t at)
{
    atomic_store(decay, pack(value, stamp(at)));
}
