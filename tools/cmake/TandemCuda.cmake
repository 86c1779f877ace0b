# CUDA: finds a toolkit where one is wanted, and tandem_add_cuda_layer(). Sets TANDEM_HAS_CUDA and TANDEM_CUDA_REASON.
#
# TANDEM_CUDA: AUTO uses a toolkit that works and builds without one otherwise; ON insists; OFF does not look.
# TANDEM_CUDA_ARCHS: the GPUs to compile for, e.g. "70;80;90"; by default what the toolkit can of V100 to Blackwell.
# The toolkit: CMAKE_CUDA_COMPILER, or $CUDACXX, CUDAToolkit_ROOT, build/cuda-toolkit (tools/setup --cuda), the PATH.
set(TANDEM_CUDA AUTO CACHE STRING "Build the CUDA device: AUTO, ON or OFF")
set_property(CACHE TANDEM_CUDA PROPERTY STRINGS AUTO ON OFF)
set(TANDEM_CUDA_ARCHS "" CACHE STRING "GPU architectures, e.g. 70;80;90; empty: chosen by the toolkit's version")
option(TANDEM_CUDA_LINEINFO "Source lines in kernels, for profilers: three times the size" OFF)
set(TANDEM_HAS_CUDA FALSE)

# ---- the toolkit -----------------------------------------------------------------------------------------------------
# Sets `result` to the nvcc to use, or to something false.
function(tandem_find_nvcc result)
  if(EXISTS "${CMAKE_CUDA_COMPILER}")
    set(nvcc ${CMAKE_CUDA_COMPILER})
  elseif(DEFINED ENV{CUDACXX})
    find_program(nvcc $ENV{CUDACXX} NO_CACHE)
  else()
    find_program(nvcc nvcc NO_CACHE NO_DEFAULT_PATH PATH_SUFFIXES bin
      PATHS ${CUDAToolkit_ROOT} $ENV{CUDAToolkit_ROOT} ${PROJECT_SOURCE_DIR}/build/cuda-toolkit/nvidia/cu13)
    find_program(nvcc nvcc NO_CACHE PATHS /usr/local/cuda/bin)
  endif()
  set(${result} ${nvcc} PARENT_SCOPE)
endfunction()

# Fails unless the runtime's header and static library are those of the compiler: CMake may mix toolkits silently.
function(tandem_check_cuda_runtime)
  file(STRINGS ${CUDAToolkit_INCLUDE_DIRS}/cuda_runtime_api.h line REGEX "^#define CUDART_VERSION ")
  string(REGEX MATCH "[0-9]+$" number "${line}")
  math(EXPR major "${number} / 1000")
  math(EXPR minor "${number} % 1000 / 10")
  if(NOT CMAKE_CUDA_COMPILER_VERSION MATCHES "^${major}\\.${minor}\\.")
    message(FATAL_ERROR "${CUDAToolkit_INCLUDE_DIRS} is CUDA ${major}.${minor}, but ${CMAKE_CUDA_COMPILER} is "
      "${CMAKE_CUDA_COMPILER_VERSION}: set CUDACXX to the nvcc of one complete toolkit, in a new build "
      "folder, or TANDEM_CUDA=OFF")
  endif()
  file(REAL_PATH ${CUDA_cudart_static_LIBRARY} library)
  file(REAL_PATH ${CUDAToolkit_BIN_DIR}/.. root)
  if(NOT library MATCHES "^${root}/")
    message(FATAL_ERROR "libcudart_static.a of ${root} is missing; ${library} is of another toolkit")
  endif()
endfunction()

# Sets `result` to the architectures that kernels are compiled for, each of which nvcc lists as its own, and `default`
# to those that are where nobody chooses.
function(tandem_choose_cuda_archs result default)
  set(defaults 75 80 90)  # code for 80 runs on 86 and 89, too
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
    list(PREPEND defaults 70)
  endif()
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND defaults 100 120)
  endif()
  set(archs ${TANDEM_CUDA_ARCHS})
  if(NOT archs)
    set(archs ${defaults})
  endif()
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "sm_[0-9]+" listed "${listed}")
  list(TRANSFORM listed REPLACE "sm_" "")
  list(REMOVE_DUPLICATES listed)
  foreach(arch ${archs})
    if(NOT arch IN_LIST listed)
      message(FATAL_ERROR "TANDEM_CUDA_ARCHS: '${arch}' is not allowed; CUDA ${CMAKE_CUDA_COMPILER_VERSION} allows "
        "${listed}. V100 (70) needs a toolkit from 11.8 to 12.9: set CUDACXX to its nvcc, in a new build folder")
    endif()
  endforeach()
  set(${result} ${archs} PARENT_SCOPE)
  set(${default} ${defaults} PARENT_SCOPE)
endfunction()

