/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis that a section's AIVectordbRedis directives describe. */
#include "aip/config.h"

aip_redis_conf_t *aip_redis_conf_of(const aip_location_fields_t *f, apr_pool_t *pool)
{
    aip_redis_conf_t *redis = apr_pcalloc(pool, sizeof *redis);
    *redis = (aip_redis_conf_t){
        .host = f->vectordb_redis_host,
        .port = (int)f->vectordb_redis_port,
        .username = f->vectordb_redis_username,
        .password = f->vectordb_redis_password,
        .database = (int)f->vectordb_redis_database,
        .connect_timeout = (int)f->vectordb_redis_connect_timeout,
        .send_timeout = (int)f->vectordb_redis_send_timeout,
        .read_timeout = (int)f->vectordb_redis_read_timeout,
        .pool_size = (int)f->vectordb_redis_keepalive_pool_size,
        .backlog = f->set[AIP_L_vectordb_redis_keepalive_backlog]
                       ? (int)f->vectordb_redis_keepalive_backlog
                       : -1,
        .ssl = f->vectordb_redis_ssl,
        .ssl_verify = f->vectordb_redis_ssl_verify,
        .server_name = f->vectordb_redis_server_name,
        .proxied = f->vectordb_redis_connection_is_proxied,
    };
    return redis;
}
