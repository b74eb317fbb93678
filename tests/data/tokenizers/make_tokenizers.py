#!/usr/bin/env python3
"""A small byte-level vocabulary, and what Hugging Face's tokenizers make of texts with it under every
option that the reader of tokenizer.json knows.

    python3 tests/data/tokenizers/make_tokenizers.py    # needs tokenizers 0.23

tokenizer.json is trained on sample.txt (public domain, and a few lines of code) without splitting it, so
that tokens reach over the ends of words, numbers and lines: a text that is split at another place has
other tokens. golden.json has

    texts        what is encoded
    streams      lists of tokens that are decoded
    variants     name; patch, a JSON merge patch (RFC 7386) to tokenizer.json; ids of each text; decoded,
                 {index of a text: text} where its tokens decode to something else; streams, decoded
"""

import json
import pathlib
import random

import tokenizers

FOLDER = pathlib.Path(__file__).parent
MERGES = 900
END = "<|endoftext|>"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# Of o200k (letters by case) and DeepSeek-V3 (punctuation by category).
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]

# Words that are tokens without being merges: only ignore_merges finds them.
WHOLE_WORDS = ["Ġqueer", "queer", "ĠPark", "Ġgood", "123", "ĠĠĠĠ"]


def byte_level(prefix=False, regex=True):
    return dict(type="ByteLevel", add_prefix_space=prefix, trim_offsets=True, use_regex=regex)


def splits(*patterns, last=None):
    steps = [dict(type="Split", pattern=dict(Regex=pattern), behavior="Isolated", invert=False)
             for pattern in patterns]
    # None takes the keys of tokenizer.json's ByteLevel away.
    return dict(type="Sequence", pretokenizers=steps + [last or byte_level(regex=False)],
                add_prefix_space=None, trim_offsets=None, use_regex=None)


def added(id, content, **options):
    token = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False,
                 normalized=False, special=False)
    return token | options


def train():
    text = (FOLDER / "sample.txt").read_text()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False,
                                                                  use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=257 + MERGES, special_tokens=[END], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text[i:i + 500] for i in range(0, len(text), 500)], trainer)
    described = json.loads(tokenizer.to_str())
    described["pre_tokenizer"] = byte_level()
    vocabulary = described["model"]["vocab"]
    for word in WHOLE_WORDS:
        vocabulary.setdefault(word, len(vocabulary))
    return described


def variants(vocabulary):
    """Merge patches, by name."""
    size = len(vocabulary)
    end = added(0, END, special=True)
    template = dict(
        type="TemplateProcessing",
        single=[dict(SpecialToken=dict(id=END, type_id=0)), dict(Sequence=dict(id="A", type_id=0))],
        pair=[dict(Sequence=dict(id="A", type_id=0)), dict(Sequence=dict(id="B", type_id=1))],
        special_tokens={END: dict(id=END, ids=[0], tokens=[END])})
    contents = [
        ("<|x|>", dict(special=True)), ("<|x|>y", {}), ("<l>", dict(lstrip=True)),
        ("<r>", dict(rstrip=True)), ("<lr>", dict(lstrip=True, rstrip=True, special=True)),
        ("word", dict(single_word=True)), ("naïve", dict(normalized=True)),
        ("cafe\u0301", dict(normalized=True)), ("cafe\u0301s", {}), ("\u00e9", {}), ("中文", {}),
        ("the", dict(normalized=True, single_word=True, lstrip=True)),
        ("  ", dict(rstrip=True)), ("\t", dict(normalized=True, rstrip=True)),
        ("ab", {}), ("abc", {}), ("bcde", {}), ("abcdef", dict(single_word=True))]
    # The same numbers that tokenizers gives those that are not in the vocabulary.
    new = iter(range(size, size + len(contents)))
    marks = [end] + [added(vocabulary[content] if content in vocabulary else next(new), content, **options)
                     for content, options in contents]
    # qxz and others can be made in two ways, of different ranks; one merge is there twice.
    two_ways = dict(
        vocab={token: size + i for i, token in enumerate(
            ["qx", "xz", "qxz", "zq", "xzq", "qxzq", "zqx"])},
        merges=[["z", "q"], ["q", "xz"], ["x", "z"], ["q", "x"], ["qx", "z"], ["qxz", "q"],
                ["zq", "x"], ["xz", "q"], ["q", "x"]])
    return {
        "gpt2": {},
        "prefix": dict(pre_tokenizer=byte_level(prefix=True),
                       post_processor=byte_level()),
        "llama3": dict(pre_tokenizer=splits(LLAMA3), model=dict(ignore_merges=True),
                       post_processor=dict(type="Sequence", processors=[byte_level(), template])),
        "qwen2": dict(pre_tokenizer=splits(QWEN2), normalizer=dict(type="NFC"),
                      post_processor=byte_level()),
        "o200k": dict(pre_tokenizer=splits(O200K), post_processor=template),
        "deepseek": dict(pre_tokenizer=splits(*DEEPSEEK)),
        "prefixed splits": dict(pre_tokenizer=splits(r"[0-9]+|'(?i:[sdmt]|ll|ve|re)|a(?=b)",
                                                     last=byte_level(prefix=True))),
        "no splits": dict(pre_tokenizer=byte_level(regex=False)),
        "added": dict(added_tokens=marks),
        "added, NFC": dict(added_tokens=marks, normalizer=dict(type="NFC"),
                           pre_tokenizer=splits(LLAMA3)),
        "two ways": dict(model=two_ways),
    }


