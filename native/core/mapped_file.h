// A file mapped into memory, read-only.
#pragma once

#include <cstdint>
#include <string>

namespace threefold {

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // refuses what cannot be opened or mapped, by name
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  // Refuses a file that was cut since it was mapped: reading past its end would end the process.
  const char* bytes(int64_t begin, int64_t end) const;
  // The pages of [begin, end) need not stay in memory: they come from the file again if they are read again.
  void release(int64_t begin, int64_t end) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
  char* data_ = nullptr;
};

}  // namespace threefold
