/* SPDX-License-Identifier: Apache-2.0 */
/* The try-it box of the status page, and what a dry run said: the same document that AIDryRunPath
 * answers with, as tables. */
#include "status.h"

#include <apr_strings.h>
#include <http_protocol.h>

#define DASH "\xe2\x80\x93"
#define BAR 180 /* units of the longest distance */

static const char *real(const aip_page_t *page, const json_t *value)
{
    return json_is_number(value) ? apr_psprintf(page->r->pool, "%.4f", json_number_value(value))
                                 : DASH;
}

static const char *word(const aip_page_t *page, const json_t *object, const char *key)
{
    return json_is_string(json_object_get(object, key)) ? aip_page_string(page, object, key) : DASH;
}

/* ---- distances ---- */

/* What the whole length of a bar stands for. */
static double scale_of(const json_t *distances)
{
    const json_t *row;
    double most = 0;
    size_t i;
    json_array_foreach(distances, i, row)
    {
        double d = aip_page_number(row, "distance"), t = aip_page_number(row, "threshold");
        most = d > most ? d : most;
        most = t > most ? t : most;
    }
    return most > 0 ? most * 1.1 : 1;
}

static void write_bar(const aip_page_t *page, const json_t *row, double scale)
{
    const json_t *threshold = json_object_get(row, "threshold");
    double length = aip_page_number(row, "distance") / scale * BAR;
    ap_rprintf(
        page->r,
        "<svg class=\"dist\" viewBox=\"0 0 %d 16\" aria-hidden=\"true\"><rect class=\"track\" "
        "y=\"5\" width=\"%d\" height=\"6\"/><rect class=\"%s\" y=\"3\" width=\"%.1f\" "
        "height=\"10\"/>",
        BAR, BAR, json_is_true(json_object_get(row, "eligible")) ? "near" : "far",
        length > 0 ? length : 0);
    if (json_is_number(threshold)) {
        double x = json_number_value(threshold) / scale * BAR;
        ap_rprintf(page->r, "<path class=\"limit\" d=\"M%.1f 0v16\"/>", x);
    }
    ap_rputs("</svg>", page->r);
}

static void write_distances(const aip_page_t *page, const json_t *distances)
{
    const json_t *row;
    double scale = scale_of(distances);
    size_t i;
    if (!json_array_size(distances)) {
        return;
    }
    ap_rputs("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Distances\"><table>"
             "<caption>Distances, nearest first; the line in a bar is the threshold</caption>"
             "<thead><tr><th scope=\"col\">Route</th><th scope=\"col\" class=\"n\">Distance</th>"
             "<th scope=\"col\" class=\"n\">Threshold</th><th scope=\"col\">Within</th>"
             "<th scope=\"col\">Compared</th></tr></thead><tbody>",
             page->r);
    json_array_foreach(distances, i, row)
    {
        ap_rprintf(page->r,
                   "<tr><th scope=\"row\" class=\"wrap\"><bdi>%s</bdi></th><td class=\"n\">%s</td>"
                   "<td class=\"n\">%s</td><td>%s</td><td>",
                   word(page, row, "route"), real(page, json_object_get(row, "distance")),
                   real(page, json_object_get(row, "threshold")),
                   json_is_true(json_object_get(row, "eligible")) ? "yes" : "no");
        write_bar(page, row, scale);
        ap_rputs("</td></tr>", page->r);
    }
    ap_rputs("</tbody></table></div>", page->r);
}

/* ---- candidates ---- */

static void write_candidates(const aip_page_t *page, const json_t *tried)
{
    const json_t *row;
    size_t i;
    ap_rputs(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Candidates\"><table>"
        "<caption>Targets in the order in which they would be tried, then those left out"
        "</caption><thead><tr><th scope=\"col\" class=\"n\">Turn</th>"
        "<th scope=\"col\">Target</th><th scope=\"col\">Model</th>"
        "<th scope=\"col\">Health, or why not</th><th scope=\"col\" class=\"n\">Distance</th>"
        "</tr></thead><tbody>",
        page->r);
    json_array_foreach(json_object_get(tried, "candidates"), i, row)
    {
        ap_rprintf(page->r,
                   "<tr><td class=\"n\">%d</td><th scope=\"row\"><bdi>%s</bdi></th><td><bdi>%s"
                   "</bdi></td><td>%s</td><td class=\"n\">%s</td></tr>",
                   (int)i + 1, word(page, row, "target"), word(page, row, "model"),
                   word(page, row, "health"), real(page, json_object_get(row, "distance")));
    }
    json_array_foreach(json_object_get(tried, "left_out"), i, row)
    {
        ap_rprintf(page->r,
                   "<tr><td class=\"n\">" DASH "</td><th scope=\"row\"><bdi>%s</bdi></th><td>" DASH
                   "</td><td>left out: %s</td><td class=\"n\">" DASH "</td></tr>",
                   word(page, row, "target"), word(page, row, "why"));
    }
    ap_rputs("</tbody></table></div>", page->r);
}

