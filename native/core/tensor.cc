#include "core/tensor.h"

namespace threefold {

void* Storage::data() {
  if (!data_) {
    data_ = allocator_->allocate(bytes_, category_);
    if (zeroed_) allocator_->memory().zero(data_, bytes_);
  }
  return data_;
}

Tensor::Tensor(std::shared_ptr<Allocator> allocator, DType dtype, Shape shape, Category category, bool zeroed)
    : storage_(std::make_shared<Storage>(std::move(allocator), shape.numel() * size_of(dtype), category, zeroed)),
      dtype_(dtype),
      shape_(shape) {}

Tensor Tensor::view(int64_t offset, Shape shape) const {
  if (offset < 0 || offset + shape.numel() > numel())
    fail("tensor.view", "a view inside " + shape_.text(), shape.text() + " at element " + std::to_string(offset),
         "a smaller offset or shape");
  Tensor t = *this;
  t.offset_ += offset;
  t.shape_ = shape;
  return t;
}

View Tensor::on_stream() const {
  return {static_cast<char*>(storage_->data()) + offset_ * size_of(dtype_), dtype_, shape_};
}

void Tensor::upload(const void* data) const {
  storage_->allocator().memory().upload(on_stream().data, data, numel() * size_of(dtype_));
}

void Tensor::download(void* data) const {
  storage_->allocator().memory().download(data, on_stream().data, numel() * size_of(dtype_));
}

}  // namespace threefold
