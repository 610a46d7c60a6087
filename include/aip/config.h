/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_CONFIG_H
#define AIP_CONFIG_H
/* Glue: configuration as httpd holds it. Per-directory structs are merged for each request; targets
 * are shared by all merges and never change after start. */

#include <httpd.h>
#include <http_config.h>

#include <apr_hash.h>

#include "aip/balance.h"
#include "aip/cloud.h"
#include "aip/cost.h"
#include "aip/embeddings.h"
#include "aip/endpoint.h"
#include "aip/fields.h"
#include "aip/gateway.h"
#include "aip/history.h"
#include "aip/metrics.h"
#include "aip/model2vec.h"
#include "aip/provider.h"
#include "aip/vectordb.h"

extern module AP_MODULE_DECLARE_DATA ai_proxy_adv_module;

/** One <AITarget>. */
typedef struct aip_target_t {
    const char *name;
    aip_target_fields_t f;
    const char *provider_name;
    const aip_provider_t *provider;
    aip_rates_t rates; /**< its prices */
    aip_endpoint_t *endpoint;
    aip_target_state_t *state;       /**< shared by all children */
    _Atomic(apr_uint32_t) *by_child; /**< shared: how many of its requests in flight are whose */
    aip_target_metrics_t *metrics;   /**< shared, outlives graceful restarts */
    aip_target_history_t *history;   /**< shared, outlives graceful restarts */
    const struct aip_fragments_t *fragments; /**< what logs and traces say of it in each request */
    const char *shared_id;                   /**< what other machines know it by */
    apr_array_header_t *force, *forbid;      /**< ap_expr_info_t *, or NULL */
    aip_cloud_e cloud;                       /**< its identity, if it has one */
    int identity;                            /**< slot of that in the store of secrets, or -1 */
    int body_param; /**< index of its credential parameter among the chat's extra members, or -1 */
} aip_target_t;

/** The targets of one section, in order, and what follows from them. */
typedef struct aip_targets_t {
    int n;
    aip_target_t **list;
    apr_array_header_t *array;            /**< behind list while the section is read */
    const char *where;                    /**< "file:line" of the first */
    const char *path, *server;            /**< of the section, for states and status */
    aip_span_t extra[AIP_CHAT_EXTRA_MAX]; /**< names of body credentials */
    size_t n_extra;
    bool extra_secret; /**< one of the names holds a reference */
    bool guarded;      /**< some target has AITargetAccepts, AIRouteForce or AIRouteForbid */
    aip_routes_t *routes;
    aip_wheel_t *all, **by_route; /**< by_route: one per route */
    int n_groups;
    aip_wheel_t **groups; /**< targets of equal weight, by turn; the greatest weight first */
    volatile apr_uint32_t *ticks; /**< shared by all children: one per route, one more for `all` */
    volatile apr_uint32_t
        *store; /**< shared by all children: state of the vector store that was last logged */
    aip_gateway_metrics_t *metrics; /**< shared, outlives graceful restarts */
    aip_gateway_history_t *history; /**< shared, outlives graceful restarts */
    const char *pool;  /**< label of metrics and logs: path, made unique within `server` */
    aip_span_t labels; /**< `server` and `pool` as members of a line */
} aip_targets_t;

typedef struct aip_dir_conf_t {
    aip_location_fields_t f;
    aip_targets_t *targets;
    aip_target_t *inside;      /**< not NULL in the vector of an <AITarget> */
    struct aip_vault_t *vault; /**< not NULL in the vector of an <AIVault> */
    const char *path; /**< of the innermost plain <Location>, without a slash at its end; NULL:
                         there is none */
    bool registered;
    const struct aip_dir_conf_t *below; /**< the server's level, over which it is `merged` */
    struct aip_dir_conf_t *merged;      /**< as a request sees both; NULL: to be made for it */
} aip_dir_conf_t;

/** A section that holds directives of ours, for the checks at the end of the configuration. */
typedef struct aip_section_t {
    aip_dir_conf_t *dir;
    server_rec *server;
    const char *path;  /**< of a plain <Location>, "" at server level, NULL for a pattern or <If> */
    const char *where; /**< "file:line" */
    const ap_directive_t *node; /**< the section's own line, NULL at server level */
} aip_section_t;

/** A gateway whose configuration has been checked: merged as a request to its path would see it. */
typedef struct aip_gateway_t {
    const aip_dir_conf_t *conf;
    server_rec *server;
    const char *where;
    const char *path; /**< of its <Location> */
} aip_gateway_t;

/** An <AIVault>. */
typedef struct aip_vault_section_t {
    struct aip_vault_t *vault;
    server_rec *server;
    bool used; /**< some reference means it */
} aip_vault_section_t;

