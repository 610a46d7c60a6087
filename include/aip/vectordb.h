/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_VECTORDB_H
#define AIP_VECTORDB_H
/* Vector stores behind one interface: given the references, answer the distance of each of them to
 * a prompt's vector. */

#include "aip/error.h"

typedef enum aip_metric_e {
    AIP_METRIC_COSINE,   /**< 1 - cos, 0..2 */
    AIP_METRIC_EUCLIDEAN /**< |a - b|^2 / 2: for unit vectors the same scale as cosine */
} aip_metric_e;

/** The references of one location: float32 little-endian, row-major, shared and never changed after
 * creation. */
typedef struct aip_references_t {
    int n, dims;
    const float
        *vectors; /**< float[n * dims]; unit length for AIP_METRIC_COSINE, as delivered otherwise */
    const char *digest; /**< hex SHA-256 over embedder, dimensions, metric and all texts in order:
                           names the index */
} aip_references_t;

typedef struct aip_vectordb_t aip_vectordb_t;

/** One store kind. All functions are thread-safe after open() and block at most for the configured
 * time-outs. */
typedef struct aip_vectordb_kind_t {
    const char *name; /**< value of AIVectordbStrategy */
    /** Brings the store up to date with `refs` (index created, vectors written where missing).
     * Idempotent; several processes and machines may do it at the same time. Background only.
     * `pool` holds the message of an error. */
    apr_status_t (*sync)(aip_vectordb_t *db, const aip_references_t *refs, apr_pool_t *pool,
                         aip_error_t *err);
    /** Distances of all references: float[refs->n], configuration order. An answer in which a
     * reference is missing or a distance is not finite is an error. err->code tells the cause:
     * "vectordb_unreachable", "vectordb_timeout", "vectordb_auth", "vectordb_index" (missing,
     * incomplete or of other dimensions), "vectordb_error". */
    apr_status_t (*query)(aip_vectordb_t *db, const aip_references_t *refs, const float *vector,
                          float *distances, apr_pool_t *pool, aip_error_t *err);
    /** The same, but ends before `deadline` (0: none) even if the store's own time-outs are longer.
     * NULL in stores that have only those. */
    apr_status_t (*query_by)(aip_vectordb_t *db, const aip_references_t *refs, const float *vector,
                             float *distances, apr_time_t deadline, apr_pool_t *pool,
                             aip_error_t *err);
} aip_vectordb_kind_t;

struct aip_vectordb_t {
    const aip_vectordb_kind_t *kind;
    aip_metric_e metric;
};

/** The in-process store: exact, no I/O, cannot fail. */
aip_vectordb_t *aip_vectordb_memory(aip_metric_e metric, apr_pool_t *pool);

/** Settings of the Redis store; units: milliseconds. Strings may be NULL where noted. */
typedef struct aip_redis_conf_t {
    const char *host; /**< this and the strings below may hold references, see aip/secret.h */
    int port;
    const char *port_text;           /**< instead of port; NULL: none */
    const char *username, *password; /**< NULL: no AUTH / default user */
    int database;
    int connect_timeout, send_timeout, read_timeout; /**< 0: no limit */
    int pool_size;                                   /**< idle connections kept per process */
    int backlog; /**< -1: unlimited; else at most pool_size + backlog connections at once, more fail
                    at once */
    bool ssl, ssl_verify;    /**< verified are the chain and the name, or neither */
    const char *server_name; /**< SNI (unless an IP address) and name to verify; NULL: host */
    const char *ca_file;     /**< PEM, trusted instead of the system's bundle; NULL: that bundle */
    const char *client_cert; /**< PEM: certificate, chain and key (not encrypted); NULL: none */
    int min_tls;             /**< lowest protocol: 12, 13; 0: 12 */
    bool proxied;            /**< behind a proxy: no SELECT, no multi-connection assumptions */
} aip_redis_conf_t;

/** Whether TLS to Redis is compiled in (hiredis_ssl). */
bool aip_redis_has_tls(void);

/**
 * What is wrong with the files that `conf` names for TLS (ca_file, client_cert), as a sentence that
 * names the file and shows nothing of it; NULL: nothing. For the check of a configuration: later,
 * each process reads the files itself when it makes its store, as the user that it has become.
 */
const char *aip_redis_tls_check(const aip_redis_conf_t *conf, apr_pool_t *pool);

/**
 * The Redis store (RediSearch FT.*, RESP2). Makes no connection. Everything is released when `pool`
 * is destroyed. An ACL user needs `~aip:* +ft.search +ft.info +hstrlen`, to write `+ft.create
 * +hset`, and to replace an index of another shape `+ft.dropindex`. RediSearch makes indexes in
 * database 0 only; sync() in another one says so.
 */
aip_vectordb_t *aip_vectordb_redis(const aip_redis_conf_t *conf, aip_metric_e metric,
                                   apr_pool_t *pool);

/** Settings of the PostgreSQL store. */
typedef struct aip_pgvector_conf_t {
    const char *host; /**< a name, an address, or the directory of a Unix socket */
    int port;
    const char *database, *user;
    const char *password; /**< NULL: none */
    int timeout;          /**< milliseconds for one call: connecting and its statement together */
    bool ssl;             /**< TLS or nothing: there is no way back to plaintext */
    bool ssl_verify;      /**< the chain and the name of the server's certificate */
    const char *min_tls;  /**< "TLSv1.2" or "TLSv1.3"; NULL: what OpenSSL's configuration allows */
    const char *ca_file;  /**< PEM, authorities; NULL: the system's bundle */
    const char *client_cert, *client_key; /**< PEM files; NULL: no client certificate */
} aip_pgvector_conf_t;

/** Largest number of dimensions of pgvector's type vector. */
#define AIP_PGVECTOR_DIMENSIONS_MAX 16000

/**
 * The PostgreSQL store (extension pgvector, type vector). Makes no connection. Everything is
 * released when `pool` is destroyed. Needs SELECT and INSERT on ai_proxy_adv_vectors_<dimensions>,
 * which sync() creates if it may, as well as the extension.
 */
aip_vectordb_t *aip_vectordb_pgvector(const aip_pgvector_conf_t *conf, aip_metric_e metric,
                                      apr_pool_t *pool);

#endif
