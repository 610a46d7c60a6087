/* SPDX-License-Identifier: Apache-2.0 */
/* Background HTTP over libcurl: one handle for each call, because calls are rare and the CA bundle
 * should not stay in memory. curl_global_init() is the caller's (once per process, before threads).
 */
#include "fetch_egress.h"

#include <apr_strings.h>
#include <string.h>

typedef struct sink_t {
    apr_pool_t *pool;
    char *data;
    size_t len, room, max;
    bool over; /* the answer is longer than that */
    const volatile apr_uint32_t *stop;
    apr_interval_time_t grace;
    apr_time_t stopped; /* when that was seen first */
} sink_t;

static size_t on_data(char *data, size_t size, size_t n, void *baton)
{
    sink_t *sink = baton;
    size_t len = size * n;
    if (len > sink->max - sink->len) {
        sink->over = true;
        return 0;
    }
    if (sink->len + len > sink->room) {
        size_t room = 2 * (sink->len + len) + 4096;
        char *grown = apr_palloc(sink->pool, room);
        if (sink->len) {
            memcpy(grown, sink->data, sink->len);
        }
        sink->data = grown;
        sink->room = room;
    }
    memcpy(sink->data + sink->len, data, len);
    sink->len += len;
    return len;
}

static int on_progress(void *baton, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                       curl_off_t ulnow)
{
    sink_t *sink = baton;
    (void)dltotal, (void)dlnow, (void)ultotal, (void)ulnow;
    if (!aip_is_stopping(sink->stop)) {
        return 0;
    }
    sink->stopped = sink->stopped ? sink->stopped : apr_time_now();
    return apr_time_now() - sink->stopped >= sink->grace;
}

static void set_options(CURL *curl, const aip_fetch_t *fetch, struct curl_slist *headers,
                        sink_t *sink)
{
    curl_easy_setopt(curl, CURLOPT_URL, fetch->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (fetch->body.data) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, fetch->body.data);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)fetch->body.len);
    }
    if (fetch->method) {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, fetch->method);
    }
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(fetch->timeout / 1000));
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(fetch->timeout / 1000));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, sink);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, sink);
}

/* Seconds or a date, as libcurl has read it; 0: the answer names none. */
static void note_retry_after(CURL *curl, const aip_fetch_t *fetch)
{
#if LIBCURL_VERSION_NUM >= 0x074200
    curl_off_t seconds = 0;
    if (fetch->retry_after && curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK &&
        seconds > 0) {
        *fetch->retry_after = apr_time_from_sec(seconds < 86400 ? seconds : 86400);
    }
#else
    (void)curl, (void)fetch;
#endif
}

/* Who counts the seconds must not wait for a name that does not resolve: libcurl would, for the
 * thread that looks it up. */
static void hurry(CURL *curl, const aip_fetch_t *fetch)
{
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, fetch->grace ? 1L : 0L);
#else
    (void)curl, (void)fetch;
#endif
}

static apr_status_t perform(CURL *curl, const aip_fetch_t *fetch, int *status, aip_span_t *answer,
                            apr_pool_t *pool, aip_error_t *err)
{
    char said[CURL_ERROR_SIZE] = "";
    sink_t sink = {.pool = pool,
                   .max = fetch->max ? fetch->max : AIP_FETCH_BODY_MAX,
                   .stop = fetch->stop,
                   .grace = fetch->grace};
    aip_fetch_egress_t egress = {.fetch = fetch};
    struct curl_slist *headers = NULL;
    long http_status = 0;
    hurry(curl, fetch);
    if (!aip_fetch_egress_set(curl, &egress, pool, err)) {
        return APR_EGENERAL;
    }
    for (const char *const *h = fetch->headers; h && *h; h++) {
        headers = curl_slist_append(headers, *h);
    }
    headers = curl_slist_append(headers, "Expect:");
    set_options(curl, fetch, headers, &sink);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, said);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
    note_retry_after(curl, fetch);
    curl_slist_free_all(headers);
    curl_slist_free_all(egress.proxy_headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    if (sink.over) {
        return aip_error_set(err, pool, 502, "gateway_error", "fetch_failed", NULL,
                             "the answer is longer than %" APR_SIZE_T_FMT " bytes", sink.max);
    }
    if (code != CURLE_OK) {
        return aip_error_set(err, pool, code == CURLE_OPERATION_TIMEDOUT ? 504 : 502,
                             "gateway_error", "fetch_failed", NULL, "%s",
                             aip_fetch_reason(curl, code, &egress, said, pool));
    }
    *status = (int)http_status;
    *answer = (aip_span_t){sink.data ? sink.data : "", sink.len};
    return APR_SUCCESS;
}

apr_status_t aip_fetch(const aip_fetch_t *fetch, int *status, aip_span_t *answer, apr_pool_t *pool,
                       aip_error_t *err)
{
    CURL *curl = curl_easy_init();
    if (!curl) {
        return aip_error_set(err, pool, 502, "gateway_error", "fetch_failed", NULL, "%s",
                             curl_easy_strerror(CURLE_OUT_OF_MEMORY));
    }
    apr_status_t rv = perform(curl, fetch, status, answer, pool, err);
    curl_easy_cleanup(curl);
    return rv;
}
