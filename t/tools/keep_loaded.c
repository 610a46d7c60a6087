/* SPDX-License-Identifier: Apache-2.0 */
/* For LD_PRELOAD in the lanes of sanitizers (scripts/lib/lanes.sh).
 *
 * httpd unloads its modules before it ends and before it reads its configuration again: a report at
 * the end could name no function of them, and LeakSanitizer would crash on what it can no longer
 * find. What httpd itself starts (loggers, shells) does without the sanitizer. The process that
 * leaves its child in the background ends as it stands, with all that it had read: no leak. */
#include <apr_thread_proc.h>
#include <stdlib.h>
#include <unistd.h>

int dlclose(void *handle);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}

apr_status_t apr_proc_detach(int daemonize)
{
    if (chdir("/") == -1) {
        return errno;
    }
    if (daemonize == APR_PROC_DETACH_DAEMONIZE) {
        pid_t child = fork();
        if (child > 0) {
            _exit(EXIT_SUCCESS);
        }
        if (child == -1) {
            return errno;
        }
    }
    return setsid() == -1 ? errno : APR_SUCCESS;
}

__attribute__((constructor)) static void begin(void)
{
    unsetenv("LD_PRELOAD");
}
