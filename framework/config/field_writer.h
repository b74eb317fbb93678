// Writes configuration structs as YAML: every key in the order of visit_fields, absent ones as
// null.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "framework/config/enum_names.h"
#include "framework/config/fields.h"
#include "framework/config/yaml_node.h"

namespace polyhead {

template <class T>
std::string yaml_text(const std::vector<T>& values) {
  std::string text = "[";
  for (const T& value : values) text.append(text.size() > 1 ? ", " : "").append(yaml_text(value));
  return text + "]";
}

class FieldWriter {
 public:
  explicit FieldWriter(std::string indentation = "") : indentation_(std::move(indentation)) {}

  template <class T>
  void operator()(std::string_view key, T& value, const FieldOptions& = {}) {
    text_.append(indentation_).append(key).append(":");
    write(value);
  }
  void unsupported(std::string_view, std::string_view, std::string_view) {}

  const std::string& text() const { return text_; }

 private:
  template <class T>
  void write(T& value) {
    if constexpr (IsOptional<T>::value) {
      if (value) {
        write(*value);
      } else {
        text_ += " null\n";
      }
    } else if constexpr (Section<T>) {
      FieldWriter section(indentation_ + "  ");
      visit_fields(section, value);
      text_.append("\n").append(section.text());
    } else if constexpr (std::is_enum_v<T>) {
      text_.append(" ").append(enum_name(value)).append("\n");
    } else {
      text_.append(" ").append(yaml_text(value)).append("\n");
    }
  }

  std::string indentation_;
  std::string text_;
};

template <Section T>
std::string write_fields(T config) {
  FieldWriter writer;
  visit_fields(writer, config);
  return writer.text();
}

}  // namespace polyhead
