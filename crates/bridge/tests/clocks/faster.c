/* For LD_PRELOAD: CLOCK_MONOTONIC runs faster by PALABRE_TEST_PPM parts per million, and so do timers of timerfd_settime(2). */
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static double faster = 1.0;

__attribute__((constructor)) static void read_ppm(void)
{
    const char *ppm = getenv("PALABRE_TEST_PPM");
    if (ppm)
        faster = 1.0 + atof(ppm) / 1e6;
}

static struct timespec scaled(struct timespec time, double factor)
{
    long long ns = time.tv_sec * 1000000000LL + time.tv_nsec;
    /* The difference is small, so a double is exact enough for it. */
    ns += (long long)(ns * (factor - 1.0));
    return (struct timespec){ .tv_sec = ns / 1000000000LL, .tv_nsec = ns % 1000000000LL };
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_MONOTONIC)
        *time = scaled(*time, faster);
    return result;
}

int timerfd_settime(int timer, int flags, const struct itimerspec *new, struct itimerspec *old)
{
    struct itimerspec real = { scaled(new->it_interval, 1.0 / faster), scaled(new->it_value, 1.0 / faster) };
    return (int)syscall(SYS_timerfd_settime, timer, flags, &real, old);
}
