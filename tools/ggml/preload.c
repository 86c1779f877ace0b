/* Loads the plugin into programs that were built without GGML_BACKEND_DL and so ignore GGML_BACKEND_PATH:
 *   TANDEM_GGML_PLUGIN=/path/libggml-tandem.so LD_PRELOAD=/path/libggml-tandem-preload.so llama-completion ...
 * It stands in for llama_backend_init, the first call of every program that uses llama.cpp, and loads the plugin with
 * ggml_backend_load when that is done. llama.cpp must be linked as shared libraries. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*backend_init_fn)(void);
typedef void* (*backend_load_fn)(const char* path);

/* ISO C has no cast from an object pointer to a function pointer; POSIX has this one. */
#define FIND(handle, name, function) (*(void**)&(function) = dlsym(handle, name))

static void load_plugin(void) {
  const char* path = getenv("TANDEM_GGML_PLUGIN");
  backend_load_fn load = NULL;
  if (path == NULL || *path == '\0') {
    fputs("tandem-ggml-preload: TANDEM_GGML_PLUGIN is not set; it must name libggml-tandem.so\n", stderr);
    return;
  }
  FIND(RTLD_DEFAULT, "ggml_backend_load", load);
  if (load == NULL)
    fputs("tandem-ggml-preload: this program has no ggml_backend_load; llama.cpp must be linked as shared libraries\n",
          stderr);
  else if (load(path) == NULL)
    fprintf(stderr, "tandem-ggml-preload: '%s' was not loaded\n", path);
}

__attribute__((visibility("default"))) void llama_backend_init(void) {
  static int loaded = 0; /* programs call this once, from their first thread; some call it again */
  backend_init_fn init = NULL;
  FIND(RTLD_NEXT, "llama_backend_init", init);
  if (init == NULL) {
    fputs("tandem-ggml-preload: this program has no llama_backend_init of a shared library\n", stderr);
    return;
  }
  init();
  if (!loaded) load_plugin();
  loaded = 1;
}
