/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of egress of each server: made and checked before anything else of check_config, looked
 * up by what leaves. Virtual hosts have the main server's lines by the ordinary merge. */
#include "check.h"

#include "aip/gateway.h"

#include <apr_strings.h>
#include <http_core.h>

/* The rows of AIEgress*: requests look rules up, too. */
static const aip_field_t *rows[AIP_LOCATION_COUNT];
static int n_rows;

static void find_rows(void)
{
    n_rows = 0;
    for (int i = 0; i < AIP_LOCATION_COUNT; i++) {
        if (strncmp(aip_location_table[i].directive, "AIEgress", 8) == 0) {
            rows[n_rows++] = &aip_location_table[i];
        }
    }
}

static bool same_lines(const aip_location_fields_t *a, const aip_location_fields_t *b)
{
    for (int i = 0; i < n_rows; i++) {
        if (memcmp((const char *)a + rows[i]->offset, (const char *)b + rows[i]->offset,
                   rows[i]->size) != 0) {
            return false;
        }
    }
    return true;
}

static const aip_egress_t *find(const aip_location_fields_t *f)
{
    for (int i = 0; i < aip_registry->egresses->nelts; i++) {
        const aip_server_egress_t *e =
            &APR_ARRAY_IDX(aip_registry->egresses, i, aip_server_egress_t);
        if (same_lines(e->fields, f)) {
            return e->egress;
        }
    }
    return NULL;
}

const aip_egress_t *aip_egress_for(const aip_location_fields_t *f)
{
    const aip_egress_t *egress = find(f);
    return egress ? egress : APR_ARRAY_IDX(aip_registry->egresses, 0, aip_server_egress_t).egress;
}

/* A server without a line of ours has no configuration. */
static const aip_location_fields_t *fields_of(const server_rec *s)
{
    const aip_dir_conf_t *dir = ap_get_module_config(s->lookup_defaults, &ai_proxy_adv_module);
    return dir ? &dir->f : NULL;
}

const aip_egress_t *aip_egress_of(const server_rec *s)
{
    const aip_location_fields_t *f = fields_of(s);
    return f ? aip_egress_for(f)
             : APR_ARRAY_IDX(aip_registry->egresses, 0, aip_server_egress_t).egress;
}

const char *aip_egress_denied(const aip_egress_t *egress, const aip_url_t *url, apr_pool_t *pool)
{
    return aip_egress_allows(egress, url)
               ? NULL
               : apr_psprintf(pool,
                              "no AIEgressAllow lets %s%s pass: add 'AIEgressAllow %s://%s/*', or "
                              "use another URL",
                              url->origin, url->path, url->tls ? "https" : "http", url->authority);
}

/* The section of the server's own lines, for the place in messages. */
static aip_section_t section_of(server_rec *s, apr_pool_t *pool)
{
    for (int i = 0; i < aip_registry->sections->nelts; i++) {
        const aip_section_t *section = &APR_ARRAY_IDX(aip_registry->sections, i, aip_section_t);
        if (section->server == s && section->path && !*section->path) {
            return *section;
        }
    }
    return (aip_section_t){
        .server = s,
        .where = s->defn_name ? apr_psprintf(pool, "%s:%u", s->defn_name, s->defn_line_number)
                              : "the main server"};
}

static int add(const aip_location_fields_t *f, server_rec *s, apr_pool_t *pconf)
{
    aip_egress_t *egress = apr_pcalloc(pconf, sizeof *egress);
    aip_section_t section = section_of(s, pconf);
    aip_check_t check = {.pool = pconf, .section = &section};
    const char *error = aip_egress_conf_of(f, egress, pconf);
    error = error ? error : aip_egress_load(egress, pconf);
    if (error) {
        aip_complain(&check, "%s", error);
    }
    APR_ARRAY_PUSH(aip_registry->egresses, aip_server_egress_t) = (aip_server_egress_t){f, egress};
    return check.errors;
}

int aip_egress_prepare(apr_pool_t *pconf, server_rec *main_server)
{
    aip_location_fields_t *defaults = apr_palloc(pconf, sizeof *defaults);
    find_rows();
    aip_location_defaults(defaults, pconf);
    int errors = add(defaults, main_server, pconf);
    for (server_rec *s = main_server; s; s = s->next) {
        const aip_location_fields_t *f = fields_of(s);
        if (f && !find(f)) {
            errors += add(f, s, pconf);
        }
    }
    return errors;
}
