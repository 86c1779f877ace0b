# Compiler settings shared by all targets, and tandem_add_layer(): one static library per folder.
include(GNUInstallDirs)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)

find_program(TANDEM_CCACHE ccache)
if(TANDEM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${TANDEM_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TANDEM_CCACHE})
endif()

# Floating point stays as written: no -ffast-math, and no contraction of a*b+c behind our back (bits must not depend on
# where the compiler sees a fused multiply-add). nvcc has options of its own: TandemCuda.cmake.
set(host_options -Wall -Wextra -Wshadow -ffp-contract=off)
if(TANDEM_WARNINGS_AS_ERRORS)
  list(APPEND host_options -Werror)
endif()
if(TANDEM_SANITIZE)
  list(APPEND host_options -Wno-maybe-uninitialized)  # GCC 12 sees it in instrumented std::variant (PR 105562)
  list(APPEND host_options -fsanitize=${TANDEM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${TANDEM_SANITIZE})
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:${host_options}>")

# tandem_add_layer(name SOURCES ... DEPENDS ...): the static library tandem_<name>, included from the project's root.
function(tandem_add_layer name)
  cmake_parse_arguments(LAYER "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(tandem_${name} STATIC ${LAYER_SOURCES})
  target_include_directories(tandem_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(tandem_${name} PUBLIC ${LAYER_DEPENDS})
endfunction()
