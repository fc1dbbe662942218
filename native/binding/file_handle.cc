#include "binding/file_handle.h"

#include <algorithm>

#include "binding/addon.h"
#include "binding/device.h"
#include "binding/ops.h"

namespace threefold::binding {
namespace {

StoredType stored_of(const Fields& o) {
  constexpr std::pair<const char*, StoredType> kNames[] = {{"F64", StoredType::f64}, {"F32", StoredType::f32}, {"BF16", StoredType::bf16}, {"F16", StoredType::f16}};
  std::string given = o.text("stored");
  for (auto [name, type] : kNames)
    if (given == name) return type;
  o.bad("stored", "F64, F32, BF16 or F16", o.get("stored"));
}

// unpack(device, {file, begin, end, stored, offset, block, blockStride, rowStride, columnStride, out, bad}): fills `out`
// [R, C] from bytes [begin, end) of a mapped file, a stretch at a time, and lets go of their pages.
Napi::Value unpack(Napi::Env env, const char* where, Device& device, const Fields& o) {
  constexpr int64_t kStretch = 8 << 20;  // bytes of the output
  std::shared_ptr<const MappedFile> file = FileHandle::from(o.get("file"), where);
  int64_t begin = o.integer("begin"), end = o.integer("end");
  Unpack args{.type = stored_of(o), .offset = o.integer("offset"), .block = o.integer("block"), .block_stride = o.integer("blockStride"),
              .row_stride = o.integer("rowStride"), .column_stride = o.integer("columnStride"), .out = {}, .bad = {}};
  Tensor out = o.tensor("out"), bad = o.tensor("bad");
  expect_rank(where, "out", out, 2);
  expect(where, "bad", bad, DType::i32, {1});
  int64_t rows = out.shape()[0], columns = out.shape()[1], size = args.type == StoredType::f64 ? 8 : args.type == StoredType::f32 ? 4 : 2;
  if (args.offset < 0 || args.block < 1 || args.block_stride < 0 || args.row_stride < 0 || args.column_stride < 0)
    fail(where, "strides of 0 or more", "others", "the place of the parameter in the stored tensor");
  int64_t last = rows && columns ? args.offset + (rows - 1) / args.block * args.block_stride + std::min(rows, args.block) * args.row_stride -
                                       args.row_stride + (columns - 1) * args.column_stride
                                 : -1;
  if ((last + 1) * size > end - begin)
    fail(where, "a parameter within the " + std::to_string(end - begin) + " stored bytes", "one that ends at byte " + std::to_string((last + 1) * size),
         "the checkpoint that belongs to this config.json");
  file->bytes(begin, end);  // refused here where the file is too short
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    Unpack part = args;
    part.bytes = file->bytes(begin, end);
    part.bad = view(bad);
    View whole = view(out);
    int64_t step = std::max<int64_t>(1, kStretch / std::max<int64_t>(1, columns * size_of(whole.dtype)));
    for (int64_t r = 0; r < rows; r += step) {
      part.first_row = r;
      part.out = whole.rows(r, std::min(rows, r + step));
      k.unpack(ex, part);
      if (args.column_stride == 1) {  // these rows' bytes are not read again by this parameter
        int64_t from = args.offset + r / args.block * args.block_stride + r % args.block * args.row_stride;
        int64_t until = std::min(rows, r + step) - 1;
        until = args.offset + until / args.block * args.block_stride + until % args.block * args.row_stride + columns;
        file->release(begin + from * size, begin + until * size);
      }
    }
    file->release(begin, end);
  });
  return env.Undefined();
}

}  // namespace

Napi::Function FileHandle::define(Napi::Env env) {
  return DefineClass(env, "MappedFile", {InstanceAccessor<&FileHandle::size>("size"), InstanceMethod<&FileHandle::dispose>("dispose")});
}

std::shared_ptr<const MappedFile> FileHandle::from(const Napi::Value& v, const char* where) {
  if (!v.IsObject() || !v.As<Napi::Object>().InstanceOf(addon_data(v.Env()).file_class.Value()))
    fail(where, "a mapped file", "something else", "new MappedFile(path)");
  FileHandle* f = Unwrap(v.As<Napi::Object>());
  if (!f->file_) fail(where, "an open file", "a disposed one", "disposing it after its last use");
  return f->file_;
}

FileHandle::FileHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FileHandle>(info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsString()) fail("file", "a path", info[0].ToString().Utf8Value(), "new MappedFile(path)");
    file_ = std::make_shared<MappedFile>(info[0].As<Napi::String>().Utf8Value());
  });
}

Napi::Value FileHandle::size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), file_ ? double(file_->size()) : 0);
}

void FileHandle::dispose(const Napi::CallbackInfo&) { file_.reset(); }

void define_file_ops(Napi::Env env, Napi::Object exports) { define_op(env, exports, "unpack", unpack); }

}  // namespace threefold::binding
