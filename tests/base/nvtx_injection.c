/* A profiler that prints the ranges of a process, for tests: NVTX loads what NVTX_INJECTION64_PATH names. */
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>

static int depth; /* of one thread */

static int NVTX_API push(const char* name) {
  fprintf(stderr, "nvtx %d %s\n", depth, name);
  return depth++;
}
static int NVTX_API pop(void) { return --depth; }

__attribute__((visibility("default"))) int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t table) {
  const NvtxExportTableCallbacks* callbacks = (const NvtxExportTableCallbacks*)table(NVTX_ETID_CALLBACKS);
  NvtxFunctionTable functions = NULL;
  unsigned int size = 0;
  if (callbacks == NULL || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &size)) return 0;
  *functions[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
  *functions[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
  return 1;
}