/* ---- the outcome ---- */

static void write_decision(const aip_page_t *page, const json_t *tried)
{
    const json_t *decision = json_object_get(tried, "decision");
    const json_t *timings = json_object_get(tried, "timings");
    ap_rprintf(page->r,
               "<dl class=\"facts\"><div><dt>Target</dt><dd><strong><bdi>%s</bdi></strong></dd>"
               "</div><div><dt>Reason</dt><dd>%s</dd></div><div><dt>Route</dt><dd><bdi>%s</bdi>"
               "</dd></div><div><dt>Distance, threshold</dt><dd>%s, %s</dd></div>"
               "<div><dt>Route cache</dt><dd>%s</dd></div>"
               "<div><dt>Embedding, search, in all</dt><dd>%s, %s, %s</dd></div></dl>",
               word(page, decision, "target"), word(page, decision, "reason"),
               word(page, decision, "route"), real(page, json_object_get(decision, "distance")),
               real(page, json_object_get(decision, "threshold")), word(page, tried, "cache"),
               aip_page_ms(page, json_object_get(timings, "embedding_ms")),
               aip_page_ms(page, json_object_get(timings, "search_ms")),
               aip_page_ms(page, json_object_get(timings, "total_ms")));
}

static void write_result(const aip_page_t *page, int number)
{
    const json_t *error = json_object_get(page->tried, "error");
    ap_rprintf(page->r, "<div id=\"r%d\"><h4>Where this prompt would go</h4>", number);
    if (json_is_object(error)) {
        ap_rprintf(page->r, "<p class=\"note bad\" role=\"alert\">%s, %s: <bdi>%s</bdi></p>",
                   aip_page_count(page, error, "status"), word(page, error, "code"),
                   word(page, error, "message"));
    }
    if (json_is_string(json_object_get(page->tried, "failure"))) {
        ap_rprintf(page->r, "<p class=\"note warn\">The prompt could not be embedded: %s</p>",
                   aip_page_string(page, page->tried, "failure"));
    }
    write_decision(page, page->tried);
    write_distances(page, json_object_get(page->tried, "distances"));
    write_candidates(page, page->tried);
    ap_rputs("</div>", page->r);
}

void aip_page_try(const aip_page_t *page, const json_t *gateway, int number)
{
    const char *name = json_string_value(json_object_get(gateway, "gateway"));
    const char *server = json_string_value(json_object_get(gateway, "server"));
    bool mine = page->tried && name && server && strcmp(name, page->try_gateway) == 0 &&
                strcmp(server, page->try_server) == 0;
    ap_rprintf(page->r, "<h3 id=\"h%d\">Try a prompt</h3><form method=\"post\" action=\"#r%d\">",
               number, number);
    aip_page_hidden(page, gateway, "try");
    ap_rprintf(page->r,
               "<label for=\"t%d\">A prompt, or a whole chat as JSON</label><textarea id=\"t%d\" "
               "name=\"prompt\" rows=\"4\" maxlength=\"%d\" required spellcheck=\"false\" "
               "aria-describedby=\"d%d\">\n%s</textarea><p class=\"mute\" id=\"d%d\">Shows where "
               "it would go; no model is asked, nothing is logged or kept. AIAcls rules of clients "
               "are not applied.</p><button>Try <span class=\"hide\">on <bdi>%s</bdi></span>"
               "</button></form>",
               number, number, AIP_TRY_MAX, number, mine ? aip_page_escape(page, page->prompt) : "",
               number, aip_page_string(page, gateway, "gateway"));
    if (mine) {
        write_result(page, number);
    }
}
