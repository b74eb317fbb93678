// XXH3-128 of bytes: finds every accidental change, at memory speed. Not a defence against forgery.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

struct XXH3_state_s;

namespace polyhead {

class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(ContentHash&&) noexcept;
  ContentHash& operator=(ContentHash&&) noexcept;

  void add(std::span<const std::byte> bytes);
  std::string hex() const;  // 32 lower-case digits, of all bytes added so far

 private:
  struct FreeState {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, FreeState> state_;
};

std::string content_hash(std::span<const std::byte> bytes);

}  // namespace polyhead
