/* SPDX-License-Identifier: Apache-2.0 */
/* Charts of the status page: sixty bars, one for each minute of the last hour, as SVG inside the
 * page, each with its contents as a sentence. */
#include "status.h"

#include <apr_strings.h>
#include <http_protocol.h>

#define WIDTH 4 /* of a minute, in the chart's own units */
#define HEIGHT 48

static double at(const json_t *series, size_t minute)
{
    return json_number_value(json_array_get(series, minute));
}

static double greatest(const json_t *a, const json_t *b)
{
    double most = 0;
    for (size_t i = 0; i < AIP_HISTORY_MINUTES; i++) {
        double value = at(a, i) + (b ? at(b, i) : 0);
        most = value > most ? value : most;
    }
    return most;
}

/* Bars upon those of `below`. */
static void write_bars(const aip_page_t *page, const json_t *series, const json_t *below,
                       double most, const char *class)
{
    ap_rprintf(page->r, "<path class=\"%s\" d=\"", class);
    for (size_t i = 0; i < AIP_HISTORY_MINUTES; i++) {
        double value = at(series, i), under = below ? at(below, i) : 0;
        double height = value / most * HEIGHT;
        if (value > 0) {
            height = height < 1 ? 1 : height;
            double foot = HEIGHT - under / most * HEIGHT;
            ap_rprintf(page->r, "M%d %.1fV%.1fh3V%.1fz", (int)i * WIDTH, foot, foot - height, foot);
        }
    }
    ap_rputs("\"/>", page->r);
}

static void write_chart(const aip_page_t *page, const char *name, const char *caption,
                        const char *sentence, const json_t *a, const json_t *b, const char *class)
{
    double most = greatest(a, b);
    ap_rprintf(page->r,
               "<figure class=\"chart\"><svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" "
               "role=\"img\" aria-label=\"%s: %s\">",
               WIDTH * AIP_HISTORY_MINUTES, HEIGHT + 1, name, sentence);
    write_bars(page, a, NULL, most, class);
    if (b) {
        write_bars(page, b, a, most, "o");
    }
    ap_rprintf(page->r,
               "<path class=\"axis\" d=\"M0 %d.5h%d\"/></svg><figcaption><b>%s</b> %s"
               "</figcaption></figure>",
               HEIGHT, WIDTH * AIP_HISTORY_MINUTES, name, caption);
}

static void write_count(const aip_page_t *page, const char *name, const json_t *a, const json_t *b,
                        const char *class)
{
    double sum = 0, last = at(a, AIP_HISTORY_MINUTES - 1), most = greatest(a, b);
    for (size_t i = 0; i < AIP_HISTORY_MINUTES; i++) {
        sum += at(a, i) + (b ? at(b, i) : 0);
    }
    last += b ? at(b, AIP_HISTORY_MINUTES - 1) : 0;
    const char *sentence = apr_psprintf(page->r->pool,
                                        "%.0f in the last hour, at most %.0f in a minute, %.0f in "
                                        "this minute",
                                        sum, most, last);
    write_chart(page, name,
                apr_psprintf(page->r->pool, "%sa minute, at most %.0f",
                             b ? "in, and out above them, " : "", most),
                sentence, a, b, class);
}

static void write_latency(const aip_page_t *page, const json_t *series)
{
    const char *text = aip_page_duration(page, greatest(series, NULL));
    write_chart(page, "Mean latency",
                apr_pstrcat(page->r->pool, "by the minute, at most ", text, NULL),
                apr_psprintf(page->r->pool, "at most %s in a minute of the last hour", text),
                series, NULL, "b");
}

void aip_page_charts(const aip_page_t *page, const json_t *gateway)
{
    const json_t *minutes = json_object_get(gateway, "minutes");
    ap_rputs("<div class=\"charts\">", page->r);
    write_count(page, "Requests", json_object_get(minutes, "requests"), NULL, "b");
    write_count(page, "Errors", json_object_get(minutes, "errors"), NULL, "e");
    write_latency(page, json_object_get(minutes, "latency_ms"));
    write_count(page, "Tokens", json_object_get(minutes, "prompt_tokens"),
                json_object_get(minutes, "completion_tokens"), "b");
    ap_rputs("</div>", page->r);
}
