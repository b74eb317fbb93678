// The one list of a configuration struct's keys. Reading, writing, finding unknown keys and the
// table in configs/README.md all follow from it:
//
//   template <class Visitor>
//   void visit_fields(Visitor& visitor, OptimizerConfig& config) {
//     visitor("learning_rate", config.learning_rate, {.required = true, .aliases = {"lr"}});
//     visitor("clip_grad_norm", config.clip_grad_norm);
//     visitor.unsupported("use_sgd", "false", "only AdamW is built");
//   }
//
// A field may be an integer, a number, a boolean, text, an enumeration with EnumNames, a struct
// with visit_fields, an optional of these, a vector, or any type with read_value and yaml_text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace polyhead {

struct FieldOptions {
  bool required = false;                       // no default; for a section: of its required keys
  std::vector<std::string_view> aliases = {};  // other spellings, mostly Megatron's
};

template <class T>
struct IsOptional : std::false_type {
  using Value = T;
};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {
  using Value = T;
};

namespace internal {
struct AnyVisitor {
  template <class T>
  void operator()(std::string_view key, T& value, const FieldOptions& options = {});
  void unsupported(std::string_view key, std::string_view neutral, std::string_view advice);
};
}  // namespace internal

// A struct with fields of its own: a section of the file.
template <class T>
concept Section = requires(internal::AnyVisitor& visitor, T& config) {
  visit_fields(visitor, config);
};

// A key as it may be spelled in a file.
struct KnownKey {
  std::string section;  // "model"; empty for the sections themselves
  std::string name;
  std::vector<std::string_view> aliases;

  std::string path() const { return section.empty() ? name : section + "." + name; }
};

// Lists every key of a struct and of its sections.
class KeyLister {
 public:
  template <class T>
  void operator()(std::string_view key, T&, const FieldOptions& options = {}) {
    keys_.push_back({section_, std::string(key), options.aliases});
    using Value = typename IsOptional<T>::Value;
    if constexpr (Section<Value>) {
      Value defaults;
      const std::string outer = std::exchange(section_, keys_.back().path());
      visit_fields(*this, defaults);
      section_ = outer;
    }
  }
  void unsupported(std::string_view, std::string_view, std::string_view) {}

  const std::vector<KnownKey>& keys() const { return keys_; }

 private:
  std::string section_;
  std::vector<KnownKey> keys_;
};

template <Section T>
std::vector<KnownKey> known_keys() {
  KeyLister lister;
  T defaults;
  visit_fields(lister, defaults);
  return lister.keys();
}

}  // namespace polyhead
