/* SPDX-License-Identifier: Apache-2.0 */
/* The exchange of figures between machines. Runs in a background thread, never on a request's path.
 * What Redis holds is hostile: figures that are not as they should be are left out. */
#include "aip/share.h"

#include "../net/redis_pool.h"

#include <apr_strings.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "ai_proxy_adv:balance:"
#define BATCH 100 /* targets in one round trip */
#define NUMBERS (2 + AIP_USAGE_KINDS + 1 + 2 * AIP_LATENCY_KINDS)
#define TEXT_MAX 400
#define AHEAD_MAX apr_time_from_sec(60)
#define WINDOWS_KEPT 10 /* after so many windows a machine has faded away */
#define COMMANDS 3      /* for each target */

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
        any = any || figures->latency[i] >= 0;
    }
    return any || figures->answers > 0;
}

/* By the C library: apr_psprintf() spells numbers in a way of its own (".5", "1.e+6"). */
const char *aip_figures_text(const aip_figures_t *f, apr_pool_t *pool)
{
    char text[TEXT_MAX];
    snprintf(
        text, sizeof text, "1 %lld %.9g %.9g %.9g %.9g %.9g %.9g %lld %.9g %lld",
        (long long)apr_time_as_msec(f->at), f->usage[AIP_USAGE_TOTAL], f->usage[AIP_USAGE_PROMPT],
        f->usage[AIP_USAGE_COMPLETION], f->usage[AIP_USAGE_COST], f->answers,
        f->latency[AIP_LATENCY_TPOT], (long long)apr_time_as_msec(f->latency_age[AIP_LATENCY_TPOT]),
        f->latency[AIP_LATENCY_E2E], (long long)apr_time_as_msec(f->latency_age[AIP_LATENCY_E2E]));
    return apr_pstrdup(pool, text);
}

/* Exactly NUMBERS finite numbers between single spaces. */
static bool read_numbers(const char *text, double *numbers)
{
    for (int i = 0; i < NUMBERS; i++) {
        char *end;
        if (!strchr("-0123456789", *text) || !*text) {
            return false;
        }
        numbers[i] = strtod(text, &end);
        if (end == text || *end != (i + 1 < NUMBERS ? ' ' : '\0') || !isfinite(numbers[i]) ||
            fabs(numbers[i]) > 1e15) {
            return false;
        }
        text = end + 1;
    }
    return true;
}

bool aip_figures_read(aip_span_t text, apr_time_t now, aip_figures_t *f)
{
    char copy[TEXT_MAX];
    double numbers[NUMBERS], *next = numbers + 2;
    if (text.len >= sizeof copy || memchr(text.data, '\0', text.len)) {
        return false;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (!read_numbers(copy, numbers) || fabs(numbers[0] - 1) > 0.1 || numbers[1] < 0) {
        return false;
    }
    f->at = apr_time_from_msec((apr_int64_t)numbers[1]);
    for (int i = 0; i < AIP_USAGE_KINDS; i++) {
        f->usage[i] = *next++;
    }
    f->answers = *next++;
    bool good = f->at <= now + AHEAD_MAX && f->answers >= 0;
    for (int i = 0; i < AIP_LATENCY_KINDS; i++) {
        f->latency[i] = *next++;
        good = good && *next >= 0;
        f->latency_age[i] = apr_time_from_msec((apr_int64_t)*next++);
    }
    for (int i = 0; i < AIP_USAGE_KINDS; i++) {
        good = good && f->usage[i] >= 0;
    }
    return good;
}

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

/* Three commands for each target, whether it has something to tell or not, so that replies are
 * found by their place. */
static void make_commands(const aip_share_t *share, const aip_shared_target_t *targets, int n,
                          apr_time_t now, aip_redis_command_t *commands, apr_pool_t *pool)
{
    for (int i = 0; i < n; i++, commands += COMMANDS) {
        aip_figures_t figures;
        const char *key = apr_pstrcat(pool, PREFIX, targets[i].id, NULL);
        bool any = aip_figures_of(targets[i].state, targets[i].window, now, &figures);
        const char *keep = apr_psprintf(pool, "%" APR_INT64_T_FMT,
                                        WINDOWS_KEPT * apr_time_as_msec(targets[i].window) + 60000);
        const char *set[] = {"HSET", key, share->machine, aip_figures_text(&figures, pool)};
        const char *clear[] = {"HDEL", key, share->machine};
        const char *expire[] = {"PEXPIRE", key, keep};
        const char *get[] = {"HGETALL", key};
        set_command(&commands[0], pool, any ? 4 : 3, any ? set : clear);
        set_command(&commands[1], pool, 3, expire);
        set_command(&commands[2], pool, 2, get);
    }
}

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
        double weight = exp(-(double)measured / (double)AIP_LATENCY_WINDOW);
        if (f->latency[i] >= 0 && weight > 1e-9) {
            bool younger = sum->weight[i] <= 0 || measured < sum->youngest[i];
            sum->youngest[i] = younger ? measured : sum->youngest[i];
            sum->latency[i] += f->latency[i] * weight;
            sum->weight[i] += weight;
        }
    }
}

