# Required libraries stop the configuration when missing; optional ones name the feature that goes.
# scripts/setup.sh installs them all.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)

# yaml-cpp 0.7 exports yaml-cpp, 0.8 yaml-cpp::yaml-cpp.
add_library(polyhead_yaml INTERFACE)
target_link_libraries(polyhead_yaml INTERFACE
  $<IF:$<TARGET_EXISTS:yaml-cpp::yaml-cpp>,yaml-cpp::yaml-cpp,yaml-cpp>)

find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
add_library(polyhead_xxhash INTERFACE)
target_include_directories(polyhead_xxhash SYSTEM INTERFACE ${XXHASH_INCLUDE_DIR})
target_link_libraries(polyhead_xxhash INTERFACE ${XXHASH_LIBRARY})

# Header only. Debian's CMake target also asks for xtl, which the parts used here do not need.
find_path(XSIMD_INCLUDE_DIR xsimd/xsimd.hpp REQUIRED)
add_library(polyhead_xsimd INTERFACE)
target_include_directories(polyhead_xsimd SYSTEM INTERFACE ${XSIMD_INCLUDE_DIR})
# g++ 12 takes the "undefined" operands of its own AVX-512 intrinsics for a defect (GCC bug 105593).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(polyhead_xsimd INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized;-Wno-uninitialized>)
endif()

# Any CBLAS: set BLA_VENDOR (OpenBLAS, FLAME for BLIS, ...) to choose.
if(NOT BLA_VENDOR)
  set(BLA_VENDOR OpenBLAS)
endif()
find_package(BLAS REQUIRED)
find_path(CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas openblas-pthread blis REQUIRED)
add_library(polyhead_cblas INTERFACE)
target_include_directories(polyhead_cblas SYSTEM INTERFACE ${CBLAS_INCLUDE_DIR})
target_link_libraries(polyhead_cblas INTERFACE BLAS::BLAS)

if(POLYHEAD_WITH_LAPACK)
  find_package(LAPACK)  # OpenBLAS contains it, BLIS does not
  if(NOT LAPACK_FOUND)
    message(WARNING "LAPACK not found: polyhead convert will lack the methods aligned and "
                    "aligned-renorm, and --to mla (install libopenblas-dev, or liblapack-dev)")
    set(POLYHEAD_WITH_LAPACK OFF)
  endif()
endif()

if(POLYHEAD_WITH_CUDA)
  find_package(CUDAToolkit 12 REQUIRED)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(POLYHEAD_WITH_NCCL ON)
  else()
    message(WARNING "NCCL not found: tensors of several devices travel through host memory "
                    "(install libnccl-dev)")
  endif()
endif()

if(POLYHEAD_WITH_MPI)
  find_package(MPI COMPONENTS CXX)
  if(NOT MPI_CXX_FOUND)
    message(WARNING "MPI not found: polyhead will run on one rank only "
                    "(install libopenmpi-dev and openmpi-bin)")
    set(POLYHEAD_WITH_MPI OFF)
  endif()
endif()
if(POLYHEAD_WITH_SENTENCEPIECE)
  find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h)
  find_library(SENTENCEPIECE_LIBRARY sentencepiece)
  find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train)
  if(NOT (SENTENCEPIECE_INCLUDE_DIR AND SENTENCEPIECE_LIBRARY AND SENTENCEPIECE_TRAIN_LIBRARY))
    message(WARNING "sentencepiece not found: polyhead will not tokenize by sentencepiece models "
                    "(install libsentencepiece-dev)")
    set(POLYHEAD_WITH_SENTENCEPIECE OFF)
  endif()
endif()
if(POLYHEAD_WITH_TOKENIZER_JSON)
  # Its regular expressions need PCRE2, the normal form of Qwen's tokenizers needs utf8proc.
  find_path(PCRE2_INCLUDE_DIR pcre2.h)
  find_library(PCRE2_LIBRARY pcre2-8)
  find_path(UTF8PROC_INCLUDE_DIR utf8proc.h)
  find_library(UTF8PROC_LIBRARY utf8proc)
  if(NOT (PCRE2_INCLUDE_DIR AND PCRE2_LIBRARY AND UTF8PROC_INCLUDE_DIR AND UTF8PROC_LIBRARY))
    message(WARNING "PCRE2 or utf8proc not found: polyhead will not tokenize by Hugging Face's "
                    "tokenizer.json (install libpcre2-dev and libutf8proc-dev)")
    set(POLYHEAD_WITH_TOKENIZER_JSON OFF)
  endif()
endif()
find_package(ZLIB)
if(NOT ZLIB_FOUND)
  message(WARNING "zlib not found: extract_austen, which unpacks the quickstart's text, is not built "
                  "(install zlib1g-dev)")
endif()
if(POLYHEAD_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
