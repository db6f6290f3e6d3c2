// expression_block on the CPU: a thread takes a tile of tokens through all sub-layers: their products, what is computed
// of rows between them, the residual connections and the norms.
#include "expression_block.h"

#include "closing_norm.h"
#include "integers.h"
#include "product.h"
#include "row_program.h"
#include "scratch.h"
#include "tiles.h"

namespace bertkernels {
namespace BERTKERNELS_ISA {
namespace {

// Of one tile.
struct Buffers {
  float *hidden, *result, *moments, *input;  // [rows, F], [rows, C], [rows, 2], and [rows, C] if something comes before

  static std::int64_t size(const ExpressionBlock& call, std::int64_t rows) {
    const std::int64_t inputs = call.before.count > 0 ? call.channels : 0;
    return ceil_div(rows * (call.hidden + call.channels + 2 + inputs), kUnit) * kUnit;
  }
  Buffers(const ExpressionBlock& call, std::int64_t rows, float* memory)
      : hidden(memory),
        result(hidden + rows * call.hidden),
        moments(result + rows * call.channels),
        input(moments + rows * 2) {}
};

// A thread's rows of what its program computes.
struct Values {
  std::int64_t width, size;

  explicit Values(const ExpressionBlock& call)
      : width(ceil_div(larger(call.channels, call.hidden), kUnit) * kUnit), size(kMostValues * width) {}
};

// A tile's rows [rows, C].
struct Input {
  const float* data;
  std::int64_t stride;
};

// out [rows, width] = program of x and of layer [rows, width], to which its bias is yet to be added; out may be layer.
void run_rows(const ExpressionBlock& call, const Program& program, std::int64_t rows, const Input& x,
              const float* layer, std::int64_t width, const float* bias, float* out, float* memory, int threads) {
  const Values values(call);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
  for (int part = 0; part < threads; ++part) {
    for (std::int64_t r = rows * part / threads; r < rows * (part + 1) / threads; ++r) {
      run_program(program, call.widths, {x.data + r * x.stride, call.channels}, {layer + r * width, width}, bias,
                  memory + part * values.size, values.width, out + r * width);
    }
  }
}

// One sub-layer; out may be x.
bool run_layer(const ExpressionBlock& call, const ExpressionLayer& layer, std::int64_t rows, const Input& x, float* out,
               const Buffers& b, float* memory, int threads) {
  const std::int64_t C = call.channels, F = call.hidden;
  Input input = x;
  if (call.before.count > 0) {
    run_rows(call, call.before, rows, x, b.input, C, nullptr, b.input, memory, threads);
    input = {b.input, C};
  }
  multiply_here(call.gemm, {without_bias(layer.up), 1, C, F, input.data, input.stride, b.hidden, F}, rows);
  run_rows(call, call.between, rows, x, b.hidden, F, layer.up.bias, b.hidden, memory, threads);
  multiply_here(call.gemm, {without_bias(layer.down), 1, F, C, b.hidden, F, b.result, C}, rows);
  run_rows(call, call.after, rows, x, b.result, C, layer.down.bias, b.result, memory, threads);
  return closing_norm(layer.norm, rows, C, b.result, x.data, x.stride, out, call.out.stride, b.moments, threads);
}

bool run_tile(const ExpressionBlock& call, std::int64_t first, std::int64_t rows, const Buffers& b, float* memory,
              int threads) {
  float* const out = static_cast<float*>(call.out.data) + first * call.out.stride;
  Input x = {static_cast<const float*>(call.x.data) + first * call.x.stride, call.x.stride};
  bool enough = true;
  for (int i = 0; i < call.count; ++i) {
    enough = run_layer(call, call.layers[i], rows, x, out, b, memory, threads) && enough;
    x = {out, call.out.stride};
  }
  return enough;
}

}  // namespace

bool expression_block_forward(const ExpressionBlock& call, int threads) {
  const Tiles tiles(call.rows, threads);
  const std::int64_t room = Buffers::size(call, tiles.rows), values = Values(call).size;
  const std::int64_t lanes = smaller(tiles.count, threads);
  float* const scratch = borrow(lanes * room + threads * values);
  if (scratch == nullptr) return false;
  float* const memory = scratch + lanes * room;
  bool enough = true;
  if (tiles.count == 1) {
    enough = run_tile(call, 0, call.rows, Buffers(call, call.rows, scratch), memory, threads);
  } else {
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(&& : enough)
    for (int thread = 0; thread < threads; ++thread) {
      const Buffers buffers(call, tiles.rows, scratch + thread * room);
      for (std::int64_t t = thread; t < tiles.count; t += threads) {
        const std::int64_t first = t * tiles.rows, rows = smaller(tiles.rows, call.rows - first);
        enough = run_tile(call, first, rows, buffers, memory + thread * values, 1) && enough;
      }
    }
  }
  give_back(scratch);
  return enough;
}

}  // namespace BERTKERNELS_ISA
}  // namespace bertkernels
