// Finds functions of CUDA's libraries when they are called first. Trampolines (on_demand/mod.rs) stand in for the
// libraries when the program is linked; each jumps to the address in its slot, which leads here until the function is
// known. Where a library or function is missing, calls return the library's own error for that.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct library {
    const char *file; // as the dynamic loader looks for it
    void *handle;
    int tried;
};

// Laid out as the trampolines write it.
struct function {
    const char *name;
    struct library *library;
    void *missing; // what is called in its place
    void *slot;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *open_library(struct library *library) {
    pthread_mutex_lock(&lock);
    if (!library->tried) {
        library->handle = dlopen(library->file, RTLD_LAZY | RTLD_LOCAL);
        library->tried = 1;
    }
    void *handle = library->handle;
    pthread_mutex_unlock(&lock);
    return handle;
}

void *deepforcing_find_function(struct function *function) {
    void *handle = open_library(function->library);
    void *found = handle ? dlsym(handle, function->name) : NULL;
    if (!found) {
        found = function->missing;
    }
    // Threads may find it at the same time; they find the same.
    __atomic_store_n(&function->slot, found, __ATOMIC_RELEASE);
    return found;
}

// What missing functions return, whatever their arguments: the caller cleans up.
int deepforcing_missing_driver(void) { return 34; }      // CUDA_ERROR_STUB_LIBRARY
int deepforcing_missing_cublas(void) { return 1; }       // CUBLAS_STATUS_NOT_INITIALIZED
int deepforcing_missing_curand(void) { return 203; }     // CURAND_STATUS_INITIALIZATION_FAILED
int deepforcing_missing_cudnn(void) { return 1001; }     // CUDNN_STATUS_NOT_INITIALIZED
size_t deepforcing_missing_version(void) { return 0; }
const char *deepforcing_missing_text(void) { return "the library of this function is missing"; }

// candle's kernels for quantised networks and mixtures of experts, which nothing here uses.
void deepforcing_left_out(void) {
    fputs("deepforcing: kernels of quantised networks are not part of this build (DEEPFORCING_LINK_CUDA=1 puts them in)\n",
          stderr);
    abort();
}
