/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the thread of a client that is about to ask again. MPM event hands a connection to its
 * listener after each answer and gets it back for the next request, which costs about as much CPU
 * as proxying a short chat. It looks at data_in_input_filters before it does so: a request that is
 * there by then is read by the same thread. Runs last of all when a request is logged, after its
 * answer has been written. */
#include "aip/request.h"

#include "aip/config.h"

#include <ap_mpm.h>
#include <apr_portable.h>
#include <http_connection.h>
#include <http_core.h>
#include <poll.h>
#include <stdatomic.h>

typedef struct aip_hold_t {
    apr_time_t answered; /* when the last answer of this connection was out */
} aip_hold_t;

static _Atomic(int) holding; /* threads of this child */
static int most;             /* 0: no MPM that hands connections over */

void aip_hold_child_init(void)
{
    int async = 0, threads = 0;
    ap_mpm_query(AP_MPMQ_IS_ASYNC, &async);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    most = async ? threads / 4 : 0;
}

/* When the last answer was out; 0: this is the first. */
static apr_time_t last_answer(conn_rec *c, apr_time_t now)
{
    aip_hold_t *hold = ap_get_module_config(c->conn_config, &ai_proxy_adv_module);
    if (!hold) {
        hold = apr_pcalloc(c->pool, sizeof *hold);
        ap_set_module_config(c->conn_config, &ai_proxy_adv_module, hold);
    }
    apr_time_t last = hold->answered;
    hold->answered = now;
    return last;
}

static bool asks_again(conn_rec *c, int ms)
{
    struct pollfd client = {.fd = -1, .events = POLLIN};
    bool again = apr_os_sock_get(&client.fd, ap_get_conn_socket(c)) == APR_SUCCESS;
    if (atomic_fetch_add(&holding, 1) >= most) {
        again = false;
    }
    again = again && poll(&client, 1, ms) == 1;
    atomic_fetch_sub(&holding, 1);
    return again;
}

int aip_hold_client(request_rec *r)
{
    const aip_request_t *req = most ? aip_request_get(r) : NULL;
    conn_rec *c = r->connection;
    if (!req || !req->conf->f.keep_alive_hold || !c->cs || c->master || c->aborted ||
        c->keepalive != AP_CONN_KEEPALIVE || c->data_in_input_filters) {
        return DECLINED;
    }
    int ms = (int)req->conf->f.keep_alive_hold;
    apr_time_t now = apr_time_now(), last = last_answer(c, now);
    if (last && r->request_time - last <= apr_time_from_msec(ms) && asks_again(c, ms)) {
        c->data_in_input_filters = 1;
    }
    return DECLINED;
}
