/* SPDX-License-Identifier: Apache-2.0 */
/* The exchange of figures between machines. Runs in a background thread, never on a request's path.
 * What Redis holds is hostile: figures that are not as they should be are left out. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* uselocale */
#endif

#include "aip/share.h"

#include "../net/redis_pool.h"
#include "aip/json.h"

#include <apr_strings.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "ai_proxy_adv:balance:"
#define BATCH 100  /* targets in one round trip */
#define SWEEP 64   /* fields of one target removed at once */
#define COMMANDS 3 /* for each target */
#define TEXT_MAX 400
#define AHEAD_MAX apr_time_from_sec(60)           /* clocks that are not quite right */
#define AHEAD_ABSURD apr_time_from_sec(24 * 3600) /* no clock at all */
#define WINDOWS_KEPT 10                           /* after so many a machine has faded away */
#define NUMBER_MAX 1e15
#define LATENCY_MAX 86400e6 /* microseconds */
#define USAGE_LEAST 1e-6    /* answers; fewer have faded away */
#define WEIGHT_LEAST 1e-9   /* of a latency: after 207 s */

struct aip_share_t {
    aip_redis_pool_t *redis;
    const char *machine;
    const aip_shared_target_t *targets;
    int n;
};

aip_share_t *aip_share_create(const aip_redis_conf_t *redis, const char *machine,
                              const aip_shared_target_t *targets, int n, apr_pool_t *pool)
{
    aip_share_t *share = apr_pcalloc(pool, sizeof *share);
    *share = (aip_share_t){
        .redis = aip_redis_pool_create(redis, pool),
        .machine = apr_pstrdup(pool, machine),
        .targets = apr_pmemdup(pool, targets, (apr_size_t)n * sizeof *targets),
        .n = n,
    };
    return share;
}

/* ---- Figures and their text ---- */

static double freshness(apr_interval_time_t age)
{
    return exp(-(double)age / (double)AIP_LATENCY_WINDOW);
}

bool aip_figures_of(const aip_target_state_t *state, apr_interval_time_t window, apr_time_t now,
                    aip_figures_t *figures)
{
    bool any = false;
    figures->at = apr_time_from_msec(apr_time_as_msec(now));
    figures->answers = aip_decay_read(&state->answered, now, window);
    for (int i = 0; i < AIP_USAGE_KINDS; i++) {
        figures->usage[i] = aip_decay_read(&state->usage[i], now, window);
    }
    for (int i = 0; i < AIP_LATENCY_KINDS; i++) {
        figures->latency[i] = aip_decay_last(&state->latency[i]);
        figures->latency_age[i] =
            figures->latency[i] < 0 ? 0 : aip_decay_age(&state->latency[i], now);
        any =
            any || (figures->latency[i] >= 0 && freshness(figures->latency_age[i]) > WEIGHT_LEAST);
    }
    return any || figures->answers > USAGE_LEAST;
}

static locale_t c_locale;

static void c_locale_make(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static const char *latency_text(const aip_figures_t *f, int kind, apr_pool_t *pool)
{
    char text[TEXT_MAX];
    if (f->latency[kind] < 0) {
        return "- -";
    }
    snprintf(text, sizeof text, "%.9g %lld", f->latency[kind],
             (long long)apr_time_as_msec(f->latency_age[kind]));
    return apr_pstrdup(pool, text);
}

/* By the C library: apr_psprintf() spells numbers in a way of its own (".5", "1.e+6"). Another
 * module may have set a locale with a decimal comma. */
const char *aip_figures_text(const aip_figures_t *f, apr_pool_t *pool)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char text[TEXT_MAX];
    pthread_once(&once, c_locale_make);
    locale_t before = uselocale(c_locale);
    snprintf(text, sizeof text, "1 %lld %.9g %.9g %.9g %.9g %.9g %s %s",
             (long long)apr_time_as_msec(f->at), f->usage[AIP_USAGE_TOTAL],
             f->usage[AIP_USAGE_PROMPT], f->usage[AIP_USAGE_COMPLETION], f->usage[AIP_USAGE_COST],
             f->answers, latency_text(f, AIP_LATENCY_TPOT, pool),
             latency_text(f, AIP_LATENCY_E2E, pool));
    uselocale(before);
    return apr_pstrdup(pool, text);
}

