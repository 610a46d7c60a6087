/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_SRC_OBSERVE_STATUS_H
#define AIP_SRC_OBSERVE_STATUS_H
/* Private to src/observe: the parts of SetHandler ai-status. One document, as JSON, is what both
 * forms of the page show. Whoever makes or frees it keeps signals away, see aip/signals.h. */

#include "aip/observe.h"
#include "aip/secret.h"
#include "aip/state.h"

#include <jansson.h>

/** Longest prompt of the try-it box, whatever AIMaxRequestBodySize says. */
#define AIP_TRY_MAX (64 << 10)

/** Longest body of a form: the prompt with every byte escaped, and the rest. */
#define AIP_FORM_MAX (3 * AIP_TRY_MAX + 8192)

/* ---- the document ---- */

/** All that the page shows. New reference; NULL: no memory. */
json_t *aip_status_document(request_rec *r);

/** One target. New reference. @param f  of its gateway */
json_t *aip_status_target(const aip_target_t *target, const aip_location_fields_t *f,
                          apr_time_t now, apr_pool_t *pool);

/** routing, routes, decisions, embedder, vector_store, route_cache of a gateway, added to it.
 * @param gateway  NULL: only requests put its configuration together */
void aip_status_routing(json_t *object, const aip_targets_t *targets, const aip_gateway_t *gateway,
                        const aip_location_fields_t *f, apr_pool_t *pool);

/** hour and minutes of books; added to `object`. */
void aip_status_figures(json_t *object, const aip_minute_t *minutes, apr_time_t now,
                        apr_pool_t *pool);

/** Since the books were begun: sums over targets, the same that metrics show. */
json_t *aip_status_totals(aip_target_t *const *targets, int n, apr_pool_t *pool);

/** The checked gateway of a list of targets, or NULL. */
const aip_gateway_t *aip_status_gateway(const aip_targets_t *targets);

/** The fields that hold for it; NULL: it is in no section. */
const aip_location_fields_t *aip_status_fields(const aip_targets_t *targets);

/** A string, or null; bytes that are no UTF-8 become U+FFFD. */
json_t *aip_status_text(const char *text, apr_pool_t *pool);

/** "2026-11-28T11:40:00Z"; 0: null. */
json_t *aip_status_time(apr_time_t at);

/** 10^-12 of a currency as a decimal: "0.000049". */
const char *aip_status_cost(apr_uint64_t pico, apr_pool_t *pool);

/* ---- orders ---- */

/** Whether the request may drain and resume: a user that httpd has authenticated, though not by an
 * API key, or a client on this machine. */
bool aip_status_may_order(const request_rec *r);

/** Drains or resumes, and logs it. */
void aip_status_carry_out(request_rec *r, const aip_targets_t *targets, const aip_target_t *target,
                          bool drain);

/** Reads a body of at most `max` bytes. @return its length, or -1: too long or broken off */
long aip_status_read_body(request_rec *r, char *body, long max);

/* ---- the page ---- */

/** What the page is shown with. */
typedef struct aip_page_t {
    request_rec *r;
    const char *token;      /**< of forms; NULL: the client may give no orders */
    int refresh;            /**< seconds, 0: not */
    const char *message;    /**< of an order that was carried out, or NULL */
    const char *error;      /**< why one was not, or NULL */
    const char *try_server; /**< whose try-it box `tried` belongs to, or NULL */
    const char *try_gateway;
    const char *prompt;  /**< that was tried, or NULL */
    const json_t *tried; /**< the document of the dry run, or NULL */
} aip_page_t;

/** Sets the headers and writes the page. */
void aip_page_write(const aip_page_t *page, const json_t *document);

/** A section for one gateway. */
void aip_page_gateway(const aip_page_t *page, const json_t *gateway, int number);

/** Small charts of the last hour. */
void aip_page_charts(const aip_page_t *page, const json_t *gateway);

/** The try-it box with its result. */
void aip_page_try(const aip_page_t *page, const json_t *gateway, int number);

/** The hidden fields that every form has. */
void aip_page_hidden(const aip_page_t *page, const json_t *gateway, const char *action);

/** The style sheet, as it stands between its tags. */
const char *aip_page_style(apr_pool_t *pool);

/* Small helpers for the writers: text is escaped for elements and for attributes in quotes. */
const char *aip_page_escape(const aip_page_t *page, const char *text);
const char *aip_page_string(const aip_page_t *page, const json_t *object, const char *key);
double aip_page_number(const json_t *object, const char *key);
const char *aip_page_count(const aip_page_t *page, const json_t *object, const char *key);
const char *aip_page_duration(const aip_page_t *page, double ms);
const char *aip_page_ms(const aip_page_t *page, const json_t *value);
const char *aip_page_badge(const char *word);

/* ---- forms ---- */

/** A token for the forms of this client; valid for an hour, in all children. */
const char *aip_form_token(const request_rec *r);

/** POST of a form. */
int aip_form_handle(request_rec *r);

/** The page as GET shows it. */
int aip_form_show(request_rec *r);

/** Shows the page with an error above it. */
int aip_form_refuse(request_rec *r, int status, const char *message);

/** Answers with an error of ours, as JSON. @param code  a word, @param message  a sentence
 * @return OK */
int aip_status_refuse(request_rec *r, int status, const char *code, const char *message);

#endif
