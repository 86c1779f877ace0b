# What `cmake --install` installs: the shared library, its two headers, the files by which CMake and pkg-config find it, and
# the ggml plugin where it is built.
include(CMakePackageConfigHelpers)

set(TANDEM_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Tandem)
install(TARGETS tandem EXPORT TandemTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET tandem_ggml)
  install(TARGETS tandem_ggml tandem_ggml_preload LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(EXPORT TandemTargets NAMESPACE Tandem:: DESTINATION ${TANDEM_PACKAGE_DIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/include/tandem DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/TandemConfig.cmake.in ${PROJECT_BINARY_DIR}/TandemConfig.cmake
  INSTALL_DESTINATION ${TANDEM_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/TandemConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/TandemConfig.cmake ${PROJECT_BINARY_DIR}/TandemConfigVersion.cmake
  DESTINATION ${TANDEM_PACKAGE_DIR})

# tandem.pc finds its prefix from its own place, so that `cmake --install --prefix` may choose any.
file(RELATIVE_PATH TANDEM_PREFIX_FROM_PC ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" TANDEM_PREFIX_FROM_PC ${TANDEM_PREFIX_FROM_PC})
configure_file(${CMAKE_CURRENT_LIST_DIR}/tandem.pc.in ${PROJECT_BINARY_DIR}/tandem.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tandem.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The wheel of tools/python has the library alone, beside the package's files, under the one name by which it is loaded.
if(SKBUILD)
  install(FILES $<TARGET_FILE:tandem> DESTINATION tandem_attention RENAME libtandem.so COMPONENT python)
endif()
