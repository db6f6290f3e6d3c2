// Arguments of expression_block. Shapes: x and out [M, C]; up to F channels, down to C; norm [C]. fp32.
#pragma once

#include "feed_forward_block.h"

namespace bertkernels {

// Steps of a program beside activations, which have their own numbers. Numbers as in
// bertkernels/ops/row_programs.py.
enum Step : int { kInput = 100, kLayer = 101, kAdd = 102, kMultiply = 103, kMaximum = 104 };

// What becomes of each row between products, in reverse Polish order: kInput is the row of x, kLayer that of the layer
// below, which stands once in a program; activations and combinations take what was computed last.
struct Program {
  const int* steps = nullptr;
  int count = 0;
};

constexpr int kMostValues = 16;  // that a program may keep at a time

// What combinations do with rows of different widths: crop the wider one, or fill the narrower one up with what changes
// nothing, which for the maximum is published as -1e-10.
enum class Widths : int { kCrop = 0, kPad = 1, kPadPublished = 2 };

// Of one sub-layer.
struct ExpressionLayer {
  LinearWeight up, down;
  Norm norm;
};

// Sub-layers in a row, each on what the one before yields.
struct ExpressionBlock {
  std::int64_t rows = 0;
  std::int64_t channels = 0;
  std::int64_t hidden = 0;
  Program before, between, after;  // the first product, the two, and the second; the first may be empty
  Widths widths = Widths::kCrop;
  Matrix x;
  const ExpressionLayer* layers = nullptr;
  int count = 0;
  Matrix out;
  Sgemm gemm = nullptr;
};

}  // namespace bertkernels
