#include <algorithm>
#include <array>
#include <type_traits>

#include "layers/huggingface/config_families.h"
#include "layers/model_config_fields.h"

namespace polyhead {
namespace {

class OwnFields {
 public:
  explicit OwnFields(ConfigFields& fields) : fields_(fields) {}

  template <class T>
  void operator()(std::string_view key, T& value, const FieldOptions& options = {}) {
    if (options.required && !fields_.has(key)) fields_.refuse(key, "it must be given");
    if (fields_.has(key)) read(key, value);
  }
  void unsupported(std::string_view, std::string_view, std::string_view) {}

 private:
  template <class T>
  void read(std::string_view key, std::optional<T>& value) {
    read(key, value.emplace());
  }
  void read(std::string_view key, std::int64_t& value) { value = *fields_.integer(key); }
  void read(std::string_view key, double& value) { value = *fields_.number(key); }
  void read(std::string_view key, bool& value) { value = *fields_.flag(key); }
  template <class T>
  requires std::is_enum_v<T>
  void read(std::string_view key, T& value) {
    const std::string name = *fields_.text(key);
    const auto& names = EnumNames<T>::kNames;
    const auto found = std::ranges::find(names, name);
    if (found == names.end()) {
      fields_.refuse(key, fmt::format("must be one of {}", fmt::join(names, ", ")));
    }
    value = static_cast<T>(found - names.begin());
  }
  void read(std::string_view key, WindowPattern& pattern) {
    if (const auto layers = fields_.integers(key)) {
      pattern.layers = *layers;
    } else {
      pattern.global_every = *fields_.integer(key);
    }
  }

  ConfigFields& fields_;
};

}  // namespace

void read_polyhead_fields(ConfigFields& fields, ModelConfig& config) {
  OwnFields reader(fields);
  visit_fields(reader, config);
  config.vocab_size = fields.required_integer("vocab_size");
}

}  // namespace polyhead
