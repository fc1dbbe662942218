#include "binding/batch_handle.h"

#include <algorithm>

#include "binding/addon.h"
#include "binding/device.h"

namespace threefold::binding {
namespace {

// The largest of `ids`, or an error when one is negative.
int32_t max_of(const char* what, const std::vector<int32_t>& ids) {
  int32_t top = -1;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0)
      fail("batch", std::string(what) + " of 0 or more", std::to_string(ids[i]) + " at index " + std::to_string(i), "checking how the batch was packed");
    top = std::max(top, ids[i]);
  }
  return top;
}

void same_length(const char* what, size_t got, size_t want) {
  if (got != want)
    fail("batch", std::to_string(want) + " " + what, std::to_string(got), "checking how the batch was packed");
}

}  // namespace

Napi::Function BatchHandle::define(Napi::Env env) {
  return DefineClass(env, "Batch", {InstanceMethod<&BatchHandle::dispose>("dispose")});
}

BatchHandle& BatchHandle::from(const Napi::Value& v, const char* where, Device& device) {
  if (!v.IsObject() || !v.As<Napi::Object>().InstanceOf(addon_data(v.Env()).batch_class.Value()))
    fail(where, "a batch", "something else", "new Batch(device, rows)");
  BatchHandle* b = Unwrap(v.As<Napi::Object>());
  if (!b->live) fail(where, "a live batch", "a disposed one", "disposing it after its last use");
  if (Device::Unwrap(b->device.Value()) != &device)
    fail(where, "a batch of the device it is called with", "one of another device", "new Batch(device, rows)");
  return *b;
}

void BatchHandle::expect_row_numbers(const char* where) const {
  if (!rows.defined()) fail(where, "a packed batch with row numbers, for dropout", "one without", "making the batch with rowNumbers");
}

BatchHandle::BatchHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<BatchHandle>(info) {
  guarded(info.Env(), [&] {
    Device& device = Device::from(info[0], "batch");
    Fields o(info[1], "batch");
    auto p = o.ints("positions");
    tokens = int64_t(p.size());
    max_position = max_of("positions", p);
    positions = device.upload(std::move(p), {tokens});
    if (o.has("slots")) {
      auto s = o.ints("slots");
      same_length("slots", s.size(), tokens);
      max_slot = max_of("slots", s);
      slots = device.upload(std::move(s), {tokens});
    }
    if (o.has("starts")) {
      auto s = o.ints("starts");
      bool ascending = s.size() >= 2 && s.front() == 0 && s.back() == tokens && std::is_sorted(s.begin(), s.end(), std::less_equal<>());
      if (!ascending && !(s.size() == 1 && tokens == 0))
        fail("batch", "starts that ascend from 0 to the number of tokens (" + std::to_string(tokens) + "), no empty sequence", "others", "packing the rows again");
      if (o.has("rowNumbers")) {  // [B] -> [T]
        auto numbers = o.ints("rowNumbers");
        same_length("row numbers", numbers.size(), s.size() - 1);
        std::vector<int32_t> of_tokens(tokens);
        for (size_t b = 0; b < numbers.size(); ++b) std::fill(of_tokens.begin() + s[b], of_tokens.begin() + s[b + 1], numbers[b]);
        rows = device.upload(std::move(of_tokens), {tokens});
      }
      int64_t n = int64_t(s.size());
      starts = device.upload(std::move(s), {n});
    } else {
      auto l = o.ints("lengths"), table = o.ints("blockTable");
      same_length("lengths", l.size(), tokens);
      if (tokens == 0 || table.size() % tokens) fail("batch", "a block table with one row per sequence", std::to_string(table.size()) + " entries", "padding its rows to one length");
      blocks = int64_t(table.size()) / tokens;
      max_length = max_of("lengths", l);
      max_page = max_of("pages", table);
      lengths = device.upload(std::move(l), {tokens});
      block_table = device.upload(std::move(table), {tokens, blocks});
    }
    this->device = Napi::Persistent(info[0].As<Napi::Object>());
    live = true;
  });
}

void BatchHandle::dispose(const Napi::CallbackInfo&) {
  if (!live) return;
  Device::Unwrap(device.Value())->release({std::move(starts), std::move(positions), std::move(slots), std::move(block_table), std::move(lengths), std::move(rows)});
  starts = positions = slots = block_table = lengths = rows = Tensor{};
  device.Reset();
  live = false;
}

}  // namespace threefold::binding
