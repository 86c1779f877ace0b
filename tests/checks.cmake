# Checks of the source tree and of the installed package, as CTest tests with the label "checks".

# tandem_add_check(name COMMAND ...): exit code 77 means skipped, with the reason in the output.
function(tandem_add_check name)
  cmake_parse_arguments(CHECK "" "" "COMMAND" ${ARGN})
  add_test(NAME ${name} COMMAND ${CHECK_COMMAND} COMMAND_EXPAND_LISTS)
  set_tests_properties(${name} PROPERTIES LABELS checks SKIP_RETURN_CODE 77)
endfunction()

find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  set(layers ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check_layers.py)
  tandem_add_check(check_layers COMMAND ${layers} ${PROJECT_SOURCE_DIR})
  tandem_add_check(check_layers_self_test COMMAND ${layers} --self-test)
  tandem_add_check(check_faults COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tests/faults/plant.py --check)
  tandem_add_check(dmc_reference COMMAND ${Python3_EXECUTABLE} -m unittest discover
    -s ${PROJECT_SOURCE_DIR}/tools/dmc -p test_dmc_reference.py)
  include(${CMAKE_CURRENT_LIST_DIR}/cuda_checks.cmake)
else()
  message(STATUS "No Python 3: the layers check is left out")
endif()

# CUDA sources, which CMake 3.25 can only compile as C++17, include this header and what it includes.
tandem_add_check(device_header_cxx17 COMMAND ${CMAKE_CXX_COMPILER} -std=c++17 -fsyntax-only -Wall -Wextra -Werror
  -I${PROJECT_SOURCE_DIR} -include gpu/device.h -x c++ /dev/null)

tandem_add_check(check_format COMMAND ${PROJECT_SOURCE_DIR}/tools/check_format)

# Debug and sanitized objects keep copies of inline functions that a release build folds away.
if(TARGET tandem_cpu_avx2 AND TARGET tandem_cpu_avx512 AND CMAKE_BUILD_TYPE STREQUAL Release AND NOT TANDEM_SANITIZE)
  set(baseline $<TARGET_OBJECTS:tandem_cpu_scalar>)
  foreach(layer base numa cpu lsh gpu runtime)
    if(TARGET tandem_${layer})
      list(APPEND baseline $<TARGET_OBJECTS:tandem_${layer}>)
    endif()
  endforeach()
  tandem_add_check(check_isa_symbols COMMAND ${PROJECT_SOURCE_DIR}/tools/check_isa_symbols.sh ${baseline}
    -- $<TARGET_OBJECTS:tandem_cpu_avx2> -- $<TARGET_OBJECTS:tandem_cpu_avx512>
    -- $<TARGET_OBJECTS:tandem_cpu_avx512vbmi>)
  tandem_add_check(check_prefetches COMMAND ${PROJECT_SOURCE_DIR}/tools/check_prefetches.sh ${baseline}
    $<TARGET_OBJECTS:tandem_cpu_avx2> $<TARGET_OBJECTS:tandem_cpu_avx512> $<TARGET_OBJECTS:tandem_cpu_avx512vbmi>)
endif()

if(TARGET tandem AND Python3_FOUND)
  tandem_add_check(check_abi COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tests/abi/check_abi.py
    $<TARGET_FILE:tandem> --cc ${CMAKE_C_COMPILER})
endif()

# A plain program cannot link a sanitized library, so the package is tried in the other builds.
if(TARGET tandem AND NOT TANDEM_SANITIZE)
  tandem_add_check(consumer
    COMMAND ${CMAKE_CURRENT_LIST_DIR}/consumer/run.sh ${PROJECT_BINARY_DIR} ${CMAKE_C_COMPILER} ${CMAKE_CXX_COMPILER})
endif()
