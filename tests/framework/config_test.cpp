// The strict reader: what yaml-cpp lets pass and a configuration must not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "framework/config/field_reader.h"
#include "framework/config/field_writer.h"
#include "framework/config/rules.h"
#include "framework/config/yaml_parser.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

enum class Colour { kRed, kGreen };

struct Inner {
  double ratio = 0.5;
  std::vector<std::int64_t> list;
};

struct Outer {
  std::int64_t count = 0;
  bool flag = false;
  std::string name = "none";
  Colour colour = Colour::kRed;
  std::optional<std::int64_t> maybe;
  Inner inner;
};

template <class Visitor>
void visit_fields(Visitor& visitor, Inner& inner) {
  visitor("ratio", inner.ratio);
  visitor("list", inner.list);
}

template <class Visitor>
void visit_fields(Visitor& visitor, Outer& outer) {
  visitor("count", outer.count, {.required = true, .aliases = {"number"}});
  visitor("flag", outer.flag);
  visitor("name", outer.name);
  visitor("colour", outer.colour);
  visitor("maybe", outer.maybe);
  visitor("inner", outer.inner);
  visitor.unsupported("dropout", "0", "there is none");
}

}  // namespace

template <>
struct EnumNames<Colour> {
  static constexpr std::array kNames = {"red", "green"};
};