static void take_in(const aip_share_t *share, const aip_shared_target_t *target,
                    const redisReply *reply, apr_time_t now)
{
    sum_t sum = {0};
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const redisReply *name = reply->element[i], *value = reply->element[i + 1];
        aip_figures_t figures;
        if (name->type == REDIS_REPLY_STRING && value->type == REDIS_REPLY_STRING &&
            strcmp(name->str, share->machine) != 0 &&
            aip_figures_read((aip_span_t){value->str, (size_t)value->len}, now, &figures)) {
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

/* Fields of machines that have faded away, and those that are no figures. */
static void sweep(const aip_share_t *share, const aip_shared_target_t *target,
                  const redisReply *reply, apr_time_t now, apr_pool_t *pool)
{
    const char *argv[2 + 64] = {"HDEL", apr_pstrcat(pool, PREFIX, target->id, NULL)};
    int argc = 2;
    for (size_t i = 0; i + 1 < reply->elements && argc < 2 + 64; i += 2) {
        const redisReply *name = reply->element[i], *value = reply->element[i + 1];
        aip_figures_t f;
        if (name->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING) {
            continue;
        }
        bool good = aip_figures_read((aip_span_t){value->str, (size_t)value->len}, now, &f);
        if (!good || now - f.at > WINDOWS_KEPT * target->window + AHEAD_MAX) {
            argv[argc++] = name->str;
        }
    }
    if (argc > 2) {
        aip_redis_command_t command;
        redisReply *answer;
        aip_error_t ignored;
        set_command(&command, pool, argc, argv);
        (void)aip_redis_run(share->redis, &command, 1, &answer, pool, &ignored);
    }
}

static apr_status_t exchange_batch(const aip_share_t *share, const aip_shared_target_t *targets,
                                   int n, apr_time_t now, apr_pool_t *pool, aip_error_t *err)
{
    aip_redis_command_t *commands = apr_palloc(pool, (apr_size_t)(COMMANDS * n) * sizeof *commands);
    redisReply **replies = apr_pcalloc(pool, (apr_size_t)(COMMANDS * n) * sizeof(redisReply *));
    make_commands(share, targets, n, now, commands, pool);
    apr_status_t rv = aip_redis_run(share->redis, commands, COMMANDS * n, replies, pool, err);
    for (int i = 0; rv == APR_SUCCESS && i < n; i++) {
        const redisReply *stored = replies[COMMANDS * i], *all = replies[COMMANDS * i + 2];
        if (stored->type != REDIS_REPLY_INTEGER) {
            return aip_redis_refused(stored, "HSET", pool, err);
        }
        if (all->type != REDIS_REPLY_ARRAY) {
            return aip_redis_refused(all, "HGETALL", pool, err);
        }
        take_in(share, &targets[i], all, now);
        sweep(share, &targets[i], all, now, pool);
    }
    return rv;
}

apr_status_t aip_share_exchange(aip_share_t *share, apr_time_t now, apr_pool_t *pool,
                                aip_error_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    for (int i = 0; rv == APR_SUCCESS && i < share->n; i += BATCH) {
        int n = share->n - i < BATCH ? share->n - i : BATCH;
        rv = exchange_batch(share, share->targets + i, n, now, pool, err);
    }
    return rv;
}
