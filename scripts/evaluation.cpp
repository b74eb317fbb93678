#include "scripts/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "data/perplexity.h"
#include "framework/error.h"
#include "layers/kv_cache.h"
#include "layers/parameter_shapes.h"

namespace polyhead {
namespace {

constexpr std::int64_t kBatchTokens = 4096;
constexpr std::int64_t kBytesPerCacheElement = 2;  // bf16

struct TextWindow {
  std::int64_t document;
  EvaluationWindow window;
};

// The tokens of a document that are text: the end-of-document token is no part of it.
std::int64_t text_length(const IndexedDataset& dataset, std::int64_t document) {
  const auto& description = dataset.description();
  const std::int64_t length = dataset.document_length(document);
  return description && description->append_eod ? std::max<std::int64_t>(length - 1, 0) : length;
}

std::vector<TextWindow> windows_of(const IndexedDataset& dataset, WindowMethod method,
                                   std::int64_t context, std::int64_t stride) {
  std::vector<TextWindow> windows;
  for (std::int64_t document = 0; document < dataset.document_count(); ++document) {
    for (const EvaluationWindow& window :
         evaluation_windows(method, text_length(dataset, document), context, stride)) {
      windows.push_back({document, window});
    }
  }
  require(!windows.empty(), "{}: no document has two tokens, there is nothing to score",
          dataset.prefix());
  return windows;
}

// Consecutive windows of one length that the model takes at once.
std::vector<std::span<const TextWindow>> batches_of(std::span<const TextWindow> windows) {
  std::vector<std::span<const TextWindow>> batches;
  for (std::size_t begin = 0; begin < windows.size();) {
    const std::int64_t length = windows[begin].window.length;
    const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, kBatchTokens / length));
    std::size_t end = begin;
    while (end < windows.size() && end - begin < most && windows[end].window.length == length) {
      ++end;
    }
    batches.push_back(windows.subspan(begin, end - begin));
    begin = end;
  }
  return batches;
}

class Scorer {
 public:
  Scorer(const Model& model, Device device, const IndexedDataset& dataset,
         std::optional<std::int32_t> prefix_token)
      : model_(model), device_(device), dataset_(dataset), prefix_token_(prefix_token) {}

  // The sum of negative log-likelihoods of each window's scored targets.
  std::vector<double> score(std::span<const TextWindow> batch) const {
    const std::int64_t length = batch.front().window.length;
    const auto count = static_cast<std::int64_t>(batch.size());
    Tensor tokens = Tensor::empty({count * length}, DType::kI32);
    Tensor targets = Tensor::empty({count * length}, DType::kI32);
    for (std::int64_t i = 0; i < count; ++i) {
      fill(batch[static_cast<std::size_t>(i)], tokens.data<std::int32_t>() + i * length,
           targets.data<std::int32_t>() + i * length);
    }
    const Tensor h = model_.infer(tokens.to(device_), count);
    const Tensor losses = model_.output_loss().losses(h, targets.to(device_)).to(Device::kCpu);
    std::vector<double> sums;
    for (std::int64_t i = 0; i < count; ++i) {
      const float* begin = losses.data<float>() + i * length;
      sums.push_back(std::accumulate(begin, begin + length, 0.0));
    }
    return sums;
  }

 private:
  void fill(const TextWindow& text, std::int32_t* tokens, std::int32_t* targets) const {
    const EvaluationWindow& window = text.window;
    const auto length = static_cast<std::size_t>(window.length);
    const std::int64_t vocab_size = model_.config().vocab_size.value();
    const bool prefix = window.begin < 0;
    if (prefix) tokens[0] = prefix_token();
    dataset_.read(text.document, window.begin + (prefix ? 1 : 0),
                  std::span(tokens + (prefix ? 1 : 0), length - (prefix ? 1 : 0)), vocab_size);
    dataset_.read(text.document, window.begin + 1, std::span(targets, length), vocab_size);
    std::fill_n(targets, window.first_scored, -1);
  }

