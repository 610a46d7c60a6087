/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_CHAT_PRIVATE_H
#define AIP_CHAT_PRIVATE_H
/* Shared by the files that read a chat (chat.c, prompt.c) and the one that writes it (body.c). */

#include "aip/chat.h"

/** The spelling of each owned member. */
extern const aip_span_t aip_chat_member_names[AIP_CHAT_MEMBERS];

/**
 * Turns a fault of the scanner into the error of a request.
 * @param base  offset in the body of the text that was scanned
 * @param name  AIP_JSON_DUPLICATE: the member, as a path; otherwise not looked at
 * @return APR_EGENERAL
 */
apr_status_t aip_chat_json_error(const aip_json_error_t *fault, size_t base, const char *name,
                                 apr_pool_t *pool, aip_error_t *err);

#endif
