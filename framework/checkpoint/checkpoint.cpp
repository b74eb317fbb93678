#include "framework/checkpoint/checkpoint.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>

#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/parameter_reader.h"
#include "framework/checkpoint/parameter_writer.h"
#include "framework/checkpoint/tensor_assembly.h"
#include "framework/comm/hang.h"
#include "framework/files/folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModelStem = "model";
constexpr const char* kOptimizerFolder = "optimizer";

constexpr const char* kMasters = "master";

std::string state_stem(const std::string& name) {
  return fmt::format("{}/{}", kOptimizerFolder, name);
}

std::vector<TensorInfo> tensor_infos(const ParameterStore& store, DType dtype) {
  std::vector<TensorInfo> infos;
  for (const Segment& segment : store.segments()) {
    infos.push_back({segment.parameter->name, dtype, segment.parameter->global_shape});
  }
  return infos;
}

// World rank 0's side of a save; the other ranks hold one that does nothing. The first failure is
// kept while the collectives go on, so that no rank waits for another.
class FolderWriter {
 public:
  FolderWriter(const fs::path& run, const Communicator& world,
               const CheckpointDescription& description)
      : writes_(world.rank() == 0), state_(description.trainer) {
    attempt([&] {
      fs::create_directories(run);
      remove_stale_checkpoints(run);
      transaction_.emplace(run / checkpoint_name(state_.step));
      make_folder(transaction_->folder() / kOptimizerFolder);
      record(write_durably(transaction_->folder(), "config.json", description.config_json));
      if (!description.generation_config_json.empty()) {
        record(write_durably(transaction_->folder(), "generation_config.json",
                             description.generation_config_json));
      }
      for (const fs::path& file : description.tokenizer_files) {
        record(copy_durably(file, transaction_->folder(), file.filename().string()));
      }
    });
  }

  void begin(const std::string& stem, const std::vector<TensorInfo>& parameters,
             const TensorLayout& layout, std::uint64_t max_shard_bytes) {
    attempt([&] {
      writer_ = std::make_unique<ParameterWriter>(transaction_->folder(), stem, parameters, layout,
                                                  max_shard_bytes);
    });
  }
  void write(const Tensor& tensor) {
    attempt([&] { writer_->write(tensor); });
  }
  void end() {
    attempt([&] {
      for (FileRecord& file : writer_->finish()) record(std::move(file));
    });
    writer_.reset();
  }

  void commit() {
    attempt([&] { transaction_->commit_as_latest(state_); });
    transaction_.reset();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  template <class Work>
  void attempt(Work&& work) {
    if (!writes_ || failure_) return;
    try {
      work();
      still_working();
    } catch (...) {
      failure_ = std::current_exception();
    }
  }
  void record(FileRecord file) { state_.files.push_back(std::move(file)); }

  bool writes_;
  TrainerState state_;
  std::optional<CheckpointTransaction> transaction_;
  std::unique_ptr<ParameterWriter> writer_;
  std::exception_ptr failure_;
};

// Collective over the group that shards `flat`, if it is, and over the assembling group.
void write_flat(FolderWriter& folder, const std::string& stem, const Tensor& flat,
                const TensorLayout& layout, const ParameterStore& store,
                const TensorAssembly& assembly, std::uint64_t max_shard_bytes) {
  const std::vector<TensorInfo> infos = tensor_infos(store, flat.dtype());
  folder.begin(stem, infos, layout, max_shard_bytes);
  for (const TensorInfo& info : writing_order(infos, layout)) {
    const auto segment = std::ranges::find_if(store.segments(), [&](const Segment& candidate) {
      return candidate.parameter->name == info.name;
    });
    const Tensor local = store.whole_segment(flat, *segment);
    if (!assembly.takes_part()) continue;
    folder.write(assembly.assemble(*segment->parameter, local.to(Device::kCpu)));
  }
  folder.end();
}

// Calls take(segment, tensor) with every parameter's part of a file, a host tensor of its local
// shape in `dtype`, zero in the padding.
template <class Take>
void read_segments(const ParameterReader& reader, DType dtype, const ParameterStore& store,
                   Take&& take) {
  for (const Segment& segment : store.segments()) {
    still_working();
    const Parameter& parameter = *segment.parameter;
    const TensorInfo info = reader.info(parameter.name);
    require(info.shape == parameter.global_shape, "{}: {} has shape {}, this model needs {}",
            reader.file_of(parameter.name).string(), parameter.name, info.shape.to_string(),
            parameter.global_shape.to_string());
    require(converts(info.dtype, dtype), "{}: {} holds {}, which {} parameters cannot take",
            reader.file_of(parameter.name).string(), parameter.name, name_of(info.dtype),
            name_of(dtype));
    Tensor local = Tensor::zeros(parameter.local_shape, dtype);
    Tensor valid = valid_part(parameter, local);
    if (parameter.is_sharded()) {
      reader.read_slice(parameter.name, parameter.shard_dim, parameter.shard_begin,
                        parameter.shard_end, valid);
    } else {
      reader.read_slice(parameter.name, 0, 0, parameter.global_shape[0], valid);
    }
    take(segment, local);
  }
  for (const std::string& name : reader.names()) {
    const bool known = std::ranges::any_of(
        store.segments(), [&](const Segment& segment) { return segment.parameter->name == name; });
    require(known, "{}: {} is not a parameter of this model", reader.file_of(name).string(),
            excerpt(name));
  }
}

}  // namespace

