// What a tokenizer.json may not hold.
#include "data/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/byte_level.h"
#include "data/byte_level_encoder.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using namespace testing;

// The bytes and "ab".
json smallest() {
  json vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[byte_level_character(static_cast<unsigned char>(byte))] = byte;
  }
  vocabulary["ab"] = 256;
  return {{"version", "1.0"},
          {"added_tokens",
           {{{"id", 257},
             {"content", "<|endoftext|>"},
             {"single_word", false},
             {"lstrip", false},
             {"rstrip", false},
             {"normalized", false},
             {"special", true}}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"vocab", vocabulary}, {"merges", {"a b"}}}}};
}

std::string error_with(const json& described) {
  return error_of([&] {
    const TokenizerDescription description = read_tokenizer_json(described.dump(), "t.json");
    ByteLevelEncoder(description, "t.json");
  });
}

// At a place such as "/model/type" stands another value.
std::string error_at(const std::string& place, const json& value) {
  json described = smallest();
  described[json::json_pointer(place)] = value;
  return error_with(described);
}

TEST(TokenizerJson, AcceptsTheSmallest) {
  EXPECT_EQ(error_with(smallest()), "no error");
  EXPECT_EQ(error_at("/model/type", "BPE"), "no error");
  EXPECT_EQ(error_at("/model/dropout", 0), "no error");
  EXPECT_EQ(error_at("/model/unk_token", "?"), "no error");
  EXPECT_EQ(error_at("/normalizer", nullptr), "no error");
  const json none = {{"type", "Sequence"}, {"normalizers", json::array()}};
  EXPECT_EQ(error_at("/normalizer", none), "no error");
  EXPECT_EQ(error_at("/post_processor/type", "ByteLevel"), "no error");
}

