/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of the status page: drain, resume, and the dry run of the try-it box. A form counts
 * only with a token that was made for its user within the last hour, and when the browser does not
 * say that it comes from another site. What is typed into the try-it box is neither logged nor kept
 * nor ever in a URL. */
#include "status.h"

#include "aip/form.h"
#include "aip/signals.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>

#define REFRESH_LEAST 5
#define REFRESH_MOST 3600

/* Of the process: children inherit it, and it outlives graceful restarts. */
static const unsigned char *key;

apr_status_t aip_status_open(void)
{
    static const char name[] = "ai_proxy_adv-status-key";
    unsigned char *kept = ap_retained_data_get(name);
    if (!kept) {
        kept = ap_retained_data_create(name, AIP_FORM_KEY_BYTES);
        if (RAND_bytes(kept, AIP_FORM_KEY_BYTES) != 1) {
            return APR_EGENERAL;
        }
    }
    key = kept;
    return APR_SUCCESS;
}

/* ---- what the browser sends ---- */

const char *aip_form_token(const request_rec *r)
{
    return aip_form_token_make(key, r->user, apr_time_now(), r->pool);
}

static bool foreign(const request_rec *r)
{
    return aip_form_foreign(apr_table_get(r->headers_in, "Sec-Fetch-Site"),
                            apr_table_get(r->headers_in, "Origin"),
                            apr_table_get(r->headers_in, "Host"));
}

static int refresh_of(const request_rec *r)
{
    const char *text = aip_form_field(r->args, "refresh", r->pool);
    size_t len = text ? strlen(text) : 0;
    long seconds = len && len < 6 && strspn(text, "0123456789") == len ? strtol(text, NULL, 10) : 0;
    return seconds >= REFRESH_LEAST && seconds <= REFRESH_MOST ? (int)seconds : 0;
}

static const aip_targets_t *gateway_named(const char *server, const char *pool)
{
    for (int i = 0; server && pool && i < aip_registry->targets->nelts; i++) {
        const aip_targets_t *list = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        if (strcmp(list->server, server) == 0 && strcmp(list->pool, pool) == 0) {
            return list;
        }
    }
    return NULL;
}

static const aip_target_t *target_named(const aip_targets_t *targets, const char *name)
{
    int i = targets && name ? aip_targets_find(targets, name, strlen(name)) : -1;
    return i >= 0 ? targets->list[i] : NULL;
}

/* ---- the page ---- */

static int show(aip_page_t *page)
{
    request_rec *r = page->r;
    sigset_t before;
    page->token = aip_status_may_order(r) ? aip_form_token(r) : NULL;
    page->refresh = r->method_number == M_GET ? refresh_of(r) : 0;
    aip_signals_block(&before);
    json_t *document = aip_status_document(r);
    aip_signals_restore(&before);
    if (!document) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    aip_page_write(page, document);
    aip_signals_block(&before);
    json_decref(document);
    aip_signals_restore(&before);
    return OK;
}

/* What an order before this GET has done, if it is still so: a link cannot make the page lie. */
static const char *done_of(const request_rec *r)
{
    const char *done = aip_form_field(r->args, "done", r->pool);
    const aip_targets_t *targets = gateway_named(aip_form_field(r->args, "server", r->pool),
                                                 aip_form_field(r->args, "gateway", r->pool));
    const aip_target_t *target = target_named(targets, aip_form_field(r->args, "target", r->pool));
    bool drained = target && atomic_load(&target->state->drained);
    if (!target || !done || strcmp(done, drained ? "drain" : "resume") != 0) {
        return NULL;
    }
    return apr_psprintf(r->pool, "Target %s of %s is %s.", target->name, targets->pool,
                        drained ? "drained: it gets no more requests" : "back in service");
}

int aip_form_show(request_rec *r)
{
    return show(&(aip_page_t){.r = r, .message = r->args ? done_of(r) : NULL});
}

int aip_form_refuse(request_rec *r, int status, const char *message)
{
    r->status = status;
    return show(&(aip_page_t){.r = r, .error = message});
}

/* ---- orders ---- */

/* Back to the page, so that a reload does not repeat the order. Relative: the path may be another
 * one before a proxy. */
static int see_page(request_rec *r, const char *action, const aip_targets_t *targets,
                    const aip_target_t *target)
{
    apr_pool_t *pool = r->pool;
    int refresh = refresh_of(r);
    apr_table_setn(r->headers_out, "Location",
                   apr_pstrcat(pool, "?done=", action,
                               "&server=", apr_pescape_urlencoded(pool, targets->server),
                               "&gateway=", apr_pescape_urlencoded(pool, targets->pool),
                               "&target=", apr_pescape_urlencoded(pool, target->name),
                               refresh ? apr_psprintf(pool, "&refresh=%d", refresh) : "", NULL));
    r->status = HTTP_SEE_OTHER;
    ap_set_content_type(r, "text/plain; charset=utf-8");
    ap_rputs("Done.\n", r);
    return OK;
}

static int order(request_rec *r, const char *form, const char *action)
{
    const aip_targets_t *targets = gateway_named(aip_form_field(form, "server", r->pool),
                                                 aip_form_field(form, "gateway", r->pool));
    const aip_target_t *target = target_named(targets, aip_form_field(form, "target", r->pool));
    if (!target) {
        return aip_form_refuse(r, HTTP_NOT_FOUND,
                               "There is no such target; the configuration may have changed.");
    }
    aip_status_carry_out(r, targets, target, strcmp(action, "drain") == 0);
    return see_page(r, action, targets, target);
}

