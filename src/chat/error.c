/* SPDX-License-Identifier: Apache-2.0 */
/* The error object of a request: filled by whichever unit finds the fault, rendered once for the
 * client in the shape of OpenAI's API. Called from every unit of the core and from the glue. */

#include "aip/error.h"
#include "aip/json.h"

#include <apr_strings.h>
#include <stdarg.h>
#include <string.h>

apr_status_t aip_error_set(aip_error_t *err, apr_pool_t *pool, int status, const char *type,
                           const char *code, const char *param, const char *fmt, ...)
{
    va_list args;

    *err = (aip_error_t){.status = status, .type = type, .code = code, .param = param};
    va_start(args, fmt);
    err->message = apr_pvsprintf(pool, fmt, args);
    va_end(args);
    return APR_EGENERAL;
}

static const char *string_or_null(const char *text, apr_pool_t *pool)
{
    return text ? aip_json_quote((aip_span_t){text, strlen(text)}, pool).data : "null";
}

const char *aip_error_json(const aip_error_t *err, apr_pool_t *pool)
{
    return apr_pstrcat(pool, "{\"error\":{\"message\":", string_or_null(err->message, pool),
                       ",\"type\":", string_or_null(err->type, pool),
                       ",\"param\":", string_or_null(err->param, pool),
                       ",\"code\":", string_or_null(err->code, pool), "}}\n", NULL);
}
