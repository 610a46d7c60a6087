/* SPDX-License-Identifier: Apache-2.0 */
/* The credential of one attempt: what the target's section says, its references resolved, or the
 * client's own in the same place where allow_override says so. It exists for the attempt alone and
 * is in nothing but the bytes that go to the target. */
#include "credential.h"

#include "aip/access.h"
#include "aip/secret.h"

#include <apr_strings.h>
#include <http_log.h>
#include <openssl/crypto.h>

APLOG_USE_MODULE(ai_proxy_adv);

/* A vault is given this long to come up with a new value after a target refused the old one. */
#define RENEWAL apr_time_from_sec(3)

static const char *const client_credentials[] = {"Authorization", "Api-Key", "X-Api-Key"};

/* A query parameter of the client as it may stand in another query, or NULL; an API key of the
 * gateway's is none. Whatever httpd lets through, and whatever a rewriting module made of it, it
 * stays one parameter. */
static const char *client_param(const request_rec *r, const char *name, apr_pool_t *pool)
{
    apr_size_t len = strlen(name);
    for (const char *p = r->args; p && *p;
         p = ap_strchr_c(p, '&') ? ap_strchr_c(p, '&') + 1 : NULL) {
        if (strncmp(p, name, len) == 0 && p[len] == '=') {
            const char *value = p + len + 1, *end = ap_strchr_c(value, '&');
            value = end ? apr_pstrmemdup(pool, value, (apr_size_t)(end - value)) : value;
            char *decoded = apr_pstrdup(pool, value);
            ap_unescape_url(decoded);
            return aip_access_is_key(r, decoded) ? NULL : aip_url_requery(value, pool);
        }
    }
    return NULL;
}

const char *aip_client_param(const aip_request_t *req, const char *name)
{
    return client_param(req->r, name, req->r->pool);
}

/* What came out of a vault may be anything. */
static apr_status_t unusable(const aip_request_t *req, const aip_target_t *target,
                             const char *directive, aip_error_t *err)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, req->r,
                  "AIP0210: target %s: %s out of a vault cannot be used: it holds bytes that are "
                  "not allowed there",
                  target->name, directive);
    return aip_error_set(err, req->r->pool, HTTP_SERVICE_UNAVAILABLE, "gateway_error",
                         "secret_unavailable", NULL,
                         "a credential that this request needs cannot be used");
}

static apr_status_t resolve(const char *text, const char **value, const aip_request_t *req,
                            aip_error_t *err)
{
    *value = aip_secret_text(text, req->r->pool, err);
    return *value || !text ? APR_SUCCESS : APR_EGENERAL;
}

static apr_status_t read_header(const aip_request_t *req, const aip_target_t *target,
                                aip_credential_t *c, aip_error_t *err)
{
    const aip_target_fields_t *f = &target->f;
    apr_status_t rv = resolve(f->auth_header_name, &c->header_name, req, err);
    if (rv != APR_SUCCESS || !c->header_name) {
        return rv;
    }
    bool literal = c->header_name == f->auth_header_name; /* looked at when the server started */
    if (!literal && !aip_header_name_ok(c->header_name)) {
        return unusable(req, target, "AIAuthHeaderName", err);
    }
    const char *own =
        f->auth_allow_override ? aip_access_client_header(req->r, c->header_name) : NULL;
    c->clients = own && *own && aip_header_value_ok(own);
    if (c->clients) {
        c->header_value = own;
        return APR_SUCCESS;
    }
    rv = resolve(f->auth_header_value, &c->header_value, req, err);
    return rv == APR_SUCCESS && !aip_header_value_ok(c->header_value)
               ? unusable(req, target, "AIAuthHeaderValue", err)
               : rv;
}

/* Without a configured header, those that clients use. */
static void pass_on(const aip_request_t *req, const aip_target_t *target, aip_credential_t *c)
{
    const request_rec *r = req->r;
    for (size_t i = 0; target->f.auth_allow_override &&
                       i < sizeof client_credentials / sizeof *client_credentials;
         i++) {
        const char *value = aip_access_client_header(r, client_credentials[i]);
        if (value && *value && aip_header_value_ok(value)) {
            c->fields =
                apr_pstrcat(r->pool, c->fields, client_credentials[i], ": ", value, CRLF, NULL);
        }
    }
}