TEST(TokenizerJson, RefusesOtherModels) {
  for (const char* type : {"Unigram", "WordPiece", "WordLevel"}) {
    EXPECT_THAT(error_at("/model/type", type),
                HasSubstr("t.json: model.type: '" + std::string(type) + "' is not supported"));
  }
  EXPECT_THAT(error_at("/model/dropout", 0.1), HasSubstr("model.dropout"));
  EXPECT_THAT(error_at("/model/byte_fallback", true), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(error_at("/model/continuing_subword_prefix", "##"), HasSubstr("_subword_prefix"));
  EXPECT_THAT(error_at("/model/end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(error_at("/model/new", 1), HasSubstr("model: the key 'new' is not known"));
  EXPECT_THAT(error_at("/model", nullptr), HasSubstr("model: not an object but null"));
}

TEST(TokenizerJson, RefusesBadVocabularies) {
  json without = smallest();
  without["model"]["vocab"].erase("\u0120");
  EXPECT_THAT(error_with(without), HasSubstr("byte 0x20"));
  EXPECT_THAT(error_at("/model/vocab/ab", 7), HasSubstr("another token has the id 7"));
  for (const json& id : {json(-1), json(1.5), json("1"), json(1 << 22), json(1ull << 63)}) {
    EXPECT_THAT(error_at("/model/vocab/ab", id), HasSubstr("model.vocab['ab']: an id is"));
  }
  EXPECT_THAT(error_at("/model/vocab", json::array()), HasSubstr("model.vocab: not an object"));
  for (const json& merge : {json("ab"), json("a b c"), json(1), json({"a"}), json({"a", 1})}) {
    EXPECT_THAT(error_at("/model/merges/0", merge), HasSubstr("model.merges[0]: a merge is"));
  }
  EXPECT_THAT(error_at("/model/merges/0", "a c"), HasSubstr("'ac' is not in the vocabulary"));
  EXPECT_THAT(error_at("/model/merges", nullptr), HasSubstr("model.merges: an array is expected"));
}

TEST(TokenizerJson, RefusesOtherStages) {
  for (const char* type : {"NFKC", "Lowercase", "Replace"}) {
    EXPECT_THAT(error_at("/normalizer", {{"type", type}}),
                HasSubstr("normalizer.type: '" + std::string(type) + "' is not supported"));
  }
  const json second = {{"type", "Sequence"},
                       {"normalizers", {{{"type", "NFC"}}, {{"type", "NFD"}}}}};
  EXPECT_THAT(error_at("/normalizer", second), HasSubstr("normalizer.normalizers[1].type: 'NFD'"));
  for (const char* type : {"Whitespace", "Digits", "Metaspace", "Split"}) {
    EXPECT_THAT(error_at("/pre_tokenizer", {{"type", type}}),
                HasSubstr("pre_tokenizer.type: '" + std::string(type) + "' is not supported"));
  }
  EXPECT_THAT(error_at("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer: not an object"));
  EXPECT_THAT(error_at("/pre_tokenizer/new", true), HasSubstr("the key 'new' is not known"));
  EXPECT_THAT(error_at("/pre_tokenizer/use_regex", 1), HasSubstr("true or false is expected"));
  EXPECT_THAT(error_at("/post_processor/type", "BertProcessing"), HasSubstr("post_processor.type"));
  const json inner = {{"type", "Sequence"}, {"processors", {{{"type", "RobertaProcessing"}}}}};
  EXPECT_THAT(error_at("/post_processor", inner), HasSubstr("post_processor.processors[0].type"));
  EXPECT_THAT(error_at("/decoder/type", "Metaspace"), HasSubstr("decoder.type"));
  EXPECT_THAT(error_at("/decoder", nullptr), HasSubstr("decoder: not an object"));
  EXPECT_THAT(error_at("/truncation/max_length", 5), HasSubstr("truncation: not supported"));
  EXPECT_THAT(error_at("/padding/length", 5), HasSubstr("padding: not supported"));
  EXPECT_THAT(error_at("/version", "2.0"), HasSubstr("version"));
  EXPECT_THAT(error_at("/new", 1), HasSubstr("t.json: the key 'new' is not known"));
}

std::string error_with_pattern(const std::string& pattern) {
  return error_at("/pre_tokenizer",
                  {{"type", "Sequence"},
                   {"pretokenizers",
                    {{{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}},
                     {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}});
}

TEST(TokenizerJson, RefusesOtherSplits) {
  const json split = {{"type", "Split"},
                      {"pattern", {{"Regex", "a"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const json sequence = {{"type", "Sequence"},
                         {"pretokenizers", {split, smallest()["pre_tokenizer"]}}};
  const auto error_in_split = [&](const std::string& place, const json& value) {
    json changed = sequence;
    changed["pretokenizers"][0][json::json_pointer(place)] = value;
    return error_at("/pre_tokenizer", changed);
  };
  EXPECT_EQ(error_at("/pre_tokenizer", sequence), "no error");
  EXPECT_THAT(error_in_split("/behavior", "Removed"), HasSubstr("'Removed' is not supported"));
  EXPECT_THAT(error_in_split("/invert", true), HasSubstr("inverted patterns"));
  EXPECT_THAT(error_in_split("/pattern", {{"String", "a"}}), HasSubstr("'String' is not known"));
  EXPECT_THAT(error_in_split("/type", "Digits"), HasSubstr("pretokenizers[0].type: 'Digits'"));
  const json only = {{"type", "Sequence"}, {"pretokenizers", {split}}};
  EXPECT_THAT(error_at("/pre_tokenizer", only), HasSubstr("supported is ByteLevel"));
  const json none = {{"type", "Sequence"}, {"pretokenizers", json::array()}};
  EXPECT_THAT(error_at("/pre_tokenizer", none), HasSubstr("the sequence is empty"));
  json many = sequence;
  many["pretokenizers"] = json::array();
  for (int i = 0; i < 17; ++i) many["pretokenizers"].push_back(split);
  EXPECT_THAT(error_at("/pre_tokenizer", many), HasSubstr("17 steps are too many"));
}

TEST(TokenizerJson, RefusesPatternsThatLibrariesReadDifferently) {
  for (const char* pattern :
       {"a.",      "^a",         "a$",      "\\w+",    "\\d",      "\\bx",    "\\h",
        "\\p{^L}", "\\p{Greek}", "[[a]b]",  "[a&&b]",  "[:alpha:", "[\\S]",   "[a-\\s]",
        "[^]",     "(?i:ss)",    "(?<=a)b", "(?<n>a)", "(?i)a",    "(*FAIL)", "a{,3}",
        "a{2}+",   "a{2}?",      "\\x41",   "\\1",     "\\",       "a]"}) {
    EXPECT_THAT(error_with_pattern(pattern), HasSubstr("is not supported from byte")) << pattern;
  }
  EXPECT_THAT(error_with_pattern("a|b*"), HasSubstr("matches the empty string"));
  for (const char* pattern : {"(a", "a)", "+a", "a{3,2}", "\\p{Xx}", "[b-a]"}) {
    EXPECT_THAT(error_with_pattern(pattern), HasSubstr("is wrong at byte")) << pattern;
  }
  EXPECT_EQ(error_with_pattern(R"([\]\-^&x-z\p{Lu}\s]{1,2}|(a(?!b)|\P{N}+?|\.\/)++| ?é)"),
            "no error");
}

TEST(TokenizerJson, RefusesBadAddedTokens) {
  EXPECT_THAT(error_at("/added_tokens/0/id", 300), HasSubstr("has the id 300, but 257 is its"));
  EXPECT_THAT(error_at("/added_tokens/0/content", "ab"), HasSubstr("256 is its id in the vocab"));
  EXPECT_THAT(error_at("/added_tokens/0/content", ""), HasSubstr("the content is empty"));
  EXPECT_THAT(error_at("/added_tokens/0/new", 1), HasSubstr("added_tokens[0]: the key 'new'"));
  EXPECT_THAT(error_at("/added_tokens/0/lstrip", nullptr), HasSubstr("added_tokens[0].lstrip"));
  EXPECT_THAT(error_at("/added_tokens/0/content", std::string(257, 'a')),
              HasSubstr("longer than 256 bytes"));
  EXPECT_THAT(error_at("/added_tokens/1", smallest()["added_tokens"][0]), HasSubstr("there twice"));
  EXPECT_THAT(error_at("/added_tokens", 1), HasSubstr("added_tokens: an array is expected"));
  // A vocabulary with a hole: the number by its place is taken.
  EXPECT_THAT(error_at("/model/vocab/ab", 257), HasSubstr("another token has the id 257"));

  json described = smallest();
  described["normalizer"]["type"] = "NFC";
  for (const char* content : {"\u0451", "\u0435\u0308"}) {
    json token = described["added_tokens"][0];
    token["id"] = 257 + described["added_tokens"].size();
    token["content"] = content;
    token["normalized"] = true;
    described["added_tokens"].push_back(token);
  }
  EXPECT_THAT(error_with(described), HasSubstr("two added tokens are '\u0451'"));
}

TEST(TokenizerJson, RefusesWhatIsNoJson) {
  const auto error_for = [](const std::string& text) {
    return error_of([&] { read_tokenizer_json(text, "t.json"); });
  };
  EXPECT_THAT(error_for(""), HasSubstr("t.json: not valid JSON"));
  EXPECT_THAT(error_for("[]"), HasSubstr("t.json: not an object but array"));
  EXPECT_THAT(error_for("{}"), HasSubstr("t.json: version"));
  EXPECT_THAT(error_for("{\"version\": \"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_for(std::string(1 << 20, '[')), HasSubstr("nests deeper than"));
  const std::string whole = smallest().dump();
  for (std::size_t length = 0; length < whole.size(); length += 97) {
    EXPECT_THAT(error_for(whole.substr(0, length)), HasSubstr("not valid JSON"));
  }
}

}  // namespace
}  // namespace polyhead
