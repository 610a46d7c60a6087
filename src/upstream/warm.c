/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a connection before the first request needs it, so that a restart is not felt. Called by a
 * router's thread; mod_proxy's pool is shared by all threads of a threaded MPM, and of no other. */
#include "aip/config.h"

#include <ap_mpm.h>
#include <apr_network_io.h>
#include <http_log.h>
#include <http_request.h>

APLOG_USE_MODULE(ai_proxy_adv);

#define LIMIT apr_time_from_sec(1) /* the end of a child waits for it */

/* mod_proxy and mod_ssl want a request, where there is none: as little of one as they look at, as
 * mod_proxy_hcheck does it. */
static request_rec *nobodys_request(server_rec *s, apr_pool_t *pool)
{
    conn_rec *c = apr_pcalloc(pool, sizeof *c);
    request_rec *r = apr_pcalloc(pool, sizeof *r);
    c->pool = pool;
    c->base_server = s;
    c->conn_config = ap_create_conn_config(pool);
    c->notes = apr_table_make(pool, 2);
    c->bucket_alloc = apr_bucket_alloc_create(pool);
    if (apr_sockaddr_info_get(&c->local_addr, "127.0.0.1", APR_INET, s->port, 0, pool) !=
        APR_SUCCESS) {
        return NULL;
    }
    c->client_addr = c->local_addr;
    c->client_ip = c->local_ip = (char *)"127.0.0.1";
    r->pool = pool;
    r->connection = c;
    r->server = s;
    r->per_dir_config = s->lookup_defaults;
    r->request_config = ap_create_request_config(pool);
    r->headers_in = apr_table_make(pool, 2);
    r->headers_out = apr_table_make(pool, 2);
    r->err_headers_out = apr_table_make(pool, 2);
    r->subprocess_env = apr_table_make(pool, 2);
    r->notes = apr_table_make(pool, 2);
    r->method = "POST";
    r->method_number = M_POST;
    r->protocol = (char *)"HTTP/1.1";
    r->proto_num = HTTP_VERSION(1, 1);
    r->hostname = s->server_hostname;
    r->uri = (char *)"/";
    r->useragent_addr = c->client_addr;
    r->useragent_ip = c->client_ip;
    r->request_time = apr_time_now();
    return r;
}

void aip_endpoint_warm(const aip_endpoint_t *endpoint, server_rec *s, apr_pool_t *parent)
{
    int threaded = AP_MPMQ_NOT_SUPPORTED;
    aip_outcome_e outcome;
    apr_pool_t *pool;
    if (ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) != APR_SUCCESS ||
        threaded == AP_MPMQ_NOT_SUPPORTED || aip_pool_create_locked(&pool, parent) != APR_SUCCESS) {
        return;
    }
    request_rec *r = nobodys_request(s, pool);
    apr_time_t deadline = apr_time_now() + LIMIT;
    aip_backend_t *backend = r ? aip_backend_open(r, endpoint, deadline, &outcome) : NULL;
    if (backend) {
        aip_backend_close(backend, aip_backend_ready(backend));
    }
    apr_pool_destroy(pool);
}
