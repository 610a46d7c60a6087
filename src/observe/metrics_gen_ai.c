/* SPDX-License-Identifier: Apache-2.0 */
/* gen_ai_*: the metrics of OpenTelemetry's semantic conventions for generative AI, under the names
 * that a Prometheus exporter gives them, by target and by what it answered.
 * https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ (v1.41)
 * https://github.com/open-telemetry/semantic-conventions-genai (latest) */
#include "metrics_private.h"

enum { V1_41 = 1 << AIP_SEMCONV_V1_41, LATEST = 1 << AIP_SEMCONV_LATEST, BOTH = V1_41 | LATEST };

#define INPUT offsetof(aip_series_t, input)
#define OUTPUT offsetof(aip_series_t, output)
#define NOTHING ((size_t)-1)

/* A family of histograms; two of a series when they differ by one label. */
static const struct {
    int conventions;
    aip_family_t family;
    aip_scale_e scale;
    size_t first, second;
} histograms[] = {
    {V1_41,
     {"gen_ai_client_token_usage", AIP_METRIC_HISTOGRAM, NULL,
      "Tokens of requests whose usage is known."},
     AIP_SCALE_TOKENS,
     INPUT,
     OUTPUT},
    {LATEST,
     {"gen_ai_client_inference_operation_input_tokens", AIP_METRIC_HISTOGRAM, NULL,
      "Input tokens of requests whose usage is known."},
     AIP_SCALE_TOKENS,
     INPUT,
     NOTHING},
    {LATEST,
     {"gen_ai_client_inference_operation_output_tokens", AIP_METRIC_HISTOGRAM, NULL,
      "Output tokens of requests whose usage is known."},
     AIP_SCALE_TOKENS,
     OUTPUT,
     NOTHING},
    {LATEST,
     {"gen_ai_client_inference_duration_seconds", AIP_METRIC_HISTOGRAM, "seconds",
      "Time from the request to the end of its answer."},
     AIP_SCALE_DURATION,
     offsetof(aip_series_t, duration),
     NOTHING},
    {LATEST,
     {"gen_ai_client_inference_time_to_first_chunk_seconds", AIP_METRIC_HISTOGRAM, "seconds",
      "Time from the request to the first content of a stream."},
     AIP_SCALE_FIRST_TOKEN,
     offsetof(aip_series_t, first_token),
     NOTHING},
    {BOTH,
     {"gen_ai_server_request_duration_seconds", AIP_METRIC_HISTOGRAM, "seconds",
      "Time from the request to the end of its answer."},
     AIP_SCALE_DURATION,
     offsetof(aip_series_t, duration),
     NOTHING},
    {BOTH,
     {"gen_ai_server_time_to_first_token_seconds", AIP_METRIC_HISTOGRAM, "seconds",
      "Time from the request to the first content of a stream."},
     AIP_SCALE_FIRST_TOKEN,
     offsetof(aip_series_t, first_token),
     NOTHING},
    {BOTH,
     {"gen_ai_server_time_per_output_token_seconds", AIP_METRIC_HISTOGRAM, "seconds",
      "Time for each output token of a stream after the first."},
     AIP_SCALE_PER_TOKEN,
     offsetof(aip_series_t, per_token),
     NOTHING},
};

/* Counters of the latest conventions: the sum of a histogram, or a count of its own. */
static const struct {
    aip_family_t family;
    size_t histogram, count;
} counters[] = {
    {{"gen_ai_client_inference_usage_input_tokens", AIP_METRIC_COUNTER, NULL, "Input tokens."},
     INPUT,
     NOTHING},
    {{"gen_ai_client_inference_usage_output_tokens", AIP_METRIC_COUNTER, NULL, "Output tokens."},
     OUTPUT,
     NOTHING},
    {{"gen_ai_client_inference_usage_cache_read_input_tokens", AIP_METRIC_COUNTER, NULL,
      "Input tokens that the provider had in its cache."},
     NOTHING,
     offsetof(aip_series_t, cached)},
    {{"gen_ai_client_inference_usage_cache_write_input_tokens", AIP_METRIC_COUNTER, NULL,
      "Input tokens that the provider put into its cache."},
     NOTHING,
     offsetof(aip_series_t, cache_write)},
    {{"gen_ai_client_inference_usage_reasoning_output_tokens", AIP_METRIC_COUNTER, NULL,
      "Output tokens of reasoning."},
     NOTHING,
     offsetof(aip_series_t, reasoning)},
};

static const void *member(const aip_series_t *series, size_t offset)
{
    return (const char *)series + offset;
}

static void put_histogram(aip_scrape_t *s, const char *labels, aip_scale_e scale,
                          const aip_series_t *series, size_t offset, const char *type)
{
    aip_snapshot_t snapshot = {0};
    aip_histogram_read(member(series, offset), scale, &snapshot);
    if (snapshot.count) { /* what never happened would only make the scrape longer */
        aip_exposition_histogram(
            &s->out, type ? aip_label(labels, "gen_ai_token_type", type, s->apr) : labels, scale,
            &snapshot);
    }
}

static void put_count(aip_scrape_t *s, const char *labels, const aip_series_t *series, size_t i)
{
    aip_snapshot_t snapshot = {0};
    if (counters[i].histogram == NOTHING) {
        aip_exposition_value(&s->out, labels, aip_count_read(member(series, counters[i].count)), 0);
        return;
    }
    aip_histogram_read(member(series, counters[i].histogram), AIP_SCALE_TOKENS, &snapshot);
    aip_exposition_value(&s->out, labels, snapshot.sum, 0);
}

static void put_histograms(aip_scrape_t *s, size_t i)
{
    bool two = histograms[i].second != NOTHING;
    aip_exposition_family(&s->out, &histograms[i].family);
    for (int t = 0; t < s->n_targets; t++) {
        const aip_target_view_t *view = &s->targets[t];
        for (int k = 0; k < AIP_SERIES; k++) {
            const aip_series_t *series = &view->target->metrics->series[k];
            if (!view->series[k]) {
                continue;
            }
            put_histogram(s, view->series[k], histograms[i].scale, series, histograms[i].first,
                          two ? "input" : NULL);
            if (two) {
                put_histogram(s, view->series[k], histograms[i].scale, series, histograms[i].second,
                              "output");
            }
        }
    }
}

void aip_metrics_gen_ai(aip_scrape_t *s)
{
    int wanted = 1 << s->f->telemetry_semconv;
    for (size_t i = 0; i < sizeof histograms / sizeof *histograms; i++) {
        if (histograms[i].conventions & wanted) {
            put_histograms(s, i);
        }
    }
    for (size_t i = 0; wanted == LATEST && i < sizeof counters / sizeof *counters; i++) {
        aip_exposition_family(&s->out, &counters[i].family);
        for (int t = 0; t < s->n_targets; t++) {
            for (int k = 0; k < AIP_SERIES; k++) {
                if (s->targets[t].series[k]) {
                    put_count(s, s->targets[t].series[k], &s->targets[t].target->metrics->series[k],
                              i);
                }
            }
        }
    }
}
