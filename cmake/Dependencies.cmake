# Third-party libraries, all from the system's packages (tools/setup installs them) except oneDNN (PyPI, optional).

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
if(LATHE_TESTS)
  find_package(GTest REQUIRED)
endif()
find_package(PkgConfig REQUIRED)

pkg_check_modules(hwy_pc REQUIRED IMPORTED_TARGET libhwy)
add_library(hwy INTERFACE)
target_link_libraries(hwy INTERFACE PkgConfig::hwy_pc)

add_library(xxhash INTERFACE)  # header only use
target_compile_definitions(xxhash INTERFACE XXH_INLINE_ALL)

find_path(PROTOZERO_INCLUDE protozero/pbf_reader.hpp REQUIRED)
add_library(protozero INTERFACE)
target_include_directories(protozero SYSTEM INTERFACE ${PROTOZERO_INCLUDE})

# libsodium: signatures and digests. The archive, so that nothing that links Lathe asks for it, and none of its names are seen outside.
find_path(SODIUM_INCLUDE sodium.h REQUIRED)
find_library(SODIUM_ARCHIVE libsodium.a REQUIRED)
add_library(lathe_sodium INTERFACE)
target_include_directories(lathe_sodium SYSTEM INTERFACE ${SODIUM_INCLUDE})
target_link_libraries(lathe_sodium INTERFACE ${SODIUM_ARCHIVE})
target_link_options(lathe_sodium INTERFACE "LINKER:--exclude-libs,libsodium.a")

# Text: regular expressions in RE2's syntax, Unicode's letter case. Pictures: what the formats' own libraries decode. Debian's archives of most are
# not made for shared libraries, so liblathe.so asks for theirs. Only src/ops/text and src/image include their headers, so that no flag of theirs is
# anybody else's.
find_path(RE2_INCLUDE re2/re2.h REQUIRED)
find_path(UTF8PROC_INCLUDE utf8proc.h REQUIRED)
add_library(lathe_text_libraries INTERFACE)
add_library(lathe_image_libraries INTERFACE)
foreach(library re2 utf8proc)
  string(TOUPPER ${library} name)
  find_library(${name}_LIBRARY ${library} REQUIRED)
  target_link_libraries(lathe_text_libraries INTERFACE ${${name}_LIBRARY})
endforeach()
foreach(library png z jpeg webp openjp2)
  string(TOUPPER LATHE_${library} name)
  find_library(${name}_LIBRARY ${library} REQUIRED)
  target_link_libraries(lathe_image_libraries INTERFACE ${${name}_LIBRARY})
endforeach()
find_path(OPENJPEG_INCLUDE openjpeg.h PATH_SUFFIXES openjpeg-2.5 openjpeg-2.4 REQUIRED)

# FlatBuffers: the engine's schema is compiled at build time; the reader is header only.
find_program(FLATC flatc REQUIRED)
find_path(FLATBUFFERS_INCLUDE flatbuffers/flatbuffers.h REQUIRED)
add_library(lathe_flatbuffers INTERFACE)
target_include_directories(lathe_flatbuffers SYSTEM INTERFACE ${FLATBUFFERS_INCLUDE})
target_include_directories(lathe_flatbuffers INTERFACE ${CMAKE_BINARY_DIR}/gen)
if(EXISTS ${CMAKE_SOURCE_DIR}/src/engine/engine.fbs)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/gen/engine_generated.h
    COMMAND ${FLATC} --cpp --gen-object-api --scoped-enums --filename-suffix _generated -o ${CMAKE_BINARY_DIR}/gen ${CMAKE_SOURCE_DIR}/src/engine/engine.fbs
    DEPENDS ${CMAKE_SOURCE_DIR}/src/engine/engine.fbs)
  add_custom_target(lathe_engine_schema DEPENDS ${CMAKE_BINARY_DIR}/gen/engine_generated.h)
  add_dependencies(lathe_flatbuffers lathe_engine_schema)
endif()

# Libraries that are opened at run time are looked for beside the programs and in lib/ beside them (src/base/beside.h): a build tree has links there,
# so that no path of this machine is in a binary.
function(lathe_beside library name)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
  file(CREATE_LINK ${library} ${CMAKE_BINARY_DIR}/lib/${name} SYMBOLIC)
endfunction()

# Lathe opens oneDNN at run time: the library wants its headers alone. The kernels' benchmarks link it, as their rival.
set(LATHE_ONEDNN_TARGET "")
set(LATHE_ONEDNN_RIVAL "")
if(LATHE_ONEDNN AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(LATHE_ONEDNN_ROOT "${LATHE_PACKAGES}" CACHE PATH "Where oneDNN's include/ and lib/ lie")
  find_path(ONEDNN_INCLUDE oneapi/dnnl/dnnl.h HINTS ${LATHE_ONEDNN_ROOT}/include NO_DEFAULT_PATH)
  find_library(ONEDNN_LIBRARY dnnl HINTS ${LATHE_ONEDNN_ROOT}/lib NO_DEFAULT_PATH)
  if(ONEDNN_INCLUDE AND ONEDNN_LIBRARY)
    add_library(lathe_onednn INTERFACE)
    target_include_directories(lathe_onednn SYSTEM INTERFACE ${ONEDNN_INCLUDE})
    target_compile_definitions(lathe_onednn INTERFACE LATHE_HAVE_ONEDNN=1)
    lathe_beside(${ONEDNN_LIBRARY} libdnnl.so.3)
    set(LATHE_ONEDNN_TARGET lathe_onednn)
    set(LATHE_ONEDNN_RIVAL ${ONEDNN_LIBRARY})
    message(STATUS "oneDNN: ${ONEDNN_LIBRARY}")
  else()
    message(STATUS "oneDNN not found: own CPU kernels only")
  endif()
endif()