if(NOT TANDEM_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "TANDEM_CUDA: '${TANDEM_CUDA}' is not allowed; allowed: AUTO, ON, OFF")
endif()
if(TANDEM_CUDA STREQUAL OFF)
  set(TANDEM_CUDA_REASON "TANDEM_CUDA is OFF")
else()
  tandem_find_nvcc(nvcc)
  if(nvcc)
    if(NOT CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
      set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})  # one standard library in a program
    endif()
    set(ENV{CUDACXX} ${nvcc})
    if(NOT CMAKE_CUDA_COMPILER)
      unset(CMAKE_CUDA_COMPILER CACHE)  # what one toolkit could not do, another may
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_ARCHITECTURES OFF)  # each target has its own
      enable_language(CUDA)
      set(TANDEM_HAS_CUDA TRUE)
    else()
      set(TANDEM_CUDA_REASON "${nvcc} does not work with ${CMAKE_CUDA_HOST_COMPILER}")
    endif()
  elseif(DEFINED ENV{CUDACXX})
    set(TANDEM_CUDA_REASON "there is no $ENV{CUDACXX}, which CUDACXX names")
  else()
    set(TANDEM_CUDA_REASON "no nvcc found; tools/setup --cuda installs one")
  endif()
endif()
if(TANDEM_HAS_CUDA AND CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 11.8)
  set(TANDEM_HAS_CUDA FALSE)
  set(TANDEM_CUDA_REASON "CUDA ${CMAKE_CUDA_COMPILER_VERSION} is too old; allowed: 11.8 and later")
endif()
if(TANDEM_HAS_CUDA)
  find_package(CUDAToolkit REQUIRED QUIET)  # the compiler's
  tandem_check_cuda_runtime()
  tandem_choose_cuda_archs(TANDEM_CUDA_ARCHS_USED TANDEM_CUDA_ARCHS_DEFAULT)
  message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} (${CMAKE_CUDA_COMPILER}) for ${TANDEM_CUDA_ARCHS_USED}")
elseif(TANDEM_CUDA STREQUAL ON)
  message(FATAL_ERROR "TANDEM_CUDA is ON: ${TANDEM_CUDA_REASON}")
else()
  message(STATUS "Without CUDA kernels: ${TANDEM_CUDA_REASON}")
endif()

# Headers alone: ranges for NVIDIA's profilers.
if(TANDEM_HAS_CUDA)
  find_path(TANDEM_NVTX_INCLUDE_DIR nvtx3/nvToolsExt.h HINTS ${CUDAToolkit_INCLUDE_DIRS} NO_DEFAULT_PATH)
else()
  unset(TANDEM_NVTX_INCLUDE_DIR CACHE)
endif()

# ---- kernels ---------------------------------------------------------------------------------------------------------
# tandem_add_cuda_layer(name SOURCES ... DEPENDS ...): the static library tandem_<name> of .cu and .cpp files. It runs
# on machines without a driver, where CUDA's calls return errors: only the static runtime is linked, which opens the
# driver's library when it is first called. Registers and spills of x.cu are in x.cu.o.ptxas, beside its object.
function(tandem_add_cuda_layer name)
  tandem_add_layer(${name} ${ARGN})
  set(target tandem_${name})
  target_link_libraries(${target} PUBLIC CUDA::cudart_static)

  # Machine code for each, and PTX of the newest, which drivers compile for GPUs that come later.
  list(TRANSFORM TANDEM_CUDA_ARCHS_USED APPEND -real OUTPUT_VARIABLE archs)
  list(GET TANDEM_CUDA_ARCHS_USED -1 newest)
  # CMake 3.25 does not know C++20 of nvcc 12 and later.
  set(virtual ${newest}-virtual)
  if(newest LESS 80)  # what runs on later devices needs code for their tensor cores, too
    list(APPEND virtual 80-virtual)
  endif()
  set_target_properties(${target} PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
    CUDA_ARCHITECTURES "${archs};${virtual}" CUDA_VISIBILITY_PRESET hidden
    CUDA_COMPILER_LAUNCHER "${PROJECT_SOURCE_DIR}/tools/cmake/keep_ptxas_log.sh;${TANDEM_CCACHE}")

  cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
  if(cores GREATER 4)
    set(cores 4)  # the build runs several compilers already
  endif()
  set(options -Xptxas=-v --threads=${cores} -Wno-deprecated-gpu-targets -Wreorder -Wdefault-stream-launch
    --expt-relaxed-constexpr)
  # As on the host, a fused multiply-add is one that the source asks for.
  list(APPEND options -fmad=false -Xcompiler=-Wall,-Wextra,-Wshadow,-ffp-contract=off)
  if(TANDEM_WARNINGS_AS_ERRORS)
    list(APPEND options -Werror=all-warnings -Xcompiler=-Werror)
  endif()
  if(TANDEM_CUDA_LINEINFO)
    list(APPEND options -lineinfo)
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
endfunction()