fs::path save_checkpoint(const fs::path& run, const Communicator& world, const Communicator& tensor,
                         const ParameterStore& store, const std::vector<NamedState>& states,
                         const CheckpointDescription& description, std::uint64_t max_shard_bytes) {
  std::vector<NamedState> optimizer_states = states;
  if (store.has_masters()) optimizer_states.push_back({kMasters, store.masters()});
  std::vector<NamedState> flats{{"values", store.values()}};
  flats.insert(flats.end(), optimizer_states.begin(), optimizer_states.end());
  check_replicas(world, store, flats);

  run_on_all_ranks(world, [&] {
    FolderWriter folder(run, world, description);
    const TensorAssembly assembly(world, tensor, store);
    write_flat(folder, kModelStem, store.values(), description.layout, store, assembly,
               max_shard_bytes);
    for (const NamedState& state : optimizer_states) {
      write_flat(folder, state_stem(state.name), state.flat, {}, store, assembly, max_shard_bytes);
    }
    folder.commit();
  });
  return run / checkpoint_name(description.trainer.step);
}

TrainerState load_checkpoint(const fs::path& folder, const Communicator& world,
                             ParameterStore& store, const std::vector<NamedState>& states,
                             const TensorLayout& layout, Hashes hashes) {
  run_on_all_ranks(world, [&] {
    if (world.rank() == 0 && hashes == Hashes::kVerify) verify_checkpoint(folder);
  });
  TrainerState trainer;
  run_on_all_ranks(world, [&] {
    trainer = read_trainer_state(folder);
    load_parameters(folder, store, layout);
    for (const NamedState& state : states) {
      Tensor(state.flat).set_zero();
      read_segments(ParameterReader({folder, state_stem(state.name)}), state.flat.dtype(), store,
                    [&](const Segment& segment, const Tensor& local) {
                      store.set_part(state.flat, segment, local);
                    });
    }
  });
  return trainer;
}

ParameterReader open_parameters(const fs::path& folder, const TensorLayout& layout) {
  const std::string masters = state_stem(kMasters);
  const bool has_masters = file_exists(folder / (masters + ".safetensors")) ||
                           file_exists(folder / (masters + ".safetensors.index.json"));
  if (has_masters) return ParameterReader({folder, masters});
  return ParameterReader({folder, kModelStem}, layout);
}

void load_parameters(const fs::path& folder, ParameterStore& store, const TensorLayout& layout) {
  store.zero_values();
  read_segments(
      open_parameters(folder, layout), store.masters().dtype(), store,
      [&](const Segment& segment, const Tensor& local) { store.set_value(segment, local); });
}

std::uint64_t checkpoint_bytes(const ParameterStore& store, const std::vector<NamedState>& states) {
  const auto bytes_of = [&](DType dtype) {
    std::uint64_t bytes = 0;
    for (const TensorInfo& info : tensor_infos(store, dtype)) bytes += info.bytes();
    return bytes;
  };
  std::uint64_t bytes = bytes_of(store.values().dtype());
  if (store.has_masters()) bytes += bytes_of(store.masters().dtype());
  for (const NamedState& state : states) bytes += bytes_of(state.flat.dtype());
  return bytes;
}

}  // namespace polyhead
