/* SPDX-License-Identifier: Apache-2.0 */
/* AIAclsAllow and AIAclsDeny for a request and its targets: gathers what the rules may ask for and
 * says in the log which line decided. The client is told that it may not, never why. */
#include "aip/access.h"

#include "aip/groups.h"
#include "aip/watched.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(ai_proxy_adv);

static void add_groups_of_file(const request_rec *r, const char *name, apr_array_header_t *list)
{
    const char *error;
    aip_watched_t *file = apr_hash_get(aip_registry->group_files, name, APR_HASH_KEY_STRING);
    if (!file) {
        return;
    }
    const aip_groups_t *groups = aip_watched_acquire(file, apr_time_now(), r->pool, &error);
    aip_groups_of(groups, r->user, list, r->pool);
    aip_watched_release(file);
    if (error) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "AIP0173: %s; what was read before still holds",
                      error);
    }
}

static const apr_array_header_t *groups_of(const request_rec *r, const aip_location_fields_t *f)
{
    const aip_access_t *access = aip_access_of(r);
    const char *words = apr_table_get(r->subprocess_env, f->acls_group_env);
    apr_array_header_t *list = access && access->groups
                                   ? apr_array_copy(r->pool, access->groups)
                                   : apr_array_make(r->pool, 4, sizeof(const char *));
    if (words) {
        aip_groups_split(words, list, r->pool);
    }
    if (r->user && aip_access_names_file(f->acls_group_file)) {
        add_groups_of_file(r, f->acls_group_file, list);
    }
    return list;
}

static aip_acl_facts_t *facts_of(const request_rec *r, const aip_location_fields_t *f,
                                 const char *path)
{
    aip_acl_facts_t *facts = apr_pcalloc(r->pool, sizeof *facts);
    *facts = (aip_acl_facts_t){.consumer = r->user,
                               .groups = groups_of(r, f),
                               .headers = r->headers_in,
                               .address = r->useragent_addr,
                               .path = path};
    return facts;
}

static bool has_rules(const aip_location_fields_t *f)
{
    return f->acls_allow || f->acls_deny;
}

static const char *reason(const aip_acl_verdict_t *verdict, apr_pool_t *pool)
{
    return verdict->rule ? apr_pstrcat(pool, "AIAclsDeny in ", verdict->rule->where, NULL)
                         : "no line of AIAclsAllow matches";
}

static bool permitted(const request_rec *r, const aip_location_fields_t *f,
                      const aip_acl_facts_t *facts)
{
    aip_acl_verdict_t verdict = aip_acls_request(f->acls_allow, f->acls_deny, facts);
    if (verdict.denied) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "AIP0174: refused: %s",
                      reason(&verdict, r->pool));
    }
    return !verdict.denied;
}

/* A dry run asks about the path that a request would have. */
static const char *path_of(const aip_request_t *req)
{
    const char *uri = req->r->uri;
    size_t n = req->dry ? strlen(req->conf->f.dry_run_path) : 0;
    return n ? apr_pstrmemdup(req->r->pool, uri, strlen(uri) - n) : uri;
}

apr_status_t aip_acls_check(aip_request_t *req, aip_error_t *err)
{
    const aip_location_fields_t *f = &req->conf->f;
    if (!has_rules(f)) {
        return APR_SUCCESS;
    }
    req->facts = facts_of(req->r, f, path_of(req));
    return permitted(req->r, f, req->facts)
               ? APR_SUCCESS
               : aip_error_set(err, req->r->pool, HTTP_FORBIDDEN, "permission_error", "acl_denied",
                               NULL, "this request is not permitted here");
}

bool aip_acls_permit(request_rec *r)
{
    const aip_location_fields_t *f = &aip_dir_conf(r)->f;
    return !has_rules(f) || permitted(r, f, facts_of(r, f, r->uri));
}

bool aip_acls_bar(const aip_request_t *req, const aip_target_t *target)
{
    const aip_location_fields_t *f = &req->conf->f;
    if (!req->facts || !aip_acls_of_target(f->acls_allow, f->acls_deny)) {
        return false;
    }
    aip_acl_facts_t facts = *req->facts;
    facts.model = aip_request_model(req, target);
    facts.provider = target->provider_name;
    aip_acl_verdict_t verdict = aip_acls_target(f->acls_allow, f->acls_deny, &facts);
    if (verdict.denied) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, req->r, "AIP0175: target %s is barred: %s",
                      target->name, reason(&verdict, req->r->pool));
    }
    return verdict.denied;
}
