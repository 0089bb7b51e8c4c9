/* A disk whose syncs fail or hang when told to, and that remembers what it has promised: preloaded
 * into the program under test.
 *
 * What is written stays in the machine's memory either way, as behind a disk that fails: only the
 * promise that it is there is withheld. Files of the journal's log are told from all others. Of each
 * file the directory SYNC_KEPT, if there is one, holds what the last sync has promised. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "shared.h"

enum { PASS, FAIL, HANG };

/* sync.py reads the same. */
struct kind {
  _Atomic int64_t policy;
  _Atomic int64_t failed;
  _Atomic int64_t hanging;
};
static struct shared {
  struct kind log;
  struct kind others;
} *shared;

__attribute__((constructor)) static void begin(void) {
  shared = map_shared("SYNC_FILE", sizeof *shared);
}

/* Keeps a copy, whole or not at all, whenever the program is killed. */
static void keep(int file, const char *name) {
  const char *directory = getenv("SYNC_KEPT");
  struct stat is;
  if (!directory || fstat(file, &is) || !S_ISREG(is.st_mode)) return;
  char begun[8192], kept[8192], bytes[65536];
  snprintf(begun, sizeof begun, "%s/%s.begun", directory, name);
  snprintf(kept, sizeof kept, "%s/%s", directory, name);
  int copy = open(begun, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (copy < 0) abort();
  off_t at = 0;
  for (ssize_t read; (read = pread(file, bytes, sizeof bytes, at)) > 0; at += read)
    if (write(copy, bytes, (size_t)read) != read) abort();
  close(copy);
  if (rename(begun, kept)) abort();
}

static int sync_as_told(int file, long call) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  struct kind *kind = strstr(path, "/journal.log.") ? &shared->log : &shared->others;
  if (kind->policy == HANG) {
    const struct timespec moment = {.tv_nsec = 2000000};
    kind->hanging++;
    while (kind->policy == HANG) nanosleep(&moment, 0);
    kind->hanging--;
  }
  if (kind->policy == FAIL) {
    kind->failed++;
    errno = EIO;
    return -1;
  }
  int failed = (int)syscall(call, file);
  const char *name = strrchr(path, '/');
  if (!failed && name) keep(file, name + 1);
  return failed;
}

int fdatasync(int file) { return sync_as_told(file, SYS_fdatasync); }

int fsync(int file) { return sync_as_told(file, SYS_fsync); }
