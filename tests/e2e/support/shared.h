/* Memory that a test shares with the program it has preloaded a library into. */

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Maps the file that this variable names. */
static void *map_shared(const char *variable, size_t bytes) {
  const char *path = getenv(variable);
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) abort();
  void *mapped = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();
  close(file);
  return mapped;
}
