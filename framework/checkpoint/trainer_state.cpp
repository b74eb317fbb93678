#include "framework/checkpoint/trainer_state.h"

#include <nlohmann/json.hpp>

#include "framework/error.h"
#include "framework/files/folder.h"
#include "framework/files/json.h"
#include "framework/files/json_object.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

using nlohmann::json;

constexpr const char* kChecksum = "checksum";
constexpr std::size_t kLargestTrainerState = std::size_t{16} << 20;

std::string checksum_of(const json& document) {
  const std::string text = document.dump();
  return content_hash(std::as_bytes(std::span(text)));
}

json to_json(const Environment& environment) {
  return {{"blas", environment.blas},
          {"threads", environment.threads},
          {"world_size", environment.world_size},
          {"tensor_model_parallel_size", environment.tensor_model_parallel_size},
          {"data_parallel_size", environment.data_parallel_size}};
}

void read(const JsonObject& fields, Environment& environment) {
  fields.read("blas", environment.blas);
  fields.read("threads", environment.threads);
  fields.read("world_size", environment.world_size);
  fields.read("tensor_model_parallel_size", environment.tensor_model_parallel_size);
  fields.read("data_parallel_size", environment.data_parallel_size);
}

json to_json(const Parent& parent) {
  return {{"path", parent.path},
          {"step", parent.step},
          {"hash", parent.hash},
          {"method", parent.method}};
}

void read(const JsonObject& fields, Parent& parent) {
  fields.read("path", parent.path);
  fields.read("step", parent.step);
  fields.read("hash", parent.hash);
  fields.read("method", parent.method);
}

json to_json(const FileRecord& file) {
  return {{"name", file.name}, {"bytes", file.bytes}, {"xxh3_128", file.xxh3_128}};
}

void read(const JsonObject& fields, FileRecord& file) {
  fields.read("name", file.name);
  fields.read("bytes", file.bytes);
  fields.read("xxh3_128", file.xxh3_128);
}

void check_integrity(json& document, const std::string& source) {
  std::string checksum;
  JsonObject(document, source).read(kChecksum, checksum);
  document.erase(kChecksum);
  require(checksum == checksum_of(document),
          "{}: altered since it was written; put the file back, or use another checkpoint", source);
}

}  // namespace

std::string to_json(const TrainerState& state) {
  json document{{"format_version", TrainerState::kFormatVersion},
                {"step", state.step},
                {"updates", state.updates},
                {"samples", state.samples},
                {"tokens", state.tokens},
                {"seed", state.seed},
                {"config", state.config},
                {"dataset_fingerprint", state.dataset_fingerprint},
                {"tokenizer_fingerprint", state.tokenizer_fingerprint},
                {"environment", to_json(state.environment)},
                {"files", json::array()}};
  if (state.parent) document["parent"] = to_json(*state.parent);
  if (!state.teacher.empty()) document["teacher"] = state.teacher;
  for (const FileRecord& file : state.files) document["files"].push_back(to_json(file));
  document[kChecksum] = checksum_of(document);
  return document.dump(2) + "\n";
}

TrainerState parse_trainer_state(std::string_view text, const std::string& source) {
  json document = parse_json(text, source, {.bytes = kLargestTrainerState});
  const JsonObject fields(document, source);
  std::int64_t version = 0;
  fields.read("format_version", version);
  require(version == TrainerState::kFormatVersion,
          "{}: format version {}, this program reads version {}", source, version,
          TrainerState::kFormatVersion);
  check_integrity(document, source);

  TrainerState state;
  fields.read("step", state.step);
  fields.read("updates", state.updates);
  fields.read("samples", state.samples);
  fields.read("tokens", state.tokens);
  fields.read("seed", state.seed);
  fields.read("config", state.config);
  fields.read("dataset_fingerprint", state.dataset_fingerprint);
  fields.read("tokenizer_fingerprint", state.tokenizer_fingerprint);
  read(fields.object("environment"), state.environment);
  if (fields.has("parent")) read(fields.object("parent"), state.parent.emplace());
  if (fields.has("teacher")) fields.read("teacher", state.teacher);
  const json& files = fields.at("files");
  require(files.is_array(), "{}: files must be an array", source);
  for (const json& file : files) {
    FileRecord& record = state.files.emplace_back();
    read(JsonObject(file, source + ": files"), record);
    require(stays_below(record.name), "{}: lists '{}', which is outside of the checkpoint", source,
            excerpt(record.name));
  }
  return state;
}

TrainerState read_trainer_state(const std::filesystem::path& folder) {
  const MappedFile file(folder / "trainer.json");
  return parse_trainer_state(file.text(), file.path().string());
}

}  // namespace polyhead