/** A value with references in it, for the check at the end of the configuration. */
typedef struct aip_bound_t {
    const char *text; /**< the value itself: its address stands for it */
    const aip_field_t *row;
    const struct aip_vault_t *vault; /**< whose directive it is, or NULL */
    server_rec *server;              /**< whose vaults are meant */
    const char *where;
} aip_bound_t;
/** The rules of egress of one or more servers, and the fields that they were made from. */
typedef struct aip_server_egress_t {
    const aip_location_fields_t *fields;
    const aip_egress_t *egress;
} aip_server_egress_t;

/** All that the configuration declares; one per configuration read, in pconf. */
typedef struct aip_registry_t {
    apr_array_header_t *sections;        /**< aip_section_t */
    apr_array_header_t *targets;         /**< aip_targets_t *, all lists */
    apr_array_header_t *endpoints;       /**< aip_endpoint_t * */
    apr_array_header_t *vaults;          /**< aip_vault_section_t */
    apr_array_header_t *bound;           /**< aip_bound_t */
    struct aip_secrets_t *secrets;       /**< built by aip_check_config() */
    apr_array_header_t *gateways;        /**< aip_gateway_t, filled by aip_check_config() */
    apr_array_header_t *egresses;        /**< aip_server_egress_t, filled by aip_egress_prepare() */
    apr_array_header_t *traces;          /**< const aip_traces_conf_t *, by aip_traces_prepare() */
    apr_hash_t *traces_of;               /**< server_rec * -> the one of these that it exports to */
    apr_array_header_t *caches;          /**< aip_route_cache_t *, filled by aip_check_config() */
    apr_hash_t *expressions;             /**< AIExplainFor -> ap_expr_info_t * */
    apr_hash_t *redactions;              /**< address of a text of AILogRedact -> what it means */
    apr_hash_t *key_files, *group_files; /**< name in the configuration -> aip_watched_t * */
    apr_hash_t *models; /**< directory -> aip_model2vec_t *, loaded by aip_check_config() */
} aip_registry_t;

extern aip_registry_t *aip_registry;

void *aip_config_create_dir(apr_pool_t *pool, char *path);
void *aip_config_merge_dir(apr_pool_t *pool, void *base, void *add);
int aip_config_pre(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);
extern const command_rec aip_commands[];

/** The target of that name, or -1. */
int aip_targets_find(const aip_targets_t *targets, const char *name, size_t len);

/** NULL, or why a directive of ours cannot stand where it does: only per-URL sections and the
 * server level hold them. */
const char *aip_config_context(const cmd_parms *cmd);

/** post_config, when nothing changes any more: merges each section with its server's level, so that
 * this is not done for each request. */
void aip_config_merge_all(apr_pool_t *pconf);

/** Remembers the section that a directive stands in. */
void aip_config_register(cmd_parms *cmd, aip_dir_conf_t *dir);

/** AIRouteExamplesFile: adds the lines of a file to the target's examples. @return NULL or an error
 */
const char *aip_examples_read(cmd_parms *cmd, aip_target_fields_t *fields, const char *name);

/** <AITarget name>. */
const char *aip_section_target(cmd_parms *cmd, void *dir, const char *args);

/** <AIVault prefix>. */
const char *aip_section_vault(cmd_parms *cmd, void *dir, const char *args);

/** The one argument of a section's line. @param directive  "<AITarget" and the like
 * @return NULL, or what is wrong with it */
const char *aip_section_name(cmd_parms *cmd, const char *directive, const char *args,
                             const char **name);

/** Reads the lines inside a section into `vector`; @param other  prefix of the directives of other
 * modules that are legal inside, or NULL */
const char *aip_section_read(cmd_parms *cmd, const char *directive, const char *other,
                             ap_conf_vector_t *vector);

/** Part of aip_check_config(): finds the vault of every reference and makes the store of secrets.
 * @return number of errors, each logged */
int aip_check_secrets(apr_pool_t *pconf, const server_rec *s);

/** check_config hook: cross-field rules, embedder models. Errors are logged with their place and
 * stop the start. */
int aip_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/**
 * check_config: makes the rules of egress of all servers; those with the same AIEgress lines share
 * one object, so that addresses can be compared.
 * @return number of errors, each logged
 */
int aip_egress_prepare(apr_pool_t *pconf, server_rec *main_server);

/** The rules of egress of a server, or of a configuration merged for a request. After
 * aip_egress_prepare(); thread-safe, never NULL. */
const aip_egress_t *aip_egress_of(const server_rec *s);
const aip_egress_t *aip_egress_for(const aip_location_fields_t *f);

/** NULL, or that AIEgressAllow lets no pattern match the URL. */
const char *aip_egress_denied(const aip_egress_t *egress, const aip_url_t *url, apr_pool_t *pool);

/** test_config hook: prints the gateways for `httpd -t -D DUMP_AI_GATEWAYS`. */
void aip_config_dump(apr_pool_t *pconf, server_rec *s);

/** Merges what the section at a vector's module slot would be at request time. */
static inline const aip_dir_conf_t *aip_dir_conf(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &ai_proxy_adv_module);
}

#endif
