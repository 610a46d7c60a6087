/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIP_LOG_H
#define AIP_LOG_H
/* Where background work of the core reports to; the glue binds it to httpd's error log. */

/** syslog's numbers, which are httpd's too. */
typedef enum aip_log_level_e {
    AIP_LOG_ERR = 3,
    AIP_LOG_WARNING = 4,
    AIP_LOG_INFO = 6,
    AIP_LOG_DEBUG = 7
} aip_log_level_e;

/** Called from any thread. `message` begins with its tag, "AIP0000: ". */
typedef struct aip_log_t {
    void (*write)(void *baton, aip_log_level_e level, const char *message);
    void *baton;
} aip_log_t;

#endif
