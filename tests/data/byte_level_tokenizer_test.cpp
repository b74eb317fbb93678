// Against what Hugging Face's tokenizers make of the same files: tests/data/tokenizers.
#include "data/byte_level_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/indexed_dataset.h"
#include "data/text_stream.h"
#include "data/tokenize.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using namespace testing;
using Tokens = std::vector<std::int32_t>;

json committed(const std::string& name) {
  return json::parse(read_file(std::filesystem::path(POLYHEAD_SOURCE_DIR) / "tests" / "data" /
                               "tokenizers" / name));
}

// Committed, or what check_tokenizers.py made.
json golden_file(const std::string& name) {
  const char* const folder = std::getenv("POLYHEAD_TOKENIZER_GOLDENS");
  return folder == nullptr ? committed(name)
                           : json::parse(read_file(std::filesystem::path(folder) / name));
}

Tokenizer tokenizer_of(const json& described) {
  TemporaryFolder folder;
  write_file(folder / "tokenizer.json", described.dump());
  return Tokenizer((folder / "tokenizer.json").string());
}

Tokenizer variant(const std::string& name) {
  json described = committed("tokenizer.json");
  const json golden = committed("golden.json");
  const auto found = std::find_if(golden["variants"].begin(), golden["variants"].end(),
                                  [&](const json& other) { return other["name"] == name; });
  described.merge_patch(found->at("patch"));
  return tokenizer_of(described);
}

std::string streamed(const Tokenizer& tokenizer, const Tokens& tokens) {
  TextStream stream(tokenizer);
  std::string text;
  for (const std::int32_t token : tokens) text += stream.add(token);
  return text + stream.finish();
}

TEST(ByteLevelTokenizer, TellsWhatItsTemplatePutsInFront) {
  EXPECT_EQ(variant("llama3").bos_id(), 0);  // in a sequence of processors
  EXPECT_EQ(variant("o200k").bos_id(), 0);
  for (const char* without : {"gpt2", "qwen2"}) EXPECT_FALSE(variant(without).bos_id()) << without;
  json described = committed("tokenizer.json");
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  for (const json& single : {json::array({text}), json::array(), json("odd"), json(nullptr)}) {
    described["post_processor"] = {{"type", "TemplateProcessing"}, {"single", single}};
    EXPECT_FALSE(tokenizer_of(described).bos_id()) << single;
  }
}

TEST(ByteLevelTokenizer, EncodesAndDecodesAsHuggingFace) {
  const json golden = golden_file("golden.json");
  for (const json& expected : golden["variants"]) {
    SCOPED_TRACE(expected["name"]);
    json described = golden_file("tokenizer.json");
    described.merge_patch(expected["patch"]);
    const Tokenizer tokenizer = tokenizer_of(described);
    for (std::size_t i = 0; i < golden["texts"].size(); ++i) {
      const std::string text = golden["texts"][i];
      const Tokens tokens = tokenizer.encode(text);
      EXPECT_EQ(tokens, expected["ids"][i].get<Tokens>()) << text;
      EXPECT_EQ(tokenizer.decode(tokens), expected["decoded"].value(std::to_string(i), text));
      EXPECT_EQ(streamed(tokenizer, tokens), tokenizer.decode(tokens));
    }
    for (std::size_t i = 0; i < golden["streams"].size(); ++i) {
      EXPECT_EQ(tokenizer.decode(golden["streams"][i].get<Tokens>()), expected["streams"][i]);
      EXPECT_EQ(streamed(tokenizer, golden["streams"][i].get<Tokens>()), expected["streams"][i]);
    }
  }
}

TEST(ByteLevelTokenizer, ReadsOlderFiles) {
  const json golden = committed("golden.json");
  json described = committed("tokenizer.json");
  json lines = {"#version: 0.2"};
  for (const json& merge : described["model"]["merges"]) {
    lines.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  described["model"]["merges"] = lines;
  for (const char* key : {"type", "byte_fallback", "ignore_merges"}) described["model"].erase(key);
  described["model"]["continuing_subword_prefix"] = "";
  described["pre_tokenizer"].erase("use_regex");
  const Tokenizer tokenizer = tokenizer_of(described);
  for (std::size_t i = 0; i < golden["texts"].size(); ++i) {
    EXPECT_EQ(tokenizer.encode(golden["texts"][i].get<std::string>()),
              golden["variants"][0]["ids"][i].get<Tokens>());
  }
}

// Hugging Face's tokenizers give the same tokens where they give any: they panic on the last text.
TEST(ByteLevelTokenizer, StripsWhiteSpaceOnce) {
  json described = committed("tokenizer.json");
  const auto add = [&](const char* content, const char* strip) {
    json token = described["added_tokens"][0];
    token["id"] = described["model"]["vocab"].size() + described["added_tokens"].size() - 1;
    token["content"] = content;
    token[strip] = true;
    described["added_tokens"].push_back(token);
    return token["id"].get<std::int32_t>();
  };
  const std::int32_t right = add("<r>", "rstrip"), left = add("\u3000", "lstrip");
  const Tokenizer tokenizer = tokenizer_of(described);
  const std::int32_t x = described["model"]["vocab"]["x"];
  EXPECT_EQ(tokenizer.encode("x \u3000x"), (Tokens{x, left, x}));
  EXPECT_EQ(tokenizer.encode("<r>\u3000x"), (Tokens{right, x}));
  EXPECT_EQ(tokenizer.encode("<r>\u3000 x").front(), right);
}

TEST(ByteLevelTokenizer, ReplacesWhatIsNotUtf8) {
  const Tokenizer tokenizer = variant("qwen2");
  EXPECT_EQ(tokenizer.encode("a \xff\xe2\x82 b\xc3"), tokenizer.encode("a \uFFFD\uFFFD b\uFFFD"));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("\xed\xa0\x80")), "\uFFFD\uFFFD\uFFFD");
}

