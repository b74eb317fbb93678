#include "scripts/train_config.h"
#include "tests/malformed/malformed_file.h"

namespace polyhead {
namespace {

using namespace testing;
using ::testing::ValuesIn;

const std::string kValid = R"(model:
  num_layers: 3
  hidden_size: 48
  ffn_hidden_size: 100
  num_attention_heads: 6
  qk_norm: false
data:
  train: [text]
  sequence_length: 50
optimizer:
  learning_rate: 2.0e-3
training:
  train_steps: 4
  global_batch_size: 8
  micro_batch_size: 2
checkpoint:
  folder: run
)";

std::string with(std::string_view from, std::string_view to) {
  return replaced(kValid, from, to);
}
// The valid file with other text in place of the folder's name.
std::string folder(const std::string& value) {
  return with("folder: run", "folder: " + value);
}
std::string ending(const std::string& bytes) {
  return kValid + bytes;
}

// One list of nine aliases of the list before, nine times: 10^9 words, were it followed.
std::string billion_laughs() {
  std::string text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string aliases = repeated(fmt::format("*a{}, ", i - 1), 9);
    text += fmt::format("a{0}: &a{0} [{1}]\n", i, aliases.substr(0, aliases.size() - 2));
  }
  return text;
}

std::vector<MalformedFile> bytes() {
  const auto in_a_name = [](const std::string& text) { return folder("r" + text + "n"); };
  return {
      {"TooLarge", ending("#" + std::string(1 << 20, ' ')), "larger than 1048576 bytes"},
      {"ByteOrderMark", "\xEF\xBB\xBF" + kValid, ":1:1: begins with a byte-order mark"},
      {"Utf16", std::string("m\0o\0d\0e\0l\0:\0", 12), ":1:2: a control character"},
      {"InvalidUtf8", in_a_name("\xFF"), "not valid UTF-8"},
      {"LatinOne", in_a_name("\xE9"), "not valid UTF-8"},
      {"TruncatedUtf8", ending("# \xE2\x82"), "not valid UTF-8"},
      {"OverlongUtf8", in_a_name("\xC0\xAF"), "not valid UTF-8"},
      {"SurrogateInUtf8", in_a_name("\xED\xA0\x80"), "not valid UTF-8"},
      {"BeyondUnicode", in_a_name("\xF4\x90\x80\x80"), "not valid UTF-8"},
      {"ZeroByte", in_a_name(std::string("\0", 1)), "a control character"},
      {"EscapeSequence", in_a_name("\x1B[2J"), "a control character"},
      {"OldMacLineEnds", with("layers: 3\n", "layers: 3\r"), "a control character"},
      {"Tab", with("  num_layers", "\tnum_layers"), ":2:1: a tab; YAML indents with spaces only"},
      {"TabBehindAValue", with("layers: 3\n", "layers: 3\t\n"), "a tab"},
  };
}

