/* SPDX-License-Identifier: Apache-2.0 */
/* AIBalancerShared redis: one thread in each child exchanges usage and latency of targets with
 * other machines. A shared word says when the next exchange is due; whoever moves it on does it, so
 * that one child at a time talks to Redis and none has to be chosen. Requests never wait for it. */
#include "background.h"

#include "aip/router.h"
#include "aip/share.h"
#include "aip/state.h"

#include <apr_strings.h>
#include <http_log.h>
#include <stdatomic.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define EVERY apr_time_from_sec(1)
#define AWAY apr_time_from_sec(5) /* until a Redis that did not answer is asked again */
#define NAP apr_time_from_msec(250)

/* All targets that share one Redis. */
typedef struct group_t {
    int number;
    const aip_location_fields_t *f;
    server_rec *server;
    apr_array_header_t *targets; /* aip_shared_target_t */
    aip_share_t *share;
    struct group_t *next;
} group_t;

static struct {
    apr_pool_t *pool;
    group_t *first;
} exchange;

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_redis(const aip_location_fields_t *a, const aip_location_fields_t *b)
{
    return same(a->vectordb_redis_host, b->vectordb_redis_host) &&
           same(a->vectordb_redis_port, b->vectordb_redis_port) &&
           a->vectordb_redis_database == b->vectordb_redis_database &&
           same(a->vectordb_redis_username, b->vectordb_redis_username) &&
           same(a->vectordb_redis_password, b->vectordb_redis_password) &&
           a->vectordb_redis_ssl == b->vectordb_redis_ssl;
}

static group_t *group_of(const aip_gateway_t *gateway)
{
    const aip_location_fields_t *f = &gateway->conf->f;
    for (group_t *group = exchange.first; group; group = group->next) {
        if (same_redis(group->f, f)) {
            return group;
        }
    }
    group_t *group = apr_pcalloc(exchange.pool, sizeof *group);
    *group = (group_t){.number = exchange.first ? exchange.first->number + 1 : 0,
                       .f = f,
                       .server = gateway->server,
                       .targets = apr_array_make(exchange.pool, 8, sizeof(aip_shared_target_t)),
                       .next = exchange.first};
    exchange.first = group;
    return group;
}

static void add_targets(group_t *group, const aip_dir_conf_t *conf)
{
    for (int i = 0; i < conf->targets->n; i++) {
        const aip_target_t *target = conf->targets->list[i];
        bool known = false;
        for (int k = 0; k < group->targets->nelts; k++) {
            known = known ||
                    APR_ARRAY_IDX(group->targets, k, aip_shared_target_t).state == target->state;
        }
        if (!known) {
            aip_shared_target_t *shared = apr_array_push(group->targets);
            *shared =
                (aip_shared_target_t){.id = target->shared_id,
                                      .state = target->state,
                                      .window = apr_time_from_msec(conf->f.balancer_usage_window)};
        }
    }
}

/* Redis that is away is said once, and once that it is back, by whichever child sees it. */
static void tell(const group_t *group, bool up, const aip_error_t *err)
{
    apr_uint32_t now = up ? 1 : 2;
    apr_uint32_t before =
        atomic_exchange(&aip_shared_words()->redis_state[group->number % AIP_SHARED_REDISES], now);
    if (!up && before != now) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, group->server,
                     "AIP0106: usage and latency cannot be exchanged with other machines: %s; this "
                     "machine's own figures count",
                     err->message);
    } else if (up && before == 2) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, group->server,
                     "AIP0107: usage and latency are exchanged with other machines again");
    }
}

static bool exchange_all(apr_pool_t *pool)
{
    bool up = true;
    for (group_t *group = exchange.first; group; group = group->next) {
        aip_error_t err = {0};
        bool done = group->share &&
                    aip_share_exchange(group->share, apr_time_now(), pool, &err) == APR_SUCCESS;
        if (group->share) {
            tell(group, done, &err);
        }
        up = up && done;
    }
    return up;
}

static void run(aip_background_t *self, void *data)
{
    _Atomic(apr_int64_t) *next = &aip_shared_words()->exchange_due;
    apr_pool_t *pool;
    (void)data;
    apr_pool_create(&pool, exchange.pool);
    while (aip_background_wait(self, NAP)) {
        apr_time_t now = apr_time_now();
        apr_int64_t due = atomic_load(next);
        if (now < due || !atomic_compare_exchange_strong(next, &due, now + EVERY)) {
            continue;
        }
        if (!exchange_all(pool)) {
            atomic_store(next, apr_time_now() + AWAY);
        }
        apr_pool_clear(pool);
    }
}

void aip_exchange_init(apr_pool_t *pchild, server_rec *s)
{
    aip_background_t *background;
    memset(&exchange, 0, sizeof exchange);
    apr_status_t rv = aip_pool_create_locked(&exchange.pool, NULL);
    for (int i = 0; rv == APR_SUCCESS && i < aip_registry->gateways->nelts; i++) {
        const aip_gateway_t *gateway = &APR_ARRAY_IDX(aip_registry->gateways, i, aip_gateway_t);
        if (gateway->conf->f.balancer_shared == AIP_SHARED_REDIS) {
            add_targets(group_of(gateway), gateway->conf);
        }
    }
    for (group_t *group = exchange.first; group; group = group->next) {
        group->share =
            aip_share_create(aip_redis_conf_of(group->f, exchange.pool), aip_machine_id(),
                             (const aip_shared_target_t *)(const void *)group->targets->elts,
                             group->targets->nelts, exchange.pool);
    }
    if (rv == APR_SUCCESS && exchange.first) {
        rv = aip_background_start_loose(&background, run, NULL, exchange.pool, pchild);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "AIP0108: AIBalancerShared redis: no thread for it in this child");
    }
}
