/* SPDX-License-Identifier: Apache-2.0 */
/* The status page as HTML: its frame, its headers, and what concerns the whole server. Written out
 * of the JSON document, so that both show the same; works without JavaScript, and names nothing
 * outside itself. Every text is escaped, whoever chose it. */
#include "status.h"

#include <apr_base64.h>
#include <apr_strings.h>
#include <http_protocol.h>
#include <openssl/sha.h>

/* ---- helpers ---- */

const char *aip_page_escape(const aip_page_t *page, const char *text)
{
    return ap_escape_html(page->r->pool, text ? text : "");
}

const char *aip_page_string(const aip_page_t *page, const json_t *object, const char *key)
{
    return aip_page_escape(page, json_string_value(json_object_get(object, key)));
}

double aip_page_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* 1234567 -> "1,234,567" */
const char *aip_page_count(const aip_page_t *page, const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    const char *digits = apr_psprintf(page->r->pool, "%" APR_INT64_T_FMT, (apr_int64_t)value);
    size_t len = strlen(digits);
    char *text = apr_palloc(page->r->pool, 2 * len + 1), *p = text;
    for (size_t i = 0; i < len; i++) {
        if (i && digits[i - 1] != '-' && (len - i) % 3 == 0) {
            *p++ = ',';
        }
        *p++ = digits[i];
    }
    *p = '\0';
    return text;
}

const char *aip_page_duration(const aip_page_t *page, double ms)
{
    return ms >= 10000 ? apr_psprintf(page->r->pool, "%.1f s", ms / 1000)
           : ms >= 10  ? apr_psprintf(page->r->pool, "%.0f ms", ms)
                       : apr_psprintf(page->r->pool, "%.2f ms", ms);
}

const char *aip_page_ms(const aip_page_t *page, const json_t *value)
{
    return json_is_number(value) ? aip_page_duration(page, json_number_value(value))
                                 : "\xe2\x80\x93"; /* en dash */
}

const char *aip_page_badge(const char *word)
{
    static const char *const good[] = {"available", "closed", "fresh", "up", "in process", "ready"};
    static const char *const warn[] = {"cooling", "drained", "half-open", "stale", "unknown"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (strcmp(word, good[i]) == 0) {
            return "badge good";
        }
    }
    for (size_t i = 0; i < sizeof warn / sizeof *warn; i++) {
        if (strcmp(word, warn[i]) == 0) {
            return "badge warn";
        }
    }
    return "badge bad";
}

void aip_page_hidden(const aip_page_t *page, const json_t *gateway, const char *action)
{
    ap_rprintf(page->r,
               "<input type=\"hidden\" name=\"token\" value=\"%s\">"
               "<input type=\"hidden\" name=\"server\" value=\"%s\">"
               "<input type=\"hidden\" name=\"gateway\" value=\"%s\">"
               "<input type=\"hidden\" name=\"action\" value=\"%s\">",
               aip_page_escape(page, page->token), aip_page_string(page, gateway, "server"),
               aip_page_string(page, gateway, "gateway"), action);
}

/* ---- the frame ---- */

static void set_headers(const aip_page_t *page, const char *style)
{
    request_rec *r = page->r;
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char text[64];
    SHA256((const unsigned char *)style, strlen(style), digest);
    apr_base64_encode_binary(text, digest, sizeof digest);
    apr_table_setn(r->headers_out, "Content-Security-Policy",
                   apr_pstrcat(r->pool, "default-src 'none'; style-src 'sha256-", text,
                               "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
                               NULL));
    apr_table_setn(r->headers_out, "X-Content-Type-Options", "nosniff");
    apr_table_setn(r->headers_out, "X-Frame-Options", "DENY");
    /* not no-referrer: browsers would hide the origin of our own forms */
    apr_table_setn(r->headers_out, "Referrer-Policy", "same-origin");
    ap_set_content_type(r, "text/html; charset=utf-8");
}

static void write_facts(const aip_page_t *page, const json_t *server)
{
    apr_int64_t up = (apr_int64_t)aip_page_number(server, "uptime_s");
    ap_rprintf(
        page->r,
        "<p class=\"mute\">mod_ai_proxy_adv %s on %s, MPM %s, %s children, generation %s, up "
        "%" APR_INT64_T_FMT " d %02d:%02d:%02d since <time>%s</time></p>",
        aip_page_string(page, server, "version"), aip_page_string(page, server, "httpd"),
        aip_page_string(page, server, "mpm"), aip_page_count(page, server, "children"),
        aip_page_count(page, server, "generation"), up / 86400, (int)(up / 3600 % 24),
        (int)(up / 60 % 60), (int)(up % 60), aip_page_string(page, server, "started"));
}

static void write_notes(const aip_page_t *page)
{
    if (page->message) {
        ap_rprintf(page->r, "<p class=\"note good\" role=\"status\">%s</p>",
                   aip_page_escape(page, page->message));
    }
    if (page->error) {
        ap_rprintf(page->r, "<p class=\"note bad\" role=\"alert\">%s</p>",
                   aip_page_escape(page, page->error));
    }
}

static void write_contents(const aip_page_t *page, const json_t *gateways)
{
    const json_t *gateway;
    size_t i;
    ap_rputs("<nav aria-label=\"Gateways\"><ul>", page->r);
    json_array_foreach(gateways, i, gateway)
    {
        ap_rprintf(page->r, "<li><a href=\"#g%d\"><bdi>%s</bdi></a></li>", (int)i,
                   aip_page_string(page, gateway, "gateway"));
    }
    ap_rputs("</ul></nav>", page->r);
}