TEST(ByteLevelTokenizer, FindsTheEndOfDocuments) {
  json described = committed("tokenizer.json");
  const Tokenizer tokenizer = tokenizer_of(described);
  EXPECT_EQ(tokenizer.kind(), "byte_level_bpe");
  EXPECT_EQ(tokenizer.vocab_size(), static_cast<int>(described["model"]["vocab"].size()));
  EXPECT_EQ(tokenizer.eod_id(), described["model"]["vocab"]["<|endoftext|>"]);
  EXPECT_EQ(tokenizer.decode(Tokens{tokenizer.eod_id()}), "");

  json& end = described["added_tokens"][0];
  end["content"] = "<|end_of_text|>";
  end["id"] = described["model"]["vocab"].size();
  const Tokenizer other = tokenizer_of(described);
  EXPECT_EQ(other.eod_id(), end["id"]);
  EXPECT_EQ(other.vocab_size(), tokenizer.vocab_size() + 1);
  EXPECT_NE(other.fingerprint(), tokenizer.fingerprint());
  EXPECT_THAT(error_of([&] { other.decode(Tokens{other.eod_id() + 1}); }),
              HasSubstr("outside the byte_level_bpe tokenizer's vocabulary"));
  for (const char* key : {"content", "special"}) {
    json without = described;
    without["added_tokens"][0][key] = key == std::string("content") ? json("<|eot|>") : json(false);
    EXPECT_THAT(error_of([&] { tokenizer_of(without); }), HasSubstr("no token ends a document"));
  }
}

TEST(ByteLevelTokenizer, MakesADatasetThatNamesIt) {
  TemporaryFolder folder;
  write_file(folder / "a.txt", "a single man <|endoftext|>");
  write_file(folder / "tokenizer.json", committed("tokenizer.json").dump());
  const Tokenizer tokenizer((folder / "tokenizer.json").string());
  const TokenizeOptions options{{folder / "a.txt"}, {}, (folder / "out").string()};
  EXPECT_EQ(tokenize(options, tokenizer).tokenizer_file, "tokenizer.json");
  const IndexedDataset dataset(options.output);
  Tokens tokens(static_cast<std::size_t>(dataset.token_count()));
  dataset.read(0, 0, tokens, tokenizer.vocab_size());
  Tokens expected = tokenizer.encode("a single man ");
  expected.insert(expected.end(), {tokenizer.eod_id(), tokenizer.eod_id()});
  EXPECT_EQ(tokens, expected);

  std::filesystem::rename(folder / "tokenizer.json", folder / "qwen.json");
  EXPECT_THAT(error_of([&] { Tokenizer((folder / "qwen.json").string()); }),
              HasSubstr("rename it"));
}

TEST(ByteLevelTokenizer, WorksFromSeveralThreads) {
  const json golden = committed("golden.json");
  const Tokenizer tokenizer = variant("qwen2");
  const json& expected = golden["variants"][3]["ids"];
  std::vector<std::thread> threads;
  std::array<std::size_t, 4> equal{};
  for (std::size_t thread = 0; thread < equal.size(); ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const std::string text = golden["texts"][(i + 7 * thread) % expected.size()];
        const json& ids = expected[(i + 7 * thread) % expected.size()];
        equal[thread] += tokenizer.encode(text) == ids.get<Tokens>();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(equal, ::testing::Each(expected.size()));
}

// Each of these would take minutes in quadratic time.
TEST(ByteLevelTokenizer, TakesLinearTimeForOddTexts) {
  constexpr std::size_t kLength = 300'000;
  std::string marks = "a";
  for (std::size_t i = 0; i < kLength; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string letters(kLength, 'a'), spaces(kLength, ' '), tabs(kLength, '\t');
  const auto start = std::chrono::steady_clock::now();
  for (const char* name : {"qwen2", "no splits", "added, NFC"}) {
    const Tokenizer tokenizer = variant(name);
    for (const std::string& text : {letters, spaces, tabs, spaces + "x", tabs + "\n"}) {
      EXPECT_FALSE(tokenizer.encode(text).empty());
    }
    EXPECT_FALSE(tokenizer.encode(marks).empty());
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 60);
}

}  // namespace
}  // namespace polyhead
