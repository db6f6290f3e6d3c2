// What the compiler's checks (-fsanitize) call where an index leaves its array, an address is not aligned to its type
// or an integer overflows: notes where, so that a test can fail without the process ending. Built without those checks.
#include <cstdint>
#include <string>

#include "threads.h"

namespace {
struct Where {  // how the compiler describes a place; each description begins with one
  const char* file;
  std::uint32_t line, column;
};

void report(const char* what, const void* description) {
  const auto* where = static_cast<const Where*>(description);
  emulation::report(std::string(what) + " at " + where->file + ":" + std::to_string(where->line));
}
}  // namespace

extern "C" {
void __ubsan_handle_out_of_bounds(void* at, void*) { report("index out of bounds", at); }
void __ubsan_handle_type_mismatch_v1(void* at, void*) { report("misaligned or null address", at); }
void __ubsan_handle_add_overflow(void* at, void*, void*) { report("integer overflow", at); }
void __ubsan_handle_sub_overflow(void* at, void*, void*) { report("integer overflow", at); }
void __ubsan_handle_mul_overflow(void* at, void*, void*) { report("integer overflow", at); }
void __ubsan_handle_negate_overflow(void* at, void*) { report("integer overflow", at); }
void __ubsan_handle_divrem_overflow(void* at, void*, void*) { report("division", at); }
void __ubsan_handle_shift_out_of_bounds(void* at, void*, void*) { report("shift", at); }
}