static size_t digits(aip_span_t word, size_t at)
{
    size_t i = at;
    while (i < word.len && word.data[i] >= '0' && word.data[i] <= '9') {
        i++;
    }
    return i - at;
}

/* As JSON has it, without a sign: no hex, no "inf", no "nan", nothing that depends on a locale. */
static bool is_number(aip_span_t word)
{
    size_t n = digits(word, 0), i = n;
    if (n == 0 || (n > 1 && word.data[0] == '0')) {
        return false;
    }
    if (i < word.len && word.data[i] == '.') {
        n = digits(word, i + 1);
        i += 1 + n;
    }
    if (n > 0 && i < word.len && word.data[i] == 'e') {
        i++;
        i += i < word.len && (word.data[i] == '+' || word.data[i] == '-');
        n = digits(word, i);
        i += n;
    }
    return n > 0 && i == word.len;
}

/* Up to the next space or the end. After the last word, rest->data is NULL. */
static aip_span_t take_word(aip_span_t *rest)
{
    const char *space = rest->len ? memchr(rest->data, ' ', rest->len) : NULL;
    aip_span_t word = {rest->data, space ? (size_t)(space - rest->data) : rest->len};
    *rest = space ? (aip_span_t){space + 1, rest->len - word.len - 1} : (aip_span_t){NULL, 0};
    return word;
}

static bool to_number(aip_span_t word, double most, double *number)
{
    return is_number(word) && aip_json_double(word, number) && *number <= most;
}

static bool take_number(aip_span_t *rest, double most, double *number)
{
    return to_number(take_word(rest), most, number);
}

/* Version and time, with which all versions begin. */
static bool take_start(aip_span_t *rest, double *version, apr_time_t *at)
{
    double ms;
    if (!take_number(rest, NUMBER_MAX, version) || !take_number(rest, NUMBER_MAX, &ms)) {
        return false;
    }
    *at = apr_time_from_msec((apr_int64_t)ms);
    return rest->data != NULL;
}

static bool take_latency(aip_span_t *rest, double *latency, apr_interval_time_t *age)
{
    aip_span_t first = take_word(rest), second = take_word(rest);
    double ms;
    if (first.len == 1 && first.data[0] == '-' && second.len == 1 && second.data[0] == '-') {
        *latency = -1;
        *age = 0;
        return true;
    }
    if (!to_number(first, LATENCY_MAX, latency) || !to_number(second, NUMBER_MAX, &ms)) {
        return false;
    }
    *age = apr_time_from_msec((apr_int64_t)ms);
    return true;
}

bool aip_figures_read(aip_span_t text, apr_time_t now, aip_figures_t *f)
{
    double version;
    bool good = text.len < TEXT_MAX && take_start(&text, &version, &f->at) && version == 1 &&
                f->at <= now + AHEAD_MAX;
    for (int i = 0; good && i < AIP_USAGE_KINDS; i++) {
        good = take_number(&text, NUMBER_MAX, &f->usage[i]);
    }
    good = good && take_number(&text, NUMBER_MAX, &f->answers);
    for (int i = 0; good && i < AIP_LATENCY_KINDS; i++) {
        good = take_latency(&text, &f->latency[i], &f->latency_age[i]);
    }
    return good && !text.data;
}

/* ---- What is asked of Redis ---- */

static void set_command(aip_redis_command_t *command, apr_pool_t *pool, int argc,
                        const char *const *argv)
{
    size_t *lens = apr_palloc(pool, (apr_size_t)argc * sizeof *lens);
    for (int i = 0; i < argc; i++) {
        lens[i] = strlen(argv[i]);
    }
    command->argc = argc;
    command->argv = apr_pmemdup(pool, argv, (apr_size_t)argc * sizeof *argv);
    command->lens = lens;
}

