/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what refusals say of time and quota, and what a proxy answers to CONNECT. Lines up to an
 * empty one are header fields, the rest is a body, and an answer of a proxy as a whole. What must
 * hold: no pause is negative or longer than 10 years, a field more never makes it shorter than the
 * longest of its kind; a body that is no JSON says nothing; the answer of a proxy is the same
 * however much of it has come, and open only when it ends with its head. */

#include "fuzz.h"

#include "aip/egress.h"
#include "aip/json.h"
#include "aip/retry_after.h"

#include <apr_strings.h>

#define LONGEST apr_time_from_sec(APR_INT64_C(3650) * 86400)

static void check_fields(const apr_table_t *headers)
{
    const apr_time_t now = apr_time_from_sec(1700000000);
    const apr_interval_time_t pause = aip_retry_after(headers, now);
    apr_table_t *more = apr_table_copy(fuzz_pool(), headers);

    require(pause >= 0 && pause <= LONGEST);
    /* later, a date is no further away */
    require(aip_retry_after(headers, now + apr_time_from_sec(5)) <= pause);
    apr_table_add(more, "retry-after-ms", "0");
    require(apr_table_get(headers, "retry-after-ms") || aip_retry_after(more, now) == 0);
}

static void check_proxy(const char *data, size_t len)
{
    aip_connect_e last = AIP_CONNECT_MORE;
    int status = 0;

    for (size_t n = 0; n <= len; n++) {
        char *copy = fuzz_copy(data, n);
        const aip_connect_e now = aip_connect_answer(copy, n, &status);

        free(copy);
        /* What is over stays so; only bytes behind an open tunnel's head make it a bad one. */
        require(last != AIP_CONNECT_BAD || now == AIP_CONNECT_BAD);
        require(last != AIP_CONNECT_NO || now == AIP_CONNECT_NO);
        require(last != AIP_CONNECT_OPEN || now == AIP_CONNECT_BAD);
        require(now != AIP_CONNECT_OPEN || (status >= 200 && status < 300 && data[n - 1] == '\n'));
        require(now != AIP_CONNECT_NO || status >= 300);
        last = now;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_table_t *headers = apr_table_make(fuzz_pool(), 4);

    check_proxy((const char *)data, size < 2048 ? size : 2048);
    while (size) {
        char *line = fuzz_line(&data, &size);
        char *colon = strchr(line, ':');

        line[strcspn(line, "\r")] = '\0';
        const bool last = !*line;
        if (colon) {
            *colon = '\0';
            apr_table_add(headers, line, colon + 1);
        }
        free(line);
        if (last)
            break;
    }
    check_fields(headers);
    char *body = fuzz_copy(data, size);
    const aip_span_t text = {body, size};
    require(!aip_quota_exhausted(text) || aip_json_validate(text, NULL) == AIP_JSON_OK);
    free(body);
    apr_pool_clear(fuzz_pool());
    return 0;
}