static apr_status_t read_param(const aip_request_t *req, const aip_target_t *target,
                               aip_credential_t *c, aip_error_t *err)
{
    const aip_target_fields_t *f = &target->f;
    apr_pool_t *pool = req->r->pool;
    const char *name, *value = NULL, *raw = NULL;
    apr_status_t rv = resolve(f->auth_param_name, &name, req, err);
    if (rv != APR_SUCCESS || !name) {
        return rv;
    }
    bool query = f->auth_param_location == AIP_PARAM_QUERY;
    if (query && f->auth_allow_override) {
        raw = client_param(req->r, aip_url_encode(name, pool), pool);
    }
    rv = raw ? APR_SUCCESS : resolve(f->auth_param_value, &value, req, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    c->param_value = value;
    c->clients_param = raw != NULL;
    if (query) {
        c->param = apr_pstrcat(pool, aip_url_encode(name, pool), "=",
                               raw ? raw : aip_url_encode(value, pool), NULL);
    } else {
        c->body_value = (aip_span_t){value, strlen(value)};
        /* The body was read with that name, unless it could not be used, or is a new one. */
        if (strcmp(name, req->extra[target->body_param].data) != 0) {
            return unusable(req, target, "AIAuthParamName", err);
        }
        if (!aip_body_value_ok(value, pool)) {
            return unusable(req, target, "AIAuthParamValue", err);
        }
    }
    return APR_SUCCESS;
}

static apr_status_t read_identity(const aip_request_t *req, const aip_target_t *target,
                                  aip_credential_t *c, aip_error_t *err)
{
    apr_pool_t *pool = req->r->pool;
    if (target->cloud == AIP_CLOUD_AWS) {
        aip_cloud_auth_t auth = aip_cloud_of_target(&target->f, pool);
        return aip_cloud_keys(&auth, target->identity, &c->aws, pool, err);
    }
    c->token = aip_cloud_token(target->identity, pool, err);
    if (!c->token) {
        return APR_EGENERAL;
    }
    c->fields = apr_pstrcat(pool, "Authorization: Bearer ", c->token, CRLF, NULL);
    return APR_SUCCESS;
}

apr_status_t aip_credential_read(const aip_request_t *req, const aip_target_t *target,
                                 aip_credential_t *c, aip_error_t *err)
{
    *c = (aip_credential_t){.fields = ""};
    apr_status_t rv = aip_destination(req, target, &c->endpoint, err);
    rv = rv ? rv : read_header(req, target, c, err);
    rv = rv ? rv : read_param(req, target, c, err);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (target->cloud != AIP_CLOUD_NONE) {
        return read_identity(req, target, c, err);
    }
    if (c->header_name) {
        c->fields = apr_pstrcat(req->r->pool, c->header_name, ": ", c->header_value, CRLF, NULL);
    } else {
        pass_on(req, target, c);
    }
    return APR_SUCCESS;
}

bool aip_credential_renewable(const aip_target_t *target, const aip_credential_t *c)
{
    const aip_target_fields_t *f = &target->f;
    return target->cloud != AIP_CLOUD_NONE ||
           (!c->clients && f->set[AIP_T_auth_header_value] == AIP_SET_REFERENCE) ||
           (!c->clients_param && f->set[AIP_T_auth_param_value] == AIP_SET_REFERENCE);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same(const aip_credential_t *a, const aip_credential_t *b)
{
    return same_text(a->fields, b->fields) && same_text(a->param, b->param) &&
           same_text(a->param_value, b->param_value) &&
           same_text(a->aws.access_key, b->aws.access_key) &&
           same_text(a->aws.secret_key, b->aws.secret_key) && same_text(a->aws.token, b->aws.token);
}

/* Everything that the credential was made of. */
static void refuse(const aip_target_t *target, const aip_credential_t *c, apr_time_t end,
                   apr_pool_t *pool)
{
    const aip_target_fields_t *f = &target->f;
    const char *const texts[] = {f->auth_header_value, f->auth_param_value,
                                 f->auth_aws_access_key_id, f->auth_aws_secret_access_key};
    const char *const values[] = {c->header_value, c->param_value, c->aws.access_key,
                                  c->aws.secret_key};
    const char *held = c->token;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (aip_secret_refused(texts[i], values[i], pool)) {
            aip_secret_wait(texts[i], end);
        }
    }
    if (c->aws.access_key) {
        held = apr_pstrcat(pool, c->aws.access_key, "\n", c->aws.secret_key, "\n",
                           c->aws.token ? c->aws.token : "", NULL);
    }
    if (aip_secret_slot_refused(target->identity, held, pool)) {
        aip_secrets_wait(aip_secrets_used(), target->identity, end);
    }
}

bool aip_credential_renew(const aip_request_t *req, const aip_target_t *target, aip_credential_t *c)
{
    apr_time_t end = apr_time_now() + RENEWAL;
    aip_credential_t fresh;
    aip_error_t err = {0};
    end = req->deadline && req->deadline < end ? req->deadline : end;
    refuse(target, c, end, req->r->pool);
    if (aip_credential_read(req, target, &fresh, &err) != APR_SUCCESS || same(&fresh, c)) {
        return false;
    }
    *c = fresh;
    return true;
}

aip_mask_t *aip_credential_mask(const aip_credential_t *c, apr_pool_t *pool)
{
    const char *secrets[] = {c->header_value && !c->clients ? aip_mask_of_header(c->header_value)
                                                            : NULL,
                             c->param_value, c->token, c->aws.secret_key, c->aws.token};
    return aip_mask_create(secrets, (int)(sizeof secrets / sizeof *secrets), pool);
}

void aip_credential_wipe(const aip_span_t *head)
{
    OPENSSL_cleanse((char *)head->data, head->len);
}
