/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_FIXTURE_H
#define AIP_T_UNIT_FIXTURE_H
/* What most unit tests need: a pool for each test, the size of a table, files of the repository. A
 * suite that needs more calls pool_setup() and pool_teardown() from functions of its own. */

#include <apr_general.h>
#include <apr_pools.h>
#include <apr_strings.h>
#include <check.h>
#include <stdlib.h>

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static apr_pool_t *pool; /* of the running test */

static void pool_setup(void)
{
    ck_assert_int_eq(apr_initialize(), APR_SUCCESS);
    ck_assert_int_eq(apr_pool_create(&pool, NULL), APR_SUCCESS);
}

static void pool_teardown(void)
{
    apr_pool_destroy(pool);
    apr_terminate();
}

/** A file of the repository, e.g. "t/data/x". */
static inline const char *source_file(const char *path)
{
    const char *root = getenv("AIP_SRCDIR");

    return apr_pstrcat(pool, root ? root : ".", "/", path, NULL);
}

#endif
