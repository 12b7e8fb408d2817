"""Texts on which a tokenizer can go wrong, for both sides of the parity tests of CLIP's."""

from __future__ import annotations

import random

START, END = "<|startoftext|>", "<|endoftext|>"

FIXED = (
    "a photo of a cat",
    "a diagram",
    "Hello, World! 2024",
    "an x-ray showing pneumothorax",
    "defect-free PCB",
    "",
    "   ",
    "it's they'll we've I'd you're I'm can't rock'n'roll",
    "ITS LL 'S ' s 'st 'red 'llama",
    "snake_case and CamelCase, e-mail@example.com https://example.com/a?b=1&c=2",
    "3.14159 1/2 ½ ² Ⅷ 10⁶ 1,000,000 ٣٤٥ ４２",
    "naïve café Ångström Straße ΑΒΓ ς İstanbul ǅ ﬁne ﬂow",
    "东京の写真 一二三 사진 รูปภาพ น้ำ तस्वीर עִבְרִית صورة",
    "😀 👩‍💻 ❤️ → ≤ ° µm 20 µm 5 °C ± ×",
    "‘curly’ “quotes” – dashes — and … dots",
    "âœ” mojibake cafÃ© â€œquotedâ€\x9d",
    "&lt;b&gt; &amp;amp; &quot;x&quot; &#60; &#x1F600; &amp;lt; < & &nbsp;end",
    "tab\tnewline\nreturn\r\nline\u2028paragraph\u2029nbsp\xa0thin\u2009zero\u200bbom\ufeff.",
    "control \x00 \x07 \x1b[31mred\x1b[0m \x1c \x1f \x7f \x85 end",
    "lone \ud800 surrogate",
    "don'ſt 'ſ ſtrange",
    "\u0345 a\u0345b ᾳ",
    "e\u0301 combining and n\u0303",
    "Ｆｕｌｌ　ｗｉｄｔｈ！",
    "!!!??? ... --- ___ *** <<<>>> ((a)) [b] {c}",
    "</w> a</w> w>",
    f"{START} a cat {END}",
    f"before {END} behind {END}",
    "a" * 300,
    "ab" * 100 + "!" * 50,
    "supercalifragilisticexpialidocious antidisestablishmentarianism pneumonoultramicroscopic",
)

_PARTS = (
    *"abzZstéÉß'’.,!-–_<|&;10²Ⅷ一二ー😀ªⓐ٣가\u0301\u0345ſ",
    *("'re", "ll", "ve", "the", "ing", "İ", "ﬂ", "Ａ", "น้ำ", "👩‍💻", "âœ”", "</w>"),
    *("&amp;", "&amp;amp;", "&lt;", "&#60;", "&#x1F600;", "&#28;"),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\xa0",
        "\u2028",
        "\x1c",
        "\x85",
        "\x00",
        "\u200b",
        "\ufeff",
        "\ud800",
    ),
    *(f" {START} ", f" {END} "),
)


def texts(seed: int, *, num_random: int = 60) -> list[str]:
    """Return the fixed texts and random mixtures of what makes them hard."""
    draw = random.Random(seed)
    mixed = ["".join(draw.choices(_PARTS, k=draw.randint(1, 25))) for _ in range(num_random)]
    return [*FIXED, *mixed]
