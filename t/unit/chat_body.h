/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_T_UNIT_CHAT_BODY_H
#define AIP_T_UNIT_CHAT_BODY_H
/* What the tests of the chat unit share: bodies as a client sends them, and their parse with two
 * members that belong to credentials. */

#include "aip/chat.h"

#include <string.h>

#include "fixture.h"

/* A body with one message and `members` before it. */
#define CHAT(members) "{" members "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define MESSAGES(items) "{\"messages\":[" items "]}"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define OTHER(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"

static const aip_span_t extra[] = {AIP_SPAN("api_key"), AIP_SPAN("token")};

static void parse(const char *name, aip_chat_t *chat, const char *body)
{
    aip_error_t err = {0};
    const apr_status_t rv =
        aip_chat_parse(chat, (aip_span_t){body, strlen(body)}, extra, 2, pool, &err);

    ck_assert_msg(rv == APR_SUCCESS, "%s: %s", name, err.message);
}

#endif
