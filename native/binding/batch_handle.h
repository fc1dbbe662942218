// The rows of one call as JavaScript describes them, uploaded once and used by every layer.
#pragma once

#include "binding/convert.h"

namespace threefold::binding {

class BatchHandle : public Napi::ObjectWrap<BatchHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  // The batch in `v`; refuses a disposed one and one of another device.
  static BatchHandle& from(const Napi::Value& v, const char* where, class Device& device);
  void expect_row_numbers(const char* where) const;  // or an error: dropout needs them
  // new Batch(device, {starts, positions, slots?, rowNumbers?} or {positions, slots, blockTable, lengths})
  explicit BatchHandle(const Napi::CallbackInfo& info);

  Tensor starts, positions, slots, block_table, lengths, rows;
  int64_t tokens = 0;
  int32_t max_position = -1, max_slot = -1, max_page = -1;
  int64_t max_length = 0, blocks = 0;
  bool live = false;
  Napi::ObjectReference device;

 private:
  void dispose(const Napi::CallbackInfo& info);
};

}  // namespace threefold::binding
