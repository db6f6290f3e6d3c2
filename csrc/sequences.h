// Which tokens belong together. Padded form: `batches` rows of `tokens` tokens, of which the first lengths[b] are real
// (all, where `lengths` is null). Packed form: `tokens` tokens in all, sequence b from cu_seqlens[b] to cu_seqlens[b+1].
#pragma once

#include <cstdint>

namespace bertkernels {

struct Sequences {
  std::int64_t batches = 0;
  std::int64_t tokens = 0;
  const std::int32_t* lengths = nullptr;
  const std::int32_t* cu_seqlens = nullptr;
};

}  // namespace bertkernels
