/* A monotonic clock that leaps when told to, preloaded into the program under test.
 *
 * The program asks libc for the time and waits in epoll. Both go through here: the time is the
 * machine's and what has been leapt, and a wait ends early so that every event loop looks at the
 * time again. How often each has waited since the last leap is written down, for whoever wants to
 * know that all of them have lived through it. The time of day, which signatures tell, stays. */

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

#include "shared.h"

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
  shared = map_shared("LEAP_FILE", sizeof *shared);
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