namespace {

Outer parse(const std::string& text) {
  Problems problems;
  std::optional<YamlNode> root = parse_yaml(text, "f.yaml", problems);
  if (!root) problems.throw_if_any();
  ReadContext context{ReadMode::kUserFile, known_keys<Outer>(), problems};
  Outer outer;
  read_fields(*root, outer, context);
  problems.throw_if_any();
  return outer;
}

std::string problem(const std::string& text) {
  return testing::error_of([&] { parse(text); });
}

TEST(Config, ReadsPlainFiles) {
  const Outer outer = parse(
      "# comment\r\n---\r\ncount: -12 # twelve\r\nflag: true\r\nname: a b\r\ncolour: green\r\n"
      "maybe: 3\r\ninner:\r\n  ratio: 1.5e-3\r\n  list:\r\n  - 1\r\n  - 2\r\n");
  EXPECT_EQ(outer.count, -12);
  EXPECT_TRUE(outer.flag);
  EXPECT_EQ(outer.name, "a b");
  EXPECT_EQ(outer.colour, Colour::kGreen);
  EXPECT_EQ(outer.maybe, 3);
  EXPECT_EQ(outer.inner.ratio, 1.5e-3);
  EXPECT_EQ(outer.inner.list, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(parse("{count: 1, inner: {list: [4,\n  5]\n}}").inner.list[1], 5);
  EXPECT_EQ(parse("count: 1\nname: \"\\u00e9 [\"").name, "\u00e9 [");
  EXPECT_EQ(parse("count: 1\nmaybe: null").maybe, std::nullopt);
  EXPECT_EQ(parse("count: 1\nmaybe: ~\n").maybe, std::nullopt);
}

TEST(Config, WritesWhatItReads) {
  Outer outer{7, true, "x: \"y\" # z", Colour::kGreen, std::nullopt, {1.0 / 3.0, {3, 4}}};
  const std::string text = write_fields(outer);
  EXPECT_EQ(text,
            "count: 7\nflag: true\nname: \"x: \\\"y\\\" # z\"\ncolour: green\nmaybe: null\n"
            "inner:\n  ratio: 0.3333333333333333\n  list: [3, 4]\n");
  EXPECT_EQ(write_fields(parse(text)), text);
}

TEST(Config, WrongTypes) {
  EXPECT_EQ(problem("count: two"),
            "f.yaml:1:8: count: got two; must be an integer in decimal digits, such as 1024");
  EXPECT_THAT(problem("count: 010"),
              HasSubstr("count: got 010; must be an integer without leading"));
  EXPECT_THAT(problem("count: 1.0"), HasSubstr("got 1.0; must be an integer"));
  EXPECT_THAT(problem("count: 1e3"), HasSubstr("got 1e3; must be an integer"));
  EXPECT_THAT(problem("count: 0x10"), HasSubstr("must be an integer"));
  EXPECT_THAT(problem("count: 1_000"), HasSubstr("must be an integer"));
  EXPECT_THAT(problem("count: +1"), HasSubstr("must be an integer"));
  EXPECT_THAT(problem("count: 99999999999999999999"), HasSubstr("must be an integer of 64 bits"));
  EXPECT_THAT(problem("count: \"8\""),
              HasSubstr("got \"8\"; must be an integer; remove the quotes"));
  EXPECT_THAT(problem("count: [1]"), HasSubstr("got a list; must be an integer"));
  EXPECT_THAT(problem("count: {a: 1}"), HasSubstr("got a mapping; must be an integer"));
  EXPECT_THAT(problem("count:\nflag: true"), HasSubstr("count: got no value; must be an integer"));
  EXPECT_THAT(problem("count: null"), HasSubstr("got null; must be an integer"));
  EXPECT_THAT(problem("count: 1\nmaybe:\n"), HasSubstr("maybe: got no value; must be an integer"));
  EXPECT_THAT(problem("count: 1\nflag: yes"),
              HasSubstr("2:7: flag: got yes; must be true or false"));
  EXPECT_THAT(problem("count: 1\nflag: True"), HasSubstr("must be true or false"));
  EXPECT_THAT(problem("count: 1\nflag: \"true\""), HasSubstr("remove the quotes"));
  EXPECT_THAT(problem("count: 1\nname: [a]"), HasSubstr("got a list; must be text"));
  EXPECT_THAT(problem("count: 1\nname: null"), HasSubstr("got null; must be text"));
  EXPECT_THAT(problem("count: 1\ncolour: gren"),
              HasSubstr("must be one of red, green; did you mean green?"));
  EXPECT_THAT(problem("count: 1\ninner: 3"), HasSubstr("inner: got 3; must be a mapping"));
  EXPECT_THAT(problem("count: 1\ninner: {ratio: .nan}"), HasSubstr("must be a number, finite"));
  EXPECT_THAT(problem("count: 1\ninner: {ratio: inf}"), HasSubstr("must be a number, finite"));
  EXPECT_THAT(problem("count: 1\ninner: {ratio: 1e999}"), HasSubstr("must be a number, finite"));
  EXPECT_THAT(problem("count: 1\ninner: {ratio: 007}"), HasSubstr("without leading zeros"));
  EXPECT_THAT(problem("count: 1\ninner: {list: 3}"),
              HasSubstr("inner.list: got 3; must be a list"));
  EXPECT_THAT(problem("count: 1\ninner: {list: [1, x]}"),
              HasSubstr("f.yaml:2:19: inner.list: got x; must be an integer"));
  EXPECT_THAT(problem("count: " + std::string(200, 'x')),
              HasSubstr("got " + std::string(60, 'x') + "...; must be"));
}

TEST(Config, Keys) {
  EXPECT_THAT(problem("flag: true"), HasSubstr("count: missing; it has no default"));
  EXPECT_THAT(problem("coutn: 1"), AllOf(HasSubstr("1:1: coutn: unknown key; did you mean count?"),
                                         HasSubstr("count: missing")));
  EXPECT_THAT(problem("count: 1\nunrelated: 1"), HasSubstr("2:1: unrelated: unknown key"));
  EXPECT_THAT(problem("count: 1\nratio: 1"),
              HasSubstr("ratio: unknown key; it belongs to section inner"));
  EXPECT_EQ(problem("count: 1\nflag: true\ncount: 2"),
            "f.yaml:3:1: count: given twice, first in line 1; delete one");
  EXPECT_THAT(problem("count: 1\ninner: {ratio: 1, ratio: 1}"), HasSubstr("ratio: given twice"));
  EXPECT_THAT(problem("count: 1\nnumber: 2"), HasSubstr("another spelling of count"));
  EXPECT_EQ(parse("number: 2").count, 2);
  EXPECT_EQ(problem("count: 1\ndropout: 0.0"), "no error");
  EXPECT_EQ(problem("count: 1\ndropout: 0.1"),
            "f.yaml:2:10: dropout: got 0.1; not supported: there is none; delete it, or leave it "
            "at 0");
}

TEST(Config, YamlThatIsNotRead) {
  EXPECT_THAT(problem("count: &a 1"), HasSubstr("anchors (&name) are not read"));
  EXPECT_THAT(problem("count: 1\nname: *a"), HasSubstr("f.yaml:2"));
  EXPECT_THAT(problem("count: !!int 1"), HasSubstr("1:8: tags (!name) are not read"));
  EXPECT_THAT(problem("<<: {count: 1}"), HasSubstr("merge keys (<<) are not read"));
  EXPECT_THAT(problem("count: 1\nname: |\n  text"), HasSubstr("block text (| and >) is not read"));
  EXPECT_THAT(problem("count: 1\nname: >\n  text"), HasSubstr("block text (| and >) is not read"));
  EXPECT_THAT(problem("? [a]\n: 1"), HasSubstr("a key must be a plain word"));
  EXPECT_THAT(problem("count: 1\n: 2"), HasSubstr("f.yaml:2"));
  EXPECT_THAT(problem("count: 1\n---\ncount: 2"),
              HasSubstr("f.yaml:2:1: this line belongs to no key"));
  EXPECT_THAT(problem("%YAML 1.2\n---\ncount: 2"), HasSubstr("belongs to no key"));
  EXPECT_THAT(problem("- a\ncount: 1"), HasSubstr("f.yaml:2:1"));
  EXPECT_THAT(problem("count: 1\ninner:\n    - a\n    ratio: 1"), HasSubstr("f.yaml:4"));
  EXPECT_THAT(problem("count: 1\nname: a\n  b"),
              HasSubstr("f.yaml:3:3: this line belongs to no key"));
  EXPECT_THAT(problem("count: [1"), HasSubstr("not YAML"));
  EXPECT_THAT(problem("count: 1: 2"), HasSubstr("f.yaml:1"));
  EXPECT_THAT(problem("count: 'a"), HasSubstr("not YAML"));
}

TEST(Config, BytesThatAreNotRead) {
  EXPECT_EQ(problem("count: 1\n\tflag: true"), "f.yaml:2:1: a tab; YAML indents with spaces only");
  EXPECT_THAT(problem("\xef\xbb\xbf"
                      "count: 1"),
              HasSubstr("f.yaml:1:1: begins with a byte-order mark"));
  EXPECT_THAT(problem(std::string("count: 1\0", 9)), HasSubstr("1:9: a control character"));
  EXPECT_THAT(problem("count: 1\rflag: true"), HasSubstr("a control character"));
  for (const char* bytes : {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\x80",
                            "\xf4\x90\x80\x80", "\xf0\x80\x80\xaf", "\xf5\x80\x80\x80"}) {
    EXPECT_THAT(problem("count: 1\nname: \u00e9" + std::string(bytes)),
                HasSubstr("f.yaml:2:8: not valid UTF-8"));
  }
}

TEST(Config, SizeAndDepthAreBounded) {
  EXPECT_THAT(problem("count: 1\nname: " + std::string(1 << 20, 'x')),
              HasSubstr("larger than 1048576"));
  EXPECT_THAT(problem("count: " + std::string(100000, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(problem("count: " + std::string(100000, '{')), HasSubstr("nested too deeply"));
  std::string dashes, mappings;
  for (int i = 0; i < 1000; ++i) dashes += "- ";
  EXPECT_THAT(problem(dashes), HasSubstr("nested too deeply"));
  for (int i = 0; i < 40; ++i) mappings += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  EXPECT_THAT(problem(mappings), HasSubstr("nested too deeply"));
  EXPECT_EQ(problem("count: 1\nname: \"" + std::string(10, '[') + "\""), "no error");
}

TEST(Config, KeysAreBounded) {
  std::string different = "count: 1\n", equal = different;
  for (int i = 0; i < 100000; ++i) {
    different += fmt::format("k{}: 1\n", i);
    equal += "a: 1\n";
  }
  EXPECT_THAT(problem(different), HasSubstr("f.yaml:1001:1: more than 1000 keys"));
  EXPECT_THAT(problem(equal), HasSubstr("f.yaml:1001:1: more than 1000 keys"));
}

TEST(Config, FilesThatCannotBeRead) {
  const testing::TemporaryFolder folder;
  const auto problem_of = [&](const std::string& name) {
    return testing::error_of([&] { read_config_text(folder / name); });
  };
  EXPECT_THAT(problem_of("absent.yaml"), HasSubstr("absent.yaml: no such file"));
  EXPECT_THAT(problem_of("."), HasSubstr("not a regular file"));
  testing::write_file(folder / "large.yaml", std::string((1 << 20) + 1, ' '));
  EXPECT_THAT(problem_of("large.yaml"), HasSubstr("larger than 1048576 bytes"));
  testing::write_file(folder / "empty.yaml", "");
  EXPECT_EQ(problem_of("empty.yaml"), "no error");
  EXPECT_THAT(problem(""), HasSubstr("must be a mapping"));
}

TEST(Nearest, FindsTypos) {
  const std::vector<std::string> words = {"hidden_size", "num_layers", "lr"};
  EXPECT_EQ(nearest("hiden_size", words), "hidden_size");
  EXPECT_EQ(nearest("num_layesr", words), "num_layers");
  EXPECT_EQ(nearest("something_else", words), "");
}

TEST(DivisorsOf, ReadsAsAList) {
  EXPECT_EQ(divisors_of(1), "1");
  EXPECT_EQ(divisors_of(7), "1 or 7");
  EXPECT_EQ(divisors_of(8), "1, 2, 4 or 8");
}

}  // namespace
}  // namespace polyhead
