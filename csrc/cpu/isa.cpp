#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace bertkernels {
namespace {

Isa detect() {
#if defined(BERTKERNELS_X86)
  __builtin_cpu_init();
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const char* limit = std::getenv("BERTKERNELS_ISA");
  const bool baseline_only = limit != nullptr && std::strcmp(limit, "baseline") == 0;
  const bool avx2_at_most = limit != nullptr && std::strcmp(limit, "avx2") == 0;
  if (has_avx512 && !baseline_only && !avx2_at_most) return Isa::kAvx512;
  if (has_avx2 && !baseline_only) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

}  // namespace

Isa active_isa() {
  static const Isa isa = detect();
  return isa;
}

const char* active_isa_name() {
  switch (active_isa()) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

bool is_intel() {
#if defined(BERTKERNELS_X86)
  __builtin_cpu_init();
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

}  // namespace bertkernels
