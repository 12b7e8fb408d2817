"""Tokenizer: ids, round trips, the vocabulary's file and every message about a bad one."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from paraformer_asr.errors import AsrError
from paraformer_asr.tokenizer import FIRST, LAST, PADDING, UNKNOWN_MARK, Tokenizer

ALPHABETS = (
    "abcdefghijklmnopqrst",
    "0123456789 ",
    "零一二三四五六七八九",
    " \t\n\r\v\f\\\x00\x1f\x85\xa0\u2028\u2029\u200b\ufeff\ud800",  # nothing here can be seen
    "U+0é́🎙️<>s/",
)


def test_ids_are_laid_out_as_in_funasr() -> None:
    tokenizer = Tokenizer("ab")

    assert tokenizer.tokens == ("<blank>", "<s>", "</s>", "a", "b", "<unk>")
    assert (tokenizer.blank, tokenizer.start, tokenizer.end, tokenizer.unknown) == (0, 1, 2, 5)
    assert tokenizer.size == 6
    assert tokenizer.encode("ba") == [4, 3]


def test_building_does_not_depend_on_the_order_of_texts() -> None:
    texts = ["two one", "one", "", "three"]

    built = Tokenizer.build(texts)

    assert built.characters == tuple(" ehnortw")
    assert Tokenizer.build(reversed(texts)).characters == built.characters


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_random_texts_survive_the_round_trip(alphabet: str) -> None:
    tokenizer = Tokenizer.build([alphabet])
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices(alphabet, k=draw.randrange(20)))
        ids = tokenizer.encode(text)
        assert len(ids) == len(text)
        assert all(tokenizer.end < i < tokenizer.unknown for i in ids)
        assert tokenizer.decode(ids) == text
        assert tokenizer.unknown_characters(text) == []


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_a_saved_vocabulary_is_the_same_when_loaded(alphabet: str, tmp_path: Path) -> None:
    draw = random.Random(1)
    path = tmp_path / "tokens.txt"
    for _ in range(10):
        characters = draw.sample(alphabet, k=draw.randint(1, len(alphabet)))
        tokenizer = Tokenizer(list(dict.fromkeys(characters)))

        tokenizer.save(path)

        assert Tokenizer.load(path).tokens == tokenizer.tokens
        assert path.read_bytes().count(b"\n") == tokenizer.size
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.txt"]


def test_the_file_can_be_read_by_people(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"

    Tokenizer("b 七").save(path)

    assert path.read_text("utf-8") == "<blank>\n<s>\n</s>\nb\nU+0020\n七\n<unk>\n"


def test_a_file_saved_on_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(b"\xef\xbb\xbf<blank>\r\n<s>\r\n</s>\r\na\r\nU+0020\r\n<unk>\r\n")

    assert Tokenizer.load(path).characters == ("a", " ")


def test_unknown_characters_become_the_unknown_token_and_are_seen_in_the_text() -> None:
    tokenizer = Tokenizer("ab")

    assert tokenizer.encode("axbyx") == [3, 5, 4, 5, 5]
    assert tokenizer.unknown_characters("axbyx") == ["x", "y"]
    assert tokenizer.decode([3, 5, 4]) == f"a{UNKNOWN_MARK}b"


def test_an_empty_text_has_no_ids() -> None:
    tokenizer = Tokenizer("ab")

    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.unknown_characters("") == []


def test_special_tokens_and_padding_do_not_appear_in_the_text() -> None:
    assert Tokenizer("ab").decode([1, 3, 0, 4, 2, PADDING, PADDING]) == "ab"


def test_equal_neighbours_stay_two_tokens() -> None:
    tokenizer = Tokenizer("ab")

    assert tokenizer.decode(tokenizer.encode("aabb")) == "aabb"


def test_words_of_converted_vocabularies_are_joined_as_they_are_written() -> None:
    tokenizer = Tokenizer(["你", "好", "hel@@", "lo", "world", "a"])
    ids = {token: i for i, token in enumerate(tokenizer.tokens)}

    def decode(*tokens: str) -> str:
        return tokenizer.decode([ids[token] for token in tokens])

    assert decode("hel@@", "lo", "world", "你", "好", "a", "world") == "hello world你好a world"
    assert decode("hel@@") == "hel"
    assert tokenizer.encode("a你lo") == [ids["a"], ids["你"], tokenizer.unknown, tokenizer.unknown]


@pytest.mark.parametrize("token_id", [-2, 6, 100])
def test_an_id_outside_of_the_vocabulary_is_refused(token_id: int) -> None:
    with pytest.raises(AsrError, match=f"token id {token_id} is outside of the vocabulary of 6 to"):
        Tokenizer("ab").decode([3, token_id])


def test_what_is_not_a_string_is_refused_by_name() -> None:
    message = r"manifest.csv:3: text is \['a'\]; expected a string"
    with pytest.raises(AsrError, match=message):
        Tokenizer("ab").encode(["a"], where="manifest.csv:3: text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        ([], "the vocabulary is empty; expected at least one character"),
        (["a", "a"], "character 1 of the vocabulary repeats 'a'; each may appear once"),
        (["a", ""], "character 1 of the vocabulary is ''; expected one character"),
        ([7], "character 0 of the vocabulary is 7; expected one character"),
        (["<unk>"], "character 0 of the vocabulary is '<unk>', which is added by itself"),
        (["a b"], "is 'a b', which has several characters, not all of them visible"),
        (["U+0020"], "is 'U+0020', which has several characters, not all of them visible"),
    ],
)
def test_a_bad_vocabulary_is_refused(characters: list[str], message: str) -> None:
    with pytest.raises(AsrError, match=re.escape(message)):
        Tokenizer(characters)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_vocabulary_is_built_from_nothing(texts: list[str]) -> None:
    with pytest.raises(AsrError, match=r"all texts are empty\. Look at the column text"):
        Tokenizer.build(texts)


HEAD = "\n".join(FIRST) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: found ''; expected <blank>."),
        (b"<blank>\n", ":2: found the end of the file; expected <s>."),
        (b"a\nb\n", ":1: found 'a'; expected <blank>."),
        (HEAD + "a\nb\n", ":5: the last token is 'b'; expected <unk>. The file is cut off"),
        (HEAD + "a\nb\n<un", ":6: the last token is '<un'; expected <unk>. The file is cut off"),
        (HEAD + "a\n\nb\n<unk>\n", ":5: the token is ''; expected one character."),
        (HEAD + "a\nb\na\n<unk>\n", ":6: the token repeats 'a'; each may appear once."),
        (HEAD + "<s>\n<unk>\n", ":4: the token is '<s>', which is added by itself; leave it out."),
        (HEAD + "a b\n<unk>\n", ":4: the token is 'a b', which has several characters"),
        (HEAD + "a\nU+XY\n<unk>\n", ":5: 'U+XY' is no code point; expected U+0000 to U+10FFFF"),
        (HEAD + "U+110000\n<unk>\n", ":4: 'U+110000' is no code point; expected U+0000"),
        (HEAD + "U+FFFFFFFFFFFFFFFFFFFF\n<unk>\n", ":4: 'U+FFFFFFFFFFFFFFFFFFFF' is no code"),
        (HEAD + "<unk>\n", ": no tokens between </s> and <unk>."),
        (HEAD.encode() + b"a\n\xff\n<unk>\n", ":5: not UTF-8 text; save the file as UTF-8."),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(
    content: str | bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)

    with pytest.raises(AsrError, match=re.escape(f"{path}{message}")):
        Tokenizer.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"nowhere.txt cannot be read: No such file or directory\."):
        Tokenizer.load(tmp_path / "nowhere.txt")


def test_the_last_token_is_the_unknown_one() -> None:
    assert Tokenizer("ab").tokens[-1] == LAST
