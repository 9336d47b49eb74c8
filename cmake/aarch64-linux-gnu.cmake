# 64-bit Arm Linux from another machine: Debian's cross compiler, arm64 libraries from the folder that tools/aarch64_sysroot.sh fills,
# tests and tools of the target through qemu-user. Preset aarch64; `make test-aarch64`.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(LATHE_AARCH64_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/aarch64-sysroot CACHE PATH "Unpacked arm64 packages")
cmake_path(ABSOLUTE_PATH LATHE_AARCH64_SYSROOT NORMALIZE)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LATHE_AARCH64_SYSROOT)
if(NOT EXISTS ${LATHE_AARCH64_SYSROOT}/usr/include/hwy)
  message(FATAL_ERROR "There are no arm64 libraries in ${LATHE_AARCH64_SYSROOT}: tools/setup.sh aarch64 unpacks them")
endif()
# Headers, libraries and packages are the target's, programs (flatc, pkg-config, ccache) the host's.
set(CMAKE_FIND_ROOT_PATH ${LATHE_AARCH64_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# Where Debian keeps the headers that an architecture has of its own (libjpeg's jconfig.h): the cross compiler looks in its own tree alone.
foreach(language C CXX)
  set(CMAKE_${language}_FLAGS_INIT "-isystem ${LATHE_AARCH64_SYSROOT}/usr/include/aarch64-linux-gnu")
endforeach()
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${LATHE_AARCH64_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${LATHE_AARCH64_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${LATHE_AARCH64_SYSROOT}/usr/share/pkgconfig)

# libc and libstdc++ are the cross compiler's; the CPU has every feature that qemu knows.
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-L;/usr/aarch64-linux-gnu;-cpu;max")
