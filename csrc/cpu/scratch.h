// Scratch memory. Included by per-instruction-set sources.
#pragma once

#include <stdlib.h>

#include <cstdint>

#include "integers.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// Room for `count` elements, to be given back with free(); null where there is none. It begins on a cache line, so that
// whole vectors in it do not straddle two.
template <typename A>
inline A* allocate(std::int64_t count) {
  return static_cast<A*>(aligned_alloc(64, ceil_div(count * sizeof(A), 64) * 64));
}

}  // namespace

// Memory that a thread keeps from call to call: pages new to the process take longer to get than a short call's steps.
struct KeptRoom {
  float* data = nullptr;
  std::int64_t count = 0;
  bool lent = false;
  ~KeptRoom() { free(data); }
};
inline KeptRoom& kept_room() {
  static thread_local KeptRoom room;
  return room;
}

constexpr std::int64_t kMostKept = 1 << 22;  // floats: 16 megabytes

// Room for `count` floats, to be given back with `give_back`: what the thread keeps, if it is enough of that and nobody
// has it. Null where there is none.
inline float* borrow(std::int64_t count) {
  KeptRoom& room = kept_room();
  if (room.lent || count > kMostKept) return allocate<float>(count);
  if (count > room.count) {
    free(room.data);
    room.data = allocate<float>(count);
    room.count = room.data != nullptr ? count : 0;
  }
  room.lent = room.data != nullptr;
  return room.data;
}

inline void give_back(float* data) {
  KeptRoom& room = kept_room();
  if (data == room.data) {
    room.lent = false;
  } else {
    free(data);
  }
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