  std::int32_t prefix_token() const {
    if (prefix_token_) return *prefix_token_;
    require(dataset_.description().has_value(),
            "{}.json is missing: the rolling windows begin with the end-of-document token, which "
            "only it names; name another with --prefix-token",
            dataset_.prefix());
    return dataset_.description()->eod_id;
  }

  const Model& model_;
  Device device_;
  const IndexedDataset& dataset_;
  std::optional<std::int32_t> prefix_token_;
};

// This rank's windows, then those of all ranks: (windows) f64.
Tensor score_windows(const Scorer& scorer, std::span<const TextWindow> windows,
                     const RankLayout& layout) {
  Tensor sums = Tensor::zeros({static_cast<std::int64_t>(windows.size())}, DType::kF64);
  std::size_t turn = 0;
  for (const std::span<const TextWindow> batch : batches_of(windows)) {
    if (turn++ % static_cast<std::size_t>(layout.data->size()) !=
        static_cast<std::size_t>(layout.data->rank())) {
      continue;
    }
    const std::vector<double> scored = scorer.score(batch);
    std::copy(scored.begin(), scored.end(), sums.data<double>() + (batch.data() - windows.data()));
  }
  layout.data->all_reduce(sums);
  return sums;
}

// What divides by the whole text needs the whole text scored. No method but kRolling predicts the
// first token of a document; windows that pass over more than that give none of these measures.
void add_text_measures(double nll, const IndexedDataset& dataset, WindowMethod method,
                       CheckpointEvaluation& evaluation) {
  if (!dataset.description()) return;
  std::int64_t tokens = 0, predictable = 0;
  for (std::int64_t document = 0; document < dataset.document_count(); ++document) {
    const std::int64_t length = text_length(dataset, document);
    tokens += length;
    predictable += std::max<std::int64_t>(length - 1, 0);
  }
  if (evaluation.tokens_scored < predictable) return;
  const DatasetDescription& text = *dataset.description();
  evaluation.bits_per_byte = bits_per_byte(nll, text.bytes);
  evaluation.byte_perplexity = byte_perplexity(nll, text.bytes);
  evaluation.word_perplexity = word_perplexity(nll, text.words);
  if (method != WindowMethod::kMegatron || text.space_separated_words < 2) return;
  evaluation.adjusted_perplexity =
      megatron_adjusted_perplexity(evaluation.loss, tokens, text.space_separated_words);
}

void add_losses(const Tensor& sums, std::span<const TextWindow> windows,
                const IndexedDataset& dataset, WindowMethod method,
                CheckpointEvaluation& evaluation) {
  double nll = 0, weighted = 0, weights = 0;
  evaluation.documents.resize(static_cast<std::size_t>(dataset.document_count()));
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const EvaluationWindow& window = windows[i].window;
    const double sum = sums.data<double>()[i];
    nll += sum;
    weighted += window.weight * sum / static_cast<double>(window.scored());
    weights += window.weight;
    evaluation.tokens_scored += window.scored();
    evaluation.windows.push_back({windows[i].document, window.scored(), sum});
    DocumentScore& document = evaluation.documents[static_cast<std::size_t>(windows[i].document)];
    document.nll += sum;
    document.tokens += window.scored();
  }
  evaluation.loss = weighted / weights;
  evaluation.token_perplexity = method == WindowMethod::kMegatron
                                    ? megatron_perplexity(evaluation.loss)
                                    : std::exp(evaluation.loss);
  add_text_measures(nll, dataset, method, evaluation);
}

void add_sizes(const std::optional<std::vector<TextSize>>& sizes,
               CheckpointEvaluation& evaluation) {
  if (!sizes) return;
  for (std::size_t i = 0; i < sizes->size(); ++i) evaluation.documents[i].size = sizes->at(i);
}

