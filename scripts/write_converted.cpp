#include "scripts/write_converted.h"

#include "layers/conversion/convert_checkpoint.h"
#include "layers/huggingface/config_json.h"
#include "layers/huggingface/special_tokens.h"
#include "layers/huggingface/tensor_layout.h"
#include "scripts/companion_files.h"

namespace polyhead {

void write_converted(const ModelSource& source, const std::filesystem::path& destination,
                     AttentionConversion* conversion, const TrainConfig& config,
                     const std::string& method,
                     const std::function<std::string(const std::filesystem::path&)>& report) {
  convert_checkpoint(
      {source.folder, source.layout, companion_files(source), source.trainer}, destination,
      conversion,
      {to_yaml(config),
       huggingface_config_json(config.model, config.data.sequence_length, stored_dtype(source),
                               read_special_tokens(source.folder, config.model.vocab_size.value())),
       written_layout(config.model), method, report});
}

}  // namespace polyhead
