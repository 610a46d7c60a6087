/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints: one private worker of mod_proxy and one section of TLS settings each. Made while the
 * configuration is read, their sections in check_config, because an AIEgress line may stand behind
 * its targets, their workers in post_config and child_init. A section is put among mod_proxy's own,
 * under a name that no URL can match, so that mod_proxy has mod_ssl prepare it like any <Proxy>. */
#include "aip/config.h"
#include "proxy_api.h"

#include <apr_strings.h>
#include <http_log.h>
#include <sys/stat.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* Providers close idle connections after some tens of seconds; ours go before that. */
#define IDLE_TTL apr_time_from_sec(30)
#define ADDRESS_TTL 60
/* Until the sections that lead to an endpoint have lowered it. */
#define LONGEST apr_time_from_msec((apr_int64_t)AIP_MS_MAX)

const char *aip_endpoint_missing(const aip_url_t *url, apr_pool_t *pool)
{
    if (!aip_proxy_api()) {
        return "mod_proxy is not loaded: run 'a2enmod proxy', or add a LoadModule line for "
               "proxy_module";
    }
    if (url->tls && !ap_find_linked_module("mod_ssl.c")) {
        return apr_psprintf(
            pool, "%s needs mod_ssl: run 'a2enmod ssl', or add a LoadModule line for ssl_module",
            url->origin);
    }
    return NULL;
}

/* The system's bundle of certificate authorities, wherever this distribution has it. */
static const char *ca_bundle(void)
{
    static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    struct stat st;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (stat(places[i], &st) == 0) {
            return places[i];
        }
    }
    return NULL;
}

/* As one argument of a directive. */
static const char *quoted(const char *path, apr_pool_t *pool)
{
    return path ? apr_pstrcat(pool, "\"", ap_escape_quotes(pool, path), "\"", NULL) : NULL;
}

/* mod_ssl checks names by default but no chain, and speaks any version; these lines see to that,
 * and the operator's own, merged later, win. */
static const char *secure_defaults(const aip_endpoint_t *endpoint, ap_conf_vector_t *vector,
                                   apr_pool_t *pool)
{
    const aip_egress_t *egress = endpoint->egress;
    const char *lines[][2] = {
        {"SSLProxyEngine", "on"},
        {"SSLProxyVerify", "require"},
        {"SSLProxyVerifyDepth", "5"},
        {"SSLProxyCheckPeerName", "on"},
        {"SSLProxyCheckPeerExpire", "on"},
        {"SSLProxyProtocol", egress->min_tls == 13 ? "TLSv1.3" : "all -SSLv3 -TLSv1 -TLSv1.1"},
        {"SSLProxyCACertificateFile",
         quoted(egress->ca_file ? egress->ca_file : ca_bundle(), pool)},
        {"SSLProxyMachineCertificateFile", quoted(egress->client_cert, pool)}};
    ap_directive_t *first = NULL, *last = NULL;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (lines[i][1]) {
            ap_directive_t *line = apr_pcalloc(pool, sizeof *line);
            *line = (ap_directive_t){
                .directive = lines[i][0], .args = lines[i][1], .filename = "built-in defaults"};
            *(last ? &last->next : &first) = line;
            last = line;
        }
    }
    cmd_parms cmd = {.pool = pool,
                     .temp_pool = pool,
                     .server = endpoint->server,
                     .override = ACCESS_CONF | PROXY_CONF,
                     .override_opts = OPT_ALL,
                     .limited = -1};
    return ap_walk_config(first, &cmd, vector);
}

static const char *make_section(aip_endpoint_t *endpoint, apr_pool_t *pool)
{
    ap_conf_vector_t *vector = ap_create_per_dir_config(pool);
    const char *error = secure_defaults(endpoint, vector, pool);
    if (error) {
        return error;
    }
    endpoint->section =
        endpoint->user ? ap_merge_per_dir_configs(pool, vector, endpoint->user) : vector;
    module *proxy = aip_proxy_api()->module;
    proxy_server_conf *conf = ap_get_module_config(endpoint->server->module_config, proxy);
    if (!conf) { /* a virtual host without a line of mod_proxy's own has none yet */
        conf = proxy->create_server_config(pool, endpoint->server);
        ap_set_module_config(endpoint->server->module_config, proxy, conf);
    }
    proxy_dir_conf *dir = ap_get_module_config(endpoint->section, proxy);
    if (!dir) {
        dir = proxy->create_dir_config(pool, NULL);
        ap_set_module_config(endpoint->section, proxy, dir);
    }
    dir->p = apr_pstrcat(pool, "ai-target:", endpoint->name, NULL);
    dir->preserve_host =
        0; /* the client's Host must become neither SNI nor the name that is verified */
    dir->preserve_host_set = 1;
    APR_ARRAY_PUSH(conf->sec_proxy, ap_conf_vector_t *) = endpoint->section;
    return NULL;
}

