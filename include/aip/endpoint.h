/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_ENDPOINT_H
#define AIP_ENDPOINT_H
/* Glue: an endpoint is where an exchange goes: a URL, a pool of mod_proxy and the TLS settings of
 * its own section. */

#include <httpd.h>
#include <http_config.h>

#include "aip/egress.h"
#include "aip/http1.h"
#include "aip/provider.h"

struct proxy_worker;

typedef struct aip_endpoint_t {
    const char *name; /**< for logs */
    aip_url_t url;
    server_rec *server;
    const char *where;          /**< "file:line" */
    ap_conf_vector_t *user;     /**< the operator's own SSLProxy* lines, or NULL */
    const aip_egress_t *egress; /**< set by aip_endpoints_prepare() when it is not yet */
    bool proxied;               /**< through the proxy of egress */
    ap_conf_vector_t *section;  /**< SSLProxy* of this endpoint; NULL for http */
    apr_interval_time_t connect_timeout;
    apr_interval_time_t io_timeout; /**< what blocks inside mod_ssl is bounded by it */
    struct proxy_worker *worker;
} aip_endpoint_t;

/** NULL, or why no endpoint can be made: mod_proxy is not loaded, or mod_ssl is not and the URL is
 * https. */
const char *aip_endpoint_missing(const aip_url_t *url, apr_pool_t *pool);

/**
 * Makes an endpoint and adds it to the registry. While the configuration is read or checked.
 * @param error out: why not
 */
aip_endpoint_t *aip_endpoint_create(const char *name, const aip_url_t *url, server_rec *server,
                                    apr_pool_t *pconf, const char **error);

/** The endpoint of a URL's origin and these rules of egress that belongs to no target, or NULL. */
aip_endpoint_t *aip_endpoint_find(const char *name, const aip_url_t *url,
                                  const aip_egress_t *egress);

/**
 * check_config, when all AIEgress lines are known and before mod_ssl prepares sections: gives each
 * endpoint its rules of egress (those of the server in which it is written) and its TLS settings.
 * @return number of errors, each logged
 */
int aip_endpoints_prepare(apr_pool_t *pconf);

/** post_config: defines the workers. */
apr_status_t aip_endpoints_define(apr_pool_t *pconf, server_rec *s);

/** child_init, after mod_proxy's: initialises them. */
void aip_endpoints_init(apr_pool_t *pchild, server_rec *s);

/** register_hooks: the filter that tells when a socket below mod_ssl is empty, and the ear at
 * mod_ssl's handshakes. */
void aip_backend_register(void);

/** Looks whether the client has left; then r->connection->aborted is set. */
bool aip_client_gone(request_rec *r);

/** An open connection to an endpoint, for one exchange. */
typedef struct aip_backend_t aip_backend_t;

/**
 * Takes a live connection from the pool or connects. Blocks up to the endpoint's connect_timeout
 * and the deadline (absolute, 0: none); only the look-up of a host name knows neither.
 * @param outcome  out on failure: AIP_OUTCOME_CONNECT, _CONNECT_TIMEOUT, _TLS, _TOTAL_TIMEOUT or
 * _CLIENT_GONE
 */
aip_backend_t *aip_backend_open(request_rec *r, const aip_endpoint_t *endpoint, apr_time_t deadline,
                                aip_outcome_e *outcome);

/** What the exchange reads and writes through; it also watches the client of `r`. */
const aip_conn_t *aip_backend_conn(const aip_backend_t *backend);

/** Time limit for one blocking write below mod_ssl. */
void aip_backend_write_timeout(aip_backend_t *backend, apr_interval_time_t timeout);

/** Makes the TLS handshake now, which else goes with the first write. @return whether the
 * connection can be used */
bool aip_backend_ready(aip_backend_t *backend);

/** Whether the connection had served an exchange before. */
bool aip_backend_reused(const aip_backend_t *backend);

/** Puts a fresh connection into the endpoint's pool, if it can. Blocks; background only. */
void aip_endpoint_warm(const aip_endpoint_t *endpoint, server_rec *s, apr_pool_t *parent);

/** Gives the connection back to the pool, or closes it. */
void aip_backend_close(aip_backend_t *backend, bool reusable);

#endif