std::vector<MalformedFile> nestings() {
  std::string steps = "a:\n";
  for (int i = 1; i < 1000; ++i) steps += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  return {
      {"Brackets", folder(repeated("[", 100'000)), "nested too deeply; at most 16 levels"},
      {"Braces", folder(repeated("{a: ", 100'000)), "nested too deeply; at most 16 levels"},
      {"ClosedBrackets", folder(repeated("[", 1000) + repeated("]", 1000)), "nested too deeply"},
      {"BracketsBehindQuotedOnes", folder(repeated("[\"]\", ", 1000) + repeated("]", 1000)),
       "nested too deeply"},
      {"Dashes", ending("a: \n  " + repeated("- ", 1000)), "nested too deeply"},
      {"Steps", steps, "nested too deeply"},
      {"Questions", repeated("? ", 1000), "nested too deeply"},
      {"BillionLaughs", billion_laughs(), ":1:5: anchors (&name) are not read"},
      {"AnchorWithinItself", "a: &a [*a]\n", "anchors (&name) are not read"},
      {"ManyKeys",
       [] {
         std::string text;
         for (int i = 0; i < 50'000; ++i) text += fmt::format("k{}: 1\n", i);
         return text;
       }(),
       ":1001:1: more than 1000 keys"},
  };
}

std::vector<MalformedFile> grammar() {
  return {
      {"Empty", "", "must be a mapping of sections"},
      {"CommentAlone", "# nothing\n", "must be a mapping of sections"},
      {"ScalarAlone", "model\n", "must be a mapping of sections"},
      {"ListAlone", "- model\n", "must be a mapping of sections"},
      {"Json", R"({"model": [}})", "not YAML"},
      {"UnclosedQuote", folder("\"run"), ":17:11: the quote does not end on its line"},
      {"UnclosedSingleQuote", folder("'it''s"), "the quote does not end on its line"},
      {"QuoteClosedByAnEscape", folder(R"("run\")"), "the quote does not end on its line"},
      {"UnclosedBracket", folder("[run"), "not YAML"},
      {"UnknownEscape", folder(R"("\q")"), "not YAML"},
      {"AnchorOfAKey", with("  num_layers", "  &n num_layers"), "anchors (&name) are not read"},
      {"Alias", folder("*run"), "not YAML"},
      {"Tag", folder("!!python/object:os.system run"), "tags (!name) are not read"},
      {"TagOfAMapping", with("model:", "model: !model"), "tags (!name) are not read"},
      {"MergeKey", with("  qk_norm: false", "  <<: {qk_norm: false}"),
       "merge keys (<<) are not read"},
      {"BlockText", folder("|\n    run"), "block text (| and >) is not read"},
      {"FoldedText", folder(">\n    run"), "block text (| and >) is not read"},
      {"ListAsKey", ending("[a]: 1\n"), "a key must be a plain word"},
      {"MappingAsKey", ending("? {a: 1}\n: 1\n"), "a key must be a plain word"},
      {"NoKey", ending(": 1\n"), ":18:1:"},
      {"SecondDocument", ending("---\nmodel: 1\n"), ":18:1: this line belongs to no key"},
      {"Directive", "%YAML 1.2\n---\n" + kValid, "this line belongs to no key"},
      {"ShiftedLine", with("  hidden_size", "   hidden_size"), ":3:"},
      {"TwoValues", folder("a: b"), ":17:"},
      {"SecondLineOfAValue", folder("a\n    b"), ":18:5: this line belongs to no key"},
  };
}

std::vector<MalformedFile> keys() {
  return {
      {"SectionTwice", ending("model:\n  num_layers: 5\n"), ":18:1: model: given twice"},
      {"KeyTwice", with("  qk_norm: false", "  num_layers: 3"), ":6:3: num_layers: given twice"},
      {"KeyInTwoSpellings", ending("  save: other\n"), "save: is another spelling of folder"},
      {"KeyMisspelt", with("train_steps", "train_stesp"), "unknown key; did you mean train_steps?"},
      {"KeyOfAnotherSection", with("  qk_norm: false", "  sequence_length: 50"),
       "model.sequence_length: unknown key; it belongs to section data"},
      {"SectionUnknown", ending("modle: {}\n"), "modle: unknown key; did you mean model?"},
      {"KeyOfManyCharacters", ending(std::string(1000, 'k') + ": 1\n"), "unknown key"},
      {"SectionMissing", with("checkpoint:\n  folder: run\n", ""), "checkpoint.folder: missing"},
      {"KeyMissing", with("  num_layers: 3\n", ""), "model.num_layers: missing; it has no default"},
      {"SectionIsANumber", ending("parallel: 3\n"), "parallel: got 3; must be a mapping"},
      {"SectionIsAList", ending("parallel: [1]\n"), "parallel: got a list; must be a mapping"},
      {"SectionIsNull", ending("parallel: null\n"), "parallel: got null; must be a mapping"},
      {"NotSupported", with("  qk_norm: false", "  num_experts: 8"), "got 8; not supported"},
  };
}

std::vector<MalformedFile> values() {
  const auto layers = [](const std::string& value) {
    return with("layers: 3", "layers: " + value);
  };
  const auto rate = [](const std::string& value) { return with("2.0e-3", value); };
  const auto norm = [](const std::string& value) { return with("norm: false", "norm: " + value); };
  const auto train = [](const std::string& value) { return with("[text]", value); };
  return {
      {"IntegerIsAWord", layers("three"), ":2:15: model.num_layers: got three; must be an integer"},
      {"IntegerIsQuoted", layers("\"3\""), "got \"3\"; must be an integer; remove the quotes"},
      {"IntegerIsAFraction", layers("3.0"), "got 3.0; must be an integer"},
      {"IntegerWithExponent", layers("3e0"), "got 3e0; must be an integer"},
      {"IntegerOctal", layers("03"), "must be an integer without leading zeros"},
      {"IntegerHexadecimal", layers("0x3"), "got 0x3; must be an integer"},
      {"IntegerInGroups", layers("3_000"), "got 3_000; must be an integer"},
      {"IntegerWithAPlus", layers("+3"), "got +3; must be an integer"},
      {"IntegerBeyond64Bits", layers("9223372036854775808"), "must be an integer of 64 bits"},
      {"IntegerOfManyDigits", layers(std::string(100'000, '9')), "9999...; must be an integer"},
      {"IntegerIsNull", layers("null"), "got null; must be an integer"},
      {"IntegerIsAbsent", layers(""), "got no value; must be an integer"},
      {"IntegerIsAList", layers("[3]"), "got a list; must be an integer"},
      {"IntegerIsAMapping", layers("{a: 3}"), "got a mapping; must be an integer"},
      {"IntegerNegative", layers("-3"), "model.num_layers: got -3"},
      {"IntegerMostNegative", layers("-9223372036854775808"), "model.num_layers: got -92233720368"},
      {"IntegerZero", layers("0"), "model.num_layers: got 0"},
      {"IntegerLargest", layers("9223372036854775807"),
       "model.num_layers: got 9223372036854775807"},
      {"NumberIsAWord", rate("fast"), "got fast; must be a number"},
      {"NumberIsNan", rate(".nan"), "got .nan; must be a number, finite"},
      {"NumberInfinite", rate("inf"), "got inf; must be a number, finite"},
      {"NumberBeyondDouble", rate("1e999"), "got 1e999; must be a number, finite"},
      {"NumberWithAComma", rate("0,002"), "got 0,002; must be a number"},
      {"NumberWithAUnit", rate("2.0e-3x"), "got 2.0e-3x; must be a number"},
      {"NumberNegative", rate("-1.0"), "optimizer.learning_rate: got -1"},
      {"NumberZero", rate("0"), "optimizer.learning_rate: got 0"},
      {"BooleanIsYes", norm("yes"), "got yes; must be true or false"},
      {"BooleanIsOne", norm("1"), "got 1; must be true or false"},
      {"BooleanInCapitals", norm("TRUE"), "got TRUE; must be true or false"},
      {"BooleanIsQuoted", norm("\"true\""), "must be true or false; remove the quotes"},
      {"TextIsNull", folder("null"), "checkpoint.folder: got null; must be text"},
      {"TextIsAMapping", folder("{a: b}"), "got a mapping; must be text"},
      {"ListIsAWord", train("text"), "data.train: got text; must be a list"},
      {"ListIsEmpty", train("[]"), "data.train: lists no source"},
      {"ListOfLists", train("[[text]]"), "must be a path, or {path: PREFIX, weight: NUMBER}"},
      {"SourceWithAnUnknownKey", train("[{path: text, share: 1}]"), "unknown key share"},
      {"SourceWithoutAPath", train("[{weight: 1}]"), "a source has no path"},
      {"SourceOfNegativeWeight", train("[{path: text, weight: -1}]"), "must be greater than 0"},
      {"NameUnknown", with("  qk_norm: false", "  activation: relu"),
       "must be one of swiglu, geglu"},
      {"GroupsZero", with("  qk_norm: false", "  num_query_groups: 0"), "num_query_groups: got 0"},
      {"HeadsZero", with("attention_heads: 6", "attention_heads: 0"), "num_attention_heads: got 0"},
      {"BatchThatDoesNotDivide", with("batch_size: 8", "batch_size: 9"), "global_batch_size"},
      {"StepsThatOverflow",
       with("2.0e-3",
            "2.0e-3\n  schedule: wsd\n  warmup_steps: 9223372036854775807\n"
            "  decay_steps: 1000\n  wsd_decay_steps: 9223372036854775807"),
       "optimizer.warmup_steps: got 9223372036854775807; must lie in 0 to"},
      {"BatchThatOverflows", with("batch_size: 2", "batch_size: 9223372036854775807"),
       "batch_size"},
  };
}

class MalformedConfig : public ::testing::TestWithParam<MalformedFile> {};

TEST_P(MalformedConfig, IsRefused) {
  const TemporaryFolder directory;
  const std::filesystem::path path = directory / "run.yaml";
  write_file(path, GetParam().content);
  expect_refused(path, GetParam(), [&] { load_train_config(path, {}, 2); });
}

INSTANTIATE_TEST_SUITE_P(Bytes, MalformedConfig, ValuesIn(bytes()), mutation);
INSTANTIATE_TEST_SUITE_P(Nesting, MalformedConfig, ValuesIn(nestings()), mutation);
INSTANTIATE_TEST_SUITE_P(Grammar, MalformedConfig, ValuesIn(grammar()), mutation);
INSTANTIATE_TEST_SUITE_P(Keys, MalformedConfig, ValuesIn(keys()), mutation);
INSTANTIATE_TEST_SUITE_P(Values, MalformedConfig, ValuesIn(values()), mutation);

TEST(ValidConfig, IsRead) {
  const TemporaryFolder directory;
  write_file(directory / "run.yaml", kValid);
  EXPECT_EQ(load_train_config(directory / "run.yaml", {}, 2).model.num_layers, 3);
}

}  // namespace
}  // namespace polyhead
