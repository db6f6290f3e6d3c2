// The CPU sources are compiled once per instruction set, each time into a namespace of that name (BERTKERNELS_ISA), and
// the best one is taken at run time. Such a source must not use inline functions of std headers: the linker keeps one
// copy of those, perhaps one with instructions that this machine lacks.
#pragma once

#if defined(BERTKERNELS_X86)
#define BERTKERNELS_FOR_EACH_ISA(DO) DO(baseline) DO(avx2) DO(avx512)
#else
#define BERTKERNELS_FOR_EACH_ISA(DO) DO(baseline)
#endif

namespace bertkernels {

enum class Isa : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The best instruction set that was built and that this machine has. BERTKERNELS_ISA=baseline|avx2|avx512 in the
// environment lowers it (for tests and comparisons).
Isa active_isa();
const char* active_isa_name();

// Whether Intel made the processor: libraries have code that only those take.
bool is_intel();

}  // namespace bertkernels

// The result of FUNCTION of the active instruction set's namespace.
#if defined(BERTKERNELS_X86)
#define BERTKERNELS_CALL(FUNCTION, ...)                                                                           \
  (::bertkernels::active_isa() == ::bertkernels::Isa::kAvx512 ? ::bertkernels::avx512::FUNCTION(__VA_ARGS__)      \
   : ::bertkernels::active_isa() == ::bertkernels::Isa::kAvx2 ? ::bertkernels::avx2::FUNCTION(__VA_ARGS__)        \
                                                              : ::bertkernels::baseline::FUNCTION(__VA_ARGS__))
#else
#define BERTKERNELS_CALL(FUNCTION, ...) ::bertkernels::baseline::FUNCTION(__VA_ARGS__)
#endif