def patched(target, patch):
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


def texts():
    numbers = random.Random(1)
    chosen = (FOLDER / "sample.txt").read_text().splitlines(keepends=True)
    chosen += [
        "", " ", "  ", "\n", "\r\n", " \n ", "\t \n\n  x", "a", " a", "a ", "\u00a0a", "\u3000x\u2003 y",
        "\u180ex \u180e y", "\u1680 z\u0085\u0085w", "x\u200by", "x" * 100, "ab" * 60, " " * 90, "\n" * 40,
        "1" * 50, "!?" * 40, "IT\u2019S it\u2019s 'S 'T 'ſ 'K", "don'T won't I'M I'm'm",
        "queer good queer good Park 123 1234", "١٢٣٤٥ ４５６７ Ⅷ½²", "ǅ ǆ Ǆ ß ẞ ı İ K ſ",
        "cafe\u0301 cafe\u0301s naïve nai\u0308ve",
        "e\u0323\u0301 e\u0301\u0323 \u1100\u1161\u11a8 \uac00\u11a8 \u212b \u2126 \u0344 \u0958 \u2adc",
        "\x00\x01\x7f\x80", "\ufffd\ufeff\uffff\U0010ffff\ue000", "<|endoftext|>",
        "a<|endoftext|>b <|endoftext|> c", "qxzqxz qxzq xzq zqxzqx"]

    def join(pieces, count, least, most):
        return ["".join(numbers.choices(pieces, k=numbers.randint(least, most))) for _ in range(count)]

    marks = ["<|x|>", "<|x|>y", "<l>", "<r>", "<lr>", "word", "naïve", "nai\u0308ve", "café",
             "cafe\u0301", "s", "\u00e9", "中", "中文", "the", " ", "  ", "\t", "\n", "ab", "abc",
             "abcdef", "abcde", "bcde", "x", "_", "\u200d", "1", ".", "\u0301", "\u3000", "<|", "|>"]
    letters = list("aAbsStTmMlLdDvVrReE'’ſ019²Ⅷ  \t\r\n\u00a0\u2028.,!-_/\\[](){}<>|&^$#"
                   "中あ가йΑאع\u0301\u200d👍\U0001f3fd")
    chosen += join(marks, 80, 2, 9) + join(letters, 60, 3, 25) + join("qxz", 15, 12, 12)
    return chosen


def main():
    described = train()
    (FOLDER / "tokenizer.json").write_text(json.dumps(described, ensure_ascii=False) + "\n")
    size = len(described["model"]["vocab"])
    numbers = random.Random(2)
    # Most of the single bytes begin or go on with a character that never ends.
    streams = [[numbers.randrange(size if i % 2 else 257) for _ in range(12)] for i in range(24)]
    golden = dict(versions=dict(tokenizers=tokenizers.__version__), texts=texts(), streams=streams,
                  variants=[])
    for name, patch in variants(described["model"]["vocab"]).items():
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(patched(described, patch)))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in golden["texts"]]
        decoded = {str(i): tokenizer.decode(ids[i]) for i, text in enumerate(golden["texts"])
                   if tokenizer.decode(ids[i]) != text}
        golden["variants"].append(dict(
            name=name, patch=patch, ids=ids, decoded=decoded,
            streams=[tokenizer.decode(stream) for stream in streams]))
    (FOLDER / "golden.json").write_text(
        json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
