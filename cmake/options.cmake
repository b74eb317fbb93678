# Compiler options, shared by every target through polyhead_options.
add_library(polyhead_options INTERFACE)
target_include_directories(polyhead_options INTERFACE ${CMAKE_SOURCE_DIR})
# Contraction into FMA is decided per expression by the compiler's default; fast-math is not used,
# because it deletes the checks for NaN.
target_compile_options(polyhead_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wnon-virtual-dtor;-Werror>
  # The warnings that count are those of GCC; Clang builds the fuzz targets and may have others.
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-error;-Wno-unknown-warning-option>)
# fmt 9 holds nvcc for a compiler without constexpr.
target_compile_options(polyhead_options INTERFACE
  $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Werror=all-warnings;-DFMT_USE_CONSTEXPR=1>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror;-lineinfo>)
if(POLYHEAD_ARCHITECTURE)
  target_compile_options(polyhead_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-march=${POLYHEAD_ARCHITECTURE}>)
endif()
if(POLYHEAD_SANITIZE)
  # Without the second flag UndefinedBehaviorSanitizer only prints, and a test stays green.
  target_compile_options(polyhead_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${POLYHEAD_SANITIZE};-fno-sanitize-recover=all>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>)
  target_link_options(polyhead_options INTERFACE -fsanitize=${POLYHEAD_SANITIZE})
endif()
target_compile_definitions(polyhead_options INTERFACE
  POLYHEAD_WITH_CUDA=$<BOOL:${POLYHEAD_WITH_CUDA}>)

# polyhead_library(NAME sources... ) with the project's options.
function(polyhead_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC polyhead_options)
endfunction()
