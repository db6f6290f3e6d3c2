// A block of GPU threads on one CPU thread: each is a fiber that runs until it has to wait for others.
// Between two waits threads run one after the other, first to last or last to first: code that lacks a barrier gives
// different results in the two orders.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulation {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

inline bool reversed = false;
inline std::string fault;  // the first thing that a GPU would not have forgiven

inline void report(const std::string& what) {
  if (fault.empty()) fault = what;
}

class Block {
 public:
  static constexpr int kWarp = 32;
  static Block& current() {
    static Block block;
    return block;
  }

  // Runs `body` in each of `count` threads to its end.
  void run(int count, const std::function<void()>& body) {
    if (count % kWarp != 0) throw std::runtime_error("the emulation runs whole warps only");
    body_ = &body;
    fibers_.resize(count);
    for (Fiber& fiber : fibers_) {
      fiber.state = State::kReady;
      fiber.shuffles = 0;
      fiber.copies.clear();
      fiber.stack.resize(kStackBytes);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.data();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &Block::enter, 0);
    }
    while (step()) {
    }
  }

  Index thread() const { return {static_cast<unsigned>(now_), 0, 0}; }
  Index block;

  void wait_for_block() { wait(State::kAtBlock); }
  void wait_for_warp() { wait(State::kAtWarp); }

  // What lane `lane ^ mask` of this warp gives. Each lane gives and takes once a call.
  std::uint64_t exchange(std::uint64_t bits, int mask) {
    // Two buffers: a lane is never more than one exchange ahead of its warp.
    Fiber& self = fibers_[now_];
    const int buffer = self.shuffles++ % 2;
    self.given[buffer] = bits;
    wait(State::kAtWarp);
    return fibers_[now_ / kWarp * kWarp + ((now_ % kWarp) ^ mask)].given[buffer];
  }

  // Copies to shared memory take effect as late as they may: when the thread that asked for them waits for them.
  void copy_later(void* to, const void* from, std::size_t bytes) { fibers_[now_].copies.push_back({to, from, bytes}); }
  void finish_copies() {
    for (const Copy& copy : fibers_[now_].copies) std::memcpy(copy.to, copy.from, copy.bytes);
    fibers_[now_].copies.clear();
  }

 private:
  enum class State { kReady, kAtBlock, kAtWarp, kDone };
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    State state = State::kReady;
    unsigned shuffles = 0;
    std::uint64_t given[2] = {};
    std::vector<Copy> copies;
  };
  static constexpr std::size_t kStackBytes = 128 << 10;

  static void enter() {
    Block& block = current();
    (*block.body_)();
    if (!block.fibers_[block.now_].copies.empty()) report("a thread ended without waiting for its copies");
    block.fibers_[block.now_].state = State::kDone;
  }

  void wait(State state) {
    Fiber& self = fibers_[now_];
    self.state = state;
    swapcontext(&self.context, &scheduler_);
  }

  bool all(std::size_t first, std::size_t last, State state) const {
    for (std::size_t i = first; i < last; ++i) {
      if (fibers_[i].state != state) return false;
    }
    return true;
  }
  void release(std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) fibers_[i].state = State::kReady;
  }

  // Runs every thread that can run up to its next wait, then lets go those whose partners have all arrived.
  bool step() {
    const int count = static_cast<int>(fibers_.size());
    for (int i = 0; i < count; ++i) {
      now_ = reversed ? count - 1 - i : i;
      if (fibers_[now_].state == State::kReady) swapcontext(&scheduler_, &fibers_[now_].context);
    }
    if (all(0, count, State::kDone)) return false;
    if (all(0, count, State::kAtBlock)) {
      release(0, count);
      return true;
    }
    bool released = false;
    for (int warp = 0; warp < count; warp += kWarp) {
      if (all(warp, warp + kWarp, State::kAtWarp)) {
        release(warp, warp + kWarp);
        released = true;
      }
    }
    if (!released) throw std::runtime_error("threads wait for others that never come");
    return true;
  }

  ucontext_t scheduler_;
  std::vector<Fiber> fibers_;
  const std::function<void()>* body_ = nullptr;
  int now_ = 0;
};

}  // namespace emulation
