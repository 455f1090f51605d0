/* Stands between the program and the system: lets one call that writes into a folder fail.
 *
 * FAULT_DIR    the folder; calls on other files are left alone
 * FAULT_AT     number of the call that fails, from 1; those after it fail as well unless FAULT_ONCE is set
 * FAULT_ERRNO  what it fails with
 * FAULT_COUNT  file that is told at the end how many calls there were
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static int inside(const char *path) {
    const char *folder = getenv("FAULT_DIR");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

/* Paths of the program are absolute or relative to the folder itself. */
static int path_counts(const char *path) {
    char here[4096];
    if (path && path[0] == '/') return inside(path);
    return getcwd(here, sizeof here) && inside(here);
}

static int file_counts(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

/* Counts a call; whether it fails, with errno set. */
static int fails(void) {
    const char *at = getenv("FAULT_AT"), *error = getenv("FAULT_ERRNO");
    long number = atomic_fetch_add(&calls, 1) + 1, first = at ? atol(at) : 0;
    if (!first || !error || number < first || (number > first && getenv("FAULT_ONCE"))) return 0;
    errno = atoi(error);
    return 1;
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld\n", atomic_load(&calls));
    fclose(file);
}

#define NEXT(type, name) type next = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*write_call)(int, const void *, size_t);
ssize_t write(int file, const void *bytes, size_t length) {
    NEXT(write_call, "write");
    if (file > 2 && file_counts(file) && fails()) return -1;
    return next(file, bytes, length);
}

typedef ssize_t (*writev_call)(int, const struct iovec *, int);
ssize_t writev(int file, const struct iovec *parts, int count) {
    NEXT(writev_call, "writev");
    if (file > 2 && file_counts(file) && fails()) return -1;
    return next(file, parts, count);
}

typedef ssize_t (*pwrite_call)(int, const void *, size_t, off64_t);
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    NEXT(pwrite_call, "pwrite64");
    if (file_counts(file) && fails()) return -1;
    return next(file, bytes, length, at);
}

typedef int (*truncate_call)(int, off64_t);
int ftruncate64(int file, off64_t length) {
    NEXT(truncate_call, "ftruncate64");
    if (file_counts(file) && fails()) return -1;
    return next(file, length);
}

typedef int (*open_call)(const char *, int, ...);
#define OPEN(name)                                                                  \
    int name(const char *path, int flags, ...) {                                    \
        NEXT(open_call, #name);                                                     \
        va_list rest;                                                               \
        va_start(rest, flags);                                                      \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;     \
        va_end(rest);                                                               \
        if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) && path_counts(path) && fails()) \
            return -1;                                                              \
        return next(path, flags, mode);                                             \
    }
OPEN(open)
OPEN(open64)

typedef int (*rename_call)(const char *, const char *);
int rename(const char *from, const char *to) {
    NEXT(rename_call, "rename");
    if (path_counts(to) && fails()) return -1;
    return next(from, to);
}

typedef int (*mkdir_call)(const char *, mode_t);
int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir_call, "mkdir");
    if (path_counts(path) && fails()) return -1;
    return next(path, mode);
}
