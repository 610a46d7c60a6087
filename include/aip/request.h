/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_REQUEST_H
#define AIP_REQUEST_H
/* Glue: the context of one request. One sub-struct per stage, which only that stage writes. */

#include <httpd.h>

#include "aip/chat.h"
#include "aip/config.h"
#include "aip/route_cache.h"
#include "aip/router.h"
#include "aip/trace_context.h"
#include "aip/usage.h"

/** One try of one target. */
typedef struct aip_attempt_t {
    const aip_target_t *target;
    const aip_endpoint_t *endpoint; /**< where it went */
    aip_outcome_e outcome;
    int status; /**< the upstream's, 0: none came */
    apr_time_t start;
    apr_interval_time_t took; /**< until the outcome was known */
    bool no_quota;            /**< the target said that the account has none left */
} aip_attempt_t;

/** What the observe stage needs to know about the answer; filled by upstream/. */
typedef struct aip_answered_t {
    const aip_target_t *target; /**< whose answer the client got, NULL: none */
    const char *model;          /**< name sent upstream */
    bool stream;
    bool observed;     /**< the answer was read for its usage */
    aip_usage_t usage; /**< told or estimated; unknown when the answer is an error, or not read */
    apr_int64_t cost_pico;      /**< of that, in 10^-12 of the currency; 0 when it has no price */
    const char *response_id;    /**< by the provider, NULL: not known, or no span is to tell it */
    const char *response_model; /**< NULL: not known */
    const char *finish_reason;  /**< of the first choice, NULL: not known */
    const char *service_tier;   /**< that the provider reported, NULL: none */
    apr_time_t first_byte_at; /**< of a stream that was read: first content of any kind, 0: none */
    aip_span_t sent_body;     /**< body sent upstream */
    aip_span_t payload;       /**< response body of what is no stream; for its usage, or with
                                 log_payloads */
    const char *cut;          /**< outcome word when the answer broke off after commit, else NULL */

    const struct aip_reassembly_t *whole; /**< a stream's payload; only with log_payloads */
} aip_answered_t;

/** Where the distances came from. */
typedef enum aip_cache_state_e {
    AIP_CACHE_OFF, /**< measured; no cache, or none for this request */
    AIP_CACHE_MISS,
    AIP_CACHE_HIT,
    AIP_CACHE_SHARED /**< another request measured them at the same time */
} aip_cache_state_e;

/** Why a target must not get a request. */
typedef enum aip_bar_e {
    AIP_BAR_NONE,
    AIP_BAR_FORBIDDEN,  /**< AIRouteForbid */
    AIP_BAR_INCAPABLE,  /**< AITargetAccepts lacks what the request needs */
    AIP_BAR_NOT_FORCED, /**< AIRouteForce named others */
    AIP_BAR_ACL         /**< AIAclsDeny, or no line of AIAclsAllow for it */
} aip_bar_e;

/** AIRouteSticky. */
typedef struct aip_session_t {
    bool known; /**< the request has a session: there is a key */
    unsigned char key[AIP_CACHE_KEY];
    int target; /**< whose session it is so far, or -1 */
} aip_session_t;

