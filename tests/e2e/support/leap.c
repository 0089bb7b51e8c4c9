/* A monotonic clock that leaps when told to, preloaded into the program under test.
 *
 * The program asks libc for the time and waits in epoll. Both go through here: the time is the
 * machine's and what has been leapt, and a wait ends early so that every event loop looks at the
 * time again. How often each has waited since the last leap is written down, for whoever wants to
 * know that all of them have lived through it. The time of day, which signatures tell, stays. */

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LOOPS = 1024, WAIT_MS_MAX = 10 };

/* leap.py reads the same. */
struct shared {
  _Atomic int64_t leapt_seconds;
  struct {
    _Atomic int64_t leapt_seconds;
    _Atomic int64_t waits;
  } loops[LOOPS]; /* by descriptor */
};

static struct shared *shared;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("LEAP_FILE");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) abort();
  void *mapped = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();
  close(file);
  shared = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  long failed = syscall(SYS_clock_gettime, clock, time);
  if (!failed && clock == CLOCK_MONOTONIC && shared) time->tv_sec += shared->leapt_seconds;
  return (int)failed;
}

int epoll_wait(int loop, struct epoll_event *events, int events_max, int timeout_ms) {
  if (shared && loop < LOOPS) {
    int64_t leapt = shared->leapt_seconds;
    if (shared->loops[loop].leapt_seconds != leapt) {
      shared->loops[loop].waits = 0;
      shared->loops[loop].leapt_seconds = leapt;
    }
    shared->loops[loop].waits++;
  }
  if (timeout_ms < 0 || timeout_ms > WAIT_MS_MAX) timeout_ms = WAIT_MS_MAX;
  return (int)syscall(SYS_epoll_pwait, loop, events, events_max, timeout_ms, (void *)0, 0);
}
