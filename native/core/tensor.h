// Tensors: contiguous, shape-checked, reference-counted views onto storage.
//
// Memory follows the stream, not the caller: storage gets its bytes when the first op touches it on the stream's
// thread, and gives them back when the last handle is gone, queued ops' handles included. However far ahead
// JavaScript enqueues, a temporary lives from the op that makes it to the last op that reads it.
#pragma once

#include <memory>

#include "core/allocator.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/view.h"

namespace threefold {

// Bytes with an owner. `data()` may be called on the stream's thread only.
class Storage {
 public:
  Storage(std::shared_ptr<Allocator> allocator, int64_t bytes, Category category, bool zeroed)
      : allocator_(std::move(allocator)), bytes_(bytes), category_(category), zeroed_(zeroed) {}
  ~Storage() { allocator_->release(data_, bytes_, category_); }
  Storage(const Storage&) = delete;

  void* data();
  int64_t bytes() const { return bytes_; }
  Allocator& allocator() const { return *allocator_; }

 private:
  std::shared_ptr<Allocator> allocator_;  // outlives a disposed device
  int64_t bytes_;
  Category category_;
  bool zeroed_;
  void* data_ = nullptr;
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Allocator> allocator, DType dtype, Shape shape, Category category, bool zeroed = false);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t numel() const { return shape_.numel(); }
  // Whether its bytes come from this allocator: that of the device it was made on.
  bool lives_in(const Allocator& allocator) const { return &storage_->allocator() == &allocator; }

  // A tensor of `shape` that shares storage, `offset` elements on.
  Tensor view(int64_t offset, Shape shape) const;
  // For an op on the stream's thread: the bytes; from the host's `data` and to it, all of them.
  View on_stream() const;
  void upload(const void* data) const;
  void download(void* data) const;

 private:
  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // elements
  DType dtype_ = DType::f32;
  Shape shape_;
};

}  // namespace threefold
