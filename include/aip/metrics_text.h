/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_METRICS_TEXT_H
#define AIP_METRICS_TEXT_H
/* Metrics as text: Prometheus' text format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/) and OpenMetrics 1.0
 * (https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md). One buffer
 * that grows; numbers are written without printf. */

#include "aip/metrics.h"

/** A growing text. Once memory is short `failed` is set and nothing more is added. */
typedef struct aip_text_t {
    char *data; /**< malloc(3) */
    size_t len, size;
    bool failed;
} aip_text_t;

/** Room for `more` bytes. @return whether there is */
bool aip_text_room(aip_text_t *text, size_t more);

void aip_text_bytes(aip_text_t *text, const char *bytes, size_t len);
void aip_text_add(aip_text_t *text, const char *string);

/** value / 10^digits in full, without zeros at its end: 1500000 with 6 digits is 1.5. */
void aip_text_number(aip_text_t *text, apr_uint64_t value, int digits);

/** name="value", with a comma before it unless the text is empty; bytes that would end the value
 * are escaped, a byte that is not UTF-8 is written as "\\xff". @return in `pool` */
const char *aip_label(const char *labels, const char *name, const char *value, apr_pool_t *pool);

typedef enum aip_metric_type_e {
    AIP_METRIC_COUNTER,
    AIP_METRIC_GAUGE,
    AIP_METRIC_HISTOGRAM,
    AIP_METRIC_INFO
} aip_metric_type_e;

typedef struct aip_family_t {
    const char *name; /**< without _total and _info */
    aip_metric_type_e type;
    const char *unit; /**< that the name ends with, or NULL */
    const char *help; /**< nothing in it needs escaping */
} aip_family_t;

/** A text of metrics. */
typedef struct aip_exposition_t {
    aip_text_t text;
    bool openmetrics;
    const aip_family_t *family; /**< whose samples come; its head is written with the first */
    bool headed;
} aip_exposition_t;

/** The samples that follow are of that family. */
void aip_exposition_family(aip_exposition_t *out, const aip_family_t *family);

/** A sample of a counter, gauge or info. @param labels  "name=\"value\",...", may be empty */
void aip_exposition_value(aip_exposition_t *out, const char *labels, apr_uint64_t value,
                          int digits);

/** The samples of a histogram. */
void aip_exposition_histogram(aip_exposition_t *out, const char *labels, aip_scale_e scale,
                              const aip_snapshot_t *snapshot);

/** The end of the text. */
void aip_exposition_end(aip_exposition_t *out);

/** Whether an Accept header (NULL: there is none) asks for OpenMetrics 1.0 rather than for the text
 * format: RFC 9110, section 12.5.1. */
bool aip_accepts_openmetrics(const char *accept);

#define AIP_TYPE_TEXT_0_0_4 "text/plain; version=0.0.4; charset=utf-8"
#define AIP_TYPE_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

#endif
