#!/usr/bin/env python3
"""Writes pages.json: pages, the same detokenized by Python's str.replace and re.sub, and their words.

The rules are those of lm-evaluation-harness's wikitext task and of Megatron-LM's zeroshot_gpt. Needs
nothing but Python 3: python3 make_pages.py > pages.json
"""

import json
import random
import re

RULES = [
    ("replace", "s '", "s'"),
    ("sub", r"/' [0-9]/", r"/'[0-9]/"),
    ("replace", " @-@ ", "-"),
    ("replace", " @,@ ", ","),
    ("replace", " @.@ ", "."),
    ("replace", " : ", ": "),
    ("replace", " ; ", "; "),
    ("replace", " . ", ". "),
    ("replace", " ! ", "! "),
    ("replace", " ? ", "? "),
    ("replace", " , ", ", "),
    ("sub", r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    ("sub", r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    ("sub", r"{\s*([^}]*?)\s*}", r"{\1}"),
    ("sub", r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
    ("sub", r"'\s*([^']*?)\s*'", r"'\1'"),
    ("replace", "= = = =", "===="),
    ("replace", "= = =", "==="),
    ("replace", "= =", "=="),
    ("replace", " " + chr(176) + " ", chr(176)),
    ("replace", " \n", "\n"),
    ("replace", "\n ", "\n"),
    ("replace", " N ", " 1 "),
    ("replace", " 's", "'s"),
]

WRITTEN = [
    "",
    " \n = Grey wagtail = \n \n The wagtails ' tails ( always in motion ) are 9 @.@ 5 cm long . \n",
    " = = Range = = \n \n = = = North = = = \n \n = = = = Far north = = = = \n ",
    ' He said , " it is 10 @,@ 000 @-@ odd ° C ! " ; she asked : " why ? " \n',
    " the birds 's nest , the bird 's ' first ' nest and the birds ' \" own \" N nests",
    "( a ( b ) c ) [ d [ e ] f ] { g { h } i } ) ( unclosed [ too { and \" or '",
    "()( )(\u00a0x\u3000)[\t\n]{\u2003}\"\"\" \"''' '",
    "/' 5/' 6/ /' 7/ /' 77/ /'8/ /' 9",
    "= = = = = = = = = \u00b0 \u00b0 \u00b0 N N N",
    "\u00e9 ( \u4e2d\u6587 ) \U0001F600 ' \u00e0 ' s '",
]

PIECES = [
    " ", " ", " ", "\n", "\t", "\u00a0", "\u2009", "'", '"', "(", ")", "[", "]", "{", "}", "=", " = ",
    "s", "s '", " 's", "N", " N ", "@", "@-@", " @,@ ", " @.@ ", ".", " . ", ",", ";", ":", "!", "?",
    "\u00b0", " \u00b0 ", "/' 3/", "/", "7", "a", "\u00e9", "\u6587", "\U0001F600",
]


def detokenize(text):
    for kind, old, new in RULES:
        text = text.replace(old, new) if kind == "replace" else re.sub(old, new, text)
    return text


def main():
    generator = random.Random(20240607)
    pages = WRITTEN + [
        "".join(generator.choices(PIECES, k=generator.randrange(4, 60))) for _ in range(120)
    ]
    rows = [
        {
            "page": page,
            "text": detokenize(page),
            "words": len(re.split(r"\s+", page)),
            "space_separated": len(page.strip().split(" ")),
        }
        for page in pages
    ]
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")


if __name__ == "__main__":
    main()