typedef struct aip_request_t {
    request_rec *r;
    const aip_dir_conf_t *conf;
    bool dry; /**< AIDryRunPath: the decision alone is asked for, nothing changes */
    apr_time_t start;
    apr_time_t deadline;           /**< AITimeoutTotal; 0: none */
    apr_time_t end;                /**< the handler has done its work; 0: not yet */
    apr_interval_time_t body_took; /**< until the client had sent its body */
    aip_error_t error;
    aip_trace_context_t trace; /**< no ids while AITraces is off */

    const aip_span_t *extra;       /**< names of body credentials, as targets->extra */
    struct aip_acl_facts_t *facts; /**< what rules may ask for; NULL: there are none */
    aip_span_t body;               /**< request: what the client sent */
    aip_chat_t chat;
    bool stream; /**< what the client will get */

    struct {
        aip_decision_t decision; /**< what the distances say */
        aip_reason_e reason;     /**< why the first candidate is the first */
        aip_route_rules_t rules;
        const unsigned char *barred; /**< by target, aip_bar_e; NULL: none is */
        unsigned needs;              /**< aip_need_e; 0: nobody asked */
        aip_cache_state_e cache;
        const char *embedder; /**< for logs; NULL: not called */
        apr_interval_time_t embed_took, search_took, recall_took;
        apr_time_t embed_start, search_start; /**< 0: this request did not do it */
        bool truncated, degraded;
        const char *failure; /**< code of what went wrong, or NULL */
        int preferred;       /**< target that goes before all others, or -1 */
        aip_session_t session;
    } route;

    aip_candidates_t candidates;

    struct {
        int n;
        aip_attempt_t *attempts; /**< as many as there are candidates */
        apr_pool_t *body;   /**< of a large body that was built for the last attempt, or NULL */
        aip_error_t unsent; /**< why the last target that was not asked was not */
        apr_interval_time_t
            passing; /**< after the last attempt, what was held went to the client */
    } upstream;

    aip_answered_t answered;
    const struct aip_account_t *account; /**< see aip/account.h; NULL until the request is logged */
} aip_request_t;

/** The context of a request that this module handles, or NULL. */
aip_request_t *aip_request_get(const request_rec *r);

/** The model that `target` is asked for: its own, else the client's, which may be NULL. */
static inline const char *aip_request_model(const aip_request_t *req, const aip_target_t *target)
{
    return target->f.model_name ? target->f.model_name : req->chat.model;
}

/** A dry run inside the server, for a chat that came by another way than a request to the gateway.
 * @param r  whose request_config is the gateway's to fill; its headers and user are what guards and
 * expressions see @param conf  of a checked gateway @return with ->error.status 0 if there are
 * candidates */
aip_request_t *aip_request_dry_run(request_rec *r, const aip_dir_conf_t *conf, aip_span_t body);

/** Hooks. */
int aip_hook_translate_name(request_rec *r);
int aip_hook_map_to_storage(request_rec *r);
int aip_hook_handler(request_rec *r);

/** Under MPM event: waits for the next request of a client that is likely to ask again, as
 * AIKeepAliveHold says. The last of the hooks of a transaction; DECLINED. */
int aip_hold_client(request_rec *r);

/** In a child that starts. */
void aip_hold_child_init(void);
void aip_decide_child_init(apr_pool_t *pchild);
void aip_hook_insert_error_filter(request_rec *r);
void aip_register_filters(void);

/** Reads the whole body into memory. Errors: 413 beyond AIMaxRequestBodySize, 400 and 408 for a
 * body that broke off.
 * @return OK, or AP_FILTER_ERROR when httpd has answered already */
int aip_body_read(aip_request_t *req, aip_error_t *err);

/** Cheap checks of the header: content type, encoding, announced length. @return APR_SUCCESS or an
 * error in `err` */
apr_status_t aip_request_check(aip_request_t *req, aip_error_t *err);

/** Writes an error as the whole answer. @return OK */
int aip_respond_error(request_rec *r, const aip_error_t *error);

/** Guards, ranking of routes, session. Errors: no target may or can take the request, none is
 * within the threshold, AIRouteOnFailure fail. */
apr_status_t aip_route_stage(aip_request_t *req, aip_error_t *err);

/** AIExplainFor: whether the request may see why it goes where it goes. */
bool aip_may_explain(const aip_request_t *req);

/** After the answer: the session belongs to the target that gave it. */
void aip_session_remember(aip_request_t *req);

/** Fills req->candidates, by the algorithm and by health. Errors: all targets are cooling down or
 * drained. */
apr_status_t aip_balance_stage(aip_request_t *req, aip_error_t *err);

/** The router of a configuration in this child; NULL: there is none, or it could not be started. */
aip_router_t *aip_router_running(const aip_dir_conf_t *conf);

/** child_init: starts the routers of all checked gateways. */
void aip_routers_init(apr_pool_t *pchild, server_rec *s);

#endif