/* ---- the dry run ---- */

/* A request as a client without credentials would send it to the gateway: what it leaves behind in
 * tables is thrown away. */
static request_rec *stand_in(request_rec *r, const aip_gateway_t *gateway)
{
    request_rec *own = apr_pmemdup(r->pool, r, sizeof *own);
    own->headers_in = apr_table_make(r->pool, 4);
    own->headers_out = apr_table_make(r->pool, 4);
    own->err_headers_out = apr_table_make(r->pool, 4);
    own->notes = apr_table_make(r->pool, 4);
    own->subprocess_env = apr_table_copy(r->pool, r->subprocess_env);
    own->request_config = ap_create_request_config(r->pool);
    own->server = gateway->server;
    own->uri = apr_pstrdup(r->pool, gateway->path ? gateway->path : "/");
    own->unparsed_uri = own->uri;
    own->args = NULL;
    own->user = NULL;
    own->ap_auth_type = NULL;
    own->handler = NULL;
    apr_table_setn(own->headers_in, "Host",
                   own->server->server_hostname ? own->server->server_hostname : "localhost");
    apr_table_setn(own->headers_in, "Content-Type", "application/json");
    return own;
}

/* A text that begins with '{' is a chat; any other one is what a user says. */
static aip_span_t chat_of(const char *prompt, apr_pool_t *pool)
{
    aip_span_t text = {prompt, strlen(prompt)};
    if (prompt[strspn(prompt, " \t\r\n")] == '{') {
        return text;
    }
    aip_span_t quoted = aip_json_quote(text, pool);
    const char *chat = apr_pstrcat(pool, "{\"model\":\"any\",\"messages\":[{\"role\":\"user\",",
                                   "\"content\":", quoted.data, "}]}", NULL);
    return (aip_span_t){chat, strlen(chat)};
}

static int try_it(request_rec *r, const char *form)
{
    const char *prompt = aip_form_field(form, "prompt", r->pool);
    const aip_targets_t *targets = gateway_named(aip_form_field(form, "server", r->pool),
                                                 aip_form_field(form, "gateway", r->pool));
    const aip_gateway_t *gateway = targets ? aip_status_gateway(targets) : NULL;
    sigset_t before;
    if (!gateway) {
        return aip_form_refuse(r, HTTP_NOT_FOUND,
                               "There is no such gateway; the configuration may have changed.");
    }
    if (!prompt || !*prompt) {
        return aip_form_refuse(r, HTTP_BAD_REQUEST, "There was no prompt that could be read.");
    }
    apr_int64_t limit = gateway->conf->f.max_request_body_size;
    limit = limit && limit < AIP_TRY_MAX ? limit : AIP_TRY_MAX;
    aip_span_t chat = chat_of(prompt, r->pool);
    if ((apr_int64_t)chat.len > limit) {
        return aip_form_refuse(r, HTTP_REQUEST_ENTITY_TOO_LARGE,
                               "The prompt is longer than this gateway, or this page, takes.");
    }
    aip_request_t *req = aip_request_dry_run(stand_in(r, gateway), gateway->conf, chat);
    aip_signals_block(&before);
    json_t *tried = aip_explain_document(req, &req->error);
    aip_signals_restore(&before);
    int rc = show(&(aip_page_t){.r = r,
                                .try_server = targets->server,
                                .try_gateway = targets->pool,
                                .prompt = prompt,
                                .tried = tried});
    aip_signals_block(&before);
    json_decref(tried);
    aip_signals_restore(&before);
    return rc;
}

int aip_form_handle(request_rec *r)
{
    if (!aip_status_may_order(r)) {
        return aip_form_refuse(r, HTTP_FORBIDDEN,
                               "Orders need an authenticated user, or a client on this machine.");
    }
    if (foreign(r)) {
        return aip_form_refuse(r, HTTP_FORBIDDEN, "This form came from another site.");
    }
    char *form = apr_palloc(r->pool, AIP_FORM_MAX + 1);
    long len = aip_status_read_body(r, form, AIP_FORM_MAX);
    if (len < 0) {
        return aip_form_refuse(r, HTTP_REQUEST_ENTITY_TOO_LARGE,
                               "The form is too long, or did not arrive in full.");
    }
    form[len] = '\0';
    aip_form_token_e token = aip_form_token_check(
        key, r->user, aip_form_field(form, "token", r->pool), apr_time_now(), r->pool);
    if (token != AIP_FORM_TOKEN_GOOD) {
        return aip_form_refuse(r, HTTP_FORBIDDEN,
                               token == AIP_FORM_TOKEN_OLD
                                   ? "The page was too old: nothing was done. Please try again."
                                   : "The form is not one of this page: nothing was done.");
    }
    const char *action = aip_form_field(form, "action", r->pool);
    if (action && (strcmp(action, "drain") == 0 || strcmp(action, "resume") == 0)) {
        return order(r, form, action);
    }
    if (action && strcmp(action, "try") == 0) {
        return try_it(r, form);
    }
    return aip_form_refuse(r, HTTP_BAD_REQUEST, "There is no such action.");
}
