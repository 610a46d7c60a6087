/* SPDX-License-Identifier: Apache-2.0 */
/* For LD_PRELOAD, see t/lib/AIPTest/Clock.pm: the time of day of a server under test is ahead of,
 * or behind, the real one by the seconds in the file that AIP_CLOCK names, so that an hour passes
 * in a moment. Clocks that measure durations are left alone. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("AIP_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    shift = map != MAP_FAILED ? map : NULL;
    if (fd >= 0) {
        close(fd);
    }
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    tv->tv_sec = now.tv_sec + (shift ? (time_t)*shift : 0);
    tv->tv_usec = now.tv_nsec / 1000;
    return 0;
}
