// What the rungs of the ladder stand on: views with numbers in them, a clock for kernels that run apart, and the two
// ceilings that each kernel is held against.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "kernels/backend.h"

namespace threefold::ladder {

using Sizes = std::vector<std::pair<const char*, int64_t>>;

struct Rung {
  std::string kernel, model;
  Sizes sizes;       // printed as "M=4096 N=2048 K=2048"; bench/peers/torch_ladder.py reads them back
  double flops = 0;  // of the products; 0: it only moves bytes
  double bytes = 0;  // read and written, each once
};

class Bench {
 public:
  using Start = std::function<void(const Kernels&, Exec&)>;

  Bench(Backend& backend, std::string filter);

  // Memory of the rung that is being made.
  View empty(DType dtype, Shape shape);
  // fp32 or bf16 numbers in [-1, 1), one block of a million over and over: what is multiplied decides how much power a GPU
  // draws, and with it its clock.
  View numbers(DType dtype, Shape shape);
  View whole(Shape shape, const std::function<int64_t(int64_t)>& of);  // int32
  View constant(Shape shape, float value);                             // fp32

  // Times one kernel and prints a line of JSON: `make` makes what it works on and returns what starts it once.
  void rung(const Rung& r, const std::function<Start()>& make);

  int failed = 0;

 private:
  void report(const Rung& r, const std::array<double, 3>& seconds);
  std::array<double, 3> measure(const Start& start);
  double seconds(const Start& start, int64_t launches);

  Backend& backend_;
  std::string filter_;
  std::shared_ptr<Allocator> allocator_;
  ThreadPool pool_;
  Exec ex_;
  std::vector<float> block_;
  std::vector<Tensor> tensors_;                // of the rung being made
  double copy_rate_ = 0, matmul_rate_ = 0;  // bytes a second of a copy, flops a second of the best matmul so far
};

}  // namespace threefold::ladder