aip_endpoint_t *aip_endpoint_create(const char *name, const aip_url_t *url, server_rec *server,
                                    apr_pool_t *pconf, const char **error)
{
    aip_endpoint_t *endpoint = apr_pcalloc(pconf, sizeof *endpoint);
    *error = aip_endpoint_missing(url, pconf);
    if (*error) {
        return NULL;
    }
    *endpoint = (aip_endpoint_t){.name = name,
                                 .url = *url,
                                 .server = server,
                                 .connect_timeout = LONGEST,
                                 .io_timeout = LONGEST};
    APR_ARRAY_PUSH(aip_registry->endpoints, aip_endpoint_t *) = endpoint;
    return endpoint;
}

aip_endpoint_t *aip_endpoint_find(const char *name, const aip_url_t *url,
                                  const aip_egress_t *egress)
{
    for (int i = 0; i < aip_registry->endpoints->nelts; i++) {
        aip_endpoint_t *endpoint = APR_ARRAY_IDX(aip_registry->endpoints, i, aip_endpoint_t *);
        if (endpoint->egress == egress && strcmp(endpoint->name, name) == 0 &&
            strcmp(endpoint->url.origin, url->origin) == 0) {
            return endpoint;
        }
    }
    return NULL;
}

/* Where a client may lead the gateway, with its credential, is for the operator to say. */
static const char *needs_allow(const aip_egress_t *egress)
{
    return egress->allow && egress->allow->nelts
               ? NULL
               : "AIModelOptionsUpstreamUrl holds a template: name the hosts that a client may "
                 "choose, for instance 'AIEgressAllow https://*.example.com'";
}

/* @return NULL or an error */
static const char *prepare(aip_endpoint_t *e, apr_pool_t *pconf)
{
    e->egress = e->egress ? e->egress : aip_egress_of(e->server);
    e->proxied = aip_egress_proxied(e->egress, e->url.host);
    const char *error =
        e->url.template ? needs_allow(e->egress) : aip_egress_denied(e->egress, &e->url, pconf);
    return !error && e->url.tls ? make_section(e, pconf) : error;
}

int aip_endpoints_prepare(apr_pool_t *pconf)
{
    int errors = 0;
    for (int i = 0; i < aip_registry->endpoints->nelts; i++) {
        aip_endpoint_t *e = APR_ARRAY_IDX(aip_registry->endpoints, i, aip_endpoint_t *);
        const char *error = prepare(e, pconf);
        if (error) {
            ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_ERR, 0, e->server, "AIP0014: %s: %s: %s",
                         e->where, e->name, error);
            errors++;
        }
    }
    return errors;
}

static apr_status_t define(aip_endpoint_t *endpoint, apr_pool_t *pconf)
{
    const char *error = aip_proxy_api()->define_worker(pconf, &endpoint->worker, NULL, NULL,
                                                       endpoint->url.origin, 0);
    if (error) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, endpoint->server,
                     "AIP0001: %s: no worker for %s: %s", endpoint->name, endpoint->url.origin,
                     error);
        return APR_EGENERAL;
    }
    proxy_worker_shared *s = endpoint->worker->s;
    s->conn_timeout = endpoint->connect_timeout;
    s->conn_timeout_set = 1;
    s->timeout = endpoint->io_timeout;
    s->timeout_set = 1;
    s->ttl = IDLE_TTL;
    s->keepalive = 1;
    s->keepalive_set = 1;
    if (endpoint->url.template) { /* each connection may go somewhere else */
        s->is_address_reusable = 0;
        s->disablereuse = 1;
        s->disablereuse_set = 1;
    }
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 130)
    s->address_ttl = ADDRESS_TTL;
    s->address_ttl_set = 1;
#endif
    endpoint->worker->section_config = endpoint->section;
    return APR_SUCCESS;
}

apr_status_t aip_endpoints_define(apr_pool_t *pconf, server_rec *s)
{
    (void)s;
    apr_status_t rv = APR_SUCCESS;
    for (int i = 0; rv == APR_SUCCESS && i < aip_registry->endpoints->nelts; i++) {
        rv = define(APR_ARRAY_IDX(aip_registry->endpoints, i, aip_endpoint_t *), pconf);
    }
    return rv;
}

void aip_endpoints_init(apr_pool_t *pchild, server_rec *s)
{
    for (int i = 0; i < aip_registry->endpoints->nelts; i++) {
        aip_endpoint_t *endpoint = APR_ARRAY_IDX(aip_registry->endpoints, i, aip_endpoint_t *);
        apr_status_t rv = aip_proxy_api()->initialize_worker(endpoint->worker, s, pchild);
        if (rv != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                         "AIP0002: %s: the worker for %s cannot be initialised", endpoint->name,
                         endpoint->url.origin);
        }
    }
}
