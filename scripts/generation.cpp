#include "scripts/generation.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>

#include "data/text_stream.h"
#include "framework/error.h"
#include "layers/huggingface/special_tokens.h"
#include "scripts/checkpoint_tokenizer.h"

namespace polyhead {
namespace {

constexpr std::int64_t kMostNewTokens = std::int64_t{1} << 24;

// What lies behind the last token does not change its logits: attention is causal. So sequences are
// filled up to few different lengths: what is kept for every shape of tensors (positions, and on
// CUDA plans of products and blocks of memory) stays little, and most steps find it made.
constexpr std::int64_t kLengthMultiple = 64;
constexpr std::int32_t kFiller = 0;  // any token of the vocabulary

void check_positions(const ModelSource& source, std::int64_t prompt, std::int64_t new_tokens) {
  if (source.model.position_embedding != PositionEmbedding::kLearned) return;
  const std::int64_t most = source.model.max_position_embeddings.value();
  require(prompt < most,
          "the prompt has {} tokens, but {} has {} positions (model.max_position_embeddings); "
          "shorten it",
          prompt, source.folder.string(), most);
  require(
      prompt + new_tokens <= most,
      "--max-new-tokens {}: with the prompt's {} tokens these are more than the {} positions of "
      "{} (model.max_position_embeddings); use {} or fewer",
      new_tokens, prompt, most, source.folder.string(), most - prompt);
}

void warn_of_unknown_positions(const ModelSource& source, std::int64_t positions) {
  if (!source.model.rotates() || positions <= source.sequence_length) return;
  fmt::print(stderr,
             "warning: the text may reach {} tokens, but {} was trained on sequences of {}; what "
             "lies beyond may be poor\n",
             positions, source.folder.string(), source.sequence_length);
}

// (V) f32 on the host: the logits of the token that follows.
Tensor next_logits(const InferenceModel& inference, std::span<const std::int32_t> tokens,
                   std::int64_t most_tokens) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  const std::int64_t filled = (length + kLengthMultiple - 1) / kLengthMultiple * kLengthMultiple;
  Tensor ids = Tensor::empty({std::min(filled, most_tokens)}, DType::kI32);
  std::copy(tokens.begin(), tokens.end(), ids.data<std::int32_t>());
  std::fill(ids.data<std::int32_t>() + length, ids.data<std::int32_t>() + ids.numel(), kFiller);
  const Tensor h = inference.model().infer(ids.to(inference.device()), 1);
  // Cloned, because products want their operands to begin at aligned addresses.
  const Tensor last = h.row_slice(length - 1, length).clone();
  const Tensor logits = inference.model().output_loss().logits(last);
  return logits.to(Device::kCpu).reshaped({logits.cols()});
}

bool ends_text(std::int32_t token, const std::vector<std::int64_t>& end_tokens,
               const Tokenizer& tokenizer) {
  if (end_tokens.empty()) return tokenizer.token_bytes(token).empty();
  return std::ranges::find(end_tokens, token) != end_tokens.end();
}

// Rank 0's value on all ranks.
std::int32_t told(std::int32_t value, const Communicator& world) {
  Tensor message = Tensor::empty({1}, DType::kI32);
  message.data<std::int32_t>()[0] = value;
  world.broadcast(message, 0);
  return message.data<std::int32_t>()[0];
}

}  // namespace

Generation generate(const std::filesystem::path& checkpoint, const std::string& prompt,
                    const GenerationOptions& options, const Communicator& world,
                    const std::function<void(std::string_view)>& write) {
  check_sampling_options(options.sampling);
  if (options.max_new_tokens < 1 || options.max_new_tokens > kMostNewTokens) {
    throw ConfigurationError(fmt::format("--max-new-tokens {}: must lie between 1 and {}",
                                         options.max_new_tokens, kMostNewTokens));
  }
  ModelSource source;
  std::optional<Tokenizer> tokenizer;
  std::vector<std::int64_t> end_tokens;
  Generation generation;
  run_on_all_ranks(world, [&] {
    source = open_model_source(checkpoint);
    tokenizer.emplace(open_checkpoint_tokenizer(source));
    generation.prompt = encode_prompt(prompt, *tokenizer, source);
    if (!options.ignore_eos) {
      end_tokens = read_end_tokens(source.folder, source.model.vocab_size.value());
    }
  });
  const auto prompt_tokens = static_cast<std::int64_t>(generation.prompt.size());
  const std::int64_t most_tokens = prompt_tokens + options.max_new_tokens;
  check_positions(source, prompt_tokens, options.max_new_tokens);
  const InferenceModel inference(source, most_tokens, options.inference, world);
  if (world.rank() == 0) warn_of_unknown_positions(source, most_tokens);

  const auto start = std::chrono::steady_clock::now();
  // A vocabulary may have more entries than its tokenizer has tokens.
  const auto choices =
      static_cast<std::size_t>(std::min(source.model.vocab_size.value(), tokenizer->vocab_size()));
  std::vector<std::int32_t> sequence = generation.prompt;
  TextStream text(*tokenizer);
  for (bool ended = false; !ended;) {
    const Tensor logits = next_logits(inference, sequence, most_tokens);
    std::int32_t token = 0;
    run_on_all_ranks(world, [&] {
      if (world.rank() != 0) return;
      token = choose_token(std::span(logits.data<float>(), choices), options.sampling,
                           static_cast<std::int64_t>(sequence.size()));
      write(text.add(token));
    });
    token = told(token, world);
    sequence.push_back(token);
    ended = static_cast<std::int64_t>(sequence.size()) == most_tokens ||
            (!options.ignore_eos && ends_text(token, end_tokens, *tokenizer));
  }
  run_on_all_ranks(world, [&] {
    if (world.rank() == 0) write(text.finish());
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  generation.seconds = elapsed.count();
  generation.tokens.assign(sequence.begin() + prompt_tokens, sequence.end());
  return generation;
}

}  // namespace polyhead
