/* SPDX-License-Identifier: Apache-2.0 */
/* AIRouteExamplesFile: one example a line. Runs while the configuration is read. */
#include "aip/config.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#define LINE_MAX_BYTES 8192
#define EXAMPLES_MAX 10000

/* The line without the white space at its ends. */
static char *trim(char *line)
{
    char *end = line + strlen(line);
    while (apr_isspace(*line)) {
        line++;
    }
    while (end > line && apr_isspace(end[-1])) {
        *--end = '\0';
    }
    return line;
}

/* One line's example. @return NULL or an error */
static const char *add_line(cmd_parms *cmd, aip_target_fields_t *fields, char *line)
{
    char *text = trim(line);
    if (!*text || *text == '#') {
        return NULL;
    }
    if (fields->route_example && fields->route_example->nelts >= EXAMPLES_MAX) {
        return apr_psprintf(cmd->pool, "a target takes at most %d examples", EXAMPLES_MAX);
    }
    return aip_field_set(&aip_target_table[AIP_T_route_example], fields, 1, &text, cmd->pool);
}

static const char *read_lines(cmd_parms *cmd, aip_target_fields_t *fields, apr_file_t *file)
{
    char line[LINE_MAX_BYTES + 3], reason[120]; /* with its end, which may be CR and LF */
    apr_status_t rv;
    for (int n = 1; (rv = apr_file_gets(line, sizeof line, file)) == APR_SUCCESS; n++) {
        if (strcspn(line, "\r\n") > LINE_MAX_BYTES) {
            return apr_psprintf(cmd->pool, "line %d is longer than %d bytes", n, LINE_MAX_BYTES);
        }
        const char *error = add_line(cmd, fields, line);
        if (error) {
            return apr_psprintf(cmd->pool, "line %d: %s", n, error);
        }
    }
    return APR_STATUS_IS_EOF(rv) ? NULL
                                 : apr_pstrdup(cmd->pool, apr_strerror(rv, reason, sizeof reason));
}

const char *aip_examples_read(cmd_parms *cmd, aip_target_fields_t *fields, const char *name)
{
    apr_file_t *file;
    char reason[120];
    const char *path = ap_server_root_relative(cmd->pool, name);
    apr_status_t rv = path ? apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BUFFERED,
                                           APR_FPROT_OS_DEFAULT, cmd->temp_pool)
                           : APR_EBADPATH;
    if (rv != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "AIRouteExamplesFile: cannot read '%s': %s",
                            path ? path : name, apr_strerror(rv, reason, sizeof reason));
    }
    const char *error = read_lines(cmd, fields, file);
    apr_file_close(file);
    return error ? apr_psprintf(cmd->pool, "AIRouteExamplesFile: %s: %s", path, error) : NULL;
}
