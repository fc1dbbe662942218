// Single ops exported to JavaScript; layers go through LayerHandle.
#pragma once

#include "binding/convert.h"

namespace threefold {
enum class Act : uint8_t;
}

namespace threefold::binding {

Act act_of(const std::string& name);
void define_ops(Napi::Env env, Napi::Object exports);
void define_model_ops(Napi::Env env, Napi::Object exports);
void define_head_ops(Napi::Env env, Napi::Object exports);
void define_optimizer_ops(Napi::Env env, Napi::Object exports);
void define_file_ops(Napi::Env env, Napi::Object exports);

// Registers fn(device, options) under `name`; `name` is also the place in its errors.
using Op = Napi::Value (*)(Napi::Env env, const char* where, class Device& device, const class Fields& o);
void define_op(Napi::Env env, Napi::Object exports, const char* name, Op op);

}  // namespace threefold::binding
