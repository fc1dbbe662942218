#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/status.h"

namespace threefold {
namespace {

[[noreturn]] void refuse(const std::string& path, const char* what) {
  fail("file", std::string("to ") + what + " " + path, std::strerror(errno), "checking the path and its permissions");
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) refuse(path, "open");
  struct stat status;
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    fail("file", "a regular file at " + path, "something else", "the path of a checkpoint's file");
  }
  size_ = status.st_size;
  if (size_ == 0) return;
  void* data = mmap(nullptr, size_t(size_), PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (data == MAP_FAILED) {
    close(descriptor_);
    refuse(path, "map");
  }
  data_ = static_cast<char*>(data);
  madvise(data_, size_t(size_), MADV_SEQUENTIAL);
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, size_t(size_));
  close(descriptor_);
}

const char* MappedFile::bytes(int64_t begin, int64_t end) const {
  struct stat status;
  if (fstat(descriptor_, &status) != 0 || begin < 0 || begin > end || end > size_ || status.st_size < end)
    fail("file", "bytes " + std::to_string(begin) + " to " + std::to_string(end) + " in " + path_,
         "a file of " + std::to_string(status.st_size) + " bytes", "to copy or download the file again");
  return data_ + begin;
}

void MappedFile::release(int64_t begin, int64_t end) const {
  int64_t page = sysconf(_SC_PAGESIZE), first = begin / page * page;
  if (data_ && first < end) madvise(data_ + first, size_t(end - first), MADV_DONTNEED);
}

}  // namespace threefold
