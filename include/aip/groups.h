/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_GROUPS_H
#define AIP_GROUPS_H
/* Files of AIAclsGroupFile, in the format of httpd's AuthGroupFile
 * (https://httpd.apache.org/docs/2.4/mod/mod_authz_groupfile.html). */

#include "aip/aip.h"

#include <apr_tables.h>

typedef struct aip_groups_t aip_groups_t;

/** Parses lines "group: user user ..."; a group may have several. An aip_watched_parse_fn.
 * @return aip_groups_t */
void *aip_groups_parse(const char *text, size_t len, apr_pool_t *pool, const char **error);

/** Adds copies of the names of the groups that a user is in to `list` (const char *). */
void aip_groups_of(const aip_groups_t *groups, const char *user, apr_array_header_t *list,
                   apr_pool_t *pool);

/** Adds the words of a text, between which commas or blanks stand, to `list`. */
void aip_groups_split(const char *text, apr_array_header_t *list, apr_pool_t *pool);

#endif