void require_same_tokenizer(const std::string& checkpoint, const std::string& fingerprint,
                            const IndexedDataset& dataset) {
  if (fingerprint.empty() || !dataset.description()) return;
  require(
      fingerprint == dataset.description()->tokenizer_fingerprint,
      "{}: was trained with another tokenizer (fingerprint {}) than {} was made with "
      "(fingerprint {}); tokenize the text with the one in the checkpoint's folder and, to compare "
      "checkpoints of several tokenizers, give --data once for each",
      checkpoint, fingerprint, dataset.prefix(), dataset.description()->tokenizer_fingerprint);
}

}  // namespace

CheckpointEvaluation evaluate_checkpoint(const std::filesystem::path& checkpoint,
                                         const IndexedDataset& dataset,
                                         const EvaluationOptions& options,
                                         const Communicator& world) {
  ModelSource source;
  std::optional<std::vector<TextSize>> sizes;
  run_on_all_ranks(world, [&] {
    source = open_model_source(checkpoint);
    sizes = read_text_sizes(dataset);
  });
  require_same_tokenizer(checkpoint.string(), source.tokenizer_fingerprint, dataset);

  CheckpointEvaluation evaluation;
  evaluation.checkpoint = checkpoint.string();
  evaluation.dataset = dataset.prefix();
  if (dataset.description()) {
    evaluation.tokenizer_fingerprint = dataset.description()->tokenizer_fingerprint;
  }
  evaluation.variant = attention_variant(source.model);
  evaluation.step = source.step;
  evaluation.parameters = count_parameters(parameter_shapes(source.model, 1));
  evaluation.kv_cache_bytes_per_token =
      kv_cache_bytes_per_token(source.model, 1, kBytesPerCacheElement);
  evaluation.context = options.context.value_or(source.sequence_length);
  require(evaluation.context > 0, "--context {}: must be positive", evaluation.context);
  const bool rolling = options.method == WindowMethod::kRolling;
  require(!rolling || !options.stride,
          "--stride {}: rolling windows follow each other without a gap; leave it out",
          options.stride.value_or(0));
  evaluation.stride = options.stride.value_or(
      rolling ? evaluation.context : std::max<std::int64_t>(1, evaluation.context / 2));
  require(1 <= evaluation.stride && evaluation.stride <= evaluation.context,
          "--stride {}: must lie between 1 and the context ({})", evaluation.stride,
          evaluation.context);

  const std::int64_t vocab_size = source.model.vocab_size.value();
  require(!options.prefix_token || rolling,
          "--prefix-token {}: only rolling windows begin with it; leave it out",
          options.prefix_token.value_or(0));
  require(
      !options.prefix_token || (0 <= *options.prefix_token && *options.prefix_token < vocab_size),
      "--prefix-token {}: lies outside the vocabulary of {}, which has {} tokens",
      options.prefix_token.value_or(0), checkpoint.string(), vocab_size);

  const InferenceModel inference(source, evaluation.context, options.inference, world);
  const std::vector<TextWindow> windows =
      windows_of(dataset, options.method, evaluation.context, evaluation.stride);
  const auto begin = std::chrono::steady_clock::now();
  const Tensor sums =
      score_windows(Scorer(inference.model(), inference.device(), dataset, options.prefix_token),
                    windows, inference.layout());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::int64_t inputs = 0;
  for (const TextWindow& text : windows) inputs += text.window.length;
  evaluation.tokens_per_second = static_cast<double>(inputs) / seconds;
  add_losses(sums, windows, dataset, options.method, evaluation);
  add_sizes(sizes, evaluation);
  return evaluation;
}

bool share_tokenizer(const std::vector<CheckpointEvaluation>& evaluations) {
  return std::all_of(evaluations.begin(), evaluations.end(), [&](const CheckpointEvaluation& e) {
    return e.dataset == evaluations.front().dataset ||
           e.tokenizer_fingerprint == evaluations.front().tokenizer_fingerprint;
  });
}

}  // namespace polyhead
