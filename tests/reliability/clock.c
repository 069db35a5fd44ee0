/* A wall clock that jumps or stands still, for a program that is started with LD_PRELOAD.
 *
 *   CLOCK_JUMP  seconds that every second reading is away from the true time
 *   CLOCK_STILL when set, every reading is this number of seconds since 1970
 *
 * The monotonic clock is left alone. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int real(clockid_t clock, struct timespec *now) {
    static _Atomic unsigned long readings;
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    const char *still = getenv("CLOCK_STILL"), *jump = getenv("CLOCK_JUMP");
    if (still) {
        now->tv_sec = atol(still);
        now->tv_nsec = 0;
    } else if (jump && readings++ % 2) {
        now->tv_sec += atol(jump);
    }
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) { return real(clock, now); }

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    int failed = real(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *out) {
    struct timespec exact;
    real(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
