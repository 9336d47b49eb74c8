# `make install`, `cmake --install`: the command, liblathe.so, its headers, what find_package(lathe) and pkg-config read, and oneDNN where Lathe
# looks for it (src/base/beside.h). The folder can be moved: everything is found by relative paths.
set(CMAKE_INSTALL_LIBDIR lib CACHE PATH "Folder of libraries under the prefix")
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

function(lathe_install)
  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/lathe)
  install(TARGETS lathe RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS lathe_shared EXPORT lathe LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY include/lathe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
  if(LATHE_ONEDNN_TARGET)
    install(FILES ${ONEDNN_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR}/lathe RENAME libdnnl.so.3)
  endif()

  install(EXPORT lathe NAMESPACE lathe:: FILE lathe-targets.cmake DESTINATION ${package})
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/gen/lathe-config-version.cmake COMPATIBILITY SameMinorVersion)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/gen/lathe-config.cmake CONTENT
    "# find_package(lathe) gives the target lathe::lathe.\ninclude(\"\${CMAKE_CURRENT_LIST_DIR}/lathe-targets.cmake\")\n" @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/gen/lathe-config.cmake ${CMAKE_BINARY_DIR}/gen/lathe-config-version.cmake DESTINATION ${package})
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" up "${up}")
  configure_file(${CMAKE_SOURCE_DIR}/cmake/lathe.pc.in ${CMAKE_BINARY_DIR}/gen/lathe.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/gen/lathe.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