static const char *key_of(const aip_shared_target_t *target, apr_pool_t *pool)
{
    return apr_pstrcat(pool, PREFIX, target->id, NULL);
}

static apr_interval_time_t kept(const aip_shared_target_t *target)
{
    return WINDOWS_KEPT * target->window + AHEAD_MAX;
}

/* HGETALL, after HSET and PEXPIRE when there is something to tell. @return how many */
static int make_commands(const aip_share_t *share, const aip_shared_target_t *target,
                         apr_time_t now, aip_redis_command_t *commands, apr_pool_t *pool)
{
    aip_figures_t figures;
    const char *key = key_of(target, pool);
    int n = 0;
    if (aip_figures_of(target->state, target->window, now, &figures)) {
        const char *set[] = {"HSET", key, share->machine, aip_figures_text(&figures, pool)};
        const char *expire[] = {
            "PEXPIRE", key,
            apr_psprintf(pool, "%" APR_INT64_T_FMT, apr_time_as_msec(kept(target)))};
        set_command(&commands[n++], pool, 4, set);
        set_command(&commands[n++], pool, 3, expire);
    }
    const char *get[] = {"HGETALL", key};
    set_command(&commands[n++], pool, 2, get);
    return n;
}

/* Of a machine that has faded away, or nothing that a machine wrote. Figures of a clock that is
 * merely ahead are left to grow old: their machine is alive and would write them again. */
static bool is_left_over(aip_span_t text, const aip_shared_target_t *target, apr_time_t now)
{
    double version;
    apr_time_t at;
    return !take_start(&text, &version, &at) || at > now + AHEAD_ABSURD || now - at > kept(target);
}

static aip_span_t span_of(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? (aip_span_t){reply->str, (size_t)reply->len}
                                             : (aip_span_t){NULL, 0};
}

/* HDEL of what is left over, by explicit lengths: a name may hold any bytes. @return whether there
 * is any */
static bool make_sweep(const aip_shared_target_t *target, const redisReply *all, apr_time_t now,
                       aip_redis_command_t *command, apr_pool_t *pool)
{
    const char *argv[2 + SWEEP] = {"HDEL", key_of(target, pool)};
    size_t lens[2 + SWEEP] = {strlen(argv[0]), strlen(argv[1])};
    int argc = 2;
    for (size_t i = 0; i + 1 < all->elements && argc < 2 + SWEEP; i += 2) {
        aip_span_t name = span_of(all->element[i]), value = span_of(all->element[i + 1]);
        if (name.data && value.data && is_left_over(value, target, now)) {
            argv[argc] = name.data;
            lens[argc++] = name.len;
        }
    }
    command->argc = argc;
    command->argv = apr_pmemdup(pool, argv, (apr_size_t)argc * sizeof *argv);
    command->lens = apr_pmemdup(pool, lens, (apr_size_t)argc * sizeof *lens);
    return argc > 2;
}

/* ---- What it answers ---- */

typedef struct sum_t {
    double usage[AIP_USAGE_KINDS];
    double latency[AIP_LATENCY_KINDS], weight[AIP_LATENCY_KINDS];
    apr_interval_time_t youngest[AIP_LATENCY_KINDS];
} sum_t;

static void add(sum_t *sum, const aip_figures_t *f, apr_interval_time_t window, apr_time_t now)
{
    apr_interval_time_t age = now > f->at ? now - f->at : 0;
    for (int i = 0; i < AIP_USAGE_KINDS; i++) {
        sum->usage[i] += f->usage[i] * exp(-(double)age / (double)window);
    }
    for (int i = 0; i < AIP_LATENCY_KINDS; i++) {
        apr_interval_time_t measured = f->latency_age[i] + age;
        double weight = freshness(measured);
        if (f->latency[i] >= 0 && weight > WEIGHT_LEAST) {
            bool younger = sum->weight[i] <= 0 || measured < sum->youngest[i];
            sum->youngest[i] = younger ? measured : sum->youngest[i];
            sum->latency[i] += f->latency[i] * weight;
            sum->weight[i] += weight;
        }
    }
}

