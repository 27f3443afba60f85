/* For LD_PRELOAD: adds an offset in seconds to CLOCK_REALTIME. The offset is in the file PALABRE_TEST_CLOCK, which may change at any time. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset_s;

/* The file is mapped before the program enters its sandbox. */
__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("PALABRE_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        offset_s = page;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && offset_s)
        time->tv_sec += *offset_s;
    return result;
}
