// A mapped file as JavaScript holds it: what loads parameters from a checkpoint.
#pragma once

#include "binding/convert.h"
#include "core/mapped_file.h"

namespace threefold::binding {

class FileHandle : public Napi::ObjectWrap<FileHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  static std::shared_ptr<const MappedFile> from(const Napi::Value& v, const char* where);
  explicit FileHandle(const Napi::CallbackInfo& info);  // new MappedFile(path)

 private:
  Napi::Value size(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<const MappedFile> file_;  // ops that are queued keep it too
};

}  // namespace threefold::binding