static void take_in(const aip_share_t *share, const aip_shared_target_t *target,
                    const redisReply *all, apr_time_t now)
{
    const size_t own = strlen(share->machine);
    sum_t sum = {0};
    for (size_t i = 0; i + 1 < all->elements; i += 2) {
        aip_span_t name = span_of(all->element[i]), value = span_of(all->element[i + 1]);
        bool ours = name.len == own && memcmp(name.data, share->machine, own) == 0;
        aip_figures_t figures;
        if (!ours && aip_figures_read(value, now, &figures)) {
            add(&sum, &figures, target->window, now);
        }
    }
    for (int i = 0; i < AIP_USAGE_KINDS; i++) {
        aip_decay_put(&target->state->other_usage[i], sum.usage[i], now);
    }
    for (int i = 0; i < AIP_LATENCY_KINDS; i++) {
        if (sum.weight[i] > 0) {
            aip_decay_put(&target->state->other_latency[i], sum.latency[i] / sum.weight[i],
                          now - sum.youngest[i]);
        }
    }
}

/* The first reply that is not of its type fills `err`; the others were good for something. */
static apr_status_t check(redisReply *const *replies, const aip_redis_command_t *commands, int n,
                          apr_pool_t *pool, aip_error_t *err)
{
    for (int i = 0; i < n; i++) {
        int type = i == n - 1 ? REDIS_REPLY_ARRAY : REDIS_REPLY_INTEGER;
        if (replies[i]->type != type) {
            return aip_redis_refused(replies[i], commands[i].argv[0], pool, err);
        }
    }
    return APR_SUCCESS;
}

/* @param refused  in and out: the first refusal so far, in `err`. @return whether Redis answered */
static apr_status_t exchange_batch(const aip_share_t *share, const aip_shared_target_t *targets,
                                   int n, apr_time_t now, apr_status_t *refused, apr_pool_t *pool,
                                   aip_error_t *err)
{
    const apr_size_t most = COMMANDS * (apr_size_t)n;
    aip_redis_command_t *commands = apr_pcalloc(pool, most * sizeof *commands);
    aip_redis_command_t *sweeps = apr_pcalloc(pool, (apr_size_t)n * sizeof *sweeps);
    redisReply **replies = apr_pcalloc(pool, most * sizeof(redisReply *));
    int first[BATCH + 1] = {0}, n_sweeps = 0;
    for (int i = 0; i < n; i++) {
        first[i + 1] = first[i] + make_commands(share, &targets[i], now, &commands[first[i]], pool);
    }
    apr_status_t rv = aip_redis_run(share->redis, commands, first[n], replies, pool, err);
    for (int i = 0; rv == APR_SUCCESS && i < n; i++) {
        const redisReply *all = replies[first[i + 1] - 1];
        if (all->type == REDIS_REPLY_ARRAY) {
            take_in(share, &targets[i], all, now);
            n_sweeps += make_sweep(&targets[i], all, now, &sweeps[n_sweeps], pool);
        }
        if (*refused == APR_SUCCESS) {
            *refused =
                check(&replies[first[i]], &commands[first[i]], first[i + 1] - first[i], pool, err);
        }
    }
    if (rv == APR_SUCCESS && n_sweeps > 0) {
        /* A refusal costs nothing: what is left over is not counted, and the key expires. */
        rv = aip_redis_run(share->redis, sweeps, n_sweeps, replies, pool, err);
    }
    return rv;
}

apr_status_t aip_share_exchange(aip_share_t *share, apr_time_t now, apr_pool_t *pool,
                                aip_error_t *err)
{
    apr_status_t rv = APR_SUCCESS, refused = APR_SUCCESS;
    for (int i = 0; rv == APR_SUCCESS && i < share->n; i += BATCH) {
        int n = share->n - i < BATCH ? share->n - i : BATCH;
        rv = exchange_batch(share, share->targets + i, n, now, &refused, pool, err);
    }
    return rv == APR_SUCCESS ? refused : rv;
}
