#include "framework/checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>

#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/checkpoint/tensor_assembly.h"
#include "framework/comm/hang.h"
#include "framework/files/folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModelStem = "model";
constexpr const char* kOptimizerFolder = "optimizer";

std::string state_stem(const NamedState& state) {
  return fmt::format("{}/{}", kOptimizerFolder, state.name);
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
      : run_(run), writes_(world.rank() == 0), state_(description.trainer) {
    attempt([&] {
      fs::create_directories(run);
      remove_stale_checkpoints(run);
      transaction_.emplace(run / checkpoint_name(state_.step));
      make_folder(transaction_->folder() / kOptimizerFolder);
      record(write_durably(transaction_->folder(), "config.json", description.config_json));
      for (const fs::path& file : description.tokenizer_files) {
        record(copy_durably(file, transaction_->folder(), file.filename().string()));
      }
    });
  }

  void begin(const std::string& stem, const std::vector<TensorInfo>& tensors,
             std::uint64_t max_shard_bytes) {
    attempt([&] {
      writer_ = std::make_unique<SafetensorsWriter>(transaction_->folder(), stem, tensors,
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
    attempt([&] {
      transaction_->commit(state_);
      set_latest(run_, state_.step);
    });
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

  fs::path run_;
  bool writes_;
  TrainerState state_;
  std::optional<CheckpointTransaction> transaction_;
  std::unique_ptr<SafetensorsWriter> writer_;
  std::exception_ptr failure_;
};

void write_flat(FolderWriter& folder, const std::string& stem, const Tensor& flat,
                const ParameterStore& store, const TensorAssembly& assembly,
                std::uint64_t max_shard_bytes) {
  std::vector<TensorInfo> infos = tensor_infos(store, flat.dtype());
  folder.begin(stem, infos, max_shard_bytes);
  sort_for_file(infos);
  for (const TensorInfo& info : infos) {
    const auto segment = std::ranges::find_if(store.segments(), [&](const Segment& candidate) {
      return candidate.parameter->name == info.name;
    });
    folder.write(assembly.assemble(*segment->parameter, store.view(flat, *segment)));
  }
  folder.end();
}

void read_flat(const SafetensorsReader& reader, Tensor flat, const ParameterStore& store) {
  std::memset(flat.raw(), 0, static_cast<std::size_t>(flat.numel()) * size_of(flat.dtype()));
  for (const Segment& segment : store.segments()) {
    still_working();
    const Parameter& parameter = *segment.parameter;
    const TensorInfo& info = reader.info(parameter.name);
    require(info.shape == parameter.global_shape, "{}: {} has shape {}, this model needs {}",
            reader.file_of(parameter.name).string(), parameter.name, info.shape.to_string(),
            parameter.global_shape.to_string());
    require(widens(info.dtype, flat.dtype()), "{}: {} holds {}, which {} parameters cannot take",
            reader.file_of(parameter.name).string(), parameter.name, name_of(info.dtype),
            name_of(flat.dtype()));
    Tensor valid = valid_part(parameter, store.view(flat, segment));
    if (parameter.is_sharded()) {
      reader.read_slice(parameter.name, parameter.shard_dim, parameter.shard_begin,
                        parameter.shard_end, valid);
    } else {
      reader.read_slice(parameter.name, 0, 0, parameter.global_shape[0], valid);
    }
  }
  for (const TensorInfo& info : reader.tensors()) {
    const bool known = std::ranges::any_of(store.segments(), [&](const Segment& segment) {
      return segment.parameter->name == info.name;
    });
    require(known, "{}: {} is not a parameter of this model", reader.file_of(info.name).string(),
            info.name);
  }
}

}  // namespace

fs::path save_checkpoint(const fs::path& run, const Communicator& world, const Communicator& tensor,
                         const ParameterStore& store, const std::vector<NamedState>& states,
                         const CheckpointDescription& description, std::uint64_t max_shard_bytes) {
  std::vector<NamedState> flats{{"values", store.values()}};
  flats.insert(flats.end(), states.begin(), states.end());
  check_replicas(world, store, flats);

  run_on_all_ranks(world, [&] {
    FolderWriter folder(run, world, description);
    const TensorAssembly assembly(world, tensor, store);
    if (assembly.takes_part()) {
      write_flat(folder, kModelStem, store.values(), store, assembly, max_shard_bytes);
      for (const NamedState& state : states) {
        write_flat(folder, state_stem(state), state.flat, store, assembly, max_shard_bytes);
      }
    }
    folder.commit();
  });
  return run / checkpoint_name(description.trainer.step);
}

TrainerState load_checkpoint(const fs::path& folder, const Communicator& world,
                             ParameterStore& store, const std::vector<NamedState>& states,
                             Hashes hashes) {
  run_on_all_ranks(world, [&] {
    if (world.rank() == 0 && hashes == Hashes::kVerify) verify_checkpoint(folder);
  });
  TrainerState trainer;
  run_on_all_ranks(world, [&] {
    trainer = read_trainer_state(folder);
    load_parameters(folder, store);
    for (const NamedState& state : states) {
      read_flat(SafetensorsReader(folder, state_stem(state)), state.flat, store);
    }
  });
  return trainer;
}

void load_parameters(const fs::path& folder, ParameterStore& store) {
  read_flat(SafetensorsReader(folder, kModelStem), store.values(), store);
}

std::uint64_t checkpoint_bytes(const ParameterStore& store, std::size_t states) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& info : tensor_infos(store, store.values().dtype())) bytes += info.bytes();
  return bytes * (1 + states);
}

}  // namespace polyhead
