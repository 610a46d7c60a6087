/* SPDX-License-Identifier: Apache-2.0 */
/* Our rows in the page of mod_status, and in its form for machines (?auto): one for each target.
 * mod_status need not be there: the hook is an optional one. */
#include "status.h"

#include <apr_strings.h>
#include <http_protocol.h>
#include <mod_status.h>
#include <stdatomic.h>

typedef struct row_t {
    const char *gateway, *name, *state;
    apr_uint32_t in_flight;
    apr_uint64_t requests, errors;
} row_t;

/* Lines of "Key: value"; names are values, so that they cannot look like keys. */
static void write_short(request_rec *r, const row_t *row, int n)
{
    ap_rprintf(r,
               "AITarget%dGateway: %s\nAITarget%dName: %s\nAITarget%dState: %s\n"
               "AITarget%dInFlight: %u\nAITarget%dRequests: %" APR_UINT64_T_FMT
               "\nAITarget%dErrors: %" APR_UINT64_T_FMT "\n",
               n, ap_escape_logitem(r->pool, row->gateway), n,
               ap_escape_logitem(r->pool, row->name), n, row->state, n, row->in_flight, n,
               row->requests, n, row->errors);
}

/* mod_status says ISO-8859-1. */
static void write_row(request_rec *r, const row_t *row, bool table)
{
    ap_rprintf(r,
               table ? "<tr><td>%s</td><td>%s</td><td>%s</td><td>%u</td><td>%" APR_UINT64_T_FMT
                       "</td><td>%" APR_UINT64_T_FMT "</td></tr>\n"
                     : "%s %s: %s, %u in flight, %" APR_UINT64_T_FMT " requests, %" APR_UINT64_T_FMT
                       " errors\n",
               ap_escape_html2(r->pool, row->gateway, 1), ap_escape_html2(r->pool, row->name, 1),
               row->state, row->in_flight, row->requests, row->errors);
}

static row_t row_of(const aip_targets_t *targets, const aip_target_t *target)
{
    const aip_location_fields_t *f = aip_status_fields(targets);
    aip_health_rules_t rules = aip_health_rules(f);
    return (row_t){
        .gateway = targets->pool,
        .name = target->name,
        .state = aip_availability_name(aip_health_look(target->state, &rules, apr_time_now())),
        .in_flight = atomic_load(&target->state->in_flight),
        .requests = atomic_load(&target->metrics->requests),
        .errors = atomic_load(&target->metrics->errors)};
}

int aip_status_rows(request_rec *r, int flags)
{
    bool brief = flags & AP_STATUS_SHORT, table = !(flags & AP_STATUS_NOTABLE);
    int n = 0;
    if (!aip_registry->targets->nelts) {
        return DECLINED;
    }
    if (!brief) {
        ap_rputs(table ? "<hr />\n<h2>AI gateway targets</h2>\n<table border=\"0\"><tr>"
                         "<th>Gateway</th><th>Target</th><th>State</th><th>In flight</th>"
                         "<th>Requests</th><th>Errors</th></tr>\n"
                       : "<hr />\n<h2>AI gateway targets</h2>\n<pre>",
                 r);
    }
    for (int i = 0; i < aip_registry->targets->nelts; i++) {
        const aip_targets_t *targets = APR_ARRAY_IDX(aip_registry->targets, i, aip_targets_t *);
        for (int k = 0; k < targets->n; k++) {
            row_t row = row_of(targets, targets->list[k]);
            if (brief) {
                write_short(r, &row, n++);
            } else {
                write_row(r, &row, table);
            }
        }
    }
    if (!brief) {
        ap_rputs(table ? "</table>\n" : "</pre>\n", r);
    }
    return OK;
}
