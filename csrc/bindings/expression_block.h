// expression_block in Python. The last argument of a CPU function is the number of threads.
#pragma once

#include <vector>

#include "../cpu/expression_block.h"
#include "../cpu/isa.h"
#include "arguments.h"
#include "blocks.h"

namespace bertkernels {

inline std::vector<int> program_steps(const py::handle& x) {
  std::vector<int> steps;
  for (const py::handle& step : x) steps.push_back(step.cast<int>());
  return steps;
}

inline Program program(const std::vector<int>& steps) { return {steps.data(), static_cast<int>(steps.size())}; }

inline void bind_expression_block(py::module_& m) {
  // shape: (M, C, F); programs: steps (before, between, after); widths: number of the rule; layers: (up, down, norm)
  // each; gemm: the address of BLAS's sgemm.
  m.def("expression_block_forward_cpu",
        [](const py::tuple& shape, const py::tuple& programs, int widths, const py::tuple& x, const py::list& layers,
           const py::tuple& out, std::uintptr_t gemm, int threads) {
          const std::vector<int> before = program_steps(programs[0]), between = program_steps(programs[1]);
          const std::vector<int> after = program_steps(programs[2]);
          std::vector<ExpressionLayer> each;
          for (const py::handle& layer : layers) {
            const py::tuple parts = layer.cast<py::tuple>();
            each.push_back({linear_weight(parts[0].cast<py::tuple>()), linear_weight(parts[1].cast<py::tuple>()),
                            norm(parts[2].cast<py::tuple>())});
          }
          ExpressionBlock call;
          call.rows = shape[0].cast<std::int64_t>();
          call.channels = shape[1].cast<std::int64_t>();
          call.hidden = shape[2].cast<std::int64_t>();
          call.before = program(before);
          call.between = program(between);
          call.after = program(after);
          call.widths = static_cast<Widths>(widths);
          call.x = matrix(x);
          call.layers = each.data();
          call.count = static_cast<int>(each.size());
          call.out = matrix(out);
          call.gemm = reinterpret_cast<Sgemm>(gemm);
          py::gil_scoped_release release;
          require_memory(BERTKERNELS_CALL(expression_block_forward, call, threads));
        });
}

}  // namespace bertkernels