static void write_head(const aip_page_t *page, const json_t *document, const char *style)
{
    request_rec *r = page->r;
    const json_t *gateways = json_object_get(document, "gateways");
    ap_rputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
             "<meta name=\"robots\" content=\"noindex\">",
             r);
    if (page->refresh) {
        ap_rprintf(r, "<meta http-equiv=\"refresh\" content=\"%d;url=?refresh=%d\">", page->refresh,
                   page->refresh);
    }
    ap_rputs("<title>AI gateway status</title><style>", r);
    ap_rputs(style, r);
    ap_rputs("</style></head><body><a class=\"skip\" href=\"#main\">Skip to the gateways</a>"
             "<header><h1>AI gateway status</h1>",
             r);
    write_facts(page, json_object_get(document, "server"));
    if (json_array_size(gateways) > 1) {
        write_contents(page, gateways);
    }
    ap_rputs("</header><main id=\"main\" tabindex=\"-1\">", r);
    write_notes(page);
    if (!json_array_size(gateways)) {
        ap_rputs("<p class=\"card\">No gateway is configured.</p>", r);
    }
}

/* ---- what concerns the whole server ---- */

static const char *seconds(const aip_page_t *page, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value)
               ? apr_pstrcat(page->r->pool, aip_page_count(page, object, key), " s", NULL)
               : "\xe2\x80\x93";
}

static void write_secrets(const aip_page_t *page, const json_t *secrets)
{
    const json_t *secret;
    size_t i;
    if (!json_array_size(secrets)) {
        return;
    }
    ap_rputs("<section class=\"card\" aria-labelledby=\"secrets\"><h2 id=\"secrets\">Secrets</h2>"
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of "
             "secrets\"><table>"
             "<caption>Where secrets come from and how old they are; never a value</caption>"
             "<thead><tr><th scope=\"col\">Reference</th><th scope=\"col\">Vault</th>"
             "<th scope=\"col\">State</th><th scope=\"col\" class=\"n\">Asked for</th>"
             "<th scope=\"col\" class=\"n\">Next time in</th>"
             "<th scope=\"col\" class=\"n\">Failures</th></tr></thead><tbody>",
             page->r);
    json_array_foreach(secrets, i, secret)
    {
        const char *state = json_string_value(json_object_get(secret, "state"));
        const char *age = seconds(page, secret, "age_s");
        ap_rprintf(page->r,
                   "<tr><th scope=\"row\" class=\"wrap\"><bdi>%s</bdi></th><td><bdi>%s</bdi></td>"
                   "<td><span class=\"%s\">%s</span></td><td class=\"n\">%s%s</td>"
                   "<td class=\"n\">%s</td><td class=\"n\">%s</td></tr>",
                   aip_page_string(page, secret, "reference"),
                   aip_page_string(page, secret, "vault"), aip_page_badge(state), state, age,
                   json_is_integer(json_object_get(secret, "age_s")) ? " ago" : "",
                   seconds(page, secret, "next_refresh_s"),
                   aip_page_count(page, secret, "failures"));
    }
    ap_rputs("</tbody></table></div></section>", page->r);
}

static void write_key_files(const aip_page_t *page, const json_t *files)
{
    const json_t *file;
    size_t i;
    if (!json_array_size(files)) {
        return;
    }
    ap_rputs("<section class=\"card\" aria-labelledby=\"keys\"><h2 id=\"keys\">API keys</h2>"
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of files of "
             "API keys\">"
             "<table><caption>Files of API keys, as this child has read them</caption>"
             "<thead><tr><th scope=\"col\">File</th><th scope=\"col\" class=\"n\">Keys</th>"
             "<th scope=\"col\">Read</th></tr></thead><tbody>",
             page->r);
    json_array_foreach(files, i, file)
    {
        ap_rprintf(page->r,
                   "<tr><th scope=\"row\" class=\"wrap\"><bdi>%s</bdi></th><td class=\"n\">%s</td>"
                   "<td>%s</td></tr>",
                   aip_page_string(page, file, "file"), aip_page_count(page, file, "consumers"),
                   aip_page_string(page, file, "loaded"));
    }
    ap_rputs("</tbody></table></div></section>", page->r);
}

static void write_foot(const aip_page_t *page, const json_t *server)
{
    ap_rprintf(page->r,
               "</main><footer><p>As of <time>%s</time>%s. <a href=\"?format=json\">The same as "
               "JSON</a>. Read again every <a href=\"?refresh=10\">10 seconds</a>, <a "
               "href=\"?refresh=60\">minute</a>, or <a href=\"?\">not by itself</a>.</p>",
               aip_page_string(page, server, "time"),
               page->refresh
                   ? apr_psprintf(page->r->pool, ", read again every %d seconds", page->refresh)
                   : "");
    if (!page->token) {
        ap_rputs("<p>You may look, not give orders: that takes an authenticated user, or a client "
                 "on this machine.</p>",
                 page->r);
    }
    ap_rputs("</footer></body></html>\n", page->r);
}

void aip_page_write(const aip_page_t *page, const json_t *document)
{
    const char *style = aip_page_style(page->r->pool);
    const json_t *gateways = json_object_get(document, "gateways"), *gateway;
    size_t i;
    set_headers(page, style);
    write_head(page, document, style);
    json_array_foreach(gateways, i, gateway)
    {
        aip_page_gateway(page, gateway, (int)i);
    }
    write_secrets(page, json_object_get(document, "secrets"));
    write_key_files(page, json_object_get(document, "api_key_files"));
    write_foot(page, json_object_get(document, "server"));
}
